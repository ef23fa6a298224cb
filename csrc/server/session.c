/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "session.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "management.h"
#include "server.h"

static int
queue_init(struct queue *queue, struct session *session, uint32_t index)
{
    const struct ovsshm_region_header *layout = &session->region.layout;
    struct ovsshm_queue_memory memory = ovsshm_region_queue(&session->region, index);
    uint64_t spin_ns = session->server->params.spin_ns_max;
    struct ovsshm_ring_words *words = memory.words;
    *queue = (struct queue){
        .sqes = memory.sqes,
        .cqes = memory.cqes,
        .words = words,
        .session = session,
        .volume = session->volume,
        .arena = ovsshm_region_arena(&session->region),
        .arena_bytes = layout->arena_bytes,
        .depth = layout->depth,
        .block_bytes = layout->block_bytes,
        .segments_allowed = layout->features & OVSSHM_FEATURE_SEGMENTS,
        .state = QUEUE_PAUSED,
        .server_fd = -1,
        .client_fd = -1,
    };
    ovsshm_ring_init(&queue->sq, &words->sq_head, &words->sq_tail, memory.entries);
    ovsshm_ring_init(&queue->cq, &words->cq_tail, &words->cq_head, memory.entries);
    ovsshm_waiter_init(&queue->waiter, spin_ns == UINT64_MAX ? 0 : spin_ns);
    queue->requests = calloc(queue->depth, sizeof(*queue->requests));
    if (!queue->requests) {
        return -ENOMEM;
    }
    queue->server_fd = ovsshm_doorbell_create();
    queue->client_fd = queue->server_fd < 0 ? queue->server_fd : ovsshm_doorbell_create();
    return queue->client_fd < 0 ? queue->client_fd : 0;
}

static void
queue_free(struct queue *queue)
{
    if (queue->server_fd >= 0) {
        close(queue->server_fd);
    }
    if (queue->client_fd >= 0) {
        close(queue->client_fd);
    }
    /* Those the store was made to forget still own their lists. */
    for (uint32_t i = 0; i < queue->fresh; i++) {
        struct request *request = &queue->requests[i];
        if (request->in_store) {
            free(request->segments ? request->io.iov : NULL);
            free(request->io.extents);
        }
    }
    free(queue->requests);
}

static int
build(struct session *session, const struct command *command)
{
    const struct ovsshm_msg_open *open = &command->in.open;
    const struct volume *volume = session->volume;
    struct ovsshm_region_header layout;
    ovsshm_region_plan(&layout, open->queues, open->depth, open->arena_bytes);
    layout.features = command->connection->features;
    layout.block_bytes = volume->open->block_bytes;
    layout.volume_bytes = volume->size_bytes;
    int rc = ovsshm_region_create(&session->region, &layout);
    if (rc) {
        return rc;
    }
    session->queues = calloc(open->queues, sizeof(*session->queues));
    if (!session->queues) {
        return -ENOMEM;
    }
    while (rc == 0 && session->queue_count < open->queues) {
        rc = queue_init(&session->queues[session->queue_count], session, session->queue_count);
        session->queue_count++;
    }
    return rc;
}

/* ---- on the control thread ------------------------------------------------------------------ */

static void
violation_deliver(struct mail *mail)
{
    struct session *session = container_of(mail, struct session, violation);
    session->broken = true;
    if (session->connection) {
        srv_connection_end(session->connection, -EPROTO, "%s", session->reason);
    }
}

static void
detached_deliver(struct mail *mail)
{
    struct session *session = container_of(mail, struct session, detached);
    srv_registry_submit_on(&session->server->registry, &session->close, session->volume, true);
}

static void
closed_deliver(struct mail *mail)
{
    struct session *session = container_of(mail, struct session, close.done);
    struct ovsshm_server *server = session->server;
    free(session);
    srv_control_session_freed(server);
}

/* ---- jobs ----------------------------------------------------------------------------------- */

static void
release(struct session *session)
{
    for (uint32_t i = 0; i < session->queue_count; i++) {
        queue_free(&session->queues[i]);
    }
    free(session->queues);
    ovsshm_region_destroy(&session->region);
}

