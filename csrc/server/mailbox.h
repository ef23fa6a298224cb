/* SPDX-License-Identifier: MIT */
/*
 * How the server's threads talk: each owner thread has a mailbox, a mail is a function to be called
 * by the owner, and a gate is where somebody waits for answers.
 *
 * A mail lives inside the structure it is about, so posting never fails.  It belongs to the mailbox
 * from post until its deliver function runs; that function may free it or post it again.
 *
 * Threads: post and wake from any thread, the rest by the owner.
 */
#ifndef OVSSHM_SERVER_MAILBOX_H
#define OVSSHM_SERVER_MAILBOX_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/doorbell.h"

#define container_of(pointer, type, member) \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

struct mail {
    struct mail *next;
    void (*deliver)(struct mail *mail);
};

struct mailbox {
    pthread_mutex_t lock;
    struct mail *first;
    struct mail **end;
    uint32_t pending; /* atomic: there is mail */
    uint32_t armed;   /* atomic: the owner sleeps on fd */
    int fd;
};

int srv_mailbox_init(struct mailbox *box);
void srv_mailbox_destroy(struct mailbox *box);

void srv_mailbox_post(struct mailbox *box, struct mail *mail);

/* Delivers everything that has been posted so far. */
void srv_mailbox_deliver(struct mailbox *box);

static inline bool
srv_mailbox_pending(struct mailbox *box)
{
    return ovsshm_load_relaxed(&box->pending) != 0;
}

/* After publishing something else that the owner looks at before it sleeps. */
static inline void
srv_mailbox_wake(struct mailbox *box)
{
    if (ovsshm_doorbell_needed(&box->armed)) {
        ovsshm_doorbell_ring(box->fd);
    }
}

/* Counts answers down. */
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t opened;
    unsigned missing;
};

void srv_gate_init(struct gate *gate, unsigned missing);
void srv_gate_destroy(struct gate *gate);
void srv_gate_arrive(struct gate *gate);

/* False when it is not open by the deadline (CLOCK_MONOTONIC ns); UINT64_MAX: no deadline. */
bool srv_gate_wait(struct gate *gate, uint64_t deadline_ns);

uint64_t srv_clock_ns(void); /* CLOCK_MONOTONIC */

#endif
