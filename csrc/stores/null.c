/* SPDX-License-Identifier: MIT */
/*
 * Store "null": volumes that forget what is written and read as zeroes.  The floor for benchmarks:
 * what is left is the cost of everything but storage.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "catalog.h"
#include "option.h"
#include "server/log.h"
#include "shared/atomic.h"

struct null_volume {
    struct ovsshm_store_volume base;
    struct catalog_entry entry; /* store lock */
};

struct null_store {
    struct ovsshm_store base;
    pthread_mutex_t lock;
    struct catalog volumes;
};

#define ENTRY_VOLUME(e) \
    ((struct null_volume *)(void *)((char *)(e)-offsetof(struct null_volume, entry)))

static struct null_store *
null_store(struct ovsshm_store *store)
{
    return (struct null_store *)(void *)store;
}

static struct null_volume *
volume_find(struct ovsshm_store *store, const char *name)
{
    struct null_store *null = null_store(store);
    pthread_mutex_lock(&null->lock);
    struct catalog_entry *entry = catalog_find(&null->volumes, name);
    pthread_mutex_unlock(&null->lock);
    return entry ? ENTRY_VOLUME(entry) : NULL;
}

static int
null_create(const struct ovsshm_store_params *params, struct ovsshm_store **out,
            struct ovsshm_error *error)
{
    int rc = ovsshm_option_none(&ovsshm_store_null, params, error);
    struct null_store *null = rc ? NULL : calloc(1, sizeof(*null));
    if (!null) {
        return rc ? rc : srv_error(error, -ENOMEM, "out of memory");
    }
    null->base.type = &ovsshm_store_null;
    null->base.capabilities = OVSSHM_CAP_WRITE | OVSSHM_CAP_DISCARD | OVSSHM_CAP_WRITE_ZEROES |
                              OVSSHM_CAP_BLOCK_STATUS | OVSSHM_CAP_RESIZE | OVSSHM_CAP_MANAGE;
    LIST_INIT(&null->volumes);
    pthread_mutex_init(&null->lock, NULL);
    *out = &null->base;
    return 0;
}

static void
null_destroy(struct ovsshm_store *store)
{
    struct null_store *null = null_store(store);
    if (!null) {
        return;
    }
    while (!LIST_EMPTY(&null->volumes)) {
        struct catalog_entry *entry = LIST_FIRST(&null->volumes);
        LIST_REMOVE(entry, link);
        free(ENTRY_VOLUME(entry));
    }
    pthread_mutex_destroy(&null->lock);
    free(null);
}

static int
null_volume_create(struct ovsshm_store *store, const char *name, uint64_t size_bytes,
                   struct ovsshm_error *error)
{
    struct null_store *null = null_store(store);
    struct null_volume *volume = volume_find(store, name) ? NULL : calloc(1, sizeof(*volume));
    (void)error;
    if (!volume) {
        return volume_find(store, name) ? -EEXIST : -ENOMEM;
    }
    volume->base =
        (struct ovsshm_store_volume){.store = store, .size_bytes = size_bytes, .block_bytes = 1};
    strcpy(volume->entry.name, name);
    pthread_mutex_lock(&null->lock);
    catalog_insert(&null->volumes, &volume->entry);
    pthread_mutex_unlock(&null->lock);
    return 0;
}

static int
null_volume_remove(struct ovsshm_store *store, const char *name, struct ovsshm_error *error)
{
    struct null_store *null = null_store(store);
    struct null_volume *volume = volume_find(store, name);
    (void)error;
    if (!volume) {
        return -ENOENT;
    }
    pthread_mutex_lock(&null->lock);
    LIST_REMOVE(&volume->entry, link);
    pthread_mutex_unlock(&null->lock);
    free(volume);
    return 0;
}

static void
volume_describe(const struct null_volume *volume, struct ovsshm_volume_info *info)
{
    *info = (struct ovsshm_volume_info){.size_bytes = ovsshm_load_relaxed(&volume->base.size_bytes),
                                        .block_bytes = 1};
    strcpy(info->name, volume->entry.name);
}

