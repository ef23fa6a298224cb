/* SPDX-License-Identifier: MIT */
/*
 * Requests from the reactor: what the page cache can serve is done at once, the rest by the engine.
 *
 * A 4 KiB read of cached data costs 0.7 us by preadv2(RWF_NOWAIT), 0.8 us by an io_uring at depth
 * 32 and 1.0 us at depth 1; a buffered write 1-2.5 us against 5 and 30-60 us, because an io_uring
 * hands buffered ext4 writes to a thread of the kernel.  So the reactor tries the system call
 * itself, and once only for requests that follow each other in the volume and in the batch.
 *
 * A write into the page cache blocks when there is too much to be written back, and nothing says so
 * beforehand.  One that took long makes its volume suspect: it may have blocked, or the reactor has
 * lost its CPU meanwhile.  If another one takes long and has slept, the writes of that volume go to
 * the engine for a while.
 */
#define _GNU_SOURCE
#include "stores/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "server/log.h"
#include "shared/atomic.h"

#define BLOCKED_NS 1000000             /* longer than this: it was not only the page cache */
#define BUSY_NS 100000000              /* how long to keep away after that ... */
#define SUSPECT_NS 100000000           /* ... and how long to watch then */
#define INLINE_WRITE_BYTES (256 << 10) /* longer ones would hold up the other volumes */
#define MERGED_BYTES (256 << 10)
#define MERGED_IOVECS 64

uint64_t
ovsshm_file_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static struct file_volume *
volume_of(const struct ovsshm_request *request)
{
    return (struct file_volume *)request->volume;
}

/* ---- completion ----------------------------------------------------------------------------- */

/*
 * What a failed sync could not write may have been dropped by the kernel, which would report
 * success the next time.  So the volume's syncs fail until it is opened again.
 */
static void
remember_sync_error(struct file_volume *volume, int error)
{
    if (!ovsshm_exchange(&volume->sync_error, error)) {
        struct file_store *fs = (struct file_store *)volume->base.store;
        srv_log(&fs->log, OVSSHM_LOG_ERROR,
                "volume \"%s\": sync failed: %s; flushes fail until it is opened again",
                volume->name, strerror(-error));
    }
}

static void
end_flush(struct ovsshm_request *request, int result)
{
    struct file_volume *volume = volume_of(request);
    if (result < 0) {
        remember_sync_error(volume, result);
        return;
    }
    uintptr_t covered = file_private_get(request, FILE_DONE_BYTES);
    uintptr_t synced = ovsshm_load_relaxed(&volume->changes_synced);
    while (synced < covered && !ovsshm_cas_weak(&volume->changes_synced, &synced, covered)) {
    }
}

void
ovsshm_file_finish(struct ovsshm_request *request)
{
    int result = (int)(intptr_t)file_private_get(request, FILE_RESULT);
    if (request->op == OVSSHM_OP_FLUSH) {
        end_flush(request, result);
    } else if (request->op != OVSSHM_OP_READ) {
        if (result == -EIO && (request->flags & OVSSHM_SQE_FUA)) {
            remember_sync_error(volume_of(request), result);
        }
        ovsshm_add(&volume_of(request)->changes, 1); /* F1: before anybody hears of it */
    }
    ovsshm_request_complete(request, result);
}

/* ---- without a system call, or with one that does not block --------------------------------- */

/* True: completed.  Nothing has changed since the last sync, or syncing makes no sense any more. */
static bool
sync_is_over(struct ovsshm_request *request)
{
    struct file_volume *volume = volume_of(request);
    bool flush = request->op == OVSSHM_OP_FLUSH;
    int error = ovsshm_load_relaxed(&volume->sync_error);
    if (error && (flush || (request->flags & OVSSHM_SQE_FUA))) {
        ovsshm_request_complete(request, error);
        return true;
    }
    uintptr_t changes = ovsshm_load_acquire(&volume->changes); /* pairs with F1 */
    if (flush && changes == ovsshm_load_acquire(&volume->changes_synced)) {
        ovsshm_request_complete(request, 0);
        return true;
    }
    return false;
}

/* The extents of the range as far as there is room for them. */
static int
block_status(const struct ovsshm_request *request)
{
    int fd = volume_of(request)->fd;
    off_t at = (off_t)request->offset_bytes;
    off_t end = at + (off_t)request->length_bytes;
    uint32_t count = 0;
    bool data = lseek(fd, at, SEEK_HOLE) != at;
    for (; at < end && count < request->extents_max; data = !data) {
        off_t next = lseek(fd, at, data ? SEEK_HOLE : SEEK_DATA);
        if (next < 0 && errno != ENXIO) {
            return -errno;
        }
        /* ENXIO: no more data.  next == at: a write came between the two questions. */
        if (next < 0 || next > end) {
            next = end;
        }
        if (next > at) {
            request->extents[count++] = (struct ovsshm_extent){
                .length_bytes = (uint64_t)(next - at),
                .flags = data ? 0 : OVSSHM_EXTENT_HOLE | OVSSHM_EXTENT_ZERO,
            };
        }
        at = next;
    }
    return (int)count;
}

/* ---- read and write by the reactor itself --------------------------------------------------- */

static bool
is_busy(const struct file_volume *volume)
{
    uint64_t until = ovsshm_load_relaxed(&volume->busy_until_ns);
    return until && ovsshm_file_now_ns() < until;
}

