/* SPDX-License-Identifier: MIT */
/* The hot path: requests into the submission ring, completions out of the completion ring. */
#define _GNU_SOURCE
#include "queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "reason.h"
#include "shared/doorbell.h"
#include "shared/wire.h"
#include "volume.h"

#define ERRNO_MAX 4095
#define EXTENTS_MAX 4096u /* per block-status; the caller asks again for the rest */

/* After so many empty polls in a row a caller who only ever polls learns whether the server lives.
 */
#define POLLS_EMPTY_MAX 1024

/* ---- taking a request ----------------------------------------------------------------------- */

/* What goes with an op. */
struct op_rule {
    bool known;
    bool ranged; /* names a range of the volume */
    bool memory; /* and memory of the user */
    bool writes;
    uint8_t flags;
};

static const struct op_rule op_rules[] = {
    [OVSSHM_OP_READ] = {.known = true, .ranged = true, .memory = true},
    [OVSSHM_OP_WRITE] =
        {.known = true, .ranged = true, .memory = true, .writes = true, .flags = OVSSHM_SQE_FUA},
    [OVSSHM_OP_FLUSH] = {.known = true},
    [OVSSHM_OP_DISCARD] = {.known = true, .ranged = true, .writes = true},
    [OVSSHM_OP_WRITE_ZEROES] = {.known = true,
                                .ranged = true,
                                .writes = true,
                                .flags = OVSSHM_SQE_FUA | OVSSHM_SQE_MAY_UNMAP},
    [OVSSHM_OP_BLOCK_STATUS] = {.known = true, .ranged = true, .memory = true},
};
#define OPS (sizeof(op_rules) / sizeof(op_rules[0]))

static int
invalid(const struct ovsshm_io *io, const char *why)
{
    return ovsshm_reason_set(-EINVAL, "%s of %llu bytes at %llu: %s", ovsshm_op_name(io->op),
                             (unsigned long long)io->length_bytes,
                             (unsigned long long)io->offset_bytes, why);
}

static int
iov_check(const struct ovsshm_io *io)
{
    uint64_t left = io->length_bytes;
    for (uint32_t i = 0; i < io->iov_count; i++) {
        if (io->iov[i].iov_len > left) {
            return invalid(io, "the iovecs are longer");
        }
        left -= io->iov[i].iov_len;
    }
    return left ? invalid(io, "the iovecs are shorter") : 0;
}

static int
range_check(const struct ovsshm_io *io, const struct op_rule *rule)
{
    if (io->length_bytes == 0) {
        return invalid(io, "the length is 0");
    }
    if (io->length_bytes > INT64_MAX || io->offset_bytes > INT64_MAX - io->length_bytes) {
        return invalid(io, "the range ends beyond 2^63 - 1");
    }
    if (!rule->memory) {
        return 0;
    }
    if (io->op == OVSSHM_OP_BLOCK_STATUS) {
        return !io->buffer || io->iov_count || !io->extents_max
                   ? invalid(io, "block-status needs a buffer for extents")
                   : 0;
    }
    if (io->iov_count) {
        return iov_check(io);
    }
    return io->buffer ? 0 : invalid(io, "there is no buffer");
}

static int
io_check(const struct ovsshm_queue *queue, const struct ovsshm_io *io)
{
    const struct op_rule *rule = &op_rules[io->op < OPS ? io->op : 0];
    if (!rule->known) {
        return ovsshm_reason_set(-EINVAL, "op %u is unknown", io->op);
    }
    if (io->flags & ~rule->flags || io->resv) {
        return invalid(io, "a flag that does not go with it");
    }
    int rc = rule->ranged ? range_check(io, rule) : 0;
    if (rc) {
        return rc;
    }
    if (!ovsshm_session_alive(&queue->volume->session)) {
        return ovsshm_session_over(&queue->volume->session);
    }
    if (rule->writes && ovsshm_load_relaxed(&queue->volume->mode) != OVSSHM_MODE_WRITE) {
        return ovsshm_reason_literal(-EBADF, "the volume is not open for writing");
    }
    return 0;
}

/* Into the ring; visible to the server when published. */
static void
push(struct ovsshm_queue *queue, struct ovsshm_inflight *request)
{
    /* In flight <= depth <= entries, so a slot is free without asking the server. */
    queue->sqes[ovsshm_ring_slot(&queue->sq, 0)] = request->sqe;
    queue->sq.own++;
}

static void
publish(struct ovsshm_queue *queue)
{
    uint32_t cpu = ovsshm_own_cpu();
    if (cpu != queue->cpu) {
        queue->cpu = cpu;
        ovsshm_store_relaxed(&queue->words->client_cpu, cpu);
    }
    ovsshm_ring_publish(&queue->sq);
    queue->published = queue->sq.own;
    if (ovsshm_doorbell_needed(&queue->words->server_armed)) {
        ovsshm_doorbell_ring(queue->server_bell);
        queue->counters.doorbells++;
    }
}

