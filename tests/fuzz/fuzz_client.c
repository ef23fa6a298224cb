/* SPDX-License-Identifier: MIT */
/*
 * The client library against a server whose replies, region header, ring words and completions come
 * from the input.  Every call must come back; nothing may be touched outside of what is ours.
 */
#define _GNU_SOURCE
#include "input.h"

#include <errno.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <openvstorage/shm.h>

#include "shared/control.h"
#include "shared/doorbell.h"
#include "shared/region.h"

#define ARENA_BYTES 65536
#define DEPTH 4
#define QUEUES_MAX 2
#define FEATURES (OVSSHM_FEATURE_SEGMENTS | OVSSHM_FEATURE_EVENTS | OVSSHM_FEATURE_SESSIONS)

static struct sockaddr_un address = {.sun_family = AF_UNIX};
static char directory[] = "/tmp/ovsshm-fuzz-XXXXXX";
static int listener;

/* The server's thread is the only one that reads the input while connections are open. */
static struct input in;
static pthread_mutex_t in_lock = PTHREAD_MUTEX_INITIALIZER;

static void
stop(void)
{
    unlink(address.sun_path);
    rmdir(directory);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    MUST(mkdtemp(directory));
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", directory);
    listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    MUST(bind(listener, (const struct sockaddr *)&address, sizeof(address)) == 0);
    MUST(listen(listener, 8) == 0);
    atexit(stop);
    return 0;
}

/* ---- the server ------------------------------------------------------------------------------ */

static void
bend(void *bytes, size_t count)
{
    for (uint8_t changes = input_u8(&in) % 4; changes; changes--) {
        ((uint8_t *)bytes)[input_u16(&in) % count] = input_u8(&in);
    }
}

/* The descriptors of an open reply; some of the wrong kind. */
static unsigned
make_fds(const struct ovsshm_msg_open *open, int *fds)
{
    struct ovsshm_region_header layout;
    struct ovsshm_region region;
    unsigned count = 0;
    ovsshm_region_plan(&layout, open->queues, open->depth, open->arena_bytes);
    layout.features = FEATURES;
    layout.block_bytes = 1;
    layout.volume_bytes = 1u << 20;
    MUST(ovsshm_region_create(&region, &layout) == 0);
    bend(region.base, sizeof(layout));
    for (unsigned q = 0; q < open->queues; q++) {
        struct ovsshm_queue_memory memory = ovsshm_region_queue(&region, q);
        if (input_u8(&in) & 1) { /* completions nobody asked for */
            memory.words->cq_tail = input_u8(&in) & 0x80 ? input_u32(&in) : input_u8(&in) % 8;
            memory.words->sq_head = input_u8(&in);
            input_bytes(&in, memory.cqes, DEPTH * sizeof(struct ovsshm_cqe));
        }
    }
    fds[count++] = input_u8(&in) == 0xff ? dup(0) : dup(region.fd);
    while (count < 1 + 2 * open->queues) {
        fds[count++] = input_u8(&in) == 0xff ? dup(0) : ovsshm_doorbell_create();
    }
    ovsshm_region_destroy(&region);
    return count;
}

static size_t
honest_reply(const struct ovsshm_packet *request, unsigned char *reply)
{
    static const struct ovsshm_msg_hello_reply hello = {
        .version = OVSSHM_VERSION,
        .queues_max = QUEUES_MAX,
        .features = FEATURES,
        .depth_max = 64,
        .request_bytes_max = 16384,
        .range_bytes_max = 1u << 20,
        .segments_max = 16,
        .arena_bytes_max = 1u << 20,
        .capabilities = 0x7f,
        .server = "fuzz",
        .store = "fuzz",
    };
    struct ovsshm_msg_open open;
    struct ovsshm_region_header layout;
    switch (request->head.type) {
    case OVSSHM_MSG_HELLO: memcpy(reply, &hello, sizeof(hello)); return sizeof(hello);
    case OVSSHM_MSG_STATUS: return sizeof(struct ovsshm_status);
    case OVSSHM_MSG_STAT: return sizeof(struct ovsshm_volume_info);
    case OVSSHM_MSG_LIST:
        ((struct ovsshm_msg_list_reply *)(void *)reply)->count = 1;
        return sizeof(struct ovsshm_msg_list_reply) + sizeof(struct ovsshm_volume_info);
    case OVSSHM_MSG_SESSIONS:
        *(struct ovsshm_msg_list_reply *)(void *)reply =
            (struct ovsshm_msg_list_reply){.count = 1, .more = 1};
        reply[sizeof(struct ovsshm_msg_list_reply)] = input_u8(&in); /* id */
        return sizeof(struct ovsshm_msg_list_reply) + sizeof(struct ovsshm_session_info);
    case OVSSHM_MSG_SNAPSHOT_LIST:
        ((struct ovsshm_msg_list_reply *)(void *)reply)->count = 1;
        return sizeof(struct ovsshm_msg_list_reply) + sizeof(struct ovsshm_snapshot_info);
    case OVSSHM_MSG_SNAPSHOT_IS_SYNCED: return sizeof(struct ovsshm_msg_synced_reply);
    case OVSSHM_MSG_OPEN:
        memcpy(&open, request->payload, sizeof(open));
        ovsshm_region_plan(&layout, open.queues, open.depth, open.arena_bytes);
        *(struct ovsshm_msg_open_reply *)(void *)reply =
            (struct ovsshm_msg_open_reply){.region_bytes = layout.region_bytes,
                                           .size_bytes = 1u << 20,
                                           .block_bytes = 1,
                                           .queues = open.queues,
                                           .depth = open.depth};
        return sizeof(struct ovsshm_msg_open_reply);
    default: return 0;
    }
}

