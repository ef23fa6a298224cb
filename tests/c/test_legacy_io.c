/* SPDX-License-Identifier: MIT */
/*
 * Synchronous I/O and buffers: any memory, offset and length; what comes back at the end of the
 * volume; every errno and its sign; interior pointers of one buffer from many threads.
 */
#define _GNU_SOURCE
#include "legacy_test.h"

#define VOLUME_BYTES (4u << 20)

static struct test_server server;
static ovs_ctx_t *ctx;

static void
argument_errors(void)
{
    char bytes[16] = {0};
    CHECK_FAILS(ovs_read(NULL, bytes, 16, 0), EINVAL);
    CHECK_FAILS(ovs_read(ctx, NULL, 16, 0), EINVAL);
    CHECK_FAILS(ovs_read(ctx, bytes, 0, 0), EINVAL);
    CHECK_FAILS(ovs_read(ctx, bytes, (size_t)-1, 0), EINVAL);
    CHECK_FAILS(ovs_read(ctx, bytes, 16, -1), EINVAL);
    CHECK_FAILS(ovs_write(NULL, bytes, 16, 0), EINVAL);
    CHECK_FAILS(ovs_write(ctx, NULL, 16, 0), EINVAL);
    CHECK_FAILS(ovs_write(ctx, bytes, 0, 0), EINVAL);
    CHECK_FAILS(ovs_write(ctx, bytes, (size_t)-1, 0), EINVAL);
    CHECK_FAILS(ovs_write(ctx, bytes, 16, -1), EINVAL);
    CHECK_FAILS(ovs_flush(NULL), EINVAL);
}

static void
access_mode_is_enforced_and_a_reader_may_flush(void)
{
    char byte = 'x';
    volume_create("modes", 4096);
    ovs_ctx_t *reader = ctx_open("modes", O_RDONLY);
    CHECK_FAILS(ovs_write(reader, &byte, 1, 0), EBADF);
    CHECK(ovs_read(reader, &byte, 1, 0) == 1);
    CHECK(ovs_flush(reader) == 0);
    CHECK(ovs_ctx_destroy(reader) == 0);
    ovs_ctx_t *writer = ctx_open("modes", O_WRONLY);
    CHECK_FAILS(ovs_read(writer, &byte, 1, 0), EBADF);
    CHECK(ovs_write(writer, &byte, 1, 0) == 1);
    CHECK(ovs_flush(writer) == 0);
    CHECK(ovs_ctx_destroy(writer) == 0);
    volume_remove("modes");
}

/* Lengths and offsets around sectors, pages and the request limit, in memory of any kind. */
static void
any_alignment_and_length(void)
{
    static const size_t lengths[] = {1,    13,    511,     512,     513,    4096,
                                     4097, 32768, 1048576, 1048577, 2500001};
    static const off_t offsets[] = {0, 1, 511, 1024, 4095, 131072};
    ovs_buffer_t *buffer = ovs_allocate(ctx, 3 << 20);
    unsigned char *shared = ovs_buffer_data(buffer);
    unsigned char *plain = malloc(3 << 20);
    CHECK(buffer && plain);
    for (size_t l = 0; l < sizeof(lengths) / sizeof(lengths[0]); l++) {
        for (size_t o = 0; o < sizeof(offsets) / sizeof(offsets[0]); o++) {
            size_t length = lengths[l];
            off_t offset = offsets[o];
            unsigned char *from = o % 2 ? shared + 3 : plain + 5;
            unsigned char *to = o % 2 ? plain + 7 : shared + 1;
            pattern_fill(from, length, (uint64_t)offset + l);
            CHECK(ovs_write(ctx, from, length, offset) == (ssize_t)length);
            memset(to, 0, length + 1);
            CHECK(ovs_read(ctx, to, length, offset) == (ssize_t)length);
            CHECK(pattern_holds(to, length, (uint64_t)offset + l) && to[length] == 0);
        }
    }
    free(plain);
    CHECK(ovs_deallocate(ctx, buffer) == 0);
}

static void
unaligned_write_leaves_its_neighbours(void)
{
    unsigned char bytes[4096];
    memset(bytes, 'n', sizeof(bytes));
    CHECK(ovs_write(ctx, bytes, sizeof(bytes), 8192) == sizeof(bytes));
    CHECK(ovs_write(ctx, "thirteen char", 13, 8192 + 1024) == 13);
    CHECK(ovs_read(ctx, bytes, sizeof(bytes), 8192) == sizeof(bytes));
    CHECK(is_all(bytes, 1024, 'n') && is_all(bytes + 1037, 4096 - 1037, 'n'));
    CHECK(!memcmp(bytes + 1024, "thirteen char", 13));
}

