/* SPDX-License-Identifier: MIT */
/*
 * The parts of the file store: sparse files under a pool directory, one per volume.
 *
 *     POOL/dir/vol                             the volume "dir/vol"
 *     POOL/.openvstorage/lock                  held by the server, with its pid
 *     POOL/.openvstorage/snapshots/VOLUME/NAME its snapshots, ordered by modification time
 *     POOL/.openvstorage/tmp/                  files under construction; emptied at start
 *     POOL/.openvstorage/tmp/rename            what is being renamed, see file_rename.c
 *
 * A file appears under its name only when it is complete and on disk.  No symbolic link below the
 * pool is followed.
 *
 * Data path: a request is a sequence of steps, each one system call (file_step.c).  What should not
 * block is tried in the reactor itself (file_io.c); the rest is done by an engine, an io_uring
 * (file_uring.c) or threads (file_threads.c).
 *
 * Threads: names, volumes and snapshots by management workers, a group by its reactor.
 */
#ifndef OVSSHM_STORE_FILE_H
#define OVSSHM_STORE_FILE_H

#include <pthread.h>

#include <openvstorage/shm_server.h>

/* Longest path under snapshots/, and of a file in tmp/. */
#define FILE_PATH_BYTES (2 * OVSSHM_NAME_BYTES)
#define FILE_TMP_BYTES 32
#define FILE_SUFFIX_BYTES 33

struct file_group;

/* How steps are done that the reactor does not do itself.  All by the group's reactor. */
struct file_engine {
    const char *name;
    int (*probe)(void); /* 0, or why this machine cannot */
    int (*create)(struct ovsshm_store *store, void **group);
    void (*destroy)(void *group); /* waits for what is in flight */
    void (*start)(struct file_group *group, struct ovsshm_request *request);
    void (*kick)(struct file_group *group); /* after the last start of a batch */
    unsigned (*poll)(void *group);
    int (*fd)(void *group);
};
extern const struct file_engine ovsshm_file_uring;
extern const struct file_engine ovsshm_file_threads;

/* First in the groups of both engines. */
struct file_group {
    const struct file_engine *engine;
    unsigned in_flight;
};

struct file_store {
    struct ovsshm_store base;
    struct ovsshm_log log;
    const struct file_engine *engine;
    unsigned threads_max; /* per group */
    bool direct;
    bool mounted;                      /* atomic */
    char suffix[FILE_SUFFIX_BYTES];    /* of the files that are volumes; "": all */
    struct ovsshm_store_type suffixed; /* the type, if there is one */
    bool can_punch;                    /* fallocate: PUNCH_HOLE, ZERO_RANGE */
    bool can_zero;
    uint32_t direct_offset_align;
    uint32_t direct_memory_align;
    uint32_t hole_align; /* beside direct I/O */
    int pool_fd;         /* directories */
    int snapshots_fd;
    int tmp_fd;
    int lock_fd;
    unsigned tmp_sequence;   /* atomic */
    pthread_mutex_t names;   /* held while directories come and go */
    pthread_mutex_t renames; /* held as long as tmp/rename is somebody's; before names */
};

struct file_volume {
    struct ovsshm_store_volume base;
    int fd;
    int direct_fd;             /* -1 without direct */
    bool read_may_block;       /* atomic; the file system knows no RWF_NOWAIT */
    int sync_error;            /* atomic; a sync failed: what was lost is unknown */
    uint64_t suspect_until_ns; /* atomic; a write took long: watch the next ones */
    uint64_t busy_until_ns;    /* atomic; writes block: leave the reactor alone */
    uintptr_t changes;         /* atomic; count of completed changes ... */
    uintptr_t changes_synced;  /* ... and how many of them the last sync covered */
    char name[OVSSHM_NAME_BYTES];
};

/* ---- file_names.c: below a directory, without following links ------------------------------- */

int ovsshm_file_open_beneath(int root_fd, const char *path, int flags);

