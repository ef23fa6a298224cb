/* SPDX-License-Identifier: MIT */
/*
 * The threads that serve requests: as many as are busy at once, and one more that waits.
 *
 * Not libfuse's loop, because that can be ended only by a request or a signal.  Threads wait in
 * read() and can be cancelled there and nowhere else.
 */
#define _GNU_SOURCE
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "shared/atomic.h"

#define PAGE 4096u
/* What comes before the data of a write: the data starts at a page then. */
#define WRITE_HEAD (sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in))

struct mnt_worker {
    struct mnt_worker *next;
    struct ovsshm_mount *mount;
    pthread_t thread;
    int fd; /* a clone of the session's, or that itself */
    char *memory;
};

/* A request is answered on the descriptor it was read from. */
static _Thread_local int thread_fd = -1;

static ssize_t
send_reply(int fd, struct iovec *iov, int count, void *userdata)
{
    (void)userdata;
    return writev(thread_fd >= 0 ? thread_fd : fd, iov, count);
}

static ssize_t
splice_reply(int from, off_t *from_offset, int fd, off_t *offset, size_t length, unsigned flags,
             void *userdata)
{
    (void)userdata;
    return splice(from, from_offset, thread_fd >= 0 ? thread_fd : fd, offset, length, flags);
}

static ssize_t
receive(int fd, void *buffer, size_t size, void *userdata)
{
    (void)userdata;
    return read(thread_fd >= 0 ? thread_fd : fd, buffer, size);
}

const struct fuse_custom_io mnt_loop_io = {
    .writev = send_reply,
    .read = receive,
    .splice_send = splice_reply,
};

static size_t
request_bytes(const struct ovsshm_mount *mount)
{
    return mount->params.max_write + PAGE;
}

static int
clone_device(const struct ovsshm_mount *mount)
{
    uint32_t master = (uint32_t)fuse_session_fd(mount->session);
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (fd >= 0 && ioctl(fd, FUSE_DEV_IOC_CLONE, &master)) {
        close(fd);
        fd = -1;
    }
    return fd >= 0 ? fd : (int)master;
}

static void *serve(void *arg);

static void
free_worker(struct mnt_worker *worker)
{
    if (worker->fd != fuse_session_fd(worker->mount->session)) {
        close(worker->fd);
    }
    free(worker->memory);
    free(worker);
}

int
mnt_thread_create(pthread_t *thread, void *(*run)(void *arg), void *arg)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -rc;
}

/* With the lock held. */
static int
add_worker(struct ovsshm_mount *mount)
{
    struct mnt_loop *loop = &mount->loop;
    struct mnt_worker *worker = calloc(1, sizeof(*worker));
    if (!worker) {
        return -ENOMEM;
    }
    bool clone = loop->count && !mount->params.shared_fd;
    worker->mount = mount;
    worker->fd = clone ? clone_device(mount) : fuse_session_fd(mount->session);
    worker->memory = aligned_alloc(PAGE, PAGE + request_bytes(mount));
    int rc = worker->memory ? mnt_thread_create(&worker->thread, serve, worker) : -ENOMEM;
    if (rc) {
        free_worker(worker);
        return rc;
    }
    worker->next = loop->workers;
    loop->workers = worker;
    ovsshm_add(&loop->count, 1);
    return 0;
}

/* Everybody is busy: somebody should be there for the next request. */
static void
add_worker_if_allowed(struct ovsshm_mount *mount)
{
    struct mnt_loop *loop = &mount->loop;
    if (ovsshm_load_relaxed(&loop->count) >= mount->params.threads) {
        return;
    }
    pthread_mutex_lock(&loop->lock);
    if (!loop->stopping && loop->count < mount->params.threads) {
        add_worker(mount); /* without it the others go on */
    }
    pthread_mutex_unlock(&loop->lock);
}

/* The next request: its bytes, or -errno.  The only place where a worker can be cancelled. */
static ssize_t
next_request(struct mnt_worker *worker, char *bytes)
{
    struct mnt_loop *loop = &worker->mount->loop;
    int state;
    ovsshm_add(&loop->idle, 1);
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
    ssize_t count = read(worker->fd, bytes, request_bytes(worker->mount));
    ssize_t rc = count < 0 ? -errno : count;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    if (ovsshm_sub(&loop->idle, 1) == 0 && rc > 0) {
        add_worker_if_allowed(worker->mount);
    }
    return rc;
}

static void
serve_requests(struct mnt_worker *worker)
{
    struct ovsshm_mount *mount = worker->mount;
    char *bytes = worker->memory + PAGE - WRITE_HEAD;
    for (;;) {
        ssize_t rc = next_request(worker, bytes);
        if (rc > 0) {
            struct fuse_buf request = {.mem = bytes, .size = (size_t)rc};
            fuse_session_process_buf(mount->session, &request);
        } else if (rc != -EINTR && rc != -EAGAIN && rc != -ENOENT) {
            if (rc != -ENODEV) {
                mnt_warn(mount, "cannot read requests of the mount: %s", strerror((int)-rc));
            }
            return;
        }
    }
}

static void
end_group(void *arg)
{
    srv_local_group_end(arg);
}

static void *
serve(void *arg)
{
    struct mnt_worker *worker = arg;
    struct ovsshm_mount *mount = worker->mount;
    int state;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    pthread_setname_np(pthread_self(), "ovsshm-mount");
    thread_fd = worker->fd;
    /* Not left to the end of the thread: by then Python would not know the thread any more. */
    pthread_cleanup_push(end_group, mount->server);
    serve_requests(worker);
    pthread_cleanup_pop(1);
    pthread_mutex_lock(&mount->loop.lock);
    bool last = ovsshm_sub(&mount->loop.count, 1) == 0 && !mount->loop.stopping;
    mount->loop.stopping |= last;
    pthread_mutex_unlock(&mount->loop.lock);
    if (last) {
        mnt_ended(mount);
    }
    return NULL;
}

int
mnt_loop_start(struct ovsshm_mount *mount)
{
    pthread_mutex_lock(&mount->loop.lock);
    int rc = add_worker(mount);
    pthread_mutex_unlock(&mount->loop.lock);
    return rc;
}

void
mnt_loop_stop(struct ovsshm_mount *mount)
{
    struct mnt_loop *loop = &mount->loop;
    pthread_mutex_lock(&loop->lock);
    loop->stopping = true;
    struct mnt_worker *workers = loop->workers;
    loop->workers = NULL;
    pthread_mutex_unlock(&loop->lock);
    for (struct mnt_worker *worker = workers; worker; worker = worker->next) {
        pthread_cancel(worker->thread);
    }
    for (struct mnt_worker *worker = workers, *next; worker; worker = next) {
        next = worker->next;
        pthread_join(worker->thread, NULL);
        free_worker(worker);
    }
}
