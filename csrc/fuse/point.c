/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "mount.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "shared/atomic.h"

/* By the kernel for root; everybody else has a program for it. */
static int
unmount(const char *point, bool lazy, bool helped)
{
    if (!helped) {
        if (!umount2(point, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0))) {
            return 0;
        }
        if (errno != EPERM) {
            return -errno;
        }
    }
    const char *argv[] = {"fusermount3", "-u", "-q", "--", point, NULL};
    const char *lazily[] = {"fusermount3", "-u", "-q", "-z", "--", point, NULL};
    int rc = mnt_run(lazy ? lazily : argv);
    return rc > 0 ? -EBUSY : rc;
}

static int
is_empty(const char *path)
{
    DIR *directory = opendir(path);
    if (!directory) {
        return -errno;
    }
    int others = 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        others += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    }
    closedir(directory);
    return others == 0;
}

/* One that a server has left behind. */
static int
replace_dead(struct ovsshm_mount *mount, struct ovsshm_error *error)
{
    const char *path = mount->params.path;
    int rc = unmount(path, true, false);
    if (rc) {
        return srv_error(error, rc,
                         "\"%.100s\" is the dead mount of a server that is gone, and cannot be "
                         "unmounted: %s; try umount -l",
                         path, strerror(-rc));
    }
    mnt_info(mount, "the dead mount at \"%s\" was removed", path);
    return 0;
}

static int
check_directory(struct ovsshm_mount *mount, const struct stat *st, struct ovsshm_error *error)
{
    const char *path = mount->params.path;
    struct stat above;
    char parent[PATH_MAX];
    if (!S_ISDIR(st->st_mode)) {
        return srv_error(error, -ENOTDIR, "cannot mount at \"%.100s\": it is no directory", path);
    }
    snprintf(parent, sizeof(parent), "%s/..", mount->point);
    if (!stat(parent, &above) && above.st_dev != st->st_dev) {
        return srv_error(error, -EBUSY,
                         "cannot mount at \"%.100s\": something is mounted there already; see "
                         "findmnt, unmount it or choose another directory",
                         path);
    }
    int rc = is_empty(mount->point);
    if (rc < 0) {
        return srv_error(error, rc, "cannot mount at \"%.100s\": %s", path, strerror(-rc));
    }
    return rc ? 0
              : srv_error(error, -ENOTEMPTY,
                          "cannot mount at \"%.100s\": it is not empty, and what is in it would be "
                          "hidden; choose an empty directory",
                          path);
}

/* The pool would contain itself. */
static int
check_outside(struct ovsshm_mount *mount, struct ovsshm_error *error)
{
    if (!mount->params.files) {
        return 0;
    }
    char *pool = realpath(mount->params.files, NULL);
    size_t length = pool ? strlen(pool) : 0;
    bool inside = pool && !strncmp(mount->point, pool, length) &&
                  (mount->point[length] == '/' || !mount->point[length]);
    free(pool);
    return inside ? srv_error(error, -EINVAL,
                              "cannot mount at \"%.100s\": it is inside of the pool; choose a "
                              "directory outside",
                              mount->params.path)
                  : 0;
}

int
mnt_point_check(struct ovsshm_mount *mount, struct ovsshm_error *error)
{
    const char *path = mount->params.path;
    struct stat st;
    int rc = stat(path, &st) ? -errno : 0;
    if (rc == -ENOTCONN) {
        rc = replace_dead(mount, error);
        if (rc) {
            return rc;
        }
        rc = stat(path, &st) ? -errno : 0;
    }
    if (rc) {
        return srv_error(error, rc, "cannot mount at \"%.100s\": %s%s", path, strerror(-rc),
                         rc == -ENOENT ? "; make the directory first" : "");
    }
    mount->point = realpath(path, NULL);
    if (!mount->point) {
        return srv_error(error, -errno, "cannot mount at \"%.100s\": %s", path, strerror(errno));
    }
    rc = check_outside(mount, error);
    return rc ? rc : check_directory(mount, &st, error);
}

