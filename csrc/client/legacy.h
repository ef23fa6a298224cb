/* SPDX-License-Identifier: MIT */
/*
 * The historical API (volumedriver.h) over the native one (shm.h): what its files share.
 *
 *   legacy_attr.c         attributes: what kind of context to make
 *   legacy_ctx.c          contexts: open and close a session
 *   legacy_manage.c       volumes: create, remove, resize, list, stat
 *   legacy_snapshot.c     snapshots
 *   legacy_buffer.c       ovs_allocate() and friends
 *   legacy_aio.c          the I/O calls: check arguments, make requests
 *   legacy_session.c      an open volume: from accepted request to result, and who waits how
 *   legacy_completion.c   completions and the threads that run their callbacks
 *
 * Inside, functions return 0 or -errno as everywhere else; legacy_result() is the door to errno.
 * Names do not begin with ovs_, since everything that does is exported.
 */
#ifndef OVSSHM_LEGACY_H
#define OVSSHM_LEGACY_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <openvstorage/shm.h>
#include <openvstorage/volumedriver.h>

struct legacy_session;

enum legacy_transport {
    LEGACY_TRANSPORT_UNSET,
    LEGACY_TRANSPORT_SHM,
    LEGACY_TRANSPORT_NETWORK,
};

struct ovs_context_attr_t {
    enum legacy_transport transport;
    uint64_t network_qdepth;
    bool ha;
};

struct legacy_buffer_chunk;

/* The buffers of a context; see legacy_buffer.c. */
struct legacy_buffers {
    pthread_mutex_t lock;
    struct legacy_buffer_chunk *chunks;
    struct ovs_buffer *unused;
};

struct ovs_context_t {
    struct legacy_session *session; /* NULL before ovs_ctx_init() */
    uint64_t generation;            /* counts the sessions it has had */
    struct legacy_buffers buffers;
};

/* One I/O, from submission to ovs_aio_finish(); that of a synchronous call is on the stack. */
struct ovs_aio_request {
    struct ovsshm_io io;
    struct legacy_session *session;
    struct ovs_completion *completion; /* or NULL */
    struct ovs_aio_request *next;      /* accepted after this one, not in the queue yet */
    bool detached;                     /* nobody will finish it: freed when it completes */
    uint32_t done;                     /* set last: from then on the request is its owner's */
    int64_t result;                    /* when done: bytes or -errno */
};

enum legacy_completion_state {
    LEGACY_COMPLETION_IDLE,
    LEGACY_COMPLETION_IN_FLIGHT, /* submitted; the callback has not begun */
    LEGACY_COMPLETION_DONE,
};

struct ovs_completion {
    ovs_callback_t callback;
    void *arg;
    struct legacy_session *session; /* of the operation */
    struct ovs_completion *next;    /* due to run after this one */
    int64_t result;
    uint32_t state; /* enum legacy_completion_state */
    pthread_mutex_t lock;
    pthread_cond_t cond; /* signalled has changed */
    bool signalled;
};

/* errno = -rc and -1 when rc is an error, else rc.  What a historical function returns. */
ssize_t legacy_result(int64_t rc);

/* 1 to 254 bytes, else -EINVAL. */
int legacy_name_check(const char *name);
int legacy_timespec_check(const struct timespec *deadline); /* NULL is good */

/* Connects to the default socket; -ECONNREFUSED for all ways of there being no server. */
int legacy_connect(struct ovsshm_conn **conn);

/* Rounds up to whole sectors; -EFBIG when there is no such volume. */
int legacy_volume_bytes(uint64_t *size_bytes);

/* A management call: checks context and volume name, connects.  end accepts what begin left. */
int legacy_manage_begin(const ovs_ctx_t *ctx, const char *name, struct ovsshm_conn **conn);
int legacy_manage_end(struct ovsshm_conn *conn, int rc);

/* ---- buffers ----------------------------------------------------------------------------- */

int legacy_buffers_init(struct legacy_buffers *buffers);
void legacy_buffers_destroy(struct legacy_buffers *buffers);

/* ---- session ----------------------------------------------------------------------------- */

/* -EACCES no such volume, else as ovsshm_open(). */
int legacy_session_open(const char *name, int oflag, struct legacy_session **session);

/* Waits for everything that was submitted, callbacks included.  Accepts NULL. */
void legacy_session_close(struct legacy_session *session);

const char *legacy_session_name(const struct legacy_session *session);
int legacy_session_oflag(const struct legacy_session *session);
struct ovsshm_volume *legacy_session_volume(const struct legacy_session *session);

/* Shared memory; NULL when what is left is needed to bounce requests on other memory. */
void *legacy_session_buffer_alloc(struct legacy_session *session, size_t bytes);
void legacy_session_buffer_free(struct legacy_session *session, void *data, size_t bytes);

/* Accepts a request, which will complete.  -ENOMEM: no thread for its callback. */
int legacy_session_submit(struct legacy_session *session, struct ovs_aio_request *request);

/* Submits a request and waits for it. */
int64_t legacy_session_run(struct legacy_session *session, struct ovs_aio_request *request);

/* Waits until a request is done; -EAGAIN when the deadline (CLOCK_REALTIME) passes first. */
int legacy_request_wait(struct ovs_aio_request *request, const struct timespec *deadline);

/* Looks whether it is done, taking completions that are there. */
bool legacy_request_done(struct ovs_aio_request *request);

/* A callback of this session has returned. */
void legacy_session_callback_returned(struct legacy_session *session);

/* ---- completions ------------------------------------------------------------------------- */

/* Starts a thread that takes no signals of the process.  0 or -ENOMEM. */
int legacy_thread_start(pthread_t *thread, void *(*main)(void *), void *arg);

/* Before a request with a callback is accepted: there is a thread to run it.  0 or -ENOMEM. */
int legacy_callbacks_prepare(void);

/* The operation is over: lets a thread call back. */
void legacy_callback_queue(struct ovs_completion *completion, int64_t result);

/*
 * For a session that is closed inside of a callback: take a callback of it that is due and run it
 * (NULL: there is none, or this is not a thread of ours); how many callbacks of it this thread is
 * in; forget the session.
 */
struct ovs_completion *legacy_callback_take(const struct legacy_session *session);
void legacy_callback_run(struct ovs_completion *completion);
unsigned legacy_callback_depth(const struct legacy_session *session);
void legacy_callback_forget(const struct legacy_session *session);

#endif
