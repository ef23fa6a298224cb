/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "volume_io.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

#include "shared/atomic.h"

#define SEEK_EXTENTS 64
/* Of a range that an op takes at once: a multiple of all blocks. */
#define RANGE_BYTES (OVSSHM_RANGE_BYTES_MAX / 2)

/* A handle between mnt_volume_enter() and leave(). */
struct access {
    struct mnt_node *node;
    struct local *local;
    struct local_group *group;
    uint64_t size_bytes;
    uint64_t block_bytes;
};

static int
enter(struct ovsshm_mount *mount, struct mnt_handle *handle, bool alone, struct access *access)
{
    struct local_group *group = srv_local_group(mount->server);
    int rc = group ? mnt_volume_enter(mount, handle, alone) : -ENOMEM;
    if (rc == 0) {
        struct local *local = handle->node->local;
        *access = (struct access){handle->node, local, group, srv_local_size(local),
                                  srv_local_block_bytes(local)};
    }
    return rc;
}

static int64_t
transfer(const struct access *access, uint8_t op, uint8_t flags, void *bytes, uint64_t offset,
         uint64_t length)
{
    struct iovec iov = {bytes, length};
    struct local_io io = {
        .op = op,
        .flags = flags,
        .length_bytes = (uint32_t)length,
        .offset_bytes = offset,
        .iov = &iov,
        .iov_count = bytes ? 1 : 0,
    };
    return srv_local_io(access->local, access->group, &io);
}

static uint64_t
align_down(const struct access *access, uint64_t offset)
{
    return offset - offset % access->block_bytes;
}

/* The last block ends where the volume ends. */
static uint64_t
align_up(const struct access *access, uint64_t offset)
{
    uint64_t up = align_down(access, offset + access->block_bytes - 1);
    return up < access->size_bytes ? up : access->size_bytes;
}

static bool
is_aligned(const struct access *access, uint64_t offset, uint64_t length)
{
    return align_down(access, offset) == offset &&
           align_up(access, offset + length) == offset + length;
}

/* Whole blocks, into the thread's scratch memory. */
static int64_t
read_blocks(const struct access *access, uint64_t start, uint64_t stop, char **buffer)
{
    *buffer = srv_local_buffer(access->group, stop - start);
    return *buffer ? transfer(access, OVSSHM_OP_READ, 0, *buffer, start, stop - start) : -ENOMEM;
}

static int64_t
read_bytes(const struct access *access, size_t size, uint64_t offset, char **bytes)
{
    if (offset >= access->size_bytes) {
        return 0;
    }
    uint64_t end = offset + size < access->size_bytes ? offset + size : access->size_bytes;
    uint64_t start = align_down(access, offset);
    uint64_t stop = align_up(access, end);
    char *buffer;
    int64_t rc = read_blocks(access, start, stop, &buffer);
    if (rc < 0) {
        return rc;
    }
    *bytes = buffer + (offset - start);
    uint64_t got = start + (uint64_t)rc;
    return got <= offset ? 0 : (int64_t)((got < end ? got : end) - offset);
}

int64_t
mnt_volume_read(struct ovsshm_mount *mount, struct mnt_handle *handle, size_t size, uint64_t offset,
                char **bytes)
{
    struct access access;
    int64_t rc = enter(mount, handle, false, &access);
    if (rc == 0) {
        *bytes = NULL;
        rc = read_bytes(&access, size, offset, bytes);
        mnt_volume_leave(handle);
    }
    return rc;
}

/* Less than a block: what else is in it is read first.  bytes NULL: zeroes.  Alone. */
static int64_t
patch(const struct access *access, const char *bytes, uint64_t length, uint64_t offset,
      uint8_t flags)
{
    uint64_t start = align_down(access, offset);
    uint64_t stop = align_up(access, offset + length);
    char *buffer;
    int64_t rc = read_blocks(access, start, stop, &buffer);
    if (rc < 0) {
        return rc;
    }
    if ((uint64_t)rc < stop - start) {
        memset(buffer + rc, 0, stop - start - (uint64_t)rc);
    }
    if (bytes) {
        memcpy(buffer + (offset - start), bytes, length);
    } else {
        memset(buffer + (offset - start), 0, length);
    }
    rc = transfer(access, OVSSHM_OP_WRITE, flags, buffer, start, stop - start);
    return rc < 0 ? rc : (int64_t)length;
}

