/* SPDX-License-Identifier: MIT */
/*
 * Goal: blocks never overlap, alignment holds, what is freed can be had again in any size.
 * Method: a byte map of who owns what, random scripts, then threads that write what they own.
 */
#define _GNU_SOURCE
#include "client/arena.h"

#include <sys/mman.h>

#include "testlib.h"

#define UNIT OVSSHM_ARENA_UNIT_BYTES

static uint64_t
block_bytes(uint64_t bytes)
{
    uint64_t block = UNIT;
    while (block < bytes) {
        block *= 2;
    }
    return block;
}

static void
test_sizes_and_alignment(void)
{
    struct ovsshm_arena arena;
    CHECK_EQ(ovsshm_arena_init(&arena, 1 << 20), 0);
    CHECK_EQ(ovsshm_arena_alloc(&arena, 0), OVSSHM_ARENA_FULL);
    CHECK_EQ(ovsshm_arena_alloc(&arena, (1 << 20) + 1), OVSSHM_ARENA_FULL);
    CHECK_EQ(ovsshm_arena_alloc(&arena, UINT64_MAX), OVSSHM_ARENA_FULL);
    for (uint64_t bytes = 1; bytes <= 1 << 20; bytes = bytes * 3 / 2 + 1) {
        uint64_t offset = ovsshm_arena_alloc(&arena, bytes);
        CHECK(offset != OVSSHM_ARENA_FULL && offset % block_bytes(bytes) == 0);
        CHECK_EQ(arena.free_bytes, (1 << 20) - block_bytes(bytes));
        CHECK(ovsshm_arena_free(&arena, offset));
    }
    CHECK_EQ(ovsshm_arena_alloc(&arena, 1 << 20), 0);
    CHECK_EQ(ovsshm_arena_alloc(&arena, 1), OVSSHM_ARENA_FULL);
    ovsshm_arena_destroy(&arena);
}

static void
test_sizes_that_are_no_power_of_two_are_used_in_full(void)
{
    for (uint64_t units = 8; units < 700; units += 8) {
        struct ovsshm_arena arena;
        CHECK_EQ(ovsshm_arena_init(&arena, units * UNIT), 0);
        for (uint64_t i = 0; i < units; i++) {
            CHECK(ovsshm_arena_alloc(&arena, UNIT) < units * UNIT);
        }
        CHECK_EQ(ovsshm_arena_alloc(&arena, UNIT), OVSSHM_ARENA_FULL);
        ovsshm_arena_destroy(&arena);
    }
}

static void
test_last_freed_comes_back_first(void)
{
    struct ovsshm_arena arena;
    CHECK_EQ(ovsshm_arena_init(&arena, 1 << 20), 0);
    uint64_t a = ovsshm_arena_alloc(&arena, 4096);
    uint64_t b = ovsshm_arena_alloc(&arena, 4096);
    CHECK(ovsshm_arena_free(&arena, a) && ovsshm_arena_free(&arena, b));
    CHECK_EQ(ovsshm_arena_alloc(&arena, 4096), b);
    CHECK_EQ(ovsshm_arena_alloc(&arena, 4096), a);
    ovsshm_arena_destroy(&arena);
}

static void
test_fragments_merge_to_the_whole(void)
{
    struct ovsshm_arena arena;
    const unsigned count = (1 << 20) / UNIT;
    CHECK_EQ(ovsshm_arena_init(&arena, 1 << 20), 0);
    for (unsigned i = 0; i < count; i++) {
        CHECK(ovsshm_arena_alloc(&arena, 1) != OVSSHM_ARENA_FULL);
    }
    for (unsigned i = 0; i < count; i++) { /* odd ones first, then even */
        CHECK(ovsshm_arena_free(&arena, (uint64_t)(i * 2 + (i < count / 2)) % count * UNIT));
    }
    CHECK_EQ(arena.free_bytes, 1 << 20);
    CHECK_EQ(ovsshm_arena_alloc(&arena, 1 << 20), 0);
    ovsshm_arena_destroy(&arena);
}

static void
test_caller_freeing_what_is_no_block_changes_nothing(void)
{
    struct ovsshm_arena arena;
    CHECK_EQ(ovsshm_arena_init(&arena, 1 << 20), 0);
    uint64_t offset = ovsshm_arena_alloc(&arena, 8192);
    CHECK(!ovsshm_arena_free(&arena, offset + 1));
    CHECK(!ovsshm_arena_free(&arena, offset + 4096));
    CHECK(!ovsshm_arena_free(&arena, 1 << 20));
    CHECK(!ovsshm_arena_free(&arena, UINT64_MAX));
    CHECK(ovsshm_arena_free(&arena, offset));
    CHECK(!ovsshm_arena_free(&arena, offset));
    CHECK_EQ(arena.free_bytes, 1 << 20);
    ovsshm_arena_destroy(&arena);
}

/* ---- random scripts against a map of owners ---------------------------------------------------
 */

#define BLOCKS 256

