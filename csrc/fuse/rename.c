/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "mount.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* One end of a rename. */
struct end {
    struct mnt_node *parent;
    const char *name;
    struct mnt_node *node; /* with a reference; NULL: unknown to the kernel */
    enum mnt_kind kind;
    bool exists;
    bool is_volume;              /* its name is one of a volume, */
    char volume[MNT_PATH_BYTES]; /* of this one */
    char path[MNT_PATH_BYTES];
};

static int
find_end(struct ovsshm_mount *mount, struct end *end)
{
    struct stat st;
    int rc = mnt_names_hidden(end->name) ? -EPERM
                                         : mnt_node_path(mount, end->parent, end->name, end->path);
    if (rc) {
        return rc;
    }
    end->is_volume = mnt_names_volume(mount, end->path, end->volume);
    rc = mnt_resolve(mount, end->path, &end->kind, &st);
    if (rc && rc != -ENOENT) {
        return rc;
    }
    end->exists = rc == 0;
    end->node = mnt_node_find(mount, end->parent, end->name);
    return 0;
}

static struct mnt_node *
volume_node(const struct end *end)
{
    return end->node && end->node->kind == MNT_VOLUME ? end->node : NULL;
}

static int
rename_detached(struct ovsshm_mount *mount, const struct end *from, const struct end *to)
{
    struct ovsshm_error error = {{0}};
    int rc = srv_local_rename(mount->server, from->volume, to->volume, to->exists, &error);
    if (rc) {
        mnt_debug(mount, "rename \"%.100s\" to \"%.100s\": %s", from->volume, to->volume,
                  error.reason);
    } else if (!mount->backed && mnt_files_rename(mount, from->path, to->path, true) == -ENOENT) {
        mnt_files_unlink(mount, to->path); /* the attributes of what was replaced */
    }
    return rc;
}

static int
rename_volume(struct ovsshm_mount *mount, const struct end *from, const struct end *to)
{
    struct mnt_node *source = volume_node(from);
    struct mnt_node *target = volume_node(to);
    int rc = mnt_names_check(to->volume);
    rc = rc ? rc : target ? mnt_volume_detach(target, false) : 0;
    if (rc) {
        return rc;
    }
    rc = source ? mnt_volume_detach(source, true) : 0;
    if (rc == 0) {
        rc = rename_detached(mount, from, to);
        if (rc == 0 && source) {
            rc = mnt_node_move(mount, source, to->parent, to->name);
        }
        if (source) {
            mnt_volume_detach_end(mount, source);
        }
    }
    if (target) {
        if (rc == 0) {
            mnt_node_unlink(mount, target);
        }
        mnt_volume_detach_end(mount, target);
    }
    return rc;
}

static int
rename_file(struct ovsshm_mount *mount, const struct end *from, const struct end *to)
{
    int rc = mnt_files_rename(mount, from->path, to->path, to->exists);
    return rc || !from->node ? rc : mnt_node_move(mount, from->node, to->parent, to->name);
}

/* One with volumes would have to move each of them; mv then copies. */
static int
rename_directory(struct ovsshm_mount *mount, const struct end *from, const struct end *to)
{
    int rc = mnt_resolve_holds_volumes(mount, from->path);
    if (rc) {
        return rc < 0 ? rc : -EXDEV;
    }
    if (to->exists) {
        rc = mnt_resolve_holds_volumes(mount, to->path);
        rc = rc > 0 ? -ENOTEMPTY : rc < 0 ? rc : mnt_files_rmdir(mount, to->path);
    }
    if (rc == 0) {
        rc = mnt_files_rename(mount, from->path, to->path, false);
    }
    return rc || !from->node ? rc : mnt_node_move(mount, from->node, to->parent, to->name);
}

static int
rename_end(struct ovsshm_mount *mount, const struct end *from, const struct end *to, bool replace)
{
    if (!from->exists) {
        return -ENOENT;
    }
    if (to->exists && !replace) {
        return -EEXIST;
    }
    /* What is a volume on one side only is copied: -EXDEV makes mv do so. */
    if (from->kind == MNT_VOLUME && to->is_volume) {
        return rename_volume(mount, from, to);
    }
    if (from->kind == MNT_DIRECTORY) {
        return rename_directory(mount, from, to);
    }
    return from->kind == MNT_FILE && !to->is_volume ? rename_file(mount, from, to) : -EXDEV;
}

void
mnt_op_rename(fuse_req_t req, fuse_ino_t ino, const char *name, fuse_ino_t new_ino,
              const char *new_name, unsigned flags)
{
    struct ovsshm_mount *mount = fuse_req_userdata(req);
    struct end from = {.parent = mnt_node_of(mount, ino), .name = name};
    struct end to = {.parent = mnt_node_of(mount, new_ino), .name = new_name};
    if (flags & ~(unsigned)RENAME_NOREPLACE) {
        fuse_reply_err(req, EINVAL);
        return;
    }
    pthread_rwlock_wrlock(&mount->names);
    int rc = find_end(mount, &from);
    rc = rc ? rc : find_end(mount, &to);
    rc = rc ? rc : rename_end(mount, &from, &to, !(flags & RENAME_NOREPLACE));
    pthread_rwlock_unlock(&mount->names);
    if (from.node) {
        mnt_node_put(mount, from.node, 1);
    }
    if (to.node) {
        mnt_node_put(mount, to.node, 1);
    }
    fuse_reply_err(req, -rc);
}
