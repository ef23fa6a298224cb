/* SPDX-License-Identifier: MIT */
/*
 * What every store promises, tested through a server and the native library: one body, into which a
 * program of a few lines plugs a store.  Capabilities decide what is expected.
 *
 * A store that keeps nothing ("null") sets .forgets: its data reads as zeroes.
 */
#ifndef OVSSHM_STORE_TEST_H
#define OVSSHM_STORE_TEST_H

#include <sys/stat.h>

#include "server/local.h"
#include "server_test.h"

struct store_case {
    const struct ovsshm_store_type *type;
    const char *options; /* "key=value key=value" */
    bool pool;           /* needs a directory */
    bool forgets;
    uint32_t reactors;
};

static const struct store_case *store_case;
static struct ovsshm_conn *conn;
static uint64_t capabilities;

#define BYTES (4u * MIB)

static bool
can(uint64_t capability)
{
    return capabilities & capability;
}

static void
store_begin(void)
{
    char *pool = test_path("pool");
    CHECK(!store_case->pool || mkdir(pool, 0700) == 0 || errno == EEXIST);
    st_start(st_store(store_case->type, store_case->options, store_case->pool ? pool : NULL),
             (struct ovsshm_server_params){.reactors = store_case->reactors});
    free(pool);
    conn = connect_ok();
    capabilities = ovsshm_conn_hello(conn)->capabilities;
}

static void
store_end(void)
{
    ovsshm_disconnect(conn);
    CHECK_EQ(st_end(10ull * SECOND), 0);
}

static struct ovsshm_volume *
make(const char *name, uint64_t bytes)
{
    CHECK_EQ(ovsshm_create(conn, name, bytes), 0);
    return open_ok(conn, name, OVSSHM_MODE_WRITE, 2);
}

static void
discard(struct ovsshm_volume *volume, const char *name)
{
    ovsshm_close(volume);
    CHECK_EQ(ovsshm_remove(conn, name), 0);
}

/* ---- volumes
 * ------------------------------------------------------------------------------------- */

static void
test_volumes_are_made_found_and_removed(void)
{
    static const char *const names[] = {"a", "a.b", "b/c", "b/d/e", "z"};
    struct ovsshm_volume_info info;
    const unsigned count = sizeof(names) / sizeof(names[0]);
    CHECK_EQ(ovsshm_list(conn, NULL, &info, 1), 0);
    for (unsigned i = count; i-- > 0;) {
        CHECK_EQ(ovsshm_create(conn, names[i], i * 512), 0);
        CHECK_EQ(ovsshm_create(conn, names[i], 512), -EEXIST);
    }
    for (unsigned i = 0; i < count; i++) {
        CHECK_EQ(ovsshm_list(conn, i ? names[i - 1] : NULL, &info, 1), 1);
        CHECK(!strcmp(info.name, names[i]));
        CHECK_EQ(info.size_bytes, i * 512);
        CHECK_EQ(ovsshm_stat(conn, names[i], &info), 0);
        CHECK(!strcmp(info.name, names[i]));
        CHECK_EQ(info.size_bytes, i * 512);
        CHECK(info.block_bytes >= 1 && (info.block_bytes & (info.block_bytes - 1)) == 0);
        CHECK_EQ(info.snapshots, 0);
    }
    for (unsigned i = 0; i < count; i++) {
        CHECK_EQ(ovsshm_remove(conn, names[i]), 0);
        CHECK_EQ(ovsshm_remove(conn, names[i]), -ENOENT);
        CHECK_EQ(ovsshm_stat(conn, names[i], &info), -ENOENT);
    }
    CHECK_EQ(ovsshm_list(conn, NULL, &info, 1), 0);
    struct ovsshm_volume *volume;
    CHECK_EQ(ovsshm_open(conn, "a", NULL, &volume), -ENOENT);
}

