/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "entry.h"
#include "local_own.h"
#include "server.h"

/* On the stack of the thread that waits for it. */
struct local_request {
    struct request request;
    struct local_group *group;
    uint32_t done; /* atomic */
};

/* Its reactor is nobody's, so no thread takes itself for it. */
struct queue srv_local_queue = {.reactor = (struct reactor *)(void *)&srv_local_queue};

_Thread_local char srv_local_here __attribute__((tls_model("initial-exec")));

/* ---- completion, memory: calls of the store -------------------------------------------------- */

void
srv_local_complete(struct request *request, int32_t result)
{
    struct local_request *r = container_of(request, struct local_request, request);
    struct local_group *group = r->group;
    assert(!ovsshm_load_relaxed(&r->done)); /* a store completes once */
    request->result = result;
    if (group->thread == &srv_local_here) {
        ovsshm_store_relaxed(&r->done, 1);
        return;
    }
    ovsshm_add(&group->completing, 1); /* until the last touch of the group */
    ovsshm_store_release(&r->done, 1); /* L1: now the request may be gone */
    if (ovsshm_doorbell_needed(&group->armed)) {
        ovsshm_doorbell_ring(group->fd);
    }
    ovsshm_sub(&group->completing, 1);
}

static bool
is_within(const struct local_memory *memory, const struct iovec *iov, uint32_t count)
{
    uintptr_t base = (uintptr_t)memory->base;
    for (uint32_t i = 0; i < count; i++) {
        uintptr_t at = (uintptr_t)iov[i].iov_base;
        if (at < base || at - base > memory->bytes ||
            iov[i].iov_len > memory->bytes - (at - base)) {
            return false;
        }
    }
    return true;
}

struct ovsshm_memory *
srv_local_hold(struct request *request)
{
    const struct local_group *group = container_of(request, struct local_request, request)->group;
    const struct ovsshm_request *io = &request->io;
    bool scratch = is_within(&group->scratch, io->iov, io->iov_count);
    assert(scratch || is_within(&group->bounce, io->iov, io->iov_count)); /* OVSSHM_STORE_HOLDS */
    return ovsshm_memory_hold(scratch ? group->scratch.memory : group->bounce.memory);
}

/* ---- what is not in our memory, for stores that may keep it ---------------------------------- */

static void
copy_out(unsigned char *to, const struct iovec *iov, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        memcpy(to, iov[i].iov_base, iov[i].iov_len);
        to += iov[i].iov_len;
    }
}

static void
copy_in(const struct iovec *iov, const unsigned char *from, size_t bytes)
{
    for (; bytes; iov++) {
        size_t part = iov->iov_len < bytes ? iov->iov_len : bytes;
        memcpy(iov->iov_base, from, part);
        from += part;
        bytes -= part;
    }
}

/* True: the request goes by way of our memory. */
static bool
needs_bounce(const struct local_group *group, const struct local_io *io)
{
    return group->store->type->flags & OVSSHM_STORE_HOLDS && io->iov_count &&
           !is_within(&group->scratch, io->iov, io->iov_count);
}

/* ---- one request ------------------------------------------------------------------------------
 */

static int
check(const struct local *local, const struct local_io *io, const struct rule *rule)
{
    const struct ovsshm_server *server = local->session.server;
    uint32_t unaligned = local->block_bytes - 1;
    uint64_t size = srv_local_size(local);
    uint64_t left = io->offset_bytes < size ? size - io->offset_bytes : 0;
    if (!rule || io->flags & ~rule->flags || io->length_bytes > OVSSHM_RANGE_BYTES_MAX) {
        return -EINVAL;
    }
    if (rule->capability & ~server->store->capabilities) {
        return -EOPNOTSUPP;
    }
    if (rule->changes && !ovsshm_load_relaxed(&local->session.writable)) {
        return -EBADF;
    }
    if (io->offset_bytes & unaligned ||
        (io->length_bytes & unaligned && io->length_bytes != left)) {
        return -EINVAL;
    }
    return rule->changes && io->length_bytes > left ? -EFBIG : 1;
}

/* Fills the request; 0: nothing to be done. */
static int
prepare(struct local *local, struct local_group *group, const struct local_io *io,
        struct local_request *r)
{
    const struct rule *rule = srv_entry_rule(io->op);
    int rc = check(local, io, rule);
    if (rc < 0) {
        return rc;
    }
    uint64_t size = srv_local_size(local);
    uint64_t left = io->offset_bytes < size ? size - io->offset_bytes : 0;
    if (rule->ranged && (left == 0 || io->length_bytes == 0)) {
        return 0;
    }
    r->group = group;
    r->done = 0;
    r->request.queue = &srv_local_queue;
    r->request.io = (struct ovsshm_request){
        .volume = local->session.volume->open,
        .offset_bytes = io->offset_bytes,
        .length_bytes = io->length_bytes,
        .op = io->op,
        .flags = io->flags,
        .iov = io->iov,
        .iov_count = io->iov_count,
        .extents = io->extents,
        .extents_max = io->extents_max,
    };
    if (rule->ranged && io->length_bytes > left) {
        srv_entry_shorten(&r->request.io, (uint32_t)left);
    }
    return 1;
}

