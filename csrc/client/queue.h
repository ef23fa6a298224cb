/* SPDX-License-Identifier: MIT */
/*
 * A queue of a volume: two rings and the table of what is in flight.
 *
 *     queue.c   prep, submit, poll: the hot path
 *     piece.c   where a request's memory is, for the server
 *     wait.c    spin, sleep, arm, disarm, run
 *
 * A request has one slot of the table, which holds its entry as submitted last: with the data of
 * bounced writes in the arena, that is all it takes to submit it again.  A request that is longer
 * than the server's limit is done in pieces, one after another in the same slot.
 *
 * Threads: one at a time.  Nothing in here is believed that the server wrote: an impossible index,
 * an unknown completion or a result out of bounds ends the session.
 */
#ifndef OVSSHM_QUEUE_H
#define OVSSHM_QUEUE_H

#include <openvstorage/shm.h>

#include "shared/distance.h"
#include "shared/ring.h"
#include "shared/waiter.h"

/* Where the server finds a request's memory. */
enum ovsshm_placement {
    OVSSHM_PLACE_NONE,     /* the op has none */
    OVSSHM_PLACE_DIRECT,   /* the user's memory, one range of the arena */
    OVSSHM_PLACE_SEGMENTS, /* the user's memory, by a list in the arena */
    OVSSHM_PLACE_BOUNCE,   /* a copy in the arena */
};

/* A slot of the table.  "From here" = from the current piece on. */
struct ovsshm_inflight {
    struct ovsshm_sqe sqe; /* as submitted last; op 0: the slot is free */
    uint64_t user_data;
    union {
        unsigned char *buffer; /* the user's memory from here */
        const struct iovec *iov;
    };
    uint64_t iov_skip;     /* bytes of iov[0] that are not from here */
    uint64_t remaining;    /* bytes of the request from here */
    uint64_t done;         /* bytes before here */
    uint64_t arena_offset; /* direct: from here; else: of what we allocated */
    uint32_t iov_count;    /* 0: buffer */
    uint32_t piece_bytes;  /* longest piece */
    uint8_t placement;     /* enum ovsshm_placement */
    bool run;              /* of ovsshm_queue_run */
    uint8_t resv[6];
};

struct ovsshm_queue {
    /* Submission. */
    struct ovsshm_ring sq;
    struct ovsshm_sqe *sqes;
    struct ovsshm_ring_words *words;
    struct ovsshm_inflight *table;
    uint16_t *free; /* free slots, the last used on top */
    uint32_t free_count;
    uint32_t in_flight; /* taken and not yet returned */
    uint32_t depth;
    uint32_t prepared;  /* by the user since the last submit */
    uint32_t published; /* sq.own as the server knows it */
    uint32_t cpu;       /* as the server knows it */
    struct ovsshm_volume *volume;
    unsigned char *arena;
    uint64_t arena_bytes;

    /* Completion. */
    struct ovsshm_ring cq;
    const struct ovsshm_cqe *cqes;
    struct ovsshm_completion *ready; /* returned by the next poll */
    uint32_t ready_count;
    uint32_t polls_empty;
    struct ovsshm_waiter waiter;
    struct ovsshm_distance distance; /* of the server */
    struct ovsshm_queue_counters counters;

    /* Not touched on the normal path. */
    int server_bell; /* the server sleeps on it */
    int client_bell; /* we do */
    int fd;          /* epoll: client_bell and the session's socket */
    bool socket_watched;
    bool run_over;
    int64_t run_result;
} __attribute__((aligned(64)));

/* Is all of it in the arena?  Then *offset says where. */
static inline bool
ovsshm_in_arena(const struct ovsshm_queue *queue, const void *address, uint64_t bytes,
                uint64_t *offset)
{
    *offset = (uintptr_t)address - (uintptr_t)queue->arena;
    return *offset < queue->arena_bytes && bytes <= queue->arena_bytes - *offset;
}

/* queue.c.  Takes both doorbells, also when it fails.  0, -errno. */
int ovsshm_init_queue(struct ovsshm_queue *queue, struct ovsshm_volume *volume, unsigned index,
                      int server_bell, int client_bell, uint64_t spin_ns_max);
void ovsshm_fini_queue(struct ovsshm_queue *queue);

/* wait.c.  The cap of the self-tuning poll, of what open's parameter says; 0 = never poll. */
uint64_t ovsshm_spin_ns(uint64_t spin_ns_max);

/* Takes a request, for run when `run`: then a free slot is enough, whatever is in flight. */
int ovsshm_request_take(struct ovsshm_queue *queue, const struct ovsshm_io *io, bool run);

/*
 * What has come back: up to `room` completions, of the ring, then of a session that is over.  The
 * one of run counts and is not stored.
 */
unsigned ovsshm_request_reap(struct ovsshm_queue *queue, struct ovsshm_completion *completions,
                             unsigned room);

/* piece.c.  Finds a place for a new request, whose range and memory are in the slot: 0, -EAGAIN. */
int ovsshm_piece_place(struct ovsshm_queue *queue, struct ovsshm_inflight *request);

/* Fills in the entry of the piece from here; copies the data of a bounced write. */
void ovsshm_piece_fill(struct ovsshm_queue *queue, struct ovsshm_inflight *request);

/* A bounced read or block-status has brought `bytes`: copies them.  False: they are nonsense. */
bool ovsshm_piece_fetch(struct ovsshm_queue *queue, struct ovsshm_inflight *request,
                        uint32_t bytes);

/* Goes on to the next piece. */
void ovsshm_piece_next(struct ovsshm_inflight *request);

/* Gives back what place took. */
void ovsshm_piece_drop(struct ovsshm_queue *queue, struct ovsshm_inflight *request);

#endif