static void
end_of_volume(void)
{
    unsigned char bytes[1024];
    memset(bytes, 'x', sizeof(bytes));
    CHECK(ovs_write(ctx, bytes, 512, VOLUME_BYTES - 512) == 512);
    CHECK(ovs_read(ctx, bytes, 1024, VOLUME_BYTES - 512) == 512); /* short */
    CHECK(ovs_read(ctx, bytes, 1024, VOLUME_BYTES - 1) == 1);
    CHECK(ovs_read(ctx, bytes, 1024, VOLUME_BYTES) == 0);
    CHECK(ovs_read(ctx, bytes, 1024, VOLUME_BYTES + 12345) == 0);
    CHECK(ovs_read(ctx, bytes, 1024, INT64_MAX) == 0);
    memset(bytes, 'y', sizeof(bytes));
    CHECK_FAILS(ovs_write(ctx, bytes, 1024, VOLUME_BYTES - 512), EFBIG);
    CHECK_FAILS(ovs_write(ctx, bytes, 1, VOLUME_BYTES), EFBIG);
    CHECK_FAILS(ovs_write(ctx, bytes, 1024, INT64_MAX), EFBIG);
    CHECK(ovs_read(ctx, bytes, 512, VOLUME_BYTES - 512) == 512);
    CHECK(is_all(bytes, 512, 'x')); /* nothing of the failed write */
}

static void
long_write_across_the_end_writes_nothing(void)
{
    size_t length = 3u << 20;
    unsigned char *bytes = malloc(length);
    memset(bytes, 'z', length);
    CHECK(ovs_write(ctx, "keep", 4, VOLUME_BYTES - length + 512) == 4);
    CHECK_FAILS(ovs_write(ctx, bytes, length, VOLUME_BYTES - length + 512), EFBIG);
    CHECK(ovs_read(ctx, bytes, 4, VOLUME_BYTES - length + 512) == 4);
    CHECK(!memcmp(bytes, "keep", 4));
    CHECK(ovs_read(ctx, bytes, length, VOLUME_BYTES - length + 512) == (ssize_t)length - 512);
    free(bytes);
}

static void
never_written_reads_as_zero(void)
{
    unsigned char bytes[512];
    volume_create("fresh", 4096);
    ovs_ctx_t *fresh = ctx_open("fresh", O_RDONLY);
    memset(bytes, 'x', sizeof(bytes));
    CHECK(ovs_read(fresh, bytes, sizeof(bytes), 1000) == sizeof(bytes));
    CHECK(is_all(bytes, sizeof(bytes), 0));
    CHECK(ovs_ctx_destroy(fresh) == 0);
    volume_remove("fresh");
}

static void
errors_of_the_store_arrive_as_they_are(void)
{
    static const int errors[] = {EIO, ENOSPC, ENOMEM};
    char byte = 'x';
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        gate_fail_io(-errors[i]);
        CHECK_FAILS(ovs_write(ctx, &byte, 1, 0), errors[i]);
        CHECK_FAILS(ovs_read(ctx, &byte, 1, 0), errors[i]);
        CHECK_FAILS(ovs_flush(ctx), errors[i]);
    }
    gate_fail_io(0);
    CHECK(ovs_read(ctx, &byte, 1, 0) == 1);
}

static void
buffer_sizes_are_the_historical_classes(void)
{
    static const size_t sizes[][2] = {{0, 4096},        {1, 4096},        {4096, 4096},
                                      {4097, 32768},    {32768, 32768},   {32769, 131072},
                                      {131072, 131072}, {131073, 131073}, {1000000, 1000000}};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        ovs_buffer_t *buffer = ovs_allocate(ctx, sizes[i][0]);
        CHECK(buffer);
        CHECK(ovs_buffer_size(buffer) == sizes[i][1]);
        memset(ovs_buffer_data(buffer), 'b', sizes[i][1]);
        CHECK(ovs_deallocate(ctx, buffer) == 0);
    }
    CHECK_NULL(ovs_allocate(NULL, 4096), EINVAL);
    CHECK_NULL(ovs_allocate(ctx, (size_t)-1), ENOMEM);
    CHECK_NULL(ovs_buffer_data(NULL), EINVAL);
    CHECK(ovs_buffer_size(NULL) == 0);
}

static void
deallocate_refuses_what_it_did_not_give_out(void)
{
    ovs_buffer_t *buffer = ovs_allocate(ctx, 4096);
    ovs_ctx_t *other = ctx_new();
    CHECK_FAILS(ovs_deallocate(NULL, buffer), EINVAL);
    CHECK_FAILS(ovs_deallocate(ctx, NULL), EFAULT);
    CHECK_FAILS(ovs_deallocate(ctx, (ovs_buffer_t *)(void *)((char *)buffer + 1)), EFAULT);
    CHECK_FAILS(ovs_deallocate(other, buffer), EFAULT);
    CHECK(ovs_deallocate(ctx, buffer) == 0);
    CHECK_FAILS(ovs_deallocate(ctx, buffer), EFAULT); /* a second time */
    CHECK(ovs_ctx_destroy(other) == 0);
}

