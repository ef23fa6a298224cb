/* SPDX-License-Identifier: MIT */
/* Opening and closing a volume, and the calls about all of it. */
#define _GNU_SOURCE
#include "volume.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conn.h"
#include "reason.h"

#define ARENA_BYTES_DEFAULT (64ull << 20)
#define FDS_MAX OVSSHM_MSG_FDS_MAX

/* ---- open ----------------------------------------------------------------------------------- */

/* What the server sent with its reply, until each part has found its owner. */
struct parcel {
    struct ovsshm_msg_open_reply reply;
    int fds[FDS_MAX]; /* -1 once taken */
    unsigned fd_count;
};

static int
parcel_take_fd(struct parcel *parcel, unsigned index)
{
    int fd = parcel->fds[index];
    parcel->fds[index] = -1;
    return fd;
}

static void
parcel_drop(struct parcel *parcel)
{
    for (unsigned i = 0; i < parcel->fd_count; i++) {
        if (parcel->fds[i] >= 0) {
            close(parcel->fds[i]);
        }
    }
}

static uint64_t
least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Zeroed parameters become the defaults, or the server's limits if those are less. */
static void
open_defaults(struct ovsshm_msg_open *request, const struct ovsshm_open_params *p,
              const struct ovsshm_msg_hello_reply *hello)
{
    uint64_t arena_bytes = least(ARENA_BYTES_DEFAULT, hello->arena_bytes_max);
    *request = (struct ovsshm_msg_open){
        .mode = p->mode ? p->mode : OVSSHM_MODE_READ,
        .queues = p->queues ? p->queues : 1,
        .depth = p->depth ? p->depth : (uint32_t)least(OVSSHM_DEPTH_DEFAULT, hello->depth_max),
        .arena_bytes = p->arena_bytes ? p->arena_bytes : arena_bytes & ~(OVSSHM_PAGE_BYTES - 1ull),
    };
}

static int
open_check(const struct ovsshm_msg_open *request, const struct ovsshm_msg_hello_reply *hello)
{
    const char *name = request->name;
    if (request->mode != OVSSHM_MODE_READ && request->mode != OVSSHM_MODE_WRITE) {
        return ovsshm_reason_set(-EINVAL, "cannot open \"%s\": mode %u is neither READ nor WRITE",
                                 name, request->mode);
    }
    if (request->queues > hello->queues_max) {
        return ovsshm_reason_set(-EINVAL, "cannot open \"%s\": %u queues, the server allows %u",
                                 name, request->queues, hello->queues_max);
    }
    if (request->depth > hello->depth_max) {
        return ovsshm_reason_set(-EINVAL, "cannot open \"%s\": depth %u, the server allows %u",
                                 name, request->depth, hello->depth_max);
    }
    uint64_t arena_bytes_max = least(hello->arena_bytes_max, OVSSHM_ARENA_BYTES_MAX);
    if (request->arena_bytes > arena_bytes_max || request->arena_bytes % OVSSHM_PAGE_BYTES) {
        return ovsshm_reason_set(-EINVAL,
                                 "cannot open \"%s\": an arena of %llu bytes, the server allows "
                                 "multiples of %d up to %llu",
                                 name, (unsigned long long)request->arena_bytes, OVSSHM_PAGE_BYTES,
                                 (unsigned long long)arena_bytes_max);
    }
    return 0;
}

static int
open_request(struct ovsshm_msg_open *request, const char *name, const struct ovsshm_open_params *p,
             const struct ovsshm_msg_hello_reply *hello)
{
    static const struct ovsshm_open_params defaults;
    if (p && p->resv != 0) {
        return ovsshm_reason_literal(-EINVAL, "cannot open: a reserved parameter is not 0");
    }
    open_defaults(request, p ? p : &defaults, hello);
    int rc = ovsshm_put_volume_name(request->name, name);
    return rc ? rc : open_check(request, hello);
}

/* Writing to a pipe could kill us and reading from one stop us: insist on an eventfd's properties.
 */
static bool
doorbell_ok(int fd)
{
    struct stat st;
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & O_NONBLOCK) && fstat(fd, &st) == 0 && (st.st_mode & S_IFMT) == 0;
}

/* Sends the request; the region and doorbells are in the parcel afterwards. */
static int
call_open(struct ovsshm_volume *volume, const struct ovsshm_msg_open *request,
          struct parcel *parcel)
{
    struct ovsshm_call call = {
        .type = OVSSHM_MSG_OPEN,
        .payload = request,
        .payload_bytes = sizeof(*request),
        .reply = &parcel->reply,
        .reply_bytes_min = sizeof(parcel->reply),
        .reply_bytes_max = sizeof(parcel->reply),
        .fds = parcel->fds,
        .fd_count = 1 + 2 * request->queues,
    };
    int rc = ovsshm_session_call(&volume->session, &call);
    if (rc < 0) {
        return rc;
    }
    parcel->fd_count = call.fd_count;
    for (unsigned i = 1; i < parcel->fd_count; i++) {
        if (!doorbell_ok(parcel->fds[i])) {
            return ovsshm_session_violated(&volume->session, "a doorbell that is no eventfd");
        }
    }
    return 0;
}

