/* SPDX-License-Identifier: MIT */
/*
 * What the C tests share: checks that print and exit 1, cleanup in LIFO order, a time limit.
 *
 * A test program calls test_begin() first and ends with exit code 0 passed, 1 failed, 77 skipped.
 * Checks may be made by any thread.
 */
#ifndef OVSSHM_TESTLIB_H
#define OVSSHM_TESTLIB_H

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEST_UNUSED __attribute__((unused))

/* ---- checks --------------------------------------------------------------------------------- */

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s: failed: %s\n", __FILE__, __LINE__, __func__, #condition); \
            exit(1); \
        } \
    } while (0)

#define CHECK_EQ(actual, expected) \
    do { \
        long long actual_ = (long long)(actual); \
        long long expected_ = (long long)(expected); \
        if (actual_ != expected_) { \
            fprintf(stderr, "%s:%d: %s: %s is %lld, expected %s = %lld\n", __FILE__, __LINE__, \
                    __func__, #actual, actual_, #expected, expected_); \
            exit(1); \
        } \
    } while (0)

#define CHECK_TEXT(text, part) \
    do { \
        const char *text_ = (text); \
        if (!strstr(text_, (part))) { \
            fprintf(stderr, "%s:%d: %s: \"%s\" does not contain \"%s\"\n", __FILE__, __LINE__, \
                    __func__, text_, (part)); \
            exit(1); \
        } \
    } while (0)

/* Runs one test function and says so. */
#define RUN(test) \
    do { \
        printf("%s\n", #test); \
        test(); \
    } while (0)

static inline void
test_skip(const char *why)
{
    printf("skipped: %s\n", why);
    exit(77);
}

/* ---- cleanup -------------------------------------------------------------------------------- */

#define TEST_CLEANUPS_MAX 64

static struct {
    void (*fn)(void *arg);
    void *arg;
} test_cleanups[TEST_CLEANUPS_MAX];
static unsigned test_cleanup_count;
static char test_directory[64];

/* fn(arg) at exit, last registered first.  By the main thread. */
static inline void
test_cleanup(void (*fn)(void *arg), void *arg)
{
    CHECK(test_cleanup_count < TEST_CLEANUPS_MAX);
    test_cleanups[test_cleanup_count].fn = fn;
    test_cleanups[test_cleanup_count++].arg = arg;
}

static inline int
test_remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void
test_end(void)
{
    while (test_cleanup_count) {
        test_cleanup_count--;
        test_cleanups[test_cleanup_count].fn(test_cleanups[test_cleanup_count].arg);
    }
    if (test_directory[0]) {
        nftw(test_directory, test_remove_one, 8, FTW_DEPTH | FTW_PHYS);
    }
}

/* A directory of our own that goes away at exit. */
static inline const char *
test_dir(void)
{
    if (!test_directory[0]) {
        strcpy(test_directory, "/tmp/ovsshm-test-XXXXXX");
        CHECK(mkdtemp(test_directory));
    }
    return test_directory;
}

/* DIR/name; the caller frees it. */
static inline char *
test_path(const char *name)
{
    char *path;
    CHECK(asprintf(&path, "%s/%s", test_dir(), name) > 0);
    return path;
}

/* limit_s: then SIGALRM ends the program, which is a failure. */
static inline void
test_begin(unsigned limit_s)
{
    alarm(limit_s);
    setvbuf(stdout, NULL, _IOLBF, 0);
    atexit(test_end);
}

/* ---- tools ---------------------------------------------------------------------------------- */

/* Open file descriptors of this process. */
static inline unsigned
test_fd_count(void)
{
    unsigned count = 0;
    DIR *dir = opendir("/proc/self/fd");
    CHECK(dir);
    while (readdir(dir)) {
        count++;
    }
    closedir(dir);
    return count;
}

/* xorshift64*: the same everywhere for the same seed, which must not be 0. */
static inline uint64_t
test_random(uint64_t *seed)
{
    *seed ^= *seed >> 12;
    *seed ^= *seed << 25;
    *seed ^= *seed >> 27;
    return *seed * 0x2545f4914f6cdd1dull;
}

static inline pthread_t
test_thread(void *(*fn)(void *arg), void *arg)
{
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, fn, arg), 0);
    return thread;
}

static inline void
test_join(pthread_t thread)
{
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

#endif
