/* SPDX-License-Identifier: MIT */
/*
 * Goal: a reactor leaves the CPU of a busy client now and then, never often, and its affinity stays
 * what the embedder made it.
 * Method: the decisions by themselves; whether it pays is for benchmarks.
 */
#define _GNU_SOURCE
#include <sched.h>

#include "server/placement.h"
#include "testlib.h"

static cpu_set_t all;

static void
pin(int cpu)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    CHECK_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
}

static void
unpin(void)
{
    CHECK_EQ(sched_setaffinity(0, sizeof(all), &all), 0);
}

/* The first answer other than "sleep", or -1 after many. */
static int
crowd(struct placement *placement, unsigned times)
{
    int cpu = -1;
    for (unsigned i = 0; i < times && cpu < 0; i++) {
        cpu = srv_placement_crowded(placement);
    }
    return cpu;
}

static void
test_few_sleeps_move_nobody(void)
{
    for (int i = 0; i < 1000; i++) {
        struct placement placement = {0};
        CHECK_EQ(crowd(&placement, 63), -1);
    }
}

static void
test_pinned_reactor_is_never_moved(void)
{
    struct placement placement = {0};
    pin(sched_getcpu());
    CHECK_EQ(crowd(&placement, 100000), -1);
    unpin();
}

static void
test_crowded_reactor_is_told_to_move_to_a_cpu_it_may_use(void)
{
    if (CPU_COUNT(&all) < 2) {
        test_skip("needs two CPUs");
    }
    for (int i = 0; i < 100; i++) { /* none while the other CPUs are busy */
        struct placement placement = {0};
        int cpu = crowd(&placement, 1000);
        CHECK(cpu == -1 || CPU_ISSET(cpu, &all));
    }
}

static void
test_move_leaves_the_affinity_alone(void)
{
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        cpu_set_t after;
        srv_placement_move(cpu); /* also to CPUs that there are not */
        CHECK_EQ(sched_getaffinity(0, sizeof(after), &after), 0);
        CHECK(CPU_EQUAL(&after, &all));
    }
}

int
main(void)
{
    test_begin(60);
    CHECK_EQ(sched_getaffinity(0, sizeof(all), &all), 0);
    RUN(test_few_sleeps_move_nobody);
    RUN(test_pinned_reactor_is_never_moved);
    RUN(test_move_leaves_the_affinity_alone);
    RUN(test_crowded_reactor_is_told_to_move_to_a_cpu_it_may_use);
    return 0;
}