/* Maps the region, which must be the one that was asked for. */
static int
attach(struct ovsshm_volume *volume, const struct ovsshm_msg_open *request, struct parcel *parcel)
{
    const struct ovsshm_msg_open_reply *reply = &parcel->reply;
    const struct ovsshm_msg_hello_reply *hello = &volume->session.hello;
    const struct ovsshm_region_header *layout = &volume->region.layout;
    int rc = ovsshm_region_attach(&volume->region, parcel_take_fd(parcel, 0), reply->region_bytes);
    if (rc == -EPROTO) {
        return ovsshm_session_violated(&volume->session, "a shared region of unknown make");
    }
    if (rc) {
        return ovsshm_reason_set(rc, "cannot map %llu bytes of shared memory: %s",
                                 (unsigned long long)reply->region_bytes, ovsshm_errno_text(rc));
    }
    if (reply->queues != request->queues || reply->depth != request->depth || reply->resv != 0 ||
        layout->queue_count != request->queues || layout->depth != request->depth ||
        layout->arena_bytes != request->arena_bytes || layout->features != hello->features ||
        layout->block_bytes != reply->block_bytes || reply->block_bytes == 0 ||
        reply->block_bytes > hello->request_bytes_max ||
        reply->block_bytes > hello->range_bytes_max) {
        return ovsshm_session_violated(&volume->session, "a shared region that was not asked for");
    }
    volume->size_word = ovsshm_region_volume_bytes(&volume->region);
    volume->limits = (struct ovsshm_limits){
        .block_bytes = reply->block_bytes,
        .request_bytes_max =
            hello->request_bytes_max - hello->request_bytes_max % reply->block_bytes,
        .range_bytes_max = hello->range_bytes_max - hello->range_bytes_max % reply->block_bytes,
        .depth = request->depth,
        .queues = request->queues,
        .arena_bytes = request->arena_bytes,
        .capabilities = hello->capabilities,
    };
    return 0;
}

static int
queues_create(struct ovsshm_volume *volume, struct parcel *parcel, uint64_t spin_ns_max)
{
    unsigned count = volume->limits.queues;
    volume->queues = aligned_alloc(_Alignof(struct ovsshm_queue), count * sizeof(*volume->queues));
    int rc = volume->queues ? 0 : -ENOMEM;
    while (!rc && volume->queues_ready < count) {
        unsigned i = volume->queues_ready;
        rc = ovsshm_init_queue(&volume->queues[i], volume, i, parcel_take_fd(parcel, 1 + 2 * i),
                               parcel_take_fd(parcel, 2 + 2 * i), spin_ns_max);
        volume->queues_ready += rc == 0;
    }
    if (rc) {
        return ovsshm_reason_set(rc, "cannot make a queue: %s", ovsshm_errno_text(rc));
    }
    return 0;
}

static int
open_parts(struct ovsshm_volume *volume, const struct ovsshm_msg_open *request,
           const struct ovsshm_open_params *params, struct parcel *parcel)
{
    int rc = call_open(volume, request, parcel);
    rc = rc ? rc : attach(volume, request, parcel);
    if (rc) {
        return rc;
    }
    rc = ovsshm_arena_init(&volume->arena, request->arena_bytes);
    if (rc) {
        return ovsshm_reason_literal(rc, "no memory for the books of the arena");
    }
    volume->mode = request->mode;
    return queues_create(volume, parcel, params ? params->spin_ns_max : 0);
}

/* The server was there before: that its socket is not there now is no word about the volume. */
static int
start_session(struct ovsshm_volume *volume, const struct ovsshm_conn *conn)
{
    int rc = ovsshm_session_start(&volume->session, conn->session.path, "");
    return rc == -ENOENT || rc == -ECONNREFUSED ? -ENOTCONN : rc;
}

