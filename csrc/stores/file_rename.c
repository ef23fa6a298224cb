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

/* S_IFREG and the like; 0: nothing has this name. */
static int
kind_of(int root_fd, const char *path)
{
    struct stat st;
    int fd = ovsshm_file_open_beneath(root_fd, path, O_PATH | O_NOFOLLOW);
    if (fd < 0) {
        return fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP || fd == -EXDEV ? 0 : fd;
    }
    int kind = fstat(fd, &st) ? -errno : (int)(st.st_mode & S_IFMT);
    close(fd);
    return kind;
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
    int left = kind_of(fs->snapshots_fd, from);
    if (left < 0 || (had_any && !left)) {
        return left; /* 0: done before a crash */
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
    /* A "\n" would skip the space that a name may begin with as well. */
    return sscanf(text, "%255[^\n]%*1[\n]%255[^\n]%*1[\n]%d", from, to, had_any) == 3 ? 1 : -EIO;
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
    int before = kind_of(fs->pool_fd, from);
    int after = kind_of(fs->pool_fd, to);
    rc = before < 0 ? before : after < 0 ? after : 0;
    if (rc == 0 && before != S_IFREG && after == S_IFREG) { /* else it had not begun */
        rc = move_snapshots(fs, from, to, had_any);
        srv_log(&fs->log, OVSSHM_LOG_INFO, "finished renaming volume \"%.100s\" to \"%.100s\"",
                from, to);
    }
    if (rc == 0) {
        intention_drop(fs);
    }
    return rc;
}

/* ---- the call
 * ------------------------------------------------------------------------------------ */

/* There is one intention, so one rename at a time. */
static int
rename_intended(struct file_store *fs, const char *from, const char *to, bool had_any)
{
    int rc = ovsshm_file_rename_finish(fs); /* of one that has failed half-way */
    rc = rc ? rc : intention_write(fs, from, to, had_any);
    if (rc) {
        return rc;
    }
    rc = move(fs, fs->pool_fd, from, to);
    rc = rc ? rc : move_snapshots(fs, from, to, had_any);
    if (rc == 0 || kind_of(fs->pool_fd, from) == S_IFREG) {
        intention_drop(fs);
    }
    return rc;
}

static int
rename_volume(struct file_store *fs, const char *from, const char *to)
{
    int of_from = kind_of(fs->snapshots_fd, from);
    int of_to = kind_of(fs->snapshots_fd, to);
    if (of_from < 0 || of_to < 0) {
        return of_from < 0 ? of_from : of_to; /* not to know is no reason to leave them behind */
    }
    if (!of_from && !of_to) {
        return move(fs, fs->pool_fd, from, to);
    }
    pthread_mutex_lock(&fs->renames);
    int rc = rename_intended(fs, from, to, of_from != 0);
    pthread_mutex_unlock(&fs->renames);
    return rc;
}

/* Another kind of file must not be replaced, nor a link be taken for a volume. */
static int
check(struct file_store *fs, const char *from, const char *to, struct ovsshm_error *error)
{
    int kind = kind_of(fs->pool_fd, from);
    if (kind != S_IFREG) {
        return kind < 0 ? kind : -ENOENT;
    }
    kind = kind_of(fs->pool_fd, to);
    if (kind <= 0 || kind == S_IFREG) {
        return kind < 0 ? kind : 0;
    }
    return srv_error(error, -EEXIST, "\"%.100s\" exists and is no volume", to);
}

int
ovsshm_file_volume_rename(struct ovsshm_store *store, const char *from, const char *to,
                          struct ovsshm_error *error)
{
    struct file_store *fs = (struct file_store *)store;
    int rc = check(fs, from, to, error);
    if (rc) {
        return rc;
    }
    rc = rename_volume(fs, from, to);
    return rc ? srv_error(error, rc, "cannot rename volume \"%.80s\" to \"%.80s\": %s", from, to,
                          strerror(-rc))
              : 0;
}
