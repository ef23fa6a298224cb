/* SPDX-License-Identifier: MIT */
/*
 * The data path of the file store: what is read is what was written, with both engines, through the
 * page cache and past it; failures of the kernel's calls arrive as they should.
 */
#define _GNU_SOURCE
#include "file_test.h"

#include <sys/syscall.h>
#include <time.h>

#include "shared/atomic.h"

#define KIB 1024u
#define MIB (1024u * 1024)

/* ---- the kernel's calls, with faults on request ---------------------------------------------- */

/* Atomic, all of them: the store's threads make these calls too. */
static struct {
    int sync_error; /* of the next fdatasync */
    unsigned syncs;
    size_t short_write; /* the next pwritev2 does only so many bytes */
    enum {
        FAST,
        PREEMPTED,
        ASLEEP
    } slow_writes;       /* how pwritev2 passes its time */
    unsigned interrupts; /* calls of pwritev2 that end with EINTR */
} fault;

int
fdatasync(int fd)
{
    ovsshm_add(&fault.syncs, 1);
    errno = ovsshm_exchange(&fault.sync_error, 0);
    if (errno) {
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

/* As a write that waits for the disk: asleep.  As one that has lost its CPU: not. */
static void
pass_time(bool asleep)
{
    struct timespec start, now, pause = {.tv_nsec = asleep ? 2000000 : 0};
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        if (asleep) {
            nanosleep(&pause, NULL);
        }
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - start.tv_sec) * 1000000000 + now.tv_nsec - start.tv_nsec < 2000000);
}

ssize_t
pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
    struct iovec part = iov[0];
    unsigned interrupts = ovsshm_load_relaxed(&fault.interrupts);
    if (interrupts) {
        ovsshm_store_relaxed(&fault.interrupts, interrupts - 1);
        errno = EINTR;
        return -1;
    }
    if (ovsshm_load_relaxed(&fault.slow_writes)) {
        pass_time(ovsshm_load_relaxed(&fault.slow_writes) == ASLEEP);
    }
    size_t bytes = ovsshm_exchange(&fault.short_write, 0);
    if (bytes) {
        part.iov_len = bytes;
        iov = &part;
        count = 1;
    }
    return syscall(SYS_pwritev2, fd, iov, count, offset, 0, flags);
}

/* ---- what was written is read ---------------------------------------------------------------- */

static void
test_data_of_any_alignment_comes_back(void)
{
    static const struct {
        uint64_t offset;
        uint32_t length;
        uint32_t memory;
    } cases[] = {
        {0, 512, 0},       {512, 512, 512},  {4096, 4096, 0}, {1, 1, 1},
        {4095, 2, 3},      {12345, 6789, 7}, {65536, MIB, 0}, {65537, MIB, 1},
        {0, 300 * KIB, 0}, {8192, 4096, 16}, {511, 513, 0},   {2 * MIB - 512, 512, 0},
    };
    struct ovsshm_store_volume *volume = ft_create_open("v", 2 * MIB);
    unsigned char *model = ft_buffer(2 * MIB), *data = ft_buffer(2 * MIB);
    uint64_t seed = 1;
    CHECK_EQ(volume->size_bytes, 2 * MIB);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        unsigned char *at = data + cases[i].memory;
        if ((cases[i].offset | cases[i].length) % volume->block_bytes) {
            continue; /* direct: the server refuses them */
        }
        for (unsigned b = 0; b < cases[i].length; b++) {
            at[b] = (unsigned char)test_random(&seed);
        }
        memcpy(model + cases[i].offset, at, cases[i].length);
        CHECK_EQ(ft_write(volume, cases[i].offset, at, cases[i].length), cases[i].length);
        memset(at, 0, cases[i].length);
        CHECK_EQ(ft_read(volume, cases[i].offset, at, cases[i].length), cases[i].length);
        CHECK(!memcmp(at, model + cases[i].offset, cases[i].length));
    }
    CHECK_EQ(ft_read(volume, 0, data, 2 * MIB), 2 * MIB);
    CHECK(!memcmp(data, model, 2 * MIB));
    ft_close(volume);
    /* Another life of the volume sees the same. */
    volume = ft_open("v");
    CHECK_EQ(ft_read(volume, 0, data, 2 * MIB), 2 * MIB);
    CHECK(!memcmp(data, model, 2 * MIB));
    ft_close(volume);
    free(model);
    free(data);
}

