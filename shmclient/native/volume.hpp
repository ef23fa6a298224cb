/* SPDX-License-Identifier: MIT */
/*
 * Volume as Python has it: what it shares with C, and the calls about all of it.  Reading and
 * writing is in transfer.cpp, batches in batch.cpp, block-status in extents.cpp.
 *
 * Threads: any, with the GIL.  A call keeps what it uses: close() in another thread ends it with
 * ENOTCONN, and frees nothing that it still needs.
 */
#ifndef SHMCLIENT_VOLUME_HPP
#define SHMCLIENT_VOLUME_HPP

#include <memory>
#include <optional>

#include <pybind11/pybind11.h>

#include "convert.hpp"
#include "session.hpp"
#include "turns.hpp"

class Volume {
public:
    Volume(std::shared_ptr<Session> session, bool writable)
        : turns_(std::make_shared<Turns>(std::move(session))), writable_(writable)
    {
    }
    ~Volume() { close(); }

    void close();
    bool closed() const { return !turns_; }

    /* ValueError when closed, RuntimeError after fork(). */
    std::shared_ptr<Turns> turns() const;
    std::shared_ptr<Session> session() const { return turns()->session; }

    /* Leaves this one closed. */
    std::shared_ptr<Session> take_session();

    py::str name() const { return text(session()->name.c_str()); }
    bool writable() const { return session() && writable_; }
    uint64_t size_bytes() const { return ovsshm_volume_bytes(session()->volume); }
    ovsshm_limits limits() const { return *ovsshm_volume_limits(session()->volume); }
    ovsshm_volume_info stat() const;
    void resize(Count size_bytes) const;
    void set_writable(bool writable);
    py::list events() const;
    py::object wait_event(std::optional<double> timeout_s) const;
    py::object buffer(Count length_bytes) const;

private:
    std::shared_ptr<Turns> turns_;
    bool writable_;
};

using VolumeClass = py::class_<Volume>;

VolumeClass bind_volume(py::module_ &m);
void bind_transfer(VolumeClass &cls);
void bind_batch(py::module_ &m, VolumeClass &cls);
void bind_extents(py::module_ &m, VolumeClass &cls);

#endif
