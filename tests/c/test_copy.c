/* SPDX-License-Identifier: MIT */
/* Copies to the peer: every way of copying moves the same bytes, and no others. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "shared/copy.h"
#include "testlib.h"

#define ROOM 70000
#define GUARD 0xa5

static unsigned char from[ROOM];
static unsigned char to[ROOM];

static void
copy_once(size_t from_skew, size_t to_skew, size_t bytes, bool far)
{
    memset(to, GUARD, sizeof(to));
    ovsshm_copy_to_peer(to + 64 + to_skew, from + from_skew, bytes, far);
    CHECK_EQ(memcmp(to + 64 + to_skew, from + from_skew, bytes), 0);
    CHECK_EQ(to[63 + to_skew], GUARD);
    CHECK_EQ(to[64 + to_skew + bytes], GUARD);
}

static void
test_copies_of_all_lengths_and_alignments_are_exact(void)
{
    static const size_t lengths[] = {0, 1, 63, 64, 65, 1023, 1024, 1025, 4096, 16383, 16384, 65537};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        for (size_t skew = 0; skew < 64; skew += 7) {
            copy_once(skew, 0, lengths[i], false);
            copy_once(0, skew, lengths[i], true);
            copy_once(skew, 63 - skew, lengths[i], true);
        }
    }
}

int
main(void)
{
    test_begin(60);
    for (size_t i = 0; i < sizeof(from); i++) {
        from[i] = (unsigned char)(i * 31 + i / 256);
    }
    RUN(test_copies_of_all_lengths_and_alignments_are_exact);
    return 0;
}
