/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "mount.h"

#include <string.h>

#include "shared/names.h"

bool
mnt_names_hidden(const char *component)
{
    return !strcmp(component, OVSSHM_PRIVATE_COMPONENT);
}

bool
mnt_names_volume(const struct ovsshm_mount *mount, const char *path, char name[MNT_PATH_BYTES])
{
    size_t length = strlen(path);
    size_t suffix = strlen(mount->params.volume_suffix);
    if (length <= suffix || strcmp(path + length - suffix, mount->params.volume_suffix) != 0 ||
        (suffix && path[length - suffix - 1] == '/')) {
        return false;
    }
    memcpy(name, path, length - suffix);
    name[length - suffix] = '\0';
    return true;
}

int
mnt_names_check(const char *volume)
{
    return ovsshm_volume_name_check(volume) ? ovsshm_name_errno(volume) : 0;
}
