/* SPDX-License-Identifier: MIT */
/*
 * Store "fault": another store, with delays and errors, for tests.
 */
#define _GNU_SOURCE
#include "fault.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "option.h"
#include "server/log.h"
#include "shared/atomic.h"

#define DELAY_MS_MAX 3600000u
#define NS_PER_MS 1000000u
#define BLOCK_BYTES_MAX 65536u
#define ERRNO_MAX 134
#define BIT(op) (1u << (op))

/* Management calls, after the ops of the wire. */
enum {
    CREATE = 16,
    REMOVE,
    OPEN,
    RESIZE,
    SNAPSHOT,
    RENAME,
    TRUNCATE,
};

#define DATA_OPS \
    (BIT(OVSSHM_OP_READ) | BIT(OVSSHM_OP_WRITE) | BIT(OVSSHM_OP_FLUSH) | BIT(OVSSHM_OP_DISCARD) | \
     BIT(OVSSHM_OP_WRITE_ZEROES) | BIT(OVSSHM_OP_BLOCK_STATUS))

struct word {
    const char *word;
    uint32_t bit;
};

static const struct word op_words[] = {
    {"read", BIT(OVSSHM_OP_READ)},
    {"write", BIT(OVSSHM_OP_WRITE)},
    {"flush", BIT(OVSSHM_OP_FLUSH)},
    {"discard", BIT(OVSSHM_OP_DISCARD)},
    {"write-zeroes", BIT(OVSSHM_OP_WRITE_ZEROES)},
    {"block-status", BIT(OVSSHM_OP_BLOCK_STATUS)},
    {"create", BIT(CREATE)},
    {"remove", BIT(REMOVE)},
    {"open", BIT(OPEN)},
    {"resize", BIT(RESIZE)},
    {"snapshot", BIT(SNAPSHOT)},
    {"rename", BIT(RENAME)},
    {"truncate", BIT(TRUNCATE)},
    {NULL, 0},
};

static const struct word capability_words[] = {
    {"write", OVSSHM_CAP_WRITE},
    {"discard", OVSSHM_CAP_DISCARD},
    {"write-zeroes", OVSSHM_CAP_WRITE_ZEROES},
    {"block-status", OVSSHM_CAP_BLOCK_STATUS},
    {"resize", OVSSHM_CAP_RESIZE},
    {"snapshot", OVSSHM_CAP_SNAPSHOT},
    {"manage", OVSSHM_CAP_MANAGE},
    {NULL, 0},
};

struct fault_store {
    struct ovsshm_store base;
    struct ovsshm_store *inner;
    uint64_t delay_ms;
    uint64_t block_bytes;
    uint64_t error_after;
    uint64_t error_count; /* 0: no limit */
    uint64_t matched;     /* atomic: requests that error_ops names */
    uint32_t delay_ops;
    uint32_t error_ops;
    uint32_t never_ops;
    uint32_t hidden;        /* capabilities */
    int error;              /* 0: none */
    struct delay_line line; /* with a delay only */
};

static struct fault_store *
fault_store(struct ovsshm_store *store)
{
    return (struct fault_store *)(void *)store;
}

static struct ovsshm_store_volume *
inner_volume(struct ovsshm_store_volume *volume)
{
    return volume ? ((struct fault_volume *)(void *)volume)->inner : NULL;
}

/* ---- options -------------------------------------------------------------------------------- */

static int
parse_words(const struct ovsshm_store_option *option, const struct word *words, uint32_t *bits,
            struct ovsshm_error *error)
{
    *bits = 0;
    for (const char *p = option->value;; p++) {
        size_t length = strcspn(p, ",");
        const struct word *w = words;
        while (w->word && (strlen(w->word) != length || memcmp(w->word, p, length))) {
            w++;
        }
        if (!w->word) {
            return srv_error(error, -EINVAL, "option \"%s\": unknown word in \"%.100s\"",
                             option->key, option->value);
        }
        *bits |= w->bit;
        p += length;
        if (!*p) {
            return 0;
        }
    }
}

