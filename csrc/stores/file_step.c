/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "stores/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum phase {
    PHASE_DATA,    /* read, write */
    PHASE_PUNCH,   /* make a hole */
    PHASE_ZERO,    /* zero, staying allocated */
    PHASE_RESERVE, /* allocate a hole just made */
    PHASE_FILL,    /* write zeroes: what works everywhere */
    PHASE_SYNC,
};

/* Never written, so it costs one page of zeroes however long it is. */
_Alignas(4096) static char zeroes[256 << 10];

static struct file_store *
store_of(const struct ovsshm_request *request)
{
    return (struct file_store *)request->volume->store;
}

static const struct file_volume *
volume_of(const struct ovsshm_request *request)
{
    return (const struct file_volume *)request->volume;
}

static bool
is_direct_volume(const struct ovsshm_request *request)
{
    return volume_of(request)->direct_fd >= 0;
}

/*
 * Where a hole begins or ends inside of a page, the kernel zeroes a part of the page in the cache,
 * which then is dirty: beside direct writes that must not be.  So there holes consist of pages.
 */
static uint64_t
hole_align(const struct ovsshm_request *request)
{
    return is_direct_volume(request) ? store_of(request)->hole_align : 1;
}

static uint64_t
hole_begin(const struct ovsshm_request *request)
{
    uint64_t align = hole_align(request);
    return (request->offset_bytes + align - 1) / align * align;
}

static uint64_t
hole_end(const struct ovsshm_request *request)
{
    uint64_t end = request->offset_bytes + request->length_bytes;
    return end - end % hole_align(request);
}

static bool
is_hole_aligned(const struct ovsshm_request *request)
{
    return (request->offset_bytes | request->length_bytes) % hole_align(request) == 0;
}

static enum phase
first_phase(const struct ovsshm_request *request)
{
    const struct file_store *fs = store_of(request);
    switch (request->op) {
    case OVSSHM_OP_FLUSH: return PHASE_SYNC;
    case OVSSHM_OP_DISCARD: return PHASE_PUNCH;
    case OVSSHM_OP_WRITE_ZEROES:
        if (!is_hole_aligned(request)) {
            return PHASE_FILL;
        }
        if (fs->can_punch && ((request->flags & OVSSHM_SQE_MAY_UNMAP) || !fs->can_zero)) {
            return PHASE_PUNCH;
        }
        return fs->can_zero ? PHASE_ZERO : PHASE_FILL;
    default: return PHASE_DATA;
    }
}

static bool
is_memory_aligned(const struct ovsshm_request *request)
{
    uintptr_t places = 0;
    for (unsigned i = 0; i < request->iov_count; i++) {
        places |= (uintptr_t)request->iov[i].iov_base | request->iov[i].iov_len;
    }
    return places % store_of(request)->direct_memory_align == 0;
}

/* From offset_bytes + done_bytes to the end: the part a direct write or read would do. */
static bool
is_range_aligned(const struct ovsshm_request *request, uint64_t done_bytes)
{
    uint64_t ends = (request->offset_bytes + done_bytes) | (request->length_bytes - done_bytes);
    return ends % store_of(request)->direct_offset_align == 0;
}

static bool
end_with(struct ovsshm_request *request, int64_t result)
{
    free((void *)file_private_get(request, FILE_BOUNCE));
    file_private_set(request, FILE_RESULT, (uintptr_t)result);
    return true;
}

/* The data of a write in memory that is aligned: FILE_BOUNCE. */
static bool
bounce(struct ovsshm_request *request)
{
    void *copy;
    if (posix_memalign(&copy, OVSSHM_PAGE_BYTES, request->length_bytes)) {
        return end_with(request, -ENOMEM);
    }
    char *to = copy;
    for (unsigned i = 0; i < request->iov_count; i++) {
        memcpy(to, request->iov[i].iov_base, request->iov[i].iov_len);
        to += request->iov[i].iov_len;
    }
    request->iov[0] = (struct iovec){copy, request->length_bytes};
    request->iov_count = 1;
    file_private_set(request, FILE_BOUNCE, (uintptr_t)copy);
    return false;
}

bool
ovsshm_file_request_begin(struct ovsshm_request *request)
{
    file_private_set(request, FILE_NEXT, 0);
    file_private_set(request, FILE_PHASE, first_phase(request));
    file_private_set(request, FILE_DONE_BYTES, 0);
    file_private_set(request, FILE_BOUNCE, 0);
    if (request->op == OVSSHM_OP_DISCARD && hole_begin(request) >= hole_end(request)) {
        return end_with(request, 0);
    }
    if (request->op == OVSSHM_OP_WRITE && is_direct_volume(request) &&
        is_range_aligned(request, 0) && !is_memory_aligned(request)) {
        return bounce(request);
    }
    return false;
}

static void
get_data(const struct ovsshm_request *request, struct file_step *step)
{
    const struct file_volume *volume = volume_of(request);
    uint64_t done = file_private_get(request, FILE_DONE_BYTES);
    bool direct =
        is_direct_volume(request) && is_range_aligned(request, done) && is_memory_aligned(request);
    bool write = request->op == OVSSHM_OP_WRITE;
    /*
     * Beside direct I/O the cache stays clean: a dirty page that a direct write meets would be
     * written back over it, and counts as a write-back error.  What is not aligned there is the end
     * of a volume that ends within a block, and only there a write goes through the cache.
     */
    bool sync =
        write && ((request->flags & OVSSHM_SQE_FUA) || (is_direct_volume(request) && !direct));
    *step = (struct file_step){
        .kind = write ? FILE_STEP_WRITE : FILE_STEP_READ,
        .fd = direct ? volume->direct_fd : volume->fd,
        .flags = sync ? RWF_DSYNC : 0,
        .iov = request->iov,
        .iov_count = request->iov_count,
        .offset_bytes = request->offset_bytes + done,
    };
}

