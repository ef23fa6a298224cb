/* SPDX-License-Identifier: MIT */
/*
 * Goal: every control message is checked; what is wrong is refused with an errno and a reason that
 * names the thing, what no correct client sends ends the connection, and nobody else notices.
 * Method: messages by hand, against the memory store.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "server_test.h"

static int other; /* a well-behaved connection */

static void
check_other(void)
{
    CHECK_EQ(raw_call(other, OVSSHM_MSG_STATUS, NULL, 0), 0);
}

/* ---- hello ------------------------------------------------------------------------------------
 */

static void
test_hello_tells_the_limits(void)
{
    struct ovsshm_msg_hello_reply reply;
    int fd = raw_socket();
    CHECK_EQ(raw_hello(fd, 1, 9, UINT64_MAX), 0);
    CHECK_EQ(raw_packet.head.payload_bytes, sizeof(reply));
    memcpy(&reply, raw_packet.payload, sizeof(reply));
    CHECK_EQ(reply.version, OVSSHM_VERSION);
    CHECK_EQ(reply.features,
             OVSSHM_FEATURE_SEGMENTS | OVSSHM_FEATURE_EVENTS | OVSSHM_FEATURE_SESSIONS);
    CHECK_EQ(reply.queues_max, OVSSHM_QUEUES_MAX);
    CHECK_EQ(reply.depth_max, OVSSHM_DEPTH_MAX);
    CHECK_EQ(reply.request_bytes_max, MIB);
    CHECK_EQ(reply.range_bytes_max, OVSSHM_RANGE_BYTES_MAX);
    CHECK_EQ(reply.segments_max, OVSSHM_SEGMENTS_MAX);
    CHECK_EQ(reply.arena_bytes_max, 256 * MIB);
    CHECK(reply.capabilities & OVSSHM_CAP_WRITE);
    CHECK_TEXT(reply.store, "memory");
    CHECK_TEXT(reply.server, "openvstorage-shm");
    close(fd);
}

static void
test_client_of_another_version_is_refused_with_both_ranges(void)
{
    const uint32_t ranges[][2] = {{2, 3}, {0, 0}, {UINT32_MAX, UINT32_MAX}};
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        char text[64];
        int fd = raw_socket();
        CHECK_EQ(raw_hello(fd, ranges[i][0], ranges[i][1], 0), -EPROTONOSUPPORT);
        snprintf(text, sizeof(text), "versions %u to %u, the server 1 to 1", ranges[i][0],
                 ranges[i][1]);
        CHECK_TEXT(raw_reason(), text);
        await_hangup(fd);
        close(fd);
    }
}

/* ---- messages that no correct client sends ----------------------------------------------------
 */

static void
expect_protocol_error(int fd, uint16_t type, const void *payload, size_t bytes, const char *reason)
{
    CHECK_EQ(raw_call(fd, type, payload, bytes), -EPROTO);
    CHECK_TEXT(raw_reason(), reason);
    await_hangup(fd);
    close(fd);
    check_other();
}

static void
test_client_that_does_not_begin_with_hello_is_thrown_out(void)
{
    struct ovsshm_msg_volume volume = {.name = "v"};
    expect_protocol_error(raw_socket(), OVSSHM_MSG_STATUS, NULL, 0, "hello comes first");
    expect_protocol_error(raw_socket(), OVSSHM_MSG_STAT, &volume, sizeof(volume), "hello");
}

static void
test_client_bad_hello_is_thrown_out(void)
{
    struct ovsshm_msg_hello hello = {.version_min = 1, .version_max = 1};
    expect_protocol_error(raw_connect(), OVSSHM_MSG_HELLO, &hello, sizeof(hello), "twice");
    expect_protocol_error(raw_socket(), OVSSHM_MSG_HELLO, &hello, sizeof(hello) - 1, "wrong size");
    hello.version_min = 2;
    expect_protocol_error(raw_socket(), OVSSHM_MSG_HELLO, &hello, sizeof(hello), "bad contents");
    hello.version_min = 1;
    memset(hello.client, 'x', sizeof(hello.client));
    expect_protocol_error(raw_socket(), OVSSHM_MSG_HELLO, &hello, sizeof(hello), "bad contents");
}

