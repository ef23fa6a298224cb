/* SPDX-License-Identifier: MIT */
/*
 * Attributes, contexts, and what a context says about its open volume: function by function, with
 * every errno and its sign.
 */
#define _GNU_SOURCE
#include "legacy_test.h"

#include <sys/stat.h>

#define VOLUME_BYTES 1048576

static struct test_server server;

static void
attributes_accept_and_refuse_what_they_did(void)
{
    ovs_ctx_attr_t *attr = ovs_ctx_attr_new();
    CHECK(attr);
    CHECK(ovs_ctx_attr_set_transport(attr, NULL, NULL, 0) == 0);
    CHECK(ovs_ctx_attr_set_transport(attr, "shm", "ignored", -1) == 0);
    CHECK(ovs_ctx_attr_set_transport(attr, "tcp", "127.0.0.1", 21321) == 0);
    CHECK(ovs_ctx_attr_set_transport(attr, "rdma", "127.0.0.1", 21321) == 0);
    CHECK_FAILS(ovs_ctx_attr_set_transport(attr, "tcp", NULL, 21321), EINVAL);
    CHECK_FAILS(ovs_ctx_attr_set_transport(attr, "rdma", "", 21321), EINVAL);
    CHECK_FAILS(ovs_ctx_attr_set_transport(attr, "SHM", NULL, 0), EINVAL);
    CHECK_FAILS(ovs_ctx_attr_set_transport(attr, "", NULL, 0), EINVAL);
    CHECK_FAILS(ovs_ctx_attr_set_transport(NULL, "shm", NULL, 0), EINVAL);
    CHECK(ovs_ctx_attr_set_network_qdepth(attr, 1) == 0);
    CHECK_FAILS(ovs_ctx_attr_set_network_qdepth(attr, 0), EINVAL);
    CHECK_FAILS(ovs_ctx_attr_set_network_qdepth(NULL, 64), EINVAL);
    CHECK(ovs_ctx_attr_enable_ha(attr) == 0);
    CHECK_FAILS(ovs_ctx_attr_enable_ha(NULL), EINVAL);
    CHECK(ovs_ctx_attr_destroy(attr) == 0);
    CHECK(ovs_ctx_attr_destroy(NULL) == 0);
}

static void
context_needs_a_transport_that_is_supported(void)
{
    CHECK_NULL(ovs_ctx_new(NULL), EINVAL);
    ovs_ctx_attr_t *attr = ovs_ctx_attr_new();
    CHECK_NULL(ovs_ctx_new(attr), EINVAL);
    CHECK(ovs_ctx_attr_set_transport(attr, "tcp", "127.0.0.1", 21321) == 0);
    CHECK_NULL(ovs_ctx_new(attr), EPROTONOSUPPORT);
    CHECK(ovs_ctx_attr_set_transport(attr, "rdma", "127.0.0.1", 21321) == 0);
    CHECK_NULL(ovs_ctx_new(attr), EPROTONOSUPPORT);
    CHECK(ovs_ctx_attr_destroy(attr) == 0);
    CHECK_FAILS(ovs_ctx_destroy(NULL), EINVAL);
}

static void
no_server_is_econnrefused_and_never_a_missing_volume(void)
{
    ovs_ctx_t *ctx = ctx_new();
    size_t size = 0;
    int max_snaps = 1;
    CHECK_FAILS(ovs_ctx_init(ctx, "vol", O_RDWR), ECONNREFUSED);
    CHECK_FAILS(ovs_create_volume(ctx, "vol", VOLUME_BYTES), ECONNREFUSED);
    CHECK_FAILS(ovs_remove_volume(ctx, "vol"), ECONNREFUSED);
    CHECK_FAILS(ovs_truncate_volume(ctx, "vol", VOLUME_BYTES), ECONNREFUSED);
    CHECK_FAILS(ovs_list_volumes(ctx, NULL, &size), ECONNREFUSED);
    CHECK_FAILS(ovs_snapshot_create(ctx, "vol", "snap", 0), ECONNREFUSED);
    CHECK_FAILS(ovs_snapshot_list(ctx, "vol", NULL, &max_snaps), ECONNREFUSED);
    CHECK(ovs_ctx_destroy(ctx) == 0);
}

