/* SPDX-License-Identifier: MIT */
/*
 * Every byte that a client and a server share: control messages on the socket, the header of the
 * shared region, ring indexes, ring entries.  Data only; no functions.  The rules that go with the
 * bytes (ordering, states, recovery) are in docs/PROTOCOL.md, which a test compares with this file.
 *
 * Both ends run on one host, so integers are in host byte order.  Structures are naturally aligned
 * with explicit padding; reserved members are zero when sent and refused when not.  The part
 * between the cdef marks is also read by cffi: literal #defines, enums and plain structs only.
 *
 * Units: *_bytes in bytes, *_ns in nanoseconds, *_s in seconds.  "-errno" is a negative Linux
 * errno.
 */
#ifndef OPENVSTORAGE_SHM_WIRE_H
#define OPENVSTORAGE_SHM_WIRE_H

#include <stdint.h>

/* [cdef-begin] */

#define OVSSHM_MAGIC 0x4d48534f                /* "OSHM", first word of each message */
#define OVSSHM_REGION_MAGIC 0x474552306d687376 /* "vshm0REG", first word of the region */
#define OVSSHM_VERSION 1                       /* protocol version; one number, no minor */

#define OVSSHM_NAME_BYTES 256      /* name field: at most 254 bytes and a NUL */
#define OVSSHM_IDENT_BYTES 64      /* free-text field: program names, store names */
#define OVSSHM_MSG_BYTES_MAX 65536 /* header and payload of one control message */
#define OVSSHM_QUEUES_MAX 64
#define OVSSHM_DEPTH_MIN 1
#define OVSSHM_DEPTH_MAX 4096
#define OVSSHM_DEPTH_DEFAULT 256
#define OVSSHM_REQUEST_BYTES_DEFAULT 1048576
#define OVSSHM_RANGE_BYTES_MAX 1073741824 /* longest discard, write-zeroes, block-status */
#define OVSSHM_SEGMENTS_MAX 1024
#define OVSSHM_SECTOR_BYTES 512 /* volume sizes are multiples of this */
#define OVSSHM_PAGE_BYTES 4096  /* alignment of the parts of a region */
#define OVSSHM_LATENCY_BUCKETS 32

/* Feature bits: hello carries what the client knows, the reply what both will use. */
enum ovsshm_feature {
    OVSSHM_FEATURE_SEGMENTS = 1u << 0, /* scatter/gather lists in the arena */
    OVSSHM_FEATURE_EVENTS = 1u << 1,   /* the server may send events */
    OVSSHM_FEATURE_SESSIONS = 1u << 2, /* the client may ask for sessions */
};

/* ovsshm_msg.type */
enum ovsshm_msg_type {
    OVSSHM_MSG_HELLO = 1,
    OVSSHM_MSG_STATUS = 2,
    OVSSHM_MSG_SESSIONS = 3,

    OVSSHM_MSG_CREATE = 16,
    OVSSHM_MSG_REMOVE = 17,
    OVSSHM_MSG_RESIZE = 18,
    OVSSHM_MSG_STAT = 19,
    OVSSHM_MSG_LIST = 20,

    OVSSHM_MSG_SNAPSHOT_CREATE = 32,
    OVSSHM_MSG_SNAPSHOT_LIST = 33,
    OVSSHM_MSG_SNAPSHOT_ROLLBACK = 34,
    OVSSHM_MSG_SNAPSHOT_REMOVE = 35,
    OVSSHM_MSG_SNAPSHOT_IS_SYNCED = 36,

    OVSSHM_MSG_OPEN = 48,
    OVSSHM_MSG_SET_MODE = 49,

    OVSSHM_MSG_EVENT = 64,
};

/* ovsshm_msg.flags */
enum ovsshm_msg_flag {
    OVSSHM_MSG_REPLY = 1u << 0, /* answers the request with the same id */
};

/* Header of each control message; one SOCK_SEQPACKET packet = header + payload. */
struct ovsshm_msg {
    uint32_t magic;         /* OVSSHM_MAGIC */
    uint16_t type;          /* enum ovsshm_msg_type */
    uint16_t flags;         /* enum ovsshm_msg_flag */
    uint32_t id;            /* chosen by the client, echoed; 0 in events */
    int32_t status;         /* reply: 0 or -errno; otherwise 0 */
    uint32_t payload_bytes; /* bytes after this header */
    uint32_t resv[3];
};

