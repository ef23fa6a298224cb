/* SPDX-License-Identifier: MIT */
/*
 * Embedding the server, and writing a store for it.
 *
 *     create a store -> ovsshm_server_create -> ovsshm_server_start -> ... -> ovsshm_server_stop
 *
 * Threads: server calls come from any one thread at a time.  The server runs one control thread,
 * a few management workers and the reactors, which serve the rings.  Which of them calls a store is
 * said with each function.
 *
 * Ownership: destroy functions accept NULL.  The server borrows the store, which must outlive it.
 *
 * Errors: 0 or -errno; where a `struct ovsshm_error *` is passed it then holds a sentence for
 * people.
 */
#ifndef OPENVSTORAGE_SHM_SERVER_H
#define OPENVSTORAGE_SHM_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <openvstorage/shm_wire.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ovsshm_error {
    char reason[OVSSHM_NAME_BYTES];
};

/* ---- a store: the extension point ---------------------------------------------------------- */

#define OVSSHM_STORE_ABI 2

enum ovsshm_log_level {
    OVSSHM_LOG_ERROR = 0,
    OVSSHM_LOG_WARNING = 1,
    OVSSHM_LOG_INFO = 2,
    OVSSHM_LOG_DEBUG = 3,
};

/* Takes one line without a newline; any thread. */
typedef void (*ovsshm_log_fn)(void *arg, enum ovsshm_log_level level, const char *line);

struct ovsshm_log {
    ovsshm_log_fn write; /* NULL: silence */
    void *arg;
};

struct ovsshm_store_option {
    const char *key;
    const char *value;
};

struct ovsshm_store_params {
    const char *pool;                          /* directory, or NULL for stores that need none */
    const struct ovsshm_store_option *options; /* "key=value" of the command line and the config */
    unsigned option_count;
    struct ovsshm_log log;
};

/* A store and an open volume of it: the store puts these first in its own structures. */
struct ovsshm_store {
    const struct ovsshm_store_type *type;
    uint64_t capabilities; /* enum ovsshm_capability */
};

struct ovsshm_store_volume {
    struct ovsshm_store *store;
    uint64_t size_bytes;  /* kept right by volume_open, volume_resize, rollback */
    uint32_t block_bytes; /* requests are aligned to this; 1 = any */
};

/*
 * A request in the hands of a store.  Validated: the op is one the store can do, the range is not
 * empty, lies within the volume and is aligned (but ends where the volume ends), the iovecs are in
 * this client's memory and add up to length_bytes.  The memory is shared with a client that may
 * change it at any moment: read it once.
 */
struct ovsshm_request {
    struct ovsshm_store_volume *volume;
    uint64_t offset_bytes;
    uint32_t length_bytes; /* flush: 0 */
    uint8_t op;            /* enum ovsshm_op */
    uint8_t flags;         /* enum ovsshm_sqe_flag: FUA, MAY_UNMAP */
    uint16_t far;          /* 1: copy to its memory past the cache, the client runs far away */
    struct iovec *iov;     /* read, write: data.  The store may modify the array. */
    uint32_t iov_count;
    uint32_t extents_max;          /* block-status: room in extents */
    struct ovsshm_extent *extents; /* private memory, filled from offset_bytes on */
    void *store_private[4];        /* for the store, until completion */
};

/*
 * Ends a request, exactly once.  result: bytes for read and write, the number of extents for
 * block-status, 0 for the others, or -errno.  Any thread; cheapest from the thread that submitted.
 */
void ovsshm_request_complete(struct ovsshm_request *request, int32_t result);

/*
 * Keeps the memory that a request's iovecs point to mapped beyond its completion, and beyond the
 * session's end, for stores whose users may still look at it then.  It is all memory that the
 * client shares, and the client may use it for something else as soon as the request is complete.
 * Every hold is released once; the last to let go unmaps.  Never fails.  Any thread, before
 * completion.  Stores that do this say so: OVSSHM_STORE_HOLDS.
 */
struct ovsshm_memory;
struct ovsshm_memory *ovsshm_request_hold(struct ovsshm_request *request);
void ovsshm_memory_release(struct ovsshm_memory *memory);

