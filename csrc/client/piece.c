/* SPDX-License-Identifier: MIT */
/* A request's memory: where the server finds it, and the copies when it is not in the arena. */
#include "queue.h"

#include <errno.h>
#include <string.h>

#include "reason.h"
#include "shared/copy.h"
#include "volume.h"

/* ---- the user's memory from here, whichever way it is described ----------------------------- */

struct cursor {
    const struct iovec *iov;
    uint32_t count;
    uint64_t skip;
    struct iovec single;
};

static void
cursor_start(struct cursor *cursor, const struct ovsshm_inflight *request)
{
    if (request->iov_count) {
        cursor->iov = request->iov;
        cursor->count = request->iov_count;
        cursor->skip = request->iov_skip;
    } else {
        cursor->single = (struct iovec){request->buffer, request->remaining};
        cursor->iov = &cursor->single;
        cursor->count = 1;
        cursor->skip = 0;
    }
}

/* The next range, at most `bytes` long; never empty while there is memory left. */
static struct iovec
cursor_take(struct cursor *cursor, uint64_t bytes)
{
    while (cursor->count && cursor->skip == cursor->iov->iov_len) {
        cursor->iov++;
        cursor->count--;
        cursor->skip = 0;
    }
    if (!cursor->count) {
        return (struct iovec){NULL, 0};
    }
    uint64_t length = cursor->iov->iov_len - cursor->skip;
    struct iovec range = {(unsigned char *)cursor->iov->iov_base + cursor->skip,
                          length < bytes ? length : bytes};
    cursor->skip += range.iov_len;
    return range;
}

static void
copy_in(const struct ovsshm_inflight *request, unsigned char *to, uint64_t bytes, bool far)
{
    struct cursor cursor;
    cursor_start(&cursor, request);
    while (bytes) {
        struct iovec range = cursor_take(&cursor, bytes);
        ovsshm_copy_to_peer(to, range.iov_base, range.iov_len, far);
        to += range.iov_len;
        bytes -= range.iov_len;
    }
}

static void
copy_out(const struct ovsshm_inflight *request, const unsigned char *from, uint64_t bytes)
{
    struct cursor cursor;
    cursor_start(&cursor, request);
    while (bytes) {
        struct iovec range = cursor_take(&cursor, bytes);
        memcpy(range.iov_base, from, range.iov_len);
        from += range.iov_len;
        bytes -= range.iov_len;
    }
}

/* ---- place ---------------------------------------------------------------------------------- */

/* How much of the arena is needed to describe the memory. */
struct survey {
    bool shared;     /* all of it is in the arena */
    bool contiguous; /* and in one range, from this offset on */
    uint64_t start;
    uint32_t ranges;
};

static struct survey
survey(const struct ovsshm_queue *queue, const struct ovsshm_inflight *request)
{
    struct survey s = {.shared = true, .contiguous = true};
    struct cursor cursor;
    cursor_start(&cursor, request);
    uint64_t end = 0;
    for (uint64_t left = request->remaining; left && s.shared;) {
        struct iovec range = cursor_take(&cursor, left);
        uint64_t offset;
        s.shared = ovsshm_in_arena(queue, range.iov_base, range.iov_len, &offset);
        if (s.ranges++ == 0) {
            s.start = offset;
        } else if (offset != end) {
            s.contiguous = false;
        }
        end = offset + range.iov_len;
        left -= range.iov_len;
    }
    return s;
}

static int
arena_full(void)
{
    return ovsshm_reason_literal(-EAGAIN, "no bounce memory is free in the arena: reap completions "
                                          "first, or open with more arena_bytes");
}

/*
 * A bounce buffer as long as a piece may be.  When the arena has none and none of ours will come
 * back to it, shorter pieces will do.
 */
static int
place_bounce(struct ovsshm_queue *queue, struct ovsshm_inflight *request, uint64_t bytes)
{
    struct ovsshm_volume *volume = queue->volume;
    uint32_t block_bytes = volume->limits.block_bytes;
    uint64_t least = block_bytes > OVSSHM_ARENA_UNIT_BYTES ? block_bytes : OVSSHM_ARENA_UNIT_BYTES;
    for (;;) {
        request->arena_offset = ovsshm_arena_alloc(&volume->arena, bytes);
        if (request->arena_offset != OVSSHM_ARENA_FULL) {
            request->placement = OVSSHM_PLACE_BOUNCE;
            request->piece_bytes = (uint32_t)bytes;
            return 0;
        }
        bytes = bytes / 2 / block_bytes * block_bytes;
        if (queue->free_count != queue->depth || bytes < least) {
            return arena_full();
        }
    }
}

/* Extents are always copied, so that what the user reads is what has been checked. */
static int
place_extents(struct ovsshm_queue *queue, struct ovsshm_inflight *request)
{
    uint64_t offset = ovsshm_arena_alloc(&queue->volume->arena, request->sqe.buffer_bytes);
    if (offset == OVSSHM_ARENA_FULL) {
        return arena_full();
    }
    request->arena_offset = offset;
    request->placement = OVSSHM_PLACE_BOUNCE;
    request->piece_bytes = queue->volume->limits.range_bytes_max;
    if (request->remaining > request->piece_bytes) {
        request->remaining = request->piece_bytes;
    }
    return 0;
}

