/* SPDX-License-Identifier: MIT */
#include "distance.h"

#include "atomic.h"
#include "waiter.h"

#define FAR_NS 75
#define OUTLIER_NS 400 /* we lost the CPU, or the host did something else */

#if defined(__x86_64__)
#include <emmintrin.h>

void
ovsshm_distance_measure(struct ovsshm_distance *distance, const void *line)
{
    _mm_lfence();
    uint64_t start = __builtin_ia32_rdtsc();
    _mm_lfence();
    (void)ovsshm_load_relaxed((const uint32_t *)line);
    _mm_lfence();
    uint64_t ticks = __builtin_ia32_rdtsc() - start;
    if (ticks > ovsshm_ticks_from_ns(OUTLIER_NS)) {
        return;
    }
    distance->ticks =
        distance->ticks ? (distance->ticks * 3 + (uint32_t)ticks) / 4 : (uint32_t)ticks;
    distance->far = distance->ticks > ovsshm_ticks_from_ns(FAR_NS);
}
#else
/* Not tried on other processors: copies stay what memcpy makes of them. */
void
ovsshm_distance_measure(struct ovsshm_distance *distance, const void *line)
{
    (void)distance;
    (void)line;
}
#endif
