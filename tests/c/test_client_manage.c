/* SPDX-License-Identifier: MIT */
/*
 * Goal: the calls of a connection, their errors, and how a session ends.
 * Method: the real server with a memory store; in a process of its own where it has to die.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "shared/atomic.h"

#include "test_client_server.h"

/* ---- finding the server -------------------------------------------------------------------------
 */

static void
test_default_socket_follows_the_environment(void)
{
    char path[4096];
    setenv("OVS_SHM_SOCKET", "/some/where.sock", 1);
    CHECK_EQ(ovsshm_default_socket(path, sizeof(path)), 0);
    CHECK(!strcmp(path, "/some/where.sock"));
    CHECK_EQ(ovsshm_default_socket(path, strlen("/some/where.sock")), -ENAMETOOLONG);
    CHECK_EQ(ovsshm_default_socket(path, strlen("/some/where.sock") + 1), 0);
    setenv("OVS_SHM_SOCKET", "", 1); /* as if unset */
    setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
    CHECK_EQ(ovsshm_default_socket(path, sizeof(path)), 0);
    CHECK(!strcmp(path,
                  geteuid() ? "/run/user/7/openvstorage/shm.sock" : "/run/openvstorage/shm.sock"));
    unsetenv("OVS_SHM_SOCKET");
    unsetenv("XDG_RUNTIME_DIR");
    CHECK_EQ(ovsshm_default_socket(path, sizeof(path)), geteuid() ? -ENOENT : 0);
}

static void
expect_no_connection(const char *path, int error, const char *reason)
{
    struct ovsshm_conn *none = NULL;
    unsigned fds = test_fd_count();
    CHECK_EQ(ovsshm_connect(path, &none), error);
    CHECK_TEXT(ovsshm_reason(), reason);
    CHECK(!none);
    CHECK_EQ(test_fd_count(), fds);
}

