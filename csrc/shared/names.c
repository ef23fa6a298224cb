/* SPDX-License-Identifier: MIT */
#include "names.h"

#include <errno.h>
#include <string.h>

#include <openvstorage/shm_wire.h>

static const char *
component_check(const char *start, size_t length)
{
    if (length == 0) {
        return "has an empty component";
    }
    if (start[0] == '.' && (length == 1 || (length == 2 && start[1] == '.'))) {
        return "has a component \".\" or \"..\"";
    }
    if (length == strlen(OVSSHM_PRIVATE_COMPONENT) &&
        !memcmp(start, OVSSHM_PRIVATE_COMPONENT, length)) {
        return "has the reserved component \"" OVSSHM_PRIVATE_COMPONENT "\"";
    }
    return NULL;
}

const char *
ovsshm_volume_name_check(const char *name)
{
    if (!name || !name[0]) {
        return "is empty";
    }
    if (name[0] == '/') {
        return "starts with \"/\"";
    }
    if (strlen(name) > OVSSHM_NAME_BYTES - 2) {
        return "is longer than 254 bytes";
    }
    for (const unsigned char *p = (const unsigned char *)name; *p; p++) {
        if (*p < 0x20 || *p == 0x7f) {
            return "has a control character";
        }
    }
    for (const char *start = name;;) {
        size_t length = strcspn(start, "/");
        const char *bad = component_check(start, length);
        if (bad || !start[length]) {
            return bad;
        }
        start += length + 1;
    }
}

const char *
ovsshm_snapshot_name_check(const char *name)
{
    const char *bad = ovsshm_volume_name_check(name);
    return bad ? bad : strchr(name, '/') ? "has a \"/\"" : NULL;
}

const char *
ovsshm_size_check(uint64_t size_bytes)
{
    if (size_bytes % OVSSHM_SECTOR_BYTES) {
        return "is not a multiple of 512 bytes";
    }
    return size_bytes > (uint64_t)INT64_MAX ? "is larger than 2^63 - 1 bytes" : NULL;
}

int
ovsshm_name_errno(const char *name)
{
    return name && strlen(name) > OVSSHM_NAME_BYTES - 2 ? -ENAMETOOLONG : -EINVAL;
}
