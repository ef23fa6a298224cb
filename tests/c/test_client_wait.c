/* SPDX-License-Identifier: MIT */
/*
 * Goal: what is published when, who is woken when, and what it costs, exactly.
 * Method: a server whose rings the test serves by hand, between the client's steps.
 */
#define _GNU_SOURCE
#include <openvstorage/shm.h>

#include <poll.h>
#include <sched.h>

#include "client/queue.h"
#include "test_client_fake.h"

#define DEPTH 8

static struct ovsshm_conn *conn;
static struct ovsshm_volume *volume;
static struct ovsshm_queue *queue;
static struct connection *server;
static struct ovsshm_ring_words *words;
static unsigned char *buffer; /* shared */

static const struct bend by_hand = {.manual = true};
static const struct bend honest;

static void
begin(const struct bend *bend, uint64_t spin_ns_max)
{
    struct ovsshm_open_params params = {
        .mode = OVSSHM_MODE_WRITE,
        .depth = DEPTH,
        .arena_bytes = 1 << 20,
        .spin_ns_max = spin_ns_max,
    };
    fake_start(bend);
    CHECK_EQ(ovsshm_connect(socket_path, &conn), 0);
    CHECK_EQ(ovsshm_open(conn, "v", &params, &volume), 0);
    queue = ovsshm_volume_queue(volume, 0);
    server = fake_volume();
    words = ovsshm_region_queue(&server->region, 0).words;
    buffer = ovsshm_buffer_alloc(volume, 1 << 18);
    CHECK(buffer);
}

static void
end(void)
{
    ovsshm_close(volume);
    ovsshm_disconnect(conn);
    fake_stop();
}

static void
prep_reads(unsigned count, uint32_t length_bytes)
{
    for (unsigned i = 0; i < count; i++) {
        struct ovsshm_io io = {
            .op = OVSSHM_OP_READ,
            .length_bytes = length_bytes,
            .buffer = buffer,
            .user_data = i,
        };
        CHECK_EQ(ovsshm_queue_prep(queue, &io), 0);
    }
}

static void
test_prepared_requests_become_visible_together(void)
{
    struct ovsshm_completion completions[DEPTH];
    begin(&by_hand, 0);
    prep_reads(5, 512);
    CHECK_EQ(ovsshm_load_acquire(&words->sq_tail), 0);
    CHECK_EQ(ovsshm_queue_in_flight(queue), 5);
    CHECK_EQ(ovsshm_queue_submit(queue), 5);
    CHECK_EQ(ovsshm_load_acquire(&words->sq_tail), 5);
    CHECK_EQ(ovsshm_queue_submit(queue), 0);
    CHECK(ovsshm_load_relaxed(&words->client_cpu) <= (uint32_t)sysconf(_SC_NPROCESSORS_CONF));
    CHECK(ovsshm_load_relaxed(&words->client_cpu) > 0);
    CHECK(!ovsshm_queue_ready(queue));
    CHECK_EQ(serve_available(server, 0), 5);
    CHECK(ovsshm_queue_ready(queue));
    CHECK_EQ(ovsshm_load_acquire(&words->cq_head), 0);
    CHECK_EQ(ovsshm_queue_poll(queue, completions, 2), 2); /* as many as there is room for */
    CHECK_EQ(ovsshm_load_acquire(&words->cq_head), 2);
    CHECK_EQ(ovsshm_queue_in_flight(queue), 3);
    CHECK_EQ(ovsshm_queue_poll(queue, completions, DEPTH), 3);
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQ(completions[i].user_data, 2 + i);
        CHECK_EQ(completions[i].result, 512);
    }
    CHECK_EQ(ovsshm_load_acquire(&words->cq_head), 5);
    CHECK_EQ(ovsshm_queue_poll(queue, completions, DEPTH), 0);
    CHECK_EQ(ovsshm_queue_counters(queue).requests, 5);
    CHECK_EQ(ovsshm_queue_counters(queue).bounced_bytes, 0);
    end();
}

