/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "reactor.h"

#include <errno.h>
#include <sched.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "log.h"
#include "session.h"

#define LOOK_NS 30000 /* how late a busy reactor notices a doorbell */
#define EVENTS 64

_Thread_local struct reactor *srv_reactor_here __attribute__((tls_model("initial-exec")));

/* ---- queues in and out of the polled list --------------------------------------------------- */

/* Out of the polled list or of the armed queues. */
static void
queue_rest(struct reactor *reactor, struct queue *queue, enum queue_state state)
{
    if (queue->state == QUEUE_POLLED) {
        TAILQ_REMOVE(&reactor->polled, queue, polled);
    } else if (queue->state == QUEUE_ARMED) {
        ovsshm_doorbell_disarm(&queue->words->server_armed);
        reactor->armed--;
    }
    queue->state = state;
}

static void
queue_poll(struct reactor *reactor, struct queue *queue)
{
    queue_rest(reactor, queue, QUEUE_POLLED);
    TAILQ_INSERT_TAIL(&reactor->polled, queue, polled);
}

/* From now on its doorbell is rung.  False: something came in before that was known. */
static bool
queue_arm(struct reactor *reactor, struct queue *queue)
{
    ovsshm_doorbell_arm(&queue->words->server_armed);
    if (ovsshm_ring_available(&queue->sq)) {
        ovsshm_doorbell_disarm(&queue->words->server_armed);
        return false;
    }
    queue_rest(reactor, queue, QUEUE_ARMED);
    reactor->armed++;
    return true;
}

static void
queue_rung(struct reactor *reactor, struct queue *queue)
{
    if (queue->state == QUEUE_ARMED) {
        queue_poll(reactor, queue);
        ovsshm_waiter_slept(&queue->waiter);
    }
}

/* ---- the loop ------------------------------------------------------------------------------- */

static void
submit(struct reactor *reactor)
{
    unsigned count = reactor->batch_count;
    if (count) {
        reactor->batch_count = 0;
        reactor->batch_bytes = 0;
        reactor->store->type->submit(reactor->store, reactor->group, reactor->batch, count);
    }
}

/* Nothing else to do than to look at this one ring? */
static bool
is_alone(const struct reactor *reactor, const struct queue *queue)
{
    return reactor->in_flight == 0 && TAILQ_FIRST(&reactor->polled) == queue &&
           !TAILQ_NEXT(queue, polled);
}

static void
publish_cpu(struct reactor *reactor, uint32_t cpu)
{
    struct queue *queue;
    if (cpu != reactor->cpu) {
        reactor->cpu = cpu;
        TAILQ_FOREACH(queue, &reactor->queues, link)
        {
            ovsshm_store_relaxed(&queue->words->server_cpu, cpu);
        }
    }
}

/* True: we are on another CPU than before. */
static bool
leave_cpu(struct reactor *reactor)
{
    int cpu = srv_placement_crowded(&reactor->placement);
    if (cpu < 0) {
        return false;
    }
    publish_cpu(reactor, (uint32_t)cpu + 1);
    srv_placement_move(cpu);
    return true;
}

/* Serves one polled queue.  True: worth another look at once. */
static inline bool
serve(struct reactor *reactor, struct queue *queue)
{
    int taken = srv_queue_take(queue);
    if (taken > 0) {
        ovsshm_waiter_found_at(&queue->waiter, queue->taken_at);
        return true;
    }
    if (taken == -EAGAIN) {
        return reactor->batch_count != 0;
    }
    if (taken < 0) {
        queue_rest(reactor, queue, QUEUE_ENDED);
        return false;
    }
    uint32_t client_cpu = ovsshm_load_relaxed(&queue->words->client_cpu);
    if (ovsshm_waiter_spin(&queue->waiter, client_cpu)) {
        if (is_alone(reactor, queue)) {
            ovsshm_ring_linger(&queue->sq);
        }
        return true;
    }
    return (client_cpu == reactor->cpu && leave_cpu(reactor)) || !queue_arm(reactor, queue);
}

static bool
serve_all(struct reactor *reactor)
{
    bool hot = false;
    struct queue *next;
    for (struct queue *queue = TAILQ_FIRST(&reactor->polled); queue; queue = next) {
        next = TAILQ_NEXT(queue, polled);
        hot |= serve(reactor, queue);
        if (reactor->batch_count == REACTOR_BATCH || reactor->batch_bytes >= REACTOR_BATCH_BYTES) {
            submit(reactor);
        }
    }
    submit(reactor);
    return hot;
}

