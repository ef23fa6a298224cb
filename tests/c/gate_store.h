/* SPDX-License-Identifier: MIT */
/*
 * A store whose requests wait at a gate, so that a test decides when they complete, in which order
 * and with what result; and whose management calls fail when told to.  Volumes live in memory.
 */
#ifndef GATE_STORE_H
#define GATE_STORE_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openvstorage/shm_server.h>

#define GATE_VOLUMES 128
#define GATE_SNAPSHOTS 4
#define GATE_VOLUME_BYTES (8u << 20) /* none gets larger */
#define GATE_LOG 4096

struct gate_volume {
    struct ovsshm_store_volume base;
    char name[OVSSHM_NAME_BYTES]; /* "": the entry is free */
    unsigned char *data;
    struct ovsshm_snapshot_info snapshots[GATE_SNAPSHOTS];
    unsigned snapshot_count;
};

static struct gate_state {
    struct ovsshm_store store;
    pthread_mutex_t lock;
    pthread_cond_t arrived;
    struct gate_volume volumes[GATE_VOLUMES];
    bool closed;
    struct ovsshm_request *held[GATE_LOG];
    void *held_by[GATE_LOG]; /* the group of each */
    unsigned held_count;
    int32_t io_error;      /* result of requests, when not 0 */
    int manage_error;      /* result of management calls, when not 0 */
    uint8_t log[GATE_LOG]; /* ops in the order they arrived */
    unsigned log_count;
} gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .arrived = PTHREAD_COND_INITIALIZER};

/* ---- for tests ----------------------------------------------------------------------------- */

static void
gate_perform(struct ovsshm_request *request, int32_t error)
{
    struct gate_volume *volume = (struct gate_volume *)(void *)request->volume;
    unsigned char *data = volume->data + request->offset_bytes;
    for (uint32_t i = 0; i < request->iov_count && error == 0; i++) {
        if (request->op == OVSSHM_OP_READ) {
            memcpy(request->iov[i].iov_base, data, request->iov[i].iov_len);
        } else {
            memcpy(data, request->iov[i].iov_base, request->iov[i].iov_len);
        }
        data += request->iov[i].iov_len;
    }
    bool transfer = request->op == OVSSHM_OP_READ || request->op == OVSSHM_OP_WRITE;
    ovsshm_request_complete(request, error ? error : transfer ? (int32_t)request->length_bytes : 0);
}

/* From now on requests are held. */
static inline void
gate_close(void)
{
    pthread_mutex_lock(&gate.lock);
    gate.closed = true;
    gate.log_count = 0;
    pthread_mutex_unlock(&gate.lock);
}

/* Waits until `count` requests are held. */
static inline void
gate_await(unsigned count)
{
    pthread_mutex_lock(&gate.lock);
    while (gate.held_count < count) {
        pthread_cond_wait(&gate.arrived, &gate.lock);
    }
    pthread_mutex_unlock(&gate.lock);
}

/* Lets the `count` oldest go. */
static inline void
gate_release(unsigned count)
{
    pthread_mutex_lock(&gate.lock);
    for (unsigned i = 0; i < count; i++) {
        gate_perform(gate.held[i], gate.io_error);
    }
    gate.held_count -= count;
    memmove(gate.held, gate.held + count, gate.held_count * sizeof(gate.held[0]));
    memmove(gate.held_by, gate.held_by + count, gate.held_count * sizeof(gate.held_by[0]));
    pthread_mutex_unlock(&gate.lock);
}

static inline void
gate_open(void)
{
    pthread_mutex_lock(&gate.lock);
    gate.closed = false;
    unsigned count = gate.held_count;
    pthread_mutex_unlock(&gate.lock);
    gate_release(count);
}

static inline void
gate_fail_io(int32_t error)
{
    pthread_mutex_lock(&gate.lock);
    gate.io_error = error;
    pthread_mutex_unlock(&gate.lock);
}

static inline void
gate_fail_management(int error)
{
    pthread_mutex_lock(&gate.lock);
    gate.manage_error = error;
    pthread_mutex_unlock(&gate.lock);
}

