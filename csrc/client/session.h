/* SPDX-License-Identifier: MIT */
/*
 * The client's end of a control socket: connect, hello, calls, events, and whether it still lives.
 * A connection (conn.c) and a volume (volume.c) have one each.
 *
 * Threads: any.  Calls take turns; one that waits for its reply also receives the events meanwhile,
 * so whoever finds the turn taken may leave the socket alone.
 * Ownership: stop closes the socket.
 * Errors: -errno with the reason set.  -ENOTCONN the session is over, -EPROTO the server sent
 * nonsense, which also ends it.
 */
#ifndef OVSSHM_SESSION_H
#define OVSSHM_SESSION_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>
#include <sys/un.h>

#include "shared/atomic.h"
#include "shared/control.h"

#define OVSSHM_SESSION_EVENTS_MAX 16 /* kept for the user; the oldest are dropped */

struct ovsshm_session {
    int fd;
    int state;   /* 0, or -ENOTCONN for good; atomic */
    pid_t owner; /* a child after fork only drops its copies */
    struct ovsshm_msg_hello_reply hello;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];

    pthread_mutex_t turn; /* guards id, packet and the receiving side of fd */
    uint32_t id;
    struct ovsshm_packet packet;

    pthread_mutex_t mutex; /* guards the rest; never held over a system call */
    struct ovsshm_msg_event events[OVSSHM_SESSION_EVENTS_MAX];
    unsigned event_first;
    unsigned event_count;
    char reason[OVSSHM_NAME_BYTES + 64]; /* why the session is over */
};

/* origin: how the path was found, for the reason: "", " (socket from $OVS_SHM_SOCKET)". */
int ovsshm_session_start(struct ovsshm_session *session, const char *path, const char *origin);

/* Accepts a session that did not start when it is zeroed. */
void ovsshm_session_stop(struct ovsshm_session *session);

/* A request and what its reply must look like. */
struct ovsshm_call {
    uint16_t type; /* enum ovsshm_msg_type */
    const void *payload;
    size_t payload_bytes;
    void *reply;
    size_t reply_bytes_min;
    size_t reply_bytes_max;
    int *fds;
    unsigned fd_count; /* exactly so many come with the reply */
};

/* Bytes of the reply, or -errno: the server's own if it refused. */
int ovsshm_session_call(struct ovsshm_session *session, const struct ovsshm_call *call);

/* Takes what is in the socket, without waiting: events, the end. */
void ovsshm_session_drain(struct ovsshm_session *session);

/* Next event: 1 or 0. */
int ovsshm_session_event(struct ovsshm_session *session, struct ovsshm_msg_event *event);

/* Ends it for all threads.  The first reason is kept. */
void ovsshm_session_end(struct ovsshm_session *session, const char *reason);

/* The server broke the protocol: ends the session and returns -EPROTO. */
int ovsshm_session_violated(struct ovsshm_session *session, const char *how);

/* The session is over: -ENOTCONN, with the reason. */
int ovsshm_session_over(struct ovsshm_session *session);

static inline bool
ovsshm_session_alive(const struct ovsshm_session *session)
{
    return ovsshm_load_relaxed(&session->state) == 0;
}

#endif
