/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "stores/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "server/log.h"

#define NS_PER_S 1000000000ll

static int64_t
mtime_ns(const struct stat *st)
{
    return st->st_mtim.tv_sec * NS_PER_S + st->st_mtim.tv_nsec;
}

/* ---- the snapshots of a volume, oldest first ------------------------------------------------ */

struct snapshots {
    struct ovsshm_snapshot_info *infos;
    unsigned count;
    unsigned room;
};

static int
visit_add(void *arg, int directory_fd, const char *name)
{
    struct snapshots *all = arg;
    struct stat st;
    if (strlen(name) >= OVSSHM_NAME_BYTES ||
        fstatat(directory_fd, name, &st, AT_SYMLINK_NOFOLLOW)) {
        return 0;
    }
    if (all->count == all->room) {
        unsigned room = all->room ? 2 * all->room : 16;
        void *infos = realloc(all->infos, room * sizeof(*all->infos));
        if (!infos) {
            return -ENOMEM;
        }
        all->infos = infos;
        all->room = room;
    }
    struct ovsshm_snapshot_info *info = &all->infos[all->count++];
    *info = (struct ovsshm_snapshot_info){
        .size_bytes = (uint64_t)st.st_size,
        .allocated_bytes = (uint64_t)st.st_blocks * 512,
        .created_ns = mtime_ns(&st),
    };
    strcpy(info->name, name);
    return 0;
}

static int
by_age(const void *a, const void *b)
{
    const struct ovsshm_snapshot_info *x = a, *y = b;
    return x->created_ns != y->created_ns ? (x->created_ns < y->created_ns ? -1 : 1)
                                          : strcmp(x->name, y->name);
}

/* All of them; free(all->infos) also after a failure. */
static int
load(struct file_store *fs, const char *volume, struct snapshots *all)
{
    *all = (struct snapshots){0};
    int rc = ovsshm_file_visit(fs->snapshots_fd, volume, visit_add, all);
    if (rc == 0 && all->count) {
        qsort(all->infos, all->count, sizeof(*all->infos), by_age);
    }
    return rc == -ENOENT || rc == -ENOTDIR ? 0 : rc;
}

static unsigned
find(const struct snapshots *all, const char *name)
{
    unsigned i = 0;
    while (i < all->count && strcmp(all->infos[i].name, name)) {
        i++;
    }
    return i;
}

static int
visit_count(void *arg, int directory_fd, const char *name)
{
    (void)directory_fd;
    (void)name;
    ++*(unsigned *)arg;
    return 0;
}

unsigned
ovsshm_file_snapshot_count(struct file_store *fs, const char *volume)
{
    unsigned count = 0;
    ovsshm_file_visit(fs->snapshots_fd, volume, visit_count, &count);
    return count;
}

/* ---- names ---------------------------------------------------------------------------------- */

static void
snapshot_path(char path[FILE_PATH_BYTES], const char *volume, const char *snapshot)
{
    snprintf(path, FILE_PATH_BYTES, "%s/%s", volume, snapshot);
}

static bool
volume_exists(struct file_store *fs, const char *volume)
{
    int fd = ovsshm_file_open_regular(fs->pool_fd, volume, O_RDONLY);
    if (fd >= 0) {
        close(fd);
    }
    return fd >= 0;
}

/* -ENOENT, naming what is missing. */
static int
missing(struct file_store *fs, const char *volume, const char *snapshot, struct ovsshm_error *error)
{
    return volume_exists(fs, volume)
               ? srv_error(error, -ENOENT, "volume \"%.100s\" has no snapshot \"%.100s\"", volume,
                           snapshot)
               : srv_error(error, -ENOENT, "volume \"%.100s\": %s", volume, strerror(ENOENT));
}

static int
failed(const char *what, const char *volume, const char *snapshot, int rc,
       struct ovsshm_error *error)
{
    return srv_error(error, rc, "cannot %s snapshot \"%.100s\" of volume \"%.100s\": %s", what,
                     snapshot, volume, strerror(-rc));
}

/* ---- create --------------------------------------------------------------------------------- */

/*
 * Stamps it with the time and syncs it.  If need be with a later time: after the newest snapshot,
 * which may have come in the same tick of the clock or before it was set back.  File systems that
 * keep whole seconds get the next second.
 */