static void
test_client_message_of_wrong_size_or_type_is_thrown_out(void)
{
    static const uint16_t known[] = {
        OVSSHM_MSG_STATUS,
        OVSSHM_MSG_CREATE,
        OVSSHM_MSG_REMOVE,
        OVSSHM_MSG_RESIZE,
        OVSSHM_MSG_STAT,
        OVSSHM_MSG_LIST,
        OVSSHM_MSG_SNAPSHOT_CREATE,
        OVSSHM_MSG_SNAPSHOT_LIST,
        OVSSHM_MSG_SNAPSHOT_ROLLBACK,
        OVSSHM_MSG_SNAPSHOT_REMOVE,
        OVSSHM_MSG_SNAPSHOT_IS_SYNCED,
        OVSSHM_MSG_OPEN,
        OVSSHM_MSG_SET_MODE,
    };
    static const uint16_t unknown[] = {0, 4, 15, 21, 50, OVSSHM_MSG_EVENT, 65535};
    static unsigned char payload[OVSSHM_MSG_BYTES_MAX - sizeof(struct ovsshm_msg)];
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        expect_protocol_error(raw_connect(), known[i], payload, 7, "wrong size");
        expect_protocol_error(raw_connect(), known[i], payload, sizeof(payload), "wrong size");
    }
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        expect_protocol_error(raw_connect(), unknown[i], payload, 0, "unknown type");
    }
}

static void
send_raw(struct ovsshm_msg head, const int *fds, unsigned fd_count, const char *reason)
{
    int fd = raw_connect();
    CHECK_EQ(ovsshm_msg_send(fd, head, NULL, 0, fds, fd_count), 0);
    if (reason) {
        ovsshm_packet_close_fds(&raw_packet);
        CHECK_EQ(ovsshm_msg_recv(fd, &raw_packet, 0, 0), 0);
        CHECK_EQ(raw_packet.head.status, -EPROTO);
        CHECK_TEXT(raw_reason(), reason);
    }
    await_hangup(fd);
    close(fd);
    check_other();
}

static void
test_client_bad_header_is_thrown_out(void)
{
    const struct ovsshm_msg good = {.type = OVSSHM_MSG_STATUS};
    struct ovsshm_msg bad = good;
    bad.flags = OVSSHM_MSG_REPLY;
    send_raw(bad, NULL, 0, "bad header");
    bad.flags = 1u << 15;
    send_raw(bad, NULL, 0, "bad header");
    bad = good;
    bad.status = -1;
    send_raw(bad, NULL, 0, "bad header");
    for (int i = 0; i < 3; i++) {
        bad = good;
        bad.resv[i] = 1;
        send_raw(bad, NULL, 0, "bad header");
    }
    unsigned fds = test_fd_count();
    int many[OVSSHM_MSG_FDS_MAX] = {0};
    send_raw(good, many, 1, NULL); /* a request brings no descriptors */
    send_raw(good, many, OVSSHM_MSG_FDS_MAX, NULL);
    CHECK_EQ(test_fd_count(), fds);
}

static void
test_client_bytes_that_are_no_message_are_thrown_out(void)
{
    static const char bytes[OVSSHM_MSG_BYTES_MAX + 64] = "GET / HTTP/1.0\r\n";
    const size_t sizes[] = {1, 16, 31, 32, 33, 4096, sizeof(bytes)};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        int fd = raw_connect();
        CHECK_EQ(send(fd, bytes, sizes[i], 0), (long)sizes[i]);
        raw_await_end(fd, "not a message");
        close(fd);
        check_other();
    }
    int fd = raw_connect(); /* half-closed */
    CHECK_EQ(shutdown(fd, SHUT_WR), 0);
    await_hangup(fd);
    close(fd);
}

