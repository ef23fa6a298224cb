/* SPDX-License-Identifier: MIT */
/*
 * Goal: what is written is what is read, wherever the memory is and however long the request.
 * Method: the real server with a memory store and small limits, compared with an array.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <sys/mman.h>

#include "shared/atomic.h"
#include "test_client_server.h"

#define VOLUME_BYTES (1 << 20)
#define REQUEST_BYTES_MAX 65536 /* the server's: longer ones are split */
#define ARENA_BYTES (1 << 20)
#define DEPTH 16

static struct ovsshm_volume *volume;
static struct ovsshm_queue *queue;
static unsigned char model[VOLUME_BYTES];

static void
begin(void)
{
    CHECK_EQ(ovsshm_create(conn, "io", VOLUME_BYTES), 0);
    volume = volume_open("io", (struct ovsshm_open_params){
                                   .mode = OVSSHM_MODE_WRITE,
                                   .depth = DEPTH,
                                   .arena_bytes = ARENA_BYTES,
                               });
    queue = ovsshm_volume_queue(volume, 0);
    memset(model, 0, sizeof(model));
    CHECK_EQ(ovsshm_volume_limits(volume)->request_bytes_max, REQUEST_BYTES_MAX);
    CHECK_EQ(ovsshm_volume_bytes(volume), VOLUME_BYTES);
}

static void
end(void)
{
    int rc;
    CHECK_EQ(ovsshm_queue_in_flight(queue), 0);
    ovsshm_close(volume);
    do {
        rc = ovsshm_remove(conn, "io");
    } while (rc == -EBUSY); /* until the server has seen that we closed it */
    CHECK_EQ(rc, 0);
}

static int64_t
run(uint8_t op, uint64_t offset_bytes, uint64_t length_bytes, void *buffer)
{
    struct ovsshm_io io = {
        .op = op,
        .offset_bytes = offset_bytes,
        .length_bytes = length_bytes,
        .buffer = buffer,
    };
    return ovsshm_queue_run(queue, &io);
}

static void
fill(unsigned char *data, size_t bytes, uint64_t seed)
{
    for (size_t i = 0; i < bytes; i++) {
        data[i] = (unsigned char)(test_random(&seed) >> 32);
    }
}

/* ---- ops ---------------------------------------------------------------------------------------
 */

static void
test_each_op_does_what_it_says(void)
{
    begin();
    unsigned char *data = ovsshm_buffer_alloc(volume, 16384);
    unsigned char *back = ovsshm_buffer_alloc(volume, 16384);
    CHECK(data && back);
    fill(data, 16384, 1);
    CHECK_EQ(run(OVSSHM_OP_WRITE, 8192, 16384, data), 16384);
    CHECK_EQ(run(OVSSHM_OP_FLUSH, 0, 0, NULL), 0);
    CHECK_EQ(run(OVSSHM_OP_READ, 8192, 16384, back), 16384);
    CHECK(!memcmp(data, back, 16384));
    struct ovsshm_io fua = {
        .op = OVSSHM_OP_WRITE, .flags = OVSSHM_SQE_FUA, .length_bytes = 512, .buffer = data};
    CHECK_EQ(ovsshm_queue_run(queue, &fua), 512);
    CHECK_EQ(run(OVSSHM_OP_WRITE_ZEROES, 8192, 4096, NULL), 0);
    CHECK_EQ(run(OVSSHM_OP_READ, 8192, 4096, back), 4096);
    memset(data, 0, 4096);
    CHECK(!memcmp(data, back, 4096));
    struct ovsshm_io unmap = {.op = OVSSHM_OP_WRITE_ZEROES,
                              .flags = OVSSHM_SQE_MAY_UNMAP,
                              .offset_bytes = 12288,
                              .length_bytes = 4096};
    CHECK_EQ(ovsshm_queue_run(queue, &unmap), 0);
    CHECK_EQ(run(OVSSHM_OP_READ, 12288, 4096, back), 4096);
    CHECK(!memcmp(data, back, 4096));
    CHECK_EQ(run(OVSSHM_OP_DISCARD, 16384, 4096, NULL), 0);
    CHECK_EQ(run(OVSSHM_OP_READ, 20480, 4096, back), 4096); /* beside it nothing has changed */
    CHECK(!memcmp(data + 12288, back, 4096));
    end();
}

