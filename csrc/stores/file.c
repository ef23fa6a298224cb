/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "stores/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "server/log.h"
#include "shared/atomic.h"

#define OWN_DIRECTORY ".openvstorage"
#define THREADS_DEFAULT 8
#define THREADS_MAX 256

/* ---- options -------------------------------------------------------------------------------- */

static int
bad_value(const struct ovsshm_store_option *option, const char *wanted, struct ovsshm_error *error)
{
    return srv_error(error, -EINVAL, "option %.80s=%.80s of the file store: must be %s",
                     option->key, option->value, wanted);
}

static int
set_engine(struct file_store *fs, const struct ovsshm_store_option *option,
           struct ovsshm_error *error)
{
    int rc = ovsshm_file_uring.probe();
    if (!strcmp(option->value, "auto")) {
        fs->engine = rc ? &ovsshm_file_threads : &ovsshm_file_uring;
    } else if (!strcmp(option->value, "threads")) {
        fs->engine = &ovsshm_file_threads;
    } else if (strcmp(option->value, "io_uring")) {
        return bad_value(option, "auto, io_uring or threads", error);
    } else if (rc) {
        return srv_error(error, rc, "engine=io_uring: not possible here: %s", strerror(-rc));
    } else {
        fs->engine = &ovsshm_file_uring;
    }
    return 0;
}

static int
set_direct(struct file_store *fs, const struct ovsshm_store_option *option,
           struct ovsshm_error *error)
{
    if (strcmp(option->value, "on") && strcmp(option->value, "off")) {
        return bad_value(option, "on or off", error);
    }
    fs->direct = !strcmp(option->value, "on");
    return 0;
}

static int
set_threads(struct file_store *fs, const struct ovsshm_store_option *option,
            struct ovsshm_error *error)
{
    char *end;
    unsigned long threads = strtoul(option->value, &end, 10);
    if (*end || option->value[0] < '0' || option->value[0] > '9' || threads < 1 ||
        threads > THREADS_MAX) {
        return bad_value(option, "a number from 1 to 256", error);
    }
    fs->threads_max = (unsigned)threads;
    return 0;
}

static int
set_suffix(struct file_store *fs, const struct ovsshm_store_option *option,
           struct ovsshm_error *error)
{
    if (strchr(option->value, '/') || strlen(option->value) >= sizeof(fs->suffix)) {
        return bad_value(option, "an ending such as .raw of at most 32 bytes", error);
    }
    strcpy(fs->suffix, option->value);
    return 0;
}

static int
set_options(struct file_store *fs, const struct ovsshm_store_params *params,
            struct ovsshm_error *error)
{
    static const struct {
        const char *key;
        int (*set)(struct file_store *, const struct ovsshm_store_option *, struct ovsshm_error *);
    } known[] = {
        {"engine", set_engine},
        {"direct", set_direct},
        {"threads", set_threads},
        {"suffix", set_suffix},
    };
    const struct ovsshm_store_option automatic = {"engine", "auto"};
    fs->threads_max = THREADS_DEFAULT;
    int rc = set_engine(fs, &automatic, error);
    for (unsigned i = 0; rc == 0 && i < params->option_count; i++) {
        const struct ovsshm_store_option *option = &params->options[i];
        rc = srv_error(error, -EINVAL, "the file store has no option \"%.100s\"", option->key);
        for (unsigned k = 0; k < sizeof(known) / sizeof(known[0]); k++) {
            if (!strcmp(option->key, known[k].key)) {
                rc = known[k].set(fs, option, error);
            }
        }
    }
    return rc;
}

/* ---- the pool directory --------------------------------------------------------------------- */

