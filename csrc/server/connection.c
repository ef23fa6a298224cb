/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "connection.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "message.h"
#include "server.h"
#include "session.h"
#include "shared/wire.h"

#define FEATURES (OVSSHM_FEATURE_SEGMENTS | OVSSHM_FEATURE_EVENTS | OVSSHM_FEATURE_SESSIONS)
#define SESSIONS_MAX OVSSHM_LIST_MAX(struct ovsshm_session_info)
#define UNREAD_MAX 64  /* messages thrown away before closing */
#define REFUSED_MAX 16 /* connections that wait for their refusal */

/* ---- sending -------------------------------------------------------------------------------- */

/* False: the client is gone or does not read, and the connection has ended. */
static bool
send_reply(struct connection *c, const struct ovsshm_msg *to, int status, const void *payload,
           size_t payload_bytes, const int *fds, unsigned fd_count)
{
    struct ovsshm_msg head = {
        .type = to->type, .id = to->id, .flags = OVSSHM_MSG_REPLY, .status = status};
    int rc = ovsshm_msg_send(c->fd, head, payload, payload_bytes, fds, fd_count);
    if (rc) {
        srv_connection_end(c, 0, "cannot send a reply: %s", strerror(-rc));
    }
    return rc == 0;
}

static bool
send_refusal(struct connection *c, const struct ovsshm_msg *to, int status,
             const struct ovsshm_error *error)
{
    struct ovsshm_msg_reason reason;
    memset(&reason, 0, sizeof(reason));
    snprintf(reason.reason, sizeof(reason.reason), "%s",
             error->reason[0] ? error->reason : strerror(-status));
    srv_log(&c->server->params.log, OVSSHM_LOG_DEBUG, "pid %d (%s): %s refused: %s",
            (int)c->peer.pid, c->peer.program, ovsshm_msg_name(to->type), reason.reason);
    return send_reply(c, to, status, &reason, sizeof(reason), NULL, 0);
}

static int
send_event(struct connection *c, uint32_t event, int64_t value, const char *reason)
{
    struct ovsshm_msg head = {.type = OVSSHM_MSG_EVENT};
    struct ovsshm_msg_event payload = {.event = event, .value = value};
    if (!(c->features & OVSSHM_FEATURE_EVENTS)) {
        return 0;
    }
    snprintf(payload.reason, sizeof(payload.reason), "%s", reason);
    return ovsshm_msg_send(c->fd, head, &payload, sizeof(payload), NULL, 0);
}

void
srv_connection_event(struct connection *c, uint32_t event, int64_t value, const char *reason)
{
    if (c->fd >= 0 && c->session && send_event(c, event, value, reason) == -EAGAIN) {
        srv_connection_end(c, 0, "does not read its events");
    }
}

/* ---- the beginning and the end -------------------------------------------------------------- */

static void
watch(struct connection *c, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(c->server->control.epoll_fd, operation, c->fd, &event)) {
        srv_connection_end(c, 0, "cannot be watched: %s", strerror(errno));
    }
}

/* A refused client is told so when it says hello; only a few can wait for that. */
static void
make_room_for_refused(struct control *control)
{
    struct connection *c;
    TAILQ_FOREACH(c, &control->connections, link)
    {
        if (c->refusal && control->refused_count >= REFUSED_MAX) {
            srv_connection_end(c, 0, "refused");
            return;
        }
    }
}

void
srv_connection_create(struct ovsshm_server *server, int fd)
{
    struct control *control = &server->control;
    struct connection *c = calloc(1, sizeof(*c));
    if (!c) {
        close(fd);
        return;
    }
    c->server = server;
    c->fd = fd;
    srv_peer_identify(&c->peer, fd);
    if (!srv_peer_allowed(&server->params, &c->peer, fd)) {
        c->refusal = -EACCES;
    } else if (control->connection_count >= server->params.connections_max) {
        c->refusal = -EUSERS;
    }
    if (c->refusal) {
        make_room_for_refused(control);
        control->refused_count++;
    } else {
        ovsshm_add_relaxed(&control->connection_count, 1);
    }
    TAILQ_INSERT_TAIL(&control->connections, c, link);
    watch(c, EPOLL_CTL_ADD, EPOLLIN | EPOLLRDHUP);
}