enum ovsshm_store_flag {
    OVSSHM_STORE_HOLDS = 1u << 0, /* calls ovsshm_request_hold() */
};

/*
 * A group is one thread's door to the store (an io_uring, a queue to a thread pool).  Stores that
 * complete everything inside submit() need none.  A store keeps a request until it is done, also
 * when the client has gone meanwhile; its volume is busy until then.
 */
struct ovsshm_store_type {
    uint32_t abi;        /* OVSSHM_STORE_ABI */
    uint32_t flags;      /* enum ovsshm_store_flag */
    const char *name;    /* "file" */
    const char *summary; /* one line for --help */
    const char *options; /* help text of the options, one per line, or NULL */

    int (*create)(const struct ovsshm_store_params *params, struct ovsshm_store **store,
                  struct ovsshm_error *error);
    void (*destroy)(struct ovsshm_store *store);

    /*
     * Management, by worker threads; may block.  Calls that name the same volume never overlap.
     * NULL for what the store cannot do.  Names and sizes are valid.  list: as ovsshm_list in
     * shm.h.
     */
    int (*volume_create)(struct ovsshm_store *store, const char *name, uint64_t size_bytes,
                         struct ovsshm_error *error);
    int (*volume_remove)(struct ovsshm_store *store, const char *name, struct ovsshm_error *error);
    int (*volume_stat)(struct ovsshm_store *store, const char *name,
                       struct ovsshm_volume_info *info);
    int (*volume_list)(struct ovsshm_store *store, const char *after,
                       struct ovsshm_volume_info *infos, unsigned count);
    /* Grows; the server has refused to shrink.  open: the volume if it is open, else NULL. */
    int (*volume_resize)(struct ovsshm_store *store, const char *name,
                         struct ovsshm_store_volume *open, uint64_t size_bytes,
                         struct ovsshm_error *error);

    /*
     * For a mount.  Neither volume is open.  `to` may exist and is replaced, atomically as far as
     * the store can; the snapshots of `from` go with it, those of the replaced one end.
     */
    int (*volume_rename)(struct ovsshm_store *store, const char *from, const char *to,
                         struct ovsshm_error *error);
    /*
     * For a mount: sets the size up or down to any number of bytes, cheaply; durable with the next
     * flush.  What was cut off reads as zeroes when it grows again.  open: as above; when it
     * shrinks, no request of it is in flight.
     */
    int (*volume_truncate)(struct ovsshm_store *store, const char *name,
                           struct ovsshm_store_volume *open, uint64_t size_bytes,
                           struct ovsshm_error *error);

    /* A mount begins or ends to show the store: directories are its users' then, and stay when they
     * become empty.  Any thread. */
    void (*set_mounted)(struct ovsshm_store *store, bool mounted);

    /* As above.  If the volume is open, it is passed and no request of it is in flight. */
    int (*snapshot_create)(struct ovsshm_store *store, const char *volume,
                           struct ovsshm_store_volume *open, const char *snapshot,
                           int64_t timeout_s, struct ovsshm_error *error);
    int (*snapshot_rollback)(struct ovsshm_store *store, const char *volume,
                             struct ovsshm_store_volume *open, const char *snapshot,
                             struct ovsshm_error *error);
    int (*snapshot_remove)(struct ovsshm_store *store, const char *volume, const char *snapshot,
                           struct ovsshm_error *error);
    int (*snapshot_is_synced)(struct ovsshm_store *store, const char *volume, const char *snapshot);
    int (*snapshot_list)(struct ovsshm_store *store, const char *volume, const char *after,
                         struct ovsshm_snapshot_info *infos, unsigned count);

    /* A volume is opened once, however many sessions use it; writable: at least one may write. */
    int (*volume_open)(struct ovsshm_store *store, const char *name,
                       struct ovsshm_store_volume **volume, struct ovsshm_error *error);
    void (*volume_close)(struct ovsshm_store_volume *volume);