static int
open_pool(struct file_store *fs, const char *pool, struct ovsshm_error *error)
{
    if (!pool || !pool[0]) {
        return srv_error(error, -EINVAL, "the file store needs a pool directory");
    }
    fs->pool_fd = open(pool, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fs->pool_fd >= 0) {
        return 0;
    }
    int rc = -errno;
    if (rc == -ENOENT) {
        return srv_error(error, rc, "pool directory %.150s does not exist: create it first", pool);
    }
    if (rc == -ENOTDIR) {
        return srv_error(error, rc, "pool %.150s is not a directory", pool);
    }
    return srv_error(error, rc, "pool directory %.150s: %s", pool, strerror(-rc));
}

static int
make_directory(int root_fd, const char *path)
{
    if (mkdirat(root_fd, path, 0700) && errno != EEXIST) {
        return -errno;
    }
    return ovsshm_file_open_beneath(root_fd, path, O_RDONLY | O_DIRECTORY);
}

static int
make_own_files(struct file_store *fs)
{
    int own_fd = make_directory(fs->pool_fd, OWN_DIRECTORY);
    if (own_fd < 0) {
        return own_fd;
    }
    fs->lock_fd = openat(own_fd, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    int rc = fs->lock_fd < 0 ? -errno : 0;
    if (rc == 0) {
        fs->snapshots_fd = make_directory(own_fd, "snapshots");
        fs->tmp_fd = make_directory(own_fd, "tmp");
        rc = fs->snapshots_fd < 0 ? fs->snapshots_fd : fs->tmp_fd < 0 ? fs->tmp_fd : 0;
    }
    if (rc == 0 && (fsync(own_fd) || fsync(fs->pool_fd))) {
        rc = -errno;
    }
    close(own_fd);
    return rc;
}

static int
make_own(struct file_store *fs, const char *pool, struct ovsshm_error *error)
{
    int rc = make_own_files(fs);
    switch (rc) {
    case 0: return 0;
    case -EROFS:
        return srv_error(error, rc, "pool directory %.150s is on a read-only file system", pool);
    case -EACCES:
    case -EPERM:
        return srv_error(error, rc, "pool directory %.150s: no permission to write in it", pool);
    default:
        return srv_error(error, rc, "pool directory %.150s: cannot set up " OWN_DIRECTORY ": %s",
                         pool, strerror(-rc));
    }
}

/* The kernel drops the lock when we die; the pid in it is for people. */
static int
lock_pool(struct file_store *fs, const char *pool, struct ovsshm_error *error)
{
    char pid[32] = "";
    if (flock(fs->lock_fd, LOCK_EX | LOCK_NB)) {
        int rc = -errno;
        if (rc != -EWOULDBLOCK) {
            return srv_error(error, rc, "pool directory %.150s: cannot lock: %s", pool,
                             strerror(-rc));
        }
        ssize_t got = pread(fs->lock_fd, pid, sizeof(pid) - 1, 0);
        pid[got > 0 ? strspn(pid, "0123456789") : 0] = '\0';
        return srv_error(error, -EBUSY,
                         "pool directory %.150s is in use by another server (pid %s)", pool,
                         pid[0] ? pid : "unknown");
    }
    int length = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
    if (ftruncate(fs->lock_fd, 0) || pwrite(fs->lock_fd, pid, (size_t)length, 0) != length) {
        /* A full disk must not keep people from removing what fills it. */
        srv_log(&fs->log, OVSSHM_LOG_WARNING, "pool directory %.150s: cannot write our pid: %s",
                pool, strerror(errno));
    }
    return 0;
}

static int
visit_leftover(void *arg, int directory_fd, const char *name)
{
    (*(unsigned *)arg)++;
    return unlinkat(directory_fd, name, 0) && errno != ENOENT ? -errno : 0;
}

static int
finish_rename(struct file_store *fs, const char *pool, struct ovsshm_error *error)
{
    int rc = ovsshm_file_rename_finish(fs);
    return rc ? srv_error(error, rc,
                          "pool directory %.150s: cannot finish a rename (" OWN_DIRECTORY
                          "/tmp/rename): %s",
                          pool, strerror(-rc))
              : 0;
}

/* What a crash left under construction.  Only with the lock held. */
static int
empty_tmp(struct file_store *fs, const char *pool, struct ovsshm_error *error)
{
    unsigned count = 0;
    int rc = ovsshm_file_visit(fs->tmp_fd, ".", visit_leftover, &count);
    if (rc) {
        return srv_error(error, rc, "pool directory %.150s: cannot empty " OWN_DIRECTORY "/tmp: %s",
                         pool, strerror(-rc));
    }
    if (count) {
        srv_log(&fs->log, OVSSHM_LOG_INFO, "removed %u unfinished files of an earlier server",
                count);
    }
    return 0;
}

/* ---- what the file system can do ------------------------------------------------------------ */

static uint32_t
hole_align(int fd)
{
    struct statvfs fs;
    unsigned long page = (unsigned long)sysconf(_SC_PAGESIZE);
    return (uint32_t)(!fstatvfs(fd, &fs) && fs.f_bsize > page ? fs.f_bsize : page);
}

static void
probe_direct(struct file_store *fs, const char *name)
{
    struct statx st;
    fs->hole_align = hole_align(fs->tmp_fd);
    fs->direct_offset_align = fs->direct_memory_align = OVSSHM_PAGE_BYTES; /* enough anywhere */
#ifdef STATX_DIOALIGN
    if (!statx(fs->tmp_fd, name, AT_SYMLINK_NOFOLLOW, STATX_DIOALIGN, &st) &&
        (st.stx_mask & STATX_DIOALIGN) && st.stx_dio_offset_align && st.stx_dio_mem_align) {
        fs->direct_offset_align = st.stx_dio_offset_align;
        fs->direct_memory_align = st.stx_dio_mem_align;
    }
#else
    (void)st;
    (void)name;
#endif
}

static int
probe_file(struct file_store *fs, const struct file_tmp *tmp)
{
    const int keep = FALLOC_FL_KEEP_SIZE;
    if (ftruncate(tmp->fd, 2 * OVSSHM_PAGE_BYTES)) {
        return -errno;
    }
    fs->can_punch = !fallocate(tmp->fd, FALLOC_FL_PUNCH_HOLE | keep, 0, OVSSHM_PAGE_BYTES);
    fs->can_zero = !fallocate(tmp->fd, FALLOC_FL_ZERO_RANGE | keep, 0, OVSSHM_PAGE_BYTES);
    probe_direct(fs, tmp->name);
    int fd = ovsshm_file_open_direct(fs, fs->tmp_fd, tmp->name);
    if (fd >= 0) {
        close(fd);
    }
    return fs->direct && fd < 0 ? fd : 0;
}

static int
probe_pool(struct file_store *fs, const char *pool, struct ovsshm_error *error)
{
    struct file_tmp tmp;
    int rc = ovsshm_file_tmp_create(fs, &tmp);
    if (rc == 0) {
        rc = probe_file(fs, &tmp);
        ovsshm_file_tmp_end(fs, &tmp);
    }
    if (rc && fs->direct) {
        return srv_error(error, rc,
                         "the file system of pool directory %.150s has no direct I/O (%s): "
                         "use direct=off",
                         pool, strerror(-rc));
    }
    return rc ? srv_error(error, rc, "pool directory %.150s: %s", pool, strerror(-rc)) : 0;
}

/* ---- the store ------------------------------------------------------------------------------ */

static void
close_all(const int *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
}

static void
file_destroy(struct ovsshm_store *store)
{
    struct file_store *fs = (struct file_store *)store;
    if (fs) {
        /* The lock last: until then nobody else may touch the pool. */
        close_all((int[]){fs->tmp_fd, fs->snapshots_fd, fs->pool_fd, fs->lock_fd}, 4);
        pthread_mutex_destroy(&fs->renames);
        pthread_mutex_destroy(&fs->names);
        free(fs);
    }
}

static int
file_create(const struct ovsshm_store_params *params, struct ovsshm_store **store,
            struct ovsshm_error *error)
{
    struct file_store *fs = calloc(1, sizeof(*fs));
    if (!fs) {
        return srv_error(error, -ENOMEM, "no memory");
    }
    fs->base.type = &ovsshm_store_file;
    fs->log = params->log;
    fs->pool_fd = fs->snapshots_fd = fs->tmp_fd = fs->lock_fd = -1;
    pthread_mutex_init(&fs->names, NULL);
    pthread_mutex_init(&fs->renames, NULL);
    int rc = set_options(fs, params, error);
    rc = rc ? rc : open_pool(fs, params->pool, error);
    rc = rc ? rc : make_own(fs, params->pool, error);
    rc = rc ? rc : lock_pool(fs, params->pool, error);
    rc = rc ? rc : finish_rename(fs, params->pool, error);
    rc = rc ? rc : empty_tmp(fs, params->pool, error);
    rc = rc ? rc : probe_pool(fs, params->pool, error);
    if (rc) {
        file_destroy(&fs->base);
        return rc;
    }
    fs->base.capabilities = OVSSHM_CAP_WRITE | OVSSHM_CAP_WRITE_ZEROES | OVSSHM_CAP_BLOCK_STATUS |
                            OVSSHM_CAP_RESIZE | OVSSHM_CAP_SNAPSHOT | OVSSHM_CAP_MANAGE |
                            (fs->can_punch ? OVSSHM_CAP_DISCARD : 0);
    srv_log(&fs->log, OVSSHM_LOG_INFO, "file store on %s: engine %s, direct I/O %s", params->pool,
            fs->engine->name, fs->direct ? "on" : "off");
    if (fs->suffix[0]) {
        ovsshm_file_use_suffix(fs);
    }
    *store = &fs->base;
    return 0;
}

static void
set_mounted(struct ovsshm_store *store, bool mounted)
{
    ovsshm_store_relaxed(&((struct file_store *)store)->mounted, mounted);
}

static int
group_create(struct ovsshm_store *store, void **group)
{
    return ((struct file_store *)store)->engine->create(store, group);
}

static void
group_destroy(void *group)
{
    if (group) {
        ((struct file_group *)group)->engine->destroy(group);
    }
}

static unsigned
group_poll(void *group)
{
    return ((struct file_group *)group)->engine->poll(group);
}

static int
group_fd(void *group)
{
    return ((struct file_group *)group)->engine->fd(group);
}

const struct ovsshm_store_type ovsshm_store_file = {
    .abi = OVSSHM_STORE_ABI,
    .name = "file",
    .summary = "sparse files in a directory; snapshots by reflink or sparse copy",
    .options = "engine=auto|io_uring|threads  for what may block; auto: io_uring if it works\n"
               "direct=off|on                 past the page cache where requests are aligned\n"
               "threads=8                     most threads per reactor with engine=threads\n"
               "suffix=.raw                   only files that end so are volumes, named without it",
    .create = file_create,
    .destroy = file_destroy,
    .volume_create = ovsshm_file_volume_create,
    .volume_remove = ovsshm_file_volume_remove,
    .volume_stat = ovsshm_file_volume_stat,
    .volume_list = ovsshm_file_list,
    .volume_resize = ovsshm_file_volume_resize,
    .volume_rename = ovsshm_file_volume_rename,
    .volume_truncate = ovsshm_file_volume_truncate,
    .set_mounted = set_mounted,
    .snapshot_create = ovsshm_file_snapshot_create,
    .snapshot_rollback = ovsshm_file_snapshot_rollback,
    .snapshot_remove = ovsshm_file_snapshot_remove,
    .snapshot_is_synced = ovsshm_file_snapshot_is_synced,
    .snapshot_list = ovsshm_file_snapshot_list,
    .volume_open = ovsshm_file_volume_open,
    .volume_close = ovsshm_file_volume_close,
    .group_create = group_create,
    .group_destroy = group_destroy,
    .submit = ovsshm_file_submit,
    .poll = group_poll,
    .group_fd = group_fd,
};
