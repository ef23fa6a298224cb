/* SPDX-License-Identifier: MIT */
/*
 * A store in C++17: derive a Volume and a Store, implement what you have, export it in one line.
 *
 *     class Disk : public openvstorage::Volume { ... pread(), pwrite() ... };
 *     class Disks : public openvstorage::Store<Disk> { ... size(), open(), list() ... };
 *     OVSSHM_STORE_PLUGIN(Disks)
 *
 *     g++ -std=c++17 -shared -fPIC disks.cpp -o disks.so
 *     shmserver --store ./disks.so --store-option key=value
 *
 * examples/cpp_store.cpp is a whole one; store_pybind.hpp makes one a Python class.  What is not
 * here (groups, polling, whole batches) is in shm_server.h, which this is made of.
 *
 * Abilities: a store can do what it overrides.  Overriding functions have the same signature, are
 * public and not overloaded; Store::capabilities() has the last word.
 *
 * Threads: a Store's functions are called by workers, several at once for different names, never for
 * the same one; a Volume's by reactors, several at once.  So what they share needs a lock.
 *
 * Ownership: the server has the store and what open() returns, and deletes both.
 *
 * Errors: exceptions.  Error has an errno for the client and a sentence for people; of any other
 * std::system_error the errno is taken; std::bad_alloc is ENOMEM.  All others are EIO, and a line in
 * the log.  The server goes on in any case.
 */
#ifndef OPENVSTORAGE_STORE_HPP
#define OPENVSTORAGE_STORE_HPP

#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <system_error>
#include <vector>

#include <openvstorage/shm_server.h>

namespace openvstorage
{

namespace detail
{
struct Group;
struct Access;
} // namespace detail

/* error: a Linux errno.  reason: one sentence; management calls bring it to the client. */
class Error : public std::system_error
{
  public:
    Error(int error, const std::string &reason);
    const std::string &reason() const noexcept { return *reason_; }

  private:
    std::shared_ptr<const std::string> reason_; /* exceptions must be copied without throwing */
};

/* What the store was started with.  Options that nobody has asked for are refused afterwards. */
class Options
{
  public:
    explicit Options(const ovsshm_store_params &params);

    bool has_pool() const { return params_.pool != nullptr; }
    std::string pool() const; /* the directory; Error(EINVAL) when none was given */
    std::string text(const std::string &key, const std::string &fallback);
    /* Error(EINVAL) when it is no number of this range. */
    uint64_t number(const std::string &key, uint64_t fallback, uint64_t min, uint64_t max);
    const ovsshm_log &log() const { return params_.log; }

    void refuse_others(const char *store) const;

  private:
    const ovsshm_store_option *find(const std::string &key);

    const ovsshm_store_params &params_;
    std::set<std::string> asked_;
};

/*
 * The client's memory of a read or write, in pieces of any length.  The client can change it at any
 * moment: bytes that decide something are copied out first, once.  Valid until the request ends.
 */
class Buffers
{
  public:
    explicit Buffers(const ovsshm_request &request) : request_(&request) {}

    size_t size_bytes() const { return request_->length_bytes; }
    const iovec *begin() const { return request_->iov; }
    const iovec *end() const { return request_->iov + request_->iov_count; }

    /* Copies between [at, at + bytes) of it and memory of yours.  Beyond it: std::out_of_range. */
    void put(const void *from, size_t bytes, size_t at) const;
    void put_zeroes(size_t bytes, size_t at) const;
    void get(void *to, size_t bytes, size_t at) const;

  private:
    template <class Action> void walk(size_t bytes, size_t at, Action action) const;

    const ovsshm_request *request_;
};

/* A stretch of a volume that is all alike.  hole: not allocated; zero: reads as zeroes. */
struct Extent {
    uint64_t length_bytes;
    bool hole;
    bool zero;
};

struct Snapshot {
    std::string name;
    uint64_t size_bytes;
    uint64_t allocated_bytes;
    int64_t created_ns; /* since the epoch */
};

class Volume;

/*
 * A request that Volume::submit() may keep and end later, in any thread.  Move-only; one that is
 * destroyed without having been ended fails with EIO.  It must not outlive the store: until all have
 * been ended, the server does not stop.
 */
class Request
{
  public:
    Request(Request &&from) noexcept;
    Request &operator=(Request &&from) noexcept;
    ~Request();

    uint8_t op() const { return request_->op; } /* enum ovsshm_op */
    uint64_t offset_bytes() const { return request_->offset_bytes; }
    uint32_t length_bytes() const { return request_->length_bytes; }
    bool fua() const { return request_->flags & OVSSHM_SQE_FUA; }
    bool may_unmap() const { return request_->flags & OVSSHM_SQE_MAY_UNMAP; }
    Buffers buffers() const { return Buffers(*request_); } /* read, write */
    Volume &volume() const;

    /* These end it; nothing but moving into it is allowed afterwards. */
    void complete() noexcept;                                   /* all of it is done */
    void complete(const std::vector<Extent> &extents) noexcept; /* block-status */
    void fail(int error) noexcept;                              /* a Linux errno */
    void fail(const std::exception_ptr &error) noexcept;        /* the errno that it stands for */
    void perform() noexcept; /* does it here and now by the volume's other functions */