static void
test_failure_to_connect_says_what_to_do(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char *stale = test_path("stale.sock");
    char *stream = test_path("stream.sock");
    char longer[200];
    strcpy(address.sun_path, stale);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    CHECK_EQ(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    close(fd);
    strcpy(address.sun_path, stream);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    CHECK_EQ(listen(fd, 1), 0);
    memset(longer, 'x', sizeof(longer));
    longer[sizeof(longer) - 1] = 0;

    expect_no_connection("/nonexistent/shm.sock", -ENOENT,
                         "cannot connect to /nonexistent/shm.sock: No such file or directory: is "
                         "shmserver running?");
    setenv("OVS_SHM_SOCKET", "/nonexistent/shm.sock", 1);
    expect_no_connection(NULL, -ENOENT, "(socket from $OVS_SHM_SOCKET)");
    unsetenv("OVS_SHM_SOCKET");
    expect_no_connection(stale, -ECONNREFUSED, "is shmserver running?");
    expect_no_connection(stream, -EPROTOTYPE, "another program's socket");
    expect_no_connection(longer, -ENAMETOOLONG, "at most 107 bytes");
    expect_no_connection("", -EINVAL, "empty");
    close(fd);
    free(stale);
    free(stream);
}

/* ---- volumes -------------------------------------------------------------------------------- */

static void
remove_volume(const char *name)
{
    int rc;
    do {
        rc = ovsshm_remove(conn, name);
    } while (rc == -EBUSY);
    CHECK_EQ(rc, 0);
}

static void
test_hello_tells_limits_and_names(void)
{
    const struct ovsshm_msg_hello_reply *hello = ovsshm_conn_hello(conn);
    CHECK_EQ(hello->version, OVSSHM_VERSION);
    CHECK_EQ(hello->depth_max, 4096);
    CHECK_EQ(hello->request_bytes_max, 1048576);
    CHECK(hello->capabilities & OVSSHM_CAP_WRITE);
    CHECK(!strcmp(hello->store, "memory"));
    CHECK(hello->server[0]);
    CHECK(ovsshm_version()[0]);
}

static void
test_volume_from_create_to_remove(void)
{
    struct ovsshm_volume_info info;
    CHECK_EQ(ovsshm_create(conn, "dir/a", 1 << 20), 0);
    CHECK_EQ(ovsshm_create(conn, "dir/a", 1 << 20), -EEXIST);
    CHECK_TEXT(ovsshm_reason(), "dir/a");
    CHECK_EQ(ovsshm_stat(conn, "dir/a", &info), 0);
    CHECK(!strcmp(info.name, "dir/a"));
    CHECK_EQ(info.size_bytes, 1 << 20);
    CHECK_EQ(info.writers + info.readers, 0);
    CHECK_EQ(ovsshm_resize(conn, "dir/a", 1 << 21), 0);
    CHECK_EQ(ovsshm_resize(conn, "dir/a", 1 << 20), -EPERM);
    CHECK_EQ(ovsshm_stat(conn, "dir/a", &info), 0);
    CHECK_EQ(info.size_bytes, 1 << 21);
    CHECK_EQ(ovsshm_remove(conn, "dir/a"), 0);
    CHECK_EQ(ovsshm_remove(conn, "dir/a"), -ENOENT);
    CHECK_EQ(ovsshm_stat(conn, "dir/a", &info), -ENOENT);
    CHECK_TEXT(ovsshm_reason(), "dir/a");
    CHECK_EQ(ovsshm_resize(conn, "dir/a", 512), -ENOENT);
}

static void
test_caller_bad_names_and_sizes_are_refused_here(void)
{
    static const struct {
        const char *name;
        int error;
        const char *reason;
    } bad[] = {
        {NULL, -EINVAL, "is empty"},
        {"", -EINVAL, "is empty"},
        {"/a", -EINVAL, "\"/a\" starts with \"/\""},
        {"a//b", -EINVAL, "has an empty component"},
        {"a/", -EINVAL, "has an empty component"},
        {"a/./b", -EINVAL, "has a component \".\" or \"..\""},
        {"..", -EINVAL, "has a component \".\" or \"..\""},
        {"a\nb", -EINVAL, "\"a?b\" has a control character"},
        {".openvstorage", -EINVAL, "reserved"},
    };
    struct ovsshm_volume *none = NULL;
    struct ovsshm_volume_info info;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        CHECK_EQ(ovsshm_create(conn, bad[i].name, 512), bad[i].error);
        CHECK_TEXT(ovsshm_reason(), bad[i].reason);
        CHECK_EQ(ovsshm_open(conn, bad[i].name, NULL, &none), bad[i].error);
        CHECK_EQ(ovsshm_stat(conn, bad[i].name, &info), bad[i].error);
        CHECK_EQ(ovsshm_snapshot_create(conn, "v", bad[i].name, 0), bad[i].error);
    }
    char name[256];
    memset(name, 'n', 255);
    name[255] = 0;
    CHECK_EQ(ovsshm_create(conn, name, 512), -ENAMETOOLONG);
    name[254] = 0;
    CHECK_EQ(ovsshm_create(conn, name, 512), 0);
    CHECK_EQ(ovsshm_remove(conn, name), 0);
    CHECK_EQ(ovsshm_snapshot_create(conn, "v", "a/b", 0), -EINVAL);
    CHECK_EQ(ovsshm_create(conn, "v", 511), -EINVAL);
    CHECK_TEXT(ovsshm_reason(), "size 511 of volume \"v\" is not a multiple of 512 bytes");
    CHECK_EQ(ovsshm_create(conn, "v", 1ull << 63), -EINVAL);
    CHECK_EQ(ovsshm_create(conn, "empty", 0), 0);
    CHECK_EQ(ovsshm_remove(conn, "empty"), 0);
}

#define LISTED 500 /* more than two pages */

