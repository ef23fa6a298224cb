/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "session.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openvstorage/shm.h>

#include "reason.h"
#include "shared/wire.h"

#define HELLO_TIMEOUT_S 10
#define DRAIN_PACKETS_MAX 64 /* per look, so that a talkative server cannot hold us */
#define ERRNO_MAX 4095

#define FEATURES (OVSSHM_FEATURE_SEGMENTS | OVSSHM_FEATURE_EVENTS | OVSSHM_FEATURE_SESSIONS)

/* ---- the end -------------------------------------------------------------------------------- */

void
ovsshm_session_end(struct ovsshm_session *session, const char *reason)
{
    pthread_mutex_lock(&session->mutex);
    bool first = ovsshm_session_alive(session);
    if (first) {
        snprintf(session->reason, sizeof(session->reason), "%s", reason);
        ovsshm_store_release(&session->state, -ENOTCONN);
    }
    pthread_mutex_unlock(&session->mutex);
    if (first) {
        shutdown(session->fd, SHUT_RDWR); /* wakes every thread that sleeps on the socket */
    }
}

int
ovsshm_session_over(struct ovsshm_session *session)
{
    char reason[sizeof(session->reason)];
    pthread_mutex_lock(&session->mutex);
    memcpy(reason, session->reason, sizeof(reason));
    pthread_mutex_unlock(&session->mutex);
    return ovsshm_reason_set(-ENOTCONN, "%s", reason);
}

int
ovsshm_session_violated(struct ovsshm_session *session, const char *how)
{
    ovsshm_reason_set(0, "the server at %s broke the protocol: %s", session->path, how);
    ovsshm_session_end(session, ovsshm_reason());
    return -EPROTO;
}

static int
closed_by_server(struct ovsshm_session *session)
{
    ovsshm_reason_set(0, "the server at %s has gone away", session->path);
    ovsshm_session_end(session, ovsshm_reason());
    return ovsshm_session_over(session);
}

/* A send or receive has failed with rc. */
static int
broken(struct ovsshm_session *session, int rc)
{
    switch (rc) {
    case -EPIPE: return closed_by_server(session);
    case -EPROTO: return ovsshm_session_violated(session, "a packet that is no message");
    case -EAGAIN:
        ovsshm_reason_set(0, "the server at %s did not answer in %d s", session->path,
                          HELLO_TIMEOUT_S);
        ovsshm_session_end(session, ovsshm_reason());
        return -ETIMEDOUT;
    default:
        ovsshm_reason_set(0, "the socket %s failed: %s", session->path, ovsshm_errno_text(rc));
        ovsshm_session_end(session, ovsshm_reason());
        return rc;
    }
}

/* ---- events --------------------------------------------------------------------------------- */

static void
event_keep(struct ovsshm_session *session, const struct ovsshm_msg_event *event)
{
    pthread_mutex_lock(&session->mutex);
    if (session->event_count == OVSSHM_SESSION_EVENTS_MAX) {
        session->event_first = (session->event_first + 1) % OVSSHM_SESSION_EVENTS_MAX;
        session->event_count--;
    }
    unsigned last = (session->event_first + session->event_count) % OVSSHM_SESSION_EVENTS_MAX;
    session->events[last] = *event;
    session->event_count++;
    pthread_mutex_unlock(&session->mutex);
}

/* Takes the event in session->packet. */
static int
event_take(struct ovsshm_session *session)
{
    struct ovsshm_packet *packet = &session->packet;
    struct ovsshm_msg_event event;
    ovsshm_packet_close_fds(packet);
    memcpy(&event, packet->payload, sizeof(event));
    if (packet->head.payload_bytes != sizeof(event) || session->hello.version == 0 ||
        event.resv != 0 || !ovsshm_msg_text_ok(event.reason, sizeof(event.reason))) {
        return ovsshm_session_violated(session, "a bad event");
    }
    if (event.event < OVSSHM_EVENT_RESIZED || event.event > OVSSHM_EVENT_ENDED) {
        return 0; /* of a newer server; events only inform */
    }
    event_keep(session, &event);
    if (event.event == OVSSHM_EVENT_ENDED) {
        ovsshm_reason_set(0, "the server at %s has ended the session: %s", session->path,
                          event.reason);
        ovsshm_session_end(session, ovsshm_reason());
    }
    return 0;
}

int
ovsshm_session_event(struct ovsshm_session *session, struct ovsshm_msg_event *event)
{
    pthread_mutex_lock(&session->mutex);
    int count = session->event_count != 0;
    if (count) {
        *event = session->events[session->event_first];
        session->event_first = (session->event_first + 1) % OVSSHM_SESSION_EVENTS_MAX;
        session->event_count--;
    }
    pthread_mutex_unlock(&session->mutex);
    return count;
}

