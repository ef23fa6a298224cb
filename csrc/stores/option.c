/* SPDX-License-Identifier: MIT */
#include "option.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

#include "server/log.h"

int
ovsshm_option_none(const struct ovsshm_store_type *type, const struct ovsshm_store_params *params,
                   struct ovsshm_error *error)
{
    return params->option_count == 0
               ? 0
               : srv_error(error, -EINVAL, "store \"%s\" has no option \"%.150s\"", type->name,
                           params->options[0].key);
}

int
ovsshm_option_number(const struct ovsshm_store_option *option, uint64_t max, uint64_t *value,
                     struct ovsshm_error *error)
{
    char *end = NULL;
    errno = 0;
    unsigned long long number = strtoull(option->value, &end, 10);
    if (!isdigit((unsigned char)option->value[0]) || *end || errno || number > max) {
        return srv_error(error, -EINVAL, "option \"%.80s\": \"%.80s\" is not a number up to %llu",
                         option->key, option->value, (unsigned long long)max);
    }
    *value = number;
    return 0;
}