static void
test_lists_are_complete_and_in_order(void)
{
    static struct ovsshm_volume_info infos[LISTED + 1];
    char name[32];
    CHECK_EQ(ovsshm_list(conn, NULL, infos, LISTED), 0);
    for (unsigned i = 0; i < LISTED; i++) {
        snprintf(name, sizeof(name), "list/%03u", (i * 7) % LISTED);
        CHECK_EQ(ovsshm_create(conn, name, 512 * i), 0);
    }
    CHECK_EQ(ovsshm_list(conn, NULL, infos, LISTED + 1), LISTED);
    for (unsigned i = 0; i < LISTED; i++) {
        snprintf(name, sizeof(name), "list/%03u", i);
        CHECK(!strcmp(infos[i].name, name));
    }
    CHECK_EQ(ovsshm_list(conn, "list/399", infos, LISTED), 100);
    CHECK(!strcmp(infos[0].name, "list/400"));
    CHECK_EQ(ovsshm_list(conn, "list/399", infos, 3), 3);
    CHECK_EQ(ovsshm_list(conn, "list/499", infos, 3), 0);
    CHECK_EQ(ovsshm_list(conn, NULL, infos, 0), 0);
    for (unsigned i = 0; i < LISTED; i++) {
        snprintf(name, sizeof(name), "list/%03u", i);
        CHECK_EQ(ovsshm_remove(conn, name), 0);
    }
}

static void
test_snapshots_from_create_to_rollback(void)
{
    struct ovsshm_snapshot_info infos[4];
    struct ovsshm_volume_info info;
    unsigned char data[512] = {1};
    CHECK_EQ(ovsshm_create(conn, "s", 4096), 0);
    CHECK_EQ(ovsshm_snapshot_list(conn, "s", NULL, infos, 4), 0);
    struct ovsshm_volume *v =
        volume_open("s", (struct ovsshm_open_params){.mode = OVSSHM_MODE_WRITE});
    struct ovsshm_queue *q = ovsshm_volume_queue(v, 0);
    struct ovsshm_io io = {.op = OVSSHM_OP_WRITE, .length_bytes = 512, .buffer = data};
    CHECK_EQ(ovsshm_queue_run(q, &io), 512);
    CHECK_EQ(ovsshm_snapshot_create(conn, "s", "one", 0), 0);
    CHECK_EQ(ovsshm_snapshot_create(conn, "s", "one", 0), -EEXIST);
    CHECK_EQ(ovsshm_snapshot_is_synced(conn, "s", "one"), 1);
    CHECK_EQ(ovsshm_snapshot_is_synced(conn, "s", "two"), -ENOENT);
    data[0] = 2;
    CHECK_EQ(ovsshm_queue_run(q, &io), 512);
    CHECK_EQ(ovsshm_snapshot_create(conn, "s", "two", -1), 0);
    CHECK_EQ(ovsshm_snapshot_list(conn, "s", NULL, infos, 4), 2);
    CHECK(!strcmp(infos[0].name, "one") && !strcmp(infos[1].name, "two"));
    CHECK_EQ(ovsshm_snapshot_list(conn, "s", "one", infos, 4), 1);
    CHECK(!strcmp(infos[0].name, "two"));
    CHECK_EQ(ovsshm_volume_stat(v, &info), 0);
    CHECK_EQ(info.snapshots, 2);
    CHECK_EQ(info.writers, 1);
    CHECK_EQ(ovsshm_snapshot_rollback(conn, "s", "one"), 0);
    io.op = OVSSHM_OP_READ;
    CHECK_EQ(ovsshm_queue_run(q, &io), 512);
    CHECK_EQ(data[0], 1);
    CHECK_EQ(ovsshm_snapshot_list(conn, "s", NULL, infos, 4), 1);
    CHECK_EQ(ovsshm_snapshot_rollback(conn, "s", "two"), -ENOENT);
    CHECK_EQ(ovsshm_snapshot_remove(conn, "s", "one"), 0);
    CHECK_EQ(ovsshm_snapshot_remove(conn, "s", "one"), -ENOENT);
    CHECK_EQ(ovsshm_snapshot_list(conn, "none", NULL, infos, 4), -ENOENT);
    ovsshm_close(v);
    remove_volume("s");
}

