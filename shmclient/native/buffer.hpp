/* SPDX-License-Identifier: MIT */
/*
 * Buffer: a piece of a volume's shared arena as a Python object with the buffer protocol.
 *
 * It holds the shared memory, not the session: it stays valid when the volume is closed.  The views
 * of it are counted, so that nobody sees memory that has been given back.
 */
#ifndef SHMCLIENT_BUFFER_HPP
#define SHMCLIENT_BUFFER_HPP

#include <memory>

#include <pybind11/pybind11.h>

#include "session.hpp"

void bind_buffer(pybind11::module_ &m);

/* OSError ENOMEM when the arena is full. */
pybind11::object make_buffer(const std::shared_ptr<Session> &session, uint64_t length_bytes);

#endif
