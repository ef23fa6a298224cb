/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* The path of a name that is about to come into being or to go. */
static int
path_of(struct ovsshm_mount *mount, struct mnt_node *parent, const char *name,
        char path[MNT_PATH_BYTES])
{
    return mnt_names_hidden(name) ? -EPERM : mnt_node_path(mount, parent, name, path);
}

void
mnt_op_lookup(fuse_req_t req, fuse_ino_t ino, const char *name)
{
    struct ovsshm_mount *mount = fuse_req_userdata(req);
    struct fuse_entry_param entry;
    pthread_rwlock_rdlock(&mount->names);
    int rc = mnt_resolve_entry(mount, mnt_node_of(mount, ino), name, &entry);
    pthread_rwlock_unlock(&mount->names);
    if (rc) {
        fuse_reply_err(req, -rc);
    } else {
        fuse_reply_entry(req, &entry);
    }
}

void
mnt_op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
    struct ovsshm_mount *mount = fuse_req_userdata(req);
    mnt_node_put(mount, mnt_node_of(mount, ino), count);
    fuse_reply_none(req);
}

void
mnt_op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    struct ovsshm_mount *mount = fuse_req_userdata(req);
    for (size_t i = 0; i < count; i++) {
        mnt_node_put(mount, mnt_node_of(mount, forgets[i].ino), forgets[i].nlookup);
    }
    fuse_reply_none(req);
}

static int
create_volume(struct ovsshm_mount *mount, const char *path, const char *name, mode_t mode,
              const struct fuse_ctx *owner)
{
    struct ovsshm_error error = {{0}};
    int rc = mnt_names_check(name);
    rc = rc ? rc : srv_local_create(mount->server, name, 0, &error);
    if (rc) {
        return rc;
    }
    struct stat attributes = {.st_mode = mode, .st_uid = owner->uid, .st_gid = owner->gid};
    int which = FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW;
    which |= geteuid() == 0 ? FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID : 0;
    return mnt_files_set(mount, path, MNT_VOLUME, &attributes, which);
}

/* *fd: of a new plain file; -1: none. */
static int
create(struct ovsshm_mount *mount, const char *path, mode_t mode, int flags,
       const struct fuse_ctx *owner, int *fd)
{
    char name[MNT_PATH_BYTES];
    int rc;
    *fd = -1;
    if (mnt_names_volume(mount, path, name)) {
        rc = create_volume(mount, path, name, mode, owner);
    } else {
        rc = *fd = mnt_files_create(mount, path, flags, mode, owner);
        *fd = rc < 0 ? -1 : rc;
    }
    return rc == -EEXIST && !(flags & O_EXCL) ? 0 : rc < 0 ? rc : 0;
}

void
mnt_op_create(fuse_req_t req, fuse_ino_t ino, const char *name, mode_t mode,
              struct fuse_file_info *fi)
{
    struct ovsshm_mount *mount = fuse_req_userdata(req);
    struct mnt_node *parent = mnt_node_of(mount, ino);
    struct mnt_handle *handle = NULL;
    struct fuse_entry_param entry;
    char path[MNT_PATH_BYTES];
    int fd = -1;
    pthread_rwlock_rdlock(&mount->names);
    int rc = path_of(mount, parent, name, path);
    rc = rc ? rc : create(mount, path, mode, fi->flags, fuse_req_ctx(req), &fd);
    rc = rc ? rc : mnt_resolve_entry(mount, parent, name, &entry);
    if (rc == 0) {
        struct mnt_node *node = mnt_node_of(mount, entry.ino);
        rc = node->kind == MNT_DIRECTORY ? -EISDIR
                                         : mnt_handle_create(mount, node, fi->flags, fd, &handle);
        if (rc) {
            mnt_node_put(mount, node, 1);
        }
        fd = -1;
    }
    pthread_rwlock_unlock(&mount->names);
    if (fd >= 0) {
        close(fd);
    }
    if (rc) {
        fuse_reply_err(req, -rc);
        return;
    }
    fi->fh = (uintptr_t)handle;
    fi->direct_io =
        handle->node->kind == MNT_VOLUME && mount->params.cache == OVSSHM_MOUNT_CACHE_NONE;
    if (fuse_reply_create(req, &entry, fi) == -ENOENT) {
        mnt_handle_destroy(mount, handle); /* the caller was interrupted and will not release it */
        mnt_node_put(mount, mnt_node_of(mount, entry.ino), 1);
    }
}