/* Payload of any reply with status < 0. */
struct ovsshm_msg_reason {
    char reason[OVSSHM_NAME_BYTES]; /* for people, NUL-terminated UTF-8 */
};

struct ovsshm_msg_hello {
    uint32_t version_min; /* lowest and highest version the client speaks */
    uint32_t version_max;
    uint64_t features;               /* enum ovsshm_feature */
    char client[OVSSHM_IDENT_BYTES]; /* program name, for the server's log */
};

struct ovsshm_msg_hello_reply {
    uint32_t version; /* the version to use from now on */
    uint32_t queues_max;
    uint64_t features; /* subset of the client's */
    uint32_t depth_max;
    uint32_t request_bytes_max; /* longest read or write */
    uint32_t range_bytes_max;   /* longest discard, write-zeroes, block-status */
    uint32_t segments_max;
    uint64_t arena_bytes_max;
    uint64_t capabilities;           /* enum ovsshm_capability of the store */
    char server[OVSSHM_IDENT_BYTES]; /* implementation and version */
    char store[OVSSHM_IDENT_BYTES];  /* store type: "file", "memory", ... */
};

/* What a store can do; an op without its bit completes with -EOPNOTSUPP. */
enum ovsshm_capability {
    OVSSHM_CAP_WRITE = 1u << 0,
    OVSSHM_CAP_DISCARD = 1u << 1,
    OVSSHM_CAP_WRITE_ZEROES = 1u << 2,
    OVSSHM_CAP_BLOCK_STATUS = 1u << 3,
    OVSSHM_CAP_RESIZE = 1u << 4,
    OVSSHM_CAP_SNAPSHOT = 1u << 5,
    OVSSHM_CAP_MANAGE = 1u << 6, /* create and remove volumes */
};

/* create, resize: name and size.  remove, stat: size_bytes = 0.  list: name = last name seen. */
struct ovsshm_msg_volume {
    char name[OVSSHM_NAME_BYTES];
    uint64_t size_bytes;
    uint64_t resv;
};

/* Reply to stat; element of the reply to list. */
struct ovsshm_volume_info {
    char name[OVSSHM_NAME_BYTES];
    uint64_t size_bytes;
    uint64_t allocated_bytes; /* what the store holds for it */
    uint32_t block_bytes;     /* requests must be aligned to this; 1 = any */
    uint32_t writers;         /* sessions that have it open for writing: 0 or 1 */
    uint32_t readers;         /* sessions that have it open read-only */
    uint32_t snapshots;
};

/* Head of the reply to list, snapshot list and sessions; `count` elements follow. */
struct ovsshm_msg_list_reply {
    uint32_t count;
    uint32_t more; /* 1: ask again with the last name or id */
};

/* All snapshot messages.  list: snapshot = last name seen. */
struct ovsshm_msg_snapshot {
    char volume[OVSSHM_NAME_BYTES];
    char snapshot[OVSSHM_NAME_BYTES];
    int64_t timeout_s; /* create: > 0 wait at most, 0 for ever, < 0 do not wait */
    uint64_t resv;
};

struct ovsshm_snapshot_info {
    char name[OVSSHM_NAME_BYTES];
    uint64_t size_bytes; /* of the volume when the snapshot was made */
    uint64_t allocated_bytes;
    int64_t created_ns; /* CLOCK_REALTIME */
    uint64_t resv;
};

struct ovsshm_msg_synced_reply {
    uint32_t synced; /* 1: the snapshot is safe in the store */
    uint32_t resv;
};

/* ovsshm_msg_open.mode, ovsshm_msg_set_mode.mode */
enum ovsshm_mode {
    OVSSHM_MODE_READ = 1,
    OVSSHM_MODE_WRITE = 2, /* read and write; one session per volume */
};

