/* SPDX-License-Identifier: MIT */
/*
 * memcpy into memory that the other process will read next.
 *
 * When both CPUs share a cache, plain stores are best for small blocks.  When they do not, a line
 * that was written through our cache is dear to fetch from theirs, and stores past the cache are
 * 3-6 times faster (docs/PERFORMANCE.md).  Large blocks gain in both cases; small ones only when
 * enough requests are in flight to hide the trip through memory.
 */
#ifndef OVSSHM_COPY_H
#define OVSSHM_COPY_H

#include <stddef.h>

/* concurrent: requests being moved together with this one, itself included. */
void ovsshm_copy_to_peer(void *restrict to, const void *restrict from, size_t bytes,
                         unsigned concurrent);

#endif
