/* SPDX-License-Identifier: MIT */
/* The table of stores, and stores from outside. */
#include <openvstorage/shm_server.h>

#include <string.h>

const struct ovsshm_store_type *const ovsshm_store_types[] = {
    &ovsshm_store_file,
    &ovsshm_store_memory,
    NULL,
};

const struct ovsshm_store_type *
ovsshm_store_find(const char *name)
{
    for (const struct ovsshm_store_type *const *type = ovsshm_store_types; *type; type++) {
        if (!strcmp((*type)->name, name)) {
            return *type;
        }
    }
    return NULL;
}
