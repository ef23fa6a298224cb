/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "client/reason.h"
#include "legacy.h"

#define PAGE_ENTRIES 64

static int
snapshot_begin(const ovs_ctx_t *ctx, const char *volume, const char *snapshot,
               struct ovsshm_conn **conn)
{
    *conn = NULL;
    if (!snapshot) {
        return ovsshm_reason_literal(-EINVAL, "the snapshot name is NULL");
    }
    return legacy_manage_begin(ctx, volume, conn);
}

int
ovs_snapshot_create(ovs_ctx_t *ctx, const char *volume_name, const char *snapshot_name,
                    const int64_t timeout)
{
    struct ovsshm_conn *conn;
    int rc = snapshot_begin(ctx, volume_name, snapshot_name, &conn);
    if (rc == 0) {
        rc = ovsshm_snapshot_create(conn, volume_name, snapshot_name, timeout);
    }
    return legacy_manage_end(conn, rc);
}

int
ovs_snapshot_rollback(ovs_ctx_t *ctx, const char *volume_name, const char *snapshot_name)
{
    struct ovsshm_conn *conn;
    int rc = snapshot_begin(ctx, volume_name, snapshot_name, &conn);
    if (rc == 0) {
        rc = ovsshm_snapshot_rollback(conn, volume_name, snapshot_name);
    }
    return legacy_manage_end(conn, rc);
}

int
ovs_snapshot_remove(ovs_ctx_t *ctx, const char *volume_name, const char *snapshot_name)
{
    struct ovsshm_conn *conn;
    int rc = snapshot_begin(ctx, volume_name, snapshot_name, &conn);
    if (rc == 0) {
        rc = ovsshm_snapshot_remove(conn, volume_name, snapshot_name);
    }
    return legacy_manage_end(conn, rc);
}

int
ovs_snapshot_is_synced(ovs_ctx_t *ctx, const char *volume_name, const char *snapshot_name)
{
    struct ovsshm_conn *conn;
    int rc = snapshot_begin(ctx, volume_name, snapshot_name, &conn);
    if (rc == 0) {
        rc = ovsshm_snapshot_is_synced(conn, volume_name, snapshot_name);
    }
    return legacy_manage_end(conn, rc);
}

/* All snapshots of a volume; entries points to an array that the caller frees. */
struct snapshots {
    struct ovsshm_snapshot_info *entries;
    unsigned count;
};

static int
snapshots_collect(struct ovsshm_conn *conn, const char *volume, struct snapshots *all)
{
    for (;;) {
        size_t bytes = (all->count + PAGE_ENTRIES) * sizeof(*all->entries);
        struct ovsshm_snapshot_info *entries = realloc(all->entries, bytes);
        if (!entries) {
            return -ENOMEM;
        }
        all->entries = entries;
        const char *after = all->count > 0 ? entries[all->count - 1].name : NULL;
        int rc = ovsshm_snapshot_list(conn, volume, after, entries + all->count, PAGE_ENTRIES);
        if (rc <= 0) {
            return rc;
        }
        all->count += (unsigned)rc;
    }
}

static int
snapshots_deliver(const struct snapshots *all, ovs_snapshot_info_t *list, int *max_snaps)
{
    if (all->count >= INT_MAX) {
        return -EOVERFLOW;
    }
    int needed = (int)all->count + 1;
    if (*max_snaps < needed) {
        *max_snaps = needed;
        return -ERANGE;
    }
    if (!list) {
        return ovsshm_reason_literal(-EINVAL, "the list is NULL");
    }
    for (unsigned i = 0; i < all->count; i++) {
        list[i].name = strdup(all->entries[i].name);
        list[i].size = all->entries[i].size_bytes;
        if (!list[i].name) {
            ovs_snapshot_list_free(list);
            return -ENOMEM;
        }
    }
    list[all->count] = (ovs_snapshot_info_t){0};
    return (int)all->count;
}

int
ovs_snapshot_list(ovs_ctx_t *ctx, const char *volume_name, ovs_snapshot_info_t *snap_list,
                  int *max_snaps)
{
    if (!max_snaps) {
        return (int)legacy_result(-EINVAL);
    }
    struct ovsshm_conn *conn;
    struct snapshots all = {0};
    int rc = legacy_manage_begin(ctx, volume_name, &conn);
    if (rc == 0) {
        rc = snapshots_collect(conn, volume_name, &all);
    }
    if (rc == 0) {
        rc = snapshots_deliver(&all, snap_list, max_snaps);
    }
    free(all.entries);
    rc = legacy_manage_end(conn, rc);
    if (rc >= 0) {
        errno = 0; /* callers tell an empty list from a failure by it */
    }
    return rc;
}

void
ovs_snapshot_list_free(ovs_snapshot_info_t *snap_list)
{
    for (ovs_snapshot_info_t *entry = snap_list; entry && entry->name; entry++) {
        free((void *)(uintptr_t)entry->name);
        *entry = (ovs_snapshot_info_t){0};
    }
}
