/* SPDX-License-Identifier: MIT */
/*
 * The shared region: a sealed memfd with header, queues and arena.  The server creates it, the
 * client attaches.  This is the only file that maps shared memory.
 *
 * Ownership: destroy closes, and unmaps when nobody holds the memory any more; it accepts a zeroed
 * region.  Holding and releasing may be done by any thread.
 * Errors: -errno; attach refuses with -EPROTO what it does not understand.
 */
#ifndef OVSSHM_REGION_H
#define OVSSHM_REGION_H

#include <stdbool.h>

#include <openvstorage/shm_wire.h>

struct ovsshm_memory;

struct ovsshm_region {
    int fd; /* valid when base is not NULL */
    unsigned char *base;
    struct ovsshm_memory *memory;       /* the mapping, which may outlive the region */
    struct ovsshm_region_header layout; /* private copy: the shared one can change under us */
};

/* One queue of a region, as pointers. */
struct ovsshm_queue_memory {
    struct ovsshm_ring_words *words;
    struct ovsshm_sqe *sqes;
    struct ovsshm_cqe *cqes;
    uint32_t entries;
};

/* Fills the header for these parameters; all are in range (the caller has checked). */
void ovsshm_region_plan(struct ovsshm_region_header *h, uint32_t queues, uint32_t depth,
                        uint64_t arena_bytes);

/* layout: from ovsshm_region_plan, plus features, block_bytes and volume_bytes. */
int ovsshm_region_create(struct ovsshm_region *region, const struct ovsshm_region_header *layout);

/* Takes fd, also when it fails.  region_bytes: as said by the open reply. */
int ovsshm_region_attach(struct ovsshm_region *region, int fd, uint64_t region_bytes);

void ovsshm_region_destroy(struct ovsshm_region *region);

/* The mapping stays until this too has been released. */
struct ovsshm_memory *ovsshm_region_hold(const struct ovsshm_region *region);
void ovsshm_memory_release(struct ovsshm_memory *memory); /* also in shm.h and shm_server.h */

/* Memory of the process alone that can be held as well; NULL: there is none. */
struct ovsshm_memory *ovsshm_memory_create(uint64_t bytes, unsigned char **base);
struct ovsshm_memory *ovsshm_memory_hold(struct ovsshm_memory *memory);
bool ovsshm_memory_is_held(const struct ovsshm_memory *memory); /* beside its creator */

struct ovsshm_queue_memory ovsshm_region_queue(const struct ovsshm_region *region, uint32_t index);

static inline unsigned char *
ovsshm_region_arena(const struct ovsshm_region *region)
{
    return region->base + region->layout.arena_offset;
}

/* The word through which the server publishes the volume's size. */
static inline uint64_t *
ovsshm_region_volume_bytes(const struct ovsshm_region *region)
{
    return &((struct ovsshm_region_header *)(void *)region->base)->volume_bytes;
}

#endif
