/* SPDX-License-Identifier: MIT */
/* Waiting for completions: poll for as long as it pays, then sleep; and run, which waits for one.
 */
#define _GNU_SOURCE
#include "queue.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>

#include "reason.h"
#include "shared/doorbell.h"
#include "shared/wire.h"
#include "volume.h"

/* ---- polling phase -------------------------------------------------------------------------- */

#define SPIN_VARIABLE "OVS_SHM_SPIN_NS"

uint64_t
ovsshm_spin_ns(uint64_t spin_ns_max)
{
    const char *text = secure_getenv(SPIN_VARIABLE);
    char *end = NULL;
    if (spin_ns_max == UINT64_MAX) {
        return 0;
    }
    if (spin_ns_max) {
        return spin_ns_max;
    }
    /* What is no number must not switch the polling off. */
    uint64_t wanted = text && isdigit((unsigned char)text[0]) ? strtoull(text, &end, 10) : 0;
    return end && *end == '\0' ? wanted : OVSSHM_CLIENT_SPIN_NS_MAX;
}

bool
ovsshm_queue_ready(const struct ovsshm_queue *queue)
{
    return queue->ready_count != 0 || queue->cq.peer != queue->cq.own ||
           ovsshm_load_acquire(queue->cq.peer_word) != queue->cq.own ||
           (queue->in_flight != 0 && !ovsshm_session_alive(&queue->volume->session));
}

/* As reap, for as long as the waiter thinks fit. */
static unsigned
reap_spinning(struct ovsshm_queue *queue, struct ovsshm_completion *completions, unsigned room)
{
    for (;;) {
        unsigned finished = ovsshm_request_reap(queue, completions, room);
        if (finished || queue->free_count == queue->depth ||
            !ovsshm_waiter_spin(&queue->waiter, ovsshm_load_relaxed(&queue->words->server_cpu))) {
            return finished;
        }
        ovsshm_ring_linger(&queue->cq);
    }
}

int
ovsshm_queue_spin(struct ovsshm_queue *queue, struct ovsshm_completion *completions, unsigned count)
{
    int stored = ovsshm_queue_poll(queue, completions, count);
    if (stored == 0 && count != 0) {
        stored = (int)reap_spinning(queue, completions, count);
        queue->in_flight -= (uint32_t)stored;
    }
    return stored;
}

/* ---- sleeping phase ------------------------------------------------------------------------- */

int
ovsshm_queue_fd(const struct ovsshm_queue *queue)
{
    return queue->fd;
}

int
ovsshm_queue_arm(struct ovsshm_queue *queue)
{
    if (ovsshm_queue_ready(queue)) {
        return 1;
    }
    ovsshm_doorbell_arm(&queue->words->client_armed);
    if (ovsshm_queue_ready(queue)) {
        ovsshm_doorbell_disarm(&queue->words->client_armed);
        return 1;
    }
    queue->counters.sleeps++;
    return 0;
}

/* Awake.  Only when the doorbell was silent can it have been the socket. */
static void
awake(struct ovsshm_queue *queue, bool rung)
{
    struct ovsshm_session *session = &queue->volume->session;
    ovsshm_doorbell_disarm(&queue->words->client_armed);
    ovsshm_waiter_slept(&queue->waiter);
    if (!rung) {
        ovsshm_session_drain(session);
    }
    if (queue->socket_watched && !ovsshm_session_alive(session)) {
        /* Its end stays readable for ever; we know now. */
        epoll_ctl(queue->fd, EPOLL_CTL_DEL, session->fd, NULL);
        queue->socket_watched = false;
    }
}

void
ovsshm_queue_disarm(struct ovsshm_queue *queue)
{
    awake(queue, ovsshm_doorbell_clear(queue->client_bell));
}

static int64_t
now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

/* As reap; then sleeps.  deadline_ns < 0: none.  0 = it has passed, or nothing is in flight. */
static unsigned
reap_waiting(struct ovsshm_queue *queue, struct ovsshm_completion *completions, unsigned room,
             int64_t deadline_ns)
{
    unsigned finished = 0;
    while (!(finished = reap_spinning(queue, completions, room)) &&
           queue->free_count != queue->depth) {
        int64_t left_ns = deadline_ns < 0 ? -1 : deadline_ns - now_ns();
        if (deadline_ns >= 0 && left_ns <= 0) {
            break;
        }
        if (ovsshm_queue_arm(queue) == 0) {
            int fd = queue->socket_watched ? queue->volume->session.fd : -1;
            awake(queue, ovsshm_doorbell_wait(queue->client_bell, fd, left_ns));
        }
    }
    return finished;
}

static int64_t
deadline_after(int64_t timeout_ns)
{
    if (timeout_ns < 0) {
        return -1;
    }
    int64_t now = now_ns();
    return timeout_ns < INT64_MAX - now ? now + timeout_ns : -1;
}

int
ovsshm_queue_wait(struct ovsshm_queue *queue, struct ovsshm_completion *completions, unsigned count,
                  int64_t timeout_ns)
{
    int stored = ovsshm_queue_poll(queue, completions, count);
    if (stored == 0 && count != 0) {
        stored = (int)reap_waiting(queue, completions, count, deadline_after(timeout_ns));
        queue->in_flight -= (uint32_t)stored;
    }
    return stored;
}

/* ---- run ------------------------------------------------------------------------------------ */

/* Waits until something has come back; completions of others become ready for their poll. */
static void
run_wait(struct ovsshm_queue *queue)
{
    unsigned finished = reap_waiting(queue, queue->ready + queue->ready_count,
                                     queue->depth + 1 - queue->ready_count, -1);
    queue->ready_count += finished - queue->run_over;
}

/* Takes the request as soon as there are a slot and memory for it. */
static int
run_take(struct ovsshm_queue *queue, const struct ovsshm_io *io)
{
    for (;;) {
        int rc = -EAGAIN;
        if (queue->free_count != 0) {
            rc = ovsshm_request_take(queue, io, true);
        }
        if (rc != -EAGAIN || queue->free_count == queue->depth) {
            return rc;
        }
        ovsshm_queue_submit(queue); /* what we wait for must be on its way */
        run_wait(queue);
    }
}

static int
run_failed(struct ovsshm_queue *queue, const struct ovsshm_io *io, int error)
{
    if (error == -ENOTCONN) {
        return ovsshm_session_over(&queue->volume->session);
    }
    return ovsshm_reason_set(error, "%s of %llu bytes at %llu of volume \"%s\" failed: %s",
                             ovsshm_op_name(io->op), (unsigned long long)io->length_bytes,
                             (unsigned long long)io->offset_bytes, queue->volume->name,
                             ovsshm_errno_text(error));
}

int64_t
ovsshm_queue_run(struct ovsshm_queue *queue, const struct ovsshm_io *io)
{
    queue->run_over = false;
    int rc = run_take(queue, io);
    if (rc) {
        return rc;
    }
    ovsshm_queue_submit(queue);
    while (!queue->run_over) {
        run_wait(queue);
    }
    queue->in_flight--;
    queue->run_over = false;
    return queue->run_result < 0 ? run_failed(queue, io, (int)queue->run_result)
                                 : queue->run_result;
}