/* For stores that do not note it themselves. */
static void
note_write(const struct ovsshm_mount *mount, struct mnt_node *node)
{
    struct timespec now;
    if (!mount->backed) {
        clock_gettime(CLOCK_REALTIME_COARSE, &now);
        if (ovsshm_load_relaxed(&node->written_at) != now.tv_sec) {
            ovsshm_store_relaxed(&node->written_at, now.tv_sec);
        }
    }
}

/* 1: it has to be alone. */
static int64_t
write_bytes(const struct access *access, bool alone, const char *bytes, size_t size,
            uint64_t offset, uint8_t flags, bool *must_be_alone)
{
    *must_be_alone = false;
    if (is_aligned(access, offset, size)) {
        return transfer(access, OVSSHM_OP_WRITE, flags, (void *)(uintptr_t)bytes, offset, size);
    }
    *must_be_alone = !alone;
    return alone ? patch(access, bytes, size, offset, flags) : 0;
}

int64_t
mnt_volume_write(struct ovsshm_mount *mount, struct mnt_handle *handle, const char *bytes,
                 size_t size, uint64_t offset, bool durable)
{
    struct access access;
    uint8_t flags = durable ? OVSSHM_SQE_FUA : 0;
    uint64_t before = UINT64_MAX; /* its size, if it was grown */
    bool alone = false;
    for (;;) {
        int64_t rc = enter(mount, handle, alone, &access);
        if (rc) {
            return rc;
        }
        bool too_short = offset + size > access.size_bytes;
        bool must_be_alone = false;
        if (!too_short) {
            rc = write_bytes(&access, alone, bytes, size, offset, flags, &must_be_alone);
            note_write(mount, access.node);
            /* A rollback may have made it shorter meanwhile. */
            too_short = rc < 0 && srv_local_size(access.local) < offset + size;
        }
        mnt_volume_leave(handle);
        if (too_short) {
            before = access.size_bytes;
            rc = mnt_volume_grow(mount, access.node, offset + size);
            if (rc) {
                return rc;
            }
        } else if (!must_be_alone) {
            if (rc < 0) {
                mnt_volume_grow_undo(mount, access.node, before, offset + size);
            }
            return rc;
        }
        alone = must_be_alone;
    }
}

int
mnt_volume_sync(struct ovsshm_mount *mount, struct mnt_handle *handle)
{
    struct access access;
    int rc = enter(mount, handle, false, &access);
    if (rc == 0) {
        rc = (int)transfer(&access, OVSSHM_OP_FLUSH, 0, NULL, 0, 0);
        mnt_volume_leave(handle);
    }
    return rc;
}

/* Zeroes of whole blocks, a hole if it may be one. */
static int
zero_blocks(const struct access *access, uint64_t offset, uint64_t end, uint8_t flags)
{
    while (offset < end) {
        uint64_t length = end - offset < RANGE_BYTES ? end - offset : RANGE_BYTES;
        int64_t rc = transfer(access, OVSSHM_OP_WRITE_ZEROES, flags, NULL, offset, length);
        if (rc < 0) {
            return (int)rc;
        }
        offset += length;
    }
    return 0;
}

/* Zeroes of any range; never a hole. */
static int
zero_part(const struct access *access, uint64_t offset, uint64_t end)
{
    if (offset == end || is_aligned(access, offset, end - offset)) {
        return zero_blocks(access, offset, end, 0);
    }
    int64_t rc = patch(access, NULL, end - offset, offset, 0);
    return rc < 0 ? (int)rc : 0;
}

/* Only what is whole pages can become a hole. */
static int
zero(const struct access *access, uint64_t offset, uint64_t end, uint8_t flags)
{
    uint64_t unit = access->block_bytes > MNT_BLOCK_BYTES ? access->block_bytes : MNT_BLOCK_BYTES;
    end = end < access->size_bytes ? end : access->size_bytes;
    if (offset >= end) {
        return 0;
    }
    uint64_t first = offset + (unit - offset % unit) % unit;
    uint64_t last = end == access->size_bytes ? end : end - end % unit;
    if (first >= last) {
        return zero_part(access, offset, end);
    }
    int rc = zero_part(access, offset, first);
    rc = rc ? rc : zero_blocks(access, first, last, flags);
    return rc ? rc : zero_part(access, last, end);
}

