/* SPDX-License-Identifier: MIT */
/*
 * The server in the test's process; clients are the native library or, for what that would never
 * do, a raw one that writes messages and ring entries by hand.
 */
#ifndef OVSSHM_SERVER_TEST_H
#define OVSSHM_SERVER_TEST_H

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <openvstorage/shm.h>
#include <openvstorage/shm_server.h>

#include "shared/control.h"
#include "shared/doorbell.h"
#include "shared/region.h"
#include "shared/ring.h"
#include "testlib.h"

#define MIB 1048576u
#define SECOND 1000000000u

/* ---- the server ------------------------------------------------------------------------------ */

#define LOG_BYTES 262144

static struct {
    struct ovsshm_server *server;
    struct ovsshm_store *store;
    char *path;
    pthread_mutex_t lock;
    pthread_cond_t logged;
    char log[LOG_BYTES];
    size_t log_bytes;
} st = {.lock = PTHREAD_MUTEX_INITIALIZER, .logged = PTHREAD_COND_INITIALIZER};

static inline void
st_log(void *arg, enum ovsshm_log_level level, const char *line)
{
    (void)arg;
    (void)level;
    pthread_mutex_lock(&st.lock);
    size_t left = LOG_BYTES - st.log_bytes;
    int n = snprintf(st.log + st.log_bytes, left, "%s\n", line);
    st.log_bytes += (size_t)n < left ? (size_t)n : 0;
    pthread_cond_broadcast(&st.logged);
    pthread_mutex_unlock(&st.lock);
}

/* Waits for a line; the test's time limit is the limit. */
TEST_UNUSED static void
st_await_log(const char *part)
{
    pthread_mutex_lock(&st.lock);
    while (!strstr(st.log, part)) {
        pthread_cond_wait(&st.logged, &st.lock);
    }
    pthread_mutex_unlock(&st.lock);
}

/* options: "key=value,key=value" or "". */
TEST_UNUSED static struct ovsshm_store *
st_store(const struct ovsshm_store_type *type, const char *options, const char *pool)
{
    struct ovsshm_store_option list[16];
    struct ovsshm_store_params params = {.options = list, .log = {st_log, NULL}, .pool = pool};
    struct ovsshm_error error = {.reason = ""};
    struct ovsshm_store *store = NULL;
    char *copy = strdup(options);
    char *rest = copy;
    while (rest && *rest) {
        char *key = strsep(&rest, " ");
        char *value = strchr(key, '=');
        *value++ = '\0';
        list[params.option_count++] = (struct ovsshm_store_option){key, value};
    }
    int rc = type->create(&params, &store, &error);
    if (rc) {
        fprintf(stderr, "no store: %s\n", error.reason);
    }
    CHECK_EQ(rc, 0);
    free(copy);
    return store;
}

/* Takes the store.  params: socket_path and log are filled in. */
static inline void
st_start(struct ovsshm_store *store, struct ovsshm_server_params params)
{
    struct ovsshm_error error = {.reason = ""};
    st.path = test_path("shm.sock");
    st.store = store;
    st.log_bytes = 0;
    st.log[0] = '\0';
    params.socket_path = st.path;
    params.log = (struct ovsshm_log){st_log, NULL};
    int rc = ovsshm_server_create(&params, store, &st.server, &error);
    rc = rc ? rc : ovsshm_server_start(st.server, &error);
    if (rc) {
        fprintf(stderr, "no server: %s\n", error.reason);
    }
    CHECK_EQ(rc, 0);
}

/*
 * TSan does not see that the rings order accesses, since both ends map them at different addresses,
 * so to it two sessions that share data by way of two reactors race.
 */
#ifdef OVSSHM_TSAN
#define REACTORS 1
#else
#define REACTORS 2
#endif

TEST_UNUSED static void
st_start_memory(void)
{
    st_start(st_store(&ovsshm_store_memory, "", NULL),
             (struct ovsshm_server_params){.reactors = REACTORS});
}

/* The result of stop. */
static inline int
st_end(uint64_t drain_ns)
{
    int rc = ovsshm_server_stop(st.server, drain_ns);
    ovsshm_server_destroy(st.server);
    if (st.store->type->destroy) {
        st.store->type->destroy(st.store);
    }
    CHECK(access(st.path, F_OK) < 0);
    free(st.path);
    return rc;
}

