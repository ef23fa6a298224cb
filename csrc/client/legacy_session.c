/* SPDX-License-Identifier: MIT */
#include "legacy_session.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "client/queue.h"
#include "shared/atomic.h"
#include "shared/doorbell.h"

#define REAP_BATCH 32

static int
volume_open(struct legacy_session *s, const char *name, int oflag)
{
    struct ovsshm_conn *conn;
    int rc = legacy_connect(&conn);
    if (rc < 0) {
        return rc;
    }
    struct ovsshm_open_params params = {
        .mode = oflag == O_RDONLY ? OVSSHM_MODE_READ : OVSSHM_MODE_WRITE,
    };
    rc = ovsshm_open(conn, name, &params, &s->volume);
    ovsshm_disconnect(conn);
    return rc == -ENOENT ? -EACCES : rc; /* the historical answer to a missing volume */
}

int
legacy_session_open(const char *name, int oflag, struct legacy_session **session)
{
    struct legacy_session *s = calloc(1, sizeof(*s));
    if (!s) {
        return -ENOMEM;
    }
    int rc = volume_open(s, name, oflag);
    if (rc < 0) {
        free(s);
        return rc;
    }
    s->queue = ovsshm_volume_queue(s->volume, 0);
    memcpy(s->name, name, strlen(name) + 1);
    s->oflag = oflag;
    s->shared_bytes_max = ovsshm_volume_limits(s->volume)->arena_bytes / 4 * 3;
    s->accepted_end = &s->accepted;
    ovsshm_waiter_init(&s->waiter, ovsshm_spin_ns(0));
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    *session = s;
    return 0;
}

void
legacy_session_close(struct legacy_session *s)
{
    if (!s) {
        return;
    }
    pthread_mutex_lock(&s->lock);
    legacy_drain_locked(s);
    s->stopping = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    if (s->reaper_started) {
        pthread_join(s->reaper, NULL);
    }
    legacy_callback_forget(s);
    ovsshm_close(s->volume);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->changed);
    free(s);
}

const char *
legacy_session_name(const struct legacy_session *s)
{
    return s->name;
}

int
legacy_session_oflag(const struct legacy_session *s)
{
    return s->oflag;
}

struct ovsshm_volume *
legacy_session_volume(const struct legacy_session *s)
{
    return s->volume;
}

/* The arena deals in powers of two. */
static uint64_t
block_bytes(size_t bytes)
{
    return bytes <= 1 ? 1 : 1ull << (64 - __builtin_clzll(bytes - 1));
}

void *
legacy_session_buffer_alloc(struct legacy_session *s, size_t bytes)
{
    if (bytes > s->shared_bytes_max) {
        return NULL;
    }
    uint64_t block = block_bytes(bytes);
    void *data = NULL;
    if (ovsshm_add(&s->shared_bytes, block) <= s->shared_bytes_max) {
        data = ovsshm_buffer_alloc(s->volume, bytes);
    }
    if (!data) {
        ovsshm_sub(&s->shared_bytes, block);
    }
    return data;
}

void
legacy_session_buffer_free(struct legacy_session *s, void *data, size_t bytes)
{
    ovsshm_buffer_free(s->volume, data);
    ovsshm_sub(&s->shared_bytes, block_bytes(bytes));
}

static void
complete(struct legacy_session *s, struct ovs_aio_request *request, int64_t result)
{
    struct ovs_completion *completion = request->completion;
    if (request->detached) {
        free(request);
    } else {
        request->result = result;
        /* R2: result; pairs with A2.  From here on the owner may free it. */
        ovsshm_store_release(&request->done, 1);
        legacy_followers_wake_locked(s, request);
    }
    if (completion) {
        s->callbacks_wanted--;
        s->callbacks_due++;
        legacy_callback_queue(completion, result);
    }
}

/* A flush covers the writes that came before it, so it waits for them. */
static bool
must_wait(const struct legacy_session *s, const struct ovs_aio_request *request)
{
    return request->io.op == OVSSHM_OP_FLUSH && s->writes_in_flight > 0;
}

