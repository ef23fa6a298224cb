/* SPDX-License-Identifier: MIT */
/*
 * Completions, and the process-wide threads that run their callbacks.
 *
 * A callback may block, submit, release its completion and close its context, so it runs without
 * any lock and the completion is not touched after it.  Threads are started when callbacks are due
 * and nobody is idle, up to the limit, and joined when the library is unloaded.  A child after fork
 * has none of them and starts its own.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include "client/reason.h"
#include "legacy.h"
#include "shared/atomic.h"

#define THREADS_DEFAULT 4
#define THREADS_MAX 64
#define THREADS_VARIABLE "LIBOVSVOLUMEDRIVER_AIO_COMP_POOL_SIZE"

struct pool_thread {
    pthread_t id;
    bool busy; /* in a callback */
};

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t due; /* a callback is, or stop */
    struct ovs_completion *first;
    struct ovs_completion **last;
    unsigned queued;
    unsigned idle;
    unsigned count;
    unsigned limit;
    bool stop;
    struct pool_thread threads[THREADS_MAX];
};

#define POOL_EMPTY \
    { \
        .lock = PTHREAD_MUTEX_INITIALIZER, .due = PTHREAD_COND_INITIALIZER \
    }
static struct pool pool = POOL_EMPTY;

/* The callbacks that this thread is in: more than one when a callback helps others to run. */
struct callback_frame {
    const struct legacy_session *session; /* NULL: closed meanwhile */
    struct callback_frame *outer;
};

static _Thread_local struct callback_frame *frames;
static _Thread_local bool is_pool_thread;

void
legacy_callback_run(struct ovs_completion *completion)
{
    struct callback_frame frame = {.session = completion->session, .outer = frames};
    struct legacy_session *session = completion->session;
    frames = &frame;
    /* R1: from now on the result can be asked for; pairs with A1. */
    ovsshm_store_release(&completion->state, LEGACY_COMPLETION_DONE);
    completion->callback(completion, completion->arg);
    frames = frame.outer;
    if (frame.session) {
        legacy_session_callback_returned(session);
    }
}

/* The first that is due; with a session, the first of that one. */
static struct ovs_completion *
take_locked(const struct legacy_session *session)
{
    struct ovs_completion **link = &pool.first;
    while (*link && session && (*link)->session != session) {
        link = &(*link)->next;
    }
    struct ovs_completion *completion = *link;
    if (completion) {
        *link = completion->next;
        pool.last = completion->next ? pool.last : link;
        pool.queued--;
    }
    return completion;
}

static void *
pool_thread_main(void *arg)
{
    struct pool_thread *self = arg;
    is_pool_thread = true;
    pthread_mutex_lock(&pool.lock);
    while (!pool.stop) {
        struct ovs_completion *completion = take_locked(NULL);
        if (!completion) {
            pool.idle++;
            pthread_cond_wait(&pool.due, &pool.lock);
            pool.idle--;
            continue;
        }
        self->busy = true;
        pthread_mutex_unlock(&pool.lock);
        legacy_callback_run(completion);
        pthread_mutex_lock(&pool.lock);
        self->busy = false;
    }
    pthread_mutex_unlock(&pool.lock);
    return NULL;
}

static unsigned
thread_limit(void)
{
    const char *text = getenv(THREADS_VARIABLE);
    long number = text ? strtol(text, NULL, 10) : 0;
    return number >= 1 && number <= THREADS_MAX ? (unsigned)number : THREADS_DEFAULT;
}

