/* SPDX-License-Identifier: MIT */
/*
 * What survives a power failure: the file store changes names only in an order in which each moment
 * is safe.  The calls that matter are recorded and compared with the order that was thought
 * through.
 *
 * "sync FILE" is what makes contents (of a directory: names) durable.  A file must be synced before
 * it gets its name, and the directory after that, before the caller hears of it.
 */
#define _GNU_SOURCE
#include "file_test.h"

#include <sys/syscall.h>

static char trace[4096];
static bool tracing;

/* Below the pool, without the number that makes names in tmp/ unique. */
static void
record(const char *what, int fd, const char *name)
{
    char link[64], path[1024], line[1200];
    size_t skip = strlen(ft.pool);
    if (!tracing) {
        return;
    }
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof(path) - 1);
    CHECK(length >= (ssize_t)skip);
    path[length] = '\0';
    snprintf(line, sizeof(line), "%s %s%s%s", what, path + skip, name ? "/" : "", name ? name : "");
    char *number = strstr(line, "tmp/");
    if (number) {
        strcpy(number + 4, "*");
    }
    strcat(strcat(trace, line), "\n");
}

int
fsync(int fd)
{
    record("sync", fd, NULL);
    return (int)syscall(SYS_fsync, fd);
}

int
linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
    record("link", to_fd, to);
    return (int)syscall(SYS_linkat, from_fd, from, to_fd, to, flags);
}

int
renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    record("rename", to_fd, to);
    return (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, 0);
}

int
unlinkat(int fd, const char *name, int flags)
{
    int rc = (int)syscall(SYS_unlinkat, fd, name, flags);
    if (rc == 0) {
        record(flags ? "rmdir" : "unlink", fd, name);
    }
    return rc;
}

int
mkdirat(int fd, const char *name, mode_t mode)
{
    int rc = (int)syscall(SYS_mkdirat, fd, name, mode);
    if (rc == 0) {
        record("mkdir", fd, name);
    }
    return rc;
}

static void
begin_trace(void)
{
    trace[0] = '\0';
    tracing = true;
}

static void
check_trace(const char *expected)
{
    tracing = false;
    if (strcmp(trace, expected)) {
        fprintf(stderr, "the order is\n%sexpected\n%s", trace, expected);
        exit(1);
    }
}

static void
begin(void)
{
    ft_new_pool();
    ft_start("");
}

static void
test_create_syncs_file_then_name(void)
{
    begin();
    begin_trace();
    CHECK_EQ(ft_create("a/v", 4096), 0);
    check_trace("sync /.openvstorage/tmp/*\n"
                "mkdir /a\n"
                "sync \n"
                "link /a/v\n"
                "sync /a\n"
                "unlink /.openvstorage/tmp/*\n");
    ft_stop();
}

static void
test_resize_syncs_the_size(void)
{
    begin();
    CHECK_EQ(ft_create("v", 4096), 0);
    begin_trace();
    CHECK_EQ(ovsshm_store_file.volume_resize(ft.store, "v", NULL, 8192, &ft.error), 0);
    check_trace("sync /v\n");
    ft_stop();
}

static void
test_snapshot_syncs_file_then_name(void)
{
    begin();
    CHECK_EQ(ft_create("a/v", 4096), 0);
    begin_trace();
    CHECK_EQ(ovsshm_store_file.snapshot_create(ft.store, "a/v", NULL, "s", 0, &ft.error), 0);
    check_trace("sync /.openvstorage/tmp/*\n"
                "mkdir /.openvstorage/snapshots/a\n"
                "sync /.openvstorage/snapshots\n"
                "mkdir /.openvstorage/snapshots/a/v\n"
                "sync /.openvstorage/snapshots/a\n"
                "link /.openvstorage/snapshots/a/v/s\n"
                "sync /.openvstorage/snapshots/a/v\n"
                "unlink /.openvstorage/tmp/*\n");
    ft_stop();
}

/* The newer snapshots go when the volume has been replaced for good, the newest first. */
static void
test_rollback_replaces_then_drops(void)
{
    begin();
    CHECK_EQ(ft_create("v", 4096), 0);
    CHECK_EQ(ovsshm_store_file.snapshot_create(ft.store, "v", NULL, "1", 0, &ft.error), 0);
    CHECK_EQ(ovsshm_store_file.snapshot_create(ft.store, "v", NULL, "2", 0, &ft.error), 0);
    CHECK_EQ(ovsshm_store_file.snapshot_create(ft.store, "v", NULL, "3", 0, &ft.error), 0);
    begin_trace();
    CHECK_EQ(ovsshm_store_file.snapshot_rollback(ft.store, "v", NULL, "1", &ft.error), 0);
    check_trace("sync /.openvstorage/tmp/*\n"
                "rename /v\n"
                "sync \n"
                "sync /.openvstorage/tmp\n"
                "unlink /.openvstorage/snapshots/v/3\n"
                "sync /.openvstorage/snapshots/v\n"
                "unlink /.openvstorage/snapshots/v/2\n"
                "sync /.openvstorage/snapshots/v\n");
    ft_stop();
}

/* First the volume: without it nobody sees its snapshots, and a new volume does not inherit them.
 */
static void
test_remove_takes_the_volume_first(void)
{
    begin();
    CHECK_EQ(ft_create("a/v", 4096), 0);
    CHECK_EQ(ovsshm_store_file.snapshot_create(ft.store, "a/v", NULL, "s", 0, &ft.error), 0);
    begin_trace();
    CHECK_EQ(ovsshm_store_file.volume_remove(ft.store, "a/v", &ft.error), 0);
    check_trace("unlink /a/v\n"
                "sync /a\n"
                "rmdir /a\n"
                "sync \n"
                "unlink /.openvstorage/snapshots/a/v/s\n"
                "rmdir /.openvstorage/snapshots/a/v\n"
                "sync /.openvstorage/snapshots/a\n"
                "rmdir /.openvstorage/snapshots/a\n"
                "sync /.openvstorage/snapshots\n");
    ft_stop();
}

static void
test_create_drops_what_a_remove_cut_short_has_left(void)
{
    begin();
    CHECK_EQ(ft_create("v", 4096), 0);
    CHECK_EQ(ovsshm_store_file.snapshot_create(ft.store, "v", NULL, "s", 0, &ft.error), 0);
    CHECK_EQ(unlink(ft_path("v")), 0);
    begin_trace();
    CHECK_EQ(ft_create("v", 4096), 0);
    check_trace("sync /.openvstorage/tmp/*\n"
                "unlink /.openvstorage/snapshots/v/s\n"
                "rmdir /.openvstorage/snapshots/v\n"
                "sync /.openvstorage/snapshots\n"
                "link /v\n"
                "sync \n"
                "unlink /.openvstorage/tmp/*\n");
    ft_stop();
}

int
main(void)
{
    test_begin(60);
    RUN(test_create_syncs_file_then_name);
    RUN(test_resize_syncs_the_size);
    RUN(test_snapshot_syncs_file_then_name);
    RUN(test_rollback_replaces_then_drops);
    RUN(test_remove_takes_the_volume_first);
    RUN(test_create_drops_what_a_remove_cut_short_has_left);
    return 0;
}
