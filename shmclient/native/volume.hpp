/* SPDX-License-Identifier: MIT */
/*
 * Volume: an open volume that any thread may use.  Reading and writing is in transfer.cpp, batches
 * in batch.cpp, block-status in extents.cpp.
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
    explicit Volume(std::shared_ptr<Session> session)
        : turns_(std::make_shared<Turns>(std::move(session)))
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

    py::object wait_event(std::optional<double> timeout_s) const;

private:
    std::shared_ptr<Turns> turns_;
};

using VolumeClass = py::class_<Volume>;

VolumeClass bind_volume(py::module_ &m);
void bind_transfer(VolumeClass &cls);
void bind_batch(py::module_ &m, VolumeClass &cls);
void bind_extents(py::module_ &m, VolumeClass &cls);

#endif
