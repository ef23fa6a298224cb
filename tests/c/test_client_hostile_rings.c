/* SPDX-License-Identifier: MIT */
/*
 * Goal: a server that lies in the rings, or ends, costs the client its session and nothing else: an
 * error with a reason in bounded time, no crash, no leak.
 * Method: a small server in this process that is honest except for one bend per test.
 */
#define _GNU_SOURCE
#include <openvstorage/shm.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "test_client_fake.h"

/* ---- lies in the rings -------------------------------------------------------------------------
 */

static const struct bend honest;

static struct ovsshm_conn *conn;
static struct ovsshm_volume *volume;
static struct ovsshm_queue *queue;
static unsigned fds_before;

static void
begin(const struct bend *bend)
{
    fds_before = test_fd_count();
    fake_start(bend);
    CHECK_EQ(ovsshm_connect(socket_path, &conn), 0);
    CHECK_EQ(ovsshm_open(conn, "v", &open_params, &volume), 0);
    queue = ovsshm_volume_queue(volume, 0);
}

static void
end(void)
{
    ovsshm_close(volume);
    ovsshm_disconnect(conn);
    fake_stop();
    CHECK_EQ(test_fd_count(), fds_before);
}

/* clang-format off */
#define LIE(name) static void name(struct connection *c, unsigned q, const struct ovsshm_sqe *sqe)
LIE(lie_slot) { (void)sqe; complete(c, q, 7777, 0); }
LIE(lie_huge_slot) { (void)sqe; complete(c, q, UINT64_MAX, 0); }
LIE(lie_free_slot) { complete(c, q, (sqe->user_data & 7) ^ 1, 0); }
LIE(lie_generation) { complete(c, q, sqe->user_data + (1ull << 32), (int32_t)sqe->length_bytes); }
LIE(lie_too_much) { complete(c, q, sqe->user_data, (int32_t)sqe->length_bytes + 1); }
LIE(lie_far_too_much) { complete(c, q, sqe->user_data, INT32_MAX); }
LIE(lie_errno) { complete(c, q, sqe->user_data, -4096); }
LIE(lie_min) { complete(c, q, sqe->user_data, INT32_MIN); }
LIE(lie_short_write) { complete(c, q, sqe->user_data, sqe->op == OVSSHM_OP_WRITE ? 1 : INT32_MAX); }
/* clang-format on */

LIE(lie_tail_far)
{
    (void)sqe;
    c->cq[q].own += 9;
    ovsshm_ring_publish(&c->cq[q]);
    ovsshm_doorbell_ring(c->client_bells[q]);
}

LIE(lie_tail_back)
{
    (void)sqe;
    c->cq[q].own--;
    ovsshm_ring_publish(&c->cq[q]);
    ovsshm_doorbell_ring(c->client_bells[q]);
}

/* A request that is answered with a lie ends as if the server were gone, for a reason. */
static void
expect_entry(void (*entry)(struct connection *, unsigned, const struct ovsshm_sqe *), uint8_t op)
{
    const struct bend bend = {.entry = entry};
    unsigned char buffer[4096] = {0};
    struct ovsshm_extent extents[4];
    struct ovsshm_io io = {.op = op, .length_bytes = sizeof(buffer), .buffer = buffer};
    struct ovsshm_completion completion;
    begin(&bend);
    if (op == OVSSHM_OP_BLOCK_STATUS) {
        io.buffer = extents;
        io.extents_max = 4;
    }
    io.user_data = 42;
    CHECK_EQ(ovsshm_queue_prep(queue, &io), 0);
    CHECK_EQ(ovsshm_queue_submit(queue), 1);
    CHECK_EQ(ovsshm_queue_wait(queue, &completion, 1, -1), 1);
    CHECK_EQ(completion.user_data, 42);
    CHECK_EQ(completion.result, -ENOTCONN);
    CHECK_EQ(ovsshm_queue_in_flight(queue), 0);
    CHECK_EQ(ovsshm_volume_state(volume), -ENOTCONN);
    CHECK_TEXT(ovsshm_reason(), BROKE);
    CHECK_EQ(ovsshm_queue_prep(queue, &io), -ENOTCONN);
    CHECK_EQ(ovsshm_queue_run(queue, &io), -ENOTCONN);
    CHECK_EQ(ovsshm_queue_wait(queue, &completion, 1, -1), 0);
    end();
}

