/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "fault.h"

#include <errno.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "shared/doorbell.h"

#define NS_PER_S 1000000000u

/* A waiting request's store_private: free for us until the inner store gets it. */
enum {
    NEXT,
    DUE_NS,
    GROUP,
    ERROR
};

static uint64_t
clock_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void
group_open(struct delay_line *line)
{
    const struct ovsshm_store_type *type = line->inner->type;
    line->group_rc = type->group_create ? type->group_create(line->inner, &line->inner_group) : 0;
}

static void
group_close(struct delay_line *line)
{
    if (line->inner->type->group_destroy && line->inner_group) {
        line->inner->type->group_destroy(line->inner_group);
        line->inner_group = NULL;
    }
}

static struct ovsshm_request *
take_first(struct delay_line *line)
{
    struct ovsshm_request *request = line->first;
    line->first = request->store_private[NEXT];
    return request;
}

/* Under the lock, so that a purge finds a request either waiting or gone. */
static void
release_due(struct delay_line *line)
{
    uint64_t now = clock_ns();
    while (line->first && (uintptr_t)line->first->store_private[DUE_NS] <= now) {
        struct ovsshm_request *request = take_first(line);
        int32_t error = (int32_t)(intptr_t)request->store_private[ERROR];
        error = error ? error : line->group_rc;
        if (error) {
            ovsshm_request_complete(request, error);
        } else {
            request->volume = ((struct fault_volume *)(void *)request->volume)->inner;
            line->inner->type->submit(line->inner, line->inner_group, &request, 1);
        }
    }
}

/* What the inner store has of the group in flight ends with our inner group. */
static void
purge(struct delay_line *line)
{
    struct ovsshm_request *request = line->first;
    line->first = NULL;
    while (request) {
        struct ovsshm_request *next = request->store_private[NEXT];
        if (request->store_private[GROUP] != line->purge) {
            request->store_private[NEXT] = NULL;
            if (line->first) {
                line->last->store_private[NEXT] = request;
            } else {
                line->first = request;
            }
            line->last = request;
        }
        request = next;
    }
    group_close(line);
    group_open(line);
    line->purge = NULL;
    pthread_cond_broadcast(&line->purged);
}

static void
sleep_until_due(struct delay_line *line, uint64_t due_ns)
{
    const struct ovsshm_store_type *type = line->inner->type;
    struct pollfd fds[2] = {{.fd = line->wake_fd, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
    uint64_t now = clock_ns();
    uint64_t left = due_ns > now ? due_ns - now : 0;
    struct timespec timeout = {.tv_sec = (time_t)(left / NS_PER_S),
                               .tv_nsec = (long)(left % NS_PER_S)};
    if (type->group_fd && line->inner_group) {
        fds[1].fd = type->group_fd(line->inner_group);
    }
    if (ppoll(fds, 2, due_ns == UINT64_MAX ? NULL : &timeout, NULL) > 0 && fds[0].revents) {
        ovsshm_doorbell_clear(line->wake_fd);
    }
}

static void *
line_main(void *arg)
{
    struct delay_line *line = arg;
    pthread_mutex_lock(&line->lock);
    group_open(line);
    while (!line->stop) {
        if (line->purge) {
            purge(line);
        }
        release_due(line);
        if (line->inner->type->poll && line->inner_group) {
            line->inner->type->poll(line->inner_group);
        }
        uint64_t due = line->first ? (uintptr_t)line->first->store_private[DUE_NS] : UINT64_MAX;
        pthread_mutex_unlock(&line->lock);
        sleep_until_due(line, due);
        pthread_mutex_lock(&line->lock);
    }
    group_close(line);
    pthread_mutex_unlock(&line->lock);
    return NULL;
}

int
ovsshm_delay_create(struct delay_line *line, struct ovsshm_store *inner, uint64_t delay_ns)
{
    *line = (struct delay_line){.inner = inner, .delay_ns = delay_ns};
    line->wake_fd = ovsshm_doorbell_create();
    if (line->wake_fd < 0) {
        return line->wake_fd;
    }
    pthread_mutex_init(&line->lock, NULL);
    pthread_cond_init(&line->purged, NULL);
    int rc = -pthread_create(&line->thread, NULL, line_main, line);
    if (rc) {
        close(line->wake_fd);
    }
    return rc;
}

void
ovsshm_delay_destroy(struct delay_line *line)
{
    pthread_mutex_lock(&line->lock);
    line->stop = true;
    pthread_mutex_unlock(&line->lock);
    ovsshm_doorbell_ring(line->wake_fd);
    pthread_join(line->thread, NULL);
    close(line->wake_fd);
    pthread_cond_destroy(&line->purged);
    pthread_mutex_destroy(&line->lock);
}

void
ovsshm_delay_add(struct delay_line *line, struct fault_group *group, struct ovsshm_request *request,
                 int32_t error)
{
    request->store_private[NEXT] = NULL;
    request->store_private[DUE_NS] = (void *)(uintptr_t)(clock_ns() + line->delay_ns);
    request->store_private[GROUP] = group;
    request->store_private[ERROR] = (void *)(intptr_t)error;
    pthread_mutex_lock(&line->lock);
    bool was_empty = !line->first;
    if (was_empty) {
        line->first = request;
    } else {
        line->last->store_private[NEXT] = request;
    }
    line->last = request;
    pthread_mutex_unlock(&line->lock);
    if (was_empty) {
        ovsshm_doorbell_ring(line->wake_fd);
    }
}

void
ovsshm_delay_purge(struct delay_line *line, const struct fault_group *group)
{
    pthread_mutex_lock(&line->lock);
    while (line->purge) { /* another reactor's */
        pthread_cond_wait(&line->purged, &line->lock);
    }
    line->purge = group;
    ovsshm_doorbell_ring(line->wake_fd);
    while (line->purge == group) {
        pthread_cond_wait(&line->purged, &line->lock);
    }
    pthread_mutex_unlock(&line->lock);
}
