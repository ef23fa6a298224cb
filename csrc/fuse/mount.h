/* SPDX-License-Identifier: MIT */
/*
 * The parts of a mount.
 *
 *     mount.c          create, start, stop
 *     point.c          the mount point: checks, mounting, unmounting, the watcher
 *     loop.c           the threads that read requests
 *     uring.c          whether they come by io_uring
 *     ops.c            all of them, what is settled at the start, and what is refused
 *     ops_namespace.c  names: lookup, create, remove
 *     ops_attributes.c attributes and sizes
 *     ops_directory.c  directories: list
 *     ops_data.c       contents: open, read, write, flush, allocate, seek
 *     rename.c         one of them
 *     resolve.c        what is at a path, and its attributes
 *     listing.c        what is in a directory
 *     volume.c         an open volume and who uses it
 *     files.c          directories, plain files, and the attributes of volumes
 *     notice.c         what the kernel is told of its own accord
 *     names.c          paths and volume names
 *     node.c           what the kernel knows
 *
 * A volume is opened once in the server however many files are open on it; so the files of one
 * mount share it as those of any file system do, and it conflicts with clients as one session.
 *
 * Lock order: names, a volume's io, tree.  While `names` is held for reading no path changes.
 */
#ifndef OVSSHM_FUSE_MOUNT_H
#define OVSSHM_FUSE_MOUNT_H

#define FUSE_USE_VERSION 312

#include <errno.h>
#include <fuse3/fuse_lowlevel.h>
#include <pthread.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include <openvstorage/shm_mount.h>

#include "server/local.h"
#include "server/log.h"

#define MNT_PATH_BYTES 1024  /* longest path within the mount */
#define MNT_NAME_MAX 255     /* longest component */
#define MNT_VALID_S 1.0      /* how long the kernel believes names and attributes */
#define MNT_BLOCK_BYTES 4096 /* st_blksize */

enum mnt_kind {
    MNT_DIRECTORY,
    MNT_VOLUME,
    MNT_FILE,
};

struct mnt_handle;

/* Something the kernel has looked up.  Its address is the kernel's number of it. */
struct mnt_node {
    struct mnt_node *next;           /* tree: of its bucket */
    LIST_ENTRY(mnt_node) all;        /* tree */
    struct mnt_node *parent;         /* tree; NULL: the root */
    char *name;                      /* tree */
    uint64_t references;             /* tree: the kernel's, those of children and of calls */
    bool linked;                     /* tree: is found under its name */
    LIST_HEAD(, mnt_handle) handles; /* tree */
    uint64_t id;                     /* st_ino; never used again */
    enum mnt_kind kind;

    /* Volumes.  For reading: I/O.  For writing: what is below, sizes, names. */
    pthread_rwlock_t io;
    struct local *local; /* NULL: not open in the server now */
    unsigned opens;      /* handles, */
    unsigned writers;    /* writable ones, */
    unsigned active;     /* ones that have not been closed by close(2) */
    int64_t written_at;  /* atomic; seconds of the last write; 0: none since it was noted */
};

/* An open file. */
struct mnt_handle {
    LIST_ENTRY(mnt_handle) link;
    struct mnt_node *node;
    int fd; /* plain files; -1 */
    bool writable;
    bool flushed; /* atomic: close(2) was called; its release follows, unless there are copies */
};

struct mnt_tree {
    pthread_mutex_t lock;
    struct mnt_node root;
    LIST_HEAD(, mnt_node) all; /* but the root */
    struct mnt_node **buckets;
    unsigned bucket_count; /* a power of 2 */
    unsigned node_count;
    uint64_t ids; /* given out */
};

struct mnt_loop {
    pthread_mutex_t lock;
    struct mnt_worker *workers; /* all there have been */
    unsigned count;             /* atomic: running */
    unsigned idle;              /* atomic: waiting for a request */
    bool stopping;              /* no more of them */
};

struct mnt_notices {
    pthread_mutex_t lock;
    pthread_cond_t not_empty; /* or stopping */
    STAILQ_HEAD(, mnt_notice) list;
    pthread_t thread;
    bool stopping;
    bool running; /* caller's thread */
};

