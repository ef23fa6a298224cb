/* SPDX-License-Identifier: MIT */
#include "management.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "local_own.h"
#include "pause.h"
#include "session.h"

#define PAUSE_NS 30000000000u /* requests in flight take less, or the store is stuck */
#define PARK_NS 5000000000u   /* as above, of a client that is gone */
#define PAUSE_LOOK_NS 100000000u

#define COMMAND(job_pointer) container_of(job_pointer, struct command, job)
#define STORE(command) ((command)->job.server->store)

/* What is missing is said in the same words by all calls and stores; else the store's go first. */
static int
failed(struct command *c, int rc, const char *verb)
{
    const char *name = c->job.volume ? c->job.volume->name : "";
    if (rc == -ENOENT) {
        return srv_error(&c->error, rc, "volume \"%.200s\" does not exist", name);
    }
    if (rc >= 0 || c->error.reason[0]) {
        return rc;
    }
    if (rc == -EEXIST) {
        return srv_error(&c->error, rc, "volume \"%.200s\" exists already", name);
    }
    return srv_error(&c->error, rc, "cannot %s volume \"%.150s\": %s", verb, name, strerror(-rc));
}

static int
snapshot_failed(struct command *c, int rc, const char *verb)
{
    const char *name = c->in.snapshot.snapshot;
    struct ovsshm_volume_info info;
    if (rc == -ENOENT && STORE(c)->type->volume_stat(STORE(c), c->job.volume->name, &info) == 0) {
        return srv_error(&c->error, rc, "volume \"%.100s\" has no snapshot \"%.100s\"",
                         c->job.volume->name, name);
    }
    if (rc == -ENOENT) {
        return failed(c, rc, verb);
    }
    if (rc == -EEXIST) {
        return srv_error(&c->error, rc, "snapshot \"%.200s\" exists already", name);
    }
    if (rc >= 0 || c->error.reason[0]) {
        return rc;
    }
    return srv_error(&c->error, rc, "cannot %s snapshot \"%.150s\": %s", verb, name, strerror(-rc));
}

static int
unsupported(struct command *c, const char *what)
{
    return srv_error(&c->error, -EOPNOTSUPP, "store \"%s\" cannot %s", STORE(c)->type->name, what);
}

static int
reply_alloc(struct command *c, size_t bytes)
{
    c->reply = calloc(1, bytes);
    c->reply_bytes = c->reply ? bytes : 0;
    return c->reply ? 0 : srv_error(&c->error, -ENOMEM, "out of memory");
}

/* ---- sessions in the way -------------------------------------------------------------------- */

/* Which sessions stand against a command. */
enum conflict {
    ANY,
    WRITERS,
    CLIENTS,
};

static bool
stands_against(const struct session *session, enum conflict conflict)
{
    return conflict == ANY || (conflict == WRITERS && session->mode == OVSSHM_MODE_WRITE) ||
           (conflict == CLIENTS && !session->local);
}

/*
 * A session that stands against `c`.  0: none.  JOB_PARK: its client is gone, it will be closed in
 * a moment.  -EBUSY.
 */
static int
find_conflict(struct command *c, enum conflict conflict)
{
    struct registry *registry = &c->job.server->registry;
    struct session *session;
    int rc = 0;
    bool may_park = !ovsshm_load_relaxed(&c->job.server->draining) &&
                    (c->job.park_until_ns == 0 || srv_clock_ns() < c->job.park_until_ns);
    pthread_mutex_lock(&registry->lock);
    TAILQ_FOREACH(session, &c->job.volume->sessions, link)
    {
        if (session == c->session || !stands_against(session, conflict)) {
            continue;
        }
        bool gone = srv_session_hung_up(session);
        if (gone && may_park) {
            rc = JOB_PARK;
            continue;
        }
        rc = srv_error(&c->error, -EBUSY, "volume \"%.130s\" is %s by pid %d (%s)%s",
                       c->job.volume->name,
                       session->mode == OVSSHM_MODE_WRITE ? "open for writing" : "open",
                       (int)session->peer.pid, session->peer.program,
                       !gone            ? ""
                       : session->local ? ", closed but mapped into memory or inherited"
                                        : ", which is gone but has requests in the store");
        break;
    }
    pthread_mutex_unlock(&registry->lock);
    if (rc == JOB_PARK && c->job.park_until_ns == 0) {
        c->job.park_until_ns = srv_clock_ns() + PARK_NS;
    }
    return rc;
}

