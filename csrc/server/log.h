/* SPDX-License-Identifier: MIT */
/*
 * One line to the embedder's log function.  Text that a client chose may be passed: control
 * characters are replaced.
 *
 * Threads: any.
 */
#ifndef OVSSHM_SERVER_LOG_H
#define OVSSHM_SERVER_LOG_H

#include <openvstorage/shm_server.h>

void srv_log(const struct ovsshm_log *log, enum ovsshm_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Writes the sentence; returns rc, so that an error path is one line.  error may be NULL. */
int srv_error(struct ovsshm_error *error, int rc, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
