/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "placement.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include "shared/waiter.h"

#define BUSY_SLEEPS 64
#define BUSY_NS 8000000 /* for so many: 8000 requests per second */
#define PATIENCE_NS_MIN 2000000
#define PATIENCE_NS_MAX 64000000

/* Threads on the whole machine that run or could run, or INT_MAX. */
static int
runnable(void)
{
    char text[128];
    int running = INT_MAX;
    int fd = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return INT_MAX;
    }
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    return sscanf(text, "%*s %*s %*s %d/", &running) == 1 ? running : INT_MAX;
}

/* Where we may run other than where we are, when it looks as if a CPU were idle, or -1. */
static int
other_cpu(void)
{
    cpu_set_t allowed;
    int here = sched_getcpu();
    if (here < 0 || sched_getaffinity(0, sizeof(allowed), &allowed) ||
        runnable() > CPU_COUNT(&allowed)) {
        return -1;
    }
    for (int i = 1; i < CPU_SETSIZE; i++) {
        int cpu = (here + i) % CPU_SETSIZE;
        if (CPU_ISSET(cpu, &allowed)) {
            return cpu;
        }
    }
    return -1;
}

/* Moves that last make us bold again, others make us patient. */
static uint64_t
next_patience(const struct placement *placement, uint64_t now)
{
    uint64_t least = ovsshm_ticks_from_ns(PATIENCE_NS_MIN);
    uint64_t most = ovsshm_ticks_from_ns(PATIENCE_NS_MAX);
    if (placement->patience == 0 || now - placement->moved > 4 * placement->patience) {
        return least;
    }
    return 2 * placement->patience < most ? 2 * placement->patience : most;
}

int
srv_placement_crowded(struct placement *placement)
{
    uint64_t now = ovsshm_ticks();
    if (placement->sleeps == 0) {
        placement->first = now;
    }
    if (++placement->sleeps < BUSY_SLEEPS) {
        return -1;
    }
    placement->sleeps = 0;
    if (now - placement->first > ovsshm_ticks_from_ns(BUSY_NS) ||
        now - placement->moved < placement->patience) {
        return -1;
    }
    placement->patience = next_patience(placement, now);
    placement->moved = now;
    return other_cpu();
}

void
srv_placement_move(int cpu)
{
    cpu_set_t allowed;
    cpu_set_t wanted;
    CPU_ZERO(&wanted);
    CPU_SET(cpu, &wanted);
    if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0 &&
        sched_setaffinity(0, sizeof(wanted), &wanted) == 0) {
        (void)sched_setaffinity(0, sizeof(allowed), &allowed);
    }
}