static void
test_client_reserved_members_and_text_without_end_are_thrown_out(void)
{
    struct ovsshm_msg_volume volume = {.name = "v", .resv = 1};
    expect_protocol_error(raw_connect(), OVSSHM_MSG_STAT, &volume, sizeof(volume), "bad contents");
    volume = (struct ovsshm_msg_volume){.name = "v", .size_bytes = 512};
    expect_protocol_error(raw_connect(), OVSSHM_MSG_STAT, &volume, sizeof(volume), "bad contents");
    expect_protocol_error(raw_connect(), OVSSHM_MSG_REMOVE, &volume, sizeof(volume), "bad");
    memset(volume.name, 'x', sizeof(volume.name));
    expect_protocol_error(raw_connect(), OVSSHM_MSG_CREATE, &volume, sizeof(volume), "bad");

    struct ovsshm_msg_snapshot snapshot = {.volume = "v", .snapshot = "s", .timeout_s = 1};
    expect_protocol_error(raw_connect(), OVSSHM_MSG_SNAPSHOT_REMOVE, &snapshot, sizeof(snapshot),
                          "bad contents");
    snapshot.resv = 1;
    expect_protocol_error(raw_connect(), OVSSHM_MSG_SNAPSHOT_CREATE, &snapshot, sizeof(snapshot),
                          "bad contents");
    snapshot.resv = 0;
    memset(snapshot.snapshot, 'x', sizeof(snapshot.snapshot));
    expect_protocol_error(raw_connect(), OVSSHM_MSG_SNAPSHOT_CREATE, &snapshot, sizeof(snapshot),
                          "bad contents");

    struct ovsshm_msg_open open = {
        .name = "v", .mode = 1, .queues = 1, .depth = 1, .arena_bytes = MIB, .resv0 = 1};
    expect_protocol_error(raw_connect(), OVSSHM_MSG_OPEN, &open, sizeof(open), "bad contents");
    open.resv0 = 0;
    open.resv1 = 1;
    expect_protocol_error(raw_connect(), OVSSHM_MSG_OPEN, &open, sizeof(open), "bad contents");
    struct ovsshm_msg_set_mode mode = {.mode = 1, .resv = 1};
    expect_protocol_error(raw_connect(), OVSSHM_MSG_SET_MODE, &mode, sizeof(mode), "bad contents");
}

/* ---- requests that are refused, and the connection goes on ------------------------------------
 */

static void
expect_refusal(int rc, int error, const char *reason)
{
    CHECK_EQ(rc, error);
    CHECK_TEXT(raw_reason(), reason);
}

