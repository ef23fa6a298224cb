/* SPDX-License-Identifier: MIT */
/*
 * The file store on tmpfs, ext4, xfs and btrfs: its other test programs on each of them, reflinks
 * where there are reflinks, and a disk that is full.
 *
 * The mounts are in a mount namespace of our own, on loop devices that clear themselves, of images
 * that have no name any more: whatever ends this program, nothing is left.
 */
#define _GNU_SOURCE
#include "file_test.h"

#include <libgen.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define MIB (1024u * 1024)
#define SMALL_MIB 24

static char mount_point[128];

/* The exit code of a program; its output goes to ours or nowhere. */
static int
run(const char *const *argv, bool quiet)
{
    int status;
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (quiet) {
            int null = open("/dev/null", O_WRONLY);
            dup2(null, 1);
            dup2(null, 2);
        }
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/* Also at exit after a failure, when there may be nothing to unmount. */
static void
unmount(void *arg)
{
    (void)arg;
    ft_remove_pool(NULL);
    (void)umount2(mount_point, MNT_DETACH);
}

/* A fresh file system of that type at mount_point, or the reason why there is none. */
static const char *
mount_new(const char *type, unsigned size_mib)
{
    char size[32];
    if (!strcmp(type, "tmpfs")) {
        snprintf(size, sizeof(size), "size=%um", size_mib);
        return mount("none", mount_point, "tmpfs", 0, size) ? "cannot mount it" : NULL;
    }
    char mkfs[32];
    char *image = test_path("image");
    snprintf(mkfs, sizeof(mkfs), "mkfs.%s", type);
    int fd = open(image, O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0);
    CHECK_EQ(ftruncate(fd, (off_t)size_mib * MIB), 0);
    close(fd);
    const char *why = NULL;
    if (run((const char *[]){mkfs, "-q", image, NULL}, true)) {
        why = "mkfs failed or is not installed";
    } else if (run((const char *[]){"mount", "-t", type, "-o", "loop", image, mount_point, NULL},
                   true)) {
        why = "cannot mount a loop device";
    }
    CHECK_EQ(unlink(image), 0);
    free(image);
    return why;
}

/* ---- the other programs ---------------------------------------------------------------------- */

static void
check_program(const char *name)
{
    char self[512], path[600];
    ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
    CHECK(length > 0);
    self[length] = '\0';
    snprintf(path, sizeof(path), "%s/%s", dirname(self), name);
    CHECK_EQ(run((const char *[]){path, NULL}, false), 0);
}

static void
check_programs(void)
{
    CHECK_EQ(setenv("FILE_TEST_DIR", mount_point, 1), 0);
    check_program("test_file_names");
    check_program("test_file_io");
    check_program("test_file_snapshot");
    check_program("test_file_crash");
}

/* ---- reflink --------------------------------------------------------------------------------- */

static bool
first_extent_is_shared(const char *path)
{
    struct fiemap *map = calloc(1, sizeof(*map) + sizeof(map->fm_extents[0]));
    int fd = open(path, O_RDONLY);
    CHECK(map && fd >= 0);
    map->fm_length = FIEMAP_MAX_OFFSET;
    map->fm_flags = FIEMAP_FLAG_SYNC;
    map->fm_extent_count = 1;
    CHECK_EQ(ioctl(fd, FS_IOC_FIEMAP, map), 0);
    CHECK_EQ(map->fm_mapped_extents, 1);
    bool shared = map->fm_extents[0].fe_flags & FIEMAP_EXTENT_SHARED;
    close(fd);
    free(map);
    return shared;
}

static void
check_reflink(void)
{
    enum {
        SIZE = 8 * MIB
    };
    ft_new_pool();
    ft_start("");
    struct ovsshm_store_volume *volume = ft_create_open("v", SIZE);
    unsigned char *data = ft_buffer(SIZE);
    memset(data, 1, SIZE);
    CHECK_EQ(ft_write(volume, 0, data, SIZE), SIZE);
    CHECK_EQ(ft_flush(volume), 0);
    CHECK(!first_extent_is_shared(ft_path("v")));
    CHECK_EQ(ovsshm_store_file.snapshot_create(ft.store, "v", volume, "s", 0, &ft.error), 0);
    CHECK(first_extent_is_shared(ft_path("v")));
    CHECK_EQ(ft_write(volume, 0, data, SIZE), SIZE);
    CHECK_EQ(ft_flush(volume), 0);
    CHECK(!first_extent_is_shared(ft_path("v")));
    CHECK_EQ(ovsshm_store_file.snapshot_rollback(ft.store, "v", volume, "s", &ft.error), 0);
    CHECK(first_extent_is_shared(ft_path("v")));
    ft_close(volume);
    ft_stop();
    free(data);
}

/* ---- a full disk ----------------------------------------------------------------------------- */

/* Writes until there is no room; how many MiB went in. */
static unsigned
fill_disk(struct ovsshm_store_volume *volume, unsigned char *data)
{
    for (unsigned i = 0; i < volume->size_bytes / MIB; i++) {
        memset(data, (int)i + 1, MIB);
        int32_t result = ft_write(volume, (uint64_t)i * MIB, data, MIB);
        if (result != (int32_t)MIB) {
            CHECK_EQ(result, -ENOSPC);
            return i;
        }
    }
    CHECK(!"the disk is never full");
    return 0;
}

static void
check_contents(struct ovsshm_store_volume *volume, unsigned char *data, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        CHECK_EQ(ft_read(volume, (uint64_t)i * MIB, data, MIB), MIB);
        CHECK_EQ(data[0], i + 1);
        CHECK_EQ(data[MIB - 1], i + 1);
    }
}

