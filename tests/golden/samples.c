/* SPDX-License-Identifier: MIT */
/*
 * The golden messages and entries as the C compiler lays them out; samples.py says the same in
 * Python. Prints "name hex" lines.
 */
#include <errno.h>
#include <stdio.h>

#include <openvstorage/shm_wire.h>
#include <shared/region.h>

static void
hex(const void *data, size_t bytes)
{
    for (const unsigned char *p = data; bytes--; p++) {
        printf("%02x", *p);
    }
}

static void
entry(const char *name, const void *data, size_t bytes)
{
    printf("%s ", name);
    hex(data, bytes);
    printf("\n");
}

/* The head of a message, then its payload in at most two parts. */
static void
message(const char *name, struct ovsshm_msg head, const void *payload, size_t payload_bytes,
        const void *more, size_t more_bytes)
{
    head.magic = OVSSHM_MAGIC;
    head.payload_bytes = (uint32_t)(payload_bytes + more_bytes);
    printf("%s ", name);
    hex(&head, sizeof(head));
    hex(payload, payload_bytes);
    hex(more, more_bytes);
    printf("\n");
}

#define MESSAGE(name, type_, id_, flags_, status_, payload) \
    message( \
        name, \
        (struct ovsshm_msg){.type = (type_), .id = (id_), .flags = (flags_), .status = (status_)}, \
        &(payload), sizeof(payload), NULL, 0)

static void
session_messages(void)
{
    struct ovsshm_msg_hello hello = {
        .version_min = OVSSHM_VERSION,
        .version_max = OVSSHM_VERSION,
        .features = OVSSHM_FEATURE_SEGMENTS | OVSSHM_FEATURE_EVENTS,
        .client = "golden",
    };
    MESSAGE("hello", OVSSHM_MSG_HELLO, 1, 0, 0, hello);
    struct ovsshm_msg_hello_reply hello_reply = {
        .version = OVSSHM_VERSION,
        .queues_max = OVSSHM_QUEUES_MAX,
        .features = OVSSHM_FEATURE_SEGMENTS,
        .depth_max = OVSSHM_DEPTH_MAX,
        .request_bytes_max = OVSSHM_REQUEST_BYTES_DEFAULT,
        .range_bytes_max = OVSSHM_RANGE_BYTES_MAX,
        .segments_max = OVSSHM_SEGMENTS_MAX,
        .arena_bytes_max = 256u << 20,
        .capabilities = OVSSHM_CAP_WRITE | OVSSHM_CAP_DISCARD | OVSSHM_CAP_SNAPSHOT,
        .server = "golden server 1.0",
        .store = "memory",
    };
    MESSAGE("hello-reply", OVSSHM_MSG_HELLO, 1, OVSSHM_MSG_REPLY, 0, hello_reply);
    struct ovsshm_msg_open open = {
        .name = "dir/vol",
        .mode = OVSSHM_MODE_WRITE,
        .queues = 2,
        .depth = 100,
        .arena_bytes = 1u << 20,
    };
    MESSAGE("open", OVSSHM_MSG_OPEN, 7, 0, 0, open);
    struct ovsshm_msg_open_reply open_reply = {
        .region_bytes = 0x107000,
        .size_bytes = 10ull << 30,
        .block_bytes = 512,
        .queues = 2,
        .depth = 100,
    };
    MESSAGE("open-reply", OVSSHM_MSG_OPEN, 7, OVSSHM_MSG_REPLY, 0, open_reply);
    struct ovsshm_msg_set_mode set_mode = {.mode = OVSSHM_MODE_READ};
    MESSAGE("set-mode", OVSSHM_MSG_SET_MODE, 8, 0, 0, set_mode);
    message("status", (struct ovsshm_msg){.type = OVSSHM_MSG_STATUS, .id = 9}, NULL, 0, NULL, 0);
    struct ovsshm_status status = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, {0}};
    MESSAGE("status-reply", OVSSHM_MSG_STATUS, 9, OVSSHM_MSG_REPLY, 0, status);
    struct ovsshm_msg_sessions sessions = {.after = 1ull << 40};
    MESSAGE("sessions", OVSSHM_MSG_SESSIONS, 10, 0, 0, sessions);
    struct ovsshm_msg_list_reply list = {.count = 1, .more = 1};
    struct ovsshm_session_info session = {
        .id = (1ull << 40) + 1,
        .pid = 2,
        .uid = 3,
        .client = "golden",
        .volume = "dir/vol",
        .mode = OVSSHM_MODE_WRITE,
        .queues = 4,
        .in_flight = 5,
        .uptime_ns = 6,
        .reads = 7,
        .writes = 8,
        .others = 9,
        .errors = 10,
        .read_bytes = 11,
        .written_bytes = 12,
        .latency_ns = 13,
        .latency_counts = {[0] = 14, [OVSSHM_LATENCY_BUCKETS - 1] = 15},
        .doorbells = 16,
    };
    message("sessions-reply",
            (struct ovsshm_msg){.type = OVSSHM_MSG_SESSIONS, .id = 10, .flags = OVSSHM_MSG_REPLY},
            &list, sizeof(list), &session, sizeof(session));
    struct ovsshm_msg_event event = {
        .event = OVSSHM_EVENT_ENDED, .value = -EPROTO, .reason = "bad index"};
    MESSAGE("event", OVSSHM_MSG_EVENT, 0, 0, 0, event);
}

