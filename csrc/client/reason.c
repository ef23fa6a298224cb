/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "reason.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <openvstorage/shm.h>

static _Thread_local char buffer[512];
static _Thread_local const char *current;

const char *
ovsshm_reason(void)
{
    return current ? current : "no call of this thread has failed";
}

int
ovsshm_reason_literal(int error, const char *text)
{
    current = text;
    return error;
}

int
ovsshm_reason_set(int error, const char *format, ...)
{
    char text[sizeof(buffer)]; /* an argument may be the current reason */
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    for (char *p = text; *p; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f) {
            *p = '?';
        }
    }
    memcpy(buffer, text, sizeof(buffer));
    current = buffer;
    return error;
}

const char *
ovsshm_errno_text(int error)
{
    const char *text = strerrordesc_np(error < 0 ? -error : error);
    return text ? text : "Unknown error";
}
