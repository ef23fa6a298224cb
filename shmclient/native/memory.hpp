/* SPDX-License-Identifier: MIT */
/*
 * Memory of Python objects, held while C uses it.
 *
 * Threads: with the GIL, except data() and bytes().
 */
#ifndef SHMCLIENT_MEMORY_HPP
#define SHMCLIENT_MEMORY_HPP

#include <cstdint>
#include <utility>
#include <vector>

#include <sys/uio.h>

#include <pybind11/pybind11.h>

namespace py = pybind11;

/* Contiguous bytes of any object with the buffer protocol; exported until the end of the view. */
class View {
public:
    View() { view_.obj = nullptr; }

    /* flags: PyBUF_SIMPLE to read from it, PyBUF_WRITABLE to write to it. */
    View(PyObject *object, int flags)
    {
        if (PyObject_GetBuffer(object, &view_, flags) != 0) {
            raise_refusal(object, flags);
        }
    }

    /* Bytes that nobody else has seen yet and that are therefore still written to. */
    static View of_new_bytes(Py_ssize_t length_bytes)
    {
        View view;
        view.view_.obj = PyBytes_FromStringAndSize(nullptr, length_bytes);
        if (!view.view_.obj) {
            throw py::error_already_set();
        }
        view.view_.buf = PyBytes_AS_STRING(view.view_.obj);
        view.view_.len = length_bytes;
        return view;
    }

    View(View &&other) noexcept : view_(other.view_) { other.view_.obj = nullptr; }
    View &operator=(View &&other) noexcept
    {
        std::swap(view_, other.view_);
        return *this;
    }
    ~View()
    {
        if (view_.obj) {
            PyBuffer_Release(&view_);
        }
    }

    PyObject *object() const { return view_.obj; }
    void *data() const { return view_.buf; }
    uint64_t bytes() const { return static_cast<uint64_t>(view_.len); }

    /* The object, which is the caller's now; of_new_bytes() only. */
    PyObject *take() { return std::exchange(view_.obj, nullptr); }

private:
    [[noreturn]] static void raise_refusal(PyObject *object, int flags);

    Py_buffer view_;
};

/* Several of them, one behind the other. */
class Views {
public:
    Views() = default;

    /* buffers: an iterable of objects. */
    Views(PyObject *buffers, int flags);

    const std::vector<iovec> &ranges() const { return ranges_; }
    uint64_t bytes() const { return bytes_; }

private:
    std::vector<View> views_;
    std::vector<iovec> ranges_;
    uint64_t bytes_ = 0;
};

#endif
