/* SPDX-License-Identifier: MIT */
/*
 * The native client API of libovsvolumedriver: block volumes over shared memory, for event loops.
 *
 *     connect -> manage (create, list, snapshot, ...) -> open -> queue: prep, submit, poll -> close
 *
 * Threads: the library has none of its own.  A connection, and the volume-level calls of a volume,
 * may be used from several threads (calls take turns).  A queue belongs to one thread at a time;
 * different queues are independent.  Buffers may be allocated and freed from any thread.
 *
 * Ownership: an object is freed by its own closing call, which accepts NULL.  Memory named by a
 * request belongs to the request from ovsshm_queue_prep() until its completion has been returned.
 *
 * Errors: functions return 0 or a count, or a negative errno.  ovsshm_reason() then has a sentence
 * for people, the server's own words where the server refused.  Common to all calls that talk to
 * the server: -ENOTCONN the server is gone, -EPROTO it sent nonsense, -ENOMEM.
 *
 * Units: bytes and nanoseconds.  Protocol: docs/PROTOCOL.md.
 */
#ifndef OPENVSTORAGE_SHM_H
#define OPENVSTORAGE_SHM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <openvstorage/shm_wire.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ovsshm_conn;
struct ovsshm_volume;
struct ovsshm_queue;
struct ovsshm_memory;

/* Version of this library, "1.0.0". */
const char *ovsshm_version(void);

/*
 * Why the last call of this thread failed: one sentence without a newline.  Never NULL.  Valid
 * until the thread's next call into the library.
 */
const char *ovsshm_reason(void);

/*
 * Writes the default socket path: $OVS_SHM_SOCKET, else /run/openvstorage/shm.sock for root, else
 * $XDG_RUNTIME_DIR/openvstorage/shm.sock.  0, -ENOENT (no such directory is known), -ENAMETOOLONG.
 */
int ovsshm_default_socket(char *path, size_t path_bytes);

/* ---- connection: management -------------------------------------------------------------- */

/*
 * Connects and says hello.  socket_path NULL: the default.
 * -ENOENT no socket there, -ECONNREFUSED nobody listens, -EACCES socket not permitted or peer not
 * on the server's list, -EPROTONOSUPPORT no common version, -ETIMEDOUT no answer in 10 s.
 */
int ovsshm_connect(const char *socket_path, struct ovsshm_conn **conn);
void ovsshm_disconnect(struct ovsshm_conn *conn);

/* What the server answered to hello: limits, capabilities, names.  Lives as long as conn. */
const struct ovsshm_msg_hello_reply *ovsshm_conn_hello(const struct ovsshm_conn *conn);

int ovsshm_status(struct ovsshm_conn *conn, struct ovsshm_status *status);

/*
 * The sessions of all clients with what they have done so far, in order of id, those after `after`
 * (0: from the start), at most `count`.  Returns how many were stored; 0 = no more.  -EOPNOTSUPP
 * the server is too old.
 */
int ovsshm_sessions(struct ovsshm_conn *conn, uint64_t after, struct ovsshm_session_info *infos,
                    unsigned count);

/*
 * Names: 1 to 254 bytes, "/" makes directories on demand; no leading "/", no empty, "." or ".."
 * component, no control character: -EINVAL, -ENAMETOOLONG.  Sizes: multiples of 512, else -EINVAL.
 *
 * create: -EEXIST, -ENOSPC.  remove: -ENOENT, -EBUSY while open.  resize: -ENOENT, -EPERM to
 * shrink.
 */
int ovsshm_create(struct ovsshm_conn *conn, const char *name, uint64_t size_bytes);
int ovsshm_remove(struct ovsshm_conn *conn, const char *name);
int ovsshm_resize(struct ovsshm_conn *conn, const char *name, uint64_t size_bytes);
int ovsshm_stat(struct ovsshm_conn *conn, const char *name, struct ovsshm_volume_info *info);

/*
 * Volumes in order of name, those after `after` (NULL: from the start), at most `count`.  Returns
 * how many were stored; 0 = no more.
 */
int ovsshm_list(struct ovsshm_conn *conn, const char *after, struct ovsshm_volume_info *infos,
                unsigned count);

/*
 * Snapshots work on open volumes too; I/O pauses meanwhile.  -ENOENT no such volume or snapshot,
 * -EEXIST duplicate, -EOPNOTSUPP the store has no snapshots, create -ETIMEDOUT (timeout_s: > 0 wait
 * at most so long for the snapshot to be safe, 0 for ever, < 0 do not wait).  rollback drops all
 * newer snapshots.  list: as ovsshm_list, oldest first.  is_synced: 1 or 0.
 */
int ovsshm_snapshot_create(struct ovsshm_conn *conn, const char *volume, const char *snapshot,
                           int64_t timeout_s);
