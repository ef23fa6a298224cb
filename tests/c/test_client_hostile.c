/* SPDX-License-Identifier: MIT */
/*
 * Goal: a server that lies in a message costs the client its session and nothing else: an error
 * with a reason in bounded time, no crash, no leak.
 * Method: a small server in this process that is honest except for one bend per test.
 */
#define _GNU_SOURCE
#include <openvstorage/shm.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "test_client_fake.h"

/* ---- lies in control messages ------------------------------------------------------------------
 */

static void
expect_connect(void (*message)(struct outgoing *), int error, const char *reason)
{
    const struct bend bend = {.type = OVSSHM_MSG_HELLO, .message = message};
    struct ovsshm_conn *conn = NULL;
    unsigned fds = test_fd_count();
    fake_start(&bend);
    CHECK_EQ(ovsshm_connect(socket_path, &conn), error);
    CHECK_TEXT(ovsshm_reason(), reason);
    CHECK(!conn);
    fake_stop();
    CHECK_EQ(test_fd_count(), fds);
}

static struct ovsshm_msg_hello_reply *
hello_of(struct outgoing *m)
{
    return (void *)m->payload;
}

/* clang-format off */
static void bend_type(struct outgoing *m) { m->head.type = OVSSHM_MSG_STATUS; }
static void bend_id(struct outgoing *m) { m->head.id++; }
static void bend_flags(struct outgoing *m) { m->head.flags = 0; }
static void bend_more_flags(struct outgoing *m) { m->head.flags |= 4; }
static void bend_resv(struct outgoing *m) { m->head.resv[2] = 1; }
static void bend_positive_status(struct outgoing *m) { m->head.status = 5; }
static void bend_status_alone(struct outgoing *m) { m->head.status = -EACCES; }
static void bend_short(struct outgoing *m) { m->payload_bytes--; }
static void bend_long(struct outgoing *m) { m->payload_bytes++; }
static void bend_longest(struct outgoing *m) { m->payload_bytes = sizeof(m->payload); }
static void bend_magic(struct outgoing *m) { m->raw = true; m->head.payload_bytes = (uint32_t)m->payload_bytes; }
static void bend_length(struct outgoing *m) { m->raw = true; m->head.magic = OVSSHM_MAGIC; m->head.payload_bytes = 1; }
static void bend_fd(struct outgoing *m) { m->fds[m->fd_count++] = 0; }
static void bend_event(struct outgoing *m) { m->head.type = OVSSHM_MSG_EVENT; }
static void bend_version(struct outgoing *m) { hello_of(m)->version = 2; }
static void bend_features(struct outgoing *m) { hello_of(m)->features |= 1u << 7; }
static void bend_no_queues(struct outgoing *m) { hello_of(m)->queues_max = 0; }
static void bend_many_queues(struct outgoing *m) { hello_of(m)->queues_max = OVSSHM_QUEUES_MAX + 1; }
static void bend_no_depth(struct outgoing *m) { hello_of(m)->depth_max = 0; }
static void bend_deep(struct outgoing *m) { hello_of(m)->depth_max = OVSSHM_DEPTH_MAX + 1; }
static void bend_no_request(struct outgoing *m) { hello_of(m)->request_bytes_max = 0; }
static void bend_long_request(struct outgoing *m) { hello_of(m)->request_bytes_max = 0x80000000u; }
static void bend_long_range(struct outgoing *m) { hello_of(m)->range_bytes_max = OVSSHM_RANGE_BYTES_MAX + 1; }
static void bend_segments(struct outgoing *m) { hello_of(m)->segments_max = OVSSHM_SEGMENTS_MAX + 1; }
static void bend_no_arena(struct outgoing *m) { hello_of(m)->arena_bytes_max = 0; }
static void bend_text(struct outgoing *m) { memset(hello_of(m)->server, 'x', OVSSHM_IDENT_BYTES); }
static void bend_store_text(struct outgoing *m) { memset(hello_of(m)->store, 'x', OVSSHM_IDENT_BYTES); }
/* clang-format on */

static void
refuse(struct outgoing *m, int status, char fill, size_t reason_bytes)
{
    m->head.status = status;
    memset(m->payload, 0, OVSSHM_NAME_BYTES);
    memset(m->payload, fill, reason_bytes);
    m->payload_bytes = OVSSHM_NAME_BYTES;
}

static void
bend_refusal(struct outgoing *m)
{
    refuse(m, -EACCES, '\n', 3);
    strcat((char *)m->payload, "no");
}

static void
bend_refusal_text(struct outgoing *m)
{
    refuse(m, -EACCES, 'x', OVSSHM_NAME_BYTES);
}

static void
bend_refusal_number(struct outgoing *m)
{
    refuse(m, INT32_MIN, 'x', 1);
}

