/* SPDX-License-Identifier: MIT */
/* The connection: management calls of shm.h, one message each. */
#define _GNU_SOURCE
#include "conn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "reason.h"
#include "shared/names.h"

const char *
ovsshm_version(void)
{
    return OVSSHM_VERSION_TEXT;
}

/* ---- connect -------------------------------------------------------------------------------- */

#define SOCKET_VARIABLE "OVS_SHM_SOCKET"
#define SOCKET_OF_ROOT "/run/openvstorage/shm.sock"

/* origin: said behind the path when connecting fails. */
static int
default_socket(char *path, size_t path_bytes, const char **origin)
{
    const char *given = secure_getenv(SOCKET_VARIABLE);
    const char *directory = secure_getenv("XDG_RUNTIME_DIR");
    int length;
    *origin = " (the default socket; $" SOCKET_VARIABLE " names another)";
    if (given && given[0]) {
        *origin = " (socket from $" SOCKET_VARIABLE ")";
        length = snprintf(path, path_bytes, "%s", given);
    } else if (geteuid() == 0) {
        length = snprintf(path, path_bytes, "%s", SOCKET_OF_ROOT);
    } else if (directory && directory[0]) {
        length = snprintf(path, path_bytes, "%s/openvstorage/shm.sock", directory);
    } else {
        return ovsshm_reason_literal(-ENOENT, "no default socket: neither $" SOCKET_VARIABLE
                                              " nor $XDG_RUNTIME_DIR is set");
    }
    if ((size_t)length >= path_bytes) {
        return ovsshm_reason_set(-ENAMETOOLONG,
                                 "the socket path %.200s does not fit in %zu bytes%s", path,
                                 path_bytes, *origin);
    }
    return 0;
}

int
ovsshm_default_socket(char *path, size_t path_bytes)
{
    const char *origin;
    return default_socket(path, path_bytes, &origin);
}

int
ovsshm_connect(const char *socket_path, struct ovsshm_conn **conn)
{
    char path[4096];
    const char *origin = "";
    if (!socket_path) {
        int rc = default_socket(path, sizeof(path), &origin);
        if (rc) {
            return rc;
        }
        socket_path = path;
    }
    struct ovsshm_conn *c = malloc(sizeof(*c));
    if (!c) {
        return ovsshm_reason_literal(-ENOMEM, "no memory for a connection");
    }
    int rc = ovsshm_session_start(&c->session, socket_path, origin);
    if (rc) {
        free(c);
        return rc;
    }
    *conn = c;
    return 0;
}

void
ovsshm_disconnect(struct ovsshm_conn *conn)
{
    if (conn) {
        ovsshm_session_stop(&conn->session);
        free(conn);
    }
}

const struct ovsshm_msg_hello_reply *
ovsshm_conn_hello(const struct ovsshm_conn *conn)
{
    return &conn->session.hello;
}

/* ---- requests about one thing --------------------------------------------------------------- */

/* A call whose reply has a fixed size, perhaps none. */
static int
call_fixed(struct ovsshm_session *session, uint16_t type, const void *payload, size_t payload_bytes,
           void *reply, size_t reply_bytes)
{
    struct ovsshm_call call = {
        .type = type,
        .payload = payload,
        .payload_bytes = payload_bytes,
        .reply = reply,
        .reply_bytes_min = reply_bytes,
        .reply_bytes_max = reply_bytes,
    };
    int rc = ovsshm_session_call(session, &call);
    return rc < 0 ? rc : 0;
}

int
ovsshm_status(struct ovsshm_conn *conn, struct ovsshm_status *status)
{
    return call_fixed(&conn->session, OVSSHM_MSG_STATUS, NULL, 0, status, sizeof(*status));
}

/* bad: what the check of this kind of name says. */
static int
put_name(char *field, const char *kind, const char *name, const char *bad)
{
    if (bad) {
        return ovsshm_reason_set(ovsshm_name_errno(name), "%s name \"%.255s\" %s", kind,
                                 name ? name : "", bad);
    }
    memset(field, 0, OVSSHM_NAME_BYTES);
    strcpy(field, name);
    return 0;
}

int
ovsshm_put_volume_name(char *field, const char *name)
{
    return put_name(field, "volume", name, ovsshm_volume_name_check(name));
}

static int
put_snapshot_name(char *field, const char *name)
{
    return put_name(field, "snapshot", name, ovsshm_snapshot_name_check(name));
}

static int
put_size(uint64_t *field, const char *name, uint64_t size_bytes)
{
    const char *bad = ovsshm_size_check(size_bytes);
    if (bad) {
        return ovsshm_reason_set(-EINVAL, "size %llu of volume \"%.255s\" %s",
                                 (unsigned long long)size_bytes, name, bad);
    }
    *field = size_bytes;
    return 0;
}

