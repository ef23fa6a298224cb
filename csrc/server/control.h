/* SPDX-License-Identifier: MIT */
/*
 * The control thread: an epoll loop over the listener, the sockets and a mailbox.
 */
#ifndef OVSSHM_SERVER_CONTROL_H
#define OVSSHM_SERVER_CONTROL_H

#include <sys/queue.h>

#include "mailbox.h"
#include "shared/control.h"

struct connection;
struct ovsshm_server;

struct control {
    pthread_t thread;
    int epoll_fd;
    struct mailbox mailbox;
    TAILQ_HEAD(connection_list, connection) connections;
    struct connection_list ended; /* to be freed when the current events are done */
    uint32_t connection_count;    /* atomic; welcome ones */
    uint32_t refused_count;
    uint32_t session_count; /* atomic; until freed */
    bool accepting;         /* the listener is watched */
    bool quit;
    struct gate *connections_gone; /* opens when there is none */
    struct gate *sessions_gone;
    struct ovsshm_packet packet; /* the message being handled */
};

int srv_control_start(struct ovsshm_server *server);

/* The steps of stopping, in this order.  The waits take no longer than the store's calls. */
void srv_control_drain(struct ovsshm_server *server); /* no connects, no opens */
void srv_control_end_connections(struct ovsshm_server *server);
void srv_control_wait_sessions(struct ovsshm_server *server); /* after the reactors' end */
void srv_control_stop(struct ovsshm_server *server);

/* For connection.c and session.c: frees the connection soon; a session has been freed. */
void srv_control_forget(struct connection *connection);
void srv_control_session_freed(struct ovsshm_server *server);

#endif
