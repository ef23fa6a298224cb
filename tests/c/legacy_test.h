/* SPDX-License-Identifier: MIT */
/* What the tests of the historical API share: checks, a server in this process, contexts. */
#ifndef LEGACY_TEST_H
#define LEGACY_TEST_H

#ifndef _GNU_SOURCE
#error "define _GNU_SOURCE first: signals, directories and threads are beyond plain C11"
#endif

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openvstorage/volumedriver.h>

#include "gate_store.h"

#define TIME_LIMIT_S 240 /* of a whole program, under any sanitizer on a busy machine */

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno); \
            abort(); \
        } \
    } while (0)

/* The historical way to fail: -1 and errno.  Says what came instead. */
#define CHECK_FAILS(call, expected) \
    do { \
        errno = 0; \
        long long rv_ = (long long)(call); \
        if (rv_ != -1 || errno != (expected)) { \
            fprintf(stderr, "%s:%d: %s: %lld, errno %d, not -1 and %s\n", __FILE__, __LINE__, \
                    #call, rv_, errno, #expected); \
            abort(); \
        } \
    } while (0)

#define CHECK_NULL(call, expected) \
    do { \
        errno = 0; \
        CHECK((call) == NULL); \
        CHECK(errno == (expected)); \
    } while (0)

struct test_server {
    struct ovsshm_store *store;
    struct ovsshm_server *server;
};

static char test_directory[64];
static char test_socket[96];
static char test_pool[96];

/* A private socket for this program and a limit on how long it may take. */
static inline void
test_begin(void)
{
    alarm(TIME_LIMIT_S);
    snprintf(test_directory, sizeof(test_directory), "/tmp/ovs-legacy-XXXXXX");
    CHECK(mkdtemp(test_directory));
    snprintf(test_socket, sizeof(test_socket), "%s/shm.sock", test_directory);
    snprintf(test_pool, sizeof(test_pool), "%s/pool", test_directory);
    CHECK(mkdir(test_pool, 0700) == 0);
    CHECK(setenv("OVS_SHM_SOCKET", test_socket, 1) == 0);
}

static int
test_remove_one(const char *path, const struct stat *st, int kind, struct FTW *place)
{
    (void)st;
    (void)kind;
    (void)place;
    return remove(path);
}

static inline void
test_end(void)
{
    CHECK(nftw(test_directory, test_remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0);
}

static inline void
server_start(struct test_server *s, const struct ovsshm_store_type *type)
{
    struct ovsshm_store_params store_params = {.pool = test_pool};
    struct ovsshm_server_params params = {.socket_path = test_socket};
    struct ovsshm_error error = {{0}};
    CHECK(type->create(&store_params, &s->store, &error) == 0);
    CHECK(ovsshm_server_create(&params, s->store, &s->server, &error) == 0);
    CHECK(ovsshm_server_start(s->server, &error) == 0);
}

static inline void
server_stop(struct test_server *s)
{
    (void)ovsshm_server_stop(s->server, 1000000000);
    ovsshm_server_destroy(s->server);
    s->store->type->destroy(s->store);
}

static inline ovs_ctx_t *
ctx_new(void)
{
    ovs_ctx_attr_t *attr = ovs_ctx_attr_new();
    CHECK(attr);
    CHECK(ovs_ctx_attr_set_transport(attr, "shm", NULL, 0) == 0);
    ovs_ctx_t *ctx = ovs_ctx_new(attr);
    CHECK(ctx);
    CHECK(ovs_ctx_attr_destroy(attr) == 0);
    return ctx;
}

static inline ovs_ctx_t *
ctx_open(const char *volume, int oflag)
{
    ovs_ctx_t *ctx = ctx_new();
    CHECK(ovs_ctx_init(ctx, volume, oflag) == 0);
    return ctx;
}

static inline void
volume_create(const char *volume, uint64_t size_bytes)
{
    ovs_ctx_t *ctx = ctx_new();
    CHECK(ovs_create_volume(ctx, volume, size_bytes) == 0);
    CHECK(ovs_ctx_destroy(ctx) == 0);
}

static inline void
volume_remove(const char *volume)
{
    ovs_ctx_t *ctx = ctx_new();
    CHECK(ovs_remove_volume(ctx, volume) == 0);
    CHECK(ovs_ctx_destroy(ctx) == 0);
}

/* Bytes that say where they belong. */
static inline void
pattern_fill(unsigned char *bytes, size_t count, uint64_t offset)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t at = offset + i;
        bytes[i] = (unsigned char)(at * 31 + (at >> 9) * 7 + (at >> 18));
    }
}

static inline bool
pattern_holds(const unsigned char *bytes, size_t count, uint64_t offset)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t at = offset + i;
        if (bytes[i] != (unsigned char)(at * 31 + (at >> 9) * 7 + (at >> 18))) {
            return false;
        }
    }
    return true;
}

static inline bool
is_all(const unsigned char *bytes, size_t count, unsigned char value)
{
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] != value) {
            return false;
        }
    }
    return true;
}

/* A point of CLOCK_REALTIME, seconds from now. */
static inline struct timespec
realtime_in(int seconds)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    now.tv_sec += seconds;
    return now;
}

#define RUN(test) \
    do { \
        printf("%s\n", #test); \
        fflush(stdout); \
        test(); \
    } while (0)

#endif
