/* SPDX-License-Identifier: MIT */
/*
 * Rules for volume names, snapshot names and sizes, in one place for both ends.
 *
 * Each check returns NULL when the value is good, else a reason that names the cause ("has an empty
 * component"), to be put behind the thing's name.  The errno is -EINVAL, -ENAMETOOLONG when
 * strlen > 254.
 */
#ifndef OVSSHM_NAMES_H
#define OVSSHM_NAMES_H

#include <stdint.h>

/* Holds the stores' own files beside the volumes; no volume and nothing of a user is called so. */
#define OVSSHM_PRIVATE_COMPONENT ".openvstorage"

const char *ovsshm_volume_name_check(const char *name);
const char *ovsshm_snapshot_name_check(const char *name); /* as a volume name, without "/" */
const char *ovsshm_size_check(uint64_t size_bytes);       /* 0 is good: it can grow later */
int ovsshm_name_errno(const char *name);                  /* of a name that a check refused */

#endif