static void
test_server_lying_in_completions_is_left(void)
{
    expect_entry(lie_slot, OVSSHM_OP_READ);
    expect_entry(lie_huge_slot, OVSSHM_OP_READ);
    expect_entry(lie_free_slot, OVSSHM_OP_READ);
    expect_entry(lie_generation, OVSSHM_OP_READ);
    expect_entry(lie_too_much, OVSSHM_OP_READ);
    expect_entry(lie_too_much, OVSSHM_OP_WRITE);
    expect_entry(lie_too_much, OVSSHM_OP_FLUSH);
    expect_entry(lie_too_much, OVSSHM_OP_DISCARD);
    expect_entry(lie_far_too_much, OVSSHM_OP_READ);
    expect_entry(lie_far_too_much, OVSSHM_OP_BLOCK_STATUS);
    expect_entry(lie_errno, OVSSHM_OP_WRITE_ZEROES);
    expect_entry(lie_min, OVSSHM_OP_READ);
    expect_entry(lie_short_write, OVSSHM_OP_WRITE);
    expect_entry(lie_tail_far, OVSSHM_OP_READ);
    expect_entry(lie_tail_back, OVSSHM_OP_READ);
}

static void
extents_complete(struct connection *c, unsigned q, const struct ovsshm_sqe *sqe,
                 const struct ovsshm_extent *extents, unsigned count)
{
    memcpy(ovsshm_region_arena(&c->region) + sqe->buffer_offset, extents, count * sizeof(*extents));
    complete(c, q, sqe->user_data, (int32_t)count);
}

LIE(lie_extent_empty)
{
    const struct ovsshm_extent extent = {.length_bytes = 0};
    extents_complete(c, q, sqe, &extent, 1);
}

LIE(lie_extent_long)
{
    const struct ovsshm_extent extents[2] = {{.length_bytes = 4000}, {.length_bytes = 97}};
    extents_complete(c, q, sqe, extents, 2);
}

LIE(lie_extent_wraps)
{
    const struct ovsshm_extent extents[2] = {{.length_bytes = 4000}, {.length_bytes = UINT64_MAX}};
    extents_complete(c, q, sqe, extents, 2);
}

LIE(lie_extent_flags)
{
    const struct ovsshm_extent extent = {.length_bytes = 4096, .flags = 4};
    extents_complete(c, q, sqe, &extent, 1);
}

LIE(lie_extent_count)
{
    const struct ovsshm_extent extents[5] = {{.length_bytes = 1},
                                             {.length_bytes = 1},
                                             {.length_bytes = 1},
                                             {.length_bytes = 1},
                                             {.length_bytes = 1}};
    extents_complete(c, q, sqe, extents, 5);
}

static void
test_server_lying_in_extents_is_left(void)
{
    expect_entry(lie_extent_empty, OVSSHM_OP_BLOCK_STATUS);
    expect_entry(lie_extent_long, OVSSHM_OP_BLOCK_STATUS);
    expect_entry(lie_extent_wraps, OVSSHM_OP_BLOCK_STATUS);
    expect_entry(lie_extent_flags, OVSSHM_OP_BLOCK_STATUS);
    expect_entry(lie_extent_count, OVSSHM_OP_BLOCK_STATUS);
}

LIE(lie_twice)
{
    entry_serve(c, q, sqe);
    complete(c, q, sqe->user_data, (int32_t)sqe->length_bytes);
}

static void
test_server_completing_twice_is_left_after_the_good_one(void)
{
    const struct bend bend = {.entry = lie_twice};
    unsigned char buffer[512];
    struct ovsshm_io io = {.op = OVSSHM_OP_READ, .length_bytes = 512, .buffer = buffer};
    begin(&bend);
    CHECK_EQ(ovsshm_queue_run(queue, &io), 512);
    /* The second one is of a past generation, whatever the slot is used for by then. */
    int64_t rc;
    do {
        rc = ovsshm_queue_run(queue, &io);
    } while (rc == 512);
    CHECK_EQ(rc, -ENOTCONN);
    CHECK_TEXT(ovsshm_reason(), BROKE);
    end();
}

static uint64_t noise_seed;