void
legacy_session_issue(struct legacy_session *s)
{
    unsigned prepared = 0;
    struct ovs_aio_request *request;
    while ((request = s->accepted) && !must_wait(s, request)) {
        int rc = ovsshm_queue_prep(s->queue, &request->io);
        if (rc == -EAGAIN && s->in_flight > 0) {
            break;
        }
        s->accepted = request->next;
        if (!s->accepted) {
            s->accepted_end = &s->accepted;
        }
        if (rc < 0) {
            complete(s, request, rc == -EAGAIN ? -ENOMEM : rc);
            continue;
        }
        prepared++;
        s->in_flight++;
        s->writes_in_flight += request->io.op == OVSSHM_OP_WRITE;
    }
    if (prepared > 0) {
        (void)ovsshm_queue_submit(s->queue);
    }
    if (s->queue->ready_count > 0) {
        /* Completed without the server, of which a leader that sleeps would hear nothing. */
        ovsshm_doorbell_ring(s->queue->client_bell);
    }
}

int
legacy_session_reap(struct legacy_session *s)
{
    struct ovsshm_completion done[REAP_BATCH];
    int count = ovsshm_queue_poll(s->queue, done, REAP_BATCH);
    for (int i = 0; i < count; i++) {
        struct ovs_aio_request *request = (struct ovs_aio_request *)(uintptr_t)done[i].user_data;
        s->in_flight--;
        s->writes_in_flight -= request->io.op == OVSSHM_OP_WRITE;
        complete(s, request, done[i].result);
    }
    if (count > 0 && s->accepted) {
        legacy_session_issue(s);
    }
    return count;
}

/*
 * What needs no server: a read beyond the end, a write that reaches beyond it (of which nothing may
 * be written), a flush when nothing can be written.
 */
static bool
answer_here(const struct legacy_session *s, const struct ovsshm_io *io, int64_t *result)
{
    uint64_t volume_bytes = ovsshm_volume_bytes(s->volume);
    switch (io->op) {
    case OVSSHM_OP_READ: *result = 0; return io->offset_bytes >= volume_bytes;
    case OVSSHM_OP_WRITE:
        *result = -EFBIG;
        return io->length_bytes > volume_bytes ||
               io->offset_bytes > volume_bytes - io->length_bytes;
    default: *result = 0; return s->oflag == O_RDONLY;
    }
}

static void
accept_locked(struct legacy_session *s, struct ovs_aio_request *request)
{
    int64_t result;
    request->session = s;
    request->io.user_data = (uintptr_t)request;
    if (request->completion) {
        request->completion->session = s;
        s->callbacks_wanted++;
    }
    if (answer_here(s, &request->io, &result)) {
        complete(s, request, result);
        return;
    }
    request->next = NULL;
    *s->accepted_end = request;
    s->accepted_end = &request->next;
    legacy_session_issue(s);
}

int
legacy_session_submit(struct legacy_session *s, struct ovs_aio_request *request)
{
    bool callback = request->completion != NULL;
    int rc = callback ? legacy_callbacks_prepare() : 0;
    if (rc < 0) {
        return rc;
    }
    pthread_mutex_lock(&s->lock);
    if (callback) {
        rc = legacy_reaper_start_locked(s);
    }
    if (rc == 0) {
        accept_locked(s, request);
        legacy_reaper_wake_locked(s);
    }
    pthread_mutex_unlock(&s->lock);
    return rc;
}

int64_t
legacy_session_run(struct legacy_session *s, struct ovs_aio_request *request)
{
    pthread_mutex_lock(&s->lock);
    accept_locked(s, request);
    (void)legacy_wait_locked(s, request, NULL);
    pthread_mutex_unlock(&s->lock);
    return request->result;
}

int
legacy_request_wait(struct ovs_aio_request *request, const struct timespec *deadline)
{
    if (ovsshm_load_acquire(&request->done)) { /* A2 pairs with R2 */
        return 0;
    }
    struct legacy_session *s = request->session;
    pthread_mutex_lock(&s->lock);
    int rc = legacy_wait_locked(s, request, deadline);
    pthread_mutex_unlock(&s->lock);
    return rc;
}

bool
legacy_request_done(struct ovs_aio_request *request)
{
    if (ovsshm_load_acquire(&request->done)) { /* A2 pairs with R2 */
        return true;
    }
    struct legacy_session *s = request->session;
    pthread_mutex_lock(&s->lock);
    if (!s->leading) {
        (void)legacy_session_reap(s);
    }
    pthread_mutex_unlock(&s->lock);
    return ovsshm_load_acquire(&request->done); /* A2 pairs with R2 */
}

void
legacy_session_callback_returned(struct legacy_session *s)
{
    pthread_mutex_lock(&s->lock);
    s->callbacks_due--;
    if (s->closing) {
        pthread_cond_broadcast(&s->changed);
    }
    pthread_mutex_unlock(&s->lock);
}