static int
call_volume(struct ovsshm_session *session, uint16_t type, const char *name, uint64_t size_bytes)
{
    struct ovsshm_msg_volume payload = {.resv = 0};
    int rc = ovsshm_put_volume_name(payload.name, name);
    rc = rc ? rc : put_size(&payload.size_bytes, name, size_bytes);
    return rc ? rc : call_fixed(session, type, &payload, sizeof(payload), NULL, 0);
}

int
ovsshm_create(struct ovsshm_conn *conn, const char *name, uint64_t size_bytes)
{
    return call_volume(&conn->session, OVSSHM_MSG_CREATE, name, size_bytes);
}

int
ovsshm_remove(struct ovsshm_conn *conn, const char *name)
{
    return call_volume(&conn->session, OVSSHM_MSG_REMOVE, name, 0);
}

int
ovsshm_session_resize(struct ovsshm_session *session, const char *name, uint64_t size_bytes)
{
    return call_volume(session, OVSSHM_MSG_RESIZE, name, size_bytes);
}

int
ovsshm_resize(struct ovsshm_conn *conn, const char *name, uint64_t size_bytes)
{
    return ovsshm_session_resize(&conn->session, name, size_bytes);
}

int
ovsshm_session_stat(struct ovsshm_session *session, const char *name,
                    struct ovsshm_volume_info *info)
{
    struct ovsshm_msg_volume payload = {.resv = 0};
    struct ovsshm_volume_info reply;
    int rc = ovsshm_put_volume_name(payload.name, name);
    rc =
        rc ? rc
           : call_fixed(session, OVSSHM_MSG_STAT, &payload, sizeof(payload), &reply, sizeof(reply));
    if (rc) {
        return rc;
    }
    if (!ovsshm_msg_text_ok(reply.name, sizeof(reply.name))) {
        return ovsshm_session_violated(session, "a volume name without end");
    }
    *info = reply;
    return 0;
}

int
ovsshm_stat(struct ovsshm_conn *conn, const char *name, struct ovsshm_volume_info *info)
{
    return ovsshm_session_stat(&conn->session, name, info);
}

int
ovsshm_session_set_mode(struct ovsshm_session *session, uint32_t mode)
{
    struct ovsshm_msg_set_mode payload = {.mode = mode};
    return call_fixed(session, OVSSHM_MSG_SET_MODE, &payload, sizeof(payload), NULL, 0);
}

static int
call_snapshot(struct ovsshm_conn *conn, uint16_t type, const char *volume, const char *snapshot,
              int64_t timeout_s, void *reply, size_t reply_bytes)
{
    struct ovsshm_msg_snapshot payload = {.timeout_s = timeout_s};
    int rc = ovsshm_put_volume_name(payload.volume, volume);
    rc = rc ? rc : put_snapshot_name(payload.snapshot, snapshot);
    return rc ? rc
              : call_fixed(&conn->session, type, &payload, sizeof(payload), reply, reply_bytes);
}

int
ovsshm_snapshot_create(struct ovsshm_conn *conn, const char *volume, const char *snapshot,
                       int64_t timeout_s)
{
    return call_snapshot(conn, OVSSHM_MSG_SNAPSHOT_CREATE, volume, snapshot, timeout_s, NULL, 0);
}

int
ovsshm_snapshot_rollback(struct ovsshm_conn *conn, const char *volume, const char *snapshot)
{
    return call_snapshot(conn, OVSSHM_MSG_SNAPSHOT_ROLLBACK, volume, snapshot, 0, NULL, 0);
}

int
ovsshm_snapshot_remove(struct ovsshm_conn *conn, const char *volume, const char *snapshot)
{
    return call_snapshot(conn, OVSSHM_MSG_SNAPSHOT_REMOVE, volume, snapshot, 0, NULL, 0);
}

int
ovsshm_snapshot_is_synced(struct ovsshm_conn *conn, const char *volume, const char *snapshot)
{
    struct ovsshm_msg_synced_reply reply;
    int rc = call_snapshot(conn, OVSSHM_MSG_SNAPSHOT_IS_SYNCED, volume, snapshot, 0, &reply,
                           sizeof(reply));
    return rc ? rc : reply.synced != 0;
}

/* ---- lists ---------------------------------------------------------------------------------- */

/* A listing: elements of all kinds start with what the next page comes after, a name or an id. */
struct listing {
    uint16_t type;
    void *payload;
    size_t payload_bytes;
    void *after; /* field of the payload: the last one seen */
    size_t after_bytes;
    size_t element_bytes;
    bool (*ok)(const void *element, const void *before); /* before: the field of the one before */
};

static bool
name_ok(const void *element, const void *before)
{
    (void)before;
    return *(const char *)element && ovsshm_msg_text_ok(element, OVSSHM_NAME_BYTES);
}

static bool
session_ok(const void *element, const void *before)
{
    struct ovsshm_session_info info;
    uint64_t id;
    memcpy(&info, element, sizeof(info));
    memcpy(&id, before, sizeof(id));
    return info.id > id && ovsshm_msg_text_ok(info.client, sizeof(info.client)) &&
           ovsshm_msg_text_ok(info.volume, sizeof(info.volume));
}

