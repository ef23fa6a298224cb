/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static void
reply_attributes(fuse_req_t req, struct ovsshm_mount *mount, struct mnt_node *node, int rc)
{
    struct stat st;
    if (rc == 0) {
        rc = mnt_resolve_node(mount, node, &st);
    }
    if (rc) {
        fuse_reply_err(req, -mnt_stale(rc));
    } else {
        fuse_reply_attr(req, &st, MNT_VALID_S);
    }
}

void
mnt_op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct ovsshm_mount *mount = fuse_req_userdata(req);
    (void)fi;
    pthread_rwlock_rdlock(&mount->names);
    reply_attributes(req, mount, mnt_node_of(mount, ino), 0);
    pthread_rwlock_unlock(&mount->names);
}

static int
set_file_size(struct ovsshm_mount *mount, struct mnt_node *node, off_t size,
              const struct fuse_file_info *fi)
{
    char path[MNT_PATH_BYTES];
    const struct mnt_handle *handle = fi ? (struct mnt_handle *)(uintptr_t)fi->fh : NULL;
    if (handle && handle->writable) {
        return ftruncate(handle->fd, size) ? -errno : 0;
    }
    int rc = mnt_node_path(mount, node, NULL, path);
    int fd = rc ? rc : mnt_files_open(mount, path, O_WRONLY | O_NONBLOCK);
    if (fd < 0) {
        return fd;
    }
    rc = ftruncate(fd, size) ? -errno : 0;
    close(fd);
    return rc;
}

static int
set_attributes(struct ovsshm_mount *mount, struct mnt_node *node, const struct stat *attributes,
               int which, const struct fuse_file_info *fi)
{
    char path[MNT_PATH_BYTES];
    int rc = 0;
    if (which & FUSE_SET_ATTR_SIZE) {
        rc = node->kind == MNT_VOLUME
                 ? mnt_volume_truncate(mount, node, (uint64_t)attributes->st_size)
                 : set_file_size(mount, node, attributes->st_size, fi);
    }
    int others = FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID | FUSE_SET_ATTR_ATIME |
                 FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW;
    if (rc == 0 && (which & others)) {
        rc = mnt_node_path(mount, node, NULL, path);
        rc = rc ? rc : mnt_files_set(mount, path, node->kind, attributes, which);
        if (rc == 0 && (which & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW))) {
            node->written_at = 0;
        }
    }
    return rc;
}

void
mnt_op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attributes, int which,
               struct fuse_file_info *fi)
{
    struct ovsshm_mount *mount = fuse_req_userdata(req);
    struct mnt_node *node = mnt_node_of(mount, ino);
    pthread_rwlock_rdlock(&mount->names);
    reply_attributes(req, mount, node, set_attributes(mount, node, attributes, which, fi));
    pthread_rwlock_unlock(&mount->names);
}
