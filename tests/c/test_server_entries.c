/* SPDX-License-Identifier: MIT */
/*
 * Goal: whatever a client writes into its rings, the server answers it as the protocol says, or
 * ends that one session with a reason; other sessions do not notice. Method: entries and indexes by
 * hand, against the memory store; a bystander works all the time.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>

#include "server_test.h"

#define VOLUME_BYTES (16u * MIB)

static struct ovsshm_conn *manager;
static struct ovsshm_volume *bystander;

static void
setup(void)
{
    /* One reactor, so that the bystander has the same. */
    st_start(st_store(&ovsshm_store_memory, "", NULL),
             (struct ovsshm_server_params){.reactors = 1});
    manager = connect_ok();
    CHECK_EQ(ovsshm_create(manager, "target", VOLUME_BYTES), 0);
    CHECK_EQ(ovsshm_create(manager, "other", MIB), 0);
    bystander = open_ok(manager, "other", OVSSHM_MODE_WRITE, 1);
}

static void
check_bystander(void)
{
    static uint32_t round;
    uint32_t in = 0;
    round++;
    CHECK_EQ(run(bystander, OVSSHM_OP_WRITE, 4096, &round, sizeof(round)), sizeof(round));
    CHECK_EQ(run(bystander, OVSSHM_OP_READ, 4096, &in, sizeof(in)), sizeof(in));
    CHECK_EQ(in, round);
}

static struct ovsshm_sqe
entry(uint8_t op, uint64_t offset, uint32_t length)
{
    return (struct ovsshm_sqe){.op = op, .offset_bytes = offset, .length_bytes = length};
}

/* The session ends with this reason, the volume is free and the bystander lives. */
static void
expect_end(struct raw_session *s, const char *reason)
{
    raw_ring(s);
    raw_await_end(s->fd, reason);
    raw_close(s);
    check_bystander();
}

static void
expect_violation(struct ovsshm_sqe bad, const char *reason)
{
    struct raw_session s = raw_open("target", OVSSHM_MODE_WRITE, 8);
    uint64_t before = st_status().violations;
    raw_submit(&s, bad);
    raw_await_end(s.fd, reason);
    CHECK_EQ(st_status().violations, before + 1);
    raw_close(&s);
    check_bystander();
}

static void
test_client_entry_that_no_correct_client_writes_ends_the_session(void)
{
    struct ovsshm_sqe e;
    expect_violation(entry(0, 0, 512), "unknown op 0");
    expect_violation(entry(7, 0, 512), "unknown op 7");
    expect_violation(entry(255, 0, 512), "unknown op 255");
    for (uint8_t op = OVSSHM_OP_READ; op <= OVSSHM_OP_BLOCK_STATUS; op++) {
        e = entry(op, 0, op == OVSSHM_OP_FLUSH ? 0 : 512);
        e.flags = 1u << 3;
        expect_violation(e, "with flags 0x8");
        for (int i = 0; i < 3; i++) {
            e.flags = 0;
            e.resv[0] = i == 0;
            e.resv[1] = i == 1;
            e.resv[2] = (uint64_t)(i == 2) << 63;
            expect_violation(e, "reserved");
        }
        e.resv[2] = 0;
        e.region = 1;
        expect_violation(e, "region 1");
    }
    e = entry(OVSSHM_OP_READ, 0, 512);
    e.flags = OVSSHM_SQE_FUA;
    expect_violation(e, "read with flags");
    e = entry(OVSSHM_OP_DISCARD, 0, 512);
    e.flags = OVSSHM_SQE_MAY_UNMAP;
    expect_violation(e, "discard with flags");
    e.flags = OVSSHM_SQE_SEGMENTS;
    expect_violation(e, "discard with flags");
    expect_violation(entry(OVSSHM_OP_FLUSH, 512, 0), "flush with members");
    expect_violation(entry(OVSSHM_OP_FLUSH, 0, 512), "flush of 512 bytes");
    e = entry(OVSSHM_OP_WRITE, 0, 512);
    e.segment_count = 1;
    expect_violation(e, "write with members");
    e.segment_count = 0;
    e.buffer_bytes = 512;
    expect_violation(e, "write with members");
    e = entry(OVSSHM_OP_WRITE_ZEROES, 0, 512);
    e.buffer_offset = 8;
    expect_violation(e, "write-zeroes with members");
}