static int
stamp(int fd, int64_t newest_ns)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t wanted = now.tv_sec * NS_PER_S + now.tv_nsec;
    if (wanted <= newest_ns) {
        wanted = newest_ns + 1;
    }
    for (int attempt = 0; attempt < 2; attempt++) {
        struct timespec at = {wanted / NS_PER_S, wanted % NS_PER_S};
        struct stat st;
        if (futimens(fd, (struct timespec[]){at, at}) || fstat(fd, &st)) {
            return -errno;
        }
        if (mtime_ns(&st) > newest_ns) {
            break;
        }
        wanted = (newest_ns / NS_PER_S + 1) * NS_PER_S;
    }
    return fsync(fd) ? -errno : 0;
}

static int
copy_and_link(struct file_store *fs, int from, const char *path, int64_t newest_ns,
              uint64_t deadline_ns)
{
    struct file_tmp tmp;
    int rc = ovsshm_file_tmp_create(fs, &tmp);
    if (rc) {
        return rc;
    }
    rc = ovsshm_file_copy(from, tmp.fd, deadline_ns);
    if (rc == 0) {
        rc = stamp(tmp.fd, newest_ns);
    }
    if (rc == 0) {
        rc = ovsshm_file_tmp_link(fs, &tmp, fs->snapshots_fd, path);
    }
    ovsshm_file_tmp_end(fs, &tmp);
    return rc;
}

int
ovsshm_file_snapshot_create(struct ovsshm_store *store, const char *volume,
                            struct ovsshm_store_volume *open, const char *snapshot,
                            int64_t timeout_s, struct ovsshm_error *error)
{
    struct file_store *fs = (struct file_store *)store;
    /* More seconds than the clock can count are as good as none. */
    bool limited = timeout_s > 0 && timeout_s < INT64_MAX / NS_PER_S / 2;
    uint64_t deadline = limited ? ovsshm_file_now_ns() + (uint64_t)(timeout_s * NS_PER_S) : 0;
    int fd = open ? ((struct file_volume *)open)->fd
                  : ovsshm_file_open_regular(fs->pool_fd, volume, O_RDONLY);
    if (fd < 0) {
        return srv_error(error, fd, "volume \"%.100s\": %s", volume, strerror(-fd));
    }
    char path[FILE_PATH_BYTES];
    snapshot_path(path, volume, snapshot);
    struct snapshots all;
    int rc = load(fs, volume, &all);
    if (rc == 0 && find(&all, snapshot) < all.count) {
        rc = -EEXIST;
    }
    if (rc == 0) {
        int64_t newest_ns = all.count ? all.infos[all.count - 1].created_ns : 0;
        rc = copy_and_link(fs, fd, path, newest_ns, deadline);
    }
    free(all.infos);
    if (!open) {
        close(fd);
    }
    return rc ? failed("create", volume, snapshot, rc, error) : 0;
}

/* ---- rollback ------------------------------------------------------------------------------- */

/* The volume's file becomes a copy of the snapshot; *tmp is that file. */
static int
replace(struct file_store *fs, struct file_tmp *tmp, const char *volume, const char *path)
{
    struct stat st;
    int from = ovsshm_file_open_regular(fs->snapshots_fd, path, O_RDONLY);
    if (from < 0) {
        return from;
    }
    int rc = ovsshm_file_copy(from, tmp->fd, 0);
    close(from);
    if (rc) {
        return rc;
    }
    int old = ovsshm_file_open_regular(fs->pool_fd, volume, O_RDONLY);
    if (old < 0) {
        return old;
    }
    /* Whoever may use the file goes on to.  Only root can give it away: no reason to stop. */
    if (fstat(old, &st) || fchmod(tmp->fd, st.st_mode & 07777) ||
        fchown(tmp->fd, st.st_uid, st.st_gid)) {
        srv_log(&fs->log, OVSSHM_LOG_WARNING, "volume \"%.100s\": owner or mode not kept: %s",
                volume, strerror(errno));
    }
    close(old);
    if (fsync(tmp->fd)) {
        return -errno;
    }
    return ovsshm_file_tmp_rename(fs, tmp, fs->pool_fd, volume);
}

/* An open volume goes on with the new file: its fd is taken over. */
static void
switch_over(struct file_volume *open, struct file_tmp *tmp, int direct_fd)
{
    struct stat st;
    uint64_t size_bytes = fstat(tmp->fd, &st) ? 0 : (uint64_t)st.st_size;
    ovsshm_file_volume_use(open, tmp->fd, direct_fd, size_bytes);
    tmp->fd = -1;
}

