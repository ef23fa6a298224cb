/* SPDX-License-Identifier: MIT */
/* The table of stores, and stores from outside. */
#include <openvstorage/shm_server.h>

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#include "server/log.h"

const struct ovsshm_store_type *const ovsshm_store_types[] = {
    &ovsshm_store_file, &ovsshm_store_memory, &ovsshm_store_null, &ovsshm_store_fault, NULL,
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

int
ovsshm_store_load(const char *path, const struct ovsshm_store_type **out,
                  struct ovsshm_error *error)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        return srv_error(error, -ENOENT, "cannot load a store: %.200s", dlerror());
    }
    const struct ovsshm_store_type *type = dlsym(library, OVSSHM_STORE_SYMBOL);
    if (type && type->abi == OVSSHM_STORE_ABI) {
        *out = type;
        return 0;
    }
    int rc = type ? srv_error(error, -EINVAL,
                              "store \"%.100s\" is built for interface %u, this server has %d",
                              path, type->abi, OVSSHM_STORE_ABI)
                  : srv_error(error, -EINVAL, "\"%.150s\" is no store: it has no symbol %s", path,
                              OVSSHM_STORE_SYMBOL);
    dlclose(library);
    return rc;
}
