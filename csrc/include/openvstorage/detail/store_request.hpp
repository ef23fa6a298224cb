/* SPDX-License-Identifier: MIT */
/* The inside of store.hpp: options, buffers, exceptions, requests. */
#ifndef OPENVSTORAGE_DETAIL_STORE_REQUEST_HPP
#define OPENVSTORAGE_DETAIL_STORE_REQUEST_HPP

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <utility>

/* Weak: a Python module finds it in another module, whose symbols are private (store_pybind.hpp). */
#pragma weak ovsshm_request_complete

namespace openvstorage
{

inline Error::Error(int error, const std::string &reason)
    : std::system_error(error, std::generic_category(), reason),
      reason_(std::make_shared<const std::string>(reason))
{
}

/* ---- options -------------------------------------------------------------------------------- */

inline Options::Options(const ovsshm_store_params &params) : params_(params) {}

inline std::string
Options::pool() const
{
    if (!params_.pool) {
        throw Error(EINVAL, "this store needs a pool");
    }
    return params_.pool;
}

inline const ovsshm_store_option *
Options::find(const std::string &key)
{
    const ovsshm_store_option *found = nullptr;
    asked_.insert(key);
    for (unsigned i = 0; i < params_.option_count; i++) {
        if (key == params_.options[i].key) {
            found = &params_.options[i]; /* the last one counts */
        }
    }
    return found;
}

inline std::string
Options::text(const std::string &key, const std::string &fallback)
{
    const ovsshm_store_option *option = find(key);
    return option ? option->value : fallback;
}

inline uint64_t
Options::number(const std::string &key, uint64_t fallback, uint64_t min, uint64_t max)
{
    const ovsshm_store_option *option = find(key);
    if (!option) {
        return fallback;
    }
    const std::string value = option->value;
    const bool digits = !value.empty() && value.find_first_not_of("0123456789") == value.npos;
    errno = 0;
    const uint64_t number = digits ? std::strtoull(value.c_str(), nullptr, 10) : 0;
    if (!digits || errno || number < min || number > max) {
        throw Error(EINVAL, "option \"" + key + "\": \"" + value + "\" is not a number from " +
                                std::to_string(min) + " to " + std::to_string(max));
    }
    return number;
}

inline void
Options::refuse_others(const char *store) const
{
    for (unsigned i = 0; i < params_.option_count; i++) {
        if (!asked_.count(params_.options[i].key)) {
            throw Error(EINVAL, std::string("store \"") + store + "\" has no option \"" +
                                    params_.options[i].key + "\"");
        }
    }
}

/* ---- buffers -------------------------------------------------------------------------------- */

template <class Action>
void
Buffers::walk(size_t bytes, size_t at, Action action) const
{
    if (at > size_bytes() || bytes > size_bytes() - at) {
        throw std::out_of_range("beyond the buffers of a request");
    }
    for (const iovec *piece = begin(); bytes && piece != end(); piece++) {
        if (at >= piece->iov_len) {
            at -= piece->iov_len;
            continue;
        }
        const size_t part = std::min(bytes, piece->iov_len - at);
        action(static_cast<char *>(piece->iov_base) + at, part);
        bytes -= part;
        at = 0;
    }
}

inline void
Buffers::put(const void *from, size_t bytes, size_t at) const
{
    const char *next = static_cast<const char *>(from);
    walk(bytes, at, [&next](char *to, size_t part) {
        std::memcpy(to, next, part);
        next += part;
    });
}

inline void
Buffers::put_zeroes(size_t bytes, size_t at) const
{
    walk(bytes, at, [](char *to, size_t part) { std::memset(to, 0, part); });
}

inline void
Buffers::get(void *to, size_t bytes, size_t at) const
{
    char *next = static_cast<char *>(to);
    walk(bytes, at, [&next](const char *from, size_t part) {
        std::memcpy(next, from, part);
        next += part;
    });
}

/* ---- what is not overridden; no client gets here ---------------------------------------------- */

namespace detail
{
[[noreturn]] inline void
cannot(const char *what)
{
    throw Error(EOPNOTSUPP, std::string("this store cannot ") + what);
}
} // namespace detail

/* clang-format off */
inline void Volume::pread(Buffers, uint64_t) { detail::cannot("read"); }
inline void Volume::pwrite(Buffers, uint64_t) { detail::cannot("write"); }
inline void Volume::discard(uint64_t, uint64_t) { detail::cannot("discard"); }
inline void Volume::write_zeroes(uint64_t, uint64_t, bool) { detail::cannot("write zeroes"); }
inline std::vector<Extent> Volume::block_status(uint64_t, uint64_t) { detail::cannot("tell extents"); }
/* clang-format on */

namespace detail
{

/* ---- errors --------------------------------------------------------------------------------- */

constexpr int ERRNO_MAX = 4095;

/* Where a store's complaints go. */
struct Voice {
    const char *store;
    ovsshm_log log;

