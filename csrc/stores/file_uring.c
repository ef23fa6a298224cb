/* SPDX-License-Identifier: MIT */
/*
 * The engine on an io_uring: each step of a request is one entry.
 *
 * The reactor sleeps on the ring's own fd.  With COOP_TASKRUN the kernel does not interrupt a
 * reactor that is busy, and TASKRUN_FLAG lets poll see without a system call that there is cause to
 * enter the kernel.  DEFER_TASKRUN would save less than it costs here: it needs an eventfd beside
 * the ring, which has to be emptied.
 *
 * Requests in flight are bounded by the ring, so that the completion ring never overflows; those
 * beyond wait in a list.
 *
 * Threads: all by the reactor, which must also have created the group.
 */
#define _GNU_SOURCE
#include "stores/file.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <sched.h>
#include <stdlib.h>

#define ENTRIES 256 /* the completion ring has twice as many */
#define REAP_BATCH 32

struct uring_group {
    struct file_group base;
    struct io_uring ring;
    unsigned in_ring; /* of in_flight; at most ENTRIES */
    struct ovsshm_request *surplus_head;
    struct ovsshm_request *surplus_tail;
};

/* Newest first; the last one is for any kernel with io_uring. */
static int
init_ring(struct io_uring *ring, unsigned entries)
{
    static const unsigned flags[] = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        0,
    };
    int rc = -EINVAL;
    for (unsigned i = 0; rc == -EINVAL && i < sizeof(flags) / sizeof(flags[0]); i++) {
        rc = io_uring_queue_init(entries, ring, flags[i]);
    }
    return rc;
}

static void
submit(struct uring_group *group)
{
    while (io_uring_sq_ready(&group->ring)) {
        int rc = io_uring_submit(&group->ring);
        if (rc == -EAGAIN || rc == -EBUSY) {
            sched_yield(); /* the kernel is out of memory for requests: it may pass */
        } else if (rc < 0 && rc != -EINTR) {
            assert(!"io_uring_submit by a thread that does not own the group");
            abort();
        }
    }
}

static void
prepare(struct io_uring_sqe *sqe, const struct file_step *step)
{
    /* A single iovec is used up here, so the one in the step may go away. */
    bool single = step->iov_count == 1;
    unsigned length = single ? (unsigned)step->iov[0].iov_len : step->iov_count;
    switch (step->kind) {
    case FILE_STEP_READ:
        io_uring_prep_rw(single ? IORING_OP_READ : IORING_OP_READV, sqe, step->fd,
                         single ? step->iov[0].iov_base : (const void *)step->iov, length,
                         step->offset_bytes);
        break;
    case FILE_STEP_WRITE:
        io_uring_prep_rw(single ? IORING_OP_WRITE : IORING_OP_WRITEV, sqe, step->fd,
                         single ? step->iov[0].iov_base : (const void *)step->iov, length,
                         step->offset_bytes);
        break;
    case FILE_STEP_SYNC: io_uring_prep_fsync(sqe, step->fd, IORING_FSYNC_DATASYNC); return;
    default:
        io_uring_prep_fallocate(sqe, step->fd, step->flags, (off_t)step->offset_bytes,
                                (off_t)step->length_bytes);
        return;
    }
    sqe->rw_flags = step->flags;
}

static void
enter_ring(struct uring_group *group, struct ovsshm_request *request)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&group->ring);
    if (!sqe) {
        submit(group);
        sqe = io_uring_get_sqe(&group->ring);
    }
    struct file_step step;
    ovsshm_file_step_get(request, &step);
    prepare(sqe, &step);
    io_uring_sqe_set_data(sqe, request);
}

static void
uring_start(struct file_group *base, struct ovsshm_request *request)
{
    struct uring_group *group = (struct uring_group *)base;
    base->in_flight++;
    if (group->in_ring < ENTRIES) {
        group->in_ring++;
        enter_ring(group, request);
        return;
    }
    file_private_set(request, FILE_NEXT, 0);
    if (group->surplus_head) {
        file_private_set(group->surplus_tail, FILE_NEXT, (uintptr_t)request);
    } else {
        group->surplus_head = request;
    }
    group->surplus_tail = request;
}

static void
uring_kick(struct file_group *base)
{
    submit((struct uring_group *)base);
}

/* A request has left the ring: one that waits may enter. */
static void
replace(struct uring_group *group)
{
    struct ovsshm_request *next = group->surplus_head;
    if (next) {
        group->surplus_head = (struct ovsshm_request *)file_private_get(next, FILE_NEXT);
        enter_ring(group, next);
    } else {
        group->in_ring--;
    }
}

static unsigned
uring_poll(void *arg)
{
    struct uring_group *group = arg;
    struct io_uring_cqe *cqes[REAP_BATCH];
    unsigned finished = 0;
    unsigned reaped;
    while ((reaped = io_uring_peek_batch_cqe(&group->ring, cqes, REAP_BATCH))) {
        struct ovsshm_request *requests[REAP_BATCH];
        int results[REAP_BATCH];
        for (unsigned i = 0; i < reaped; i++) {
            requests[i] = io_uring_cqe_get_data(cqes[i]);
            results[i] = cqes[i]->res;
        }
        io_uring_cq_advance(&group->ring, reaped);
        for (unsigned i = 0; i < reaped; i++) {
            if (!ovsshm_file_step_end(requests[i], results[i])) {
                enter_ring(group, requests[i]);
                continue;
            }
            replace(group);
            group->base.in_flight--;
            ovsshm_file_finish(requests[i]);
            finished++;
        }
        submit(group);
    }
    return finished;
}

static int
uring_fd(void *arg)
{
    return ((struct uring_group *)arg)->ring.ring_fd;
}

static void
uring_destroy(void *arg)
{
    struct uring_group *group = arg;
    if (!group) {
        return;
    }
    while (group->base.in_flight) {
        struct io_uring_cqe *cqe;
        io_uring_wait_cqe(&group->ring, &cqe);
        uring_poll(group);
    }
    io_uring_queue_exit(&group->ring);
    free(group);
}

static int
uring_create(struct ovsshm_store *store, void **out)
{
    (void)store;
    struct uring_group *group = calloc(1, sizeof(*group));
    if (!group) {
        return -ENOMEM;
    }
    int rc = init_ring(&group->ring, ENTRIES);
    if (rc) {
        free(group);
        return rc;
    }
    group->base.engine = &ovsshm_file_uring;
    *out = group;
    return 0;
}

/* The operations of all steps came with Linux 5.6; files in a sandbox may be refused the call. */
static int
uring_probe(void)
{
    struct io_uring ring;
    int rc = init_ring(&ring, 2);
    if (rc) {
        return rc;
    }
    struct io_uring_probe *probe = io_uring_get_probe_ring(&ring);
    if (!probe) {
        rc = -EOPNOTSUPP;
    } else if (!io_uring_opcode_supported(probe, IORING_OP_READ) ||
               !io_uring_opcode_supported(probe, IORING_OP_WRITE) ||
               !io_uring_opcode_supported(probe, IORING_OP_FALLOCATE)) {
        rc = -EOPNOTSUPP;
    }
    io_uring_free_probe(probe);
    io_uring_queue_exit(&ring);
    return rc;
}

const struct file_engine ovsshm_file_uring = {
    .name = "io_uring",
    .probe = uring_probe,
    .create = uring_create,
    .destroy = uring_destroy,
    .start = uring_start,
    .kick = uring_kick,
    .poll = uring_poll,
    .fd = uring_fd,
};
