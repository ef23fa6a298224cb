/* SPDX-License-Identifier: MIT */
/* Requests can come by io_uring instead of read(2), if both libfuse and the kernel know how. */
#define _GNU_SOURCE
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define KERNEL_SWITCH "/sys/module/fuse/parameters/enable_uring"

#ifdef FUSE_CAP_OVER_IO_URING
#define LIBFUSE_CAN true
#else
#define LIBFUSE_CAN false
#endif

/* 'Y', 'N', or 0: the kernel has none. */
static char
kernel_switch(void)
{
    char value = 0;
    int fd = open(KERNEL_SWITCH, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        if (read(fd, &value, 1) != 1) {
            value = 0;
        }
        close(fd);
    }
    return value;
}

/* The words for it in the log. */
static bool
choose(const struct ovsshm_mount *mount, const char **how, const char **version)
{
    bool asked = mount->params.io_uring != OVSSHM_MOUNT_IO_URING_OFF;
    char value = asked && LIBFUSE_CAN ? kernel_switch() : 0;
    *version = asked && !LIBFUSE_CAN ? fuse_pkgversion() : "";
    *how = !asked         ? "off, as the option says"
           : !LIBFUSE_CAN ? "not in libfuse "
           : !value       ? "not in this kernel"
           : value != 'Y' ? "off in the kernel: " KERNEL_SWITCH
                          : "on";
    return value == 'Y';
}

int
mnt_uring_choose(struct ovsshm_mount *mount, struct ovsshm_error *error)
{
    const char *how;
    const char *version;
    mount->uring = choose(mount, &how, &version);
    if (!mount->uring && mount->params.io_uring == OVSSHM_MOUNT_IO_URING_ON) {
        return srv_error(error, -EOPNOTSUPP,
                         "cannot serve the mount by FUSE over io_uring: %s%s; choose auto", how,
                         version);
    }
    mnt_info(mount, "FUSE over io_uring: %s%s", how, version);
    return 0;
}

void
mnt_uring_init(const struct ovsshm_mount *mount, struct fuse_conn_info *conn)
{
#ifdef FUSE_CAP_OVER_IO_URING
    if (!mount->uring) {
        fuse_unset_feature_flag(conn, FUSE_CAP_OVER_IO_URING);
    } else if (!fuse_set_feature_flag(conn, FUSE_CAP_OVER_IO_URING)) {
        mnt_warn(mount, "the kernel does not offer FUSE over io_uring after all");
    }
#else
    (void)mount;
    (void)conn;
#endif
}