/* As above; -ENOENT when it is no regular file. */
int ovsshm_file_open_regular(int root_fd, const char *path, int flags);

/* The directory that path is in, made on demand, durably.  *leaf points into path. */
int ovsshm_file_open_parent(int root_fd, const char *path, bool make, const char **leaf);

/* Unlinks path durably, then the directories above it that have become empty. */
int ovsshm_file_unlink(struct file_store *fs, int root_fd, const char *path);

/*
 * Removes the directories above path as long as they are empty, unless they are the users' of a
 * mount; with fs->names held.
 */
void ovsshm_file_prune(struct file_store *fs, int root_fd, const char *path);

/* Removes the directory and the regular files in it, then the empty directories above. */
int ovsshm_file_remove_directory(struct file_store *fs, int root_fd, const char *path);

/* Calls visit for each regular file in the directory; stops at a negative result.  -ENOENT. */
typedef int (*ovsshm_file_visit_fn)(void *arg, int directory_fd, const char *name);
int ovsshm_file_visit(int root_fd, const char *path, ovsshm_file_visit_fn visit, void *arg);

/* ---- file_list.c ---------------------------------------------------------------------------- */

int ovsshm_file_list(struct ovsshm_store *store, const char *after,
                     struct ovsshm_volume_info *infos, unsigned count);

/* ---- file_tmp.c: a file under construction -------------------------------------------------- */

struct file_tmp {
    int fd;
    bool renamed; /* the name has been taken over, whatever came after */
    char name[FILE_TMP_BYTES];
};

int ovsshm_file_tmp_create(struct file_store *fs, struct file_tmp *tmp);

/* Gives it a name that must be free (-EEXIST), or takes the name over; both durably. */
int ovsshm_file_tmp_link(struct file_store *fs, struct file_tmp *tmp, int root_fd,
                         const char *path);
int ovsshm_file_tmp_rename(struct file_store *fs, struct file_tmp *tmp, int root_fd,
                           const char *path);

/* Closes it (unless fd has been taken: -1) and unlinks what is left in tmp/. */
void ovsshm_file_tmp_end(struct file_store *fs, struct file_tmp *tmp);

/*
 * Makes `to` a copy of `from`, by reflink or by copying all but the holes; not synced yet.
 * deadline_ns: CLOCK_MONOTONIC, 0 = none.  -ETIMEDOUT, -ENOSPC, ...
 */
int ovsshm_file_copy(int from, int to, uint64_t deadline_ns);

/* ---- file_volume.c -------------------------------------------------------------------------- */

int ovsshm_file_volume_create(struct ovsshm_store *store, const char *name, uint64_t size_bytes,
                              struct ovsshm_error *error);
int ovsshm_file_volume_remove(struct ovsshm_store *store, const char *name,
                              struct ovsshm_error *error);
int ovsshm_file_volume_stat(struct ovsshm_store *store, const char *name,
                            struct ovsshm_volume_info *info);
int ovsshm_file_volume_resize(struct ovsshm_store *store, const char *name,
                              struct ovsshm_store_volume *open, uint64_t size_bytes,
                              struct ovsshm_error *error);
int ovsshm_file_volume_truncate(struct ovsshm_store *store, const char *name,
                                struct ovsshm_store_volume *open, uint64_t size_bytes,
                                struct ovsshm_error *error);
int ovsshm_file_volume_open(struct ovsshm_store *store, const char *name,
                            struct ovsshm_store_volume **volume, struct ovsshm_error *error);
void ovsshm_file_volume_close(struct ovsshm_store_volume *volume);

/* Opens path beneath root for direct I/O: -1 without the option, else an fd or -errno. */
int ovsshm_file_open_direct(struct file_store *fs, int root_fd, const char *path);

/* Lets an open volume go on with another file.  Takes the fds over. */
void ovsshm_file_volume_use(struct file_volume *volume, int fd, int direct_fd, uint64_t size_bytes);