static void
test_caller_bad_names_are_refused(void)
{
    static const struct {
        const char *name;
        const char *reason;
    } bad[] = {
        {"", "is empty"},
        {"/a", "starts with \"/\""},
        {"a//b", "empty component"},
        {"a/", "empty component"},
        {"a/../b", "component \".\" or \"..\""},
        {".", "component \".\" or \"..\""},
        {"a\nb", "control character"},
        {"a\x7f", "control character"},
        {".openvstorage/x", "reserved component"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        expect_refusal(raw_volume(other, OVSSHM_MSG_CREATE, bad[i].name, 512), -EINVAL,
                       bad[i].reason);
        CHECK_TEXT(raw_reason(), "volume name");
        expect_refusal(raw_open_call(other,
                                     (struct ovsshm_msg_open){
                                         .mode = 1, .queues = 1, .depth = 1, .arena_bytes = MIB},
                                     bad[i].name),
                       -EINVAL, bad[i].reason);
    }
    char longest[OVSSHM_NAME_BYTES];
    memset(longest, 'x', sizeof(longest) - 1);
    longest[255] = '\0';
    expect_refusal(raw_volume(other, OVSSHM_MSG_CREATE, longest, 512), -ENAMETOOLONG, "254 bytes");
    longest[254] = '\0';
    CHECK_EQ(raw_volume(other, OVSSHM_MSG_CREATE, longest, 512), 0);
    CHECK_EQ(raw_volume(other, OVSSHM_MSG_REMOVE, longest, 0), 0);
    struct ovsshm_msg_snapshot snapshot = {.volume = "v", .snapshot = "a/b"};
    expect_refusal(raw_call(other, OVSSHM_MSG_SNAPSHOT_CREATE, &snapshot, sizeof(snapshot)),
                   -EINVAL, "snapshot name \"a/b\" has a \"/\"");
}

static void
test_caller_bad_sizes_are_refused(void)
{
    expect_refusal(raw_volume(other, OVSSHM_MSG_CREATE, "v", 511), -EINVAL,
                   "size 511 of volume \"v\" is not a multiple of 512");
    expect_refusal(raw_volume(other, OVSSHM_MSG_CREATE, "v", UINT64_MAX - 511), -EINVAL, "larger");
    CHECK_EQ(raw_volume(other, OVSSHM_MSG_CREATE, "v", 0), 0);
    CHECK_EQ(raw_volume(other, OVSSHM_MSG_RESIZE, "v", 1536), 0);
    expect_refusal(raw_volume(other, OVSSHM_MSG_RESIZE, "v", 1024), -EPERM,
                   "volume \"v\" cannot shrink from 1536 to 1024 bytes");
    expect_refusal(raw_volume(other, OVSSHM_MSG_RESIZE, "v", 1537), -EINVAL, "multiple");
    CHECK_EQ(raw_volume(other, OVSSHM_MSG_REMOVE, "v", 0), 0);
}

static void
test_caller_missing_and_existing_things_are_named(void)
{
    struct ovsshm_msg_snapshot snapshot = {.volume = "v", .snapshot = "s"};
    const uint16_t on_volume[] = {OVSSHM_MSG_REMOVE, OVSSHM_MSG_RESIZE, OVSSHM_MSG_STAT};
    const uint16_t on_snapshot[] = {OVSSHM_MSG_SNAPSHOT_CREATE, OVSSHM_MSG_SNAPSHOT_ROLLBACK,
                                    OVSSHM_MSG_SNAPSHOT_REMOVE, OVSSHM_MSG_SNAPSHOT_IS_SYNCED,
                                    OVSSHM_MSG_SNAPSHOT_LIST};
    for (size_t i = 0; i < sizeof(on_volume) / sizeof(on_volume[0]); i++) {
        expect_refusal(raw_volume(other, on_volume[i], "v", 0), -ENOENT,
                       "volume \"v\" does not exist");
    }
    for (size_t i = 0; i < sizeof(on_snapshot) / sizeof(on_snapshot[0]); i++) {
        expect_refusal(raw_call(other, on_snapshot[i], &snapshot, sizeof(snapshot)), -ENOENT,
                       "volume \"v\" does not exist");
    }
    expect_refusal(
        raw_open_call(
            other, (struct ovsshm_msg_open){.mode = 1, .queues = 1, .depth = 1, .arena_bytes = MIB},
            "v"),
        -ENOENT, "volume \"v\" does not exist");
    CHECK_EQ(raw_volume(other, OVSSHM_MSG_CREATE, "v", 4096), 0);
    expect_refusal(raw_volume(other, OVSSHM_MSG_CREATE, "v", 4096), -EEXIST,
                   "volume \"v\" exists already");
    for (size_t i = 1; i < sizeof(on_snapshot) / sizeof(on_snapshot[0]); i++) {
        expect_refusal(raw_call(other, on_snapshot[i], &snapshot, sizeof(snapshot)), -ENOENT,
                       "volume \"v\" has no snapshot \"s\"");
    }
    CHECK_EQ(raw_call(other, OVSSHM_MSG_SNAPSHOT_CREATE, &snapshot, sizeof(snapshot)), 0);
    expect_refusal(raw_call(other, OVSSHM_MSG_SNAPSHOT_CREATE, &snapshot, sizeof(snapshot)),
                   -EEXIST, "snapshot \"s\" exists already");
    CHECK_EQ(raw_volume(other, OVSSHM_MSG_REMOVE, "v", 0), 0);
}

static void
test_caller_open_beyond_the_limits_is_refused(void)
{
    const struct ovsshm_msg_open good = {
        .mode = 1, .queues = 1, .depth = 1, .arena_bytes = OVSSHM_PAGE_BYTES};
    struct ovsshm_msg_open bad = good;
    CHECK_EQ(raw_volume(other, OVSSHM_MSG_CREATE, "v", 4096), 0);
#define REFUSED(member, value, reason) \
    do { \
        bad = good; \
        bad.member = (value); \
        expect_refusal(raw_open_call(other, bad, "v"), -EINVAL, reason); \
    } while (0)
    REFUSED(mode, 0, "unknown mode 0");
    REFUSED(mode, 3, "unknown mode 3");
    REFUSED(queues, 0, "number of queues is 0, the server allows 1 to 64");
    REFUSED(queues, 65, "number of queues is 65");
    REFUSED(depth, 0, "queue depth is 0, the server allows 1 to 4096");
    REFUSED(depth, 4097, "queue depth is 4097");
    REFUSED(arena_bytes, 0, "arena size is 0");
    REFUSED(arena_bytes, 4095, "not a multiple of 4096");
    REFUSED(arena_bytes, 257ull * MIB, "arena size is 269484032");
    REFUSED(arena_bytes, UINT64_MAX - 4095, "arena size is");
    struct ovsshm_msg_set_mode mode = {.mode = 1};
    expect_refusal(raw_call(other, OVSSHM_MSG_SET_MODE, &mode, sizeof(mode)), -EINVAL,
                   "no volume is open");
    int fd = raw_connect();
    CHECK_EQ(raw_open_call(fd, good, "v"), 0);
    expect_refusal(raw_open_call(fd, good, "v"), -EINVAL, "has volume \"v\" open");
    mode.mode = 7;
    expect_refusal(raw_call(fd, OVSSHM_MSG_SET_MODE, &mode, sizeof(mode)), -EINVAL, "unknown mode");
    close(fd);
    CHECK_EQ(raw_volume(other, OVSSHM_MSG_REMOVE, "v", 0), 0);
}

static void
test_list_goes_by_pages(void)
{
    char name[OVSSHM_NAME_BYTES];
    struct ovsshm_msg_list_reply head;
    struct ovsshm_volume_info info;
    unsigned seen = 0;
    for (unsigned i = 0; i < 500; i++) {
        snprintf(name, sizeof(name), "list/%03u", (i * 7) % 500);
        CHECK_EQ(raw_volume(other, OVSSHM_MSG_CREATE, name, i * 512), 0);
    }
    name[0] = '\0';
    do {
        CHECK_EQ(raw_volume(other, OVSSHM_MSG_LIST, name, 0), 0);
        memcpy(&head, raw_packet.payload, sizeof(head));
        CHECK_EQ(raw_packet.head.payload_bytes, sizeof(head) + head.count * sizeof(info));
        for (unsigned i = 0; i < head.count; i++) {
            memcpy(&info, raw_packet.payload + sizeof(head) + i * sizeof(info), sizeof(info));
            snprintf(name, sizeof(name), "list/%03u", seen++);
            CHECK(!strcmp(info.name, name));
        }
    } while (head.more);
    CHECK_EQ(seen, 500);
    for (unsigned i = 0; i < 500; i++) {
        snprintf(name, sizeof(name), "list/%03u", i);
        CHECK_EQ(raw_volume(other, OVSSHM_MSG_REMOVE, name, 0), 0);
    }
}

/* ---- who may come in ---------------------------------------------------------------------------
 */

static void
test_connections_beyond_the_maximum_are_told_so(void)
{
    st_start(st_store(&ovsshm_store_memory, "", NULL),
             (struct ovsshm_server_params){.connections_max = 3});
    int fds[3];
    for (int i = 0; i < 3; i++) {
        fds[i] = raw_connect();
    }
    for (int i = 0; i < 40; i++) { /* more than may wait for their refusal */
        int fd = raw_socket();
        CHECK_EQ(raw_hello(fd, 1, 1, 0), -EUSERS);
        CHECK_TEXT(raw_reason(), "maximum of 3 connections");
        close(fd);
    }
    int waiting[40];
    for (int i = 0; i < 40; i++) {
        waiting[i] = raw_socket();
    }
    CHECK_EQ(raw_call(fds[0], OVSSHM_MSG_STATUS, NULL, 0), 0);
    CHECK_EQ(st_status().connections, 3);
    for (int i = 0; i < 40; i++) {
        close(waiting[i]);
    }
    close(fds[2]);
    while (st_status().connections == 3) {
        sched_yield();
    }
    /* Those that gave up waiting may still hold the free place, until the server sees it. */
    int again;
    int rc;
    do {
        again = raw_socket();
        rc = raw_hello(again, 1, 1, 0);
    } while (rc == -EUSERS && close(again) == 0);
    CHECK_EQ(rc, 0);
    close(again);
    close(fds[0]);
    close(fds[1]);
    CHECK_EQ(st_end(0), 0);
}

/* Says hello as user and group 65534; the exit code is the status of the reply. */
static int
hello_as_nobody(void)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        const gid_t extra = 4242;
        if (setgroups(1, &extra) || setgid(65534) || setuid(65534)) {
            _exit(126);
        }
        int fd = raw_socket();
        int status = raw_hello(fd, 1, 1, 0);
        if (status && !strstr(raw_reason(), "user 65534 is not on the server's list")) {
            _exit(125);
        }
        _exit(-status);
    }
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void
test_peer_not_on_the_list_is_refused(void)
{
    const uid_t uids[] = {1, 65534};
    const gid_t own[] = {65534};
    const gid_t extra[] = {7, 4242};
    const struct {
        struct ovsshm_server_params params;
        int status;
    } cases[] = {
        {{.allow_uids = NULL}, 0},
        {{.allow_uids = uids, .allow_uid_count = 1}, EACCES},
        {{.allow_uids = uids, .allow_uid_count = 2}, 0},
        {{.allow_gids = own, .allow_gid_count = 1}, 0},
        {{.allow_gids = extra, .allow_gid_count = 1}, EACCES},
        {{.allow_gids = extra, .allow_gid_count = 2}, 0},
    };
    if (geteuid() != 0) {
        printf("not root: skipped\n");
        return;
    }
    CHECK_EQ(chmod(test_dir(), 0755), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct ovsshm_server_params params = cases[i].params;
        params.socket_mode = 0666;
        st_start(st_store(&ovsshm_store_memory, "", NULL), params);
        CHECK_EQ(hello_as_nobody(), cases[i].status);
        int fd = raw_connect(); /* root may always */
        close(fd);
        CHECK_EQ(st_end(0), 0);
    }
}

