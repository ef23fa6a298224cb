/* SPDX-License-Identifier: MIT */
#include "copy.h"

#include <stdint.h>
#include <string.h>

#define STREAM_BYTES_MIN 1024

#if defined(__x86_64__)
#include <emmintrin.h>

static void
copy_stream(unsigned char *restrict to, const unsigned char *restrict from, size_t bytes)
{
    size_t head = -(uintptr_t)to & 63;
    memcpy(to, from, head);
    to += head;
    from += head;
    bytes -= head;
    for (; bytes >= 64; bytes -= 64, to += 64, from += 64) {
        const __m128i *source = (const __m128i *)(const void *)from;
        __m128i *target = (__m128i *)(void *)to;
        __m128i a = _mm_loadu_si128(source);
        __m128i b = _mm_loadu_si128(source + 1);
        __m128i c = _mm_loadu_si128(source + 2);
        __m128i d = _mm_loadu_si128(source + 3);
        _mm_stream_si128(target, a);
        _mm_stream_si128(target + 1, b);
        _mm_stream_si128(target + 2, c);
        _mm_stream_si128(target + 3, d);
    }
    _mm_sfence(); /* streaming stores are not ordered by the release store that publishes them */
    memcpy(to, from, bytes);
}
#else
static void
copy_stream(unsigned char *restrict to, const unsigned char *restrict from, size_t bytes)
{
    memcpy(to, from, bytes);
}
#endif

void
ovsshm_copy_to_peer(void *restrict to, const void *restrict from, size_t bytes, bool far)
{
    if (far && bytes >= STREAM_BYTES_MIN) {
        copy_stream(to, from, bytes);
    } else {
        memcpy(to, from, bytes);
    }
}
