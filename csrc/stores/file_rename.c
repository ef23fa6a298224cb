/* SPDX-License-Identifier: MIT */
/*
 * A volume gets another name, and its snapshots go with it.
 *
 * The volume moves in one step, its snapshots in another.  A crash in between must not leave it
 * with those of the volume that it has replaced: a rollback would bring back somebody else's data.
 * So where there are snapshots the intention is written down first, in tmp/rename, and what a crash
 * has cut short is finished at the next start.
 */
#define _GNU_SOURCE
#include "stores/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/log.h"

#define INTENTION "rename"

/* ---- directory entries ------------------------------------------------------------------------
 */

static bool
exists(int root_fd, const char *path, mode_t type)
{
    struct stat st;
    int fd = ovsshm_file_open_beneath(root_fd, path, O_PATH | O_NOFOLLOW);
    bool found = fd >= 0 && !fstat(fd, &st) && (st.st_mode & S_IFMT) == type;
    if (fd >= 0) {
        close(fd);
    }
    return found;
}

static int
move_between(int from_fd, const char *from, int to_fd, const char *to)
{
    return renameat(from_fd, from, to_fd, to) || fsync(to_fd) || fsync(from_fd) ? -errno : 0;
}

/* Durably; directories are made and removed as needed. */
static int
move(struct file_store *fs, int root_fd, const char *from, const char *to)
{
    const char *from_leaf;
    const char *to_leaf;
    pthread_mutex_lock(&fs->names);
    int from_fd = ovsshm_file_open_parent(root_fd, from, false, &from_leaf);
    int to_fd = from_fd < 0 ? from_fd : ovsshm_file_open_parent(root_fd, to, true, &to_leaf);
    int rc = to_fd < 0 ? to_fd : move_between(from_fd, from_leaf, to_fd, to_leaf);
    if (to_fd >= 0) {
        close(to_fd);
    }
    if (from_fd >= 0) {
        close(from_fd);
    }
    ovsshm_file_prune(fs, root_fd, rc ? to : from);
    pthread_mutex_unlock(&fs->names);
    return rc;
}

/* ---- snapshots ---------------------------------------------------------------------------------
 */

/* The volume has moved; had_any: so has what is left of `from` under snapshots/ to do. */
static int
move_snapshots(struct file_store *fs, const char *from, const char *to, bool had_any)
{
    bool left = exists(fs->snapshots_fd, from, S_IFDIR);
    if (had_any && !left) {
        return 0; /* done before a crash */
    }
    int rc = ovsshm_file_remove_directory(fs, fs->snapshots_fd, to);
    if (rc && rc != -ENOENT) {
        return rc;
    }
    return left ? move(fs, fs->snapshots_fd, from, to) : 0;
}

/* ---- the intention ------------------------------------------------------------------------------
 */

static int
intention_write(struct file_store *fs, const char *from, const char *to, bool had_any)
{
    char text[2 * OVSSHM_NAME_BYTES + 8];
    struct file_tmp tmp;
    int rc = ovsshm_file_tmp_create(fs, &tmp);
    if (rc) {
        return rc;
    }
    int length = snprintf(text, sizeof(text), "%s\n%s\n%d\n", from, to, had_any);
    ssize_t written = pwrite(tmp.fd, text, (size_t)length, 0);
    if (written != length || fsync(tmp.fd)) {
        rc = written >= 0 && written < length ? -ENOSPC : -errno;
    }
    rc = rc ? rc : ovsshm_file_tmp_rename(fs, &tmp, fs->tmp_fd, INTENTION);
    ovsshm_file_tmp_end(fs, &tmp);
    return rc;
}

static void
intention_drop(struct file_store *fs)
{
    unlinkat(fs->tmp_fd, INTENTION, 0);
    fsync(fs->tmp_fd);
}

/* 1: there is one. */
static int
intention_read(struct file_store *fs, char from[OVSSHM_NAME_BYTES], char to[OVSSHM_NAME_BYTES],
               int *had_any)
{
    char text[2 * OVSSHM_NAME_BYTES + 8];
    int fd = ovsshm_file_open_regular(fs->tmp_fd, INTENTION, O_RDONLY);
    if (fd < 0) {
        return fd == -ENOENT ? 0 : fd;
    }
    ssize_t got = pread(fd, text, sizeof(text) - 1, 0);
    int rc = got < 0 ? -errno : 0;
    close(fd);
    if (rc) {
        return rc;
    }
    text[got] = '\0';
    return sscanf(text, "%255[^\n]\n%255[^\n]\n%d\n", from, to, had_any) == 3 ? 1 : -EIO;
}

int
ovsshm_file_rename_finish(struct file_store *fs)
{
    char from[OVSSHM_NAME_BYTES];
    char to[OVSSHM_NAME_BYTES];
    int had_any;
    int rc = intention_read(fs, from, to, &had_any);
    if (rc <= 0) {
        return rc;
    }
    if (!exists(fs->pool_fd, from, S_IFREG) && exists(fs->pool_fd, to, S_IFREG)) {
        rc = move_snapshots(fs, from, to, had_any);
        srv_log(&fs->log, OVSSHM_LOG_INFO, "finished renaming volume \"%.100s\" to \"%.100s\"",
                from, to);
    } else {
        rc = 0; /* it had not begun */
    }
    if (rc == 0) {
        intention_drop(fs);
    }
    return rc;
}

/* ---- the call
 * ------------------------------------------------------------------------------------ */

static int
rename_volume(struct file_store *fs, const char *from, const char *to)
{
    bool had_any = exists(fs->snapshots_fd, from, S_IFDIR);
    bool intended = had_any || exists(fs->snapshots_fd, to, S_IFDIR);
    int rc = intended ? intention_write(fs, from, to, had_any) : 0;
    if (rc) {
        return rc;
    }
    rc = move(fs, fs->pool_fd, from, to);
    if (intended && rc == 0) {
        rc = move_snapshots(fs, from, to, had_any);
    }
    if (intended && (rc == 0 || exists(fs->pool_fd, from, S_IFREG))) {
        intention_drop(fs);
    }
    return rc;
}

int
ovsshm_file_volume_rename(struct ovsshm_store *store, const char *from, const char *to,
                          struct ovsshm_error *error)
{
    struct file_store *fs = (struct file_store *)store;
    if (!exists(fs->pool_fd, from, S_IFREG)) {
        return -ENOENT;
    }
    /* Another kind of file must not be replaced, nor a link be taken for a volume. */
    int fd = ovsshm_file_open_beneath(fs->pool_fd, to, O_PATH | O_NOFOLLOW);
    if (fd >= 0) {
        close(fd);
    }
    if (fd >= 0 && !exists(fs->pool_fd, to, S_IFREG)) {
        return srv_error(error, -EEXIST, "\"%.100s\" exists and is no volume", to);
    }
    int rc = rename_volume(fs, from, to);
    return rc ? srv_error(error, rc, "cannot rename volume \"%.80s\" to \"%.80s\": %s", from, to,
                          strerror(-rc))
              : 0;
}
