/* SPDX-License-Identifier: MIT */
#include "registry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "session.h"

void
srv_registry_init(struct registry *registry, struct mailbox *reports)
{
    *registry = (struct registry){.reports = reports};
    pthread_mutex_init(&registry->lock, NULL);
    pthread_cond_init(&registry->ready_or_stopping, NULL);
    TAILQ_INIT(&registry->ready);
    LIST_INIT(&registry->volumes);
    TAILQ_INIT(&registry->sessions);
}

void
srv_registry_destroy(struct registry *registry)
{
    pthread_cond_destroy(&registry->ready_or_stopping);
    pthread_mutex_destroy(&registry->lock);
}

static struct volume *
volume_find(struct registry *registry, const char *name)
{
    struct volume *volume;
    LIST_FOREACH(volume, &registry->volumes, link)
    {
        if (!strcmp(volume->name, name)) {
            return volume;
        }
    }
    return NULL;
}

static struct volume *
volume_get(struct registry *registry, const char *name)
{
    struct volume *volume = volume_find(registry, name);
    if (!volume && (volume = calloc(1, sizeof(*volume)))) {
        strcpy(volume->name, name);
        TAILQ_INIT(&volume->jobs);
        TAILQ_INIT(&volume->closes);
        TAILQ_INIT(&volume->sessions);
        LIST_INSERT_HEAD(&registry->volumes, volume, link);
    }
    return volume;
}

static void
make_ready(struct registry *registry, struct job *job)
{
    if (job->callers) {
        job->its_turn = true;
        pthread_cond_signal(&job->turn);
        return;
    }
    TAILQ_INSERT_TAIL(&registry->ready, job, link);
    pthread_cond_signal(&registry->ready_or_stopping);
}

/* Under the lock: makes the volume's next job ready if none is; forgets a volume nobody uses. */
static void
volume_next(struct registry *registry, struct volume *volume)
{
    if (volume->scheduled) {
        return;
    }
    struct job *job = TAILQ_FIRST(&volume->closes);
    if (job) {
        TAILQ_REMOVE(&volume->closes, job, link);
    } else if (!volume->parked && (job = TAILQ_FIRST(&volume->jobs))) {
        TAILQ_REMOVE(&volume->jobs, job, link);
    }
    if (job) {
        volume->scheduled = true;
        make_ready(registry, job);
    } else if (TAILQ_EMPTY(&volume->jobs) && TAILQ_EMPTY(&volume->sessions)) {
        LIST_REMOVE(volume, link);
        free(volume);
    }
}

static int
enqueue(struct registry *registry, struct job *job, const char *name)
{
    job->volume = name ? volume_get(registry, name) : NULL;
    if (job->volume) {
        TAILQ_INSERT_TAIL(&job->volume->jobs, job, link);
        volume_next(registry, job->volume);
    } else if (!name) {
        make_ready(registry, job);
    } else {
        return -ENOMEM;
    }
    return 0;
}

static void
enqueue_on(struct registry *registry, struct job *job, struct volume *volume, bool closing)
{
    job->volume = volume;
    if (closing) {
        TAILQ_INSERT_TAIL(&volume->closes, job, link);
    } else {
        TAILQ_INSERT_TAIL(&volume->jobs, job, link);
    }
    volume_next(registry, volume);
}

int
srv_registry_submit(struct registry *registry, struct job *job, const char *name)
{
    pthread_mutex_lock(&registry->lock);
    int rc = enqueue(registry, job, name);
    pthread_mutex_unlock(&registry->lock);
    return rc;
}

void
srv_registry_submit_on(struct registry *registry, struct job *job, struct volume *volume,
                       bool closing)
{
    pthread_mutex_lock(&registry->lock);
    enqueue_on(registry, job, volume, closing);
    pthread_mutex_unlock(&registry->lock);
}

static void
set_parked(struct registry *registry, struct volume *volume, bool parked)
{
    registry->parked += (unsigned)parked - (unsigned)volume->parked;
    volume->parked = parked;
}

/* Under the lock, after a job has run.  True: the job is done and its mail is to be sent. */
static bool
job_settle(struct registry *registry, struct job *job)
{
    struct volume *volume = job->volume;
    bool park = job->status == JOB_PARK;
    if (!volume) {
        return true;
    }
    volume->scheduled = false;
    set_parked(registry, volume, park);
    if (park) {
        TAILQ_INSERT_HEAD(&volume->jobs, job, link);
    }
    volume_next(registry, volume);
    return !park;
}

