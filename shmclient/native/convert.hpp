/* SPDX-License-Identifier: MIT */
/*
 * Between Python and C: names, sizes, errors.
 *
 * Threads: with the GIL.
 */
#ifndef SHMCLIENT_CONVERT_HPP
#define SHMCLIENT_CONVERT_HPP

#include <cstdint>
#include <string>

#include <pybind11/pybind11.h>

namespace py = pybind11;

/* Text of C.  Names are bytes; what is not UTF-8 survives the way through Python. */
py::str text(const char *bytes);

/* A name on its way to C.  Refuses the one character that C would take for the end. */
std::string name_bytes(const py::str &name);

/* A number of bytes, or of requests: TypeError, ValueError if negative, OverflowError from 2^63. */
uint64_t to_count(PyObject *object, const char *what);

/* An argument of that kind in a signature that pybind11 makes. */
struct Count {
    uint64_t value = 0;
};

namespace pybind11::detail {
template <> struct type_caster<Count> {
    PYBIND11_TYPE_CASTER(Count, const_name("int"));
    bool load(handle source, bool)
    {
        if (!PyIndex_Check(source.ptr())) {
            return false;
        }
        value.value = to_count(source.ptr(), "the number");
        return true;
    }
};
} // namespace pybind11::detail

/* The OSError of an errno: FileNotFoundError, PermissionError, ... */
py::object make_os_error(int error, const char *reason);
[[noreturn]] void raise_os_error(int error, const char *reason);

#endif
