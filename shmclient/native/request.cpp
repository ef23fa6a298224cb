/* SPDX-License-Identifier: MIT */
#include "request.hpp"

#include <cerrno>
#include <cstring>
#include <string>

#include "convert.hpp"

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

void raise_failure(Session &session, const Request &request)
{
    int error = static_cast<int>(-request.result);
    if (error == ENOTCONN && ovsshm_volume_state(session.volume) != 0) {
        raise_os_error(error, ovsshm_reason());
    }
    const char *why = strerrordesc_np(error);
    std::string reason = describe(request.io) + " of volume \"" + session.name +
                         "\" failed: " + (why ? why : "unknown error");
    raise_os_error(error, reason.c_str());
}