static void
test_block_status_covers_the_range(void)
{
    struct ovsshm_extent extents[64];
    unsigned char data[4096] = {1};
    begin();
    for (uint64_t offset = 0; offset < VOLUME_BYTES; offset += 131072) {
        CHECK_EQ(run(OVSSHM_OP_WRITE, offset, sizeof(data), data), sizeof(data));
    }
    for (uint64_t room = 1; room <= 64; room *= 4) {
        uint64_t offset = 0;
        while (offset < VOLUME_BYTES) {
            struct ovsshm_io io = {
                .op = OVSSHM_OP_BLOCK_STATUS,
                .offset_bytes = offset,
                .length_bytes = VOLUME_BYTES - offset,
                .buffer = extents,
                .extents_max = room,
            };
            int64_t count = ovsshm_queue_run(queue, &io);
            CHECK(count > 0 && count <= (int64_t)room);
            for (int64_t i = 0; i < count; i++) {
                CHECK(offset % 131072 != 0 || extents[i].flags == 0); /* data was written there */
                offset += extents[i].length_bytes;
            }
        }
        CHECK_EQ(offset, VOLUME_BYTES);
    }
    end();
}

/* ---- wherever the memory is ---------------------------------------------------------------------
 */

/* One piece of memory, of any kind, and its description. */
struct memory {
    unsigned char *data; /* contents go in and out here */
    struct iovec iov[24];
    uint32_t iov_count;
    void *buffer;
};

enum kind {
    SHARED,
    INTERIOR,
    PRIVATE,
    IOV_CONTIGUOUS,
    IOV_SHARED,
    IOV_MANY,
    IOV_MIXED,
    KINDS
};

static unsigned char *shared_memory;
static unsigned char *private_memory;
#define MEMORY_BYTES (200 * 1024)

/* Describes `bytes` of memory of a kind; never two parts in the same place. */
static void
describe(struct memory *m, enum kind kind, size_t bytes, uint64_t *seed)
{
    size_t at = 0;
    memset(m, 0, sizeof(*m));
    switch (kind) {
    case SHARED: m->buffer = shared_memory; return;
    case INTERIOR: m->buffer = shared_memory + 1 + test_random(seed) % 1000; return;
    case PRIVATE: m->buffer = private_memory + test_random(seed) % 1000; return;
    default: break;
    }
    unsigned parts = kind == IOV_MANY ? 24 : 1 + (unsigned)(test_random(seed) % 8);
    for (unsigned i = 0; i < parts; i++) {
        size_t length = i == parts - 1 ? bytes - at : test_random(seed) % (bytes - at + 1);
        unsigned char *base = shared_memory + at;
        if (kind == IOV_SHARED || kind == IOV_MANY) {
            base += i * 64; /* gaps */
        } else if (kind == IOV_MIXED && i % 2) {
            base = private_memory + at;
        }
        m->iov[m->iov_count++] = (struct iovec){base, length};
        at += length;
    }
}

static struct ovsshm_io
io_for(const struct memory *m, uint8_t op, uint64_t offset_bytes, uint64_t length_bytes)
{
    struct ovsshm_io io = {.op = op, .offset_bytes = offset_bytes, .length_bytes = length_bytes};
    if (m->iov_count) {
        io.iov = m->iov;
        io.iov_count = m->iov_count;
    } else {
        io.buffer = m->buffer;
    }
    return io;
}

/* Copies between plain memory and described memory. */
static void
copy(const struct memory *m, unsigned char *plain, size_t bytes, bool in)
{
    const struct iovec whole = {m->buffer, bytes};
    const struct iovec *iov = m->iov_count ? m->iov : &whole;
    for (uint32_t i = 0; i < (m->iov_count ? m->iov_count : 1); i++) {
        memcpy(in ? iov[i].iov_base : plain, in ? plain : iov[i].iov_base, iov[i].iov_len);
        plain += iov[i].iov_len;
    }
}

