/* SPDX-License-Identifier: MIT */
#include "loop_volume.hpp"

#include <cerrno>
#include <chrono>

#include "construct.hpp"
#include "control.hpp"
#include "convert.hpp"
#include "fastcall.hpp"
#include "gil.hpp"

using Clock = std::chrono::steady_clock;

constexpr unsigned REAP_MAX = 64;

/* The loop's other business waits no longer than this, plus one round of tasks. */
constexpr std::chrono::microseconds TURN_MAX{100};

LoopVolume::LoopVolume(Volume &volume, py::object loop)
    : session_(volume.take_session()), loop_(std::move(loop)), thread_(PyThread_get_thread_ident())
{
}

const std::shared_ptr<Session> &LoopVolume::session() const
{
    if (!session_) {
        throw py::value_error("the volume is closed");
    }
    session_->origin.check();
    if (PyThread_get_thread_ident() != thread_) {
        PyErr_SetString(PyExc_RuntimeError, "the volume belongs to a loop in another thread");
        throw py::error_already_set();
    }
    return session_;
}

/* ---- starting ------------------------------------------------------------------------------ */

void LoopVolume::schedule(PyObject *self)
{
    if (scheduled_ || in_turn_) {
        return;
    }
    loop_.attr("call_soon")(py::handle(self).attr("_turn"));
    scheduled_ = true;
}

PyObject *LoopVolume::start(PyObject *self, Future *future)
{
    PyObject *object = reinterpret_cast<PyObject *>(future);
    auto own = py::reinterpret_steal<py::object>(object);
    schedule(self);
    session(); /* the arguments may have been objects that closed it */
    own.inc_ref(); /* ours; the other one is the caller's */
    if (!waiting_.empty()) {
        waiting_.push_back(future);
    } else {
        hand_over(future);
    }
    if (session_ && !in_turn_ && ovsshm_queue_in_flight(session_->queue) == 1) {
        ovsshm_queue_submit(session_->queue); /* it need not wait for company */
    }
    return own.release().ptr();
}

/* To C, or if it has no room to those that wait for it.  Takes over the reference. */
void LoopVolume::hand_over(Future *future)
{
    Request &request = future->request;
    if (future->state != Future::State::PENDING) { /* cancelled while it waited */
        settled_.push_back(future);
        return;
    }
    int rc = request.empty() ? 0 : ovsshm_queue_prep(session_->queue, &request.io);
    if (rc == -EAGAIN && ovsshm_queue_in_flight(session_->queue) != 0) {
        waiting_.push_front(future);
    } else if (rc != 0) {
        Refusal refusal(rc);
        fail_future(future, make_os_error(refusal.error, refusal.reason.c_str()).release().ptr());
        settled_.push_back(future);
    } else if (request.empty()) {
        settle_future(future, *session_);
        settled_.push_back(future);
    } else {
        future->handed = true;
    }
}

/* First come, first served, for as long as there is room. */
void LoopVolume::hand_over_waiting()
{
    for (size_t before = 0; !waiting_.empty() && waiting_.size() != before;) {
        before = waiting_.size();
        Future *future = waiting_.front();
        waiting_.pop_front();
        hand_over(future);
    }
}

/* ---- turns --------------------------------------------------------------------------------- */

/* Settles what has come back; waits for it as long as that has lately been worth it. */
void LoopVolume::collect()
{
    ovsshm_completion completions[REAP_MAX];
    std::shared_ptr<Session> session = session_; /* memory that is let go of may run anything */
    if (!session) {
        return;
    }
    ovsshm_queue *queue = session->queue;
    ovsshm_queue_submit(queue);
    int count = ovsshm_queue_poll(queue, completions, REAP_MAX);
    if (count == 0 && settled_.empty() && ovsshm_queue_in_flight(queue) != 0) {
        GilReleased released;
        count = ovsshm_queue_spin(queue, completions, REAP_MAX);
    }
    for (int i = 0; i < count; i++) {
        auto *future = reinterpret_cast<Future *>(completions[i].user_data);
        future->request.result = completions[i].result;
        settle_future(future, *session);
        settled_.push_back(future);
    }
}

/* Runs those who waited.  They may do anything, also close this volume. */
bool LoopVolume::run_settled()
{
    bool good = true;
    for (size_t left = settled_.size(); left != 0 && !settled_.empty() && good; left--) {
        Future *future = settled_.front();
        settled_.pop_front();
        good = run_callbacks(future);
        Py_DECREF(future);
    }
    return good;
}

