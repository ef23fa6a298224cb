/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

void
mnt_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct ovsshm_mount *mount = fuse_req_userdata(req);
    struct mnt_listing *listing;
    char path[MNT_PATH_BYTES];
    pthread_rwlock_rdlock(&mount->names);
    int rc = mnt_node_path(mount, mnt_node_of(mount, ino), NULL, path);
    rc = rc ? rc : mnt_listing_create(mount, path, &listing);
    pthread_rwlock_unlock(&mount->names);
    if (rc) {
        fuse_reply_err(req, -mnt_stale(rc));
        return;
    }
    fi->fh = (uintptr_t)listing;
    if (fuse_reply_open(req, fi) == -ENOENT) {
        mnt_listing_destroy(listing);
    }
}

void
mnt_op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
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
    struct ovsshm_mount *mount = fuse_req_userdata(req);
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
    struct ovsshm_mount *mount = fuse_req_userdata(req);
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

void
mnt_op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
    read_directory(req, ino, size, offset, fi, false);
}

void
mnt_op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                   struct fuse_file_info *fi)
{
    read_directory(req, ino, size, offset, fi, true);
}

void
mnt_op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    struct ovsshm_mount *mount = fuse_req_userdata(req);
    char path[MNT_PATH_BYTES];
    (void)datasync;
    (void)fi;
    int rc = mnt_node_path(mount, mnt_node_of(mount, ino), NULL, path);
    int fd = rc ? rc : mnt_files_open(mount, path, O_RDONLY | O_DIRECTORY);
    if (fd >= 0) {
        rc = fsync(fd) ? -errno : 0;
        close(fd);
    }
    /* One that only its volumes imply has nothing of its own. */
    rc = fd == -ENOENT && !mount->backed ? 0 : fd < 0 ? fd : rc;
    fuse_reply_err(req, -rc);
}
