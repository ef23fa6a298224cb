/* SPDX-License-Identifier: MIT */
/*
 * Goal: a server takes its socket from nobody, leaves nothing behind, refuses bad parameters by
 * name, and stops in bounded time with every client told.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "gate_store.h"
#include "server_test.h"

static struct ovsshm_error error;

static struct ovsshm_store *
memory(void)
{
    return st_store(&ovsshm_store_memory, "", NULL);
}

static int
create_status(struct ovsshm_server_params params)
{
    struct ovsshm_server *server = NULL;
    struct ovsshm_store *store = memory();
    error.reason[0] = '\0';
    int rc = ovsshm_server_create(&params, store, &server, &error);
    ovsshm_server_destroy(server);
    store->type->destroy(store);
    return rc;
}

static bool
exists(const char *path)
{
    return access(path, F_OK) == 0;
}

/* ---- parameters ---------------------------------------------------------------------------------
 */

static void
test_caller_bad_parameters_are_named(void)
{
    char *path = test_path("s");
    const struct ovsshm_server_params good = {.socket_path = path};
    struct ovsshm_server_params bad;
#define REFUSED(member, value, text) \
    do { \
        bad = good; \
        bad.member = (value); \
        CHECK_EQ(create_status(bad), -EINVAL); \
        CHECK_TEXT(error.reason, text); \
    } while (0)
    REFUSED(socket_path, "", "socket_path is empty");
    REFUSED(socket_mode, 01777, "socket_mode is 1023");
    REFUSED(reactors, 65, "reactors is 65, it must be 1 to 64");
    REFUSED(depth_max, 4097, "depth_max is 4097");
    REFUSED(queues_max, 65, "queues_max is 65");
    REFUSED(request_bytes_max, 4095, "request_bytes_max is 4095");
    REFUSED(request_bytes_max, 1u << 31, "request_bytes_max is");
    REFUSED(arena_bytes_max, 4095, "arena_bytes_max is 4095");
    REFUSED(connections_max, UINT32_MAX, "connections_max is");
    CHECK_EQ(create_status(good), 0);
    CHECK(!exists(path));
    free(path);
}

static void
test_zero_means_the_default(void)
{
    st_start(memory(), (struct ovsshm_server_params){0});
    const struct ovsshm_server_params *params = ovsshm_server_effective(st.server);
    CHECK_EQ(params->socket_mode, 0660);
    CHECK(params->reactors >= 1);
    CHECK_EQ(params->depth_max, 4096);
    CHECK_EQ(params->queues_max, 64);
    CHECK_EQ(params->request_bytes_max, MIB);
    CHECK_EQ(params->connections_max, 1024);
    CHECK_EQ(params->arena_bytes_max, 256 * MIB);
    CHECK_EQ(st_end(0), 0);
}

/* ---- the socket ---------------------------------------------------------------------------------
 */

static void
test_socket_has_the_mode_and_owner_asked_for(void)
{
    struct stat status;
    mode_t mask = umask(0077);
    st_start(memory(), (struct ovsshm_server_params){.socket_mode = 0606});
    umask(mask);
    CHECK_EQ(stat(st.path, &status), 0);
    CHECK_EQ(status.st_mode & 07777, 0606);
    CHECK_EQ(st_end(0), 0);
    if (geteuid() == 0) {
        st_start(memory(), (struct ovsshm_server_params){
                               .socket_owner_set = true, .socket_uid = 12, .socket_gid = 34});
        CHECK_EQ(stat(st.path, &status), 0);
        CHECK_EQ(status.st_uid, 12);
        CHECK_EQ(status.st_gid, 34);
        CHECK_EQ(status.st_mode & 07777, 0660);
        CHECK_EQ(st_end(0), 0);
    }
}

static void
test_second_server_on_a_socket_is_refused(void)
{
    st_start(memory(), (struct ovsshm_server_params){0});
    CHECK_EQ(create_status((struct ovsshm_server_params){.socket_path = st.path}), -EADDRINUSE);
    CHECK_TEXT(error.reason, st.path);
    struct ovsshm_conn *conn = connect_ok(); /* the first goes on */
    ovsshm_disconnect(conn);
    CHECK_EQ(st_end(0), 0);
}