/* Answers one request: honest, bent, refused or from the input altogether. */
static int
answer(int fd, const struct ovsshm_packet *request)
{
    static unsigned char payload[OVSSHM_MSG_BYTES_MAX] __attribute__((aligned(8)));
    struct ovsshm_msg head = {
        .type = request->head.type, .flags = OVSSHM_MSG_REPLY, .id = request->head.id};
    int fds[OVSSHM_MSG_FDS_MAX];
    unsigned fd_count = 0;
    memset(payload, 0, sizeof(payload));
    size_t bytes = honest_reply(request, payload);
    uint8_t how = in.left ? input_u8(&in) : 0xff;
    if (how == 0xff) {
        return -EPIPE;
    }
    if (how & 1 && bytes) {
        bend(payload, bytes);
    }
    if (how & 2) {
        bytes = input_u16(&in) % (sizeof(payload) - sizeof(head));
        input_bytes(&in, payload, bytes < 1024 ? bytes : 1024);
    }
    if (how & 4) {
        head.status = -(int32_t)(input_u8(&in) % 140);
        bytes = head.status && !(how & 2) ? sizeof(struct ovsshm_msg_reason) : bytes;
    }
    if (how & 8) {
        bend(&head, sizeof(head));
    }
    if (how & 16) { /* an event before it */
        struct ovsshm_msg event_head = {.type = OVSSHM_MSG_EVENT};
        struct ovsshm_msg_event event;
        input_bytes(&in, &event, sizeof(event));
        ovsshm_msg_send(fd, event_head, &event, sizeof(event), NULL, 0);
    }
    if (request->head.type == OVSSHM_MSG_OPEN && !(how & 32)) {
        struct ovsshm_msg_open open;
        memcpy(&open, request->payload, sizeof(open));
        fd_count = make_fds(&open, fds);
    }
    int rc = ovsshm_msg_send(fd, head, payload, bytes, fds, fd_count);
    while (fd_count) {
        close(fds[--fd_count]);
    }
    return rc;
}

static void *
serve_connection(void *arg)
{
    int fd = (int)(intptr_t)arg;
    struct ovsshm_packet *request = malloc(sizeof(*request));
    while (ovsshm_msg_recv(fd, request, 0, 0) == 0) {
        pthread_mutex_lock(&in_lock);
        int rc = answer(fd, request);
        pthread_mutex_unlock(&in_lock);
        if (rc) {
            break;
        }
    }
    close(fd);
    free(request);
    return NULL;
}

/* At most two connections: management, and the volume's. */
struct serving {
    pthread_t acceptor;
    pthread_t threads[2];
    unsigned count;
};

/* A client sends hello at once; a connection that closes without a word ends this. */
static void *
accept_all(void *arg)
{
    struct serving *serving = arg;
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        char byte;
        MUST(fd >= 0);
        if (recv(fd, &byte, 1, MSG_PEEK) <= 0) {
            close(fd);
            return NULL;
        }
        MUST(serving->count < 2);
        MUST(pthread_create(&serving->threads[serving->count++], NULL, serve_connection,
                            (void *)(intptr_t)fd) == 0);
    }
}

static void
serving_end(struct serving *serving)
{
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    MUST(connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0);
    close(fd);
    pthread_join(serving->acceptor, NULL);
    for (unsigned i = 0; i < serving->count; i++) {
        pthread_join(serving->threads[i], NULL);
    }
}

/* ---- the client ------------------------------------------------------------------------------ */

