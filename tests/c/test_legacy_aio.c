/* SPDX-License-Identifier: MIT */
/*
 * Asynchronous I/O and completions: function by function, with every errno and its sign.  The gate
 * store decides when a request completes, so that "not yet" and "in this order" are facts.
 */
#define _GNU_SOURCE
#include "legacy_aio_test.h"

static void
nothing(ovs_completion_t *completion, void *arg)
{
    (void)completion;
    (void)arg;
}

/* ---- plain ----------------------------------------------------------------------------------- */

static void
submission_errors(void)
{
    char bytes[8] = {0};
    struct ovs_aiocb good = aiocb(bytes, 8, 0);
    struct ovs_aiocb bad[] = {aiocb(NULL, 8, 0), aiocb(bytes, 0, 0), aiocb(bytes, 8, -1),
                              aiocb(bytes, (size_t)-1, 0)};
    ovs_completion_t *completion = ovs_aio_create_completion(nothing, NULL);
    CHECK_FAILS(ovs_aio_read(NULL, &good), EINVAL);
    CHECK_FAILS(ovs_aio_read(ctx, NULL), EINVAL);
    CHECK_FAILS(ovs_aio_write(NULL, &good), EINVAL);
    CHECK_FAILS(ovs_aio_write(ctx, NULL), EINVAL);
    CHECK_FAILS(ovs_aio_readcb(NULL, &good, completion), EINVAL);
    CHECK_FAILS(ovs_aio_writecb(ctx, NULL, completion), EINVAL);
    CHECK_FAILS(ovs_aio_flushcb(NULL, completion), EINVAL);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        CHECK_FAILS(ovs_aio_read(ctx, &bad[i]), EINVAL);
        CHECK_FAILS(ovs_aio_write(ctx, &bad[i]), EINVAL);
        CHECK_FAILS(ovs_aio_readcb(ctx, &bad[i], completion), EINVAL);
        CHECK_FAILS(ovs_aio_writecb(ctx, &bad[i], completion), EINVAL);
    }
    CHECK(ovs_aio_release_completion(completion) == 0); /* never used */
    CHECK_FAILS(ovs_aio_suspend(NULL, &good, NULL), EINVAL);
    CHECK_FAILS(ovs_aio_suspend(ctx, NULL, NULL), EINVAL);
    CHECK_FAILS(ovs_aio_suspend(ctx, &good, NULL), EINVAL); /* never submitted */
    CHECK_FAILS(ovs_aio_error(NULL, &good), EINVAL);
    CHECK_FAILS(ovs_aio_error(ctx, NULL), EINVAL);
    CHECK_FAILS(ovs_aio_error(ctx, &good), EINVAL);
    CHECK_FAILS(ovs_aio_return(NULL, &good), EINVAL);
    CHECK_FAILS(ovs_aio_return(ctx, NULL), EINVAL);
    CHECK_FAILS(ovs_aio_finish(NULL, &good), EINVAL);
    CHECK_FAILS(ovs_aio_finish(ctx, NULL), EINVAL);
    CHECK_FAILS(ovs_aio_cancel(ctx, &good), ENOSYS);
    CHECK_FAILS(ovs_aio_cancel(NULL, NULL), ENOSYS);
}

static void
access_mode_is_checked_at_submission(void)
{
    char bytes[8] = {0};
    struct ovs_aiocb cb = aiocb(bytes, 8, 0);
    volume_create("modes", 4096);
    ovs_completion_t *completion = ovs_aio_create_completion(signal_only, NULL);
    ovs_ctx_t *reader = ctx_open("modes", O_RDONLY);
    CHECK_FAILS(ovs_aio_write(reader, &cb), EBADF);
    CHECK_FAILS(ovs_aio_writecb(reader, &cb, completion), EBADF);
    CHECK(ovs_aio_flushcb(reader, completion) == 0);
    CHECK(ovs_aio_wait_completion(completion, NULL) == 0);
    CHECK(ovs_aio_return_completion(completion) == 0);
    CHECK(ovs_ctx_destroy(reader) == 0);
    ovs_ctx_t *writer = ctx_open("modes", O_WRONLY);
    CHECK_FAILS(ovs_aio_read(writer, &cb), EBADF);
    CHECK_FAILS(ovs_aio_readcb(writer, &cb, completion), EBADF);
    CHECK(ovs_ctx_destroy(writer) == 0);
    CHECK(ovs_aio_release_completion(completion) == 0);
    volume_remove("modes");
}

