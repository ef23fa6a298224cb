/* SPDX-License-Identifier: MIT */
/*
 * Snapshots of the file store: contents, order, rollback under an open volume, time limits, and
 * what is left when something goes wrong.
 */
#define _GNU_SOURCE
#include "file_test.h"

#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>

#define MIB (1024u * 1024)

/* ---- the kernel's calls, with faults on request ---------------------------------------------- */

static struct {
    bool no_reflink; /* ioctl: as on a file system without */
    int copy_error;  /* of the next copy_file_range */
    unsigned copies;
    time_t seconds_per_copy; /* how fast the clock runs */
    time_t clock_ahead;
} fault;

int
ioctl(int fd, unsigned long request, ...)
{
    va_list args;
    va_start(args, request);
    unsigned long value = va_arg(args, unsigned long);
    va_end(args);
    if (fault.no_reflink) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return (int)syscall(SYS_ioctl, fd, request, value);
}

ssize_t
copy_file_range(int from, off64_t *in, int to, off64_t *out, size_t bytes, unsigned flags)
{
    fault.copies++;
    fault.clock_ahead += fault.seconds_per_copy;
    if (fault.copy_error) {
        errno = fault.copy_error;
        return -1;
    }
    return syscall(SYS_copy_file_range, from, in, to, out, bytes, flags);
}

int
clock_gettime(clockid_t clock, struct timespec *now)
{
    int rc = (int)syscall(SYS_clock_gettime, clock, now);
    now->tv_sec += fault.clock_ahead;
    return rc;
}

/* ---- helpers --------------------------------------------------------------------------------- */

static struct ovsshm_store_volume *volume;

static void
begin(void)
{
    ft_new_pool();
    ft_start("");
    volume = ft_create_open("dir/v", 4 * MIB);
    memset(&fault, 0, sizeof(fault));
}

static void
end(void)
{
    ft_close(volume);
    ft_stop();
}

static int
snap(const char *name)
{
    return ovsshm_store_file.snapshot_create(ft.store, "dir/v", volume, name, 0, &ft.error);
}

static int
roll_back(const char *name)
{
    return ovsshm_store_file.snapshot_rollback(ft.store, "dir/v", volume, name, &ft.error);
}

static void
fill(unsigned char value, uint64_t offset, uint32_t bytes)
{
    unsigned char *data = ft_buffer(bytes);
    memset(data, value, bytes);
    CHECK_EQ(ft_write(volume, offset, data, bytes), bytes);
    free(data);
}

static int
byte_at(uint64_t offset)
{
    unsigned char *data = ft_buffer(512);
    CHECK_EQ(ft_read(volume, offset, data, 512), 512);
    int value = data[0];
    free(data);
    return value;
}

