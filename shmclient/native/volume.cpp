/* SPDX-License-Identifier: MIT */
#include "volume.hpp"

#include <chrono>
#include <cmath>

#include <poll.h>

#include <pybind11/stl.h>

#include "construct.hpp"
#include "control.hpp"
#include "wait.hpp"

using Clock = std::chrono::steady_clock;

void Volume::close()
{
    if (turns_) {
        turns_->session->end();
        turns_.reset();
    }
}

std::shared_ptr<Turns> Volume::turns() const
{
    if (!turns_) {
        throw py::value_error("the volume is closed");
    }
    turns_->session->origin.check();
    return turns_;
}

std::shared_ptr<Session> Volume::take_session()
{
    std::shared_ptr<Session> taken = session();
    turns_.reset();
    return taken;
}

/* None: for ever. */
static Clock::time_point deadline_after(std::optional<double> timeout_s)
{
    if (timeout_s && !(*timeout_s >= 0)) {
        throw py::value_error("timeout_s must not be negative");
    }
    constexpr double LONG_S = 1e9;
    if (!timeout_s || *timeout_s > LONG_S) {
        return Clock::time_point::max();
    }
    return Clock::now() + std::chrono::duration_cast<Clock::duration>(
                              std::chrono::duration<double>(*timeout_s));
}

py::object Volume::wait_event(std::optional<double> timeout_s) const
{
    std::shared_ptr<Session> session = this->session();
    Clock::time_point deadline = deadline_after(timeout_s);
    for (;;) {
        if (py::object event = control::next_event(session)) {
            return event;
        }
        control::check_alive(session);
        auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
        if (left.count() <= 0) {
            return py::none();
        }
        {
            GilReleased released;
            pollfd fd = {ovsshm_volume_fd(session->volume), POLLIN, 0};
            poll(&fd, 1, static_cast<int>(std::min(left, SIGNAL_SLICE).count()));
        }
        check_signals();
    }
}

VolumeClass bind_volume(py::module_ &m)
{
    using py::arg;
    VolumeClass cls(m, "Volume", R"(An open volume, made by Connection.open(); a context manager.

Offsets and lengths are in bytes; where `limits.block_bytes` is above 1 they are multiples of it,
else EINVAL.  Requests of any length are fine: long ones are split.

Threads: any thread may call any method at any time; calls wait for each other only for the moment
it takes to submit.  The GIL is released while a call waits, if it is not done within microseconds.
Memory of the caller is used until the call returns; a call that Ctrl-C ends may leave its buffers
in use until the server has answered, or the volume is closed.

Errors: OSError by errno with a reason.  ENOTCONN: the server is gone, or close() was called
meanwhile; whether the request was done is not known.  ValueError after close(), RuntimeError in the
child after a fork().)");
    forbid_construction(cls);
    bind_closing(cls, "Close it; what waits for it ends with ENOTCONN.  Again is fine.");
    bind_open_volume(cls);
    cls.def("stat", [](const Volume &self) { return control::stat(self.session()); },
            "Ask the server about the volume: a VolumeInfo.")
        .def(
            "resize",
            [](const Volume &self, Count<named::size_bytes> size_bytes) {
                control::resize(self.session(), size_bytes.value);
            },
            arg("size_bytes"),
            "Grow it to size_bytes, a multiple of 512.  PermissionError to shrink.")
        .def(
            "set_writable",
            [](const Volume &self, bool writable) {
                control::set_writable(self.session(), writable);
            },
            arg("writable"),
            "Take the writer's role, or give it up.  EBUSY: somebody else has it; EROFS.")
        .def("wait_event", &Volume::wait_event, arg("timeout_s") = py::none(),
             "Wait for the next Event; None after timeout_s seconds (None: no limit).\n"
             "OSError ENOTCONN when the session is over and all has been said.")
        .def(
            "file",
            [](const py::object &self, const py::object &mode) {
                return py::module_::import("shmclient.file").attr("File")(self, mode);
            },
            arg("mode") = py::none(),
            "The volume as a raw binary file: a shmclient.file.File; see there.");
    return cls;
}
