/* SPDX-License-Identifier: MIT */
/*
 * The server as its own parts see it.
 *
 *   control   one thread: sockets, hello, dispatch, replies, events (control.c, connection.c)
 *   workers   a few threads: management calls of the store, one at a time per volume (registry.c)
 *   reactors  threads: the rings (reactor.c, queue.c)
 *
 *   locals    threads of the embedder: volumes without a client (local.c)
 *
 * They talk by mail only.  Lock order: registry lock, then gates and mailboxes.
 */
#ifndef OVSSHM_SERVER_SERVER_H
#define OVSSHM_SERVER_SERVER_H

#include <openvstorage/shm_server.h>

#include "control.h"
#include "listener.h"
#include "local_own.h"
#include "log.h"
#include "reactor.h"
#include "registry.h"

struct ovsshm_server {
    struct ovsshm_server_params params; /* effective; its pointers are ours */
    struct ovsshm_store *store;
    struct listener listener;
    struct control control;
    struct registry registry;
    struct locals locals;
    struct reactor *reactors; /* params.reactors of them */
    uint64_t started_ns;
    uint64_t violations; /* atomic */
    uint32_t draining;   /* atomic: no more opens */
    bool running;        /* caller's thread */
};

#define srv_info(server, ...) srv_log(&(server)->params.log, OVSSHM_LOG_INFO, __VA_ARGS__)
#define srv_warn(server, ...) srv_log(&(server)->params.log, OVSSHM_LOG_WARNING, __VA_ARGS__)

#endif