static void
test_volume_grows(void)
{
    struct ovsshm_volume_info info;
    unsigned char data[4096];
    if (!can(OVSSHM_CAP_RESIZE)) {
        CHECK_EQ(ovsshm_create(conn, "v", 0), 0);
        CHECK_EQ(ovsshm_resize(conn, "v", MIB), -EOPNOTSUPP);
        CHECK_EQ(ovsshm_remove(conn, "v"), 0);
        return;
    }
    CHECK_EQ(ovsshm_resize(conn, "v", MIB), -ENOENT);
    CHECK_EQ(ovsshm_create(conn, "v", 0), 0);
    CHECK_EQ(ovsshm_resize(conn, "v", MIB), 0); /* closed */
    CHECK_EQ(ovsshm_resize(conn, "v", 4096), -EPERM);
    struct ovsshm_volume *volume = open_ok(conn, "v", OVSSHM_MODE_WRITE, 1);
    memset(data, 'g', sizeof(data));
    CHECK_EQ(run(volume, OVSSHM_OP_WRITE, MIB - 4096, data, 4096), 4096);
    CHECK_EQ(ovsshm_resize(conn, "v", 2 * MIB), 0); /* open */
    CHECK_EQ(ovsshm_resize(conn, "v", MIB), -EPERM);
    CHECK_EQ(ovsshm_volume_bytes(volume), 2 * MIB);
    CHECK_EQ(run(volume, OVSSHM_OP_READ, MIB, data, 4096), 4096);
    CHECK_EQ(data[0] | data[4095], 0);
    CHECK_EQ(run(volume, OVSSHM_OP_WRITE, 2 * MIB - 4096, data, 4096), 4096);
    CHECK_EQ(run(volume, OVSSHM_OP_READ, MIB - 4096, data, 4096), 4096);
    CHECK_EQ(data[0], store_case->forgets ? 0 : 'g');
    CHECK_EQ(ovsshm_stat(conn, "v", &info), 0);
    CHECK_EQ(info.size_bytes, 2 * MIB);
    discard(volume, "v");
}

/* Of users inside of the server, such as a mount. */
static void
test_volume_gets_another_name(void)
{
    struct ovsshm_volume_info info;
    struct ovsshm_error error;
    CHECK_EQ(srv_local_create(st.server, "b", MIB, &error), 0);
    if (!store_case->type->volume_rename) {
        CHECK_EQ(srv_local_rename(st.server, "b", "c", true, &error), -EOPNOTSUPP);
        CHECK_EQ(srv_local_remove(st.server, "b", &error), 0);
        return;
    }
    CHECK_EQ(srv_local_create(st.server, "c", 0, &error), 0);
    CHECK_EQ(srv_local_rename(st.server, "b", "c", false, &error), -EEXIST);
    CHECK_EQ(srv_local_rename(st.server, "d", "c", true, &error), -ENOENT);
    CHECK_EQ(srv_local_rename(st.server, "b", "c", true, &error), 0);
    CHECK_EQ(ovsshm_list(conn, NULL, &info, 1), 1);
    CHECK(!strcmp(info.name, "c"));
    CHECK_EQ(info.size_bytes, MIB);
    CHECK_EQ(srv_local_rename(st.server, "c", "a", false, &error), 0);
    CHECK_EQ(ovsshm_stat(conn, "c", &info), -ENOENT);
    CHECK_EQ(ovsshm_remove(conn, "a"), 0);
}

static void
expect_size(uint64_t size_bytes)
{
    struct ovsshm_volume_info info;
    CHECK_EQ(srv_local_stat(st.server, "v", &info), 0);
    CHECK_EQ(info.size_bytes, size_bytes);
    CHECK_EQ(ovsshm_stat(conn, "v", &info), 0);
    CHECK_EQ(info.size_bytes, size_bytes / 512 * 512);
}

static void
test_volume_of_any_size(void)
{
    struct ovsshm_error error;
    unsigned char data[4096];
    bool exact = store_case->type->volume_truncate && can(OVSSHM_CAP_RESIZE);
    struct ovsshm_volume *volume = make("v", 4096);
    memset(data, 't', sizeof(data));
    CHECK_EQ(run(volume, OVSSHM_OP_WRITE, 0, data, 4096), 4096);
    if (!exact) {
        CHECK(srv_local_truncate(st.server, "v", 1000, &error) < 0);
        discard(volume, "v");
        return;
    }
    CHECK_EQ(srv_local_truncate(st.server, "v", 1000, &error), -EBUSY);
    ovsshm_close(volume);
    CHECK_EQ(srv_local_truncate(st.server, "v", 1000, &error), 0);
    expect_size(1000);
    volume = open_ok(conn, "v", OVSSHM_MODE_WRITE, 1);
    CHECK_EQ(ovsshm_volume_bytes(volume), 512);
    CHECK_EQ(srv_local_truncate(st.server, "v", 5000, &error), 0);
    expect_size(5000);
    CHECK_EQ(run(volume, OVSSHM_OP_READ, 0, data, 4096), 4096);
    CHECK_EQ(data[999], store_case->forgets ? 0 : 't');
    CHECK_EQ(data[1000] | data[1535] | data[4095], 0);
    discard(volume, "v");
}

