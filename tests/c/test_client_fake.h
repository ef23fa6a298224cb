/* SPDX-License-Identifier: MIT */
/*
 * A small server in the test's own process.  It is honest except for one bend, or leaves the rings
 * to the test, step by step.  Its volume is 1 MiB of memory.
 *
 * fake_start() -> ovsshm_connect(socket_path) ... -> fake_stop(), in any order with the client's
 * close.
 */
#ifndef OVSSHM_TEST_CLIENT_FAKE_H
#define OVSSHM_TEST_CLIENT_FAKE_H

#include <openvstorage/shm.h>

#include <sys/socket.h>
#include <sys/un.h>

#include "shared/control.h"
#include "shared/doorbell.h"
#include "shared/region.h"
#include "shared/ring.h"
#include "testlib.h"

#define CONNECTIONS_MAX 8
#define VOLUME_BYTES (1 << 20)
#define QUEUES 2
#define FEATURES (OVSSHM_FEATURE_SEGMENTS | OVSSHM_FEATURE_EVENTS | OVSSHM_FEATURE_SESSIONS)

#define BROKE "broke the protocol" /* the client, of a server that lies */

TEST_UNUSED static const struct ovsshm_open_params open_params = {
    .mode = OVSSHM_MODE_WRITE,
    .queues = QUEUES,
    .depth = 8,
    .arena_bytes = 1 << 18,
};

/* A message on its way to the client, for a bend to change. */
struct outgoing {
    struct ovsshm_msg head;
    unsigned char payload[sizeof(((struct ovsshm_packet *)0)->payload)] __attribute__((aligned(8)));
    size_t payload_bytes;
    int fds[OVSSHM_MSG_FDS_MAX];
    unsigned fd_count;
    bool raw; /* send head and payload as they are */
};

struct connection;

/* What is wrong with this server.  NULL members: nothing. */
struct bend {
    uint16_t type; /* the reply to change */
    void (*message)(struct outgoing *message);
    void (*layout)(struct ovsshm_region_header *layout);
    /* Completes the entry; the default does what was asked. */
    void (*entry)(struct connection *connection, unsigned queue, const struct ovsshm_sqe *sqe);
    bool silent; /* accepts, never answers */
    bool manual; /* the test serves the rings, with fake_step() */
};

struct connection {
    struct fake *fake;
    pthread_t thread;
    pthread_t rings[QUEUES];
    int fd;
    struct ovsshm_region region;
    uint32_t queues;
    int server_bells[QUEUES];
    int client_bells[QUEUES];
    struct ovsshm_ring sq[QUEUES], cq[QUEUES];
    int stop;
};

struct fake {
    const struct bend *bend;
    int listener;
    pthread_t thread;
    struct connection connections[CONNECTIONS_MAX];
    unsigned count;
    unsigned char *volume;
};

static struct fake fake;
static char *socket_path;

static void
complete(struct connection *c, unsigned queue, uint64_t user_data, int32_t result)
{
    struct ovsshm_queue_memory m = ovsshm_region_queue(&c->region, queue);
    m.cqes[ovsshm_ring_slot(&c->cq[queue], 0)] =
        (struct ovsshm_cqe){.user_data = user_data, .result = result};
    c->cq[queue].own++;
    ovsshm_ring_publish(&c->cq[queue]);
    if (ovsshm_doorbell_needed(&m.words->client_armed)) {
        ovsshm_doorbell_ring(c->client_bells[queue]);
    }
}

static void
entry_serve(struct connection *c, unsigned queue, const struct ovsshm_sqe *sqe)
{
    unsigned char *buffer = ovsshm_region_arena(&c->region) + sqe->buffer_offset;
    int32_t result = 0;
    if (sqe->op == OVSSHM_OP_READ) {
        memcpy(buffer, c->fake->volume + sqe->offset_bytes, sqe->length_bytes);
        result = (int32_t)sqe->length_bytes;
    } else if (sqe->op == OVSSHM_OP_WRITE) {
        memcpy(c->fake->volume + sqe->offset_bytes, buffer, sqe->length_bytes);
        result = (int32_t)sqe->length_bytes;
    }
    complete(c, queue, sqe->user_data, result);
}

