/* SPDX-License-Identifier: MIT */
/* The open volumes of a job, and waiting for all of them at once.  Knows nothing of fio. */
#ifndef OVSSHM_FIO_DISKS_H
#define OVSSHM_FIO_DISKS_H

#include <stdint.h>

#include <openvstorage/shm.h>

struct pollfd;

struct disk {
    struct ovsshm_volume *volume;
    struct ovsshm_queue *queue;
    char *buffers; /* as many as fio's, in this volume's memory; NULL: none */
};

struct disks {
    struct disk *all;
    unsigned count; /* open ones, from the first */
    struct pollfd *fds;
};

/* Room for `count`, none open yet.  0 or -ENOMEM; disks_destroy() also after a failure. */
int disks_create(struct disks *disks, unsigned count);
void disks_destroy(struct disks *disks);

/* The next of them, as ovsshm_open(). */
int disks_open(struct disks *disks, struct ovsshm_conn *conn, const char *name,
               const struct ovsshm_open_params *params);

/*
 * Stores at least one completion and at most `room`; their number.  0: nothing is in flight, or
 * timeout_ns (< 0: no limit) is over.
 */
unsigned disks_wait(struct disks *disks, struct ovsshm_completion *completions, unsigned room,
                    int64_t timeout_ns);

#endif
