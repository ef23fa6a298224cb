/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "stores/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/log.h"
#include "shared/atomic.h"

/*
 * Direct writes and writes through the page cache must not meet in a page, so beside direct I/O all
 * requests are fit for it.
 */
uint32_t
ovsshm_file_block_bytes(const struct file_store *fs)
{
    return fs->direct ? fs->direct_offset_align : 1;
}

/* Why it could not be opened, in words. */
static int
open_error(struct file_store *fs, const char *name, int rc, struct ovsshm_error *error)
{
    struct stat st;
    if (rc == -ENOENT && fstatat(fs->pool_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        return srv_error(error, rc, "\"%.100s\" is not a regular file, so it is no volume", name);
    }
    return srv_error(error, rc, "volume \"%.100s\": %s", name, strerror(-rc));
}

static int
create_error(struct file_store *fs, const char *name, int rc, struct ovsshm_error *error)
{
    struct stat st;
    switch (rc) {
    case -EEXIST:
        if (!fstatat(fs->pool_fd, name, &st, AT_SYMLINK_NOFOLLOW) && !S_ISREG(st.st_mode)) {
            return srv_error(error, rc, "\"%.100s\" exists and is no volume but a %s", name,
                             S_ISDIR(st.st_mode) ? "directory" : "special file");
        }
        return srv_error(error, rc, "volume \"%.100s\" exists already", name);
    case -ENOTDIR:
        return srv_error(error, rc, "volume \"%.100s\": a part of its path is no directory", name);
    case -EFBIG:
        return srv_error(error, rc, "volume \"%.100s\": larger than the file system can hold",
                         name);
    default:
        return srv_error(error, rc, "cannot create volume \"%.100s\": %s", name, strerror(-rc));
    }
}

static bool
exists(struct file_store *fs, const char *name)
{
    const char *leaf;
    struct stat st;
    int fd = ovsshm_file_open_parent(fs->pool_fd, name, false, &leaf);
    bool found = fd >= 0 && !fstatat(fd, leaf, &st, AT_SYMLINK_NOFOLLOW);
    if (fd >= 0) {
        close(fd);
    }
    return found;
}

static int
fill_in(struct file_store *fs, struct file_tmp *tmp, const char *name, uint64_t size_bytes)
{
    if (exists(fs, name)) {
        return -EEXIST;
    }
    if (ftruncate(tmp->fd, (off_t)size_bytes) || fsync(tmp->fd)) {
        return -errno;
    }
    /* Left over when a remove was cut short: not to be taken for snapshots of the new volume. */
    int rc = ovsshm_file_remove_directory(fs, fs->snapshots_fd, name);
    return rc && rc != -ENOENT ? rc : ovsshm_file_tmp_link(fs, tmp, fs->pool_fd, name);
}

int
ovsshm_file_volume_create(struct ovsshm_store *store, const char *name, uint64_t size_bytes,
                          struct ovsshm_error *error)
{
    struct file_store *fs = (struct file_store *)store;
    struct file_tmp tmp;
    int rc = ovsshm_file_tmp_create(fs, &tmp);
    if (rc == 0) {
        rc = fill_in(fs, &tmp, name, size_bytes);
        ovsshm_file_tmp_end(fs, &tmp);
    }
    return rc ? create_error(fs, name, rc, error) : 0;
}

int
ovsshm_file_volume_remove(struct ovsshm_store *store, const char *name, struct ovsshm_error *error)
{
    struct file_store *fs = (struct file_store *)store;
    int fd = ovsshm_file_open_regular(fs->pool_fd, name, O_RDONLY);
    if (fd < 0) {
        return open_error(fs, name, fd, error);
    }
    close(fd);
    /* The volume first: cut short here, it is gone and a new one does not inherit its snapshots. */
    int rc = ovsshm_file_unlink(fs, fs->pool_fd, name);
    if (rc) {
        return srv_error(error, rc, "cannot remove volume \"%.100s\": %s", name, strerror(-rc));
    }
    rc = ovsshm_file_remove_directory(fs, fs->snapshots_fd, name);
    if (rc && rc != -ENOENT) {
        srv_log(&fs->log, OVSSHM_LOG_WARNING,
                "volume \"%.100s\" is removed, its snapshots are not: %s", name, strerror(-rc));
    }
    return 0;
}

int
ovsshm_file_volume_stat(struct ovsshm_store *store, const char *name,
                        struct ovsshm_volume_info *info)
{
    struct file_store *fs = (struct file_store *)store;
    int fd = ovsshm_file_open_beneath(fs->pool_fd, name, O_PATH | O_NOFOLLOW);
    if (fd < 0) {
        return fd == -EACCES ? fd : -ENOENT;
    }
    struct stat st;
    int rc = fstat(fd, &st) ? -errno : S_ISREG(st.st_mode) ? 0 : -ENOENT;
    close(fd);
    if (rc) {
        return rc;
    }
    *info = (struct ovsshm_volume_info){
        .size_bytes = (uint64_t)st.st_size,
        .allocated_bytes = (uint64_t)st.st_blocks * 512,
        .block_bytes = ovsshm_file_block_bytes(fs),
        .snapshots = ovsshm_file_snapshot_count(fs, name),
    };
    strcpy(info->name, name);
    return 0;
}

/* open NULL: the volume is not open. */
static int
set_size(struct file_store *fs, const char *name, struct ovsshm_store_volume *open,
         uint64_t size_bytes, bool durably, struct ovsshm_error *error)
{
    int fd = open ? ((struct file_volume *)open)->fd
                  : ovsshm_file_open_regular(fs->pool_fd, name, O_RDWR);
    if (fd < 0) {
        return open_error(fs, name, fd, error);
    }
    int rc = ftruncate(fd, (off_t)size_bytes) || (durably && fsync(fd)) ? -errno : 0;
    if (!open) {
        close(fd);
    } else if (rc == 0) {
        open->size_bytes = size_bytes;
        ovsshm_add(&((struct file_volume *)open)->changes, 1); /* the next flush is for this too */
    }
    return rc == 0 ? 0
                   : srv_error(error, rc, "cannot resize volume \"%.100s\" to %llu bytes: %s", name,
                               (unsigned long long)size_bytes, strerror(-rc));
}

int
ovsshm_file_volume_resize(struct ovsshm_store *store, const char *name,
                          struct ovsshm_store_volume *open, uint64_t size_bytes,
                          struct ovsshm_error *error)
{
    return set_size((struct file_store *)store, name, open, size_bytes, true, error);
}

int
ovsshm_file_volume_truncate(struct ovsshm_store *store, const char *name,
                            struct ovsshm_store_volume *open, uint64_t size_bytes,
                            struct ovsshm_error *error)
{
    return set_size((struct file_store *)store, name, open, size_bytes, false, error);
}

int
ovsshm_file_open_direct(struct file_store *fs, int root_fd, const char *path)
{
    return fs->direct ? ovsshm_file_open_regular(root_fd, path, O_RDWR | O_DIRECT) : -1;
}

void
ovsshm_file_volume_use(struct file_volume *volume, int fd, int direct_fd, uint64_t size_bytes)
{
    if (volume->fd >= 0) {
        close(volume->fd);
    }
    if (volume->direct_fd >= 0) {
        close(volume->direct_fd);
    }
    if (direct_fd >= 0) {
        /* Read-ahead would only fill the cache with what direct writes must invalidate. */
        posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    }
    volume->fd = fd;
    volume->direct_fd = direct_fd;
    volume->base.size_bytes = size_bytes;
    ovsshm_store_relaxed(&volume->sync_error, 0);
    ovsshm_add(&volume->changes, 1); /* whatever a previous life left: the first flush is real */
}

int
ovsshm_file_volume_open(struct ovsshm_store *store, const char *name,
                        struct ovsshm_store_volume **out, struct ovsshm_error *error)
{
    struct file_store *fs = (struct file_store *)store;
    struct stat st;
    int fd = ovsshm_file_open_regular(fs->pool_fd, name, O_RDWR);
    if (fd < 0) {
        return open_error(fs, name, fd, error);
    }
    int direct_fd = ovsshm_file_open_direct(fs, fs->pool_fd, name);
    struct file_volume *volume = calloc(1, sizeof(*volume));
    int rc = !volume ? -ENOMEM : fstat(fd, &st) ? -errno : 0;
    if (rc == 0 && fs->direct && direct_fd < 0) {
        rc = direct_fd;
    }
    if (rc) {
        free(volume);
        close(fd);
        if (direct_fd >= 0) {
            close(direct_fd);
        }
        return open_error(fs, name, rc, error);
    }
    volume->base.store = store;
    volume->base.block_bytes = ovsshm_file_block_bytes(fs);
    volume->fd = volume->direct_fd = -1;
    strcpy(volume->name, name);
    ovsshm_file_volume_use(volume, fd, direct_fd, (uint64_t)st.st_size);
    *out = &volume->base;
    return 0;
}

void
ovsshm_file_volume_close(struct ovsshm_store_volume *base)
{
    struct file_volume *volume = (struct file_volume *)base;
    if (volume) {
        close(volume->fd);
        if (volume->direct_fd >= 0) {
            close(volume->direct_fd);
        }
        free(volume);
    }
}
