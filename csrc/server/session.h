/* SPDX-License-Identifier: MIT */
/*
 * A session: one client has one volume open.  Region, doorbells, queues.
 *
 *     open (a job) -> attach (queues to reactors) -> detach -> every queue detached -> close (a
 * job)
 *
 * Ownership: made and closed by jobs on the volume, freed by the control thread after the closing
 * job. A queue's memory is used by its reactor until it has reported the queue detached.
 */
#ifndef OVSSHM_SERVER_SESSION_H
#define OVSSHM_SERVER_SESSION_H

#include "connection.h"
#include "queue.h"
#include "registry.h"
#include "shared/region.h"

struct command;

struct session {
    TAILQ_ENTRY(session) link;  /* of volume->sessions; registry lock */
    TAILQ_ENTRY(session) by_id; /* of registry->sessions; registry lock */
    uint64_t id;
    uint64_t opened_ns;
    char client[OVSSHM_IDENT_BYTES]; /* as it calls itself */
    struct ovsshm_server *server;
    struct volume *volume;
    struct connection *connection; /* control thread; NULL: gone */
    struct peer peer;
    int socket_fd;     /* registry lock; -1: closed */
    uint32_t mode;     /* enum ovsshm_mode; written by jobs, registry lock */
    uint32_t writable; /* atomic: the same for the reactors */
    bool local;        /* of this process, without all that follows but close: see local.h */
    bool leaving;      /* atomic: a local one that is about to be closed */

    struct ovsshm_region region;
    struct queue *queues;
    uint32_t queue_count;
    uint32_t queues_live; /* atomic: held by reactors */

    struct mail detached;  /* to the control thread: no reactor has a queue */
    struct mail violation; /* to the control thread: see reason */
    uint32_t violated;     /* atomic: reason is taken */
    bool broken;           /* control thread: violation came before connection */
    char reason[OVSSHM_NAME_BYTES];
    struct job close;
};

/* Jobs: makes the session that `command` asks for, of a volume that the store has open. */
int srv_session_create(struct session **session, const struct command *command);

/* Jobs: its queues are detached.  Frees all but the structure.  Control thread: free() then. */
void srv_session_close(struct session *session);

/* Jobs: hands the queues to reactors. */
void srv_session_attach(struct session *session);

/* Control thread: takes them back; session->detached is posted at the end. */
void srv_session_detach(struct session *session);

/* Fills fds for the open reply: 1 + 2 * queue_count. */
void srv_session_fds(const struct session *session, int *fds);

/* Registry lock: the client has closed its end of the socket, or the local is leaving. */
bool srv_session_hung_up(const struct session *session);

/* Reactors: the client broke the protocol.  Returns -EPROTO. */
int srv_session_violation(struct session *session, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Reactors: one queue less. */
void srv_session_queue_detached(struct session *session);

#endif
