/* SPDX-License-Identifier: MIT */
/* Who takes completions, and who sleeps meanwhile; see legacy_session.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>

#include "client/queue.h"
#include "legacy_session.h"
#include "shared/atomic.h"

/* ---- the leader --------------------------------------------------------------------------- */

/* Without the lock: only reaping, which is the leader's, moves our index. */
static bool
completions_there(const struct legacy_session *s)
{
    const struct ovsshm_ring *cq = &s->queue->cq;
    return ovsshm_load_relaxed(cq->peer_word) != cq->own;
}

/* Polls for as long as that is worth it; false: sleep. */
static bool
spin(struct legacy_session *s)
{
    const uint32_t *server_cpu = &s->queue->words->server_cpu;
    pthread_mutex_unlock(&s->lock);
    bool found = false;
    while (!found && ovsshm_waiter_spin(&s->waiter, ovsshm_load_relaxed(server_cpu))) {
        found = completions_there(s);
    }
    pthread_mutex_lock(&s->lock);
    return found;
}

/* Time until the deadline; false when it has passed. */
static bool
time_left(const struct timespec *deadline, struct timespec *left)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (deadline->tv_sec < now.tv_sec ||
        (deadline->tv_sec == now.tv_sec && deadline->tv_nsec <= now.tv_nsec)) {
        return false;
    }
    left->tv_sec = deadline->tv_sec - now.tv_sec;
    left->tv_nsec = deadline->tv_nsec - now.tv_nsec;
    if (left->tv_nsec < 0) {
        left->tv_sec--;
        left->tv_nsec += 1000000000;
    }
    return true;
}

static void
sleep_on_queue(struct legacy_session *s, const struct timespec *left)
{
    if (ovsshm_queue_arm(s->queue) != 0) {
        return;
    }
    struct pollfd fd = {.fd = ovsshm_queue_fd(s->queue), .events = POLLIN};
    pthread_mutex_unlock(&s->lock);
    (void)ppoll(&fd, 1, left, NULL);
    pthread_mutex_lock(&s->lock);
    ovsshm_queue_disarm(s->queue);
    ovsshm_waiter_slept(&s->waiter);
}

/* Callbacks, and requests that no room was found for, need a leader even if nobody waits. */
static bool
is_busy(const struct legacy_session *s)
{
    return s->callbacks_wanted > 0 || s->accepted || (s->closing && s->in_flight > 0);
}

static bool
is_over(const struct legacy_session *s, const struct ovs_aio_request *request)
{
    return request ? ovsshm_load_relaxed(&request->done) != 0 : !is_busy(s);
}

/* Leads until the request is done; without one, while the session is busy.  0 or -EAGAIN. */
static int
lead(struct legacy_session *s, const struct ovs_aio_request *request,
     const struct timespec *deadline)
{
    struct timespec left;
    int rc = 0;
    s->leading = true;
    while (!is_over(s, request) && rc == 0) {
        if (legacy_session_reap(s) > 0) {
            ovsshm_waiter_found(&s->waiter);
        } else if (deadline && !time_left(deadline, &left)) {
            rc = -EAGAIN;
        } else if (!spin(s)) {
            sleep_on_queue(s, deadline ? &left : NULL);
        }
    }
    ovsshm_waiter_found(&s->waiter);
    s->leading = false;
    return rc;
}

/* Nobody leads: sees to it that somebody does who has reason to. */
static void
hand_over(struct legacy_session *s)
{
    if (s->followers) {
        pthread_cond_signal(&s->followers->wake);
    } else if (is_busy(s) || s->closing) {
        pthread_cond_broadcast(&s->changed);
    }
}

/* ---- followers ---------------------------------------------------------------------------- */

void
legacy_followers_wake_locked(struct legacy_session *s, const struct ovs_aio_request *request)
{
    for (struct legacy_follower *follower = s->followers; follower; follower = follower->next) {
        if (follower->request == request) {
            pthread_cond_signal(&follower->wake);
        }
    }
}

static void
follower_remove(struct legacy_session *s, const struct legacy_follower *self)
{
    struct legacy_follower **link = &s->followers;
    while (*link != self) {
        link = &(*link)->next;
    }
    *link = self->next;
}

/* Sleeps until the request is done, nobody leads, or the deadline passes. */
static int
follow(struct legacy_session *s, const struct ovs_aio_request *request,
       const struct timespec *deadline)
{
    struct legacy_follower self = {
        .request = request, .wake = PTHREAD_COND_INITIALIZER, .next = s->followers};
    int rc = 0;
    // cppcheck-suppress autoVariables ; follower_remove() below
    s->followers = &self;
    while (!is_over(s, request) && s->leading && rc == 0) {
        rc = deadline ? pthread_cond_timedwait(&self.wake, &s->lock, deadline)
                      : pthread_cond_wait(&self.wake, &s->lock);
    }
    follower_remove(s, &self);
    pthread_cond_destroy(&self.wake);
    return rc == 0 ? 0 : -EAGAIN;
}

int
legacy_wait_locked(struct legacy_session *s, const struct ovs_aio_request *request,
                   const struct timespec *deadline)
{
    int rc = 0;
    while (!is_over(s, request) && rc == 0) {
        rc = s->leading ? follow(s, request, deadline) : lead(s, request, deadline);
    }
    if (!s->leading) {
        hand_over(s);
    }
    return is_over(s, request) ? 0 : rc;
}

/* ---- the reaper --------------------------------------------------------------------------- */

static void *
reaper_main(void *arg)
{
    struct legacy_session *s = arg;
    pthread_mutex_lock(&s->lock);
    while (!s->stopping) {
        if (is_busy(s) && !s->leading) {
            (void)lead(s, NULL, NULL);
            hand_over(s);
        } else {
            pthread_cond_wait(&s->changed, &s->lock);
        }
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

int
legacy_reaper_start_locked(struct legacy_session *s)
{
    if (s->reaper_started) {
        return 0;
    }
    int rc = legacy_thread_start(&s->reaper, reaper_main, s);
    s->reaper_started = rc == 0;
    return rc;
}

void
legacy_reaper_wake_locked(struct legacy_session *s)
{
    /* It must be there also when another leads, who leaves when its own request is done. */
    if (is_busy(s) && legacy_reaper_start_locked(s) == 0 && !s->leading) {
        pthread_cond_broadcast(&s->changed);
    }
}

/*
 * Closing inside of a callback of this session: that one is not waited for, and if all threads of
 * the pool are in such callbacks, the session's others can only be run from here.
 */
void
legacy_drain_locked(struct legacy_session *s)
{
    unsigned own = legacy_callback_depth(s);
    s->closing = true;
    while (s->accepted || s->in_flight > 0 || s->callbacks_due > own) {
        if (is_busy(s) && !s->leading) {
            (void)lead(s, NULL, NULL);
            continue;
        }
        struct ovs_completion *completion = legacy_callback_take(s);
        if (!completion) {
            pthread_cond_wait(&s->changed, &s->lock);
            continue;
        }
        pthread_mutex_unlock(&s->lock);
        legacy_callback_run(completion);
        pthread_mutex_lock(&s->lock);
    }
}
