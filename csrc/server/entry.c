/* SPDX-License-Identifier: MIT */
#include "entry.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "reactor.h"
#include "registry.h"
#include "session.h"
#include "shared/wire.h"

#define EXTENTS_MAX 1024 /* of one block-status reply; the client asks again */

static const struct rule rules[] = {
    [OVSSHM_OP_READ] = {.known = true,
                        .ranged = true,
                        .buffer = DATA,
                        .flags = OVSSHM_SQE_SEGMENTS},
    [OVSSHM_OP_WRITE] = {.known = true,
                         .ranged = true,
                         .buffer = DATA,
                         .changes = true,
                         .flags = OVSSHM_SQE_SEGMENTS | OVSSHM_SQE_FUA,
                         .capability = OVSSHM_CAP_WRITE},
    [OVSSHM_OP_FLUSH] = {.known = true},
    [OVSSHM_OP_DISCARD] = {.known = true,
                           .ranged = true,
                           .changes = true,
                           .capability = OVSSHM_CAP_DISCARD},
    [OVSSHM_OP_WRITE_ZEROES] = {.known = true,
                                .ranged = true,
                                .changes = true,
                                .flags = OVSSHM_SQE_FUA | OVSSHM_SQE_MAY_UNMAP,
                                .capability = OVSSHM_CAP_WRITE_ZEROES},
    [OVSSHM_OP_BLOCK_STATUS] = {.known = true,
                                .ranged = true,
                                .buffer = EXTENTS,
                                .capability = OVSSHM_CAP_BLOCK_STATUS},
};

static inline const struct rule *
rule_of(unsigned op)
{
    return op < sizeof(rules) / sizeof(rules[0]) && rules[op].known ? &rules[op] : NULL;
}

#define VIOLATION(queue, ...) srv_session_violation((queue)->session, __VA_ARGS__)

static inline bool
in_arena(const struct queue *queue, uint64_t offset, uint64_t bytes)
{
    return bytes <= queue->arena_bytes && offset <= queue->arena_bytes - bytes;
}

/* Everything that does not depend on the volume. */
static int
check_form(struct queue *queue, const struct ovsshm_sqe *e, const struct rule *rule)
{
    const struct ovsshm_server_params *params = queue->reactor->params;
    uint32_t longest = rule->buffer == DATA ? params->request_bytes_max
                       : rule->ranged       ? OVSSHM_RANGE_BYTES_MAX
                                            : 0;
    const char *name = ovsshm_op_name(e->op);
    if (e->flags & ~rule->flags || (e->flags & OVSSHM_SQE_SEGMENTS && !queue->segments_allowed)) {
        return VIOLATION(queue, "%s with flags 0x%x", name, e->flags);
    }
    if (e->resv[0] | e->resv[1] | e->resv[2]) {
        return VIOLATION(queue, "%s with reserved members set", name);
    }
    if (e->region != OVSSHM_REGION_ARENA) {
        return VIOLATION(queue, "%s with unknown region %u", name, e->region);
    }
    if (e->length_bytes > longest) {
        return VIOLATION(queue, "%s of %" PRIu32 " bytes, the limit is %" PRIu32, name,
                         e->length_bytes, longest);
    }
    if ((rule->buffer == NO_BUFFER && e->buffer_offset) ||
        (rule->buffer != EXTENTS && e->buffer_bytes) ||
        (!(e->flags & OVSSHM_SQE_SEGMENTS) && e->segment_count) ||
        (!rule->ranged && e->offset_bytes)) {
        return VIOLATION(queue, "%s with members set that it does not have", name);
    }
    return 1;
}

static int
take_segments(struct queue *queue, const struct ovsshm_sqe *e, struct request *request)
{
    uint32_t count = e->segment_count;
    uint64_t sum = 0;
    if (count == 0 || count > OVSSHM_SEGMENTS_MAX ||
        !in_arena(queue, e->buffer_offset, count * sizeof(struct ovsshm_segment))) {
        return VIOLATION(queue, "list of %" PRIu32 " segments at arena offset %" PRIu64, count,
                         e->buffer_offset);
    }
    if (count > QUEUE_SEGMENTS_INLINE) {
        request->io.iov = malloc(count * sizeof(struct iovec));
        if (!request->io.iov) {
            request->io.iov = request->iov;
            request->result = -ENOMEM;
            return 0;
        }
        request->segments = count;
        queue->elements_in_flight += count;
    }
    const unsigned char *list = queue->arena + e->buffer_offset;
    for (uint32_t i = 0; i < count; i++) {
        struct ovsshm_segment segment;
        srv_load_once(&segment, list + i * sizeof(segment), sizeof(segment));
        if (segment.region != OVSSHM_REGION_ARENA || segment.resv ||
            !in_arena(queue, segment.buffer_offset, segment.length_bytes)) {
            return VIOLATION(queue, "segment %" PRIu32 " is not in the arena", i);
        }
        request->io.iov[i] =
            (struct iovec){queue->arena + segment.buffer_offset, segment.length_bytes};
        sum += segment.length_bytes;
    }
    request->io.iov_count = count;
    return sum == e->length_bytes
               ? 1
               : VIOLATION(queue, "segments of %" PRIu64 " bytes for a request of %" PRIu32, sum,
                           e->length_bytes);
}