static void
test_server_lying_in_hello_is_left(void)
{
    static void (*const lies[])(struct outgoing *) = {
        bend_type,         bend_id,
        bend_flags,        bend_more_flags,
        bend_resv,         bend_positive_status,
        bend_status_alone, bend_short,
        bend_long,         bend_longest,
        bend_magic,        bend_length,
        bend_fd,           bend_event,
        bend_features,     bend_no_queues,
        bend_many_queues,  bend_no_depth,
        bend_deep,         bend_no_request,
        bend_long_request, bend_long_range,
        bend_segments,     bend_no_arena,
        bend_text,         bend_store_text,
        bend_refusal_text, bend_refusal_number,
    };
    for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        expect_connect(lies[i], -EPROTO, BROKE);
    }
    expect_connect(bend_version, -EPROTONOSUPPORT, "version 2");
    expect_connect(bend_refusal, -EACCES, "???no");
}

/* Runs a call on a good connection to a server that bends this reply. */
static void
expect_call(uint16_t type, void (*message)(struct outgoing *), int (*call)(struct ovsshm_conn *),
            int error)
{
    const struct bend bend = {.type = type, .message = message};
    struct ovsshm_conn *conn;
    struct ovsshm_status status;
    unsigned fds = test_fd_count();
    fake_start(&bend);
    CHECK_EQ(ovsshm_connect(socket_path, &conn), 0);
    CHECK_EQ(call(conn), error);
    CHECK_TEXT(ovsshm_reason(), BROKE);
    CHECK_EQ(ovsshm_status(conn, &status), -ENOTCONN); /* over for good, for the same reason */
    CHECK_TEXT(ovsshm_reason(), BROKE);
    ovsshm_disconnect(conn);
    fake_stop();
    CHECK_EQ(test_fd_count(), fds);
}

static int
call_list(struct ovsshm_conn *conn)
{
    struct ovsshm_volume_info infos[4];
    return ovsshm_list(conn, NULL, infos, 4);
}

static int
call_stat(struct ovsshm_conn *conn)
{
    struct ovsshm_volume_info info;
    return ovsshm_stat(conn, "v", &info);
}

static int
call_create(struct ovsshm_conn *conn)
{
    return ovsshm_create(conn, "v", 512);
}

static void
list_of(struct outgoing *m, uint32_t count, uint32_t more, size_t elements)
{
    struct ovsshm_msg_list_reply head = {.count = count, .more = more};
    memcpy(m->payload, &head, sizeof(head));
    memset(m->payload + sizeof(head), 'x', elements * sizeof(struct ovsshm_volume_info));
    m->payload_bytes = sizeof(head) + elements * sizeof(struct ovsshm_volume_info);
}

static int
call_sessions(struct ovsshm_conn *conn)
{
    struct ovsshm_session_info infos[4];
    return ovsshm_sessions(conn, 5, infos, 4);
}

static void
sessions_of(struct outgoing *m, uint64_t first, uint64_t second)
{
    struct ovsshm_msg_list_reply head = {.count = 2, .more = 1};
    struct ovsshm_session_info infos[2] = {{.id = first}, {.id = second}};
    memcpy(m->payload, &head, sizeof(head));
    memcpy(m->payload + sizeof(head), infos, sizeof(infos));
    m->payload_bytes = sizeof(head) + sizeof(infos);
}

static struct ovsshm_session_info *
second_session(struct outgoing *m)
{
    sessions_of(m, 6, 7);
    return (struct ovsshm_session_info *)(void *)(m->payload +
                                                  sizeof(struct ovsshm_msg_list_reply)) +
           1;
}

/* clang-format off */
static void bend_sessions_again(struct outgoing *m) { sessions_of(m, 5, 6); }
static void bend_sessions_order(struct outgoing *m) { sessions_of(m, 7, 6); }
static void bend_sessions_twice(struct outgoing *m) { sessions_of(m, 6, 6); }
static void bend_sessions_client(struct outgoing *m) { memset(second_session(m)->client, 'x', OVSSHM_IDENT_BYTES); }
static void bend_sessions_volume(struct outgoing *m) { memset(second_session(m)->volume, 'x', OVSSHM_NAME_BYTES); }
static void bend_sessions_endless(struct outgoing *m) { sessions_of(m, 6, 7); } /* on each page */
static void bend_sessions_part(struct outgoing *m) { sessions_of(m, 6, 7); m->payload_bytes -= 8; }
static void bend_list_count(struct outgoing *m) { list_of(m, 3, 0, 2); }
static void bend_list_huge(struct outgoing *m) { list_of(m, UINT32_MAX, 1, 0); }
static void bend_list_endless(struct outgoing *m) { list_of(m, 0, 1, 0); }
static void bend_list_more(struct outgoing *m) { list_of(m, 0, 2, 0); }
static void bend_list_name(struct outgoing *m) { list_of(m, 1, 0, 1); }
static void bend_list_no_name(struct outgoing *m) { list_of(m, 1, 0, 1); m->payload[8] = 0; }
static void bend_list_part(struct outgoing *m) { list_of(m, 1, 0, 1); m->payload_bytes -= 8; }
static void bend_stat_name(struct outgoing *m) { memset(m->payload, 'x', OVSSHM_NAME_BYTES); }
/* clang-format on */

