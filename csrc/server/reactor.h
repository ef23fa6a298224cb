/* SPDX-License-Identifier: MIT */
/*
 * A reactor: one thread that serves the queues it was given.
 *
 * Queues that were busy lately are polled; a queue that has been idle for longer than its waiter's
 * budget is armed and costs nothing until its doorbell rings.  When nothing is polled and the store
 * has nothing to say, the thread sleeps without a timeout.
 *
 * Threads: everything but post and complete_elsewhere is for the reactor's own thread.
 */
#ifndef OVSSHM_SERVER_REACTOR_H
#define OVSSHM_SERVER_REACTOR_H

#include "placement.h"
#include "queue.h"
#include "ringer.h"

#define REACTOR_BATCH 64
#define REACTOR_BATCH_BYTES 262144 /* so that the first completion is not late */

/*
 * A wish for quiet: the gate opens when no request is in flight.  With a volume, its queues are
 * paused meanwhile; without, an idle moment of all queues is enough.
 */
struct quiet {
    struct mail begin;
    struct mail end;
    struct reactor *reactor;
    struct volume *volume;
    struct gate *reached;
    struct gate *ended;
    LIST_ENTRY(quiet) link;
    bool waiting; /* has not been reached */
};

struct reactor {
    struct ovsshm_store *store;
    void *group;
    const struct ovsshm_server_params *params;
    TAILQ_HEAD(, queue) polled;
    struct queue *dirty;
    struct ovsshm_request *batch[REACTOR_BATCH];
    unsigned batch_count;
    uint32_t batch_bytes;
    uint32_t in_flight;   /* requests in the store */
    uint32_t cpu;         /* ours, as published */
    unsigned armed;       /* queues */
    uint64_t last_look;   /* tick of the last epoll_wait */
    struct request *done; /* atomic stack: completed by other threads */
    uint32_t completing;  /* atomic: threads in complete_elsewhere */
    struct mailbox mailbox;
    struct ringer ringer;
    struct ovsshm_waiter store_waiter;
    struct placement placement;
    uint64_t sleeps; /* as counters.h */

    TAILQ_HEAD(, queue) queues;
    LIST_HEAD(, quiet) quiets;
    int epoll_fd;
    bool stopping;
    uint32_t dropped;     /* requests the store still had at the end */
    uint32_t queue_count; /* atomic: given to this reactor */
    pthread_t thread;
    struct mail stop;
};

int srv_reactor_start(struct reactor *reactor, struct ovsshm_store *store,
                      const struct ovsshm_server_params *params);

/* All sessions have been detached.  Returns the number of requests that had to be dropped. */
uint32_t srv_reactor_stop(struct reactor *reactor);

void srv_reactor_attach(struct reactor *reactor, struct queue *queue);
void srv_reactor_detach(struct reactor *reactor, struct queue *queue);

/* Post begin; whoever waits for `reached` must end it, reached or not. */
void srv_quiet_begin(struct quiet *quiet, struct reactor *reactor, struct volume *volume,
                     struct gate *reached, struct gate *ended);
void srv_quiet_end(struct quiet *quiet);

/* Hands a request over from another thread. */
void srv_reactor_complete_elsewhere(struct reactor *reactor, struct request *request);

/* The reactor whose thread this is, or NULL. */
extern _Thread_local struct reactor *srv_reactor_here __attribute__((tls_model("initial-exec")));

/* For queue.c: the last request of a queue that waits to be given back may be done. */
void srv_reactor_detach_if_idle(struct reactor *reactor, struct queue *queue);

/* For queue.c: a queue has completions to announce. */
static inline void
srv_reactor_mark_dirty(struct reactor *reactor, struct queue *queue)
{
    if (!queue->dirty) {
        queue->dirty = true;
        queue->dirty_next = reactor->dirty;
        reactor->dirty = queue;
    }
}

#endif