/* Two sessions die with different amounts in flight; the volume is free again. */
static void
test_closing_with_requests_in_flight_frees_the_volume(void)
{
    static unsigned char data[1 << 20];
    CHECK_EQ(ovsshm_create(conn, "o", 64 << 20), 0);
    for (unsigned depth = 1; depth <= 32; depth *= 4) {
        struct ovsshm_volume *v = volume_open("o", (struct ovsshm_open_params){
                                                       .mode = OVSSHM_MODE_WRITE,
                                                       .depth = depth,
                                                   });
        for (unsigned i = 0; i < depth; i++) {
            struct ovsshm_io io = {.op = OVSSHM_OP_WRITE,
                                   .offset_bytes = i * sizeof(data),
                                   .length_bytes = sizeof(data),
                                   .buffer = data};
            CHECK_EQ(ovsshm_queue_prep(ovsshm_volume_queue(v, 0), &io), 0);
        }
        ovsshm_queue_submit(ovsshm_volume_queue(v, 0));
        ovsshm_close(v);
    }
    remove_volume("o");
}

static void *
many_calls(void *arg)
{
    char name[32];
    struct ovsshm_volume_info info;
    for (unsigned i = 0; i < 50; i++) {
        snprintf(name, sizeof(name), "thread%u/%u", *(unsigned *)arg, i);
        CHECK_EQ(ovsshm_create(conn, name, 512), 0);
        CHECK_EQ(ovsshm_stat(conn, name, &info), 0);
        CHECK(!strcmp(info.name, name));
        CHECK_EQ(ovsshm_remove(conn, name), 0);
        CHECK_EQ(ovsshm_stat(conn, name, &info), -ENOENT);
        CHECK_TEXT(ovsshm_reason(), name); /* each thread has its own */
    }
    return NULL;
}

static void
test_threads_share_a_connection(void)
{
    pthread_t threads[4];
    unsigned numbers[4];
    for (unsigned i = 0; i < 4; i++) {
        numbers[i] = i;
        threads[i] = test_thread(many_calls, &numbers[i]);
    }
    for (unsigned i = 0; i < 4; i++) {
        test_join(threads[i]);
    }
}

/* ---- a server process ----------------------------------------------------------------------- */

/* Runs in the child until it is killed, or stops in order when the pipe closes. */
static void
server_child(int ready, int parent)
{
    char byte;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    test_cleanup_count = 0; /* the parent's */
    server_start((struct ovsshm_server_params){.reactors = 1});
    ovsshm_disconnect(conn);
    CHECK_EQ(write(ready, "", 1), 1);
    CHECK(read(parent, &byte, 1) >= 0);
    ovsshm_server_stop(server, 10000000000);
    ovsshm_server_destroy(server);
    store->type->destroy(store);
    free(socket_path);
    _exit(0);
}

struct child {
    pid_t pid;
    int pipe;
};

