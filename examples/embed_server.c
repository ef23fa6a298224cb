/* SPDX-License-Identifier: MIT */
/*
 * A program with a server in it, and a store of its own: one read-only volume "numbers" in which
 * each 8 bytes hold their own offset.  Nothing is stored anywhere.
 *
 *     cc embed_server.c $(pkg-config --cflags --libs openvstorage-shm-server) -o embed_server
 *     ./embed_server /tmp/numbers.sock
 *     OVS_SHM_SOCKET=/tmp/numbers.sock ovs-qemu qemu-img dd -O raw if=openvstorage:numbers \
 *         of=numbers bs=1M count=1
 *
 * Without the program it is a store for the daemon:
 *
 *     cc -shared -fPIC -DSTORE_ONLY embed_server.c -o numbers.so
 *     shmserver --store ./numbers.so
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openvstorage/shm_server.h>

#define VOLUME "numbers"
#define VOLUME_BYTES (1ull << 40)

/* ---- the store ----------------------------------------------------------------------------------
 */

struct numbers {
    struct ovsshm_store store;         /* first: the server knows it by this */
    struct ovsshm_store_volume volume; /* the only one */
};

static const struct ovsshm_store_type numbers_type;

static int
numbers_create(const struct ovsshm_store_params *params, struct ovsshm_store **store,
               struct ovsshm_error *error)
{
    if (params->option_count) {
        snprintf(error->reason, sizeof(error->reason), "store \"numbers\" has no option \"%.100s\"",
                 params->options[0].key);
        return -EINVAL;
    }
    struct numbers *numbers = calloc(1, sizeof(*numbers));
    if (!numbers) {
        return -ENOMEM;
    }
    numbers->store.type = &numbers_type;
    numbers->store.capabilities = 0; /* it can read: that needs no bit */
    numbers->volume.store = &numbers->store;
    numbers->volume.size_bytes = VOLUME_BYTES;
    numbers->volume.block_bytes = 8;
    *store = &numbers->store;
    return 0;
}

static void
numbers_destroy(struct ovsshm_store *store)
{
    free(store);
}

static int
numbers_stat(struct ovsshm_store *store, const char *name, struct ovsshm_volume_info *info)
{
    (void)store;
    if (strcmp(name, VOLUME)) {
        return -ENOENT;
    }
    *info =
        (struct ovsshm_volume_info){.name = VOLUME, .size_bytes = VOLUME_BYTES, .block_bytes = 8};
    return 0;
}

static int
numbers_list(struct ovsshm_store *store, const char *after, struct ovsshm_volume_info *infos,
             unsigned count)
{
    if (count == 0 || (after && strcmp(after, VOLUME) >= 0)) {
        return 0;
    }
    return numbers_stat(store, VOLUME, infos) == 0;
}

static int
numbers_open(struct ovsshm_store *store, const char *name, struct ovsshm_store_volume **volume,
             struct ovsshm_error *error)
{
    (void)error; /* the server has words for a missing volume */
    if (strcmp(name, VOLUME)) {
        return -ENOENT;
    }
    *volume = &((struct numbers *)store)->volume;
    return 0;
}

static void
numbers_close(struct ovsshm_store_volume *volume)
{
    (void)volume;
}

/* All requests that have come in since the last time; here they are done on the spot. */
static void
numbers_submit(struct ovsshm_store *store, void *group, struct ovsshm_request **requests,
               unsigned count)
{
    (void)store;
    (void)group;
    for (unsigned i = 0; i < count; i++) {
        struct ovsshm_request *r = requests[i];
        uint64_t offset = r->offset_bytes;
        if (r->op != OVSSHM_OP_READ) { /* flush: there is nothing to do */
            ovsshm_request_complete(r, 0);
            continue;
        }
        for (uint32_t k = 0; k < r->iov_count; k++) { /* pieces have any length */
            unsigned char *to = r->iov[k].iov_base;
            for (size_t n = 0; n < r->iov[k].iov_len; n++, offset++) {
                uint64_t number = offset / 8 * 8;
                to[n] = ((const unsigned char *)&number)[offset % 8];
            }
        }
        ovsshm_request_complete(r, (int32_t)r->length_bytes);
    }
}

static const struct ovsshm_store_type numbers_type = {
    .abi = OVSSHM_STORE_ABI,
    .name = "numbers",
    .summary = "each 8 bytes hold their own offset",
    .create = numbers_create,
    .destroy = numbers_destroy,
    .volume_stat = numbers_stat,
    .volume_list = numbers_list,
    .volume_open = numbers_open,
    .volume_close = numbers_close,
    .submit = numbers_submit,
};

/* What shmserver looks for. */
extern const struct ovsshm_store_type ovsshm_store_plugin __attribute__((alias("numbers_type")));

#ifndef STORE_ONLY
/* ---- the program --------------------------------------------------------------------------------
 */

static void
write_log(void *arg, enum ovsshm_log_level level, const char *line)
{
    (void)arg;
    if (level <= OVSSHM_LOG_INFO) {
        fprintf(stderr, "%s\n", line);
    }
}

int
main(int argc, char **argv)
{
    const struct ovsshm_log log = {.write = write_log};
    const struct ovsshm_store_params store_params = {.log = log};
    struct ovsshm_error error = {.reason = "out of memory"};
    struct ovsshm_store *store = NULL;
    struct ovsshm_server *server = NULL;
    sigset_t signals;
    int signal;

    if (argc != 2) {
        fprintf(stderr, "usage: %s SOCKET\n", argv[0]);
        return 2;
    }
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL); /* before the server makes its threads */
    const struct ovsshm_server_params params = {.socket_path = argv[1], .log = log};
    int rc = numbers_type.create(&store_params, &store, &error);
    rc = rc ? rc : ovsshm_server_create(&params, store, &server, &error);
    rc = rc ? rc : ovsshm_server_start(server, &error);
    if (rc == 0) {
        printf("READY\n");
        fflush(stdout);
        sigwait(&signals, &signal);
        rc = ovsshm_server_stop(server, 5000000000u); /* 5 s for requests in flight */
    } else {
        fprintf(stderr, "%s: %s\n", argv[0], error.reason);
    }
    ovsshm_server_destroy(server);
    numbers_type.destroy(store);
    return rc ? 1 : 0;
}
#endif