static void
life_of_a_request(void)
{
    char bytes[8] = "written";
    struct ovs_aiocb cb = aiocb(bytes, 8, 100);
    struct timespec past = {0, 0};
    gate_close();
    CHECK(ovs_aio_write(ctx, &cb) == 0);
    gate_await(1);
    CHECK(ovs_aio_error(ctx, &cb) == EINPROGRESS);
    CHECK_FAILS(ovs_aio_return(ctx, &cb), EINPROGRESS);
    CHECK_FAILS(ovs_aio_finish(ctx, &cb), EINPROGRESS);
    CHECK_FAILS(ovs_aio_suspend(ctx, &cb, &past), EAGAIN);
    CHECK_FAILS(ovs_aio_suspend(ctx, &cb, &past), EAGAIN); /* waits may be repeated */
    gate_open();
    CHECK(ovs_aio_suspend(ctx, &cb, NULL) == 0);
    CHECK(ovs_aio_suspend(ctx, &cb, &past) == 0);
    CHECK(ovs_aio_error(ctx, &cb) == 0);
    errno = EPIPE;
    CHECK(ovs_aio_return(ctx, &cb) == 8 && errno == 0);
    CHECK(ovs_aio_return(ctx, &cb) == 8);
    CHECK(ovs_aio_finish(ctx, &cb) == 0);
    CHECK_FAILS(ovs_aio_finish(ctx, &cb), EINVAL); /* once is enough */
    CHECK_FAILS(ovs_aio_return(ctx, &cb), EINVAL);
    char back[8];
    CHECK(ovs_read(ctx, back, 8, 100) == 8 && !memcmp(back, bytes, 8));
}

static void
error_alone_makes_progress(void)
{
    char bytes[8];
    struct ovs_aiocb cb = aiocb(bytes, 8, 0);
    CHECK(ovs_aio_read(ctx, &cb) == 0);
    int error;
    while ((error = ovs_aio_error(ctx, &cb)) == EINPROGRESS) {
        sched_yield();
    }
    CHECK(error == 0);
    CHECK(ovs_aio_return(ctx, &cb) == 8);
    CHECK(ovs_aio_finish(ctx, &cb) == 0);
}

static void
failed_request_has_its_own_errno(void)
{
    char bytes[8] = {0};
    struct ovs_aiocb cb = aiocb(bytes, 8, 0);
    struct ovs_aiocb beyond = aiocb(bytes, 8, VOLUME_BYTES - 4);
    gate_fail_io(-ENOSPC);
    CHECK(ovs_aio_write(ctx, &cb) == 0);
    CHECK(ovs_aio_suspend(ctx, &cb, NULL) == 0);
    gate_fail_io(0);
    CHECK(ovs_aio_error(ctx, &cb) == ENOSPC);
    CHECK_FAILS(ovs_aio_return(ctx, &cb), ENOSPC);
    CHECK(ovs_aio_finish(ctx, &cb) == 0);
    CHECK(ovs_aio_write(ctx, &beyond) == 0); /* accepted, then fails */
    CHECK(ovs_aio_suspend(ctx, &beyond, NULL) == 0);
    CHECK(ovs_aio_error(ctx, &beyond) == EFBIG);
    CHECK_FAILS(ovs_aio_return(ctx, &beyond), EFBIG);
    CHECK(ovs_aio_finish(ctx, &beyond) == 0);
    CHECK(ovs_aio_read(ctx, &beyond) == 0);
    CHECK(ovs_aio_suspend(ctx, &beyond, NULL) == 0);
    CHECK(ovs_aio_return(ctx, &beyond) == 4);
    CHECK(ovs_aio_finish(ctx, &beyond) == 0);
}

