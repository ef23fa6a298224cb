/* SPDX-License-Identifier: MIT */
/*
 * The server's address: one Unix socket path, owned by one server.
 *
 * "<path>.lock" is locked while the server lives, so of two servers that start together one gets
 * the path, and a socket file that is found under the lock is stale unless a stranger answers on
 * it.
 *
 * Errors: -EADDRINUSE another server has the path; -ENOTSOCK something else is there.
 */
#ifndef OVSSHM_SERVER_LISTENER_H
#define OVSSHM_SERVER_LISTENER_H

#include <sys/stat.h>

#include <openvstorage/shm_server.h>

struct listener {
    int fd; /* -1: closed */
    int lock_fd;
    char *path;
    char *lock_path;
    dev_t device; /* of the socket file we made */
    ino_t inode;
};

/* Without a path it does nothing, and fd stays -1.  Binds with owner and mode in place; nobody can
 * connect before srv_listener_start(). */
int srv_listener_create(struct listener *listener, const struct ovsshm_server_params *params,
                        struct ovsshm_error *error);
int srv_listener_start(struct listener *listener, struct ovsshm_error *error);

/* No more connections: removes the socket. */
void srv_listener_close(struct listener *listener);

/* Gives up the path as well. */
void srv_listener_destroy(struct listener *listener);

#endif
