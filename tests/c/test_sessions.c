/* SPDX-License-Identifier: MIT */
/*
 * Goal: the server's books of its sessions are right: who, what, how much, how long; in order of
 * id, page by page, until the session is over and no longer.
 * Method: sessions of the library with known requests; a store that holds them when told to.
 */
#define _GNU_SOURCE
#include "server_test.h"

#include "gate_store.h"

#include <sched.h>

#define BLOCK 4096
#define MANY 200 /* more than two pages */

static struct ovsshm_conn *conn;

static struct ovsshm_session_info
only_session(void)
{
    struct ovsshm_session_info infos[2];
    CHECK_EQ(ovsshm_sessions(conn, 0, infos, 2), 1);
    return infos[0];
}

static void
await_no_session(void)
{
    while (st_status().sessions) {
        sched_yield();
    }
}

static uint64_t
completed(const struct ovsshm_session_info *info)
{
    return info->reads + info->writes + info->others;
}

/* The latency of the last requests follows when the client has been told of them. */
static struct ovsshm_session_info
await_latencies(void)
{
    for (;;) {
        struct ovsshm_session_info info = only_session();
        uint64_t counted = 0;
        for (unsigned i = 0; i < OVSSHM_LATENCY_BUCKETS; i++) {
            counted += info.latency_counts[i];
        }
        CHECK(counted <= completed(&info));
        if (counted == completed(&info)) {
            return info;
        }
        sched_yield();
    }
}

/* ---- one session ------------------------------------------------------------------------------
 */

static void
test_session_is_described(void)
{
    struct ovsshm_volume *v = open_ok(conn, "v", OVSSHM_MODE_WRITE, 3);
    struct ovsshm_session_info first = only_session();
    CHECK(first.id > 0);
    CHECK_EQ(first.pid, getpid());
    CHECK_EQ(first.uid, getuid());
    CHECK(!strcmp(first.client, program_invocation_short_name));
    CHECK(!strcmp(first.volume, "v"));
    CHECK_EQ(first.mode, OVSSHM_MODE_WRITE);
    CHECK_EQ(first.queues, 3);
    CHECK_EQ(completed(&first), 0);
    CHECK_EQ(ovsshm_volume_set_mode(v, OVSSHM_MODE_READ), 0);
    struct ovsshm_session_info later = only_session();
    CHECK_EQ(later.id, first.id);
    CHECK_EQ(later.mode, OVSSHM_MODE_READ);
    CHECK(later.uptime_ns > first.uptime_ns);
    CHECK_EQ(later.resv0, 0);
    ovsshm_close(v);
    await_no_session();
    CHECK_EQ(ovsshm_sessions(conn, 0, &later, 1), 0);
}

static void
test_requests_are_counted_by_kind_result_and_bytes(void)
{
    struct ovsshm_status before = st_status();
    struct ovsshm_volume *v = open_ok(conn, "v", OVSSHM_MODE_WRITE, 2);
    void *buffer = ovsshm_buffer_alloc(v, 2 * BLOCK);
    for (unsigned i = 0; i < 20; i++) { /* more than are published at once */
        CHECK_EQ(run(v, OVSSHM_OP_WRITE, i * BLOCK, buffer, BLOCK), BLOCK);
    }
    struct ovsshm_io io = {.op = OVSSHM_OP_READ, .length_bytes = 2 * BLOCK, .buffer = buffer};
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQ(ovsshm_queue_run(ovsshm_volume_queue(v, 1), &io), 2 * BLOCK);
    }
    CHECK_EQ(run(v, OVSSHM_OP_FLUSH, 0, NULL, 0), 0);
    CHECK_EQ(run(v, OVSSHM_OP_DISCARD, 0, NULL, BLOCK), -EOPNOTSUPP);
    CHECK_EQ(run(v, OVSSHM_OP_WRITE, MIB, buffer, BLOCK), -EFBIG);
    CHECK_EQ(run(v, OVSSHM_OP_READ, MIB, buffer, BLOCK), 0);
    gate_fail_io(-EIO);
    CHECK_EQ(run(v, OVSSHM_OP_READ, 0, buffer, BLOCK), -EIO);
    gate_fail_io(0);
    struct ovsshm_session_info info = only_session();
    CHECK_EQ(info.writes, 21);
    CHECK_EQ(info.reads, 5);
    CHECK_EQ(info.others, 2);
    CHECK_EQ(info.errors, 3);
    CHECK_EQ(info.written_bytes, 20 * BLOCK);
    CHECK_EQ(info.read_bytes, 6 * BLOCK);
    CHECK_EQ(info.in_flight, 0);
    struct ovsshm_status after = st_status();
    CHECK_EQ(after.requests - before.requests, 28);
    CHECK_EQ(after.errors - before.errors, 3);
    CHECK_EQ(after.read_bytes - before.read_bytes, 6 * BLOCK);
    CHECK_EQ(after.written_bytes - before.written_bytes, 20 * BLOCK);
    ovsshm_close(v);
    await_no_session();
    after = st_status(); /* the totals outlive the session */
    CHECK_EQ(after.requests - before.requests, 28);
    CHECK_EQ(after.written_bytes - before.written_bytes, 20 * BLOCK);
}

