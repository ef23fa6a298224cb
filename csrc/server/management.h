/* SPDX-License-Identifier: MIT */
/*
 * Management requests as jobs: what runs on a worker between a control message and its reply.
 */
#ifndef OVSSHM_SERVER_MANAGEMENT_H
#define OVSSHM_SERVER_MANAGEMENT_H

#include "registry.h"

struct connection;
struct local;
struct session;

/* A control message that has been checked; one per connection at a time. */
struct command {
    struct job job;
    struct connection *connection;
    uint16_t type; /* enum ovsshm_msg_type */
    uint32_t id;
    union {
        struct ovsshm_msg_volume volume;
        struct ovsshm_msg_snapshot snapshot;
        struct ovsshm_msg_open open;
        struct ovsshm_msg_set_mode set_mode;
    } in;
    struct local *local;             /* open by a local: it, without a connection */
    struct ovsshm_volume_info *info; /* stat by a local: where to */
    struct session *session;         /* open: the new one; set mode: the caller's */
    struct ovsshm_error error;       /* when the job has failed */
    void *reply;                     /* allocated; NULL: no payload */
    size_t reply_bytes;
    bool resized; /* the volume; to be announced */
    uint64_t size_bytes;
};

int srv_manage_create(struct job *job);
int srv_manage_remove(struct job *job);
int srv_manage_resize(struct job *job);
int srv_manage_truncate(struct job *job); /* to the byte, up or down */
int srv_manage_stat(struct job *job);
int srv_manage_list(struct job *job);
int srv_manage_snapshot_create(struct job *job);
int srv_manage_snapshot_list(struct job *job);
int srv_manage_snapshot_rollback(struct job *job);
int srv_manage_snapshot_remove(struct job *job);
int srv_manage_snapshot_is_synced(struct job *job);
int srv_manage_open(struct job *job);
int srv_manage_set_mode(struct job *job);

/* The job's volume goes away: nobody may have it open.  0, -EBUSY, JOB_PARK. */
int srv_manage_check_closed(struct command *command);

/* How many have it open. */
void srv_manage_add_usage(struct ovsshm_server *server, struct ovsshm_volume_info *info);

/* The closing job of a session. */
int srv_manage_close(struct job *job);

#endif
