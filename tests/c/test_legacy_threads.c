/* SPDX-License-Identifier: MIT */
/*
 * Which thread does what: leaders that leave, callbacks and the context they close, signals, fork.
 * The gate store decides when a request completes.
 */
#define _GNU_SOURCE
#include "legacy_test.h"

#include <signal.h>
#include <sys/wait.h>

static struct test_server server;

static void
signal_only(ovs_completion_t *completion, void *arg)
{
    (void)arg;
    CHECK(ovs_aio_signal_completion(completion) == 0);
}

static void
release_only(ovs_completion_t *completion, void *arg)
{
    (void)arg;
    CHECK(ovs_aio_release_completion(completion) == 0);
}

/* ---- who takes completions ------------------------------------------------------------------- */

static void *
read_one_byte(void *arg)
{
    char byte;
    CHECK(ovs_read(arg, &byte, 1, 0) == 1);
    return NULL;
}

/* Nobody waits for the flush, and who took completions when it was accepted has its own by then. */
static void
requests_go_on_when_the_leader_leaves(void)
{
    char bytes[8] = {0};
    struct ovs_aiocb write = {.aio_buf = bytes, .aio_nbytes = 8};
    pthread_t leader;
    ovs_ctx_t *ctx = ctx_open("vol", O_RDWR);
    gate_close();
    CHECK(pthread_create(&leader, NULL, read_one_byte, ctx) == 0);
    gate_await(1);
    CHECK(ovs_aio_write(ctx, &write) == 0);
    gate_await(2);
    CHECK(ovs_aio_flushcb(ctx, NULL) == 0); /* not submitted: it waits for the write */
    gate_release(1);
    CHECK(pthread_join(leader, NULL) == 0);
    gate_release(1);
    gate_await(1);
    gate_open();
    CHECK(ovs_aio_suspend(ctx, &write, NULL) == 0);
    CHECK(ovs_aio_finish(ctx, &write) == 0);
    CHECK(ovs_ctx_destroy(ctx) == 0);
}

static void
deadlines_far_in_the_past_and_the_future_are_deadlines(void)
{
    char bytes[8] = {0};
    struct ovs_aiocb read = {.aio_buf = bytes, .aio_nbytes = 8};
    struct timespec past = {.tv_sec = INT64_MIN};
    struct timespec future = {.tv_sec = INT64_MAX, .tv_nsec = 999999999};
    ovs_ctx_t *ctx = ctx_open("vol", O_RDWR);
    gate_close();
    CHECK(ovs_aio_read(ctx, &read) == 0);
    CHECK_FAILS(ovs_aio_suspend(ctx, &read, &past), EAGAIN);
    gate_await(1);
    gate_open();
    CHECK(ovs_aio_suspend(ctx, &read, &future) == 0);
    CHECK(ovs_aio_finish(ctx, &read) == 0);
    CHECK(ovs_ctx_destroy(ctx) == 0);
}

/* ---- callbacks ------------------------------------------------------------------------------- */

static void
check_signals(ovs_completion_t *completion, void *arg)
{
    sigset_t blocked;
    CHECK(pthread_sigmask(SIG_BLOCK, NULL, &blocked) == 0);
    CHECK(sigismember(&blocked, SIGTERM) == 1 && sigismember(&blocked, SIGALRM) == 1);
    CHECK(sigismember(&blocked, SIGSEGV) == 0 && sigismember(&blocked, SIGFPE) == 0);
    signal_only(completion, arg);
}

/* A handler that the program has for its own faults must see those of its callbacks. */
static void
callback_takes_no_signals_but_those_of_its_faults(void)
{
    ovs_ctx_t *ctx = ctx_open("vol", O_RDWR);
    ovs_completion_t *completion = ovs_aio_create_completion(check_signals, NULL);
    CHECK(ovs_aio_flushcb(ctx, completion) == 0);
    CHECK(ovs_aio_wait_completion(completion, NULL) == 0);
    CHECK(ovs_ctx_destroy(ctx) == 0);
    CHECK(ovs_aio_release_completion(completion) == 0);
}