/* What a discard leaves: zeroes here.  Beside direct I/O it is of whole pages. */
static void
discard_from_model(const struct ovsshm_store_volume *volume, unsigned char *model, uint32_t offset,
                   uint32_t length)
{
    uint32_t page = volume->block_bytes == 1 ? 1 : (uint32_t)sysconf(_SC_PAGESIZE);
    uint32_t begin = (offset + page - 1) / page * page;
    uint32_t end = (offset + length) / page * page;
    if (begin < end) {
        memset(model + begin, 0, end - begin);
    }
}

/* One step of the random test; the model is what the volume must hold afterwards. */
static void
random_step(struct ovsshm_store_volume *volume, uint64_t *seed, unsigned char *model,
            unsigned char *data, uint32_t size)
{
    static const uint32_t units[] = {1, 512, 4096, 65536};
    uint32_t unit = units[test_random(seed) % 4];
    while (unit < volume->block_bytes) {
        unit *= 2;
    }
    uint32_t offset = (uint32_t)(test_random(seed) % size) / unit * unit;
    uint32_t length = (uint32_t)(test_random(seed) % (256 * KIB)) / unit * unit + unit;
    unsigned kind = test_random(seed) % 8;
    if (length > size - offset) {
        length = size - offset;
    }
    uint8_t flags = test_random(seed) % 8 == 0 ? OVSSHM_SQE_FUA : 0;
    if (kind < 4) {
        memset(data, (int)test_random(seed), length);
        memcpy(model + offset, data, length);
        CHECK_EQ(ft_run(volume, OVSSHM_OP_WRITE, flags, offset, data, length), length);
    } else if (kind < 6) {
        uint8_t may_unmap = test_random(seed) % 2 ? OVSSHM_SQE_MAY_UNMAP : 0;
        memset(model + offset, 0, length);
        flags |= may_unmap;
        CHECK_EQ(ft_run(volume, OVSSHM_OP_WRITE_ZEROES, flags, offset, NULL, length), 0);
    } else if (kind == 6) {
        discard_from_model(volume, model, offset, length);
        CHECK_EQ(ft_run(volume, OVSSHM_OP_DISCARD, 0, offset, NULL, length), 0);
    } else {
        CHECK_EQ(ft_flush(volume), 0);
    }
}

static void
test_random_operations_match_a_model(void)
{
    enum {
        SIZE = 4 * MIB
    };
    unsigned char *model = ft_buffer(SIZE), *data = ft_buffer(SIZE);
    struct ovsshm_store_volume *volume = ft_create_open("v", SIZE);
    uint64_t seed = 42;
    for (unsigned i = 0; i < 300; i++) {
        random_step(volume, &seed, model, data, SIZE);
        if (i % 50 == 49) {
            CHECK_EQ(ft_read(volume, 0, data, SIZE), SIZE);
            CHECK(!memcmp(data, model, SIZE));
        }
    }
    ft_close(volume);
    free(model);
    free(data);
}

