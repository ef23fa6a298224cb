/* SPDX-License-Identifier: MIT */
/* The engine's own options in a job; docs/FIO.md explains them. */
#ifndef OVSSHM_FIO_OPTIONS_H
#define OVSSHM_FIO_OPTIONS_H

enum trim_op {
    TRIM_DISCARD,
    TRIM_ZEROES
};

struct options {
    void *pad; /* fio's: the job */
    char *socket;
    unsigned copy;
    unsigned poll;
    unsigned trim_op;
    char *counters;
};

extern struct fio_option ovsshm_fio_options[];

#endif
