/* SPDX-License-Identifier: MIT */
/*
 * Requests for the ring and the memory they use, which is held until C has completed them.
 *
 * Threads: made and destroyed with the GIL; the rest without.
 */
#ifndef SHMCLIENT_REQUEST_HPP
#define SHMCLIENT_REQUEST_HPP

#include <cstddef>
#include <memory>
#include <string>

#include <openvstorage/shm.h>

#include "memory.hpp"
#include "session.hpp"

struct Request {
    static constexpr size_t EXTENTS_MAX = 512; /* per block-status */

    /* Fill in what the op needs; each returns the request. */
    Request &read(View into, uint64_t offset_bytes)
    {
        return transfer(OVSSHM_OP_READ, std::move(into), offset_bytes);
    }
    Request &readv(Views into, uint64_t offset_bytes)
    {
        return transfer(OVSSHM_OP_READ, std::move(into), offset_bytes);
    }
    Request &write(View from, uint64_t offset_bytes, bool fua)
    {
        transfer(OVSSHM_OP_WRITE, std::move(from), offset_bytes);
        return with_flags(fua ? OVSSHM_SQE_FUA : 0);
    }
    Request &writev(Views from, uint64_t offset_bytes, bool fua)
    {
        transfer(OVSSHM_OP_WRITE, std::move(from), offset_bytes);
        return with_flags(fua ? OVSSHM_SQE_FUA : 0);
    }
    Request &flush() { return range(OVSSHM_OP_FLUSH, 0, 0); }
    Request &discard(uint64_t length_bytes, uint64_t offset_bytes)
    {
        return range(OVSSHM_OP_DISCARD, length_bytes, offset_bytes);
    }
    Request &write_zeroes(uint64_t length_bytes, uint64_t offset_bytes, bool may_unmap, bool fua)
    {
        range(OVSSHM_OP_WRITE_ZEROES, length_bytes, offset_bytes);
        return with_flags((may_unmap ? OVSSHM_SQE_MAY_UNMAP : 0) | (fua ? OVSSHM_SQE_FUA : 0));
    }
    Request &block_status(uint64_t length_bytes, uint64_t offset_bytes)
    {
        range(OVSSHM_OP_BLOCK_STATUS, length_bytes, offset_bytes);
        extents.reset(new ovsshm_extent[EXTENTS_MAX]);
        io.buffer = extents.get();
        io.extents_max = EXTENTS_MAX;
        return *this;
    }

    /* Nothing to do: Python's files do nothing too; C refuses it. */
    bool empty() const { return io.length_bytes == 0 && io.op != OVSSHM_OP_FLUSH; }

    ovsshm_io io = {};
    int64_t result = 0; /* as struct ovsshm_completion */
    View view;
    Views views;
    std::unique_ptr<ovsshm_extent[]> extents;

private:
    Request &range(uint8_t op, uint64_t length_bytes, uint64_t offset_bytes)
    {
        io.op = op;
        io.length_bytes = length_bytes;
        io.offset_bytes = offset_bytes;
        return *this;
    }
    Request &with_flags(int flags)
    {
        io.flags = static_cast<uint8_t>(flags);
        return *this;
    }
    Request &transfer(uint8_t op, View memory, uint64_t offset_bytes)
    {
        view = std::move(memory);
        io.buffer = view.data();
        return range(op, view.bytes(), offset_bytes);
    }
    Request &transfer(uint8_t op, Views memory, uint64_t offset_bytes)
    {
        views = std::move(memory);
        io.iov = views.ranges().data();
        io.iov_count = static_cast<uint32_t>(views.ranges().size());
        return range(op, views.bytes(), offset_bytes);
    }
};

/* What the result of a request is made of. */
enum class ResultKind : char { COUNT, BYTES, NOTHING, EXTENTS };

/* The result of a request that has not failed; takes what it read.  nullptr with an exception. */
PyObject *request_value(Request &request, ResultKind kind);

/* Why C did not take a request, with nothing in flight that could make room for it. */
struct Refusal {
    explicit Refusal(int rc);

    int error;
    std::string reason;
};

/* Raises the OSError of a request whose result is negative. */
[[noreturn]] void raise_failure(Session &session, const Request &request);

#endif
