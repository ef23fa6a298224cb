/* SPDX-License-Identifier: MIT */
/*
 * Future: a request on its way, with the interface of asyncio.Future, so that it can be awaited,
 * gathered, waited for and cancelled.
 *
 * Unlike asyncio's own it runs its first callback, the task that awaits it, at once when the queue
 * settles it, instead of through the loop: that happens in a callback of the loop anyway, and going
 * through the loop again would take longer than all the rest.  When it ends otherwise, by cancel()
 * or because the volume is closed, all goes through the loop, as then some task may be running.
 *
 * Threads: the loop's.
 */
#ifndef SHMCLIENT_FUTURE_HPP
#define SHMCLIENT_FUTURE_HPP

#include <pybind11/pybind11.h>

#include "request.hpp"

struct Future {
    enum class State : char { PENDING, FINISHED, FAILED, CANCELLED };

    PyObject_HEAD
    State state;
    ResultKind kind;
    bool handed;       /* C has the request */
    bool blocking;     /* asyncio: a task has just been given this to wait for */
    PyObject *loop;
    PyObject *value;   /* the result or the exception; cancelled: the message or nullptr */
    PyObject *callback; /* the first one, and the context it runs in; nullptr: none */
    PyObject *context;
    PyObject *more;    /* list of further (callback, context), or nullptr */
    Request request;
};

void bind_future(pybind11::module_ &m);

/* A pending one.  Its request is empty. */
Future *make_future(PyObject *loop, ResultKind kind);

/* Takes over the result of the request, and lets go of the memory that it used. */
void settle_future(Future *future, Session &session);

/* The same for one that cannot be done: error is an exception.  Steals it. */
void fail_future(Future *future, PyObject *error);

/* Runs or schedules the callbacks; false with an exception when the loop shall end. */
bool run_callbacks(Future *future);

/* Lets the loop run them.  A loop that is closed never will. */
void schedule_callbacks(Future *future);

#endif