int
ovsshm_open(struct ovsshm_conn *conn, const char *name, const struct ovsshm_open_params *params,
            struct ovsshm_volume **volume)
{
    struct ovsshm_msg_open request;
    int rc = open_request(&request, name, params, &conn->session.hello);
    if (rc) {
        return rc;
    }
    struct ovsshm_volume *v = calloc(1, sizeof(*v));
    if (!v) {
        return ovsshm_reason_literal(-ENOMEM, "no memory for a volume");
    }
    memcpy(v->name, request.name, sizeof(v->name));
    struct parcel parcel = {.fd_count = 0};
    rc = start_session(v, conn);
    rc = rc ? rc : open_parts(v, &request, params, &parcel);
    parcel_drop(&parcel);
    if (rc) {
        ovsshm_close(v);
        return rc;
    }
    *volume = v;
    return 0;
}

void
ovsshm_close(struct ovsshm_volume *volume)
{
    if (!volume) {
        return;
    }
    while (volume->queues_ready) {
        ovsshm_fini_queue(&volume->queues[--volume->queues_ready]);
    }
    free(volume->queues);
    ovsshm_session_stop(&volume->session);
    ovsshm_region_destroy(&volume->region);
    if (volume->arena.blocks) {
        ovsshm_arena_destroy(&volume->arena);
    }
    free(volume);
}

/* ---- the open volume ------------------------------------------------------------------------ */

const struct ovsshm_limits *
ovsshm_volume_limits(const struct ovsshm_volume *volume)
{
    return &volume->limits;
}

uint64_t
ovsshm_volume_bytes(const struct ovsshm_volume *volume)
{
    uint64_t bytes = ovsshm_load_relaxed(volume->size_word);
    return bytes < INT64_MAX ? bytes : INT64_MAX;
}

int
ovsshm_volume_state(const struct ovsshm_volume *volume)
{
    if (ovsshm_session_alive(&volume->session)) {
        return 0;
    }
    /* Only the mutex in it is written. */
    return ovsshm_session_over((struct ovsshm_session *)(uintptr_t)&volume->session);
}

int
ovsshm_volume_stat(struct ovsshm_volume *volume, struct ovsshm_volume_info *info)
{
    return ovsshm_session_stat(&volume->session, volume->name, info);
}

int
ovsshm_volume_resize(struct ovsshm_volume *volume, uint64_t size_bytes)
{
    return ovsshm_session_resize(&volume->session, volume->name, size_bytes);
}

int
ovsshm_volume_set_mode(struct ovsshm_volume *volume, uint32_t mode)
{
    if (mode != OVSSHM_MODE_READ && mode != OVSSHM_MODE_WRITE) {
        return ovsshm_reason_set(-EINVAL, "mode %u of volume \"%s\" is neither READ nor WRITE",
                                 mode, volume->name);
    }
    int rc = ovsshm_session_set_mode(&volume->session, mode);
    if (rc == 0) {
        ovsshm_store_relaxed(&volume->mode, mode);
    }
    return rc;
}

int
ovsshm_volume_event(struct ovsshm_volume *volume, struct ovsshm_msg_event *event)
{
    ovsshm_session_drain(&volume->session);
    return ovsshm_session_event(&volume->session, event);
}

int
ovsshm_volume_fd(const struct ovsshm_volume *volume)
{
    return volume->session.fd;
}

void
ovsshm_volume_abort(struct ovsshm_volume *volume)
{
    ovsshm_session_end(&volume->session, "the volume was closed");
}

struct ovsshm_queue *
ovsshm_volume_queue(struct ovsshm_volume *volume, unsigned index)
{
    return index < volume->limits.queues ? &volume->queues[index] : NULL;
}

/* ---- buffers -------------------------------------------------------------------------------- */

void *
ovsshm_buffer_alloc(struct ovsshm_volume *volume, size_t bytes)
{
    uint64_t offset = ovsshm_arena_alloc(&volume->arena, bytes);
    if (offset == OVSSHM_ARENA_FULL) {
        ovsshm_reason_literal(-ENOMEM,
                              "the arena is full: free buffers, or open with more arena_bytes");
        return NULL;
    }
    return ovsshm_region_arena(&volume->region) + offset;
}

void
ovsshm_buffer_free(struct ovsshm_volume *volume, void *buffer)
{
    if (ovsshm_buffer_is_shared(volume, buffer, 1)) {
        ovsshm_arena_free(&volume->arena, (uint64_t)((unsigned char *)buffer -
                                                     ovsshm_region_arena(&volume->region)));
    }
}

struct ovsshm_memory *
ovsshm_volume_hold(struct ovsshm_volume *volume)
{
    return ovsshm_region_hold(&volume->region);
}

bool
ovsshm_buffer_is_shared(const struct ovsshm_volume *volume, const void *address, size_t bytes)
{
    uint64_t offset = (uintptr_t)address - (uintptr_t)ovsshm_region_arena(&volume->region);
    uint64_t arena_bytes = volume->limits.arena_bytes;
    return offset < arena_bytes && bytes <= arena_bytes - offset;
}