static void
test_client_buffer_outside_of_the_arena_ends_the_session(void)
{
    const uint64_t bad[] = {MIB, MIB - 511, MIB + 1, UINT64_MAX, UINT64_MAX - 511, 1ull << 63};
    struct ovsshm_sqe e = entry(OVSSHM_OP_READ, 0, 512);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        e.buffer_offset = bad[i];
        expect_violation(e, "arena");
    }
    e.buffer_offset = 0;
    e.length_bytes = MIB + 1;
    expect_violation(e, "the limit is 1048576");
    expect_violation(entry(OVSSHM_OP_DISCARD, 0, OVSSHM_RANGE_BYTES_MAX + 1), "the limit is");
    e = entry(OVSSHM_OP_BLOCK_STATUS, 0, 512);
    expect_violation(e, "block-status into 0 bytes");
    e.buffer_bytes = 4096;
    e.buffer_offset = MIB - 4095;
    expect_violation(e, "block-status into 4096 bytes");
    e.buffer_offset = 0;
    e.buffer_bytes = UINT32_MAX;
    expect_violation(e, "block-status into");
}

static void
expect_bad_segments(uint32_t count, uint64_t list_offset, struct ovsshm_segment *segments,
                    uint32_t used, uint32_t length, const char *reason)
{
    struct raw_session s = raw_open("target", OVSSHM_MODE_WRITE, 8);
    struct ovsshm_sqe e = entry(OVSSHM_OP_WRITE, 0, length);
    if (used) {
        memcpy(s.arena + list_offset, segments, used * sizeof(*segments));
    }
    e.flags = OVSSHM_SQE_SEGMENTS;
    e.segment_count = count;
    e.buffer_offset = list_offset;
    raw_submit(&s, e);
    expect_end(&s, reason);
}

static void
test_client_bad_segment_list_ends_the_session(void)
{
    struct ovsshm_segment good = {.buffer_offset = 4096, .length_bytes = 512};
    struct ovsshm_segment bad = good;
    expect_bad_segments(0, 0, &good, 1, 512, "list of 0 segments");
    expect_bad_segments(OVSSHM_SEGMENTS_MAX + 1, 0, &good, 1, 512, "list of 1025 segments");
    expect_bad_segments(UINT32_MAX, 0, &good, 1, 512, "segments at arena offset");
    expect_bad_segments(2, MIB - 16, &good, 1, 512, "list of 2 segments");
    expect_bad_segments(1, UINT64_MAX - 8, NULL, 0, 512, "list of 1 segments");
    bad.region = 1;
    expect_bad_segments(1, 0, &bad, 1, 512, "segment 0");
    bad = good;
    bad.resv = 1;
    expect_bad_segments(1, 0, &bad, 1, 512, "segment 0");
    bad = good;
    bad.buffer_offset = MIB - 511;
    expect_bad_segments(1, 0, &bad, 1, 512, "segment 0");
    bad.buffer_offset = UINT64_MAX;
    expect_bad_segments(1, 0, &bad, 1, 512, "segment 0");
    expect_bad_segments(1, 0, &good, 1, 1024, "segments of 512 bytes for a request of 1024");
    bad = good;
    bad.length_bytes = MIB - 4096;
    struct ovsshm_segment many[8] = {bad, bad, bad, bad, bad, bad, bad, bad};
    expect_bad_segments(8, 0, many, 8, 512, "for a request of 512");
}

static void
test_client_impossible_indexes_end_the_session(void)
{
    const uint32_t tails[] = {9, 8 + 1, 1u << 31, UINT32_MAX};
    for (size_t i = 0; i < sizeof(tails) / sizeof(tails[0]); i++) {
        struct raw_session s = raw_open("target", OVSSHM_MODE_WRITE, 8);
        ovsshm_store_release(&s.memory.words->sq_tail, tails[i]);
        expect_end(&s, "impossible submission index");
    }
    const uint32_t heads[] = {9, 16, 1u << 31, UINT32_MAX}; /* of eight completions */
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        struct raw_session s = raw_open("target", OVSSHM_MODE_WRITE, 8);
        for (uint32_t k = 0; k < 8; k++) {
            raw_run(&s, entry(OVSSHM_OP_FLUSH, 0, 0));
        }
        ovsshm_store_release(&s.memory.words->cq_head, heads[i]);
        raw_submit(&s, entry(OVSSHM_OP_FLUSH, 0, 0));
        expect_end(&s, "impossible completion index");
    }
}

