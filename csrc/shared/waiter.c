/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "waiter.h"

#include <sched.h>
#include <time.h>

#include "atomic.h"

#define BUDGET_START_NS 10000
#define CAP_NS_MAX 1000000000000 /* keeps ticks within 64 bits */
#define PREEMPTED_NS 30000       /* a poll takes 0.1 us; nothing of ours takes this long */
#define PREEMPTED_PAUSE_NS 3000000

static uint64_t
clock_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

#if defined(__x86_64__)
uint64_t
ovsshm_ticks(void)
{
    return __builtin_ia32_rdtsc();
}

/* One instant on both clocks: of several tries the one that nothing came between. */
static void
both_clocks(uint64_t *ticks, uint64_t *ns)
{
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < 8; i++) {
        uint64_t before = ovsshm_ticks();
        uint64_t then = clock_ns();
        uint64_t gap = ovsshm_ticks() - before;
        if (gap < least) {
            least = gap;
            *ticks = before + gap / 2;
            *ns = then;
        }
    }
}

/* Ticks per 1024 ns, measured once; two threads that race here measure the same thing. */
static uint64_t
tick_rate(void)
{
    static uint64_t rate;
    uint64_t known = ovsshm_load_relaxed(&rate);
    if (known == 0) {
        uint64_t ticks, ns, ticks_end, ns_end;
        both_clocks(&ticks, &ns);
        do {
            both_clocks(&ticks_end, &ns_end);
        } while (ns_end - ns < 200000);
        known = (ticks_end - ticks) * 1024 / (ns_end - ns);
        known = known ? known : 1;
        ovsshm_store_relaxed(&rate, known);
    }
    return known;
}

uint64_t
ovsshm_ticks_from_ns(uint64_t ns)
{
    return ns * tick_rate() / 1024;
}

/* Once per request, so a multiplication by what was divided once. */
uint64_t
ovsshm_ticks_to_ns(uint64_t ticks)
{
    static uint64_t ns_per_2_32_ticks;
    uint64_t known = ovsshm_load_relaxed(&ns_per_2_32_ticks);
    if (known == 0) {
        known = (1024ull << 32) / tick_rate();
        ovsshm_store_relaxed(&ns_per_2_32_ticks, known);
    }
    return (uint64_t)((unsigned __int128)ticks * known >> 32);
}
#else
uint64_t
ovsshm_ticks(void)
{
    return clock_ns();
}

uint64_t
ovsshm_ticks_from_ns(uint64_t ns)
{
    return ns;
}

uint64_t
ovsshm_ticks_to_ns(uint64_t ticks)
{
    return ticks;
}
#endif

uint32_t
ovsshm_own_cpu(void)
{
    int cpu = sched_getcpu();
    return cpu < 0 ? 0 : (uint32_t)cpu + 1;
}

void
ovsshm_waiter_init(struct ovsshm_waiter *w, uint64_t cap_ns)
{
    cap_ns = cap_ns < CAP_NS_MAX ? cap_ns : CAP_NS_MAX;
    *w = (struct ovsshm_waiter){.cap = ovsshm_ticks_from_ns(cap_ns)};
    w->budget = w->cap;
}

bool
ovsshm_waiter_spin(struct ovsshm_waiter *w, uint32_t peer_cpu)
{
    uint64_t now = ovsshm_ticks();
    if (w->start == 0) {
        w->start = now;
    } else if (w->last_poll != 0 && now - w->last_poll > ovsshm_ticks_from_ns(PREEMPTED_NS)) {
        w->no_spin_until = now + ovsshm_ticks_from_ns(PREEMPTED_PAUSE_NS);
    }
    w->last_poll = now;
    if (now - w->start >= w->budget || now < w->no_spin_until ||
        (peer_cpu != 0 && peer_cpu == ovsshm_own_cpu())) {
        return false;
    }
    ovsshm_relax();
    return true;
}

void
ovsshm_waiter_slept(struct ovsshm_waiter *w)
{
    w->sleeps++;
    w->last_poll = 0;
}

void
ovsshm_waiter_end(struct ovsshm_waiter *w, uint64_t now)
{
    uint64_t wait = now - w->start;
    w->start = 0;
    if (w->last_poll != 0) {
        w->polled++;
    }
    w->last_poll = 0;
    if (wait > w->cap) {
        w->budget = 0;
    } else if (wait > w->budget) {
        uint64_t doubled = w->budget != 0 ? w->budget * 2 : ovsshm_ticks_from_ns(BUDGET_START_NS);
        w->budget = doubled < w->cap ? doubled : w->cap;
    }
}