/* Neighbours in one batch are merged into one call: each must get its own bytes and result. */
static void
test_batches_of_neighbours(void)
{
    enum {
        COUNT = 600,
        BYTES = 4096
    };
    struct ovsshm_store_volume *volume = ft_create_open("v", COUNT * BYTES);
    unsigned char *data = ft_buffer(COUNT * BYTES), *back = ft_buffer(COUNT * BYTES);
    struct io *ios = calloc(COUNT, sizeof(*ios)), *list[COUNT];
    for (unsigned op = OVSSHM_OP_WRITE; op >= OVSSHM_OP_READ; op--) {
        unsigned char *buffer = op == OVSSHM_OP_WRITE ? data : back;
        for (unsigned i = 0; i < COUNT; i++) {
            /* Runs of three, then a jump: and the memory is in another order than the volume. */
            unsigned place = i % 3 + (COUNT - 3 - i / 3 * 3);
            unsigned char *at = buffer + i * BYTES;
            list[i] = ft_io(&ios[i], volume, (uint8_t)op, 0, place * (uint64_t)BYTES, at, BYTES);
            if (op == OVSSHM_OP_WRITE) {
                memset(at, (int)(place % 251), BYTES);
            }
            /* Two iovecs, so that merging has to gather. */
            ios[i].iov[0].iov_len = 512;
            ios[i].iov[1] = (struct iovec){at + 512, BYTES - 512};
            ios[i].request.iov_count = 2;
        }
        ft_submit(list, COUNT);
        for (unsigned i = 0; i < COUNT; i++) {
            ft_wait(&ios[i]);
            CHECK_EQ(ios[i].result, BYTES);
        }
    }
    CHECK(!memcmp(data, back, COUNT * BYTES));
    CHECK_EQ(ft_read(volume, 0, back, COUNT * BYTES), COUNT * BYTES);
    for (unsigned i = 0; i < COUNT; i++) {
        CHECK_EQ(back[i * BYTES], i % 251);
        CHECK_EQ(back[i * BYTES + BYTES - 1], i % 251);
    }
    ft_close(volume);
    free(ios);
    free(data);
    free(back);
}

static void
test_cold_reads_come_from_the_disk(void)
{
    enum {
        SIZE = 8 * MIB,
        BYTES = 64 * KIB,
        COUNT = SIZE / BYTES
    };
    struct ovsshm_store_volume *volume = ft_create_open("v", SIZE);
    unsigned char *data = ft_buffer(SIZE), *back = ft_buffer(SIZE);
    struct io *ios = calloc(COUNT, sizeof(*ios)), *list[COUNT];
    uint64_t seed = 7;
    for (unsigned i = 0; i < SIZE; i++) {
        data[i] = (unsigned char)test_random(&seed);
    }
    CHECK_EQ(ft_write(volume, 0, data, SIZE), SIZE);
    CHECK_EQ(ft_flush(volume), 0);
    int fd = open(ft_path("v"), O_RDONLY);
    CHECK_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    close(fd);
    for (unsigned i = 0; i < COUNT; i++) {
        uint64_t at = (uint64_t)(i * 37 % COUNT) * BYTES;
        list[i] = ft_io(&ios[i], volume, OVSSHM_OP_READ, 0, at, back + at, BYTES);
    }
    ft_submit(list, COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        ft_wait(&ios[i]);
        CHECK_EQ(ios[i].result, BYTES);
    }
    CHECK(!memcmp(data, back, SIZE));
    ft_close(volume);
    free(ios);
    free(data);
    free(back);
}

static void
test_destroying_a_group_completes_what_is_in_flight(void)
{
    enum {
        COUNT = 300,
        BYTES = 4096
    };
    struct ovsshm_store_volume *volume = ft_create_open("v", COUNT * BYTES);
    unsigned char *data = ft_buffer(COUNT * BYTES);
    struct io *ios = calloc(COUNT, sizeof(*ios)), *list[COUNT];
    for (unsigned i = 0; i < COUNT; i++) {
        list[i] = ft_io(&ios[i], volume, OVSSHM_OP_WRITE, OVSSHM_SQE_FUA, i * (uint64_t)BYTES,
                        data + i * BYTES, BYTES);
    }
    ft_submit(list, COUNT);
    ovsshm_store_file.group_destroy(ft.group);
    for (unsigned i = 0; i < COUNT; i++) {
        CHECK_EQ(ios[i].completions, 1);
        CHECK_EQ(ios[i].result, BYTES);
    }
    CHECK_EQ(ovsshm_store_file.group_create(ft.store, &ft.group), 0);
    ft_close(volume);
    free(ios);
    free(data);
}

/* ---- several reactors ------------------------------------------------------------------------ */

struct reactor {
    struct ovsshm_store_volume *volume;
    unsigned index;
};

enum {
    REACTORS = 3,
    REACTOR_ROUNDS = 60,
    REACTOR_DEPTH = 16,
    REACTOR_BYTES = 4096
};

