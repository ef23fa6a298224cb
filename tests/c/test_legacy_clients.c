/* SPDX-License-Identifier: MIT */
/*
 * Programs that were written for the old library, in miniature: each uses the API in the manner of
 * one of them, on the store that its name is followed by.
 */
#define _GNU_SOURCE
#include "legacy_test.h"

#include <poll.h>
#include <sys/stat.h>

#define VOLUME_BYTES (8u << 20)
#define PIECE_BYTES 32768

static struct test_server server;

/* ---- an iSCSI target: a pool of threads, one buffer per command, I/O in pieces of it ------------
 */

enum {
    TARGET_THREADS = 4,
    TARGET_COMMANDS = 12,
    COMMAND_BYTES = 200000
};

static ovs_ctx_t *target;

static void
command_write(unsigned char *data, size_t length, off_t offset)
{
    for (size_t done = 0; done < length;) {
        size_t piece = length - done < PIECE_BYTES ? length - done : PIECE_BYTES;
        ssize_t rc = ovs_write(target, data + done, piece, offset + (off_t)done);
        CHECK(rc > 0);
        done += (size_t)rc;
    }
}

/* A read that returns 0 ends the command; the rest is zeroes. */
static void
command_read(unsigned char *data, size_t length, off_t offset)
{
    size_t done = 0;
    while (done < length) {
        size_t piece = length - done < PIECE_BYTES ? length - done : PIECE_BYTES;
        ssize_t rc = ovs_read(target, data + done, piece, offset + (off_t)done);
        CHECK(rc >= 0);
        if (rc == 0) {
            break;
        }
        done += (size_t)rc;
    }
    memset(data + done, 0, length - done);
}

static void *
target_thread(void *arg)
{
    size_t index = (size_t)arg;
    for (size_t i = 0; i < TARGET_COMMANDS; i++) {
        off_t offset = (off_t)(index * (VOLUME_BYTES / TARGET_THREADS) + i * 1000);
        ovs_buffer_t *buffer = ovs_allocate(target, COMMAND_BYTES);
        CHECK(buffer && ovs_buffer_size(buffer) >= COMMAND_BYTES);
        unsigned char *data = ovs_buffer_data(buffer);
        pattern_fill(data, COMMAND_BYTES, (uint64_t)offset + i);
        command_write(data, COMMAND_BYTES, offset);
        CHECK(ovs_flush(target) == 0);
        memset(data, 0, COMMAND_BYTES);
        command_read(data, COMMAND_BYTES, offset);
        CHECK(pattern_holds(data, COMMAND_BYTES, (uint64_t)offset + i));
        CHECK(ovs_deallocate(target, buffer) == 0);
    }
    return NULL;
}

static void
iscsi_target(void)
{
    ovs_ctx_attr_t *attr = ovs_ctx_attr_new();
    CHECK(ovs_ctx_attr_set_transport(attr, "shm", NULL, 0) == 0);
    CHECK(ovs_ctx_attr_enable_ha(attr) == 0);
    target = ovs_ctx_new(attr);
    CHECK(ovs_ctx_attr_destroy(attr) == 0);
    CHECK(ovs_ctx_init(target, "lun", O_RDWR) == 0);
    struct stat st;
    CHECK(ovs_stat(target, &st) == 0 && st.st_size == VOLUME_BYTES && st.st_blksize == 512);
    pthread_t threads[TARGET_THREADS];
    for (size_t i = 0; i < TARGET_THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, target_thread, (void *)i) == 0);
    }
    for (size_t i = 0; i < TARGET_THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    ovs_buffer_t *buffer = ovs_allocate(target, COMMAND_BYTES);
    unsigned char *data = ovs_buffer_data(buffer);
    memset(data, 'x', COMMAND_BYTES);
    command_write(data, 50000, VOLUME_BYTES - 50000);
    command_read(data, COMMAND_BYTES, VOLUME_BYTES - 50000); /* across the end */
    CHECK(is_all(data, 50000, 'x') && is_all(data + 50000, COMMAND_BYTES - 50000, 0));
    CHECK(ovs_deallocate(target, buffer) == 0);
    CHECK(ovs_ctx_destroy(target) == 0);
}