static void
test_doorbell_is_rung_once_per_sleep_of_the_server(void)
{
    struct ovsshm_completion completions[DEPTH];
    begin(&by_hand, 0);
    prep_reads(2, 512);
    ovsshm_queue_submit(queue);
    CHECK_EQ(ovsshm_queue_counters(queue).doorbells, 0); /* it is awake */
    CHECK(!ovsshm_doorbell_clear(server->server_bells[0]));
    ovsshm_doorbell_arm(&words->server_armed);
    prep_reads(3, 512);
    CHECK_EQ(ovsshm_queue_counters(queue).doorbells, 0);
    ovsshm_queue_submit(queue);
    CHECK_EQ(ovsshm_queue_counters(queue).doorbells, 1); /* for all three */
    CHECK_EQ(ovsshm_load_relaxed(&words->server_armed), 0);
    prep_reads(1, 512);
    ovsshm_queue_submit(queue);
    CHECK_EQ(ovsshm_queue_counters(queue).doorbells, 1); /* still waking up */
    CHECK(ovsshm_doorbell_clear(server->server_bells[0]));
    CHECK_EQ(serve_available(server, 0), 6);
    CHECK_EQ(ovsshm_queue_poll(queue, completions, DEPTH), 6);
    end();
}

static void
test_pieces_follow_each_other_from_inside_poll(void)
{
    struct ovsshm_completion completion;
    begin(&by_hand, 0);
    prep_reads(1, 65536 * 2 + 512);
    prep_reads(1, 512);
    CHECK_EQ(ovsshm_queue_submit(queue), 2);
    prep_reads(1, 512); /* prepared, not submitted */
    CHECK_EQ(serve_available(server, 0), 2);
    ovsshm_doorbell_arm(&words->server_armed);
    CHECK_EQ(ovsshm_queue_poll(queue, &completion, 1), 1); /* the short one */
    CHECK_EQ(completion.result, 512);
    CHECK_EQ(ovsshm_queue_counters(queue).doorbells, 1); /* for the second piece */
    CHECK(serve_available(server, 0) >= 1);
    CHECK_EQ(ovsshm_queue_submit(queue), 1);
    while (ovsshm_queue_poll(queue, &completion, 1) == 0 || completion.result == 512) {
        serve_available(server, 0);
    }
    CHECK_EQ(completion.result, 65536 * 2 + 512);
    CHECK_EQ(ovsshm_queue_counters(queue).requests, 3);
    end();
}

static void
test_arming_looks_again_and_counts_sleeps(void)
{
    struct ovsshm_completion completion;
    struct pollfd pollfd = {.events = POLLIN};
    begin(&by_hand, 0);
    pollfd.fd = ovsshm_queue_fd(queue);
    CHECK_EQ(ovsshm_queue_arm(queue), 0);
    CHECK_EQ(ovsshm_load_relaxed(&words->client_armed), 1);
    CHECK_EQ(ovsshm_queue_counters(queue).sleeps, 1);
    ovsshm_queue_disarm(queue);
    CHECK_EQ(ovsshm_load_relaxed(&words->client_armed), 0);
    prep_reads(1, 512);
    ovsshm_queue_submit(queue);
    CHECK_EQ(ovsshm_queue_arm(queue), 0);
    CHECK_EQ(poll(&pollfd, 1, 0), 0);
    CHECK_EQ(serve_available(server, 0), 1);
    CHECK_EQ(poll(&pollfd, 1, 0), 1); /* rung */
    ovsshm_queue_disarm(queue);
    CHECK_EQ(poll(&pollfd, 1, 0), 0);     /* and cleared */
    CHECK_EQ(ovsshm_queue_arm(queue), 1); /* there is something to poll */
    CHECK_EQ(ovsshm_load_relaxed(&words->client_armed), 0);
    CHECK_EQ(ovsshm_queue_counters(queue).sleeps, 2);
    CHECK_EQ(ovsshm_queue_poll(queue, &completion, 1), 1);
    prep_reads(1, 512);
    ovsshm_queue_submit(queue);
    CHECK_EQ(serve_available(server, 0), 1);
    CHECK_EQ(poll(&pollfd, 1, 0), 0); /* not armed: no ring */
    CHECK_EQ(ovsshm_queue_poll(queue, &completion, 1), 1);
    end();
}