int ovsshm_snapshot_rollback(struct ovsshm_conn *conn, const char *volume, const char *snapshot);
int ovsshm_snapshot_remove(struct ovsshm_conn *conn, const char *volume, const char *snapshot);
int ovsshm_snapshot_is_synced(struct ovsshm_conn *conn, const char *volume, const char *snapshot);
int ovsshm_snapshot_list(struct ovsshm_conn *conn, const char *volume, const char *after,
                         struct ovsshm_snapshot_info *infos, unsigned count);

/* ---- volume ------------------------------------------------------------------------------ */

/* Zeroed members mean the default. */
struct ovsshm_open_params {
    uint32_t mode;        /* OVSSHM_MODE_READ or _WRITE; default READ */
    uint32_t queues;      /* 1 */
    uint32_t depth;       /* requests in flight per queue; 256 */
    uint32_t resv;        /* 0 */
    uint64_t arena_bytes; /* shared buffers; 64 MiB, or the server's limit if less */
    uint64_t spin_ns_max; /* cap of the self-tuning poll; UINT64_MAX = never poll; default:
                             $OVS_SHM_SPIN_NS (0 there: never poll), else 60 us */
};

/*
 * Opens a volume on a session of its own (a second socket connection); conn may be closed
 * afterwards. params NULL: defaults.  -ENOENT, -EBUSY another session has it open for writing and
 * so do we want to, -EINVAL bad name or parameter, -EROFS the store cannot write.
 */
int ovsshm_open(struct ovsshm_conn *conn, const char *name, const struct ovsshm_open_params *params,
                struct ovsshm_volume **volume);

/*
 * Closes at once: requests in flight are dropped and never complete.  No queue may be in use.
 */
void ovsshm_close(struct ovsshm_volume *volume);

/* Limits and layout, fixed while it is open. */
struct ovsshm_limits {
    uint32_t block_bytes;       /* offsets and lengths must be multiples; 1 = any */
    uint32_t request_bytes_max; /* longer reads and writes are split by the library */
    uint32_t range_bytes_max;
    uint32_t depth;
    uint32_t queues;
    uint32_t resv;
    uint64_t arena_bytes;
    uint64_t capabilities; /* enum ovsshm_capability */
};
const struct ovsshm_limits *ovsshm_volume_limits(const struct ovsshm_volume *volume);

/* The size now.  Follows a resize by anybody; no system call. */
uint64_t ovsshm_volume_bytes(const struct ovsshm_volume *volume);

/* 0, or -ENOTCONN once the server is gone or has ended the session.  No system call. */
int ovsshm_volume_state(const struct ovsshm_volume *volume);

/* As the connection's calls, on this volume and its session.  set_mode: -EBUSY, -EROFS. */
int ovsshm_volume_stat(struct ovsshm_volume *volume, struct ovsshm_volume_info *info);
int ovsshm_volume_resize(struct ovsshm_volume *volume, uint64_t size_bytes);
int ovsshm_volume_set_mode(struct ovsshm_volume *volume, uint32_t mode);

/* Next event of the server without waiting: 1 and *event, or 0. */
int ovsshm_volume_event(struct ovsshm_volume *volume, struct ovsshm_msg_event *event);

/*
 * Readable when an event has come in, and for good once the session is over.  A call or a queue
 * that waits meanwhile may take the event in, so ask ovsshm_volume_event() before sleeping on it.
 */
int ovsshm_volume_fd(const struct ovsshm_volume *volume);

/*
 * Ends the session at once, from any thread: what other threads wait for fails with -ENOTCONN, and
 * requests in flight complete with it.  ovsshm_close() is still needed.
 */
void ovsshm_volume_abort(struct ovsshm_volume *volume);

/* ---- buffers ----------------------------------------------------------------------------- */

/*
 * Memory in the shared arena: requests on it are not copied.  Any part of a buffer can be used, by
 * several requests at once.  Aligned to 4096 when bytes >= 4096, else to 512; contents undefined.
 * Returns NULL when the arena is full or bytes is 0.  ovsshm_close() frees what is left.
 */
void *ovsshm_buffer_alloc(struct ovsshm_volume *volume, size_t bytes);
void ovsshm_buffer_free(struct ovsshm_volume *volume, void *buffer);

/* True when all of [address, address + bytes) is in the arena. */
bool ovsshm_buffer_is_shared(const struct ovsshm_volume *volume, const void *address, size_t bytes);

/*
 * Keeps the shared memory mapped beyond ovsshm_close(), for those who may still look at a buffer
 * then: the session ends all the same, and what is in the buffers stays as it was.  Every hold is
 * released once, with the volume open or closed; the last to let go unmaps.  After ovsshm_close()
 * there are no buffers to free any more.  Never fails.  Any thread.
 */
