/* SPDX-License-Identifier: MIT */
/*
 * Store "memory": volumes that live as long as the server, each a sparse memfd.
 *
 * Data is copied between a mapping of the volume and the client's arena; space is given back and
 * found by the file's own calls.  Everything completes inside submit().
 *
 * A mapping stays when its volume is closed: the next user would pay a page fault for every page,
 * which is more than reading or writing it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "catalog.h"
#include "option.h"
#include "server/log.h"
#include "shared/atomic.h"
#include "shared/copy.h"

#define COPY_BYTES 1048576
#define ST_BLOCK_BYTES 512u
#define KEPT_BYTES (UINT64_C(16) << 30) /* of a mapping that stays, at most: addresses end, too */
#define KEPT_MAX 4096                   /* mappings that stay: a process may have 65530 */

struct snapshot {
    TAILQ_ENTRY(snapshot) link;
    struct ovsshm_snapshot_info info;
    int fd;
};

/* A volume that grew while open: requests may still use the mappings made before. */
struct mapping {
    struct mapping *next;
    unsigned char *base;
    size_t bytes;
};

struct memory_volume {
    struct ovsshm_store_volume base;
    struct catalog_entry entry;       /* store lock */
    TAILQ_HEAD(, snapshot) snapshots; /* oldest first */
    unsigned snapshot_count;
    int fd;
    unsigned char *data;      /* atomic: the newest mapping */
    struct mapping *mappings; /* while open, and the newest after that when it is kept */
    bool kept;                /* store lock */
};

struct memory_store {
    struct ovsshm_store base;
    pthread_mutex_t lock;
    struct catalog volumes;
    unsigned kept;
};

#define ENTRY_VOLUME(e) \
    ((struct memory_volume *)(void *)((char *)(e)-offsetof(struct memory_volume, entry)))

static struct memory_store *
memory_store(struct ovsshm_store *store)
{
    return (struct memory_store *)(void *)store;
}

static struct memory_volume *
volume_find(struct ovsshm_store *store, const char *name)
{
    struct memory_store *memory = memory_store(store);
    pthread_mutex_lock(&memory->lock);
    struct catalog_entry *entry = catalog_find(&memory->volumes, name);
    pthread_mutex_unlock(&memory->lock);
    return entry ? ENTRY_VOLUME(entry) : NULL;
}

/* ---- files ---------------------------------------------------------------------------------- */

static int
file_create(uint64_t bytes)
{
    int fd = memfd_create("ovsshm-volume", MFD_CLOEXEC);
    if (fd >= 0 && ftruncate(fd, (off_t)bytes)) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    return fd < 0 ? -errno : fd;
}

static uint64_t
file_allocated(int fd)
{
    struct stat st;
    return fstat(fd, &st) ? 0 : (uint64_t)st.st_blocks * ST_BLOCK_BYTES;
}

static int
copy_range(int to, int from, off_t offset, off_t end, unsigned char *buffer)
{
    while (offset < end) {
        size_t want = end - offset < COPY_BYTES ? (size_t)(end - offset) : COPY_BYTES;
        ssize_t n = pread(from, buffer, want, offset);
        if (n <= 0 || pwrite(to, buffer, (size_t)n, offset) != n) {
            return n == 0 ? -EIO : -errno;
        }
        offset += n;
    }
    return 0;
}

/* `to` is all hole. */
static int
file_copy(int to, int from)
{
    unsigned char *buffer = malloc(COPY_BYTES);
    int rc = buffer ? 0 : -ENOMEM;
    off_t end = 0;
    while (rc == 0) {
        off_t start = lseek(from, end, SEEK_DATA);
        if (start < 0) {
            rc = errno == ENXIO ? 0 : -errno;
            break;
        }
        end = lseek(from, start, SEEK_HOLE);
        rc = end < 0 ? -errno : copy_range(to, from, start, end, buffer);
    }
    free(buffer);
    return rc;
}

/* ---- the store and its volumes -------------------------------------------------------------- */