static int
bind_at(const char *path, int type)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    CHECK_EQ(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void
test_what_is_in_the_way_of_the_socket(void)
{
    char *path = test_path("s");
    const struct ovsshm_server_params params = {.socket_path = path};

    int fd = bind_at(path, SOCK_SEQPACKET); /* stale: nobody listens */
    CHECK_EQ(create_status(params), 0);
    close(fd);
    CHECK(!exists(path));

    for (int i = 0; i < 2; i++) { /* a stranger's, of either kind */
        fd = bind_at(path, i ? SOCK_STREAM : SOCK_SEQPACKET);
        CHECK_EQ(listen(fd, 1), 0);
        CHECK_EQ(create_status(params), -EADDRINUSE);
        CHECK_TEXT(error.reason, "another server answers on socket");
        CHECK(exists(path));
        close(fd);
        CHECK_EQ(unlink(path), 0);
    }

    fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600); /* not a socket: left alone */
    close(fd);
    CHECK_EQ(create_status(params), -ENOTSOCK);
    CHECK_TEXT(error.reason, "is not a socket");
    CHECK(exists(path));
    CHECK_EQ(unlink(path), 0);

    char *missing = test_path("no/such/dir");
    CHECK_EQ(create_status((struct ovsshm_server_params){.socket_path = missing}), -ENOENT);
    CHECK_TEXT(error.reason, "no/such/dir");
    char longest[200];
    memset(longest, 'x', sizeof(longest) - 1);
    longest[199] = '\0';
    CHECK_EQ(create_status((struct ovsshm_server_params){.socket_path = longest}), -ENAMETOOLONG);
    CHECK_TEXT(error.reason, "longer than 107 bytes");
    free(missing);
    free(path);
}

static void
test_server_killed_leaves_nothing_in_the_way(void)
{
    int ready[2];
    char byte;
    CHECK_EQ(pipe(ready), 0);
    st.path = test_path("shm.sock");
    char *path = st.path;
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        st_start(memory(), (struct ovsshm_server_params){0});
        CHECK_EQ(write(ready[1], "r", 1), 1);
        pause();
        _exit(0);
    }
    CHECK_EQ(read(ready[0], &byte, 1), 1);
    struct ovsshm_conn *conn = connect_ok();
    CHECK_EQ(ovsshm_create(conn, "v", MIB), 0);
    struct ovsshm_volume *volume = open_ok(conn, "v", OVSSHM_MODE_WRITE, 1);
    CHECK_EQ(kill(pid, SIGKILL), 0);
    CHECK_EQ(waitpid(pid, NULL, 0), pid);
    char data[512] = "x";
    CHECK_EQ(run(volume, OVSSHM_OP_WRITE, 0, data, sizeof(data)), -ENOTCONN);
    ovsshm_close(volume);
    ovsshm_disconnect(conn);
    close(ready[0]);
    close(ready[1]);
    st_start(memory(), (struct ovsshm_server_params){0}); /* takes the stale socket over */
    CHECK_EQ(st_end(0), 0);
    free(path);
}

/* Of servers that start at the same moment one gets the socket. */
struct contest {
    struct ovsshm_server *server;
    struct ovsshm_store *store;
    pthread_barrier_t *start;
    const char *path;
    int rc;
};

static void *
contend(void *arg)
{
    struct contest *c = arg;
    struct ovsshm_error reason;
    pthread_barrier_wait(c->start);
    c->rc = ovsshm_server_create(&(struct ovsshm_server_params){.socket_path = c->path}, c->store,
                                 &c->server, &reason);
    return NULL;
}

static void
test_of_servers_that_start_together_one_wins(void)
{
    char *path = test_path("s");
    for (int round = 0; round < 20; round++) {
        struct contest c[4];
        pthread_t threads[4];
        pthread_barrier_t start;
        int winners = 0;
        int fd = bind_at(path, SOCK_SEQPACKET);
        close(fd);
        pthread_barrier_init(&start, NULL, 4);
        for (int i = 0; i < 4; i++) {
            c[i] = (struct contest){.store = memory(), .start = &start, .path = path};
            threads[i] = test_thread(contend, &c[i]);
        }
        for (int i = 0; i < 4; i++) {
            test_join(threads[i]);
        }
        for (int i = 0; i < 4; i++) {
            CHECK(c[i].rc == 0 || c[i].rc == -EADDRINUSE);
            winners += c[i].rc == 0;
        }
        CHECK_EQ(winners, 1);
        for (int i = 0; i < 4; i++) {
            ovsshm_server_destroy(c[i].server);
            c[i].store->type->destroy(c[i].store);
        }
        pthread_barrier_destroy(&start);
        CHECK(!exists(path));
    }
    free(path);
}