bool LoopVolume::turn(PyObject *self)
{
    Clock::time_point end = Clock::now() + TURN_MAX;
    bool good = true;
    bool more = true;
    scheduled_ = false;
    in_turn_ = true;
    if (asleep_) {
        asleep_ = false;
        ovsshm_queue_disarm(session_->queue);
    }
    while (session_ && good && more && Clock::now() < end) {
        hand_over_waiting();
        collect();
        more = !settled_.empty();
        good = run_settled();
    }
    in_turn_ = false;
    if (session_) {
        py::error_scope kept; /* what ends the loop, if anything */
        go_on(self, more);
    }
    return good;
}

bool LoopVolume::wake(PyObject *self)
{
    if (!session_ || in_turn_) {
        return true;
    }
    asleep_ = true; /* or nearly: the bell is to be silenced in any case */
    return turn(self);
}

/* After a turn: the next one, or sleep if there is something to wait for. */
void LoopVolume::go_on(PyObject *self, bool more)
{
    ovsshm_queue *queue = session_->queue;
    if (more) {
        schedule(self);
    } else if (ovsshm_queue_in_flight(queue) != 0) {
        asleep_ = ovsshm_queue_arm(queue) == 0;
        if (!asleep_) {
            schedule(self);
        }
    }
}

/* ---- the end ------------------------------------------------------------------------------- */

void LoopVolume::close()
{
    if (!session_) {
        return;
    }
    std::shared_ptr<Session> session = std::move(session_);
    session_.reset();
    if (session->origin.here()) { /* else the queue is the parent's, and so is what waits for it */
        session->end();
        fail_all(*session);
    }
}

/* What is in flight completes with ENOTCONN, and what waits for room fails in the same way. */
void LoopVolume::fail_all(Session &session)
{
    ovsshm_completion completions[REAP_MAX];
    int count;
    while ((count = ovsshm_queue_poll(session.queue, completions, REAP_MAX)) > 0) {
        for (int i = 0; i < count; i++) {
            auto *future = reinterpret_cast<Future *>(completions[i].user_data);
            future->request.result = completions[i].result;
            settle_future(future, session);
            settled_.push_back(future);
        }
    }
    for (Future *future : waiting_) {
        future->request.result = -ENOTCONN;
        settle_future(future, session);
        settled_.push_back(future);
    }
    waiting_.clear();
    for (Future *future : std::exchange(settled_, {})) {
        schedule_callbacks(future);
        Py_DECREF(future);
    }
}

/* ---- Python -------------------------------------------------------------------------------- */

namespace {

PyObject *turn(PyObject *self, PyObject *const *, Py_ssize_t, PyObject *)
{
    auto &volume = self_of<LoopVolume>(self);
    return volume.closed() || volume.turn(self) ? py::none().release().ptr() : nullptr;
}

PyObject *wake(PyObject *self, PyObject *const *, Py_ssize_t, PyObject *)
{
    return self_of<LoopVolume>(self).wake(self) ? py::none().release().ptr() : nullptr;
}

} // namespace

LoopVolumeClass bind_loop_volume(py::module_ &m)
{
    LoopVolumeClass cls(m, "LoopVolume", "What shmclient.aio.Volume is made of.");
    cls.def(py::init<Volume &, py::object>(), py::arg("volume"), py::arg("loop"));
    require_init(cls);
    bind_open_volume(cls);
    cls.def("close", &LoopVolume::close);
    cls.def_property_readonly("closed", &LoopVolume::closed, "Has it been closed?");
    cls.def("_stat", [](const LoopVolume &self) {
        return py::cpp_function([session = self.session()] { return control::stat(session); });
    });
    cls.def("_resize", [](const LoopVolume &self, Count<named::size_bytes> size_bytes) {
        return py::cpp_function(
            [session = self.session(), size_bytes] { control::resize(session, size_bytes.value); });
    });
    cls.def("_set_writable", [](const LoopVolume &self, bool writable) {
        return py::cpp_function(
            [session = self.session(), writable] { control::set_writable(session, writable); });
    });
    cls.def("_next_event", [](const LoopVolume &self) {
        py::object event = control::next_event(self.session());
        if (!event) {
            control::check_alive(self.session());
        }
        return event ? event : py::none();
    });
    cls.def_property_readonly("_fd", &LoopVolume::fd);
    cls.def_property_readonly("_here", &LoopVolume::here);
    add_fast_method<turn>(cls, "_turn", "_turn($self)\n--\n\nA callback of the loop.");
    add_fast_method<wake>(cls, "_wake", "_wake($self)\n--\n\nThe descriptor is readable.");
    return cls;
}
