/* SPDX-License-Identifier: MIT */
/*
 * Doorbell: an eventfd that is rung only when its owner said that it sleeps.
 *
 * Sleeper:  arm -> look at the ring once more -> sleep on the fd -> clear.
 * Ringer:   publish -> needed() -> ring().
 *
 * Both put a full fence between their store and their load, so at least one of them sees the other
 * (store buffering is the only way to lose a wake-up; tests/model/doorbell.pml checks all orders).
 * The ringer takes the flag back, so one sleep costs one ring however many entries follow.
 *
 * This, waiter.c and the server's ringer.c are the only files that wait or wake.
 */
#ifndef OVSSHM_DOORBELL_H
#define OVSSHM_DOORBELL_H

#include <stdbool.h>
#include <stdint.h>

#include "atomic.h"

int ovsshm_doorbell_create(void); /* non-blocking, close-on-exec; -errno */
void ovsshm_doorbell_ring(int fd);
bool ovsshm_doorbell_clear(int fd); /* true: it had been rung */

/*
 * Sleeps until the doorbell is rung, other_fd (-1: none) is readable or the time is over
 * (timeout_ns < 0: never); a signal ends it too.  Clears the doorbell.  True: it had been rung.
 */
bool ovsshm_doorbell_wait(int fd, int other_fd, int64_t timeout_ns);

/* Sleeper: from now on the peer rings.  Look at the ring again after this, before sleeping. */
static inline void
ovsshm_doorbell_arm(uint32_t *armed)
{
    ovsshm_store_relaxed(armed, 1);
    ovsshm_fence(); /* F1 pairs with F2 */
}

/* Sleeper: awake again.  A ring that is already under way wakes once more for nothing. */
static inline void
ovsshm_doorbell_disarm(uint32_t *armed)
{
    ovsshm_store_relaxed(armed, 0);
}

/* Ringer, after publishing: must the doorbell be rung? */
static inline bool
ovsshm_doorbell_needed(uint32_t *armed)
{
    ovsshm_fence(); /* F2 pairs with F1 */
    return ovsshm_load_relaxed(armed) != 0 && ovsshm_exchange(armed, 0) != 0;
}

#endif