/* Unread messages would turn our last one into a connection reset at the client's end. */
static void
discard_unread(struct connection *c)
{
    struct ovsshm_packet *packet = &c->server->control.packet;
    for (int i = 0; i < UNREAD_MAX; i++) {
        int rc = ovsshm_msg_recv(c->fd, packet, OVSSHM_MSG_FDS_MAX, MSG_DONTWAIT);
        if (rc && rc != -EPROTO) {
            return;
        }
        ovsshm_packet_close_fds(packet);
    }
}

static void
session_end(struct connection *c)
{
    c->session->connection = NULL;
    srv_session_detach(c->session);
    c->session = NULL;
}

void
srv_connection_end(struct connection *c, int status, const char *format, ...)
{
    struct ovsshm_server *server = c->server;
    char reason[OVSSHM_NAME_BYTES];
    va_list args;
    if (c->fd < 0) {
        return;
    }
    va_start(args, format);
    vsnprintf(reason, sizeof(reason), format, args);
    va_end(args);
    srv_log(&server->params.log,
            status == -EPROTO || status == -EACCES ? OVSSHM_LOG_WARNING
            : c->session                           ? OVSSHM_LOG_INFO
                                                   : OVSSHM_LOG_DEBUG,
            "pid %d (%s): connection ended: %s", (int)c->peer.pid, c->peer.program, reason);
    if (status < 0 && c->greeted) {
        (void)send_event(c, OVSSHM_EVENT_ENDED, status, reason);
    }
    discard_unread(c);

    pthread_mutex_lock(&server->registry.lock);
    if (c->session) {
        c->session->socket_fd = -1;
    }
    if (c->busy && c->command.session) {
        c->command.session->socket_fd = -1;
    }
    /* A child that the embedder has forked may hold copies: closing alone is not enough. */
    (void)epoll_ctl(server->control.epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
    (void)shutdown(c->fd, SHUT_RDWR);
    close(c->fd);
    c->fd = -1;
    pthread_mutex_unlock(&server->registry.lock);

    /* A job that changes the session's mode still needs it. */
    if (c->session && !(c->busy && c->command.type == OVSSHM_MSG_SET_MODE)) {
        session_end(c);
    }
    if (!c->busy) {
        srv_control_forget(c);
    }
}

/* ---- requests that need no worker ----------------------------------------------------------- */

/* Refuses and ends the connection: no correct client does this. */
static void
protocol_error(struct connection *c, const struct ovsshm_msg *head, const char *what)
{
    struct ovsshm_error error;
    ovsshm_add_relaxed(&c->server->violations, 1);
    (void)srv_error(&error, -EPROTO, "%s message: %s", ovsshm_msg_name(head->type), what);
    if (send_refusal(c, head, -EPROTO, &error)) {
        srv_connection_end(c, -EPROTO, "%s", error.reason);
    }
}

static int
hello_check(const struct connection *c, const struct ovsshm_msg_hello *hello,
            struct ovsshm_error *error)
{
    if (c->refusal == -EACCES) {
        return srv_error(error, -EACCES, "user %d is not on the server's list", (int)c->peer.uid);
    }
    if (c->refusal) {
        return srv_error(error, c->refusal, "the server has its maximum of %u connections",
                         c->server->params.connections_max);
    }
    if (hello->version_min > OVSSHM_VERSION || hello->version_max < OVSSHM_VERSION) {
        return srv_error(error, -EPROTONOSUPPORT,
                         "the client speaks protocol versions %" PRIu32 " to %" PRIu32
                         ", the server %d to %d",
                         hello->version_min, hello->version_max, OVSSHM_VERSION, OVSSHM_VERSION);
    }
    return 0;
}

static void
handle_hello(struct connection *c, const struct ovsshm_packet *packet)
{
    const struct ovsshm_server_params *params = &c->server->params;
    struct ovsshm_msg_hello hello;
    struct ovsshm_error error;
    if (packet->head.payload_bytes != sizeof(hello)) {
        protocol_error(c, &packet->head, "wrong size");
        return;
    }
    memcpy(&hello, packet->payload, sizeof(hello));
    if (c->greeted || !ovsshm_msg_text_ok(hello.client, sizeof(hello.client)) ||
        hello.version_min > hello.version_max) {
        protocol_error(c, &packet->head, c->greeted ? "sent twice" : "bad contents");
        return;
    }
    int rc = hello_check(c, &hello, &error);
    if (rc) {
        if (send_refusal(c, &packet->head, rc, &error)) {
            srv_connection_end(c, rc, "%s", error.reason);
        }
        return;
    }
    c->greeted = true;
    c->features = hello.features & FEATURES;
    snprintf(c->client, sizeof(c->client), "%s", hello.client); /* zeroes after the text */
    struct ovsshm_msg_hello_reply reply = {
        .version = OVSSHM_VERSION,
        .queues_max = params->queues_max,
        .features = c->features,
        .depth_max = params->depth_max,
        .request_bytes_max = params->request_bytes_max,
        .range_bytes_max = OVSSHM_RANGE_BYTES_MAX,
        .segments_max = OVSSHM_SEGMENTS_MAX,
        .arena_bytes_max = params->arena_bytes_max,
        .capabilities = c->server->store->capabilities,
        .server = "openvstorage-shm " OVSSHM_VERSION_TEXT,
    };
    snprintf(reply.store, sizeof(reply.store), "%s", c->server->store->type->name);
    (void)send_reply(c, &packet->head, 0, &reply, sizeof(reply), NULL, 0);
    srv_log(&params->log, OVSSHM_LOG_DEBUG, "pid %d (%s): connected as \"%s\"", (int)c->peer.pid,
            c->peer.program, c->client);
}

static void
handle_status(struct connection *c, const struct ovsshm_packet *packet)
{
    struct ovsshm_status status;
    if (packet->head.payload_bytes) {
        protocol_error(c, &packet->head, "wrong size");
        return;
    }
    ovsshm_server_status(c->server, &status);
    (void)send_reply(c, &packet->head, 0, &status, sizeof(status), NULL, 0);
}

static void
handle_sessions(struct connection *c, const struct ovsshm_packet *packet)
{
    struct {
        struct ovsshm_msg_list_reply head;
        struct ovsshm_session_info infos[SESSIONS_MAX];
    } reply;
    struct ovsshm_msg_sessions in;
    if (!(c->features & OVSSHM_FEATURE_SESSIONS)) {
        protocol_error(c, &packet->head, "its feature is not in force");
        return;
    }
    if (packet->head.payload_bytes != sizeof(in)) {
        protocol_error(c, &packet->head, "wrong size");
        return;
    }
    memcpy(&in, packet->payload, sizeof(in));
    if (in.resv) {
        protocol_error(c, &packet->head, "bad contents");
        return;
    }
    reply.head.count = srv_counters_sessions(c->server, in.after, reply.infos, SESSIONS_MAX);
    reply.head.more = reply.head.count == SESSIONS_MAX;
    (void)send_reply(c, &packet->head, 0, &reply,
                     sizeof(reply.head) + reply.head.count * sizeof(reply.infos[0]), NULL, 0);
}

/* ---- requests for a worker ------------------------------------------------------------------ */

static void
log_open(const struct connection *c)
{
    const struct ovsshm_msg_open *open = &c->command.in.open;
    srv_info(c->server,
             "pid %d (%s): opened volume \"%s\" for %s, %" PRIu32 " queue%s of depth %" PRIu32,
             (int)c->peer.pid, c->peer.program, open->name,
             open->mode == OVSSHM_MODE_WRITE ? "writing" : "reading", open->queues,
             open->queues == 1 ? "" : "s", open->depth);
}

static void
reply_open(struct connection *c, const struct ovsshm_msg *to)
{
    const struct ovsshm_region_header *layout = &c->session->region.layout;
    struct ovsshm_msg_open_reply reply = {
        .region_bytes = layout->region_bytes,
        .size_bytes = layout->volume_bytes,
        .block_bytes = layout->block_bytes,
        .queues = layout->queue_count,
        .depth = layout->depth,
    };
    int fds[OVSSHM_MSG_FDS_MAX];
    srv_session_fds(c->session, fds);
    log_open(c);
    (void)send_reply(c, to, 0, &reply, sizeof(reply), fds, 1 + 2 * layout->queue_count);
}

void
srv_connection_announce_resize(struct ovsshm_server *server, const char *volume,
                               uint64_t size_bytes)
{
    struct connection *c;
    struct connection *next;
    for (c = TAILQ_FIRST(&server->control.connections); c; c = next) {
        next = TAILQ_NEXT(c, link);
        if (c->session && !strcmp(c->session->volume->name, volume)) {
            srv_connection_event(c, OVSSHM_EVENT_RESIZED, (int64_t)size_bytes,
                                 "the volume was resized");
        }
    }
}

static void
answer(struct connection *c)
{
    struct command *command = &c->command;
    const struct ovsshm_msg to = {.type = command->type, .id = command->id};
    if (command->job.status) {
        (void)send_refusal(c, &to, command->job.status, &command->error);
    } else if (command->type == OVSSHM_MSG_OPEN) {
        reply_open(c, &to);
    } else {
        (void)send_reply(c, &to, 0, command->reply, command->reply_bytes, NULL, 0);
    }
}

/* A session that came into being for us; its client may be gone by now. */
static void
session_begin(struct connection *c)
{
    c->session = c->command.session;
    c->session->connection = c;
    ovsshm_add_relaxed(&c->server->control.session_count, 1);
    if (c->fd >= 0 && c->session->broken) {
        srv_connection_end(c, -EPROTO, "%s", c->session->reason);
    }
}

/* The worker's answer is there. */
static void
command_done(struct mail *mail)
{
    struct connection *c = container_of(mail, struct connection, command.job.done);
    struct command *command = &c->command;
    bool ended = c->fd < 0;
    c->busy = false;
    if (command->type == OVSSHM_MSG_OPEN && command->session) {
        session_begin(c);
    }
    if (command->resized) { /* before the reply: who asked finds its own event waiting */
        srv_connection_announce_resize(c->server, srv_command_subject(command),
                                       command->size_bytes);
    }
    if (ended) {
        if (c->session) {
            session_end(c);
        }
        srv_control_forget(c);
    } else if (c->fd >= 0) {
        answer(c);
    }
    free(command->reply);
    command->reply = NULL;
    if (c->fd >= 0) {
        watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLRDHUP);
    }
}

