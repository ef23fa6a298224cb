/* SPDX-License-Identifier: MIT */
/*
 * Volumes as files: names, order, directories on demand, sizes; what in the pool is no volume; and
 * why a pool is refused at start.
 */
#define _GNU_SOURCE
#include "file_test.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define MIB (1024u * 1024)
#define HUGE_BYTES ((uint64_t)INT64_MAX - 511)

static int
stat_of(const char *name, struct ovsshm_volume_info *info)
{
    return ovsshm_store_file.volume_stat(ft.store, name, info);
}

static int
remove_of(const char *name)
{
    return ovsshm_store_file.volume_remove(ft.store, name, &ft.error);
}

static void
begin(void)
{
    ft_new_pool();
    ft_start("");
}

/* All names, `page` at a time, each followed by a space. */
static const char *
names_by(unsigned page)
{
    static char text[8192];
    struct ovsshm_volume_info infos[16];
    char after[OVSSHM_NAME_BYTES] = "";
    int count;
    text[0] = '\0';
    while ((count = ovsshm_store_file.volume_list(ft.store, after, infos, page)) > 0) {
        for (int i = 0; i < count; i++) {
            strcat(strcat(text, infos[i].name), " ");
        }
        strcpy(after, infos[count - 1].name);
    }
    CHECK_EQ(count, 0);
    return text;
}

static void
make_file(const char *name, off_t bytes)
{
    int fd = open(ft_path(name), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    CHECK(fd >= 0);
    CHECK_EQ(ftruncate(fd, bytes), 0);
    close(fd);
}

/* ---- volumes --------------------------------------------------------------------------------- */

static void
test_a_volume_is_a_sparse_file_of_its_name(void)
{
    struct ovsshm_volume_info info;
    struct stat st;
    begin();
    CHECK_EQ(ft_create("dir/vol", 10ull << 30), 0);
    CHECK_EQ(stat(ft_path("dir/vol"), &st), 0);
    CHECK(S_ISREG(st.st_mode));
    CHECK_EQ(st.st_size, 10ll << 30);
    CHECK_EQ(st.st_nlink, 1);
    CHECK_EQ(stat_of("dir/vol", &info), 0);
    CHECK_TEXT(info.name, "dir/vol");
    CHECK_EQ(info.size_bytes, 10ull << 30);
    CHECK_EQ(info.allocated_bytes, 0);
    CHECK_EQ(info.snapshots, 0);
    CHECK_EQ(ft_create("dir/vol", MIB), -EEXIST);
    CHECK_TEXT(ft.error.reason, "\"dir/vol\" exists already");
    CHECK_EQ(stat_of("dir/vol", &info), 0);
    CHECK_EQ(info.size_bytes, 10ull << 30);
    CHECK_EQ(ft_tmp_count(), 0);
    ft_stop();
}

static void
test_directories_come_and_go(void)
{
    begin();
    CHECK_EQ(ft_create("a/b/c/v", 512), 0);
    CHECK_EQ(ft_create("a/w", 512), 0);
    CHECK_EQ(remove_of("a/b/c/v"), 0);
    CHECK(!ft_exists("a/b"));
    CHECK(ft_exists("a/w"));
    CHECK_EQ(remove_of("a/w"), 0);
    CHECK(!ft_exists("a"));
    CHECK_EQ(remove_of("a/w"), -ENOENT);
    CHECK_TEXT(ft.error.reason, "volume \"a/w\": No such file or directory");
    /* A directory that was there for another reason stays. */
    CHECK_EQ(mkdir(ft_path("x"), 0755), 0);
    make_file("x/y", 512);
    CHECK_EQ(ft_create("x/z/v", 512), 0);
    CHECK_EQ(remove_of("x/z/v"), 0);
    CHECK(ft_exists("x/y"));
    ft_stop();
}

static void
test_a_create_that_fails_leaves_nothing(void)
{
    begin();
    if (ft_create("a/b/v", HUGE_BYTES) == 0) {
        CHECK_EQ(remove_of("a/b/v"), 0); /* there are file systems without a limit */
    } else {
        CHECK_TEXT(ft.error.reason, "\"a/b/v\": larger than the file system can hold");
    }
    CHECK(!ft_exists("a"));
    CHECK_EQ(ft_create("v", 512), 0);
    CHECK_EQ(ft_create("v/w", 512), -ENOTDIR);
    CHECK_TEXT(ft.error.reason, "no directory");
    CHECK_EQ(ft_create("d/w", 512), 0);
    CHECK_EQ(ft_create("d", 512), -EEXIST);
    CHECK_TEXT(ft.error.reason, "a directory");
    CHECK_EQ(ft_tmp_count(), 0);
    ft_stop();
}

static void
test_a_name_of_254_bytes(void)
{
    char name[OVSSHM_NAME_BYTES];
    struct ovsshm_volume_info info;
    begin();
    memset(name, 'n', 254);
    name[254] = '\0';
    CHECK_EQ(ft_create(name, 512), 0);
    CHECK_EQ(stat_of(name, &info), 0);
    CHECK_EQ(remove_of(name), 0);
    for (unsigned i = 1; i < 253; i += 2) {
        name[i] = '/'; /* 127 directories deep */
    }
    CHECK_EQ(ft_create(name, 512), 0);
    CHECK_EQ(ovsshm_store_file.volume_list(ft.store, NULL, &info, 1), 1);
    CHECK(!strcmp(info.name, name));
    CHECK_EQ(ovsshm_store_file.snapshot_create(ft.store, name, NULL, "s", 0, &ft.error), 0);
    CHECK_EQ(remove_of(name), 0);
    CHECK(!strcmp(names_by(1), ""));
    CHECK(!ft_exists("n"));
    CHECK(!ft_exists(".openvstorage/snapshots/n"));
    ft_stop();
}

/* "-" < "." < "/" < "0": a directory sorts as if its name ended in "/". */
static void
test_list_is_in_byte_order_and_pages(void)
{
    static const char *const names[] = {"b",     "a/b/c",    "a.b", "a-b",   "a0",
                                        "a/b.c", "\303\244", "Z",   "a/b/a", "a/z"};
    const char *wanted = "Z a-b a.b a/b.c a/b/a a/b/c a/z a0 b \303\244 ";
    struct ovsshm_volume_info info;
    begin();
    CHECK(!strcmp(names_by(16), ""));
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        CHECK_EQ(ft_create(names[i], 512 * (i + 1)), 0);
    }
    for (unsigned page = 1; page <= 16; page++) {
        CHECK(!strcmp(names_by(page), wanted));
    }
    /* After a name that is not there (any more). */
    CHECK_EQ(ovsshm_store_file.volume_list(ft.store, "a/b/b", &info, 1), 1);
    CHECK(!strcmp(info.name, "a/b/c"));
    CHECK_EQ(info.size_bytes, 1024);
    CHECK_EQ(ovsshm_store_file.volume_list(ft.store, "\303\244", &info, 1), 0);
    ft_stop();
}