void
ovsshm_session_drain(struct ovsshm_session *session)
{
    if (pthread_mutex_trylock(&session->turn)) {
        return; /* a call is waiting for its reply, and sees all that comes before */
    }
    for (unsigned i = 0; i < DRAIN_PACKETS_MAX && ovsshm_session_alive(session); i++) {
        int rc = ovsshm_msg_recv(session->fd, &session->packet, 0, MSG_DONTWAIT);
        if (rc == -EAGAIN) {
            break;
        }
        if (rc) {
            broken(session, rc);
        } else if (session->packet.head.type != OVSSHM_MSG_EVENT) {
            ovsshm_session_violated(session, "a reply that nobody waits for");
        } else {
            event_take(session);
        }
    }
    pthread_mutex_unlock(&session->turn);
}

/* ---- calls ---------------------------------------------------------------------------------- */

/* The server has refused: its errno and its words. */
static int
refused(struct ovsshm_session *session, const struct ovsshm_packet *packet)
{
    const struct ovsshm_msg_reason *reason = (const void *)packet->payload;
    int status = packet->head.status;
    if (status < -ERRNO_MAX || packet->head.payload_bytes != sizeof(*reason) ||
        packet->fd_count != 0 || !ovsshm_msg_text_ok(reason->reason, sizeof(reason->reason))) {
        return ovsshm_session_violated(session, "a bad refusal");
    }
    return ovsshm_reason_set(status, "%s", reason->reason);
}

/* Checks the reply in session->packet and copies it out. */
static int
reply_take(struct ovsshm_session *session, const struct ovsshm_call *call)
{
    struct ovsshm_packet *packet = &session->packet;
    const struct ovsshm_msg *head = &packet->head;
    if (head->type != call->type || head->flags != OVSSHM_MSG_REPLY || head->id != session->id ||
        head->status > 0 || head->resv[0] != 0 || head->resv[1] != 0 || head->resv[2] != 0) {
        return ovsshm_session_violated(session, "a reply to something else");
    }
    if (head->status < 0) {
        return refused(session, packet);
    }
    if (head->payload_bytes < call->reply_bytes_min ||
        head->payload_bytes > call->reply_bytes_max || packet->fd_count != call->fd_count) {
        ovsshm_reason_set(0, "a reply to %s of the wrong size", ovsshm_msg_name(call->type));
        return ovsshm_session_violated(session, ovsshm_reason());
    }
    if (head->payload_bytes) {
        memcpy(call->reply, packet->payload, head->payload_bytes);
    }
    if (call->fd_count) {
        memcpy(call->fds, packet->fds, call->fd_count * sizeof(int));
        packet->fd_count = 0; /* they are the caller's now */
    }
    return (int)head->payload_bytes;
}

/* With the turn. */
static int
exchange(struct ovsshm_session *session, const struct ovsshm_call *call)
{
    struct ovsshm_msg head = {.type = call->type, .id = ++session->id};
    int rc = ovsshm_msg_send(session->fd, head, call->payload, call->payload_bytes, NULL, 0);
    if (rc) {
        /* Its last words may say why it went. */
        while (ovsshm_msg_recv(session->fd, &session->packet, 0, MSG_DONTWAIT) == 0 &&
               session->packet.head.type == OVSSHM_MSG_EVENT && event_take(session) == 0) {
        }
        ovsshm_packet_close_fds(&session->packet);
        return broken(session, rc);
    }
    do {
        rc = ovsshm_msg_recv(session->fd, &session->packet, call->fd_count, 0);
        if (rc) {
            return broken(session, rc);
        }
        if (session->packet.head.type != OVSSHM_MSG_EVENT) {
            rc = reply_take(session, call);
            ovsshm_packet_close_fds(&session->packet);
            return rc;
        }
    } while ((rc = event_take(session)) == 0);
    return rc;
}

int
ovsshm_session_call(struct ovsshm_session *session, const struct ovsshm_call *call)
{
    pthread_mutex_lock(&session->turn);
    int rc = ovsshm_session_alive(session) ? exchange(session, call) : ovsshm_session_over(session);
    pthread_mutex_unlock(&session->turn);
    return rc;
}

/* ---- start and stop ------------------------------------------------------------------------- */

static int
set_timeout(int fd, time_t seconds)
{
    struct timeval timeout = {.tv_sec = seconds};
    return setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) ||
                   setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout))
               ? -errno
               : 0;
}

static const char *
connect_advice(int error)
{
    switch (error) {
    case ENOENT:
    case ECONNREFUSED: return ": is shmserver running?";
    case EACCES: return ": has this user write permission on the socket?";
    case EPROTOTYPE: return ": that is another program's socket";
    case EAGAIN: return ": the server does not accept connections";
    default: return "";
    }
}