static void
test_any_memory_and_length_matches_the_model(void)
{
    static unsigned char data[MEMORY_BYTES];
    begin();
    shared_memory = ovsshm_buffer_alloc(volume, MEMORY_BYTES + 24 * 64 + 1024);
    private_memory = malloc(MEMORY_BYTES + 1024);
    CHECK(shared_memory && private_memory);
    CHECK(ovsshm_buffer_is_shared(volume, shared_memory + 5, MEMORY_BYTES));
    CHECK(!ovsshm_buffer_is_shared(volume, private_memory, 1));
    uint64_t seed = 3;
    for (unsigned step = 0; step < 4000; step++) {
        enum kind kind = step % KINDS;
        struct memory memory;
        size_t longest = step % 16 ? 9000 : 3 * REQUEST_BYTES_MAX + 77;
        size_t length = 1 + test_random(&seed) % longest;
        uint64_t offset = test_random(&seed) % (VOLUME_BYTES - length);
        describe(&memory, kind, length, &seed);
        if (step / KINDS % 2) {
            fill(data, length, step + 1);
            copy(&memory, data, length, true);
            struct ovsshm_io io = io_for(&memory, OVSSHM_OP_WRITE, offset, length);
            CHECK_EQ(ovsshm_queue_run(queue, &io), length);
            memcpy(model + offset, data, length);
        } else {
            struct ovsshm_io io = io_for(&memory, OVSSHM_OP_READ, offset, length);
            CHECK_EQ(ovsshm_queue_run(queue, &io), length);
            copy(&memory, data, length, false);
            CHECK(!memcmp(data, model + offset, length));
        }
    }
    free(private_memory);
    end();
}

static void
test_only_foreign_memory_is_copied(void)
{
    unsigned char data[1024];
    begin();
    unsigned char *shared = ovsshm_buffer_alloc(volume, 8192);
    struct iovec apart[2] = {{shared, 512}, {shared + 4096, 512}};
    struct iovec joined[2] = {{shared, 512}, {shared + 512, 512}};
    struct ovsshm_io io = {.op = OVSSHM_OP_WRITE, .length_bytes = 1024, .iov_count = 2};
    CHECK_EQ(run(OVSSHM_OP_WRITE, 0, 1024, shared), 1024);
    io.iov = apart;
    CHECK_EQ(ovsshm_queue_run(queue, &io), 1024);
    io.iov = joined;
    CHECK_EQ(ovsshm_queue_run(queue, &io), 1024);
    CHECK_EQ(ovsshm_queue_counters(queue).bounced_bytes, 0);
    CHECK_EQ(run(OVSSHM_OP_WRITE, 0, 1024, data), 1024);
    CHECK_EQ(run(OVSSHM_OP_READ, 0, 1024, data), 1024);
    CHECK_EQ(ovsshm_queue_counters(queue).bounced_bytes, 2048);
    apart[1].iov_base = data;
    io.iov = apart;
    CHECK_EQ(ovsshm_queue_run(queue, &io), 1024);
    CHECK_EQ(ovsshm_queue_counters(queue).bounced_bytes, 3072);
    end();
}

/* With the arena all but full, foreign memory goes through what is left, in shorter pieces. */
static void
test_bounce_shrinks_to_what_the_arena_has(void)
{
    static unsigned char data[2 * REQUEST_BYTES_MAX], back[2 * REQUEST_BYTES_MAX];
    begin();
    fill(data, sizeof(data), 9);
    for (uint64_t bytes = ARENA_BYTES / 2; bytes >= 512; bytes /= 2) {
        CHECK(ovsshm_buffer_alloc(volume, bytes)); /* all but the last 512 */
        CHECK_EQ(run(OVSSHM_OP_WRITE, 4096, sizeof(data), data), sizeof(data));
        memset(back, 0, sizeof(back));
        CHECK_EQ(run(OVSSHM_OP_READ, 4096, sizeof(back), back), sizeof(back));
        CHECK(!memcmp(data, back, sizeof(data)));
    }
    CHECK(ovsshm_buffer_alloc(volume, 1));
    CHECK(!ovsshm_buffer_alloc(volume, 1));
    CHECK_TEXT(ovsshm_reason(), "arena");
    CHECK_EQ(run(OVSSHM_OP_READ, 0, 1, back), -EAGAIN);
    CHECK_TEXT(ovsshm_reason(), "arena");
    CHECK_EQ(run(OVSSHM_OP_FLUSH, 0, 0, NULL), 0);
    end();
}

