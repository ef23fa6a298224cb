/* SPDX-License-Identifier: MIT */
/*
 * Volumes: create, remove, resize, list, stat.
 *
 * Each management call has a connection of its own: these calls are rare, a context must not need a
 * server before it is used, and the server may be restarted between two calls.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "client/reason.h"
#include "legacy.h"

#define PAGE_ENTRIES 64

int
legacy_manage_begin(const ovs_ctx_t *ctx, const char *name, struct ovsshm_conn **conn)
{
    *conn = NULL;
    if (!ctx) {
        return ovsshm_reason_literal(-EINVAL, "the context is NULL");
    }
    int rc = legacy_name_check(name);
    return rc < 0 ? rc : legacy_connect(conn);
}

int
legacy_manage_end(struct ovsshm_conn *conn, int rc)
{
    ovsshm_disconnect(conn);
    return (int)legacy_result(rc);
}

int
ovs_create_volume(ovs_ctx_t *ctx, const char *volume_name, uint64_t size)
{
    struct ovsshm_conn *conn;
    int rc = legacy_manage_begin(ctx, volume_name, &conn);
    if (rc == 0) {
        rc = legacy_volume_bytes(&size);
    }
    if (rc == 0) {
        rc = ovsshm_create(conn, volume_name, size);
    }
    return legacy_manage_end(conn, rc);
}

int
ovs_remove_volume(ovs_ctx_t *ctx, const char *volume_name)
{
    struct ovsshm_conn *conn;
    int rc = legacy_manage_begin(ctx, volume_name, &conn);
    if (rc == 0) {
        rc = ovsshm_remove(conn, volume_name);
    }
    return legacy_manage_end(conn, rc);
}

int
ovs_truncate_volume(ovs_ctx_t *ctx, const char *volume_name, uint64_t length)
{
    struct ovsshm_conn *conn;
    int rc = legacy_manage_begin(ctx, volume_name, &conn);
    if (rc == 0) {
        rc = legacy_volume_bytes(&length);
    }
    if (rc == 0) {
        rc = ovsshm_resize(conn, volume_name, length);
    }
    return legacy_manage_end(conn, rc);
}

int
ovs_truncate(ovs_ctx_t *ctx, uint64_t length)
{
    if (!ctx) {
        return (int)legacy_result(-EINVAL);
    }
    if (!ctx->session || legacy_session_oflag(ctx->session) == O_RDONLY) {
        return (int)legacy_result(-EBADF);
    }
    int rc = legacy_volume_bytes(&length);
    if (rc == 0) {
        rc = ovsshm_volume_resize(legacy_session_volume(ctx->session), length);
    }
    return (int)legacy_result(rc);
}

int
ovs_stat(ovs_ctx_t *ctx, struct stat *st)
{
    if (!ctx || !st) {
        return (int)legacy_result(-EINVAL);
    }
    if (!ctx->session) {
        return (int)legacy_result(-EBADF);
    }
    struct ovsshm_volume_info info;
    int rc = ovsshm_volume_stat(legacy_session_volume(ctx->session), &info);
    if (rc < 0) {
        return (int)legacy_result(rc);
    }
    *st = (struct stat){
        .st_mode = S_IFREG | S_IRUSR | S_IWUSR,
        .st_nlink = 1,
        .st_size = (off_t)info.size_bytes,
        .st_blksize = OVSSHM_SECTOR_BYTES,
        .st_blocks = (blkcnt_t)((info.allocated_bytes + 511) / 512),
    };
    return 0;
}

/* A growing array of bytes. */
struct text {
    char *bytes;
    size_t length;
    size_t capacity;
};

static int
text_append(struct text *text, const char *name)
{
    size_t length = strlen(name) + 1;
    if (text->capacity - text->length < length) {
        size_t capacity = text->capacity * 2 + length;
        char *bytes = realloc(text->bytes, capacity);
        if (!bytes) {
            return -ENOMEM;
        }
        text->bytes = bytes;
        text->capacity = capacity;
    }
    memcpy(text->bytes + text->length, name, length);
    text->length += length;
    return 0;
}

static int
volumes_collect(struct ovsshm_conn *conn, struct text *names)
{
    struct ovsshm_volume_info *page = calloc(PAGE_ENTRIES, sizeof(*page));
    char after[OVSSHM_NAME_BYTES] = "";
    int count = page ? 1 : -ENOMEM;
    int rc = 0;
    while (count > 0 && rc == 0) {
        count = ovsshm_list(conn, after[0] ? after : NULL, page, PAGE_ENTRIES);
        for (int i = 0; i < count && rc == 0; i++) {
            rc = text_append(names, page[i].name);
        }
        if (count > 0) {
            memcpy(after, page[count - 1].name, sizeof(after));
        }
    }
    free(page);
    return rc < 0 ? rc : count;
}

static int
volumes_deliver(const struct text *text, char *names, size_t *size)
{
    if (text->length > INT_MAX) {
        return -EOVERFLOW;
    }
    if (*size < text->length) {
        *size = text->length;
        return -ERANGE;
    }
    if (!names) {
        return -EINVAL;
    }
    if (text->length > 0) {
        memcpy(names, text->bytes, text->length);
    }
    return (int)text->length;
}

int
ovs_list_volumes(ovs_ctx_t *ctx, char *names, size_t *size)
{
    if (!ctx || !size) {
        return (int)legacy_result(-EINVAL);
    }
    struct ovsshm_conn *conn = NULL;
    struct text text = {0};
    int rc = legacy_connect(&conn);
    if (rc == 0) {
        rc = volumes_collect(conn, &text);
    }
    if (rc == 0) {
        rc = volumes_deliver(&text, names, size);
    }
    free(text.bytes);
    return legacy_manage_end(conn, rc);
}
