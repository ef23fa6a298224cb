/* SPDX-License-Identifier: MIT */
/*
 * Volumes and snapshots through a context that was never opened: function by function, with every
 * errno and its sign.  What no store does yet (clones, unsynced snapshots) is injected.
 */
#define _GNU_SOURCE
#include "legacy_test.h"

#include <sys/stat.h>

static struct test_server server;
static ovs_ctx_t *ctx;

static uint64_t
size_of(const char *volume)
{
    struct stat st;
    ovs_ctx_t *reader = ctx_open(volume, O_RDONLY);
    CHECK(ovs_stat(reader, &st) == 0);
    CHECK(ovs_ctx_destroy(reader) == 0);
    return (uint64_t)st.st_size;
}

static void
create_rounds_up_to_sectors(void)
{
    CHECK(ovs_create_volume(ctx, "one", 1) == 0);
    CHECK(size_of("one") == 512);
    CHECK(ovs_create_volume(ctx, "none", 0) == 0);
    CHECK(size_of("none") == 0);
    CHECK(ovs_create_volume(ctx, "dir/exact", 1024) == 0);
    CHECK(size_of("dir/exact") == 1024);
    CHECK(ovs_remove_volume(ctx, "one") == 0);
    CHECK(ovs_remove_volume(ctx, "none") == 0);
    CHECK(ovs_remove_volume(ctx, "dir/exact") == 0);
}

static void
create_errors(void)
{
    CHECK(ovs_create_volume(ctx, "vol", 4096) == 0);
    CHECK_FAILS(ovs_create_volume(ctx, "vol", 4096), EEXIST);
    CHECK_FAILS(ovs_create_volume(NULL, "new", 4096), EINVAL);
    CHECK_FAILS(ovs_create_volume(ctx, NULL, 4096), EINVAL);
    CHECK_FAILS(ovs_create_volume(ctx, "", 4096), EINVAL);
    CHECK_FAILS(ovs_create_volume(ctx, "/vol", 4096), EINVAL);
    CHECK_FAILS(ovs_create_volume(ctx, "a/../b", 4096), EINVAL);
    CHECK_FAILS(ovs_create_volume(ctx, "huge", UINT64_MAX), EFBIG);
    CHECK_FAILS(ovs_create_volume(ctx, "huge", (uint64_t)INT64_MAX), EFBIG);
    CHECK_FAILS(ovs_create_volume(ctx, "full", GATE_VOLUME_BYTES + 512), ENOSPC);
    gate_fail_management(-EIO);
    CHECK_FAILS(ovs_create_volume(ctx, "new", 4096), EIO);
    gate_fail_management(0);
    CHECK(ovs_remove_volume(ctx, "vol") == 0);
}

static void
remove_errors(void)
{
    CHECK_FAILS(ovs_remove_volume(ctx, "missing"), ENOENT);
    CHECK_FAILS(ovs_remove_volume(NULL, "vol"), EINVAL);
    CHECK_FAILS(ovs_remove_volume(ctx, NULL), EINVAL);
    CHECK_FAILS(ovs_remove_volume(ctx, ""), EINVAL);
    volume_create("vol", 4096);
    ovs_ctx_t *user = ctx_open("vol", O_RDONLY);
    CHECK_FAILS(ovs_remove_volume(ctx, "vol"), EBUSY);
    CHECK(ovs_ctx_destroy(user) == 0);
    CHECK(ovs_remove_volume(ctx, "vol") == 0);
    CHECK_FAILS(ovs_remove_volume(ctx, "vol"), ENOENT);
    CHECK(ovs_create_volume(ctx, "vol", 512) == 0); /* the name is free at once */
    CHECK(ovs_remove_volume(ctx, "vol") == 0);
}

static void
truncate_volume_grows_also_while_open(void)
{
    volume_create("vol", 4096);
    CHECK(ovs_truncate_volume(ctx, "vol", 8000) == 0);
    CHECK(size_of("vol") == 8192);
    CHECK(ovs_truncate_volume(ctx, "vol", 8192) == 0);
    CHECK_FAILS(ovs_truncate_volume(ctx, "vol", 4096), EPERM);
    CHECK_FAILS(ovs_truncate_volume(ctx, "vol", UINT64_MAX - 1), EFBIG);
    CHECK_FAILS(ovs_truncate_volume(ctx, "missing", 8192), ENOENT);
    CHECK_FAILS(ovs_truncate_volume(NULL, "vol", 8192), EINVAL);
    CHECK_FAILS(ovs_truncate_volume(ctx, NULL, 8192), EINVAL);
    ovs_ctx_t *writer = ctx_open("vol", O_RDWR);
    struct stat st;
    CHECK(ovs_truncate_volume(ctx, "vol", 16384) == 0);
    CHECK(ovs_stat(writer, &st) == 0 && st.st_size == 16384);
    CHECK(ovs_write(writer, "x", 1, 16383) == 1);
    CHECK(ovs_ctx_destroy(writer) == 0);
    volume_remove("vol");
}