static void
test_client_with_more_than_depth_in_flight_ends_the_session(void)
{
    struct raw_session s = raw_open("target", OVSSHM_MODE_WRITE, 5); /* rings of 8 */
    for (uint32_t k = 0; k < 6; k++) {
        s.memory.sqes[k] = entry(OVSSHM_OP_FLUSH, 0, 0);
    }
    ovsshm_store_release(&s.memory.words->sq_tail, 6);
    expect_end(&s, "more than 5 requests in flight");

    s = raw_open("target", OVSSHM_MODE_WRITE, 8);
    for (uint32_t k = 0; k < 8; k++) { /* never consumes a completion */
        raw_submit(&s, entry(OVSSHM_OP_FLUSH, 0, 0));
    }
    while (ovsshm_load_acquire(&s.memory.words->cq_tail) != 8) {
        sched_yield();
    }
    raw_submit(&s, entry(OVSSHM_OP_FLUSH, 0, 0));
    expect_end(&s, "more than 8 requests in flight");
}

/* What a correct client may ask and not get: a result, and the session goes on. */
static void
test_client_request_that_cannot_be_done_gets_its_errno(void)
{
    struct raw_session s = raw_open("target", OVSSHM_MODE_WRITE, 8);
    CHECK_EQ(raw_run(&s, entry(OVSSHM_OP_WRITE, VOLUME_BYTES - 512, 1024)), -EFBIG);
    CHECK_EQ(raw_run(&s, entry(OVSSHM_OP_WRITE, VOLUME_BYTES, 1)), -EFBIG);
    CHECK_EQ(raw_run(&s, entry(OVSSHM_OP_WRITE, UINT64_MAX, 512)), -EFBIG);
    CHECK_EQ(raw_run(&s, entry(OVSSHM_OP_DISCARD, VOLUME_BYTES - 1, 2)), -EFBIG);
    CHECK_EQ(raw_run(&s, entry(OVSSHM_OP_WRITE_ZEROES, 0, VOLUME_BYTES + 1)), -EFBIG);
    CHECK_EQ(raw_run(&s, entry(OVSSHM_OP_READ, VOLUME_BYTES - 512, 1024)), 512);
    CHECK_EQ(raw_run(&s, entry(OVSSHM_OP_READ, VOLUME_BYTES, 512)), 0);
    CHECK_EQ(raw_run(&s, entry(OVSSHM_OP_READ, UINT64_MAX - 511, 512)), 0);
    CHECK_EQ(raw_run(&s, entry(OVSSHM_OP_READ, 0, 0)), 0);
    CHECK_EQ(raw_run(&s, entry(OVSSHM_OP_WRITE, 0, 0)), 0);
    CHECK_EQ(raw_run(&s, entry(OVSSHM_OP_READ, 0, 512)), 512);
    raw_close(&s);

    s = raw_open("target", OVSSHM_MODE_READ, 8);
    CHECK_EQ(raw_run(&s, entry(OVSSHM_OP_WRITE, 0, 512)), -EBADF);
    CHECK_EQ(raw_run(&s, entry(OVSSHM_OP_DISCARD, 0, 512)), -EBADF);
    CHECK_EQ(raw_run(&s, entry(OVSSHM_OP_WRITE_ZEROES, 0, 512)), -EBADF);
    CHECK_EQ(raw_run(&s, entry(OVSSHM_OP_READ, 0, 512)), 512);
    CHECK_EQ(raw_run(&s, entry(OVSSHM_OP_FLUSH, 0, 0)), 0);
    raw_close(&s);
}

