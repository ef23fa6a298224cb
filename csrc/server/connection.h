/* SPDX-License-Identifier: MIT */
/*
 * One client's socket: hello, then one request at a time, each answered before the next is read.
 *
 * Threads: the control thread; `fd` also under the registry lock, for who asks whether the client
 * is still there. Ownership: a connection is freed when it has ended and no job works for it.
 */
#ifndef OVSSHM_SERVER_CONNECTION_H
#define OVSSHM_SERVER_CONNECTION_H

#include <sys/queue.h>

#include "management.h"
#include "peer.h"

struct connection {
    TAILQ_ENTRY(connection) link;
    struct ovsshm_server *server;
    int fd; /* -1: ended */
    struct peer peer;
    bool greeted; /* hello has been answered */
    int refusal;  /* hello will be answered with this; 0: welcome */
    uint64_t features;
    char client[OVSSHM_IDENT_BYTES]; /* as it calls itself */
    struct session *session;         /* NULL: nothing open */
    bool busy;                       /* command is with a worker */
    struct command command;
};

/* Takes fd. */
void srv_connection_create(struct ovsshm_server *server, int fd);

/* The socket is readable. */
void srv_connection_read(struct connection *connection);

/*
 * Over: the client is told the reason if status < 0 and it can be, the session is taken down.  Safe
 * to call twice.
 */
void srv_connection_end(struct connection *connection, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* An event to a client that has a session and wants events. */
void srv_connection_event(struct connection *connection, uint32_t event, int64_t value,
                          const char *reason);

/* Tells all that have the volume open. */
void srv_connection_announce_resize(struct ovsshm_server *server, const char *volume,
                                    uint64_t size_bytes);

#endif
