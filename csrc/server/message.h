/* SPDX-License-Identifier: MIT */
/*
 * The requests that go to a worker, as a table: size, checks, job.
 */
#ifndef OVSSHM_SERVER_MESSAGE_H
#define OVSSHM_SERVER_MESSAGE_H

#include "connection.h"

struct message {
    uint16_t type;          /* enum ovsshm_msg_type */
    uint32_t payload_bytes; /* exactly */
    /* 0; -EPROTO no correct client sends this; another -errno is just the answer. */
    int (*check)(const struct command *command, struct ovsshm_error *error);
    int (*run)(struct job *job);
};

const struct message *srv_message_find(uint16_t type);

/* The name of the volume that a request is about; NULL: none in particular. */
const char *srv_command_subject(const struct command *command);

#endif
