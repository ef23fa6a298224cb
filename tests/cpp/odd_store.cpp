/* SPDX-License-Identifier: MIT */
/*
 * A store for tests of store.hpp: memory, served by threads of its own; and where a request starts
 * decides what goes wrong with it.
 */
#include <condition_variable>
#include <cstring>
#include <deque>
#include <ios>
#include <map>
#include <mutex>
#include <new>
#include <stdexcept>
#include <thread>

#include <openvstorage/store.hpp>

using openvstorage::Buffers;
using openvstorage::Error;
using openvstorage::Extent;
using openvstorage::Request;
using openvstorage::Snapshot;

constexpr uint64_t ODD = 1ull << 40; /* from here on things go wrong, each at its own block */

enum Oddity : uint64_t {
    OWN_ERROR = ODD,
    SYSTEM_ERROR = ODD + 4096,
    OTHER_CATEGORY = ODD + 2 * 4096,
    NO_MEMORY = ODD + 3 * 4096,
    STANDARD = ODD + 4 * 4096,
    NUMBER = ODD + 5 * 4096,
    THROWN_BY_SUBMIT = ODD + 6 * 4096,
    DROPPED = ODD + 7 * 4096,
    KEPT_AND_THROWN = ODD + 8 * 4096,
    KEPT_FOR_EVER = ODD + 9 * 4096,
    BEYOND_BUFFERS = ODD + 10 * 4096,
    NO_EXTENTS = ODD + 11 * 4096,
    BAD_ERRNO = ODD + 12 * 4096,
    EXTENTS_BY_HAND = ODD + 13 * 4096,
};

/* Threads that perform requests. */
class Pool
{
  public:
    explicit Pool(unsigned count)
    {
        for (unsigned i = 0; i < count; i++) {
            threads_.emplace_back([this] { run(); });
        }
    }

    ~Pool()
    {
        {
            std::lock_guard guard(lock_);
            over_ = true;
        }
        filled_.notify_all();
        for (std::thread &thread : threads_) {
            thread.join();
        }
    }

    void add(Request &&request)
    {
        std::lock_guard guard(lock_);
        waiting_.push_back(std::move(request));
        filled_.notify_one();
    }

    void keep(Request &&request)
    {
        std::lock_guard guard(lock_);
        kept_.push_back(std::move(request));
    }

    void fail_kept()
    {
        std::lock_guard guard(lock_);
        for (Request &request : kept_) {
            request.fail(ESHUTDOWN);
        }
        kept_.clear();
    }

  private:
    void run()
    {
        std::unique_lock guard(lock_);
        for (;;) {
            filled_.wait(guard, [this] { return over_ || !waiting_.empty(); });
            if (waiting_.empty()) {
                return;
            }
            Request request = std::move(waiting_.front());
            waiting_.pop_front();
            guard.unlock();
            request.perform();
            guard.lock();
        }
    }

    std::mutex lock_;
    std::condition_variable filled_;
    bool over_ = false;
    std::deque<Request> waiting_;
    std::vector<Request> kept_;
    std::vector<std::thread> threads_;
};

struct Image {
    std::mutex lock;
    std::string data;
    std::vector<std::pair<Snapshot, std::string>> snapshots;
    unsigned flushes = 0;
};

class OddVolume : public openvstorage::Volume
{
  public:
    OddVolume(std::shared_ptr<Image> image, Pool &pool) : image_(std::move(image)), pool_(pool) {}

    void submit(Request &&request) override
    {
        switch (request.offset_bytes()) {
        case THROWN_BY_SUBMIT: throw Error(EDQUOT, "submit() throws");
        case DROPPED: {
            Request dropped = std::move(request);
            return;
        }
        case KEPT_AND_THROWN: pool_.keep(std::move(request)); throw std::runtime_error("too late");
        case KEPT_FOR_EVER: return pool_.keep(std::move(request));
        case BAD_ERRNO: return request.fail(-5);
        case EXTENTS_BY_HAND:
            return request.complete({{512, true, true}, {0, false, false}, {1u << 30, false, true}});
        default: pool_.add(std::move(request));
        }
    }

    void pread(Buffers to, uint64_t offset_bytes) override
    {
        std::lock_guard guard(image_->lock);
        odd(offset_bytes, to);
        if (offset_bytes < image_->data.size()) {
            to.put(image_->data.data() + offset_bytes, to.size_bytes(), 0);
        } else {
            to.put_zeroes(to.size_bytes(), 0);
        }
    }

    void pwrite(Buffers from, uint64_t offset_bytes) override
    {
        std::lock_guard guard(image_->lock);
        uint64_t at = offset_bytes;
        odd(offset_bytes, from);
        for (const iovec &piece : from) { /* the other way to get at the pieces */
            std::memcpy(&image_->data.at(at), piece.iov_base, piece.iov_len);
            at += piece.iov_len;
        }
    }

    void flush() override
    {
        std::lock_guard guard(image_->lock);
        image_->flushes++;
    }

    std::vector<Extent> block_status(uint64_t length_bytes, uint64_t offset_bytes) override
    {
        if (offset_bytes == NO_EXTENTS) {
            return {};
        }
        /* More than was asked for is cut off. */
        return {{length_bytes / 2, false, false}, {length_bytes, false, true}};
    }

