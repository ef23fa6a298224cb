/* SPDX-License-Identifier: MIT */
/*
 * Waits until the store has no request in flight.  With a volume: of this volume, whose queues stay
 * paused until the end.  Without: of all; an idle moment of each reactor is enough.
 *
 * Threads: any but control and reactors.  Every begin needs its end.
 */
#ifndef OVSSHM_SERVER_PAUSE_H
#define OVSSHM_SERVER_PAUSE_H

#include "server.h"

#define SRV_REACTORS_MAX 64

struct pause {
    struct ovsshm_server *server;
    struct volume *volume; /* NULL: all */
    struct gate reached;
    struct gate ended;
    struct quiet quiets[SRV_REACTORS_MAX];
};

void srv_pause_begin(struct pause *pause, struct ovsshm_server *server, struct volume *volume);
bool srv_pause_wait(struct pause *pause, uint64_t deadline_ns);
void srv_pause_end(struct pause *pause);

#endif
