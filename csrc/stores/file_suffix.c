/* SPDX-License-Identifier: MIT */
/*
 * With the option suffix only files that end so are volumes, and the suffix is no part of their
 * names; what else is in the pool is left alone.
 *
 * All the rest of the store knows volumes by the names of their files.  So each call that has a
 * name passes here first.  Pages of lists are in the order of the files.
 */
#include "stores/file.h"

#include <errno.h>
#include <string.h>

#include "server/log.h"

static const char *
suffix_of(const struct ovsshm_store *store)
{
    return ((const struct file_store *)store)->suffix;
}

/* The name of a volume's file. */
static int
file_name(const struct ovsshm_store *store, const char *volume, char file[OVSSHM_NAME_BYTES],
          struct ovsshm_error *error)
{
    const char *suffix = suffix_of(store);
    size_t length = strlen(volume);
    if (length + strlen(suffix) > OVSSHM_NAME_BYTES - 2) {
        return srv_error(error, -ENAMETOOLONG, "\"%.80s%s\" is longer than 254 bytes", volume,
                         suffix);
    }
    memcpy(file, volume, length);
    strcpy(file + length, suffix);
    return 0;
}

/* False: it is no volume. */
static bool
strip(const struct ovsshm_store *store, char name[OVSSHM_NAME_BYTES])
{
    const char *suffix = suffix_of(store);
    size_t length = strlen(name);
    size_t rest = length - strlen(suffix);
    if (length <= strlen(suffix) || strcmp(name + rest, suffix) != 0 || name[rest - 1] == '/') {
        return false;
    }
    name[rest] = '\0';
    return true;
}

static int
create(struct ovsshm_store *store, const char *name, uint64_t size_bytes,
       struct ovsshm_error *error)
{
    char file[OVSSHM_NAME_BYTES];
    int rc = file_name(store, name, file, error);
    return rc ? rc : ovsshm_file_volume_create(store, file, size_bytes, error);
}

static int
remove_volume(struct ovsshm_store *store, const char *name, struct ovsshm_error *error)
{
    char file[OVSSHM_NAME_BYTES];
    int rc = file_name(store, name, file, error);
    return rc ? rc : ovsshm_file_volume_remove(store, file, error);
}

static int
stat_volume(struct ovsshm_store *store, const char *name, struct ovsshm_volume_info *info)
{
    char file[OVSSHM_NAME_BYTES];
    int rc = file_name(store, name, file, NULL);
    rc = rc ? rc : ovsshm_file_volume_stat(store, file, info);
    return rc ? rc : strip(store, info->name) ? 0 : -EINVAL;
}

static int
list(struct ovsshm_store *store, const char *after, struct ovsshm_volume_info *infos,
     unsigned count)
{
    char at[OVSSHM_NAME_BYTES] = "";
    unsigned kept = 0;
    /* What ends in a slash is no name but the beginning of some. */
    if (after && after[0] && after[strlen(after) - 1] == '/') {
        strcpy(at, after);
    } else if (after && file_name(store, after, at, NULL)) {
        strcpy(at, after);
    }
    for (int got = 1; got > 0 && kept < count;) {
        got = ovsshm_file_list(store, at[0] ? at : NULL, infos + kept, count - kept);
        if (got < 0) {
            return got;
        }
        if (got > 0) {
            strcpy(at, infos[kept + (unsigned)got - 1].name);
        }
        unsigned first = kept;
        for (int i = 0; i < got; i++) {
            if (strip(store, infos[first + (unsigned)i].name)) {
                infos[kept++] = infos[first + (unsigned)i];
            }
        }
    }
    return (int)kept;
}

static int
resize(struct ovsshm_store *store, const char *name, struct ovsshm_store_volume *open,
       uint64_t size_bytes, struct ovsshm_error *error)
{
    char file[OVSSHM_NAME_BYTES];
    int rc = file_name(store, name, file, error);
    return rc ? rc : ovsshm_file_volume_resize(store, file, open, size_bytes, error);
}