static void
deadlines_are_points_of_realtime(void)
{
    char bytes[8];
    struct ovs_aiocb cb = aiocb(bytes, 8, 0);
    struct timespec soon = realtime_in(0);
    struct timespec far = realtime_in(1000);
    struct timespec negative = {.tv_sec = far.tv_sec, .tv_nsec = -1};
    struct timespec large = {.tv_sec = far.tv_sec, .tv_nsec = 1000000000};
    soon.tv_nsec += 20000000;
    if (soon.tv_nsec >= 1000000000) {
        soon.tv_sec++;
        soon.tv_nsec -= 1000000000;
    }
    gate_close();
    CHECK(ovs_aio_read(ctx, &cb) == 0);
    CHECK_FAILS(ovs_aio_suspend(ctx, &cb, &negative), EINVAL);
    CHECK_FAILS(ovs_aio_suspend(ctx, &cb, &large), EINVAL);
    CHECK_FAILS(ovs_aio_suspend(ctx, &cb, &soon), EAGAIN);
    struct timespec now = realtime_in(0);
    CHECK(now.tv_sec > soon.tv_sec || (now.tv_sec == soon.tv_sec && now.tv_nsec >= soon.tv_nsec));
    gate_open();
    CHECK(ovs_aio_suspend(ctx, &cb, &far) == 0);
    CHECK(ovs_aio_finish(ctx, &cb) == 0);
}

static void *
suspend_for_ever(void *arg)
{
    CHECK(ovs_aio_suspend(ctx, arg, NULL) == 0);
    return NULL;
}

static void
several_threads_wait_for_one_request_and_for_others(void)
{
    char bytes[3][8];
    struct ovs_aiocb cbs[3];
    pthread_t threads[6];
    gate_close();
    for (int i = 0; i < 3; i++) {
        cbs[i] = aiocb(bytes[i], 8, 8 * i);
        CHECK(ovs_aio_read(ctx, &cbs[i]) == 0);
    }
    gate_await(3);
    for (int i = 0; i < 6; i++) {
        CHECK(pthread_create(&threads[i], NULL, suspend_for_ever, &cbs[i / 2]) == 0);
    }
    /* Whoever leads, each release lets the two go that wait for it, and the others wait on. */
    for (int i = 0; i < 3; i++) {
        gate_release(1);
        CHECK(pthread_join(threads[2 * i], NULL) == 0);
        CHECK(pthread_join(threads[2 * i + 1], NULL) == 0);
        CHECK(ovs_aio_error(ctx, &cbs[i]) == 0);
        CHECK(i == 2 || ovs_aio_error(ctx, &cbs[2]) == EINPROGRESS);
    }
    gate_open();
    for (int i = 0; i < 3; i++) {
        CHECK(ovs_aio_finish(ctx, &cbs[i]) == 0);
    }
}

/* Submission never blocks and never says EAGAIN, however deep the queue is. */
static void
more_requests_than_the_queue_is_deep(void)
{
    enum {
        COUNT = 1000
    };
    static unsigned char bytes[COUNT][16];
    static struct ovs_aiocb cbs[COUNT];
    gate_close();
    for (int i = 0; i < COUNT; i++) {
        pattern_fill(bytes[i], 16, 16 * (uint64_t)i);
        cbs[i] = aiocb(bytes[i], 16, 16 * i);
        CHECK(ovs_aio_write(ctx, &cbs[i]) == 0);
    }
    gate_open();
    for (int i = COUNT - 1; i >= 0; i--) {
        CHECK(ovs_aio_suspend(ctx, &cbs[i], NULL) == 0);
        CHECK(ovs_aio_return(ctx, &cbs[i]) == 16);
        CHECK(ovs_aio_finish(ctx, &cbs[i]) == 0);
    }
    static unsigned char all[16 * COUNT];
    CHECK(ovs_read(ctx, all, sizeof(all), 0) == sizeof(all));
    CHECK(pattern_holds(all, sizeof(all), 0));
}

