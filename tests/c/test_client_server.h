/* SPDX-License-Identifier: MIT */
/* The real server with a memory store, in the test's own process, and a client of it. */
#ifndef OVSSHM_TEST_CLIENT_SERVER_H
#define OVSSHM_TEST_CLIENT_SERVER_H

#include <openvstorage/shm.h>
#include <openvstorage/shm_server.h>

#include "testlib.h"

static struct ovsshm_server *server;
static struct ovsshm_store *store;
static struct ovsshm_conn *conn;
static char *socket_path;

static inline void
server_log(void *arg, enum ovsshm_log_level level, const char *line)
{
    (void)arg;
    if (level <= OVSSHM_LOG_WARNING) {
        fprintf(stderr, "server: %s\n", line);
    }
}

/* params: socket_path and log are filled in. */
static inline void
server_start(struct ovsshm_server_params params)
{
    struct ovsshm_error error = {.reason = ""};
    struct ovsshm_store_params store_params = {.log = {server_log, NULL}};
    socket_path = test_path("shm.sock");
    params.socket_path = socket_path;
    params.log = store_params.log;
    int rc = ovsshm_store_memory.create(&store_params, &store, &error);
    rc = rc ? rc : ovsshm_server_create(&params, store, &server, &error);
    rc = rc ? rc : ovsshm_server_start(server, &error);
    if (rc) {
        fprintf(stderr, "no server: %s\n", error.reason);
        exit(1);
    }
    rc = ovsshm_connect(socket_path, &conn);
    if (rc) {
        fprintf(stderr, "no connection: %s\n", ovsshm_reason());
        exit(1);
    }
}

static inline void
server_end(void)
{
    ovsshm_disconnect(conn);
    CHECK_EQ(ovsshm_server_stop(server, 10000000000), 0);
    ovsshm_server_destroy(server);
    store->type->destroy(store);
    free(socket_path);
}

/* Opens a volume, which may just have been closed by another session. */
static inline struct ovsshm_volume *
volume_open(const char *name, struct ovsshm_open_params params)
{
    struct ovsshm_volume *volume;
    int rc;
    do {
        rc = ovsshm_open(conn, name, &params, &volume);
    } while (rc == -EBUSY);
    if (rc) {
        fprintf(stderr, "cannot open %s: %s\n", name, ovsshm_reason());
        exit(1);
    }
    return volume;
}

#endif