static int
place_segments(struct ovsshm_queue *queue, struct ovsshm_inflight *request, uint32_t ranges)
{
    uint64_t offset =
        ovsshm_arena_alloc(&queue->volume->arena, ranges * sizeof(struct ovsshm_segment));
    if (offset == OVSSHM_ARENA_FULL) {
        return arena_full();
    }
    request->arena_offset = offset;
    request->placement = OVSSHM_PLACE_SEGMENTS;
    request->piece_bytes = queue->volume->limits.request_bytes_max;
    return 0;
}

int
ovsshm_piece_place(struct ovsshm_queue *queue, struct ovsshm_inflight *request)
{
    const struct ovsshm_msg_hello_reply *hello = &queue->volume->session.hello;
    uint32_t request_bytes_max = queue->volume->limits.request_bytes_max;
    if (request->sqe.op == OVSSHM_OP_BLOCK_STATUS) {
        return place_extents(queue, request);
    }
    struct survey s = survey(queue, request);
    if (s.shared && s.contiguous) {
        request->placement = OVSSHM_PLACE_DIRECT;
        request->arena_offset = s.start;
        request->piece_bytes = request_bytes_max;
        return 0;
    }
    if (s.shared && s.ranges <= hello->segments_max &&
        (hello->features & OVSSHM_FEATURE_SEGMENTS)) {
        return place_segments(queue, request, s.ranges);
    }
    return place_bounce(queue, request,
                        request->remaining < request_bytes_max ? request->remaining
                                                               : request_bytes_max);
}

/* ---- pieces --------------------------------------------------------------------------------- */

static void
fill_segments(struct ovsshm_queue *queue, struct ovsshm_inflight *request, uint64_t bytes)
{
    struct ovsshm_segment *list = (void *)(queue->arena + request->arena_offset);
    struct cursor cursor;
    uint32_t count = 0;
    cursor_start(&cursor, request);
    while (bytes) {
        struct iovec range = cursor_take(&cursor, bytes);
        list[count++] = (struct ovsshm_segment){
            .buffer_offset = (uintptr_t)range.iov_base - (uintptr_t)queue->arena,
            .length_bytes = (uint32_t)range.iov_len,
            .region = OVSSHM_REGION_ARENA,
        };
        bytes -= range.iov_len;
    }
    request->sqe.flags |= OVSSHM_SQE_SEGMENTS;
    request->sqe.segment_count = count;
}

void
ovsshm_piece_fill(struct ovsshm_queue *queue, struct ovsshm_inflight *request)
{
    struct ovsshm_sqe *sqe = &request->sqe;
    uint64_t bytes =
        request->remaining < request->piece_bytes ? request->remaining : request->piece_bytes;
    sqe->length_bytes = (uint32_t)bytes;
    sqe->buffer_offset = request->placement == OVSSHM_PLACE_NONE ? 0 : request->arena_offset;
    if (request->placement == OVSSHM_PLACE_SEGMENTS) {
        fill_segments(queue, request, bytes);
    } else if (request->placement == OVSSHM_PLACE_BOUNCE && sqe->op == OVSSHM_OP_WRITE) {
        copy_in(request, queue->arena + request->arena_offset, bytes, queue->distance.far);
        queue->counters.bounced_bytes += bytes;
    }
}

/* Lengths that add up to no more than was asked for, and known flags. */
static bool
extents_ok(const struct ovsshm_extent *extents, uint32_t count, uint64_t length_bytes)
{
    for (uint32_t i = 0; i < count; i++) {
        if (extents[i].length_bytes == 0 || extents[i].length_bytes > length_bytes ||
            (extents[i].flags & ~(uint32_t)(OVSSHM_EXTENT_HOLE | OVSSHM_EXTENT_ZERO))) {
            return false;
        }
        length_bytes -= extents[i].length_bytes;
    }
    return true;
}

bool
ovsshm_piece_fetch(struct ovsshm_queue *queue, struct ovsshm_inflight *request, uint32_t bytes)
{
    const unsigned char *from = queue->arena + request->arena_offset;
    queue->counters.bounced_bytes += bytes;
    if (request->sqe.op == OVSSHM_OP_BLOCK_STATUS) {
        memcpy(request->buffer, from, bytes);
        return extents_ok((const void *)request->buffer, bytes / sizeof(struct ovsshm_extent),
                          request->remaining);
    }
    copy_out(request, from, bytes);
    return true;
}

void
ovsshm_piece_next(struct ovsshm_inflight *request)
{
    uint64_t bytes = request->sqe.length_bytes;
    request->sqe.offset_bytes += bytes;
    request->remaining -= bytes;
    request->done += bytes;
    if (request->placement == OVSSHM_PLACE_DIRECT) {
        request->arena_offset += bytes;
    } else if (request->placement == OVSSHM_PLACE_NONE) {
        return;
    }
    if (!request->iov_count) {
        request->buffer += bytes;
        return;
    }
    struct cursor cursor;
    cursor_start(&cursor, request);
    while (bytes) {
        bytes -= cursor_take(&cursor, bytes).iov_len;
    }
    request->iov = cursor.iov;
    request->iov_count = cursor.count;
    request->iov_skip = cursor.skip;
}

void
ovsshm_piece_drop(struct ovsshm_queue *queue, struct ovsshm_inflight *request)
{
    if (request->placement == OVSSHM_PLACE_BOUNCE || request->placement == OVSSHM_PLACE_SEGMENTS) {
        ovsshm_arena_free(&queue->volume->arena, request->arena_offset);
    }
}
