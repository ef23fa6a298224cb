/* SPDX-License-Identifier: MIT */
/*
 * Asynchronous I/O of many callers at once, inside of callbacks and at the end: of the context, of
 * the server.
 */
#define _GNU_SOURCE
#include "legacy_aio_test.h"

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
    RUN(everything_is_released_inside_the_callback);
    RUN(callback_may_use_the_synchronous_calls);
    RUN(callers_of_all_kinds_at_once);
    RUN(destroy_waits_for_requests_and_callbacks);
    RUN(destroy_waits_for_plain_requests);
    RUN(context_may_be_destroyed_inside_its_callback);
    RUN(server_death_ends_every_wait);
}

int
main(void)
{
    return run_with_each_pool(run_all);
}
