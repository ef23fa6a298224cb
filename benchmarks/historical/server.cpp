/* SPDX-License-Identifier: MIT */
/*
 * historical-server PREFIX VOLUMES BYTES READY-FILE
 *
 * Serves volumes "0", "1", ... from memory until SIGTERM: two threads each, which do one request
 * after the other.
 */
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <thread>
#include <vector>

#include <boost/interprocess/shared_memory_object.hpp>

#include "transport.h"

using namespace historical;

namespace
{

class served_volume
{
  public:
    served_volume(segment &shared, const std::string &prefix, const std::string &name,
                  std::size_t size_bytes)
        : shared_(shared), size_bytes_(size_bytes), data_(new char[size_bytes]())
    {
        shared.construct<std::uint64_t>(name.c_str())(size_bytes);
        for (direction way : {reading, writing}) {
            const std::string in = queue_name(prefix, name, way, "request");
            const std::string out = queue_name(prefix, name, way, "reply");
            names_.insert(names_.end(), {in, out});
            auto requests =
                std::make_shared<queue>(ipc::create_only, in.c_str(), queue_depth, sizeof(request));
            auto replies =
                std::make_shared<queue>(ipc::create_only, out.c_str(), queue_depth, sizeof(reply));
            std::thread([this, way, requests, replies] {
                serve(way, *requests, *replies);
            }).detach(); /* ends with the process */
        }
    }

    void
    unlink() const
    {
        for (const std::string &name : names_) {
            queue::remove(name.c_str());
        }
    }

  private:
    void
    serve(direction way, queue &requests, queue &replies)
    {
        for (;;) {
            const request next = receive<request>(requests);
            send(replies, reply{false, !transfer(way, next), next.opaque, next.size_bytes});
        }
    }

    bool
    transfer(direction way, const request &next)
    {
        if (next.offset_bytes > size_bytes_ || next.size_bytes > size_bytes_ - next.offset_bytes) {
            return false;
        }
        char *const stored = data_.get() + next.offset_bytes;
        char *const buffer = static_cast<char *>(shared_.get_address_from_handle(next.handle));
        std::memcpy(way == reading ? buffer : stored, way == reading ? stored : buffer,
                    next.size_bytes);
        return true;
    }

    segment &shared_;
    std::size_t size_bytes_;
    std::unique_ptr<char[]> data_;
    std::vector<std::string> names_;
};

} // namespace

int
main(int argc, char **argv)
{
    if (argc != 5) {
        std::fprintf(stderr, "usage: historical-server PREFIX VOLUMES BYTES READY-FILE\n");
        return 2;
    }
    const std::string prefix = argv[1];
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, nullptr);

    segment shared(ipc::create_only, segment_name(prefix).c_str(), segment_bytes);
    std::vector<std::unique_ptr<served_volume>> volumes;
    for (int i = 0; i < std::atoi(argv[2]); i++) {
        volumes.push_back(std::make_unique<served_volume>(shared, prefix, std::to_string(i),
                                                          std::strtoull(argv[3], nullptr, 10)));
    }
    std::ofstream(argv[4]) << "ready\n";
    int signal_number;
    sigwait(&ends, &signal_number);
    for (const auto &volume : volumes) {
        volume->unlink();
    }
    ipc::shared_memory_object::remove(segment_name(prefix).c_str());
    std::_Exit(0); /* the threads are in the middle of it */
}
