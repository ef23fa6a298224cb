/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "connection.h"
#include "pause.h"
#include "shared/wire.h"

#define REACTORS_DEFAULT_MAX 4
#define REQUEST_BYTES_MIN OVSSHM_PAGE_BYTES
#define ARENA_BYTES_DEFAULT 268435456u
#define CONNECTIONS_DEFAULT 1024

static uint32_t
default_reactors(void)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN) / 2;
    return cpus < 1 ? 1 : cpus > REACTORS_DEFAULT_MAX ? REACTORS_DEFAULT_MAX : (uint32_t)cpus;
}

#define DEFAULT(member, value) (params->member = params->member ? params->member : (value))

static void
fill_defaults(struct ovsshm_server_params *params)
{
    DEFAULT(socket_mode, 0660);
    DEFAULT(reactors, default_reactors());
    DEFAULT(depth_max, OVSSHM_DEPTH_MAX);
    DEFAULT(queues_max, OVSSHM_QUEUES_MAX);
    DEFAULT(request_bytes_max, OVSSHM_REQUEST_BYTES_DEFAULT);
    DEFAULT(connections_max, CONNECTIONS_DEFAULT);
    DEFAULT(arena_bytes_max, ARENA_BYTES_DEFAULT);
    DEFAULT(spin_ns_max, OVSSHM_SERVER_SPIN_NS_MAX);
}

static int
check_range(const char *name, uint64_t value, uint64_t min, uint64_t max,
            struct ovsshm_error *error)
{
    return value >= min && value <= max
               ? 0
               : srv_error(error, -EINVAL, "%s is %llu, it must be %llu to %llu", name,
                           (unsigned long long)value, (unsigned long long)min,
                           (unsigned long long)max);
}

static int
check_params(const struct ovsshm_server_params *p, struct ovsshm_error *error)
{
    const struct {
        const char *name;
        uint64_t value, min, max;
    } ranges[] = {
        {"socket_mode", p->socket_mode, 0, 0777},
        {"reactors", p->reactors, 1, SRV_REACTORS_MAX},
        {"depth_max", p->depth_max, OVSSHM_DEPTH_MIN, OVSSHM_DEPTH_MAX},
        {"queues_max", p->queues_max, 1, OVSSHM_QUEUES_MAX},
        {"request_bytes_max", p->request_bytes_max, REQUEST_BYTES_MIN, OVSSHM_RANGE_BYTES_MAX},
        {"connections_max", p->connections_max, 1, 1u << 20},
        {"arena_bytes_max", p->arena_bytes_max, OVSSHM_PAGE_BYTES, 1ull << 40},
    };
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        int rc = check_range(ranges[i].name, ranges[i].value, ranges[i].min, ranges[i].max, error);
        if (rc) {
            return rc;
        }
    }
    return p->socket_path && !p->socket_path[0] ? srv_error(error, -EINVAL, "socket_path is empty")
                                                : 0;
}

static void *
copy_of(const void *bytes, size_t count)
{
    void *copy = malloc(count ? count : 1);
    return copy && count ? memcpy(copy, bytes, count) : copy;
}

/* The embedder's pointers are good for the call only. */
static int
copy_params(struct ovsshm_server *server, const struct ovsshm_server_params *params,
            struct ovsshm_error *error)
{
    struct ovsshm_server_params *own = &server->params;
    *own = *params;
    own->socket_path = params->socket_path ? strdup(params->socket_path) : NULL;
    own->allow_uids = copy_of(params->allow_uids, params->allow_uid_count * sizeof(uid_t));
    own->allow_gids = copy_of(params->allow_gids, params->allow_gid_count * sizeof(gid_t));
    bool named = own->socket_path || !params->socket_path;
    return named && own->allow_uids && own->allow_gids ? 0
                                                       : srv_error(error, -ENOMEM, "out of memory");
}

static void
free_params(struct ovsshm_server_params *own)
{
    free((void *)(uintptr_t)own->socket_path);
    free((void *)(uintptr_t)own->allow_uids);
    free((void *)(uintptr_t)own->allow_gids);
}

static int
control_init(struct control *control, struct ovsshm_error *error)
{
    TAILQ_INIT(&control->connections);
    TAILQ_INIT(&control->ended);
    int rc = srv_mailbox_init(&control->mailbox);
    if (rc == 0 && (control->epoll_fd = epoll_create1(EPOLL_CLOEXEC)) < 0) {
        rc = -errno;
        srv_mailbox_destroy(&control->mailbox);
    }
    return rc ? srv_error(error, rc, "cannot make an event loop: %s", strerror(-rc)) : 0;
}

int
ovsshm_server_create(const struct ovsshm_server_params *params, struct ovsshm_store *store,
                     struct ovsshm_server **out, struct ovsshm_error *error)
{
    struct ovsshm_server_params effective = *params;
    fill_defaults(&effective);
    int rc = check_params(&effective, error);
    if (rc) {
        return rc;
    }
    struct ovsshm_server *server = calloc(1, sizeof(*server));
    if (!server) {
        return srv_error(error, -ENOMEM, "out of memory");
    }
    server->store = store;
    server->reactors = calloc(effective.reactors, sizeof(*server->reactors));
    rc = copy_params(server, &effective, error);
    if (rc == 0 && !server->reactors) {
        rc = srv_error(error, -ENOMEM, "out of memory");
    }
    rc = rc ? rc : control_init(&server->control, error);
    if (rc) {
        goto err_params;
    }
    rc = srv_listener_create(&server->listener, &server->params, error);
    if (rc) {
        goto err_control;
    }
    srv_registry_init(&server->registry, &server->control.mailbox);
    srv_local_init(server);
    *out = server;
    return 0;

err_control:
    close(server->control.epoll_fd);
    srv_mailbox_destroy(&server->control.mailbox);
err_params:
    free_params(&server->params);
    free(server->reactors);
    free(server);
    return rc;
}