/* Once: fills the completion ring with entries that are nearly right, and publishes some of them.
 */
LIE(lie_noise)
{
    struct ovsshm_queue_memory m = ovsshm_region_queue(&c->region, q);
    (void)sqe;
    if (c->cq[q].own != 0) {
        return;
    }
    for (unsigned i = 0; i < m.entries; i++) {
        m.cqes[i].user_data = test_random(&noise_seed) % 16 + (test_random(&noise_seed) % 3 << 32);
        m.cqes[i].result = (int32_t)(test_random(&noise_seed) % 8192) - 4000;
    }
    c->cq[q].own = 1 + (uint32_t)(test_random(&noise_seed) % 12);
    ovsshm_ring_publish(&c->cq[q]);
    ovsshm_doorbell_ring(c->client_bells[q]);
    shutdown(c->fd, SHUT_RDWR); /* noise may be all good */
}

/* Whatever is written over the server's half of the rings, calls end and memory stays whole. */
static void
test_server_writing_noise_is_left(void)
{
    const struct bend bend = {.entry = lie_noise};
    for (uint64_t seed = 1; seed <= 64; seed++) {
        uint64_t random = seed;
        unsigned char buffer[4096];
        struct ovsshm_completion completions[8];
        noise_seed = seed;
        begin(&bend);
        for (unsigned i = 0; i < 8; i++) {
            struct ovsshm_io io = {
                .op = (uint8_t)(1 + test_random(&random) % 5),
                .offset_bytes = test_random(&random) % 65536,
                .length_bytes = 1 + test_random(&random) % sizeof(buffer),
                .buffer = buffer,
            };
            CHECK_EQ(ovsshm_queue_prep(queue, &io), 0);
        }
        ovsshm_queue_submit(queue);
        for (unsigned left = 8; left;) {
            int n = ovsshm_queue_wait(queue, completions, 8, -1);
            CHECK(n > 0 && (unsigned)n <= left);
            left -= (unsigned)n;
        }
        CHECK_EQ(ovsshm_queue_in_flight(queue), 0);
        end();
    }
}

/* ---- the end -----------------------------------------------------------------------------------
 */

LIE(never)
{
    (void)c;
    (void)q;
    (void)sqe;
}

LIE(die_on_write)
{
    if (sqe->op == OVSSHM_OP_WRITE) {
        shutdown(c->fd, SHUT_RDWR);
    } else if (sqe->op == OVSSHM_OP_FLUSH) {
        entry_serve(c, q, sqe);
    }
}

static const struct ovsshm_io flush = {.op = OVSSHM_OP_FLUSH, .user_data = 1};

static void
test_server_dying_ends_a_sleeping_wait(void)
{
    const struct bend bend = {.entry = die_on_write};
    unsigned char buffer[512] = {0};
    struct ovsshm_io write = {.op = OVSSHM_OP_WRITE, .length_bytes = 512, .buffer = buffer};
    struct ovsshm_io read = {.op = OVSSHM_OP_READ, .length_bytes = 512, .buffer = buffer};
    struct ovsshm_completion completions[8];
    begin(&bend);
    CHECK_EQ(ovsshm_queue_prep(queue, &read), 0);
    CHECK_EQ(ovsshm_queue_prep(queue, &flush), 0);
    CHECK_EQ(ovsshm_queue_prep(queue, &write), 0);
    CHECK_EQ(ovsshm_queue_submit(queue), 3);
    int done = 0, lost = 0;
    while (done + lost < 3) { /* what was done before the end counts as done */
        int n = ovsshm_queue_wait(queue, completions, 8, -1);
        CHECK(n > 0);
        for (int i = 0; i < n; i++) {
            CHECK_EQ(completions[i].result, completions[i].user_data == 1 ? 0 : -ENOTCONN);
            *(completions[i].result ? &lost : &done) += 1;
        }
    }
    CHECK_EQ(done, 1);
    CHECK_EQ(ovsshm_volume_state(volume), -ENOTCONN);
    CHECK_TEXT(ovsshm_reason(), "gone away");
    end();
}

