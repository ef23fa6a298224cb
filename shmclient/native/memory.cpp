/* SPDX-License-Identifier: MIT */
#include "memory.hpp"

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