static void
test_nothing_is_left(void)
{
    unsigned fds = test_fd_count();
    for (int i = 0; i < 5; i++) {
        st_start(memory(), (struct ovsshm_server_params){.reactors = 3});
        struct ovsshm_conn *conn = connect_ok();
        CHECK_EQ(ovsshm_create(conn, "v", MIB), 0);
        struct ovsshm_volume *volume = open_ok(conn, "v", OVSSHM_MODE_WRITE, 5);
        char data[512] = "x";
        CHECK_EQ(run(volume, OVSSHM_OP_WRITE, 0, data, sizeof(data)), sizeof(data));
        CHECK_EQ(st_end(0), 0); /* with a client there */
        CHECK_EQ(run(volume, OVSSHM_OP_WRITE, 0, data, sizeof(data)), -ENOTCONN);
        ovsshm_close(volume);
        ovsshm_disconnect(conn);
        char *lock = test_path("shm.sock.lock");
        CHECK(!exists(lock));
        free(lock);
    }
    CHECK_EQ(test_fd_count(), fds);
}

/* ---- order of calls
 * ------------------------------------------------------------------------------ */

static void
test_caller_calls_out_of_order(void)
{
    char *path = test_path("s");
    struct ovsshm_server *server = NULL;
    struct ovsshm_store *store = memory();
    CHECK_EQ(ovsshm_server_create(&(struct ovsshm_server_params){.socket_path = path}, store,
                                  &server, &error),
             0);
    CHECK_EQ(ovsshm_server_stop(server, SECOND), 0); /* was not started */
    CHECK_EQ(ovsshm_server_start(server, &error), 0);
    CHECK_EQ(ovsshm_server_start(server, &error), -EALREADY);
    CHECK_EQ(ovsshm_server_stop(server, SECOND), 0);
    CHECK_EQ(ovsshm_server_stop(server, SECOND), 0);
    CHECK_EQ(ovsshm_server_start(server, &error), -EALREADY);
    ovsshm_server_destroy(server);
    ovsshm_server_destroy(NULL);
    store->type->destroy(store);
    ovsshm_store_memory.destroy(NULL);
    free(path);
}

/* ---- stopping
 * ------------------------------------------------------------------------------------ */

struct stopper {
    pthread_t thread;
    uint64_t drain_ns;
    int rc;
};

static void *
stop_main(void *arg)
{
    struct stopper *stopper = arg;
    stopper->rc = ovsshm_server_stop(st.server, stopper->drain_ns);
    return NULL;
}

static void
await_event(struct ovsshm_volume *volume, uint32_t wanted)
{
    struct ovsshm_msg_event event = {0};
    while (event.event != wanted) {
        if (ovsshm_volume_event(volume, &event) == 0) {
            sched_yield();
        }
    }
}

static struct ovsshm_volume *
gated_volume(unsigned requests)
{
    st_start(st_store(&gate_store, "", NULL), (struct ovsshm_server_params){.reactors = REACTORS});
    struct ovsshm_conn *conn = connect_ok();
    CHECK_EQ(ovsshm_create(conn, "v", MIB), 0);
    struct ovsshm_volume *volume = open_ok(conn, "v", OVSSHM_MODE_WRITE, 1);
    ovsshm_disconnect(conn);
    struct ovsshm_queue *queue = ovsshm_volume_queue(volume, 0);
    char *buffer = ovsshm_buffer_alloc(volume, 4096);
    gate_close();
    for (unsigned i = 0; i < requests; i++) {
        struct ovsshm_io io = {.op = OVSSHM_OP_WRITE, .length_bytes = 4096, .buffer = buffer};
        CHECK_EQ(ovsshm_queue_prep(queue, &io), 0);
    }
    CHECK_EQ(ovsshm_queue_submit(queue), requests);
    gate_await(requests);
    return volume;
}

static void
test_stop_lets_requests_in_flight_finish(void)
{
    struct ovsshm_completion done[8];
    struct stopper stopper = {.drain_ns = 100ull * SECOND, .rc = 1};
    struct ovsshm_volume *volume = gated_volume(5);
    stopper.thread = test_thread(stop_main, &stopper);
    await_event(volume, OVSSHM_EVENT_DRAINING);
    gate_open();
    for (int n = 0; n < 5;) {
        int rc = ovsshm_queue_wait(ovsshm_volume_queue(volume, 0), done, 8, -1);
        for (int i = 0; i < rc; i++) {
            CHECK_EQ(done[i].result, 4096);
        }
        n += rc;
    }
    test_join(stopper.thread);
    CHECK_EQ(stopper.rc, 0);
    await_event(volume, OVSSHM_EVENT_ENDED);
    CHECK_EQ(ovsshm_volume_state(volume), -ENOTCONN);
    ovsshm_close(volume);
    CHECK_EQ(st_end(0), 0);
}