struct page {
    struct ovsshm_msg_list_reply head;
    unsigned char elements[OVSSHM_MSG_BYTES_MAX];
};

/* One page: how many elements it has, or -errno. */
static int
list_page(struct ovsshm_session *session, const struct listing *listing, struct page *page)
{
    struct ovsshm_call call = {
        .type = listing->type,
        .payload = listing->payload,
        .payload_bytes = listing->payload_bytes,
        .reply = page,
        .reply_bytes_min = sizeof(page->head),
        .reply_bytes_max = sizeof(*page),
    };
    int rc = ovsshm_session_call(session, &call);
    if (rc < 0) {
        return rc;
    }
    size_t bytes = (size_t)rc - sizeof(page->head);
    if (bytes % listing->element_bytes || page->head.count != bytes / listing->element_bytes ||
        page->head.more > 1 || (page->head.more && page->head.count == 0)) {
        return ovsshm_session_violated(session, "a list that does not add up");
    }
    const void *before = listing->after;
    for (uint32_t i = 0; i < page->head.count; i++) {
        const unsigned char *element = page->elements + i * listing->element_bytes;
        if (!listing->ok(element, before)) {
            return ovsshm_session_violated(session, "a list with a bad element");
        }
        before = element;
    }
    return (int)page->head.count;
}

/* Fills `elements` page by page. */
static int
list_all(struct ovsshm_session *session, const struct listing *listing, unsigned char *elements,
         unsigned count)
{
    struct page *page = malloc(sizeof(*page));
    if (!page) {
        return ovsshm_reason_literal(-ENOMEM, "no memory for a list");
    }
    unsigned stored = 0;
    bool more = true;
    int rc = 0;
    count = count < INT32_MAX ? count : INT32_MAX;
    while (more && stored < count) {
        rc = list_page(session, listing, page);
        if (rc <= 0) {
            break;
        }
        unsigned take = (unsigned)rc < count - stored ? (unsigned)rc : count - stored;
        memcpy(elements + (size_t)stored * listing->element_bytes, page->elements,
               take * listing->element_bytes);
        stored += take;
        memcpy(listing->after, elements + (size_t)(stored - 1) * listing->element_bytes,
               listing->after_bytes);
        more = page->head.more;
    }
    free(page);
    return rc < 0 ? rc : (int)stored;
}

int
ovsshm_list(struct ovsshm_conn *conn, const char *after, struct ovsshm_volume_info *infos,
            unsigned count)
{
    struct ovsshm_msg_volume payload = {.resv = 0};
    struct listing listing = {
        .type = OVSSHM_MSG_LIST,
        .payload = &payload,
        .payload_bytes = sizeof(payload),
        .after = payload.name,
        .after_bytes = sizeof(payload.name),
        .element_bytes = sizeof(*infos),
        .ok = name_ok,
    };
    int rc = after && after[0] ? ovsshm_put_volume_name(payload.name, after) : 0;
    return rc ? rc : list_all(&conn->session, &listing, (unsigned char *)infos, count);
}

int
ovsshm_snapshot_list(struct ovsshm_conn *conn, const char *volume, const char *after,
                     struct ovsshm_snapshot_info *infos, unsigned count)
{
    struct ovsshm_msg_snapshot payload = {.resv = 0};
    struct listing listing = {
        .type = OVSSHM_MSG_SNAPSHOT_LIST,
        .payload = &payload,
        .payload_bytes = sizeof(payload),
        .after = payload.snapshot,
        .after_bytes = sizeof(payload.snapshot),
        .element_bytes = sizeof(*infos),
        .ok = name_ok,
    };
    int rc = ovsshm_put_volume_name(payload.volume, volume);
    if (!rc && after && after[0]) {
        rc = put_snapshot_name(payload.snapshot, after);
    }
    return rc ? rc : list_all(&conn->session, &listing, (unsigned char *)infos, count);
}

int
ovsshm_sessions(struct ovsshm_conn *conn, uint64_t after, struct ovsshm_session_info *infos,
                unsigned count)
{
    struct ovsshm_msg_sessions payload = {.after = after};
    struct listing listing = {
        .type = OVSSHM_MSG_SESSIONS,
        .payload = &payload,
        .payload_bytes = sizeof(payload),
        .after = &payload.after,
        .after_bytes = sizeof(payload.after),
        .element_bytes = sizeof(*infos),
        .ok = session_ok,
    };
    if (!(conn->session.hello.features & OVSSHM_FEATURE_SESSIONS)) {
        return ovsshm_reason_set(-EOPNOTSUPP, "the server at %s is too old to list sessions",
                                 conn->session.path);
    }
    return list_all(&conn->session, &listing, (unsigned char *)infos, count);
}
