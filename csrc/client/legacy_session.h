/* SPDX-License-Identifier: MIT */
/*
 * An open volume of the historical API: one native volume with one queue, used by any thread.
 *
 * The queue belongs to whoever holds the lock.  At any time at most one thread is the leader: it
 * alone takes completions, polling and sleeping on the queue's fd without the lock, so that others
 * can submit meanwhile.  Who waits for a request leads if nobody does (no thread hop on the way of
 * a synchronous call), else sleeps until the leader has its request or hands over.  The reaper, a
 * thread of its own, leads when callbacks are wanted and nobody waits.
 */
#ifndef OVSSHM_LEGACY_SESSION_H
#define OVSSHM_LEGACY_SESSION_H

#include "legacy.h"
#include "shared/waiter.h"

/* A thread that waits for a request while another leads. */
struct legacy_follower {
    const struct ovs_aio_request *request;
    pthread_cond_t wake;
    struct legacy_follower *next;
};

struct legacy_session {
    struct ovsshm_volume *volume;
    struct ovsshm_queue *queue;
    char name[OVSSHM_NAME_BYTES];
    int oflag;
    uint64_t shared_bytes_max; /* of buffers; the rest of the arena is for bouncing */
    uint64_t shared_bytes;     /* atomic */

    pthread_mutex_t lock;             /* guards the queue and all below */
    struct ovs_aio_request *accepted; /* not in the queue yet, in order */
    struct ovs_aio_request **accepted_end;
    unsigned in_flight; /* in the queue */
    unsigned writes_in_flight;
    unsigned callbacks_wanted; /* requests with a completion, accepted or in flight */
    unsigned callbacks_due;    /* handed to the pool, not returned */

    bool leading;
    struct ovsshm_waiter waiter; /* the leader's */
    struct legacy_follower *followers;
    pthread_cond_t changed; /* for reaper and close: there may be something to do */
    pthread_t reaper;
    bool reaper_started;
    bool closing;
    bool stopping;
};

/* legacy_session.c, all with the lock held */

/* Moves accepted requests into the queue, as far as it has room. */
void legacy_session_issue(struct legacy_session *session);

/* Takes the completions that are there; their number. */
int legacy_session_reap(struct legacy_session *session);

/* legacy_wait.c, all with the lock held; these two may drop it meanwhile */
int legacy_wait_locked(struct legacy_session *session, const struct ovs_aio_request *request,
                       const struct timespec *deadline);
void legacy_drain_locked(struct legacy_session *session);

/* -ENOMEM: there is no reaper and it cannot be started. */
int legacy_reaper_start_locked(struct legacy_session *session);

/* Lets the reaper lead if somebody must. */
void legacy_reaper_wake_locked(struct legacy_session *session);

/* The request is done. */
void legacy_followers_wake_locked(struct legacy_session *session,
                                  const struct ovs_aio_request *request);

#endif