static int
drop_newer(struct file_store *fs, const char *volume, const struct snapshots *all, unsigned kept)
{
    for (unsigned i = all->count; i-- > kept + 1;) {
        char path[FILE_PATH_BYTES];
        snapshot_path(path, volume, all->infos[i].name);
        int rc = ovsshm_file_unlink(fs, fs->snapshots_fd, path);
        if (rc) {
            return rc;
        }
    }
    return 0;
}

static int
roll_back(struct file_store *fs, const char *volume, struct file_volume *open, const char *path)
{
    struct file_tmp tmp;
    int rc = ovsshm_file_tmp_create(fs, &tmp);
    if (rc) {
        return rc;
    }
    int direct_fd = open ? ovsshm_file_open_direct(fs, fs->tmp_fd, tmp.name) : -1;
    rc = open && fs->direct && direct_fd < 0 ? direct_fd : replace(fs, &tmp, volume, path);
    if (open && tmp.renamed) {
        switch_over(open, &tmp, direct_fd);
    } else if (direct_fd >= 0) {
        close(direct_fd);
    }
    ovsshm_file_tmp_end(fs, &tmp);
    return rc;
}

int
ovsshm_file_snapshot_rollback(struct ovsshm_store *store, const char *volume,
                              struct ovsshm_store_volume *open, const char *snapshot,
                              struct ovsshm_error *error)
{
    struct file_store *fs = (struct file_store *)store;
    struct snapshots all;
    int rc = load(fs, volume, &all);
    unsigned kept = rc ? 0 : find(&all, snapshot);
    if (rc == 0 && (kept == all.count || !volume_exists(fs, volume))) {
        free(all.infos);
        return missing(fs, volume, snapshot, error);
    }
    char path[FILE_PATH_BYTES];
    snapshot_path(path, volume, snapshot);
    /* The newer ones go last: cut short, the rollback can be repeated. */
    if (rc == 0) {
        rc = roll_back(fs, volume, (struct file_volume *)open, path);
    }
    if (rc == 0) {
        rc = drop_newer(fs, volume, &all, kept);
    }
    free(all.infos);
    return rc ? failed("roll back to", volume, snapshot, rc, error) : 0;
}

/* ---- remove, ask ---------------------------------------------------------------------------- */

int
ovsshm_file_snapshot_remove(struct ovsshm_store *store, const char *volume, const char *snapshot,
                            struct ovsshm_error *error)
{
    struct file_store *fs = (struct file_store *)store;
    char path[FILE_PATH_BYTES];
    snapshot_path(path, volume, snapshot);
    if (ovsshm_file_snapshot_is_synced(store, volume, snapshot) != 1) {
        return missing(fs, volume, snapshot, error);
    }
    int rc = ovsshm_file_unlink(fs, fs->snapshots_fd, path);
    return rc ? failed("remove", volume, snapshot, rc, error) : 0;
}

/* A snapshot gets its name only once it is on disk. */
int
ovsshm_file_snapshot_is_synced(struct ovsshm_store *store, const char *volume, const char *snapshot)
{
    struct file_store *fs = (struct file_store *)store;
    char path[FILE_PATH_BYTES];
    snapshot_path(path, volume, snapshot);
    int fd = volume_exists(fs, volume) ? ovsshm_file_open_regular(fs->snapshots_fd, path, O_RDONLY)
                                       : -ENOENT;
    if (fd < 0) {
        return fd;
    }
    close(fd);
    return 1;
}

int
ovsshm_file_snapshot_list(struct ovsshm_store *store, const char *volume, const char *after,
                          struct ovsshm_snapshot_info *infos, unsigned count)
{
    struct file_store *fs = (struct file_store *)store;
    if (!volume_exists(fs, volume)) {
        return -ENOENT;
    }
    struct snapshots all;
    int rc = load(fs, volume, &all);
    unsigned next = 0;
    if (rc == 0 && after && after[0]) {
        next = find(&all, after);
        rc = next == all.count ? -ENOENT : 0; /* removed since the last page: start again */
        next++;
    }
    if (rc == 0) {
        for (; (unsigned)rc < count && next < all.count; next++) {
            infos[rc++] = all.infos[next];
        }
    }
    free(all.infos);
    return rc;
}