static void
test_server_lying_in_replies_is_left(void)
{
    expect_call(OVSSHM_MSG_LIST, bend_list_count, call_list, -EPROTO);
    expect_call(OVSSHM_MSG_LIST, bend_list_huge, call_list, -EPROTO);
    expect_call(OVSSHM_MSG_LIST, bend_list_endless, call_list, -EPROTO);
    expect_call(OVSSHM_MSG_LIST, bend_list_more, call_list, -EPROTO);
    expect_call(OVSSHM_MSG_LIST, bend_list_name, call_list, -EPROTO);
    expect_call(OVSSHM_MSG_LIST, bend_list_no_name, call_list, -EPROTO);
    expect_call(OVSSHM_MSG_LIST, bend_list_part, call_list, -EPROTO);
    expect_call(OVSSHM_MSG_SESSIONS, bend_sessions_again, call_sessions, -EPROTO);
    expect_call(OVSSHM_MSG_SESSIONS, bend_sessions_order, call_sessions, -EPROTO);
    expect_call(OVSSHM_MSG_SESSIONS, bend_sessions_twice, call_sessions, -EPROTO);
    expect_call(OVSSHM_MSG_SESSIONS, bend_sessions_client, call_sessions, -EPROTO);
    expect_call(OVSSHM_MSG_SESSIONS, bend_sessions_volume, call_sessions, -EPROTO);
    expect_call(OVSSHM_MSG_SESSIONS, bend_sessions_part, call_sessions, -EPROTO);
    expect_call(OVSSHM_MSG_SESSIONS, bend_sessions_endless, call_sessions, -EPROTO);
    expect_call(OVSSHM_MSG_STAT, bend_stat_name, call_stat, -EPROTO);
    expect_call(OVSSHM_MSG_STAT, bend_short, call_stat, -EPROTO);
    expect_call(OVSSHM_MSG_STAT, bend_fd, call_stat, -EPROTO);
    expect_call(OVSSHM_MSG_CREATE, bend_long, call_create, -EPROTO);
    expect_call(OVSSHM_MSG_CREATE, bend_id, call_create, -EPROTO);
}

static void
bend_hello_old(struct outgoing *m)
{
    hello_of(m)->features = OVSSHM_FEATURE_SEGMENTS | OVSSHM_FEATURE_EVENTS;
}

static void
test_server_without_sessions_is_not_asked_for_them(void)
{
    const struct bend old = {.type = OVSSHM_MSG_HELLO, .message = bend_hello_old};
    struct ovsshm_conn *conn;
    struct ovsshm_status status;
    fake_start(&old);
    CHECK_EQ(ovsshm_connect(socket_path, &conn), 0);
    CHECK_EQ(call_sessions(conn), -EOPNOTSUPP);
    CHECK_TEXT(ovsshm_reason(), "too old");
    CHECK_EQ(ovsshm_status(conn, &status), 0);
    ovsshm_disconnect(conn);
    fake_stop();
}

/* ---- lies in the reply to open -----------------------------------------------------------------
 */

static struct ovsshm_msg_open_reply *
open_of(struct outgoing *m)
{
    return (void *)m->payload;
}

/* Descriptors to pass in place of good ones, closed at exit. */
static int pipe_fds[2], blocking_eventfd, plain_file, plain_memfd;

