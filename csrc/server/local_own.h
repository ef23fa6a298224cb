/* SPDX-License-Identifier: MIT */
/*
 * Locals as the server's own parts see them: how pauses and the server's end wait for their I/O.
 *
 * A thread says in its group which volume it is about to do I/O on, and then looks whether the
 * volume is held; who holds a volume sets that word and then looks at all groups.  Full fences on
 * both sides let at least one see the other.  So I/O costs no word that threads share.
 *
 * One lock of the process guards the lists of groups and locals and all waiting for each other.  It
 * is never destroyed, so a thread may still use it when the server is gone.  It comes after the
 * registry's.
 */
#ifndef OVSSHM_SERVER_LOCAL_OWN_H
#define OVSSHM_SERVER_LOCAL_OWN_H

#include <sys/queue.h>

#include "local.h"
#include "queue.h"
#include "session.h"

#define LOCAL_COUNTED 8

struct command;

enum local_state {
    LOCAL_OPEN,
    LOCAL_ENDING, /* the server stops: no I/O any more, and soon: */
    LOCAL_ENDED,  /* the server has closed it */
};

struct local {
    struct session session;
    LIST_ENTRY(local) link; /* lock: of the server's */
    uint32_t state;         /* atomic: enum local_state; lock */
    uint32_t block_bytes;
    uint64_t size_bytes; /* atomic: to the byte; the volume goes before the local may */
    struct {
        _Alignas(64) struct counters counters;
    } counted[LOCAL_COUNTED]; /* by groups, as their numbers say */
};

/* What a thread lends to requests; a store may hold it. */
struct local_memory {
    struct ovsshm_memory *memory; /* NULL: none yet */
    unsigned char *base;
    size_t bytes;
};

/* A thread's door to the store. */
struct local_group {
    struct volume *volume;        /* atomic: I/O on it is under way; NULL: none */
    struct ovsshm_server *server; /* atomic: NULL: has ended; lock */
    struct ovsshm_store *store;
    void *store_group;
    const void *thread; /* stands for the thread */
    struct local_memory scratch;
    struct local_memory bounce;
    struct ovsshm_waiter waiter;
    int fd;              /* rung when another thread has completed a request */
    int store_fd;        /* -1: none */
    uint32_t armed;      /* atomic: sleeps on fd */
    uint32_t completing; /* atomic: threads that complete a request of it from outside */
    unsigned number;
    bool blocked;                 /* atomic, lock: waits until its volume is let go */
    LIST_ENTRY(local_group) link; /* lock: of the server's */
    struct local_group *next;     /* of the thread's */
};

/* Part of the server. */
struct locals {
    LIST_HEAD(, local_group) groups; /* lock */
    LIST_HEAD(, local) locals;       /* lock */
    uint32_t count;                  /* atomic: of locals */
    uint32_t calls;                  /* lock: under way */
    uint32_t dropped;                /* lock: requests given up */
    unsigned numbers;                /* lock: given out to groups */
    bool stopping;                   /* lock */
    pthread_mutex_t watch_lock;
    srv_local_changed_fn changed; /* watch lock; NULL: nobody watches */
    void *changed_arg;
};

/* ---- local.c -------------------------------------------------------------------------------- */

void srv_local_init(struct ovsshm_server *server);
void srv_local_destroy(struct ovsshm_server *server);

/* A client has done this. */
void srv_local_tell(struct ovsshm_server *server, const char *name, enum srv_local_event event);

/* Jobs: the session of the local that `command` opens. */
void srv_local_begin(struct command *command);

/* Jobs: the volume of a local's session has another size. */
void srv_local_publish_size(struct session *session, uint64_t size_bytes);

/* What the session of a local has done. */
void srv_local_counters(const struct session *session, struct counters *to);

/* Ends all I/O and closes what is open; the number of requests that had to be dropped. */
uint32_t srv_local_stop(struct ovsshm_server *server);

/* ---- local_group.c -------------------------------------------------------------------------- */

/* False: the server stops.  Every true one needs its leave. */
bool srv_local_call_enter(struct ovsshm_server *server);
void srv_local_call_leave(struct ovsshm_server *server);

void srv_local_link(struct local *local);
void srv_local_unlink(struct local *local);

/* False: the server has closed it, or has done so when this returns. */
bool srv_local_close_enter(struct local *local);

/* Around I/O.  -ESHUTDOWN; waits while the volume is held. */
int srv_local_io_enter(struct local *local, struct local_group *group);
void srv_local_io_leave(struct local_group *group);

/* By the group's thread: the server stops, so the store has to forget the request, if not done. */
void srv_local_group_give_up(struct local_group *group, const uint32_t *done);

/* Memory of at least so many bytes that no store holds; NULL: there is none. */
void *srv_local_memory(struct local_memory *memory, size_t bytes);

/* No I/O begins on the volume from now on, until it is let go. */
void srv_local_hold_volume(struct volume *volume);
void srv_local_let_go(struct volume *volume);

/* False: at the deadline there is still I/O under way.  volume NULL: on any. */
bool srv_local_await_quiet(struct ovsshm_server *server, const struct volume *volume,
                           uint64_t deadline_ns);

/* The steps of stopping: no more I/O and calls; the groups' end. */
void srv_local_end_begin(struct ovsshm_server *server);
void srv_local_end_groups(struct ovsshm_server *server);

unsigned srv_local_in_flight(struct ovsshm_server *server, const struct volume *volume);

/* ---- local_io.c ----------------------------------------------------------------------------- */

/* The queue of all their requests: how ovsshm_request_complete() knows them. */
extern struct queue srv_local_queue;

/* Its address stands for the thread. */
extern _Thread_local char srv_local_here __attribute__((tls_model("initial-exec")));
void srv_local_complete(struct request *request, int32_t result);
struct ovsshm_memory *srv_local_hold(struct request *request);

#endif