static struct child
child_start(void)
{
    int ready[2], parent[2];
    char byte;
    socket_path = test_path("shm.sock"); /* makes the directory, for both */
    CHECK_EQ(pipe(ready), 0);
    CHECK_EQ(pipe(parent), 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        close(ready[0]);
        close(parent[1]);
        free(socket_path);
        server_child(ready[1], parent[0]);
    }
    close(ready[1]);
    close(parent[0]);
    CHECK_EQ(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    CHECK_EQ(ovsshm_connect(socket_path, &conn), 0);
    return (struct child){pid, parent[1]};
}

static void
child_wait(struct child child)
{
    int status;
    CHECK_EQ(waitpid(child.pid, &status, 0), child.pid);
    if (child.pipe >= 0) {
        close(child.pipe);
    }
    ovsshm_disconnect(conn);
    free(socket_path);
}

/* ---- open: the server is another process, so that all descriptors here are the client's ----- */

static void
expect_no_volume(struct ovsshm_open_params params, int error, const char *reason)
{
    struct ovsshm_volume *none = NULL;
    unsigned fds = test_fd_count();
    CHECK_EQ(ovsshm_open(conn, "o", &params, &none), error);
    CHECK_TEXT(ovsshm_reason(), reason);
    CHECK(!none);
    CHECK_EQ(test_fd_count(), fds);
}

static void
test_open_refuses_what_cannot_be(void)
{
    struct child child = child_start();
    expect_no_volume((struct ovsshm_open_params){0}, -ENOENT, "o");
    CHECK_EQ(ovsshm_create(conn, "o", 4096), 0);
    expect_no_volume((struct ovsshm_open_params){.mode = 3}, -EINVAL, "mode 3");
    expect_no_volume((struct ovsshm_open_params){.queues = 65}, -EINVAL, "65 queues");
    expect_no_volume((struct ovsshm_open_params){.depth = 4097}, -EINVAL, "depth 4097");
    expect_no_volume((struct ovsshm_open_params){.arena_bytes = 5000}, -EINVAL,
                     "multiples of 4096");
    expect_no_volume((struct ovsshm_open_params){.arena_bytes = 1ull << 50}, -EINVAL, "arena");
    expect_no_volume((struct ovsshm_open_params){.resv = 1}, -EINVAL, "reserved");
    struct ovsshm_volume *v =
        volume_open("o", (struct ovsshm_open_params){.mode = OVSSHM_MODE_WRITE});
    expect_no_volume((struct ovsshm_open_params){.mode = OVSSHM_MODE_WRITE}, -EBUSY, "o");
    CHECK_EQ(ovsshm_remove(conn, "o"), -EBUSY);
    ovsshm_close(v);
    kill(child.pid, SIGKILL);
    child_wait(child);
}

static void
test_open_defaults_and_no_leak(void)
{
    struct child child = child_start();
    struct ovsshm_volume *v;
    struct ovsshm_conn *other;
    unsigned fds = test_fd_count();
    CHECK_EQ(ovsshm_create(conn, "o", 4096), 0);
    for (unsigned i = 0; i < 10; i++) {
        CHECK_EQ(ovsshm_connect(socket_path, &other), 0);
        CHECK_EQ(ovsshm_open(other, "o", NULL, &v), 0);
        ovsshm_disconnect(other); /* the volume has a session of its own */
        CHECK_EQ(ovsshm_volume_limits(v)->depth, 256);
        CHECK_EQ(ovsshm_volume_limits(v)->queues, 1);
        CHECK_EQ(ovsshm_volume_limits(v)->block_bytes, 1);
        CHECK_EQ(ovsshm_volume_limits(v)->arena_bytes, 64 << 20);
        CHECK_EQ(ovsshm_volume_state(v), 0);
        CHECK(ovsshm_queue_volume(ovsshm_volume_queue(v, 0)) == v);
        ovsshm_close(v);
    }
    ovsshm_close(NULL);
    ovsshm_disconnect(NULL);
    CHECK_EQ(test_fd_count(), fds);
    kill(child.pid, SIGKILL);
    child_wait(child);
}

/* ---- the server's end, with requests in flight ---------------------------------------------- */

struct victim {
    struct ovsshm_volume *volume;
    unsigned queue;
    int started;
};

/* Keeps a queue busy until the server is gone. */
static void *
io_until_the_end(void *arg)
{
    struct victim *victim = arg;
    struct ovsshm_queue *q = ovsshm_volume_queue(victim->volume, victim->queue);
    static unsigned char data[4096];
    struct ovsshm_completion completions[8];
    unsigned lost = 0;
    struct ovsshm_io io = {.op = OVSSHM_OP_WRITE, .length_bytes = sizeof(data), .buffer = data};
    for (unsigned i = 0; i < 8; i++) {
        CHECK_EQ(ovsshm_queue_prep(q, &io), 0);
    }
    while (ovsshm_queue_in_flight(q)) {
        ovsshm_queue_submit(q);
        int n = ovsshm_queue_wait(q, completions, 8, -1);
        CHECK(n > 0);
        for (int i = 0; i < n; i++) {
            CHECK(completions[i].result == sizeof(data) || completions[i].result == -ENOTCONN);
            lost += completions[i].result == -ENOTCONN;
            if (completions[i].result >= 0) {
                int rc = ovsshm_queue_prep(q, &io);
                CHECK(rc == 0 || rc == -ENOTCONN);
                lost += rc != 0;
            }
        }
        ovsshm_store_release(&victim->started, 1);
    }
    CHECK_EQ(lost, 8);
    CHECK_EQ(ovsshm_queue_prep(q, &io), -ENOTCONN);
    return NULL;
}

static void
end_with_io_in_flight(bool orderly)
{
    struct child child = child_start();
    struct victim victims[3];
    pthread_t threads[3];
    CHECK_EQ(ovsshm_create(conn, "v", 1 << 20), 0);
    struct ovsshm_volume *v = volume_open("v", (struct ovsshm_open_params){
                                                   .mode = OVSSHM_MODE_WRITE,
                                                   .queues = 3,
                                                   .depth = 8,
                                               });
    for (unsigned i = 0; i < 3; i++) {
        victims[i] = (struct victim){.volume = v, .queue = i};
        threads[i] = test_thread(io_until_the_end, &victims[i]);
    }
    for (unsigned i = 0; i < 3; i++) {
        while (!ovsshm_load_acquire(&victims[i].started)) {
            sched_yield();
        }
    }
    if (orderly) {
        close(child.pipe);
        child.pipe = -1;
    } else {
        kill(child.pid, SIGKILL);
    }
    for (unsigned i = 0; i < 3; i++) {
        test_join(threads[i]);
    }
    CHECK_EQ(ovsshm_volume_state(v), -ENOTCONN);
    CHECK_EQ(ovsshm_volume_resize(v, 4096), -ENOTCONN);
    CHECK_EQ(ovsshm_create(conn, "w", 0), -ENOTCONN);
    CHECK_TEXT(ovsshm_reason(), socket_path);
    ovsshm_close(v);
    child_wait(child);
}

static void
test_server_killed_ends_waits_on_all_queues(void)
{
    end_with_io_in_flight(false);
}

static void
test_server_stopping_ends_waits_on_all_queues(void)
{
    end_with_io_in_flight(true);
}

/* A child of a client that exits, or closes its copies, takes nothing from the parent. */
static void
test_fork_of_a_client_is_harmless(void)
{
    struct child child = child_start();
    unsigned char data[512];
    struct ovsshm_io io = {.op = OVSSHM_OP_READ, .length_bytes = 512, .buffer = data};
    CHECK_EQ(ovsshm_create(conn, "v", 1 << 20), 0);
    struct ovsshm_volume *v = volume_open("v", (struct ovsshm_open_params){.depth = 8});
    struct ovsshm_queue *q = ovsshm_volume_queue(v, 0);
    for (unsigned closing = 0; closing < 2; closing++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            if (closing) {
                ovsshm_close(v);
                ovsshm_disconnect(conn);
            }
            _exit(0);
        }
        CHECK_EQ(waitpid(pid, NULL, 0), pid);
        CHECK_EQ(ovsshm_queue_run(q, &io), 512);
        CHECK_EQ(ovsshm_resize(conn, "v", 1 << 20), 0);
    }
    ovsshm_close(v);
    kill(child.pid, SIGKILL);
    child_wait(child);
}

int
main(void)
{
    test_begin(240);
    /* Those that fork come first: before there are threads. */
    RUN(test_open_refuses_what_cannot_be);
    RUN(test_open_defaults_and_no_leak);
    RUN(test_fork_of_a_client_is_harmless);
    RUN(test_server_killed_ends_waits_on_all_queues);
    RUN(test_server_stopping_ends_waits_on_all_queues);
    RUN(test_default_socket_follows_the_environment);
    RUN(test_failure_to_connect_says_what_to_do);
    server_start((struct ovsshm_server_params){.reactors = 2});
    RUN(test_hello_tells_limits_and_names);
    RUN(test_volume_from_create_to_remove);
    RUN(test_caller_bad_names_and_sizes_are_refused_here);
    RUN(test_lists_are_complete_and_in_order);
    RUN(test_snapshots_from_create_to_rollback);
    RUN(test_closing_with_requests_in_flight_frees_the_volume);
    RUN(test_threads_share_a_connection);
    server_end();
    return 0;
}
