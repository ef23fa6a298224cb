/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "ringer.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shared/doorbell.h"

#define UNREAPED_MAX 32

int
srv_ringer_init(struct ringer *ringer)
{
    *ringer = (struct ringer){.null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC)};
    if (ringer->null_fd < 0 || syscall(SYS_io_setup, UNREAPED_MAX, &ringer->context)) {
        int rc = -errno;
        srv_ringer_destroy(ringer);
        return rc;
    }
    return 0;
}

void
srv_ringer_destroy(struct ringer *ringer)
{
    if (ringer->context) {
        syscall(SYS_io_destroy, ringer->context);
        ringer->context = 0;
    }
    if (ringer->null_fd >= 0) {
        close(ringer->null_fd);
        ringer->null_fd = -1;
    }
}

/* The events say nothing, but the kernel keeps a place for each. */
static void
reap(struct ringer *ringer)
{
    struct io_event events[UNREAPED_MAX];
    struct timespec now = {0, 0};
    syscall(SYS_io_getevents, ringer->context, 0, UNREAPED_MAX, events, &now);
    ringer->unreaped = 0;
}

void
srv_ringer_ring(struct ringer *ringer, int fd)
{
    struct iocb request = {
        .aio_lio_opcode = IOCB_CMD_PREAD,
        .aio_fildes = (uint32_t)ringer->null_fd,
        .aio_flags = IOCB_FLAG_RESFD,
        .aio_resfd = (uint32_t)fd,
    };
    struct iocb *requests = &request;
    if (!ringer->context || syscall(SYS_io_submit, ringer->context, 1, &requests) != 1) {
        ovsshm_doorbell_ring(fd);
    } else if (++ringer->unreaped == UNREAPED_MAX) {
        reap(ringer);
    }
}
