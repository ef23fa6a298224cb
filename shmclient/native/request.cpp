/* SPDX-License-Identifier: MIT */
#include "request.hpp"

#include <cerrno>
#include <cstring>
#include <string>

#include "convert.hpp"
#include "records.hpp"

static std::string describe(const ovsshm_io &io)
{
    static const char *const names[] = {nullptr,   "read",         "write",       "flush",
                                        "discard", "write-zeroes", "block-status"};
    std::string text = names[io.op];
    if (io.op != OVSSHM_OP_FLUSH) {
        text += " of " + std::to_string(io.length_bytes) + " bytes at " +
                std::to_string(io.offset_bytes);
    }
    return text;
}

static PyObject *extents_of(const Request &request)
{
    py::list found;
    uint64_t offset_bytes = request.io.offset_bytes;
    for (int64_t i = 0; i < request.result; i++) {
        const ovsshm_extent &one = request.extents[static_cast<size_t>(i)];
        found.append(Extent{offset_bytes, one.length_bytes, one.flags});
        offset_bytes += one.length_bytes;
    }
    return found.release().ptr();
}

static PyObject *bytes_of(Request &request)
{
    auto asked = static_cast<int64_t>(request.view.bytes());
    PyObject *bytes = request.view.take();
    if (request.result != asked) {
        _PyBytes_Resize(&bytes, request.result);
    }
    return bytes;
}

PyObject *request_value(Request &request, ResultKind kind)
{
    switch (kind) {
    case ResultKind::COUNT: return PyLong_FromLongLong(request.result);
    case ResultKind::BYTES: return bytes_of(request);
    case ResultKind::EXTENTS: return extents_of(request);
    default: Py_RETURN_NONE;
    }
}

Refusal::Refusal(int rc)
    : error(rc == -EAGAIN ? ENOMEM : -rc),
      reason(rc == -EAGAIN ? "the arena has no room for the data of this request: release buffers, "
                             "or open with more arena_bytes"
                           : ovsshm_reason())
{
}

void raise_failure(Session &session, const Request &request)
{
    int error = static_cast<int>(-request.result);
    if (error == ENOTCONN && ovsshm_volume_state(session.volume) != 0) {
        raise_os_error(error, ovsshm_reason());
    }
    const char *why = strerrordesc_np(error);
    std::string reason = describe(request.io) + " of volume \"" + session.name +
                         "\" failed: " + (why ? why : "unknown error");
    uint64_t block_bytes = ovsshm_volume_limits(session.volume)->block_bytes;
    if (error == EINVAL && (request.io.offset_bytes | request.io.length_bytes) % block_bytes != 0) {
        reason += "; its blocks are of " + std::to_string(block_bytes) + " bytes";
    }
    raise_os_error(error, reason.c_str());
}
