/* SPDX-License-Identifier: MIT */
#include "doorbell.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

int
ovsshm_doorbell_create(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

void
ovsshm_doorbell_ring(int fd)
{
    const uint64_t one = 1;
    /* EAGAIN: a peer that never reads has let the counter fill up, and is awake by definition. */
    while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR) {
    }
}

void
ovsshm_doorbell_clear(int fd)
{
    uint64_t count;
    while (read(fd, &count, sizeof(count)) < 0 && errno == EINTR) {
    }
}
