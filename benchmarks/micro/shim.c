/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "shim.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/arena.h"
#include "shared/copy.h"
#include "shared/doorbell.h"
#include "shared/ring.h"

#define ENTRIES 256
#define ENTRY_BYTES 64
#define HELD_MAX 256

struct entry {
    unsigned char bytes[ENTRY_BYTES];
};

/* The optimiser must not know what becomes of it. */
static void
used(const void *p)
{
    __asm__ volatile("" : : "r"(p) : "memory");
}

void
micro_ring(unsigned batch, unsigned count)
{
    static struct entry entries[ENTRIES];
    static uint32_t tail __attribute__((aligned(64))), head __attribute__((aligned(64)));
    struct ovsshm_ring producer, consumer;
    struct entry entry = {{0}};
    tail = head = 0;
    ovsshm_ring_init(&producer, &tail, &head, ENTRIES);
    ovsshm_ring_init(&consumer, &head, &tail, ENTRIES);
    for (unsigned done = 0; done < count;) {
        for (unsigned i = 0; i < batch && done < count && ovsshm_ring_space(&producer, 1) > 0;
             i++) {
            entries[ovsshm_ring_slot(&producer, 0)] = entry;
            producer.own++;
            done++;
        }
        ovsshm_ring_publish(&producer);
        for (int n = ovsshm_ring_available(&consumer); n > 0; n--) {
            entry = entries[ovsshm_ring_slot(&consumer, 0)];
            used(&entry);
            consumer.own++;
        }
        ovsshm_ring_publish(&consumer);
    }
}

void
micro_doorbell_needed(unsigned count)
{
    uint32_t armed = 0;
    uint32_t tail = 0;
    for (unsigned i = 0; i < count; i++) {
        ovsshm_store_release(&tail, i);
        if (ovsshm_doorbell_needed(&armed)) {
            abort();
        }
    }
}

int
micro_arena(unsigned bytes, unsigned held, unsigned count)
{
    struct ovsshm_arena arena;
    uint64_t offsets[HELD_MAX + 1];
    int rc = held > HELD_MAX || ovsshm_arena_init(&arena, 4 << 20) ? -1 : 0;
    if (rc) {
        return rc;
    }
    for (unsigned i = 0; i < held; i++) {
        offsets[i] = ovsshm_arena_alloc(&arena, bytes);
        rc = offsets[i] == OVSSHM_ARENA_FULL ? -1 : rc;
    }
    for (unsigned i = 0; i < count && rc == 0; i++) {
        offsets[held] = ovsshm_arena_alloc(&arena, bytes);
        unsigned oldest = i % (held + 1);
        rc = ovsshm_arena_free(&arena, offsets[oldest]) ? 0 : -1;
        offsets[oldest] = offsets[held];
    }
    ovsshm_arena_destroy(&arena);
    return rc;
}

int
micro_copy(unsigned bytes, int far, unsigned count)
{
    unsigned char *from = calloc(1, bytes);
    unsigned char *to = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    for (unsigned i = 0; from && to && i < count; i++) {
        ovsshm_copy_to_peer(to, from, bytes, far != 0);
        used(to);
    }
    int rc = from && to ? 0 : -1;
    free(from);
    free(to);
    return rc;
}

/* ---- two threads ---------------------------------------------------------------------------- */

struct micro_pair {
    uint32_t there __attribute__((aligned(64))); /* round trips begun; UINT32_MAX: the end */
    uint32_t back __attribute__((aligned(64)));  /* round trips answered */
    int there_fd;
    int back_fd;
    pthread_t thread;
};

static uint32_t
wait_for_change(const uint32_t *word, uint32_t old, int fd)
{
    uint32_t now;
    while ((now = ovsshm_load_acquire(word)) == old) {
        if (fd < 0) {
            ovsshm_relax();
        } else {
            ovsshm_doorbell_wait(fd, -1, -1);
        }
    }
    return now;
}

static void
tell(uint32_t *word, uint32_t value, int fd)
{
    ovsshm_store_release(word, value);
    if (fd >= 0) {
        ovsshm_doorbell_ring(fd);
    }
}

static void *
answer(void *arg)
{
    struct micro_pair *pair = arg;
    uint32_t seen = 0;
    while ((seen = wait_for_change(&pair->there, seen, pair->there_fd)) != UINT32_MAX) {
        tell(&pair->back, seen, pair->back_fd);
    }
    return NULL;
}

static int
start_on_last_cpu(struct micro_pair *pair)
{
    cpu_set_t last;
    pthread_attr_t attributes;
    CPU_ZERO(&last);
    CPU_SET((unsigned)sysconf(_SC_NPROCESSORS_ONLN) - 1, &last);
    pthread_attr_init(&attributes);
    pthread_attr_setaffinity_np(&attributes, sizeof(last), &last);
    int rc = pthread_create(&pair->thread, &attributes, answer, pair);
    pthread_attr_destroy(&attributes);
    return rc;
}

static void
pair_free(struct micro_pair *pair)
{
    if (pair->there_fd >= 0) {
        close(pair->there_fd);
    }
    if (pair->back_fd >= 0) {
        close(pair->back_fd);
    }
    free(pair);
}

struct micro_pair *
micro_pair_start(int polls)
{
    struct micro_pair *pair = aligned_alloc(64, sizeof(*pair));
    if (!pair) {
        return NULL;
    }
    *pair = (struct micro_pair){.there_fd = -1, .back_fd = -1};
    if (!polls) {
        pair->there_fd = ovsshm_doorbell_create();
        pair->back_fd = ovsshm_doorbell_create();
    }
    if ((!polls && (pair->there_fd < 0 || pair->back_fd < 0)) || start_on_last_cpu(pair)) {
        pair_free(pair);
        return NULL;
    }
    return pair;
}

void
micro_pair_round_trips(struct micro_pair *pair, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        uint32_t back = pair->back;
        tell(&pair->there, back + 1, pair->there_fd);
        wait_for_change(&pair->back, back, pair->back_fd);
    }
}

void
micro_pair_stop(struct micro_pair *pair)
{
    tell(&pair->there, UINT32_MAX, pair->there_fd);
    pthread_join(pair->thread, NULL);
    pair_free(pair);
}