static bool
may_be_inline(const struct ovsshm_request *request)
{
    const struct file_volume *volume = volume_of(request);
    if (volume->direct_fd >= 0) {
        return false;
    }
    if (request->op == OVSSHM_OP_READ) {
        return !ovsshm_load_relaxed(&volume->read_may_block) || !is_busy(volume);
    }
    return request->op == OVSSHM_OP_WRITE && !(request->flags & OVSSHM_SQE_FUA) &&
           request->length_bytes <= INLINE_WRITE_BYTES && !is_busy(volume);
}

/* How many from the first on go on where the one before ends, so that one call can do them. */
static unsigned
run_length(struct ovsshm_request **requests, unsigned count)
{
    const struct ovsshm_request *first = requests[0];
    uint64_t end = first->offset_bytes + first->length_bytes;
    unsigned iovecs = first->iov_count;
    unsigned n = 1;
    for (; n < count; n++) {
        const struct ovsshm_request *next = requests[n];
        if (next->volume != first->volume || next->op != first->op || next->flags != first->flags ||
            next->offset_bytes != end || iovecs + next->iov_count > MERGED_IOVECS ||
            end + next->length_bytes - first->offset_bytes > MERGED_BYTES) {
            break;
        }
        end += next->length_bytes;
        iovecs += next->iov_count;
    }
    return n;
}

/* How often this thread has waited for something; being preempted does not count. */
static long
own_sleeps(void)
{
    struct rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_nvcsw;
}

static int64_t
run_step(struct file_volume *volume, struct file_step *step)
{
    if (step->kind == FILE_STEP_READ && !ovsshm_load_relaxed(&volume->read_may_block)) {
        step->flags |= RWF_NOWAIT;
        int64_t result = ovsshm_file_step_run(step);
        if (result != -EOPNOTSUPP) {
            return result;
        }
        ovsshm_store_relaxed(&volume->read_may_block, true);
        step->flags &= ~RWF_NOWAIT;
    }
    uint64_t start = ovsshm_file_now_ns();
    bool suspect = start < ovsshm_load_relaxed(&volume->suspect_until_ns);
    long sleeps = suspect ? own_sleeps() : 0;
    int64_t result = ovsshm_file_step_run(step);
    uint64_t end = ovsshm_file_now_ns();
    if (end - start > BLOCKED_NS) {
        ovsshm_store_relaxed(&volume->suspect_until_ns, end + BUSY_NS + SUSPECT_NS);
        if (suspect && own_sleeps() > sleeps) {
            ovsshm_store_relaxed(&volume->busy_until_ns, end + BUSY_NS);
        }
    }
    return result;
}

/* One call for n requests.  False: not all of it worked; none is finished, run each on its own. */
static bool
run_merged(struct ovsshm_request **requests, unsigned n)
{
    struct iovec iov[MERGED_IOVECS];
    struct file_step step;
    unsigned count = 0;
    uint64_t bytes = 0;
    for (unsigned i = 0; i < n; i++) {
        memcpy(iov + count, requests[i]->iov, requests[i]->iov_count * sizeof(*iov));
        count += requests[i]->iov_count;
        bytes += requests[i]->length_bytes;
    }
    ovsshm_file_step_get(requests[0], &step);
    step.iov = iov;
    step.iov_count = count;
    if (run_step(volume_of(requests[0]), &step) != (int64_t)bytes) {
        return false;
    }
    for (unsigned i = 0; i < n; i++) {
        file_private_set(requests[i], FILE_RESULT, requests[i]->length_bytes);
        ovsshm_file_finish(requests[i]);
    }
    return true;
}

static void
run_one(struct file_group *group, struct ovsshm_request *request)
{
    struct file_step step;
    ovsshm_file_step_get(request, &step);
    if (ovsshm_file_step_end(request, run_step(volume_of(request), &step))) {
        ovsshm_file_finish(request);
    } else {
        group->engine->start(group, request);
    }
}

static unsigned
run_inline(struct file_group *group, struct ovsshm_request **requests, unsigned count)
{
    unsigned n = run_length(requests, count);
    for (unsigned i = 0; i < n; i++) {
        (void)ovsshm_file_request_begin(requests[i]); /* never over: not of a direct volume */
    }
    if (n == 1 || !run_merged(requests, n)) {
        for (unsigned i = 0; i < n; i++) {
            run_one(group, requests[i]);
        }
    }
    return n;
}

/* Starts one or more; their number. */
static unsigned
start(struct file_group *group, struct ovsshm_request **requests, unsigned count)
{
    struct ovsshm_request *request = requests[0];
    if (may_be_inline(request)) {
        return run_inline(group, requests, count);
    }
    if (request->op == OVSSHM_OP_BLOCK_STATUS) {
        ovsshm_request_complete(request, block_status(request));
        return 1;
    }
    if (sync_is_over(request)) {
        return 1;
    }
    if (ovsshm_file_request_begin(request)) {
        ovsshm_file_finish(request);
        return 1;
    }
    if (request->op == OVSSHM_OP_FLUSH) {
        file_private_set(request, FILE_DONE_BYTES,
                         ovsshm_load_acquire(&volume_of(request)->changes));
    }
    group->engine->start(group, request);
    return 1;
}

void
ovsshm_file_submit(struct ovsshm_store *store, void *arg, struct ovsshm_request **requests,
                   unsigned count)
{
    struct file_group *group = arg;
    (void)store;
    for (unsigned i = 0; i < count;) {
        i += start(group, requests + i, count - i);
    }
    if (group->in_flight) {
        group->engine->kick(group);
    }
}
