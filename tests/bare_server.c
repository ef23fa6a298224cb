/* SPDX-License-Identifier: MIT */
/*
 * The server in a C program and nothing else, so that sanitizers can watch it.
 *
 *     bare_server --socket PATH --store NAME [--pool DIR] [--store-option KEY=VALUE] --ready-fd FD
 *
 * Logs to stderr; SIGTERM ends it with 0.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <openvstorage/shm_server.h>

#define DRAIN_NS 10000000000u
#define OPTIONS_MAX 8

struct options {
    struct ovsshm_server_params server;
    struct ovsshm_store_params store;
    struct ovsshm_store_option store_options[OPTIONS_MAX];
    const char *store_name;
    int ready_fd;
};

static void
log_line(void *arg, enum ovsshm_log_level level, const char *line)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    (void)arg;
    fprintf(stderr, "%s: %s\n", names[level], line);
}

static void
parse(struct options *o, char **argv)
{
    for (char **arg = argv + 1; arg[0] && arg[1]; arg += 2) {
        if (!strcmp(arg[0], "--socket")) {
            o->server.socket_path = arg[1];
        } else if (!strcmp(arg[0], "--store")) {
            o->store_name = arg[1];
        } else if (!strcmp(arg[0], "--pool")) {
            o->store.pool = arg[1];
        } else if (!strcmp(arg[0], "--ready-fd")) {
            o->ready_fd = atoi(arg[1]);
        } else if (!strcmp(arg[0], "--store-option") && o->store.option_count < OPTIONS_MAX &&
                   strchr(arg[1], '=')) {
            char *value = strchr(arg[1], '=');
            *value = '\0';
            o->store_options[o->store.option_count++] =
                (struct ovsshm_store_option){.key = arg[1], .value = value + 1};
        } else {
            fprintf(stderr, "unknown option %s\n", arg[0]);
            exit(2);
        }
    }
}

/* As the daemon does: 1024, the usual limit, are fewer than 1024 clients need. */
static void
use_all_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int
main(int argc, char **argv)
{
    struct ovsshm_log log = {.write = log_line};
    struct options o = {.store_name = "memory", .ready_fd = -1};
    struct ovsshm_error error = {""};
    struct ovsshm_store *store = NULL;
    struct ovsshm_server *server = NULL;
    sigset_t set;
    int number;
    (void)argc;
    parse(&o, argv);
    use_all_descriptors();
    o.server.log = o.store.log = log;
    o.store.options = o.store_options;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);

    const struct ovsshm_store_type *type = ovsshm_store_find(o.store_name);
    int rc = type ? type->create(&o.store, &store, &error) : -1;
    rc = rc ? rc : ovsshm_server_create(&o.server, store, &server, &error);
    rc = rc ? rc : ovsshm_server_start(server, &error);
    if (rc == 0) {
        rc = write(o.ready_fd, "ready\n", 6) == 6 ? 0 : -1;
        close(o.ready_fd);
        sigwait(&set, &number);
        rc = rc ? rc : ovsshm_server_stop(server, DRAIN_NS);
    }
    if (rc) {
        fprintf(stderr, "error %d: %s\n", rc, error.reason);
    }
    ovsshm_server_destroy(server);
    if (store) {
        type->destroy(store);
    }
    return rc != 0;
}
