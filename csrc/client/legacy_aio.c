/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>

#include "client/reason.h"
#include "legacy.h"
#include "shared/atomic.h"

/* Checks what can be checked before submission and describes the I/O. */
static int
io_describe(const ovs_ctx_t *ctx, uint8_t op, const struct ovs_aiocb *cb, struct ovsshm_io *io)
{
    if (!ctx || !cb || !cb->aio_buf || cb->aio_nbytes == 0 || cb->aio_nbytes > SSIZE_MAX ||
        cb->aio_offset < 0) {
        return ovsshm_reason_literal(-EINVAL, "an argument of the I/O is NULL or out of range");
    }
    int forbidden = op == OVSSHM_OP_READ ? O_WRONLY : O_RDONLY;
    if (!ctx->session || legacy_session_oflag(ctx->session) == forbidden) {
        return ovsshm_reason_literal(-EBADF, "the context is not open for this operation");
    }
    *io = (struct ovsshm_io){
        .op = op,
        .offset_bytes = (uint64_t)cb->aio_offset,
        .length_bytes = cb->aio_nbytes,
        .buffer = cb->aio_buf,
    };
    return 0;
}

static int
flush_check(const ovs_ctx_t *ctx)
{
    if (!ctx) {
        return -EINVAL;
    }
    return ctx->session ? 0 : ovsshm_reason_literal(-EBADF, "the context is not open");
}

/* ---- synchronous -------------------------------------------------------------------------- */

static ssize_t
io_run(ovs_ctx_t *ctx, uint8_t op, const struct ovs_aiocb *cb)
{
    struct ovs_aio_request request = {0};
    int rc = io_describe(ctx, op, cb, &request.io);
    return legacy_result(rc < 0 ? rc : legacy_session_run(ctx->session, &request));
}

ssize_t
ovs_read(ovs_ctx_t *ctx, void *buf, size_t nbytes, off_t offset)
{
    struct ovs_aiocb cb = {.aio_buf = buf, .aio_nbytes = nbytes, .aio_offset = offset};
    return io_run(ctx, OVSSHM_OP_READ, &cb);
}

ssize_t
ovs_write(ovs_ctx_t *ctx, const void *buf, size_t nbytes, off_t offset)
{
    void *data = (void *)(uintptr_t)buf; /* a write only reads it */
    struct ovs_aiocb cb = {.aio_buf = data, .aio_nbytes = nbytes, .aio_offset = offset};
    return io_run(ctx, OVSSHM_OP_WRITE, &cb);
}

int
ovs_flush(ovs_ctx_t *ctx)
{
    struct ovs_aio_request request = {.io = {.op = OVSSHM_OP_FLUSH}};
    int rc = flush_check(ctx);
    return (int)legacy_result(rc < 0 ? rc : legacy_session_run(ctx->session, &request));
}

/* ---- asynchronous ------------------------------------------------------------------------- */

/* Takes the completion for an operation: one at a time, but it may be used again. */
static int
completion_take(ovs_completion_t *completion)
{
    switch (ovsshm_load_acquire(&completion->state)) {
    case LEGACY_COMPLETION_IN_FLIGHT:
        return ovsshm_reason_literal(-EINVAL, "the completion is in use");
    case LEGACY_COMPLETION_DONE:
        pthread_mutex_lock(&completion->lock);
        completion->signalled = false;
        pthread_mutex_unlock(&completion->lock);
        break;
    default: break;
    }
    ovsshm_store_relaxed(&completion->state, LEGACY_COMPLETION_IN_FLIGHT);
    return 0;
}

static int
request_submit(struct legacy_session *session, const struct ovsshm_io *io,
               ovs_completion_t *completion, struct ovs_aiocb *cb)
{
    int rc = completion ? completion_take(completion) : 0;
    if (rc < 0) {
        return rc;
    }
    struct ovs_aio_request *request = calloc(1, sizeof(*request));
    if (request) {
        request->io = *io;
        request->completion = completion;
        request->detached = !cb;
        if (cb) {
            cb->request_ = request; /* before a callback may look for it */
        }
    }
    rc = request ? legacy_session_submit(session, request) : -ENOMEM;
    if (rc < 0) {
        free(request);
        if (cb) {
            cb->request_ = NULL;
        }
        if (completion) {
            ovsshm_store_release(&completion->state, LEGACY_COMPLETION_IDLE);
        }
    }
    return rc;
}

