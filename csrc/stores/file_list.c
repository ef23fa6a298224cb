/* SPDX-License-Identifier: MIT */
/*
 * Volumes in byte order of their full names, a page at a time.
 *
 * A directory sorts as its name with the "/" that all its volumes have there ("a.b" < "a/b" <
 * "ab"), so walking each directory in that order gives the order of the full names.
 */
#define _GNU_SOURCE
#include "stores/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/names.h"

struct page {
    struct file_store *fs;
    const char *after; /* "" at the start */
    struct ovsshm_volume_info *infos;
    unsigned count;
    unsigned room;
};

struct entries {
    char **paths; /* full names; those of directories end in "/" */
    unsigned count;
    unsigned room;
};

static int
add(struct entries *entries, const char *path)
{
    if (entries->count == entries->room) {
        unsigned room = entries->room ? 2 * entries->room : 64;
        void *paths = realloc(entries->paths, room * sizeof(*entries->paths));
        if (!paths) {
            return -ENOMEM;
        }
        entries->paths = paths;
        entries->room = room;
    }
    char *copy = strdup(path);
    if (!copy) {
        return -ENOMEM;
    }
    entries->paths[entries->count++] = copy;
    return 0;
}

static void
free_entries(struct entries *entries)
{
    for (unsigned i = 0; i < entries->count; i++) {
        free(entries->paths[i]);
    }
    free(entries->paths);
}

static int
by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Is there anything after the last page under this name? */
static bool
is_wanted(const struct page *page, const char *path, bool directory)
{
    return strcmp(path, page->after) > 0 ||
           (directory && !strncmp(path, page->after, strlen(path)));
}

static int
add_entry(const struct page *page, struct entries *entries, int fd, const char *prefix,
          const struct dirent *entry)
{
    char path[2 * OVSSHM_NAME_BYTES];
    struct stat st;
    size_t length = strlen(prefix) + strlen(entry->d_name);
    if (length > OVSSHM_NAME_BYTES - 2) {
        return 0;
    }
    strcpy(path, prefix);
    strcat(path, entry->d_name);
    unsigned char type = entry->d_type;
    if (type == DT_UNKNOWN && !fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW)) {
        type = IFTODT(st.st_mode);
    }
    /* The check also refuses ".", ".." and our own directory. */
    if ((type != DT_REG && type != DT_DIR) || ovsshm_volume_name_check(path)) {
        return 0;
    }
    if (type == DT_DIR) {
        strcpy(path + length, "/");
    }
    return is_wanted(page, path, type == DT_DIR) ? add(entries, path) : 0;
}

/* What is in the directory `prefix` ("" or "a/b/") and may be on this page, in order. */
static int
read_directory(const struct page *page, const char *prefix, struct entries *entries)
{
    int fd = ovsshm_file_open_beneath(page->fs->pool_fd, prefix[0] ? prefix : ".",
                                      O_RDONLY | O_DIRECTORY);
    if (fd < 0) {
        return fd == -ENOENT || fd == -EACCES ? 0 : fd; /* just removed, or not for us */
    }
    DIR *directory = fdopendir(fd);
    if (!directory) {
        close(fd);
        return -ENOMEM;
    }
    int rc = 0;
    for (struct dirent *entry; rc == 0 && (entry = readdir(directory));) {
        rc = add_entry(page, entries, fd, prefix, entry);
    }
    closedir(directory);
    if (rc == 0 && entries->count) {
        qsort(entries->paths, entries->count, sizeof(*entries->paths), by_bytes);
    }
    return rc;
}

/* Recursion is bounded: a name of 254 bytes has at most 127 components. */
static int
walk(struct page *page, const char *prefix)
{
    struct entries entries = {0};
    int rc = read_directory(page, prefix, &entries);
    for (unsigned i = 0; rc == 0 && i < entries.count && page->count < page->room; i++) {
        const char *path = entries.paths[i];
        if (path[strlen(path) - 1] == '/') {
            rc = walk(page, path);
        } else if (!ovsshm_file_volume_stat(&page->fs->base, path, &page->infos[page->count])) {
            page->count++;
        }
    }
    free_entries(&entries);
    return rc;
}

int
ovsshm_file_list(struct ovsshm_store *store, const char *after, struct ovsshm_volume_info *infos,
                 unsigned count)
{
    struct page page = {
        .fs = (struct file_store *)store,
        .after = after ? after : "",
        .infos = infos,
        .room = count,
    };
    int rc = walk(&page, "");
    return rc ? rc : (int)page.count;
}
