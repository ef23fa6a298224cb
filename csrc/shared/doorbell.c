/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "doorbell.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>
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

bool
ovsshm_doorbell_clear(int fd)
{
    uint64_t count;
    ssize_t n;
    do {
        n = read(fd, &count, sizeof(count));
    } while (n < 0 && errno == EINTR);
    return n == sizeof(count);
}

bool
ovsshm_doorbell_wait(int fd, int other_fd, int64_t timeout_ns)
{
    struct pollfd fds[2] = {{.fd = fd, .events = POLLIN}, {.fd = other_fd, .events = POLLIN}};
    struct timespec timeout = {.tv_sec = timeout_ns / 1000000000,
                               .tv_nsec = timeout_ns % 1000000000};
    return ppoll(fds, 2, timeout_ns < 0 ? NULL : &timeout, NULL) > 0 && fds[0].revents != 0 &&
           ovsshm_doorbell_clear(fd);
}