static void
test_waiting_for_nothing_or_too_long_returns(void)
{
    struct ovsshm_completion completion;
    begin(&by_hand, 0);
    CHECK_EQ(ovsshm_queue_wait(queue, &completion, 1, -1), 0); /* nothing in flight */
    CHECK_EQ(ovsshm_queue_spin(queue, &completion, 1), 0);
    prep_reads(1, 512);
    ovsshm_queue_submit(queue);
    CHECK_EQ(ovsshm_queue_wait(queue, &completion, 1, 0), 0);
    CHECK_EQ(ovsshm_queue_wait(queue, &completion, 1, 1000000), 0);
    CHECK_EQ(ovsshm_queue_wait(queue, &completion, 0, -1), 0); /* no room */
    CHECK_EQ(ovsshm_queue_spin(queue, &completion, 1), 0);
    CHECK_EQ(ovsshm_load_relaxed(&words->client_armed), 0);
    CHECK_EQ(serve_available(server, 0), 1);
    CHECK_EQ(ovsshm_queue_wait(queue, &completion, 1, -1), 1);
    end();
}

static void
test_queue_that_may_not_poll_sleeps_for_each_wait(void)
{
    unsigned char data[512];
    struct ovsshm_io io = {.op = OVSSHM_OP_READ, .length_bytes = 512, .buffer = data};
    begin(&honest, UINT64_MAX);
    for (unsigned i = 1; i <= 200; i++) {
        uint64_t before = ovsshm_queue_counters(queue).sleeps;
        CHECK_EQ(ovsshm_queue_run(queue, &io), 512);
        CHECK(ovsshm_queue_counters(queue).sleeps <= before + 2); /* 2: a late ring of the last */
        CHECK(ovsshm_queue_counters(queue).doorbells <= i);
    }
    CHECK_EQ(ovsshm_queue_counters(queue).bounced_bytes, 200 * 512);
    end();
}

static void
test_environment_says_how_long_to_poll_where_the_program_does_not(void)
{
    unsetenv("OVS_SHM_SPIN_NS");
    uint64_t usual = ovsshm_spin_ns(0);
    CHECK(usual > 0);
    setenv("OVS_SHM_SPIN_NS", "0", 1);
    CHECK_EQ(ovsshm_spin_ns(0), 0);
    CHECK_EQ(ovsshm_spin_ns(7), 7);
    setenv("OVS_SHM_SPIN_NS", "12345", 1);
    CHECK_EQ(ovsshm_spin_ns(0), 12345);
    CHECK_EQ(ovsshm_spin_ns(UINT64_MAX), 0);
    const char *const ignored[] = {"", "-1", "20us", "off"};
    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++) {
        setenv("OVS_SHM_SPIN_NS", ignored[i], 1);
        CHECK_EQ(ovsshm_spin_ns(0), usual);
    }
    unsetenv("OVS_SHM_SPIN_NS");
}

static void
test_depth_is_the_limit_of_what_is_in_flight(void)
{
    struct ovsshm_completion completion;
    struct ovsshm_io io = {.op = OVSSHM_OP_FLUSH};
    begin(&by_hand, 0);
    prep_reads(DEPTH, 512);
    CHECK_EQ(ovsshm_queue_prep(queue, &io), -EAGAIN);
    CHECK_TEXT(ovsshm_reason(), "reap");
    ovsshm_queue_submit(queue);
    CHECK_EQ(serve_available(server, 0), DEPTH);
    CHECK_EQ(ovsshm_queue_prep(queue, &io), -EAGAIN); /* not returned by poll yet */
    CHECK_EQ(ovsshm_queue_poll(queue, &completion, 1), 1);
    CHECK_EQ(ovsshm_queue_prep(queue, &io), 0);
    CHECK_EQ(ovsshm_queue_prep(queue, &io), -EAGAIN);
    end(); /* with all of it in flight */
}

