/* SPDX-License-Identifier: MIT */
/* Options of the stores that come with the server: checks that name what is wrong. */
#ifndef OVSSHM_STORES_OPTION_H
#define OVSSHM_STORES_OPTION_H

#include <openvstorage/shm_server.h>

/* For stores without options: -EINVAL if there is one. */
int ovsshm_option_none(const struct ovsshm_store_type *type,
                       const struct ovsshm_store_params *params, struct ovsshm_error *error);

/* A whole number from 0 to max. */
int ovsshm_option_number(const struct ovsshm_store_option *option, uint64_t max, uint64_t *value,
                         struct ovsshm_error *error);

#endif
