/* SPDX-License-Identifier: MIT */
/*
 * Goal: sessions share a volume by the rules: one writer, readers beside it, and everything is free
 * at once when a client goes, however it goes and whatever it had in flight.
 * Method: library clients, killed processes, and a store whose requests wait for the test.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "gate_store.h"
#include "server_test.h"

#define WRITE OVSSHM_MODE_WRITE
#define READ OVSSHM_MODE_READ

static struct ovsshm_conn *conn;

static void
start_memory(void)
{
    st_start_memory();
    conn = connect_ok();
    CHECK_EQ(ovsshm_create(conn, "vol", 4 * MIB), 0);
}

static void
start_gate(void)
{
    st_start(st_store(&gate_store, "", NULL), (struct ovsshm_server_params){.reactors = REACTORS});
    conn = connect_ok();
    CHECK_EQ(ovsshm_create(conn, "vol", 4 * MIB), 0);
}

static void
end(void)
{
    ovsshm_disconnect(conn);
    CHECK_EQ(st_end(10ull * SECOND), 0);
}

static int
open_status(uint32_t mode)
{
    struct ovsshm_open_params params = {.mode = mode, .arena_bytes = MIB};
    struct ovsshm_volume *volume = NULL;
    int rc = ovsshm_open(conn, "vol", &params, &volume);
    ovsshm_close(volume);
    return rc;
}

/* ---- sharing -----------------------------------------------------------------------------------
 */

static void
test_one_writer_and_many_readers(void)
{
    char pid[32];
    struct ovsshm_volume_info info;
    start_memory();
    struct ovsshm_volume *writer = open_ok(conn, "vol", WRITE, 1);
    struct ovsshm_volume *reader = open_ok(conn, "vol", READ, 1);
    struct ovsshm_volume *second = open_ok(conn, "vol", READ, 2);
    CHECK_EQ(open_status(WRITE), -EBUSY);
    snprintf(pid, sizeof(pid), "by pid %d (test_server_ses)", (int)getpid());
    CHECK_TEXT(ovsshm_reason(), "volume \"vol\" is open for writing");
    CHECK_TEXT(ovsshm_reason(), pid);
    CHECK_EQ(ovsshm_stat(conn, "vol", &info), 0);
    CHECK_EQ(info.writers, 1);
    CHECK_EQ(info.readers, 2);
    CHECK_EQ(ovsshm_list(conn, NULL, &info, 1), 1);
    CHECK_EQ(info.writers, 1);
    CHECK_EQ(info.readers, 2);
    char out[512];
    char in[512];
    memset(out, 'w', sizeof(out));
    CHECK_EQ(run(writer, OVSSHM_OP_WRITE, 0, out, sizeof(out)), sizeof(out));
    CHECK_EQ(run(reader, OVSSHM_OP_READ, 0, in, sizeof(in)), sizeof(in));
    CHECK(!memcmp(in, out, sizeof(in)));
    CHECK_EQ(ovsshm_remove(conn, "vol"), -EBUSY);
    ovsshm_close(writer);
    CHECK_EQ(ovsshm_remove(conn, "vol"), -EBUSY);
    CHECK_TEXT(ovsshm_reason(), "volume \"vol\" is open by pid");
    CHECK_EQ(open_status(WRITE), 0);
    ovsshm_close(reader);
    ovsshm_close(second);
    CHECK_EQ(ovsshm_remove(conn, "vol"), 0);
    end();
}