static void
list_needs_exactly_the_sum_of_names_and_nuls(void)
{
    char names[64];
    size_t size = sizeof(names);
    CHECK(ovs_list_volumes(ctx, names, &size) == 0); /* no volume */
    CHECK(size == sizeof(names));
    size = 1;
    CHECK(ovs_list_volumes(ctx, names, &size) == 0);
    volume_create("b/second", 512);
    volume_create("first", 512);
    size = 0;
    CHECK_FAILS(ovs_list_volumes(ctx, NULL, &size), ERANGE);
    CHECK(size == sizeof("b/second") + sizeof("first"));
    size--;
    CHECK_FAILS(ovs_list_volumes(ctx, names, &size), ERANGE);
    CHECK(size == sizeof("b/second") + sizeof("first"));
    memset(names, 'x', sizeof(names));
    CHECK(ovs_list_volumes(ctx, names, &size) == (int)size);
    CHECK(!memcmp(names, "b/second\0first\0x", size + 1)); /* and not a byte more */
    CHECK_FAILS(ovs_list_volumes(ctx, NULL, &size), EINVAL);
    CHECK_FAILS(ovs_list_volumes(ctx, names, NULL), EINVAL);
    CHECK_FAILS(ovs_list_volumes(NULL, names, &size), EINVAL);
    gate_fail_management(-EIO);
    CHECK_FAILS(ovs_list_volumes(ctx, names, &size), EIO);
    gate_fail_management(0);
    volume_remove("b/second");
    volume_remove("first");
}

static void
list_goes_on_over_many_volumes(void)
{
    char name[24];
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "volume-%03d", i);
        volume_create(name, 512);
    }
    char names[2000];
    size_t size = sizeof(names);
    CHECK(ovs_list_volumes(ctx, names, &size) == 1100);
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "volume-%03d", i);
        CHECK(!strcmp(names + (size_t)i * 11, name));
        volume_remove(name);
    }
}

static void
snapshot_list_needs_one_more_than_there_are(void)
{
    volume_create("vol", 4096);
    ovs_snapshot_info_t list[4];
    int max_snaps = 1;
    errno = EPIPE;
    CHECK(ovs_snapshot_list(ctx, "vol", list, &max_snaps) == 0);
    CHECK(errno == 0); /* how callers tell "none" from a failure */
    CHECK(max_snaps == 1 && !list[0].name && list[0].size == 0);
    CHECK(ovs_snapshot_create(ctx, "vol", "s1", 0) == 0);
    CHECK(ovs_truncate_volume(ctx, "vol", 8192) == 0);
    CHECK(ovs_snapshot_create(ctx, "vol", "s2", 0) == 0);
    CHECK_FAILS(ovs_snapshot_list(ctx, "vol", list, &max_snaps), ERANGE);
    CHECK(max_snaps == 3);
    max_snaps = 2;
    CHECK_FAILS(ovs_snapshot_list(ctx, "vol", NULL, &max_snaps), ERANGE);
    CHECK(max_snaps == 3);
    max_snaps = -1;
    CHECK_FAILS(ovs_snapshot_list(ctx, "vol", list, &max_snaps), ERANGE);
    CHECK_FAILS(ovs_snapshot_list(ctx, "vol", NULL, &max_snaps), EINVAL);
    memset(list, 0xa5, sizeof(list));
    CHECK(ovs_snapshot_list(ctx, "vol", list, &max_snaps) == 2);
    CHECK(max_snaps == 3);
    CHECK(!strcmp(list[0].name, "s1") && list[0].size == 4096);
    CHECK(!strcmp(list[1].name, "s2") && list[1].size == 8192);
    CHECK(!list[2].name && list[2].size == 0);
    ovs_snapshot_list_free(list);
    ovs_snapshot_list_free(list); /* it has left an empty list behind */
    ovs_snapshot_list_free(NULL);
    max_snaps = 0;
    CHECK_FAILS(ovs_snapshot_list(ctx, "missing", list, &max_snaps), ENOENT);
    CHECK(max_snaps == 0);
    CHECK_FAILS(ovs_snapshot_list(ctx, "vol", list, NULL), EINVAL);
    CHECK_FAILS(ovs_snapshot_list(ctx, NULL, list, &max_snaps), EINVAL);
    CHECK_FAILS(ovs_snapshot_list(NULL, "vol", list, &max_snaps), EINVAL);
    volume_remove("vol");
}