struct closing {
    ovs_ctx_t *closed; /* in a callback of its own */
    ovs_ctx_t *other;
    ovs_completion_t *over;
};

static _Thread_local bool is_destroying;

static void
must_not_run_inside_destroy(ovs_completion_t *completion, void *arg)
{
    CHECK(!is_destroying);
    signal_only(completion, arg);
}

static void
destroy_while_others_are_due(ovs_completion_t *completion, void *arg)
{
    struct closing *closing = arg;
    char bytes[8] = {0};
    struct ovs_aiocb read = {.aio_buf = bytes, .aio_nbytes = 8};
    CHECK(ovs_aio_readcb(closing->other, &read, closing->over) == 0);
    CHECK(ovs_aio_suspend(closing->other, &read, NULL) == 0);
    CHECK(ovs_read(closing->other, bytes, 8, 0) == 8); /* by now the callback is due for sure */
    CHECK(ovs_aio_finish(closing->other, &read) == 0);
    ovs_completion_t *own = ovs_aio_create_completion(release_only, NULL);
    CHECK(ovs_aio_flushcb(closing->closed, own) == 0);
    is_destroying = true;
    CHECK(ovs_ctx_destroy(closing->closed) == 0);
    is_destroying = false;
    signal_only(completion, NULL);
}

/* The caller may hold a lock that the callbacks of another context take. */
static void
destroy_inside_a_callback_runs_no_callback_of_another_context(void)
{
    volume_create("other", 4096);
    struct closing closing = {
        .closed = ctx_open("vol", O_RDWR),
        .other = ctx_open("other", O_RDWR),
        .over = ovs_aio_create_completion(must_not_run_inside_destroy, NULL),
    };
    ovs_completion_t *first = ovs_aio_create_completion(destroy_while_others_are_due, &closing);
    CHECK(ovs_aio_flushcb(closing.closed, first) == 0);
    CHECK(ovs_aio_wait_completion(first, NULL) == 0);
    CHECK(ovs_aio_wait_completion(closing.over, NULL) == 0);
    CHECK(ovs_ctx_destroy(closing.other) == 0);
    CHECK(ovs_aio_release_completion(closing.over) == 0);
    CHECK(ovs_aio_release_completion(first) == 0);
    volume_remove("other");
}

/* ---- fork ------------------------------------------------------------------------------------ */

#if !defined(__SANITIZE_THREAD__) /* which allows no thread in such a child */
static void
use_a_context(void)
{
    struct timespec deadline = realtime_in(TIME_LIMIT_S);
    ovs_ctx_t *ctx = ctx_open("vol", O_RDWR);
    ovs_completion_t *completion = ovs_aio_create_completion(signal_only, NULL);
    CHECK(ovs_aio_flushcb(ctx, completion) == 0);
    CHECK(ovs_aio_wait_completion(completion, &deadline) == 0);
    CHECK(ovs_ctx_destroy(ctx) == 0);
    CHECK(ovs_aio_release_completion(completion) == 0);
}

static void
child_after_fork_has_callbacks_of_its_own(void)
{
    int status;
    use_a_context(); /* starts a thread that the child does not have */
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(TIME_LIMIT_S / 4);
        use_a_context();
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}
#endif

/* One thread for callbacks: it must not be waited for by what only it can do. */
int
main(void)
{
    CHECK(setenv("LIBOVSVOLUMEDRIVER_AIO_COMP_POOL_SIZE", "1", 1) == 0);
    test_begin();
    server_start(&server, &gate_store);
    volume_create("vol", 4096);
    RUN(requests_go_on_when_the_leader_leaves);
    RUN(deadlines_far_in_the_past_and_the_future_are_deadlines);
    RUN(callback_takes_no_signals_but_those_of_its_faults);
    RUN(destroy_inside_a_callback_runs_no_callback_of_another_context);
#if !defined(__SANITIZE_THREAD__)
    RUN(child_after_fork_has_callbacks_of_its_own);
#endif
    server_stop(&server);
    test_end();
    return 0;
}
