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

/* An argument of that kind and name in a signature that pybind11 makes: Count<named::depth>. */
template <const char *what> struct Count {
    uint64_t value = 0;
};

namespace named {
inline constexpr char arena_bytes[] = "arena_bytes";
inline constexpr char block_bytes[] = "block_bytes";
inline constexpr char depth[] = "depth";
inline constexpr char duration_ns[] = "duration_ns";
inline constexpr char latency_ns[] = "latency_ns";
inline constexpr char length_bytes[] = "length_bytes";
inline constexpr char offset_bytes[] = "offset_bytes";
inline constexpr char read_percent[] = "read_percent";
inline constexpr char seed[] = "seed";
inline constexpr char size_bytes[] = "size_bytes";
} // namespace named

/* A time limit, also a negative one. */
struct Seconds {
    int64_t value = 0;
};

namespace pybind11::detail {
template <const char *what> struct type_caster<Count<what>> {
    PYBIND11_TYPE_CASTER(Count<what>, const_name("int"));
    bool load(handle source, bool)
    {
        if (!PyIndex_Check(source.ptr())) {
            return false;
        }
        value.value = to_count(source.ptr(), what);
        return true;
    }
};

/* Of 64 bits, with OverflowError for what has more, where pybind11's own says TypeError. */
template <> struct type_caster<Seconds> {
    PYBIND11_TYPE_CASTER(Seconds, const_name("int"));
    bool load(handle source, bool)
    {
        if (!PyIndex_Check(source.ptr())) {
            return false;
        }
        auto number = reinterpret_steal<object>(PyNumber_Index(source.ptr()));
        value.value = number ? PyLong_AsLongLong(number.ptr()) : -1;
        if (PyErr_Occurred()) {
            throw error_already_set();
        }
        return true;
    }
};
} // namespace pybind11::detail

/* The OSError of an errno: FileNotFoundError, PermissionError, ... */
py::object make_os_error(int error, const char *reason);
[[noreturn]] void raise_os_error(int error, const char *reason);

#endif