static void
reactor_wait(void *group, struct io *ios)
{
    for (unsigned i = 0; i < REACTOR_DEPTH; i++) {
        while (!ios[i].completions) {
            struct pollfd ready = {.fd = ovsshm_store_file.group_fd(group), .events = POLLIN};
            if (ovsshm_store_file.poll(group) == 0 && !ios[i].completions) {
                CHECK(poll(&ready, 1, 30000) != 0);
            }
        }
        CHECK_EQ(ios[i].result, ios[i].request.op == OVSSHM_OP_FLUSH ? 0 : REACTOR_BYTES);
    }
}

/* Writes every third block with its own mark and reads it back, flushing now and then. */
static void *
reactor_thread(void *arg)
{
    struct reactor *reactor = arg;
    void *group;
    struct io *ios = calloc(REACTOR_DEPTH, sizeof(*ios));
    struct ovsshm_request *requests[REACTOR_DEPTH];
    unsigned char *data = ft_buffer(REACTOR_DEPTH * REACTOR_BYTES);
    CHECK_EQ(ovsshm_store_file.group_create(ft.store, &group), 0);
    for (unsigned round = 0; round < REACTOR_ROUNDS; round++) {
        uint8_t op = round % 2 ? OVSSHM_OP_READ : OVSSHM_OP_WRITE;
        unsigned char mark = (unsigned char)(reactor->index * REACTOR_ROUNDS + round / 2);
        memset(data, op == OVSSHM_OP_WRITE ? mark : 0, REACTOR_DEPTH * REACTOR_BYTES);
        for (unsigned i = 0; i < REACTOR_DEPTH; i++) {
            uint64_t block = (uint64_t)i * REACTORS + reactor->index;
            uint8_t flags = op == OVSSHM_OP_WRITE && i == 3 ? OVSSHM_SQE_FUA : 0;
            ft_io(&ios[i], reactor->volume, op, flags, block * REACTOR_BYTES,
                  data + i * REACTOR_BYTES, REACTOR_BYTES);
            if (i == 7 && op == OVSSHM_OP_WRITE) {
                ft_io(&ios[i], reactor->volume, OVSSHM_OP_FLUSH, 0, 0, NULL, 0);
            }
            requests[i] = &ios[i].request;
        }
        ovsshm_store_file.submit(ft.store, group, requests, REACTOR_DEPTH);
        reactor_wait(group, ios);
        for (unsigned i = 0; i < REACTOR_DEPTH && op == OVSSHM_OP_READ; i++) {
            CHECK_EQ(data[i * REACTOR_BYTES + 99], i == 7 ? 0 : mark);
        }
    }
    ovsshm_store_file.group_destroy(group);
    free(ios);
    free(data);
    return NULL;
}

static void
test_several_reactors_share_a_volume(void)
{
    struct reactor reactors[REACTORS];
    pthread_t threads[REACTORS];
    struct ovsshm_store_volume *volume =
        ft_create_open("v", REACTORS * REACTOR_DEPTH * REACTOR_BYTES);
    for (unsigned i = 0; i < REACTORS; i++) {
        reactors[i] = (struct reactor){volume, i};
        threads[i] = test_thread(reactor_thread, &reactors[i]);
    }
    for (unsigned i = 0; i < REACTORS; i++) {
        test_join(threads[i]);
    }
    ft_close(volume);
}

/* ---- direct writes and the page cache -------------------------------------------------------- */

enum {
    MEET_PAGES = 16,
    MEET_ROUNDS = 40,
    MEET_DEPTH = 16
};

/*
 * Of each page one thread has the first half and the other the second.  Whatever they do there at
 * the same time, from memory of any alignment, must neither disturb the other half nor a flush.
 */