static unsigned
reap_elsewhere(struct reactor *reactor)
{
    unsigned count = 0;
    if (!ovsshm_load_relaxed(&reactor->done)) {
        return 0;
    }
    struct request *request = ovsshm_exchange(&reactor->done, NULL);
    while (request) {
        struct request *next = request->next;
        srv_queue_complete(request, request->result);
        request = next;
        count++;
    }
    return count;
}

/* Collects what the store has finished. */
static unsigned
reap(struct reactor *reactor)
{
    const struct ovsshm_store_type *type = reactor->store->type;
    if (reactor->in_flight == 0) {
        return 0;
    }
    unsigned count = reap_elsewhere(reactor);
    if (type->poll && reactor->in_flight) {
        count += type->poll(reactor->group);
    }
    if (count) {
        ovsshm_waiter_found(&reactor->store_waiter);
    }
    return count;
}

static void
announce(struct reactor *reactor)
{
    while (reactor->dirty) {
        struct queue *queue = reactor->dirty;
        reactor->dirty = queue->dirty_next;
        queue->dirty = false;
        srv_queue_announce(queue);
    }
}

/* Doorbells are edge-triggered and never read: a client could make a read of its fd block. */
static void
wait_events(struct reactor *reactor, int timeout_ms)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(reactor->epoll_fd, events, EVENTS, timeout_ms);
    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr == &reactor->mailbox) {
            ovsshm_doorbell_clear(reactor->mailbox.fd);
        } else if (events[i].data.ptr != &reactor->group) {
            queue_rung(reactor, events[i].data.ptr);
        }
    }
}

/* While some queues are polled, others are armed and may have rung. */
static void
look_around(struct reactor *reactor)
{
    if (reactor->armed) {
        uint64_t now = ovsshm_ticks();
        if (now - reactor->last_look > ovsshm_ticks_from_ns(LOOK_NS)) {
            reactor->last_look = now;
            wait_events(reactor, 0);
        }
    }
}

static void
sleep_until_rung(struct reactor *reactor)
{
    struct mailbox *box = &reactor->mailbox;
    ovsshm_doorbell_arm(&box->armed);
    if (!srv_mailbox_pending(box) && !ovsshm_load_relaxed(&reactor->done)) {
        COUNTER_ADD(reactor->sleeps, 1);
        wait_events(reactor, -1);
        ovsshm_waiter_slept(&reactor->store_waiter);
    }
    ovsshm_doorbell_disarm(&box->armed);
}

static void quiet_check(struct reactor *reactor);

static void
loop(struct reactor *reactor)
{
    while (!reactor->stopping) {
        publish_cpu(reactor, ovsshm_own_cpu());
        bool hot = serve_all(reactor);
        bool reaped = reap(reactor) != 0;
        announce(reactor);
        if (!LIST_EMPTY(&reactor->quiets)) {
            quiet_check(reactor);
        }
        if (srv_mailbox_pending(&reactor->mailbox)) {
            srv_mailbox_deliver(&reactor->mailbox);
        } else if (hot || reaped ||
                   (reactor->in_flight && ovsshm_waiter_spin(&reactor->store_waiter, 0))) {
            look_around(reactor);
        } else {
            sleep_until_rung(reactor);
        }
    }
}

/* ---- mail: queues come and go --------------------------------------------------------------- */

static void
attach_deliver(struct mail *mail)
{
    struct queue *queue = container_of(mail, struct queue, attach);
    struct reactor *reactor = queue->reactor;
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = queue};
    TAILQ_INSERT_TAIL(&reactor->queues, queue, link);
    ovsshm_store_relaxed(&queue->words->server_cpu, reactor->cpu);
    queue_poll(reactor, queue);
    if (epoll_ctl(reactor->epoll_fd, EPOLL_CTL_ADD, queue->server_fd, &event)) {
        srv_session_violation(queue->session, "its doorbell cannot be watched: errno %d", errno);
        queue_rest(reactor, queue, QUEUE_ENDED);
    }
}

void
srv_reactor_detach_if_idle(struct reactor *reactor, struct queue *queue)
{
    if (queue->in_flight == 0) {
        TAILQ_REMOVE(&reactor->queues, queue, link);
        ovsshm_sub(&reactor->queue_count, 1);
        srv_session_queue_detached(queue->session);
    }
}