/* ---- flush ----------------------------------------------------------------------------------- */

static void
flush_covers_writes_that_were_queued_before_it(void)
{
    char bytes[8] = {0};
    struct ovs_aiocb first = aiocb(bytes, 8, 0);
    struct ovs_aiocb second = aiocb(bytes, 8, 8);
    uint8_t ops[4];
    ovs_completion_t *flush = ovs_aio_create_completion(signal_only, NULL);
    gate_close();
    CHECK(ovs_aio_write(ctx, &first) == 0);
    CHECK(ovs_aio_write(ctx, &second) == 0);
    CHECK(ovs_aio_flushcb(ctx, flush) == 0);
    gate_await(2);
    gate_release(1);
    CHECK(ovs_aio_suspend(ctx, &first, NULL) == 0);
    CHECK(gate_arrivals(ops, 4) == 2); /* one write is left, so no flush yet */
    gate_release(1);
    gate_await(1);
    CHECK(gate_arrivals(ops, 4) == 3 && ops[2] == OVSSHM_OP_FLUSH);
    CHECK_FAILS(ovs_aio_return_completion(flush), EINPROGRESS);
    gate_open();
    CHECK(ovs_aio_wait_completion(flush, NULL) == 0);
    CHECK(ovs_aio_return_completion(flush) == 0);
    CHECK(ovs_aio_release_completion(flush) == 0);
    CHECK(ovs_aio_suspend(ctx, &second, NULL) == 0);
    CHECK(ovs_aio_finish(ctx, &first) == 0);
    CHECK(ovs_aio_finish(ctx, &second) == 0);
}

static void
flush_without_completion_is_done_and_leaks_nothing(void)
{
    uint8_t ops[1];
    gate_close();
    CHECK(ovs_aio_flushcb(ctx, NULL) == 0);
    gate_await(1);
    CHECK(gate_arrivals(ops, 1) == 1 && ops[0] == OVSSHM_OP_FLUSH);
    gate_open();
    CHECK(ovs_flush(ctx) == 0);
}

/* ---- completions ------------------------------------------------------------------------------
 */

static void
completion_errors(void)
{
    struct timespec past = {0, 0};
    struct timespec bad = {0, 1000000000};
    CHECK_NULL(ovs_aio_create_completion(NULL, NULL), EINVAL);
    CHECK_FAILS(ovs_aio_return_completion(NULL), EINVAL);
    CHECK_FAILS(ovs_aio_wait_completion(NULL, NULL), EINVAL);
    CHECK_FAILS(ovs_aio_signal_completion(NULL), EINVAL);
    CHECK_FAILS(ovs_aio_release_completion(NULL), EINVAL);
    ovs_completion_t *completion = ovs_aio_create_completion(nothing, NULL);
    CHECK_FAILS(ovs_aio_return_completion(completion), EINVAL);
    CHECK_FAILS(ovs_aio_wait_completion(completion, &bad), EINVAL);
    CHECK_FAILS(ovs_aio_wait_completion(completion, &past), EAGAIN);
    CHECK_FAILS(ovs_aio_wait_completion(completion, &past), EAGAIN);
    CHECK(ovs_aio_signal_completion(completion) == 0);
    CHECK(ovs_aio_wait_completion(completion, &past) == 0); /* signalled before the wait */
    CHECK(ovs_aio_wait_completion(completion, NULL) == 0);
    CHECK(ovs_aio_release_completion(completion) == 0);
}

