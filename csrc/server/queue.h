/* SPDX-License-Identifier: MIT */
/*
 * One queue on the server's side: entries out of the submission ring, through the checks, to the
 * store, and completions back.
 *
 * The client can write every byte of the rings at any time.  So an entry is copied once, the copy
 * is checked, and only the copy is used; our own indexes are in private memory.
 *
 * Threads: a queue belongs to its reactor; ovsshm_request_complete() hands over from others.
 */
#ifndef OVSSHM_SERVER_QUEUE_H
#define OVSSHM_SERVER_QUEUE_H

#include <sys/queue.h>

#include <openvstorage/shm_server.h>

#include "counters.h"
#include "mailbox.h"
#include "shared/distance.h"
#include "shared/region.h"
#include "shared/ring.h"
#include "shared/waiter.h"

#define QUEUE_SEGMENTS_INLINE 4 /* longer lists are allocated for the request's life */
#define QUEUE_ELEMENTS_IN_FLIGHT (16 * OVSSHM_SEGMENTS_MAX)

/* Completions are published in groups: each publication costs the client a cache miss. */
#define QUEUE_PUBLISH_REQUESTS 8
#define QUEUE_PUBLISH_BYTES 32768

struct reactor;
struct session;
struct volume;
struct queue;

struct request {
    struct ovsshm_request io;
    struct queue *queue;
    struct request *next; /* free, or completed by another thread */
    uint64_t user_data;
    uint64_t taken_at;      /* tick */
    uint64_t buffer_offset; /* block-status: where in the arena the extents go */
    int32_t result;
    uint32_t segments; /* of io.iov, when it was allocated */
    bool in_store;     /* taken and not completed */
    struct iovec iov[QUEUE_SEGMENTS_INLINE];
};

enum queue_state {
    QUEUE_POLLED,    /* in the reactor's polled list */
    QUEUE_ARMED,     /* the reactor waits for its doorbell */
    QUEUE_PAUSED,    /* its volume must not change now */
    QUEUE_ENDED,     /* the client broke the protocol */
    QUEUE_DETACHING, /* waits for its last requests in the store */
};

struct queue {
    struct ovsshm_ring sq;
    struct ovsshm_ring cq;
    const struct ovsshm_sqe *sqes;
    struct ovsshm_cqe *cqes;
    struct ovsshm_ring_words *words;
    struct reactor *reactor;
    struct session *session;
    struct volume *volume;
    unsigned char *arena;
    uint64_t arena_bytes;
    struct request *free;
    struct request *requests; /* depth of them; those from `fresh` on are untouched */
    uint32_t fresh;
    uint32_t depth;
    uint64_t taken_at;           /* tick of the last look that found entries */
    uint32_t in_flight;          /* taken and not completed; written like the counters */
    uint32_t elements_in_flight; /* of lists of segments and extents */
    uint32_t unpublished;        /* completions, which were taken at: */
    uint64_t unpublished_taken_at[QUEUE_PUBLISH_REQUESTS];
    uint32_t unpublished_bytes; /* moved by them */
    uint32_t block_bytes;
    uint32_t server_cpu; /* as last published */
    bool dirty;          /* in the reactor's list: has completions to announce */
    bool segments_allowed;
    enum queue_state state;
    struct counters counters;
    struct ovsshm_waiter waiter;
    struct ovsshm_distance distance; /* of the client */
    TAILQ_ENTRY(queue) polled;
    TAILQ_ENTRY(queue) link; /* all queues of the reactor */
    struct queue *dirty_next;
    int server_fd; /* the doorbell we sleep on */
    int client_fd; /* the one the client sleeps on */
    struct mail attach;
    struct mail detach;
};

/*
 * Takes entries while the reactor's batch has room; requests that need the store are in the batch
 * then.  Their number, 0 none, -EAGAIN must wait for completions, -EPROTO the client broke the
 * rules.
 */
int srv_queue_take(struct queue *queue);

/* By the reactor: the request is done. */
void srv_queue_complete(struct request *request, int32_t result);

/* Makes completions visible; rings if the client sleeps. */
void srv_queue_announce(struct queue *queue);

#endif
