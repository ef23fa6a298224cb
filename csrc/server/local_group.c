/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "local_own.h"
#include "server.h"

#define NS_PER_S 1000000000u

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static uint32_t watchers; /* atomic: those who wait for the end of I/O */

static _Thread_local struct local_group *groups_here __attribute__((tls_model("initial-exec")));
static pthread_key_t thread_end;
static pthread_once_t thread_end_once = PTHREAD_ONCE_INIT;
static int thread_end_error; /* errno: there is no key */

/* ---- calls and locals ----------------------------------------------------------------------- */

bool
srv_local_call_enter(struct ovsshm_server *server)
{
    pthread_mutex_lock(&lock);
    bool running = !server->locals.stopping && server->running;
    server->locals.calls += running;
    pthread_mutex_unlock(&lock);
    return running;
}

void
srv_local_call_leave(struct ovsshm_server *server)
{
    pthread_mutex_lock(&lock);
    server->locals.calls--;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

void
srv_local_link(struct local *local)
{
    struct locals *locals = &local->session.server->locals;
    pthread_mutex_lock(&lock);
    local->state = locals->stopping ? LOCAL_ENDING : LOCAL_OPEN;
    LIST_INSERT_HEAD(&locals->locals, local, link);
    ovsshm_add_relaxed(&locals->count, 1);
    pthread_mutex_unlock(&lock);
}

void
srv_local_unlink(struct local *local)
{
    struct locals *locals = &local->session.server->locals;
    pthread_mutex_lock(&lock);
    LIST_REMOVE(local, link);
    ovsshm_sub(&locals->count, 1);
    ovsshm_store_release(&local->state, LOCAL_ENDED);
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

bool
srv_local_close_enter(struct local *local)
{
    pthread_mutex_lock(&lock);
    bool open = local->state == LOCAL_OPEN;
    if (open) {
        local->session.server->locals.calls++;
    }
    while (local->state == LOCAL_ENDING) {
        pthread_cond_wait(&changed, &lock);
    }
    pthread_mutex_unlock(&lock);
    return open;
}

/* ---- I/O comes and goes ---------------------------------------------------------------------- */

static void
say_busy(struct local_group *group, struct volume *volume)
{
    ovsshm_store_relaxed(&group->volume, volume);
    ovsshm_fence(); /* H1 pairs with H2 */
}

void
srv_local_io_leave(struct local_group *group)
{
    ovsshm_store_release(&group->volume, NULL);
    ovsshm_fence(); /* H3 pairs with H4 */
    if (ovsshm_load_relaxed(&watchers)) {
        pthread_mutex_lock(&lock);
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
    }
}

/* Until the volume is let go; what it is may be known only as long as the local is open. */
static void
wait_until_let_go(const struct local *local, struct local_group *group)
{
    const struct volume *volume = local->session.volume;
    pthread_mutex_lock(&lock);
    ovsshm_store_relaxed(&group->blocked, true);
    while (local->state == LOCAL_OPEN && ovsshm_load_relaxed(&volume->held)) {
        pthread_cond_wait(&changed, &lock);
    }
    ovsshm_store_relaxed(&group->blocked, false);
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

int
srv_local_io_enter(struct local *local, struct local_group *group)
{
    struct volume *volume = local->session.volume;
    for (;;) {
        say_busy(group, volume);
        if (ovsshm_load_acquire(&local->state) != LOCAL_OPEN) {
            srv_local_io_leave(group);
            return -ESHUTDOWN;
        }
        if (!ovsshm_load_acquire(&volume->held)) {
            return 0;
        }
        srv_local_io_leave(group);
        wait_until_let_go(local, group);
    }
}

void
srv_local_hold_volume(struct volume *volume)
{
    ovsshm_store_relaxed(&volume->held, 1);
    ovsshm_fence(); /* H2 pairs with H1 */
}

void
srv_local_let_go(struct volume *volume)
{
    pthread_mutex_lock(&lock);
    ovsshm_store_release(&volume->held, 0);
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

/* Under the lock: how many do I/O on it, or on any. */
static unsigned
count_busy(const struct locals *locals, const struct volume *volume)
{
    const struct local_group *group;
    unsigned count = 0;
    LIST_FOREACH(group, &locals->groups, link)
    {
        const struct volume *busy = ovsshm_load_acquire(&group->volume);
        count += volume ? busy == volume : busy != NULL;
    }
    return count;
}

unsigned
srv_local_in_flight(struct ovsshm_server *server, const struct volume *volume)
{
    pthread_mutex_lock(&lock);
    unsigned count = count_busy(&server->locals, volume);
    pthread_mutex_unlock(&lock);
    return count;
}

bool
srv_local_await_quiet(struct ovsshm_server *server, const struct volume *volume,
                      uint64_t deadline_ns)
{
    struct timespec at = {.tv_sec = (time_t)(deadline_ns / NS_PER_S),
                          .tv_nsec = (long)(deadline_ns % NS_PER_S)};
    int rc = 0;
    pthread_mutex_lock(&lock);
    ovsshm_add(&watchers, 1);
    ovsshm_fence(); /* H4 pairs with H3 */
    while (count_busy(&server->locals, volume) && rc != ETIMEDOUT) {
        rc = deadline_ns == UINT64_MAX
                 ? pthread_cond_wait(&changed, &lock)
                 : pthread_cond_clockwait(&changed, &lock, CLOCK_MONOTONIC, &at);
    }
    bool quiet = !count_busy(&server->locals, volume);
    ovsshm_sub(&watchers, 1);
    pthread_mutex_unlock(&lock);
    return quiet;
}

/* ---- memory --------------------------------------------------------------------------------- */

void *
srv_local_memory(struct local_memory *memory, size_t bytes)
{
    if (memory->memory && memory->bytes >= bytes && !ovsshm_memory_is_held(memory->memory)) {
        return memory->base;
    }
    ovsshm_memory_release(memory->memory);
    *memory = (struct local_memory){.bytes = bytes};
    memory->memory = ovsshm_memory_create(bytes, &memory->base);
    return memory->memory ? memory->base : NULL;
}

void *
srv_local_buffer(struct local_group *group, size_t bytes)
{
    return srv_local_memory(&group->scratch, bytes);
}

/* ---- groups --------------------------------------------------------------------------------- */

/* What the store has of it ends; its server is not to be touched any more by this thread. */
static void
store_group_end(struct local_group *group)
{
    const struct ovsshm_store_type *type = group->store->type;
    if (type->group_destroy && group->store_group) {
        type->group_destroy(group->store_group);
    }
    group->store_group = NULL;
    while (ovsshm_load_acquire(&group->completing)) {
        sched_yield();
    }
}

void
srv_local_group_give_up(struct local_group *group, const uint32_t *done)
{
    struct ovsshm_server *server = group->server;
    store_group_end(group);
    pthread_mutex_lock(&lock);
    server->locals.dropped += !ovsshm_load_acquire(done);
    pthread_mutex_unlock(&lock);
}

static void
group_free(struct local_group *group)
{
    ovsshm_memory_release(group->scratch.memory);
    ovsshm_memory_release(group->bounce.memory);
    if (group->fd >= 0) {
        close(group->fd);
    }
    free(group);
}

/* By its thread; it is in the thread's list no more. */
static void
group_end(struct local_group *group)
{
    pthread_mutex_lock(&lock);
    struct ovsshm_server *server = group->server;
    if (server) {
        server->locals.calls++; /* it lives until we have left */
        LIST_REMOVE(group, link);
    }
    pthread_mutex_unlock(&lock);
    if (server) {
        store_group_end(group);
        srv_local_call_leave(server);
    }
    group_free(group);
}

static void
thread_ends(void *arg)
{
    (void)arg;
    while (groups_here) {
        struct local_group *group = groups_here;
        groups_here = group->next;
        group_end(group);
    }
}

static void
make_thread_end(void)
{
    thread_end_error = pthread_key_create(&thread_end, thread_ends);
}

static int
group_init(struct local_group *group, struct ovsshm_server *server)
{
    const struct ovsshm_store_type *type = server->store->type;
    uint64_t spin_ns = server->params.spin_ns_max;
    *group = (struct local_group){
        .server = server, .store = server->store, .thread = &srv_local_here, .store_fd = -1};
    group->fd = ovsshm_doorbell_create();
    int rc = group->fd < 0 ? group->fd : 0;
    if (rc == 0 && type->group_create) {
        rc = type->group_create(server->store, &group->store_group);
    }
    if (rc == 0 && type->group_fd) {
        group->store_fd = type->group_fd(group->store_group);
    }
    ovsshm_waiter_init(&group->waiter, spin_ns == UINT64_MAX ? 0 : spin_ns);
    return rc;
}

static struct local_group *
group_create(struct ovsshm_server *server)
{
    struct local_group *group = malloc(sizeof(*group));
    if (!group) {
        return NULL;
    }
    pthread_once(&thread_end_once, make_thread_end);
    if (group_init(group, server) || thread_end_error || pthread_setspecific(thread_end, group)) {
        store_group_end(group);
        group_free(group);
        return NULL;
    }
    pthread_mutex_lock(&lock);
    group->number = server->locals.numbers++;
    LIST_INSERT_HEAD(&server->locals.groups, group, link);
    pthread_mutex_unlock(&lock);
    group->next = groups_here;
    groups_here = group;
    return group;
}

struct local_group *
srv_local_group(struct ovsshm_server *server)
{
    struct local_group *group = groups_here;
    while (group && ovsshm_load_relaxed(&group->server) != server) {
        group = group->next;
    }
    if (!group && srv_local_call_enter(server)) {
        group = group_create(server);
        srv_local_call_leave(server);
    }
    return group;
}

void
srv_local_group_end(struct ovsshm_server *server)
{
    for (struct local_group **at = &groups_here; *at; at = &(*at)->next) {
        struct local_group *group = *at;
        if (ovsshm_load_relaxed(&group->server) == server) {
            *at = group->next;
            group_end(group);
            return;
        }
    }
}

/* ---- the server's end ------------------------------------------------------------------------ */

void
srv_local_end_begin(struct ovsshm_server *server)
{
    struct local *local;
    struct local_group *group;
    pthread_mutex_lock(&lock);
    server->locals.stopping = true;
    LIST_FOREACH(local, &server->locals.locals, link)
    {
        ovsshm_store_release(&local->state, LOCAL_ENDING);
    }
    ovsshm_fence(); /* H2 as well: who does not see it is seen */
    LIST_FOREACH(group, &server->locals.groups, link)
    {
        ovsshm_doorbell_ring(group->fd);
    }
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

/* Under the lock: threads that may look at a volume or at the server. */
static bool
is_used(const struct locals *locals)
{
    const struct local_group *group;
    LIST_FOREACH(group, &locals->groups, link)
    {
        if (group->blocked) {
            return true;
        }
    }
    return locals->calls != 0;
}

void
srv_local_end_groups(struct ovsshm_server *server)
{
    struct locals *locals = &server->locals;
    srv_local_await_quiet(server, NULL, UINT64_MAX);
    pthread_mutex_lock(&lock);
    while (is_used(locals)) {
        pthread_cond_wait(&changed, &lock);
    }
    while (!LIST_EMPTY(&locals->groups)) {
        struct local_group *group = LIST_FIRST(&locals->groups);
        LIST_REMOVE(group, link);
        store_group_end(group);
        ovsshm_store_release(&group->server, NULL);
    }
    pthread_mutex_unlock(&lock);
}
