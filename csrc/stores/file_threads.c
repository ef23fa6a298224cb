/* SPDX-License-Identifier: MIT */
/*
 * The engine for machines without io_uring: threads that do one step after the other.
 *
 * Threads: start, kick, poll and destroy by the reactor.  Workers take from `todo` and put into
 * `done`, both under the lock; the eventfd is readable exactly while `done` has something.
 */
#define _GNU_SOURCE
#include "stores/file.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "server/log.h"
#include "shared/atomic.h"

struct list {
    struct ovsshm_request *head;
    struct ovsshm_request *tail;
};

struct threads_group {
    struct file_group base;
    struct file_store *store;
    int fd;
    pthread_mutex_t lock;
    pthread_cond_t work;
    bool stop;
    struct list todo;
    struct list done; /* its head is also looked at without the lock */
    unsigned waiting; /* in todo */
    unsigned idle;    /* workers that sleep */
    unsigned worker_count;
    pthread_t workers[]; /* threads_max */
};

static void
push(struct list *list, struct ovsshm_request *request)
{
    file_private_set(request, FILE_NEXT, 0);
    if (list->head) {
        file_private_set(list->tail, FILE_NEXT, (uintptr_t)request);
    } else {
        ovsshm_store_relaxed(&list->head, request);
    }
    list->tail = request;
}

static struct ovsshm_request *
next_of(struct ovsshm_request *request)
{
    return (struct ovsshm_request *)file_private_get(request, FILE_NEXT);
}

static void
run_steps(struct ovsshm_request *request)
{
    struct file_step step;
    do {
        ovsshm_file_step_get(request, &step);
    } while (!ovsshm_file_step_end(request, ovsshm_file_step_run(&step)));
}

static void
hand_back(struct threads_group *group, struct ovsshm_request *request)
{
    bool first = !group->done.head;
    push(&group->done, request);
    if (first) {
        eventfd_write(group->fd, 1);
    }
}

static void *
worker(void *arg)
{
    struct threads_group *group = arg;
    pthread_mutex_lock(&group->lock);
    for (;;) {
        struct ovsshm_request *request = group->todo.head;
        if (request) {
            group->todo.head = next_of(request);
            group->waiting--;
            pthread_mutex_unlock(&group->lock);
            run_steps(request);
            pthread_mutex_lock(&group->lock);
            hand_back(group, request);
        } else if (group->stop) {
            break;
        } else {
            group->idle++;
            pthread_cond_wait(&group->work, &group->lock);
            group->idle--;
        }
    }
    pthread_mutex_unlock(&group->lock);
    return NULL;
}

/* Signals are for the program's own threads. */
static int
add_worker(struct threads_group *group)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&group->workers[group->worker_count], NULL, worker, group);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc == 0) {
        group->worker_count++;
    }
    return -rc;
}

static void
threads_start(struct file_group *base, struct ovsshm_request *request)
{
    struct threads_group *group = (struct threads_group *)base;
    base->in_flight++;
    pthread_mutex_lock(&group->lock);
    push(&group->todo, request);
    group->waiting++;
    if (group->idle) {
        pthread_cond_signal(&group->work);
    }
    if (group->waiting > group->idle && group->worker_count < group->store->threads_max) {
        add_worker(group); /* may fail: those there are do it all; the first one exists always */
    }
    pthread_mutex_unlock(&group->lock);
}

/* Each start has already told a worker. */
static void
threads_kick(struct file_group *base)
{
    (void)base;
}

static unsigned
threads_poll(void *arg)
{
    struct threads_group *group = arg;
    if (!ovsshm_load_relaxed(&group->done.head)) {
        return 0;
    }
    eventfd_t ignored;
    pthread_mutex_lock(&group->lock);
    struct ovsshm_request *request = group->done.head;
    ovsshm_store_relaxed(&group->done.head, NULL);
    eventfd_read(group->fd, &ignored);
    pthread_mutex_unlock(&group->lock);
    unsigned count = 0;
    while (request) {
        struct ovsshm_request *next = next_of(request);
        group->base.in_flight--;
        ovsshm_file_finish(request);
        request = next;
        count++;
    }
    return count;
}

static int
threads_fd(void *arg)
{
    return ((struct threads_group *)arg)->fd;
}

static void
threads_destroy(void *arg)
{
    struct threads_group *group = arg;
    if (!group) {
        return;
    }
    while (group->base.in_flight) {
        struct pollfd ready = {.fd = group->fd, .events = POLLIN};
        poll(&ready, 1, -1);
        threads_poll(group);
    }
    pthread_mutex_lock(&group->lock);
    group->stop = true;
    pthread_cond_broadcast(&group->work);
    pthread_mutex_unlock(&group->lock);
    for (unsigned i = 0; i < group->worker_count; i++) {
        pthread_join(group->workers[i], NULL);
    }
    pthread_cond_destroy(&group->work);
    pthread_mutex_destroy(&group->lock);
    close(group->fd);
    free(group);
}

static int
threads_create(struct ovsshm_store *store, void **out)
{
    struct file_store *fs = (struct file_store *)store;
    struct threads_group *group =
        calloc(1, sizeof(*group) + fs->threads_max * sizeof(group->workers[0]));
    if (!group) {
        return -ENOMEM;
    }
    group->base.engine = &ovsshm_file_threads;
    group->store = fs;
    pthread_mutex_init(&group->lock, NULL);
    pthread_cond_init(&group->work, NULL);
    group->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = group->fd < 0 ? -errno : add_worker(group);
    if (rc) {
        if (group->fd >= 0) {
            close(group->fd);
        }
        pthread_cond_destroy(&group->work);
        pthread_mutex_destroy(&group->lock);
        free(group);
        return rc;
    }
    *out = group;
    return 0;
}

static int
threads_probe(void)
{
    return 0;
}

const struct file_engine ovsshm_file_threads = {
    .name = "threads",
    .probe = threads_probe,
    .create = threads_create,
    .destroy = threads_destroy,
    .start = threads_start,
    .kick = threads_kick,
    .poll = threads_poll,
    .fd = threads_fd,
};
