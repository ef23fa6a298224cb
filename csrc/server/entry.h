/* SPDX-License-Identifier: MIT */
/*
 * Checks of one submission queue entry: from what a client wrote to a request that a store can
 * trust.
 */
#ifndef OVSSHM_SERVER_ENTRY_H
#define OVSSHM_SERVER_ENTRY_H

#include <string.h>

#include "queue.h"

/*
 * Copies bytes that the peer can change at any moment.  The barrier keeps the compiler from reading
 * the shared original again instead of the copy.
 */
static inline void
srv_load_once(void *restrict to, const void *restrict shared, size_t bytes)
{
    memcpy(to, shared, bytes);
    __asm__ __volatile__("" : : "r"(to) : "memory");
}

/*
 * Fills the request from a private copy of an entry.  1: for the store.  0: done, see
 * request->result.  -EPROTO: no correct client writes this; the session has been told.
 */
int srv_entry_check(struct queue *queue, const struct ovsshm_sqe *entry, struct request *request);

enum buffer {
    NO_BUFFER,
    DATA,
    EXTENTS
};

/* What is allowed with an op. */
struct rule {
    uint64_t capability; /* the store needs */
    enum buffer buffer;
    uint8_t flags;
    bool known;
    bool changes; /* needs a writer; must not reach beyond the end */
    bool ranged;  /* has offset and length */
};

/* NULL: unknown. */
const struct rule *srv_entry_rule(unsigned op);

/* A read ends at the end of the volume. */
void srv_entry_shorten(struct ovsshm_request *io, uint32_t length_bytes);

/* Frees what srv_entry_check allocated, whatever it returned. */
void srv_entry_release(struct queue *queue, struct request *request);

#endif