static void
test_writer_role_is_handed_over(void)
{
    start_memory();
    struct ovsshm_volume *a = open_ok(conn, "vol", WRITE, 1);
    struct ovsshm_volume *b = open_ok(conn, "vol", READ, 1);
    char data[512] = "x";
    CHECK_EQ(ovsshm_volume_set_mode(b, WRITE), -EBUSY);
    CHECK_EQ(ovsshm_volume_set_mode(a, WRITE), 0);
    CHECK_EQ(ovsshm_volume_set_mode(a, READ), 0);
    CHECK_EQ(ovsshm_volume_set_mode(b, WRITE), 0);
    CHECK_EQ(run(b, OVSSHM_OP_WRITE, 0, data, sizeof(data)), sizeof(data));
    CHECK_EQ(ovsshm_volume_set_mode(a, WRITE), -EBUSY);
    ovsshm_close(b);
    CHECK_EQ(ovsshm_volume_set_mode(a, WRITE), 0);
    CHECK_EQ(run(a, OVSSHM_OP_WRITE, 0, data, sizeof(data)), sizeof(data));
    ovsshm_close(a);
    end();
}

static void
test_store_that_cannot_write_is_read_only(void)
{
    st_start(st_store(&ovsshm_store_fault, "without=write", NULL),
             (struct ovsshm_server_params){0});
    conn = connect_ok();
    CHECK_EQ(ovsshm_create(conn, "vol", MIB), 0);
    CHECK_EQ(open_status(WRITE), -EROFS);
    CHECK_TEXT(ovsshm_reason(), "cannot write");
    struct ovsshm_volume *reader = open_ok(conn, "vol", READ, 1);
    CHECK_EQ(ovsshm_volume_set_mode(reader, WRITE), -EROFS);
    ovsshm_close(reader);
    end();
}

static void
test_resize_is_seen_by_all_sessions(void)
{
    struct ovsshm_msg_event event;
    start_memory();
    struct ovsshm_volume *a = open_ok(conn, "vol", WRITE, 1);
    struct ovsshm_volume *b = open_ok(conn, "vol", READ, 1);
    char data[512] = "x";
    CHECK_EQ(run(a, OVSSHM_OP_WRITE, 4 * MIB, data, sizeof(data)), -EFBIG);
    CHECK_EQ(ovsshm_resize(conn, "vol", 4 * MIB), 0);
    CHECK_EQ(ovsshm_volume_event(a, &event), 0);
    CHECK_EQ(ovsshm_resize(conn, "vol", 8 * MIB), 0);
    CHECK_EQ(ovsshm_volume_bytes(a), 8 * MIB);
    CHECK_EQ(ovsshm_volume_bytes(b), 8 * MIB);
    CHECK_EQ(run(a, OVSSHM_OP_WRITE, 4 * MIB, data, sizeof(data)), sizeof(data));
    CHECK_EQ(run(b, OVSSHM_OP_READ, 4 * MIB, data, sizeof(data)), sizeof(data));
    CHECK_EQ(ovsshm_status(conn, &(struct ovsshm_status){0}), 0); /* the events are out by now */
    CHECK_EQ(ovsshm_volume_event(a, &event), 1);
    CHECK_EQ(event.event, OVSSHM_EVENT_RESIZED);
    CHECK_EQ(event.value, 8 * MIB);
    CHECK_EQ(ovsshm_volume_event(b, &event), 1);
    CHECK_EQ(ovsshm_volume_resize(a, 9 * MIB), 0);
    CHECK_EQ(ovsshm_volume_bytes(b), 9 * MIB);
    ovsshm_close(a);
    ovsshm_close(b);
    end();
}

/* ---- clients that go ---------------------------------------------------------------------------
 */

/* A child that opens the volume for writing, says so, and works until it is killed. */
static pid_t
fork_writer(bool submit)
{
    int ready[2];
    char byte;
    CHECK_EQ(pipe(ready), 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        struct ovsshm_conn *own = connect_ok();
        struct ovsshm_volume *volume = open_ok(own, "vol", WRITE, 2);
        char *buffer = ovsshm_buffer_alloc(volume, 4096);
        struct ovsshm_io io = {.op = OVSSHM_OP_WRITE, .length_bytes = 4096, .buffer = buffer};
        struct ovsshm_queue *queue = ovsshm_volume_queue(volume, 0);
        struct ovsshm_completion done[64];
        if (submit) {
            for (int i = 0; i < 32; i++) {
                CHECK_EQ(ovsshm_queue_prep(queue, &io), 0);
            }
            CHECK_EQ(ovsshm_queue_submit(queue), 32);
        }
        CHECK_EQ(write(ready[1], "r", 1), 1);
        for (;;) {
            if (submit) {
                ovsshm_queue_wait(queue, done, 64, -1);
            } else if (ovsshm_queue_run(queue, &io) != 4096) {
                _exit(1);
            }
        }
    }
    CHECK_EQ(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    return pid;
}

static void
kill_now(pid_t pid)
{
    int status;
    CHECK_EQ(kill(pid, SIGKILL), 0);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status));
}

