/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "mailbox.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000u

int
srv_mailbox_init(struct mailbox *box)
{
    *box = (struct mailbox){.fd = ovsshm_doorbell_create()};
    if (box->fd < 0) {
        return box->fd;
    }
    box->end = &box->first;
    pthread_mutex_init(&box->lock, NULL);
    return 0;
}

void
srv_mailbox_destroy(struct mailbox *box)
{
    close(box->fd);
    pthread_mutex_destroy(&box->lock);
}

void
srv_mailbox_post(struct mailbox *box, struct mail *mail)
{
    mail->next = NULL;
    pthread_mutex_lock(&box->lock);
    *box->end = mail;
    box->end = &mail->next;
    ovsshm_store_relaxed(&box->pending, 1);
    pthread_mutex_unlock(&box->lock);
    srv_mailbox_wake(box);
}

void
srv_mailbox_deliver(struct mailbox *box)
{
    pthread_mutex_lock(&box->lock);
    struct mail *mail = box->first;
    box->first = NULL;
    box->end = &box->first;
    ovsshm_store_relaxed(&box->pending, 0);
    pthread_mutex_unlock(&box->lock);
    while (mail) {
        struct mail *next = mail->next;
        mail->deliver(mail);
        mail = next;
    }
}

void
srv_gate_init(struct gate *gate, unsigned missing)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&gate->lock, NULL);
    pthread_cond_init(&gate->opened, &attr);
    pthread_condattr_destroy(&attr);
    gate->missing = missing;
}

void
srv_gate_destroy(struct gate *gate)
{
    pthread_cond_destroy(&gate->opened);
    pthread_mutex_destroy(&gate->lock);
}

void
srv_gate_arrive(struct gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    if (--gate->missing == 0) {
        pthread_cond_broadcast(&gate->opened);
    }
    pthread_mutex_unlock(&gate->lock);
}

bool
srv_gate_wait(struct gate *gate, uint64_t deadline_ns)
{
    struct timespec at = {.tv_sec = (time_t)(deadline_ns / NS_PER_S),
                          .tv_nsec = (long)(deadline_ns % NS_PER_S)};
    int rc = 0;
    pthread_mutex_lock(&gate->lock);
    while (gate->missing && rc != ETIMEDOUT) {
        rc = deadline_ns == UINT64_MAX ? pthread_cond_wait(&gate->opened, &gate->lock)
                                       : pthread_cond_timedwait(&gate->opened, &gate->lock, &at);
    }
    bool open = gate->missing == 0;
    pthread_mutex_unlock(&gate->lock);
    return open;
}

uint64_t
srv_clock_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}
