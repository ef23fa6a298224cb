/* SPDX-License-Identifier: MIT */
/*
 * Who has which part of the shared arena.  Deals in offsets only and never touches the arena: all
 * that it knows is in private memory, where the server cannot spoil it.
 *
 * A buddy system with lazy merging: blocks are powers of two; freed ones go on top of their class's
 * list and come back warm.  Only when a class and all above it are empty are neighbours merged, so
 * a fragmented arena costs one sweep, never a failure.
 *
 * Threads: any; calls take turns.  Ownership: destroy frees the books, not the arena.
 */
#ifndef OVSSHM_ARENA_H
#define OVSSHM_ARENA_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OVSSHM_ARENA_UNIT_BYTES 512 /* smallest block */
#define OVSSHM_ARENA_BYTES_MAX (1ull << 40)
#define OVSSHM_ARENA_CLASSES 32 /* log2(BYTES_MAX / UNIT_BYTES) + 1 */
#define OVSSHM_ARENA_FULL UINT64_MAX

struct ovsshm_arena {
    pthread_mutex_t mutex;
    uint32_t first[OVSSHM_ARENA_CLASSES]; /* free blocks of each class, last freed first */
    uint32_t *next;                       /* by unit: link of these lists */
    uint8_t *blocks;                      /* by unit: what starts here, see arena.c */
    uint32_t units;
    uint64_t free_bytes;
    bool mergeable; /* blocks were freed since the last sweep */
};

/* bytes: multiple of the unit, at most BYTES_MAX.  0, -ENOMEM. */
int ovsshm_arena_init(struct ovsshm_arena *arena, uint64_t bytes);
void ovsshm_arena_destroy(struct ovsshm_arena *arena);

/* Offset of a block aligned to its size rounded up to a power of two, or OVSSHM_ARENA_FULL. */
uint64_t ovsshm_arena_alloc(struct ovsshm_arena *arena, uint64_t bytes);

/* False when no block that is in use starts at offset; then nothing has changed. */
bool ovsshm_arena_free(struct ovsshm_arena *arena, uint64_t offset);

#endif