/* The extents from a block's start on; their number. */
static int64_t
get_extents(const struct access *access, uint64_t offset, uint64_t end,
            struct ovsshm_extent extents[SEEK_EXTENTS])
{
    uint64_t length = end - offset < RANGE_BYTES ? end - offset : RANGE_BYTES;
    struct local_io io = {
        .op = OVSSHM_OP_BLOCK_STATUS,
        .length_bytes = (uint32_t)length,
        .offset_bytes = offset,
        .extents = extents,
        .extents_max = SEEK_EXTENTS,
    };
    int64_t rc = srv_local_io(access->local, access->group, &io);
    return rc == 0 ? -EIO : rc; /* a range is never without a status */
}

/* Makes data of the holes in whole blocks, without touching what is data. */
static int
fill_holes(const struct access *access, uint64_t offset, uint64_t end)
{
    struct ovsshm_extent extents[SEEK_EXTENTS];
    while (offset < end) {
        int64_t count = get_extents(access, offset, end, extents);
        if (count < 0) {
            return (int)count;
        }
        for (int64_t i = 0; i < count && offset < end; i++) {
            uint64_t next = offset + extents[i].length_bytes;
            next = next < end ? next : end;
            if (extents[i].flags & OVSSHM_EXTENT_HOLE) {
                int rc = zero_blocks(access, offset, next, 0);
                if (rc) {
                    return rc;
                }
            }
            offset = next;
        }
    }
    return 0;
}

static int
allocate(const struct access *access, int mode, uint64_t offset, uint64_t end)
{
    if (mode & FALLOC_FL_PUNCH_HOLE) {
        return zero(access, offset, end, OVSSHM_SQE_MAY_UNMAP);
    }
    if (mode & FALLOC_FL_ZERO_RANGE) {
        return zero(access, offset, end, 0);
    }
    return fill_holes(access, align_down(access, offset), align_up(access, end));
}

int
mnt_volume_allocate(struct ovsshm_mount *mount, struct mnt_handle *handle, int mode,
                    uint64_t offset, uint64_t length)
{
    struct access access;
    int known = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
    if ((mode & ~known) || length > (uint64_t)INT64_MAX - offset) {
        return mode & ~known ? -EOPNOTSUPP : -EFBIG;
    }
    if (!handle->writable) {
        return -EBADF;
    }
    int rc = enter(mount, handle, false, &access);
    if (rc) {
        return rc;
    }
    uint64_t before = access.size_bytes;
    mnt_volume_leave(handle);
    bool grows = !(mode & FALLOC_FL_KEEP_SIZE) && before < offset + length;
    rc = grows ? mnt_volume_grow(mount, handle->node, offset + length) : 0;
    rc = rc ? rc : enter(mount, handle, true, &access);
    if (rc) {
        return rc;
    }
    rc = allocate(&access, mode, offset, offset + length);
    note_write(mount, access.node);
    mnt_volume_leave(handle);
    if (rc && grows) {
        mnt_volume_grow_undo(mount, handle->node, before, offset + length);
    }
    return rc;
}

static int64_t
seek(const struct access *access, uint64_t offset, bool data)
{
    struct ovsshm_extent extents[SEEK_EXTENTS];
    uint64_t at = align_down(access, offset);
    while (at < access->size_bytes) {
        int64_t count = get_extents(access, at, access->size_bytes, extents);
        if (count == -EOPNOTSUPP) {
            return (int64_t)(data ? offset : access->size_bytes);
        }
        if (count < 0) {
            return count;
        }
        for (int64_t i = 0; i < count; i++) {
            uint64_t next = at + extents[i].length_bytes;
            bool is_data = !(extents[i].flags & OVSSHM_EXTENT_HOLE);
            if (is_data == data && next > offset) {
                return (int64_t)(at > offset ? at : offset);
            }
            at = next;
        }
    }
    return data ? -ENXIO : (int64_t)access->size_bytes;
}

int64_t
mnt_volume_seek(struct ovsshm_mount *mount, struct mnt_handle *handle, uint64_t offset, bool data)
{
    struct access access;
    int64_t rc = enter(mount, handle, false, &access);
    if (rc == 0) {
        rc = offset < access.size_bytes ? seek(&access, offset, data) : -ENXIO;
        mnt_volume_leave(handle);
    }
    return rc;
}
