/* SPDX-License-Identifier: MIT */
/*
 * Buffers: shared memory of the open volume while there is enough of it, ordinary memory (which the
 * queue bounces) after that.
 *
 * Descriptors live in chunks of the context, so a pointer that ovs_deallocate() gets can be checked
 * without being followed: never given out, or given back already, is EFAULT.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>

#include "client/reason.h"
#include "legacy.h"

#define CHUNK_BUFFERS 64
#define ALIGNMENT 4096

struct ovs_buffer {
    void *data; /* NULL: the descriptor is unused */
    size_t size;
    uint64_t generation;     /* of the session whose shared memory it is; 0: ordinary memory */
    struct ovs_buffer *next; /* unused after this one */
};

struct legacy_buffer_chunk {
    struct legacy_buffer_chunk *next;
    struct ovs_buffer buffers[CHUNK_BUFFERS];
};

int
legacy_buffers_init(struct legacy_buffers *buffers)
{
    *buffers = (struct legacy_buffers){0};
    return -pthread_mutex_init(&buffers->lock, NULL);
}

void
legacy_buffers_destroy(struct legacy_buffers *buffers)
{
    struct legacy_buffer_chunk *chunk = buffers->chunks;
    while (chunk) {
        struct legacy_buffer_chunk *next = chunk->next;
        for (unsigned i = 0; i < CHUNK_BUFFERS; i++) {
            if (chunk->buffers[i].generation == 0) {
                free(chunk->buffers[i].data);
            }
        }
        free(chunk);
        chunk = next;
    }
    pthread_mutex_destroy(&buffers->lock);
}

static int
chunk_add(struct legacy_buffers *buffers)
{
    struct legacy_buffer_chunk *chunk = calloc(1, sizeof(*chunk));
    if (!chunk) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < CHUNK_BUFFERS; i++) {
        chunk->buffers[i].next = buffers->unused;
        buffers->unused = &chunk->buffers[i];
    }
    chunk->next = buffers->chunks;
    buffers->chunks = chunk;
    return 0;
}

static struct ovs_buffer *
descriptor_take(struct legacy_buffers *buffers, const struct ovs_buffer *values)
{
    pthread_mutex_lock(&buffers->lock);
    struct ovs_buffer *buffer = NULL;
    if (buffers->unused || chunk_add(buffers) == 0) {
        buffer = buffers->unused;
        buffers->unused = buffer->next;
        *buffer = *values;
    }
    pthread_mutex_unlock(&buffers->lock);
    return buffer;
}

static bool
is_descriptor(const struct legacy_buffers *buffers, const struct ovs_buffer *buffer)
{
    uintptr_t address = (uintptr_t)buffer;
    for (const struct legacy_buffer_chunk *chunk = buffers->chunks; chunk; chunk = chunk->next) {
        uintptr_t offset = address - (uintptr_t)chunk->buffers; /* wraps to huge when below */
        if (offset < sizeof(chunk->buffers)) {
            return offset % sizeof(*buffer) == 0 && buffer->data;
        }
    }
    return false;
}

/* Takes a descriptor back and says in *values what it was.  -EFAULT. */
static int
descriptor_return(struct legacy_buffers *buffers, struct ovs_buffer *buffer,
                  struct ovs_buffer *values)
{
    *values = (struct ovs_buffer){0};
    pthread_mutex_lock(&buffers->lock);
    bool good = is_descriptor(buffers, buffer);
    if (good) {
        *values = *buffer;
        *buffer = (struct ovs_buffer){.next = buffers->unused};
        buffers->unused = buffer;
    }
    pthread_mutex_unlock(&buffers->lock);
    return good ? 0 : ovsshm_reason_literal(-EFAULT, "not a buffer of this context");
}

/* The historical size classes; ovs_buffer_size() shows them to programs. */
static size_t
class_bytes(size_t size)
{
    static const size_t classes[] = {4096, 32768, 131072};
    for (unsigned i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
        if (size <= classes[i]) {
            return classes[i];
        }
    }
    return size;
}

static void
memory_free(const ovs_ctx_t *ctx, const struct ovs_buffer *buffer)
{
    if (buffer->generation == 0) {
        free(buffer->data);
    } else if (buffer->generation == ctx->generation) {
        legacy_session_buffer_free(ctx->session, buffer->data, buffer->size);
    } /* else it went with the volume that was open before */
}

ovs_buffer_t *
ovs_allocate(ovs_ctx_t *ctx, size_t size)
{
    if (!ctx || !ctx->session) {
        errno = ctx ? EBADF : EINVAL;
        return NULL;
    }
    if (size > PTRDIFF_MAX) {
        errno = ENOMEM;
        return NULL;
    }
    struct ovs_buffer values = {.size = class_bytes(size), .generation = ctx->generation};
    values.data = legacy_session_buffer_alloc(ctx->session, values.size);
    if (!values.data) {
        values.generation = 0;
        if (posix_memalign(&values.data, ALIGNMENT, values.size) != 0) {
            errno = ENOMEM;
            return NULL;
        }
    }
    struct ovs_buffer *buffer = descriptor_take(&ctx->buffers, &values);
    if (!buffer) {
        memory_free(ctx, &values);
        errno = ENOMEM;
    }
    return buffer;
}

void *
ovs_buffer_data(ovs_buffer_t *buf)
{
    if (!buf) {
        errno = EINVAL;
        return NULL;
    }
    return buf->data;
}

size_t
ovs_buffer_size(ovs_buffer_t *buf)
{
    if (!buf) {
        errno = EINVAL;
        return 0;
    }
    return buf->size;
}

int
ovs_deallocate(ovs_ctx_t *ctx, ovs_buffer_t *buf)
{
    if (!ctx) {
        return (int)legacy_result(-EINVAL);
    }
    struct ovs_buffer values;
    int rc = descriptor_return(&ctx->buffers, buf, &values);
    if (rc == 0) {
        memory_free(ctx, &values);
    }
    return (int)legacy_result(rc);
}
