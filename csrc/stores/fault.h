/* SPDX-License-Identifier: MIT */
/*
 * The parts of the fault store: a store that does everything by another one, but late, wrongly or
 * never.
 *
 * Threads: fault.c as any store; the delay line has a thread, which calls the inner store through a
 * group of its own and so completes requests from outside of their reactor.
 */
#ifndef OVSSHM_STORE_FAULT_H
#define OVSSHM_STORE_FAULT_H

#include <pthread.h>

#include <openvstorage/shm_server.h>

struct fault_volume {
    struct ovsshm_store_volume base;
    struct ovsshm_store_volume *inner;
};

/* One reactor's. */
struct fault_group {
    struct ovsshm_store *store;
    void *inner;
};

/* Requests that wait for their time; all wait equally long, so they leave in the order they came.
 */
struct delay_line {
    struct ovsshm_store *inner;
    void *inner_group; /* the thread's */
    int group_rc;      /* why there is none */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t purged;
    int wake_fd;
    uint64_t delay_ns;
    struct ovsshm_request *first;
    struct ovsshm_request *last;
    const struct fault_group *purge; /* forget the requests of this group */
    bool stop;
};

/* 0 or -errno. */
int ovsshm_delay_create(struct delay_line *line, struct ovsshm_store *inner, uint64_t delay_ns);
void ovsshm_delay_destroy(struct delay_line *line);

/* error: what to complete it with; 0: what the inner store says. */
void ovsshm_delay_add(struct delay_line *line, struct fault_group *group,
                      struct ovsshm_request *request, int32_t error);

/* Afterwards the line has no request of the group. */
void ovsshm_delay_purge(struct delay_line *line, const struct fault_group *group);

#endif