static void
completion_belongs_to_one_operation_at_a_time(void)
{
    char bytes[8];
    struct ovs_aiocb cb = aiocb(bytes, 8, 0);
    struct ovs_aiocb second = aiocb(bytes, 8, 0);
    ovs_completion_t *completion = ovs_aio_create_completion(signal_only, NULL);
    gate_close();
    CHECK(ovs_aio_readcb(ctx, &cb, completion) == 0);
    CHECK_FAILS(ovs_aio_readcb(ctx, &second, completion), EINVAL);
    CHECK_FAILS(ovs_aio_release_completion(completion), EBUSY);
    gate_open();
    CHECK(ovs_aio_wait_completion(completion, NULL) == 0);
    CHECK(ovs_aio_return_completion(completion) == 8);
    CHECK(ovs_aio_finish(ctx, &cb) == 0);
    CHECK(ovs_aio_release_completion(completion) == 0);
}

static void
failed_completion_has_the_real_errno(void)
{
    char bytes[8];
    struct ovs_aiocb cb = aiocb(bytes, 8, 0);
    ovs_completion_t *completion = ovs_aio_create_completion(signal_only, NULL);
    gate_fail_io(-ENOSPC);
    CHECK(ovs_aio_writecb(ctx, &cb, completion) == 0);
    CHECK(ovs_aio_wait_completion(completion, NULL) == 0);
    gate_fail_io(0);
    CHECK_FAILS(ovs_aio_return_completion(completion), ENOSPC);
    CHECK_FAILS(ovs_aio_return(ctx, &cb), ENOSPC);
    CHECK(ovs_aio_finish(ctx, &cb) == 0);
    CHECK(ovs_aio_release_completion(completion) == 0);
}

/* The documented order, and the one that was a use after free. */
static void
request_with_a_callback_may_be_suspended_on(void)
{
    for (int finish_first = 0; finish_first < 2; finish_first++) {
        char bytes[8];
        struct ovs_aiocb cb = aiocb(bytes, 8, 0);
        ovs_completion_t *completion = ovs_aio_create_completion(signal_only, NULL);
        CHECK(ovs_aio_readcb(ctx, &cb, completion) == 0);
        CHECK(ovs_aio_suspend(ctx, &cb, NULL) == 0);
        CHECK(ovs_aio_return(ctx, &cb) == 8);
        if (finish_first) {
            CHECK(ovs_aio_finish(ctx, &cb) == 0);
        }
        CHECK(ovs_aio_wait_completion(completion, NULL) == 0);
        CHECK(ovs_aio_return_completion(completion) == 8);
        CHECK(ovs_aio_release_completion(completion) == 0);
        if (!finish_first) {
            CHECK(ovs_aio_finish(ctx, &cb) == 0);
        }
    }
}

static void
callback_may_be_left_out(void)
{
    char bytes[8] = {0};
    struct ovs_aiocb cb = aiocb(bytes, 8, 0);
    CHECK(ovs_aio_writecb(ctx, &cb, NULL) == 0);
    CHECK(ovs_aio_suspend(ctx, &cb, NULL) == 0);
    CHECK(ovs_aio_return(ctx, &cb) == 8);
    CHECK(ovs_aio_finish(ctx, &cb) == 0);
}

static void
run_all(void)
{
    RUN(submission_errors);
    RUN(access_mode_is_checked_at_submission);
    RUN(life_of_a_request);
    RUN(error_alone_makes_progress);
    RUN(failed_request_has_its_own_errno);
    RUN(deadlines_are_points_of_realtime);
    RUN(several_threads_wait_for_one_request_and_for_others);
    RUN(more_requests_than_the_queue_is_deep);
    RUN(flush_covers_writes_that_were_queued_before_it);
    RUN(flush_without_completion_is_done_and_leaks_nothing);
    RUN(completion_errors);
    RUN(completion_belongs_to_one_operation_at_a_time);
    RUN(failed_completion_has_the_real_errno);
    RUN(request_with_a_callback_may_be_suspended_on);
    RUN(callback_may_be_left_out);
}

int
main(void)
{
    return run_with_each_pool(run_all);
}