static void
test_killed_client_frees_its_volume_at_once(void)
{
    start_memory();
    unsigned fds = test_fd_count();
    for (int i = 0; i < 30; i++) {
        pid_t pid = fork_writer(false);
        CHECK_EQ(open_status(WRITE), -EBUSY);
        kill_now(pid);
        CHECK_EQ(open_status(WRITE), 0); /* no retry */
    }
    while (st_status().sessions) {
        sched_yield();
    }
    CHECK_EQ(test_fd_count(), fds);
    CHECK_EQ(ovsshm_remove(conn, "vol"), 0);
    end();
}

static void
test_closed_volume_is_free_at_once(void)
{
    start_memory();
    for (int i = 0; i < 200; i++) {
        struct ovsshm_volume *volume = open_ok(conn, "vol", WRITE, 4);
        char data[512] = "x";
        CHECK_EQ(run(volume, OVSSHM_OP_WRITE, 0, data, sizeof(data)), sizeof(data));
        ovsshm_close(volume);
    }
    CHECK_EQ(ovsshm_remove(conn, "vol"), 0);
    end();
}

static void *
release_later(void *arg)
{
    (void)arg;
    st_await_log("vol"); /* anything */
    gate_open();
    return NULL;
}

/* Its requests may still write: the next writer has to wait for them, and does. */
static void
test_client_killed_with_requests_in_the_store(void)
{
    start_gate();
    gate_close();
    pid_t pid = fork_writer(true);
    gate_await(32);
    kill_now(pid);
    pthread_t thread = test_thread(release_later, NULL);
    CHECK_EQ(open_status(WRITE), 0);
    test_join(thread);
    end();
}

static void
test_client_killed_with_requests_stuck_in_the_store(void)
{
    start_gate();
    gate_close();
    pid_t pid = fork_writer(true);
    gate_await(32);
    kill_now(pid);
    CHECK_EQ(open_status(WRITE), -EBUSY); /* after five seconds */
    CHECK_TEXT(ovsshm_reason(), "which is gone but has requests in the store");
    CHECK_EQ(open_status(READ), 0);
    CHECK_EQ(ovsshm_create(conn, "else", MIB), 0); /* nobody else waits */
    gate_open();
    CHECK_EQ(open_status(WRITE), 0);
    end();
}

/* ---- one volume stands still, others do not -----------------------------------------------------
 */

struct snapshot_call {
    pthread_t thread;
    int rc;
};

static void *
snapshot_main(void *arg)
{
    struct snapshot_call *call = arg;
    struct ovsshm_conn *own = connect_ok();
    ovsshm_store_release(&call->rc, ovsshm_snapshot_create(own, "vol", "snap", 0));
    ovsshm_disconnect(own);
    return NULL;
}

