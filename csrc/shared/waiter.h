/* SPDX-License-Identifier: MIT */
/*
 * How long to poll before sleeping: the self-tuning half of waiting (doorbell.h is the other).
 *
 *     while (!(n = look())) {
 *         if (!ovsshm_waiter_spin(&w, peer_cpu)) {
 *             arm, look again, sleep;
 *             ovsshm_waiter_slept(&w);
 *         }
 *     }
 *     ovsshm_waiter_found(&w);
 *
 * Rules:
 *  - a peer that last ran on our CPU cannot make progress while we poll: sleep at once;
 *  - a long gap between two polls means that we lost the CPU to somebody who needs it: no polling
 *    for a while;
 *  - the budget follows what waits really take: a wait that ended shortly after we gave up doubles
 *    it, one longer than the cap sets it to zero.  The cap must exceed a sleep and wake-up round
 *    trip, or a side that has once slept never polls again.
 *
 * Threads: a waiter belongs to one thread at a time.
 */
#ifndef OVSSHM_WAITER_H
#define OVSSHM_WAITER_H

#include <stdbool.h>
#include <stdint.h>

#define OVSSHM_CLIENT_SPIN_NS_MAX 60000
#define OVSSHM_SERVER_SPIN_NS_MAX 100000 /* longer: a sleeping server costs the client the ring */

struct ovsshm_waiter {
    uint64_t cap;       /* ticks */
    uint64_t budget;    /* ticks: poll this long before sleeping */
    uint64_t start;     /* tick this wait began, 0 = not waiting */
    uint64_t last_poll; /* tick of the last poll, 0 = slept since */
    uint64_t no_spin_until;
    uint64_t polled; /* waits that ended while polling */
    uint64_t sleeps;
};

void ovsshm_waiter_init(struct ovsshm_waiter *w, uint64_t cap_ns);

/* Nothing found.  True: look again.  False: sleep.  peer_cpu as published: CPU + 1, 0 = unknown. */
bool ovsshm_waiter_spin(struct ovsshm_waiter *w, uint32_t peer_cpu);

/* Back from a sleep. */
void ovsshm_waiter_slept(struct ovsshm_waiter *w);

uint64_t ovsshm_ticks(void);
uint64_t ovsshm_ticks_from_ns(uint64_t ns);
uint64_t ovsshm_ticks_to_ns(uint64_t ticks);

void ovsshm_waiter_end(struct ovsshm_waiter *w, uint64_t now);

/* Something found: the wait, if there was one, is over.  now: for those who know the tick. */
static inline void
ovsshm_waiter_found_at(struct ovsshm_waiter *w, uint64_t now)
{
    if (w->start != 0) {
        ovsshm_waiter_end(w, now);
    }
}

static inline void
ovsshm_waiter_found(struct ovsshm_waiter *w)
{
    if (w->start != 0) {
        ovsshm_waiter_end(w, ovsshm_ticks());
    }
}

uint32_t ovsshm_own_cpu(void); /* CPU + 1, as published in the ring words */

#endif