static int
memory_create(const struct ovsshm_store_params *params, struct ovsshm_store **out,
              struct ovsshm_error *error)
{
    int rc = ovsshm_option_none(&ovsshm_store_memory, params, error);
    struct memory_store *memory = rc ? NULL : calloc(1, sizeof(*memory));
    if (!memory) {
        return rc ? rc : srv_error(error, -ENOMEM, "out of memory");
    }
    memory->base.capabilities = OVSSHM_CAP_WRITE | OVSSHM_CAP_DISCARD | OVSSHM_CAP_WRITE_ZEROES |
                                OVSSHM_CAP_BLOCK_STATUS | OVSSHM_CAP_RESIZE | OVSSHM_CAP_SNAPSHOT |
                                OVSSHM_CAP_MANAGE;
    memory->base.type = &ovsshm_store_memory;
    LIST_INIT(&memory->volumes);
    pthread_mutex_init(&memory->lock, NULL);
    *out = &memory->base;
    return 0;
}

static void
snapshot_free(struct memory_volume *volume, struct snapshot *snapshot)
{
    TAILQ_REMOVE(&volume->snapshots, snapshot, link);
    volume->snapshot_count--;
    close(snapshot->fd);
    free(snapshot);
}

/* This mapping and those made before it. */
static void
unmap_from(struct mapping **from)
{
    struct mapping *mapping = *from;
    *from = NULL;
    while (mapping) {
        struct mapping *next = mapping->next;
        munmap(mapping->base, mapping->bytes);
        free(mapping);
        mapping = next;
    }
}

static void
volume_free(struct memory_volume *volume)
{
    unmap_from(&volume->mappings);
    while (!TAILQ_EMPTY(&volume->snapshots)) {
        snapshot_free(volume, TAILQ_FIRST(&volume->snapshots));
    }
    close(volume->fd);
    free(volume);
}

static void
memory_destroy(struct ovsshm_store *store)
{
    struct memory_store *memory = memory_store(store);
    if (!memory) {
        return;
    }
    while (!LIST_EMPTY(&memory->volumes)) {
        struct catalog_entry *entry = LIST_FIRST(&memory->volumes);
        LIST_REMOVE(entry, link);
        volume_free(ENTRY_VOLUME(entry));
    }
    pthread_mutex_destroy(&memory->lock);
    free(memory);
}

static int
memory_volume_create(struct ovsshm_store *store, const char *name, uint64_t size_bytes,
                     struct ovsshm_error *error)
{
    struct memory_store *memory = memory_store(store);
    if (volume_find(store, name)) {
        return -EEXIST;
    }
    struct memory_volume *volume = calloc(1, sizeof(*volume));
    if (!volume) {
        return -ENOMEM;
    }
    volume->fd = file_create(size_bytes);
    if (volume->fd < 0) {
        int rc = volume->fd;
        free(volume);
        return srv_error(error, rc, "cannot make a memory file of %llu bytes: %s",
                         (unsigned long long)size_bytes, strerror(-rc));
    }
    volume->base =
        (struct ovsshm_store_volume){.store = store, .size_bytes = size_bytes, .block_bytes = 1};
    strcpy(volume->entry.name, name);
    TAILQ_INIT(&volume->snapshots);
    pthread_mutex_lock(&memory->lock);
    catalog_insert(&memory->volumes, &volume->entry);
    pthread_mutex_unlock(&memory->lock);
    return 0;
}

static int
memory_volume_remove(struct ovsshm_store *store, const char *name, struct ovsshm_error *error)
{
    struct memory_store *memory = memory_store(store);
    struct memory_volume *volume = volume_find(store, name);
    (void)error;
    if (!volume) {
        return -ENOENT;
    }
    pthread_mutex_lock(&memory->lock);
    LIST_REMOVE(&volume->entry, link);
    memory->kept -= volume->kept;
    pthread_mutex_unlock(&memory->lock);
    volume_free(volume);
    return 0;
}

static void
volume_describe(const struct memory_volume *volume, struct ovsshm_volume_info *info)
{
    *info = (struct ovsshm_volume_info){
        .size_bytes = ovsshm_load_relaxed(&volume->base.size_bytes),
        .allocated_bytes = file_allocated(volume->fd),
        .block_bytes = volume->base.block_bytes,
        .snapshots = ovsshm_load_relaxed(&volume->snapshot_count),
    };
    strcpy(info->name, volume->entry.name);
}