/* clang-format off */
static void bend_open_no_fds(struct outgoing *m) { m->fd_count = 0; }
static void bend_open_few_fds(struct outgoing *m) { m->fd_count--; }
static void bend_open_many_fds(struct outgoing *m) { while (m->fd_count < OVSSHM_MSG_FDS_MAX) { m->fds[m->fd_count++] = 0; } }
static void bend_open_pipe(struct outgoing *m) { m->fds[1] = pipe_fds[1]; }
static void bend_open_blocking(struct outgoing *m) { m->fds[4] = blocking_eventfd; }
static void bend_open_file(struct outgoing *m) { m->fds[0] = plain_file; }
static void bend_open_memfd(struct outgoing *m) { m->fds[0] = plain_memfd; }
static void bend_open_swapped(struct outgoing *m) { int fd = m->fds[0]; m->fds[0] = m->fds[1]; m->fds[1] = fd; }
static void bend_open_size(struct outgoing *m) { open_of(m)->region_bytes += 4096; }
static void bend_open_huge(struct outgoing *m) { open_of(m)->region_bytes = UINT64_MAX; }
static void bend_open_tiny(struct outgoing *m) { open_of(m)->region_bytes = 1; }
static void bend_open_depth(struct outgoing *m) { open_of(m)->depth *= 2; }
static void bend_open_queues(struct outgoing *m) { open_of(m)->queues--; }
static void bend_open_block(struct outgoing *m) { open_of(m)->block_bytes = 0; }
static void layout_magic(struct ovsshm_region_header *h) { h->magic++; }
static void layout_version(struct ovsshm_region_header *h) { h->version++; }
static void layout_depth(struct ovsshm_region_header *h) { h->depth = 1; }
static void layout_entries(struct ovsshm_region_header *h) { h->entries *= 2; }
static void layout_entries_odd(struct ovsshm_region_header *h) { h->entries--; }
static void layout_queues(struct ovsshm_region_header *h) { h->queues_offset = 8; }
static void layout_stride(struct ovsshm_region_header *h) { h->queue_stride_bytes = 0; }
static void layout_sqes(struct ovsshm_region_header *h) { h->sqes_offset = UINT64_MAX - 64; }
static void layout_cqes(struct ovsshm_region_header *h) { h->cqes_offset = 1ull << 40; }
static void layout_arena(struct ovsshm_region_header *h) { h->arena_offset = 0; }
static void layout_arena_bytes(struct ovsshm_region_header *h) { h->arena_bytes *= 2; }
static void layout_features(struct ovsshm_region_header *h) { h->features = 0; }
static void layout_block(struct ovsshm_region_header *h) { h->block_bytes = 512; }
static void layout_resv(struct ovsshm_region_header *h) { h->resv1[6] = 1; }
/* clang-format on */

static void
expect_open(void (*message)(struct outgoing *), void (*layout)(struct ovsshm_region_header *))
{
    const struct bend bend = {.type = OVSSHM_MSG_OPEN, .message = message, .layout = layout};
    struct ovsshm_conn *conn;
    struct ovsshm_volume *volume = NULL;
    struct ovsshm_status status;
    unsigned fds = test_fd_count();
    fake_start(&bend);
    CHECK_EQ(ovsshm_connect(socket_path, &conn), 0);
    CHECK_EQ(ovsshm_open(conn, "v", &open_params, &volume), -EPROTO);
    CHECK_TEXT(ovsshm_reason(), BROKE);
    CHECK(!volume);
    CHECK_EQ(ovsshm_status(conn, &status), 0); /* a session of its own has ended, not this */
    ovsshm_disconnect(conn);
    fake_stop();
    CHECK_EQ(test_fd_count(), fds);
}

static void
test_server_lying_in_open_is_left(void)
{
    static void (*const messages[])(struct outgoing *) = {
        bend_open_no_fds,   bend_open_few_fds, bend_open_many_fds, bend_open_pipe,
        bend_open_blocking, bend_open_file,    bend_open_memfd,    bend_open_swapped,
        bend_open_size,     bend_open_huge,    bend_open_tiny,     bend_open_depth,
        bend_open_queues,   bend_open_block,   bend_short,         bend_id,
    };
    static void (*const layouts[])(struct ovsshm_region_header *) = {
        layout_magic,       layout_version,  layout_depth, layout_entries, layout_entries_odd,
        layout_queues,      layout_stride,   layout_sqes,  layout_cqes,    layout_arena,
        layout_arena_bytes, layout_features, layout_block, layout_resv,
    };
    CHECK_EQ(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK), 0);
    blocking_eventfd = eventfd(0, EFD_CLOEXEC);
    plain_file = open(socket_path, O_PATH | O_CLOEXEC);
    plain_memfd = memfd_create("plain", MFD_CLOEXEC);
    CHECK(blocking_eventfd >= 0 && plain_file >= 0 && plain_memfd >= 0);
    CHECK_EQ(ftruncate(plain_memfd, 1 << 20), 0);
    for (unsigned i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
        expect_open(messages[i], NULL);
    }
    for (unsigned i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
        expect_open(NULL, layouts[i]);
    }
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    close(blocking_eventfd);
    close(plain_file);
    close(plain_memfd);
}

int
main(void)
{
    test_begin(300);
    socket_path = test_path("fake.sock");
    test_cleanup(free, socket_path);
    RUN(test_server_lying_in_hello_is_left);
    RUN(test_server_lying_in_replies_is_left);
    RUN(test_server_without_sessions_is_not_asked_for_them);
    RUN(test_server_lying_in_open_is_left);
    return 0;
}