void
mnt_op_mkdir(fuse_req_t req, fuse_ino_t ino, const char *name, mode_t mode)
{
    struct ovsshm_mount *mount = fuse_req_userdata(req);
    struct mnt_node *parent = mnt_node_of(mount, ino);
    struct fuse_entry_param entry;
    char path[MNT_PATH_BYTES];
    pthread_rwlock_rdlock(&mount->names);
    int rc = path_of(mount, parent, name, path);
    rc = rc ? rc : mnt_files_mkdir(mount, path, mode, fuse_req_ctx(req));
    rc = rc ? rc : mnt_resolve_entry(mount, parent, name, &entry);
    pthread_rwlock_unlock(&mount->names);
    if (rc) {
        fuse_reply_err(req, -rc);
    } else {
        fuse_reply_entry(req, &entry);
    }
}

/* With a volume go its node's place and, if it has one, the file of its attributes. */
static int
remove_volume(struct ovsshm_mount *mount, const char *path, struct mnt_node *node)
{
    struct ovsshm_error error = {{0}};
    char name[MNT_PATH_BYTES];
    mnt_names_volume(mount, path, name);
    int rc = node ? mnt_volume_detach(node, false) : 0;
    if (rc) {
        return rc;
    }
    rc = srv_local_remove(mount->server, name, &error);
    if (rc) {
        mnt_debug(mount, "remove \"%.100s\": %s", name, error.reason);
    } else if (!mount->backed) {
        mnt_files_unlink(mount, path);
    }
    if (node) {
        if (rc == 0) {
            mnt_node_unlink(mount, node);
        }
        mnt_volume_detach_end(mount, node);
    }
    return rc;
}

static int
remove_name(struct ovsshm_mount *mount, struct mnt_node *parent, const char *name)
{
    char path[MNT_PATH_BYTES];
    enum mnt_kind kind;
    struct stat st;
    int rc = path_of(mount, parent, name, path);
    rc = rc ? rc : mnt_resolve(mount, path, &kind, &st);
    if (rc || kind == MNT_DIRECTORY) {
        return rc ? rc : -EISDIR;
    }
    struct mnt_node *node = mnt_node_find(mount, parent, name);
    if (kind == MNT_VOLUME) {
        rc = remove_volume(mount, path, node && node->kind == MNT_VOLUME ? node : NULL);
    } else {
        rc = mnt_files_unlink(mount, path);
        if (rc == 0 && node) {
            mnt_node_unlink(mount, node);
        }
    }
    if (node) {
        mnt_node_put(mount, node, 1);
    }
    return rc;
}

void
mnt_op_unlink(fuse_req_t req, fuse_ino_t ino, const char *name)
{
    struct ovsshm_mount *mount = fuse_req_userdata(req);
    pthread_rwlock_rdlock(&mount->names);
    int rc = remove_name(mount, mnt_node_of(mount, ino), name);
    pthread_rwlock_unlock(&mount->names);
    fuse_reply_err(req, -rc);
}

static int
remove_directory(struct ovsshm_mount *mount, struct mnt_node *parent, const char *name)
{
    char path[MNT_PATH_BYTES];
    int rc = path_of(mount, parent, name, path);
    if (rc == 0 && !mount->backed) {
        rc = mnt_resolve_holds_volumes(mount, path);
        rc = rc > 0 ? -ENOTEMPTY : rc;
    }
    rc = rc ? rc : mnt_files_rmdir(mount, path);
    /* One that only its volumes implied has gone with the last of them. */
    rc = rc == -ENOENT ? 0 : rc;
    struct mnt_node *node = rc ? NULL : mnt_node_find(mount, parent, name);
    if (node) {
        mnt_node_unlink(mount, node);
        mnt_node_put(mount, node, 1);
    }
    return rc;
}

void
mnt_op_rmdir(fuse_req_t req, fuse_ino_t ino, const char *name)
{
    struct ovsshm_mount *mount = fuse_req_userdata(req);
    pthread_rwlock_wrlock(&mount->names);
    int rc = remove_directory(mount, mnt_node_of(mount, ino), name);
    pthread_rwlock_unlock(&mount->names);
    fuse_reply_err(req, -rc);
}