static void
detach_deliver(struct mail *mail)
{
    struct queue *queue = container_of(mail, struct queue, detach);
    struct reactor *reactor = queue->reactor;
    announce(reactor); /* nothing of it may be left in the dirty list */
    queue_rest(reactor, queue, QUEUE_DETACHING);
    (void)epoll_ctl(reactor->epoll_fd, EPOLL_CTL_DEL, queue->server_fd, NULL);
    srv_reactor_detach_if_idle(reactor, queue);
}

void
srv_reactor_attach(struct reactor *reactor, struct queue *queue)
{
    queue->reactor = reactor;
    queue->attach.deliver = attach_deliver;
    queue->detach.deliver = detach_deliver;
    ovsshm_add(&reactor->queue_count, 1);
    srv_mailbox_post(&reactor->mailbox, &queue->attach);
}

void
srv_reactor_detach(struct reactor *reactor, struct queue *queue)
{
    srv_mailbox_post(&reactor->mailbox, &queue->detach);
}

/* ---- mail: quiet ---------------------------------------------------------------------------- */

static bool
is_quiet(struct reactor *reactor, const struct volume *volume)
{
    struct queue *queue;
    TAILQ_FOREACH(queue, &reactor->queues, link)
    {
        if (volume ? queue->volume == volume && queue->in_flight
                   : queue->in_flight ||
                         (queue->state == QUEUE_POLLED && ovsshm_ring_available(&queue->sq))) {
            return false;
        }
    }
    return true;
}

static void
quiet_check(struct reactor *reactor)
{
    struct quiet *quiet;
    LIST_FOREACH(quiet, &reactor->quiets, link)
    {
        if (quiet->waiting && is_quiet(reactor, quiet->volume)) {
            quiet->waiting = false;
            srv_gate_arrive(quiet->reached);
        }
    }
}

static void
quiet_begin_deliver(struct mail *mail)
{
    struct quiet *quiet = container_of(mail, struct quiet, begin);
    struct queue *queue;
    TAILQ_FOREACH(queue, &quiet->reactor->queues, link)
    {
        if (queue->volume == quiet->volume &&
            (queue->state == QUEUE_POLLED || queue->state == QUEUE_ARMED)) {
            queue_rest(quiet->reactor, queue, QUEUE_PAUSED);
        }
    }
    quiet->waiting = true;
    LIST_INSERT_HEAD(&quiet->reactor->quiets, quiet, link);
}

static void
quiet_end_deliver(struct mail *mail)
{
    struct quiet *quiet = container_of(mail, struct quiet, end);
    struct queue *queue;
    TAILQ_FOREACH(queue, &quiet->reactor->queues, link)
    {
        if (queue->volume == quiet->volume && queue->state == QUEUE_PAUSED) {
            queue_poll(quiet->reactor, queue);
        }
    }
    LIST_REMOVE(quiet, link);
    srv_gate_arrive(quiet->ended);
}

void
srv_quiet_begin(struct quiet *quiet, struct reactor *reactor, struct volume *volume,
                struct gate *reached, struct gate *ended)
{
    *quiet = (struct quiet){
        .begin.deliver = quiet_begin_deliver,
        .end.deliver = quiet_end_deliver,
        .reactor = reactor,
        .volume = volume,
        .reached = reached,
        .ended = ended,
    };
    srv_mailbox_post(&reactor->mailbox, &quiet->begin);
}

void
srv_quiet_end(struct quiet *quiet)
{
    srv_mailbox_post(&quiet->reactor->mailbox, &quiet->end);
}

/* ---- start, stop ---------------------------------------------------------------------------- */

void
srv_reactor_complete_elsewhere(struct reactor *reactor, struct request *request)
{
    ovsshm_add(&reactor->completing, 1); /* until the last touch of the reactor */
    struct request *head = ovsshm_load_relaxed(&reactor->done);
    do {
        request->next = head;
    } while (!ovsshm_cas_weak(&reactor->done, &head, request));
    srv_mailbox_wake(&reactor->mailbox);
    ovsshm_sub(&reactor->completing, 1);
}

