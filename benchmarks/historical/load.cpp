/* SPDX-License-Identifier: MIT */
/*
 * historical-load PREFIX qemu-img bench [OPTION...] VOLUME   the options of `qemu-img bench`
 * historical-load PREFIX check VOLUME                        is what was written what is read?
 *
 * In place of QEMU: requests of one size, one after the other through the volume, so many in
 * flight.
 */
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <getopt.h>
#include <memory>
#include <stdexcept>

#include "client.h"

using namespace historical;

namespace
{

struct load {
    bool write = false;
    unsigned long count = 75000, depth = 64, flush_interval = 0;
    std::size_t size_bytes = 4096;
    int pattern = 0;
};

/* "1M" as qemu-img has it. */
std::size_t
size_of(const char *text)
{
    char *end;
    const std::size_t number = std::strtoull(text, &end, 10);
    return number << (*end == 'M' ? 20 : *end == 'k' || *end == 'K' ? 10 : 0);
}

load
parse(int argc, char **argv)
{
    static const option longs[] = {{"pattern", required_argument, nullptr, 'p'},
                                   {"flush-interval", required_argument, nullptr, 'F'},
                                   {nullptr, 0, nullptr, 0}};
    load wanted;
    for (int c; (c = getopt_long(argc, argv, "c:d:s:wq", longs, nullptr)) != -1;) {
        switch (c) {
        case 'c': wanted.count = std::strtoul(optarg, nullptr, 10); break;
        case 'd': wanted.depth = std::strtoul(optarg, nullptr, 10); break;
        case 's': wanted.size_bytes = size_of(optarg); break;
        case 'w': wanted.write = true; break;
        case 'p': wanted.pattern = std::atoi(optarg); break;
        case 'F': wanted.flush_interval = std::strtoul(optarg, nullptr, 10); break;
        case 'q': break;
        default: throw std::runtime_error("unknown option");
        }
    }
    return wanted;
}

io &
take_good(client &from)
{
    io &whole = from.take_finished();
    if (whole.failed) {
        throw std::runtime_error("a request has failed");
    }
    return whole;
}

void
run_one(client &through, io &whole)
{
    through.submit(whole);
    take_good(through);
}

/* Writes are flushed, after all in flight, as often as is wanted. */
void
run(client &through, const load &wanted)
{
    const unsigned long slots =
        wanted.flush_interval ? std::min(wanted.depth, wanted.flush_interval) : wanted.depth;
    std::vector<char> memory(slots * wanted.size_bytes, static_cast<char>(wanted.pattern));
    std::vector<std::unique_ptr<io>> ios(slots);
    std::vector<io *> free;
    for (unsigned long i = 0; i < slots; i++) {
        ios[i] = std::make_unique<io>();
        ios[i]->way = wanted.write ? writing : reading;
        ios[i]->size_bytes = wanted.size_bytes;
        ios[i]->memory = &memory[i * wanted.size_bytes];
        free.push_back(ios[i].get());
    }
    io flush{writing, 0, 0, nullptr};
    std::uint64_t offset = 0;
    for (unsigned long begun = 0, done = 0; done < wanted.count;) {
        const bool flush_due =
            wanted.flush_interval && begun > done && begun % wanted.flush_interval == 0;
        while (!free.empty() && begun < wanted.count && !flush_due) {
            if (offset + wanted.size_bytes > through.size_bytes()) {
                offset = 0;
            }
            free.back()->offset_bytes = offset;
            through.submit(*free.back());
            free.pop_back();
            offset += wanted.size_bytes;
            begun++;
            if (wanted.flush_interval && begun % wanted.flush_interval == 0) {
                break;
            }
        }
        free.push_back(&take_good(through));
        done++;
        if (wanted.flush_interval && done == begun && done % wanted.flush_interval == 0) {
            run_one(through, flush);
        }
    }
}

/* Every word says where it is. */
void
fill(std::vector<std::uint64_t> &words, std::uint64_t offset)
{
    for (std::uint64_t &word : words) {
        word = (offset += sizeof(word)) * 0x9e3779b97f4a7c15;
    }
}

void
check(client &through)
{
    constexpr std::size_t write_bytes = 100 << 10, read_bytes = 36 << 10; /* neither is a piece */
    const std::uint64_t end = std::min<std::uint64_t>(through.size_bytes(), 8 << 20);
    std::vector<std::uint64_t> words, expected;
    for (direction way : {writing, reading}) {
        const std::size_t step = way == writing ? write_bytes : read_bytes;
        for (std::uint64_t at = 0; at < end; at += step) {
            const std::size_t bytes = std::min<std::uint64_t>(step, end - at);
            expected.resize(bytes / sizeof(expected[0]));
            fill(expected, at);
            words = way == writing ? expected : std::vector<std::uint64_t>(expected.size());
            io whole{way, at, bytes, reinterpret_cast<char *>(words.data())};
            run_one(through, whole);
            if (words != expected) {
                throw std::runtime_error("wrong data at " + std::to_string(at));
            }
        }
    }
}

} // namespace

int
main(int argc, char **argv)
try {
    if (argc < 4) {
        std::fprintf(stderr, "usage: historical-load PREFIX qemu-img bench [OPTION...] VOLUME\n"
                             "       historical-load PREFIX check VOLUME\n");
        return 2;
    }
    client through(argv[1], argv[argc - 1]);
    if (!std::strcmp(argv[2], "check")) {
        check(through);
        return 0;
    }
    const load wanted = parse(argc - 3, argv + 3);
    const auto start = std::chrono::steady_clock::now();
    run(through, wanted);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    std::printf("Run completed in %.6f seconds.\n", seconds.count());
    return 0;
} catch (const std::exception &error) {
    std::fprintf(stderr, "historical-load: %s\n", error.what());
    return 1;
}