static void *
meet_thread(void *arg)
{
    struct reactor *half = arg;
    struct ovsshm_store_volume *volume = half->volume;
    void *group;
    struct io *ios = calloc(MEET_DEPTH, sizeof(*ios));
    struct ovsshm_request *requests[MEET_DEPTH];
    unsigned char *data = ft_buffer(MEET_DEPTH * 4096);
    uint64_t seed = half->index + 1;
    CHECK_EQ(ovsshm_store_file.group_create(ft.store, &group), 0);
    for (unsigned round = 0; round < MEET_ROUNDS; round++) {
        for (unsigned i = 0; i < MEET_DEPTH; i++) {
            static const uint8_t ops[] = {OVSSHM_OP_WRITE,        OVSSHM_OP_WRITE,
                                          OVSSHM_OP_READ,         OVSSHM_OP_DISCARD,
                                          OVSSHM_OP_WRITE_ZEROES, OVSSHM_OP_FLUSH};
            uint8_t op = ops[test_random(&seed) % 6];
            bool moves = op == OVSSHM_OP_WRITE || op == OVSSHM_OP_READ;
            unsigned char *memory = data + i * 4096 + (test_random(&seed) % 2 ? 8 : 0);
            uint64_t offset = i * 4096 + half->index * 2048;
            memset(memory, (int)half->index + 1, 2048);
            ft_io(&ios[i], volume, op, 0, op == OVSSHM_OP_FLUSH ? 0 : offset, moves ? memory : NULL,
                  op == OVSSHM_OP_FLUSH ? 0 : 2048);
            requests[i] = &ios[i].request;
        }
        ovsshm_store_file.submit(ft.store, group, requests, MEET_DEPTH);
        for (unsigned i = 0; i < MEET_DEPTH; i++) {
            while (!ios[i].completions) {
                ovsshm_store_file.poll(group);
            }
            CHECK(ios[i].result >= 0);
        }
    }
    for (unsigned i = 0; i < MEET_DEPTH; i++) {
        memset(data + i * 4096, (int)half->index + 1, 2048);
        ft_io(&ios[i], volume, OVSSHM_OP_WRITE, 0, i * 4096 + half->index * 2048, data + i * 4096,
              2048);
        requests[i] = &ios[i].request;
    }
    ovsshm_store_file.submit(ft.store, group, requests, MEET_DEPTH);
    ovsshm_store_file.group_destroy(group);
    free(ios);
    free(data);
    return NULL;
}

static void
test_neighbours_in_a_page_do_not_disturb_each_other(void)
{
    struct ovsshm_store_volume *volume = ft_create_open("v", MEET_PAGES * 4096);
    if (volume->block_bytes <= 2048) {
        struct reactor halves[2] = {{volume, 0}, {volume, 1}};
        pthread_t threads[2] = {test_thread(meet_thread, &halves[0]),
                                test_thread(meet_thread, &halves[1])};
        test_join(threads[0]);
        test_join(threads[1]);
        CHECK_EQ(ft_flush(volume), 0);
        unsigned char *data = ft_buffer(MEET_PAGES * 4096);
        CHECK_EQ(ft_read(volume, 0, data, MEET_PAGES * 4096), MEET_PAGES * 4096);
        for (unsigned i = 0; i < MEET_PAGES * 4096; i++) {
            CHECK_EQ(data[i], i / 2048 % 2 + 1);
        }
        free(data);
    }
    ft_close(volume);
}

/* ---- space ----------------------------------------------------------------------------------- */

static uint64_t
allocated(const char *name)
{
    struct ovsshm_volume_info info;
    CHECK_EQ(ovsshm_store_file.volume_stat(ft.store, name, &info), 0);
    return info.allocated_bytes;
}

static void
test_discard_and_zeroes_free_space_or_keep_it(void)
{
    enum {
        SIZE = 4 * MIB
    };
    struct ovsshm_store_volume *volume = ft_create_open("v", SIZE);
    unsigned char *data = ft_buffer(SIZE), *zeroes = ft_buffer(SIZE);
    memset(data, 7, SIZE);
    CHECK_EQ(allocated("v"), 0);
    CHECK_EQ(ft_write(volume, 0, data, SIZE), SIZE);
    CHECK_EQ(ft_flush(volume), 0);
    CHECK(allocated("v") >= SIZE);
    CHECK_EQ(ft_run(volume, OVSSHM_OP_DISCARD, 0, 0, NULL, MIB), 0);
    CHECK(allocated("v") <= SIZE - MIB);
    CHECK_EQ(ft_run(volume, OVSSHM_OP_WRITE_ZEROES, OVSSHM_SQE_MAY_UNMAP, MIB, NULL, MIB), 0);
    CHECK(allocated("v") <= SIZE - 2 * MIB);
    CHECK_EQ(ft_run(volume, OVSSHM_OP_WRITE_ZEROES, OVSSHM_SQE_FUA, 0, NULL, 3 * MIB), 0);
    CHECK(allocated("v") >= SIZE);
    CHECK_EQ(ft_read(volume, 0, data, SIZE), SIZE);
    CHECK(!memcmp(data, zeroes, 3 * MIB));
    CHECK_EQ(data[3 * MIB], 7);
    ft_close(volume);
    free(data);
    free(zeroes);
}

