/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "control.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

int
ovsshm_msg_send(int fd, struct ovsshm_msg head, const void *payload, size_t payload_bytes,
                const int *fds, unsigned fd_count)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * OVSSHM_MSG_FDS_MAX)];
    } control;
    head.magic = OVSSHM_MAGIC;
    head.payload_bytes = (uint32_t)payload_bytes;
    struct iovec iov[2] = {
        {.iov_base = &head, .iov_len = sizeof(head)},
        {.iov_base = (void *)(uintptr_t)payload, .iov_len = payload_bytes},
    };
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = payload_bytes ? 2 : 1};
    if (fd_count > OVSSHM_MSG_FDS_MAX || payload_bytes > OVSSHM_MSG_BYTES_MAX - sizeof(head)) {
        return -EMSGSIZE;
    }
    if (fd_count) {
        memset(&control, 0, sizeof(control));
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * fd_count);
    }
    for (;;) {
        if (sendmsg(fd, &msg, MSG_NOSIGNAL) >= 0) {
            return 0;
        }
        if (errno != EINTR) {
            return errno == ECONNRESET || errno == ENOTCONN ? -EPIPE : -errno;
        }
    }
}

/* Collects the descriptors; any beyond the array's room are closed. */
static void
take_fds(struct ovsshm_packet *packet, struct msghdr *msg)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (packet->fd_count < OVSSHM_MSG_FDS_MAX) {
                packet->fds[packet->fd_count++] = fd;
            } else {
                close(fd);
            }
        }
    }
}

void
ovsshm_packet_close_fds(struct ovsshm_packet *packet)
{
    while (packet->fd_count) {
        close(packet->fds[--packet->fd_count]);
    }
}

int
ovsshm_msg_recv(int fd, struct ovsshm_packet *packet, unsigned fds_wanted, int flags)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * (OVSSHM_MSG_FDS_MAX + 1))];
    } control;
    struct iovec iov[2] = {
        {.iov_base = &packet->head, .iov_len = sizeof(packet->head)},
        {.iov_base = packet->payload, .iov_len = sizeof(packet->payload)},
    };
    struct msghdr msg = {.msg_iov = iov,
                         .msg_iovlen = 2,
                         .msg_control = &control,
                         .msg_controllen = sizeof(control)};
    packet->fd_count = 0;
    ssize_t n;
    do {
        n = recvmsg(fd, &msg, flags | MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return errno == ECONNRESET || errno == ENOTCONN ? -EPIPE : -errno;
    }
    take_fds(packet, &msg);
    if (n == 0 && packet->fd_count == 0) {
        return -EPIPE;
    }
    if ((msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) || (size_t)n < sizeof(packet->head) ||
        packet->head.magic != OVSSHM_MAGIC || packet->fd_count > fds_wanted ||
        packet->head.payload_bytes != (size_t)n - sizeof(packet->head)) {
        ovsshm_packet_close_fds(packet);
        return -EPROTO;
    }
    return 0;
}

int
ovsshm_msg_text_ok(const char *field, size_t field_bytes)
{
    return memchr(field, 0, field_bytes) != NULL;
}
