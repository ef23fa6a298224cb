/* SPDX-License-Identifier: MIT */
/*
 * LoopVolume: an open volume in the hands of one asyncio loop.
 *
 * Requests are prepared when they are made, and handed to the server together in a turn: a callback
 * of the loop that submits, polls, and runs the tasks that waited for what has come, which make the
 * next requests.  While that brings something the next turn follows through the loop, which looks
 * after its other business in between; else the queue is armed, and its descriptor wakes the loop.
 *
 * Requests beyond the depth of the queue wait here, first come first served.
 *
 * Threads: the loop's, with the GIL.
 */
#ifndef SHMCLIENT_LOOP_VOLUME_HPP
#define SHMCLIENT_LOOP_VOLUME_HPP

#include <deque>
#include <memory>

#include <pybind11/pybind11.h>

#include "future.hpp"
#include "session.hpp"
#include "volume.hpp"

class LoopVolume {
public:
    /* Takes the session of a volume that was just opened. */
    LoopVolume(Volume &volume, py::object loop);
    ~LoopVolume() { close(); }

    void close();
    bool closed() const { return !session_; }

    /* ValueError when closed, RuntimeError in another thread or after fork(). */
    const std::shared_ptr<Session> &session() const;

    /* Is this the process that opened it?  Open ones only. */
    bool here() const { return session_ && session_->origin.here(); }

    PyObject *loop() const { return loop_.ptr(); }
    int fd() const { return ovsshm_queue_fd(session()->queue); }

    /* Starts a request; self is the Python object.  Takes over the reference, and returns it. */
    PyObject *start(PyObject *self, Future *future);

    /* One turn.  False: with an exception that ends the loop. */
    bool turn(PyObject *self);

    /* The descriptor is readable. */
    bool wake(PyObject *self);

private:
    void schedule(PyObject *self);
    void hand_over(Future *future);
    void hand_over_waiting();
    void collect();
    bool run_settled();
    void go_on(PyObject *self, bool more);
    void fail_all(Session &session);

    std::shared_ptr<Session> session_;
    py::object loop_;
    unsigned long thread_;
    std::deque<Future *> waiting_; /* for room; with a reference */
    std::deque<Future *> settled_; /* callbacks not yet run; with a reference */
    bool scheduled_ = false;       /* a turn is on the loop's list */
    bool asleep_ = false;          /* the queue is armed */
    bool in_turn_ = false;
};

using LoopVolumeClass = py::class_<LoopVolume>;

LoopVolumeClass bind_loop_volume(py::module_ &m);
void bind_transfer(LoopVolumeClass &cls);

#endif