/* Requests that the store has for at least 20 ms are in buckets of at least 2^24 ns. */
static void
test_latency_is_from_taken_to_completed(void)
{
    const uint64_t held_ns = 20000000;
    struct ovsshm_completion done[12];
    struct ovsshm_volume *v = open_ok(conn, "v", OVSSHM_MODE_WRITE, 1);
    struct ovsshm_queue *queue = ovsshm_volume_queue(v, 0);
    struct ovsshm_io io = {
        .op = OVSSHM_OP_READ, .length_bytes = BLOCK, .buffer = ovsshm_buffer_alloc(v, BLOCK)};
    gate_close();
    for (unsigned i = 0; i < 12; i++) {
        CHECK_EQ(ovsshm_queue_prep(queue, &io), 0);
    }
    CHECK_EQ(ovsshm_queue_submit(queue), 12);
    gate_await(12);
    CHECK_EQ(only_session().in_flight, 12);
    uint64_t start = only_session().uptime_ns;
    while (only_session().uptime_ns < start + held_ns) {
        sched_yield();
    }
    gate_open();
    for (int count = 0; count < 12;) {
        count += ovsshm_queue_wait(queue, done, 12, -1);
    }
    struct ovsshm_session_info info = await_latencies();
    CHECK_EQ(info.reads, 12);
    CHECK(info.latency_ns >= 12 * held_ns);
    CHECK(info.latency_ns <= 12 * info.uptime_ns);
    for (unsigned i = 0; i < 24; i++) {
        CHECK_EQ(info.latency_counts[i], 0);
    }
    CHECK_EQ(info.in_flight, 0);
    ovsshm_close(v);
    await_no_session();
}

/* A client that sleeps is rung, one that polls is not. */
static void
test_doorbells_are_the_sessions_own(void)
{
    struct ovsshm_completion done;
    struct ovsshm_volume *v = open_ok(conn, "v", OVSSHM_MODE_READ, 1);
    struct ovsshm_queue *queue = ovsshm_volume_queue(v, 0);
    struct ovsshm_io io = {.op = OVSSHM_OP_FLUSH};
    gate_close();
    CHECK_EQ(ovsshm_queue_prep(queue, &io), 0);
    CHECK_EQ(ovsshm_queue_submit(queue), 1);
    gate_await(1);
    CHECK_EQ(ovsshm_queue_arm(queue), 0);
    gate_open();
    struct pollfd p = {.fd = ovsshm_queue_fd(queue), .events = POLLIN};
    CHECK_EQ(poll(&p, 1, -1), 1);
    ovsshm_queue_disarm(queue);
    CHECK_EQ(ovsshm_queue_poll(queue, &done, 1), 1);
    while (only_session().doorbells == 0) { /* counted after it has been rung */
        sched_yield();
    }
    CHECK_EQ(only_session().doorbells, 1);
    ovsshm_close(v);
    await_no_session();
}

/* The one to look for when a volume is busy and nobody seems to have it. */
static void
test_session_of_a_client_that_is_gone_is_there_until_the_store_is_done(void)
{
    struct ovsshm_volume *v = open_ok(conn, "v", OVSSHM_MODE_WRITE, 1);
    struct ovsshm_io io = {.op = OVSSHM_OP_FLUSH};
    gate_close();
    CHECK_EQ(ovsshm_queue_prep(ovsshm_volume_queue(v, 0), &io), 0);
    CHECK_EQ(ovsshm_queue_submit(ovsshm_volume_queue(v, 0)), 1);
    gate_await(1);
    ovsshm_close(v);
    struct ovsshm_session_info info = only_session();
    CHECK_EQ(info.in_flight, 1);
    CHECK_EQ(info.pid, getpid());
    gate_open();
    await_no_session();
    CHECK_EQ(ovsshm_sessions(conn, 0, &info, 1), 0);
}

/* ---- many sessions ----------------------------------------------------------------------------
 */

