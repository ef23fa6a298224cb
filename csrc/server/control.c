/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "control.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "connection.h"
#include "server.h"
#include "session.h"

#define EVENTS 64
#define ACCEPTS 16                  /* per round */
#define ACCEPT_RETRY_NS 1000000000u /* when there were no descriptors left */
#define NS_PER_MS 1000000u
#define HUNG_UP (EPOLLHUP | EPOLLRDHUP | EPOLLERR)

static void
watch_listener(struct ovsshm_server *server, bool on)
{
    struct control *control = &server->control;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &server->listener};
    if (on != control->accepting) {
        control->accepting = on;
        /* Without an interface there is no fd, and nothing to be watched. */
        (void)epoll_ctl(control->epoll_fd, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, server->listener.fd,
                        &event);
    }
}

static void
accept_some(struct ovsshm_server *server)
{
    for (int i = 0; i < ACCEPTS && server->control.accepting; i++) {
        int fd = accept4(server->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            srv_connection_create(server, fd);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            srv_warn(server, "cannot accept connections now: errno %d", errno);
            watch_listener(server, false);
        } else if (errno != ECONNABORTED && errno != EINTR) {
            return;
        }
    }
}

/* ---- counting down -------------------------------------------------------------------------- */

static void
open_gate(struct gate **gate, bool condition)
{
    if (*gate && condition) {
        srv_gate_arrive(*gate);
        *gate = NULL;
    }
}

static void
check_gone(struct control *control)
{
    open_gate(&control->connections_gone, TAILQ_EMPTY(&control->connections));
    open_gate(&control->sessions_gone, control->session_count == 0);
}

void
srv_control_session_freed(struct ovsshm_server *server)
{
    ovsshm_sub(&server->control.session_count, 1);
}

void
srv_control_forget(struct connection *c)
{
    struct control *control = &c->server->control;
    TAILQ_REMOVE(&control->connections, c, link);
    TAILQ_INSERT_TAIL(&control->ended, c, link);
    if (c->refusal) {
        control->refused_count--;
    } else {
        ovsshm_sub(&control->connection_count, 1);
    }
}

static void
free_ended(struct control *control)
{
    struct connection *c;
    while ((c = TAILQ_FIRST(&control->ended))) {
        TAILQ_REMOVE(&control->ended, c, link);
        free(c);
    }
}

/* ---- the loop ------------------------------------------------------------------------------- */

static int
timeout_ms(struct ovsshm_server *server)
{
    bool draining = ovsshm_load_relaxed(&server->draining); /* then nobody is waited for */
    uint64_t until = srv_registry_unpark(&server->registry, draining);
    uint64_t now = srv_clock_ns();
    bool retry = !server->control.accepting && !draining;
    if (retry && until > now + ACCEPT_RETRY_NS) {
        until = now + ACCEPT_RETRY_NS;
    }
    return until == UINT64_MAX ? -1 : until <= now ? 0 : (int)((until - now) / NS_PER_MS) + 1;
}

static int
wait_events(struct ovsshm_server *server, struct epoll_event *events)
{
    struct mailbox *box = &server->control.mailbox;
    ovsshm_doorbell_arm(&box->armed);
    int timeout = srv_mailbox_pending(box) ? 0 : timeout_ms(server);
    int count = epoll_wait(server->control.epoll_fd, events, EVENTS, timeout);
    ovsshm_doorbell_disarm(&box->armed);
    return count;
}

/*
 * Clients that went away come first: what they held is free for those who ask in the same round.
 */
static void
handle_events(struct ovsshm_server *server, const struct epoll_event *events, int count)
{
    struct control *control = &server->control;
    for (int i = 0; i < count; i++) {
        void *tag = events[i].data.ptr;
        if (tag != &server->listener && tag != &control->mailbox && events[i].events & HUNG_UP) {
            srv_connection_end(tag, 0, "closed by the client");
        }
    }
    for (int i = 0; i < count; i++) {
        void *tag = events[i].data.ptr;
        if (tag == &control->mailbox) {
            ovsshm_doorbell_clear(control->mailbox.fd);
        } else if (tag == &server->listener) {
            accept_some(server);
        } else if (((struct connection *)tag)->fd >= 0) {
            srv_connection_read(tag);
        }
    }
}

static void *
control_main(void *arg)
{
    struct ovsshm_server *server = arg;
    struct control *control = &server->control;
    struct epoll_event events[EVENTS];
    while (!control->quit) {
        int count = wait_events(server, events);
        handle_events(server, events, count);
        srv_mailbox_deliver(&control->mailbox);
        free_ended(control);
        check_gone(control);
        if (!control->accepting && !ovsshm_load_relaxed(&server->draining)) {
            watch_listener(server, true);
        }
    }
    return NULL;
}

int
srv_control_start(struct ovsshm_server *server)
{
    struct control *control = &server->control;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &control->mailbox};
    if (epoll_ctl(control->epoll_fd, EPOLL_CTL_ADD, control->mailbox.fd, &event)) {
        return -errno;
    }
    watch_listener(server, true);
    return -pthread_create(&control->thread, NULL, control_main, server);
}

/* ---- stopping: calls from the embedder's thread ---------------------------------------------- */

struct call {
    struct mail mail;
    struct ovsshm_server *server;
    struct gate done;
};

static void
call(struct ovsshm_server *server, void (*deliver)(struct mail *mail))
{
    struct call call = {.mail.deliver = deliver, .server = server};
    srv_gate_init(&call.done, 1);
    srv_mailbox_post(&server->control.mailbox, &call.mail);
    srv_gate_wait(&call.done, UINT64_MAX);
    srv_gate_destroy(&call.done);
}

static void
for_each_connection(struct ovsshm_server *server, void (*act)(struct connection *c))
{
    struct connection *next;
    for (struct connection *c = TAILQ_FIRST(&server->control.connections); c; c = next) {
        next = TAILQ_NEXT(c, link);
        act(c);
    }
}

static void
tell_draining(struct connection *c)
{
    srv_connection_event(c, OVSSHM_EVENT_DRAINING, 0, "the server is stopping");
}

static void
drain_deliver(struct mail *mail)
{
    struct call *self = container_of(mail, struct call, mail);
    watch_listener(self->server, false);
    srv_registry_unpark(&self->server->registry, true);
    for_each_connection(self->server, tell_draining);
    srv_gate_arrive(&self->done);
}

static void
end_stopping(struct connection *c)
{
    srv_connection_end(c, -ESHUTDOWN, "the server has stopped");
}

static void
end_deliver(struct mail *mail)
{
    struct call *self = container_of(mail, struct call, mail);
    for_each_connection(self->server, end_stopping);
    self->server->control.connections_gone = &self->done;
}

static void
sessions_deliver(struct mail *mail)
{
    struct call *self = container_of(mail, struct call, mail);
    self->server->control.sessions_gone = &self->done;
}

static void
quit_deliver(struct mail *mail)
{
    struct call *self = container_of(mail, struct call, mail);
    self->server->control.quit = true;
    srv_gate_arrive(&self->done);
}

void
srv_control_drain(struct ovsshm_server *server)
{
    call(server, drain_deliver);
}

void
srv_control_end_connections(struct ovsshm_server *server)
{
    call(server, end_deliver);
}

void
srv_control_wait_sessions(struct ovsshm_server *server)
{
    call(server, sessions_deliver);
}

void
srv_control_stop(struct ovsshm_server *server)
{
    call(server, quit_deliver);
    pthread_join(server->control.thread, NULL);
}