static int
serve_available(struct connection *c, unsigned queue)
{
    struct ovsshm_queue_memory m = ovsshm_region_queue(&c->region, queue);
    int count = ovsshm_ring_available(&c->sq[queue]);
    for (int i = 0; i < count; i++) {
        struct ovsshm_sqe sqe = m.sqes[ovsshm_ring_slot(&c->sq[queue], 0)];
        c->sq[queue].own++;
        ovsshm_ring_publish(&c->sq[queue]);
        (c->fake->bend->entry ? c->fake->bend->entry : entry_serve)(c, queue, &sqe);
    }
    return count;
}

struct ring_thread {
    struct connection *connection;
    unsigned queue;
};

static void *
serve_ring(void *arg)
{
    struct ring_thread *t = arg;
    struct connection *c = t->connection;
    unsigned queue = t->queue;
    struct ovsshm_queue_memory m = ovsshm_region_queue(&c->region, queue);
    free(t);
    while (!ovsshm_load_acquire(&c->stop)) {
        ovsshm_doorbell_arm(&m.words->server_armed);
        if (!ovsshm_ring_available(&c->sq[queue])) {
            ovsshm_doorbell_wait(c->server_bells[queue], -1, -1);
        }
        ovsshm_doorbell_disarm(&m.words->server_armed);
        serve_available(c, queue);
    }
    return NULL;
}

static void
send_out(struct connection *c, struct outgoing *out)
{
    if (c->fake->bend->message && c->fake->bend->type == out->head.type) {
        c->fake->bend->message(out);
    }
    if (out->raw) {
        struct iovec iov[2] = {{&out->head, sizeof(out->head)}, {out->payload, out->payload_bytes}};
        CHECK(writev(c->fd, iov, 2) > 0);
    } else {
        int rc = ovsshm_msg_send(c->fd, out->head, out->payload, out->payload_bytes, out->fds,
                                 out->fd_count);
        CHECK(rc == 0 || rc == -EPIPE);
    }
}

static void
answer_open(struct connection *c, const struct ovsshm_packet *in, struct outgoing *out)
{
    struct ovsshm_msg_open open;
    struct ovsshm_region_header layout;
    memcpy(&open, in->payload, sizeof(open));
    CHECK(open.queues <= QUEUES);
    ovsshm_region_plan(&layout, open.queues, open.depth, open.arena_bytes);
    layout.features = FEATURES;
    layout.block_bytes = 1;
    layout.volume_bytes = VOLUME_BYTES;
    struct ovsshm_region_header honest = layout;
    CHECK_EQ(ovsshm_region_create(&c->region, &layout), 0);
    if (c->fake->bend->layout) {
        c->fake->bend->layout(&layout);
        memcpy(c->region.base, &layout, sizeof(layout));
    }
    c->queues = open.queues;
    out->fds[out->fd_count++] = c->region.fd;
    for (unsigned q = 0; q < open.queues; q++) {
        struct ovsshm_ring_words *words = ovsshm_region_queue(&c->region, q).words;
        c->server_bells[q] = ovsshm_doorbell_create();
        c->client_bells[q] = ovsshm_doorbell_create();
        out->fds[out->fd_count++] = c->server_bells[q];
        out->fds[out->fd_count++] = c->client_bells[q];
        ovsshm_ring_init(&c->sq[q], &words->sq_head, &words->sq_tail, honest.entries);
        ovsshm_ring_init(&c->cq[q], &words->cq_tail, &words->cq_head, honest.entries);
        if (!c->fake->bend->manual) {
            struct ring_thread *t = malloc(sizeof(*t));
            *t = (struct ring_thread){c, q};
            c->rings[q] = test_thread(serve_ring, t);
        }
    }
    struct ovsshm_msg_open_reply reply = {
        .region_bytes = honest.region_bytes,
        .size_bytes = VOLUME_BYTES,
        .block_bytes = 1,
        .queues = open.queues,
        .depth = open.depth,
    };
    memcpy(out->payload, &reply, sizeof(reply));
    out->payload_bytes = sizeof(reply);
}

