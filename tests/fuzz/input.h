/* SPDX-License-Identifier: MIT */
/* What a fuzz target takes its decisions from: bytes until they are used up, zeroes then. */
#ifndef OVSSHM_FUZZ_INPUT_H
#define OVSSHM_FUZZ_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct input {
    const uint8_t *data;
    size_t left;
};

static inline void
input_bytes(struct input *in, void *to, size_t bytes)
{
    size_t have = bytes < in->left ? bytes : in->left;
    memcpy(to, in->data, have);
    memset((uint8_t *)to + have, 0, bytes - have);
    in->data += have;
    in->left -= have;
}

static inline uint8_t
input_u8(struct input *in)
{
    uint8_t value;
    input_bytes(in, &value, sizeof(value));
    return value;
}

static inline uint16_t
input_u16(struct input *in)
{
    uint16_t value;
    input_bytes(in, &value, sizeof(value));
    return value;
}

static inline uint32_t
input_u32(struct input *in)
{
    uint32_t value;
    input_bytes(in, &value, sizeof(value));
    return value;
}

/* A promise of the code under test; also on when assert is not. */
#define MUST(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort(); \
        } \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
