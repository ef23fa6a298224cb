/* SPDX-License-Identifier: MIT */
#include "volume.hpp"

#include <chrono>
#include <cmath>

#include <poll.h>

#include <pybind11/stl.h>

#include "buffer.hpp"
#include "closing.hpp"
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

ovsshm_volume_info Volume::stat() const
{
    auto info = std::make_shared<ovsshm_volume_info>();
    checked([session = session(), info] {
        return ovsshm_volume_stat(session->volume, info.get());
    });
    return *info;
}

void Volume::resize(Count size_bytes) const
{
    checked([session = session(), size_bytes] {
        return ovsshm_volume_resize(session->volume, size_bytes.value);
    });
}

void Volume::set_writable(bool writable)
{
    checked([session = session(), writable] {
        uint32_t mode = writable ? OVSSHM_MODE_WRITE : OVSSHM_MODE_READ;
        return ovsshm_volume_set_mode(session->volume, mode);
    });
    writable_ = writable;
}

py::object Volume::buffer(Count length_bytes) const
{
    if (length_bytes.value == 0) {
        throw py::value_error("a buffer of 0 bytes");
    }
    return make_buffer(session(), length_bytes.value);
}

py::list Volume::events() const
{
    std::shared_ptr<Session> session = this->session();
    py::list found;
    ovsshm_msg_event event;
    while (ovsshm_volume_event(session->volume, &event) == 1) {
        found.append(event);
    }
    return found;
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
        ovsshm_msg_event event;
        if (ovsshm_volume_event(session->volume, &event) == 1) {
            return py::cast(event);
        }
        int state = ovsshm_volume_state(session->volume);
        if (state != 0) {
            raise_os_error(-state, ovsshm_reason());
        }
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

Threads: any thread may call any method at any time; calls wait for each other only for the moment it
takes to submit.  The GIL is released while a call waits.  Memory of the caller is used until the
call returns; a call that Ctrl-C ends may leave its buffers in use until the server has answered, or
the volume is closed.

Errors: OSError by errno with a reason.  ENOTCONN: the server is gone, or close() was called
meanwhile; whether the request was done is not known.  ValueError after close(), RuntimeError in the
child after a fork().)");
    context_manager(cls);
    cls.def_property_readonly("name", &Volume::name, "As it was opened.")
        .def_property_readonly("writable", &Volume::writable, "Is it open for writing?")
        .def_property_readonly("size_bytes", &Volume::size_bytes,
                              "The size now; follows a resize by anybody.  Costs no system call.")
        .def_property_readonly("limits", &Volume::limits, "Limits; fixed while it is open.")
        .def("stat", &Volume::stat, "Ask the server about the volume.")
        .def("resize", &Volume::resize, arg("size_bytes"),
             "Grow it to size_bytes, a multiple of 512.  PermissionError to shrink.")
        .def("set_writable", &Volume::set_writable, arg("writable"),
             "Take the writer's role, or give it up.  EBUSY: somebody else has it; EROFS.")
        .def("events", &Volume::events,
             "What the server has said since the last call: a list of Event, perhaps empty.\n"
             "Only the last 16 are kept.")
        .def("wait_event", &Volume::wait_event, arg("timeout_s") = py::none(),
             "Wait for the next Event; None after timeout_s seconds (None: no limit).\n"
             "OSError ENOTCONN when the session is over and all has been said.")
        .def("buffer", &Volume::buffer, arg("length_bytes"),
             "Allocate a Buffer in shared memory: requests on it are not copied.\n"
             "OSError ENOMEM when the arena has no room; see arena_bytes of Connection.open().")
        .def(
            "file",
            [](const py::object &self, const py::object &mode) {
                return py::module_::import("shmclient.file").attr("File")(self, mode);
            },
            arg("mode") = py::none(),
            "The volume as a raw binary file: a shmclient.file.File; see there.");
    return cls;
}