struct ovsshm_memory *ovsshm_volume_hold(struct ovsshm_volume *volume);
void ovsshm_memory_release(struct ovsshm_memory *memory);

/* ---- queue: the data path ---------------------------------------------------------------- */

/* One request.  Zeroed members mean none. */
struct ovsshm_io {
    uint8_t op;    /* enum ovsshm_op */
    uint8_t flags; /* OVSSHM_SQE_FUA, OVSSHM_SQE_MAY_UNMAP */
    uint16_t resv;
    uint32_t iov_count;    /* > 0: iov is used instead of buffer */
    uint64_t offset_bytes; /* in the volume */
    uint64_t length_bytes; /* of the volume range; with iov the sum of its lengths */
    union {
        void *buffer;            /* anywhere: outside of the arena it is bounced */
        const struct iovec *iov; /* the array too must live until completion */
    };
    uint64_t extents_max; /* block-status: room of buffer (struct ovsshm_extent[]) */
    uint64_t user_data;   /* returned with the completion */
};

struct ovsshm_completion {
    uint64_t user_data;
    int64_t result; /* see below, or -errno */
};

/*
 * Results.  read: bytes, short only at the end of the volume, 0 beyond it; write: all bytes; flush,
 * discard, write-zeroes: 0; block-status: number of extents, which start at offset_bytes and may
 * end before offset + length.  Errors: -EFBIG a write, discard or write-zeroes reaches beyond the
 * end, -EINVAL misaligned to block_bytes, -EBADF not open for writing, -EOPNOTSUPP the store
 * cannot, -ENOSPC, -EIO, -ENOTCONN the server went away first (the request may or may not have been
 * done).
 *
 * Requests in flight together may be done in any order.  A flush covers all writes completed before
 * it was submitted.
 */

struct ovsshm_queue *ovsshm_volume_queue(struct ovsshm_volume *volume, unsigned index);
struct ovsshm_volume *ovsshm_queue_volume(struct ovsshm_queue *queue);

/*
 * Takes a request; it is not visible to the server before ovsshm_queue_submit().  0; -EAGAIN depth
 * requests are in flight or no bounce memory is free (reap first); -EINVAL; -EBADF; -ENOTCONN.
 */
int ovsshm_queue_prep(struct ovsshm_queue *queue, const struct ovsshm_io *io);

/* Makes all prepared requests visible and rings the doorbell if the server sleeps.  Their number.
 */
int ovsshm_queue_submit(struct ovsshm_queue *queue);

/* Stores at most `count` completions; never blocks.  Their number. */
int ovsshm_queue_poll(struct ovsshm_queue *queue, struct ovsshm_completion *completions,
                      unsigned count);

/*
 * As poll, but when there is none, polls on for as long as that has lately been worth it (at most
 * spin_ns_max; not at all when it would keep the server from running).  0: arm, and sleep on the
 * fd.
 */
int ovsshm_queue_spin(struct ovsshm_queue *queue, struct ovsshm_completion *completions,
                      unsigned count);

/*
 * As spin, then sleeps.  timeout_ns < 0: no limit.  0 = timed out or nothing in flight.  Ends
 * within bounded time when the server dies: its requests complete with -ENOTCONN.
 */
int ovsshm_queue_wait(struct ovsshm_queue *queue, struct ovsshm_completion *completions,
                      unsigned count, int64_t timeout_ns);

/*
 * For event loops.  The fd is readable when completions, an event of the server or the server's end
 * wait; it belongs to the queue.  Before sleeping on it: ovsshm_queue_arm(), and sleep only if that
 * returns 0 (1: there is something to poll already).  After waking: ovsshm_queue_disarm(), then
 * poll.
 */
int ovsshm_queue_fd(const struct ovsshm_queue *queue);
int ovsshm_queue_arm(struct ovsshm_queue *queue);
void ovsshm_queue_disarm(struct ovsshm_queue *queue);

/* Cheap look for completions to poll, for an event loop's own polling phase. */
bool ovsshm_queue_ready(const struct ovsshm_queue *queue);

/* Prepared or submitted and not yet returned by poll. */
unsigned ovsshm_queue_in_flight(const struct ovsshm_queue *queue);

/* What the queue has cost so far; exact, for tests and cost sheets. */
struct ovsshm_queue_counters {
    uint64_t requests;
    uint64_t doorbells;     /* rung towards the server: one system call each */
    uint64_t sleeps;        /* in ovsshm_queue_wait or armed by the user */
    uint64_t bounced_bytes; /* copied between the user's memory and the arena */
};
struct ovsshm_queue_counters ovsshm_queue_counters(const struct ovsshm_queue *queue);

/* Submits one request and waits for it; completions of others are kept for their poll. */
int64_t ovsshm_queue_run(struct ovsshm_queue *queue, const struct ovsshm_io *io);

#ifdef __cplusplus
}
#endif

#endif
