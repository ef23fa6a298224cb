/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

static struct ovsshm_mount *
mount_of(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

/* The path of a name that is about to come into being or to go. */
static int
path_of(struct ovsshm_mount *mount, struct mnt_node *parent, const char *name,
        char path[MNT_PATH_BYTES])
{
    return mnt_names_hidden(name) ? -EPERM : mnt_node_path(mount, parent, name, path);
}

static void
op_init(void *arg, struct fuse_conn_info *conn)
{
    const struct ovsshm_mount *mount = arg;
    const struct ovsshm_mount_params *params = &mount->params;
    unsigned wanted = FUSE_CAP_ASYNC_DIO | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS |
                      FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_ASYNC_READ | FUSE_CAP_AUTO_INVAL_DATA;
    if (params->cache == OVSSHM_MOUNT_CACHE_WRITEBACK) {
        wanted |= FUSE_CAP_WRITEBACK_CACHE;
    }
    if (params->splice) {
        wanted |= FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE;
    }
    /* After O_TRUNC the kernel asks for size 0 by itself, once the file is open. */
    conn->want &= ~(unsigned)(FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_SPLICE_READ);
    conn->want |= conn->capable & wanted;
    mnt_uring_init(mount, conn);
    conn->max_write = params->max_write;
    conn->max_background = params->max_background;
    conn->congestion_threshold = params->max_background;
    conn->time_gran = 1;
}

static void
op_lookup(fuse_req_t req, fuse_ino_t ino, const char *name)
{
    struct ovsshm_mount *mount = mount_of(req);
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

static void
op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
    struct ovsshm_mount *mount = mount_of(req);
    mnt_node_put(mount, mnt_node_of(mount, ino), count);
    fuse_reply_none(req);
}

static void
op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    struct ovsshm_mount *mount = mount_of(req);
    for (size_t i = 0; i < count; i++) {
        mnt_node_put(mount, mnt_node_of(mount, forgets[i].ino), forgets[i].nlookup);
    }
    fuse_reply_none(req);
}

/* What is gone behind the kernel's back: it looks again then, and may create it. */
static int
stale(int rc)
{
    return rc == -ENOENT ? -ESTALE : rc;
}

static void
reply_attributes(fuse_req_t req, struct ovsshm_mount *mount, struct mnt_node *node, int rc)
{
    struct stat st;
    if (rc == 0) {
        rc = mnt_resolve_node(mount, node, &st);
    }
    if (rc) {
        fuse_reply_err(req, -stale(rc));
    } else {
        fuse_reply_attr(req, &st, MNT_VALID_S);
    }
}

static void
op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct ovsshm_mount *mount = mount_of(req);
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