    void say(const std::string &what) const noexcept
    {
        char line[1024];
        if (!log.write) {
            return;
        }
        std::snprintf(line, sizeof(line), "store \"%s\": %s", store, what.c_str());
        for (char *p = line; *p; p++) {
            *p = static_cast<unsigned char>(*p) < 0x20 || *p == 0x7f ? '?' : *p;
        }
        log.write(log.arg, OVSSHM_LOG_ERROR, line);
    }
};

inline void
put_text(char *field, size_t bytes, const std::string &text)
{
    std::snprintf(field, bytes, "%s", text.c_str());
}

/* Of an exception that is being handled: the errno, negative; the reason; a line if it is odd. */
template <class What>
int
failure(const Voice &voice, ovsshm_error *error, const What &what) noexcept
{
    std::string odd;
    try {
        try {
            throw;
        } catch (const std::system_error &e) {
            const int value = e.code().value();
            const bool known = e.code().category() == std::generic_category() ||
                               e.code().category() == std::system_category();
            const Error *own = dynamic_cast<const Error *>(&e);
            if (error && own) {
                put_text(error->reason, sizeof(error->reason), own->reason());
            }
            if (known && value > 0 && value <= ERRNO_MAX) {
                return -value;
            }
            odd = e.what();
        } catch (const std::bad_alloc &) {
            return -ENOMEM;
        } catch (const std::exception &e) {
            odd = e.what();
        } catch (...) {
            odd = "an exception that is no std::exception";
        }
        voice.say(what() + ": " + odd);
    } catch (...) { /* no memory to say so */
    }
    return -EIO;
}

/* ---- groups: what submit() has kept ------------------------------------------------------------
 */

struct Group {
    explicit Group(const Voice &its_voice) : voice(its_voice), open(0) {}
    const Voice &voice;
    std::atomic<unsigned> open; /* requests that have not been ended */
};

/* The function of the server that has loaded us; set before there is a store. */
__attribute__((visibility("hidden"))) inline decltype(&ovsshm_request_complete) request_complete =
    nullptr;

inline void
find_server()
{
    if (!request_complete) {
        request_complete = ovsshm_request_complete;
    }
    if (!request_complete) {
        throw Error(ENOSYS, "this program does not export ovsshm_request_complete()");
    }
}

/* ---- requests ------------------------------------------------------------------------------- */

inline std::string
describe(const ovsshm_request &r)
{
    static const char *const names[] = {"op 0",    "read",         "write",       "flush",
                                        "discard", "write-zeroes", "block-status"};
    return std::string(r.op < 7 ? names[r.op] : "op") + " of " + std::to_string(r.length_bytes) +
           " bytes at " + std::to_string(r.offset_bytes);
}

/* The result of a block-status: as much as there is room for, within the range. */
inline int32_t
put_extents(const ovsshm_request &r, const std::vector<Extent> &extents)
{
    uint64_t left = r.length_bytes;
    uint32_t count = 0;
    for (const Extent &extent : extents) {
        const uint64_t length = std::min(extent.length_bytes, left);
        if (count == r.extents_max || left == 0) {
            break;
        }
        if (length) {
            const uint32_t flags = extent.hole * unsigned{OVSSHM_EXTENT_HOLE} |
                                   extent.zero * unsigned{OVSSHM_EXTENT_ZERO};
            r.extents[count++] = ovsshm_extent{length, flags, 0};
            left -= length;
        }
    }
    if (count == 0) {
        throw std::logic_error("block_status() without extents");
    }
    return static_cast<int32_t>(count);
}

template <class VolumeT>
int32_t
perform(VolumeT &volume, const ovsshm_request &r)
{
    const bool fua = r.flags & OVSSHM_SQE_FUA;
    switch (r.op) {
    case OVSSHM_OP_READ:
        volume.pread(Buffers(r), r.offset_bytes);
        return static_cast<int32_t>(r.length_bytes);
    case OVSSHM_OP_WRITE:
        volume.pwrite(Buffers(r), r.offset_bytes);
        if (fua) {
            volume.flush();
        }
        return static_cast<int32_t>(r.length_bytes);
    case OVSSHM_OP_FLUSH: volume.flush(); return 0;
    case OVSSHM_OP_DISCARD: volume.discard(r.length_bytes, r.offset_bytes); return 0;
    case OVSSHM_OP_WRITE_ZEROES:
        volume.write_zeroes(r.length_bytes, r.offset_bytes, r.flags & OVSSHM_SQE_MAY_UNMAP);
        if (fua) {
            volume.flush();
        }
        return 0;
    case OVSSHM_OP_BLOCK_STATUS:
        return put_extents(r, volume.block_status(r.length_bytes, r.offset_bytes));
    default: return -EOPNOTSUPP;
    }
}

template <class VolumeT>
int32_t
perform_or_fail(const Voice &voice, VolumeT &volume, const ovsshm_request &r) noexcept
{
    try {
        return perform(volume, r);
    } catch (...) {
        return failure(voice, nullptr, [&r] { return describe(r); });
    }
}

/* An open volume as the server knows it. */
struct Opened : ovsshm_store_volume {
    std::unique_ptr<Volume> volume;
};

/* The way into what is private. */
struct Access {
    static void tell(Volume &volume, const Opened *opened) { volume.opened_ = opened; }
    static Request request(ovsshm_request *request, Group *group) { return {request, group}; }
    static bool is_open(const Request &request) { return request.request_ != nullptr; }
};

} // namespace detail

inline Request::Request(Request &&from) noexcept
    : request_(std::exchange(from.request_, nullptr)), group_(from.group_)
{
}

inline Request &
Request::operator=(Request &&from) noexcept
{
    std::swap(request_, from.request_);
    std::swap(group_, from.group_);
    return *this;
}

inline Request::~Request()
{
    if (request_) {
        try {
            group_->voice.say(detail::describe(*request_) + ": dropped");
        } catch (...) { /* no memory to say so */
        }
        end(-EIO);
    }
}

inline void
Request::end(int32_t result) noexcept
{
    detail::request_complete(std::exchange(request_, nullptr), result);
    group_->open.fetch_sub(1, std::memory_order_release); /* the last touch of the group */
}

inline Volume &
Request::volume() const
{
    return *static_cast<detail::Opened *>(request_->volume)->volume;
}

inline void
Request::complete() noexcept
{
    const bool transfer = op() == OVSSHM_OP_READ || op() == OVSSHM_OP_WRITE;
    end(transfer ? static_cast<int32_t>(length_bytes()) : 0);
}

inline void
Request::complete(const std::vector<Extent> &extents) noexcept
{
    try {
        end(detail::put_extents(*request_, extents));
    } catch (...) {
        fail(std::current_exception());
    }
}

inline void
Request::fail(int error) noexcept
{
    end(error > 0 && error <= detail::ERRNO_MAX ? -error : -EIO);
}

inline void
Request::fail(const std::exception_ptr &error) noexcept
{
    try {
        std::rethrow_exception(error);
    } catch (...) {
        end(detail::failure(group_->voice, nullptr,
                            [this] { return detail::describe(*request_); }));
    }
}

inline void
Request::perform() noexcept
{
    end(detail::perform_or_fail(group_->voice, volume(), *request_));
}

} // namespace openvstorage

#endif
