/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "client/reason.h"
#include "legacy.h"
#include "shared/names.h"

ssize_t
legacy_result(int64_t rc)
{
    if (rc < 0) {
        errno = (int)-rc;
        return -1;
    }
    return rc;
}

int
legacy_name_check(const char *name)
{
    if (name && name[0] && strlen(name) <= OVSSHM_NAME_BYTES - 2) {
        return 0;
    }
    return ovsshm_reason_literal(-EINVAL, "a volume name has 1 to 254 bytes");
}

int
legacy_timespec_check(const struct timespec *deadline)
{
    return !deadline || (deadline->tv_nsec >= 0 && deadline->tv_nsec < 1000000000) ? 0 : -EINVAL;
}

int
legacy_volume_bytes(uint64_t *size_bytes)
{
    uint64_t over = *size_bytes % OVSSHM_SECTOR_BYTES;
    uint64_t rounded = over ? *size_bytes + (OVSSHM_SECTOR_BYTES - over) : *size_bytes;
    if (rounded < *size_bytes || ovsshm_size_check(rounded)) {
        return ovsshm_reason_literal(-EFBIG, "a volume has at most 2^63 - 1 bytes");
    }
    *size_bytes = rounded;
    return 0;
}

/*
 * ENOENT and EACCES are what the historical calls say about volumes, so a socket that is missing or
 * closed to us must read differently: a program would take it for a volume that is not there.
 */
int
legacy_connect(struct ovsshm_conn **conn)
{
    int rc = ovsshm_connect(NULL, conn);
    return rc == -ENOENT || rc == -EACCES || rc == -EPERM ? -ECONNREFUSED : rc;
}

ovs_ctx_t *
ovs_ctx_new(const ovs_ctx_attr_t *attr)
{
    if (!attr || attr->transport == LEGACY_TRANSPORT_UNSET) {
        errno = EINVAL;
        return NULL;
    }
    if (attr->transport == LEGACY_TRANSPORT_NETWORK) {
        errno = -ovsshm_reason_literal(-EPROTONOSUPPORT,
                                       "transports \"tcp\" and \"rdma\" are not supported");
        return NULL;
    }
    ovs_ctx_t *ctx = calloc(1, sizeof(*ctx));
    if (!ctx) {
        return NULL;
    }
    int rc = legacy_buffers_init(&ctx->buffers);
    if (rc < 0) {
        free(ctx);
        errno = -rc;
        return NULL;
    }
    return ctx;
}

static int
oflag_check(int oflag)
{
    return oflag == O_RDONLY || oflag == O_WRONLY || oflag == O_RDWR
               ? 0
               : ovsshm_reason_literal(-EINVAL, "oflag is O_RDONLY, O_WRONLY or O_RDWR");
}

/* Not when its server has gone: then it may be opened again. */
static bool
already_open(const ovs_ctx_t *ctx, const char *name)
{
    struct ovsshm_volume_info info;
    return ctx->session && !strcmp(legacy_session_name(ctx->session), name) &&
           ovsshm_volume_stat(legacy_session_volume(ctx->session), &info) != -ENOTCONN;
}

int
ovs_ctx_init(ovs_ctx_t *ctx, const char *volume_name, int oflag)
{
    if (!ctx || legacy_name_check(volume_name) < 0 || oflag_check(oflag) < 0) {
        return (int)legacy_result(-EINVAL);
    }
    if (already_open(ctx, volume_name)) {
        return (int)legacy_result(
            ovsshm_reason_literal(-EBUSY, "this context has the volume open already"));
    }
    struct legacy_session *session;
    int rc = legacy_session_open(volume_name, oflag, &session);
    if (rc < 0) {
        return (int)legacy_result(rc);
    }
    legacy_session_close(ctx->session);
    ctx->session = session;
    ctx->generation++;
    return 0;
}

int
ovs_ctx_destroy(ovs_ctx_t *ctx)
{
    if (!ctx) {
        return (int)legacy_result(-EINVAL);
    }
    legacy_session_close(ctx->session);
    legacy_buffers_destroy(&ctx->buffers);
    free(ctx);
    return 0;
}