/* ---- data
 * ---------------------------------------------------------------------------------------- */

/* Requests of all lengths and offsets that the volume allows, in and out of the arena, with a
 * model. */
static void
test_data_reads_as_written(void)
{
    struct ovsshm_volume *volume = make("v", BYTES);
    const struct ovsshm_limits *limits = ovsshm_volume_limits(volume);
    uint64_t seed = 7;
    unsigned char *model = calloc(1, BYTES);
    unsigned char *plain = malloc(MIB);
    unsigned char *shared = ovsshm_buffer_alloc(volume, MIB);
    for (int i = 0; i < 400; i++) {
        uint64_t block = limits->block_bytes;
        uint64_t offset = test_random(&seed) % BYTES / block * block;
        uint64_t most = BYTES - offset < MIB ? BYTES - offset : MIB;
        uint64_t bytes = i % 4 ? test_random(&seed) % 20000 : test_random(&seed) % MIB;
        bytes = (bytes < most ? bytes : most) / block * block;
        bytes = bytes ? bytes : block;
        unsigned char *buffer = i % 3 ? shared : plain;
        if (i % 2) {
            memset(buffer, i, bytes);
            if (!store_case->forgets) {
                memset(model + offset, i, bytes);
            }
            CHECK_EQ(run(volume, OVSSHM_OP_WRITE, offset, buffer, bytes), bytes);
        } else {
            memset(buffer, 0xcc, bytes);
            CHECK_EQ(run(volume, OVSSHM_OP_READ, offset, buffer, bytes), bytes);
            CHECK(!memcmp(buffer, model + offset, bytes));
        }
    }
    for (uint64_t offset = 0; offset < BYTES; offset += MIB) {
        CHECK_EQ(run(volume, OVSSHM_OP_READ, offset, shared, MIB), MIB);
        CHECK(!memcmp(shared, model + offset, MIB));
    }
    CHECK_EQ(run(volume, OVSSHM_OP_FLUSH, 0, NULL, 0), 0);
    free(plain);
    free(model);
    discard(volume, "v");
}

static void
test_end_of_the_volume(void)
{
    struct ovsshm_volume *volume = make("v", BYTES);
    unsigned char *data = ovsshm_buffer_alloc(volume, 65536);
    CHECK_EQ(run(volume, OVSSHM_OP_READ, BYTES - 4096, data, 65536), 4096);
    CHECK_EQ(run(volume, OVSSHM_OP_READ, BYTES, data, 4096), 0);
    CHECK_EQ(run(volume, OVSSHM_OP_WRITE, BYTES - 4096, data, 8192), -EFBIG);
    CHECK_EQ(run(volume, OVSSHM_OP_WRITE, BYTES, data, 4096), -EFBIG);
    CHECK_EQ(run(volume, OVSSHM_OP_WRITE, BYTES - 4096, data, 4096), 4096);
    uint32_t block = ovsshm_volume_limits(volume)->block_bytes;
    if (block > 1) {
        CHECK_EQ(run(volume, OVSSHM_OP_READ, block / 2, data, block), -EINVAL);
        CHECK_EQ(run(volume, OVSSHM_OP_WRITE, 0, data, block / 2), -EINVAL);
    }
    discard(volume, "v");
}