static void
script(uint64_t arena_bytes, uint64_t seed)
{
    struct ovsshm_arena arena;
    uint64_t offsets[BLOCKS], sizes[BLOCKS];
    unsigned count = 0;
    uint64_t used = 0;
    uint8_t *owned = calloc(arena_bytes / UNIT, 1);
    CHECK(owned);
    CHECK_EQ(ovsshm_arena_init(&arena, arena_bytes), 0);
    for (unsigned step = 0; step < 20000; step++) {
        if (count < BLOCKS && test_random(&seed) % 2) {
            uint64_t bytes = 1 + test_random(&seed) % (UNIT << test_random(&seed) % 9);
            uint64_t offset = ovsshm_arena_alloc(&arena, bytes);
            if (offset == OVSSHM_ARENA_FULL) {
                continue;
            }
            bytes = block_bytes(bytes);
            CHECK(offset % bytes == 0 && offset + bytes <= arena_bytes);
            for (uint64_t u = offset / UNIT; u < (offset + bytes) / UNIT; u++) {
                CHECK(!owned[u]);
                owned[u] = 1;
            }
            offsets[count] = offset;
            sizes[count++] = bytes;
            used += bytes;
        } else if (count) {
            unsigned i = (unsigned)(test_random(&seed) % count);
            CHECK(ovsshm_arena_free(&arena, offsets[i]));
            memset(owned + offsets[i] / UNIT, 0, sizes[i] / UNIT);
            used -= sizes[i];
            offsets[i] = offsets[--count];
            sizes[i] = sizes[count];
        }
        CHECK_EQ(arena.free_bytes, arena_bytes - used);
    }
    while (count) {
        CHECK(ovsshm_arena_free(&arena, offsets[--count]));
    }
    uint64_t largest = UNIT;
    while (largest * 2 <= arena_bytes) {
        largest *= 2;
    }
    CHECK(ovsshm_arena_alloc(&arena, largest) != OVSSHM_ARENA_FULL);
    ovsshm_arena_destroy(&arena);
    free(owned);
}

static void
test_random_scripts_never_overlap(void)
{
    for (uint64_t seed = 1; seed <= 8; seed++) {
        script(1 << 20, seed);
        script(4096, seed);
        script(3 * 4096 + (5 << 16), seed);
    }
}

/* ---- threads -----------------------------------------------------------------------------------
 */

#define THREADS 4
#define ARENA_BYTES (1 << 20)

struct worker {
    struct ovsshm_arena *arena;
    unsigned char *memory;
    uint64_t seed;
};

/* Owns some blocks at a time, filled with its number, and finds them so when it frees them. */
static void *
work(void *arg)
{
    struct worker *w = arg;
    uint64_t offsets[16];
    uint64_t sizes[16] = {0};
    unsigned char mark = (unsigned char)w->seed;
    for (unsigned step = 0; step < 30000; step++) {
        unsigned i = (unsigned)(test_random(&w->seed) % 16);
        if (sizes[i]) {
            for (uint64_t b = 0; b < sizes[i]; b += 64) {
                CHECK_EQ(w->memory[offsets[i] + b], mark);
            }
            CHECK(ovsshm_arena_free(w->arena, offsets[i]));
            sizes[i] = 0;
        } else {
            uint64_t bytes = 1 + test_random(&w->seed) % 65536;
            offsets[i] = ovsshm_arena_alloc(w->arena, bytes);
            if (offsets[i] != OVSSHM_ARENA_FULL) {
                sizes[i] = bytes;
                for (uint64_t b = 0; b < bytes; b += 64) {
                    w->memory[offsets[i] + b] = mark;
                }
            }
        }
    }
    for (unsigned i = 0; i < 16; i++) {
        CHECK(!sizes[i] || ovsshm_arena_free(w->arena, offsets[i]));
    }
    return NULL;
}

static void
test_threads_never_share_a_block(void)
{
    struct ovsshm_arena arena;
    unsigned char *memory = malloc(ARENA_BYTES);
    pthread_t threads[THREADS];
    struct worker workers[THREADS];
    CHECK(memory);
    CHECK_EQ(ovsshm_arena_init(&arena, ARENA_BYTES), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){&arena, memory, i + 1};
        threads[i] = test_thread(work, &workers[i]);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        test_join(threads[i]);
    }
    CHECK_EQ(arena.free_bytes, ARENA_BYTES);
    CHECK_EQ(ovsshm_arena_alloc(&arena, ARENA_BYTES), 0);
    ovsshm_arena_destroy(&arena);
    free(memory);
}

int
main(void)
{
    test_begin(120);
    RUN(test_sizes_and_alignment);
    RUN(test_sizes_that_are_no_power_of_two_are_used_in_full);
    RUN(test_last_freed_comes_back_first);
    RUN(test_fragments_merge_to_the_whole);
    RUN(test_caller_freeing_what_is_no_block_changes_nothing);
    RUN(test_random_scripts_never_overlap);
    RUN(test_threads_never_share_a_block);
    return 0;
}
