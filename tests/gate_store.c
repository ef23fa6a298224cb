/* SPDX-License-Identifier: MIT */
/*
 * A store in a shared object of its own, for tests: one volume "vol" of zeroes.  It says when a
 * request has arrived (a byte into the FIFO of option "arrived") and completes one for each byte
 * that comes out of the FIFO of option "gate".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openvstorage/shm_server.h>

#define VOLUME_BYTES 1048576
#define WAITING_MAX 64

struct gate_store {
    struct ovsshm_store store;
    struct ovsshm_store_volume volume;
    int arrived_fd;
    int gate_fd;
    struct ovsshm_request *waiting[WAITING_MAX];
    unsigned count;
};

const struct ovsshm_store_type ovsshm_store_plugin;

static int
fifo_open(const struct ovsshm_store_params *params, const char *key)
{
    for (unsigned i = 0; i < params->option_count; i++) {
        if (!strcmp(params->options[i].key, key)) {
            return open(params->options[i].value, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        }
    }
    return -1;
}

static int
gate_create(const struct ovsshm_store_params *params, struct ovsshm_store **store,
            struct ovsshm_error *error)
{
    struct gate_store *s = calloc(1, sizeof(*s));
    if (!s) {
        return -ENOMEM;
    }
    s->store.type = &ovsshm_store_plugin;
    s->store.capabilities = OVSSHM_CAP_WRITE;
    s->arrived_fd = fifo_open(params, "arrived");
    s->gate_fd = fifo_open(params, "gate");
    if (s->arrived_fd < 0 || s->gate_fd < 0) {
        snprintf(error->reason, sizeof(error->reason), "the options arrived and gate name FIFOs");
        free(s);
        return -EINVAL;
    }
    *store = &s->store;
    return 0;
}

static void
gate_destroy(struct ovsshm_store *store)
{
    struct gate_store *s = (struct gate_store *)store;
    close(s->arrived_fd);
    close(s->gate_fd);
    free(s);
}

static int
gate_stat(struct ovsshm_store *store, const char *name, struct ovsshm_volume_info *info)
{
    (void)store;
    if (strcmp(name, "vol")) {
        return -ENOENT;
    }
    memset(info, 0, sizeof(*info));
    strcpy(info->name, name);
    info->size_bytes = VOLUME_BYTES;
    info->block_bytes = 1;
    return 0;
}

static int
gate_list(struct ovsshm_store *store, const char *after, struct ovsshm_volume_info *infos,
          unsigned count)
{
    if (count == 0 || (after && strcmp(after, "vol") >= 0)) {
        return 0;
    }
    return gate_stat(store, "vol", infos) ? 0 : 1;
}

static int
gate_open(struct ovsshm_store *store, const char *name, struct ovsshm_store_volume **volume,
          struct ovsshm_error *error)
{
    struct gate_store *s = (struct gate_store *)store;
    (void)error;
    if (strcmp(name, "vol")) {
        return -ENOENT;
    }
    s->volume = (struct ovsshm_store_volume){store, VOLUME_BYTES, 1};
    *volume = &s->volume;
    return 0;
}

static void
gate_close(struct ovsshm_store_volume *volume)
{
    (void)volume;
}

static int
gate_group_create(struct ovsshm_store *store, void **group)
{
    *group = store;
    return 0;
}

static void
gate_group_destroy(void *group)
{
    (void)group;
}

static void
gate_submit(struct ovsshm_store *store, void *group, struct ovsshm_request **requests,
            unsigned count)
{
    struct gate_store *s = (struct gate_store *)store;
    (void)group;
    for (unsigned i = 0; i < count; i++) {
        if (s->count == WAITING_MAX || write(s->arrived_fd, "", 1) != 1) {
            ovsshm_request_complete(requests[i], -EIO);
        } else {
            s->waiting[s->count++] = requests[i];
        }
    }
}

static unsigned
gate_poll(void *group)
{
    struct gate_store *s = group;
    unsigned done = 0;
    char byte;
    while (s->count && read(s->gate_fd, &byte, 1) == 1) {
        struct ovsshm_request *request = s->waiting[--s->count];
        for (uint32_t i = 0; request->op == OVSSHM_OP_READ && i < request->iov_count; i++) {
            memset(request->iov[i].iov_base, 0, request->iov[i].iov_len);
        }
        ovsshm_request_complete(request, (int32_t)request->length_bytes);
        done++;
    }
    return done;
}

static int
gate_group_fd(void *group)
{
    return ((struct gate_store *)group)->gate_fd;
}

const struct ovsshm_store_type ovsshm_store_plugin = {
    .abi = OVSSHM_STORE_ABI,
    .name = "gate",
    .summary = "completes requests when told to",
    .create = gate_create,
    .destroy = gate_destroy,
    .volume_stat = gate_stat,
    .volume_list = gate_list,
    .volume_open = gate_open,
    .volume_close = gate_close,
    .group_create = gate_group_create,
    .group_destroy = gate_group_destroy,
    .submit = gate_submit,
    .poll = gate_poll,
    .group_fd = gate_group_fd,
};