static void
test_resize_grows_open_and_closed_volumes(void)
{
    struct ovsshm_volume_info info;
    unsigned char byte = 1, data[1536];
    begin();
    struct ovsshm_store_volume *volume = ft_create_open("v", 0);
    CHECK_EQ(volume->size_bytes, 0);
    CHECK_EQ(ovsshm_store_file.volume_resize(ft.store, "v", volume, MIB, &ft.error), 0);
    CHECK_EQ(volume->size_bytes, MIB);
    CHECK_EQ(ft_write(volume, MIB - 1, &byte, 1), 1);
    ft_close(volume);
    CHECK_EQ(ovsshm_store_file.volume_resize(ft.store, "v", NULL, 2 * MIB, &ft.error), 0);
    CHECK_EQ(stat_of("v", &info), 0);
    CHECK_EQ(info.size_bytes, 2 * MIB);
    CHECK_EQ(ovsshm_store_file.volume_resize(ft.store, "none", NULL, MIB, &ft.error), -ENOENT);
    if (ovsshm_store_file.volume_resize(ft.store, "v", NULL, HUGE_BYTES, &ft.error)) {
        CHECK_TEXT(ft.error.reason, "\"v\" to 9223372036854775296 bytes: File too large");
    }
    /* Half a sector at the end is there, though only for a mount, and stays when it grows. */
    int fd = open(ft_path("odd"), O_WRONLY | O_CREAT, 0644);
    memset(data, 7, sizeof(data));
    CHECK_EQ(write(fd, data, 1000), 1000);
    close(fd);
    CHECK_EQ(stat_of("odd", &info), 0);
    CHECK_EQ(info.size_bytes, 1000);
    CHECK_EQ(ovsshm_store_file.volume_resize(ft.store, "odd", NULL, 1536, &ft.error), 0);
    volume = ft_open("odd");
    CHECK_EQ(volume->size_bytes, 1536);
    CHECK_EQ(ft_read(volume, 0, data, 1536), 1536);
    CHECK_EQ(data[999], 7);
    CHECK_EQ(data[1000], 0);
    CHECK_EQ(data[1535], 0);
    ft_close(volume);
    ft_stop();
}

