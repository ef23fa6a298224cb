/* SPDX-License-Identifier: MIT */
/*
 * Asynchronous I/O and completions: function by function, with every errno and its sign.  The gate
 * store decides when a request completes, so that "not yet" and "in this order" are facts.
 */
#define _GNU_SOURCE
#include "legacy_test.h"

#include <sys/wait.h>

#define VOLUME_BYTES (4u << 20)

static struct test_server server;
static ovs_ctx_t *ctx;

static struct ovs_aiocb
aiocb(void *bytes, size_t count, off_t offset)
{
    return (struct ovs_aiocb){.aio_buf = bytes, .aio_nbytes = count, .aio_offset = offset};
}

static void
nothing(ovs_completion_t *completion, void *arg)
{
    (void)completion;
    (void)arg;
}

static void
signal_only(ovs_completion_t *completion, void *arg)
{
    (void)arg;
    CHECK(ovs_aio_signal_completion(completion) == 0);
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

/* ---- chains: everything is released and the next one submitted inside of the callback ----------
 */

enum {
    CHAINS = 64,
    LINKS = 30
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t over;
    unsigned left;
} chains = {.lock = PTHREAD_MUTEX_INITIALIZER, .over = PTHREAD_COND_INITIALIZER};

struct link {
    struct ovs_aiocb cb;
    ovs_buffer_t *buffer;
    unsigned chain;
    unsigned left;
};

static void chain_link(unsigned chain, unsigned left);

static void
link_done(ovs_completion_t *completion, void *arg)
{
    struct link *link = arg;
    unsigned chain = link->chain;
    unsigned left = link->left;
    CHECK(ovs_aio_return(ctx, &link->cb) == 5000);
    CHECK(ovs_aio_return_completion(completion) == 5000);
    CHECK(ovs_aio_finish(ctx, &link->cb) == 0);
    CHECK(ovs_deallocate(ctx, link->buffer) == 0);
    CHECK(ovs_aio_release_completion(completion) == 0);
    free(link);
    if (left > 0) {
        chain_link(chain, left - 1);
        return;
    }
    pthread_mutex_lock(&chains.lock);
    chains.left--;
    pthread_cond_signal(&chains.over);
    pthread_mutex_unlock(&chains.lock);
}

static void
chain_link(unsigned chain, unsigned left)
{
    struct link *link = calloc(1, sizeof(*link));
    CHECK(link);
    *link = (struct link){.buffer = ovs_allocate(ctx, 5000), .chain = chain, .left = left};
    CHECK(link->buffer);
    link->cb = aiocb(ovs_buffer_data(link->buffer), 5000, 5000 * (off_t)chain);
    memset(link->cb.aio_buf, (int)chain, 5000);
    ovs_completion_t *completion = ovs_aio_create_completion(link_done, link);
    CHECK(completion);
    CHECK((left % 2 ? ovs_aio_readcb : ovs_aio_writecb)(ctx, &link->cb, completion) == 0);
}

static void
everything_is_released_inside_the_callback(void)
{
    chains.left = CHAINS;
    for (unsigned i = 0; i < CHAINS; i++) {
        chain_link(i, LINKS);
    }
    unsigned char byte;
    CHECK(ovs_read(ctx, &byte, 1, 0) == 1); /* a synchronous call among them */
    pthread_mutex_lock(&chains.lock);
    while (chains.left > 0) {
        pthread_cond_wait(&chains.over, &chains.lock);
    }
    pthread_mutex_unlock(&chains.lock);
}

static void
synchronous_calls_inside_the_callback(ovs_completion_t *completion, void *arg)
{
    char byte = 'c';
    CHECK(ovs_write(ctx, &byte, 1, 77) == 1);
    CHECK(ovs_read(ctx, &byte, 1, 77) == 1 && byte == 'c');
    CHECK(ovs_flush(ctx) == 0);
    (void)arg;
    CHECK(ovs_aio_signal_completion(completion) == 0);
}

static void
callback_may_use_the_synchronous_calls(void)
{
    ovs_completion_t *completions[8]; /* twice as many as there are threads for them */
    for (int i = 0; i < 8; i++) {
        completions[i] = ovs_aio_create_completion(synchronous_calls_inside_the_callback, NULL);
        CHECK(ovs_aio_flushcb(ctx, completions[i]) == 0);
    }
    for (int i = 0; i < 8; i++) {
        CHECK(ovs_aio_wait_completion(completions[i], NULL) == 0);
        CHECK(ovs_aio_release_completion(completions[i]) == 0);
    }
}

/* ---- all kinds of callers at once: leaders, followers and the reaper take turns
 * ------------------ */

enum {
    CALLERS = 6,
    CALLS = 300
};

static void
call_synchronously(size_t index, int i)
{
    unsigned char bytes[600];
    off_t offset = (off_t)(1000000 + index * 1000);
    pattern_fill(bytes, sizeof(bytes), (uint64_t)i);
    CHECK(ovs_write(ctx, bytes, sizeof(bytes), offset) == sizeof(bytes));
    CHECK(i % 16 || ovs_flush(ctx) == 0);
    CHECK(ovs_read(ctx, bytes, sizeof(bytes), offset) == sizeof(bytes));
    CHECK(pattern_holds(bytes, sizeof(bytes), (uint64_t)i));
}

/* Waits that time out right away, and a poll of the error, before the wait that counts. */
static void
call_asynchronously(size_t index, int i)
{
    unsigned char bytes[600];
    struct timespec now = realtime_in(0);
    struct ovs_aiocb cb = aiocb(bytes, sizeof(bytes), (off_t)(2000000 + index * 1000));
    CHECK((i % 2 ? ovs_aio_read : ovs_aio_write)(ctx, &cb) == 0);
    CHECK(ovs_aio_suspend(ctx, &cb, &now) == 0 || errno == EAGAIN);
    int error = ovs_aio_error(ctx, &cb);
    CHECK(error == 0 || error == EINPROGRESS);
    CHECK(ovs_aio_suspend(ctx, &cb, NULL) == 0);
    CHECK(ovs_aio_return(ctx, &cb) == sizeof(bytes));
    CHECK(ovs_aio_finish(ctx, &cb) == 0);
}

static void
call_back(size_t index, int i)
{
    unsigned char bytes[600];
    struct ovs_aiocb cb = aiocb(bytes, sizeof(bytes), (off_t)(3000000 + index * 1000));
    ovs_completion_t *completion = ovs_aio_create_completion(signal_only, NULL);
    CHECK(ovs_aio_readcb(ctx, &cb, completion) == 0);
    CHECK(i % 2 || ovs_aio_suspend(ctx, &cb, NULL) == 0);
    CHECK(ovs_aio_wait_completion(completion, NULL) == 0);
    CHECK(ovs_aio_return_completion(completion) == sizeof(bytes));
    CHECK(ovs_aio_finish(ctx, &cb) == 0);
    CHECK(ovs_aio_release_completion(completion) == 0);
}

static void *
call_in_one_way(void *arg)
{
    static void (*const ways[])(size_t, int) = {call_synchronously, call_asynchronously, call_back};
    size_t index = (size_t)arg;
    for (int i = 0; i < CALLS; i++) {
        ways[index % 3](index, i);
    }
    return NULL;
}

static void
callers_of_all_kinds_at_once(void)
{
    pthread_t threads[CALLERS];
    for (size_t i = 0; i < CALLERS; i++) {
        CHECK(pthread_create(&threads[i], NULL, call_in_one_way, (void *)i) == 0);
    }
    for (size_t i = 0; i < CALLERS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
}

/* ---- destroy -----------------------------------------------------------------------------------
 */

static void *
open_the_gate_when_four_wait(void *arg)
{
    (void)arg;
    gate_await(4);
    gate_open();
    return NULL;
}

static void
count_up(ovs_completion_t *completion, void *arg)
{
    CHECK(ovs_aio_return_completion(completion) == 8);
    CHECK(ovs_aio_release_completion(completion) == 0);
    __atomic_add_fetch((unsigned *)arg, 1, __ATOMIC_SEQ_CST);
}

static void
destroy_waits_for_requests_and_callbacks(void)
{
    char bytes[8] = {0};
    struct ovs_aiocb cbs[4];
    unsigned count = 0;
    pthread_t opener;
    volume_create("drain", 4096);
    ovs_ctx_t *other = ctx_open("drain", O_RDWR);
    gate_close();
    for (int i = 0; i < 4; i++) {
        cbs[i] = aiocb(bytes, 8, 8 * i);
        CHECK(ovs_aio_writecb(other, &cbs[i], ovs_aio_create_completion(count_up, &count)) == 0);
    }
    CHECK(pthread_create(&opener, NULL, open_the_gate_when_four_wait, NULL) == 0);
    CHECK(ovs_ctx_destroy(other) == 0);
    CHECK(__atomic_load_n(&count, __ATOMIC_SEQ_CST) == 4);
    CHECK(pthread_join(opener, NULL) == 0);
    for (int i = 0; i < 4; i++) {
        CHECK(ovs_aio_finish(ctx, &cbs[i]) == 0);
    }
    volume_remove("drain");
}

static void
destroy_waits_for_plain_requests(void)
{
    char bytes[8] = {0};
    struct ovs_aiocb cbs[4];
    pthread_t opener;
    volume_create("drain", 4096);
    ovs_ctx_t *other = ctx_open("drain", O_RDWR);
    gate_close();
    for (int i = 0; i < 4; i++) {
        cbs[i] = aiocb(bytes, 8, 8 * i);
        CHECK(ovs_aio_write(other, &cbs[i]) == 0);
    }
    CHECK(pthread_create(&opener, NULL, open_the_gate_when_four_wait, NULL) == 0);
    CHECK(ovs_ctx_destroy(other) == 0);
    CHECK(pthread_join(opener, NULL) == 0);
    for (int i = 0; i < 4; i++) {
        CHECK(ovs_aio_return(ctx, &cbs[i]) == 8);
        CHECK(ovs_aio_finish(ctx, &cbs[i]) == 0);
    }
    volume_remove("drain");
}

struct farewell {
    ovs_ctx_t *ctx;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned callbacks;
    bool over;
};

/* The last callback to begin destroys the context; the others are queued behind it or beside it. */
static void
destroy_in_callback(ovs_completion_t *completion, void *arg)
{
    struct farewell *farewell = arg;
    CHECK(ovs_aio_release_completion(completion) == 0);
    pthread_mutex_lock(&farewell->lock);
    bool first = farewell->callbacks++ == 0;
    pthread_mutex_unlock(&farewell->lock);
    if (!first) {
        return;
    }
    CHECK(ovs_ctx_destroy(farewell->ctx) == 0);
    pthread_mutex_lock(&farewell->lock);
    farewell->over = true;
    pthread_cond_signal(&farewell->changed);
    pthread_mutex_unlock(&farewell->lock);
}

static void
context_may_be_destroyed_inside_its_callback(void)
{
    struct farewell farewell = {.lock = PTHREAD_MUTEX_INITIALIZER,
                                .changed = PTHREAD_COND_INITIALIZER};
    volume_create("bye", 4096);
    farewell.ctx = ctx_open("bye", O_RDWR);
    gate_close();
    for (int i = 0; i < 12; i++) {
        ovs_completion_t *completion = ovs_aio_create_completion(destroy_in_callback, &farewell);
        CHECK(ovs_aio_flushcb(farewell.ctx, completion) == 0);
    }
    gate_await(12);
    gate_open();
    pthread_mutex_lock(&farewell.lock);
    while (!farewell.over) {
        pthread_cond_wait(&farewell.changed, &farewell.lock);
    }
    CHECK(farewell.callbacks == 12);
    pthread_mutex_unlock(&farewell.lock);
    volume_remove("bye"); /* it is closed */
}

/* ---- the server dies ----------------------------------------------------------------------------
 */

static void
expect_enotconn(ovs_completion_t *completion, void *arg)
{
    (void)arg;
    CHECK_FAILS(ovs_aio_return_completion(completion), ENOTCONN);
    CHECK(ovs_aio_signal_completion(completion) == 0);
}

static void *
read_until_the_server_is_gone(void *arg)
{
    char byte;
    CHECK_FAILS(ovs_read(arg, &byte, 1, 0), ENOTCONN);
    return NULL;
}

static void *
server_stop_main(void *arg)
{
    (void)arg;
    (void)ovsshm_server_stop(server.server, 1); /* requests in flight are dropped */
    return NULL;
}

static void
server_death_ends_every_wait(void)
{
    char bytes[8] = {0};
    struct ovs_aiocb plain = aiocb(bytes, 8, 0);
    struct ovs_aiocb with_callback = aiocb(bytes, 8, 0);
    pthread_t reader, stopper;
    ovs_completion_t *completion = ovs_aio_create_completion(expect_enotconn, NULL);
    ovs_completion_t *flush = ovs_aio_create_completion(expect_enotconn, NULL);
    gate_close();
    CHECK(ovs_aio_write(ctx, &plain) == 0);
    CHECK(ovs_aio_readcb(ctx, &with_callback, completion) == 0);
    CHECK(ovs_aio_flushcb(ctx, flush) == 0); /* not even submitted: it waits for the write */
    CHECK(pthread_create(&reader, NULL, read_until_the_server_is_gone, ctx) == 0);
    gate_await(2);
    CHECK(pthread_create(&stopper, NULL, server_stop_main, NULL) == 0);
    CHECK(ovs_aio_suspend(ctx, &plain, NULL) == 0);
    CHECK(ovs_aio_error(ctx, &plain) == ENOTCONN);
    CHECK_FAILS(ovs_aio_return(ctx, &plain), ENOTCONN);
    CHECK(ovs_aio_wait_completion(completion, NULL) == 0);
    CHECK(ovs_aio_wait_completion(flush, NULL) == 0);
    CHECK(pthread_join(reader, NULL) == 0);
    CHECK(ovs_aio_finish(ctx, &plain) == 0);
    CHECK(ovs_aio_finish(ctx, &with_callback) == 0);
    CHECK(ovs_aio_release_completion(completion) == 0);
    CHECK(ovs_aio_release_completion(flush) == 0);
    gate_open();
    CHECK(pthread_join(stopper, NULL) == 0);
}

static void
run_all(void)
{
    test_begin();
    server_start(&server, &gate_store);
    volume_create("vol", VOLUME_BYTES);
    ctx = ctx_open("vol", O_RDWR);
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
    RUN(everything_is_released_inside_the_callback);
    RUN(callback_may_use_the_synchronous_calls);
    RUN(callers_of_all_kinds_at_once);
    RUN(destroy_waits_for_requests_and_callbacks);
    RUN(destroy_waits_for_plain_requests);
    RUN(context_may_be_destroyed_inside_its_callback);
    RUN(server_death_ends_every_wait);
    CHECK(ovs_ctx_destroy(ctx) == 0);
    server_stop(&server);
    test_end();
}

/* A process of its own for each number of threads that run callbacks. */
int
main(void)
{
    static const char *const pool_sizes[] = {"1", "4"};
    for (size_t i = 0; i < sizeof(pool_sizes) / sizeof(pool_sizes[0]); i++) {
        printf("callback threads: %s\n", pool_sizes[i]);
        fflush(stdout);
        CHECK(setenv("LIBOVSVOLUMEDRIVER_AIO_COMP_POOL_SIZE", pool_sizes[i], 1) == 0);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            run_all();
            exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(status == 0);
    }
    return 0;
}
