/* SPDX-License-Identifier: MIT */
/*
 * Latencies counted in buckets: 128 to each power of two, so that what is said about a latency is
 * right within 0.4 %, from nanoseconds to centuries.
 *
 * Threads: one at a time.
 */
#ifndef SHMCLIENT_HISTOGRAM_HPP
#define SHMCLIENT_HISTOGRAM_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

class Histogram {
public:
    void add(uint64_t latency_ns)
    {
        counts_[index_of(latency_ns)]++;
        count_++;
        sum_ns_ += latency_ns;
        min_ns_ = std::min(min_ns_, latency_ns);
        max_ns_ = std::max(max_ns_, latency_ns);
    }

    uint64_t count() const { return count_; }
    uint64_t min_ns() const { return count_ ? min_ns_ : 0; }
    uint64_t max_ns() const { return max_ns_; }
    double mean_ns() const
    {
        return count_ ? static_cast<double>(sum_ns_) / static_cast<double>(count_) : 0;
    }

    /* The least latency that so many per cent do not exceed; 0 when nothing was counted. */
    uint64_t percentile_ns(double percent) const
    {
        auto rank = static_cast<uint64_t>(std::ceil(static_cast<double>(count_) * percent / 100));
        rank = std::min(std::max<uint64_t>(rank, 1), count_);
        if (rank == count_) {
            return max_ns();
        }
        uint64_t seen = 0;
        size_t index = 0;
        while ((seen += counts_[index]) < rank) {
            index++;
        }
        return std::min(std::max(middle_of(index), min_ns_), max_ns_);
    }

    void merge(const Histogram &other)
    {
        for (size_t i = 0; i < BUCKETS; i++) {
            counts_[i] += other.counts_[i];
        }
        count_ += other.count_;
        sum_ns_ += other.sum_ns_;
        min_ns_ = std::min(min_ns_, other.min_ns_);
        max_ns_ = std::max(max_ns_, other.max_ns_);
    }

private:
    static constexpr unsigned PRECISION_BITS = 7;
    static constexpr size_t STEPS = 1u << PRECISION_BITS; /* to a power of two */
    static constexpr size_t BUCKETS = (64 - PRECISION_BITS + 1) * STEPS;

    /* Below 2 * STEPS a bucket is a nanosecond; from there on each power of two has STEPS. */
    static size_t index_of(uint64_t value)
    {
        unsigned bits = 64 - static_cast<unsigned>(__builtin_clzll(value | 1));
        unsigned shift = bits > PRECISION_BITS + 1 ? bits - PRECISION_BITS - 1 : 0;
        return shift * STEPS + static_cast<size_t>(value >> shift);
    }

    static uint64_t middle_of(size_t index)
    {
        uint64_t shift = index < 2 * STEPS ? 0 : index / STEPS - 1;
        uint64_t low = (index - shift * STEPS) << shift;
        return low + ((uint64_t{1} << shift) - 1) / 2;
    }

    std::vector<uint64_t> counts_ = std::vector<uint64_t>(BUCKETS);
    uint64_t count_ = 0;
    uint64_t sum_ns_ = 0;
    uint64_t min_ns_ = UINT64_MAX;
    uint64_t max_ns_ = 0;
};

#endif
