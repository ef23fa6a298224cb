/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "connection.h"
#include "local_own.h"
#include "management.h"
#include "server.h"
#include "shared/names.h"

#define HOLDER "mount" /* as others see a local */

/* ---- clients hear of a new size ---------------------------------------------------------------
 */

struct resized {
    struct mail mail; /* to the control thread */
    struct ovsshm_server *server;
    uint64_t size_bytes;
    char name[OVSSHM_NAME_BYTES];
};

static void
resized_deliver(struct mail *mail)
{
    struct resized *resized = container_of(mail, struct resized, mail);
    srv_connection_announce_resize(resized->server, resized->name, resized->size_bytes);
    free(resized);
}

/* Without memory they do not: the size is in their regions all the same. */
static void
announce(const struct command *c, const char *name)
{
    struct resized *resized = c->resized ? malloc(sizeof(*resized)) : NULL;
    if (resized) {
        *resized = (struct resized){
            .mail.deliver = resized_deliver, .server = c->job.server, .size_bytes = c->size_bytes};
        strcpy(resized->name, name);
        srv_mailbox_post(&c->job.server->control.mailbox, &resized->mail);
    }
}

/* ---- calls as jobs ----------------------------------------------------------------------------
 */

static struct command
command_of(struct ovsshm_server *server, int (*run)(struct job *job))
{
    return (struct command){.job = {.server = server, .run = run}};
}

static int
finish(const struct command *c, int rc, struct ovsshm_error *error)
{
    return rc ? srv_error(error, rc, "%s", c->error.reason[0] ? c->error.reason : strerror(-rc))
              : 0;
}

static int
stopping(struct ovsshm_error *error)
{
    return srv_error(error, -ESHUTDOWN, "the server is stopping");
}

static int
check_name(const char *name, struct ovsshm_error *error)
{
    const char *bad = ovsshm_volume_name_check(name);
    return bad ? srv_error(error, ovsshm_name_errno(name), "volume name \"%.150s\" %s", name, bad)
               : 0;
}

static int
check_size(const char *name, uint64_t size_bytes, struct ovsshm_error *error)
{
    return size_bytes > INT64_MAX
               ? srv_error(error, -EFBIG, "size of volume \"%.150s\" is larger than 2^63 - 1 bytes",
                           name)
               : 0;
}

/* A command about the volume of this name, in the calling thread. */
static int
run(struct command *c, const char *name, struct ovsshm_error *error)
{
    struct ovsshm_server *server = c->job.server;
    int rc = check_name(name, error);
    if (rc) {
        return rc;
    }
    if (!srv_local_call_enter(server)) {
        return stopping(error);
    }
    rc = srv_registry_run(&server->registry, &c->job, name);
    announce(c, name);
    srv_local_call_leave(server);
    return finish(c, rc, error);
}

/* ---- names and sizes --------------------------------------------------------------------------
 */

int
srv_local_create(struct ovsshm_server *server, const char *name, uint64_t size_bytes,
                 struct ovsshm_error *error)
{
    struct command c = command_of(server, srv_manage_create);
    int rc = check_size(name, size_bytes, error);
    c.in.volume.size_bytes = size_bytes;
    return rc ? rc : run(&c, name, error);
}

int
srv_local_remove(struct ovsshm_server *server, const char *name, struct ovsshm_error *error)
{
    struct command c = command_of(server, srv_manage_remove);
    return run(&c, name, error);
}