static void
test_server_dying_is_seen_by_a_caller_who_only_polls(void)
{
    const struct bend bend = {.entry = never};
    struct ovsshm_completion completion;
    int n;
    begin(&bend);
    CHECK_EQ(ovsshm_queue_prep(queue, &flush), 0);
    ovsshm_queue_submit(queue);
    fake_die();
    while ((n = ovsshm_queue_poll(queue, &completion, 1)) == 0) {
    }
    CHECK_EQ(n, 1);
    CHECK_EQ(completion.result, -ENOTCONN);
    end();
}

static void
test_server_dying_wakes_an_event_loop_once(void)
{
    const struct bend bend = {.entry = never};
    struct ovsshm_completion completions[2];
    struct pollfd pollfd = {.events = POLLIN};
    begin(&bend);
    pollfd.fd = ovsshm_queue_fd(queue);
    CHECK_EQ(ovsshm_queue_prep(queue, &flush), 0);
    ovsshm_queue_submit(queue);
    CHECK_EQ(ovsshm_queue_arm(queue), 0);
    CHECK_EQ(poll(&pollfd, 1, 0), 0);
    fake_die();
    CHECK_EQ(poll(&pollfd, 1, -1), 1);
    ovsshm_queue_disarm(queue);
    CHECK_EQ(ovsshm_queue_arm(queue), 1);
    CHECK_EQ(ovsshm_queue_poll(queue, completions, 2), 1);
    CHECK_EQ(completions[0].result, -ENOTCONN);
    /* Known now: the fd does not stay readable, and there is nothing to poll. */
    CHECK_EQ(ovsshm_queue_arm(queue), 0);
    CHECK_EQ(poll(&pollfd, 1, 0), 0);
    end();
}

static void *
wait_on_queue_1(void *arg)
{
    struct ovsshm_completion completion;
    CHECK_EQ(ovsshm_queue_wait(arg, &completion, 1, -1), 1);
    CHECK_EQ(completion.result, -ENOTCONN);
    return NULL;
}

LIE(lie_on_queue_0)
{
    complete(c, q, sqe->user_data + (q == 0), 0);
}

LIE(lie_on_queue_0_only)
{
    if (q == 0) {
        lie_on_queue_0(c, q, sqe);
    }
}

static void
test_server_lying_on_one_queue_ends_the_others(void)
{
    const struct bend bend = {.entry = lie_on_queue_0_only};
    begin(&bend);
    /* In flight before the lie: afterwards it would be refused. */
    struct ovsshm_queue *other = ovsshm_volume_queue(volume, 1);
    CHECK_EQ(ovsshm_queue_prep(other, &flush), 0);
    ovsshm_queue_submit(other);
    pthread_t thread = test_thread(wait_on_queue_1, other);
    CHECK_EQ(ovsshm_queue_run(queue, &flush), -ENOTCONN);
    test_join(thread);
    end();
}

static void
send_event(uint32_t type, int64_t value, const char *reason)
{
    struct ovsshm_msg head = {.type = OVSSHM_MSG_EVENT};
    struct ovsshm_msg_event event = {.event = type, .value = value};
    snprintf(event.reason, sizeof(event.reason), "%s", reason);
    CHECK_EQ(ovsshm_msg_send(fake_volume()->fd, head, &event, sizeof(event), NULL, 0), 0);
}

static void
test_events_reach_the_user_in_order(void)
{
    struct ovsshm_msg_event event;
    struct ovsshm_volume_info info;
    struct pollfd pollfd = {.events = POLLIN};
    begin(&honest);
    pollfd.fd = ovsshm_queue_fd(queue);
    CHECK_EQ(ovsshm_volume_event(volume, &event), 0);
    CHECK_EQ(ovsshm_queue_arm(queue), 0);
    send_event(99, 0, "");
    send_event(OVSSHM_EVENT_RESIZED, 4096, "");
    CHECK_EQ(poll(&pollfd, 1, -1), 1);
    ovsshm_queue_disarm(queue);
    CHECK_EQ(poll(&pollfd, 1, 0), 0); /* taken in, although nobody has asked for it yet */
    send_event(OVSSHM_EVENT_DRAINING, 0, "");
    CHECK_EQ(ovsshm_volume_stat(volume, &info), 0); /* a call meets it on the way */
    CHECK_EQ(ovsshm_volume_event(volume, &event), 1);
    CHECK_EQ(event.event, OVSSHM_EVENT_RESIZED);
    CHECK_EQ(event.value, 4096);
    CHECK_EQ(ovsshm_volume_event(volume, &event), 1);
    CHECK_EQ(event.event, OVSSHM_EVENT_DRAINING);
    CHECK_EQ(ovsshm_volume_event(volume, &event), 0);
    for (int i = 0; i < 40; i++) { /* the oldest give way */
        send_event(OVSSHM_EVENT_RESIZED, i, "");
    }
    for (int i = 24; i < 40; i++) {
        CHECK_EQ(ovsshm_volume_event(volume, &event), 1);
        CHECK_EQ(event.value, i);
    }
    CHECK_EQ(ovsshm_volume_event(volume, &event), 0);
    CHECK_EQ(ovsshm_volume_state(volume), 0);
    end();
}

