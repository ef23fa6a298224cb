/* SPDX-License-Identifier: MIT */
/*
 * Is the peer's CPU near (it shares a cache with ours) or far?
 *
 * Nothing but time tells, and on a virtual machine the answer changes every few seconds.  So now
 * and then the first load of a line that the peer has just written is timed: 40 ns when near and
 * 140 ns when far on the machine this was written on, with next to no spread.  copy.h acts on it.
 *
 * Threads: belongs to whoever reads the ring.
 */
#ifndef OVSSHM_DISTANCE_H
#define OVSSHM_DISTANCE_H

#include <stdbool.h>
#include <stdint.h>

#define OVSSHM_DISTANCE_PERIOD 64 /* looks per sample, which costs about 50 ns */

struct ovsshm_distance {
    uint32_t countdown;
    uint32_t ticks; /* of such a load, on average */
    bool far;
};

void ovsshm_distance_measure(struct ovsshm_distance *distance, const void *line);

/* line: written by the peer, and not yet looked at. */
static inline void
ovsshm_distance_look(struct ovsshm_distance *distance, const void *line)
{
    if (distance->countdown-- == 0) {
        distance->countdown = OVSSHM_DISTANCE_PERIOD;
        ovsshm_distance_measure(distance, line);
    }
}

#endif