int
legacy_thread_start(pthread_t *thread, void *(*main)(void *), void *arg)
{
    /* Signals are the program's business, except those that a callback brings upon itself. */
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    sigset_t blocked, before;
    sigfillset(&blocked);
    for (unsigned i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        sigdelset(&blocked, own[i]);
    }
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    int rc = pthread_create(thread, NULL, main, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc == 0 ? 0 : ovsshm_reason_literal(-ENOMEM, "cannot start a thread");
}

static int
thread_add_locked(void)
{
    struct pool_thread *thread = &pool.threads[pool.count];
    *thread = (struct pool_thread){0};
    int rc = legacy_thread_start(&thread->id, pool_thread_main, thread);
    pool.count += rc == 0;
    return rc;
}

int
legacy_callbacks_prepare(void)
{
    pthread_mutex_lock(&pool.lock);
    int rc = 0;
    if (pool.count == 0) {
        pool.limit = thread_limit();
        rc = thread_add_locked();
    }
    pthread_mutex_unlock(&pool.lock);
    return rc;
}

void
legacy_callback_queue(struct ovs_completion *completion, int64_t result)
{
    completion->result = result;
    completion->next = NULL;
    pthread_mutex_lock(&pool.lock);
    *(pool.first ? pool.last : &pool.first) = completion;
    pool.last = &completion->next;
    pool.queued++;
    if (pool.queued > pool.idle && pool.count < pool.limit) {
        (void)thread_add_locked(); /* without it, the callback waits for a thread that is there */
    }
    pthread_cond_signal(&pool.due);
    pthread_mutex_unlock(&pool.lock);
}

unsigned
legacy_callback_depth(const struct legacy_session *session)
{
    unsigned depth = 0;
    for (const struct callback_frame *frame = frames; frame; frame = frame->outer) {
        depth += frame->session == session;
    }
    return depth;
}

void
legacy_callback_forget(const struct legacy_session *session)
{
    for (struct callback_frame *frame = frames; frame; frame = frame->outer) {
        if (frame->session == session) {
            frame->session = NULL;
        }
    }
}

struct ovs_completion *
legacy_callback_take(const struct legacy_session *session)
{
    if (!is_pool_thread) {
        return NULL;
    }
    pthread_mutex_lock(&pool.lock);
    struct ovs_completion *completion = take_locked(session);
    pthread_mutex_unlock(&pool.lock);
    return completion;
}

/* In the child, where the lock may be one that a thread of the parent held. */
static void
pool_after_fork(void)
{
    pool = (struct pool)POOL_EMPTY;
}

static void __attribute__((constructor)) pool_watch_fork(void)
{
    (void)pthread_atfork(NULL, NULL, pool_after_fork);
}

/*
 * At dlclose() all contexts are closed and all threads idle.  At exit() a program may have left
 * some in a callback, even be in one itself: those die with the process.
 */
static void __attribute__((destructor)) pool_stop(void)
{
    pthread_mutex_lock(&pool.lock);
    pool.stop = true;
    pthread_cond_broadcast(&pool.due);
    for (unsigned i = 0; i < pool.count; i++) {
        struct pool_thread *thread = &pool.threads[i];
        if (thread->busy) {
            pthread_detach(thread->id);
            continue;
        }
        pthread_mutex_unlock(&pool.lock);
        pthread_join(thread->id, NULL);
        pthread_mutex_lock(&pool.lock);
    }
    pthread_mutex_unlock(&pool.lock);
}

ovs_completion_t *
ovs_aio_create_completion(ovs_callback_t complete_cb, void *arg)
{
    if (!complete_cb) {
        errno = EINVAL;
        return NULL;
    }
    ovs_completion_t *completion = calloc(1, sizeof(*completion));
    if (!completion) {
        return NULL;
    }
    completion->callback = complete_cb;
    completion->arg = arg;
    pthread_mutex_init(&completion->lock, NULL);
    pthread_cond_init(&completion->cond, NULL);
    return completion;
}

ssize_t
ovs_aio_return_completion(ovs_completion_t *completion)
{
    if (!completion) {
        return legacy_result(-EINVAL);
    }
    switch (ovsshm_load_acquire(&completion->state)) { /* A1 pairs with R1 */
    case LEGACY_COMPLETION_DONE: return legacy_result(completion->result);
    case LEGACY_COMPLETION_IN_FLIGHT: return legacy_result(-EINPROGRESS);
    default: return legacy_result(-EINVAL);
    }
}

int
ovs_aio_wait_completion(ovs_completion_t *completion, const struct timespec *timeout)
{
    if (!completion || legacy_timespec_check(timeout) < 0) {
        return (int)legacy_result(-EINVAL);
    }
    int rc = 0;
    pthread_mutex_lock(&completion->lock);
    while (!completion->signalled && rc == 0) {
        rc = timeout ? pthread_cond_timedwait(&completion->cond, &completion->lock, timeout)
                     : pthread_cond_wait(&completion->cond, &completion->lock);
    }
    bool signalled = completion->signalled;
    pthread_mutex_unlock(&completion->lock);
    return signalled ? 0 : (int)legacy_result(-EAGAIN);
}

int
ovs_aio_signal_completion(ovs_completion_t *completion)
{
    if (!completion) {
        return (int)legacy_result(-EINVAL);
    }
    pthread_mutex_lock(&completion->lock);
    completion->signalled = true;
    pthread_cond_broadcast(&completion->cond);
    pthread_mutex_unlock(&completion->lock);
    return 0;
}

int
ovs_aio_release_completion(ovs_completion_t *completion)
{
    if (!completion) {
        return (int)legacy_result(-EINVAL);
    }
    if (ovsshm_load_acquire(&completion->state) == LEGACY_COMPLETION_IN_FLIGHT) {
        return (int)legacy_result(-EBUSY);
    }
    pthread_mutex_destroy(&completion->lock);
    pthread_cond_destroy(&completion->cond);
    free(completion);
    return 0;
}