static void
test_server_saying_why_it_ends_is_quoted(void)
{
    const struct bend bend = {.entry = never};
    struct ovsshm_msg_event event;
    begin(&bend);
    send_event(OVSSHM_EVENT_ENDED, -ESHUTDOWN, "going home");
    fake_die();
    CHECK_EQ(ovsshm_queue_run(queue, &flush), -ENOTCONN);
    CHECK_TEXT(ovsshm_reason(), "going home");
    CHECK_EQ(ovsshm_volume_event(volume, &event), 1);
    CHECK_EQ(event.value, -ESHUTDOWN);
    CHECK_EQ(ovsshm_volume_resize(volume, 4096), -ENOTCONN);
    CHECK_TEXT(ovsshm_reason(), "going home");
    end();
}

static void
test_server_sending_what_nobody_asked_for_is_left(void)
{
    struct ovsshm_msg head = {.type = OVSSHM_MSG_STAT, .flags = OVSSHM_MSG_REPLY, .id = 3};
    struct ovsshm_msg_event event;
    begin(&honest);
    CHECK_EQ(ovsshm_msg_send(fake_volume()->fd, head, NULL, 0, NULL, 0), 0);
    CHECK_EQ(ovsshm_volume_event(volume, &event), 0);
    CHECK_EQ(ovsshm_volume_state(volume), -ENOTCONN);
    CHECK_TEXT(ovsshm_reason(), BROKE);
    end();
}

static void
test_server_dying_ends_calls(void)
{
    struct ovsshm_volume_info info;
    begin(&honest);
    CHECK_EQ(ovsshm_stat(conn, "v", &info), 0);
    fake_die();
    CHECK_EQ(ovsshm_stat(conn, "v", &info), -ENOTCONN);
    CHECK_EQ(ovsshm_create(conn, "v", 0), -ENOTCONN);
    CHECK_EQ(ovsshm_volume_stat(volume, &info), -ENOTCONN);
    CHECK_EQ(ovsshm_volume_set_mode(volume, OVSSHM_MODE_READ), -ENOTCONN);
    CHECK_TEXT(ovsshm_reason(), "gone away");
    end();
}

static void
test_silent_server_is_given_up_in_bounded_time(void)
{
    const struct bend bend = {.silent = true};
    struct ovsshm_conn *none = NULL;
    fake_start(&bend);
    CHECK_EQ(ovsshm_connect(socket_path, &none), -ETIMEDOUT);
    CHECK_TEXT(ovsshm_reason(), "did not answer in 10 s");
    CHECK(!none);
    fake_stop();
}

int
main(void)
{
    test_begin(300);
    socket_path = test_path("fake.sock");
    test_cleanup(free, socket_path);
    RUN(test_server_lying_in_completions_is_left);
    RUN(test_server_lying_in_extents_is_left);
    RUN(test_server_completing_twice_is_left_after_the_good_one);
    RUN(test_server_writing_noise_is_left);
    RUN(test_server_dying_ends_a_sleeping_wait);
    RUN(test_server_dying_is_seen_by_a_caller_who_only_polls);
    RUN(test_server_dying_wakes_an_event_loop_once);
    RUN(test_server_lying_on_one_queue_ends_the_others);
    RUN(test_events_reach_the_user_in_order);
    RUN(test_server_saying_why_it_ends_is_quoted);
    RUN(test_server_sending_what_nobody_asked_for_is_left);
    RUN(test_server_dying_ends_calls);
    RUN(test_silent_server_is_given_up_in_bounded_time);
    return 0;
}
