/* SPDX-License-Identifier: MIT */
/* The client of the transport of 2015, with what its QEMU driver did: split, bounce, count. */
#ifndef HISTORICAL_CLIENT_H
#define HISTORICAL_CLIENT_H

#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "transport.h"

namespace historical
{

/* Buffers in the segment.  As many as the original took beforehand are kept, by size. */
class buffer_cache
{
  public:
    explicit buffer_cache(segment &shared) : shared_(shared)
    {
        for (size_class &one : classes_) {
            for (std::size_t i = 0; i < one.kept; i++) {
                one.free.push_back(shared_.allocate(one.bytes));
            }
        }
    }

    ~buffer_cache()
    {
        for (size_class &one : classes_) {
            for (void *buffer : one.free) {
                shared_.deallocate(buffer);
            }
        }
    }

    buffer_cache(const buffer_cache &) = delete;
    buffer_cache &operator=(const buffer_cache &) = delete;

    char *
    take(std::size_t bytes)
    {
        size_class &one = fitting(bytes);
        {
            std::lock_guard<std::mutex> hold(one.lock);
            if (!one.free.empty()) {
                void *buffer = one.free.back();
                one.free.pop_back();
                return static_cast<char *>(buffer);
            }
        }
        return static_cast<char *>(shared_.allocate(one.bytes));
    }

    void
    give(char *buffer, std::size_t bytes)
    {
        size_class &one = fitting(bytes);
        {
            std::lock_guard<std::mutex> hold(one.lock);
            if (one.free.size() <= one.kept) {
                one.free.push_back(buffer);
                return;
            }
        }
        shared_.deallocate(buffer);
    }

  private:
    struct size_class {
        std::size_t bytes, kept;
        std::mutex lock{};
        std::vector<void *> free{};
    };

    size_class &
    fitting(std::size_t bytes)
    {
        return bytes <= classes_[0].bytes ? classes_[0] : classes_[1];
    }

    segment &shared_;
    std::array<size_class, 2> classes_{{{4 << 10, 256}, {piece_bytes_max, 32}}};
};

struct io;

struct piece {
    io *whole;
    char *memory; /* of the user */
    char *buffer; /* in the segment */
    std::size_t size_bytes;
};

/* A request of the user, who keeps it and its memory until take_finished() returns it. */
struct io {
    direction way;
    std::uint64_t offset_bytes;
    std::size_t size_bytes; /* 0 of a write: a flush */
    char *memory;
    std::vector<piece> pieces{};
    std::atomic<std::size_t> pieces_left{0};
    std::atomic<bool> failed{false};
};

class client
{
  public:
    client(const std::string &prefix, const std::string &volume)
        : shared_(ipc::open_only, segment_name(prefix).c_str()), size_bytes_(size_of(volume)),
          buffers_(shared_), requests_{open(prefix, volume, reading, "request"),
                                       open(prefix, volume, writing, "request")},
          replies_{open(prefix, volume, reading, "reply"), open(prefix, volume, writing, "reply")}
    {
        for (direction way : {reading, writing}) {
            threads_[way] = std::thread([this, way] { take_replies(way); });
        }
    }

    ~client()
    {
        for (direction way : {reading, writing}) {
            send(replies_[way], reply{true, false, 0, 0});
            threads_[way].join();
        }
    }

    client(const client &) = delete;
    client &operator=(const client &) = delete;

    std::uint64_t
    size_bytes() const
    {
        return size_bytes_;
    }

    /* Blocks while a queue is full. */
    void
    submit(io &whole)
    {
        const std::size_t count =
            whole.size_bytes ? (whole.size_bytes + piece_bytes_max - 1) / piece_bytes_max : 1;
        whole.pieces.resize(count);
        whole.pieces_left = count;
        whole.failed = false;
        for (std::size_t i = 0, done = 0; i < count; i++) {
            piece &part = whole.pieces[i];
            const std::size_t bytes = std::min(piece_bytes_max, whole.size_bytes - done);
            part = piece{&whole, whole.memory + done, buffers_.take(bytes), bytes};
            if (whole.way == writing) {
                std::memcpy(part.buffer, part.memory, bytes);
            }
            send(requests_[whole.way], request{false, whole.offset_bytes + done, bytes,
                                               reinterpret_cast<std::uintptr_t>(&part),
                                               shared_.get_handle_from_address(part.buffer)});
            done += bytes;
        }
    }

    /* Blocks until there is one. */
    io &
    take_finished()
    {
        std::unique_lock<std::mutex> hold(lock_);
        finished_changed_.wait(hold, [this] { return !finished_.empty(); });
        io *whole = finished_.front();
        finished_.pop_front();
        return *whole;
    }

  private:
    std::uint64_t
    size_of(const std::string &volume)
    {
        const std::uint64_t *size = shared_.find<std::uint64_t>(volume.c_str()).first;
        if (!size) {
            throw std::runtime_error("there is no volume " + volume);
        }
        return *size;
    }

    static queue
    open(const std::string &prefix, const std::string &volume, direction way, const char *what)
    {
        return queue(ipc::open_only, queue_name(prefix, volume, way, what).c_str());
    }

    void
    take_replies(direction way)
    {
        for (;;) {
            const reply next = receive<reply>(replies_[way]);
            if (next.stop) {
                return;
            }
            finish(*reinterpret_cast<piece *>(next.opaque), next.failed);
        }
    }

    void
    finish(piece &part, bool failed)
    {
        io &whole = *part.whole;
        if (whole.way == reading && !failed) {
            std::memcpy(part.memory, part.buffer, part.size_bytes);
        }
        buffers_.give(part.buffer, part.size_bytes);
        if (failed) {
            whole.failed = true;
        }
        if (--whole.pieces_left == 0) {
            std::lock_guard<std::mutex> hold(lock_);
            finished_.push_back(&whole);
            finished_changed_.notify_one();
        }
    }

    segment shared_;
    std::uint64_t size_bytes_;
    buffer_cache buffers_;
    queue requests_[2], replies_[2];
    std::thread threads_[2];
    std::mutex lock_;
    std::condition_variable finished_changed_;
    std::deque<io *> finished_;
};

} // namespace historical

#endif