static int
take_extents(struct queue *queue, const struct ovsshm_sqe *e, struct request *request)
{
    uint32_t count = e->buffer_bytes / sizeof(struct ovsshm_extent);
    if (count == 0 || !in_arena(queue, e->buffer_offset, e->buffer_bytes)) {
        return VIOLATION(queue, "block-status into %" PRIu32 " bytes at arena offset %" PRIu64,
                         e->buffer_bytes, e->buffer_offset);
    }
    count = count < EXTENTS_MAX ? count : EXTENTS_MAX;
    request->io.extents = calloc(count, sizeof(struct ovsshm_extent));
    if (!request->io.extents) {
        request->result = -ENOMEM;
        return 0;
    }
    request->io.extents_max = count;
    request->buffer_offset = e->buffer_offset;
    queue->elements_in_flight += count;
    return 1;
}

static int
take_buffer(struct queue *queue, const struct ovsshm_sqe *e, enum buffer buffer,
            struct request *request)
{
    if (buffer == NO_BUFFER) {
        return 1;
    }
    if (buffer == EXTENTS) {
        return take_extents(queue, e, request);
    }
    if (e->flags & OVSSHM_SQE_SEGMENTS) {
        return take_segments(queue, e, request);
    }
    if (!in_arena(queue, e->buffer_offset, e->length_bytes)) {
        return VIOLATION(queue, "buffer of %" PRIu32 " bytes at arena offset %" PRIu64,
                         e->length_bytes, e->buffer_offset);
    }
    request->iov[0] = (struct iovec){queue->arena + e->buffer_offset, e->length_bytes};
    request->io.iov_count = 1;
    return 1;
}

void
srv_entry_shorten(struct ovsshm_request *io, uint32_t length_bytes)
{
    size_t left = length_bytes;
    io->length_bytes = length_bytes;
    for (uint32_t i = 0; i < io->iov_count; i++) {
        if (io->iov[i].iov_len >= left) {
            io->iov[i].iov_len = left;
            io->iov_count = i + 1;
            return;
        }
        left -= io->iov[i].iov_len;
    }
}

/* What a correct client may ask and not get. */
static int
check_request(struct queue *queue, const struct rule *rule, struct request *request)
{
    struct ovsshm_request *io = &request->io;
    uint64_t size = ovsshm_load_acquire(&queue->volume->size_bytes);
    uint64_t left = io->offset_bytes < size ? size - io->offset_bytes : 0;
    if (rule->capability & ~queue->reactor->store->capabilities) {
        request->result = -EOPNOTSUPP;
    } else if (rule->changes && !ovsshm_load_relaxed(&queue->session->writable)) {
        request->result = -EBADF;
    } else if ((io->offset_bytes | io->length_bytes) & (queue->block_bytes - 1)) {
        request->result = -EINVAL;
    } else if (rule->changes && io->length_bytes > left) {
        request->result = -EFBIG;
    } else if (rule->ranged && (left == 0 || io->length_bytes == 0)) {
        request->result = 0;
    } else {
        if (io->length_bytes > left && rule->ranged) {
            srv_entry_shorten(io, (uint32_t)left);
        }
        return 1;
    }
    return 0;
}

int
srv_entry_check(struct queue *queue, const struct ovsshm_sqe *e, struct request *request)
{
    const struct rule *rule = rule_of(e->op);
    request->segments = 0;
    request->user_data = e->user_data;
    request->io = (struct ovsshm_request){
        .volume = queue->volume->open,
        .offset_bytes = e->offset_bytes,
        .length_bytes = e->length_bytes,
        .op = e->op,
        .flags = e->flags & (OVSSHM_SQE_FUA | OVSSHM_SQE_MAY_UNMAP),
        .far = queue->distance.far,
        .iov = request->iov,
    };
    if (!rule) {
        return VIOLATION(queue, "unknown op %u", e->op);
    }
    int rc = check_form(queue, e, rule);
    rc = rc == 1 ? take_buffer(queue, e, rule->buffer, request) : rc;
    return rc == 1 ? check_request(queue, rule, request) : rc;
}

void
srv_entry_release(struct queue *queue, struct request *request)
{
    if (request->segments) {
        queue->elements_in_flight -= request->segments;
        free(request->io.iov);
    }
    if (request->io.extents) {
        queue->elements_in_flight -= request->io.extents_max;
        free(request->io.extents);
    }
}

const struct rule *
srv_entry_rule(unsigned op)
{
    return rule_of(op);
}