/* The slot's part that comes straight from the user. */
static void
request_start(struct ovsshm_inflight *request, const struct ovsshm_io *io, bool run)
{
    request->sqe = (struct ovsshm_sqe){
        .op = io->op,
        .flags = io->flags,
        .region = OVSSHM_REGION_ARENA,
        .offset_bytes = io->op == OVSSHM_OP_FLUSH ? 0 : io->offset_bytes,
        .user_data = request->sqe.user_data,
    };
    request->user_data = io->user_data;
    request->buffer = io->buffer;
    request->iov_skip = 0;
    request->remaining = io->op == OVSSHM_OP_FLUSH ? 0 : io->length_bytes;
    request->done = 0;
    request->iov_count = io->iov_count;
    request->run = run;
}

/* A place for its memory: the common case here, the others in piece.c. */
static int
request_place(struct ovsshm_queue *queue, struct ovsshm_inflight *request,
              const struct ovsshm_io *io)
{
    const struct ovsshm_limits *limits = &queue->volume->limits;
    if (!op_rules[io->op].memory) {
        request->placement = OVSSHM_PLACE_NONE;
        request->piece_bytes = limits->range_bytes_max;
        return 0;
    }
    if (io->op == OVSSHM_OP_BLOCK_STATUS) {
        uint64_t extents = io->extents_max < EXTENTS_MAX ? io->extents_max : EXTENTS_MAX;
        request->sqe.buffer_bytes = (uint32_t)(extents * sizeof(struct ovsshm_extent));
    } else if (!io->iov_count &&
               ovsshm_in_arena(queue, io->buffer, io->length_bytes, &request->arena_offset)) {
        request->placement = OVSSHM_PLACE_DIRECT;
        request->piece_bytes = limits->request_bytes_max;
        return 0;
    }
    return ovsshm_piece_place(queue, request);
}

/* A completion that the server has no part in. */
static void
complete_here(struct ovsshm_queue *queue, const struct ovsshm_inflight *request, int64_t result)
{
    if (request->run) {
        queue->run_over = true;
        queue->run_result = result;
    } else {
        queue->ready[queue->ready_count++] =
            (struct ovsshm_completion){.user_data = request->user_data, .result = result};
    }
}

int
ovsshm_request_take(struct ovsshm_queue *queue, const struct ovsshm_io *io, bool run)
{
    int rc = io_check(queue, io);
    if (rc) {
        return rc;
    }
    uint16_t index = queue->free[queue->free_count - 1];
    struct ovsshm_inflight *request = &queue->table[index];
    request_start(request, io, run);
    rc = request_place(queue, request, io);
    if (rc) {
        request->sqe.op = 0;
        return rc;
    }
    queue->in_flight++;
    queue->counters.requests++;
    if (request->remaining > request->piece_bytes && op_rules[io->op].writes &&
        io->offset_bytes + io->length_bytes > ovsshm_volume_bytes(queue->volume)) {
        /* The server would find out at the last piece only. */
        ovsshm_piece_drop(queue, request);
        request->sqe.op = 0;
        complete_here(queue, request, -EFBIG);
        return 0;
    }
    queue->free_count--;
    ovsshm_piece_fill(queue, request);
    push(queue, request);
    return 0;
}

int
ovsshm_queue_prep(struct ovsshm_queue *queue, const struct ovsshm_io *io)
{
    if (queue->in_flight >= queue->depth) {
        return ovsshm_reason_literal(-EAGAIN,
                                     "as many requests as the queue is deep are in flight: "
                                     "reap completions first");
    }
    int rc = ovsshm_request_take(queue, io, false);
    queue->prepared += rc == 0;
    return rc;
}

int
ovsshm_queue_submit(struct ovsshm_queue *queue)
{
    uint32_t prepared = queue->prepared;
    queue->prepared = 0;
    if (queue->published != queue->sq.own) {
        publish(queue);
    }
    return (int)prepared;
}

/* ---- completions ---------------------------------------------------------------------------- */

/* Can this be the result of the piece that was submitted? */
static bool
result_ok(const struct ovsshm_sqe *sqe, int32_t result)
{
    if (result < 0) {
        return result >= -ERRNO_MAX;
    }
    switch (sqe->op) {
    case OVSSHM_OP_READ: return (uint32_t)result <= sqe->length_bytes;
    case OVSSHM_OP_WRITE: return (uint32_t)result == sqe->length_bytes;
    case OVSSHM_OP_BLOCK_STATUS:
        return (uint32_t)result <= sqe->buffer_bytes / sizeof(struct ovsshm_extent);
    default: return result == 0;
    }
}

