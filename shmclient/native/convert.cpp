/* SPDX-License-Identifier: MIT */
#include "convert.hpp"

#include <cstring>

py::str text(const char *bytes)
{
    return py::reinterpret_steal<py::str>(
        PyUnicode_DecodeUTF8(bytes, static_cast<Py_ssize_t>(strlen(bytes)), "surrogateescape"));
}

std::string name_bytes(const py::str &name)
{
    py::object bytes = py::reinterpret_steal<py::object>(
        PyUnicode_AsEncodedString(name.ptr(), "utf-8", "surrogateescape"));
    if (!bytes) {
        throw py::error_already_set();
    }
    std::string result = bytes.cast<std::string>();
    if (result.find('\0') != std::string::npos) {
        throw py::value_error("embedded null character");
    }
    return result;
}

uint64_t to_count(PyObject *object, const char *what)
{
    int overflow = 0;
    py::object number;
    if (!PyLong_CheckExact(object)) {
        number = py::reinterpret_steal<py::object>(PyNumber_Index(object));
        if (!number) {
            throw py::error_already_set();
        }
        object = number.ptr();
    }
    long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (overflow > 0) {
        PyErr_Format(PyExc_OverflowError, "%s must be less than 2**63", what);
        throw py::error_already_set();
    }
    if (value < 0) {
        PyErr_Format(PyExc_ValueError, "%s must not be negative", what);
        throw py::error_already_set();
    }
    return static_cast<uint64_t>(value);
}

py::object make_os_error(int error, const char *reason)
{
    py::object made = py::reinterpret_steal<py::object>(
        PyObject_CallFunction(PyExc_OSError, "iO", error, text(reason).ptr()));
    if (!made) {
        throw py::error_already_set();
    }
    return made;
}

void raise_os_error(int error, const char *reason)
{
    py::object made = make_os_error(error, reason);
    PyErr_SetObject(reinterpret_cast<PyObject *>(Py_TYPE(made.ptr())), made.ptr());
    throw py::error_already_set();
}