static int
open_device(struct ovsshm_error *error)
{
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (fd >= 0) {
        return fd;
    }
    const char *next = errno == EACCES || errno == EPERM
                           ? "run as root, or give this user access to it"
                           : "modprobe fuse, or pass the device into the container";
    return srv_error(error, -errno, "cannot mount: /dev/fuse: %s; %s", strerror(errno), next);
}

static _Thread_local char last_complaint[OVSSHM_NAME_BYTES];

static void
keep_complaint(enum fuse_log_level level, const char *format, va_list args)
{
    (void)level;
    vsnprintf(last_complaint, sizeof(last_complaint), format, args);
    last_complaint[strcspn(last_complaint, "\n")] = '\0';
}

/* libfuse's way for those who may not mount(2). */
static int
mount_helped(struct ovsshm_mount *mount, struct ovsshm_error *error)
{
    last_complaint[0] = '\0';
    fuse_set_log_func(keep_complaint);
    int rc = fuse_session_mount(mount->session, mount->point);
    fuse_set_log_func(NULL);
    if (rc) {
        return srv_error(error, -EPERM,
                         "cannot mount at \"%.80s\": %.80s; run as root, or install fuse3 for "
                         "fusermount3 (and user_allow_other in /etc/fuse.conf for allow-other)",
                         mount->params.path,
                         last_complaint[0] ? last_complaint : "fusermount3 has failed");
    }
    mount->helped = true;
    return 0;
}

static int
mount_directly(const struct ovsshm_mount *self, int fd)
{
    char options[128];
    snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=%u,group_id=%u,%s%s", fd,
             geteuid(), getegid(), "default_permissions",
             self->params.allow_other ? ",allow_other" : "");
    unsigned long flags = MS_NOSUID | MS_NODEV;
    return mount("openvstorage", self->point, "fuse.openvstorage", flags, options) ? -errno : 0;
}

int
mnt_point_mount(struct ovsshm_mount *mount, struct ovsshm_error *error)
{
    int fd = open_device(error);
    if (fd < 0) {
        return fd;
    }
    int rc = mount_directly(mount, fd);
    if (rc == -EPERM) {
        close(fd);
        rc = mount_helped(mount, error);
        fd = rc ? -1 : fuse_session_fd(mount->session);
    } else if (rc) {
        close(fd);
        srv_error(error, rc, "cannot mount at \"%.100s\": %s", mount->params.path, strerror(-rc));
    }
    if (rc == 0 && fuse_session_custom_io(mount->session, &mnt_loop_io, fd)) {
        rc = srv_error(error, -ENOMEM, "out of memory");
    }
    return rc;
}

/*
 * What the kernel holds back in its cache is to reach the store.  Not by syncfs(2), which does not
 * wait for a FUSE file system.  What has been closed was written then.
 */
static void
write_back(struct ovsshm_mount *mount)
{
    char path[MNT_PATH_BYTES];
    int point_fd = open(mount->point, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (uint64_t id = 0; point_fd >= 0 && (id = mnt_tree_next_written(mount, id, path));) {
        int fd = openat(point_fd, path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || fsync(fd)) {
            mnt_warn(mount, "what was written to \"%s\" last may be lost: %s", path,
                     strerror(errno));
        }
        if (fd >= 0) {
            close(fd);
        }
    }
    if (point_fd >= 0) {
        close(point_fd);
    }
}

bool
mnt_point_unmount(struct ovsshm_mount *mount)
{
    if (mount->params.cache == OVSSHM_MOUNT_CACHE_WRITEBACK) {
        write_back(mount);
    }
    int rc = unmount(mount->point, false, mount->helped);
    if (rc == 0) {
        return true;
    }
    if (rc != -EBUSY) {
        mnt_warn(mount, "cannot unmount \"%s\": %s", mount->point, strerror(-rc));
        return false;
    }
    rc = unmount(mount->point, true, mount->helped);
    mnt_warn(mount, "\"%s\" is in use: %s", mount->point,
             rc ? "it stays as a dead mount" : "unmounted all the same, its users get errors");
    return false;
}