/* ---- a block tap: one event loop, callbacks report through a pipe -------------------------------
 */

enum {
    TAP_REQUESTS = 600,
    TAP_IN_FLIGHT = 32,
    TAP_BYTES = 45056
};

struct tap {
    ovs_ctx_t *ctx;
    int pipe[2];
};

struct tap_request {
    struct tap *tap;
    struct ovs_aiocb cb;
    ovs_buffer_t *buffer;
    unsigned index;
    bool is_read;
    ssize_t result;
};

static void
tap_callback(ovs_completion_t *completion, void *arg)
{
    struct tap_request *request = arg;
    request->result = ovs_aio_return(request->tap->ctx, &request->cb);
    CHECK(ovs_aio_finish(request->tap->ctx, &request->cb) == 0);
    CHECK(ovs_aio_release_completion(completion) == 0);
    CHECK(write(request->tap->pipe[1], &request, sizeof(request)) == sizeof(request));
}

static off_t
tap_offset(unsigned index)
{
    return (off_t)(index % 170) * TAP_BYTES;
}

static void
tap_submit(struct tap *tap, unsigned index, bool is_read)
{
    struct tap_request *request = calloc(1, sizeof(*request));
    CHECK(request);
    *request = (struct tap_request){.tap = tap, .index = index, .is_read = is_read};
    request->buffer = ovs_allocate(tap->ctx, TAP_BYTES);
    CHECK(request->buffer);
    unsigned char *data = ovs_buffer_data(request->buffer);
    request->cb = (struct ovs_aiocb){data, tap_offset(index), TAP_BYTES, NULL};
    ovs_completion_t *completion = ovs_aio_create_completion(tap_callback, request);
    CHECK(completion);
    if (is_read) {
        CHECK(ovs_aio_readcb(tap->ctx, &request->cb, completion) == 0);
    } else {
        pattern_fill(data, TAP_BYTES, (uint64_t)tap_offset(index));
        CHECK(ovs_aio_writecb(tap->ctx, &request->cb, completion) == 0);
    }
}

/* One turn of the event loop: the request that the pipe brought. */
static void
tap_complete(struct tap *tap, bool expect_data)
{
    struct pollfd fd = {.fd = tap->pipe[0], .events = POLLIN};
    struct tap_request *request;
    CHECK(poll(&fd, 1, -1) == 1);
    CHECK(read(tap->pipe[0], &request, sizeof(request)) == sizeof(request));
    CHECK(request->result == TAP_BYTES);
    if (request->is_read && expect_data) {
        CHECK(pattern_holds(ovs_buffer_data(request->buffer), TAP_BYTES,
                            (uint64_t)tap_offset(request->index)));
    }
    CHECK(ovs_deallocate(tap->ctx, request->buffer) == 0);
    free(request);
}

static void
block_tap(void)
{
    struct tap tap = {.ctx = ctx_open("lun", O_RDWR)};
    CHECK(pipe(tap.pipe) == 0);
    for (int is_read = 0; is_read < 2; is_read++) {
        unsigned submitted = 0;
        for (unsigned completed = 0; completed < TAP_REQUESTS; completed++) {
            while (submitted < TAP_REQUESTS && submitted - completed < TAP_IN_FLIGHT) {
                tap_submit(&tap, submitted++, is_read);
            }
            tap_complete(&tap, is_read);
        }
    }
    CHECK(ovs_ctx_destroy(tap.ctx) == 0);
    close(tap.pipe[0]);
    close(tap.pipe[1]);
}

/* ---- a pool of volumes: create, grow the list on ERANGE, open each to learn its size ------------
 */

