/* SPDX-License-Identifier: MIT */
/*
 * The server ends, and there are users inside of its process: with volumes open, in the middle of
 * I/O, of a pause and of calls.
 */
#define _GNU_SOURCE
#include "local_gate.h"

static void
check_over(struct local *local)
{
    struct ovsshm_volume_info info;
    CHECK_EQ(srv_local_set_mode(local, READ, &why), -ESHUTDOWN);
    CHECK_TEXT(why.reason, "the server is stopping");
    CHECK_EQ(local_status("vol", READ), -ESHUTDOWN);
    CHECK_EQ(srv_local_stat(st.server, "vol", &info), -ESHUTDOWN);
    CHECK_EQ(srv_local_list(st.server, NULL, &info, 1), -ESHUTDOWN);
    CHECK(!srv_local_group(st.server));
}

static void
test_server_ends_with_a_volume_open(void)
{
    char byte = 0;
    start_memory();
    struct local *local = local_ok("vol", WRITE);
    struct local_group *group = srv_local_group(st.server);
    struct iovec iov = {&byte, 1};
    struct local_io io = {.op = OVSSHM_OP_READ, .length_bytes = 1, .iov = &iov, .iov_count = 1};
    CHECK_EQ(srv_local_io(local, group, &io), 1);
    ovsshm_disconnect(conn);
    CHECK_EQ(ovsshm_server_stop(st.server, SECOND), 0);
    check_over(local);
    CHECK_EQ(srv_local_io(local, group, &io), -ESHUTDOWN);
    srv_local_leaving(local, true);
    CHECK_EQ(st_end(0), 0);
    CHECK_EQ(srv_local_io(local, group, &io), -ESHUTDOWN); /* the server is no more */
    CHECK_EQ(srv_local_size(local), 4 * MIB);
    srv_local_close(local);
}

static uint32_t reactor_ends;
static uint32_t reactor_may_end;

static void
late_group_destroy(void *group)
{
    ovsshm_store_release(&reactor_ends, 1);
    while (!ovsshm_load_acquire(&reactor_may_end)) {
        sched_yield();
    }
    gate_group_destroy(group);
}

static void *
stop_main(void *arg)
{
    (void)arg;
    CHECK_EQ(ovsshm_server_stop(st.server, 0), 0);
    return NULL;
}

/* What pauses a volume waits for reactors, so none of it may begin when they end. */
static void
test_no_call_meets_reactors_that_end(void)
{
    struct ovsshm_store_type late = gate_store;
    late.group_destroy = late_group_destroy;
    start_gate_as(&late);
    struct local *local = local_ok("vol", WRITE);
    ovsshm_disconnect(conn);
    pthread_t thread = test_thread(stop_main, NULL);
    while (!ovsshm_load_acquire(&reactor_ends)) {
        sched_yield();
    }
    CHECK_EQ(srv_local_set_mode(local, READ, NULL), -ESHUTDOWN);
    ovsshm_store_release(&reactor_may_end, 1);
    test_join(thread);
    check_over(local);
    srv_local_close(local);
    CHECK_EQ(st_end(0), 0);
}

static void
test_server_waits_for_io_and_then_drops_it(void)
{
    struct writing held;
    struct writing blocked;
    struct snapshotting call = {.rc = 1};
    start_gate();
    struct local *local = local_ok("vol", WRITE);
    gate_close();
    writing_begin(&held, local, 'h');
    gate_await(1);
    call.thread = test_thread(snapshot_main, &call);
    while (!ovsshm_load_acquire(&local->session.volume->held)) {
        sched_yield();
    }
    writing_begin(&blocked, local, 'b');
    await_blocked(&blocked);
    ovsshm_disconnect(conn);
    CHECK_EQ(st_end(SECOND / 100), -ETIMEDOUT);
    test_join(held.thread);
    test_join(blocked.thread);
    test_join(call.thread);
    CHECK_EQ(held.result, -ESHUTDOWN);
    CHECK_EQ(blocked.result, -ESHUTDOWN);
    CHECK(call.rc < 0);
    srv_local_close(local);
}

static void *
release_later(void *arg)
{
    (void)arg;
    st_await_log("stopping");
    gate_open();
    return NULL;
}

static void
test_server_lets_io_finish(void)
{
    struct writing held;
    start_gate();
    struct local *local = local_ok("vol", WRITE);
    gate_close();
    writing_begin(&held, local, 'h');
    gate_await(1);
    pthread_t thread = test_thread(release_later, NULL);
    ovsshm_disconnect(conn);
    CHECK_EQ(st_end(60ull * SECOND), 0);
    test_join(thread);
    test_join(held.thread);
    CHECK_EQ(held.result, 1);
    srv_local_close(local);
}

static void *
churn_main(void *arg)
{
    uint32_t *stop = arg;
    char byte;
    while (!ovsshm_load_acquire(stop)) {
        struct local *local;
        int rc = srv_local_open(st.server, "vol", READ, &local, NULL);
        CHECK(rc == 0 || rc == -ESHUTDOWN);
        if (rc == 0) {
            struct local_group *group = srv_local_group(st.server);
            struct iovec iov = {&byte, 1};
            struct local_io io = {
                .op = OVSSHM_OP_READ, .length_bytes = 1, .iov = &iov, .iov_count = 1};
            int64_t got = group ? srv_local_io(local, group, &io) : -ESHUTDOWN;
            CHECK(got == 1 || got == -ESHUTDOWN);
            srv_local_close(local);
        }
    }
    return NULL;
}

/* Threads that open, read and close while it stops. */
static void
test_server_ends_in_the_middle_of_it_all(void)
{
    for (unsigned i = 0; i < 10; i++) {
        uint32_t stop = 0;
        pthread_t threads[4];
        start_memory();
        ovsshm_disconnect(conn);
        for (unsigned t = 0; t < 4; t++) {
            threads[t] = test_thread(churn_main, &stop);
        }
        while (st_status().requests < 200) {
            sched_yield();
        }
        CHECK_EQ(ovsshm_server_stop(st.server, SECOND), 0);
        ovsshm_store_release(&stop, 1);
        for (unsigned t = 0; t < 4; t++) {
            test_join(threads[t]);
        }
        CHECK_EQ(st_end(0), 0);
    }
}

static void
test_server_without_a_socket(void)
{
    struct ovsshm_server *server = NULL;
    struct ovsshm_server_params params = {.log = {st_log, NULL}};
    struct ovsshm_store *store = st_store(&ovsshm_store_memory, "", NULL);
    struct ovsshm_error error;
    struct ovsshm_volume_info info;
    CHECK_EQ(ovsshm_server_create(&params, store, &server, &error), 0);
    CHECK_EQ(srv_local_create(server, "v", 512, &error), -ESHUTDOWN); /* not started */
    CHECK_EQ(ovsshm_server_start(server, &error), 0);
    CHECK_EQ(srv_local_create(server, "v", 512, &error), 0);
    CHECK_EQ(srv_local_stat(server, "v", &info), 0);
    CHECK_EQ(ovsshm_server_stop(server, 0), 0);
    ovsshm_server_destroy(server);
    store->type->destroy(store);
    st_await_log("without a socket");
}

int
main(void)
{
    test_begin(240);
    RUN(test_server_ends_with_a_volume_open);
    RUN(test_no_call_meets_reactors_that_end);
    RUN(test_server_waits_for_io_and_then_drops_it);
    RUN(test_server_lets_io_finish);
    RUN(test_server_ends_in_the_middle_of_it_all);
    RUN(test_server_without_a_socket);
    return 0;
}
