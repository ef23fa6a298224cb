/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "stores/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shared/atomic.h"

#define DIRECTORY_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

int
ovsshm_file_open_beneath(int root_fd, const char *path, int flags)
{
    struct open_how how = {
        .flags = (uint64_t)(flags | O_CLOEXEC),
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    long fd = syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
    return fd < 0 ? -errno : (int)fd;
}

int
ovsshm_file_open_regular(int root_fd, const char *path, int flags)
{
    /* Without O_NONBLOCK a fifo would hold us here; with it io_uring would not wait: off again. */
    int fd = ovsshm_file_open_beneath(root_fd, path, flags | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        bool other =
            fd == -ELOOP || fd == -EXDEV || fd == -ENOTDIR || fd == -EISDIR || fd == -ENXIO;
        return other ? -ENOENT : fd;
    }
    struct stat st;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode) || fcntl(fd, F_SETFL, flags & O_DIRECT)) {
        close(fd);
        return -ENOENT;
    }
    return fd;
}

/* Opens a directory in another one, making it first if it may. */
static int
enter(int directory_fd, const char *name, bool make)
{
    if (make && mkdirat(directory_fd, name, 0777) == 0) {
        if (fsync(directory_fd)) {
            return -errno;
        }
    } else if (make && errno != EEXIST) {
        return -errno;
    }
    int fd = openat(directory_fd, name, DIRECTORY_FLAGS);
    return fd >= 0 ? fd : errno == ELOOP ? -ENOTDIR : -errno;
}

int
ovsshm_file_open_parent(int root_fd, const char *path, bool make, const char **leaf)
{
    int fd = openat(root_fd, ".", DIRECTORY_FLAGS);
    if (fd < 0) {
        return -errno;
    }
    *leaf = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    for (const char *slash; (slash = strchr(path, '/')); path = slash + 1) {
        char name[OVSSHM_NAME_BYTES];
        size_t length = (size_t)(slash - path);
        memcpy(name, path, length);
        name[length] = '\0';
        int next = enter(fd, name, make);
        close(fd);
        if (next < 0) {
            return next;
        }
        fd = next;
    }
    return fd;
}

void
ovsshm_file_prune(struct file_store *fs, int root_fd, const char *path)
{
    char directory[FILE_PATH_BYTES];
    if (root_fd == fs->pool_fd && ovsshm_load_relaxed(&fs->mounted)) {
        return;
    }
    strcpy(directory, path);
    for (char *slash; (slash = strrchr(directory, '/'));) {
        *slash = '\0';
        const char *leaf;
        int fd = ovsshm_file_open_parent(root_fd, directory, false, &leaf);
        int rc = fd < 0 ? -1 : unlinkat(fd, leaf, AT_REMOVEDIR);
        if (rc == 0) {
            fsync(fd); /* an empty directory that comes back after a crash does no harm */
        }
        if (fd >= 0) {
            close(fd);
        }
        if (rc) {
            return;
        }
    }
}

static int
unlink_durably(int root_fd, const char *path)
{
    const char *leaf;
    int fd = ovsshm_file_open_parent(root_fd, path, false, &leaf);
    if (fd < 0) {
        return fd;
    }
    int rc = unlinkat(fd, leaf, 0) || fsync(fd) ? -errno : 0;
    close(fd);
    return rc;
}

int
ovsshm_file_unlink(struct file_store *fs, int root_fd, const char *path)
{
    pthread_mutex_lock(&fs->names);
    int rc = unlink_durably(root_fd, path);
    if (rc == 0) {
        ovsshm_file_prune(fs, root_fd, path);
    }
    pthread_mutex_unlock(&fs->names);
    return rc;
}

static bool
is_regular(int directory_fd, const struct dirent *entry)
{
    struct stat st;
    return entry->d_type == DT_REG ||
           (entry->d_type == DT_UNKNOWN &&
            !fstatat(directory_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) && S_ISREG(st.st_mode));
}

int
ovsshm_file_visit(int root_fd, const char *path, ovsshm_file_visit_fn visit, void *arg)
{
    int fd = ovsshm_file_open_beneath(root_fd, path, O_RDONLY | O_DIRECTORY);
    if (fd < 0) {
        return fd;
    }
    DIR *directory = fdopendir(fd);
    if (!directory) {
        close(fd);
        return -ENOMEM;
    }
    int rc = 0;
    for (struct dirent *entry; rc >= 0 && (entry = readdir(directory));) {
        if (is_regular(fd, entry)) {
            rc = visit(arg, fd, entry->d_name);
        }
    }
    closedir(directory);
    return rc;
}

static int
visit_unlink(void *arg, int directory_fd, const char *name)
{
    (void)arg;
    return unlinkat(directory_fd, name, 0) && errno != ENOENT ? -errno : 0;
}

int
ovsshm_file_remove_directory(struct file_store *fs, int root_fd, const char *path)
{
    int rc = ovsshm_file_visit(root_fd, path, visit_unlink, NULL);
    if (rc < 0) {
        return rc;
    }
    pthread_mutex_lock(&fs->names);
    const char *leaf;
    int fd = ovsshm_file_open_parent(root_fd, path, false, &leaf);
    if (fd < 0) {
        rc = fd;
    } else {
        rc = unlinkat(fd, leaf, AT_REMOVEDIR) || fsync(fd) ? -errno : 0;
        close(fd);
    }
    if (rc == 0) {
        ovsshm_file_prune(fs, root_fd, path);
    }
    pthread_mutex_unlock(&fs->names);
    return rc;
}