static int
truncate_volume(struct ovsshm_store *store, const char *name, struct ovsshm_store_volume *open,
                uint64_t size_bytes, struct ovsshm_error *error)
{
    char file[OVSSHM_NAME_BYTES];
    int rc = file_name(store, name, file, error);
    return rc ? rc : ovsshm_file_volume_truncate(store, file, open, size_bytes, error);
}

static int
rename_volume(struct ovsshm_store *store, const char *from, const char *to,
              struct ovsshm_error *error)
{
    char from_file[OVSSHM_NAME_BYTES];
    char to_file[OVSSHM_NAME_BYTES];
    int rc = file_name(store, from, from_file, error);
    rc = rc ? rc : file_name(store, to, to_file, error);
    return rc ? rc : ovsshm_file_volume_rename(store, from_file, to_file, error);
}

static int
open_volume(struct ovsshm_store *store, const char *name, struct ovsshm_store_volume **volume,
            struct ovsshm_error *error)
{
    char file[OVSSHM_NAME_BYTES];
    int rc = file_name(store, name, file, error);
    return rc ? rc : ovsshm_file_volume_open(store, file, volume, error);
}

static int
snapshot_create(struct ovsshm_store *store, const char *name, struct ovsshm_store_volume *open,
                const char *snapshot, int64_t timeout_s, struct ovsshm_error *error)
{
    char file[OVSSHM_NAME_BYTES];
    int rc = file_name(store, name, file, error);
    return rc ? rc : ovsshm_file_snapshot_create(store, file, open, snapshot, timeout_s, error);
}

static int
snapshot_rollback(struct ovsshm_store *store, const char *name, struct ovsshm_store_volume *open,
                  const char *snapshot, struct ovsshm_error *error)
{
    char file[OVSSHM_NAME_BYTES];
    int rc = file_name(store, name, file, error);
    return rc ? rc : ovsshm_file_snapshot_rollback(store, file, open, snapshot, error);
}

static int
snapshot_remove(struct ovsshm_store *store, const char *name, const char *snapshot,
                struct ovsshm_error *error)
{
    char file[OVSSHM_NAME_BYTES];
    int rc = file_name(store, name, file, error);
    return rc ? rc : ovsshm_file_snapshot_remove(store, file, snapshot, error);
}

static int
snapshot_is_synced(struct ovsshm_store *store, const char *name, const char *snapshot)
{
    char file[OVSSHM_NAME_BYTES];
    int rc = file_name(store, name, file, NULL);
    return rc ? rc : ovsshm_file_snapshot_is_synced(store, file, snapshot);
}

static int
snapshot_list(struct ovsshm_store *store, const char *name, const char *after,
              struct ovsshm_snapshot_info *infos, unsigned count)
{
    char file[OVSSHM_NAME_BYTES];
    int rc = file_name(store, name, file, NULL);
    return rc ? rc : ovsshm_file_snapshot_list(store, file, after, infos, count);
}

void
ovsshm_file_use_suffix(struct file_store *fs)
{
    fs->suffixed = ovsshm_store_file;
    fs->suffixed.volume_create = create;
    fs->suffixed.volume_remove = remove_volume;
    fs->suffixed.volume_stat = stat_volume;
    fs->suffixed.volume_list = list;
    fs->suffixed.volume_resize = resize;
    fs->suffixed.volume_truncate = truncate_volume;
    fs->suffixed.volume_rename = rename_volume;
    fs->suffixed.volume_open = open_volume;
    fs->suffixed.snapshot_create = snapshot_create;
    fs->suffixed.snapshot_rollback = snapshot_rollback;
    fs->suffixed.snapshot_remove = snapshot_remove;
    fs->suffixed.snapshot_is_synced = snapshot_is_synced;
    fs->suffixed.snapshot_list = snapshot_list;
    fs->base.type = &fs->suffixed;
}