static void
snapshot_create_errors(void)
{
    volume_create("vol", 4096);
    CHECK(ovs_snapshot_create(ctx, "vol", "s1", -1) == 0);
    CHECK_FAILS(ovs_snapshot_create(ctx, "vol", "s1", 0), EEXIST);
    CHECK_FAILS(ovs_snapshot_create(ctx, "missing", "s1", 0), ENOENT);
    CHECK_FAILS(ovs_snapshot_create(ctx, "vol", NULL, 0), EINVAL);
    CHECK_FAILS(ovs_snapshot_create(ctx, "vol", "", 0), EINVAL);
    CHECK_FAILS(ovs_snapshot_create(ctx, "vol", "a/b", 0), EINVAL);
    CHECK_FAILS(ovs_snapshot_create(ctx, NULL, "s2", 0), EINVAL);
    CHECK_FAILS(ovs_snapshot_create(NULL, "vol", "s2", 0), EINVAL);
    gate_fail_management(-EBUSY);
    CHECK_FAILS(ovs_snapshot_create(ctx, "vol", "s2", 0), EBUSY);
    gate_fail_management(-ETIMEDOUT);
    CHECK_FAILS(ovs_snapshot_create(ctx, "vol", "s2", 1), ETIMEDOUT);
    gate_fail_management(0);
    volume_remove("vol");
}

static void
snapshot_is_synced_is_one_or_zero(void)
{
    volume_create("vol", 4096);
    CHECK(ovs_snapshot_create(ctx, "vol", "old", 0) == 0);
    CHECK(ovs_snapshot_create(ctx, "vol", "new", -1) == 0);
    CHECK(ovs_snapshot_is_synced(ctx, "vol", "old") == 1);
    CHECK(ovs_snapshot_is_synced(ctx, "vol", "new") == 0);
    CHECK_FAILS(ovs_snapshot_is_synced(ctx, "vol", "missing"), ENOENT);
    CHECK_FAILS(ovs_snapshot_is_synced(ctx, "missing", "old"), ENOENT);
    CHECK_FAILS(ovs_snapshot_is_synced(ctx, "vol", NULL), EINVAL);
    CHECK_FAILS(ovs_snapshot_is_synced(ctx, NULL, "old"), EINVAL);
    CHECK_FAILS(ovs_snapshot_is_synced(NULL, "vol", "old"), EINVAL);
    volume_remove("vol");
}

static void
snapshot_remove_and_rollback_errors(void)
{
    volume_create("vol", 4096);
    CHECK(ovs_snapshot_create(ctx, "vol", "s1", 0) == 0);
    CHECK(ovs_snapshot_create(ctx, "vol", "s2", 0) == 0);
    CHECK_FAILS(ovs_snapshot_rollback(ctx, "vol", "missing"), ENOENT);
    CHECK_FAILS(ovs_snapshot_rollback(ctx, "missing", "s1"), ENOENT);
    CHECK_FAILS(ovs_snapshot_rollback(ctx, "vol", NULL), EINVAL);
    CHECK_FAILS(ovs_snapshot_rollback(ctx, NULL, "s1"), EINVAL);
    CHECK_FAILS(ovs_snapshot_rollback(NULL, "vol", "s1"), EINVAL);
    CHECK_FAILS(ovs_snapshot_remove(ctx, "vol", "missing"), ENOENT);
    CHECK_FAILS(ovs_snapshot_remove(ctx, "missing", "s1"), ENOENT);
    CHECK_FAILS(ovs_snapshot_remove(ctx, "vol", NULL), EINVAL);
    CHECK_FAILS(ovs_snapshot_remove(ctx, NULL, "s1"), EINVAL);
    CHECK_FAILS(ovs_snapshot_remove(NULL, "vol", "s1"), EINVAL);
    gate_fail_management(-ENOTEMPTY); /* clones */
    CHECK_FAILS(ovs_snapshot_rollback(ctx, "vol", "s1"), ENOTEMPTY);
    CHECK_FAILS(ovs_snapshot_remove(ctx, "vol", "s1"), ENOTEMPTY);
    gate_fail_management(0);
    CHECK(ovs_snapshot_rollback(ctx, "vol", "s1") == 0); /* drops the newer ones */
    CHECK_FAILS(ovs_snapshot_remove(ctx, "vol", "s2"), ENOENT);
    CHECK(ovs_snapshot_remove(ctx, "vol", "s1") == 0);
    CHECK_FAILS(ovs_snapshot_remove(ctx, "vol", "s1"), ENOENT);
    volume_remove("vol");
}

int
main(void)
{
    test_begin();
    server_start(&server, &gate_store);
    ctx = ctx_new();
    RUN(create_rounds_up_to_sectors);
    RUN(create_errors);
    RUN(remove_errors);
    RUN(truncate_volume_grows_also_while_open);
    RUN(list_needs_exactly_the_sum_of_names_and_nuls);
    RUN(list_goes_on_over_many_volumes);
    RUN(snapshot_list_needs_one_more_than_there_are);
    RUN(snapshot_create_errors);
    RUN(snapshot_is_synced_is_one_or_zero);
    RUN(snapshot_remove_and_rollback_errors);
    CHECK(ovs_ctx_destroy(ctx) == 0);
    server_stop(&server);
    test_end();
    return 0;
}