/* Runs with the volume's queues paused and nothing in flight. */
static int
paused(struct command *c, int (*act)(struct command *c))
{
    struct volume *volume = c->job.volume;
    struct ovsshm_server *server = c->job.server;
    if (!volume->open) {
        return act(c);
    }
    struct pause *pause = malloc(sizeof(*pause));
    if (!pause) {
        return srv_error(&c->error, -ENOMEM, "out of memory");
    }
    uint64_t deadline = srv_clock_ns() + PAUSE_NS;
    bool quiet = false;
    srv_pause_begin(pause, server, volume);
    while (!quiet && srv_clock_ns() < deadline && !ovsshm_load_relaxed(&server->draining)) {
        quiet = srv_pause_wait(pause, srv_clock_ns() + PAUSE_LOOK_NS);
    }
    int rc =
        quiet ? act(c)
              : srv_error(&c->error, -EBUSY,
                          "requests on volume \"%.150s\" do not finish in the store", volume->name);
    srv_pause_end(pause);
    free(pause);
    return rc;
}

/* What clients see of a size: a part of a sector at the end is for locals only. */
static uint64_t
whole_sectors(uint64_t bytes)
{
    return bytes - bytes % OVSSHM_SECTOR_BYTES;
}

/* The store has changed the size of an open volume. */
static void
publish_size(struct command *c)
{
    struct registry *registry = &c->job.server->registry;
    struct volume *volume = c->job.volume;
    struct session *session;
    if (!volume->open || volume->open->size_bytes == volume->exact_bytes) {
        return;
    }
    c->size_bytes = whole_sectors(volume->open->size_bytes);
    c->resized = c->size_bytes != volume->size_bytes;
    ovsshm_store_release(&volume->exact_bytes, volume->open->size_bytes);
    ovsshm_store_release(&volume->size_bytes, c->size_bytes);
    pthread_mutex_lock(&registry->lock);
    TAILQ_FOREACH(session, &volume->sessions, link)
    {
        if (session->local) {
            srv_local_publish_size(session, volume->open->size_bytes);
        } else {
            ovsshm_store_relaxed(ovsshm_region_volume_bytes(&session->region), c->size_bytes);
        }
    }
    pthread_mutex_unlock(&registry->lock);
}

/* What a client has done. */
static int
tell(struct command *c, enum srv_local_event event, int rc)
{
    if (rc == 0 && c->connection) {
        srv_local_tell(c->job.server, c->job.volume->name, event);
    }
    return rc;
}

/* ---- volumes -------------------------------------------------------------------------------- */

/* A part of a sector is for stores that can also cut it off. */
static int
check_size(struct command *c)
{
    uint64_t wanted = c->in.volume.size_bytes;
    return STORE(c)->type->volume_truncate || wanted % OVSSHM_SECTOR_BYTES == 0
               ? 0
               : srv_error(&c->error, -EINVAL,
                           "size %llu of volume \"%.100s\": store \"%s\" has whole sectors only",
                           (unsigned long long)wanted, c->job.volume->name, STORE(c)->type->name);
}

int
srv_manage_create(struct job *job)
{
    struct command *c = COMMAND(job);
    struct ovsshm_store *store = STORE(c);
    if (!store->type->volume_create || !(store->capabilities & OVSSHM_CAP_MANAGE)) {
        return unsupported(c, "create volumes");
    }
    int rc = check_size(c);
    if (rc) {
        return rc;
    }
    rc = store->type->volume_create(store, job->volume->name, c->in.volume.size_bytes, &c->error);
    return tell(c, SRV_LOCAL_CREATED, failed(c, rc, "create"));
}

int
srv_manage_remove(struct job *job)
{
    struct command *c = COMMAND(job);
    struct ovsshm_store *store = STORE(c);
    if (!store->type->volume_remove || !(store->capabilities & OVSSHM_CAP_MANAGE)) {
        return unsupported(c, "remove volumes");
    }
    int rc = find_conflict(c, ANY);
    if (rc) {
        return rc;
    }
    rc = store->type->volume_remove(store, job->volume->name, &c->error);
    return tell(c, SRV_LOCAL_REMOVED, failed(c, rc, "remove"));
}

