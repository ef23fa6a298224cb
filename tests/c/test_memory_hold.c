/* SPDX-License-Identifier: MIT */
/*
 * Goal: shared memory that somebody holds stays mapped beyond the session, on both sides, and only
 * that: the session ends as usual, and the last release unmaps.
 * Method: the library client and a store whose requests the test holds; mincore() tells what is
 * mapped.
 */
#define _GNU_SOURCE
#include "server_test.h"

#include "gate_store.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define BUFFER_BYTES 8192

static struct ovsshm_conn *conn;

static bool
is_mapped(const void *address)
{
    unsigned char resident;
    void *page = (void *)((uintptr_t)address & ~(uintptr_t)(OVSSHM_PAGE_BYTES - 1));
    return mincore(page, OVSSHM_PAGE_BYTES, &resident) == 0;
}

static bool
all_are(const unsigned char *bytes, int value, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] != value) {
            return false;
        }
    }
    return true;
}

/* The server has released all sessions. */
static void
await_no_session(void)
{
    while (st_status().sessions) {
        sched_yield();
    }
}

/* ---- the client -------------------------------------------------------------------------------
 */

static void
test_held_buffer_survives_close_and_nothing_else_does(void)
{
    unsigned fds = test_fd_count();
    struct ovsshm_volume *v = open_ok(conn, "v", OVSSHM_MODE_WRITE, 1);
    unsigned char *buffer = ovsshm_buffer_alloc(v, BUFFER_BYTES);
    memset(buffer, 'w', BUFFER_BYTES);
    CHECK_EQ(run(v, OVSSHM_OP_WRITE, 0, buffer, BUFFER_BYTES), BUFFER_BYTES);
    struct ovsshm_memory *memory = ovsshm_volume_hold(v);
    CHECK(memory);
    CHECK(ovsshm_volume_hold(v) == memory);
    ovsshm_close(v);
    await_no_session();
    CHECK_EQ(test_fd_count(), fds);
    CHECK(all_are(buffer, 'w', BUFFER_BYTES));
    ovsshm_memory_release(memory);
    memset(buffer, 'x', BUFFER_BYTES);
    CHECK(all_are(buffer, 'x', BUFFER_BYTES));
    CHECK(is_mapped(buffer));
    ovsshm_memory_release(memory);
    CHECK(!is_mapped(buffer));
}

static void
test_memory_released_before_close_stays_the_volumes(void)
{
    struct ovsshm_volume *v = open_ok(conn, "v", OVSSHM_MODE_WRITE, 1);
    unsigned char *buffer = ovsshm_buffer_alloc(v, BUFFER_BYTES);
    ovsshm_memory_release(ovsshm_volume_hold(v));
    CHECK_EQ(run(v, OVSSHM_OP_READ, 0, buffer, BUFFER_BYTES), BUFFER_BYTES);
    CHECK(all_are(buffer, 'w', BUFFER_BYTES));
    ovsshm_close(v);
    CHECK(!is_mapped(buffer));
    ovsshm_memory_release(NULL);
}

/* The server goes first: the memory is still the client's. */
static void
test_held_buffer_survives_the_server(void)
{
    st_start_memory();
    struct ovsshm_conn *c = connect_ok();
    CHECK_EQ(ovsshm_create(c, "v", MIB), 0);
    struct ovsshm_volume *v = open_ok(c, "v", OVSSHM_MODE_READ, 1);
    unsigned char *buffer = ovsshm_buffer_alloc(v, BUFFER_BYTES);
    memset(buffer, 'k', BUFFER_BYTES);
    struct ovsshm_memory *memory = ovsshm_volume_hold(v);
    ovsshm_disconnect(c);
    CHECK_EQ(st_end(SECOND), 0);
    ovsshm_close(v);
    CHECK(all_are(buffer, 'k', BUFFER_BYTES));
    ovsshm_memory_release(memory);
    CHECK(!is_mapped(buffer));
}

/* A child has no mapping of ours; what it has there by then must survive its closing. */
static void
test_child_does_not_unmap_what_it_put_in_our_place(void)
{
    struct ovsshm_volume *v = open_ok(conn, "v", OVSSHM_MODE_WRITE, 1);
    void *buffer = ovsshm_buffer_alloc(v, BUFFER_BYTES);
    struct ovsshm_memory *memory = ovsshm_volume_hold(v);
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(30);
        void *own = mmap(buffer, BUFFER_BYTES, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (own != buffer) {
            _exit(2); /* the region is mapped in the child */
        }
        ovsshm_close(v);
        ovsshm_memory_release(memory);
        memset(own, 'c', BUFFER_BYTES); /* SIGSEGV if it is gone */
        _exit(0);
    }
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 0);
    CHECK_EQ(run(v, OVSSHM_OP_READ, 0, buffer, BUFFER_BYTES), BUFFER_BYTES); /* ours still works */
    ovsshm_close(v);
    ovsshm_memory_release(memory);
}

