/* SPDX-License-Identifier: MIT */
/*
 * Driving the file store without a server: a pool, its store, a group, and requests one by one.
 *
 * FILE_TEST_DIR names the directory for the pools, so that test_file_systems can run the other
 * programs on file systems of its own.
 */
#ifndef FILE_TEST_H
#define FILE_TEST_H

#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <openvstorage/shm_server.h>

#include "testlib.h"

struct io {
    struct ovsshm_request request;
    struct iovec iov[8];
    struct ovsshm_extent extents[64];
    int completions;
    int32_t result;
};

static struct file_test {
    char pool[512];
    struct ovsshm_store *store;
    void *group;
    struct ovsshm_error error;
    char log[1024]; /* the last line of warning level or above */
    unsigned log_count;
} ft;

/* The server's part, for requests that are ours. */
void
ovsshm_request_complete(struct ovsshm_request *request, int32_t result)
{
    struct io *io = (struct io *)((char *)request - offsetof(struct io, request));
    io->completions++;
    io->result = result;
}

/* ---- pools and stores ------------------------------------------------------------------------ */

static void
ft_log(void *arg, enum ovsshm_log_level level, const char *line)
{
    (void)arg;
    if (level <= OVSSHM_LOG_WARNING) {
        snprintf(ft.log, sizeof(ft.log), "%s", line);
        ft.log_count++;
    }
}

/* options: "engine=threads,direct=on" or "". */
TEST_UNUSED static int
ft_try_start(const char *pool, const char *options)
{
    char text[256];
    struct ovsshm_store_option list[8];
    unsigned count = 0;
    snprintf(text, sizeof(text), "%s", options);
    char *rest = text;
    for (char *word; (word = strsep(&rest, ",")) && word[0];) {
        list[count].key = strsep(&word, "=");
        list[count++].value = word;
    }
    struct ovsshm_store_params params = {
        .pool = pool,
        .options = list,
        .option_count = count,
        .log = {.write = ft_log},
    };
    ft.log_count = 0;
    ft.store = NULL;
    ft.error.reason[0] = '\0';
    return ovsshm_store_file.create(&params, &ft.store, &ft.error);
}

static const char *
ft_parent(void)
{
    const char *dir = getenv("FILE_TEST_DIR");
    return dir ? dir : test_dir();
}

static void
ft_remove_pool(void *arg)
{
    (void)arg;
    if (ft.pool[0]) {
        nftw(ft.pool, test_remove_one, 16, FTW_DEPTH | FTW_PHYS);
    }
}

/* An empty pool directory, the same one each time. */
TEST_UNUSED static void
ft_new_pool(void)
{
    static bool registered;
    if (!registered) {
        test_cleanup(ft_remove_pool, NULL);
        registered = true;
    }
    snprintf(ft.pool, sizeof(ft.pool), "%s/pool-%d", ft_parent(), (int)getpid());
    ft_remove_pool(NULL);
    CHECK_EQ(mkdir(ft.pool, 0755), 0);
}

TEST_UNUSED static void
ft_start(const char *options)
{
    int rc = ft_try_start(ft.pool, options);
    if (rc) {
        fprintf(stderr, "start: %s\n", ft.error.reason);
    }
    CHECK_EQ(rc, 0);
    CHECK_EQ(ovsshm_store_file.group_create(ft.store, &ft.group), 0);
}

/* With nothing in flight the group's fd is silent, or the reactor would never sleep. */
TEST_UNUSED static void
ft_stop(void)
{
    struct pollfd ready = {.fd = ovsshm_store_file.group_fd(ft.group), .events = POLLIN};
    CHECK_EQ(ovsshm_store_file.poll(ft.group), 0);
    CHECK_EQ(poll(&ready, 1, 0), 0);
    ovsshm_store_file.group_destroy(ft.group);
    ovsshm_store_file.destroy(ft.store);
    ft.group = NULL;
    ft.store = NULL;
}

/* Does fn with each engine, buffered and direct where the file system can. */
TEST_UNUSED static void
ft_each_way(const char *name, void (*fn)(void))
{
    static const char *const ways[] = {
        "engine=io_uring,direct=off",
        "engine=io_uring,direct=on",
        "engine=threads,direct=off",
        "engine=threads,direct=on",
    };
    for (unsigned i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        ft_new_pool();
        int rc = ft_try_start(ft.pool, ways[i]);
        printf("%s %s%s%s\n", name, ways[i], rc ? ": cannot: " : "", rc ? ft.error.reason : "");
        if (rc == 0) {
            CHECK_EQ(ovsshm_store_file.group_create(ft.store, &ft.group), 0);
            fn();
            ft_stop();
        } else {
            CHECK(i != 2); /* threads and the page cache work everywhere */
        }
    }
}
#define EACH_WAY(test) ft_each_way(#test, test)