static int
size_now(struct command *c, uint64_t *size_bytes)
{
    struct ovsshm_volume_info info;
    if (c->job.volume->open) {
        *size_bytes = c->job.volume->exact_bytes;
        return 0;
    }
    memset(&info, 0, sizeof(info));
    int rc = STORE(c)->type->volume_stat(STORE(c), c->job.volume->name, &info);
    *size_bytes = info.size_bytes;
    return failed(c, rc, "stat");
}

int
srv_manage_resize(struct job *job)
{
    struct command *c = COMMAND(job);
    struct ovsshm_store *store = STORE(c);
    uint64_t wanted = c->in.volume.size_bytes;
    uint64_t size = 0;
    if (!store->type->volume_resize || !(store->capabilities & OVSSHM_CAP_RESIZE)) {
        return unsupported(c, "resize volumes");
    }
    int rc = size_now(c, &size);
    rc = rc ? rc : check_size(c);
    size = whole_sectors(size);
    if (rc || wanted == size) {
        return rc;
    }
    if (wanted < size) {
        return srv_error(&c->error, -EPERM,
                         "volume \"%.100s\" cannot shrink from %llu to %llu bytes",
                         job->volume->name, (unsigned long long)size, (unsigned long long)wanted);
    }
    rc = store->type->volume_resize(store, job->volume->name, job->volume->open, wanted, &c->error);
    publish_size(c);
    return tell(c, SRV_LOCAL_RESIZED, failed(c, rc, "resize"));
}

static int
act_truncate(struct command *c)
{
    struct volume *volume = c->job.volume;
    int rc = STORE(c)->type->volume_truncate(STORE(c), volume->name, volume->open,
                                             c->in.volume.size_bytes, &c->error);
    publish_size(c);
    return rc;
}

int
srv_manage_truncate(struct job *job)
{
    struct command *c = COMMAND(job);
    struct ovsshm_store *store = STORE(c);
    uint64_t wanted = c->in.volume.size_bytes;
    uint64_t size = 0;
    if (!store->type->volume_truncate || !(store->capabilities & OVSSHM_CAP_RESIZE)) {
        return srv_manage_resize(job);
    }
    int rc = size_now(c, &size);
    if (rc || wanted == size) {
        return rc;
    }
    if (wanted > size) {
        return failed(c, act_truncate(c), "resize");
    }
    rc = whole_sectors(wanted) < whole_sectors(size) ? find_conflict(c, CLIENTS) : 0;
    return rc ? rc : failed(c, paused(c, act_truncate), "shrink");
}

int
srv_manage_check_closed(struct command *command)
{
    return find_conflict(command, ANY);
}

void
srv_manage_add_usage(struct ovsshm_server *server, struct ovsshm_volume_info *info)
{
    struct usage usage = srv_registry_usage(&server->registry, info->name);
    info->writers = usage.writers;
    info->readers = usage.readers;
}

int
srv_manage_stat(struct job *job)
{
    struct command *c = COMMAND(job);
    struct ovsshm_store *store = STORE(c);
    int rc = c->info ? 0 : reply_alloc(c, sizeof(struct ovsshm_volume_info));
    if (rc) {
        return rc;
    }
    struct ovsshm_volume_info *info = c->info ? c->info : c->reply;
    rc = store->type->volume_stat(store, job->volume->name, info);
    strcpy(info->name, job->volume->name);
    srv_manage_add_usage(job->server, info);
    if (!c->info) {
        info->size_bytes = whole_sectors(info->size_bytes);
    }
    return failed(c, rc, "stat");
}

/* `count` elements follow the head; -errno is passed on. */
static int
list_finish(struct command *c, int count, unsigned max, size_t element_bytes)
{
    struct ovsshm_msg_list_reply *head = c->reply;
    if (count < 0) {
        return count;
    }
    head->count = (uint32_t)count;
    head->more = (unsigned)count == max;
    c->reply_bytes = sizeof(*head) + (size_t)count * element_bytes;
    return 0;
}