static int
parse_errno(const struct ovsshm_store_option *option, int *value, struct ovsshm_error *error)
{
    for (int number = 1; number < ERRNO_MAX; number++) {
        const char *name = strerrorname_np(number);
        if (name && !strcmp(name, option->value)) {
            *value = -number;
            return 0;
        }
    }
    return srv_error(error, -EINVAL, "option \"%s\": \"%.100s\" is not an errno name", option->key,
                     option->value);
}

/* 1: not ours. */
static int
parse_option(struct fault_store *f, const struct ovsshm_store_option *o, struct ovsshm_error *error)
{
    const struct {
        const char *key;
        uint64_t max;
        uint64_t *value;
    } numbers[] = {
        {"delay-ms", DELAY_MS_MAX, &f->delay_ms},
        {"block-bytes", BLOCK_BYTES_MAX, &f->block_bytes},
        {"error-after", UINT32_MAX, &f->error_after},
        {"error-count", UINT32_MAX, &f->error_count},
    };
    const struct {
        const char *key;
        const struct word *words;
        uint32_t *bits;
    } lists[] = {
        {"delay-op", op_words, &f->delay_ops},
        {"error-op", op_words, &f->error_ops},
        {"never-op", op_words, &f->never_ops},
        {"without", capability_words, &f->hidden},
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (!strcmp(o->key, numbers[i].key)) {
            return ovsshm_option_number(o, numbers[i].max, numbers[i].value, error);
        }
    }
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        if (!strcmp(o->key, lists[i].key)) {
            return parse_words(o, lists[i].words, lists[i].bits, error);
        }
    }
    return !strcmp(o->key, "error") ? parse_errno(o, &f->error, error) : 1;
}

/* Takes our options; the others remain for the inner store, whose type is found on the way. */
static int
parse_options(struct fault_store *f, struct ovsshm_store_params *inner,
              struct ovsshm_store_option *rest, const struct ovsshm_store_type **inner_type,
              struct ovsshm_error *error)
{
    unsigned count = inner->option_count;
    const struct ovsshm_store_option *options = inner->options;
    inner->options = rest;
    inner->option_count = 0;
    for (unsigned i = 0; i < count; i++) {
        int rc = 0;
        if (!strcmp(options[i].key, "inner")) {
            *inner_type = ovsshm_store_find(options[i].value);
            if (!*inner_type || *inner_type == &ovsshm_store_fault) {
                return srv_error(error, -EINVAL, "option \"inner\": there is no store \"%.100s\"",
                                 options[i].value);
            }
        } else if ((rc = parse_option(f, &options[i], error)) == 1) {
            rest[inner->option_count++] = options[i];
        } else if (rc) {
            return rc;
        }
    }
    return f->block_bytes & (f->block_bytes - 1)
               ? srv_error(error, -EINVAL, "option \"block-bytes\": %llu is not a power of two",
                           (unsigned long long)f->block_bytes)
               : 0;
}

/* ---- faults --------------------------------------------------------------------------------- */

/* -errno that this request is to fail with, or 0. */
static int
fault_error(struct fault_store *f, unsigned op)
{
    if (f->error == 0 || !(f->error_ops & BIT(op))) {
        return 0;
    }
    uint64_t number = ovsshm_add_relaxed(&f->matched, 1);
    return number >= f->error_after &&
                   (f->error_count == 0 || number < f->error_after + f->error_count)
               ? f->error
               : 0;
}

/* Before a management call. */
static int
fault_manage(struct fault_store *f, unsigned op, struct ovsshm_error *error)
{
    if (f->delay_ops & BIT(op)) {
        struct timespec delay = {.tv_sec = (time_t)(f->delay_ms / 1000),
                                 .tv_nsec = (long)(f->delay_ms % 1000 * NS_PER_MS)};
        clock_nanosleep(CLOCK_MONOTONIC, 0, &delay, NULL);
    }
    int rc = fault_error(f, op);
    return rc ? srv_error(error, rc, "the fault store was told to fail with %s",
                          strerrorname_np(-rc))
              : 0;
}

/* ---- the store and its volumes -------------------------------------------------------------- */