/* ---- what is no volume ----------------------------------------------------------------------- */

static void
check_no_volume(const char *name)
{
    struct ovsshm_volume_info info;
    struct ovsshm_store_volume *volume = NULL;
    CHECK_EQ(stat_of(name, &info), -ENOENT);
    CHECK_EQ(ovsshm_store_file.volume_open(ft.store, name, &volume, &ft.error), -ENOENT);
    CHECK(!volume);
    CHECK_EQ(remove_of(name), -ENOENT);
    CHECK_EQ(ovsshm_store_file.volume_resize(ft.store, name, NULL, MIB, &ft.error), -ENOENT);
    CHECK_EQ(ovsshm_store_file.snapshot_create(ft.store, name, NULL, "s", 0, &ft.error), -ENOENT);
    CHECK_EQ(ovsshm_store_file.snapshot_is_synced(ft.store, name, "s"), -ENOENT);
}

static void
test_links_and_special_files_are_no_volumes(void)
{
    char outside[600], file[620];
    struct stat st;
    begin();
    snprintf(outside, sizeof(outside), "%s-outside", ft.pool);
    snprintf(file, sizeof(file), "%s/file", outside);
    CHECK_EQ(mkdir(outside, 0755), 0);
    close(open(file, O_CREAT | O_WRONLY, 0600));
    CHECK_EQ(truncate(file, 4096), 0);
    make_file("real", 512);
    CHECK_EQ(symlink(file, ft_path("link")), 0);
    CHECK_EQ(symlink("real", ft_path("inside")), 0);
    CHECK_EQ(symlink(outside, ft_path("dirlink")), 0);
    CHECK_EQ(symlink("..", ft_path("up")), 0);
    CHECK_EQ(mkfifo(ft_path("fifo"), 0600), 0);
    CHECK_EQ(mkdir(ft_path("empty"), 0700), 0);
    static const char *const names[] = {"link", "inside", "dirlink", "dirlink/file", "up",
                                        "fifo", "up/x",   "empty",   "real/x",       "none"};
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        check_no_volume(names[i]);
    }
    struct ovsshm_store_volume *volume;
    CHECK_EQ(ovsshm_store_file.volume_open(ft.store, "fifo", &volume, &ft.error), -ENOENT);
    CHECK_TEXT(ft.error.reason, "\"fifo\" is not a regular file");
    CHECK_EQ(ft_create("link", 512), -EEXIST);
    CHECK_EQ(ft_create("dirlink/new", 512), -ENOTDIR);
    CHECK_EQ(ft_create("up/new", 512), -ENOTDIR);
    CHECK(!strcmp(names_by(3), "real "));
    CHECK_EQ(stat(file, &st), 0);
    CHECK_EQ(st.st_size, 4096);
    unlink(file);
    CHECK_EQ(rmdir(outside), 0); /* nothing has appeared in it */
    ft_stop();
}

/* Snapshots are not volumes either, and a link in their place leads nowhere. */
static void
test_own_files_are_hidden_and_not_followed(void)
{
    begin();
    CHECK_EQ(ft_create("v", 512), 0);
    make_file(".hidden", 512);
    make_file("bad\nname", 512);
    CHECK(!strcmp(names_by(3), ".hidden v "));
    CHECK_EQ(symlink("/tmp", ft_path(".openvstorage/snapshots/v")), 0);
    CHECK(ovsshm_store_file.snapshot_create(ft.store, "v", NULL, "s", 0, &ft.error) < 0);
    struct ovsshm_volume_info info;
    CHECK_EQ(stat_of("v", &info), 0);
    CHECK_EQ(info.snapshots, 0);
    ft_stop();
}

/* ---- start ----------------------------------------------------------------------------------- */

static void
check_refused(const char *pool, const char *options, int rc, const char *reason)
{
    CHECK_EQ(ft_try_start(pool, options), rc);
    CHECK(!ft.store);
    CHECK_TEXT(ft.error.reason, reason);
}

