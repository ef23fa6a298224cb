/* SPDX-License-Identifier: MIT */
#include "disks.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

int
disks_create(struct disks *disks, unsigned count)
{
    *disks = (struct disks){
        .all = calloc(count, sizeof(*disks->all)),
        .fds = calloc(count, sizeof(*disks->fds)),
    };
    return disks->all && disks->fds ? 0 : -ENOMEM;
}

void
disks_destroy(struct disks *disks)
{
    for (unsigned i = 0; i < disks->count; i++) {
        ovsshm_close(disks->all[i].volume);
    }
    free(disks->all);
    free(disks->fds);
}

int
disks_open(struct disks *disks, struct ovsshm_conn *conn, const char *name,
           const struct ovsshm_open_params *params)
{
    struct disk *disk = &disks->all[disks->count];
    int rc = ovsshm_open(conn, name, params, &disk->volume);
    if (rc) {
        return rc;
    }
    disk->queue = ovsshm_volume_queue(disk->volume, 0);
    disks->count++;
    return 0;
}

/* Sleeps until a volume has something to tell, or timeout_ms (< 0: none) is over. */
static void
sleep_on_all(struct disks *disks, int timeout_ms)
{
    unsigned armed = 0;
    bool found = false;
    while (armed < disks->count && !found) {
        struct ovsshm_queue *queue = disks->all[armed].queue;
        found = ovsshm_queue_arm(queue) == 1;
        if (!found) {
            disks->fds[armed++] = (struct pollfd){.fd = ovsshm_queue_fd(queue), .events = POLLIN};
        }
    }
    if (!found) {
        poll(disks->fds, armed, timeout_ms);
    }
    while (armed) {
        ovsshm_queue_disarm(disks->all[--armed].queue);
    }
}

/* Looks at all volumes; spin: staying at each as long as its own experience says. */
static unsigned
look_at_all(struct disks *disks, struct ovsshm_completion *completions, unsigned room, bool spin)
{
    unsigned found = 0;
    for (unsigned i = 0; i < disks->count && found < room; i++) {
        struct ovsshm_queue *queue = disks->all[i].queue;
        if (!ovsshm_queue_in_flight(queue)) {
            continue;
        }
        int more = spin && !found ? ovsshm_queue_spin(queue, completions, room)
                                  : ovsshm_queue_poll(queue, completions + found, room - found);
        found += (unsigned)more;
    }
    return found;
}

static bool
in_flight(const struct disks *disks)
{
    for (unsigned i = 0; i < disks->count; i++) {
        if (ovsshm_queue_in_flight(disks->all[i].queue)) {
            return true;
        }
    }
    return false;
}

unsigned
disks_wait(struct disks *disks, struct ovsshm_completion *completions, unsigned room,
           int64_t timeout_ns)
{
    if (disks->count == 1) {
        return (unsigned)ovsshm_queue_wait(disks->all[0].queue, completions, room, timeout_ns);
    }
    unsigned found = look_at_all(disks, completions, room, false);
    while (found == 0 && timeout_ns != 0 && in_flight(disks)) {
        found = look_at_all(disks, completions, room, true);
        if (found == 0) {
            sleep_on_all(disks, timeout_ns < 0 ? -1 : (int)((timeout_ns + 999999) / 1000000));
            found = look_at_all(disks, completions, room, false);
            timeout_ns = timeout_ns < 0 ? -1 : 0;
        }
    }
    return found;
}