  private:
    static void odd(uint64_t offset_bytes, const Buffers &buffers)
    {
        char byte = 0;
        switch (offset_bytes) {
        case OWN_ERROR: throw Error(ENOSPC, "it is full");
        case SYSTEM_ERROR: throw std::system_error(EROFS, std::system_category(), "no");
        case OTHER_CATEGORY: throw std::system_error(std::make_error_code(std::io_errc::stream));
        case NO_MEMORY: throw std::bad_alloc();
        case STANDARD: throw std::runtime_error("something\nelse");
        case NUMBER: throw 42;
        case BEYOND_BUFFERS: buffers.put(&byte, 1, buffers.size_bytes()); break;
        default: break;
        }
    }

    std::shared_ptr<Image> image_;
    Pool &pool_;
};

class OddStore : public openvstorage::Store<OddVolume>
{
  public:
    static constexpr const char *store_name = "odd";
    static constexpr const char *store_summary = "does what it should not";
    static constexpr const char *store_options = "threads=N, block=N, mode=rw|ro|throw|pool\n";

    explicit OddStore(openvstorage::Options &options)
        : block_(static_cast<uint32_t>(options.number("block", 1, 1, 4096))),
          mode_(options.text("mode", "rw")),
          pool_(static_cast<unsigned>(options.number("threads", 3, 1, 8)))
    {
        if (mode_ == "throw") {
            throw std::runtime_error("thrown by the constructor");
        }
        if (mode_ == "pool" && options.pool() != "/") {
            throw Error(ENOTDIR, "not that pool");
        }
    }

    void stop() noexcept override { pool_.fail_kept(); }

    uint32_t block_bytes() const override { return block_; }

    uint64_t capabilities(uint64_t implemented) const override
    {
        return mode_ == "ro" ? implemented & ~uint64_t{OVSSHM_CAP_WRITE} : implemented;
    }

    /* "big" is as large as the oddities need; it has data at its start only. */
    std::optional<uint64_t> size(const std::string &name) override
    {
        std::lock_guard guard(lock_);
        auto found = images_.find(name);
        if (name == "throws") {
            throw std::runtime_error("no size");
        }
        return name == "big"              ? std::optional(2 * ODD)
               : found == images_.end() ? std::nullopt
                                        : std::optional(uint64_t{found->second->data.size()});
    }

    std::vector<std::string> list() override
    {
        std::lock_guard guard(lock_);
        std::vector<std::string> names = {"gone meanwhile"};
        for (const auto &entry : images_) {
            names.push_back(entry.first);
        }
        return names;
    }

    std::unique_ptr<OddVolume> open(const std::string &name) override
    {
        std::lock_guard guard(lock_);
        if (name == "big") {
            images_.try_emplace(name, std::make_shared<Image>());
        }
        return std::make_unique<OddVolume>(images_.at(name), pool_);
    }

    void create(const std::string &name, uint64_t size_bytes) override
    {
        std::lock_guard guard(lock_);
        if (name == "full") {
            throw Error(ENOSPC, "there is no room for that");
        }
        if (name == "plain") {
            throw std::system_error(ENOSPC, std::generic_category());
        }
        auto image = std::make_shared<Image>();
        image->data.resize(size_bytes);
        images_[name] = std::move(image);
    }

    void remove(const std::string &name) override
    {
        std::lock_guard guard(lock_);
        images_.erase(name);
    }

    void snapshot_create(const std::string &name, OddVolume *, const std::string &snapshot,
                         int64_t) override
    {
        Image &image = *find(name);
        image.snapshots.push_back({{snapshot, image.data.size(), 0, 1}, image.data});
    }

    void snapshot_rollback(const std::string &name, OddVolume *,
                           const std::string &snapshot) override
    {
        Image &image = *find(name);
        while (image.snapshots.back().first.name != snapshot) {
            image.snapshots.pop_back();
        }
        image.data = image.snapshots.back().second;
    }

    void snapshot_remove(const std::string &name, const std::string &snapshot) override
    {
        auto &all = find(name)->snapshots;
        for (auto one = all.begin(); one != all.end(); ++one) {
            if (one->first.name == snapshot) {
                all.erase(one);
                return;
            }
        }
    }

    std::vector<Snapshot> snapshot_list(const std::string &name) override
    {
        std::vector<Snapshot> list;
        const std::shared_ptr<Image> image = find(name);
        for (size_t i = 0; image && i < image->snapshots.size(); i++) {
            list.push_back(image->snapshots[i].first);
        }
        return list;
    }

  private:
    std::shared_ptr<Image> find(const std::string &name)
    {
        std::lock_guard guard(lock_);
        auto found = images_.find(name);
        return found == images_.end() ? nullptr : found->second;
    }

    const uint32_t block_;
    const std::string mode_;
    std::mutex lock_;
    std::map<std::string, std::shared_ptr<Image>> images_;
    Pool pool_; /* its threads end first */
};

OVSSHM_STORE_PLUGIN(OddStore)