/* run() with the queue full of others: they are kept, in order, for their own poll. */
static void
test_run_keeps_the_completions_of_others(void)
{
    struct ovsshm_completion completions[DEPTH];
    struct ovsshm_io io = {.op = OVSSHM_OP_FLUSH, .user_data = 99};
    begin(&honest, 0);
    for (unsigned filled = 0; filled <= DEPTH; filled++) {
        prep_reads(filled, 512);
        for (unsigned repeat = 0; repeat < 3; repeat++) {
            CHECK_EQ(ovsshm_queue_run(queue, &io), 0);
        }
        CHECK_EQ(ovsshm_queue_in_flight(queue), filled);
        for (unsigned got = 0; got < filled;) {
            int n = ovsshm_queue_wait(queue, completions, DEPTH / 2, -1);
            CHECK(n > 0);
            for (int i = 0; i < n; i++) {
                CHECK_EQ(completions[i].user_data, got++);
                CHECK_EQ(completions[i].result, 512);
            }
        }
        CHECK_EQ(ovsshm_queue_in_flight(queue), 0);
    }
    end();
}

static void *
wait_for_all(void *arg)
{
    struct ovsshm_completion completions[DEPTH];
    unsigned *ended = arg;
    while (*ended < 3) {
        int n = ovsshm_queue_wait(queue, completions, DEPTH, -1);
        CHECK(n > 0);
        for (int i = 0; i < n; i++) {
            CHECK_EQ(completions[i].user_data, (*ended)++);
            CHECK_EQ(completions[i].result, -ENOTCONN);
        }
    }
    return NULL;
}

static void
test_abort_wakes_a_thread_that_waits(void)
{
    unsigned ended = 0;
    struct ovsshm_volume_info info;
    begin(&by_hand, UINT64_MAX);
    struct pollfd pollfd = {.fd = ovsshm_volume_fd(volume), .events = POLLIN};
    CHECK_EQ(poll(&pollfd, 1, 0), 0);
    prep_reads(3, 512);
    ovsshm_queue_submit(queue);
    pthread_t thread = test_thread(wait_for_all, &ended);
    while (!ovsshm_load_relaxed(&words->client_armed)) { /* it is about to sleep */
        sched_yield();
    }
    ovsshm_volume_abort(volume);
    test_join(thread);
    CHECK_EQ(ended, 3);
    CHECK_EQ(ovsshm_volume_state(volume), -ENOTCONN);
    CHECK_TEXT(ovsshm_reason(), "closed");
    CHECK_EQ(ovsshm_volume_stat(volume, &info), -ENOTCONN);
    CHECK_EQ(poll(&pollfd, 1, 0), 1); /* for good */
    ovsshm_volume_abort(volume);      /* again: nothing */
    end();
}

int
main(void)
{
    test_begin(60);
    socket_path = test_path("fake.sock");
    test_cleanup(free, socket_path);
    RUN(test_prepared_requests_become_visible_together);
    RUN(test_doorbell_is_rung_once_per_sleep_of_the_server);
    RUN(test_pieces_follow_each_other_from_inside_poll);
    RUN(test_arming_looks_again_and_counts_sleeps);
    RUN(test_waiting_for_nothing_or_too_long_returns);
    RUN(test_queue_that_may_not_poll_sleeps_for_each_wait);
    RUN(test_environment_says_how_long_to_poll_where_the_program_does_not);
    RUN(test_depth_is_the_limit_of_what_is_in_flight);
    RUN(test_run_keeps_the_completions_of_others);
    RUN(test_abort_wakes_a_thread_that_waits);
    return 0;
}