static void
op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attributes, int which,
           struct fuse_file_info *fi)
{
    struct ovsshm_mount *mount = mount_of(req);
    struct mnt_node *node = mnt_node_of(mount, ino);
    pthread_rwlock_rdlock(&mount->names);
    reply_attributes(req, mount, node, set_attributes(mount, node, attributes, which, fi));
    pthread_rwlock_unlock(&mount->names);
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

static void
op_create(fuse_req_t req, fuse_ino_t ino, const char *name, mode_t mode, struct fuse_file_info *fi)
{
    struct ovsshm_mount *mount = mount_of(req);
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

static void
op_mkdir(fuse_req_t req, fuse_ino_t ino, const char *name, mode_t mode)
{
    struct ovsshm_mount *mount = mount_of(req);
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

static void
op_unlink(fuse_req_t req, fuse_ino_t ino, const char *name)
{
    struct ovsshm_mount *mount = mount_of(req);
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

static void
op_rmdir(fuse_req_t req, fuse_ino_t ino, const char *name)
{
    struct ovsshm_mount *mount = mount_of(req);
    pthread_rwlock_wrlock(&mount->names);
    int rc = remove_directory(mount, mnt_node_of(mount, ino), name);
    pthread_rwlock_unlock(&mount->names);
    fuse_reply_err(req, -rc);
}

static void
op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct ovsshm_mount *mount = mount_of(req);
    struct mnt_listing *listing;
    char path[MNT_PATH_BYTES];
    pthread_rwlock_rdlock(&mount->names);
    int rc = mnt_node_path(mount, mnt_node_of(mount, ino), NULL, path);
    rc = rc ? rc : mnt_listing_create(mount, path, &listing);
    pthread_rwlock_unlock(&mount->names);
    if (rc) {
        fuse_reply_err(req, -stale(rc));
        return;
    }
    fi->fh = (uintptr_t)listing;
    if (fuse_reply_open(req, fi) == -ENOENT) {
        mnt_listing_destroy(listing);
    }
}

static void
op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    mnt_listing_destroy((struct mnt_listing *)(uintptr_t)fi->fh);
    fuse_reply_err(req, 0);
}

/* Adds one entry: its bytes, or more than there is room for. */
static size_t
add_entry(fuse_req_t req, struct mnt_node *parent, const struct mnt_item *item, bool plus, char *at,
          size_t room, off_t next)
{
    struct ovsshm_mount *mount = mount_of(req);
    struct fuse_entry_param entry = {
        .attr = {.st_ino = UINT32_MAX, .st_mode = item->kind == MNT_DIRECTORY ? S_IFDIR : S_IFREG},
    };
    if (!plus) {
        return fuse_add_direntry(req, at, room, item->name, &entry.attr, next);
    }
    if (mnt_resolve_entry(mount, parent, item->name, &entry)) {
        return 0; /* gone meanwhile */
    }
    size_t length = fuse_add_direntry_plus(req, at, room, item->name, &entry, next);
    if (length > room) {
        mnt_node_put(mount, mnt_node_of(mount, entry.ino), 1);
    }
    return length;
}

/* "." and "..": never looked up. */
static size_t
add_dots(fuse_req_t req, off_t number, bool plus, char *at, size_t room)
{
    const char *name = number ? ".." : ".";
    struct fuse_entry_param entry = {.attr = {.st_ino = FUSE_ROOT_ID, .st_mode = S_IFDIR}};
    return plus ? fuse_add_direntry_plus(req, at, room, name, &entry, number + 1)
                : fuse_add_direntry(req, at, room, name, &entry.attr, number + 1);
}

static void
read_directory(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
               const struct fuse_file_info *fi, bool plus)
{
    struct ovsshm_mount *mount = mount_of(req);
    const struct mnt_listing *listing = (struct mnt_listing *)(uintptr_t)fi->fh;
    char *buffer = malloc(size);
    size_t used = 0;
    if (!buffer) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    pthread_rwlock_rdlock(&mount->names);
    for (off_t i = offset; i < (off_t)listing->count + 2; i++) {
        size_t length = i < 2 ? add_dots(req, i, plus, buffer + used, size - used)
                              : add_entry(req, mnt_node_of(mount, ino), &listing->items[i - 2],
                                          plus, buffer + used, size - used, i + 1);
        if (length > size - used) {
            break;
        }
        used += length;
    }
    pthread_rwlock_unlock(&mount->names);
    fuse_reply_buf(req, buffer, used);
    free(buffer);
}

static void
op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
    read_directory(req, ino, size, offset, fi, false);
}

static void
op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
    read_directory(req, ino, size, offset, fi, true);
}

static void
op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    struct ovsshm_mount *mount = mount_of(req);
    char path[MNT_PATH_BYTES];
    (void)datasync;
    (void)fi;
    int rc = mnt_node_path(mount, mnt_node_of(mount, ino), NULL, path);
    int fd = rc ? rc : mnt_files_open(mount, path, O_RDONLY | O_DIRECTORY);
    if (fd >= 0) {
        rc = fsync(fd) ? -errno : 0;
        close(fd);
    }
    fuse_reply_err(req, -rc);
}

static void
op_statfs(fuse_req_t req, fuse_ino_t ino)
{
    const struct ovsshm_mount *mount = mount_of(req);
    struct statvfs st;
    (void)ino;
    if (fstatvfs(mount->files_fd, &st)) {
        fuse_reply_err(req, errno);
        return;
    }
    st.f_namemax = MNT_NAME_MAX;
    fuse_reply_statfs(req, &st);
}

static void
op_mknod(fuse_req_t req, fuse_ino_t ino, const char *name, mode_t mode, dev_t device)
{
    (void)ino;
    (void)name;
    (void)mode;
    (void)device;
    fuse_reply_err(req, EPERM);
}

static void
op_symlink(fuse_req_t req, const char *target, fuse_ino_t ino, const char *name)
{
    (void)target;
    (void)ino;
    (void)name;
    fuse_reply_err(req, EPERM);
}

static void
op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
    (void)ino;
    (void)parent;
    (void)name;
    fuse_reply_err(req, EPERM);
}

const struct fuse_lowlevel_ops mnt_ops = {
    .init = op_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .create = op_create,
    .mkdir = op_mkdir,
    .unlink = op_unlink,
    .rmdir = op_rmdir,
    .rename = mnt_op_rename,
    .mknod = op_mknod,
    .symlink = op_symlink,
    .link = op_link,
    .opendir = op_opendir,
    .releasedir = op_releasedir,
    .readdir = op_readdir,
    .readdirplus = op_readdirplus,
    .fsyncdir = op_fsyncdir,
    .statfs = op_statfs,
    .open = mnt_op_open,
    .read = mnt_op_read,
    .write = mnt_op_write,
    .flush = mnt_op_flush,
    .fsync = mnt_op_fsync,
    .release = mnt_op_release,
    .fallocate = mnt_op_fallocate,
    .lseek = mnt_op_lseek,
};