int
ovsshm_server_start(struct ovsshm_server *server, struct ovsshm_error *error)
{
    uint32_t started = 0;
    int rc = 0;
    if (server->running || server->started_ns) {
        return srv_error(error, -EALREADY, "a server is started once");
    }
    server->started_ns = srv_clock_ns();
    for (; started < server->params.reactors; started++) {
        rc = srv_reactor_start(&server->reactors[started], server->store, &server->params);
        if (rc) {
            srv_error(error, rc, "cannot start a reactor: %s", strerror(-rc));
            goto err_reactors;
        }
    }
    rc = srv_registry_start(&server->registry);
    if (rc) {
        srv_error(error, rc, "cannot start workers: %s", strerror(-rc));
        goto err_reactors;
    }
    rc = srv_listener_start(&server->listener, error);
    if (rc) {
        goto err_workers;
    }
    rc = srv_control_start(server);
    if (rc) {
        srv_error(error, rc, "cannot start the control thread: %s", strerror(-rc));
        goto err_workers;
    }
    server->running = true;
    const char *path = server->params.socket_path;
    srv_info(server, "serving store \"%s\" %s%s%s with %u reactor%s", server->store->type->name,
             path ? "on \"" : "without a socket", path ? path : "", path ? "\"" : "",
             server->params.reactors, server->params.reactors == 1 ? "" : "s");
    return 0;

err_workers:
    srv_registry_stop(&server->registry);
err_reactors:
    while (started) {
        srv_reactor_stop(&server->reactors[--started]);
    }
    return rc;
}

/* Lets requests in flight finish; what srv_pause_end() takes, or NULL. */
static struct pause *
drain(struct ovsshm_server *server, uint64_t drain_ns)
{
    struct pause *pause = drain_ns ? malloc(sizeof(*pause)) : NULL;
    uint64_t now = srv_clock_ns();
    if (pause) {
        srv_pause_begin(pause, server, NULL);
        srv_pause_wait(pause, drain_ns < UINT64_MAX - now ? now + drain_ns : UINT64_MAX);
    }
    return pause;
}

int
ovsshm_server_stop(struct ovsshm_server *server, uint64_t drain_ns)
{
    uint32_t dropped = 0;
    if (!server->running) {
        return 0;
    }
    srv_info(server, "stopping");
    ovsshm_store_relaxed(&server->draining, 1);
    srv_control_drain(server);
    srv_listener_close(&server->listener);
    struct pause *pause = drain(server, drain_ns);
    srv_control_end_connections(server);
    if (pause) {
        srv_pause_end(pause); /* for ever, if the store blocks a reactor; the clients are gone */
        free(pause);
    }
    dropped += srv_local_stop(server); /* its calls may pause the reactors */
    for (uint32_t i = 0; i < server->params.reactors; i++) {
        dropped += srv_reactor_stop(&server->reactors[i]);
    }
    srv_control_wait_sessions(server);
    srv_registry_stop(&server->registry);
    srv_control_stop(server);
    server->running = false;
    srv_info(server, "stopped; %u requests were dropped", dropped);
    return dropped ? -ETIMEDOUT : 0;
}

void
ovsshm_server_destroy(struct ovsshm_server *server)
{
    if (!server) {
        return;
    }
    ovsshm_server_stop(server, 0);
    srv_listener_destroy(&server->listener);
    srv_local_destroy(server);
    srv_registry_destroy(&server->registry);
    close(server->control.epoll_fd);
    srv_mailbox_destroy(&server->control.mailbox);
    free_params(&server->params);
    free(server->reactors);
    free(server);
}

void
ovsshm_server_status(struct ovsshm_server *server, struct ovsshm_status *status)
{
    *status = (struct ovsshm_status){
        .uptime_ns = server->started_ns ? srv_clock_ns() - server->started_ns : 0,
        .connections = ovsshm_load_relaxed(&server->control.connection_count),
        .sessions = ovsshm_load_relaxed(&server->control.session_count) +
                    ovsshm_load_relaxed(&server->locals.count),
        .reactors = server->params.reactors,
        .pid = (uint32_t)getpid(),
        .violations = ovsshm_load_relaxed(&server->violations),
    };
    struct counters total;
    srv_counters_total(server, &total);
    status->requests = total.reads + total.writes + total.others;
    status->errors = total.errors;
    status->read_bytes = total.read_bytes;
    status->written_bytes = total.written_bytes;
    status->doorbells = total.doorbells;
    for (uint32_t i = 0; i < server->params.reactors; i++) {
        status->sleeps += ovsshm_load_relaxed(&server->reactors[i].sleeps);
    }
}

const struct ovsshm_server_params *
ovsshm_server_effective(const struct ovsshm_server *server)
{
    return &server->params;
}