/* ---- ends and errors ------------------------------------------------------------------------ */

static void
test_reads_are_short_at_the_end(void)
{
    static unsigned char data[3 * REQUEST_BYTES_MAX];
    begin();
    CHECK_EQ(run(OVSSHM_OP_READ, VOLUME_BYTES - 100, 512, data), 100);
    CHECK_EQ(run(OVSSHM_OP_READ, VOLUME_BYTES, 512, data), 0);
    CHECK_EQ(run(OVSSHM_OP_READ, VOLUME_BYTES + 4096, 512, data), 0);
    CHECK_EQ(run(OVSSHM_OP_READ, 1ull << 62, 512, data), 0);
    /* In pieces: within the last, between two, and beyond a whole one. */
    CHECK_EQ(run(OVSSHM_OP_READ, VOLUME_BYTES - REQUEST_BYTES_MAX - 7, sizeof(data), data),
             REQUEST_BYTES_MAX + 7);
    CHECK_EQ(run(OVSSHM_OP_READ, VOLUME_BYTES - REQUEST_BYTES_MAX, sizeof(data), data),
             REQUEST_BYTES_MAX);
    CHECK_EQ(run(OVSSHM_OP_READ, VOLUME_BYTES - 7, sizeof(data), data), 7);
    end();
}

static void
test_caller_writing_beyond_the_end_gets_efbig_and_nothing_is_written(void)
{
    static unsigned char data[3 * REQUEST_BYTES_MAX], back[512], zeroes[512];
    uint64_t offset = VOLUME_BYTES - 2 * REQUEST_BYTES_MAX;
    begin();
    memset(data, 0xee, sizeof(data));
    CHECK_EQ(run(OVSSHM_OP_WRITE, VOLUME_BYTES - 100, 512, data), -EFBIG);
    CHECK_EQ(run(OVSSHM_OP_WRITE, VOLUME_BYTES, 512, data), -EFBIG);
    CHECK_EQ(run(OVSSHM_OP_DISCARD, VOLUME_BYTES - 100, 512, NULL), -EFBIG);
    CHECK_EQ(run(OVSSHM_OP_WRITE_ZEROES, VOLUME_BYTES - 100, 512, NULL), -EFBIG);
    CHECK_EQ(run(OVSSHM_OP_WRITE, offset, sizeof(data), data),
             -EFBIG); /* not even two good pieces */
    CHECK_EQ(run(OVSSHM_OP_READ, offset, 512, back), 512);
    CHECK(!memcmp(back, zeroes, 512));
    CHECK_EQ(run(OVSSHM_OP_DISCARD, 0, 1ull << 40, NULL), -EFBIG);
    /* The same by poll. */
    struct ovsshm_completion completion;
    struct ovsshm_io io = {.op = OVSSHM_OP_WRITE,
                           .offset_bytes = offset,
                           .length_bytes = sizeof(data),
                           .buffer = data,
                           .user_data = 5};
    CHECK_EQ(ovsshm_queue_prep(queue, &io), 0);
    CHECK_EQ(ovsshm_queue_in_flight(queue), 1);
    CHECK_EQ(ovsshm_queue_arm(queue), 1);
    CHECK_EQ(ovsshm_queue_wait(queue, &completion, 1, -1), 1);
    CHECK_EQ(completion.user_data, 5);
    CHECK_EQ(completion.result, -EFBIG);
    end();
}

static void
expect_invalid(struct ovsshm_io io, const char *reason)
{
    CHECK_EQ(ovsshm_queue_prep(queue, &io), -EINVAL);
    CHECK_TEXT(ovsshm_reason(), reason);
    CHECK_EQ(ovsshm_queue_run(queue, &io), -EINVAL);
    CHECK_EQ(ovsshm_queue_in_flight(queue), 0);
}