static void
answer(struct connection *c, const struct ovsshm_packet *in)
{
    static const struct ovsshm_msg_hello_reply hello = {
        .version = OVSSHM_VERSION,
        .queues_max = QUEUES,
        .features = FEATURES,
        .depth_max = OVSSHM_DEPTH_MAX,
        .request_bytes_max = 65536,
        .range_bytes_max = 1 << 20,
        .segments_max = 16,
        .arena_bytes_max = 1 << 20,
        .server = "fake",
        .store = "fake",
    };
    static const struct ovsshm_msg_list_reply empty;
    static const struct ovsshm_status status;
    static const struct ovsshm_volume_info info = {.name = "v", .size_bytes = VOLUME_BYTES};
    struct outgoing *out = calloc(1, sizeof(*out));
    CHECK(out);
    out->head =
        (struct ovsshm_msg){.type = in->head.type, .flags = OVSSHM_MSG_REPLY, .id = in->head.id};
    switch (in->head.type) {
    case OVSSHM_MSG_HELLO: memcpy(out->payload, &hello, out->payload_bytes = sizeof(hello)); break;
    case OVSSHM_MSG_STATUS:
        memcpy(out->payload, &status, out->payload_bytes = sizeof(status));
        break;
    case OVSSHM_MSG_SESSIONS:
    case OVSSHM_MSG_LIST: memcpy(out->payload, &empty, out->payload_bytes = sizeof(empty)); break;
    case OVSSHM_MSG_STAT: memcpy(out->payload, &info, out->payload_bytes = sizeof(info)); break;
    case OVSSHM_MSG_OPEN: answer_open(c, in, out); break;
    default: break;
    }
    send_out(c, out);
    free(out);
}

static void *
serve_connection(void *arg)
{
    struct connection *c = arg;
    struct ovsshm_packet *in = malloc(sizeof(*in));
    CHECK(in);
    while (ovsshm_msg_recv(c->fd, in, 0, 0) == 0) {
        if (!c->fake->bend->silent) {
            answer(c, in);
        }
    }
    free(in);
    ovsshm_store_release(&c->stop, 1);
    for (unsigned q = 0; q < c->queues; q++) {
        if (!c->fake->bend->manual) {
            ovsshm_doorbell_ring(c->server_bells[q]);
            test_join(c->rings[q]);
        }
    }
    return NULL;
}

static void *
accept_all(void *arg)
{
    struct fake *f = arg;
    int fd;
    while ((fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        struct connection *c = &f->connections[f->count];
        CHECK(f->count < CONNECTIONS_MAX);
        *c = (struct connection){.fake = f, .fd = fd};
        ovsshm_store_release(&f->count, f->count + 1);
        c->thread = test_thread(serve_connection, c);
    }
    return NULL;
}

static void
fake_start(const struct bend *bend)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, socket_path);
    unlink(socket_path);
    fake = (struct fake){.bend = bend, .volume = calloc(1, VOLUME_BYTES)};
    fake.listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    CHECK_EQ(bind(fake.listener, (struct sockaddr *)&address, sizeof(address)), 0);
    CHECK_EQ(listen(fake.listener, 8), 0);
    fake.thread = test_thread(accept_all, &fake);
}

/* The sockets close, as when the process dies. */
static void
fake_die(void)
{
    for (unsigned i = 0; i < ovsshm_load_acquire(&fake.count); i++) {
        shutdown(fake.connections[i].fd, SHUT_RDWR);
    }
}

static void
fake_stop(void)
{
    shutdown(fake.listener, SHUT_RDWR);
    test_join(fake.thread);
    fake_die();
    for (unsigned i = 0; i < fake.count; i++) {
        struct connection *c = &fake.connections[i];
        test_join(c->thread);
        for (unsigned q = 0; q < c->queues; q++) {
            close(c->server_bells[q]);
            close(c->client_bells[q]);
        }
        ovsshm_region_destroy(&c->region);
        close(c->fd);
    }
    close(fake.listener);
    free(fake.volume);
}

/* The connection of the volume's session: the second that was accepted. */
static inline struct connection *
fake_volume(void)
{
    CHECK_EQ(ovsshm_load_acquire(&fake.count), 2);
    return &fake.connections[1];
}

#endif