static int
aio_submit(ovs_ctx_t *ctx, uint8_t op, struct ovs_aiocb *cb, ovs_completion_t *completion)
{
    struct ovsshm_io io;
    int rc = io_describe(ctx, op, cb, &io);
    if (rc == 0) {
        rc = request_submit(ctx->session, &io, completion, cb);
    }
    return (int)legacy_result(rc);
}

int
ovs_aio_read(ovs_ctx_t *ctx, struct ovs_aiocb *ovs_aiocbp)
{
    return aio_submit(ctx, OVSSHM_OP_READ, ovs_aiocbp, NULL);
}

int
ovs_aio_write(ovs_ctx_t *ctx, struct ovs_aiocb *ovs_aiocbp)
{
    return aio_submit(ctx, OVSSHM_OP_WRITE, ovs_aiocbp, NULL);
}

int
ovs_aio_readcb(ovs_ctx_t *ctx, struct ovs_aiocb *ovs_aiocbp, ovs_completion_t *completion)
{
    return aio_submit(ctx, OVSSHM_OP_READ, ovs_aiocbp, completion);
}

int
ovs_aio_writecb(ovs_ctx_t *ctx, struct ovs_aiocb *ovs_aiocbp, ovs_completion_t *completion)
{
    return aio_submit(ctx, OVSSHM_OP_WRITE, ovs_aiocbp, completion);
}

int
ovs_aio_flushcb(ovs_ctx_t *ctx, ovs_completion_t *completion)
{
    struct ovsshm_io io = {.op = OVSSHM_OP_FLUSH};
    int rc = flush_check(ctx);
    if (rc == 0) {
        rc = request_submit(ctx->session, &io, completion, NULL);
    }
    return (int)legacy_result(rc);
}

static bool
aio_arguments_ok(const ovs_ctx_t *ctx, const struct ovs_aiocb *cb)
{
    return ctx && cb && cb->request_;
}

int
ovs_aio_suspend(ovs_ctx_t *ctx, struct ovs_aiocb *ovs_aiocbp, const struct timespec *timeout)
{
    if (!aio_arguments_ok(ctx, ovs_aiocbp) || legacy_timespec_check(timeout) < 0) {
        return (int)legacy_result(-EINVAL);
    }
    return (int)legacy_result(legacy_request_wait(ovs_aiocbp->request_, timeout));
}

int
ovs_aio_error(ovs_ctx_t *ctx, struct ovs_aiocb *ovs_aiocbp)
{
    if (!aio_arguments_ok(ctx, ovs_aiocbp)) {
        return (int)legacy_result(-EINVAL);
    }
    struct ovs_aio_request *request = ovs_aiocbp->request_;
    if (!legacy_request_done(request)) {
        return EINPROGRESS;
    }
    return request->result < 0 ? (int)-request->result : 0;
}

ssize_t
ovs_aio_return(ovs_ctx_t *ctx, struct ovs_aiocb *ovs_aiocbp)
{
    if (!aio_arguments_ok(ctx, ovs_aiocbp)) {
        return legacy_result(-EINVAL);
    }
    struct ovs_aio_request *request = ovs_aiocbp->request_;
    if (!legacy_request_done(request)) {
        return legacy_result(-EINPROGRESS);
    }
    errno = 0; /* always the request's own */
    return legacy_result(request->result);
}

int
ovs_aio_finish(ovs_ctx_t *ctx, struct ovs_aiocb *ovs_aiocbp)
{
    if (!aio_arguments_ok(ctx, ovs_aiocbp)) {
        return (int)legacy_result(-EINVAL);
    }
    if (!legacy_request_done(ovs_aiocbp->request_)) {
        return (int)legacy_result(-EINPROGRESS);
    }
    free(ovs_aiocbp->request_);
    ovs_aiocbp->request_ = NULL;
    return 0;
}

int
ovs_aio_cancel(ovs_ctx_t *ctx, struct ovs_aiocb *ovs_aiocbp)
{
    (void)ctx;
    (void)ovs_aiocbp;
    return (int)legacy_result(-ENOSYS);
}