/* Not done inside submit(). */
static void
await(const struct local *local, struct local_group *group, struct local_request *r)
{
    const struct ovsshm_store_type *type = group->store->type;
    while (!ovsshm_load_acquire(&r->done)) { /* pairs with L1 */
        if (type->poll && type->poll(group->store_group)) {
            continue;
        }
        if (ovsshm_load_acquire(&local->state) != LOCAL_OPEN) {
            srv_local_group_give_up(group, &r->done);
            return;
        }
        if (ovsshm_waiter_spin(&group->waiter, 0)) {
            ovsshm_relax();
            continue;
        }
        ovsshm_doorbell_arm(&group->armed);
        if (!ovsshm_load_acquire(&r->done) && ovsshm_load_acquire(&local->state) == LOCAL_OPEN) {
            ovsshm_doorbell_wait(group->fd, group->store_fd, -1);
            ovsshm_waiter_slept(&group->waiter);
        }
        ovsshm_doorbell_disarm(&group->armed);
    }
    ovsshm_waiter_found(&group->waiter);
}

static int64_t
submit(struct local *local, struct local_group *group, struct local_request *r)
{
    struct ovsshm_request *request = &r->request.io;
    group->store->type->submit(group->store, group->store_group, &request, 1);
    if (!ovsshm_load_acquire(&r->done)) {
        await(local, group, r);
    }
    if (!r->done) {
        return -ESHUTDOWN;
    }
    int32_t result = r->request.result;
    return r->request.io.extents && result > (int32_t)r->request.io.extents_max
               ? (int32_t)r->request.io.extents_max
               : result;
}

/* By way of memory that the store may hold. */
static int64_t
submit_bounced(struct local *local, struct local_group *group, const struct local_io *io,
               struct local_request *r)
{
    size_t bytes = r->request.io.length_bytes;
    unsigned char *memory = srv_local_memory(&group->bounce, bytes);
    struct iovec one = {memory, bytes};
    if (!memory) {
        return -ENOMEM;
    }
    if (io->op == OVSSHM_OP_WRITE) {
        copy_out(memory, io->iov, io->iov_count);
    }
    r->request.io.iov = &one;
    r->request.io.iov_count = 1;
    int64_t result = submit(local, group, r);
    if (io->op == OVSSHM_OP_READ && result > 0) {
        copy_in(io->iov, memory, (size_t)result < bytes ? (size_t)result : bytes);
    }
    return result;
}

/* As srv_counters_result() and srv_counters_latency(), of several threads. */
static void
count(struct counters *c, uint8_t op, int64_t result, uint64_t ns)
{
    uint64_t bytes = result < 0 ? 0 : (uint64_t)result;
    if (op == OVSSHM_OP_READ) {
        ovsshm_add_relaxed(&c->reads, 1);
        ovsshm_add_relaxed(&c->read_bytes, bytes);
    } else if (op == OVSSHM_OP_WRITE) {
        ovsshm_add_relaxed(&c->writes, 1);
        ovsshm_add_relaxed(&c->written_bytes, bytes);
    } else {
        ovsshm_add_relaxed(&c->others, 1);
    }
    if (result < 0) {
        ovsshm_add_relaxed(&c->errors, 1);
    }
    ovsshm_add_relaxed(&c->latency_ns, ns);
    ovsshm_add_relaxed(&c->latency_counts[srv_counters_bucket(ns)], 1);
}

int64_t
srv_local_io(struct local *local, struct local_group *group, const struct local_io *io)
{
    struct local_request r; /* its iovecs need no zeroes */
    if (ovsshm_load_relaxed(&local->session.leaving)) {
        srv_local_leaving(local, false);
    }
    int64_t result = srv_local_io_enter(local, group);
    if (result) {
        return result;
    }
    uint64_t start = ovsshm_ticks();
    result = prepare(local, group, io, &r);
    if (result == 1) {
        result = needs_bounce(group, io) ? submit_bounced(local, group, io, &r)
                                         : submit(local, group, &r);
    }
    srv_local_io_leave(group);
    count(&local->counted[group->number % LOCAL_COUNTED].counters, io->op, result,
          ovsshm_ticks_to_ns(ovsshm_ticks() - start));
    return result;
}