struct ovsshm_mount {
    struct ovsshm_mount_params params; /* effective; its texts are ours */
    struct ovsshm_server *server;
    struct fuse_session *session;
    struct mnt_tree tree;
    struct mnt_loop loop;
    struct mnt_notices notices;
    pthread_rwlock_t names;
    int files_fd;        /* where directories and plain files are */
    bool backed;         /* volumes are there, too */
    char *private_files; /* path to be removed at the end; NULL: none */
    struct timespec created;
    char *point;    /* the mount point, resolved */
    int watcher_fd; /* its closing is the watcher's signal; -1: none */
    pid_t watcher_pid;
    bool helped; /* mounted by fusermount3 */
    bool uring;  /* requests come by io_uring */
    bool running;
    bool unmounted; /* atomic: by somebody else */
};

#define mnt_info(mount, ...) srv_log(&(mount)->params.log, OVSSHM_LOG_INFO, __VA_ARGS__)
#define mnt_warn(mount, ...) srv_log(&(mount)->params.log, OVSSHM_LOG_WARNING, __VA_ARGS__)
#define mnt_debug(mount, ...) srv_log(&(mount)->params.log, OVSSHM_LOG_DEBUG, __VA_ARGS__)

/* ---- node.c: threads: any ------------------------------------------------------------------- */

int mnt_tree_init(struct ovsshm_mount *mount);
/* There are no requests any more: closes what is open in the server; frees. */
void mnt_tree_close(struct ovsshm_mount *mount);
void mnt_tree_destroy(struct ovsshm_mount *mount);

struct mnt_node *mnt_node_of(struct ovsshm_mount *mount, fuse_ino_t ino);
fuse_ino_t mnt_node_ino(struct ovsshm_mount *mount, const struct mnt_node *node);

/* The node of this name and kind, made on demand, with a reference more.  -ENOMEM. */
int mnt_node_get(struct ovsshm_mount *mount, struct mnt_node *parent, const char *name,
                 enum mnt_kind kind, struct mnt_node **node);
/* The node that is known under this name, with a reference more; NULL: none. */
struct mnt_node *mnt_node_find(struct ovsshm_mount *mount, struct mnt_node *parent,
                               const char *name);
void mnt_node_put(struct ovsshm_mount *mount, struct mnt_node *node, uint64_t references);

/* No longer found under its name; whoever has it keeps it. */
void mnt_node_unlink(struct ovsshm_mount *mount, struct mnt_node *node);
/* Takes the place of what is there. -ENOMEM. */
int mnt_node_move(struct ovsshm_mount *mount, struct mnt_node *node, struct mnt_node *parent,
                  const char *name);

/* The path of a node, or of a name (NULL: none) in it; "" the root.  -ENOENT, -ENAMETOOLONG. */
int mnt_node_path(struct ovsshm_mount *mount, const struct mnt_node *node, const char *name,
                  char path[MNT_PATH_BYTES]);

/* Files open for writing, by id from `after` (0: the first) on: the id and path; 0: no more. */
uint64_t mnt_tree_next_written(struct ovsshm_mount *mount, uint64_t after,
                               char path[MNT_PATH_BYTES]);

void mnt_handle_link(struct ovsshm_mount *mount, struct mnt_handle *handle);
void mnt_handle_unlink(struct ovsshm_mount *mount, struct mnt_handle *handle);

/* ---- names.c -------------------------------------------------------------------------------- */

bool mnt_names_hidden(const char *component);

/* Is a file of this path a volume?  Then name is set; it may be one that no volume can have. */
bool mnt_names_volume(const struct ovsshm_mount *mount, const char *path,
                      char name[MNT_PATH_BYTES]);
/* 0, -EINVAL or -ENAMETOOLONG */
int mnt_names_check(const char *volume);

/* ---- files.c: below files_fd; "" is the directory itself ------------------------------------ */

int mnt_files_init(struct ovsshm_mount *mount, struct ovsshm_error *error);
void mnt_files_destroy(struct ovsshm_mount *mount);

