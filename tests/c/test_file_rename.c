/* SPDX-License-Identifier: MIT */
/*
 * Volumes of the file store under other names and of other sizes: what goes with them, what stays,
 * and what is made of a rename that a crash has cut short at each of its steps.
 */
#define _GNU_SOURCE
#include <sys/resource.h>

#include "file_test.h"

#define MIB (1024u * 1024)
#define INTENTION ".openvstorage/tmp/rename"

static void
begin(void)
{
    ft_new_pool();
    ft_start("");
}

static void
restart(void)
{
    ft_stop();
    ft_start("");
}

static int
rename_of(const char *from, const char *to)
{
    ft.error.reason[0] = '\0';
    return ovsshm_store_file.volume_rename(ft.store, from, to, &ft.error);
}

static int
truncate_of(const char *name, struct ovsshm_store_volume *open, uint64_t size_bytes)
{
    return ovsshm_store_file.volume_truncate(ft.store, name, open, size_bytes, &ft.error);
}

/* A volume whose bytes are all `byte`. */
static void
make(const char *name, char byte)
{
    char data[512];
    struct ovsshm_store_volume *volume = ft_create_open(name, sizeof(data));
    memset(data, byte, sizeof(data));
    CHECK_EQ(ft_write(volume, 0, data, sizeof(data)), sizeof(data));
    ft_close(volume);
}

static char
byte_of(const char *name)
{
    char data[512];
    struct ovsshm_store_volume *volume = ft_open(name);
    CHECK_EQ(ft_read(volume, 0, data, sizeof(data)), sizeof(data));
    ft_close(volume);
    return data[511];
}

static void
snapshot(const char *volume, const char *name)
{
    CHECK_EQ(ovsshm_store_file.snapshot_create(ft.store, volume, NULL, name, 0, &ft.error), 0);
}

/* The names of its snapshots, each followed by a space. */
static const char *
snapshots_of(const char *volume)
{
    static char text[1024];
    struct ovsshm_snapshot_info infos[4];
    int count = ovsshm_store_file.snapshot_list(ft.store, volume, NULL, infos, 4);
    CHECK(count >= 0);
    text[0] = '\0';
    for (int i = 0; i < count; i++) {
        strcat(strcat(text, infos[i].name), " ");
    }
    return text;
}

#define CHECK_SNAPSHOTS(volume, names) CHECK_EQ(strcmp(snapshots_of(volume), names), 0)

/* ---- rename -------------------------------------------------------------------------------------
 */

static void
test_rename_takes_snapshots_along(void)
{
    begin();
    make("a/b/one", '1');
    make("two", '2');
    snapshot("a/b/one", "s1");
    snapshot("a/b/one", "s2");
    snapshot("two", "lost");
    CHECK_EQ(rename_of("a/b/one", "two"), 0);
    CHECK(!ft_exists("a")); /* directories go with the last volume in them */
    CHECK_EQ(byte_of("two"), '1');
    CHECK_SNAPSHOTS("two", "s1 s2 ");
    CHECK_EQ(rename_of("two", "x/y/three"), 0);
    CHECK_EQ(byte_of("x/y/three"), '1');
    CHECK_SNAPSHOTS("x/y/three", "s1 s2 ");
    CHECK(!ft_exists(".openvstorage/snapshots/two"));
    make("two", '2'); /* as if it had never been */
    CHECK_SNAPSHOTS("two", "");
    CHECK_EQ(rename_of("two", "x/y/three"), 0); /* one without snapshots over one with some */
    CHECK_SNAPSHOTS("x/y/three", "");
    CHECK_EQ(byte_of("x/y/three"), '2');
    CHECK_EQ(ft_tmp_count(), 0);
    ft_stop();
}

static void
test_rename_refuses_what_is_no_volume(void)
{
    begin();
    make("vol", 'v');
    snapshot("vol", "s");
    CHECK_EQ(mkdir(ft_path("directory"), 0700), 0);
    CHECK_EQ(symlink("vol", ft_path("link")), 0);
    CHECK_EQ(rename_of("none", "other"), -ENOENT);
    CHECK_EQ(rename_of("link", "other"), -ENOENT);
    CHECK_EQ(rename_of("directory", "other"), -ENOENT);
    CHECK_EQ(rename_of("vol", "link"), -EEXIST);
    CHECK_TEXT(ft.error.reason, "\"link\" exists and is no volume");
    CHECK_EQ(rename_of("vol", "directory"), -EEXIST);
    CHECK_EQ(rename_of("vol", "vol/below"), -ENOTDIR);
    CHECK_TEXT(ft.error.reason, "cannot rename volume \"vol\" to \"vol/below\"");
    CHECK_EQ(byte_of("vol"), 'v');
    CHECK_SNAPSHOTS("vol", "s ");
    CHECK_EQ(ft_tmp_count(), 0);
    ft_stop();
}