/* Many requests at once, on several queues, each of its own place. */
static void
test_many_requests_in_flight(void)
{
    struct ovsshm_volume *volume = make("v", BYTES);
    struct ovsshm_completion done[64];
    unsigned char *data = ovsshm_buffer_alloc(volume, 128 * 4096);
    for (unsigned round = 0; round < 2 * 20; round++) {
        uint8_t op = round % 2 ? OVSSHM_OP_READ : OVSSHM_OP_WRITE;
        for (unsigned i = 0; i < 128; i++) {
            memset(data + i * 4096, op == OVSSHM_OP_WRITE ? (int)(i + round) : 0, 4096);
            struct ovsshm_io io = {.op = op,
                                   .flags =
                                       i % 16 == 0 && op == OVSSHM_OP_WRITE ? OVSSHM_SQE_FUA : 0,
                                   .offset_bytes = i * 8192,
                                   .length_bytes = 4096,
                                   .buffer = data + i * 4096,
                                   .user_data = i};
            CHECK_EQ(ovsshm_queue_prep(ovsshm_volume_queue(volume, i % 2), &io), 0);
        }
        for (unsigned k = 0; k < 2; k++) {
            struct ovsshm_queue *queue = ovsshm_volume_queue(volume, k);
            CHECK_EQ(ovsshm_queue_submit(queue), 64);
            for (unsigned n = 0; n < 64;) {
                int rc = ovsshm_queue_wait(queue, done, 64, -1);
                CHECK(rc > 0);
                for (int i = 0; i < rc; i++) {
                    CHECK_EQ(done[i].result, 4096);
                    CHECK_EQ(done[i].user_data % 2, k);
                }
                n += (unsigned)rc;
            }
        }
        for (unsigned i = 0; i < 128 && op == OVSSHM_OP_READ && !store_case->forgets; i++) {
            CHECK_EQ(data[i * 4096], (unsigned char)(i + round - 1));
            CHECK_EQ(data[i * 4096 + 4095], (unsigned char)(i + round - 1));
        }
    }
    discard(volume, "v");
}

static void
test_data_survives_closing(void)
{
    unsigned char data[4096];
    struct ovsshm_volume *volume = make("v", BYTES);
    memset(data, 's', sizeof(data));
    CHECK_EQ(run(volume, OVSSHM_OP_WRITE, 8192, data, sizeof(data)), sizeof(data));
    ovsshm_close(volume);
    volume = open_ok(conn, "v", OVSSHM_MODE_READ, 1);
    CHECK_EQ(run(volume, OVSSHM_OP_READ, 8192, data, sizeof(data)), sizeof(data));
    CHECK_EQ(data[100], store_case->forgets ? 0 : 's');
    discard(volume, "v");
}

/* ---- discard, write-zeroes, block-status
 * ---------------------------------------------------------- */

static int64_t
zeroes(struct ovsshm_volume *volume, uint8_t flags, uint64_t offset, uint64_t bytes)
{
    struct ovsshm_io io = {.op = OVSSHM_OP_WRITE_ZEROES,
                           .flags = flags,
                           .offset_bytes = offset,
                           .length_bytes = bytes};
    return ovsshm_queue_run(ovsshm_volume_queue(volume, 0), &io);
}

static void
expect_fill(struct ovsshm_volume *volume, uint64_t offset, uint64_t bytes, unsigned char value)
{
    unsigned char *data = ovsshm_buffer_alloc(volume, bytes);
    CHECK_EQ(run(volume, OVSSHM_OP_READ, offset, data, bytes), bytes);
    for (uint64_t i = 0; i < bytes; i++) {
        CHECK_EQ(data[i], store_case->forgets ? 0 : value);
    }
    ovsshm_buffer_free(volume, data);
}

static void
test_zeroes_and_discard(void)
{
    struct ovsshm_volume *volume = make("v", BYTES);
    unsigned char *data = ovsshm_buffer_alloc(volume, MIB);
    const uint8_t flags[] = {0, OVSSHM_SQE_MAY_UNMAP, OVSSHM_SQE_FUA,
                             OVSSHM_SQE_FUA | OVSSHM_SQE_MAY_UNMAP};
    memset(data, 'd', MIB);
    for (unsigned i = 0; i < sizeof(flags); i++) {
        CHECK_EQ(run(volume, OVSSHM_OP_WRITE, 0, data, MIB), MIB);
        if (!can(OVSSHM_CAP_WRITE_ZEROES)) {
            CHECK_EQ(zeroes(volume, flags[i], 0, 4096), -EOPNOTSUPP);
            continue;
        }
        CHECK_EQ(zeroes(volume, flags[i], 8192, 65536), 0);
        expect_fill(volume, 0, 8192, 'd');
        expect_fill(volume, 8192, 65536, 0);
        expect_fill(volume, 8192 + 65536, 8192, 'd');
        CHECK_EQ(zeroes(volume, flags[i], BYTES - 4096, 8192), -EFBIG);
    }
    CHECK_EQ(run(volume, OVSSHM_OP_WRITE, 0, data, MIB), MIB);
    if (can(OVSSHM_CAP_DISCARD)) {
        CHECK_EQ(run(volume, OVSSHM_OP_DISCARD, 65536, NULL, MIB - 65536), 0);
        CHECK_EQ(run(volume, OVSSHM_OP_DISCARD, BYTES - 4096, NULL, 8192), -EFBIG);
        expect_fill(volume, 0, 65536, 'd'); /* around a discard nothing changes */
    } else {
        CHECK_EQ(run(volume, OVSSHM_OP_DISCARD, 0, NULL, 4096), -EOPNOTSUPP);
    }
    discard(volume, "v");
}