static void
slot_free(struct ovsshm_queue *queue, struct ovsshm_inflight *request)
{
    ovsshm_piece_drop(queue, request);
    request->sqe.op = 0;
    request->sqe.user_data += 1ull
                              << 32; /* next generation: a late duplicate is not taken for it */
    queue->free[queue->free_count++] = (uint16_t)(request - queue->table);
}

/* What the user is told when a piece was the last. */
static int64_t
result_total(const struct ovsshm_inflight *request, int32_t result)
{
    switch (request->sqe.op) {
    case OVSSHM_OP_READ:
    case OVSSHM_OP_WRITE: return result < 0 ? result : (int64_t)request->done + result;
    default: return result;
    }
}

enum outcome {
    NONSENSE,  /* no such completion is possible */
    CONTINUES, /* the next piece is in the ring, not yet published */
    FINISHED,
};

/* Handles one entry. */
static enum outcome
complete(struct ovsshm_queue *queue, uint64_t tag, int32_t result,
         struct ovsshm_completion *completion)
{
    uint32_t index = (uint32_t)tag;
    struct ovsshm_inflight *request = &queue->table[index < queue->depth ? index : 0];
    const struct ovsshm_sqe *sqe = &request->sqe;
    if (sqe->op == 0 || sqe->user_data != tag || !result_ok(sqe, result)) {
        return NONSENSE;
    }
    if (request->placement == OVSSHM_PLACE_BOUNCE && result > 0 && sqe->op != OVSSHM_OP_WRITE) {
        uint32_t unit = sqe->op == OVSSHM_OP_READ ? 1 : sizeof(struct ovsshm_extent);
        if (!ovsshm_piece_fetch(queue, request, (uint32_t)result * unit)) {
            return NONSENSE;
        }
    }
    if (request->remaining > sqe->length_bytes && result >= 0 &&
        (sqe->op != OVSSHM_OP_READ || (uint32_t)result == sqe->length_bytes)) {
        ovsshm_piece_next(request);
        ovsshm_piece_fill(queue, request);
        push(queue, request);
        return CONTINUES;
    }
    completion->user_data = request->user_data;
    completion->result = result_total(request, result);
    if (request->run) {
        queue->run_over = true;
        queue->run_result = completion->result;
    }
    slot_free(queue, request);
    return FINISHED;
}

static unsigned
ring_reap(struct ovsshm_queue *queue, struct ovsshm_completion *completions, unsigned room)
{
    int available = ovsshm_ring_available(&queue->cq);
    if (available <= 0) {
        if (available < 0) {
            ovsshm_session_violated(&queue->volume->session, "an impossible completion index");
        }
        return 0;
    }
    ovsshm_distance_look(&queue->distance, &queue->cqes[ovsshm_ring_slot(&queue->cq, 0)]);
    unsigned finished = 0;
    unsigned stored = 0;
    bool continued = false;
    for (; available > 0 && stored < room; available--) {
        const struct ovsshm_cqe *cqe = &queue->cqes[ovsshm_ring_slot(&queue->cq, 0)];
        bool run_before = queue->run_over;
        enum outcome outcome = complete(queue, ovsshm_load_relaxed(&cqe->user_data),
                                        ovsshm_load_relaxed(&cqe->result), &completions[stored]);
        if (outcome == NONSENSE) {
            ovsshm_session_violated(&queue->volume->session, "an impossible completion");
            break;
        }
        queue->cq.own++;
        finished += outcome == FINISHED;
        stored += outcome == FINISHED && queue->run_over == run_before;
        continued |= outcome == CONTINUES;
    }
    ovsshm_ring_publish(&queue->cq);
    if (continued) {
        publish(queue); /* after cq_head: the server needs the room of these completions */
    }
    return finished;
}

/* The session is over: what is still in flight ends with it. */
static unsigned
fail_all(struct ovsshm_queue *queue, struct ovsshm_completion *completions, unsigned room)
{
    unsigned finished = 0;
    unsigned stored = 0;
    for (uint32_t i = 0; i < queue->depth && stored < room; i++) {
        struct ovsshm_inflight *request = &queue->table[i];
        if (request->sqe.op == 0) {
            continue;
        }
        if (request->run) {
            queue->run_over = true;
            queue->run_result = -ENOTCONN;
        } else {
            completions[stored++] = (struct ovsshm_completion){request->user_data, -ENOTCONN};
        }
        slot_free(queue, request);
        finished++;
    }
    return finished;
}

