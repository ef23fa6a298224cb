/* SPDX-License-Identifier: MIT */
/*
 * The sentence behind ovsshm_reason(): why the last call of this thread failed.
 *
 * Threads: each has its own.  Errors: both setters return the errno they are given, so that
 * `return ovsshm_reason_set(-EINVAL, ...)` reads as one thing.
 */
#ifndef OVSSHM_REASON_H
#define OVSSHM_REASON_H

/* Control characters in the result become "?": some of the words are the server's. */
int ovsshm_reason_set(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* For paths that are taken often: text must be a literal. */
int ovsshm_reason_literal(int error, const char *text);

/* "No such file or directory"; error may have either sign. */
const char *ovsshm_errno_text(int error);

#endif
