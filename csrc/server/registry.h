/* SPDX-License-Identifier: MIT */
/*
 * Volumes by name, and the jobs on them.
 *
 * A volume exists here while a session has it open or a job names it.  Jobs of one volume run one
 * after the other, in order of submission, on any worker; so a job may use the volume without a
 * lock. Closing jobs overtake the others.  A job that meets a session whose client is gone parks
 * its volume until that session has been closed.
 *
 * Threads: submit from the control thread, whose jobs run on workers; a caller that blocks for its
 * job runs it itself when its turn comes.  The lock guards what they all see.
 */
#ifndef OVSSHM_SERVER_REGISTRY_H
#define OVSSHM_SERVER_REGISTRY_H

#include <pthread.h>
#include <sys/queue.h>

#include <openvstorage/shm_server.h>

#include "counters.h"
#include "mailbox.h"

struct session;
struct volume;

enum {
    JOB_PARK = 1, /* run() again when a session of the volume was closed */
};

struct job {
    TAILQ_ENTRY(job) link;
    struct mail done; /* to the control thread; the job is its receiver's */
    struct ovsshm_server *server;
    struct volume *volume;       /* NULL: no particular one */
    int (*run)(struct job *job); /* 0, -errno or JOB_PARK */
    int status;                  /* what run returned */
    bool callers;                /* run by its caller, who waits for its turn; not by a worker */
    bool its_turn;
    pthread_cond_t turn;
    uint64_t park_until_ns; /* 0: has not been parked */
};
TAILQ_HEAD(job_list, job);

struct volume {
    LIST_ENTRY(volume) link;
    struct job_list jobs;
    struct job_list closes;
    bool scheduled; /* a job of it is ready or running */
    bool parked;
    TAILQ_HEAD(, session) sessions;   /* lock */
    uint64_t size_bytes;              /* atomic: what the reactors check against; whole sectors */
    uint64_t exact_bytes;             /* atomic: what locals check against */
    uint32_t held;                    /* atomic: no I/O of locals now */
    struct ovsshm_store_volume *open; /* jobs; NULL: not open */
    char name[OVSSHM_NAME_BYTES];
};

struct registry {
    pthread_mutex_t lock;
    pthread_cond_t ready_or_stopping;
    struct job_list ready;
    LIST_HEAD(, volume) volumes;
    TAILQ_HEAD(, session) sessions; /* of all volumes, in order of id */
    uint64_t session_ids;           /* given out */
    struct counters ended;          /* of sessions that are no more */
    unsigned parked;                /* volumes */
    bool stopping;
    unsigned worker_count;
    pthread_t workers[4];
    struct mailbox *reports; /* the control thread's */
};

void srv_registry_init(struct registry *registry, struct mailbox *reports);
int srv_registry_start(struct registry *registry);
void srv_registry_stop(struct registry *registry); /* no job may be left */
void srv_registry_destroy(struct registry *registry);

/* name NULL: a job on no particular volume.  -ENOMEM. */
int srv_registry_submit(struct registry *registry, struct job *job, const char *name);

/* On a volume that has a session; closing: before all jobs that wait. */
void srv_registry_submit_on(struct registry *registry, struct job *job, struct volume *volume,
                            bool closing);

/*
 * Runs the job in the calling thread, in its turn; job->status.  name and volume as above: one of
 * them or none.  A job may so run another one, as long as all who do that take names in the same
 * order.
 */
int srv_registry_run(struct registry *registry, struct job *job, const char *name);
int srv_registry_run_on(struct registry *registry, struct job *job, struct volume *volume,
                        bool closing);

/* Lets the jobs of a parked volume look again. */
void srv_registry_retry(struct registry *registry, struct volume *volume);

/* Wakes parked jobs whose time is over; all: every one.  The next deadline, or UINT64_MAX. */
uint64_t srv_registry_unpark(struct registry *registry, bool all);

/* Who has it open. */
struct usage {
    uint32_t writers;
    uint32_t readers;
};
struct usage srv_registry_usage(struct registry *registry, const char *name);

#endif