static void
get_fill(const struct ovsshm_request *request, struct file_step *step)
{
    const struct file_volume *volume = volume_of(request);
    uint64_t done = file_private_get(request, FILE_DONE_BYTES);
    uint64_t left = request->length_bytes - done;
    bool direct = is_direct_volume(request) && is_range_aligned(request, done);
    *step = (struct file_step){
        .kind = FILE_STEP_WRITE,
        .fd = direct ? volume->direct_fd : volume->fd,
        .flags = is_direct_volume(request) && !direct ? RWF_DSYNC : 0,
        .iov = &step->zeroes,
        .iov_count = 1,
        .zeroes = {zeroes, left < sizeof(zeroes) ? left : sizeof(zeroes)},
        .offset_bytes = request->offset_bytes + done,
    };
}

static void
get_allocate(const struct ovsshm_request *request, enum phase phase, struct file_step *step)
{
    static const int modes[] = {
        [PHASE_PUNCH] = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
        [PHASE_ZERO] = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
        [PHASE_RESERVE] = FALLOC_FL_KEEP_SIZE,
    };
    /* Only a discard may be not aligned here: what is beside the pages it covers stays. */
    *step = (struct file_step){
        .kind = FILE_STEP_ALLOCATE,
        .fd = volume_of(request)->fd,
        .flags = modes[phase],
        .offset_bytes = hole_begin(request),
        .length_bytes = hole_end(request) - hole_begin(request),
    };
}

void
ovsshm_file_step_get(const struct ovsshm_request *request, struct file_step *step)
{
    enum phase phase = file_private_get(request, FILE_PHASE);
    switch (phase) {
    case PHASE_DATA: get_data(request, step); break;
    case PHASE_FILL: get_fill(request, step); break;
    case PHASE_SYNC:
        *step = (struct file_step){.kind = FILE_STEP_SYNC, .fd = volume_of(request)->fd};
        break;
    default: get_allocate(request, phase, step); break;
    }
}

int64_t
ovsshm_file_step_run(const struct file_step *step)
{
    int64_t result;
    switch (step->kind) {
    case FILE_STEP_READ:
        result = preadv2(step->fd, step->iov, (int)step->iov_count, (off_t)step->offset_bytes,
                         step->flags);
        break;
    case FILE_STEP_WRITE:
        result = pwritev2(step->fd, step->iov, (int)step->iov_count, (off_t)step->offset_bytes,
                          step->flags);
        break;
    case FILE_STEP_SYNC: result = fdatasync(step->fd); break;
    default:
        result =
            fallocate(step->fd, step->flags, (off_t)step->offset_bytes, (off_t)step->length_bytes);
        break;
    }
    return result < 0 ? -errno : result;
}

static void
advance(struct ovsshm_request *request, uint64_t bytes)
{
    for (struct iovec *iov = request->iov; bytes > 0; iov++) {
        size_t part = bytes < iov->iov_len ? bytes : iov->iov_len;
        iov->iov_base = (char *)iov->iov_base + part;
        iov->iov_len -= part;
        bytes -= part;
    }
}

static bool
go_on_with(struct ovsshm_request *request, enum phase phase)
{
    file_private_set(request, FILE_PHASE, phase);
    file_private_set(request, FILE_DONE_BYTES, 0);
    return false;
}

/* Zeroing is over: is there more to do? */
static bool
end_zeroes(struct ovsshm_request *request)
{
    return request->flags & OVSSHM_SQE_FUA ? go_on_with(request, PHASE_SYNC) : end_with(request, 0);
}

/* Some bytes were moved; if fewer than wanted, the next step brings the rest or an errno. */
static bool
end_transfer(struct ovsshm_request *request, enum phase phase, int64_t result)
{
    if (result == 0) {
        return end_with(request, -EIO); /* the file has become shorter under us */
    }
    uint64_t done = file_private_get(request, FILE_DONE_BYTES) + (uint64_t)result;
    file_private_set(request, FILE_DONE_BYTES, done);
    if (done >= request->length_bytes) {
        return phase == PHASE_FILL ? end_zeroes(request) : end_with(request, (int64_t)done);
    }
    if (phase == PHASE_DATA) {
        advance(request, (uint64_t)result);
    }
    return false;
}

bool
ovsshm_file_step_end(struct ovsshm_request *request, int64_t result)
{
    enum phase phase = file_private_get(request, FILE_PHASE);
    if (result == -EINTR || result == -EAGAIN) {
        return false;
    }
    if (result == -EOPNOTSUPP && request->op == OVSSHM_OP_WRITE_ZEROES && phase != PHASE_FILL) {
        return go_on_with(request, PHASE_FILL);
    }
    if (result < 0) {
        return end_with(request, result);
    }
    switch (phase) {
    case PHASE_DATA:
    case PHASE_FILL: return end_transfer(request, phase, result);
    case PHASE_PUNCH:
        if (request->op == OVSSHM_OP_DISCARD) {
            return end_with(request, 0);
        }
        return request->flags & OVSSHM_SQE_MAY_UNMAP ? end_zeroes(request)
                                                     : go_on_with(request, PHASE_RESERVE);
    case PHASE_ZERO:
    case PHASE_RESERVE: return end_zeroes(request);
    default: return end_with(request, 0);
    }
}
