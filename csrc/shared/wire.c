/* SPDX-License-Identifier: MIT */
/* Pins the layout of shm_wire.h: moving a byte stops the build. */
#include <openvstorage/shm_wire.h>

#include <stddef.h>

#include "wire.h"

#define SIZE(type, bytes) _Static_assert(sizeof(struct type) == (bytes), #type " has moved")
#define AT(type, member, bytes) \
    _Static_assert(offsetof(struct type, member) == (bytes), #type "." #member " has moved")

SIZE(ovsshm_msg, 32);
AT(ovsshm_msg, type, 4);
AT(ovsshm_msg, flags, 6);
AT(ovsshm_msg, id, 8);
AT(ovsshm_msg, status, 12);
AT(ovsshm_msg, payload_bytes, 16);
SIZE(ovsshm_msg_reason, 256);
SIZE(ovsshm_msg_hello, 80);
AT(ovsshm_msg_hello, features, 8);
AT(ovsshm_msg_hello, client, 16);
SIZE(ovsshm_msg_hello_reply, 176);
AT(ovsshm_msg_hello_reply, features, 8);
AT(ovsshm_msg_hello_reply, arena_bytes_max, 32);
AT(ovsshm_msg_hello_reply, capabilities, 40);
AT(ovsshm_msg_hello_reply, server, 48);
AT(ovsshm_msg_hello_reply, store, 112);
SIZE(ovsshm_msg_volume, 272);
SIZE(ovsshm_volume_info, 288);
AT(ovsshm_volume_info, size_bytes, 256);
AT(ovsshm_volume_info, block_bytes, 272);
SIZE(ovsshm_msg_list_reply, 8);
SIZE(ovsshm_msg_snapshot, 528);
AT(ovsshm_msg_snapshot, timeout_s, 512);
SIZE(ovsshm_snapshot_info, 288);
SIZE(ovsshm_msg_synced_reply, 8);
SIZE(ovsshm_msg_open, 288);
AT(ovsshm_msg_open, mode, 256);
AT(ovsshm_msg_open, arena_bytes, 272);
SIZE(ovsshm_msg_open_reply, 32);
SIZE(ovsshm_msg_set_mode, 8);
SIZE(ovsshm_msg_event, 272);
SIZE(ovsshm_status, 112);
SIZE(ovsshm_msg_sessions, 16);
SIZE(ovsshm_session_info, 704);
AT(ovsshm_session_info, client, 16);
AT(ovsshm_session_info, volume, 80);
AT(ovsshm_session_info, mode, 336);
AT(ovsshm_session_info, uptime_ns, 352);
AT(ovsshm_session_info, reads, 360);
AT(ovsshm_session_info, latency_ns, 408);
AT(ovsshm_session_info, latency_counts, 416);
AT(ovsshm_session_info, doorbells, 672);

SIZE(ovsshm_region_header, 192);
AT(ovsshm_region_header, queues_offset, 48);
AT(ovsshm_region_header, arena_offset, 80);
AT(ovsshm_region_header, volume_bytes, 128); /* a cache line of its own */

SIZE(ovsshm_ring_words, 512);
AT(ovsshm_ring_words, sq_tail, 0);
AT(ovsshm_ring_words, client_cpu, 4);
AT(ovsshm_ring_words, cq_head, 64);
AT(ovsshm_ring_words, client_armed, 128);
AT(ovsshm_ring_words, cq_tail, 256);
AT(ovsshm_ring_words, server_cpu, 260);
AT(ovsshm_ring_words, sq_head, 320);
AT(ovsshm_ring_words, server_armed, 384);

SIZE(ovsshm_sqe, 64);
AT(ovsshm_sqe, region, 2);
AT(ovsshm_sqe, length_bytes, 4);
AT(ovsshm_sqe, offset_bytes, 8);
AT(ovsshm_sqe, buffer_offset, 16);
AT(ovsshm_sqe, user_data, 24);
AT(ovsshm_sqe, buffer_bytes, 32);
AT(ovsshm_sqe, segment_count, 36);
SIZE(ovsshm_segment, 16);
AT(ovsshm_segment, region, 12);
SIZE(ovsshm_cqe, 16);
AT(ovsshm_cqe, result, 8);
SIZE(ovsshm_extent, 16);

const char *
ovsshm_op_name(unsigned op)
{
    switch (op) {
    case OVSSHM_OP_READ: return "read";
    case OVSSHM_OP_WRITE: return "write";
    case OVSSHM_OP_FLUSH: return "flush";
    case OVSSHM_OP_DISCARD: return "discard";
    case OVSSHM_OP_WRITE_ZEROES: return "write-zeroes";
    case OVSSHM_OP_BLOCK_STATUS: return "block-status";
    default: return "unknown op";
    }
}

const char *
ovsshm_msg_name(unsigned type)
{
    switch (type) {
    case OVSSHM_MSG_HELLO: return "hello";
    case OVSSHM_MSG_STATUS: return "status";
    case OVSSHM_MSG_SESSIONS: return "sessions";
    case OVSSHM_MSG_CREATE: return "create";
    case OVSSHM_MSG_REMOVE: return "remove";
    case OVSSHM_MSG_RESIZE: return "resize";
    case OVSSHM_MSG_STAT: return "stat";
    case OVSSHM_MSG_LIST: return "list";
    case OVSSHM_MSG_SNAPSHOT_CREATE: return "snapshot create";
    case OVSSHM_MSG_SNAPSHOT_LIST: return "snapshot list";
    case OVSSHM_MSG_SNAPSHOT_ROLLBACK: return "snapshot rollback";
    case OVSSHM_MSG_SNAPSHOT_REMOVE: return "snapshot remove";
    case OVSSHM_MSG_SNAPSHOT_IS_SYNCED: return "snapshot is-synced";
    case OVSSHM_MSG_OPEN: return "open";
    case OVSSHM_MSG_SET_MODE: return "set mode";
    case OVSSHM_MSG_EVENT: return "event";
    default: return "unknown message";
    }
}