int
srv_local_truncate(struct ovsshm_server *server, const char *name, uint64_t size_bytes,
                   struct ovsshm_error *error)
{
    struct command c = command_of(server, srv_manage_truncate);
    int rc = check_size(name, size_bytes, error);
    c.in.volume.size_bytes = size_bytes;
    return rc ? rc : run(&c, name, error);
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

/* ---- rename -----------------------------------------------------------------------------------
 */

/* It names two volumes: the job on one runs in the middle of that on the other. */
struct rename {
    struct command outer;
    struct command inner;
    const char *names[2]; /* of outer and inner: in order, so that no two wait for each other */
    const char *from;
    const char *to;
    bool replace;
};

static int
rename_now(const struct rename *r, struct ovsshm_store *store, struct ovsshm_error *error)
{
    struct ovsshm_volume_info info;
    int rc = store->type->volume_stat(store, r->from, &info);
    if (rc == -ENOENT) {
        return srv_error(error, rc, "volume \"%.200s\" does not exist", r->from);
    }
    if (rc == 0 && !r->replace) {
        rc = store->type->volume_stat(store, r->to, &info);
        if (rc == 0) {
            return srv_error(error, -EEXIST, "volume \"%.200s\" exists already", r->to);
        }
        rc = rc == -ENOENT ? 0 : rc; /* not to know is no reason to replace */
    }
    rc = rc ? rc : store->type->volume_rename(store, r->from, r->to, error);
    return rc == 0 || error->reason[0] ? rc
                                       : srv_error(error, rc, "cannot rename volume \"%.100s\": %s",
                                                   r->from, strerror(-rc));
}

static int
rename_inner(struct job *job)
{
    struct rename *r = container_of(job, struct rename, inner.job);
    int rc = srv_manage_check_closed(&r->inner);
    return rc ? rc : rename_now(r, job->server->store, &r->inner.error);
}

static int
rename_outer(struct job *job)
{
    struct rename *r = container_of(job, struct rename, outer.job);
    int rc = srv_manage_check_closed(&r->outer);
    if (rc == 0) {
        rc = srv_registry_run(&job->server->registry, &r->inner.job, r->names[1]);
        r->outer.error = r->inner.error;
    }
    return rc;
}

/* To the name that it has. */
static int
rename_nothing(struct ovsshm_server *server, const char *name, bool replace,
               struct ovsshm_error *error)
{
    struct ovsshm_volume_info info;
    int rc = srv_local_stat(server, name, &info);
    rc = rc == 0 && !replace ? -EEXIST : rc;
    return rc ? srv_error(error, rc, "volume \"%.200s\": %s", name, strerror(-rc)) : 0;
}

int
srv_local_rename(struct ovsshm_server *server, const char *from, const char *to, bool replace,
                 struct ovsshm_error *error)
{
    const struct ovsshm_store *store = server->store;
    int order = strcmp(from, to);
    struct rename r = {
        .outer = command_of(server, rename_outer),
        .inner = command_of(server, rename_inner),
        .names = {order < 0 ? from : to, order < 0 ? to : from},
        .from = from,
        .to = to,
        .replace = replace,
    };
    int rc = check_name(r.names[1], error);
    if (rc) {
        return rc;
    }
    if (!store->type->volume_rename || !(store->capabilities & OVSSHM_CAP_MANAGE)) {
        return srv_error(error, -EOPNOTSUPP, "store \"%s\" cannot rename volumes",
                         store->type->name);
    }
    return order ? run(&r.outer, r.names[0], error) : rename_nothing(server, from, replace, error);
}

/* ---- sessions ---------------------------------------------------------------------------------
 */

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
    srv_local_publish_size(session, session->volume->exact_bytes);
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
    bool gives_up = mode == OVSSHM_MODE_READ; /* before those who wait for just that */
    c.session = &local->session;
    c.in.set_mode.mode = mode;
    if (!srv_local_close_enter(local)) {
        return stopping(error);
    }
    if (!gives_up) {
        srv_local_leaving(local, false);
    }
    int rc = srv_registry_run_on(&server->registry, &c.job, local->session.volume, gives_up);
    ovsshm_store_relaxed(&local->session.leaving, false);
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
    return ovsshm_load_acquire(&local->size_bytes);
}

uint32_t
srv_local_block_bytes(const struct local *local)
{
    return local->block_bytes;
}

void
srv_local_publish_size(struct session *session, uint64_t size_bytes)
{
    ovsshm_store_release(&container_of(session, struct local, session)->size_bytes, size_bytes);
}

void
srv_local_counters(const struct session *session, struct counters *to)
{
    const struct local *local = (const struct local *)(const void *)session;
    for (unsigned i = 0; i < LOCAL_COUNTED; i++) {
        srv_counters_sum(to, &local->counted[i].counters);
    }
}

/* ---- the watch, and the server ----------------------------------------------------------------
 */

void
srv_local_watch(struct ovsshm_server *server, srv_local_changed_fn changed, void *arg)
{
    const struct ovsshm_store_type *type = server->store->type;
    pthread_mutex_lock(&server->locals.watch_lock);
    server->locals.changed = changed;
    server->locals.changed_arg = arg;
    if (type->set_mounted) {
        type->set_mounted(server->store, changed != NULL);
    }
    pthread_mutex_unlock(&server->locals.watch_lock);
}

void
srv_local_tell(struct ovsshm_server *server, const char *name, enum srv_local_event event)
{
    pthread_mutex_lock(&server->locals.watch_lock);
    if (server->locals.changed) {
        server->locals.changed(server->locals.changed_arg, name, event);
    }
    pthread_mutex_unlock(&server->locals.watch_lock);
}

void
srv_local_init(struct ovsshm_server *server)
{
    LIST_INIT(&server->locals.groups);
    LIST_INIT(&server->locals.locals);
    pthread_mutex_init(&server->locals.watch_lock, NULL);
}

void
srv_local_destroy(struct ovsshm_server *server)
{
    pthread_mutex_destroy(&server->locals.watch_lock);
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