static void
test_a_range_of_1_gib(void)
{
    const uint32_t gib = OVSSHM_RANGE_BYTES_MAX;
    struct ovsshm_store_volume *volume = ft_create_open("v", 3ull * gib);
    unsigned char *data = ft_buffer(4096);
    memset(data, 1, 4096);
    CHECK_EQ(ft_write(volume, gib + 8192, data, 4096), 4096);
    CHECK_EQ(ft_run(volume, OVSSHM_OP_DISCARD, 0, gib, NULL, gib), 0);
    CHECK_EQ(ft_read(volume, gib + 8192, data, 4096), 4096);
    CHECK_EQ(data[0], 0);
    CHECK_EQ(ft_run(volume, OVSSHM_OP_WRITE_ZEROES, OVSSHM_SQE_MAY_UNMAP, gib, NULL, gib), 0);
    CHECK_EQ(ft_run(volume, OVSSHM_OP_BLOCK_STATUS, 0, gib, NULL, gib), 1);
    ft_close(volume);
    free(data);
}

static int32_t
status(struct ovsshm_store_volume *volume, struct io *io, uint64_t offset, uint32_t length,
       uint32_t room)
{
    struct io *one = ft_io(io, volume, OVSSHM_OP_BLOCK_STATUS, 0, offset, NULL, length);
    io->request.extents_max = room;
    ft_submit(&one, 1);
    ft_wait(io);
    return io->result;
}

static void
test_block_status_tells_data_from_holes(void)
{
    struct io io;
    struct ovsshm_store_volume *volume = ft_create_open("v", 8 * MIB);
    unsigned char *data = ft_buffer(MIB);
    memset(data, 1, MIB);
    CHECK_EQ(status(volume, &io, 0, 8 * MIB, 64), 1);
    CHECK_EQ(io.extents[0].flags, OVSSHM_EXTENT_HOLE | OVSSHM_EXTENT_ZERO);
    CHECK_EQ(io.extents[0].length_bytes, 8 * MIB);
    CHECK_EQ(ft_write(volume, MIB, data, MIB), MIB);
    CHECK_EQ(ft_write(volume, 4 * MIB, data, MIB), MIB);
    CHECK_EQ(status(volume, &io, 0, 8 * MIB, 64), 5);
    static const uint64_t lengths[] = {MIB, MIB, 2 * MIB, MIB, 3 * MIB};
    for (unsigned i = 0; i < 5; i++) {
        CHECK_EQ(io.extents[i].length_bytes, lengths[i]);
        CHECK_EQ(io.extents[i].flags, i % 2 ? 0 : OVSSHM_EXTENT_HOLE | OVSSHM_EXTENT_ZERO);
    }
    CHECK_EQ(status(volume, &io, 0, 8 * MIB, 2), 2);          /* no room for the rest */
    CHECK_EQ(status(volume, &io, MIB + 65536, 65536, 64), 1); /* inside of data */
    CHECK_EQ(io.extents[0].flags, 0);
    CHECK_EQ(io.extents[0].length_bytes, 65536);
    CHECK_EQ(status(volume, &io, 2 * MIB - 65536, 131072, 64), 2); /* cut at both ends */
    CHECK_EQ(io.extents[1].length_bytes, 65536);
    ft_close(volume);
    free(data);
}

/* ---- flush ----------------------------------------------------------------------------------- */

static unsigned
syncs_of(struct ovsshm_store_volume *volume, int32_t expected)
{
    unsigned before = fault.syncs;
    CHECK_EQ(ft_flush(volume), expected);
    return fault.syncs - before;
}