static int
inner_create(struct fault_store *f, const struct ovsshm_store_params *params,
             struct ovsshm_error *error)
{
    const struct ovsshm_store_type *type = &ovsshm_store_memory;
    struct ovsshm_store_params inner = *params;
    struct ovsshm_store_option *rest = calloc(params->option_count + 1, sizeof(*rest));
    int rc = rest ? parse_options(f, &inner, rest, &type, error)
                  : srv_error(error, -ENOMEM, "out of memory");
    rc = rc ? rc : type->create(&inner, &f->inner, error);
    free(rest);
    return rc;
}

static int
fault_create(const struct ovsshm_store_params *params, struct ovsshm_store **out,
             struct ovsshm_error *error)
{
    struct fault_store *f = calloc(1, sizeof(*f));
    if (!f) {
        return srv_error(error, -ENOMEM, "out of memory");
    }
    f->delay_ops = f->error_ops = DATA_OPS;
    int rc = inner_create(f, params, error);
    if (rc) {
        free(f);
        return rc;
    }
    if (f->delay_ms) {
        rc = ovsshm_delay_create(&f->line, f->inner, f->delay_ms * NS_PER_MS);
    } else {
        f->delay_ops = 0;
    }
    if (rc) {
        f->inner->type->destroy(f->inner);
        free(f);
        return srv_error(error, rc, "cannot start a thread: %s", strerror(-rc));
    }
    f->base.type = &ovsshm_store_fault;
    f->base.capabilities = f->inner->capabilities & ~(uint64_t)f->hidden;
    *out = &f->base;
    return 0;
}

static void
fault_destroy(struct ovsshm_store *store)
{
    struct fault_store *f = fault_store(store);
    if (!f) {
        return;
    }
    if (f->delay_ms) {
        ovsshm_delay_destroy(&f->line);
    }
    f->inner->type->destroy(f->inner);
    free(f);
}

static int
fault_volume_create(struct ovsshm_store *store, const char *name, uint64_t size_bytes,
                    struct ovsshm_error *error)
{
    struct fault_store *f = fault_store(store);
    int rc = fault_manage(f, CREATE, error);
    return rc ? rc : f->inner->type->volume_create(f->inner, name, size_bytes, error);
}

static int
fault_volume_remove(struct ovsshm_store *store, const char *name, struct ovsshm_error *error)
{
    struct fault_store *f = fault_store(store);
    int rc = fault_manage(f, REMOVE, error);
    return rc ? rc : f->inner->type->volume_remove(f->inner, name, error);
}

static uint32_t
block_bytes(const struct fault_store *f, uint32_t inner_bytes)
{
    return f->block_bytes > inner_bytes ? (uint32_t)f->block_bytes : inner_bytes;
}

static int
fault_volume_stat(struct ovsshm_store *store, const char *name, struct ovsshm_volume_info *info)
{
    struct fault_store *f = fault_store(store);
    int rc = f->inner->type->volume_stat(f->inner, name, info);
    info->block_bytes = block_bytes(f, info->block_bytes);
    return rc;
}

static int
fault_volume_list(struct ovsshm_store *store, const char *after, struct ovsshm_volume_info *infos,
                  unsigned count)
{
    struct fault_store *f = fault_store(store);
    int n = f->inner->type->volume_list ? f->inner->type->volume_list(f->inner, after, infos, count)
                                        : -EOPNOTSUPP;
    for (int i = 0; i < n; i++) {
        infos[i].block_bytes = block_bytes(f, infos[i].block_bytes);
    }
    return n;
}

static int
fault_volume_open(struct ovsshm_store *store, const char *name, struct ovsshm_store_volume **out,
                  struct ovsshm_error *error)
{
    struct fault_store *f = fault_store(store);
    int rc = fault_manage(f, OPEN, error);
    struct fault_volume *volume = rc ? NULL : calloc(1, sizeof(*volume));
    if (!volume) {
        return rc ? rc : -ENOMEM;
    }
    rc = f->inner->type->volume_open(f->inner, name, &volume->inner, error);
    if (rc) {
        free(volume);
        return rc;
    }
    volume->base = (struct ovsshm_store_volume){
        .store = store,
        .size_bytes = volume->inner->size_bytes,
        .block_bytes = block_bytes(f, volume->inner->block_bytes),
    };
    *out = &volume->base;
    return 0;
}