#define HOLDERS 4
#define HOLDS 2000

static void *
release_all(void *arg)
{
    for (unsigned i = 0; i < HOLDS; i++) {
        ovsshm_memory_release(arg);
    }
    return NULL;
}

static void *
hold_and_release(void *arg)
{
    for (unsigned i = 0; i < HOLDS; i++) {
        ovsshm_memory_release(ovsshm_volume_hold(arg));
    }
    return NULL;
}

static void
test_any_thread_may_hold_and_be_the_last_to_release(void)
{
    pthread_t threads[HOLDERS];
    struct ovsshm_volume *v = open_ok(conn, "v", OVSSHM_MODE_READ, 1);
    void *buffer = ovsshm_buffer_alloc(v, BUFFER_BYTES);
    struct ovsshm_memory *memory = NULL;
    for (unsigned i = 0; i < HOLDERS * HOLDS; i++) {
        memory = ovsshm_volume_hold(v);
    }
    for (unsigned i = 0; i < HOLDERS; i++) {
        threads[i] = test_thread(hold_and_release, v);
    }
    for (unsigned i = 0; i < HOLDERS; i++) {
        test_join(threads[i]);
    }
    for (unsigned i = 0; i < HOLDERS; i++) {
        threads[i] = test_thread(release_all, memory);
    }
    ovsshm_close(v);
    for (unsigned i = 0; i < HOLDERS; i++) {
        test_join(threads[i]);
    }
    CHECK(!is_mapped(buffer));
}

/* ---- the server -------------------------------------------------------------------------------
 */

/* Writes `value` and leaves the request with the store, held at the gate. */
static struct ovsshm_request *
start_write(struct ovsshm_volume *v, int value)
{
    unsigned char *buffer = ovsshm_buffer_alloc(v, BUFFER_BYTES);
    memset(buffer, value, BUFFER_BYTES);
    struct ovsshm_io io = {
        .op = OVSSHM_OP_WRITE, .length_bytes = BUFFER_BYTES, .buffer = buffer, .user_data = 1};
    CHECK_EQ(ovsshm_queue_prep(ovsshm_volume_queue(v, 0), &io), 0);
    CHECK_EQ(ovsshm_queue_submit(ovsshm_volume_queue(v, 0)), 1);
    gate_await(1);
    return gate.held[0];
}

static void
test_store_keeps_memory_beyond_completion_and_session(void)
{
    struct ovsshm_completion done;
    struct ovsshm_volume *v = open_ok(conn, "v", OVSSHM_MODE_WRITE, 1);
    gate_close();
    struct ovsshm_request *request = start_write(v, 's');
    const unsigned char *data = request->iov[0].iov_base;
    struct ovsshm_memory *memory = ovsshm_request_hold(request);
    gate_open();
    CHECK_EQ(ovsshm_queue_wait(ovsshm_volume_queue(v, 0), &done, 1, -1), 1);
    CHECK_EQ(done.result, BUFFER_BYTES);
    ovsshm_close(v);
    await_no_session();
    CHECK(all_are(data, 's', BUFFER_BYTES));
    ovsshm_memory_release(memory);
    CHECK(!is_mapped(data));
}

/* The client goes while the store has its request; later the server goes too. */
static void
test_store_keeps_memory_of_a_client_that_is_gone(void)
{
    struct ovsshm_volume *v = open_ok(conn, "v", OVSSHM_MODE_WRITE, 1);
    gate_close();
    struct ovsshm_request *request = start_write(v, 'g');
    const unsigned char *data = request->iov[0].iov_base;
    struct ovsshm_memory *memory = ovsshm_request_hold(request);
    ovsshm_close(v);
    ovsshm_disconnect(conn);
    CHECK(all_are(data, 'g', BUFFER_BYTES));
    CHECK_EQ(st_end(0), -ETIMEDOUT); /* the request was dropped */
    CHECK(all_are(data, 'g', BUFFER_BYTES));
    ovsshm_memory_release(memory);
    CHECK(!is_mapped(data));
}

int
main(void)
{
    struct ovsshm_store *store;
    test_begin(120);
    RUN(test_held_buffer_survives_the_server);
    CHECK_EQ(gate_create(NULL, &store, NULL), 0);
    st_start(store, (struct ovsshm_server_params){.reactors = 1});
    conn = connect_ok();
    CHECK_EQ(ovsshm_create(conn, "v", MIB), 0);
    RUN(test_held_buffer_survives_close_and_nothing_else_does);
    RUN(test_memory_released_before_close_stays_the_volumes);
    RUN(test_child_does_not_unmap_what_it_put_in_our_place);
    RUN(test_any_thread_may_hold_and_be_the_last_to_release);
    RUN(test_store_keeps_memory_beyond_completion_and_session);
    RUN(test_store_keeps_memory_of_a_client_that_is_gone);
    return 0;
}
