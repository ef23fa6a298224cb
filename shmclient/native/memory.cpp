/* SPDX-License-Identifier: MIT */
#include "memory.hpp"

/* Python says that it is not writable, and no more. */
void View::raise_refusal(PyObject *object, int flags)
{
    py::error_already_set refused;
    Py_buffer view;
    if (refused.matches(PyExc_BufferError) && (flags & PyBUF_WRITABLE) &&
        PyObject_GetBuffer(object, &view, PyBUF_SIMPLE) == 0) {
        PyBuffer_Release(&view);
        PyErr_Format(PyExc_BufferError,
                     "what is read does not go into a %.100s that is not writable: use a "
                     "bytearray, or Volume.buffer()",
                     Py_TYPE(object)->tp_name);
        throw py::error_already_set();
    }
    PyErr_Clear();
    throw refused;
}

Views::Views(PyObject *buffers, int flags)
{
    for (py::handle buffer : py::iter(py::handle(buffers))) {
        views_.emplace_back(buffer.ptr(), flags);
        const View &view = views_.back();
        if (view.bytes() > static_cast<uint64_t>(PY_SSIZE_T_MAX) - bytes_) {
            throw py::value_error("the buffers are longer than 2**63 bytes together");
        }
        ranges_.push_back({view.data(), view.bytes()});
        bytes_ += view.bytes();
    }
}
