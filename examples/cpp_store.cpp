/* SPDX-License-Identifier: MIT */
/*
 * A store in C++ that keeps equal blocks once: thin volumes in memory, with snapshots that cost
 * nothing until something is written.
 *
 *     g++ -std=c++17 -O2 -shared -fPIC cpp_store.cpp -o dedup.so \
 *         $(pkg-config --cflags openvstorage-shm-server)
 *     shmserver --store ./dedup.so --store-option block=4096
 *
 * The same as a Python module, of which shmserver takes the class; its data path never sees Python:
 *
 *     g++ -std=c++17 -O2 -shared -fPIC -DPYTHON_MODULE cpp_store.cpp -o cpp_store.so \
 *         $(python3 -m pybind11 --includes) $(pkg-config --cflags openvstorage-shm-server)
 *     PYTHONPATH=. shmserver --store cpp_store:Dedup --store-option block=4096
 */
#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>
#include <unordered_map>

#include <openvstorage/store.hpp>

using openvstorage::Buffers;
using openvstorage::Extent;
using openvstorage::Snapshot;
using Guard = std::lock_guard<std::mutex>;

/* A block is its contents; nullptr is a hole. */
using Block = std::shared_ptr<const std::string>;

/* Each contents once, for as long as somebody has it. */
struct Blocks {
    const std::string zeroes;
    std::unordered_map<std::string, std::weak_ptr<const std::string>> known;

    Block intern(std::string contents)
    {
        if (contents == zeroes) {
            return nullptr;
        }
        auto place = known.try_emplace(std::move(contents)).first;
        Block block = place->second.lock();
        if (!block) { /* it points to the key of the entry; its last user removes that */
            auto forget = [this](const std::string *key) { known.erase(known.find(*key)); };
            place->second = block = Block(&place->first, forget);
        }
        return block;
    }
};

/* A volume, open or not. */
struct Image {
    uint64_t size_bytes;
    std::vector<Block> blocks;
    std::vector<std::pair<Snapshot, std::vector<Block>>> snapshots;

    auto find(const std::string &snapshot)
    {
        return std::find_if(snapshots.begin(), snapshots.end(),
                            [&](const auto &one) { return one.first.name == snapshot; });
    }
};

/* An open volume.  Reactors call several at once, and all share the blocks: one lock for all. */
class Disk : public openvstorage::Volume
{
  public:
    Disk(Image &image, Blocks &blocks, std::mutex &lock)
        : image_(image), blocks_(blocks), lock_(lock)
    {
    }

    void pread(Buffers to, uint64_t offset) override
    {
        each(to.size_bytes(), offset, [&](Block &block, size_t from, size_t bytes, size_t at) {
            to.put((block ? *block : blocks_.zeroes).data() + from, bytes, at);
        });
    }

    void pwrite(Buffers from, uint64_t offset) override
    {
        each(from.size_bytes(), offset, [&](Block &block, size_t to, size_t bytes, size_t at) {
            std::string contents = block ? *block : blocks_.zeroes;
            from.get(contents.data() + to, bytes, at);
            block = blocks_.intern(std::move(contents));
        });
    }

    void write_zeroes(uint64_t length, uint64_t offset, bool) override
    {
        each(length, offset, [&](Block &block, size_t to, size_t bytes, size_t) {
            if (block) {
                std::string contents = *block;
                contents.replace(to, bytes, bytes, '\0');
                block = blocks_.intern(std::move(contents));
            }
        });
    }

    void discard(uint64_t length, uint64_t offset) override { write_zeroes(length, offset, true); }

    std::vector<Extent> block_status(uint64_t length, uint64_t offset) override
    {
        std::vector<Extent> extents;
        each(length, offset, [&](Block &block, size_t, size_t bytes, size_t) {
            if (extents.empty() || extents.back().hole != !block) {
                extents.push_back({0, !block, !block});
            }
            extents.back().length_bytes += bytes;
        });
        return extents;
    }

  private:
    /* act(block, offset in it, bytes in it, bytes before it) for all that the range touches. */
    template <class Act> void each(uint64_t length, uint64_t offset, Act act)
    {
        Guard guard(lock_);
        const uint64_t block_bytes = blocks_.zeroes.size();
        for (uint64_t done = 0; done < length;) {
            const uint64_t in_block = (offset + done) % block_bytes;
            const uint64_t bytes = std::min(length - done, block_bytes - in_block);
            act(image_.blocks[(offset + done) / block_bytes], in_block, bytes, done);
            done += bytes;
        }
    }

    Image &image_;
    Blocks &blocks_;
    std::mutex &lock_;
};