static inline unsigned
gate_arrivals(uint8_t *ops, unsigned room)
{
    pthread_mutex_lock(&gate.lock);
    unsigned count = gate.log_count < room ? gate.log_count : room;
    memcpy(ops, gate.log, count);
    pthread_mutex_unlock(&gate.lock);
    return count;
}

/* ---- the store ----------------------------------------------------------------------------- */

static struct gate_volume *
gate_find(const char *name)
{
    for (unsigned i = 0; i < GATE_VOLUMES; i++) {
        if (!strcmp(gate.volumes[i].name, name)) {
            return &gate.volumes[i];
        }
    }
    return NULL;
}

static int
gate_volume_create(struct ovsshm_store *store, const char *name, uint64_t size_bytes,
                   struct ovsshm_error *error)
{
    (void)store;
    (void)error;
    pthread_mutex_lock(&gate.lock);
    struct gate_volume *volume = gate_find("");
    int rc = gate.manage_error;
    if (rc == 0 && gate_find(name)) {
        rc = -EEXIST;
    } else if (rc == 0 && (!volume || size_bytes > GATE_VOLUME_BYTES)) {
        rc = -ENOSPC;
    }
    if (rc == 0) {
        memset(volume, 0, sizeof(*volume));
        snprintf(volume->name, sizeof(volume->name), "%s", name);
        volume->data = calloc(1, GATE_VOLUME_BYTES);
        volume->base = (struct ovsshm_store_volume){&gate.store, size_bytes, 1};
    }
    pthread_mutex_unlock(&gate.lock);
    return rc;
}

static int
gate_volume_remove(struct ovsshm_store *store, const char *name, struct ovsshm_error *error)
{
    (void)store;
    (void)error;
    pthread_mutex_lock(&gate.lock);
    struct gate_volume *volume = gate_find(name);
    int rc = gate.manage_error ? gate.manage_error : volume ? 0 : -ENOENT;
    if (rc == 0) {
        free(volume->data);
        memset(volume, 0, sizeof(*volume));
    }
    pthread_mutex_unlock(&gate.lock);
    return rc;
}

static void
gate_info(const struct gate_volume *volume, struct ovsshm_volume_info *info)
{
    memset(info, 0, sizeof(*info));
    memcpy(info->name, volume->name, sizeof(info->name));
    info->size_bytes = volume->base.size_bytes;
    info->allocated_bytes = 1536;
    info->block_bytes = 1;
    info->snapshots = volume->snapshot_count;
}

static int
gate_volume_stat(struct ovsshm_store *store, const char *name, struct ovsshm_volume_info *info)
{
    (void)store;
    pthread_mutex_lock(&gate.lock);
    struct gate_volume *volume = gate_find(name);
    int rc = gate.manage_error ? gate.manage_error : volume ? 0 : -ENOENT;
    if (rc == 0) {
        gate_info(volume, info);
    }
    pthread_mutex_unlock(&gate.lock);
    return rc;
}

static int
gate_volume_list(struct ovsshm_store *store, const char *after, struct ovsshm_volume_info *infos,
                 unsigned count)
{
    (void)store;
    pthread_mutex_lock(&gate.lock);
    int found = gate.manage_error;
    while (found >= 0 && (unsigned)found < count) {
        const struct gate_volume *next = NULL;
        for (unsigned i = 0; i < GATE_VOLUMES; i++) {
            const struct gate_volume *v = &gate.volumes[i];
            if (v->name[0] && (!after || strcmp(v->name, after) > 0) &&
                (!next || strcmp(v->name, next->name) < 0)) {
                next = v;
            }
        }
        if (!next) {
            break;
        }
        gate_info(next, &infos[found++]);
        after = next->name;
    }
    pthread_mutex_unlock(&gate.lock);
    return found;
}

static int
gate_volume_resize(struct ovsshm_store *store, const char *name, struct ovsshm_store_volume *open,
                   uint64_t size_bytes, struct ovsshm_error *error)
{
    (void)store;
    (void)open;
    (void)error;
    pthread_mutex_lock(&gate.lock);
    struct gate_volume *volume = gate_find(name);
    int rc = gate.manage_error ? gate.manage_error : volume ? 0 : -ENOENT;
    if (rc == 0 && size_bytes > GATE_VOLUME_BYTES) {
        rc = -ENOSPC;
    }
    if (rc == 0) {
        volume->base.size_bytes = size_bytes;
    }
    pthread_mutex_unlock(&gate.lock);
    return rc;
}