static void
test_flush_syncs_when_something_changed(void)
{
    ft_new_pool();
    ft_start("engine=threads");
    struct ovsshm_store_volume *volume = ft_create_open("v", MIB);
    unsigned char *data = ft_buffer(4096);
    CHECK_EQ(syncs_of(volume, 0), 1); /* a crash may have come before: once for sure */
    CHECK_EQ(syncs_of(volume, 0), 0);
    CHECK_EQ(ft_read(volume, 0, data, 4096), 4096);
    CHECK_EQ(syncs_of(volume, 0), 0);
    CHECK_EQ(ft_write(volume, 0, data, 4096), 4096);
    CHECK_EQ(syncs_of(volume, 0), 1);
    CHECK_EQ(ft_run(volume, OVSSHM_OP_DISCARD, 0, 0, NULL, 4096), 0);
    CHECK_EQ(syncs_of(volume, 0), 1);
    CHECK_EQ(ft_run(volume, OVSSHM_OP_WRITE_ZEROES, 0, 0, NULL, 4096), 0);
    CHECK_EQ(syncs_of(volume, 0), 1);
    CHECK_EQ(syncs_of(volume, 0), 0);
    ft_close(volume);
    ft_stop();
    free(data);
}

/* A write that completes while a flush is under way is not covered by it. */
static void
test_flush_covers_only_earlier_writes(void)
{
    ft_new_pool();
    ft_start("engine=threads");
    struct ovsshm_store_volume *volume = ft_create_open("v", MIB);
    unsigned char *data = ft_buffer(4096);
    struct io flush, *one = ft_io(&flush, volume, OVSSHM_OP_FLUSH, 0, 0, NULL, 0);
    ft_submit(&one, 1);
    CHECK_EQ(ft_write(volume, 0, data, 4096), 4096);
    ft_wait(&flush);
    CHECK_EQ(flush.result, 0);
    CHECK_EQ(syncs_of(volume, 0), 1);
    ft_close(volume);
    ft_stop();
    free(data);
}

static void
test_a_failed_flush_fails_until_reopened(void)
{
    ft_new_pool();
    ft_start("engine=threads");
    struct ovsshm_store_volume *volume = ft_create_open("v", MIB);
    unsigned char *data = ft_buffer(4096);
    CHECK_EQ(ft_write(volume, 0, data, 4096), 4096);
    fault.sync_error = EIO;
    CHECK_EQ(ft_flush(volume), -EIO);
    CHECK_EQ(ft.log_count, 1);
    CHECK_TEXT(ft.log, "\"v\"");
    CHECK_EQ(ft_flush(volume), -EIO);
    CHECK_EQ(ft_run(volume, OVSSHM_OP_WRITE, OVSSHM_SQE_FUA, 0, data, 4096), -EIO);
    CHECK_EQ(ft.log_count, 1);
    CHECK_EQ(ft_read(volume, 0, data, 4096), 4096);
    ft_close(volume);
    volume = ft_open("v");
    CHECK_EQ(ft_flush(volume), 0);
    ft_close(volume);
    ft_stop();
    free(data);
}

/* ---- the kernel's moods ---------------------------------------------------------------------- */

static void
test_short_and_interrupted_writes_go_on(void)
{
    unsigned char *data = ft_buffer(64 * KIB), *back = ft_buffer(64 * KIB);
    struct ovsshm_store_volume *volume = ft_create_open("v", MIB);
    for (unsigned i = 0; i < 64 * KIB; i++) {
        data[i] = (unsigned char)(i / 7);
    }
    struct io io, *one = ft_io(&io, volume, OVSSHM_OP_WRITE, 0, 0, data, 64 * KIB);
    io.iov[0].iov_len = 10000; /* the short one ends in the middle of an iovec */
    io.iov[1] = (struct iovec){data + 10000, 64 * KIB - 10000};
    io.request.iov_count = 2;
    fault.short_write = volume->block_bytes == 1 ? 5001 : 4096;
    fault.interrupts = 2;
    ft_submit(&one, 1);
    ft_wait(&io);
    CHECK_EQ(io.result, 64 * KIB);
    CHECK_EQ(ft_read(volume, 0, back, 64 * KIB), 64 * KIB);
    CHECK(!memcmp(data, back, 64 * KIB));
    ovsshm_store_relaxed(&fault.short_write, 0);
    ovsshm_store_relaxed(&fault.interrupts, 0);
    ft_close(volume);
    free(data);
    free(back);
}

