/* SPDX-License-Identifier: MIT */
/*
 * memcpy into memory that the other process will read next.
 *
 * When both CPUs share a cache, plain stores are best: 64 KiB writes are twice as fast with them.
 * When they do not, a line that was written through our cache is dear to fetch from theirs, and
 * stores past the cache are 3-6 times faster (docs/PERFORMANCE.md).
 */
#ifndef OVSSHM_COPY_H
#define OVSSHM_COPY_H

#include <stdbool.h>
#include <stddef.h>

/* far: the reader's CPU, see distance.h. */
void ovsshm_copy_to_peer(void *restrict to, const void *restrict from, size_t bytes, bool far);

#endif