int mnt_files_stat(struct ovsshm_mount *mount, const char *path, struct stat *st);
int mnt_files_open(struct ovsshm_mount *mount, const char *path, int flags);
/* What of a user's open(2) is to be the flags of a plain file. */
int mnt_files_flags(const struct ovsshm_mount *mount, int flags);
/* Made for `owner`, with its mode. */
int mnt_files_create(struct ovsshm_mount *mount, const char *path, int flags, mode_t mode,
                     const struct fuse_ctx *owner);
int mnt_files_mkdir(struct ovsshm_mount *mount, const char *path, mode_t mode,
                    const struct fuse_ctx *owner);
int mnt_files_rmdir(struct ovsshm_mount *mount, const char *path);
int mnt_files_unlink(struct ovsshm_mount *mount, const char *path);
int mnt_files_rename(struct ovsshm_mount *mount, const char *from, const char *to, bool replace);
/* Mode, owner and times of what is there; of a volume in a private directory: made for it. */
int mnt_files_set(struct ovsshm_mount *mount, const char *path, enum mnt_kind kind,
                  const struct stat *attributes, int which);

/* ---- resolve.c ------------------------------------------------------------------------------ */

/* What is at the path: kind and attributes (without st_ino).  -ENOENT. */
int mnt_resolve(struct ovsshm_mount *mount, const char *path, enum mnt_kind *kind, struct stat *st);
/* A reference for the kernel to what is there. */
int mnt_resolve_entry(struct ovsshm_mount *mount, struct mnt_node *parent, const char *name,
                      struct fuse_entry_param *entry);
/* The attributes of a node, also of one whose name is gone. */
int mnt_resolve_node(struct ovsshm_mount *mount, struct mnt_node *node, struct stat *st);
/* Is there a volume in it? 1, 0 or -errno */
int mnt_resolve_holds_volumes(struct ovsshm_mount *mount, const char *directory);

/* ---- listing.c ------------------------------------------------------------------------------ */

struct mnt_item {
    char *name;
    enum mnt_kind kind;
};

struct mnt_listing {
    struct mnt_item *items;
    unsigned count;
    unsigned room;
};

/* In byte order. */
int mnt_listing_create(struct ovsshm_mount *mount, const char *path, struct mnt_listing **listing);
void mnt_listing_destroy(struct mnt_listing *listing);

/* ---- volume.c ------------------------------------------------------------------------------- */

/* With `names` held.  -EBUSY: somebody else writes. */
int mnt_volume_open(struct ovsshm_mount *mount, struct mnt_handle *handle);
void mnt_volume_release(struct ovsshm_mount *mount, struct mnt_handle *handle);
void mnt_volume_flush(struct mnt_handle *handle); /* close(2) */

/* Between them the volume is open and keeps its size and name; alone: no other I/O of ours. */
int mnt_volume_enter(struct ovsshm_mount *mount, struct mnt_handle *handle, bool alone);
void mnt_volume_leave(struct mnt_handle *handle);

/* With `names` held. */
int mnt_volume_truncate(struct ovsshm_mount *mount, struct mnt_node *node, uint64_t size_bytes);
/* Not shorter than this. */
int mnt_volume_grow(struct ovsshm_mount *mount, struct mnt_node *node, uint64_t size_bytes);

/*
 * What the volume was grown for has failed: as long as before, if nobody has resized it since.  The
 * kernel lets nobody else write meanwhile, unless it writes pages back: then nothing is done.
 */
void mnt_volume_grow_undo(struct ovsshm_mount *mount, struct mnt_node *node, uint64_t before,
                          uint64_t size_bytes);

/*
 * With `names` held: nobody has it open in the server then, so that it can be renamed or removed.
 * -EBUSY when a file is open and `in_use` is not allowed.  Its lock is held until detach_end().
 */
int mnt_volume_detach(struct mnt_node *node, bool in_use);
void mnt_volume_detach_end(struct ovsshm_mount *mount, struct mnt_node *node);

/* ---- ops ------------------------------------------------------------------------------------ */

extern const struct fuse_lowlevel_ops mnt_ops;