static void
test_block_status_covers_the_range(void)
{
    struct ovsshm_extent extents[32];
    struct ovsshm_volume *volume = make("v", BYTES);
    unsigned char *data = ovsshm_buffer_alloc(volume, 65536);
    struct ovsshm_io io = {
        .op = OVSSHM_OP_BLOCK_STATUS, .length_bytes = BYTES, .buffer = extents, .extents_max = 32};
    memset(data, 'b', 65536);
    CHECK_EQ(run(volume, OVSSHM_OP_WRITE, MIB, data, 65536), 65536);
    int64_t n = ovsshm_queue_run(ovsshm_volume_queue(volume, 0), &io);
    if (!can(OVSSHM_CAP_BLOCK_STATUS)) {
        CHECK_EQ(n, -EOPNOTSUPP);
        discard(volume, "v");
        return;
    }
    uint64_t at = 0;
    CHECK(n > 0 && n <= 32);
    for (int64_t i = 0; i < n; i++) { /* what reads as data must not be called zero */
        CHECK(extents[i].length_bytes > 0);
        CHECK_EQ(extents[i].flags & ~(uint32_t)(OVSSHM_EXTENT_HOLE | OVSSHM_EXTENT_ZERO), 0);
        if (at < MIB + 65536 && at + extents[i].length_bytes > MIB && !store_case->forgets) {
            CHECK_EQ(extents[i].flags & OVSSHM_EXTENT_ZERO, 0);
        }
        at += extents[i].length_bytes;
    }
    CHECK_EQ(at, BYTES);
    discard(volume, "v");
}

static void
test_discarded_space_is_given_back(void)
{
    struct ovsshm_volume_info full;
    struct ovsshm_volume_info empty;
    struct ovsshm_volume *volume = make("v", BYTES);
    unsigned char *data = ovsshm_buffer_alloc(volume, MIB);
    memset(data, 'f', MIB);
    CHECK_EQ(run(volume, OVSSHM_OP_WRITE, 0, data, MIB), MIB);
    CHECK_EQ(run(volume, OVSSHM_OP_FLUSH, 0, NULL, 0), 0);
    CHECK_EQ(ovsshm_stat(conn, "v", &full), 0);
    if (can(OVSSHM_CAP_DISCARD) && !store_case->forgets) {
        CHECK(full.allocated_bytes >= MIB);
        CHECK_EQ(run(volume, OVSSHM_OP_DISCARD, 0, NULL, MIB), 0);
        CHECK_EQ(ovsshm_stat(conn, "v", &empty), 0);
        CHECK(empty.allocated_bytes + MIB / 2 < full.allocated_bytes);
    }
    discard(volume, "v");
}

/* ---- snapshots
 * ------------------------------------------------------------------------------------ */

static void
fill(struct ovsshm_volume *volume, unsigned char value)
{
    unsigned char *data = ovsshm_buffer_alloc(volume, 65536);
    memset(data, value, 65536);
    CHECK_EQ(run(volume, OVSSHM_OP_WRITE, MIB, data, 65536), 65536);
    ovsshm_buffer_free(volume, data);
}