static int
gate_snapshot_find(const struct gate_volume *volume, const char *snapshot)
{
    for (unsigned i = 0; i < volume->snapshot_count; i++) {
        if (!strcmp(volume->snapshots[i].name, snapshot)) {
            return (int)i;
        }
    }
    return -ENOENT;
}

static int
gate_snapshot_create(struct ovsshm_store *store, const char *name, struct ovsshm_store_volume *open,
                     const char *snapshot, int64_t timeout_s, struct ovsshm_error *error)
{
    (void)store;
    (void)open;
    (void)timeout_s;
    (void)error;
    pthread_mutex_lock(&gate.lock);
    struct gate_volume *volume = gate_find(name);
    int rc = gate.manage_error ? gate.manage_error : volume ? 0 : -ENOENT;
    if (rc == 0 && gate_snapshot_find(volume, snapshot) >= 0) {
        rc = -EEXIST;
    } else if (rc == 0 && volume->snapshot_count == GATE_SNAPSHOTS) {
        rc = -ENOSPC;
    }
    if (rc == 0) {
        struct ovsshm_snapshot_info *info = &volume->snapshots[volume->snapshot_count++];
        memset(info, 0, sizeof(*info));
        snprintf(info->name, sizeof(info->name), "%s", snapshot);
        info->size_bytes = volume->base.size_bytes;
    }
    pthread_mutex_unlock(&gate.lock);
    return rc;
}

/* What rollback, remove and is_synced have in common: both names must exist. */
static int
gate_snapshot_look_up(const char *name, const char *snapshot, struct gate_volume **volume)
{
    *volume = gate_find(name);
    if (gate.manage_error) {
        return gate.manage_error;
    }
    return *volume ? gate_snapshot_find(*volume, snapshot) : -ENOENT;
}

static int
gate_snapshot_rollback(struct ovsshm_store *store, const char *name,
                       struct ovsshm_store_volume *open, const char *snapshot,
                       struct ovsshm_error *error)
{
    (void)store;
    (void)open;
    (void)error;
    pthread_mutex_lock(&gate.lock);
    struct gate_volume *volume;
    int index = gate_snapshot_look_up(name, snapshot, &volume);
    if (index >= 0) {
        volume->snapshot_count = (unsigned)index + 1;
    }
    pthread_mutex_unlock(&gate.lock);
    return index < 0 ? index : 0;
}

static int
gate_snapshot_remove(struct ovsshm_store *store, const char *name, const char *snapshot,
                     struct ovsshm_error *error)
{
    (void)store;
    (void)error;
    pthread_mutex_lock(&gate.lock);
    struct gate_volume *volume;
    int index = gate_snapshot_look_up(name, snapshot, &volume);
    if (index >= 0) {
        volume->snapshot_count--;
        memmove(&volume->snapshots[index], &volume->snapshots[index + 1],
                (volume->snapshot_count - (unsigned)index) * sizeof(volume->snapshots[0]));
    }
    pthread_mutex_unlock(&gate.lock);
    return index < 0 ? index : 0;
}

/* Snapshots named "new..." are not safe yet. */
static int
gate_snapshot_is_synced(struct ovsshm_store *store, const char *name, const char *snapshot)
{
    (void)store;
    pthread_mutex_lock(&gate.lock);
    struct gate_volume *volume;
    int index = gate_snapshot_look_up(name, snapshot, &volume);
    pthread_mutex_unlock(&gate.lock);
    return index < 0 ? index : strncmp(snapshot, "new", 3) != 0;
}