static void
test_client_reads_and_writes_by_segments(void)
{
    struct raw_session s = raw_open("target", OVSSHM_MODE_WRITE, 8);
    struct ovsshm_sqe e = entry(OVSSHM_OP_WRITE, 8192, 0);
    struct ovsshm_segment list[OVSSHM_SEGMENTS_MAX];
    const uint32_t counts[] = {1, 3, 4, 5, OVSSHM_SEGMENTS_MAX};
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        uint32_t bytes = 0;
        for (uint32_t k = 0; k < counts[i]; k++) { /* backwards, lengths 0 to 6 */
            list[k] =
                (struct ovsshm_segment){.buffer_offset = 65536 - 8 * k, .length_bytes = k % 7};
            memset(s.arena + 65536 - 8 * k, (int)k, k % 7);
            bytes += k % 7;
        }
        memcpy(s.arena + 300001, list, sizeof(list)); /* lists need no alignment */
        e.flags = OVSSHM_SQE_SEGMENTS;
        e.segment_count = counts[i];
        e.buffer_offset = 300001;
        e.length_bytes = bytes;
        CHECK_EQ(raw_run(&s, e), bytes);
        struct ovsshm_sqe r = entry(OVSSHM_OP_READ, 8192, bytes);
        r.buffer_offset = 500000;
        CHECK_EQ(raw_run(&s, r), bytes);
        const unsigned char *in = s.arena + 500000;
        for (uint32_t k = 0; k < counts[i]; k++) {
            for (uint32_t n = 0; n < k % 7; n++) {
                CHECK_EQ(*in++, (unsigned char)k);
            }
        }
    }
    /* A read by segments that crosses the end fills the first of them only. */
    memset(s.arena, 0xee, 2048);
    list[0] = (struct ovsshm_segment){.buffer_offset = 0, .length_bytes = 700};
    list[1] = (struct ovsshm_segment){.buffer_offset = 700, .length_bytes = 700};
    memcpy(s.arena + 4096, list, 2 * sizeof(list[0]));
    e = (struct ovsshm_sqe){.op = OVSSHM_OP_READ,
                            .flags = OVSSHM_SQE_SEGMENTS,
                            .offset_bytes = VOLUME_BYTES - 1024,
                            .length_bytes = 1400,
                            .buffer_offset = 4096,
                            .segment_count = 2};
    CHECK_EQ(raw_run(&s, e), 1024);
    CHECK_EQ(s.arena[1023], 0);
    CHECK_EQ(s.arena[1024], 0xee);
    raw_close(&s);
}

static void
test_client_without_the_segments_feature_may_not_use_them(void)
{
    struct raw_session s = {.fd = raw_socket()};
    CHECK_EQ(raw_hello(s.fd, 1, 1, OVSSHM_FEATURE_EVENTS), 0);
    struct ovsshm_msg_hello_reply hello;
    memcpy(&hello, raw_packet.payload, sizeof(hello));
    CHECK_EQ(hello.features, OVSSHM_FEATURE_EVENTS);
    CHECK_EQ(
        raw_open_call(s.fd,
                      (struct ovsshm_msg_open){
                          .mode = OVSSHM_MODE_READ, .queues = 1, .depth = 1, .arena_bytes = MIB},
                      "target"),
        0);
    struct ovsshm_msg_open_reply reply;
    memcpy(&reply, raw_packet.payload, sizeof(reply));
    raw_packet.fd_count = 0;
    CHECK_EQ(ovsshm_region_attach(&s.region, raw_packet.fds[0], reply.region_bytes), 0);
    CHECK_EQ(s.region.layout.features, OVSSHM_FEATURE_EVENTS);
    s.memory = ovsshm_region_queue(&s.region, 0);
    s.server_fd = raw_packet.fds[1];
    s.client_fd = raw_packet.fds[2];
    s.memory.sqes[0] = entry(OVSSHM_OP_READ, 0, 0);
    s.memory.sqes[0].flags = OVSSHM_SQE_SEGMENTS;
    ovsshm_store_release(&s.memory.words->sq_tail, 1);
    expect_end(&s, "read with flags 0x4");
}

/* The list and the entries change all the time; the server must use what it has checked. */
static void *
scribble(void *arg)
{
    struct raw_session *s = arg;
    uint64_t seed = 42;
    while (!ovsshm_load_relaxed(&s->client_fd)) {
        uint64_t value = test_random(&seed);
        uint64_t *at = (uint64_t *)(void *)(s->arena + (value % 512) * 8);
        ovsshm_store_relaxed(at, test_random(&seed) >> (value >> 58));
    }
    return NULL;
}

static void
test_client_that_scribbles_on_its_segment_lists_harms_nobody(void)
{
    struct raw_session s = {.fd = -1};
    struct raw_session shared = {.fd = -1};
    for (int round = 0; round < 20; round++) {
        s = raw_open("target", OVSSHM_MODE_WRITE, 64);
        shared.arena = s.arena;
        ovsshm_store_relaxed(&shared.client_fd, 0);
        pthread_t thread = test_thread(scribble, &shared);
        struct ovsshm_sqe e = entry(round % 2 ? OVSSHM_OP_READ : OVSSHM_OP_WRITE, 0, 512);
        e.flags = OVSSHM_SQE_SEGMENTS;
        e.segment_count = 256;
        for (uint32_t k = 0; k < 64; k++) {
            s.memory.sqes[k] = e;
        }
        ovsshm_store_release(&s.memory.words->sq_tail, 64);
        raw_ring(&s);
        raw_await_end(s.fd, "");
        ovsshm_store_relaxed(&shared.client_fd, 1);
        test_join(thread);
        raw_close(&s);
        check_bystander();
    }
}

