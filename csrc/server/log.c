/* SPDX-License-Identifier: MIT */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>

#define LINE_BYTES 1024

void
srv_log(const struct ovsshm_log *log, enum ovsshm_log_level level, const char *format, ...)
{
    if (!log->write) {
        return;
    }
    char line[LINE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    for (unsigned char *p = (unsigned char *)line; *p; p++) {
        if (*p < 0x20 || *p == 0x7f) {
            *p = '?';
        }
    }
    log->write(log->arg, level, line);
}

int
srv_error(struct ovsshm_error *error, int rc, const char *format, ...)
{
    if (error) {
        va_list args;
        va_start(args, format);
        vsnprintf(error->reason, sizeof(error->reason), format, args);
        va_end(args);
    }
    return rc;
}