static unsigned
pool_refresh(ovs_ctx_t *ctx, uint64_t *total_bytes)
{
    size_t size = 16;
    char *names = calloc(1, size);
    while (ovs_list_volumes(ctx, names, &size) < 0) {
        CHECK(errno == ERANGE);
        free(names);
        size += 20; /* larger than needed: it is read up to the first empty name */
        names = calloc(1, size);
        CHECK(names);
    }
    unsigned count = 0;
    *total_bytes = 0;
    for (const char *name = names; *name; name += strlen(name) + 1) {
        struct stat st;
        ovs_ctx_t *volume = ctx_open(name, O_RDWR);
        CHECK(ovs_stat(volume, &st) == 0);
        CHECK(st.st_blocks * 512 <= st.st_size + 1048576);
        CHECK(ovs_ctx_destroy(volume) == 0);
        *total_bytes += (uint64_t)st.st_size;
        count++;
    }
    free(names);
    return count;
}

static void
volume_pool(void)
{
    ovs_ctx_t *ctx = ctx_new();
    uint64_t total_bytes;
    CHECK(ovs_create_volume(ctx, "images/a", 1048576) == 0);
    CHECK(ovs_create_volume(ctx, "images/b", 2097152) == 0);
    CHECK(pool_refresh(ctx, &total_bytes) == 3);
    CHECK(total_bytes == VOLUME_BYTES + 3145728);
    CHECK(ovs_remove_volume(ctx, "images/a") == 0);
    CHECK(ovs_remove_volume(ctx, "images/b") == 0);
    CHECK(pool_refresh(ctx, &total_bytes) == 1);
    CHECK(ovs_ctx_destroy(ctx) == 0);
}

/* ---- a backup script: snapshots of a volume that is in use
 * --------------------------------------- */

static void
backup(void)
{
    ovs_ctx_t *user = ctx_open("lun", O_RDWR);
    ovs_ctx_t *script = ctx_new();
    CHECK(ovs_write(user, "before", 6, 4000) == 6);
    CHECK(ovs_snapshot_create(script, "lun", "nightly", 120) == 0);
    CHECK(ovs_snapshot_is_synced(script, "lun", "nightly") == 1);
    CHECK(ovs_write(user, "after!", 6, 4000) == 6);
    int room = 1;
    ovs_snapshot_info_t *list = NULL;
    int count = -1;
    while (count < 0) {
        list = realloc(list, (size_t)room * sizeof(*list));
        count = ovs_snapshot_list(script, "lun", list, &room);
        CHECK(count >= 0 || errno == ERANGE);
    }
    CHECK(count == 1 && !strcmp(list[0].name, "nightly") && list[0].size == VOLUME_BYTES);
    ovs_snapshot_list_free(list);
    free(list);
    char bytes[6];
    CHECK(ovs_snapshot_rollback(script, "lun", "nightly") == 0); /* also while it is open */
    CHECK(ovs_read(user, bytes, 6, 4000) == 6 && !memcmp(bytes, "before", 6));
    CHECK(ovs_snapshot_remove(script, "lun", "nightly") == 0);
    CHECK(ovs_ctx_destroy(script) == 0);
    CHECK(ovs_ctx_destroy(user) == 0);
}

static void
run_on(const struct ovsshm_store_type *type)
{
    printf("store %s\n", type->name);
    server_start(&server, type);
    volume_create("lun", VOLUME_BYTES);
    RUN(iscsi_target);
    RUN(block_tap);
    RUN(volume_pool);
    if (server.store->capabilities & OVSSHM_CAP_SNAPSHOT) {
        RUN(backup);
    }
    volume_remove("lun");
    server_stop(&server);
}

int
main(void)
{
    test_begin();
    run_on(&ovsshm_store_memory);
    run_on(&ovsshm_store_file);
    test_end();
    return 0;
}