int
srv_session_create(struct session **out, const struct command *command)
{
    struct registry *registry = &command->job.server->registry;
    struct session *session = calloc(1, sizeof(*session));
    if (!session) {
        return -ENOMEM;
    }
    session->server = command->job.server;
    session->volume = command->job.volume;
    session->opened_ns = srv_clock_ns();
    session->peer = command->connection->peer;
    memcpy(session->client, command->connection->client, sizeof(session->client));
    session->mode = command->in.open.mode;
    session->writable = session->mode == OVSSHM_MODE_WRITE;
    session->violation.deliver = violation_deliver;
    session->detached.deliver = detached_deliver;
    session->close = (struct job){
        .server = session->server, .run = srv_manage_close, .done.deliver = closed_deliver};
    int rc = build(session, command);
    if (rc) {
        release(session);
        free(session);
        return rc;
    }
    pthread_mutex_lock(&registry->lock);
    session->socket_fd = command->connection->fd;
    session->id = ++registry->session_ids;
    TAILQ_INSERT_TAIL(&session->volume->sessions, session, link);
    TAILQ_INSERT_TAIL(&registry->sessions, session, by_id);
    *out = session; /* the control thread looks there when it closes the socket */
    pthread_mutex_unlock(&registry->lock);
    return 0;
}

void
srv_session_close(struct session *session)
{
    struct registry *registry = &session->server->registry;
    pthread_mutex_lock(&registry->lock);
    srv_counters_session(&registry->ended, session);
    TAILQ_REMOVE(&registry->sessions, session, by_id);
    TAILQ_REMOVE(&session->volume->sessions, session, link);
    pthread_mutex_unlock(&registry->lock);
    release(session);
}

bool
srv_session_hung_up(const struct session *session)
{
    if (session->local) {
        return ovsshm_load_relaxed(&session->leaving);
    }
    struct pollfd fd = {.fd = session->socket_fd, .events = POLLRDHUP};
    return session->socket_fd < 0 ||
           (poll(&fd, 1, 0) > 0 && (fd.revents & (POLLRDHUP | POLLHUP | POLLERR)));
}

void
srv_session_fds(const struct session *session, int *fds)
{
    *fds++ = session->region.fd;
    for (uint32_t i = 0; i < session->queue_count; i++) {
        *fds++ = session->queues[i].server_fd;
        *fds++ = session->queues[i].client_fd;
    }
}

static struct reactor *
least_loaded(struct ovsshm_server *server)
{
    struct reactor *best = &server->reactors[0];
    for (uint32_t i = 1; i < server->params.reactors; i++) {
        struct reactor *reactor = &server->reactors[i];
        if (ovsshm_load_relaxed(&reactor->queue_count) < ovsshm_load_relaxed(&best->queue_count)) {
            best = reactor;
        }
    }
    return best;
}

void
srv_session_attach(struct session *session)
{
    session->queues_live = session->queue_count;
    for (uint32_t i = 0; i < session->queue_count; i++) {
        srv_reactor_attach(least_loaded(session->server), &session->queues[i]);
    }
}

void
srv_session_detach(struct session *session)
{
    for (uint32_t i = 0; i < session->queue_count; i++) {
        srv_reactor_detach(session->queues[i].reactor, &session->queues[i]);
    }
}

void
srv_session_queue_detached(struct session *session)
{
    if (ovsshm_sub(&session->queues_live, 1) == 0) {
        srv_mailbox_post(&session->server->control.mailbox, &session->detached);
    }
}

int
srv_session_violation(struct session *session, const char *format, ...)
{
    if (!ovsshm_exchange(&session->violated, 1)) {
        va_list args;
        va_start(args, format);
        vsnprintf(session->reason, sizeof(session->reason), format, args);
        va_end(args);
        ovsshm_add_relaxed(&session->server->violations, 1);
        srv_mailbox_post(&session->server->control.mailbox, &session->violation);
    }
    return -EPROTO;
}
