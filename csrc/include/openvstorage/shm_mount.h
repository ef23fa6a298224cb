/* SPDX-License-Identifier: MIT */
/*
 * The volumes of a server as files: a FUSE mount, served by threads of this process over the same
 * store.
 *
 *     ovsshm_server_start -> ovsshm_mount_create -> ovsshm_mount_start -> ... -> ovsshm_mount_stop
 *                         -> ovsshm_mount_destroy -> ovsshm_server_stop
 *
 * Threads: calls come from any one thread at a time, never from `unmounted`.  A mount has threads
 * of its own for requests and one that tells the kernel what has changed behind its back.
 *
 * Ownership: the mount borrows the server, which must outlive it.  Destroy accepts NULL.
 *
 * Errors: 0 or -errno, with a sentence for people.
 */
#ifndef OPENVSTORAGE_SHM_MOUNT_H
#define OPENVSTORAGE_SHM_MOUNT_H

#include <openvstorage/shm_server.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ovsshm_mount;

enum ovsshm_mount_cache {
    OVSSHM_MOUNT_CACHE_NONE = 0,      /* every read and write reaches the store at once */
    OVSSHM_MOUNT_CACHE_AUTO = 1,      /* reads from the page cache while a file is open */
    OVSSHM_MOUNT_CACHE_WRITEBACK = 2, /* writes too; a flush of the file writes them back */
};

enum ovsshm_mount_io_uring {
    OVSSHM_MOUNT_IO_URING_AUTO = 0, /* if libfuse (3.18) and the kernel can */
    OVSSHM_MOUNT_IO_URING_ON = 1,   /* or -EOPNOTSUPP */
    OVSSHM_MOUNT_IO_URING_OFF = 2,
};

/* Zeroed members mean the default, where one is given. */
struct ovsshm_mount_params {
    const char *path; /* the mount point: an empty directory outside of `files` */
    /*
     * Directory of directories and plain files.  Given: the pool of a store that keeps volume NAME
     * there as the file NAME + volume_suffix.  NULL: a private one, gone with the mount.
     */
    const char *files;
    const char *volume_suffix; /* NULL or "": every regular file is a volume */
    enum ovsshm_mount_cache cache;
    uint32_t threads;        /* most that serve requests; 10 */
    uint32_t max_write;      /* bytes per request, multiple of 4096, at most 1 MiB; 1 MiB */
    uint32_t max_background; /* asynchronous requests under way; 128 */
    bool allow_other;        /* others than the user of this process; modes are checked */
    bool shared_fd;          /* all threads read one descriptor of /dev/fuse */
    bool splice;             /* plain files: from the page cache without a copy of ours */
    enum ovsshm_mount_io_uring io_uring;
    struct ovsshm_log log;
    /* It was unmounted by somebody else and serves no more.  From a thread of the mount; NULL. */
    void (*unmounted)(void *arg);
    void *arg;
};

/* Checks all that can be checked; -EINVAL, -ENOENT, -ENOTDIR, -ENOTEMPTY, -EBUSY, ... */
int ovsshm_mount_create(struct ovsshm_server *server, const struct ovsshm_mount_params *params,
                        struct ovsshm_mount **mount, struct ovsshm_error *error);

/* Mounts and serves; a dead mount at the same place is replaced.  The server has been started. */
int ovsshm_mount_start(struct ovsshm_mount *mount, struct ovsshm_error *error);

/*
 * Unmounts; when it is in use, it is taken out of sight and its users get errors.  Requests under
 * way are finished, volumes closed.  Again is fine.
 */
void ovsshm_mount_stop(struct ovsshm_mount *mount);

void ovsshm_mount_destroy(struct ovsshm_mount *mount);

#ifdef __cplusplus
}
#endif

#endif
