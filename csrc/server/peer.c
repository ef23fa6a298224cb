/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "peer.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define GROUPS_MAX 256

void
srv_peer_identify(struct peer *peer, int fd)
{
    struct ucred credentials;
    socklen_t bytes = sizeof(credentials);
    char path[64];
    *peer = (struct peer){.uid = (uid_t)-1, .gid = (gid_t)-1, .program = "unknown"};
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &bytes)) {
        return;
    }
    peer->pid = credentials.pid;
    peer->uid = credentials.uid;
    peer->gid = credentials.gid;
    snprintf(path, sizeof(path), "/proc/%d/comm", (int)credentials.pid);
    int comm = open(path, O_RDONLY | O_CLOEXEC);
    if (comm >= 0) {
        ssize_t n = read(comm, peer->program, sizeof(peer->program) - 1);
        peer->program[n > 0 ? n : 0] = '\0';
        peer->program[strcspn(peer->program, "\n")] = '\0';
        close(comm);
    }
}

static bool
group_allowed(const struct ovsshm_server_params *params, const struct peer *peer, int fd)
{
    gid_t groups[GROUPS_MAX];
    socklen_t bytes = sizeof(groups);
    unsigned count = 0;
    if (!getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &bytes)) {
        count = bytes / sizeof(gid_t);
    }
    for (unsigned i = 0; i < params->allow_gid_count; i++) {
        if (params->allow_gids[i] == peer->gid) {
            return true;
        }
        for (unsigned k = 0; k < count; k++) {
            if (params->allow_gids[i] == groups[k]) {
                return true;
            }
        }
    }
    return false;
}

bool
srv_peer_allowed(const struct ovsshm_server_params *params, const struct peer *peer, int fd)
{
    if ((params->allow_uid_count == 0 && params->allow_gid_count == 0) || peer->uid == 0 ||
        peer->uid == geteuid()) {
        return true;
    }
    for (unsigned i = 0; i < params->allow_uid_count; i++) {
        if (params->allow_uids[i] == peer->uid) {
            return true;
        }
    }
    return group_allowed(params, peer, fd);
}