static void
test_sessions_come_in_order_of_id_and_in_pages(void)
{
    static struct ovsshm_volume *volumes[MANY];
    static struct ovsshm_session_info all[MANY + 1], one;
    struct ovsshm_open_params params = {.depth = 1, .arena_bytes = OVSSHM_PAGE_BYTES};
    CHECK(MANY > 2 * OVSSHM_LIST_MAX(struct ovsshm_session_info));
    for (unsigned i = 0; i < MANY; i++) {
        CHECK_EQ(ovsshm_open(conn, i % 2 ? "v" : "w", &params, &volumes[i]), 0);
    }
    CHECK_EQ(ovsshm_sessions(conn, 0, all, MANY + 1), MANY);
    for (unsigned i = 0; i < MANY; i++) {
        CHECK(i == 0 || all[i].id > all[i - 1].id);
        CHECK(!strcmp(all[i].volume, i % 2 ? "v" : "w"));
    }
    CHECK_EQ(ovsshm_sessions(conn, 0, all, 0), 0);
    for (unsigned i = 0; i + 1 < MANY; i += 17) { /* pages of the caller's own size */
        CHECK_EQ(ovsshm_sessions(conn, all[i].id, &one, 1), 1);
        CHECK_EQ(one.id, all[i + 1].id);
    }
    uint64_t gone = all[100].id;
    uint64_t next = all[101].id;
    ovsshm_close(volumes[100]);
    volumes[100] = NULL;
    while (st_status().sessions == MANY) {
        sched_yield();
    }
    CHECK_EQ(ovsshm_sessions(conn, gone, &one, 1), 1); /* an id that was, */
    CHECK_EQ(one.id, next);
    CHECK_EQ(ovsshm_sessions(conn, gone - 1, &one, 1), 1);
    CHECK_EQ(one.id, next);
    CHECK_EQ(ovsshm_sessions(conn, all[MANY - 1].id, &one, 1), 0);        /* the last, */
    CHECK_EQ(ovsshm_sessions(conn, all[MANY - 1].id + 1000, &one, 1), 0); /* one to come, */
    CHECK_EQ(ovsshm_sessions(conn, UINT64_MAX, &one, 1), 0);              /* and never */
    for (unsigned i = 0; i < MANY; i++) {
        ovsshm_close(volumes[i]);
    }
    await_no_session();
    struct ovsshm_volume *v = open_ok(conn, "v", OVSSHM_MODE_READ, 1);
    CHECK(only_session().id > all[MANY - 1].id); /* ids are not used again */
    ovsshm_close(v);
    await_no_session();
}

/* ---- bad requests -----------------------------------------------------------------------------
 */

static void
expect_refused(uint64_t features, const void *payload, size_t bytes, const char *reason)
{
    int fd = raw_socket();
    CHECK_EQ(raw_hello(fd, 1, 1, features), 0);
    CHECK_EQ(raw_call(fd, OVSSHM_MSG_SESSIONS, payload, bytes), -EPROTO);
    CHECK_TEXT(raw_reason(), reason);
    await_hangup(fd);
    close(fd);
}

static void
test_bad_requests_for_sessions_end_the_connection(void)
{
    const uint64_t feature = OVSSHM_FEATURE_SESSIONS;
    const struct ovsshm_msg_sessions good = {.after = 0};
    const struct ovsshm_msg_sessions reserved = {.resv = 1};
    expect_refused(0, &good, sizeof(good), "feature");
    expect_refused(~feature, &good, sizeof(good), "feature");
    expect_refused(feature, &good, sizeof(good) - 1, "wrong size");
    expect_refused(feature, &good, 0, "wrong size");
    expect_refused(feature, &reserved, sizeof(reserved), "bad contents");
    int fd = raw_socket();
    CHECK_EQ(raw_hello(fd, 1, 1, feature), 0);
    CHECK_EQ(raw_call(fd, OVSSHM_MSG_SESSIONS, &good, sizeof(good)), 0);
    CHECK_EQ(raw_packet.head.payload_bytes, sizeof(struct ovsshm_msg_list_reply));
    close(fd);
}

int
main(void)
{
    struct ovsshm_store *store;
    test_begin(120);
    CHECK_EQ(gate_create(NULL, &store, NULL), 0);
    st_start(store, (struct ovsshm_server_params){.reactors = REACTORS});
    conn = connect_ok();
    CHECK_EQ(ovsshm_create(conn, "v", MIB), 0);
    CHECK_EQ(ovsshm_create(conn, "w", MIB), 0);
    RUN(test_session_is_described);
    RUN(test_requests_are_counted_by_kind_result_and_bytes);
    RUN(test_latency_is_from_taken_to_completed);
    RUN(test_doorbells_are_the_sessions_own);
    RUN(test_session_of_a_client_that_is_gone_is_there_until_the_store_is_done);
    RUN(test_sessions_come_in_order_of_id_and_in_pages);
    RUN(test_bad_requests_for_sessions_end_the_connection);
    ovsshm_disconnect(conn);
    CHECK_EQ(st_end(SECOND), 0);
    return 0;
}
