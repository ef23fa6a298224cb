/* SPDX-License-Identifier: MIT */
/*
 * The server is killed, as by the kernel, while calls of every kind wait for it: all end with
 * ENOTCONN, the context can be destroyed, and a new server can be used.
 */
#define _GNU_SOURCE
#include "legacy_test.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum {
    WAITING = 3
};

static ovs_ctx_t *ctx;
static int from_child[2];

static struct child {
    pid_t pid;
    int begin[2]; /* pipe: a byte lets it begin */
} first, second;

static void
tell_parent(void)
{
    CHECK(write(from_child[1], "x", 1) == 1);
}

static void
await_child(void)
{
    char byte;
    CHECK(read(from_child[0], &byte, 1) == 1);
}

/*
 * A server that begins when it is told to; it says when it serves, and when all requests have
 * arrived at its closed gate.  Made before this process has threads.
 */
static void
server_fork(struct child *child)
{
    CHECK(pipe(child->begin) == 0);
    child->pid = fork();
    CHECK(child->pid >= 0);
    if (child->pid == 0) {
        struct test_server server;
        char byte;
        CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
        CHECK(read(child->begin[0], &byte, 1) == 1);
        server_start(&server, &gate_store);
        volume_create("vol", 65536);
        gate_close();
        tell_parent();
        gate_await(WAITING);
        tell_parent();
        for (;;) {
            pause();
        }
    }
}

static void
server_begin(const struct child *child)
{
    CHECK(write(child->begin[1], "x", 1) == 1);
    await_child();
}

static void
kill_and_reap(const struct child *child)
{
    int status;
    CHECK(kill(child->pid, SIGKILL) == 0);
    CHECK(waitpid(child->pid, &status, 0) == child->pid && WIFSIGNALED(status));
}

static void *
read_synchronously(void *arg)
{
    char byte;
    (void)arg;
    CHECK_FAILS(ovs_read(ctx, &byte, 1, 0), ENOTCONN);
    return NULL;
}

static void
called_back(ovs_completion_t *completion, void *arg)
{
    (void)arg;
    CHECK_FAILS(ovs_aio_return_completion(completion), ENOTCONN);
    CHECK(ovs_aio_signal_completion(completion) == 0);
}

static void
killed_server_ends_every_wait(void)
{
    char bytes[2] = {0};
    struct ovs_aiocb plain = {bytes, 0, 1, NULL};
    struct ovs_aiocb with_callback = {bytes + 1, 1, 1, NULL};
    struct stat st;
    pthread_t reader;
    server_begin(&first);
    ctx = ctx_open("vol", O_RDWR);
    ovs_completion_t *completion = ovs_aio_create_completion(called_back, NULL);
    CHECK(pthread_create(&reader, NULL, read_synchronously, NULL) == 0);
    CHECK(ovs_aio_write(ctx, &plain) == 0);
    CHECK(ovs_aio_readcb(ctx, &with_callback, completion) == 0);
    await_child();
    kill_and_reap(&first);
    CHECK(ovs_aio_wait_completion(completion, NULL) == 0);
    CHECK(ovs_aio_suspend(ctx, &plain, NULL) == 0);
    CHECK_FAILS(ovs_aio_return(ctx, &plain), ENOTCONN);
    CHECK(pthread_join(reader, NULL) == 0);
    CHECK_FAILS(ovs_write(ctx, bytes, 1, 0), ENOTCONN);
    CHECK_FAILS(ovs_stat(ctx, &st), ENOTCONN);
    CHECK_FAILS(ovs_remove_volume(ctx, "vol"), ECONNREFUSED); /* its socket is still there */
    CHECK(ovs_aio_finish(ctx, &plain) == 0);
    CHECK(ovs_aio_finish(ctx, &with_callback) == 0);
    CHECK(ovs_aio_release_completion(completion) == 0);
}

static void
new_server_is_used_by_the_same_context(void)
{
    server_begin(&second);
    CHECK(ovs_truncate_volume(ctx, "vol", 131072) == 0);
    CHECK(ovs_ctx_init(ctx, "vol", O_RDWR) == 0);
    struct stat st;
    CHECK(ovs_stat(ctx, &st) == 0 && st.st_size == 131072);
    kill_and_reap(&second);
    CHECK(ovs_ctx_destroy(ctx) == 0); /* with nobody at the other end */
}

int
main(void)
{
    test_begin();
    CHECK(pipe(from_child) == 0);
    server_fork(&first);
    server_fork(&second);
    RUN(killed_server_ends_every_wait);
    RUN(new_server_is_used_by_the_same_context);
    test_end();
    return 0;
}
