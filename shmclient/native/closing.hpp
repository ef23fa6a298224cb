/* SPDX-License-Identifier: MIT */
/* What all that is opened has in common in Python: close(), closed, and the with statement. */
#ifndef SHMCLIENT_CLOSING_HPP
#define SHMCLIENT_CLOSING_HPP

#include <pybind11/pybind11.h>

namespace py = pybind11;

template <class Class, class... Options> void context_manager(py::class_<Class, Options...> &cls)
{
    cls.def("close", &Class::close,
            "Close it.  Again is fine; so is from any thread: calls that wait end with ENOTCONN.");
    cls.def_property_readonly("closed", &Class::closed, "Has it been closed?");
    cls.def("__enter__", [](const py::object &self) { return self; });
    cls.def("__exit__", [](Class &self, const py::args &) { self.close(); });
}

#endif