/* ---- clients that do not read ------------------------------------------------------------------
 */

static void
test_client_that_does_not_read_is_ended_and_blocks_nobody(void)
{
    struct ovsshm_msg_open open = {.mode = 1, .queues = 1, .depth = 1, .arena_bytes = MIB};
    CHECK_EQ(raw_volume(other, OVSSHM_MSG_CREATE, "v", 0), 0);
    int deaf = raw_connect();
    CHECK_EQ(raw_open_call(deaf, open, "v"), 0);
    uint64_t size = 0;
    while (st_status().sessions) { /* each resize is an event for it */
        CHECK_EQ(raw_volume(other, OVSSHM_MSG_RESIZE, "v", size += 512), 0);
    }
    st_await_log("does not read its events");
    close(deaf);
    int mute = raw_connect(); /* asks and asks, and never looks at an answer */
    CHECK_EQ(fcntl(mute, F_SETFL, O_NONBLOCK), 0);
    struct ovsshm_msg head = {.type = OVSSHM_MSG_STATUS};
    struct pollfd p = {.fd = mute, .events = POLLOUT};
    int rc;
    do {
        CHECK_EQ(poll(&p, 1, -1), 1);
        rc = ovsshm_msg_send(mute, head, NULL, 0, NULL, 0);
    } while (rc == 0 || rc == -EAGAIN);
    CHECK_EQ(rc, -EPIPE);
    close(mute);
    check_other();
    CHECK_EQ(raw_volume(other, OVSSHM_MSG_REMOVE, "v", 0), 0);
}