static void
handle_command(struct connection *c, const struct ovsshm_packet *packet)
{
    const struct message *message = srv_message_find(packet->head.type);
    struct command *command = &c->command;
    if (!message || packet->head.payload_bytes != message->payload_bytes) {
        protocol_error(c, &packet->head, message ? "wrong size" : "unknown type");
        return;
    }
    *command = (struct command){
        .job = {.server = c->server, .run = message->run, .done.deliver = command_done},
        .connection = c,
        .type = packet->head.type,
        .id = packet->head.id,
    };
    memcpy(&command->in, packet->payload, message->payload_bytes);
    int rc = message->check(command, &command->error);
    if (rc == -EPROTO) {
        protocol_error(c, &packet->head, "bad contents");
        return;
    }
    if (rc) {
        (void)send_refusal(c, &packet->head, rc, &command->error);
        return;
    }
    c->busy = true;
    watch(c, EPOLL_CTL_MOD, 0); /* nothing is read before this is answered */
    if (command->type == OVSSHM_MSG_SET_MODE) {
        command->session = c->session;
        srv_registry_submit_on(&c->server->registry, &command->job, c->session->volume, false);
    } else if (srv_registry_submit(&c->server->registry, &command->job,
                                   srv_command_subject(command))) {
        command->job.status = -ENOMEM;
        command_done(&command->job.done);
    }
}

void
srv_connection_read(struct connection *c)
{
    struct ovsshm_packet *packet = &c->server->control.packet;
    int rc = ovsshm_msg_recv(c->fd, packet, 0, MSG_DONTWAIT);
    if (rc == -EAGAIN) {
        return;
    }
    if (rc == -EPROTO) {
        ovsshm_add_relaxed(&c->server->violations, 1);
        srv_connection_end(c, rc, "sent something that is not a message");
        return;
    }
    if (rc) {
        srv_connection_end(c, 0, "closed by the client");
        return;
    }
    const struct ovsshm_msg *head = &packet->head;
    if (head->flags || head->status || head->resv[0] || head->resv[1] || head->resv[2]) {
        protocol_error(c, head, "bad header");
    } else if (head->type == OVSSHM_MSG_HELLO) {
        handle_hello(c, packet);
    } else if (!c->greeted) {
        protocol_error(c, head, "hello comes first");
    } else if (head->type == OVSSHM_MSG_STATUS) {
        handle_status(c, packet);
    } else if (head->type == OVSSHM_MSG_SESSIONS) {
        handle_sessions(c, packet);
    } else {
        handle_command(c, packet);
    }
}
