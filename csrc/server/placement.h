/* SPDX-License-Identifier: MIT */
/*
 * Gets a reactor off the CPU of a busy client.
 *
 * A thread that is woken tends to run where its waker does; on a virtual machine it always does,
 * since there an idle CPU looks as if the host had taken it away.  Two threads that only wake each
 * other then stay on one CPU for good, where neither may poll for the other: each request costs two
 * sleeps, ten times what it costs on two CPUs.  So a reactor that would sleep often, with its
 * client on its own CPU, goes to another one that it may use; its affinity is then as before.  If
 * that does not last, because the other CPU is busy, it tries less and less often.
 *
 * At low rates sharing a CPU is right: the hand-over is short and nobody polls.
 *
 * Threads: a placement belongs to one thread.
 */
#ifndef OVSSHM_SERVER_PLACEMENT_H
#define OVSSHM_SERVER_PLACEMENT_H

#include <stdint.h>

struct placement {
    uint64_t first;    /* tick of the first of the sleeps that are counted */
    uint64_t moved;    /* tick of the last move */
    uint64_t patience; /* ticks until the next */
    unsigned sleeps;
};

/*
 * A client that has been served lately runs on our CPU, so that we must not poll for it.  -1:
 * sleep. Otherwise the CPU to go to; tell clients first, so that they poll for us meanwhile.
 */
int srv_placement_crowded(struct placement *placement);

void srv_placement_move(int cpu);

#endif
