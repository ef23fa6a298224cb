/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "mount.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "shared/atomic.h"

/* Where nobody has said otherwise. */
static void
fill_default(const struct ovsshm_mount *mount, enum mnt_kind kind, struct stat *st)
{
    *st = (struct stat){
        .st_mode = kind == MNT_DIRECTORY ? S_IFDIR | 0755 : S_IFREG | 0600,
        .st_uid = geteuid(),
        .st_gid = getegid(),
        .st_nlink = 1,
        .st_atim = mount->created,
        .st_mtim = mount->created,
        .st_ctim = mount->created,
    };
}

int
mnt_resolve_holds_volumes(struct ovsshm_mount *mount, const char *directory)
{
    struct ovsshm_volume_info info;
    char prefix[MNT_PATH_BYTES + 1];
    size_t length = strlen(directory);
    memcpy(prefix, directory, length);
    strcpy(prefix + length, "/");
    if (length + 1 > OVSSHM_NAME_BYTES - 2) {
        return 0;
    }
    int rc = srv_local_list(mount->server, prefix, &info, 1);
    return rc < 0 ? rc : rc == 1 && !strncmp(info.name, prefix, length + 1);
}

/* A volume whose data is elsewhere; st may have attributes that were set for it. */
static int
stat_volume(struct ovsshm_mount *mount, const char *name, bool attributes, struct stat *st)
{
    struct ovsshm_volume_info info;
    int rc = srv_local_stat(mount->server, name, &info);
    if (rc) {
        return rc;
    }
    if (!attributes) {
        fill_default(mount, MNT_VOLUME, st);
    }
    st->st_size = (off_t)info.size_bytes;
    st->st_blocks = (blkcnt_t)((info.allocated_bytes + 511) / 512);
    return 0;
}

static int
stat_elsewhere(struct ovsshm_mount *mount, const char *path, bool attributes, enum mnt_kind *kind,
               struct stat *st)
{
    char name[MNT_PATH_BYTES];
    int rc = -ENOENT;
    if (mnt_names_volume(mount, path, name)) {
        rc = mnt_names_check(name) ? -ENOENT : stat_volume(mount, name, attributes, st);
        *kind = MNT_VOLUME;
    } else if (attributes) {
        *kind = MNT_FILE;
        return 0;
    }
    if (rc == -ENOENT) {
        rc = mnt_resolve_holds_volumes(mount, path);
        rc = rc < 0 ? rc : rc ? 0 : -ENOENT;
        *kind = MNT_DIRECTORY;
        if (rc == 0) {
            fill_default(mount, MNT_DIRECTORY, st);
        }
    }
    return rc;
}

int
mnt_resolve(struct ovsshm_mount *mount, const char *path, enum mnt_kind *kind, struct stat *st)
{
    char name[MNT_PATH_BYTES];
    int rc = mnt_files_stat(mount, path, st);
    if (rc == 0 && S_ISDIR(st->st_mode)) {
        *kind = MNT_DIRECTORY;
    } else if (rc == 0 && mount->backed) {
        *kind = mnt_names_volume(mount, path, name) ? MNT_VOLUME : MNT_FILE;
        rc = *kind == MNT_VOLUME && mnt_names_check(name) ? -ENOENT : 0;
    } else if (!mount->backed && (rc == 0 || rc == -ENOENT)) {
        rc = stat_elsewhere(mount, path, rc == 0, kind, st);
    }
    st->st_blksize = MNT_BLOCK_BYTES;
    return rc;
}

/* Its last write may be newer than what was noted in the file of its attributes. */
static void
amend(struct ovsshm_mount *mount, struct mnt_node *node, struct stat *st)
{
    int64_t written_at = ovsshm_load_relaxed(&node->written_at);
    st->st_ino = node->id;
    if (!mount->backed && written_at && written_at > st->st_mtim.tv_sec) {
        st->st_mtim = (struct timespec){.tv_sec = written_at};
    }
}

int
mnt_resolve_entry(struct ovsshm_mount *mount, struct mnt_node *parent, const char *name,
                  struct fuse_entry_param *entry)
{
    char path[MNT_PATH_BYTES];
    struct mnt_node *node;
    enum mnt_kind kind;
    int rc = mnt_names_hidden(name) ? -ENOENT : mnt_node_path(mount, parent, name, path);
    *entry = (struct fuse_entry_param){.attr_timeout = MNT_VALID_S, .entry_timeout = MNT_VALID_S};
    if (rc == 0) {
        rc = mnt_resolve(mount, path, &kind, &entry->attr);
    }
    if (rc == 0) {
        rc = mnt_node_get(mount, parent, name, kind, &node);
    }
    if (rc == 0) {
        amend(mount, node, &entry->attr);
        entry->ino = mnt_node_ino(mount, node);
    }
    return rc;
}

/* Its name is gone, but a file is still open. */
static int
stat_unlinked(struct ovsshm_mount *mount, struct mnt_node *node, struct stat *st)
{
    pthread_mutex_lock(&mount->tree.lock);
    struct mnt_handle *handle = LIST_FIRST(&node->handles);
    int fd = handle && handle->fd >= 0 ? dup(handle->fd) : -1;
    pthread_mutex_unlock(&mount->tree.lock);
    if (fd < 0) {
        fill_default(mount, node->kind, st);
        st->st_nlink = 0;
        return 0;
    }
    int rc = fstat(fd, st) ? -errno : 0;
    close(fd);
    return rc;
}

int
mnt_resolve_node(struct ovsshm_mount *mount, struct mnt_node *node, struct stat *st)
{
    char path[MNT_PATH_BYTES];
    enum mnt_kind kind;
    int rc = mnt_node_path(mount, node, NULL, path);
    if (rc == 0) {
        rc = mnt_resolve(mount, path, &kind, st);
        rc = rc == 0 && kind != node->kind ? -ENOENT : rc;
    } else if (rc == -ENOENT) {
        rc = stat_unlinked(mount, node, st);
    }
    if (rc == 0) {
        amend(mount, node, st);
    }
    return rc;
}
