/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "listener.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "log.h"

#define BACKLOG 128

static int
address_set(struct sockaddr_un *address, const char *path)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address->sun_path)) {
        return -ENAMETOOLONG;
    }
    strcpy(address->sun_path, path);
    return 0;
}

/* Locks the lock file; one that was unlinked meanwhile by its last owner does not count. */
static int
lock_take(struct listener *l, struct ovsshm_error *error)
{
    for (;;) {
        struct stat held, named;
        int fd = open(l->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0) {
            int rc = -errno;
            return srv_error(error, rc, "cannot create \"%s\": %s", l->lock_path, strerror(-rc));
        }
        if (flock(fd, LOCK_EX | LOCK_NB)) {
            int rc = errno == EWOULDBLOCK ? -EADDRINUSE : -errno;
            close(fd);
            return srv_error(error, rc, "another server uses socket \"%s\"", l->path);
        }
        if (!fstat(fd, &held) && !stat(l->lock_path, &named) && held.st_ino == named.st_ino &&
            held.st_dev == named.st_dev) {
            l->lock_fd = fd;
            return 0;
        }
        close(fd);
    }
}

/* Under the lock: removes a socket that nobody answers on. */
static int
stale_remove(const struct listener *l, const struct sockaddr_un *address,
             struct ovsshm_error *error)
{
    struct stat st;
    if (lstat(l->path, &st)) {
        return 0;
    }
    if (!S_ISSOCK(st.st_mode)) {
        return srv_error(error, -ENOTSOCK, "\"%s\" exists and is not a socket", l->path);
    }
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int rc = fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof(*address)) ? -errno : 0;
    if (fd >= 0) {
        close(fd);
    }
    if (rc != -ECONNREFUSED) { /* also -EAGAIN (busy), -EPROTOTYPE (somebody's stream socket) */
        return srv_error(error, -EADDRINUSE, "another server answers on socket \"%s\"", l->path);
    }
    if (unlink(l->path)) {
        rc = -errno;
        return srv_error(error, rc, "cannot replace stale socket \"%s\": %s", l->path,
                         strerror(-rc));
    }
    return 0;
}

/* The socket's own mode becomes the file's (less the umask), so it is never wider than asked. */
static int
bind_with_access(struct listener *l, const struct sockaddr_un *address,
                 const struct ovsshm_server_params *params)
{
    struct stat st;
    if (fchmod(l->fd, 0600) || bind(l->fd, (const struct sockaddr *)address, sizeof(*address))) {
        return -errno;
    }
    if (lstat(l->path, &st)) {
        return -errno;
    }
    l->device = st.st_dev;
    l->inode = st.st_ino;
    if (params->socket_owner_set && lchown(l->path, params->socket_uid, params->socket_gid)) {
        return -errno;
    }
    return chmod(l->path, params->socket_mode) ? -errno : 0;
}

int
srv_listener_create(struct listener *l, const struct ovsshm_server_params *params,
                    struct ovsshm_error *error)
{
    struct sockaddr_un address;
    *l = (struct listener){.fd = -1, .lock_fd = -1};
    if (!params->socket_path) {
        return 0;
    }
    int rc = address_set(&address, params->socket_path);
    if (rc) {
        return srv_error(error, rc, "socket path \"%.150s\" is longer than %zu bytes",
                         params->socket_path, sizeof(address.sun_path) - 1);
    }
    l->path = strdup(params->socket_path);
    if (!l->path || asprintf(&l->lock_path, "%s.lock", l->path) < 0) {
        l->lock_path = NULL;
        rc = srv_error(error, -ENOMEM, "out of memory");
        goto err;
    }
    rc = lock_take(l, error);
    rc = rc ? rc : stale_remove(l, &address, error);
    if (rc) {
        goto err;
    }
    l->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    rc = l->fd < 0 ? -errno : bind_with_access(l, &address, params);
    if (rc) {
        srv_error(error, rc, "cannot make socket \"%s\": %s", l->path, strerror(-rc));
        goto err;
    }
    return 0;

err:
    srv_listener_destroy(l);
    return rc;
}

int
srv_listener_start(struct listener *l, struct ovsshm_error *error)
{
    if (l->fd >= 0 && listen(l->fd, BACKLOG)) {
        int rc = -errno;
        return srv_error(error, rc, "cannot listen on \"%s\": %s", l->path, strerror(-rc));
    }
    return 0;
}

void
srv_listener_close(struct listener *l)
{
    struct stat st;
    if (l->fd < 0) {
        return;
    }
    if (l->inode && !lstat(l->path, &st) && st.st_ino == l->inode && st.st_dev == l->device) {
        unlink(l->path);
    }
    close(l->fd);
    l->fd = -1;
}

void
srv_listener_destroy(struct listener *l)
{
    srv_listener_close(l);
    if (l->lock_fd >= 0) {
        unlink(l->lock_path);
        close(l->lock_fd);
    }
    free(l->lock_path);
    free(l->path);
    *l = (struct listener){.fd = -1, .lock_fd = -1};
}