static void
test_directories_are_the_users_of_a_mount(void)
{
    begin();
    ovsshm_store_file.set_mounted(ft.store, true);
    make("d/one", '1');
    snapshot("d/one", "s");
    CHECK_EQ(rename_of("d/one", "e/one"), 0);
    CHECK(ft_exists("d"));
    CHECK(!ft_exists(".openvstorage/snapshots/d")); /* nobody sees that one */
    CHECK_EQ(ovsshm_store_file.volume_remove(ft.store, "e/one", &ft.error), 0);
    CHECK(ft_exists("e"));
    ovsshm_store_file.set_mounted(ft.store, false);
    make("d/one", '1');
    CHECK_EQ(ovsshm_store_file.volume_remove(ft.store, "d/one", &ft.error), 0);
    CHECK(!ft_exists("d"));
    ft_stop();
}

/* ---- a rename cut short
 * -------------------------------------------------------------------------- */

/* What is written down before the first step. */
static void
intend(const char *text)
{
    int fd = open(ft_path(INTENTION), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK_EQ(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void
move(const char *from, const char *to)
{
    char old[1024];
    strcpy(old, ft_path(from));
    CHECK_EQ(rename(old, ft_path(to)), 0);
}

static void
begin_with_two(void)
{
    begin();
    make("from", 'f');
    make("to", 't');
    snapshot("from", "of from");
    snapshot("to", "of to");
}

static void
check_done(void)
{
    CHECK(!ft_exists("from"));
    CHECK(!ft_exists(".openvstorage/snapshots/from"));
    CHECK_EQ(byte_of("to"), 'f');
    CHECK_SNAPSHOTS("to", "of from ");
    CHECK_EQ(ft_tmp_count(), 0);
    ft_stop();
}

static void
test_crash_before_the_volume_has_moved(void)
{
    begin_with_two();
    intend("from\nto\n1\n");
    restart();
    CHECK_EQ(byte_of("from"), 'f');
    CHECK_EQ(byte_of("to"), 't');
    CHECK_SNAPSHOTS("from", "of from ");
    CHECK_SNAPSHOTS("to", "of to ");
    CHECK_EQ(ft_tmp_count(), 0);
    ft_stop();
}

static void
test_crash_when_the_volume_has_moved(void)
{
    begin_with_two();
    intend("from\nto\n1\n");
    move("from", "to");
    restart();
    check_done();
}

static void
test_crash_when_old_snapshots_are_gone(void)
{
    begin_with_two();
    intend("from\nto\n1\n");
    move("from", "to");
    CHECK_EQ(unlink(ft_path(".openvstorage/snapshots/to/of to")), 0);
    restart();
    check_done();
}

static void
test_crash_when_snapshots_have_moved(void)
{
    begin_with_two();
    intend("from\nto\n1\n");
    move("from", "to");
    CHECK_EQ(unlink(ft_path(".openvstorage/snapshots/to/of to")), 0);
    CHECK_EQ(rmdir(ft_path(".openvstorage/snapshots/to")), 0);
    move(".openvstorage/snapshots/from", ".openvstorage/snapshots/to");
    restart();
    check_done();
}

static void
test_crash_of_one_that_had_no_snapshots(void)
{
    begin();
    make("from", 'f');
    make("to", 't');
    snapshot("to", "of to");
    intend("from\nto\n0\n");
    move("from", "to");
    restart();
    CHECK_EQ(byte_of("to"), 'f');
    CHECK_SNAPSHOTS("to", "");
    ft_stop();
}

static void
test_crash_with_spaces_in_the_names(void)
{
    begin();
    make("to", 't');
    snapshot("to", "of to");
    make("  from", 'f');
    make(" to", 'o');
    snapshot(" to", "old");
    intend("  from\n to\n0\n");
    move("  from", " to");
    restart();
    CHECK_EQ(byte_of(" to"), 'f');
    CHECK_SNAPSHOTS(" to", "");
    CHECK_SNAPSHOTS("to", "of to ");
    CHECK_EQ(ft_tmp_count(), 0);
    ft_stop();
}

static void
test_rename_finishes_one_that_has_failed(void)
{
    begin_with_two();
    make("one", '1');
    snapshot("one", "s");
    intend("from\nto\n1\n");
    move("from", "to");
    CHECK_EQ(rename_of("one", "two"), 0);
    CHECK_EQ(byte_of("two"), '1');
    CHECK_SNAPSHOTS("two", "s ");
    check_done();
}

/* Without descriptors nobody can tell whether there are snapshots: then nothing moves. */
static void
test_rename_without_descriptors_changes_nothing(void)
{
    struct rlimit before, none = {0, 0};
    begin_with_two();
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    none.rlim_max = before.rlim_max;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    int rc = rename_of("from", "to");
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    CHECK_EQ(rc, -EMFILE);
    CHECK_EQ(byte_of("from"), 'f');
    CHECK_EQ(byte_of("to"), 't');
    CHECK_SNAPSHOTS("from", "of from ");
    CHECK_SNAPSHOTS("to", "of to ");
    ft_stop();
}

static void
test_intention_that_cannot_be_read_is_refused(void)
{
    begin();
    ft_stop();
    intend("from\n");
    CHECK_EQ(ft_try_start(ft.pool, ""), -EIO);
    CHECK_TEXT(ft.error.reason, "cannot finish a rename");
    CHECK_EQ(unlink(ft_path(INTENTION)), 0);
    ft_start("");
    ft_stop();
}

/* ---- sizes
 * --------------------------------------------------------------------------------------- */

static void
test_truncate_cuts_and_zeroes(void)
{
    unsigned char *data = ft_buffer(MIB);
    struct ovsshm_store_volume *volume = ft_create_open("v", MIB);
    struct ovsshm_volume_info info;
    uint32_t block = volume->block_bytes;
    memset(data, 7, MIB);
    CHECK_EQ(ft_write(volume, 0, data, MIB), MIB);
    CHECK_EQ(truncate_of("v", volume, 1000), 0);
    CHECK_EQ(volume->size_bytes, 1000);
    CHECK_EQ(ft_flush(volume), 0);
    CHECK_EQ(truncate_of("v", volume, MIB), 0);
    CHECK_EQ(ft_read(volume, 0, data, 4096), 4096);
    CHECK_EQ(data[999], 7);
    CHECK_EQ(data[1000], 0);
    CHECK_EQ(ft_flush(volume), 0);
    CHECK_EQ(truncate_of("v", volume, MIB + 3), 0);
    CHECK_EQ(ft_write(volume, MIB, "end", 3), 3); /* what is not a block, at the end */
    CHECK_EQ(ft_read(volume, MIB, data, 3), 3);
    CHECK(!memcmp(data, "end", 3));
    CHECK(block == 1 || MIB % block == 0);
    ft_close(volume);
    CHECK_EQ(truncate_of("v", NULL, 5), 0);
    CHECK_EQ(ovsshm_store_file.volume_stat(ft.store, "v", &info), 0);
    CHECK_EQ(info.size_bytes, 5);
    CHECK_EQ(truncate_of("none", NULL, 5), -ENOENT);
    CHECK_EQ(ovsshm_store_file.volume_remove(ft.store, "v", &ft.error), 0);
    free(data);
}

int
main(void)
{
    test_begin(120);
    RUN(test_rename_takes_snapshots_along);
    RUN(test_rename_refuses_what_is_no_volume);
    RUN(test_directories_are_the_users_of_a_mount);
    RUN(test_crash_before_the_volume_has_moved);
    RUN(test_crash_when_the_volume_has_moved);
    RUN(test_crash_when_old_snapshots_are_gone);
    RUN(test_crash_when_snapshots_have_moved);
    RUN(test_crash_of_one_that_had_no_snapshots);
    RUN(test_crash_with_spaces_in_the_names);
    RUN(test_rename_finishes_one_that_has_failed);
    RUN(test_rename_without_descriptors_changes_nothing);
    RUN(test_intention_that_cannot_be_read_is_refused);
    EACH_WAY(test_truncate_cuts_and_zeroes);
    return 0;
}
