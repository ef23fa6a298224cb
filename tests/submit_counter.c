/* SPDX-License-Identifier: MIT */
/*
 * Preloaded, with the client library behind it: at exit it writes how many requests were submitted
 * in how many batches to the file $SUBMITS.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include <openvstorage/shm.h>

static unsigned long requests, batches;

int
ovsshm_queue_submit(struct ovsshm_queue *queue)
{
    static int (*submit)(struct ovsshm_queue *);
    if (!submit) {
        *(void **)&submit = dlsym(RTLD_NEXT, "ovsshm_queue_submit");
    }
    int count = submit(queue);
    requests += (unsigned)count;
    batches += count != 0;
    return count;
}

__attribute__((destructor)) static void
tell(void)
{
    FILE *file = fopen(getenv("SUBMITS"), "w");
    if (file) {
        fprintf(file, "%lu %lu\n", requests, batches);
        fclose(file);
    }
}
