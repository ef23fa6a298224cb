/* SPDX-License-Identifier: MIT */
/*
 * Contents of a volume to the byte, whatever whole blocks its store takes.
 *
 * Threads: those of the mount, several at once on one volume.  Nothing may be locked.
 */
#ifndef OVSSHM_FUSE_VOLUME_IO_H
#define OVSSHM_FUSE_VOLUME_IO_H

#include "mount.h"

/* Bytes, 0 at the end, or -errno.  *bytes is good until the thread's next call. */
int64_t mnt_volume_read(struct ovsshm_mount *mount, struct mnt_handle *handle, size_t size,
                        uint64_t offset, char **bytes);

/* Behind the end: the volume grows. */
int64_t mnt_volume_write(struct ovsshm_mount *mount, struct mnt_handle *handle, const char *bytes,
                         size_t size, uint64_t offset, bool durable);

int mnt_volume_sync(struct ovsshm_mount *mount, struct mnt_handle *handle);

/* mode: as fallocate(2); -EOPNOTSUPP. */
int mnt_volume_allocate(struct ovsshm_mount *mount, struct mnt_handle *handle, int mode,
                        uint64_t offset, uint64_t length);

/* The next data, or hole, from offset on; -ENXIO. */
int64_t mnt_volume_seek(struct ovsshm_mount *mount, struct mnt_handle *handle, uint64_t offset,
                        bool data);

#endif
