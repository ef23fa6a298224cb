/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "stores/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/atomic.h"

/* How much is copied between two looks at the clock. */
#define COPY_BYTES (16 << 20)

int
ovsshm_file_tmp_create(struct file_store *fs, struct file_tmp *tmp)
{
    tmp->renamed = false;
    unsigned number = ovsshm_add_relaxed(&fs->tmp_sequence, 1);
    snprintf(tmp->name, sizeof(tmp->name), "%u", number);
    tmp->fd =
        openat(fs->tmp_fd, tmp->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return tmp->fd < 0 ? -errno : 0;
}

int
ovsshm_file_tmp_link(struct file_store *fs, struct file_tmp *tmp, int root_fd, const char *path)
{
    const char *leaf;
    pthread_mutex_lock(&fs->names);
    int rc = 0;
    int fd = ovsshm_file_open_parent(root_fd, path, true, &leaf);
    if (fd < 0) {
        rc = fd;
    } else if (linkat(fs->tmp_fd, tmp->name, fd, leaf, 0)) {
        rc = -errno;
    } else if (fsync(fd)) {
        rc = -errno;
        unlinkat(fd, leaf, 0);
    }
    if (fd >= 0) {
        close(fd);
    }
    if (rc) {
        ovsshm_file_prune(fs, root_fd, path);
    }
    pthread_mutex_unlock(&fs->names);
    return rc;
}

int
ovsshm_file_tmp_rename(struct file_store *fs, struct file_tmp *tmp, int root_fd, const char *path)
{
    const char *leaf;
    int fd = ovsshm_file_open_parent(root_fd, path, false, &leaf);
    if (fd < 0) {
        return fd;
    }
    tmp->renamed = renameat(fs->tmp_fd, tmp->name, fd, leaf) == 0;
    int rc = tmp->renamed && !fsync(fd) && !fsync(fs->tmp_fd) ? 0 : -errno;
    close(fd);
    return rc;
}

void
ovsshm_file_tmp_end(struct file_store *fs, struct file_tmp *tmp)
{
    if (tmp->fd >= 0) {
        close(tmp->fd);
    }
    if (!tmp->renamed) {
        unlinkat(fs->tmp_fd, tmp->name, 0);
    }
}

/* Copies one run of data, sending it on its way to the disk, so that the fsync has little left. */
static int
copy_data(int from, int to, off_t at, off_t end, uint64_t deadline_ns)
{
    while (at < end) {
        if (deadline_ns && ovsshm_file_now_ns() >= deadline_ns) {
            return -ETIMEDOUT;
        }
        loff_t in = at, out = at;
        size_t want = end - at < COPY_BYTES ? (size_t)(end - at) : COPY_BYTES;
        ssize_t got = copy_file_range(from, &in, to, &out, want, 0);
        if (got < 0 && errno != EINTR) {
            return -errno;
        }
        if (got == 0) {
            return -EIO; /* the source has become shorter */
        }
        if (got > 0) {
            sync_file_range(to, at, got, SYNC_FILE_RANGE_WRITE);
            at += got;
        }
    }
    return 0;
}

static int
copy_sparse(int from, int to, off_t bytes, uint64_t deadline_ns)
{
    if (ftruncate(to, bytes)) {
        return -errno;
    }
    for (off_t data = 0, hole; data < bytes; data = hole) {
        data = lseek(from, data, SEEK_DATA);
        if (data < 0) {
            return errno == ENXIO ? 0 : -errno;
        }
        hole = lseek(from, data, SEEK_HOLE);
        if (hole < 0) {
            return -errno;
        }
        int rc = copy_data(from, to, data, hole < bytes ? hole : bytes, deadline_ns);
        if (rc) {
            return rc;
        }
    }
    return 0;
}

static int
clone_file(int from, int to)
{
    return ioctl(to, FICLONE, from) ? -errno : 0;
}

int
ovsshm_file_copy(int from, int to, uint64_t deadline_ns)
{
    struct stat st;
    if (fstat(from, &st)) {
        return -errno;
    }
    int rc = clone_file(from, to);
    if (rc == -EOPNOTSUPP || rc == -ENOTTY || rc == -EXDEV || rc == -EINVAL || rc == -ENOSYS) {
        rc = copy_sparse(from, to, st.st_size, deadline_ns);
    }
    return rc;
}