/* The ring is empty. */
static unsigned
look_further(struct ovsshm_queue *queue, struct ovsshm_completion *completions, unsigned room)
{
    struct ovsshm_session *session = &queue->volume->session;
    if (queue->free_count == queue->depth || room == 0) {
        return 0;
    }
    if (ovsshm_session_alive(session)) {
        if (++queue->polls_empty >= POLLS_EMPTY_MAX) {
            queue->polls_empty = 0;
            ovsshm_session_drain(session);
        }
        return 0;
    }
    /* What it completed before it went counts; then nothing more can come. */
    unsigned finished = ring_reap(queue, completions, room);
    return finished ? finished : fail_all(queue, completions, room);
}

unsigned
ovsshm_request_reap(struct ovsshm_queue *queue, struct ovsshm_completion *completions,
                    unsigned room)
{
    unsigned finished = ring_reap(queue, completions, room);
    if (finished) {
        queue->polls_empty = 0;
        ovsshm_waiter_found(&queue->waiter);
        return finished;
    }
    return look_further(queue, completions, room);
}

/* Completions that run has met, or that needed no server. */
static unsigned
ready_take(struct ovsshm_queue *queue, struct ovsshm_completion *completions, unsigned room)
{
    uint32_t count = queue->ready_count < room ? queue->ready_count : room;
    memcpy(completions, queue->ready, count * sizeof(*completions));
    queue->ready_count -= count;
    memmove(queue->ready, queue->ready + count, queue->ready_count * sizeof(*completions));
    return count;
}

int
ovsshm_queue_poll(struct ovsshm_queue *queue, struct ovsshm_completion *completions, unsigned count)
{
    unsigned stored = 0;
    if (queue->ready_count) {
        stored = ready_take(queue, completions, count);
    }
    stored += ovsshm_request_reap(queue, completions + stored, count - stored);
    queue->in_flight -= stored;
    return (int)stored;
}

unsigned
ovsshm_queue_in_flight(const struct ovsshm_queue *queue)
{
    return queue->in_flight;
}

struct ovsshm_queue_counters
ovsshm_queue_counters(const struct ovsshm_queue *queue)
{
    return queue->counters;
}

struct ovsshm_volume *
ovsshm_queue_volume(struct ovsshm_queue *queue)
{
    return queue->volume;
}

/* ---- set up --------------------------------------------------------------------------------- */

static int
tables_create(struct ovsshm_queue *queue)
{
    uint32_t depth = queue->depth;
    queue->table = aligned_alloc(64, depth * sizeof(*queue->table));
    queue->free = calloc(depth, sizeof(*queue->free));
    queue->ready = calloc(depth + 1, sizeof(*queue->ready)); /* 1: run's own passes through */
    if (!queue->table || !queue->free || !queue->ready) {
        return -ENOMEM;
    }
    memset(queue->table, 0, depth * sizeof(*queue->table));
    for (uint32_t i = 0; i < depth; i++) {
        queue->table[i].sqe.user_data = i;
        queue->free[depth - 1 - i] = (uint16_t)i;
    }
    queue->free_count = depth;
    return 0;
}

static int
watch(struct ovsshm_queue *queue, int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    return epoll_ctl(queue->fd, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

static int
fd_create(struct ovsshm_queue *queue)
{
    queue->fd = epoll_create1(EPOLL_CLOEXEC);
    if (queue->fd < 0) {
        return -errno;
    }
    int rc = watch(queue, queue->client_bell);
    rc = rc ? rc : watch(queue, queue->volume->session.fd);
    queue->socket_watched = rc == 0;
    return rc;
}

int
ovsshm_init_queue(struct ovsshm_queue *queue, struct ovsshm_volume *volume, unsigned index,
                  int server_bell, int client_bell, uint64_t spin_ns_max)
{
    struct ovsshm_queue_memory memory = ovsshm_region_queue(&volume->region, index);
    *queue = (struct ovsshm_queue){
        .sqes = memory.sqes,
        .words = memory.words,
        .depth = volume->limits.depth,
        .volume = volume,
        .arena = ovsshm_region_arena(&volume->region),
        .arena_bytes = volume->limits.arena_bytes,
        .cqes = memory.cqes,
        .server_bell = server_bell,
        .client_bell = client_bell,
        .fd = -1,
    };
    struct ovsshm_ring_words *words = memory.words;
    ovsshm_ring_init(&queue->sq, &words->sq_tail, &words->sq_head, memory.entries);
    ovsshm_ring_init(&queue->cq, &words->cq_head, &words->cq_tail, memory.entries);
    ovsshm_waiter_init(&queue->waiter, ovsshm_spin_ns(spin_ns_max));
    int rc = tables_create(queue);
    rc = rc ? rc : fd_create(queue);
    if (rc) {
        ovsshm_fini_queue(queue);
    }
    return rc;
}

void
ovsshm_fini_queue(struct ovsshm_queue *queue)
{
    if (queue->fd >= 0) {
        close(queue->fd);
    }
    close(queue->server_bell);
    close(queue->client_bell);
    free(queue->table);
    free(queue->free);
    free(queue->ready);
}
