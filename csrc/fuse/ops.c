/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "mount.h"

#include <errno.h>
#include <sys/statvfs.h>

static void
op_init(void *arg, struct fuse_conn_info *conn)
{
    const struct ovsshm_mount *mount = arg;
    const struct ovsshm_mount_params *params = &mount->params;
    unsigned wanted = FUSE_CAP_ASYNC_DIO | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS |
                      FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_ASYNC_READ | FUSE_CAP_AUTO_INVAL_DATA;
    if (params->cache == OVSSHM_MOUNT_CACHE_WRITEBACK) {
        wanted |= FUSE_CAP_WRITEBACK_CACHE;
    }
    if (params->splice) {
        wanted |= FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE;
    }
    /* After O_TRUNC the kernel asks for size 0 by itself, once the file is open. */
    conn->want &= ~(unsigned)(FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_SPLICE_READ);
    conn->want |= conn->capable & wanted;
    mnt_uring_init(mount, conn);
    conn->max_write = params->max_write;
    conn->max_background = params->max_background;
    conn->congestion_threshold = params->max_background;
    conn->time_gran = 1;
}

static void
op_statfs(fuse_req_t req, fuse_ino_t ino)
{
    const struct ovsshm_mount *mount = fuse_req_userdata(req);
    struct statvfs st;
    (void)ino;
    if (fstatvfs(mount->files_fd, &st)) {
        fuse_reply_err(req, errno);
        return;
    }
    st.f_namemax = MNT_NAME_MAX;
    fuse_reply_statfs(req, &st);
}

static void
op_mknod(fuse_req_t req, fuse_ino_t ino, const char *name, mode_t mode, dev_t device)
{
    (void)ino;
    (void)name;
    (void)mode;
    (void)device;
    fuse_reply_err(req, EPERM);
}

static void
op_symlink(fuse_req_t req, const char *target, fuse_ino_t ino, const char *name)
{
    (void)target;
    (void)ino;
    (void)name;
    fuse_reply_err(req, EPERM);
}

static void
op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
    (void)ino;
    (void)parent;
    (void)name;
    fuse_reply_err(req, EPERM);
}

const struct fuse_lowlevel_ops mnt_ops = {
    .init = op_init,
    .lookup = mnt_op_lookup,
    .forget = mnt_op_forget,
    .forget_multi = mnt_op_forget_multi,
    .getattr = mnt_op_getattr,
    .setattr = mnt_op_setattr,
    .create = mnt_op_create,
    .mkdir = mnt_op_mkdir,
    .unlink = mnt_op_unlink,
    .rmdir = mnt_op_rmdir,
    .rename = mnt_op_rename,
    .mknod = op_mknod,
    .symlink = op_symlink,
    .link = op_link,
    .opendir = mnt_op_opendir,
    .releasedir = mnt_op_releasedir,
    .readdir = mnt_op_readdir,
    .readdirplus = mnt_op_readdirplus,
    .fsyncdir = mnt_op_fsyncdir,
    .statfs = op_statfs,
    .open = mnt_op_open,
    .read = mnt_op_read,
    .write = mnt_op_write,
    .flush = mnt_op_flush,
    .fsync = mnt_op_fsync,
    .release = mnt_op_release,
    .fallocate = mnt_op_fallocate,
    .lseek = mnt_op_lseek,
};