    /*
     * Data path.  All calls for a group are made by one and the same thread, a reactor's or one of
     * a mount, from group_create to group_destroy: what is the thread's own (a thread-local, an
     * attachment to an interpreter) may be made in group_create, used in submit and poll, undone in
     * group_destroy. Without group_create, submit is still called by these threads only, several at
     * once.
     */
    int (*group_create)(struct ovsshm_store *store, void **group);
    /*
     * Stops what the group has under way.  After it the store must not touch a request of the
     * group, also none that it still holds and has not completed: the server frees them.
     */
    void (*group_destroy)(void *group);
    /* Starts requests of any volumes of this store; they may complete inside.  Must not block long.
     */
    void (*submit)(struct ovsshm_store *store, void *group, struct ovsshm_request **requests,
                   unsigned count);
    /* Completes what is finished; called while requests are in flight.  Their number. */
    unsigned (*poll)(void *group);
    /* Readable when poll() would find something; the reactor sleeps on it.  -1: none, because all
     * that does not complete inside is completed by other threads. */
    int (*group_fd)(void *group);
};

/* The stores that come with the server. */
extern const struct ovsshm_store_type ovsshm_store_file;
extern const struct ovsshm_store_type ovsshm_store_memory;
extern const struct ovsshm_store_type ovsshm_store_null;
extern const struct ovsshm_store_type ovsshm_store_fault;

/* All of them, NULL-terminated; find by name, or NULL. */
extern const struct ovsshm_store_type *const ovsshm_store_types[];
const struct ovsshm_store_type *ovsshm_store_find(const char *name);

/*
 * A store from a shared object, which stays loaded: its symbol of this name is the struct
 * ovsshm_store_type.  -ENOENT cannot be loaded, -EINVAL no store or one for another ABI.
 */
#define OVSSHM_STORE_SYMBOL "ovsshm_store_plugin"
int ovsshm_store_load(const char *path, const struct ovsshm_store_type **type,
                      struct ovsshm_error *error);

/* ---- the server ---------------------------------------------------------------------------- */

struct ovsshm_server;

/* Zeroed members mean the default. */
struct ovsshm_server_params {
    const char *socket_path; /* NULL: no clients, for a server that only mounts */
    uint32_t socket_mode;    /* permissions; 0660 */
    uint32_t reactors;       /* threads; 1 per 2 CPUs, at least 1, at most 4 */
    bool socket_owner_set;   /* chown the socket to these */
    uid_t socket_uid;
    gid_t socket_gid;
    const uid_t *allow_uids;  /* peers by SO_PEERCRED besides root and our own uid; */
    unsigned allow_uid_count; /* both lists empty: everybody the socket admits */
    const gid_t *allow_gids;
    unsigned allow_gid_count;
    uint32_t depth_max;         /* 4096 */
    uint32_t queues_max;        /* 64 */
    uint32_t request_bytes_max; /* 1 MiB */
    uint32_t connections_max;   /* 1024 */
    uint64_t arena_bytes_max;   /* per session; 256 MiB */
    uint64_t spin_ns_max;       /* cap of the self-tuning poll; UINT64_MAX = never poll */
    struct ovsshm_log log;
};

/* Binds the socket, if any: -EADDRINUSE another server answers there (a stale socket is replaced).
 */
int ovsshm_server_create(const struct ovsshm_server_params *params, struct ovsshm_store *store,
                         struct ovsshm_server **server, struct ovsshm_error *error);

/* Starts the threads and begins to accept; returns when clients can connect. */
int ovsshm_server_start(struct ovsshm_server *server, struct ovsshm_error *error);

/*
 * Stops accepting, tells clients, lets requests in flight finish for at most drain_ns, then ends
 * all sessions and joins the threads.  0, or -ETIMEDOUT when requests had to be dropped.
 */
int ovsshm_server_stop(struct ovsshm_server *server, uint64_t drain_ns);

void ovsshm_server_destroy(struct ovsshm_server *server);

void ovsshm_server_status(struct ovsshm_server *server, struct ovsshm_status *status);

/* The limits it will tell clients, after defaults have been filled in. */
const struct ovsshm_server_params *ovsshm_server_effective(const struct ovsshm_server *server);

#ifdef __cplusplus
}
#endif

#endif
