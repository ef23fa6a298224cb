/* SPDX-License-Identifier: MIT */
/*
 * Who is at the other end of a socket, by the kernel's word, and whether they may come in.
 */
#ifndef OVSSHM_SERVER_PEER_H
#define OVSSHM_SERVER_PEER_H

#include <openvstorage/shm_server.h>

struct peer {
    pid_t pid;
    uid_t uid;
    gid_t gid;
    char program[16]; /* for logs and reasons; could be anything */
};

void srv_peer_identify(struct peer *peer, int fd);

/* Root, our own user, and who is on the lists; everybody when both are empty. */
bool srv_peer_allowed(const struct ovsshm_server_params *params, const struct peer *peer, int fd);

#endif
