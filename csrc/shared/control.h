/* SPDX-License-Identifier: MIT */
/*
 * One control message as one SOCK_SEQPACKET packet, file descriptors included.
 *
 * Threads: none of its own; one sender and one receiver at a time per socket.
 * Ownership: received descriptors belong to the caller; when recv fails it has closed them.
 * Errors: -errno; -EPROTO for a packet that is not a message of ours; -EPIPE when the peer is gone.
 */
#ifndef OVSSHM_CONTROL_H
#define OVSSHM_CONTROL_H

#include <stddef.h>

#include <openvstorage/shm_wire.h>

#define OVSSHM_MSG_FDS_MAX (1 + 2 * OVSSHM_QUEUES_MAX)

/* Elements that one reply to a list has room for. */
#define OVSSHM_LIST_MAX(type) \
    ((OVSSHM_MSG_BYTES_MAX - sizeof(struct ovsshm_msg) - sizeof(struct ovsshm_msg_list_reply)) / \
     sizeof(type))

/* A message as received. */
struct ovsshm_packet {
    struct ovsshm_msg head;
    unsigned char payload[OVSSHM_MSG_BYTES_MAX - sizeof(struct ovsshm_msg)]
        __attribute__((aligned(8)));
    int fds[OVSSHM_MSG_FDS_MAX];
    unsigned fd_count;
};

/* head: magic and payload_bytes are filled in here. */
int ovsshm_msg_send(int fd, struct ovsshm_msg head, const void *payload, size_t payload_bytes,
                    const int *fds, unsigned fd_count);

/* flags: 0 or MSG_DONTWAIT.  fds_wanted: more than these are closed and refused. */
int ovsshm_msg_recv(int fd, struct ovsshm_packet *packet, unsigned fds_wanted, int flags);

void ovsshm_packet_close_fds(struct ovsshm_packet *packet);

/* True when a fixed-size text field of a message holds its terminating NUL. */
int ovsshm_msg_text_ok(const char *field, size_t field_bytes);

#endif
