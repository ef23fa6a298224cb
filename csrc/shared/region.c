/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "region.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomic.h"

/* Nobody can shrink the file under a mapping (SIGBUS), grow it, or take these promises back. */
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static uint64_t
round_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

static uint32_t
power_of_two(uint32_t value)
{
    uint32_t power = 1;
    while (power < value) {
        power *= 2;
    }
    return power;
}

void
ovsshm_region_plan(struct ovsshm_region_header *h, uint32_t queues, uint32_t depth,
                   uint64_t arena_bytes)
{
    *h = (struct ovsshm_region_header){
        .magic = OVSSHM_REGION_MAGIC,
        .version = OVSSHM_VERSION,
        .header_bytes = sizeof(*h),
        .queue_count = queues,
        .depth = depth,
        .entries = power_of_two(depth),
        .queues_offset = OVSSHM_PAGE_BYTES,
        .sqes_offset = sizeof(struct ovsshm_ring_words),
        .arena_bytes = arena_bytes,
    };
    h->cqes_offset = h->sqes_offset + h->entries * sizeof(struct ovsshm_sqe);
    uint64_t queue_bytes = h->cqes_offset + h->entries * sizeof(struct ovsshm_cqe);
    h->queue_stride_bytes = round_up(queue_bytes, OVSSHM_PAGE_BYTES);
    h->arena_offset = h->queues_offset + queues * h->queue_stride_bytes;
    h->region_bytes = h->arena_offset + arena_bytes;
}

/* ---- the mapping ---------------------------------------------------------------------------- */

struct ovsshm_memory {
    uint32_t references; /* atomic */
    pid_t owner;
    void *base;
    uint64_t bytes;
};

struct ovsshm_memory *
ovsshm_memory_create(uint64_t bytes, unsigned char **base)
{
    struct ovsshm_memory *memory = malloc(sizeof(*memory));
    void *at = memory
                   ? mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                   : MAP_FAILED;
    if (at == MAP_FAILED) {
        free(memory);
        return NULL;
    }
    *memory = (struct ovsshm_memory){1, getpid(), at, bytes};
    *base = at;
    return memory;
}

struct ovsshm_memory *
ovsshm_memory_hold(struct ovsshm_memory *memory)
{
    ovsshm_add(&memory->references, 1);
    return memory;
}

bool
ovsshm_memory_is_held(const struct ovsshm_memory *memory)
{
    return ovsshm_load_acquire(&memory->references) > 1;
}

static int
map(struct ovsshm_region *region, int fd, uint64_t bytes)
{
    struct ovsshm_memory *memory = malloc(sizeof(*memory));
    if (!memory) {
        return -ENOMEM;
    }
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        int rc = -errno;
        free(memory);
        return rc;
    }
    /* A fork would share the rings with a child that knows nothing of them. */
    (void)madvise(base, bytes, MADV_DONTFORK);
    *memory = (struct ovsshm_memory){1, getpid(), base, bytes};
    region->fd = fd;
    region->base = base;
    region->memory = memory;
    return 0;
}

struct ovsshm_memory *
ovsshm_region_hold(const struct ovsshm_region *region)
{
    return ovsshm_memory_hold(region->memory);
}

void
ovsshm_memory_release(struct ovsshm_memory *memory)
{
    if (!memory || ovsshm_sub(&memory->references, 1)) {
        return;
    }
    /* A child never had it; by now these addresses may be something else of the child's. */
    if (memory->owner == getpid()) {
        munmap(memory->base, memory->bytes);
    }
    free(memory);
}

/* ---- the region ----------------------------------------------------------------------------- */

int
ovsshm_region_create(struct ovsshm_region *region, const struct ovsshm_region_header *layout)
{
    *region = (struct ovsshm_region){.fd = -1};
    int fd = memfd_create("ovsshm", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        return -errno;
    }
    int rc = 0;
    if (ftruncate(fd, (off_t)layout->region_bytes) || fcntl(fd, F_ADD_SEALS, SEALS)) {
        rc = -errno;
    }
    rc = rc ? rc : map(region, fd, layout->region_bytes);
    if (rc) {
        close(fd);
        return rc;
    }
    region->layout = *layout;
    memcpy(region->base, layout, sizeof(*layout));
    return 0;
}

/* Everything the client will compute pointers from must be what the plan gives. */
static int
layout_check(const struct ovsshm_region_header *h, uint64_t region_bytes)
{
    if (h->magic != OVSSHM_REGION_MAGIC || h->version != OVSSHM_VERSION ||
        h->header_bytes != sizeof(*h) || h->queue_count < 1 || h->queue_count > OVSSHM_QUEUES_MAX ||
        h->depth < OVSSHM_DEPTH_MIN || h->depth > OVSSHM_DEPTH_MAX ||
        h->region_bytes != region_bytes || h->arena_bytes >= region_bytes) {
        return -EPROTO;
    }
    struct ovsshm_region_header plan;
    ovsshm_region_plan(&plan, h->queue_count, h->depth, h->arena_bytes);
    plan.features = h->features;
    plan.block_bytes = h->block_bytes;
    plan.volume_bytes = h->volume_bytes;
    return memcmp(&plan, h, sizeof(plan)) ? -EPROTO : 0;
}

int
ovsshm_region_attach(struct ovsshm_region *region, int fd, uint64_t region_bytes)
{
    *region = (struct ovsshm_region){.fd = -1};
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    int rc = -EPROTO;
    if (seals < 0 || (seals & SEALS) != SEALS || fstat(fd, &st) ||
        region_bytes < sizeof(region->layout) || (uint64_t)st.st_size != region_bytes) {
        goto err_close;
    }
    rc = map(region, fd, region_bytes);
    if (rc) {
        goto err_close;
    }
    memcpy(&region->layout, region->base, sizeof(region->layout));
    rc = layout_check(&region->layout, region_bytes);
    if (rc) {
        ovsshm_region_destroy(region);
    }
    return rc;

err_close:
    close(fd);
    return rc;
}

void
ovsshm_region_destroy(struct ovsshm_region *region)
{
    if (region->base) {
        ovsshm_memory_release(region->memory);
        close(region->fd);
    }
    *region = (struct ovsshm_region){.fd = -1};
}

struct ovsshm_queue_memory
ovsshm_region_queue(const struct ovsshm_region *region, uint32_t index)
{
    const struct ovsshm_region_header *h = &region->layout;
    unsigned char *queue = region->base + h->queues_offset + index * h->queue_stride_bytes;
    return (struct ovsshm_queue_memory){
        .words = (struct ovsshm_ring_words *)(void *)queue,
        .sqes = (struct ovsshm_sqe *)(void *)(queue + h->sqes_offset),
        .cqes = (struct ovsshm_cqe *)(void *)(queue + h->cqes_offset),
        .entries = h->entries,
    };
}