static void
test_snapshot_waits_for_requests_in_flight(void)
{
    struct snapshot_call call = {.rc = 1};
    struct ovsshm_snapshot_info info;
    struct ovsshm_completion done[8];
    start_gate();
    CHECK_EQ(ovsshm_create(conn, "free", MIB), 0);
    struct ovsshm_volume *volume = open_ok(conn, "vol", WRITE, 2);
    struct ovsshm_volume *free_volume = open_ok(conn, "free", WRITE, 1);
    char *buffer = ovsshm_buffer_alloc(volume, 4096);
    char data[512] = "x";
    struct ovsshm_io io = {.op = OVSSHM_OP_WRITE, .length_bytes = 4096, .buffer = buffer};
    gate_close();
    for (unsigned i = 0; i < 2; i++) {
        struct ovsshm_queue *queue = ovsshm_volume_queue(volume, i);
        CHECK_EQ(ovsshm_queue_prep(queue, &io), 0);
        CHECK_EQ(ovsshm_queue_submit(queue), 1);
    }
    gate_await(2);
    call.thread = test_thread(snapshot_main, &call);
    gate_release(1);
    st_await_log("connected as"); /* one of the two is still in flight */
    CHECK_EQ(ovsshm_load_acquire(&call.rc), 1);
    gate_open();
    test_join(call.thread);
    CHECK_EQ(call.rc, 0);
    for (unsigned i = 0; i < 2; i++) {
        CHECK_EQ(ovsshm_queue_wait(ovsshm_volume_queue(volume, i), done, 8, -1), 1);
    }
    CHECK_EQ(ovsshm_snapshot_list(conn, "vol", NULL, &info, 1), 1);
    CHECK_EQ(run(volume, OVSSHM_OP_WRITE, 0, data, sizeof(data)), sizeof(data));
    CHECK_EQ(run(free_volume, OVSSHM_OP_WRITE, 0, data, sizeof(data)), sizeof(data));
    ovsshm_close(volume);
    ovsshm_close(free_volume);
    end();
}

/* Snapshots under load: each is one moment of the volume. */
static void *
count_up(void *arg)
{
    struct ovsshm_volume *volume = arg;
    uint64_t *buffer = ovsshm_buffer_alloc(volume, 512);
    for (uint64_t i = 1; ovsshm_volume_state(volume) == 0 && i < 4000; i++) {
        *buffer = i;
        CHECK_EQ(run(volume, OVSSHM_OP_WRITE, 0, buffer, 512), 512);
        CHECK_EQ(run(volume, OVSSHM_OP_WRITE, 2 * MIB, buffer, 512), 512);
    }
    return NULL;
}

static void
test_snapshot_under_load_is_one_moment(void)
{
    uint64_t first[64];
    uint64_t second[64];
    char name[16];
    start_memory();
    struct ovsshm_volume *volume = open_ok(conn, "vol", WRITE, 1);
    pthread_t thread = test_thread(count_up, volume);
    for (int i = 0; i < 10; i++) {
        snprintf(name, sizeof(name), "s%d", i);
        CHECK_EQ(ovsshm_snapshot_create(conn, "vol", name, 0), 0);
    }
    test_join(thread);
    for (int i = 9; i >= 0; i--) {
        snprintf(name, sizeof(name), "s%d", i);
        CHECK_EQ(ovsshm_snapshot_rollback(conn, "vol", name), 0);
        CHECK_EQ(run(volume, OVSSHM_OP_READ, 0, first, 512), 512);
        CHECK_EQ(run(volume, OVSSHM_OP_READ, 2 * MIB, second, 512), 512);
        CHECK(first[0] == second[0] || first[0] == second[0] + 1);
    }
    ovsshm_close(volume);
    end();
}

static void
test_rollback_to_a_smaller_size_is_seen(void)
{
    struct ovsshm_msg_event event;
    char data[512] = "x";
    start_memory();
    struct ovsshm_volume *volume = open_ok(conn, "vol", WRITE, 1);
    CHECK_EQ(ovsshm_snapshot_create(conn, "vol", "s", 0), 0);
    CHECK_EQ(ovsshm_resize(conn, "vol", 8 * MIB), 0);
    CHECK_EQ(ovsshm_snapshot_rollback(conn, "vol", "s"), 0);
    CHECK_EQ(ovsshm_volume_bytes(volume), 4 * MIB);
    CHECK_EQ(run(volume, OVSSHM_OP_WRITE, 4 * MIB, data, sizeof(data)), -EFBIG);
    CHECK_EQ(ovsshm_status(conn, &(struct ovsshm_status){0}), 0);
    CHECK_EQ(ovsshm_volume_event(volume, &event), 1);
    CHECK_EQ(event.value, 8 * MIB);
    CHECK_EQ(ovsshm_volume_event(volume, &event), 1);
    CHECK_EQ(event.value, 4 * MIB);
    ovsshm_close(volume);
    end();
}

