/* SPDX-License-Identifier: MIT */
/*
 * The shared-memory transport of 2015, as far as its figures depend on it: per volume four message
 * queues, and one segment for the data of everybody.  See README.md.
 */
#ifndef HISTORICAL_TRANSPORT_H
#define HISTORICAL_TRANSPORT_H

#include <boost/interprocess/ipc/message_queue.hpp>
#include <boost/interprocess/managed_shared_memory.hpp>
#include <cstddef>
#include <cstdint>
#include <string>

namespace historical
{

namespace ipc = boost::interprocess;
using segment = ipc::managed_shared_memory;
using queue = ipc::message_queue;

constexpr std::size_t segment_bytes = 256 << 20;
constexpr std::size_t queue_depth = 128;
constexpr std::size_t piece_bytes_max = 32 << 10; /* longer requests are split */
constexpr unsigned priority = 0;                  /* of all messages: first in, first out */

enum direction {
    reading,
    writing
};

struct request {
    bool stop;
    std::uint64_t offset_bytes;
    std::size_t size_bytes; /* 0 of a write: a flush */
    std::uintptr_t opaque;
    std::ptrdiff_t handle; /* of the data, in the segment */
};

struct reply {
    bool stop;
    bool failed;
    std::uintptr_t opaque; /* of the request */
    std::size_t size_bytes;
};

static_assert(sizeof(request) == 40 && sizeof(reply) == 24, "the sizes of the original");

inline std::string
segment_name(const std::string &prefix)
{
    return prefix + "-segment";
}

inline std::string
queue_name(const std::string &prefix, const std::string &volume, direction way, const char *what)
{
    return prefix + "-" + volume + (way == reading ? "-read-" : "-write-") + what;
}

template <class Message>
void
send(queue &to, const Message &message)
{
    to.send(&message, sizeof(message), priority);
}

template <class Message>
Message
receive(queue &from)
{
    Message message;
    queue::size_type received;
    unsigned from_priority;
    from.receive(&message, sizeof(message), received, from_priority);
    return message;
}

} // namespace historical

#endif
