/* SPDX-License-Identifier: MIT */
/*
 * One side's view of a single-producer, single-consumer ring.  The entries are typed by the user;
 * this file only moves the indexes.
 *
 * Indexes are free-running modulo 2^32 and masked on access, so `tail - head` is the fill level
 * whatever they wrapped to.  Each side owns one index and keeps it in private memory: what the peer
 * writes can mislead us about how much there is, never about where we are.
 *
 * Threads: one producer, one consumer.  Errors: -EPROTO when the peer's index is impossible.
 */
#ifndef OVSSHM_RING_H
#define OVSSHM_RING_H

#include <errno.h>
#include <stdint.h>

#include "atomic.h"

#define OVSSHM_RING_LOOKS 16

struct ovsshm_ring {
    uint32_t *own_word;        /* shared: where we publish our index */
    const uint32_t *peer_word; /* shared: where the peer publishes its own */
    uint32_t own;              /* our index; may run ahead of *own_word */
    uint32_t peer;             /* the peer's index when we last looked */
    uint32_t entries;          /* power of two */
};

static inline void
ovsshm_ring_init(struct ovsshm_ring *ring, uint32_t *own_word, const uint32_t *peer_word,
                 uint32_t entries)
{
    *ring = (struct ovsshm_ring){.own_word = own_word, .peer_word = peer_word, .entries = entries};
}

/* Slot of index `own + ahead`. */
static inline uint32_t
ovsshm_ring_slot(const struct ovsshm_ring *ring, uint32_t ahead)
{
    return (ring->own + ahead) & (ring->entries - 1);
}

/* Makes all entries (or free slots) before our index visible to the peer. */
static inline void
ovsshm_ring_publish(struct ovsshm_ring *ring)
{
    /* R1: entries were written (read) before; pairs with A1 in the peer's ring_available/space. */
    ovsshm_store_release(ring->own_word, ring->own);
}

/* Consumer: entries ready to read, or -EPROTO. */
static inline int
ovsshm_ring_available(struct ovsshm_ring *ring)
{
    if (ring->peer == ring->own) {
        /* A1 pairs with R1: entries up to this tail are complete. */
        ring->peer = ovsshm_load_acquire(ring->peer_word);
    }
    uint32_t count = ring->peer - ring->own;
    return count <= ring->entries ? (int)count : -EPROTO;
}

/* Consumer: a few looks for the next entry, between two of the waiter's at dearer things. */
static inline void
ovsshm_ring_linger(const struct ovsshm_ring *ring)
{
    for (int i = 0; i < OVSSHM_RING_LOOKS; i++) {
        if (ovsshm_load_relaxed(ring->peer_word) != ring->own) {
            return;
        }
        ovsshm_relax();
    }
}

/* Producer: slots free to write, or -EPROTO.  Looks at the peer's word only when fewer than `want`.
 */
static inline int
ovsshm_ring_space(struct ovsshm_ring *ring, uint32_t want)
{
    uint32_t used = ring->own - ring->peer;
    if (ring->entries - used < want) {
        /* A1 pairs with R1: the consumer has read what it released. */
        ring->peer = ovsshm_load_acquire(ring->peer_word);
        used = ring->own - ring->peer;
    }
    return used <= ring->entries ? (int)(ring->entries - used) : -EPROTO;
}

#endif