static void
test_snapshots_keep_their_moment(void)
{
    struct ovsshm_snapshot_info infos[4];
    struct ovsshm_volume_info info;
    struct ovsshm_volume *volume = make("v", BYTES);
    if (!can(OVSSHM_CAP_SNAPSHOT)) {
        CHECK_EQ(ovsshm_snapshot_create(conn, "v", "s", 0), -EOPNOTSUPP);
        CHECK_EQ(ovsshm_snapshot_list(conn, "v", NULL, infos, 4), -EOPNOTSUPP);
        CHECK_EQ(ovsshm_snapshot_rollback(conn, "v", "s"), -EOPNOTSUPP);
        CHECK_EQ(ovsshm_snapshot_remove(conn, "v", "s"), -EOPNOTSUPP);
        CHECK_EQ(ovsshm_snapshot_is_synced(conn, "v", "s"), -EOPNOTSUPP);
        discard(volume, "v");
        return;
    }
    static const char *const names[] = {"zeta", "alpha", "mid"}; /* oldest first, not by name */
    for (int i = 0; i < 3; i++) {
        fill(volume, (unsigned char)('1' + i));
        CHECK_EQ(ovsshm_snapshot_create(conn, "v", names[i], 0), 0);
        CHECK_EQ(ovsshm_snapshot_create(conn, "v", names[i], 0), -EEXIST);
        CHECK_EQ(ovsshm_snapshot_is_synced(conn, "v", names[i]), 1);
    }
    CHECK_EQ(ovsshm_snapshot_list(conn, "v", NULL, infos, 4), 3);
    for (int i = 0; i < 3; i++) {
        CHECK(!strcmp(infos[i].name, names[i]));
        CHECK_EQ(infos[i].size_bytes, BYTES);
        CHECK(i == 0 || infos[i].created_ns >= infos[i - 1].created_ns);
    }
    CHECK_EQ(ovsshm_snapshot_list(conn, "v", "zeta", infos, 1), 1);
    CHECK(!strcmp(infos[0].name, "alpha"));
    CHECK_EQ(ovsshm_snapshot_list(conn, "v", "mid", infos, 1), 0);
    CHECK_EQ(ovsshm_stat(conn, "v", &info), 0);
    CHECK_EQ(info.snapshots, 3);
    fill(volume, 'x');
    CHECK_EQ(ovsshm_snapshot_rollback(conn, "v", "nope"), -ENOENT);
    CHECK_EQ(ovsshm_snapshot_rollback(conn, "v", "mid"), 0);
    expect_fill(volume, MIB, 65536, '3');
    fill(volume, 'y');
    CHECK_EQ(ovsshm_snapshot_rollback(conn, "v", "alpha"), 0);
    expect_fill(volume, MIB, 65536, '2');
    CHECK_EQ(ovsshm_snapshot_list(conn, "v", NULL, infos, 4), 2); /* newer ones are gone */
    CHECK_EQ(ovsshm_snapshot_rollback(conn, "v", "mid"), -ENOENT);
    CHECK_EQ(ovsshm_snapshot_is_synced(conn, "v", "mid"), -ENOENT);
    CHECK_EQ(ovsshm_snapshot_remove(conn, "v", "alpha"), 0);
    CHECK_EQ(ovsshm_snapshot_remove(conn, "v", "alpha"), -ENOENT);
    expect_fill(volume, MIB, 65536, '2'); /* removing one changes nothing */
    ovsshm_close(volume);
    CHECK_EQ(ovsshm_snapshot_rollback(conn, "v", "zeta"), 0); /* closed */
    volume = open_ok(conn, "v", OVSSHM_MODE_WRITE, 1);
    expect_fill(volume, MIB, 65536, '1');
    discard(volume, "v");
    CHECK_EQ(ovsshm_snapshot_list(conn, "v", NULL, infos, 4), -ENOENT); /* gone with the volume */
    volume = make("v", BYTES);
    CHECK_EQ(ovsshm_snapshot_list(conn, "v", NULL, infos, 4), 0);
    discard(volume, "v");
}

static void
run_store_tests(const struct store_case *plugged)
{
    store_case = plugged;
    printf("store %s %s\n", plugged->type->name, plugged->options);
    store_begin();
    RUN(test_volumes_are_made_found_and_removed);
    RUN(test_volume_grows);
    RUN(test_volume_gets_another_name);
    RUN(test_volume_of_any_size);
    RUN(test_data_reads_as_written);
    RUN(test_end_of_the_volume);
    RUN(test_many_requests_in_flight);
    RUN(test_data_survives_closing);
    RUN(test_zeroes_and_discard);
    RUN(test_block_status_covers_the_range);
    RUN(test_discarded_space_is_given_back);
    RUN(test_snapshots_keep_their_moment);
    store_end();
}

#endif
