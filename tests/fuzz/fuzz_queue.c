/* SPDX-License-Identifier: MIT */
/*
 * The server's side of a queue against a client that writes what the input says into ring words,
 * entries and arena.  The target is reactor and store: it takes, checks that the store could trust
 * each request, and completes in any order.  Ring and arena are allocations of their own, so ASan
 * sees a step beyond them.
 */
#define _GNU_SOURCE
#include "input.h"

#include "server/entry.h"
#include "server/reactor.h"
#include "server/server.h"
#include "server/session.h"

#define DEPTH 5
#define ENTRIES 8
#define ARENA_BYTES 65536
#define VOLUME_BYTES (1u << 20)

struct rings {
    struct ovsshm_ring_words words;
    struct ovsshm_sqe sqes[ENTRIES];
    struct ovsshm_cqe cqes[ENTRIES];
};

/* Everything a queue needs, and no thread. */
struct bench {
    struct ovsshm_server server;
    struct ovsshm_store store;
    struct ovsshm_store_volume open;
    struct volume volume;
    struct session session;
    struct reactor reactor;
    struct queue queue;
    struct rings *rings;
    struct ovsshm_request *taken[DEPTH];
    unsigned taken_count;
};

static void
drop_mail(struct mail *mail)
{
    (void)mail;
}

static struct bench *
bench_create(struct input *in)
{
    struct bench *b = calloc(1, sizeof(*b));
    b->rings = calloc(1, sizeof(*b->rings));
    uint8_t how = input_u8(in);
    b->server.params.request_bytes_max = OVSSHM_REQUEST_BYTES_DEFAULT;
    MUST(srv_mailbox_init(&b->server.control.mailbox) == 0);
    b->store.capabilities = how & 1 ? ~0ull : input_u8(in);
    b->open = (struct ovsshm_store_volume){.store = &b->store, .size_bytes = VOLUME_BYTES};
    b->open.block_bytes = how & 2 ? 512 : 1;
    b->volume.size_bytes = VOLUME_BYTES;
    b->volume.open = &b->open;
    b->session.server = &b->server;
    b->session.writable = !(how & 4);
    b->session.violation.deliver = drop_mail;
    b->reactor.store = &b->store;
    b->reactor.params = &b->server.params;
    b->queue = (struct queue){
        .sqes = b->rings->sqes,
        .cqes = b->rings->cqes,
        .words = &b->rings->words,
        .reactor = &b->reactor,
        .session = &b->session,
        .volume = &b->volume,
        .arena = calloc(1, ARENA_BYTES),
        .arena_bytes = ARENA_BYTES,
        .requests = calloc(DEPTH, sizeof(struct request)),
        .depth = DEPTH,
        .block_bytes = b->open.block_bytes,
        .segments_allowed = !(how & 8),
    };
    struct ovsshm_ring_words *words = &b->rings->words;
    ovsshm_ring_init(&b->queue.sq, &words->sq_head, &words->sq_tail, ENTRIES);
    ovsshm_ring_init(&b->queue.cq, &words->cq_tail, &words->cq_head, ENTRIES);
    if (how & 16) { /* near the wrap */
        uint32_t start = UINT32_MAX - input_u8(in) % 16;
        b->queue.sq.own = b->queue.sq.peer = b->queue.cq.own = b->queue.cq.peer = start;
        words->sq_tail = words->cq_head = start;
    }
    return b;
}

/* What shm_server.h promises a store about a request. */
static void
check_request(const struct bench *b, const struct ovsshm_request *r)
{
    static const uint64_t needs[] = {
        [OVSSHM_OP_READ] = 0,
        [OVSSHM_OP_WRITE] = OVSSHM_CAP_WRITE,
        [OVSSHM_OP_FLUSH] = 0,
        [OVSSHM_OP_DISCARD] = OVSSHM_CAP_DISCARD,
        [OVSSHM_OP_WRITE_ZEROES] = OVSSHM_CAP_WRITE_ZEROES,
        [OVSSHM_OP_BLOCK_STATUS] = OVSSHM_CAP_BLOCK_STATUS,
    };
    bool data = r->op == OVSSHM_OP_READ || r->op == OVSSHM_OP_WRITE;
    uint64_t sum = 0;
    MUST(r->op >= OVSSHM_OP_READ && r->op <= OVSSHM_OP_BLOCK_STATUS);
    MUST((needs[r->op] & ~b->store.capabilities) == 0);
    MUST(b->session.writable || r->op == OVSSHM_OP_READ || r->op == OVSSHM_OP_FLUSH ||
         r->op == OVSSHM_OP_BLOCK_STATUS);
    MUST(r->offset_bytes <= VOLUME_BYTES && r->length_bytes <= VOLUME_BYTES - r->offset_bytes);
    MUST(r->offset_bytes % b->open.block_bytes == 0 && r->length_bytes % b->open.block_bytes == 0);
    MUST((r->flags & ~(OVSSHM_SQE_FUA | OVSSHM_SQE_MAY_UNMAP)) == 0);
    MUST(r->op != OVSSHM_OP_FLUSH || (r->length_bytes == 0 && r->offset_bytes == 0));
    MUST(data == (r->iov_count != 0));
    MUST((r->op == OVSSHM_OP_BLOCK_STATUS) == (r->extents != NULL));
    for (uint32_t i = 0; i < r->iov_count; i++) {
        uint64_t at = (uint64_t)((unsigned char *)r->iov[i].iov_base - b->queue.arena);
        MUST(r->iov[i].iov_len <= ARENA_BYTES && at <= ARENA_BYTES - r->iov[i].iov_len);
        sum += r->iov[i].iov_len;
    }
    MUST(!data || sum == r->length_bytes);
}

