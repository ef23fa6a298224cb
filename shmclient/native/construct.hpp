/* SPDX-License-Identifier: MIT */
/*
 * Who makes instances of a class of pybind11.  None must be without its object of C++: pybind11
 * would make up one of uninitialised memory.
 *
 * Threads: with the GIL.
 */
#ifndef SHMCLIENT_CONSTRUCT_HPP
#define SHMCLIENT_CONSTRUCT_HPP

#include <string>

#include <pybind11/pybind11.h>

namespace py = pybind11;

inline void set_new(py::handle cls, newfunc make)
{
    auto *type = reinterpret_cast<PyTypeObject *>(cls.ptr());
    type->tp_new = make;
    PyType_Modified(type);
    /* What Python does by default calls the base of pybind11 for old formats: std::terminate(). */
    cls.attr("__reduce__") = py::cpp_function(
        [](const py::object &self) -> py::object {
            std::string name = py::str(py::type::of(self).attr("__name__"));
            throw py::type_error("cannot copy or pickle '" + name + "' object");
        },
        py::name("__reduce__"), py::is_method(cls));
}

/* Only C++ makes instances of this class. */
inline void forbid_construction(py::handle cls)
{
    set_new(cls, nullptr);
}

/*
 * For a class with a constructor: cls.__new__(cls), which would do without it, raises a TypeError,
 * as Python refuses the __new__() of a base for a type that has a tp_new of its own.
 */
inline void require_init(py::handle cls)
{
    set_new(cls, [](PyTypeObject *type, PyObject *args, PyObject *keywords) {
        PyTypeObject *base = type;
        while (base->tp_new == type->tp_new) {
            base = base->tp_base;
        }
        return base->tp_new(type, args, keywords);
    });
}

#endif