TEST_UNUSED static struct ovsshm_status
st_status(void)
{
    struct ovsshm_status status;
    ovsshm_server_status(st.server, &status);
    return status;
}

/* ---- library client ---------------------------------------------------------------------------
 */

TEST_UNUSED static struct ovsshm_conn *
connect_ok(void)
{
    struct ovsshm_conn *conn = NULL;
    int rc = ovsshm_connect(st.path, &conn);
    if (rc) {
        fprintf(stderr, "no connection: %s\n", ovsshm_reason());
    }
    CHECK_EQ(rc, 0);
    return conn;
}

TEST_UNUSED static struct ovsshm_volume *
open_ok(struct ovsshm_conn *conn, const char *name, uint32_t mode, uint32_t queues)
{
    struct ovsshm_open_params params = {.mode = mode, .queues = queues, .arena_bytes = 4 * MIB};
    struct ovsshm_volume *volume = NULL;
    int rc = ovsshm_open(conn, name, &params, &volume);
    if (rc) {
        fprintf(stderr, "cannot open: %s\n", ovsshm_reason());
    }
    CHECK_EQ(rc, 0);
    return volume;
}

TEST_UNUSED static int64_t
run(struct ovsshm_volume *volume, uint8_t op, uint64_t offset, void *buffer, uint64_t bytes)
{
    struct ovsshm_io io = {
        .op = op, .offset_bytes = offset, .length_bytes = bytes, .buffer = buffer};
    return ovsshm_queue_run(ovsshm_volume_queue(volume, 0), &io);
}

/* ---- raw client: messages ---------------------------------------------------------------------
 */

static struct ovsshm_packet raw_packet; /* the last reply or event */