/* Under the lock, which is left meanwhile: a job whose caller is this thread. */
static int
run_here(struct registry *registry, struct job *job)
{
    for (;;) {
        while (!job->its_turn) {
            pthread_cond_wait(&job->turn, &registry->lock);
        }
        job->its_turn = false;
        pthread_mutex_unlock(&registry->lock);
        job->status = job->run(job);
        pthread_mutex_lock(&registry->lock);
        if (job_settle(registry, job)) {
            return job->status;
        }
        srv_mailbox_wake(registry->reports); /* the control thread keeps its time */
    }
}

int
srv_registry_run(struct registry *registry, struct job *job, const char *name)
{
    job->callers = true;
    pthread_cond_init(&job->turn, NULL);
    pthread_mutex_lock(&registry->lock);
    int rc = enqueue(registry, job, name);
    rc = rc ? rc : run_here(registry, job);
    pthread_mutex_unlock(&registry->lock);
    pthread_cond_destroy(&job->turn);
    return rc;
}

int
srv_registry_run_on(struct registry *registry, struct job *job, struct volume *volume, bool closing)
{
    job->callers = true;
    pthread_cond_init(&job->turn, NULL);
    pthread_mutex_lock(&registry->lock);
    enqueue_on(registry, job, volume, closing);
    int rc = run_here(registry, job);
    pthread_mutex_unlock(&registry->lock);
    pthread_cond_destroy(&job->turn);
    return rc;
}

void
srv_registry_retry(struct registry *registry, struct volume *volume)
{
    pthread_mutex_lock(&registry->lock);
    if (volume->parked) {
        set_parked(registry, volume, false);
        volume_next(registry, volume);
    }
    pthread_mutex_unlock(&registry->lock);
}

static void *
worker_main(void *arg)
{
    struct registry *registry = arg;
    pthread_mutex_lock(&registry->lock);
    for (;;) {
        struct job *job = TAILQ_FIRST(&registry->ready);
        if (!job && registry->stopping) {
            break;
        }
        if (!job) {
            pthread_cond_wait(&registry->ready_or_stopping, &registry->lock);
            continue;
        }
        TAILQ_REMOVE(&registry->ready, job, link);
        pthread_mutex_unlock(&registry->lock);
        job->status = job->run(job);
        pthread_mutex_lock(&registry->lock);
        bool parked = !job_settle(registry, job);
        pthread_mutex_unlock(&registry->lock);
        if (parked) {
            srv_mailbox_wake(registry->reports); /* the control thread keeps its time */
        } else {
            srv_mailbox_post(registry->reports, &job->done);
        }
        pthread_mutex_lock(&registry->lock);
    }
    pthread_mutex_unlock(&registry->lock);
    return NULL;
}

int
srv_registry_start(struct registry *registry)
{
    const unsigned count = sizeof(registry->workers) / sizeof(registry->workers[0]);
    for (; registry->worker_count < count; registry->worker_count++) {
        pthread_t *thread = &registry->workers[registry->worker_count];
        int rc = pthread_create(thread, NULL, worker_main, registry);
        if (rc) {
            srv_registry_stop(registry);
            return -rc;
        }
    }
    return 0;
}

void
srv_registry_stop(struct registry *registry)
{
    pthread_mutex_lock(&registry->lock);
    registry->stopping = true;
    pthread_cond_broadcast(&registry->ready_or_stopping);
    pthread_mutex_unlock(&registry->lock);
    while (registry->worker_count) {
        pthread_join(registry->workers[--registry->worker_count], NULL);
    }
}

uint64_t
srv_registry_unpark(struct registry *registry, bool all)
{
    uint64_t next = UINT64_MAX;
    struct volume *volume;
    struct volume *following;
    pthread_mutex_lock(&registry->lock);
    uint64_t now = registry->parked ? srv_clock_ns() : 0;
    for (volume = registry->parked ? LIST_FIRST(&registry->volumes) : NULL; volume;
         volume = following) {
        following = LIST_NEXT(volume, link);
        if (!volume->parked) {
            continue;
        }
        uint64_t until = TAILQ_FIRST(&volume->jobs)->park_until_ns;
        if (all || until <= now) {
            set_parked(registry, volume, false);
            volume_next(registry, volume);
        } else if (until < next) {
            next = until;
        }
    }
    pthread_mutex_unlock(&registry->lock);
    return next;
}

struct usage
srv_registry_usage(struct registry *registry, const char *name)
{
    struct usage usage = {0, 0};
    struct session *session;
    pthread_mutex_lock(&registry->lock);
    struct volume *volume = volume_find(registry, name);
    if (volume) {
        TAILQ_FOREACH(session, &volume->sessions, link)
        {
            if (session->mode == OVSSHM_MODE_WRITE) {
                usage.writers++;
            } else {
                usage.readers++;
            }
        }
    }
    pthread_mutex_unlock(&registry->lock);
    return usage;
}
