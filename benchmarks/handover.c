/* SPDX-License-Identifier: MIT */
/*
 * Prints the round trip of a polled hand-over between the two CPUs in nanoseconds, measured for
 * about 20 ms.  On small virtual machines the host moves the CPUs between "near" (shared cache) and
 * "far", and every other figure moves with it.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <time.h>

#define RUN_NS 20000000

static struct {
    _Alignas(64) unsigned ping;
    _Alignas(64) unsigned pong;
    _Alignas(64) unsigned stop;
} line;

static void
pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    (void)sched_setaffinity(0, sizeof(set), &set); /* unpinned is a worse figure, not an error */
}

static void *
echo(void *unused)
{
    (void)unused;
    pin(1);
    for (unsigned seen = 0; !__atomic_load_n(&line.stop, __ATOMIC_RELAXED);) {
        unsigned ping = __atomic_load_n(&line.ping, __ATOMIC_ACQUIRE);
        if (ping != seen) {
            seen = ping;
            __atomic_store_n(&line.pong, ping, __ATOMIC_RELEASE);
        }
    }
    return NULL;
}

static long long
now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

int
main(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, echo, NULL)) {
        return 1;
    }
    pin(0);
    unsigned trips = 0;
    long long start = now_ns();
    long long elapsed;
    do {
        for (int i = 0; i < 100; i++) {
            __atomic_store_n(&line.ping, ++trips, __ATOMIC_RELEASE);
            while (__atomic_load_n(&line.pong, __ATOMIC_ACQUIRE) != trips) {
            }
        }
        elapsed = now_ns() - start;
    } while (elapsed < RUN_NS);
    __atomic_store_n(&line.stop, 1, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    printf("%lld\n", elapsed / trips);
    return 0;
}