static void
test_caller_making_no_sense_gets_einval(void)
{
    unsigned char data[512];
    struct iovec iov[2] = {{data, 256}, {data + 256, 255}};
    begin();
    const struct ovsshm_io read = {.op = OVSSHM_OP_READ, .length_bytes = 512, .buffer = data};
    struct ovsshm_io io = read;
    io.op = 0;
    expect_invalid(io, "op 0 is unknown");
    io.op = 7;
    expect_invalid(io, "op 7 is unknown");
    io.op = 255;
    expect_invalid(io, "op 255 is unknown");
    io = read;
    io.length_bytes = 0;
    expect_invalid(io, "length is 0");
    io = read;
    io.flags = OVSSHM_SQE_FUA;
    expect_invalid(io, "flag");
    io = read;
    io.flags = OVSSHM_SQE_SEGMENTS;
    expect_invalid(io, "flag");
    io = read;
    io.resv = 1;
    expect_invalid(io, "flag");
    io = read;
    io.buffer = NULL;
    expect_invalid(io, "no buffer");
    io = read;
    io.offset_bytes = INT64_MAX;
    expect_invalid(io, "2^63");
    io = read;
    io.offset_bytes = UINT64_MAX;
    expect_invalid(io, "2^63");
    io = read;
    io.length_bytes = UINT64_MAX;
    expect_invalid(io, "2^63");
    io = read;
    io.iov = iov;
    io.iov_count = 2;
    expect_invalid(io, "shorter");
    iov[1].iov_len = 257;
    expect_invalid(io, "longer");
    iov[1].iov_len = SIZE_MAX;
    expect_invalid(io, "longer");
    io = read;
    io.op = OVSSHM_OP_BLOCK_STATUS;
    expect_invalid(io, "block-status");
    io = (struct ovsshm_io){.op = OVSSHM_OP_DISCARD, .flags = OVSSHM_SQE_FUA, .length_bytes = 1};
    expect_invalid(io, "flag");
    io = (struct ovsshm_io){.op = OVSSHM_OP_FLUSH, .flags = OVSSHM_SQE_FUA};
    expect_invalid(io, "flag");
    end();
}

static void
test_reader_writing_gets_ebadf(void)
{
    unsigned char data[512] = {1};
    begin();
    struct ovsshm_volume *reader = volume_open("io", (struct ovsshm_open_params){.depth = 1});
    struct ovsshm_queue *reader_queue = ovsshm_volume_queue(reader, 0);
    struct ovsshm_io io = {.op = OVSSHM_OP_WRITE, .length_bytes = 512, .buffer = data};
    CHECK_EQ(ovsshm_queue_prep(reader_queue, &io), -EBADF);
    io.op = OVSSHM_OP_DISCARD;
    CHECK_EQ(ovsshm_queue_run(reader_queue, &io), -EBADF);
    io.op = OVSSHM_OP_WRITE_ZEROES;
    CHECK_EQ(ovsshm_queue_run(reader_queue, &io), -EBADF);
    CHECK_EQ(run(OVSSHM_OP_WRITE, 0, 512, data), 512);
    io.op = OVSSHM_OP_READ;
    memset(data, 0, sizeof(data));
    CHECK_EQ(ovsshm_queue_run(reader_queue, &io), 512);
    CHECK_EQ(data[0], 1);
    /* The writer's role changes hands. */
    io.op = OVSSHM_OP_WRITE;
    CHECK_EQ(ovsshm_volume_set_mode(reader, OVSSHM_MODE_WRITE), -EBUSY);
    CHECK_EQ(ovsshm_volume_set_mode(volume, OVSSHM_MODE_READ), 0);
    CHECK_EQ(run(OVSSHM_OP_WRITE, 0, 512, data), -EBADF);
    CHECK_EQ(ovsshm_volume_set_mode(reader, OVSSHM_MODE_WRITE), 0);
    CHECK_EQ(ovsshm_queue_run(reader_queue, &io), 512);
    CHECK_EQ(ovsshm_volume_set_mode(reader, 3), -EINVAL);
    ovsshm_close(reader);
    end();
}

