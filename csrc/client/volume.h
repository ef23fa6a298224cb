/* SPDX-License-Identifier: MIT */
/* An open volume: a session, the shared region that came with it, and its queues. */
#ifndef OVSSHM_VOLUME_H
#define OVSSHM_VOLUME_H

#include <openvstorage/shm.h>

#include "arena.h"
#include "queue.h"
#include "session.h"
#include "shared/region.h"

struct ovsshm_volume {
    uint32_t mode;       /* enum ovsshm_mode; atomic */
    uint64_t *size_word; /* shared: the volume's size */
    struct ovsshm_limits limits;
    struct ovsshm_arena arena;
    struct ovsshm_region region;
    struct ovsshm_queue *queues;
    unsigned queues_ready; /* these have been initialised */
    struct ovsshm_session session;
    char name[OVSSHM_NAME_BYTES];
};

#endif