static void
fault_volume_close(struct ovsshm_store_volume *volume)
{
    struct fault_store *f = fault_store(volume->store);
    f->inner->type->volume_close(inner_volume(volume));
    free(volume);
}

/* After a call that may have changed the size. */
static int
follow_size(struct ovsshm_store_volume *open, int rc)
{
    if (open) {
        open->size_bytes = inner_volume(open)->size_bytes;
    }
    return rc;
}

static int
fault_volume_resize(struct ovsshm_store *store, const char *name, struct ovsshm_store_volume *open,
                    uint64_t size_bytes, struct ovsshm_error *error)
{
    struct fault_store *f = fault_store(store);
    int rc = fault_manage(f, RESIZE, error);
    return rc ? rc
              : follow_size(open, f->inner->type->volume_resize(f->inner, name, inner_volume(open),
                                                                size_bytes, error));
}

static int
fault_volume_rename(struct ovsshm_store *store, const char *from, const char *to,
                    struct ovsshm_error *error)
{
    struct fault_store *f = fault_store(store);
    int rc = fault_manage(f, RENAME, error);
    return rc ? rc : f->inner->type->volume_rename(f->inner, from, to, error);
}

static int
fault_volume_truncate(struct ovsshm_store *store, const char *name,
                      struct ovsshm_store_volume *open, uint64_t size_bytes,
                      struct ovsshm_error *error)
{
    struct fault_store *f = fault_store(store);
    int rc = fault_manage(f, TRUNCATE, error);
    return rc ? rc
              : follow_size(open, f->inner->type->volume_truncate(
                                      f->inner, name, inner_volume(open), size_bytes, error));
}

static void
fault_set_mounted(struct ovsshm_store *store, bool mounted)
{
    struct fault_store *f = fault_store(store);
    if (f->inner->type->set_mounted) {
        f->inner->type->set_mounted(f->inner, mounted);
    }
}

static int
fault_snapshot_create(struct ovsshm_store *store, const char *name,
                      struct ovsshm_store_volume *open, const char *snapshot, int64_t timeout_s,
                      struct ovsshm_error *error)
{
    struct fault_store *f = fault_store(store);
    int rc = fault_manage(f, SNAPSHOT, error);
    return rc ? rc
              : f->inner->type->snapshot_create(f->inner, name, inner_volume(open), snapshot,
                                                timeout_s, error);
}

static int
fault_snapshot_rollback(struct ovsshm_store *store, const char *name,
                        struct ovsshm_store_volume *open, const char *snapshot,
                        struct ovsshm_error *error)
{
    struct fault_store *f = fault_store(store);
    int rc = fault_manage(f, SNAPSHOT, error);
    return rc ? rc
              : follow_size(open, f->inner->type->snapshot_rollback(
                                      f->inner, name, inner_volume(open), snapshot, error));
}

static int
fault_snapshot_remove(struct ovsshm_store *store, const char *name, const char *snapshot,
                      struct ovsshm_error *error)
{
    struct fault_store *f = fault_store(store);
    int rc = fault_manage(f, SNAPSHOT, error);
    return rc ? rc : f->inner->type->snapshot_remove(f->inner, name, snapshot, error);
}

static int
fault_snapshot_is_synced(struct ovsshm_store *store, const char *name, const char *snapshot)
{
    struct fault_store *f = fault_store(store);
    return f->inner->type->snapshot_is_synced(f->inner, name, snapshot);
}

static int
fault_snapshot_list(struct ovsshm_store *store, const char *name, const char *after,
                    struct ovsshm_snapshot_info *infos, unsigned count)
{
    struct fault_store *f = fault_store(store);
    return f->inner->type->snapshot_list(f->inner, name, after, infos, count);
}

/* ---- requests ------------------------------------------------------------------------------- */

