/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "volume_io.h"

static struct mnt_handle *
handle_of(const struct fuse_file_info *fi)
{
    return (struct mnt_handle *)(uintptr_t)fi->fh;
}

static bool
is_volume(const struct fuse_file_info *fi)
{
    return handle_of(fi)->node->kind == MNT_VOLUME;
}

static int
open_file(struct ovsshm_mount *mount, const struct mnt_node *node, int flags)
{
    char path[MNT_PATH_BYTES];
    int rc = mnt_node_path(mount, node, NULL, path);
    return rc ? rc : mnt_files_open(mount, path, mnt_files_flags(mount, flags) | O_NONBLOCK);
}

int
mnt_handle_create(struct ovsshm_mount *mount, struct mnt_node *node, int flags, int fd,
                  struct mnt_handle **out)
{
    struct mnt_handle *handle = calloc(1, sizeof(*handle));
    int rc = handle ? 0 : -ENOMEM;
    if (rc == 0) {
        *handle = (struct mnt_handle){
            .node = node, .fd = fd, .writable = (flags & O_ACCMODE) != O_RDONLY};
        if (node->kind == MNT_VOLUME) {
            rc = mnt_volume_open(mount, handle);
        } else if (fd < 0) {
            rc = handle->fd = open_file(mount, node, flags);
        }
    }
    if (rc < 0) {
        free(handle);
        if (fd >= 0) {
            close(fd);
        }
        return rc;
    }
    mnt_handle_link(mount, handle);
    *out = handle;
    return 0;
}

void
mnt_handle_destroy(struct ovsshm_mount *mount, struct mnt_handle *handle)
{
    if (handle->node->kind == MNT_VOLUME) {
        mnt_volume_release(mount, handle);
    } else {
        close(handle->fd);
    }
    mnt_handle_unlink(mount, handle);
    free(handle);
}

void
mnt_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct ovsshm_mount *mount = fuse_req_userdata(req);
    struct mnt_node *node = mnt_node_of(mount, ino);
    struct mnt_handle *handle;
    pthread_rwlock_rdlock(&mount->names);
    int rc = mnt_handle_create(mount, node, fi->flags, -1, &handle);
    pthread_rwlock_unlock(&mount->names);
    if (rc) {
        fuse_reply_err(req, -mnt_stale(rc));
        return;
    }
    /* By hand: libfuse 3.14 has no word for parallel writes. */
    bool direct = node->kind == MNT_VOLUME && mount->params.cache == OVSSHM_MOUNT_CACHE_NONE;
    struct fuse_open_out out = {
        .fh = (uintptr_t)handle,
        .open_flags = direct ? FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES : 0,
    };
    if (fuse_reply_buf(req, (const char *)&out, sizeof(out)) == -ENOENT) {
        mnt_handle_destroy(mount, handle); /* interrupted: there will be no release */
    }
}

void
mnt_op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    mnt_handle_destroy(fuse_req_userdata(req), handle_of(fi));
    fuse_reply_err(req, 0);
}

void
mnt_op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    if (is_volume(fi)) {
        mnt_volume_flush(handle_of(fi));
    }
    fuse_reply_err(req, 0);
}

static void
read_file(fuse_req_t req, int fd, size_t size, off_t offset)
{
    struct fuse_bufvec data = FUSE_BUFVEC_INIT(size);
    data.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
    data.buf[0].fd = fd;
    data.buf[0].pos = offset;
    fuse_reply_data(req, &data, FUSE_BUF_SPLICE_MOVE);
}

void
mnt_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
    char *bytes;
    (void)ino;
    if (!is_volume(fi)) {
        read_file(req, handle_of(fi)->fd, size, offset);
        return;
    }
    int64_t rc =
        mnt_volume_read(fuse_req_userdata(req), handle_of(fi), size, (uint64_t)offset, &bytes);
    if (rc < 0) {
        fuse_reply_err(req, (int)-rc);
    } else {
        fuse_reply_buf(req, bytes, (size_t)rc);
    }
}

static int64_t
write_file(int fd, const char *bytes, size_t size, off_t offset)
{
    ssize_t written = pwrite(fd, bytes, size, offset);
    return written < 0 ? -errno : written;
}

void
mnt_op_write(fuse_req_t req, fuse_ino_t ino, const char *bytes, size_t size, off_t offset,
             struct fuse_file_info *fi)
{
    bool durable = fi->flags & (O_SYNC | O_DSYNC);
    (void)ino;
    int64_t rc = is_volume(fi) ? mnt_volume_write(fuse_req_userdata(req), handle_of(fi), bytes,
                                                  size, (uint64_t)offset, durable)
                               : write_file(handle_of(fi)->fd, bytes, size, offset);
    if (rc < 0) {
        fuse_reply_err(req, (int)-rc);
    } else {
        fuse_reply_write(req, (size_t)rc);
    }
}

void
mnt_op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    int fd = handle_of(fi)->fd;
    int rc;
    (void)ino;
    if (is_volume(fi)) {
        rc = mnt_volume_sync(fuse_req_userdata(req), handle_of(fi));
    } else {
        rc = (datasync ? fdatasync(fd) : fsync(fd)) ? -errno : 0;
    }
    fuse_reply_err(req, -rc);
}

void
mnt_op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
                 struct fuse_file_info *fi)
{
    int rc;
    (void)ino;
    if (is_volume(fi)) {
        rc = mnt_volume_allocate(fuse_req_userdata(req), handle_of(fi), mode, (uint64_t)offset,
                                 (uint64_t)length);
    } else {
        rc = fallocate(handle_of(fi)->fd, mode, offset, length) ? -errno : 0;
    }
    fuse_reply_err(req, -rc);
}

void
mnt_op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *fi)
{
    struct ovsshm_mount *mount = fuse_req_userdata(req);
    int64_t rc;
    (void)ino;
    if (mount->params.cache == OVSSHM_MOUNT_CACHE_WRITEBACK) {
        rc = -ENOSYS; /* what the kernel has not written yet would be holes; it answers itself */
    } else if (whence != SEEK_DATA && whence != SEEK_HOLE) {
        rc = -EINVAL;
    } else if (is_volume(fi)) {
        rc = mnt_volume_seek(mount, handle_of(fi), (uint64_t)offset, whence == SEEK_DATA);
    } else {
        rc = lseek(handle_of(fi)->fd, offset, whence);
        rc = rc < 0 ? -errno : rc;
    }
    if (rc < 0) {
        fuse_reply_err(req, (int)-rc);
    } else {
        fuse_reply_lseek(req, rc);
    }
}