  private:
    friend detail::Access;
    Request(ovsshm_request *request, detail::Group *group) : request_(request), group_(group) {}
    void end(int32_t result) noexcept;

    ovsshm_request *request_; /* nullptr: ended, or moved away */
    detail::Group *group_;
};

/*
 * An open volume; one object, however many clients use it.  Ranges lie within it and are aligned to
 * Store::block_bytes(), but may end where the volume ends.
 */
class Volume
{
  public:
    Volume() = default;
    Volume(const Volume &) = delete;
    Volume &operator=(const Volume &) = delete;
    virtual ~Volume() = default;

    /* Fills all of `to`; takes all of `from`. */
    virtual void pread(Buffers to, uint64_t offset_bytes);
    virtual void pwrite(Buffers from, uint64_t offset_bytes);

    /* Makes durable what was written; also called after each write that is to be durable. */
    virtual void flush() {}

    /* These bytes are not needed any more; they shall read as zeroes (which may become a hole). */
    virtual void discard(uint64_t length_bytes, uint64_t offset_bytes);
    virtual void write_zeroes(uint64_t length_bytes, uint64_t offset_bytes, bool may_unmap);

    /* Extents from offset_bytes on, at least one; may end early, and go beyond the range. */
    virtual std::vector<Extent> block_status(uint64_t length_bytes, uint64_t offset_bytes);

    /*
     * Starts a request and returns soon.  Overridden, it gets every request, may move it to where
     * it waits, and has to see to FUA itself; Request::perform(), in any thread, calls the functions
     * above and does see to it.
     */
    virtual void submit(Request &&request) { request.perform(); }

    /* The size now, from the end of Store::open() on. */
    uint64_t size_bytes() const { return __atomic_load_n(&opened_->size_bytes, __ATOMIC_RELAXED); }

  private:
    friend detail::Access;
    const ovsshm_store_volume *opened_ = nullptr;
};

/*
 * The volumes by name, and what a client can ask about them.  Names and sizes have been checked, and
 * so has whether there is such a volume or snapshot, by size() and snapshot_list().
 *
 * The constructor takes an Options &, or nothing when there are none.
 */
template <class VolumeT> class Store
{
  public:
    using volume_type = VolumeT;

    /* What it is called, a line about it, and help for its options, a line each or nullptr. */
    static constexpr const char *store_name = "unnamed";
    static constexpr const char *store_summary = "";
    static constexpr const char *store_options = nullptr;

    Store() = default;
    Store(const Store &) = delete;
    Store &operator=(const Store &) = delete;
    virtual ~Store() = default;

    virtual std::optional<uint64_t> size(const std::string &name) = 0; /* none: no such volume */
    virtual std::unique_ptr<VolumeT> open(const std::string &name) = 0;
    virtual std::vector<std::string> list() { return {}; } /* in any order */
    virtual uint64_t allocated(const std::string &name) { return size(name).value_or(0); }

    virtual void create(const std::string &name, uint64_t size_bytes); /* reads as zeroes */
    virtual void remove(const std::string &name);                      /* it is not open */
    /* Grows, with zeroes; open: nullptr if it is not.  Requests go on beside it. */
    virtual void resize(const std::string &name, VolumeT *open, uint64_t size_bytes);
    /*
     * For a mount.  Any number of bytes, more or less, cheaply; durable with the next flush.  What
     * was cut off reads as zeroes when it grows again.  No request is in flight when it shrinks.
     */
    virtual void truncate(const std::string &name, VolumeT *open, uint64_t size_bytes);
    /* For a mount: with its snapshots, in the place of what has this name; neither is open. */
    virtual void rename(const std::string &name, const std::string &new_name);

    /* If the volume is open it is passed, and no request of it is in flight. */
    virtual void snapshot_create(const std::string &name, VolumeT *open,
                                 const std::string &snapshot, int64_t timeout_s);
    virtual void snapshot_rollback(const std::string &name, VolumeT *open,
                                   const std::string &snapshot);
    virtual void snapshot_remove(const std::string &name, const std::string &snapshot);
    virtual std::vector<Snapshot> snapshot_list(const std::string &name); /* oldest first */
    virtual bool snapshot_is_synced(const std::string &name, const std::string &snapshot);

    /* A power of two that requests are aligned to. */
    virtual uint32_t block_bytes() const { return 1; }

    /* implemented: enum ovsshm_capability, what the store and its volumes override. */
    virtual uint64_t capabilities(uint64_t implemented) const { return implemented; }

    /*
     * The server ends, all clients are gone, and it waits for requests that submit() has kept: those
     * that have not been started may be failed.  Once per reactor.
     */
    virtual void stop() noexcept {}
};

/* A store as C sees it, for programs that embed a server.  S: your store. */
template <class S> constexpr const ovsshm_store_type &store_type();

} // namespace openvstorage

#include <openvstorage/detail/store_request.hpp>
#include <openvstorage/detail/store_type.hpp>

/* In one source file of a shared object, outside of any namespace. */
#define OVSSHM_STORE_PLUGIN(store) \
    extern "C" { \
    extern const ovsshm_store_type ovsshm_store_plugin __attribute__((visibility("default"))); \
    const ovsshm_store_type ovsshm_store_plugin = openvstorage::store_type<store>(); \
    }

#endif
