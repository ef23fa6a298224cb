/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "local_own.h"
#include "management.h"
#include "server.h"
#include "shared/names.h"

#define HOLDER "mount" /* as others see a local */

/* ---- calls as jobs --------------------------------------------------------------------------- */

static struct command
command_of(struct ovsshm_server *server, int (*run)(struct job *job))
{
    return (struct command){.job = {.server = server, .run = run}};
}

static int
finish(struct command *c, int rc, struct ovsshm_error *error)
{
    if (rc && error) {
        *error = c->error;
        if (!error->reason[0]) {
            srv_error(error, rc, "%s", strerror(-rc));
        }
    }
    return rc;
}

static int
stopping(struct ovsshm_error *error)
{
    return srv_error(error, -ESHUTDOWN, "the server is stopping");
}

/* A command about the volume of this name (NULL: none), in the calling thread. */
static int
run(struct command *c, const char *name, struct ovsshm_error *error)
{
    struct ovsshm_server *server = c->job.server;
    const char *bad = name ? ovsshm_volume_name_check(name) : NULL;
    if (bad) {
        return srv_error(error, ovsshm_name_errno(name), "volume name \"%.150s\" %s", name, bad);
    }
    if (!srv_local_call_enter(server)) {
        return stopping(error);
    }
    int rc = srv_registry_run(&server->registry, &c->job, name);
    srv_local_call_leave(server);
    return finish(c, rc, error);
}

int
srv_local_create(struct ovsshm_server *server, const char *name, uint64_t size_bytes,
                 struct ovsshm_error *error)
{
    struct command c = command_of(server, srv_manage_create);
    if (size_bytes > INT64_MAX) {
        return srv_error(error, -EFBIG, "size of volume \"%.150s\" is larger than 2^63 - 1 bytes",
                         name);
    }
    c.in.volume.size_bytes = size_bytes;
    return run(&c, name, error);
}

int
srv_local_remove(struct ovsshm_server *server, const char *name, struct ovsshm_error *error)
{
    struct command c = command_of(server, srv_manage_remove);
    return run(&c, name, error);
}

int
srv_local_stat(struct ovsshm_server *server, const char *name, struct ovsshm_volume_info *info)
{
    struct command c = command_of(server, srv_manage_stat);
    c.info = info;
    return run(&c, name, NULL);
}

int
srv_local_list(struct ovsshm_server *server, const char *after, struct ovsshm_volume_info *infos,
               unsigned count)
{
    const struct ovsshm_store_type *type = server->store->type;
    if (!type->volume_list) {
        return -EOPNOTSUPP;
    }
    if (!srv_local_call_enter(server)) {
        return -ESHUTDOWN;
    }
    int found = type->volume_list(server->store, after, infos, count);
    for (int i = 0; i < found; i++) {
        srv_manage_add_usage(server, &infos[i]);
    }
    srv_local_call_leave(server);
    return found;
}

/* ---- sessions -------------------------------------------------------------------------------- */

void
srv_local_begin(struct command *command)
{
    struct session *session = &command->local->session;
    struct registry *registry = &command->job.server->registry;
    session->volume = command->job.volume;
    session->opened_ns = srv_clock_ns();
    session->mode = command->in.open.mode;
    session->writable = session->mode == OVSSHM_MODE_WRITE;
    command->local->block_bytes = session->volume->open->block_bytes;
    pthread_mutex_lock(&registry->lock);
    session->id = ++registry->session_ids;
    TAILQ_INSERT_TAIL(&session->volume->sessions, session, link);
    TAILQ_INSERT_TAIL(&registry->sessions, session, by_id);
    pthread_mutex_unlock(&registry->lock);
    srv_local_link(command->local);
}

static struct local *
local_alloc(struct ovsshm_server *server)
{
    struct local *local = aligned_alloc(_Alignof(struct local), sizeof(*local));
    if (local) {
        memset(local, 0, sizeof(*local));
        local->session.server = server;
        local->session.local = true;
        local->session.socket_fd = -1;
        local->session.peer = (struct peer){getpid(), geteuid(), getegid(), HOLDER};
        strcpy(local->session.client, HOLDER);
        local->session.close = (struct job){.server = server, .run = srv_manage_close};
    }
    return local;
}

int
srv_local_open(struct ovsshm_server *server, const char *name, uint32_t mode, struct local **out,
               struct ovsshm_error *error)
{
    struct command c = command_of(server, srv_manage_open);
    c.in.open.mode = mode;
    c.local = local_alloc(server);
    if (!c.local) {
        return srv_error(error, -ENOMEM, "out of memory");
    }
    int rc = run(&c, name, error);
    if (rc) {
        free(c.local);
        return rc;
    }
    *out = c.local;
    return 0;
}

int
srv_local_set_mode(struct local *local, uint32_t mode, struct ovsshm_error *error)
{
    struct ovsshm_server *server = local->session.server;
    struct command c = command_of(server, srv_manage_set_mode);
    c.session = &local->session;
    c.in.set_mode.mode = mode;
    if (!srv_local_close_enter(local)) {
        return stopping(error);
    }
    srv_local_leaving(local, false);
    int rc = srv_registry_run_on(&server->registry, &c.job, local->session.volume, false);
    srv_local_call_leave(server);
    return finish(&c, rc, error);
}

static void
close_session(struct local *local)
{
    struct session *session = &local->session;
    struct registry *registry = &session->server->registry;
    (void)srv_registry_run_on(registry, &session->close, session->volume, true);
    srv_local_unlink(local);
}

void
srv_local_close(struct local *local)
{
    if (!local) {
        return;
    }
    if (srv_local_close_enter(local)) {
        struct ovsshm_server *server = local->session.server;
        close_session(local);
        srv_local_call_leave(server);
    }
    free(local);
}

void
srv_local_leaving(struct local *local, bool leaving)
{
    if (!srv_local_close_enter(local)) {
        return;
    }
    struct ovsshm_server *server = local->session.server;
    ovsshm_store_relaxed(&local->session.leaving, leaving);
    if (!leaving) {
        srv_registry_retry(&server->registry, local->session.volume);
    }
    srv_local_call_leave(server);
}

uint64_t
srv_local_size(const struct local *local)
{
    return ovsshm_load_acquire(&local->session.volume->exact_bytes);
}

uint32_t
srv_local_block_bytes(const struct local *local)
{
    return local->block_bytes;
}

void
srv_local_counters(const struct session *session, struct counters *to)
{
    const struct local *local = (const struct local *)(const void *)session;
    for (unsigned i = 0; i < LOCAL_COUNTED; i++) {
        srv_counters_sum(to, &local->counted[i].counters);
    }
}

uint32_t
srv_local_stop(struct ovsshm_server *server)
{
    srv_local_end_begin(server);
    srv_local_end_groups(server);
    for (struct local *local; (local = LIST_FIRST(&server->locals.locals));) {
        close_session(local);
    }
    return server->locals.dropped;
}
