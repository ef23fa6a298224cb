/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "mount.h"

#include <errno.h>
#include <string.h>

#include "shared/atomic.h"

/* The volume's name; with `names` held. */
static int
name_of(struct ovsshm_mount *mount, struct mnt_node *node, char name[MNT_PATH_BYTES])
{
    char path[MNT_PATH_BYTES];
    int rc = mnt_node_path(mount, node, NULL, path);
    return rc ? rc : mnt_names_volume(mount, path, name) ? mnt_names_check(name) : -ENOENT;
}

static int
explain(struct ovsshm_mount *mount, const char *what, const char *name, int rc,
        const struct ovsshm_error *error)
{
    if (rc) {
        mnt_debug(mount, "%s \"%.100s\": %s", what, name,
                  error->reason[0] ? error->reason : strerror(-rc));
    }
    return rc;
}

/* Opens it in the server, or brings the mode up to what its files need.  io: for writing. */
static int
attach(struct ovsshm_mount *mount, struct mnt_node *node)
{
    struct ovsshm_error error = {{0}};
    char name[MNT_PATH_BYTES];
    uint32_t mode = node->writers ? OVSSHM_MODE_WRITE : OVSSHM_MODE_READ;
    int rc = name_of(mount, node, name);
    if (rc) {
        return rc;
    }
    rc = node->local ? srv_local_set_mode(node->local, mode, &error)
                     : srv_local_open(mount->server, name, mode, &node->local, &error);
    return explain(mount, "open", name, rc, &error);
}

int
mnt_volume_open(struct ovsshm_mount *mount, struct mnt_handle *handle)
{
    struct mnt_node *node = handle->node;
    int rc = 0;
    pthread_rwlock_wrlock(&node->io);
    node->writers += handle->writable;
    if (!node->local || (handle->writable && node->writers == 1)) {
        rc = attach(mount, node);
    }
    if (rc) {
        node->writers -= handle->writable;
    } else {
        node->opens++;
        node->active++;
        srv_local_leaving(node->local, false);
    }
    pthread_rwlock_unlock(&node->io);
    return rc;
}

void
mnt_volume_release(struct ovsshm_mount *mount, struct mnt_handle *handle)
{
    struct mnt_node *node = handle->node;
    pthread_rwlock_wrlock(&node->io);
    node->opens--;
    node->writers -= handle->writable;
    node->active -= !handle->flushed;
    if (!node->local) {
        /* closed already, for somebody who needed it */
    } else if (!node->opens) {
        srv_local_close(node->local);
        node->local = NULL;
    } else if (handle->writable && !node->writers) {
        struct ovsshm_error error;
        int rc = srv_local_set_mode(node->local, OVSSHM_MODE_READ, &error);
        if (rc) {
            mnt_warn(mount, "a volume stays open for writing: %s", strerror(-rc));
        }
    }
    pthread_rwlock_unlock(&node->io);
}

void
mnt_volume_flush(struct mnt_handle *handle)
{
    struct mnt_node *node = handle->node;
    pthread_rwlock_wrlock(&node->io);
    if (!handle->flushed) {
        ovsshm_store_relaxed(&handle->flushed, true);
        if (--node->active == 0 && node->local) {
            srv_local_leaving(node->local, true);
        }
    }
    pthread_rwlock_unlock(&node->io);
}

/* A copy of the descriptor was closed, and this one lives on. */
static void
revive(struct mnt_handle *handle)
{
    struct mnt_node *node = handle->node;
    pthread_rwlock_wrlock(&node->io);
    if (handle->flushed) {
        ovsshm_store_relaxed(&handle->flushed, false);
        node->active++;
    }
    pthread_rwlock_unlock(&node->io);
}

/* It was closed in the server, because somebody needed it and all files seemed closed. */
static int
reopen(struct ovsshm_mount *mount, struct mnt_node *node)
{
    pthread_rwlock_rdlock(&mount->names);
    pthread_rwlock_wrlock(&node->io);
    int rc = node->local ? 0 : attach(mount, node);
    pthread_rwlock_unlock(&node->io);
    pthread_rwlock_unlock(&mount->names);
    return rc == -ENOENT ? -ESTALE : rc;
}

int
mnt_volume_enter(struct ovsshm_mount *mount, struct mnt_handle *handle, bool alone)
{
    struct mnt_node *node = handle->node;
    if (ovsshm_load_relaxed(&handle->flushed)) {
        revive(handle);
    }
    for (;;) {
        if (alone) {
            pthread_rwlock_wrlock(&node->io);
        } else {
            pthread_rwlock_rdlock(&node->io);
        }
        if (node->local) {
            return 0;
        }
        pthread_rwlock_unlock(&node->io);
        int rc = reopen(mount, node);
        if (rc) {
            return rc;
        }
    }
}

void
mnt_volume_leave(struct mnt_handle *handle)
{
    pthread_rwlock_unlock(&handle->node->io);
}

/* io: for writing. */
static int
set_size(struct ovsshm_mount *mount, struct mnt_node *node, uint64_t size_bytes)
{
    struct ovsshm_error error = {{0}};
    char name[MNT_PATH_BYTES];
    int rc = name_of(mount, node, name);
    if (rc) {
        return rc;
    }
    rc = srv_local_truncate(mount->server, name, size_bytes, &error);
    return explain(mount, "resize", name, rc, &error);
}

int
mnt_volume_truncate(struct ovsshm_mount *mount, struct mnt_node *node, uint64_t size_bytes)
{
    pthread_rwlock_wrlock(&node->io);
    int rc = set_size(mount, node, size_bytes);
    pthread_rwlock_unlock(&node->io);
    return rc;
}

int
mnt_volume_grow(struct ovsshm_mount *mount, struct mnt_node *node, uint64_t size_bytes)
{
    pthread_rwlock_rdlock(&mount->names);
    pthread_rwlock_wrlock(&node->io);
    int rc = node->local ? 0 : attach(mount, node); /* else its size is not known */
    if (rc == 0 && srv_local_size(node->local) < size_bytes) {
        rc = set_size(mount, node, size_bytes);
    }
    pthread_rwlock_unlock(&node->io);
    pthread_rwlock_unlock(&mount->names);
    return rc;
}

void
mnt_volume_grow_undo(struct ovsshm_mount *mount, struct mnt_node *node, uint64_t before,
                     uint64_t size_bytes)
{
    if (before >= size_bytes || mount->params.cache == OVSSHM_MOUNT_CACHE_WRITEBACK) {
        return;
    }
    pthread_rwlock_rdlock(&mount->names);
    pthread_rwlock_wrlock(&node->io);
    if (node->local && srv_local_size(node->local) == size_bytes) {
        (void)set_size(mount, node, before);
    }
    pthread_rwlock_unlock(&node->io);
    pthread_rwlock_unlock(&mount->names);
}

int
mnt_volume_detach(struct mnt_node *node, bool in_use)
{
    pthread_rwlock_wrlock(&node->io);
    if (node->active && !in_use) {
        pthread_rwlock_unlock(&node->io);
        return -EBUSY;
    }
    if (node->local) {
        srv_local_close(node->local);
        node->local = NULL;
    }
    return 0;
}

void
mnt_volume_detach_end(struct ovsshm_mount *mount, struct mnt_node *node)
{
    if (node->opens && attach(mount, node) == 0) {
        srv_local_leaving(node->local, !node->active);
    } /* or the next I/O tries again, and says why it cannot */
    pthread_rwlock_unlock(&node->io);
}