/* More than the arena holds: all of it usable, and there is still room to bounce. */
static void
exhausted_arena_gives_ordinary_memory(void)
{
    enum {
        COUNT = 1200,
        BYTES = 131072
    };
    static ovs_buffer_t *buffers[COUNT];
    unsigned char bytes[4096];
    for (int i = 0; i < COUNT; i++) {
        buffers[i] = ovs_allocate(ctx, BYTES);
        CHECK(buffers[i]);
        ((unsigned char *)ovs_buffer_data(buffers[i]))[BYTES - 1] = (unsigned char)i;
    }
    for (int i = 0; i < COUNT; i += 97) {
        unsigned char *data = ovs_buffer_data(buffers[i]);
        pattern_fill(data, BYTES, (uint64_t)i);
        CHECK(ovs_write(ctx, data, BYTES, i) == BYTES);
        CHECK(ovs_read(ctx, bytes, sizeof(bytes), i) == sizeof(bytes));
        CHECK(pattern_holds(bytes, sizeof(bytes), (uint64_t)i));
    }
    for (int i = 0; i < COUNT; i++) {
        CHECK(ovs_deallocate(ctx, buffers[i]) == 0);
    }
}

static void
buffers_of_a_replaced_volume_can_still_be_returned(void)
{
    volume_create("first", 4096);
    volume_create("second", 4096);
    ovs_ctx_t *changing = ctx_open("first", O_RDWR);
    ovs_buffer_t *old = ovs_allocate(changing, 4096);
    ovs_buffer_t *left = ovs_allocate(changing, 4096);
    CHECK(old && left);
    CHECK(ovs_ctx_init(changing, "second", O_RDWR) == 0);
    ovs_buffer_t *new = ovs_allocate(changing, 4096);
    CHECK(ovs_deallocate(changing, old) == 0);
    CHECK(ovs_write(changing, ovs_buffer_data(new), 4096, 0) == 4096);
    CHECK(ovs_deallocate(changing, new) == 0);
    CHECK(ovs_ctx_destroy(changing) == 0);
    volume_remove("first");
    volume_remove("second");
}

/* ---- one buffer, many threads ---------------------------------------------------------------- */

enum {
    THREADS = 6,
    ROUNDS = 40,
    PART = 40000
};

static ovs_buffer_t *common;

static void *
use_a_part_of_the_buffer(void *arg)
{
    size_t index = (size_t)arg;
    unsigned char *part = (unsigned char *)ovs_buffer_data(common) + index * PART;
    off_t offset = (off_t)(index * PART);
    for (int i = 0; i < ROUNDS; i++) {
        ovs_buffer_t *own = ovs_allocate(ctx, PART);
        CHECK(own);
        pattern_fill(part, PART, index * 1000 + (uint64_t)i);
        CHECK(ovs_write(ctx, part + 1, PART - 1, offset) == PART - 1);
        CHECK(ovs_read(ctx, ovs_buffer_data(own), PART - 1, offset) == PART - 1);
        CHECK(!memcmp(ovs_buffer_data(own), part + 1, PART - 1));
        if (i % 10 == 0) {
            CHECK(ovs_flush(ctx) == 0);
        }
        CHECK(ovs_deallocate(ctx, own) == 0);
    }
    return NULL;
}

static void
interior_pointers_from_many_threads(void)
{
    pthread_t threads[THREADS];
    common = ovs_allocate(ctx, (size_t)THREADS * PART);
    CHECK(common);
    for (size_t i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, use_a_part_of_the_buffer, (void *)i) == 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    CHECK(ovs_deallocate(ctx, common) == 0);
}

int
main(void)
{
    test_begin();
    server_start(&server, &gate_store);
    volume_create("vol", VOLUME_BYTES);
    ctx = ctx_open("vol", O_RDWR);
    RUN(argument_errors);
    RUN(access_mode_is_enforced_and_a_reader_may_flush);
    RUN(any_alignment_and_length);
    RUN(unaligned_write_leaves_its_neighbours);
    RUN(end_of_volume);
    RUN(long_write_across_the_end_writes_nothing);
    RUN(never_written_reads_as_zero);
    RUN(errors_of_the_store_arrive_as_they_are);
    RUN(buffer_sizes_are_the_historical_classes);
    RUN(deallocate_refuses_what_it_did_not_give_out);
    RUN(exhausted_arena_gives_ordinary_memory);
    RUN(buffers_of_a_replaced_volume_can_still_be_returned);
    RUN(interior_pointers_from_many_threads);
    CHECK(ovs_ctx_destroy(ctx) == 0);
    server_stop(&server);
    test_end();
    return 0;
}