static void
test_stop_drops_what_does_not_finish(void)
{
    struct ovsshm_completion done[8];
    struct ovsshm_volume *volume = gated_volume(5);
    CHECK_EQ(ovsshm_server_stop(st.server, SECOND / 10), -ETIMEDOUT);
    st_await_log("5 requests were dropped");
    int n = 0;
    while (n < 5) {
        int rc = ovsshm_queue_wait(ovsshm_volume_queue(volume, 0), done, 8, -1);
        CHECK(rc > 0);
        for (int i = 0; i < rc; i++) {
            CHECK_EQ(done[i].result, -ENOTCONN);
        }
        n += rc;
    }
    ovsshm_close(volume);
    CHECK_EQ(st_end(0), 0);
}

static void
test_draining_server_opens_nothing(void)
{
    struct stopper stopper = {.drain_ns = 100ull * SECOND, .rc = 1};
    struct ovsshm_volume *volume = gated_volume(1);
    int fd = raw_connect();
    stopper.thread = test_thread(stop_main, &stopper);
    await_event(volume, OVSSHM_EVENT_DRAINING);
    CHECK_EQ(raw_open_call(
                 fd,
                 (struct ovsshm_msg_open){.mode = 1, .queues = 1, .depth = 1, .arena_bytes = MIB},
                 "v"),
             -ESHUTDOWN);
    CHECK_TEXT(raw_reason(), "the server is stopping");
    struct ovsshm_conn *conn;
    CHECK(ovsshm_connect(st.path, &conn) < 0);
    CHECK_EQ(raw_call(fd, OVSSHM_MSG_STATUS, NULL, 0), 0); /* still answers */
    gate_open();
    test_join(stopper.thread);
    CHECK_EQ(stopper.rc, 0);
    raw_await_end(fd, "the server has stopped");
    close(fd);
    ovsshm_close(volume);
    CHECK_EQ(st_end(0), 0);
}

/* ---- idleness
 * ------------------------------------------------------------------------------------ */

/* Idle connections: the reactors sleep, without a timeout, so nothing moves. */
static void
test_idle_connections_cost_nothing(void)
{
    struct ovsshm_volume *volumes[16];
    char name[16];
    char data[512] = "x";
    const struct timespec moment = {.tv_nsec = 100000000};
    st_start(memory(), (struct ovsshm_server_params){.reactors = 2});
    struct ovsshm_conn *conn = connect_ok();
    for (int i = 0; i < 16; i++) {
        snprintf(name, sizeof(name), "v%d", i);
        CHECK_EQ(ovsshm_create(conn, name, MIB), 0);
        volumes[i] = open_ok(conn, name, OVSSHM_MODE_WRITE, 4);
        CHECK_EQ(run(volumes[i], OVSSHM_OP_WRITE, 0, data, sizeof(data)), sizeof(data));
    }
    clockid_t clock;
    struct timespec before;
    struct timespec after;
    CHECK_EQ(clock_getcpuclockid(0, &clock), 0);
    do { /* a moment in which the whole process, clients included, ran for nothing but this loop */
        clock_gettime(clock, &before);
        clock_nanosleep(CLOCK_MONOTONIC, 0, &moment, NULL);
        clock_gettime(clock, &after);
    } while (after.tv_sec != before.tv_sec || after.tv_nsec - before.tv_nsec > 1000000);
    for (int i = 0; i < 16; i++) {
        CHECK_EQ(run(volumes[i], OVSSHM_OP_READ, 0, data, sizeof(data)), sizeof(data));
        ovsshm_close(volumes[i]);
    }
    ovsshm_disconnect(conn);
    CHECK_EQ(st_end(0), 0);
}

int
main(void)
{
    test_begin(120);
    RUN(test_caller_bad_parameters_are_named);
    RUN(test_zero_means_the_default);
    RUN(test_socket_has_the_mode_and_owner_asked_for);
    RUN(test_second_server_on_a_socket_is_refused);
    RUN(test_what_is_in_the_way_of_the_socket);
    RUN(test_server_killed_leaves_nothing_in_the_way);
    RUN(test_of_servers_that_start_together_one_wins);
    RUN(test_nothing_is_left);
    RUN(test_caller_calls_out_of_order);
    RUN(test_stop_lets_requests_in_flight_finish);
    RUN(test_stop_drops_what_does_not_finish);
    RUN(test_draining_server_opens_nothing);
    RUN(test_idle_connections_cost_nothing);
    return 0;
}