struct ovsshm_msg_open {
    char name[OVSSHM_NAME_BYTES];
    uint32_t mode;   /* enum ovsshm_mode */
    uint32_t queues; /* 1 to queues_max */
    uint32_t depth;  /* requests in flight per queue, 1 to depth_max */
    uint32_t resv0;
    uint64_t arena_bytes; /* multiple of OVSSHM_PAGE_BYTES, at most arena_bytes_max */
    uint64_t resv1;
};

/*
 * With it come 1 + 2 * queues file descriptors by SCM_RIGHTS: the region, then for each queue the
 * doorbell the server sleeps on (client rings) and the doorbell the client sleeps on (server
 * rings).
 */
struct ovsshm_msg_open_reply {
    uint64_t region_bytes;
    uint64_t size_bytes; /* of the volume */
    uint32_t block_bytes;
    uint32_t queues;
    uint32_t depth;
    uint32_t resv;
};

struct ovsshm_msg_set_mode {
    uint32_t mode; /* enum ovsshm_mode */
    uint32_t resv;
};

/* ovsshm_msg_event.event */
enum ovsshm_event_type {
    OVSSHM_EVENT_RESIZED = 1,  /* value = new size in bytes */
    OVSSHM_EVENT_DRAINING = 2, /* the server is going to stop */
    OVSSHM_EVENT_ENDED = 3,    /* value = -errno; the session is over, see reason */
};

struct ovsshm_msg_event {
    uint32_t event; /* enum ovsshm_event_type */
    uint32_t resv;
    int64_t value;
    char reason[OVSSHM_NAME_BYTES];
};

/* Totals since the server started. */
struct ovsshm_status {
    uint64_t uptime_ns;
    uint32_t connections; /* control connections now */
    uint32_t sessions;    /* open volumes now, one per open */
    uint32_t reactors;    /* threads that serve rings */
    uint32_t pid;
    uint64_t requests; /* completed, all ops */
    uint64_t errors;   /* of these, with a negative result */
    uint64_t read_bytes;
    uint64_t written_bytes;
    uint64_t doorbells;  /* rung towards clients */
    uint64_t sleeps;     /* times a reactor slept */
    uint64_t violations; /* sessions ended for breaking the protocol */
    uint64_t resv[4];
};

struct ovsshm_msg_sessions {
    uint64_t after; /* the last id seen, or 0 */
    uint64_t resv;
};

/* Element of the reply to sessions: one open volume of one client, since it was opened. */
struct ovsshm_session_info {
    uint64_t id;  /* ascending, never used again */
    uint32_t pid; /* of the client when it connected */
    uint32_t uid;
    char client[OVSSHM_IDENT_BYTES]; /* as in its hello */
    char volume[OVSSHM_NAME_BYTES];
    uint32_t mode; /* enum ovsshm_mode */
    uint32_t queues;
    uint32_t in_flight; /* taken from the rings and not completed */
    uint32_t resv0;
    uint64_t uptime_ns;
    uint64_t reads;  /* completed, with any result */
    uint64_t writes; /* the same */
    uint64_t others; /* the same: flush, discard, write-zeroes, block-status */
    uint64_t errors; /* of these three, with a negative result */
    uint64_t read_bytes;
    uint64_t written_bytes;
    uint64_t latency_ns; /* of all completed, from taken to published, summed up */
    uint64_t latency_counts[OVSSHM_LATENCY_BUCKETS]; /* bucket i: at least 2^i ns; 0: also less */
    uint64_t doorbells;                              /* rung towards the client */
    uint64_t resv1[3];
};

/* First bytes of a region.  Written once by the server, except volume_bytes. */
struct ovsshm_region_header {
    uint64_t magic;        /* OVSSHM_REGION_MAGIC */
    uint32_t version;      /* OVSSHM_VERSION */
    uint32_t header_bytes; /* sizeof(struct ovsshm_region_header) */
    uint64_t features;     /* as agreed in hello */
    uint64_t region_bytes;
    uint32_t queue_count;
    uint32_t depth;   /* in-flight limit of each queue */
    uint32_t entries; /* of each ring: power of two >= depth */
    uint32_t block_bytes;
    uint64_t queues_offset;      /* of queue 0, from the start of the region */
    uint64_t queue_stride_bytes; /* from one queue to the next */
    uint64_t sqes_offset;        /* from the start of a queue */
    uint64_t cqes_offset;        /* from the start of a queue */
    uint64_t arena_offset;       /* from the start of the region */
    uint64_t arena_bytes;
    uint64_t resv0[4];
    uint64_t volume_bytes; /* server writes, client reads: current size */
    uint64_t resv1[7];
};

