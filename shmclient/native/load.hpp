/* SPDX-License-Identifier: MIT */
/*
 * A load on a volume: so many requests in flight, each replaced by another when it has completed.
 *
 * Threads: advance() in one at a time, without the GIL; stop() and the counters of requests in any.
 */
#ifndef SHMCLIENT_LOAD_HPP
#define SHMCLIENT_LOAD_HPP

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "histogram.hpp"
#include "request.hpp"
#include "session.hpp"

/* splitmix64: as random as a load has to be, and nearly free. */
class Random {
public:
    explicit Random(uint64_t seed) : state_(seed) {}

    uint64_t next()
    {
        uint64_t z = state_ += 0x9e3779b97f4a7c15;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        return z ^ z >> 31;
    }

    uint64_t below(uint64_t limit)
    {
        __extension__ using Wide = unsigned __int128;
        return static_cast<uint64_t>(static_cast<Wide>(next()) * limit >> 64);
    }

private:
    uint64_t state_;
};

struct LoadPlan {
    uint64_t read_percent; /* of the requests; the others are writes */
    bool random;           /* else one block after the other, over and over */
    uint64_t block_bytes;
    uint64_t depth;
    uint64_t offset_bytes; /* of the first block */
    uint64_t blocks;
    uint64_t seed;
};

struct LoadCounts {
    std::atomic<uint64_t> requests{0};
    Histogram latencies;
};

class Load {
public:
    /* OSError when the arena has no room for the requests. */
    Load(std::shared_ptr<Session> session, const LoadPlan &plan);

    /* True: the load is over; false: it is time to look for signals. */
    bool advance(uint64_t deadline_ns);
    void stop() { stopped_ = true; }

    const std::shared_ptr<Session> session;
    const LoadPlan plan;
    LoadCounts reads;
    LoadCounts writes;
    Request failed; /* the first with result < 0, which ends the load */
    uint64_t cpu_ns = 0;

private:
    struct Slot {
        void *into; /* of reads */
        void *from; /* of writes */
        uint64_t started_ns;
        ovsshm_io io;
    };

    void *allocate();
    void fill(void *buffer);
    void start(uint64_t now_ns);
    bool start(size_t slot, uint64_t now_ns);
    void finish(const ovsshm_completion &completion, uint64_t now_ns);

    std::vector<Slot> slots_;
    std::vector<size_t> idle_;
    Random random_;
    uint64_t next_block_ = 0;
    std::atomic<bool> stopped_{false};
};

void bind_load(pybind11::module_ &m);

#endif
