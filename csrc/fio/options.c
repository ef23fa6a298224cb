/* SPDX-License-Identifier: MIT */
#include <fio.h>
#include <optgroup.h>

#include "options.h"

struct fio_option ovsshm_fio_options[] = {
    {
        .name = "socket",
        .lname = "Server socket",
        .type = FIO_OPT_STR_STORE,
        .off1 = offsetof(struct options, socket),
        .help = "Socket of the server; default: $OVS_SHM_SOCKET, else the system's",
        .category = FIO_OPT_C_ENGINE,
        .group = FIO_OPT_G_INVALID,
    },
    {
        .name = "copy",
        .lname = "Private buffers",
        .type = FIO_OPT_BOOL,
        .off1 = offsetof(struct options, copy),
        .help = "Private I/O buffers, copied to and from the shared memory, as most programs have",
        .def = "0",
        .category = FIO_OPT_C_ENGINE,
        .group = FIO_OPT_G_INVALID,
    },
    {
        .name = "poll",
        .lname = "Poll for completions",
        .type = FIO_OPT_BOOL,
        .off1 = offsetof(struct options, poll),
        .help = "Poll for as long as it pays before sleeping; 0: sleep at once",
        .def = "1",
        .category = FIO_OPT_C_ENGINE,
        .group = FIO_OPT_G_INVALID,
    },
    {
        .name = "trim_op",
        .lname = "Request of a trim",
        .type = FIO_OPT_STR,
        .off1 = offsetof(struct options, trim_op),
        .help = "What a trim sends to the server",
        .def = "discard",
        .posval = {{.ival = "discard", .oval = TRIM_DISCARD, .help = "Discard"},
                   {.ival = "zeroes", .oval = TRIM_ZEROES, .help = "Write zeroes"}},
        .category = FIO_OPT_C_ENGINE,
        .group = FIO_OPT_G_INVALID,
    },
    {
        .name = "counters",
        .lname = "File of counters",
        .type = FIO_OPT_STR_STORE,
        .off1 = offsetof(struct options, counters),
        .help = "At its end a job adds a line of JSON for each of its volumes to this file",
        .category = FIO_OPT_C_ENGINE,
        .group = FIO_OPT_G_INVALID,
    },
    {.name = NULL},
};
