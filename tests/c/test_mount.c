/* SPDX-License-Identifier: MIT */
/*
 * Goal: a mount frees all it takes and its threads agree, also under the sanitizers.
 *
 * Method: a server and its mount in this process; threads that use it as files, and a client that
 * opens, resizes and removes the same volumes meanwhile.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <openvstorage/shm_mount.h>

#include "server_test.h"

#define THREADS 4
#define TURNS 60

static char point[128];

static void
unmount(void *arg)
{
    (void)arg;
    umount2(point, MNT_DETACH);
}

static struct ovsshm_mount *
mount_ok(enum ovsshm_mount_cache cache, const char *suffix)
{
    struct ovsshm_mount_params params = {.path = point, .cache = cache, .volume_suffix = suffix};
    struct ovsshm_error error = {.reason = ""};
    struct ovsshm_mount *mount;
    int rc = ovsshm_mount_create(st.server, &params, &mount, &error);
    rc = rc ? rc : ovsshm_mount_start(mount, &error);
    if (rc) {
        fprintf(stderr, "cannot mount: %s\n", error.reason);
    }
    CHECK_EQ(rc, 0);
    return mount;
}

static void
path_of(char path[512], const char *name, int number)
{
    snprintf(path, 512, "%s/%s%d", point, name, number);
}

/* Busy and gone are what the others may cause. */
static void
check_cause(int rc)
{
    if (rc < 0) {
        CHECK(errno == EBUSY || errno == ENOENT || errno == ESTALE || errno == EEXIST);
    }
}

static void *
use(void *arg)
{
    int number = *(int *)arg;
    char mine[512];
    char shared[512];
    char bytes[3000];
    char back[3000];
    memset(bytes, 'a' + number, sizeof(bytes));
    path_of(mine, "mine", number);
    for (int turn = 0; turn < TURNS; turn++) {
        path_of(shared, "shared", turn % 2);
        int fd = open(mine, O_RDWR | O_CREAT | O_TRUNC, 0600);
        CHECK(fd >= 0);
        CHECK_EQ(pwrite(fd, bytes, sizeof(bytes), turn), sizeof(bytes));
        CHECK_EQ(pread(fd, back, sizeof(back), turn), sizeof(back));
        CHECK(!memcmp(bytes, back, sizeof(bytes)));
        CHECK_EQ(fsync(fd), 0);
        CHECK_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100, 1000), 0);
        CHECK_EQ(close(fd), 0);
        check_cause(rename(mine, shared));
        struct stat status;
        check_cause(stat(shared, &status));
        check_cause(turn % 3 ? 0 : unlink(shared));
    }
    unlink(mine);
    return NULL;
}

static void *
use_as_client(void *arg)
{
    struct ovsshm_conn *conn = connect_ok();
    (void)arg;
    for (int turn = 0; turn < TURNS; turn++) {
        struct ovsshm_open_params params = {.mode = OVSSHM_MODE_WRITE, .arena_bytes = MIB};
        struct ovsshm_volume *volume;
        const char *name = turn % 2 ? "shared1" : "shared0";
        if (ovsshm_open(conn, name, &params, &volume) == 0) {
            ovsshm_close(volume);
        }
        ovsshm_resize(conn, name, 8192);
        if (turn % 5 == 0) {
            ovsshm_remove(conn, name);
        }
    }
    ovsshm_disconnect(conn);
    return NULL;
}

static void
use_all(void)
{
    pthread_t threads[THREADS + 1];
    int numbers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        CHECK_EQ(pthread_create(&threads[i], NULL, use, &numbers[i]), 0);
    }
    CHECK_EQ(pthread_create(&threads[THREADS], NULL, use_as_client, NULL), 0);
    for (int i = 0; i <= THREADS; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
}

static void
test_many_threads_use_it(void)
{
    static const enum ovsshm_mount_cache caches[] = {
        OVSSHM_MOUNT_CACHE_NONE, OVSSHM_MOUNT_CACHE_AUTO, OVSSHM_MOUNT_CACHE_WRITEBACK};
    for (int i = 0; i < 3; i++) {
        st_start_memory();
        struct ovsshm_mount *mount = mount_ok(caches[i], "");
        use_all();
        ovsshm_mount_stop(mount);
        ovsshm_mount_destroy(mount);
        CHECK_EQ(st_end(SECOND), 0);
    }
}

static void
test_what_is_open_at_the_end_is_freed(void)
{
    char path[512];
    st_start_memory();
    struct ovsshm_mount *mount = mount_ok(OVSSHM_MOUNT_CACHE_NONE, ".raw");
    path_of(path, "plain", 0);
    int plain = open(path, O_RDWR | O_CREAT, 0600);
    snprintf(path, sizeof(path), "%s/volume.raw", point);
    int volume = open(path, O_RDWR | O_CREAT, 0600);
    CHECK(plain >= 0 && volume >= 0);
    CHECK_EQ(write(plain, "x", 1), 1);
    CHECK_EQ(write(volume, "x", 1), 1);
    CHECK_EQ(st_status().sessions, 1);
    ovsshm_mount_destroy(mount);
    CHECK_EQ(write(volume, "x", 1), -1);
    close(plain);
    close(volume);
    CHECK_EQ(st_status().sessions, 0);
    CHECK_EQ(st_end(SECOND), 0);
}

int
main(void)
{
    test_begin(240);
    if (access("/dev/fuse", R_OK | W_OK) || geteuid() != 0) {
        test_skip("mounting needs root and /dev/fuse");
    }
    snprintf(point, sizeof(point), "%s/mnt", test_dir());
    CHECK_EQ(mkdir(point, 0700), 0);
    test_cleanup(unmount, NULL);
    RUN(test_what_is_open_at_the_end_is_freed);
    RUN(test_many_threads_use_it);
    return 0;
}
