/* SPDX-License-Identifier: MIT */
/*
 * For tests of asynchronous I/O: a context on a volume of the gate store, in a process for each
 * number of threads that run callbacks.
 */
#ifndef LEGACY_AIO_TEST_H
#define LEGACY_AIO_TEST_H

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
signal_only(ovs_completion_t *completion, void *arg)
{
    (void)arg;
    CHECK(ovs_aio_signal_completion(completion) == 0);
}

static void
run_in_process(void (*tests)(void))
{
    test_begin();
    server_start(&server, &gate_store);
    volume_create("vol", VOLUME_BYTES);
    ctx = ctx_open("vol", O_RDWR);
    tests();
    CHECK(ovs_ctx_destroy(ctx) == 0);
    server_stop(&server);
    test_end();
}

/* A process of its own for each number of threads that run callbacks. */
static int
run_with_each_pool(void (*tests)(void))
{
    static const char *const pool_sizes[] = {"1", "4"};
    for (size_t i = 0; i < sizeof(pool_sizes) / sizeof(pool_sizes[0]); i++) {
        printf("callback threads: %s\n", pool_sizes[i]);
        fflush(stdout);
        CHECK(setenv("LIBOVSVOLUMEDRIVER_AIO_COMP_POOL_SIZE", pool_sizes[i], 1) == 0);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            run_in_process(tests);
            exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(status == 0);
    }
    return 0;
}

#endif