/* Doorbells are shared with the client: it can fill them, drain them and make them block. */
static void
test_client_that_spoils_its_doorbells_blocks_nobody(void)
{
    const uint64_t full = UINT64_MAX - 1;
    struct raw_session s = raw_open("target", OVSSHM_MODE_READ, 8);
    for (int i = 0; i < 50; i++) {
        ovsshm_doorbell_clear(s.client_fd);
        CHECK_EQ(write(s.client_fd, &full, sizeof(full)), sizeof(full));
        CHECK_EQ(fcntl(s.client_fd, F_SETFL, 0), 0);
        ovsshm_store_release(&s.memory.words->client_armed, 1);
        raw_submit(&s, entry(OVSSHM_OP_FLUSH, 0, 0));
        while (ovsshm_ring_available(&s.cq) == 0) {
            sched_yield();
        }
        s.cq.own++;
        ovsshm_ring_publish(&s.cq);
        check_bystander();
        CHECK_EQ(fcntl(s.client_fd, F_SETFL, O_NONBLOCK), 0);
    }
    CHECK_EQ(fcntl(s.server_fd, F_SETFL, 0), 0);
    ovsshm_doorbell_ring(s.server_fd); /* for nothing */
    ovsshm_doorbell_clear(s.server_fd);
    for (int i = 0; i < 50; i++) {
        ovsshm_doorbell_ring(s.server_fd);
        CHECK_EQ(raw_run(&s, entry(OVSSHM_OP_FLUSH, 0, 0)), 0);
        check_bystander();
    }
    raw_close(&s);
}

static void
test_block_status_extents_go_to_the_client(void)
{
    struct raw_session s = raw_open("target", OVSSHM_MODE_WRITE, 8);
    struct ovsshm_sqe e = entry(OVSSHM_OP_WRITE_ZEROES, 0, VOLUME_BYTES);
    e.flags = OVSSHM_SQE_MAY_UNMAP;
    CHECK_EQ(raw_run(&s, e), 0);
    for (uint64_t k = 0; k < 8; k++) {
        CHECK_EQ(raw_run(&s, entry(OVSSHM_OP_WRITE, k * 2 * MIB, 65536)), 65536);
    }
    e = entry(OVSSHM_OP_BLOCK_STATUS, 0, VOLUME_BYTES + 4096); /* beyond the end is cut off */
    e.buffer_offset = 8192;
    e.buffer_bytes = 64 * sizeof(struct ovsshm_extent);
    CHECK_EQ(raw_run(&s, e), 16);
    uint64_t sum = 0;
    for (int i = 0; i < 16; i++) {
        struct ovsshm_extent extent;
        memcpy(&extent, s.arena + 8192 + i * sizeof(extent), sizeof(extent));
        CHECK_EQ(extent.flags, i % 2 ? OVSSHM_EXTENT_HOLE | OVSSHM_EXTENT_ZERO : 0);
        sum += extent.length_bytes;
    }
    CHECK_EQ(sum, VOLUME_BYTES);
    e.buffer_bytes = 3 * sizeof(struct ovsshm_extent) + 15; /* room for three */
    CHECK_EQ(raw_run(&s, e), 3);
    e.offset_bytes = VOLUME_BYTES;
    CHECK_EQ(raw_run(&s, e), 0);
    raw_close(&s);
}

int
main(void)
{
    test_begin(240);
    RUN(setup);
    RUN(test_client_entry_that_no_correct_client_writes_ends_the_session);
    RUN(test_client_buffer_outside_of_the_arena_ends_the_session);
    RUN(test_client_bad_segment_list_ends_the_session);
    RUN(test_client_impossible_indexes_end_the_session);
    RUN(test_client_with_more_than_depth_in_flight_ends_the_session);
    RUN(test_client_request_that_cannot_be_done_gets_its_errno);
    RUN(test_client_reads_and_writes_by_segments);
    RUN(test_client_without_the_segments_feature_may_not_use_them);
    RUN(test_client_that_scribbles_on_its_segment_lists_harms_nobody);
    RUN(test_client_that_spoils_its_doorbells_blocks_nobody);
    RUN(test_block_status_extents_go_to_the_client);
    ovsshm_close(bystander);
    ovsshm_disconnect(manager);
    CHECK_EQ(st_end(SECOND), 0);
    return 0;
}
