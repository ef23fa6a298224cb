/* SPDX-License-Identifier: MIT */
/*
 * Loads the library given as argument, uses it with callbacks (so that it starts threads), unloads
 * it, and looks for what is left: threads, descriptors, mappings.  Twice: what a first load leaves
 * for ever (the C library's own caches) is not counted.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openvstorage/volumedriver.h>

#define REQUIRE(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
            exit(1); \
        } \
    } while (0)

static void *library;

/* "CALL(ovs_flush)(ctx)": looked up each time, so nothing of it is linked in. */
#define CALL(name) ((__typeof__(&name))symbol(#name))

static void *
symbol(const char *name)
{
    void *address = dlsym(library, name);
    REQUIRE(address);
    return address;
}

static void
callback(ovs_completion_t *completion, void *arg)
{
    (void)arg;
    CALL(ovs_aio_signal_completion)(completion);
}

static ovs_ctx_t *
ctx_new(void)
{
    ovs_ctx_attr_t *attr = CALL(ovs_ctx_attr_new)();
    REQUIRE(CALL(ovs_ctx_attr_set_transport)(attr, "shm", NULL, 0) == 0);
    ovs_ctx_t *ctx = CALL(ovs_ctx_new)(attr);
    REQUIRE(ctx);
    CALL(ovs_ctx_attr_destroy)(attr);
    return ctx;
}

static void
use(const char *volume)
{
    enum {
        COUNT = 8
    };
    char bytes[COUNT][16] = {{0}};
    struct ovs_aiocb cbs[COUNT];
    ovs_completion_t *completions[COUNT];
    ovs_ctx_t *ctx = ctx_new();
    REQUIRE(CALL(ovs_create_volume)(ctx, volume, 65536) == 0);
    REQUIRE(CALL(ovs_ctx_init)(ctx, volume, O_RDWR) == 0);
    for (int i = 0; i < COUNT; i++) {
        cbs[i] = (struct ovs_aiocb){bytes[i], 16 * i, 16, NULL};
        completions[i] = CALL(ovs_aio_create_completion)(callback, NULL);
        REQUIRE(CALL(ovs_aio_writecb)(ctx, &cbs[i], completions[i]) == 0);
    }
    for (int i = 0; i < COUNT; i++) {
        REQUIRE(CALL(ovs_aio_wait_completion)(completions[i], NULL) == 0);
        REQUIRE(CALL(ovs_aio_return)(ctx, &cbs[i]) == 16);
        REQUIRE(CALL(ovs_aio_finish)(ctx, &cbs[i]) == 0);
        REQUIRE(CALL(ovs_aio_release_completion)(completions[i]) == 0);
    }
    REQUIRE(CALL(ovs_flush)(ctx) == 0);
    REQUIRE(CALL(ovs_ctx_destroy)(ctx) == 0);
}

static int
entries(const char *directory)
{
    DIR *dir = opendir(directory);
    REQUIRE(dir);
    int count = 0;
    while (readdir(dir)) {
        count++;
    }
    closedir(dir);
    return count;
}

/* Mappings of the library and of shared regions. */
static int
mappings(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    REQUIRE(maps);
    char line[4096];
    int count = 0;
    while (fgets(line, sizeof(line), maps)) {
        count += strstr(line, "libovs") || strstr(line, "memfd");
    }
    fclose(maps);
    return count;
}

static void
round_trip(const char *path, const char *volume)
{
    REQUIRE(mappings() == 0);
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    REQUIRE(library);
    use(volume);
    REQUIRE(mappings() > 0);
    REQUIRE(dlclose(library) == 0);
    REQUIRE(mappings() == 0);
    REQUIRE(entries("/proc/self/task") == 3); /* ".", ".." and this thread */
}

int
main(int argc, char **argv)
{
    REQUIRE(argc == 2);
    round_trip(argv[1], "first");
    int fds = entries("/proc/self/fd");
    round_trip(argv[1], "second");
    REQUIRE(entries("/proc/self/fd") == fds);
    REQUIRE(fds == 6); /* ".", "..", the directory itself, and the standard three */
    puts("works");
    return 0;
}