/* ---- volumes --------------------------------------------------------------------------------- */

TEST_UNUSED static int
ft_create(const char *name, uint64_t size_bytes)
{
    return ovsshm_store_file.volume_create(ft.store, name, size_bytes, &ft.error);
}

TEST_UNUSED static struct ovsshm_store_volume *
ft_open(const char *name)
{
    struct ovsshm_store_volume *volume = NULL;
    CHECK_EQ(ovsshm_store_file.volume_open(ft.store, name, &volume, &ft.error), 0);
    return volume;
}

TEST_UNUSED static struct ovsshm_store_volume *
ft_create_open(const char *name, uint64_t size_bytes)
{
    CHECK_EQ(ft_create(name, size_bytes), 0);
    return ft_open(name);
}

TEST_UNUSED static void
ft_close(struct ovsshm_store_volume *volume)
{
    ovsshm_store_file.volume_close(volume);
}

/* POOL/name, in a buffer that the next call reuses. */
TEST_UNUSED static const char *
ft_path(const char *name)
{
    static char path[1024];
    snprintf(path, sizeof(path), "%s/%s", ft.pool, name);
    return path;
}

TEST_UNUSED static bool
ft_exists(const char *name)
{
    struct stat st;
    return lstat(ft_path(name), &st) == 0;
}

/* Files under POOL/.openvstorage/tmp. */
TEST_UNUSED static unsigned
ft_tmp_count(void)
{
    unsigned count = 0;
    DIR *dir = opendir(ft_path(".openvstorage/tmp"));
    CHECK(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        count += entry->d_name[0] != '.';
    }
    closedir(dir);
    return count;
}

/* ---- requests -------------------------------------------------------------------------------- */

TEST_UNUSED static struct io *
ft_io(struct io *io, struct ovsshm_store_volume *volume, uint8_t op, uint8_t flags, uint64_t offset,
      void *buffer, uint32_t length)
{
    memset(io, 0, sizeof(*io));
    io->iov[0] = (struct iovec){buffer, length};
    io->request = (struct ovsshm_request){
        .volume = volume,
        .op = op,
        .flags = flags,
        .offset_bytes = offset,
        .length_bytes = length,
        .iov = buffer ? io->iov : NULL,
        .iov_count = buffer ? 1 : 0,
        .extents = io->extents,
        .extents_max = 64,
    };
    return io;
}

TEST_UNUSED static void
ft_submit(struct io **ios, unsigned count)
{
    struct ovsshm_request *requests[1024];
    CHECK(count <= 1024);
    for (unsigned i = 0; i < count; i++) {
        requests[i] = &ios[i]->request;
    }
    ovsshm_store_file.submit(ft.store, ft.group, requests, count);
}

/* Sleeps on the group's fd as a reactor does, so that a lost wake-up hangs the test. */
TEST_UNUSED static void
ft_wait(struct io *io)
{
    while (!io->completions) {
        struct pollfd ready = {.fd = ovsshm_store_file.group_fd(ft.group), .events = POLLIN};
        if (ovsshm_store_file.poll(ft.group) == 0 && !io->completions) {
            CHECK(poll(&ready, 1, 30000) != 0);
        }
    }
    CHECK_EQ(io->completions, 1);
}

TEST_UNUSED static int32_t
ft_run(struct ovsshm_store_volume *volume, uint8_t op, uint8_t flags, uint64_t offset, void *buffer,
       uint32_t length)
{
    struct io io, *one = ft_io(&io, volume, op, flags, offset, buffer, length);
    ft_submit(&one, 1);
    ft_wait(&io);
    return io.result;
}

TEST_UNUSED static int32_t
ft_read(struct ovsshm_store_volume *volume, uint64_t offset, void *buffer, uint32_t length)
{
    return ft_run(volume, OVSSHM_OP_READ, 0, offset, buffer, length);
}

TEST_UNUSED static int32_t
ft_write(struct ovsshm_store_volume *volume, uint64_t offset, const void *buffer, uint32_t length)
{
    return ft_run(volume, OVSSHM_OP_WRITE, 0, offset, (void *)(uintptr_t)buffer, length);
}

TEST_UNUSED static int32_t
ft_flush(struct ovsshm_store_volume *volume)
{
    return ft_run(volume, OVSSHM_OP_FLUSH, 0, 0, NULL, 0);
}

/* Aligned for direct I/O. */
TEST_UNUSED static unsigned char *
ft_buffer(size_t bytes)
{
    void *buffer = NULL;
    CHECK_EQ(posix_memalign(&buffer, 4096, bytes), 0);
    memset(buffer, 0, bytes);
    return buffer;
}

#endif