/*
 * Start of a queue.  Indexes run freely modulo 2^32 and are masked on access.  Each word that one
 * side writes while the other polls it has a cache line of its own.
 */
struct ovsshm_ring_words {
    uint32_t sq_tail;    /* client: entries published */
    uint32_t client_cpu; /* client: CPU it runs on + 1; 0 = unknown */
    uint32_t pad0[14];
    uint32_t cq_head; /* client: entries consumed */
    uint32_t pad1[15];
    uint32_t client_armed; /* client sets before it sleeps, server clears and rings */
    uint32_t pad2[15];
    uint32_t resv0[16];

    uint32_t cq_tail;    /* server: entries published */
    uint32_t server_cpu; /* server: CPU it runs on + 1; 0 = unknown */
    uint32_t pad3[14];
    uint32_t sq_head; /* server: entries consumed */
    uint32_t pad4[15];
    uint32_t server_armed; /* server sets before it sleeps, client clears and rings */
    uint32_t pad5[15];
    uint32_t resv1[16];
};

/* ovsshm_sqe.op */
enum ovsshm_op {
    OVSSHM_OP_READ = 1,
    OVSSHM_OP_WRITE = 2,
    OVSSHM_OP_FLUSH = 3,
    OVSSHM_OP_DISCARD = 4,
    OVSSHM_OP_WRITE_ZEROES = 5,
    OVSSHM_OP_BLOCK_STATUS = 6, /* buffer receives struct ovsshm_extent[] */
};

/* ovsshm_sqe.flags */
enum ovsshm_sqe_flag {
    OVSSHM_SQE_FUA = 1u << 0,       /* write, write-zeroes: durable when completed */
    OVSSHM_SQE_MAY_UNMAP = 1u << 1, /* write-zeroes: the range may become a hole */
    OVSSHM_SQE_SEGMENTS = 1u << 2,  /* buffer_offset names a list of segments */
};

/* Region numbers in entries and segments. */
#define OVSSHM_REGION_ARENA 0 /* offsets count from the start of the arena */

/* Submission queue entry, 64 bytes. */
struct ovsshm_sqe {
    uint8_t op;             /* enum ovsshm_op */
    uint8_t flags;          /* enum ovsshm_sqe_flag */
    uint16_t region;        /* memory the buffer is in */
    uint32_t length_bytes;  /* of the volume range; flush: 0 */
    uint64_t offset_bytes;  /* in the volume; flush: 0 */
    uint64_t buffer_offset; /* in the region; of the list with SEGMENTS */
    uint64_t user_data;     /* echoed in the completion */
    uint32_t buffer_bytes;  /* block-status: room for extents; otherwise 0 */
    uint32_t segment_count; /* with SEGMENTS: 1 to segments_max; otherwise 0 */
    uint64_t resv[3];
};

/* Element of a segment list; the lengths add up to sqe.length_bytes. */
struct ovsshm_segment {
    uint64_t buffer_offset;
    uint32_t length_bytes;
    uint16_t region;
    uint16_t resv;
};

/* Completion queue entry, 16 bytes. */
struct ovsshm_cqe {
    uint64_t user_data;
    int32_t result; /* read, write: bytes; block-status: extents; otherwise 0; or -errno */
    uint32_t resv;
};

/* ovsshm_extent.flags; 0 = data */
enum ovsshm_extent_flag {
    OVSSHM_EXTENT_HOLE = 1u << 0, /* not allocated */
    OVSSHM_EXTENT_ZERO = 1u << 1, /* reads as zeroes */
};

struct ovsshm_extent {
    uint64_t length_bytes;
    uint32_t flags; /* enum ovsshm_extent_flag */
    uint32_t resv;
};

/* [cdef-end] */

#endif