static const char *
snapshots_by(unsigned page)
{
    static char text[8192];
    struct ovsshm_snapshot_info infos[8];
    char after[OVSSHM_NAME_BYTES] = "";
    int64_t last_ns = 0;
    int count;
    text[0] = '\0';
    while ((count = ovsshm_store_file.snapshot_list(ft.store, "dir/v", after, infos, page)) > 0) {
        for (int i = 0; i < count; i++) {
            strcat(strcat(text, infos[i].name), " ");
            CHECK(infos[i].created_ns > last_ns);
            last_ns = infos[i].created_ns;
        }
        strcpy(after, infos[count - 1].name);
    }
    CHECK_EQ(count, 0);
    return text;
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void
contents_and_size_come_back(void)
{
    struct ovsshm_snapshot_info info;
    fill(1, 0, MIB);
    CHECK_EQ(snap("one"), 0);
    fill(2, 0, MIB);
    fill(2, 2 * MIB, MIB);
    CHECK_EQ(ovsshm_store_file.volume_resize(ft.store, "dir/v", volume, 8 * MIB, &ft.error), 0);
    CHECK_EQ(snap("two"), 0);
    fill(3, 0, 8 * MIB);
    CHECK_EQ(ft_flush(volume), 0);
    CHECK_EQ(ovsshm_store_file.snapshot_list(ft.store, "dir/v", NULL, &info, 1), 1);
    CHECK_EQ(info.size_bytes, 4 * MIB);

    CHECK_EQ(roll_back("two"), 0);
    CHECK_EQ(volume->size_bytes, 8 * MIB);
    CHECK_EQ(byte_at(0), 2);
    CHECK_EQ(byte_at(MIB), 0);
    CHECK_EQ(byte_at(3 * MIB - 512), 2);
    CHECK_EQ(byte_at(3 * MIB), 0);
    fill(4, 0, MIB);
    CHECK_EQ(roll_back("one"), 0);
    CHECK_EQ(volume->size_bytes, 4 * MIB);
    CHECK_EQ(byte_at(0), 1);
    CHECK_EQ(byte_at(2 * MIB), 0);
    CHECK(!strcmp(snapshots_by(8), "one "));
    /* The snapshot has not become the volume: it can be gone back to again. */
    fill(5, 0, MIB);
    CHECK_EQ(roll_back("one"), 0);
    CHECK_EQ(byte_at(0), 1);
    CHECK_EQ(ft_flush(volume), 0);
    CHECK_EQ(ft_tmp_count(), 0);
    /* What the open volume reads is what a new opening reads. */
    ft_close(volume);
    volume = ft_open("dir/v");
    CHECK_EQ(volume->size_bytes, 4 * MIB);
    CHECK_EQ(byte_at(0), 1);
}

static void
test_contents_and_size_come_back(void)
{
    begin();
    contents_and_size_come_back();
    end();
}

static void
test_contents_and_size_come_back_without_reflink(void)
{
    begin();
    fault.no_reflink = true;
    contents_and_size_come_back();
    CHECK(fault.copies > 0);
    end();
}

static void
test_contents_and_size_come_back_with_direct_io(void)
{
    begin();
    end();
    if (ft_try_start(ft.pool, "direct=on")) {
        printf("skipped: %s\n", ft.error.reason);
        return;
    }
    CHECK_EQ(ovsshm_store_file.group_create(ft.store, &ft.group), 0);
    volume = ft_open("dir/v");
    contents_and_size_come_back();
    end();
}

static void
test_copies_stay_sparse(void)
{
    struct ovsshm_snapshot_info info;
    struct ovsshm_volume_info stat;
    begin();
    fault.no_reflink = true;
    CHECK_EQ(ovsshm_store_file.volume_resize(ft.store, "dir/v", volume, 1ull << 40, &ft.error), 0);
    fill(1, (1ull << 40) - MIB, MIB);
    fill(1, 512ull << 30, MIB);
    CHECK_EQ(snap("s"), 0);
    CHECK_EQ(ovsshm_store_file.snapshot_list(ft.store, "dir/v", NULL, &info, 1), 1);
    CHECK_EQ(info.size_bytes, 1ull << 40);
    CHECK(info.allocated_bytes >= 2 * MIB && info.allocated_bytes < 3 * MIB);
    CHECK_EQ(roll_back("s"), 0);
    CHECK_EQ(ovsshm_store_file.volume_stat(ft.store, "dir/v", &stat), 0);
    CHECK(stat.allocated_bytes >= 2 * MIB && stat.allocated_bytes < 3 * MIB);
    CHECK_EQ(stat.snapshots, 1);
    CHECK_EQ(byte_at(512ull << 30), 1);
    CHECK_EQ(byte_at((1ull << 40) - 512), 1);
    end();
}

static void
test_list_is_oldest_first_whatever_the_clock_says(void)
{
    begin();
    CHECK_EQ(snap("z"), 0);
    CHECK_EQ(snap("y"), 0);
    fault.clock_ahead = -1000; /* somebody sets the clock back */
    CHECK_EQ(snap("x"), 0);
    CHECK_EQ(snap("a"), 0);
    fault.clock_ahead = 1000;
    CHECK_EQ(snap("m"), 0);
    fault.clock_ahead = 0;
    CHECK_EQ(snap("b"), 0);
    for (unsigned page = 1; page <= 8; page++) {
        CHECK(!strcmp(snapshots_by(page), "z y x a m b "));
    }
    CHECK_EQ(roll_back("x"), 0);
    CHECK(!strcmp(snapshots_by(8), "z y x "));
    CHECK_EQ(ovsshm_store_file.snapshot_remove(ft.store, "dir/v", "y", &ft.error), 0);
    CHECK(!strcmp(snapshots_by(8), "z x "));
    end();
}

static void
test_errors_name_volume_and_snapshot(void)
{
    struct ovsshm_snapshot_info info;
    begin();
    CHECK_EQ(snap("s"), 0);
    CHECK_EQ(snap("s"), -EEXIST);
    CHECK_TEXT(ft.error.reason, "snapshot \"s\" of volume \"dir/v\": File exists");
    CHECK_EQ(roll_back("t"), -ENOENT);
    CHECK_TEXT(ft.error.reason, "volume \"dir/v\" has no snapshot \"t\"");
    CHECK_EQ(ovsshm_store_file.snapshot_remove(ft.store, "dir/v", "t", &ft.error), -ENOENT);
    CHECK_TEXT(ft.error.reason, "volume \"dir/v\" has no snapshot \"t\"");
    CHECK_EQ(ovsshm_store_file.snapshot_remove(ft.store, "none", "s", &ft.error), -ENOENT);
    CHECK_TEXT(ft.error.reason, "volume \"none\": No such");
    CHECK_EQ(ovsshm_store_file.snapshot_create(ft.store, "none", NULL, "s", 0, &ft.error), -ENOENT);
    CHECK_EQ(ovsshm_store_file.snapshot_rollback(ft.store, "none", NULL, "s", &ft.error), -ENOENT);
    CHECK_EQ(ovsshm_store_file.snapshot_list(ft.store, "none", NULL, &info, 1), -ENOENT);
    CHECK_EQ(ovsshm_store_file.snapshot_list(ft.store, "dir/v", "t", &info, 1), -ENOENT);
    CHECK_EQ(ovsshm_store_file.snapshot_is_synced(ft.store, "dir/v", "s"), 1);
    CHECK_EQ(ovsshm_store_file.snapshot_is_synced(ft.store, "dir/v", "t"), -ENOENT);
    CHECK_EQ(ovsshm_store_file.snapshot_is_synced(ft.store, "none", "s"), -ENOENT);
    CHECK(!strcmp(snapshots_by(8), "s "));
    end();
}

static void
test_removing_all_leaves_no_trace(void)
{
    begin();
    CHECK_EQ(snap("s"), 0);
    CHECK(ft_exists(".openvstorage/snapshots/dir/v/s"));
    CHECK_EQ(ovsshm_store_file.snapshot_remove(ft.store, "dir/v", "s", &ft.error), 0);
    CHECK(!ft_exists(".openvstorage/snapshots/dir"));
    CHECK_EQ(snap("s"), 0);
    CHECK_EQ(snap("t"), 0);
    ft_close(volume);
    CHECK_EQ(ovsshm_store_file.volume_remove(ft.store, "dir/v", &ft.error), 0);
    CHECK(!ft_exists(".openvstorage/snapshots/dir"));
    CHECK(!ft_exists("dir"));
    /* A remove cut short after the volume: the next volume of that name is without snapshots. */
    volume = ft_create_open("dir/v", MIB);
    CHECK_EQ(snap("old"), 0);
    ft_close(volume);
    CHECK_EQ(unlink(ft_path("dir/v")), 0);
    volume = ft_create_open("dir/v", MIB);
    CHECK(!strcmp(snapshots_by(8), ""));
    end();
}

static void
test_a_copy_that_takes_too_long_is_given_up(void)
{
    begin();
    fault.no_reflink = true;
    for (unsigned i = 0; i < 4; i++) {
        fill(1, i * MIB, MIB / 2); /* four pieces, so at least four looks at the clock */
    }
    fault.seconds_per_copy = 2;
    CHECK_EQ(ovsshm_store_file.snapshot_create(ft.store, "dir/v", volume, "s", 3, &ft.error),
             -ETIMEDOUT);
    CHECK_EQ(fault.copies, 2);
    CHECK_TEXT(ft.error.reason, "\"s\"");
    CHECK(!strcmp(snapshots_by(8), ""));
    CHECK_EQ(ft_tmp_count(), 0);
    CHECK(!ft_exists(".openvstorage/snapshots/dir"));
    CHECK_EQ(ovsshm_store_file.snapshot_create(ft.store, "dir/v", volume, "s", 0, &ft.error), 0);
    CHECK_EQ(ovsshm_store_file.snapshot_create(ft.store, "dir/v", volume, "t", -1, &ft.error), 0);
    CHECK_EQ(ovsshm_store_file.snapshot_create(ft.store, "dir/v", volume, "u", INT64_MAX, NULL), 0);
    end();
}

static void
test_a_full_disk_leaves_nothing_behind(void)
{
    begin();
    fill(1, 0, MIB);
    CHECK_EQ(snap("s"), 0);
    fill(2, 0, MIB);
    fault.no_reflink = true;
    fault.copy_error = ENOSPC;
    CHECK_EQ(snap("t"), -ENOSPC);
    CHECK_TEXT(ft.error.reason, "No space left");
    CHECK_EQ(roll_back("s"), -ENOSPC);
    CHECK_EQ(ft_tmp_count(), 0);
    CHECK(!strcmp(snapshots_by(8), "s "));
    CHECK_EQ(byte_at(0), 2);
    end();
}

static void
test_rollback_keeps_owner_and_mode(void)
{
    struct stat st;
    begin();
    CHECK_EQ(chmod(ft_path("dir/v"), 0640), 0);
    if (geteuid() == 0) {
        CHECK_EQ(chown(ft_path("dir/v"), 12, 34), 0);
    }
    CHECK_EQ(snap("s"), 0);
    CHECK_EQ(roll_back("s"), 0);
    CHECK_EQ(stat(ft_path("dir/v"), &st), 0);
    CHECK_EQ(st.st_mode & 07777, 0640);
    CHECK_EQ(st.st_gid, geteuid() == 0 ? 34 : getegid());
    end();
}

static void
test_closed_volumes_have_snapshots_too(void)
{
    begin();
    fill(1, 0, MIB);
    ft_close(volume);
    volume = NULL;
    CHECK_EQ(snap("s"), 0);
    volume = ft_open("dir/v");
    fill(2, 0, MIB);
    ft_close(volume);
    volume = NULL;
    CHECK_EQ(roll_back("s"), 0);
    volume = ft_open("dir/v");
    CHECK_EQ(byte_at(0), 1);
    end();
}

int
main(void)
{
    test_begin(120);
    RUN(test_contents_and_size_come_back);
    RUN(test_contents_and_size_come_back_without_reflink);
    RUN(test_contents_and_size_come_back_with_direct_io);
    RUN(test_copies_stay_sparse);
    RUN(test_list_is_oldest_first_whatever_the_clock_says);
    RUN(test_errors_name_volume_and_snapshot);
    RUN(test_removing_all_leaves_no_trace);
    RUN(test_a_copy_that_takes_too_long_is_given_up);
    RUN(test_a_full_disk_leaves_nothing_behind);
    RUN(test_rollback_keeps_owner_and_mode);
    RUN(test_closed_volumes_have_snapshots_too);
    return 0;
}
