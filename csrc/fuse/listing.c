/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "mount.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE_VOLUMES 128

static int
add(struct mnt_listing *listing, const char *name, size_t length, enum mnt_kind kind,
    const char *suffix)
{
    if (listing->count == listing->room) {
        unsigned room = listing->room ? 2 * listing->room : 64;
        void *items = realloc(listing->items, room * sizeof(*listing->items));
        if (!items) {
            return -ENOMEM;
        }
        listing->items = items;
        listing->room = room;
    }
    char *copy = malloc(length + strlen(suffix) + 1);
    if (!copy) {
        return -ENOMEM;
    }
    memcpy(copy, name, length);
    strcpy(copy + length, suffix);
    struct mnt_item *item = &listing->items[listing->count++];
    item->name = copy;
    item->kind = kind;
    return 0;
}

static int
add_entry(struct ovsshm_mount *mount, struct mnt_listing *listing, const char *directory, int fd,
          const struct dirent *entry)
{
    char path[MNT_PATH_BYTES];
    char volume[MNT_PATH_BYTES];
    unsigned char type = entry->d_type;
    struct stat st;
    if (type == DT_UNKNOWN && !fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW)) {
        type = IFTODT(st.st_mode);
    }
    size_t length = strlen(directory);
    if ((type != DT_DIR && type != DT_REG) || !strcmp(entry->d_name, ".") ||
        !strcmp(entry->d_name, "..") || mnt_names_hidden(entry->d_name) ||
        length + strlen(entry->d_name) + 2 > sizeof(path)) {
        return 0;
    }
    memcpy(path, directory, length);
    path[length] = '/';
    strcpy(path + length + (length > 0), entry->d_name);
    enum mnt_kind kind = MNT_FILE;
    if (type == DT_DIR) {
        kind = MNT_DIRECTORY;
    } else if (mnt_names_volume(mount, path, volume)) {
        if (!mount->backed || mnt_names_check(volume)) {
            return 0;
        }
        kind = MNT_VOLUME;
    }
    return add(listing, entry->d_name, strlen(entry->d_name), kind, "");
}

static int
add_files(struct ovsshm_mount *mount, struct mnt_listing *listing, const char *path)
{
    int fd = mnt_files_open(mount, path, O_RDONLY | O_DIRECTORY);
    if (fd < 0) {
        return fd == -ENOENT && !mount->backed ? 0 : fd;
    }
    DIR *directory = fdopendir(fd);
    if (!directory) {
        close(fd);
        return -ENOMEM;
    }
    int rc = 0;
    for (struct dirent *entry; rc == 0 && (entry = readdir(directory));) {
        rc = add_entry(mount, listing, path, fd, entry);
    }
    closedir(directory);
    return rc;
}

/* What a volume shows of itself in the directory `prefix`: itself, or the next directory. */
static int
add_volume(struct ovsshm_mount *mount, struct mnt_listing *listing, const char *rest)
{
    const char *slash = strchr(rest, '/');
    if (!slash) {
        return add(listing, rest, strlen(rest), MNT_VOLUME, mount->params.volume_suffix);
    }
    size_t length = (size_t)(slash - rest);
    const struct mnt_item *last = listing->count ? &listing->items[listing->count - 1] : NULL;
    if (last && !strncmp(last->name, rest, length) && !last->name[length]) {
        return 0;
    }
    return add(listing, rest, length, MNT_DIRECTORY, "");
}

static int
add_volumes(struct ovsshm_mount *mount, struct mnt_listing *listing, const char *path)
{
    struct ovsshm_volume_info *infos = malloc(PAGE_VOLUMES * sizeof(*infos));
    char after[MNT_PATH_BYTES + 1];
    size_t length = strlen(path);
    int rc = infos ? 1 : -ENOMEM;
    memcpy(after, path, length);
    strcpy(after + length, length ? "/" : "");
    length = strlen(after);
    char *prefix = strdup(after);
    while (prefix && rc > 0) {
        rc = srv_local_list(mount->server, after[0] ? after : NULL, infos, PAGE_VOLUMES);
        int count = rc;
        for (int i = 0; i < count && rc > 0; i++) {
            if (strncmp(infos[i].name, prefix, length) != 0) {
                rc = 0;
            } else if (add_volume(mount, listing, infos[i].name + length)) {
                rc = -ENOMEM;
            }
        }
        if (rc > 0) {
            strcpy(after, infos[count - 1].name);
        }
    }
    rc = prefix ? rc : -ENOMEM;
    free(prefix);
    free(infos);
    return rc;
}

static int
by_name(const void *a, const void *b)
{
    return strcmp(((const struct mnt_item *)a)->name, ((const struct mnt_item *)b)->name);
}

/* A directory that is there and that volumes imply is one. */
static void
sort_and_merge(struct mnt_listing *listing)
{
    unsigned kept = 0;
    if (listing->count) {
        qsort(listing->items, listing->count, sizeof(*listing->items), by_name);
    }
    for (unsigned i = 0; i < listing->count; i++) {
        if (kept && !strcmp(listing->items[kept - 1].name, listing->items[i].name)) {
            free(listing->items[i].name);
        } else {
            listing->items[kept++] = listing->items[i];
        }
    }
    listing->count = kept;
}

int
mnt_listing_create(struct ovsshm_mount *mount, const char *path, struct mnt_listing **out)
{
    struct mnt_listing *listing = calloc(1, sizeof(*listing));
    if (!listing) {
        return -ENOMEM;
    }
    int rc = add_files(mount, listing, path);
    if (rc == 0 && !mount->backed) {
        rc = add_volumes(mount, listing, path);
    }
    if (rc < 0) {
        mnt_listing_destroy(listing);
        return rc;
    }
    sort_and_merge(listing);
    *out = listing;
    return 0;
}

void
mnt_listing_destroy(struct mnt_listing *listing)
{
    for (unsigned i = 0; i < listing->count; i++) {
        free(listing->items[i].name);
    }
    free(listing->items);
    free(listing);
}
