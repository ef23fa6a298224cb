/* SPDX-License-Identifier: MIT */
/*
 * What sessions have done: counted per queue, summed up for those who ask.
 *
 * Threads: a queue's counters are written by its reactor only and read by anybody, so they are
 * atomic and no two of them are of the same instant.
 */
#ifndef OVSSHM_SERVER_COUNTERS_H
#define OVSSHM_SERVER_COUNTERS_H

#include <openvstorage/shm_wire.h>

#include "shared/atomic.h"

struct ovsshm_server;

struct counters {
    uint64_t reads;
    uint64_t writes;
    uint64_t others;
    uint64_t errors;
    uint64_t read_bytes;
    uint64_t written_bytes;
    uint64_t latency_ns;
    uint64_t doorbells;
    uint64_t latency_counts[OVSSHM_LATENCY_BUCKETS];
};

#define COUNTER_ADD(counter, n) ovsshm_store_relaxed(&(counter), (counter) + (n))

static inline void
srv_counters_result(struct counters *c, uint8_t op, int32_t result)
{
    uint32_t bytes = result < 0 ? 0 : (uint32_t)result;
    if (op == OVSSHM_OP_READ) {
        COUNTER_ADD(c->reads, 1);
        COUNTER_ADD(c->read_bytes, bytes);
    } else if (op == OVSSHM_OP_WRITE) {
        COUNTER_ADD(c->writes, 1);
        COUNTER_ADD(c->written_bytes, bytes);
    } else {
        COUNTER_ADD(c->others, 1);
    }
    if (result < 0) {
        COUNTER_ADD(c->errors, 1);
    }
}

static inline unsigned
srv_counters_bucket(uint64_t ns)
{
    unsigned bucket = 63u - (unsigned)__builtin_clzll(ns | 1);
    return bucket < OVSSHM_LATENCY_BUCKETS ? bucket : OVSSHM_LATENCY_BUCKETS - 1;
}

/* Of `count` requests, each of which took so long. */
static inline void
srv_counters_latency(struct counters *c, uint64_t ns, uint32_t count)
{
    COUNTER_ADD(c->latency_ns, ns * count);
    COUNTER_ADD(c->latency_counts[srv_counters_bucket(ns)], count);
}

/* Adds what `from` has counted so far; `to` belongs to the caller. */
void srv_counters_sum(struct counters *to, const struct counters *from);

/* As above, all that a session has counted.  Registry lock. */
struct session;
void srv_counters_session(struct counters *to, const struct session *session);

/* Sessions with an id above `after`, in order of id; how many were stored.  Any thread. */
unsigned srv_counters_sessions(struct ovsshm_server *server, uint64_t after,
                               struct ovsshm_session_info *infos, unsigned count);

/* Of all sessions there were.  Any thread. */
void srv_counters_total(struct ovsshm_server *server, struct counters *total);

#endif