static int
socket_connect(struct ovsshm_session *session, const char *path, const char *origin)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!path[0]) {
        return ovsshm_reason_literal(-EINVAL, "the socket path is empty");
    }
    if (strlen(path) >= sizeof(address.sun_path)) {
        return ovsshm_reason_set(-ENAMETOOLONG,
                                 "cannot connect to %.200s: socket paths have at most "
                                 "%zu bytes%s",
                                 path, sizeof(address.sun_path) - 1, origin);
    }
    strcpy(address.sun_path, path);
    strcpy(session->path, path);
    session->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (session->fd < 0) {
        return ovsshm_reason_set(-errno, "cannot make a socket: %s", ovsshm_errno_text(errno));
    }
    int rc = set_timeout(session->fd, HELLO_TIMEOUT_S);
    while (!rc && connect(session->fd, (struct sockaddr *)&address, sizeof(address))) {
        rc = errno == EINTR ? 0 : -errno;
    }
    if (rc) {
        ovsshm_reason_set(0, "cannot connect to %s: %s%s%s", path, ovsshm_errno_text(rc),
                          connect_advice(-rc), origin);
        close(session->fd);
        return rc == -EAGAIN ? -ETIMEDOUT : rc;
    }
    return 0;
}

static bool
hello_reply_ok(const struct ovsshm_msg_hello_reply *r)
{
    return (r->features & ~(uint64_t)FEATURES) == 0 && r->queues_max >= 1 &&
           r->queues_max <= OVSSHM_QUEUES_MAX && r->depth_max >= OVSSHM_DEPTH_MIN &&
           r->depth_max <= OVSSHM_DEPTH_MAX && r->request_bytes_max >= OVSSHM_SECTOR_BYTES &&
           r->request_bytes_max <= INT32_MAX && r->range_bytes_max >= OVSSHM_SECTOR_BYTES &&
           r->range_bytes_max <= OVSSHM_RANGE_BYTES_MAX && r->segments_max >= 1 &&
           r->segments_max <= OVSSHM_SEGMENTS_MAX && r->arena_bytes_max >= OVSSHM_PAGE_BYTES &&
           ovsshm_msg_text_ok(r->server, sizeof(r->server)) &&
           ovsshm_msg_text_ok(r->store, sizeof(r->store));
}

static int
say_hello(struct ovsshm_session *session)
{
    struct ovsshm_msg_hello hello = {
        .version_min = OVSSHM_VERSION,
        .version_max = OVSSHM_VERSION,
        .features = FEATURES,
    };
    snprintf(hello.client, sizeof(hello.client), "%s", program_invocation_short_name);
    struct ovsshm_msg_hello_reply reply = {.version = 0};
    struct ovsshm_call call = {
        .type = OVSSHM_MSG_HELLO,
        .payload = &hello,
        .payload_bytes = sizeof(hello),
        .reply = &reply,
        .reply_bytes_min = sizeof(reply),
        .reply_bytes_max = sizeof(reply),
    };
    int rc = ovsshm_session_call(session, &call);
    if (rc < 0) {
        return rc;
    }
    if (reply.version != OVSSHM_VERSION) {
        return ovsshm_reason_set(-EPROTONOSUPPORT,
                                 "the server at %s wants protocol version %u, this "
                                 "library speaks %d",
                                 session->path, reply.version, OVSSHM_VERSION);
    }
    if (!hello_reply_ok(&reply)) {
        return ovsshm_session_violated(session, "impossible limits in hello");
    }
    session->hello = reply;
    return set_timeout(session->fd, 0);
}

int
ovsshm_session_start(struct ovsshm_session *session, const char *path, const char *origin)
{
    session->state = 0;
    session->owner = 0;
    session->id = 0;
    session->hello.version = 0;
    session->event_first = 0;
    session->event_count = 0;
    int rc = socket_connect(session, path, origin);
    if (rc) {
        return rc;
    }
    session->owner = getpid();
    pthread_mutex_init(&session->turn, NULL);
    pthread_mutex_init(&session->mutex, NULL);
    rc = say_hello(session);
    if (rc) {
        ovsshm_session_stop(session);
    }
    return rc;
}

void
ovsshm_session_stop(struct ovsshm_session *session)
{
    if (session->owner == 0) {
        return;
    }
    if (session->owner == getpid()) {
        shutdown(session->fd, SHUT_RDWR); /* at once, even when a forked child holds a copy */
    }
    close(session->fd);
    pthread_mutex_destroy(&session->turn);
    pthread_mutex_destroy(&session->mutex);
    session->owner = 0;
}