/* What is gone behind the kernel's back: it looks again then, and may create it. */
static inline int
mnt_stale(int rc)
{
    return rc == -ENOENT ? -ESTALE : rc;
}

void mnt_op_lookup(fuse_req_t req, fuse_ino_t ino, const char *name);
void mnt_op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count);
void mnt_op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void mnt_op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void mnt_op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attributes, int which,
                    struct fuse_file_info *fi);
void mnt_op_create(fuse_req_t req, fuse_ino_t ino, const char *name, mode_t mode,
                   struct fuse_file_info *fi);
void mnt_op_mkdir(fuse_req_t req, fuse_ino_t ino, const char *name, mode_t mode);
void mnt_op_unlink(fuse_req_t req, fuse_ino_t ino, const char *name);
void mnt_op_rmdir(fuse_req_t req, fuse_ino_t ino, const char *name);
void mnt_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void mnt_op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void mnt_op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                    struct fuse_file_info *fi);
void mnt_op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                        struct fuse_file_info *fi);
void mnt_op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void mnt_op_rename(fuse_req_t req, fuse_ino_t ino, const char *name, fuse_ino_t new_ino,
                   const char *new_name, unsigned flags);
void mnt_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void mnt_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                 struct fuse_file_info *fi);
void mnt_op_write(fuse_req_t req, fuse_ino_t ino, const char *bytes, size_t size, off_t offset,
                  struct fuse_file_info *fi);
void mnt_op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void mnt_op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void mnt_op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void mnt_op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
                      struct fuse_file_info *fi);
void mnt_op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence,
                  struct fuse_file_info *fi);

/* Opens the node; *fh is set. With `names` held.  fd: of a plain file, taken over; -1: to open. */
int mnt_handle_create(struct ovsshm_mount *mount, struct mnt_node *node, int flags, int fd,
                      struct mnt_handle **handle);
void mnt_handle_destroy(struct ovsshm_mount *mount, struct mnt_handle *handle);
/* FOPEN_*: how the kernel is to treat a file of this kind. */
uint32_t mnt_open_flags(const struct ovsshm_mount *mount, enum mnt_kind kind);

/* ---- loop.c --------------------------------------------------------------------------------- */

int mnt_loop_start(struct ovsshm_mount *mount);
void mnt_loop_stop(struct ovsshm_mount *mount);

/* A thread that gets no signals: they are for those who asked for them. */
int mnt_thread_create(pthread_t *thread, void *(*run)(void *arg), void *arg);

/* Sends a reply on the descriptor its request came from. */
extern const struct fuse_custom_io mnt_loop_io;

/* ---- uring.c -------------------------------------------------------------------------------- */

/* Says in the log which way it is, and why.  -EOPNOTSUPP: it was asked for and cannot be. */
int mnt_uring_choose(struct ovsshm_mount *mount, struct ovsshm_error *error);
void mnt_uring_init(const struct ovsshm_mount *mount, struct fuse_conn_info *conn);

/* ---- notice.c ------------------------------------------------------------------------------- */

int mnt_notices_start(struct ovsshm_mount *mount);
void mnt_notices_stop(struct ovsshm_mount *mount); /* while requests are still served */

/* ---- mount.c -------------------------------------------------------------------------------- */

/* For the last thread of the loop: the kernel has ended the connection. */
void mnt_ended(struct ovsshm_mount *mount);

/* ---- point.c -------------------------------------------------------------------------------- */

int mnt_point_check(struct ovsshm_mount *mount, struct ovsshm_error *error);
/* The session is connected to the kernel then. */
int mnt_point_mount(struct ovsshm_mount *mount, struct ovsshm_error *error);
/* True: nobody uses it any more, so the kernel has ended the connection. */
bool mnt_point_unmount(struct ovsshm_mount *mount);

/* ---- watcher.c: unmounts when this process has been killed ---------------------------------- */

int mnt_watcher_start(struct ovsshm_mount *mount);
void mnt_watcher_stop(struct ovsshm_mount *mount);

/* Runs a program to its end; its exit code or -errno. */
int mnt_run(const char *const argv[]);

#endif
