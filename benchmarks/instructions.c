/* SPDX-License-Identifier: MIT */
/*
 * A fixed script for callgrind: instructions SOCKET BATCHES DEPTH
 *
 * Server and client in one process, neither polls.  Discards of the null store, because how many
 * instructions a copy takes depends on how far the CPUs are apart.  DEPTH are submitted and all of
 * them awaited, BATCHES times.  Two runs that differ in BATCHES tell what a request costs.
 */
#include <openvstorage/shm.h>
#include <openvstorage/shm_server.h>

#include <stdio.h>
#include <stdlib.h>

#define BLOCK_BYTES 4096u
#define DEPTH_MAX 128
#define VOLUME_BYTES (1u << 20)

static void
check(int rc, const char *what, const char *why)
{
    if (rc < 0) {
        fprintf(stderr, "instructions: %s: %s\n", what, why);
        exit(1);
    }
}

static void
run_batch(struct ovsshm_queue *queue, unsigned depth)
{
    struct ovsshm_completion completions[DEPTH_MAX];
    for (unsigned i = 0; i < depth; i++) {
        struct ovsshm_io io = {
            .op = OVSSHM_OP_DISCARD,
            .length_bytes = BLOCK_BYTES,
            .offset_bytes = (uint64_t)i * BLOCK_BYTES,
        };
        check(ovsshm_queue_prep(queue, &io), "prepare", ovsshm_reason());
    }
    ovsshm_queue_submit(queue);
    while (ovsshm_queue_in_flight(queue)) {
        int count = ovsshm_queue_wait(queue, completions, DEPTH_MAX, -1);
        check(count, "wait", ovsshm_reason());
        for (int i = 0; i < count; i++) {
            check((int)completions[i].result, "discard", "failed");
        }
    }
}

static void
run_client(const char *socket, unsigned batches, unsigned depth)
{
    struct ovsshm_conn *conn;
    struct ovsshm_volume *volume;
    struct ovsshm_open_params params = {.mode = OVSSHM_MODE_WRITE, .spin_ns_max = UINT64_MAX};
    check(ovsshm_connect(socket, &conn), "connect", ovsshm_reason());
    check(ovsshm_create(conn, "bench", VOLUME_BYTES), "create", ovsshm_reason());
    check(ovsshm_open(conn, "bench", &params, &volume), "open", ovsshm_reason());
    struct ovsshm_queue *queue = ovsshm_volume_queue(volume, 0);
    for (unsigned i = 0; i < batches; i++) {
        run_batch(queue, depth);
    }
    ovsshm_close(volume);
    ovsshm_disconnect(conn);
}

int
main(int argc, char **argv)
{
    unsigned batches = argc == 4 ? (unsigned)atoi(argv[2]) : 0;
    unsigned depth = argc == 4 ? (unsigned)atoi(argv[3]) : 0;
    struct ovsshm_error error = {.reason = ""};
    struct ovsshm_server *server;
    struct ovsshm_store *store;
    struct ovsshm_store_params store_params = {.pool = NULL};
    if (!batches || !depth || depth > DEPTH_MAX) {
        fprintf(stderr, "usage: %s SOCKET BATCHES DEPTH\n", argv[0]);
        return 2;
    }
    struct ovsshm_server_params params = {
        .socket_path = argv[1], .reactors = 1, .spin_ns_max = UINT64_MAX, /* never poll */
    };
    check(ovsshm_store_null.create(&store_params, &store, &error), "store", error.reason);
    check(ovsshm_server_create(&params, store, &server, &error), "server", error.reason);
    check(ovsshm_server_start(server, &error), "server", error.reason);
    run_client(argv[1], batches, depth);
    ovsshm_server_stop(server, 1000000000);
    ovsshm_server_destroy(server);
    ovsshm_store_null.destroy(store);
    return 0;
}