static void
management_messages(void)
{
    struct ovsshm_msg_volume create = {.name = "dir/vol", .size_bytes = 10ull << 30};
    MESSAGE("create", OVSSHM_MSG_CREATE, 2, 0, 0, create);
    struct ovsshm_msg_reason refused = {"volume dir/vol exists"};
    MESSAGE("refused", OVSSHM_MSG_CREATE, 2, OVSSHM_MSG_REPLY, -EEXIST, refused);
    struct ovsshm_msg_list_reply list = {.count = 1, .more = 1};
    struct ovsshm_volume_info info = {
        .name = "dir/vol",
        .size_bytes = 10ull << 30,
        .allocated_bytes = 4096,
        .block_bytes = 512,
        .writers = 1,
        .readers = 2,
        .snapshots = 3,
    };
    message("list-reply",
            (struct ovsshm_msg){.type = OVSSHM_MSG_LIST, .id = 3, .flags = OVSSHM_MSG_REPLY}, &list,
            sizeof(list), &info, sizeof(info));
    struct ovsshm_msg_snapshot snapshot = {
        .volume = "dir/vol", .snapshot = "monday", .timeout_s = -1};
    MESSAGE("snapshot-create", OVSSHM_MSG_SNAPSHOT_CREATE, 4, 0, 0, snapshot);
    struct ovsshm_msg_list_reply snapshots = {.count = 1};
    struct ovsshm_snapshot_info snapshot_info = {
        .name = "monday",
        .size_bytes = 10ull << 30,
        .allocated_bytes = 4096,
        .created_ns = 1700000000000000001,
    };
    message(
        "snapshot-list-reply",
        (struct ovsshm_msg){.type = OVSSHM_MSG_SNAPSHOT_LIST, .id = 5, .flags = OVSSHM_MSG_REPLY},
        &snapshots, sizeof(snapshots), &snapshot_info, sizeof(snapshot_info));
    struct ovsshm_msg_synced_reply synced = {.synced = 1};
    MESSAGE("is-synced-reply", OVSSHM_MSG_SNAPSHOT_IS_SYNCED, 6, OVSSHM_MSG_REPLY, 0, synced);
}

#define PLACE .offset_bytes = 0x1122334455667000, .length_bytes = 0x10000
#define BUFFER .buffer_offset = 0x8899aabbcc
#define ENTRY(name, type, ...) \
    do { \
        struct type value = {__VA_ARGS__}; \
        entry(name, &value, sizeof(value)); \
    } while (0)

static void
ring_entries(void)
{
    ENTRY("sqe-read", ovsshm_sqe, .op = OVSSHM_OP_READ, .user_data = 1, PLACE, BUFFER);
    ENTRY("sqe-read-segments", ovsshm_sqe, .op = OVSSHM_OP_READ, .flags = OVSSHM_SQE_SEGMENTS,
          .region = OVSSHM_REGION_ARENA, .segment_count = 2, .user_data = 2, PLACE, BUFFER);
    struct ovsshm_segment segments[2] = {
        {.buffer_offset = 0x1000, .length_bytes = 0xf000, .region = OVSSHM_REGION_ARENA},
        {.buffer_offset = 0x7fff0, .length_bytes = 0x1000},
    };
    entry("segments", segments, sizeof(segments));
    ENTRY("sqe-write-fua", ovsshm_sqe, .op = OVSSHM_OP_WRITE, .flags = OVSSHM_SQE_FUA,
          .user_data = 3, PLACE, BUFFER);
    ENTRY("sqe-flush", ovsshm_sqe, .op = OVSSHM_OP_FLUSH, .user_data = 4);
    ENTRY("sqe-discard", ovsshm_sqe, .op = OVSSHM_OP_DISCARD, .user_data = 5, PLACE);
    ENTRY("sqe-write-zeroes", ovsshm_sqe, .op = OVSSHM_OP_WRITE_ZEROES,
          .flags = OVSSHM_SQE_MAY_UNMAP, .user_data = 6, PLACE);
    ENTRY("sqe-block-status", ovsshm_sqe, .op = OVSSHM_OP_BLOCK_STATUS, .buffer_bytes = 160,
          .user_data = UINT64_MAX, PLACE, BUFFER);
    ENTRY("cqe", ovsshm_cqe, .user_data = UINT64_MAX, .result = 10);
    ENTRY("cqe-error", ovsshm_cqe, .user_data = 3, .result = -ENOSPC);
    ENTRY("extent", ovsshm_extent, .length_bytes = 0x10000,
          .flags = OVSSHM_EXTENT_HOLE | OVSSHM_EXTENT_ZERO);
}

int
main(void)
{
    session_messages();
    management_messages();
    ring_entries();
    struct ovsshm_region_header header;
    ovsshm_region_plan(&header, 2, 100, 1u << 20);
    header.features = OVSSHM_FEATURE_SEGMENTS;
    header.block_bytes = 512;
    header.volume_bytes = 10ull << 30;
    entry("region-header", &header, sizeof(header));
    return 0;
}