int
srv_manage_list(struct job *job)
{
    struct command *c = COMMAND(job);
    struct ovsshm_store *store = STORE(c);
    const unsigned max = OVSSHM_LIST_MAX(struct ovsshm_volume_info);
    const char *after = c->in.volume.name[0] ? c->in.volume.name : NULL;
    if (!store->type->volume_list) {
        return unsupported(c, "list volumes");
    }
    int rc = reply_alloc(c, OVSSHM_MSG_BYTES_MAX);
    if (rc) {
        return rc;
    }
    struct ovsshm_volume_info *infos = (void *)((struct ovsshm_msg_list_reply *)c->reply + 1);
    int count = store->type->volume_list(store, after, infos, max);
    for (int i = 0; i < count; i++) {
        srv_manage_add_usage(job->server, &infos[i]);
        infos[i].size_bytes = whole_sectors(infos[i].size_bytes);
    }
    rc = list_finish(c, count, max, sizeof(*infos));
    return rc ? srv_error(&c->error, rc, "cannot list volumes: %s", strerror(-rc)) : 0;
}

/* ---- snapshots ------------------------------------------------------------------------------ */

static int
act_snapshot_create(struct command *c)
{
    return STORE(c)->type->snapshot_create(STORE(c), c->job.volume->name, c->job.volume->open,
                                           c->in.snapshot.snapshot, c->in.snapshot.timeout_s,
                                           &c->error);
}

static int
act_snapshot_rollback(struct command *c)
{
    int rc = STORE(c)->type->snapshot_rollback(STORE(c), c->job.volume->name, c->job.volume->open,
                                               c->in.snapshot.snapshot, &c->error);
    publish_size(c);
    return rc;
}

static bool
has_snapshots(const struct command *c)
{
    return STORE(c)->capabilities & OVSSHM_CAP_SNAPSHOT;
}

int
srv_manage_snapshot_create(struct job *job)
{
    struct command *c = COMMAND(job);
    return has_snapshots(c) ? snapshot_failed(c, paused(c, act_snapshot_create), "create")
                            : unsupported(c, "make snapshots");
}

int
srv_manage_snapshot_rollback(struct job *job)
{
    struct command *c = COMMAND(job);
    if (!has_snapshots(c)) {
        return unsupported(c, "make snapshots");
    }
    int rc = snapshot_failed(c, paused(c, act_snapshot_rollback), "roll back to");
    return tell(c, SRV_LOCAL_CHANGED, rc);
}

int
srv_manage_snapshot_remove(struct job *job)
{
    struct command *c = COMMAND(job);
    struct ovsshm_store *store = STORE(c);
    if (!has_snapshots(c)) {
        return unsupported(c, "make snapshots");
    }
    int rc =
        store->type->snapshot_remove(store, job->volume->name, c->in.snapshot.snapshot, &c->error);
    return snapshot_failed(c, rc, "remove");
}

int
srv_manage_snapshot_is_synced(struct job *job)
{
    struct command *c = COMMAND(job);
    struct ovsshm_store *store = STORE(c);
    if (!has_snapshots(c)) {
        return unsupported(c, "make snapshots");
    }
    int rc = reply_alloc(c, sizeof(struct ovsshm_msg_synced_reply));
    if (rc) {
        return rc;
    }
    rc = store->type->snapshot_is_synced(store, job->volume->name, c->in.snapshot.snapshot);
    ((struct ovsshm_msg_synced_reply *)c->reply)->synced = rc > 0;
    return snapshot_failed(c, rc < 0 ? rc : 0, "query");
}

int
srv_manage_snapshot_list(struct job *job)
{
    struct command *c = COMMAND(job);
    struct ovsshm_store *store = STORE(c);
    const unsigned max = OVSSHM_LIST_MAX(struct ovsshm_snapshot_info);
    const char *after = c->in.snapshot.snapshot[0] ? c->in.snapshot.snapshot : NULL;
    if (!has_snapshots(c)) {
        return unsupported(c, "make snapshots");
    }
    int rc = reply_alloc(c, OVSSHM_MSG_BYTES_MAX);
    if (rc) {
        return rc;
    }
    struct ovsshm_snapshot_info *infos = (void *)((struct ovsshm_msg_list_reply *)c->reply + 1);
    int count = store->type->snapshot_list(store, job->volume->name, after, infos, max);
    for (int i = 0; i < count; i++) {
        infos[i].size_bytes = whole_sectors(infos[i].size_bytes);
    }
    return snapshot_failed(c, list_finish(c, count, max, sizeof(*infos)), "list");
}