/* As a store would: all of the data is touched. */
static int32_t
serve(struct ovsshm_request *r)
{
    for (uint32_t i = 0; i < r->iov_count; i++) {
        memset(r->iov[i].iov_base, 0x5a, r->iov[i].iov_len);
    }
    if (r->op == OVSSHM_OP_BLOCK_STATUS) {
        for (uint32_t i = 0; i < r->extents_max; i++) {
            r->extents[i] = (struct ovsshm_extent){.length_bytes = 512};
        }
        return (int32_t)r->extents_max;
    }
    return r->iov_count ? (int32_t)r->length_bytes : 0;
}

static void
complete_one(struct bench *b, uint8_t which)
{
    if (b->taken_count) {
        unsigned i = which % b->taken_count;
        struct ovsshm_request *request = b->taken[i];
        b->taken[i] = b->taken[--b->taken_count];
        srv_reactor_here = &b->reactor;
        ovsshm_request_complete(request, which & 0x80 ? -EIO : serve(request));
    }
}

/* False: the session has ended. */
static bool
take(struct bench *b)
{
    int rc = srv_queue_take(&b->queue);
    MUST(rc >= 0 || rc == -EAGAIN || rc == -EPROTO);
    MUST((rc == -EPROTO) == (b->session.violated != 0));
    MUST(b->queue.in_flight <= DEPTH);
    for (unsigned i = 0; i < b->reactor.batch_count; i++) {
        MUST(b->taken_count < DEPTH);
        check_request(b, b->reactor.batch[i]);
        b->taken[b->taken_count++] = b->reactor.batch[i];
    }
    b->reactor.batch_count = 0;
    b->reactor.batch_bytes = 0;
    return rc != -EPROTO;
}

/* One thing a client, or time, can do. */
static bool
act(struct bench *b, struct input *in)
{
    struct ovsshm_ring_words *words = &b->rings->words;
    uint8_t action = input_u8(in);
    uint32_t at;
    switch (action % 8) {
    case 0: /* an entry, where the next one belongs */
    case 1:
        input_bytes(in, &b->rings->sqes[words->sq_tail % ENTRIES], sizeof(struct ovsshm_sqe));
        words->sq_tail++;
        return action & 0x80 || take(b);
    case 2:
        at = input_u8(in) * 16u;
        input_bytes(in, b->queue.arena + at, sizeof(struct ovsshm_segment));
        return true;
    case 3: words->cq_head = action & 0x80 ? input_u32(in) : words->cq_tail; return true;
    case 4:
        words->sq_tail = action & 0x80 ? input_u32(in) : words->sq_tail + action / 8;
        return true;
    case 5: complete_one(b, input_u8(in)); return true;
    case 6:
        at = input_u16(in) % (sizeof(*b->rings) - 16);
        input_bytes(in, (unsigned char *)b->rings + at, 16);
        return true;
    default: return take(b);
    }
}

static void
bench_destroy(struct bench *b)
{
    while (b->taken_count) {
        complete_one(b, 0);
    }
    MUST(b->queue.in_flight == 0 && b->queue.elements_in_flight == 0);
    srv_mailbox_deliver(&b->server.control.mailbox);
    srv_mailbox_destroy(&b->server.control.mailbox);
    free(b->queue.requests);
    free(b->queue.arena);
    free(b->rings);
    free(b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct bench *b = bench_create(&in);
    while (in.left && act(b, &in)) {
    }
    bench_destroy(b);
    return 0;
}
