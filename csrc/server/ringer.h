/* SPDX-License-Identifier: MIT */
/*
 * Rings the doorbells of clients.
 *
 * A client shares the open file of its eventfd with us, and O_NONBLOCK is a flag of the open file:
 * one that takes it away and fills the counter makes a write of ours block for ever, with all other
 * clients of the reactor.  The kernel's own signal at the end of an AIO request never blocks.  So
 * ringing is an empty read from /dev/null that ends with a signal to the eventfd: still one system
 * call.
 *
 * Threads: a ringer belongs to one thread.
 */
#ifndef OVSSHM_SERVER_RINGER_H
#define OVSSHM_SERVER_RINGER_H

#include <linux/aio_abi.h>

struct ringer {
    aio_context_t context; /* 0: this kernel has no AIO; then it is a plain write */
    int null_fd;
    unsigned unreaped;
};

/* -errno: it works, but can be blocked. */
int srv_ringer_init(struct ringer *ringer);
void srv_ringer_destroy(struct ringer *ringer);
void srv_ringer_ring(struct ringer *ringer, int fd);

#endif
