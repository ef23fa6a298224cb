/* SPDX-License-Identifier: MIT */
#include "control.hpp"

#include "wait.hpp"

namespace control {

ovsshm_volume_info stat(const SharedSession &session)
{
    auto info = std::make_shared<ovsshm_volume_info>();
    checked([session, info] { return ovsshm_volume_stat(session->volume, info.get()); });
    return *info;
}

void resize(const SharedSession &session, uint64_t size_bytes)
{
    checked([session, size_bytes] { return ovsshm_volume_resize(session->volume, size_bytes); });
}

void set_writable(const SharedSession &session, bool writable)
{
    checked([session, writable] {
        uint32_t mode = writable ? OVSSHM_MODE_WRITE : OVSSHM_MODE_READ;
        return ovsshm_volume_set_mode(session->volume, mode);
    });
    session->writable = writable;
}

py::object next_event(const SharedSession &session)
{
    ovsshm_msg_event event;
    return ovsshm_volume_event(session->volume, &event) == 1 ? py::cast(event) : py::object();
}

py::list events(const SharedSession &session)
{
    py::list found;
    while (py::object event = next_event(session)) {
        found.append(event);
    }
    return found;
}

void check_alive(const SharedSession &session)
{
    int state = ovsshm_volume_state(session->volume);
    if (state != 0) {
        raise_os_error(-state, ovsshm_reason());
    }
}

} // namespace control