static int
null_volume_stat(struct ovsshm_store *store, const char *name, struct ovsshm_volume_info *info)
{
    const struct null_volume *volume = volume_find(store, name);
    if (!volume) {
        return -ENOENT;
    }
    volume_describe(volume, info);
    return 0;
}

static int
null_volume_list(struct ovsshm_store *store, const char *after, struct ovsshm_volume_info *infos,
                 unsigned count)
{
    struct null_store *null = null_store(store);
    unsigned n = 0;
    pthread_mutex_lock(&null->lock);
    struct catalog_entry *entry = catalog_after(&null->volumes, after);
    for (; entry && n < count; entry = LIST_NEXT(entry, link)) {
        volume_describe(ENTRY_VOLUME(entry), &infos[n++]);
    }
    pthread_mutex_unlock(&null->lock);
    return (int)n;
}

static int
null_volume_resize(struct ovsshm_store *store, const char *name, struct ovsshm_store_volume *open,
                   uint64_t size_bytes, struct ovsshm_error *error)
{
    struct null_volume *volume = volume_find(store, name);
    (void)open;
    (void)error;
    if (!volume) {
        return -ENOENT;
    }
    ovsshm_store_relaxed(&volume->base.size_bytes, size_bytes);
    return 0;
}

static int
null_volume_rename(struct ovsshm_store *store, const char *from, const char *to,
                   struct ovsshm_error *error)
{
    struct null_store *null = null_store(store);
    struct null_volume *volume = volume_find(store, from);
    if (!volume) {
        return -ENOENT;
    }
    (void)null_volume_remove(store, to, error);
    pthread_mutex_lock(&null->lock);
    catalog_rename(&null->volumes, &volume->entry, to);
    pthread_mutex_unlock(&null->lock);
    return 0;
}

static int
null_volume_open(struct ovsshm_store *store, const char *name, struct ovsshm_store_volume **out,
                 struct ovsshm_error *error)
{
    struct null_volume *volume = volume_find(store, name);
    (void)error;
    if (!volume) {
        return -ENOENT;
    }
    *out = &volume->base;
    return 0;
}

static void
null_volume_close(struct ovsshm_store_volume *volume)
{
    (void)volume;
}

static int32_t
serve(const struct ovsshm_request *r)
{
    switch (r->op) {
    case OVSSHM_OP_READ:
        for (uint32_t i = 0; i < r->iov_count; i++) {
            memset(r->iov[i].iov_base, 0, r->iov[i].iov_len);
        }
        return (int32_t)r->length_bytes;
    case OVSSHM_OP_WRITE: return (int32_t)r->length_bytes;
    case OVSSHM_OP_BLOCK_STATUS:
        r->extents[0] = (struct ovsshm_extent){.length_bytes = r->length_bytes,
                                               .flags = OVSSHM_EXTENT_HOLE | OVSSHM_EXTENT_ZERO};
        return 1;
    default: return 0; /* flush, discard, write-zeroes */
    }
}

static void
null_submit(struct ovsshm_store *store, void *group, struct ovsshm_request **requests,
            unsigned count)
{
    (void)store;
    (void)group;
    for (unsigned i = 0; i < count; i++) {
        ovsshm_request_complete(requests[i], serve(requests[i]));
    }
}

const struct ovsshm_store_type ovsshm_store_null = {
    .abi = OVSSHM_STORE_ABI,
    .name = "null",
    .summary = "forgets writes, reads zeroes; for benchmarks",
    .create = null_create,
    .destroy = null_destroy,
    .volume_create = null_volume_create,
    .volume_remove = null_volume_remove,
    .volume_stat = null_volume_stat,
    .volume_list = null_volume_list,
    .volume_resize = null_volume_resize,
    .volume_rename = null_volume_rename,
    .volume_truncate = null_volume_resize,
    .volume_open = null_volume_open,
    .volume_close = null_volume_close,
    .submit = null_submit,
};