/* All queues are detaching; what the store has not completed by now, it has forgotten. */
static void
finish(struct reactor *reactor)
{
    const struct ovsshm_store_type *type = reactor->store->type;
    if (type->group_destroy && reactor->group) {
        type->group_destroy(reactor->group);
    }
    while (ovsshm_load_acquire(&reactor->completing)) {
        sched_yield();
    }
    reap_elsewhere(reactor);
    struct queue *next;
    for (struct queue *queue = TAILQ_FIRST(&reactor->queues); queue; queue = next) {
        next = TAILQ_NEXT(queue, link);
        reactor->dropped += queue->in_flight;
        ovsshm_store_relaxed(&queue->in_flight, 0);
        srv_reactor_detach_if_idle(reactor, queue);
    }
}

static void
stop_deliver(struct mail *mail)
{
    container_of(mail, struct reactor, stop)->stopping = true;
}

/* What the starting thread waits for. */
struct start {
    struct reactor *reactor;
    struct gate started;
    int rc;
};

static int
watch(struct reactor *reactor, int fd, void *tag)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = tag};
    return epoll_ctl(reactor->epoll_fd, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

/* In the reactor's own thread, since the group belongs to it from the start. */
static int
group_start(struct reactor *reactor)
{
    const struct ovsshm_store_type *type = reactor->store->type;
    int rc = type->group_create ? type->group_create(reactor->store, &reactor->group) : 0;
    int fd = rc == 0 && type->group_fd ? type->group_fd(reactor->group) : -1;
    if (fd >= 0) {
        rc = watch(reactor, fd, &reactor->group);
        if (rc) {
            type->group_destroy(reactor->group);
        }
    }
    return rc;
}

static void *
reactor_main(void *arg)
{
    struct start *start = arg;
    struct reactor *reactor = start->reactor;
    srv_reactor_here = reactor;
    int rc = group_start(reactor);
    start->rc = rc;
    srv_gate_arrive(&start->started);
    if (rc == 0) {
        loop(reactor);
        finish(reactor);
    }
    return NULL;
}

/* Everything but the thread. */
static int
resources_open(struct reactor *reactor)
{
    int rc = srv_mailbox_init(&reactor->mailbox);
    if (rc) {
        return rc;
    }
    rc = srv_ringer_init(&reactor->ringer);
    if (rc) {
        srv_log(&reactor->params->log, OVSSHM_LOG_WARNING,
                "no kernel AIO (errno %d): a hostile client can make ringing its doorbell block",
                -rc);
    }
    reactor->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    rc = reactor->epoll_fd < 0 ? -errno : 0;
    if (rc) {
        goto err_ringer;
    }
    rc = watch(reactor, reactor->mailbox.fd, &reactor->mailbox);
    if (rc) {
        goto err_epoll;
    }
    return 0;

err_epoll:
    close(reactor->epoll_fd);
err_ringer:
    srv_ringer_destroy(&reactor->ringer);
    srv_mailbox_destroy(&reactor->mailbox);
    return rc;
}

static void
resources_close(struct reactor *reactor)
{
    close(reactor->epoll_fd);
    srv_ringer_destroy(&reactor->ringer);
    srv_mailbox_destroy(&reactor->mailbox);
}

int
srv_reactor_start(struct reactor *reactor, struct ovsshm_store *store,
                  const struct ovsshm_server_params *params)
{
    uint64_t spin_ns = params->spin_ns_max;
    *reactor = (struct reactor){.store = store, .params = params, .stop.deliver = stop_deliver};
    TAILQ_INIT(&reactor->polled);
    TAILQ_INIT(&reactor->queues);
    LIST_INIT(&reactor->quiets);
    ovsshm_waiter_init(&reactor->store_waiter, spin_ns == UINT64_MAX ? 0 : spin_ns);
    int rc = resources_open(reactor);
    if (rc) {
        return rc;
    }
    struct start start = {.reactor = reactor};
    srv_gate_init(&start.started, 1);
    rc = -pthread_create(&reactor->thread, NULL, reactor_main, &start);
    if (rc == 0) {
        srv_gate_wait(&start.started, UINT64_MAX);
        rc = start.rc;
        if (rc) {
            pthread_join(reactor->thread, NULL);
        }
    }
    srv_gate_destroy(&start.started);
    if (rc) {
        resources_close(reactor);
    }
    return rc;
}

uint32_t
srv_reactor_stop(struct reactor *reactor)
{
    srv_mailbox_post(&reactor->mailbox, &reactor->stop);
    pthread_join(reactor->thread, NULL);
    resources_close(reactor);
    return reactor->dropped;
}