/* What requests must be aligned to. */
uint32_t ovsshm_file_block_bytes(const struct file_store *fs);

/* ---- file_rename.c -------------------------------------------------------------------------- */

int ovsshm_file_volume_rename(struct ovsshm_store *store, const char *from, const char *to,
                              struct ovsshm_error *error);

/* What a crash has cut short; before tmp/ is emptied. */
int ovsshm_file_rename_finish(struct file_store *fs);

/* ---- file_suffix.c -------------------------------------------------------------------------- */

/* From now on only files with fs->suffix are volumes. */
void ovsshm_file_use_suffix(struct file_store *fs);

/* ---- file_snapshot.c ------------------------------------------------------------------------ */

int ovsshm_file_snapshot_create(struct ovsshm_store *store, const char *volume,
                                struct ovsshm_store_volume *open, const char *snapshot,
                                int64_t timeout_s, struct ovsshm_error *error);
int ovsshm_file_snapshot_rollback(struct ovsshm_store *store, const char *volume,
                                  struct ovsshm_store_volume *open, const char *snapshot,
                                  struct ovsshm_error *error);
int ovsshm_file_snapshot_remove(struct ovsshm_store *store, const char *volume,
                                const char *snapshot, struct ovsshm_error *error);
int ovsshm_file_snapshot_is_synced(struct ovsshm_store *store, const char *volume,
                                   const char *snapshot);
int ovsshm_file_snapshot_list(struct ovsshm_store *store, const char *volume, const char *after,
                              struct ovsshm_snapshot_info *infos, unsigned count);
unsigned ovsshm_file_snapshot_count(struct file_store *fs, const char *volume);

/* ---- file_io.c ------------------------------------------------------------------------------ */

void ovsshm_file_submit(struct ovsshm_store *store, void *group, struct ovsshm_request **requests,
                        unsigned count);

/* Ends a request whose steps are over. */
void ovsshm_file_finish(struct ovsshm_request *request);

uint64_t ovsshm_file_now_ns(void); /* CLOCK_MONOTONIC */

/* ---- file_step.c ---------------------------------------------------------------------------- */

enum file_step_kind {
    FILE_STEP_READ,
    FILE_STEP_WRITE,
    FILE_STEP_SYNC,
    FILE_STEP_ALLOCATE,
};

/* One system call. */
struct file_step {
    enum file_step_kind kind;
    int fd;
    int flags; /* RWF_*, or the mode of fallocate */
    unsigned iov_count;
    const struct iovec *iov; /* of the request, or &zeroes */
    struct iovec zeroes;     /* read at once: the step need not outlive its start */
    uint64_t offset_bytes;
    uint64_t length_bytes; /* to allocate */
};

/* True: it has ended already. */
bool ovsshm_file_request_begin(struct ovsshm_request *request);

/* The step to do now. */
void ovsshm_file_step_get(const struct ovsshm_request *request, struct file_step *step);

/* Does it; bytes, 0 or -errno. */
int64_t ovsshm_file_step_run(const struct file_step *step);

/* Takes its result; true: it was the last one. */
bool ovsshm_file_step_end(struct ovsshm_request *request, int64_t result);

/* What the store keeps in a request, until completion. */
enum file_private {
    FILE_NEXT,                 /* a list the request is in */
    FILE_PHASE,                /* where in its sequence of steps it is */
    FILE_DONE_BYTES,           /* of the phase; of a flush: the changes it covers */
    FILE_RESULT,               /* once it is over */
    FILE_BOUNCE = FILE_RESULT, /* until then: memory of ours, or NULL */
};

static inline uintptr_t
file_private_get(const struct ovsshm_request *request, enum file_private which)
{
    return (uintptr_t)request->store_private[which];
}

static inline void
file_private_set(struct ovsshm_request *request, enum file_private which, uintptr_t value)
{
    request->store_private[which] = (void *)value;
}

#endif
