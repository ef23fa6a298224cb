/* SPDX-License-Identifier: MIT */
#include "queue.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>

#include "entry.h"
#include "local_own.h"
#include "reactor.h"
#include "session.h"

static inline struct request *
request_get(struct queue *queue)
{
    struct request *request = queue->free;
    if (request) {
        queue->free = request->next;
    } else {
        request = &queue->requests[queue->fresh++];
        request->queue = queue;
    }
    return request;
}

static inline void
request_put(struct queue *queue, struct request *request)
{
    srv_entry_release(queue, request);
    request->next = queue->free;
    queue->free = request;
}

/*
 * Entries that may be taken.  There is room for all their completions: a client has at most `depth`
 * requests that we have not completed or whose completion it has not consumed, or it is broken.
 */
static int
take_count(struct queue *queue)
{
    int available = ovsshm_ring_available(&queue->sq);
    if (available == 0) {
        return 0;
    }
    if (available < 0) {
        return srv_session_violation(queue->session, "impossible submission index %" PRIu32,
                                     queue->sq.peer);
    }
    uint32_t open = (uint32_t)available + queue->in_flight;
    int space = ovsshm_ring_space(&queue->cq, open);
    if (space < 0) {
        return srv_session_violation(queue->session, "impossible completion index %" PRIu32,
                                     queue->cq.peer);
    }
    if (open > queue->depth || open > (uint32_t)space) {
        return srv_session_violation(queue->session, "more than %" PRIu32 " requests in flight",
                                     queue->depth);
    }
    return available;
}

/* Lists of segments and extents cost memory of ours while they are in flight. */
static inline bool
must_wait(const struct queue *queue, const struct ovsshm_sqe *entry)
{
    uint64_t elements = entry->flags & OVSSHM_SQE_SEGMENTS
                            ? entry->segment_count
                            : entry->buffer_bytes / sizeof(struct ovsshm_extent);
    elements = elements < OVSSHM_SEGMENTS_MAX ? elements : OVSSHM_SEGMENTS_MAX;
    return queue->elements_in_flight && elements &&
           queue->elements_in_flight + elements > QUEUE_ELEMENTS_IN_FLIGHT;
}

/* Check, then hand to the store by way of the batch, or complete at once. */
static inline int
take_one(struct queue *queue, const struct ovsshm_sqe *entry)
{
    struct reactor *reactor = queue->reactor;
    struct request *request = request_get(queue);
    int rc = srv_entry_check(queue, entry, request);
    if (rc < 0) {
        request_put(queue, request);
        return rc;
    }
    request->in_store = true;
    request->taken_at = queue->taken_at;
    COUNTER_ADD(queue->in_flight, 1);
    reactor->in_flight++;
    if (rc) {
        reactor->batch[reactor->batch_count++] = &request->io;
        reactor->batch_bytes += request->io.iov_count ? request->io.length_bytes : 0;
    } else {
        srv_queue_complete(request, request->result);
    }
    return 0;
}

int
srv_queue_take(struct queue *queue)
{
    const struct reactor *reactor = queue->reactor;
    int count = take_count(queue);
    int taken = 0;
    int rc = 0;
    if (count <= 0) {
        return count;
    }
    queue->taken_at = ovsshm_ticks();
    ovsshm_distance_look(&queue->distance, &queue->sqes[ovsshm_ring_slot(&queue->sq, 0)]);
    while (taken < count && rc == 0 && reactor->batch_count < REACTOR_BATCH &&
           reactor->batch_bytes < REACTOR_BATCH_BYTES) {
        struct ovsshm_sqe entry;
        srv_load_once(&entry, &queue->sqes[ovsshm_ring_slot(&queue->sq, 0)], sizeof(entry));
        if (must_wait(queue, &entry)) {
            break;
        }
        queue->sq.own++;
        taken++;
        rc = take_one(queue, &entry);
    }
    ovsshm_ring_publish(&queue->sq);
    return rc ? rc : taken ? taken : -EAGAIN;
}

static int32_t
extents_to_client(struct queue *queue, const struct request *request, int32_t result)
{
    if (result > (int32_t)request->io.extents_max) {
        result = (int32_t)request->io.extents_max;
    }
    if (result > 0) {
        memcpy(queue->arena + request->buffer_offset, request->io.extents,
               (size_t)result * sizeof(struct ovsshm_extent));
    }
    return result;
}

/* The clock is read after the client has been told: it costs the client nothing. */
static void
publish(struct queue *queue)
{
    ovsshm_ring_publish(&queue->cq);
    uint64_t now = queue->unpublished ? ovsshm_ticks() : 0;
    for (uint32_t i = 0; i < queue->unpublished;) {
        uint64_t taken_at = queue->unpublished_taken_at[i];
        uint32_t first = i;
        while (++i < queue->unpublished && queue->unpublished_taken_at[i] == taken_at) {
        }
        srv_counters_latency(&queue->counters, ovsshm_ticks_to_ns(now - taken_at), i - first);
    }
    queue->unpublished = 0;
    queue->unpublished_bytes = 0;
}

void
srv_queue_complete(struct request *request, int32_t result)
{
    struct queue *queue = request->queue;
    struct reactor *reactor = queue->reactor;
    assert(request->in_store); /* a store completes once */
    request->in_store = false;
    if (request->io.extents) {
        result = extents_to_client(queue, request, result);
    }
    srv_counters_result(&queue->counters, request->io.op, result);
    COUNTER_ADD(queue->in_flight, -1u);
    reactor->in_flight--;
    if (queue->state == QUEUE_DETACHING) {
        request_put(queue, request);
        srv_reactor_detach_if_idle(reactor, queue);
        return;
    }
    queue->cqes[ovsshm_ring_slot(&queue->cq, 0)] =
        (struct ovsshm_cqe){.user_data = request->user_data, .result = result};
    queue->cq.own++;
    queue->unpublished_bytes += request->io.iov_count ? request->io.length_bytes : 0;
    queue->unpublished_taken_at[queue->unpublished++] = request->taken_at;
    if (queue->unpublished == QUEUE_PUBLISH_REQUESTS ||
        queue->unpublished_bytes >= QUEUE_PUBLISH_BYTES) {
        publish(queue);
    }
    request_put(queue, request);
    srv_reactor_mark_dirty(reactor, queue);
}

void
srv_queue_announce(struct queue *queue)
{
    publish(queue);
    if (ovsshm_doorbell_needed(&queue->words->client_armed)) {
        srv_ringer_ring(&queue->reactor->ringer, queue->client_fd);
        COUNTER_ADD(queue->counters.doorbells, 1);
    }
}

struct ovsshm_memory *
ovsshm_request_hold(struct ovsshm_request *io)
{
    struct request *request = container_of(io, struct request, io);
    if (request->queue == &srv_local_queue) {
        return srv_local_hold(request);
    }
    return ovsshm_region_hold(&request->queue->session->region);
}

void
ovsshm_request_complete(struct ovsshm_request *io, int32_t result)
{
    struct request *request = container_of(io, struct request, io);
    struct reactor *reactor = request->queue->reactor;
    if (srv_reactor_here == reactor) {
        srv_queue_complete(request, result);
    } else if (request->queue == &srv_local_queue) {
        srv_local_complete(request, result);
    } else {
        request->result = result;
        srv_reactor_complete_elsewhere(reactor, request);
    }
}