static void
test_growing_is_seen_without_a_call(void)
{
    unsigned char data[512] = {1};
    struct ovsshm_msg_event event;
    begin();
    CHECK_EQ(run(OVSSHM_OP_WRITE, VOLUME_BYTES, 512, data), -EFBIG);
    struct pollfd fd = {.fd = ovsshm_volume_fd(volume), .events = POLLIN};
    CHECK_EQ(poll(&fd, 1, 0), 0);
    CHECK_EQ(ovsshm_resize(conn, "io", 2 * VOLUME_BYTES), 0);
    CHECK_EQ(poll(&fd, 1, -1), 1);
    CHECK_EQ(ovsshm_volume_bytes(volume), 2 * VOLUME_BYTES);
    CHECK_EQ(run(OVSSHM_OP_WRITE, VOLUME_BYTES, 512, data), 512);
    CHECK_EQ(ovsshm_volume_event(volume, &event), 1);
    CHECK_EQ(event.event, OVSSHM_EVENT_RESIZED);
    CHECK_EQ(poll(&fd, 1, 0), 0);
    CHECK_EQ(event.value, 2 * VOLUME_BYTES);
    CHECK_EQ(ovsshm_volume_resize(volume, 3 * VOLUME_BYTES), 0);
    CHECK_EQ(ovsshm_volume_bytes(volume), 3 * VOLUME_BYTES);
    CHECK_EQ(ovsshm_volume_resize(volume, VOLUME_BYTES), -EPERM);
    end();
}

/* ---- many at once --------------------------------------------------------------------------- */

/* `depth` requests in flight at all times, each on its own block, checked as they come back. */
static void
pipeline(struct ovsshm_queue *q, unsigned depth, unsigned first_block, unsigned rounds)
{
    struct ovsshm_completion *completions = calloc(depth, sizeof(*completions));
    uint64_t *data = calloc(depth, 512); /* private: bounced */
    uint32_t *round = calloc(depth, sizeof(*round));
    unsigned left = depth * rounds;
    CHECK(completions && data && round);
    for (unsigned i = 0; i < depth; i++) {
        completions[i] = (struct ovsshm_completion){i, 512};
    }
    for (unsigned count = depth; left;) {
        for (unsigned c = 0; c < count; c++) {
            uint64_t i = completions[c].user_data;
            uint64_t *block = data + i * 64;
            CHECK_EQ(completions[c].result, 512);
            if (round[i] && round[i] % 2 == 0) { /* a read has come back */
                CHECK_EQ(block[63], i + round[i] - 1);
            }
            left -= round[i] != 0;
            if (round[i] == rounds) {
                continue;
            }
            round[i]++;
            block[63] = round[i] % 2 ? i + round[i] : 0;
            struct ovsshm_io io = {
                .op = round[i] % 2 ? OVSSHM_OP_WRITE : OVSSHM_OP_READ,
                .offset_bytes = (first_block + i) * 512,
                .length_bytes = 512,
                .buffer = block,
                .user_data = i,
            };
            CHECK_EQ(ovsshm_queue_prep(q, &io), 0);
        }
        ovsshm_queue_submit(q);
        int n = left ? ovsshm_queue_wait(q, completions, depth, -1) : 0;
        CHECK(n > 0 || !left);
        count = (unsigned)n;
    }
    free(completions);
    free(data);
    free(round);
}

static void
test_depths_from_1_to_4096(void)
{
    CHECK_EQ(ovsshm_create(conn, "deep", 4096 * 512), 0);
    for (unsigned depth = 1; depth <= 4096; depth = depth * 4) {
        struct ovsshm_volume *v = volume_open("deep", (struct ovsshm_open_params){
                                                          .mode = OVSSHM_MODE_WRITE,
                                                          .depth = depth,
                                                      });
        pipeline(ovsshm_volume_queue(v, 0), depth, 0, 10);
        CHECK_EQ(ovsshm_queue_counters(ovsshm_volume_queue(v, 0)).requests, depth * 10);
        ovsshm_close(v);
    }
    while (ovsshm_remove(conn, "deep") == -EBUSY) {
    }
}