/* A slow management call holds up its own volume and connection only. */
static void *
slow_create(void *arg)
{
    (void)arg;
    struct ovsshm_conn *own = connect_ok();
    CHECK_EQ(ovsshm_create(own, "slow", MIB), 0);
    ovsshm_disconnect(own);
    return NULL;
}

static void
test_slow_management_call_holds_up_nobody_else(void)
{
    struct ovsshm_volume_info info;
    st_start(st_store(&ovsshm_store_fault, "delay-ms=300 delay-op=create", NULL),
             (struct ovsshm_server_params){0});
    conn = connect_ok();
    pthread_t thread = test_thread(slow_create, NULL);
    unsigned looks = 0;
    while (ovsshm_stat(conn, "fast", &info) == -ENOENT && ovsshm_list(conn, NULL, &info, 1) == 0) {
        looks++;
    }
    CHECK(looks > 0);
    test_join(thread);
    end();
}

/* ---- many
 * ---------------------------------------------------------------------------------------- */

static void *
churn(void *arg)
{
    struct ovsshm_conn *own = connect_ok();
    char name[32];
    char data[4096];
    snprintf(name, sizeof(name), "churn/%d", *(int *)arg);
    for (int i = 0; i < 25; i++) {
        CHECK_EQ(ovsshm_create(own, name, MIB), 0);
        struct ovsshm_volume *volume = open_ok(own, name, WRITE, 1 + (uint32_t)i % 3);
        memset(data, i, sizeof(data));
        CHECK_EQ(run(volume, OVSSHM_OP_WRITE, 8192, data, sizeof(data)), sizeof(data));
        CHECK_EQ(ovsshm_snapshot_create(own, name, "s", 0), 0);
        memset(data, 0, sizeof(data));
        CHECK_EQ(run(volume, OVSSHM_OP_WRITE, 8192, data, sizeof(data)), sizeof(data));
        CHECK_EQ(ovsshm_snapshot_rollback(own, name, "s"), 0);
        CHECK_EQ(run(volume, OVSSHM_OP_READ, 8192, data, sizeof(data)), sizeof(data));
        CHECK_EQ(data[4095], i);
        CHECK_EQ(ovsshm_volume_resize(volume, 2 * MIB), 0);
        ovsshm_close(volume);
        CHECK_EQ(ovsshm_remove(own, name), 0);
    }
    ovsshm_disconnect(own);
    return NULL;
}

static void
test_many_clients_at_once(void)
{
    pthread_t threads[8];
    int numbers[8];
    start_memory();
    for (int i = 0; i < 8; i++) {
        numbers[i] = i;
        threads[i] = test_thread(churn, &numbers[i]);
    }
    for (int i = 0; i < 8; i++) {
        test_join(threads[i]);
    }
    CHECK_EQ(st_status().violations, 0);
    end();
}

int
main(void)
{
    test_begin(240);
    RUN(test_one_writer_and_many_readers);
    RUN(test_writer_role_is_handed_over);
    RUN(test_store_that_cannot_write_is_read_only);
    RUN(test_resize_is_seen_by_all_sessions);
    RUN(test_killed_client_frees_its_volume_at_once);
    RUN(test_closed_volume_is_free_at_once);
    RUN(test_client_killed_with_requests_in_the_store);
    RUN(test_client_killed_with_requests_stuck_in_the_store);
    RUN(test_snapshot_waits_for_requests_in_flight);
    RUN(test_snapshot_under_load_is_one_moment);
    RUN(test_rollback_to_a_smaller_size_is_seen);
    RUN(test_slow_management_call_holds_up_nobody_else);
    RUN(test_many_clients_at_once);
    return 0;
}
