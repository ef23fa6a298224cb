/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "mount.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "stores/file.h"

/* A file system of its own that nobody sees and that ends with its descriptor. */
static int
open_detached(void)
{
    int fd = -1;
    int context = fsopen("tmpfs", FSOPEN_CLOEXEC);
    if (context >= 0) {
        if (!fsconfig(context, FSCONFIG_SET_STRING, "mode", "0755", 0) &&
            !fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0)) {
            fd = fsmount(context, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
        }
        close(context);
    }
    return fd;
}

static int
open_private(struct ovsshm_mount *mount, struct ovsshm_error *error)
{
    mount->files_fd = open_detached();
    if (mount->files_fd >= 0) {
        return 0;
    }
    const char *base = getenv("TMPDIR");
    if (asprintf(&mount->private_files, "%s/openvstorage-mount-XXXXXX", base ? base : "/tmp") < 0) {
        mount->private_files = NULL;
        return srv_error(error, -ENOMEM, "out of memory");
    }
    if (!mkdtemp(mount->private_files)) {
        int rc = srv_error(error, -errno, "cannot make the directory \"%.100s\": %s; set TMPDIR",
                           mount->private_files, strerror(errno));
        free(mount->private_files);
        mount->private_files = NULL;
        return rc;
    }
    mount->files_fd = open(mount->private_files, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return mount->files_fd < 0 ? -errno : 0;
}

int
mnt_files_init(struct ovsshm_mount *mount, struct ovsshm_error *error)
{
    const char *pool = mount->params.files;
    if (!pool) {
        return open_private(mount, error);
    }
    mount->backed = true;
    mount->files_fd = open(pool, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return mount->files_fd >= 0 ? 0
                                : srv_error(error, -errno, "cannot open the pool \"%.100s\": %s",
                                            pool, strerror(errno));
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st;
    (void)type;
    (void)where;
    remove(path);
    return 0;
}

void
mnt_files_destroy(struct ovsshm_mount *mount)
{
    if (mount->files_fd >= 0) {
        close(mount->files_fd);
    }
    if (mount->private_files) {
        nftw(mount->private_files, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
        free(mount->private_files);
    }
}

int
mnt_files_open(struct ovsshm_mount *mount, const char *path, int flags)
{
    int fd = ovsshm_file_open_beneath(mount->files_fd, path[0] ? path : ".", flags | O_NOFOLLOW);
    return fd == -ELOOP || fd == -EXDEV || fd == -ENOTDIR ? -ENOENT : fd;
}

int
mnt_files_stat(struct ovsshm_mount *mount, const char *path, struct stat *st)
{
    int fd = mnt_files_open(mount, path, O_PATH);
    if (fd < 0) {
        return fd;
    }
    int rc = fstat(fd, st) ? -errno : 0;
    close(fd);
    return rc ? rc : S_ISREG(st->st_mode) || S_ISDIR(st->st_mode) ? 0 : -ENOENT;
}

/* The directory a path is in; in a private one those that only volumes imply may be missing. */
static int
open_parent(struct ovsshm_mount *mount, const char *path, const char **leaf)
{
    return ovsshm_file_open_parent(mount->files_fd, path, !mount->backed, leaf);
}

/* What the kernel's users make is theirs; only root can give it to them. */
static int
give(int fd, mode_t mode, const struct fuse_ctx *owner)
{
    if (owner && geteuid() == 0 && fchown(fd, owner->uid, owner->gid)) {
        return -errno;
    }
    return fchmod(fd, mode & 07777) ? -errno : 0;
}

int
mnt_files_flags(const struct ovsshm_mount *mount, int flags)
{
    /* O_APPEND: the kernel gives every write its place, and knows the end of the file. */
    flags &= O_ACCMODE | O_SYNC | O_DSYNC;
    if (mount->params.cache == OVSSHM_MOUNT_CACHE_WRITEBACK && (flags & O_ACCMODE) == O_WRONLY) {
        flags = (flags & ~O_ACCMODE) | O_RDWR; /* it reads the rest of a page before it writes it */
    }
    return flags;
}

int
mnt_files_create(struct ovsshm_mount *mount, const char *path, int flags, mode_t mode,
                 const struct fuse_ctx *owner)
{
    const char *leaf;
    int parent = open_parent(mount, path, &leaf);
    if (parent < 0) {
        return parent;
    }
    flags = mnt_files_flags(mount, flags) | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(parent, leaf, flags, 0600);
    int rc = fd < 0 ? -errno : give(fd, mode, owner);
    close(parent);
    if (rc < 0 && fd >= 0) {
        close(fd);
    }
    return rc < 0 ? rc : fd;
}

int
mnt_files_mkdir(struct ovsshm_mount *mount, const char *path, mode_t mode,
                const struct fuse_ctx *owner)
{
    const char *leaf;
    int parent = open_parent(mount, path, &leaf);
    if (parent < 0) {
        return parent;
    }
    int rc = mkdirat(parent, leaf, 0700) ? -errno : 0;
    if (rc == 0) {
        int fd = openat(parent, leaf, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        rc = fd < 0 ? -errno : give(fd, mode, owner);
        if (fd >= 0) {
            close(fd);
        }
    }
    close(parent);
    return rc;
}

int
mnt_files_rmdir(struct ovsshm_mount *mount, const char *path)
{
    const char *leaf;
    int parent = open_parent(mount, path, &leaf);
    if (parent < 0) {
        return parent;
    }
    int rc = unlinkat(parent, leaf, AT_REMOVEDIR) ? -errno : 0;
    close(parent);
    return rc;
}

int
mnt_files_unlink(struct ovsshm_mount *mount, const char *path)
{
    const char *leaf;
    int parent = open_parent(mount, path, &leaf);
    if (parent < 0) {
        return parent;
    }
    int rc = unlinkat(parent, leaf, 0) ? -errno : 0;
    close(parent);
    return rc;
}

int
mnt_files_rename(struct ovsshm_mount *mount, const char *from, const char *to, bool replace)
{
    const char *from_leaf;
    const char *to_leaf;
    int from_parent = open_parent(mount, from, &from_leaf);
    if (from_parent < 0) {
        return from_parent;
    }
    int rc;
    int to_parent = open_parent(mount, to, &to_leaf);
    if (to_parent < 0) {
        rc = to_parent;
    } else {
        unsigned flags = replace ? 0 : RENAME_NOREPLACE;
        rc = renameat2(from_parent, from_leaf, to_parent, to_leaf, flags) ? -errno : 0;
        close(to_parent);
    }
    close(from_parent);
    return rc;
}

/* utimensat's words for what is to be set. */
static struct timespec
time_of(const struct timespec *value, int which, int set, int now)
{
    struct timespec time = *value;
    if (which & now) {
        time.tv_nsec = UTIME_NOW;
    } else if (!(which & set)) {
        time.tv_nsec = UTIME_OMIT;
    }
    return time;
}

static int
set_attributes(int fd, const struct stat *attributes, int which)
{
    uid_t uid = which & FUSE_SET_ATTR_UID ? attributes->st_uid : (uid_t)-1;
    gid_t gid = which & FUSE_SET_ATTR_GID ? attributes->st_gid : (gid_t)-1;
    if ((which & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) && fchown(fd, uid, gid)) {
        return -errno;
    }
    if ((which & FUSE_SET_ATTR_MODE) && fchmod(fd, attributes->st_mode & 07777)) {
        return -errno;
    }
    struct timespec times[2] = {
        time_of(&attributes->st_atim, which, FUSE_SET_ATTR_ATIME, FUSE_SET_ATTR_ATIME_NOW),
        time_of(&attributes->st_mtim, which, FUSE_SET_ATTR_MTIME, FUSE_SET_ATTR_MTIME_NOW),
    };
    return futimens(fd, times) ? -errno : 0;
}

int
mnt_files_set(struct ovsshm_mount *mount, const char *path, enum mnt_kind kind,
              const struct stat *attributes, int which)
{
    int fd = mnt_files_open(mount, path, O_RDONLY | O_NONBLOCK);
    if (fd == -ENOENT && !mount->backed && kind == MNT_VOLUME) {
        fd = mnt_files_create(mount, path, O_RDWR, 0600, NULL);
    } else if (fd == -ENOENT && !mount->backed && kind == MNT_DIRECTORY) {
        int rc = mnt_files_mkdir(mount, path, 0755, NULL);
        fd = rc ? rc : mnt_files_open(mount, path, O_RDONLY);
    }
    if (fd < 0) {
        return fd;
    }
    struct stat st;
    int rc = fstat(fd, &st) ? -errno
             : S_ISREG(st.st_mode) == (kind == MNT_DIRECTORY)
                 ? -ENOENT
                 : set_attributes(fd, attributes, which);
    close(fd);
    return rc;
}
