/* SPDX-License-Identifier: MIT */
/*
 * The library's parts, each done `count` times in one call, so that calling from Python is not what
 * is measured.  cffi reads this text as it is.
 */

/* Entries of 64 bytes through a ring, `batch` at a time, producer and consumer in one thread. */
void micro_ring(unsigned batch, unsigned count);

/* What a producer pays to learn that its peer does not sleep. */
void micro_doorbell_needed(unsigned count);

/* Blocks of `bytes` taken from and given back to an arena in which `held` stay taken; 0 or -1. */
int micro_arena(unsigned bytes, unsigned held, unsigned count);

/* Copies of `bytes` with the stores for a peer whose CPU is near, or far; 0 or -1. */
int micro_copy(unsigned bytes, int far, unsigned count);

/* Round trips to a thread on the last CPU, which polls or sleeps.  NULL: no thread. */
struct micro_pair *micro_pair_start(int polls);
void micro_pair_round_trips(struct micro_pair *pair, unsigned count);
void micro_pair_stop(struct micro_pair *pair);
