/* SPDX-License-Identifier: MIT */
/*
 * Volumes for users inside of the server's process, such as a mount.
 *
 * A local is a session without a client: it has a volume open like any other, so it conflicts with
 * the sessions of clients, and its I/O is a call that blocks until the store is done.  No reactor
 * has a part in it: the caller's thread submits through a store group of its own.
 *
 *     srv_local_open -> srv_local_io ... -> srv_local_close
 *
 * Threads: any but the server's own; every call blocks.  Many threads may do I/O on one local at
 * once; closing it, changing its mode and I/O exclude each other, which is the caller's to see to.
 * A thread's group ends with the thread.  Threads that have one end, or call
 * srv_local_group_end(), before ovsshm_server_stop(); what is left then is ended by the stopping
 * thread, which not every store can bear.
 *
 * Ownership: a local is its opener's until close, also when the server has been stopped meanwhile
 * (then its calls return -ESHUTDOWN, and close only frees it).
 *
 * Errors: -errno as clients get them, with the same sentences.
 */
#ifndef OVSSHM_SERVER_LOCAL_H
#define OVSSHM_SERVER_LOCAL_H

#include <openvstorage/shm_server.h>

struct local;
struct local_group;

/* ---- one volume ----------------------------------------------------------------------------- */

/*
 * mode: enum ovsshm_mode.  -EBUSY: somebody else has it open for writing; a client that has just
 * gone is waited for.  -EROFS, -ENOENT, -ESHUTDOWN and what the store says.
 */
int srv_local_open(struct ovsshm_server *server, const char *name, uint32_t mode,
                   struct local **local, struct ovsshm_error *error);
int srv_local_set_mode(struct local *local, uint32_t mode, struct ovsshm_error *error);
void srv_local_close(struct local *local);

/*
 * It is about to be closed: whoever it stands in the way of waits a moment for that instead of
 * being refused.  I/O takes it back, and so does `false`.  May be called during I/O.
 */
void srv_local_leaving(struct local *local, bool leaving);

uint64_t srv_local_size(const struct local *local); /* to the byte */
uint32_t srv_local_block_bytes(const struct local *local);

/* ---- data ----------------------------------------------------------------------------------- */

/* The calling thread's, made on first use.  NULL: no memory, or the store or the server refuses. */
struct local_group *srv_local_group(struct ovsshm_server *server);

/* Ends the calling thread's group before the thread ends. */
void srv_local_group_end(struct ovsshm_server *server);

/*
 * Page-aligned memory of the group, kept from call to call: the same until one asks for more, or a
 * store holds it (ovsshm_request_hold) and so keeps it.  Its contents do not last.  NULL: no
 * memory.
 */
void *srv_local_buffer(struct local_group *group, size_t bytes);

struct local_io {
    uint8_t op;            /* enum ovsshm_op */
    uint8_t flags;         /* enum ovsshm_sqe_flag: FUA, MAY_UNMAP */
    uint32_t length_bytes; /* at most OVSSHM_RANGE_BYTES_MAX; flush: 0 */
    uint64_t offset_bytes;
    struct iovec *iov; /* read, write: adds up to length_bytes; the array may be modified */
    uint32_t iov_count;
    uint32_t extents_max; /* block-status */
    struct ovsshm_extent *extents;
};

/*
 * Blocks until it is done: bytes, extents, 0 or -errno as in completions.  A read ends where the
 * volume ends; what changes must lie within it (-EFBIG).  Offset and length are multiples of
 * block_bytes, or reach exactly to the end.  Waits while the volume is paused.  Data outside of
 * srv_local_buffer() is copied for stores that hold memory (OVSSHM_STORE_HOLDS).
 */
int64_t srv_local_io(struct local *local, struct local_group *group, const struct local_io *io);

/* ---- management: as the messages of clients, each one a job on its volume -------------------- */

int srv_local_create(struct ovsshm_server *server, const char *name, uint64_t size_bytes,
                     struct ovsshm_error *error);
int srv_local_remove(struct ovsshm_server *server, const char *name, struct ovsshm_error *error);

/*
 * The volume `from` becomes `to`; replace: also where one has this name, which then ends.  Neither
 * may be open: -EBUSY.  -EEXIST, -EOPNOTSUPP.
 */
int srv_local_rename(struct ovsshm_server *server, const char *from, const char *to, bool replace,
                     struct ovsshm_error *error);

/*
 * Sets the size to the byte, up or down; durable with the next flush.  -EBUSY: to shrink it while
 * clients have it open.  Of stores that cannot, volumes grow by whole sectors (-EINVAL, -EPERM).
 */
int srv_local_truncate(struct ovsshm_server *server, const char *name, uint64_t size_bytes,
                       struct ovsshm_error *error);

/* Sizes to the byte. */
int srv_local_stat(struct ovsshm_server *server, const char *name, struct ovsshm_volume_info *info);

/* In order, those behind `after` (NULL: from the first); their number. */
int srv_local_list(struct ovsshm_server *server, const char *after,
                   struct ovsshm_volume_info *infos, unsigned count);

/* ---- what clients do ------------------------------------------------------------------------ */

enum srv_local_event {
    SRV_LOCAL_CREATED,
    SRV_LOCAL_REMOVED,
    SRV_LOCAL_RESIZED,
    SRV_LOCAL_CHANGED, /* its contents: rolled back, or a client begins or has ended to write */
};

/*
 * From now on calls `changed` for what clients have done to volumes: from the server's threads, so
 * it must not block, nor call anything of this file.  NULL: no more, once this returns.  As long as
 * there is a watch the store knows that it is mounted.
 */
typedef void (*srv_local_changed_fn)(void *arg, const char *name, enum srv_local_event event);
void srv_local_watch(struct ovsshm_server *server, srv_local_changed_fn changed, void *arg);

#endif
