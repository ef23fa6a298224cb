/* SPDX-License-Identifier: MIT */
/*
 * The calls about all of an open volume, as Volume and LoopVolume have them.
 *
 * Threads: any, with the GIL, which is released where they wait.
 */
#ifndef SHMCLIENT_CONTROL_HPP
#define SHMCLIENT_CONTROL_HPP

#include <memory>

#include <pybind11/pybind11.h>

#include "buffer.hpp"
#include "convert.hpp"
#include "session.hpp"

namespace control {

using SharedSession = std::shared_ptr<Session>;

ovsshm_volume_info stat(const SharedSession &session);
void resize(const SharedSession &session, uint64_t size_bytes);
void set_writable(const SharedSession &session, bool writable);

/* The next event: a Python object, or a null one. */
py::object next_event(const SharedSession &session);
py::list events(const SharedSession &session);

/* Raises ENOTCONN once the session is over. */
void check_alive(const SharedSession &session);

} // namespace control

/* close(), closed, and the with statement, which all that is opened has. */
template <class Class> void bind_closing(py::class_<Class> &cls, const char *close_doc)
{
    cls.def("close", &Class::close, close_doc);
    cls.def_property_readonly("closed", &Class::closed, "Has it been closed?");
    cls.def("__enter__", [](const py::object &self) { return self; });
    cls.def("__exit__", [](Class &self, const py::args &) { self.close(); });
}

/* What costs no message to the server. */
template <class Class> void bind_open_volume(py::class_<Class> &cls)
{
    using py::arg;
    cls.def_property_readonly(
           "name", [](const Class &self) { return text(self.session()->name.c_str()); },
           "As it was opened.")
        .def_property_readonly(
            "writable", [](const Class &self) { return self.session()->writable; },
            "Is it open for writing?")
        .def_property_readonly(
            "size_bytes",
            [](const Class &self) { return ovsshm_volume_bytes(self.session()->volume); },
            "The size now; follows a resize by anybody.  Costs no system call.")
        .def_property_readonly(
            "limits",
            [](const Class &self) { return *ovsshm_volume_limits(self.session()->volume); },
            "Limits; fixed while it is open.")
        .def(
            "events", [](const Class &self) { return control::events(self.session()); },
            "What the server has said since the last call: a list of Event, perhaps empty.\n"
            "Only the last 16 are kept.")
        .def(
            "buffer",
            [](const Class &self, Count<named::length_bytes> length_bytes) {
                return make_buffer(self.session(), length_bytes.value);
            },
            arg("length_bytes"),
            "Allocate a Buffer in shared memory: requests on it are not copied.\n"
            "OSError ENOMEM when the arena has no room; see arena_bytes of Connection.open().");
}

#endif