static void
test_a_full_disk(void)
{
    unsigned char *data = ft_buffer(MIB);
    struct ovsshm_store_volume *volume = ft_create_open("v", 2 * SMALL_MIB * MIB);
    unsigned count = fill_disk(volume, data);
    CHECK(count > 1);
    check_contents(volume, data, count);
    CHECK_EQ(ft_flush(volume), 0);
    CHECK_EQ(ovsshm_store_file.snapshot_create(ft.store, "v", volume, "s", 0, &ft.error), -ENOSPC);
    CHECK_EQ(ft_tmp_count(), 0);
    CHECK_EQ(ft_run(volume, OVSSHM_OP_WRITE_ZEROES, 0, (SMALL_MIB + 8) * MIB, NULL, 8 * MIB),
             -ENOSPC);
    check_contents(volume, data, count);
    /* What is given back can be used again. */
    CHECK_EQ(ft_run(volume, OVSSHM_OP_DISCARD, 0, (count - 2) * MIB, NULL, 2 * MIB), 0);
    memset(data, (int)count, MIB);
    CHECK_EQ(ft_write(volume, (count - 1) * MIB, data, MIB), MIB);
    CHECK_EQ(ft_flush(volume), 0);
    check_contents(volume, data, count - 2);
    fill_disk(volume, data);
    ft_close(volume);
    free(data);
}

/* On a full disk the server starts, and what is there can be removed. */
static void
check_start_when_full(void)
{
    unsigned char *data = ft_buffer(MIB);
    ft_new_pool();
    ft_start("");
    struct ovsshm_store_volume *volume = ft_create_open("v", 2 * SMALL_MIB * MIB);
    unsigned count = fill_disk(volume, data);
    ft_close(volume);
    ft_stop();
    int fd = open(ft_path("ballast"), O_WRONLY | O_CREAT, 0600);
    while (write(fd, data, 4096) > 0) {
    }
    close(fd);
    ft_start("");
    volume = ft_open("v");
    check_contents(volume, data, count);
    ft_close(volume);
    CHECK_EQ(ovsshm_store_file.volume_remove(ft.store, "v", &ft.error), 0);
    ft_stop();
    free(data);
}

/* ---- all of it ------------------------------------------------------------------------------- */

static void
check_type(const char *type, unsigned size_mib, bool has_reflink)
{
    const char *why = mount_new(type, size_mib);
    printf("%s%s%s\n", type, why ? ": skipped: " : "", why ? why : "");
    if (why) {
        return;
    }
    check_programs();
    if (has_reflink) {
        check_reflink();
    }
    unmount(NULL);
}

static void
check_full(const char *type)
{
    const char *why = mount_new(type, SMALL_MIB);
    printf("full %s%s%s\n", type, why ? ": skipped: " : "", why ? why : "");
    if (why) {
        return;
    }
    EACH_WAY(test_a_full_disk);
    check_start_when_full();
    unmount(NULL);
}

int
main(void)
{
    test_begin(270);
    if (geteuid() != 0) {
        test_skip("mounting needs root");
    }
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
        test_skip("no mount namespace of our own");
    }
    CHECK_EQ(setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1), 0);
    snprintf(mount_point, sizeof(mount_point), "%s/mnt", test_dir());
    CHECK_EQ(mkdir(mount_point, 0755), 0);
    CHECK_EQ(chmod(test_dir(), 0755), 0); /* one test is nobody for a while */
    test_cleanup(unmount, NULL);
    CHECK_EQ(setenv("FILE_TEST_DIR", mount_point, 1), 0);
    check_full("tmpfs");
    check_full("ext4");
    check_type("tmpfs", 256, false);
    check_type("ext4", 256, false);
    check_type("xfs", 320, true);
    check_type("btrfs", 256, true);
    return 0;
}