static int
gate_snapshot_list(struct ovsshm_store *store, const char *name, const char *after,
                   struct ovsshm_snapshot_info *infos, unsigned count)
{
    (void)store;
    pthread_mutex_lock(&gate.lock);
    struct gate_volume *volume = gate_find(name);
    int found = gate.manage_error ? gate.manage_error : volume ? 0 : -ENOENT;
    if (found == 0) {
        unsigned first = after ? (unsigned)(gate_snapshot_find(volume, after) + 1) : 0;
        for (unsigned i = first; i < volume->snapshot_count && (unsigned)found < count; i++) {
            infos[found++] = volume->snapshots[i];
        }
    }
    pthread_mutex_unlock(&gate.lock);
    return found;
}

static int
gate_volume_open(struct ovsshm_store *store, const char *name, struct ovsshm_store_volume **volume,
                 struct ovsshm_error *error)
{
    (void)store;
    (void)error;
    pthread_mutex_lock(&gate.lock);
    struct gate_volume *found = gate_find(name);
    int rc = gate.manage_error ? gate.manage_error : found ? 0 : -ENOENT;
    if (rc == 0) {
        *volume = &found->base;
    }
    pthread_mutex_unlock(&gate.lock);
    return rc;
}

static void
gate_volume_close(struct ovsshm_store_volume *volume)
{
    (void)volume;
}

static int
gate_group_create(struct ovsshm_store *store, void **group)
{
    (void)store;
    *group = malloc(1);
    return *group ? 0 : -ENOMEM;
}

/* Its thread ends: memory of its requests that are still held is about to go. */
static void
gate_group_destroy(void *group)
{
    unsigned kept = 0;
    pthread_mutex_lock(&gate.lock);
    for (unsigned i = 0; i < gate.held_count; i++) {
        if (gate.held_by[i] != group) {
            gate.held[kept] = gate.held[i];
            gate.held_by[kept++] = gate.held_by[i];
        }
    }
    gate.held_count = kept;
    pthread_mutex_unlock(&gate.lock);
    free(group);
}

static void
gate_submit(struct ovsshm_store *store, void *group, struct ovsshm_request **requests,
            unsigned count)
{
    (void)store;
    pthread_mutex_lock(&gate.lock);
    for (unsigned i = 0; i < count; i++) {
        if (gate.closed && gate.held_count < GATE_LOG) {
            gate.log[gate.log_count++ % GATE_LOG] = requests[i]->op;
            gate.held_by[gate.held_count] = group;
            gate.held[gate.held_count++] = requests[i];
            pthread_cond_broadcast(&gate.arrived);
        } else {
            gate_perform(requests[i], gate.io_error);
        }
    }
    pthread_mutex_unlock(&gate.lock);
}

static const struct ovsshm_store_type gate_store;

static int
gate_create(const struct ovsshm_store_params *params, struct ovsshm_store **store,
            struct ovsshm_error *error)
{
    (void)params;
    (void)error;
    gate.store.type = &gate_store;
    gate.store.capabilities =
        OVSSHM_CAP_WRITE | OVSSHM_CAP_RESIZE | OVSSHM_CAP_SNAPSHOT | OVSSHM_CAP_MANAGE;
    *store = &gate.store;
    return 0;
}

static void
gate_destroy(struct ovsshm_store *store)
{
    (void)store;
    for (unsigned i = 0; i < GATE_VOLUMES; i++) {
        free(gate.volumes[i].data);
    }
    memset(gate.volumes, 0, sizeof(gate.volumes));
}

static const struct ovsshm_store_type gate_store = {
    .abi = OVSSHM_STORE_ABI,
    .name = "gate",
    .summary = "requests wait until the test lets them go",
    .create = gate_create,
    .destroy = gate_destroy,
    .volume_create = gate_volume_create,
    .volume_remove = gate_volume_remove,
    .volume_stat = gate_volume_stat,
    .volume_list = gate_volume_list,
    .volume_resize = gate_volume_resize,
    .snapshot_create = gate_snapshot_create,
    .snapshot_rollback = gate_snapshot_rollback,
    .snapshot_remove = gate_snapshot_remove,
    .snapshot_is_synced = gate_snapshot_is_synced,
    .snapshot_list = gate_snapshot_list,
    .volume_open = gate_volume_open,
    .volume_close = gate_volume_close,
    .group_create = gate_group_create,
    .group_destroy = gate_group_destroy,
    .submit = gate_submit,
};

#endif