class Dedup : public openvstorage::Store<Disk>
{
  public:
    static constexpr const char *store_name = "dedup";
    static constexpr const char *store_summary = "volumes in memory, equal blocks once";
    static constexpr const char *store_options = "block=BYTES   of a block, default 4096\n";

    explicit Dedup(openvstorage::Options &options)
        : blocks_{std::string(options.number("block", 4096, 512, 1 << 20), '\0'), {}}
    {
    }

    std::optional<uint64_t> size(const std::string &name) override
    {
        Guard guard(lock_);
        const auto found = images_.find(name);
        return found == images_.end() ? std::nullopt : std::optional(found->second.size_bytes);
    }

    uint64_t allocated(const std::string &name) override
    {
        Guard guard(lock_);
        const auto found = images_.find(name);
        return found == images_.end() ? 0 : allocated_bytes(found->second);
    }

    std::vector<std::string> list() override
    {
        Guard guard(lock_);
        std::vector<std::string> names;
        for (const auto &entry : images_) {
            names.push_back(entry.first);
        }
        return names;
    }

    void create(const std::string &name, uint64_t size_bytes) override
    {
        Guard guard(lock_);
        images_[name] = {size_bytes, std::vector<Block>(block_count(size_bytes)), {}};
    }

    void remove(const std::string &name) override
    {
        Guard guard(lock_);
        images_.erase(name);
    }

    void resize(const std::string &name, Disk *, uint64_t size_bytes) override
    {
        Guard guard(lock_);
        images_.at(name).blocks.resize(block_count(size_bytes));
        images_.at(name).size_bytes = size_bytes;
    }

    /* This and rename() are for a mount, where sizes are of any number of bytes. */
    void truncate(const std::string &name, Disk *open, uint64_t size_bytes) override
    {
        const bool shrinks = size_bytes < *size(name);
        resize(name, open, size_bytes);
        Guard guard(lock_);
        const uint64_t kept = size_bytes % blocks_.zeroes.size();
        if (shrinks && kept && images_.at(name).blocks.back()) {
            Block &last = images_.at(name).blocks.back();
            last = blocks_.intern(last->substr(0, kept) + blocks_.zeroes.substr(kept));
        }
    }

    void rename(const std::string &name, const std::string &new_name) override
    {
        Guard guard(lock_);
        images_[new_name] = std::move(images_.at(name));
        images_.erase(name);
    }

    std::unique_ptr<Disk> open(const std::string &name) override
    {
        Guard guard(lock_);
        return std::make_unique<Disk>(images_.at(name), blocks_, lock_);
    }

    void snapshot_create(const std::string &name, Disk *, const std::string &snapshot,
                         int64_t) override
    {
        Guard guard(lock_);
        Image &image = images_.at(name);
        const std::chrono::nanoseconds now = std::chrono::system_clock::now().time_since_epoch();
        image.snapshots.push_back(
            {{snapshot, image.size_bytes, allocated_bytes(image), now.count()}, image.blocks});
    }

    void snapshot_rollback(const std::string &name, Disk *, const std::string &snapshot) override
    {
        Guard guard(lock_);
        Image &image = images_.at(name);
        const auto found = image.find(snapshot);
        image.size_bytes = found->first.size_bytes;
        image.blocks = found->second;
        image.snapshots.erase(found + 1, image.snapshots.end());
    }

    void snapshot_remove(const std::string &name, const std::string &snapshot) override
    {
        Guard guard(lock_);
        images_.at(name).snapshots.erase(images_.at(name).find(snapshot));
    }

    std::vector<Snapshot> snapshot_list(const std::string &name) override
    {
        Guard guard(lock_);
        std::vector<Snapshot> list;
        for (const auto &one : images_.at(name).snapshots) {
            list.push_back(one.first);
        }
        return list;
    }

  private:
    size_t block_count(uint64_t size_bytes) const
    {
        return (size_bytes + blocks_.zeroes.size() - 1) / blocks_.zeroes.size();
    }

    uint64_t allocated_bytes(const Image &image) const
    {
        const auto holes = std::count(image.blocks.begin(), image.blocks.end(), nullptr);
        return (image.blocks.size() - static_cast<size_t>(holes)) * blocks_.zeroes.size();
    }

    std::mutex lock_; /* guards what follows */
    Blocks blocks_;   /* goes after those who have blocks */
    std::map<std::string, Image> images_;
};

#ifdef PYTHON_MODULE
#include <openvstorage/store_pybind.hpp>

PYBIND11_MODULE(cpp_store, module)
{
    pybind11::class_<Dedup> dedup(module, "Dedup");
    openvstorage::serve(dedup);
}
#else
OVSSHM_STORE_PLUGIN(Dedup)
#endif