/* The neighbours whose merged call fell short are done one by one. */
static void
test_a_short_merged_write_loses_nothing(void)
{
    unsigned char *data = ft_buffer(64 * KIB), *back = ft_buffer(64 * KIB);
    struct ovsshm_store_volume *volume = ft_create_open("v", MIB);
    struct io ios[16], *list[16];
    for (unsigned i = 0; i < 16; i++) {
        memset(data + i * 4096, (int)i + 1, 4096);
        list[i] = ft_io(&ios[i], volume, OVSSHM_OP_WRITE, 0, i * 4096, data + i * 4096, 4096);
    }
    fault.short_write = 2048;
    ft_submit(list, 16);
    for (unsigned i = 0; i < 16; i++) {
        ft_wait(&ios[i]);
        CHECK_EQ(ios[i].result, 4096);
    }
    ovsshm_store_relaxed(&fault.short_write, 0);
    CHECK_EQ(ft_read(volume, 0, back, 64 * KIB), 64 * KIB);
    CHECK(!memcmp(data, back, 64 * KIB));
    ft_close(volume);
    free(data);
    free(back);
}

/* Written inside of submit?  Through the engine it completes only when polled for. */
static bool
writes_inline(struct ovsshm_store_volume *volume, void *data)
{
    struct io io, *one = ft_io(&io, volume, OVSSHM_OP_WRITE, 0, 0, data, 4096);
    ft_submit(&one, 1);
    bool inside = io.completions == 1;
    ft_wait(&io);
    CHECK_EQ(io.result, 4096);
    return inside;
}

static void
test_writes_that_block_spare_the_reactor(void)
{
    ft_new_pool();
    ft_start("engine=threads");
    struct ovsshm_store_volume *slow = ft_create_open("slow", MIB);
    struct ovsshm_store_volume *other = ft_create_open("other", MIB);
    unsigned char *data = ft_buffer(4096);
    fault.slow_writes = PREEMPTED;
    for (unsigned i = 0; i < 5; i++) {
        CHECK(writes_inline(slow, data)); /* the engine would not be faster */
    }
    fault.slow_writes = ASLEEP;
    CHECK(writes_inline(slow, data));
    fault.slow_writes = FAST;
    CHECK(!writes_inline(slow, data));
    CHECK(writes_inline(other, data));
    ft_close(slow);
    ft_close(other);
    ft_stop();
    free(data);
}

static void
test_a_file_cut_short_behind_our_back_is_an_error(void)
{
    struct ovsshm_store_volume *volume = ft_create_open("v", MIB);
    unsigned char *data = ft_buffer(8192);
    CHECK_EQ(truncate(ft_path("v"), 4096), 0);
    CHECK_EQ(ft_read(volume, 0, data, 4096), 4096);
    CHECK_EQ(ft_read(volume, 8192, data, 4096), -EIO);
    CHECK_EQ(ft_read(volume, 0, data, 8192), -EIO);
    ft_close(volume);
    free(data);
}

int
main(void)
{
    test_begin(270);
    EACH_WAY(test_data_of_any_alignment_comes_back);
    EACH_WAY(test_random_operations_match_a_model);
    EACH_WAY(test_batches_of_neighbours);
    EACH_WAY(test_cold_reads_come_from_the_disk);
    EACH_WAY(test_destroying_a_group_completes_what_is_in_flight);
    EACH_WAY(test_several_reactors_share_a_volume);
    EACH_WAY(test_neighbours_in_a_page_do_not_disturb_each_other);
    EACH_WAY(test_discard_and_zeroes_free_space_or_keep_it);
    EACH_WAY(test_a_range_of_1_gib);
    EACH_WAY(test_block_status_tells_data_from_holes);
    EACH_WAY(test_short_and_interrupted_writes_go_on);
    EACH_WAY(test_a_short_merged_write_loses_nothing);
    EACH_WAY(test_a_file_cut_short_behind_our_back_is_an_error);
    RUN(test_flush_syncs_when_something_changed);
    RUN(test_flush_covers_only_earlier_writes);
    RUN(test_a_failed_flush_fails_until_reopened);
    RUN(test_writes_that_block_spare_the_reactor);
    return 0;
}