static int
memory_volume_stat(struct ovsshm_store *store, const char *name, struct ovsshm_volume_info *info)
{
    const struct memory_volume *volume = volume_find(store, name);
    if (!volume) {
        return -ENOENT;
    }
    volume_describe(volume, info);
    return 0;
}

static int
memory_volume_list(struct ovsshm_store *store, const char *after, struct ovsshm_volume_info *infos,
                   unsigned count)
{
    struct memory_store *memory = memory_store(store);
    unsigned n = 0;
    pthread_mutex_lock(&memory->lock);
    struct catalog_entry *entry = catalog_after(&memory->volumes, after);
    for (; entry && n < count; entry = LIST_NEXT(entry, link)) {
        volume_describe(ENTRY_VOLUME(entry), &infos[n++]);
    }
    pthread_mutex_unlock(&memory->lock);
    return (int)n;
}

static void *
map(int fd, size_t bytes)
{
    return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

/*
 * Maps so much of it, in addition to what is mapped already if that is not enough.  A mapping may
 * reach beyond the end, so one that grows bit by bit gets room for more.
 */
static int
volume_map(struct memory_volume *volume, uint64_t bytes)
{
    uint64_t mapped = volume->mappings ? volume->mappings->bytes : 0;
    if (mapped && mapped >= bytes) {
        return 0;
    }
    struct mapping *mapping = malloc(sizeof(*mapping));
    if (!mapping) {
        return -ENOMEM;
    }
    mapping->bytes = 2 * mapped > bytes ? 2 * mapped : bytes ? bytes : 1;
    mapping->base = map(volume->fd, mapping->bytes);
    if (mapping->base == MAP_FAILED && mapping->bytes > bytes) {
        mapping->bytes = bytes;
        mapping->base = map(volume->fd, bytes);
    }
    if (mapping->base == MAP_FAILED) {
        int rc = -errno;
        free(mapping);
        return rc;
    }
    mapping->next = volume->mappings;
    volume->mappings = mapping;
    ovsshm_store_release(&volume->data, mapping->base);
    return 0;
}

static int
memory_volume_open(struct ovsshm_store *store, const char *name, struct ovsshm_store_volume **out,
                   struct ovsshm_error *error)
{
    struct memory_volume *volume = volume_find(store, name);
    (void)error;
    int rc = volume ? volume_map(volume, volume->base.size_bytes) : -ENOENT;
    if (rc == 0) {
        *out = &volume->base;
    }
    return rc;
}

static void
memory_volume_close(struct ovsshm_store_volume *open)
{
    struct memory_volume *volume = (struct memory_volume *)(void *)open;
    struct memory_store *memory = memory_store(open->store);
    pthread_mutex_lock(&memory->lock);
    memory->kept -= volume->kept;
    volume->kept = volume->mappings->bytes <= KEPT_BYTES && memory->kept < KEPT_MAX;
    memory->kept += volume->kept;
    pthread_mutex_unlock(&memory->lock);
    unmap_from(volume->kept ? &volume->mappings->next : &volume->mappings);
}

static int
memory_volume_resize(struct ovsshm_store *store, const char *name, struct ovsshm_store_volume *open,
                     uint64_t size_bytes, struct ovsshm_error *error)
{
    struct memory_volume *volume = volume_find(store, name);
    (void)error;
    if (!volume) {
        return -ENOENT;
    }
    int rc = open ? volume_map(volume, size_bytes) : 0;
    if (rc == 0 && ftruncate(volume->fd, (off_t)size_bytes)) {
        rc = -errno;
    }
    if (rc == 0) {
        ovsshm_store_relaxed(&volume->base.size_bytes, size_bytes);
    }
    return rc;
}

static int
memory_volume_rename(struct ovsshm_store *store, const char *from, const char *to,
                     struct ovsshm_error *error)
{
    struct memory_store *memory = memory_store(store);
    struct memory_volume *volume = volume_find(store, from);
    if (!volume) {
        return -ENOENT;
    }
    (void)memory_volume_remove(store, to, error);
    pthread_mutex_lock(&memory->lock);
    catalog_rename(&memory->volumes, &volume->entry, to);
    pthread_mutex_unlock(&memory->lock);
    return 0;
}

/* ---- snapshots: full copies of what is allocated --------------------------------------------- */

static struct snapshot *
snapshot_find(struct memory_volume *volume, const char *name)
{
    struct snapshot *snapshot;
    TAILQ_FOREACH(snapshot, &volume->snapshots, link)
    {
        if (!strcmp(snapshot->info.name, name)) {
            return snapshot;
        }
    }
    return NULL;
}

static int
memory_snapshot_create(struct ovsshm_store *store, const char *name,
                       struct ovsshm_store_volume *open, const char *snapshot_name,
                       int64_t timeout_s, struct ovsshm_error *error)
{
    struct memory_volume *volume = volume_find(store, name);
    struct timespec now;
    (void)open;
    (void)timeout_s;
    (void)error;
    if (!volume || snapshot_find(volume, snapshot_name)) {
        return volume ? -EEXIST : -ENOENT;
    }
    struct snapshot *snapshot = calloc(1, sizeof(*snapshot));
    if (!snapshot) {
        return -ENOMEM;
    }
    snapshot->fd = file_create(volume->base.size_bytes);
    int rc = snapshot->fd < 0 ? snapshot->fd : file_copy(snapshot->fd, volume->fd);
    if (rc) {
        if (snapshot->fd >= 0) {
            close(snapshot->fd);
        }
        free(snapshot);
        return rc;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    strcpy(snapshot->info.name, snapshot_name);
    snapshot->info.size_bytes = volume->base.size_bytes;
    snapshot->info.created_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    TAILQ_INSERT_TAIL(&volume->snapshots, snapshot, link);
    ovsshm_add_relaxed(&volume->snapshot_count, 1);
    return 0;
}

static int
memory_snapshot_rollback(struct ovsshm_store *store, const char *name,
                         struct ovsshm_store_volume *open, const char *snapshot_name,
                         struct ovsshm_error *error)
{
    struct memory_volume *volume = volume_find(store, name);
    struct snapshot *snapshot = volume ? snapshot_find(volume, snapshot_name) : NULL;
    (void)error;
    if (!snapshot) {
        return -ENOENT;
    }
    int rc = open ? volume_map(volume, snapshot->info.size_bytes) : 0;
    if (rc) {
        return rc;
    }
    if (ftruncate(volume->fd, 0) || ftruncate(volume->fd, (off_t)snapshot->info.size_bytes)) {
        return -errno;
    }
    rc = file_copy(volume->fd, snapshot->fd);
    if (rc) {
        return rc;
    }
    while (TAILQ_NEXT(snapshot, link)) {
        snapshot_free(volume, TAILQ_NEXT(snapshot, link));
    }
    ovsshm_store_relaxed(&volume->base.size_bytes, snapshot->info.size_bytes);
    return 0;
}

static int
memory_snapshot_remove(struct ovsshm_store *store, const char *name, const char *snapshot_name,
                       struct ovsshm_error *error)
{
    struct memory_volume *volume = volume_find(store, name);
    struct snapshot *snapshot = volume ? snapshot_find(volume, snapshot_name) : NULL;
    (void)error;
    if (!snapshot) {
        return -ENOENT;
    }
    snapshot_free(volume, snapshot);
    return 0;
}

static int
memory_snapshot_is_synced(struct ovsshm_store *store, const char *name, const char *snapshot_name)
{
    struct memory_volume *volume = volume_find(store, name);
    return volume && snapshot_find(volume, snapshot_name) ? 1 : -ENOENT;
}

static int
memory_snapshot_list(struct ovsshm_store *store, const char *name, const char *after,
                     struct ovsshm_snapshot_info *infos, unsigned count)
{
    struct memory_volume *volume = volume_find(store, name);
    struct snapshot *snapshot = NULL;
    unsigned n = 0;
    if (!volume || (after && !(snapshot = snapshot_find(volume, after)))) {
        return -ENOENT;
    }
    snapshot = snapshot ? TAILQ_NEXT(snapshot, link) : TAILQ_FIRST(&volume->snapshots);
    for (; snapshot && n < count; snapshot = TAILQ_NEXT(snapshot, link)) {
        infos[n] = snapshot->info;
        infos[n++].allocated_bytes = file_allocated(snapshot->fd);
    }
    return (int)n;
}

/* ---- requests ------------------------------------------------------------------------------- */

static int32_t
serve_read(const unsigned char *data, const struct ovsshm_request *r)
{
    const unsigned char *from = data + r->offset_bytes;
    for (uint32_t i = 0; i < r->iov_count; i++) {
        ovsshm_copy_to_peer(r->iov[i].iov_base, from, r->iov[i].iov_len, r->far);
        from += r->iov[i].iov_len;
    }
    return (int32_t)r->length_bytes;
}

static int32_t
serve_write(unsigned char *data, const struct ovsshm_request *r)
{
    unsigned char *to = data + r->offset_bytes;
    for (uint32_t i = 0; i < r->iov_count; i++) {
        memcpy(to, r->iov[i].iov_base, r->iov[i].iov_len);
        to += r->iov[i].iov_len;
    }
    return (int32_t)r->length_bytes;
}

static int32_t
serve_zeroes(int fd, const struct ovsshm_request *r)
{
    off_t offset = (off_t)r->offset_bytes;
    bool keep = r->op == OVSSHM_OP_WRITE_ZEROES && !(r->flags & OVSSHM_SQE_MAY_UNMAP);
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, r->length_bytes) ||
        (keep && fallocate(fd, FALLOC_FL_KEEP_SIZE, offset, r->length_bytes))) {
        return -errno;
    }
    return 0;
}