static int
fault_group_create(struct ovsshm_store *store, void **out)
{
    struct fault_store *f = fault_store(store);
    struct fault_group *group = calloc(1, sizeof(*group));
    if (!group) {
        return -ENOMEM;
    }
    group->store = store;
    int rc =
        f->inner->type->group_create ? f->inner->type->group_create(f->inner, &group->inner) : 0;
    if (rc) {
        free(group);
        return rc;
    }
    *out = group;
    return 0;
}

static void
fault_group_destroy(void *arg)
{
    struct fault_group *group = arg;
    struct fault_store *f = fault_store(group->store);
    if (f->delay_ms) {
        ovsshm_delay_purge(&f->line, group);
    }
    if (f->inner->type->group_destroy && group->inner) {
        f->inner->type->group_destroy(group->inner);
    }
    free(group);
}

static unsigned
fault_poll(void *arg)
{
    const struct fault_group *group = arg;
    const struct ovsshm_store_type *inner = fault_store(group->store)->inner->type;
    return inner->poll ? inner->poll(group->inner) : 0;
}

static int
fault_group_fd(void *arg)
{
    const struct fault_group *group = arg;
    const struct ovsshm_store_type *inner = fault_store(group->store)->inner->type;
    return inner->group_fd ? inner->group_fd(group->inner) : -1;
}

static void
fault_submit(struct ovsshm_store *store, void *arg, struct ovsshm_request **requests,
             unsigned count)
{
    struct fault_store *f = fault_store(store);
    struct fault_group *group = arg;
    unsigned passed = 0;
    for (unsigned i = 0; i < count; i++) {
        struct ovsshm_request *request = requests[i];
        if (f->never_ops & BIT(request->op)) {
            continue; /* nobody remembers it */
        }
        int error = fault_error(f, request->op);
        if (f->delay_ops & BIT(request->op)) {
            ovsshm_delay_add(&f->line, group, request, error);
        } else if (error) {
            ovsshm_request_complete(request, error);
        } else {
            request->volume = inner_volume(request->volume);
            requests[passed++] = request;
        }
    }
    if (passed) {
        f->inner->type->submit(f->inner, group->inner, requests, passed);
    }
}

const struct ovsshm_store_type ovsshm_store_fault = {
    .abi = OVSSHM_STORE_ABI,
    .name = "fault",
    .summary = "another store with delays and errors; for tests",
    .options = "inner=STORE      does the work and gets all other options; default memory\n"
               "delay-ms=N       requests take this much longer\n"
               "delay-op=OPS     only these: read,write,flush,discard,write-zeroes,block-status,\n"
               "                 and create,remove,open,resize,snapshot,rename,truncate; default\n"
               "                 the first six\n"
               "error=NAME       requests fail with it: EIO, ENOSPC, ...\n"
               "error-op=OPS     only these\n"
               "error-after=N    after the first N of them\n"
               "error-count=N    only so many; 0: all\n"
               "never-op=OPS     these are never completed\n"
               "block-bytes=N    requests must be aligned to N\n"
               "without=CAPS     hides: write,discard,write-zeroes,block-status,resize,snapshot,\n"
               "                 manage",
    .create = fault_create,
    .destroy = fault_destroy,
    .volume_create = fault_volume_create,
    .volume_remove = fault_volume_remove,
    .volume_stat = fault_volume_stat,
    .volume_list = fault_volume_list,
    .volume_resize = fault_volume_resize,
    .volume_rename = fault_volume_rename,
    .volume_truncate = fault_volume_truncate,
    .set_mounted = fault_set_mounted,
    .snapshot_create = fault_snapshot_create,
    .snapshot_rollback = fault_snapshot_rollback,
    .snapshot_remove = fault_snapshot_remove,
    .snapshot_is_synced = fault_snapshot_is_synced,
    .snapshot_list = fault_snapshot_list,
    .volume_open = fault_volume_open,
    .volume_close = fault_volume_close,
    .group_create = fault_group_create,
    .group_destroy = fault_group_destroy,
    .submit = fault_submit,
    .poll = fault_poll,
    .group_fd = fault_group_fd,
};