static void
init_refuses_bad_arguments(void)
{
    char long_name[256];
    memset(long_name, 'n', 255);
    long_name[255] = '\0';
    ovs_ctx_t *ctx = ctx_new();
    CHECK_FAILS(ovs_ctx_init(NULL, "vol", O_RDWR), EINVAL);
    CHECK_FAILS(ovs_ctx_init(ctx, NULL, O_RDWR), EINVAL);
    CHECK_FAILS(ovs_ctx_init(ctx, "", O_RDWR), EINVAL);
    CHECK_FAILS(ovs_ctx_init(ctx, long_name, O_RDWR), EINVAL);
    CHECK_FAILS(ovs_ctx_init(ctx, "../vol", O_RDWR), EINVAL);
    CHECK_FAILS(ovs_ctx_init(ctx, "vol", O_RDWR | O_SYNC), EINVAL);
    CHECK_FAILS(ovs_ctx_init(ctx, "vol", O_RDWR | O_WRONLY), EINVAL);
    CHECK_FAILS(ovs_ctx_init(ctx, "vol", -1), EINVAL);
    long_name[254] = '\0';
    CHECK_FAILS(ovs_ctx_init(ctx, long_name, O_RDWR), EACCES); /* a good name, no such volume */
    CHECK(ovs_ctx_destroy(ctx) == 0);
}

static void
missing_volume_is_eacces(void)
{
    ovs_ctx_t *ctx = ctx_new();
    CHECK_FAILS(ovs_ctx_init(ctx, "missing", O_RDWR), EACCES);
    CHECK_FAILS(ovs_ctx_init(ctx, "missing", O_RDONLY), EACCES);
    CHECK_FAILS(ovs_ctx_init(ctx, "missing", O_WRONLY), EACCES);
    CHECK(ovs_ctx_destroy(ctx) == 0);
}

static void
second_writer_is_ebusy_until_the_first_is_destroyed(void)
{
    ovs_ctx_t *first = ctx_open("vol", O_RDWR);
    ovs_ctx_t *second = ctx_new();
    CHECK_FAILS(ovs_ctx_init(second, "vol", O_RDWR), EBUSY);
    CHECK_FAILS(ovs_ctx_init(second, "vol", O_WRONLY), EBUSY);
    for (int i = 0; i < 20; i++) {
        CHECK(ovs_ctx_destroy(first) == 0);
        CHECK(ovs_ctx_init(second, "vol", O_RDWR) == 0);
        first = second;
        second = ctx_new();
    }
    CHECK(ovs_ctx_destroy(first) == 0);
    CHECK(ovs_ctx_destroy(second) == 0);
}

static void
readers_share_with_each_other_and_with_a_writer(void)
{
    ovs_ctx_t *writer = ctx_open("vol", O_RDWR);
    ovs_ctx_t *reader = ctx_open("vol", O_RDONLY);
    ovs_ctx_t *other = ctx_open("vol", O_RDONLY);
    char byte = 'x';
    CHECK(ovs_write(writer, &byte, 1, 5) == 1);
    byte = 0;
    CHECK(ovs_read(reader, &byte, 1, 5) == 1);
    CHECK(byte == 'x');
    CHECK(ovs_read(other, &byte, 1, 5) == 1);
    CHECK(ovs_ctx_destroy(writer) == 0);
    CHECK(ovs_ctx_destroy(reader) == 0);
    CHECK(ovs_ctx_destroy(other) == 0);
}

static void
init_again_is_ebusy_on_the_same_volume_and_replaces_on_another(void)
{
    volume_create("other", 512);
    ovs_ctx_t *ctx = ctx_open("vol", O_RDWR);
    struct stat st;
    CHECK_FAILS(ovs_ctx_init(ctx, "vol", O_RDWR), EBUSY);
    CHECK_FAILS(ovs_ctx_init(ctx, "vol", O_RDONLY), EBUSY);
    CHECK_FAILS(ovs_ctx_init(ctx, "missing", O_RDWR), EACCES);
    CHECK(ovs_stat(ctx, &st) == 0 && st.st_size == VOLUME_BYTES); /* still the first */
    CHECK(ovs_ctx_init(ctx, "other", O_RDWR) == 0);
    CHECK(ovs_stat(ctx, &st) == 0 && st.st_size == 512);
    ovs_ctx_t *second = ctx_open("vol", O_RDWR); /* the first was closed */
    CHECK(ovs_ctx_destroy(second) == 0);
    CHECK(ovs_ctx_destroy(ctx) == 0);
    volume_remove("other");
}

static void
before_init_everything_is_ebadf(void)
{
    ovs_ctx_t *ctx = ctx_new();
    char bytes[8];
    struct stat st;
    struct ovs_aiocb cb = {.aio_buf = bytes, .aio_nbytes = sizeof(bytes)};
    CHECK_FAILS(ovs_truncate(ctx, VOLUME_BYTES), EBADF);
    CHECK_FAILS(ovs_stat(ctx, &st), EBADF);
    CHECK_FAILS(ovs_read(ctx, bytes, sizeof(bytes), 0), EBADF);
    CHECK_FAILS(ovs_write(ctx, bytes, sizeof(bytes), 0), EBADF);
    CHECK_FAILS(ovs_flush(ctx), EBADF);
    CHECK_FAILS(ovs_aio_read(ctx, &cb), EBADF);
    CHECK_FAILS(ovs_aio_write(ctx, &cb), EBADF);
    CHECK_FAILS(ovs_aio_flushcb(ctx, NULL), EBADF);
    CHECK_NULL(ovs_allocate(ctx, 4096), EBADF);
    CHECK(ovs_ctx_destroy(ctx) == 0);
}