/* ---- sessions ------------------------------------------------------------------------------- */

static int
open_volume(struct command *c)
{
    struct ovsshm_store *store = STORE(c);
    struct volume *volume = c->job.volume;
    if (volume->open) {
        return 0;
    }
    int rc = store->type->volume_open(store, volume->name, &volume->open, &c->error);
    if (rc) {
        volume->open = NULL;
        return failed(c, rc, "open");
    }
    ovsshm_store_relaxed(&volume->exact_bytes, volume->open->size_bytes);
    ovsshm_store_relaxed(&volume->size_bytes, whole_sectors(volume->open->size_bytes));
    return 0;
}

static void
close_volume_if_unused(struct ovsshm_server *server, struct volume *volume)
{
    pthread_mutex_lock(&server->registry.lock);
    bool unused = TAILQ_EMPTY(&volume->sessions);
    pthread_mutex_unlock(&server->registry.lock);
    if (unused && volume->open) {
        server->store->type->volume_close(volume->open);
        volume->open = NULL;
    }
}

int
srv_manage_open(struct job *job)
{
    struct command *c = COMMAND(job);
    struct ovsshm_server *server = job->server;
    bool writes = c->in.open.mode == OVSSHM_MODE_WRITE;
    if (ovsshm_load_relaxed(&server->draining)) {
        return srv_error(&c->error, -ESHUTDOWN, "the server is stopping");
    }
    if (writes && !(server->store->capabilities & OVSSHM_CAP_WRITE)) {
        return srv_error(&c->error, -EROFS, "store \"%s\" cannot write", server->store->type->name);
    }
    int rc = writes ? find_conflict(c, WRITERS) : 0;
    rc = rc ? rc : open_volume(c);
    if (rc) {
        return rc;
    }
    if (c->local) {
        srv_local_begin(c);
        return 0;
    }
    rc = srv_session_create(&c->session, c);
    if (rc) {
        close_volume_if_unused(server, job->volume);
        return srv_error(&c->error, rc, "cannot make a session of %u queues with depth %u: %s",
                         c->in.open.queues, c->in.open.depth, strerror(-rc));
    }
    srv_session_attach(c->session);
    return writes ? tell(c, SRV_LOCAL_CHANGED, 0) : 0;
}

int
srv_manage_close(struct job *job)
{
    struct session *session = container_of(job, struct session, close);
    bool wrote = !session->local && session->mode == OVSSHM_MODE_WRITE;
    srv_session_close(session);
    close_volume_if_unused(job->server, job->volume);
    if (wrote) {
        srv_local_tell(job->server, job->volume->name, SRV_LOCAL_CHANGED);
    }
    return 0;
}

static int
act_set_mode(struct command *c)
{
    struct registry *registry = &c->job.server->registry;
    pthread_mutex_lock(&registry->lock);
    c->session->mode = c->in.set_mode.mode;
    ovsshm_store_relaxed(&c->session->writable, c->session->mode == OVSSHM_MODE_WRITE);
    pthread_mutex_unlock(&registry->lock);
    return 0;
}

int
srv_manage_set_mode(struct job *job)
{
    struct command *c = COMMAND(job);
    if (c->session->mode == c->in.set_mode.mode) {
        return 0;
    }
    if (c->in.set_mode.mode == OVSSHM_MODE_READ) {
        /* No write of it is in flight when the next writer starts. */
        return tell(c, SRV_LOCAL_CHANGED, paused(c, act_set_mode));
    }
    if (!(STORE(c)->capabilities & OVSSHM_CAP_WRITE)) {
        return srv_error(&c->error, -EROFS, "store \"%s\" cannot write", STORE(c)->type->name);
    }
    int rc = find_conflict(c, WRITERS);
    return tell(c, SRV_LOCAL_CHANGED, rc ? rc : act_set_mode(c));
}