#define QUEUES 4

static void *
pipeline_thread(void *arg)
{
    static unsigned taken;
    struct ovsshm_volume *v = arg;
    unsigned index = ovsshm_add_relaxed(&taken, 1);
    pipeline(ovsshm_volume_queue(v, index), DEPTH, index * DEPTH, 200);
    return NULL;
}

static void
test_queues_work_side_by_side_in_threads(void)
{
    pthread_t threads[QUEUES];
    CHECK_EQ(ovsshm_create(conn, "wide", QUEUES * DEPTH * 512), 0);
    struct ovsshm_volume *v = volume_open("wide", (struct ovsshm_open_params){
                                                      .mode = OVSSHM_MODE_WRITE,
                                                      .queues = QUEUES,
                                                      .depth = DEPTH,
                                                  });
    CHECK(!ovsshm_volume_queue(v, QUEUES));
    for (unsigned i = 0; i < QUEUES; i++) {
        threads[i] = test_thread(pipeline_thread, v);
    }
    for (unsigned i = 0; i < QUEUES; i++) {
        test_join(threads[i]);
    }
    ovsshm_close(v);
    while (ovsshm_remove(conn, "wide") == -EBUSY) {
    }
}

static void *
grow_step_by_step(void *arg)
{
    struct ovsshm_volume_info info;
    struct ovsshm_msg_event event;
    uint64_t bytes = ovsshm_volume_bytes(arg);
    for (unsigned i = 1; i <= 300; i++) {
        CHECK_EQ(ovsshm_volume_resize(arg, bytes + i * 512), 0);
        CHECK_EQ(ovsshm_volume_stat(arg, &info), 0);
        CHECK_EQ(info.size_bytes, bytes + i * 512);
        ovsshm_volume_event(arg, &event);
    }
    return NULL;
}

static void *
ask_again_and_again(void *arg)
{
    struct ovsshm_volume_info info;
    for (unsigned i = 0; i < 300; i++) {
        CHECK_EQ(ovsshm_volume_stat(arg, &info), 0);
    }
    return NULL;
}

/* Replies and events on the socket that sleeping queues watch too. */
static void
test_calls_and_sleeping_queues_share_a_session(void)
{
    CHECK_EQ(ovsshm_create(conn, "busy", QUEUES * DEPTH * 512), 0);
    struct ovsshm_volume *v = volume_open("busy", (struct ovsshm_open_params){
                                                      .mode = OVSSHM_MODE_WRITE,
                                                      .depth = DEPTH,
                                                      .spin_ns_max = UINT64_MAX,
                                                  });
    pthread_t threads[2] = {test_thread(grow_step_by_step, v), test_thread(ask_again_and_again, v)};
    pipeline(ovsshm_volume_queue(v, 0), DEPTH, 0, 2000);
    test_join(threads[0]);
    test_join(threads[1]);
    CHECK_EQ(ovsshm_volume_state(v), 0);
    ovsshm_close(v);
    while (ovsshm_remove(conn, "busy") == -EBUSY) {
    }
}

int
main(void)
{
    test_begin(240);
    server_start((struct ovsshm_server_params){.request_bytes_max = REQUEST_BYTES_MAX});
    RUN(test_each_op_does_what_it_says);
    RUN(test_block_status_covers_the_range);
    RUN(test_any_memory_and_length_matches_the_model);
    RUN(test_only_foreign_memory_is_copied);
    RUN(test_bounce_shrinks_to_what_the_arena_has);
    RUN(test_reads_are_short_at_the_end);
    RUN(test_caller_writing_beyond_the_end_gets_efbig_and_nothing_is_written);
    RUN(test_caller_making_no_sense_gets_einval);
    RUN(test_reader_writing_gets_ebadf);
    RUN(test_growing_is_seen_without_a_call);
    RUN(test_depths_from_1_to_4096);
    RUN(test_queues_work_side_by_side_in_threads);
    RUN(test_calls_and_sleeping_queues_share_a_session);
    server_end();
    return 0;
}
