/* SPDX-License-Identifier: MIT */
#include "message.h"

#include <errno.h>
#include <inttypes.h>

#include "server.h"
#include "session.h"
#include "shared/names.h"

static int
check_name(const char *name, const char *kind, const char *(*check)(const char *),
           struct ovsshm_error *error)
{
    const char *bad = check(name);
    return bad ? srv_error(error, ovsshm_name_errno(name), "%s name \"%.150s\" %s", kind, name, bad)
               : 0;
}

static int
check_volume(const struct command *c, struct ovsshm_error *error)
{
    const struct ovsshm_msg_volume *m = &c->in.volume;
    bool sized = c->type == OVSSHM_MSG_CREATE || c->type == OVSSHM_MSG_RESIZE;
    if (!ovsshm_msg_text_ok(m->name, sizeof(m->name)) || m->resv || (!sized && m->size_bytes)) {
        return -EPROTO;
    }
    if (c->type == OVSSHM_MSG_LIST && !m->name[0]) {
        return 0;
    }
    int rc = check_name(m->name, "volume", ovsshm_volume_name_check, error);
    const char *bad = ovsshm_size_check(m->size_bytes);
    return rc || !bad ? rc
                      : srv_error(error, -EINVAL, "size %" PRIu64 " of volume \"%.150s\" %s",
                                  m->size_bytes, m->name, bad);
}

static int
check_snapshot(const struct command *c, struct ovsshm_error *error)
{
    const struct ovsshm_msg_snapshot *m = &c->in.snapshot;
    if (!ovsshm_msg_text_ok(m->volume, sizeof(m->volume)) ||
        !ovsshm_msg_text_ok(m->snapshot, sizeof(m->snapshot)) || m->resv ||
        (m->timeout_s && c->type != OVSSHM_MSG_SNAPSHOT_CREATE)) {
        return -EPROTO;
    }
    int rc = check_name(m->volume, "volume", ovsshm_volume_name_check, error);
    if (rc || (c->type == OVSSHM_MSG_SNAPSHOT_LIST && !m->snapshot[0])) {
        return rc;
    }
    return check_name(m->snapshot, "snapshot", ovsshm_snapshot_name_check, error);
}

static int
check_number(const char *what, uint64_t value, uint64_t max, struct ovsshm_error *error)
{
    return value >= 1 && value <= max
               ? 0
               : srv_error(error, -EINVAL, "%s is %" PRIu64 ", the server allows 1 to %" PRIu64,
                           what, value, max);
}

static int
check_open(const struct command *c, struct ovsshm_error *error)
{
    const struct ovsshm_msg_open *m = &c->in.open;
    const struct ovsshm_server_params *params = &c->connection->server->params;
    if (!ovsshm_msg_text_ok(m->name, sizeof(m->name)) || m->resv0 || m->resv1) {
        return -EPROTO;
    }
    if (c->connection->session) {
        return srv_error(error, -EINVAL, "this connection has volume \"%.150s\" open",
                         c->connection->session->volume->name);
    }
    if (m->mode != OVSSHM_MODE_READ && m->mode != OVSSHM_MODE_WRITE) {
        return srv_error(error, -EINVAL, "unknown mode %" PRIu32, m->mode);
    }
    if (m->arena_bytes % OVSSHM_PAGE_BYTES) {
        return srv_error(error, -EINVAL, "arena of %" PRIu64 " bytes is not a multiple of %d",
                         m->arena_bytes, OVSSHM_PAGE_BYTES);
    }
    int rc = check_name(m->name, "volume", ovsshm_volume_name_check, error);
    rc = rc ? rc : check_number("number of queues", m->queues, params->queues_max, error);
    rc = rc ? rc : check_number("queue depth", m->depth, params->depth_max, error);
    return rc ? rc : check_number("arena size", m->arena_bytes, params->arena_bytes_max, error);
}

static int
check_set_mode(const struct command *c, struct ovsshm_error *error)
{
    const struct ovsshm_msg_set_mode *m = &c->in.set_mode;
    if (m->resv) {
        return -EPROTO;
    }
    if (m->mode != OVSSHM_MODE_READ && m->mode != OVSSHM_MODE_WRITE) {
        return srv_error(error, -EINVAL, "unknown mode %" PRIu32, m->mode);
    }
    return c->connection->session
               ? 0
               : srv_error(error, -EINVAL, "no volume is open on this connection");
}

#define VOLUME sizeof(struct ovsshm_msg_volume), check_volume
#define SNAPSHOT sizeof(struct ovsshm_msg_snapshot), check_snapshot

static const struct message messages[] = {
    {OVSSHM_MSG_CREATE, VOLUME, srv_manage_create},
    {OVSSHM_MSG_REMOVE, VOLUME, srv_manage_remove},
    {OVSSHM_MSG_RESIZE, VOLUME, srv_manage_resize},
    {OVSSHM_MSG_STAT, VOLUME, srv_manage_stat},
    {OVSSHM_MSG_LIST, VOLUME, srv_manage_list},
    {OVSSHM_MSG_SNAPSHOT_CREATE, SNAPSHOT, srv_manage_snapshot_create},
    {OVSSHM_MSG_SNAPSHOT_LIST, SNAPSHOT, srv_manage_snapshot_list},
    {OVSSHM_MSG_SNAPSHOT_ROLLBACK, SNAPSHOT, srv_manage_snapshot_rollback},
    {OVSSHM_MSG_SNAPSHOT_REMOVE, SNAPSHOT, srv_manage_snapshot_remove},
    {OVSSHM_MSG_SNAPSHOT_IS_SYNCED, SNAPSHOT, srv_manage_snapshot_is_synced},
    {OVSSHM_MSG_OPEN, sizeof(struct ovsshm_msg_open), check_open, srv_manage_open},
    {OVSSHM_MSG_SET_MODE, sizeof(struct ovsshm_msg_set_mode), check_set_mode, srv_manage_set_mode},
};

const struct message *
srv_message_find(uint16_t type)
{
    for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
        if (messages[i].type == type) {
            return &messages[i];
        }
    }
    return NULL;
}

const char *
srv_command_subject(const struct command *command)
{
    switch (command->type) {
    case OVSSHM_MSG_LIST: return NULL;
    case OVSSHM_MSG_OPEN: return command->in.open.name;
    case OVSSHM_MSG_CREATE:
    case OVSSHM_MSG_REMOVE:
    case OVSSHM_MSG_RESIZE:
    case OVSSHM_MSG_STAT: return command->in.volume.name;
    default: return command->in.snapshot.volume;
    }
}