static int32_t
serve_block_status(int fd, const struct ovsshm_request *r)
{
    off_t offset = (off_t)r->offset_bytes;
    off_t end = offset + r->length_bytes;
    uint32_t n = 0;
    while (offset < end && n < r->extents_max) {
        off_t next = lseek(fd, offset, SEEK_DATA);
        bool hole = next != offset;
        if (next < 0 && errno != ENXIO) {
            return -errno;
        }
        if (!hole) {
            next = lseek(fd, offset, SEEK_HOLE);
        }
        next = next < 0 || next > end ? end : next;
        r->extents[n++] = (struct ovsshm_extent){
            .length_bytes = (uint64_t)(next - offset),
            .flags = hole ? OVSSHM_EXTENT_HOLE | OVSSHM_EXTENT_ZERO : 0,
        };
        offset = next;
    }
    return (int32_t)n;
}

static int32_t
serve(const struct ovsshm_request *r)
{
    struct memory_volume *volume = (struct memory_volume *)(void *)r->volume;
    unsigned char *data = ovsshm_load_acquire(&volume->data);
    switch (r->op) {
    case OVSSHM_OP_READ: return serve_read(data, r);
    case OVSSHM_OP_WRITE: return serve_write(data, r);
    case OVSSHM_OP_DISCARD:
    case OVSSHM_OP_WRITE_ZEROES: return serve_zeroes(volume->fd, r);
    case OVSSHM_OP_BLOCK_STATUS: return serve_block_status(volume->fd, r);
    default: return 0; /* flush */
    }
}

static void
memory_submit(struct ovsshm_store *store, void *group, struct ovsshm_request **requests,
              unsigned count)
{
    (void)store;
    (void)group;
    for (unsigned i = 0; i < count; i++) {
        ovsshm_request_complete(requests[i], serve(requests[i]));
    }
}

const struct ovsshm_store_type ovsshm_store_memory = {
    .abi = OVSSHM_STORE_ABI,
    .name = "memory",
    .summary = "volumes in memory, gone when the server ends",
    .create = memory_create,
    .destroy = memory_destroy,
    .volume_create = memory_volume_create,
    .volume_remove = memory_volume_remove,
    .volume_stat = memory_volume_stat,
    .volume_list = memory_volume_list,
    .volume_resize = memory_volume_resize,
    .volume_rename = memory_volume_rename,
    .volume_truncate = memory_volume_resize,
    .snapshot_create = memory_snapshot_create,
    .snapshot_rollback = memory_snapshot_rollback,
    .snapshot_remove = memory_snapshot_remove,
    .snapshot_is_synced = memory_snapshot_is_synced,
    .snapshot_list = memory_snapshot_list,
    .volume_open = memory_volume_open,
    .volume_close = memory_volume_close,
    .submit = memory_submit,
};