int
main(void)
{
    test_begin(120);
    RUN(test_connections_beyond_the_maximum_are_told_so);
    RUN(test_peer_not_on_the_list_is_refused);
    st_start_memory();
    other = raw_connect();
    RUN(test_hello_tells_the_limits);
    RUN(test_client_of_another_version_is_refused_with_both_ranges);
    RUN(test_client_that_does_not_begin_with_hello_is_thrown_out);
    RUN(test_client_bad_hello_is_thrown_out);
    RUN(test_client_message_of_wrong_size_or_type_is_thrown_out);
    RUN(test_client_bad_header_is_thrown_out);
    RUN(test_client_bytes_that_are_no_message_are_thrown_out);
    RUN(test_client_reserved_members_and_text_without_end_are_thrown_out);
    RUN(test_caller_bad_names_are_refused);
    RUN(test_caller_bad_sizes_are_refused);
    RUN(test_caller_missing_and_existing_things_are_named);
    RUN(test_caller_open_beyond_the_limits_is_refused);
    RUN(test_list_goes_by_pages);
    RUN(test_client_that_does_not_read_is_ended_and_blocks_nobody);
    ovsshm_packet_close_fds(&raw_packet);
    close(other);
    CHECK_EQ(st_end(SECOND), 0);
    return 0;
}