static inline int
raw_socket(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", st.path);
    CHECK(fd >= 0);
    CHECK_EQ(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

/* Sends a request and returns the status of the reply, which is in raw_packet. */
static inline int
raw_call(int fd, uint16_t type, const void *payload, size_t bytes)
{
    static uint32_t id;
    struct ovsshm_msg head = {.type = type, .id = ++id};
    ovsshm_packet_close_fds(&raw_packet);
    CHECK_EQ(ovsshm_msg_send(fd, head, payload, bytes, NULL, 0), 0);
    CHECK_EQ(ovsshm_msg_recv(fd, &raw_packet, OVSSHM_MSG_FDS_MAX, 0), 0);
    CHECK_EQ(raw_packet.head.type, type);
    CHECK_EQ(raw_packet.head.id, id);
    CHECK_EQ(raw_packet.head.flags, OVSSHM_MSG_REPLY);
    return raw_packet.head.status;
}

TEST_UNUSED static const char *
raw_reason(void)
{
    CHECK_EQ(raw_packet.head.payload_bytes, OVSSHM_NAME_BYTES);
    return (const char *)raw_packet.payload;
}

static inline int
raw_hello(int fd, uint32_t min, uint32_t max, uint64_t features)
{
    struct ovsshm_msg_hello hello = {
        .version_min = min, .version_max = max, .features = features, .client = "raw"};
    return raw_call(fd, OVSSHM_MSG_HELLO, &hello, sizeof(hello));
}

TEST_UNUSED static int
raw_connect(void)
{
    int fd = raw_socket();
    CHECK_EQ(raw_hello(fd, 1, 1, OVSSHM_FEATURE_SEGMENTS | OVSSHM_FEATURE_EVENTS), 0);
    return fd;
}

TEST_UNUSED static int
raw_volume(int fd, uint16_t type, const char *name, uint64_t size_bytes)
{
    struct ovsshm_msg_volume volume = {.size_bytes = size_bytes};
    snprintf(volume.name, sizeof(volume.name), "%s", name);
    return raw_call(fd, type, &volume, sizeof(volume));
}

/* The server's last words: an event "ended" with this text, then the end. */
TEST_UNUSED static void
raw_await_end(int fd, const char *reason)
{
    for (;;) {
        ovsshm_packet_close_fds(&raw_packet);
        CHECK_EQ(ovsshm_msg_recv(fd, &raw_packet, 0, 0), 0);
        struct ovsshm_msg_event event;
        CHECK_EQ(raw_packet.head.type, OVSSHM_MSG_EVENT);
        memcpy(&event, raw_packet.payload, sizeof(event));
        if (event.event == OVSSHM_EVENT_ENDED) {
            CHECK(event.value < 0);
            CHECK_TEXT(event.reason, reason);
            break;
        }
    }
    CHECK_EQ(ovsshm_msg_recv(fd, &raw_packet, 0, 0), -EPIPE);
}

TEST_UNUSED static void
await_hangup(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLRDHUP};
    CHECK_EQ(poll(&p, 1, -1), 1);
}

/* ---- raw client: a session --------------------------------------------------------------------
 */

struct raw_session {
    int fd;
    struct ovsshm_region region;
    struct ovsshm_queue_memory memory; /* queue 0 */
    struct ovsshm_ring sq;
    struct ovsshm_ring cq;
    unsigned char *arena;
    int server_fd; /* doorbells of queue 0 */
    int client_fd;
};

static inline int
raw_open_call(int fd, struct ovsshm_msg_open open, const char *name)
{
    snprintf(open.name, sizeof(open.name), "%s", name);
    return raw_call(fd, OVSSHM_MSG_OPEN, &open, sizeof(open));
}

TEST_UNUSED static struct raw_session
raw_open(const char *name, uint32_t mode, uint32_t depth)
{
    struct raw_session s = {.fd = raw_connect()};
    struct ovsshm_msg_open_reply reply;
    CHECK_EQ(raw_open_call(s.fd,
                           (struct ovsshm_msg_open){
                               .mode = mode, .queues = 1, .depth = depth, .arena_bytes = MIB},
                           name),
             0);
    CHECK_EQ(raw_packet.fd_count, 3);
    memcpy(&reply, raw_packet.payload, sizeof(reply));
    raw_packet.fd_count = 0;
    CHECK_EQ(ovsshm_region_attach(&s.region, raw_packet.fds[0], reply.region_bytes), 0);
    s.server_fd = raw_packet.fds[1];
    s.client_fd = raw_packet.fds[2];
    s.memory = ovsshm_region_queue(&s.region, 0);
    s.arena = ovsshm_region_arena(&s.region);
    struct ovsshm_ring_words *words = s.memory.words;
    ovsshm_ring_init(&s.sq, &words->sq_tail, &words->sq_head, s.memory.entries);
    ovsshm_ring_init(&s.cq, &words->cq_head, &words->cq_tail, s.memory.entries);
    return s;
}

TEST_UNUSED static void
raw_ring(struct raw_session *s)
{
    if (ovsshm_doorbell_needed(&s->memory.words->server_armed)) {
        ovsshm_doorbell_ring(s->server_fd);
    }
}

TEST_UNUSED static void
raw_submit(struct raw_session *s, struct ovsshm_sqe entry)
{
    s->memory.sqes[ovsshm_ring_slot(&s->sq, 0)] = entry;
    s->sq.own++;
    ovsshm_ring_publish(&s->sq);
    raw_ring(s);
}

/* Waits for a completion. */
TEST_UNUSED static struct ovsshm_cqe
raw_complete(struct raw_session *s)
{
    while (ovsshm_ring_available(&s->cq) == 0) {
        struct pollfd p = {.fd = s->client_fd, .events = POLLIN};
        ovsshm_doorbell_arm(&s->memory.words->client_armed);
        if (ovsshm_ring_available(&s->cq) == 0) {
            CHECK_EQ(poll(&p, 1, -1), 1);
            ovsshm_doorbell_clear(s->client_fd);
        }
        ovsshm_doorbell_disarm(&s->memory.words->client_armed);
    }
    CHECK(ovsshm_ring_available(&s->cq) > 0);
    struct ovsshm_cqe entry = s->memory.cqes[ovsshm_ring_slot(&s->cq, 0)];
    s->cq.own++;
    ovsshm_ring_publish(&s->cq);
    return entry;
}

TEST_UNUSED static int32_t
raw_run(struct raw_session *s, struct ovsshm_sqe entry)
{
    static uint64_t user_data = 1ull << 63;
    entry.user_data = ++user_data;
    raw_submit(s, entry);
    struct ovsshm_cqe done = raw_complete(s);
    CHECK_EQ(done.user_data, entry.user_data);
    CHECK_EQ(done.resv, 0);
    return done.result;
}

TEST_UNUSED static void
raw_close(struct raw_session *s)
{
    ovsshm_region_destroy(&s->region);
    close(s->server_fd);
    close(s->client_fd);
    close(s->fd);
}

#endif