static void
stat_fills_the_whole_structure(void)
{
    ovs_ctx_t *ctx = ctx_open("vol", O_RDONLY);
    struct stat st;
    CHECK_FAILS(ovs_stat(NULL, &st), EINVAL);
    CHECK_FAILS(ovs_stat(ctx, NULL), EINVAL);
    memset(&st, 0xa5, sizeof(st));
    CHECK(ovs_stat(ctx, &st) == 0);
    CHECK(st.st_size == VOLUME_BYTES);
    CHECK(st.st_blksize == 512);
    CHECK(st.st_blocks == 3); /* the store says 1536 bytes */
    CHECK(S_ISREG(st.st_mode));
    CHECK(st.st_ino == 0 && st.st_uid == 0 && st.st_rdev == 0 && st.st_mtime == 0);
    gate_fail_management(-EIO);
    CHECK_FAILS(ovs_stat(ctx, &st), EIO);
    gate_fail_management(0);
    CHECK(ovs_ctx_destroy(ctx) == 0);
}

static void
truncate_grows_and_only_for_writers(void)
{
    volume_create("grow", 4096);
    ovs_ctx_t *reader = ctx_open("grow", O_RDONLY);
    CHECK_FAILS(ovs_truncate(reader, 8192), EBADF);
    CHECK_FAILS(ovs_truncate(NULL, 8192), EINVAL);
    ovs_ctx_t *ctx = ctx_open("grow", O_WRONLY);
    struct stat st;
    char byte = 'x';
    CHECK_FAILS(ovs_write(ctx, &byte, 1, 8191), EFBIG);
    CHECK(ovs_truncate(ctx, 8191) == 0); /* whole sectors */
    CHECK(ovs_stat(ctx, &st) == 0 && st.st_size == 8192);
    CHECK(ovs_stat(reader, &st) == 0 && st.st_size == 8192);
    CHECK(ovs_write(ctx, &byte, 1, 8191) == 1);
    CHECK_FAILS(ovs_truncate(ctx, 4096), EPERM);
    CHECK_FAILS(ovs_truncate(ctx, UINT64_MAX), EFBIG);
    CHECK_FAILS(ovs_truncate(ctx, (uint64_t)INT64_MAX + 1), EFBIG);
    CHECK_FAILS(ovs_truncate(ctx, GATE_VOLUME_BYTES + 512), ENOSPC);
    CHECK(ovs_ctx_destroy(ctx) == 0);
    CHECK(ovs_ctx_destroy(reader) == 0);
    volume_remove("grow");
}

static void
server_restart_ends_the_volume_and_init_opens_it_again(void)
{
    ovs_ctx_t *ctx = ctx_open("vol", O_RDWR);
    char byte = 'x';
    struct stat st;
    CHECK(ovs_write(ctx, &byte, 1, 0) == 1);
    server_stop(&server);
    CHECK_FAILS(ovs_write(ctx, &byte, 1, 0), ENOTCONN);
    CHECK_FAILS(ovs_flush(ctx), ENOTCONN);
    CHECK_FAILS(ovs_stat(ctx, &st), ENOTCONN);
    CHECK_FAILS(ovs_ctx_init(ctx, "vol", O_RDWR), ECONNREFUSED);
    server_start(&server, &gate_store);
    volume_create("vol", VOLUME_BYTES);
    CHECK_FAILS(ovs_read(ctx, &byte, 1, 0), ENOTCONN);
    CHECK(ovs_truncate_volume(ctx, "vol", VOLUME_BYTES) == 0); /* management finds the new one */
    CHECK(ovs_ctx_init(ctx, "vol", O_RDWR) == 0);
    CHECK(ovs_write(ctx, &byte, 1, 0) == 1);
    CHECK(ovs_ctx_destroy(ctx) == 0);
}

int
main(void)
{
    test_begin();
    RUN(attributes_accept_and_refuse_what_they_did);
    RUN(context_needs_a_transport_that_is_supported);
    RUN(no_server_is_econnrefused_and_never_a_missing_volume);
    server_start(&server, &gate_store);
    volume_create("vol", VOLUME_BYTES);
    RUN(init_refuses_bad_arguments);
    RUN(missing_volume_is_eacces);
    RUN(second_writer_is_ebusy_until_the_first_is_destroyed);
    RUN(readers_share_with_each_other_and_with_a_writer);
    RUN(init_again_is_ebusy_on_the_same_volume_and_replaces_on_another);
    RUN(before_init_everything_is_ebadf);
    RUN(stat_fills_the_whole_structure);
    RUN(truncate_grows_and_only_for_writers);
    RUN(server_restart_ends_the_volume_and_init_opens_it_again);
    server_stop(&server);
    test_end();
    return 0;
}
