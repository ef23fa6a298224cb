/* SPDX-License-Identifier: MIT */
#include "arena.h"

#include <errno.h>
#include <stdlib.h>

#define NONE UINT32_MAX

/* blocks[unit]: 0 within a block, else its class + 1, with FREE when it is on a list. */
#define FREE 0x80u

static unsigned
class_of_units(uint64_t units)
{
    return units <= 1 ? 0 : 64 - (unsigned)__builtin_clzll(units - 1);
}

static void
push(struct ovsshm_arena *arena, uint32_t unit, unsigned class)
{
    arena->blocks[unit] = (uint8_t)((class + 1) | FREE);
    arena->next[unit] = arena->first[class];
    arena->first[class] = unit;
}

static void
lists_clear(struct ovsshm_arena *arena)
{
    for (unsigned class = 0; class < OVSSHM_ARENA_CLASSES; class ++) {
        arena->first[class] = NONE;
    }
}

int
ovsshm_arena_init(struct ovsshm_arena *arena, uint64_t bytes)
{
    *arena = (struct ovsshm_arena){.units = (uint32_t)(bytes / OVSSHM_ARENA_UNIT_BYTES),
                                   .free_bytes = bytes};
    pthread_mutex_init(&arena->mutex, NULL);
    arena->next = malloc(arena->units * sizeof(*arena->next));
    arena->blocks = calloc(arena->units, sizeof(*arena->blocks));
    if (!arena->next || !arena->blocks) {
        ovsshm_arena_destroy(arena);
        return -ENOMEM;
    }
    lists_clear(arena);
    /* The largest aligned blocks that the size, not always a power of two, is made of. */
    for (uint32_t unit = 0; unit < arena->units;) {
        unsigned class = 31 - (unsigned)__builtin_clz(arena->units - unit);
        if (unit != 0 && (unsigned)__builtin_ctz(unit) < class) {
            class = (unsigned)__builtin_ctz(unit);
        }
        push(arena, unit, class);
        unit += 1u << class;
    }
    return 0;
}

void
ovsshm_arena_destroy(struct ovsshm_arena *arena)
{
    free(arena->next);
    free(arena->blocks);
    arena->next = NULL;
    arena->blocks = NULL;
    pthread_mutex_destroy(&arena->mutex);
}

/* A block of the class, cut from the smallest that there is. */
static uint32_t
take(struct ovsshm_arena *arena, unsigned class)
{
    unsigned from = class;
    while (from < OVSSHM_ARENA_CLASSES && arena->first[from] == NONE) {
        from++;
    }
    if (from == OVSSHM_ARENA_CLASSES) {
        return NONE;
    }
    uint32_t unit = arena->first[from];
    arena->first[from] = arena->next[unit];
    while (from > class) {
        from--;
        push(arena, unit + (1u << from), from);
    }
    arena->blocks[unit] = (uint8_t)(class + 1);
    return unit;
}

/* Merges the free block at `unit` with free buddies below it, for as long as there are. */
static void
merge_down(struct ovsshm_arena *arena, uint32_t unit, unsigned class)
{
    while (unit & (1u << class)) {
        uint32_t buddy = unit - (1u << class);
        if (arena->blocks[buddy] != ((class + 1) | FREE)) {
            break;
        }
        arena->blocks[unit] = 0;
        unit = buddy;
        class ++;
        arena->blocks[unit] = (uint8_t)((class + 1) | FREE);
    }
}

/* One sweep in order of address merges all: a pair is complete when its upper half is met. */
static void
merge(struct ovsshm_arena *arena)
{
    for (uint32_t unit = 0; unit < arena->units;) {
        uint8_t block = arena->blocks[unit];
        unsigned class = (block & ~FREE) - 1;
        if (block & FREE) {
            merge_down(arena, unit, class);
        }
        unit += 1u << class;
    }
    lists_clear(arena);
    for (uint32_t unit = 0; unit < arena->units;) {
        uint8_t block = arena->blocks[unit];
        unsigned class = (block & ~FREE) - 1;
        if (block & FREE) {
            push(arena, unit, class);
        }
        unit += 1u << class;
    }
    arena->mergeable = false;
}

uint64_t
ovsshm_arena_alloc(struct ovsshm_arena *arena, uint64_t bytes)
{
    if (bytes == 0 || bytes > OVSSHM_ARENA_BYTES_MAX) {
        return OVSSHM_ARENA_FULL;
    }
    unsigned class =
        class_of_units((bytes + OVSSHM_ARENA_UNIT_BYTES - 1) / OVSSHM_ARENA_UNIT_BYTES);
    uint64_t block_bytes = (uint64_t)OVSSHM_ARENA_UNIT_BYTES << class;
    pthread_mutex_lock(&arena->mutex);
    uint32_t unit = take(arena, class);
    if (unit == NONE && arena->mergeable && arena->free_bytes >= block_bytes) {
        merge(arena);
        unit = take(arena, class);
    }
    arena->free_bytes -= unit == NONE ? 0 : block_bytes;
    pthread_mutex_unlock(&arena->mutex);
    return unit == NONE ? OVSSHM_ARENA_FULL : (uint64_t)unit * OVSSHM_ARENA_UNIT_BYTES;
}

bool
ovsshm_arena_free(struct ovsshm_arena *arena, uint64_t offset)
{
    uint64_t unit = offset / OVSSHM_ARENA_UNIT_BYTES;
    if (offset % OVSSHM_ARENA_UNIT_BYTES || unit >= arena->units) {
        return false;
    }
    pthread_mutex_lock(&arena->mutex);
    uint8_t block = arena->blocks[unit];
    bool in_use = block != 0 && !(block & FREE);
    if (in_use) {
        push(arena, (uint32_t)unit, block - 1u);
        arena->free_bytes += (uint64_t)OVSSHM_ARENA_UNIT_BYTES << (block - 1u);
        arena->mergeable = true;
    }
    pthread_mutex_unlock(&arena->mutex);
    return in_use;
}