static void
manage(struct ovsshm_conn *conn)
{
    struct ovsshm_status status;
    struct ovsshm_volume_info infos[4];
    struct ovsshm_snapshot_info snapshots[4];
    struct ovsshm_session_info sessions[4];
    (void)ovsshm_status(conn, &status);
    (void)ovsshm_stat(conn, "v", infos);
    int count = ovsshm_list(conn, NULL, infos, 4);
    MUST(count <= 4);
    for (int i = 0; i < count; i++) {
        MUST(memchr(infos[i].name, 0, sizeof(infos[i].name)));
    }
    count = ovsshm_snapshot_list(conn, "v", NULL, snapshots, 4);
    MUST(count <= 4);
    for (int i = 0; i < count; i++) {
        MUST(memchr(snapshots[i].name, 0, sizeof(snapshots[i].name)));
    }
    count = ovsshm_sessions(conn, 0, sessions, 4);
    MUST(count <= 4);
    for (int i = 0; i < count; i++) {
        MUST(sessions[i].id > (i ? sessions[i - 1].id : 0));
        MUST(memchr(sessions[i].client, 0, sizeof(sessions[i].client)));
        MUST(memchr(sessions[i].volume, 0, sizeof(sessions[i].volume)));
    }
    (void)ovsshm_snapshot_is_synced(conn, "v", "s");
    (void)ovsshm_create(conn, "v", 512);
}

static void
use_queue(struct ovsshm_queue *queue, void *shared)
{
    struct ovsshm_completion done[DEPTH];
    unsigned char foreign[100];
    struct ovsshm_extent extents[2];
    const struct ovsshm_io ios[] = {
        {.op = OVSSHM_OP_READ, .length_bytes = 100, .buffer = foreign, .user_data = 1},
        {.op = OVSSHM_OP_WRITE, .length_bytes = 512, .buffer = shared, .user_data = 2},
        {.op = OVSSHM_OP_BLOCK_STATUS, .length_bytes = 512, .buffer = extents, .extents_max = 2},
        {.op = OVSSHM_OP_FLUSH, .user_data = 4},
    };
    for (unsigned i = 0; i < 4; i++) {
        (void)ovsshm_queue_prep(queue, &ios[i]);
    }
    (void)ovsshm_queue_submit(queue);
    int count = ovsshm_queue_wait(queue, done, DEPTH, 0);
    MUST(count <= DEPTH);
    for (int i = 0; i < count; i++) {
        MUST(done[i].user_data <= 4 && done[i].result <= 512);
    }
    if (ovsshm_queue_arm(queue) == 0) {
        ovsshm_queue_disarm(queue);
    }
    (void)ovsshm_queue_poll(queue, done, DEPTH);
    MUST(ovsshm_queue_in_flight(queue) <= DEPTH);
}

static void
use_volume(struct ovsshm_volume *volume)
{
    const struct ovsshm_limits *limits = ovsshm_volume_limits(volume);
    struct ovsshm_msg_event event;
    struct ovsshm_volume_info info;
    void *shared = ovsshm_buffer_alloc(volume, 512);
    if (shared) {
        memset(shared, 1, 512);
        for (unsigned q = 0; q < limits->queues; q++) {
            use_queue(ovsshm_volume_queue(volume, q), shared);
        }
    }
    (void)ovsshm_volume_bytes(volume);
    (void)ovsshm_volume_stat(volume, &info);
    (void)ovsshm_volume_set_mode(volume, OVSSHM_MODE_READ);
    while (ovsshm_volume_event(volume, &event) == 1) {
        MUST(memchr(event.reason, 0, sizeof(event.reason)));
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct serving serving = {.count = 0};
    struct ovsshm_conn *conn = NULL;
    struct ovsshm_volume *volume = NULL;
    in = (struct input){data, size};
    uint8_t how = input_u8(&in);
    MUST(pthread_create(&serving.acceptor, NULL, accept_all, &serving) == 0);
    int rc = ovsshm_connect(address.sun_path, &conn);
    MUST(rc <= 0 && (rc < 0 || conn));
    MUST(ovsshm_reason());
    if (rc == 0) {
        struct ovsshm_open_params params = {.mode = OVSSHM_MODE_WRITE,
                                            .queues = 1 + how % QUEUES_MAX,
                                            .depth = DEPTH,
                                            .arena_bytes = ARENA_BYTES,
                                            .spin_ns_max = UINT64_MAX};
        if (how & 64) {
            manage(conn);
        }
        rc = ovsshm_open(conn, "v", &params, &volume);
        if (rc == 0) {
            use_volume(volume);
            ovsshm_close(volume);
        }
        ovsshm_disconnect(conn);
    }
    serving_end(&serving);
    return 0;
}