static void
test_bad_pools_and_options_are_refused_with_a_reason(void)
{
    char path[600];
    ft_new_pool();
    check_refused(NULL, "", -EINVAL, "needs a pool directory");
    snprintf(path, sizeof(path), "%s/none", ft.pool);
    check_refused(path, "", -ENOENT, "/none does not exist: create it first");
    make_file("file", 0);
    snprintf(path, sizeof(path), "%s/file", ft.pool);
    check_refused(path, "", -ENOTDIR, "/file is not a directory");
    check_refused(ft.pool, "color=red", -EINVAL, "no option \"color\"");
    check_refused(ft.pool, "engine=steam", -EINVAL, "engine=steam of the file store: must be auto");
    check_refused(ft.pool, "direct=maybe", -EINVAL, "must be on or off");
    check_refused(ft.pool, "threads=0", -EINVAL, "must be a number from 1 to 256");
    check_refused(ft.pool, "threads=4x", -EINVAL, "must be a number from 1 to 256");
    unlink(path);
}

static void
test_a_pool_has_one_server(void)
{
    char reason[64];
    ft_new_pool();
    ft_start("");
    struct ovsshm_store *first = ft.store;
    snprintf(reason, sizeof(reason), "in use by another server (pid %d)", (int)getpid());
    check_refused(ft.pool, "", -EBUSY, reason);
    ft.store = first;
    ft_stop();
    ft_start("");
    ft_stop();
}

/* Killed at any moment, it leaves the lock free and unfinished files that the next one removes. */
static void
test_a_killed_server_leaves_no_lock_and_no_leftovers(void)
{
    int ready[2];
    char byte;
    ft_new_pool();
    CHECK_EQ(pipe(ready), 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (ft_try_start(ft.pool, "") || ft_create("v", MIB) || write(ready[1], "r", 1) != 1) {
            _exit(1);
        }
        pause();
    }
    CHECK_EQ(read(ready[0], &byte, 1), 1);
    CHECK_EQ(kill(child, SIGKILL), 0);
    CHECK_EQ(waitpid(child, NULL, 0), child);
    make_file(".openvstorage/tmp/17", MIB);
    CHECK_EQ(ft_tmp_count(), 1);
    ft_start("");
    CHECK_EQ(ft_tmp_count(), 0);
    CHECK(!strcmp(names_by(3), "v "));
    ft_stop();
    close(ready[0]);
    close(ready[1]);
}

/* In a child, which may give up its rights and mounts without us. */
static void
in_child(void (*fn)(void))
{
    int status;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        test_cleanup_count = 0;
        test_directory[0] = '\0';
        fn();
        _exit(0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void
start_read_only(void)
{
    CHECK_EQ(unshare(CLONE_NEWNS), 0);
    CHECK_EQ(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    CHECK_EQ(mount(ft.pool, ft.pool, NULL, MS_BIND, NULL), 0);
    CHECK_EQ(mount(NULL, ft.pool, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL), 0);
    check_refused(ft.pool, "", -EROFS, "is on a read-only file system");
}

static void
start_as_nobody(void)
{
    CHECK_EQ(setuid(65534), 0);
    check_refused(ft.pool, "", -EACCES, "no permission to write in it");
}

static void
test_a_pool_that_cannot_be_written_is_refused(void)
{
    ft_new_pool();
    if (geteuid() != 0) {
        printf("skipped: needs root\n");
        return;
    }
    in_child(start_read_only);
    CHECK_EQ(chmod(ft_parent(), 0755), 0);
    in_child(start_as_nobody);
}

int
main(void)
{
    test_begin(120);
    umask(022);
    RUN(test_a_volume_is_a_sparse_file_of_its_name);
    RUN(test_directories_come_and_go);
    RUN(test_a_create_that_fails_leaves_nothing);
    RUN(test_a_name_of_254_bytes);
    RUN(test_list_is_in_byte_order_and_pages);
    RUN(test_resize_grows_open_and_closed_volumes);
    RUN(test_links_and_special_files_are_no_volumes);
    RUN(test_own_files_are_hidden_and_not_followed);
    RUN(test_bad_pools_and_options_are_refused_with_a_reason);
    RUN(test_a_pool_has_one_server);
    RUN(test_a_killed_server_leaves_no_lock_and_no_leftovers);
    RUN(test_a_pool_that_cannot_be_written_is_refused);
    return 0;
}
