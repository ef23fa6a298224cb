/* SPDX-License-Identifier: MIT */
/* The inside of store.hpp: the functions of the C interface, by those of a store and its volumes. */
#ifndef OPENVSTORAGE_DETAIL_STORE_TYPE_HPP
#define OPENVSTORAGE_DETAIL_STORE_TYPE_HPP

#include <algorithm>
#include <chrono>
#include <thread>
#include <type_traits>

namespace openvstorage
{

/* clang-format off */
template <class V> void Store<V>::create(const std::string &, uint64_t) { detail::cannot("create volumes"); }
template <class V> void Store<V>::remove(const std::string &) { detail::cannot("remove volumes"); }
template <class V> void Store<V>::resize(const std::string &, V *, uint64_t) { detail::cannot("resize volumes"); }
template <class V> void Store<V>::truncate(const std::string &, V *, uint64_t) { detail::cannot("resize volumes to the byte"); }
template <class V> void Store<V>::rename(const std::string &, const std::string &) { detail::cannot("rename volumes"); }
template <class V> void Store<V>::snapshot_create(const std::string &, V *, const std::string &, int64_t) { detail::cannot("make snapshots"); }
template <class V> void Store<V>::snapshot_rollback(const std::string &, V *, const std::string &) { detail::cannot("roll back"); }
template <class V> void Store<V>::snapshot_remove(const std::string &, const std::string &) { detail::cannot("remove snapshots"); }
template <class V> std::vector<Snapshot> Store<V>::snapshot_list(const std::string &) { return {}; }
template <class V> bool Store<V>::snapshot_is_synced(const std::string &, const std::string &) { return true; }
/* clang-format on */

namespace detail
{

template <class S> struct Glue {
    using V = typename S::volume_type;
    static_assert(std::is_base_of_v<Store<V>, S>, "a store derives from openvstorage::Store");
    static_assert(std::is_base_of_v<Volume, V>, "a volume derives from openvstorage::Volume");

    /* The store as the server knows it. */
    struct Shell : ovsshm_store {
        Voice voice;
        std::unique_ptr<S> store;
    };

    static Shell &shell(ovsshm_store *store) { return static_cast<Shell &>(*store); }
    static S &self(ovsshm_store *store) { return *shell(store).store; }

    static V *volume(ovsshm_store_volume *open)
    {
        return open ? static_cast<V *>(static_cast<Opened *>(open)->volume.get()) : nullptr;
    }

    /* An inherited function has the base's type.  The bit if it is not inherited. */
    template <class Mine, class Inherited>
    static constexpr uint64_t bit(Mine, Inherited, uint64_t capability)
    {
        return std::is_same_v<Mine, Inherited> ? 0 : capability;
    }
    static constexpr bool submits = bit(&V::submit, &Volume::submit, 1);
    static constexpr bool truncates = bit(&S::truncate, &Store<V>::truncate, 1);
    static constexpr bool renames = bit(&S::rename, &Store<V>::rename, 1);

    static constexpr uint64_t implemented()
    {
        using Base = Store<V>;
        return bit(&V::pwrite, &Volume::pwrite, OVSSHM_CAP_WRITE) |
               bit(&V::submit, &Volume::submit, OVSSHM_CAP_WRITE) |
               bit(&V::discard, &Volume::discard, OVSSHM_CAP_DISCARD) |
               bit(&V::write_zeroes, &Volume::write_zeroes, OVSSHM_CAP_WRITE_ZEROES) |
               bit(&V::block_status, &Volume::block_status, OVSSHM_CAP_BLOCK_STATUS) |
               bit(&S::resize, &Base::resize, OVSSHM_CAP_RESIZE) |
               bit(&S::snapshot_create, &Base::snapshot_create, OVSSHM_CAP_SNAPSHOT) |
               bit(&S::create, &Base::create, OVSSHM_CAP_MANAGE);
    }

    /* Runs a management call. */
    template <class Call>
    static int manage(ovsshm_store *store, ovsshm_error *error, const char *verb, const char *name,
                      Call call) noexcept
    {
        try {
            return call(self(store), std::string(name));
        } catch (...) {
            return failure(shell(store).voice, error,
                           [&] { return std::string(verb) + " \"" + name + "\""; });
        }
    }

    static bool has_snapshot(S &store, const std::string &name, const std::string &snapshot)
    {
        const std::vector<Snapshot> all = store.snapshot_list(name);
        return std::any_of(all.begin(), all.end(),
                           [&](const Snapshot &one) { return one.name == snapshot; });
    }

    static int describe(S &store, const std::string &name, ovsshm_volume_info *info)
    {
        const std::optional<uint64_t> size = store.size(name);
        if (!size) {
            return -ENOENT;
        }
        *info = ovsshm_volume_info();
        put_text(info->name, sizeof(info->name), name);
        info->size_bytes = *size;
        info->allocated_bytes = store.allocated(name);
        info->block_bytes = store.block_bytes();
        info->snapshots = static_cast<uint32_t>(store.snapshot_list(name).size());
        return 0;
    }

    /* ---- management ---- */

    static int volume_create(ovsshm_store *store, const char *name, uint64_t size_bytes,
                             ovsshm_error *error) noexcept
    {
        return manage(store, error, "create", name, [&](S &s, const std::string &n) {
            if (s.size(n)) {
                return -EEXIST;
            }
            s.create(n, size_bytes);
            return 0;
        });
    }

    static int volume_remove(ovsshm_store *store, const char *name, ovsshm_error *error) noexcept
    {
        return manage(store, error, "remove", name, [](S &s, const std::string &n) {
            if (!s.size(n)) {
                return -ENOENT;
            }
            s.remove(n);
            return 0;
        });
    }

    static int volume_stat(ovsshm_store *store, const char *name, ovsshm_volume_info *info) noexcept
    {
        return manage(store, nullptr, "stat", name,
                      [&](S &s, const std::string &n) { return describe(s, n, info); });
    }

    /* 1, or 0 when it has just been removed, which those who list do not wait for. */
    static unsigned describe_if_there(S &store, const std::string &name, ovsshm_volume_info *info)
    {
        try {
            return describe(store, name, info) == 0;
        } catch (...) {
            if (store.size(name)) {
                throw;
            }
            return 0;
        }
    }

    static int volume_list(ovsshm_store *store, const char *after, ovsshm_volume_info *infos,
                           unsigned count) noexcept
    {
        return manage(store, nullptr, "list after", after ? after : "",
                      [&](S &s, const std::string &last) {
                          unsigned stored = 0;
                          std::vector<std::string> names = s.list();
                          std::sort(names.begin(), names.end());
                          auto next = std::upper_bound(names.begin(), names.end(), last);
                          for (; next != names.end() && stored < count; ++next) {
                              stored += describe_if_there(s, *next, &infos[stored]);
                          }
                          return static_cast<int>(stored);
                      });
    }

    static int volume_resize(ovsshm_store *store, const char *name, ovsshm_store_volume *open,
                             uint64_t size_bytes, ovsshm_error *error) noexcept
    {
        return manage(store, error, "resize", name, [&](S &s, const std::string &n) {
            if (!s.size(n)) {
                return -ENOENT;
            }
            s.resize(n, volume(open), size_bytes);
            set_size(open, size_bytes);
            return 0;
        });
    }

    static int volume_truncate(ovsshm_store *store, const char *name, ovsshm_store_volume *open,
                               uint64_t size_bytes, ovsshm_error *error) noexcept
    {
        return manage(store, error, "truncate", name, [&](S &s, const std::string &n) {
            if (!s.size(n)) {
                return -ENOENT;
            }
            s.truncate(n, volume(open), size_bytes);
            set_size(open, size_bytes);
            return 0;
        });
    }

    static int volume_rename(ovsshm_store *store, const char *from, const char *to,
                             ovsshm_error *error) noexcept
    {
        return manage(store, error, "rename", from, [&](S &s, const std::string &n) {
            if (!s.size(n)) {
                return -ENOENT;
            }
            s.rename(n, to);
            return 0;
        });
    }

    static void set_size(ovsshm_store_volume *open, uint64_t size_bytes)
    {
        if (open) {
            __atomic_store_n(&open->size_bytes, size_bytes, __ATOMIC_RELAXED);
        }
    }

    static int volume_open(ovsshm_store *store, const char *name, ovsshm_store_volume **out,
                           ovsshm_error *error) noexcept
    {
        return manage(store, error, "open", name, [&](S &s, const std::string &n) {
            const std::optional<uint64_t> size = s.size(n);
            auto opened = std::make_unique<Opened>();
            opened->volume = size ? s.open(n) : nullptr;
            if (!opened->volume) {
                return -ENOENT;
            }
            opened->store = store;
            opened->size_bytes = *size;
            opened->block_bytes = s.block_bytes();
            Access::tell(*opened->volume, opened.get());
            *out = opened.release();
            return 0;
        });
    }

    static void volume_close(ovsshm_store_volume *open) noexcept
    {
        delete static_cast<Opened *>(open);
    }

    /* ---- snapshots ---- */

    static int snapshot_create(ovsshm_store *store, const char *name, ovsshm_store_volume *open,
                               const char *snapshot, int64_t timeout_s, ovsshm_error *error) noexcept
    {
        return manage(store, error, "snapshot", name, [&](S &s, const std::string &n) {
            if (!s.size(n)) {
                return -ENOENT;
            }
            if (has_snapshot(s, n, snapshot)) {
                return -EEXIST;
            }
            s.snapshot_create(n, volume(open), snapshot, timeout_s);
            return 0;
        });
    }

    static int snapshot_rollback(ovsshm_store *store, const char *name, ovsshm_store_volume *open,
                                 const char *snapshot, ovsshm_error *error) noexcept
    {
        return manage(store, error, "roll back", name, [&](S &s, const std::string &n) {
            if (!s.size(n) || !has_snapshot(s, n, snapshot)) {
                return -ENOENT;
            }
            s.snapshot_rollback(n, volume(open), snapshot);
            set_size(open, s.size(n).value());
            return 0;
        });
    }

    static int snapshot_remove(ovsshm_store *store, const char *name, const char *snapshot,
                               ovsshm_error *error) noexcept
    {
        return manage(store, error, "remove a snapshot of", name, [&](S &s, const std::string &n) {
            if (!s.size(n) || !has_snapshot(s, n, snapshot)) {
                return -ENOENT;
            }
            s.snapshot_remove(n, snapshot);
            return 0;
        });
    }

    static int snapshot_is_synced(ovsshm_store *store, const char *name,
                                  const char *snapshot) noexcept
    {
        return manage(store, nullptr, "query a snapshot of", name, [&](S &s, const std::string &n) {
            if (!s.size(n) || !has_snapshot(s, n, snapshot)) {
                return -ENOENT;
            }
            return static_cast<int>(s.snapshot_is_synced(n, snapshot));
        });
    }

    static int snapshot_list(ovsshm_store *store, const char *name, const char *after,
                             ovsshm_snapshot_info *infos, unsigned count) noexcept
    {
        return manage(store, nullptr, "list snapshots of", name, [&](S &s, const std::string &n) {
            if (!s.size(n)) {
                return -ENOENT;
            }
            const std::vector<Snapshot> all = s.snapshot_list(n);
            auto next = all.begin();
            if (after) {
                next = std::find_if(all.begin(), all.end(),
                                    [&](const Snapshot &one) { return one.name == after; });
                if (next == all.end()) {
                    return -ENOENT;
                }
                ++next;
            }
            unsigned stored = 0;
            for (; next != all.end() && stored < count; ++next, ++stored) {
                infos[stored] = ovsshm_snapshot_info();
                put_text(infos[stored].name, sizeof(infos[stored].name), next->name);
                infos[stored].size_bytes = next->size_bytes;
                infos[stored].allocated_bytes = next->allocated_bytes;
                infos[stored].created_ns = next->created_ns;
            }
            return static_cast<int>(stored);
        });
    }

    /* ---- data ---- */

    struct StoreGroup : Group {
        explicit StoreGroup(Shell &shell) : Group(shell.voice), store(*shell.store) {}
        S &store;
    };

    static int group_create(ovsshm_store *store, void **group) noexcept
    {
        *group = new (std::nothrow) StoreGroup(shell(store));
        return *group ? 0 : -ENOMEM;
    }

    static void group_destroy(void *arg) noexcept
    {
        StoreGroup *group = static_cast<StoreGroup *>(arg);
        group->store.stop();
        while (group->open.load(std::memory_order_acquire)) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        delete group;
    }

    static void start(const Voice &voice, V &volume, Request request) noexcept
    {
        try {
            volume.submit(std::move(request));
        } catch (...) {
            if (Access::is_open(request)) {
                request.fail(std::current_exception());
            } else {
                failure(voice, nullptr, [] { return std::string("submit() of a kept request"); });
            }
        }
    }

    static void submit(ovsshm_store *store, void *group, ovsshm_request **requests,
                       unsigned count) noexcept
    {
        const Voice &voice = shell(store).voice;
        if constexpr (submits) {
            static_cast<StoreGroup *>(group)->open.fetch_add(count, std::memory_order_relaxed);
        }
        for (unsigned i = 0; i < count; i++) {
            V &v = *volume(requests[i]->volume);
            if constexpr (submits) {
                start(voice, v, Access::request(requests[i], static_cast<StoreGroup *>(group)));
            } else {
                request_complete(requests[i], perform_or_fail(voice, v, *requests[i]));
            }
        }
    }

    /* ---- the store ---- */

    static std::unique_ptr<S> make(Options &options)
    {
        if constexpr (std::is_constructible_v<S, Options &>) {
            return std::make_unique<S>(options);
        } else {
            return std::make_unique<S>();
        }
    }

    static int create(const ovsshm_store_params *params, ovsshm_store **out,
                      ovsshm_error *error) noexcept
    {
        const Voice voice = {S::store_name, params->log};
        try {
            find_server();
            Options options(*params);
            auto made = std::make_unique<Shell>();
            made->voice = voice;
            made->store = make(options);
            options.refuse_others(S::store_name);
            made->type = &type;
            made->capabilities = made->store->capabilities(implemented());
            *out = made.release();
            return 0;
        } catch (...) {
            return failure(voice, error, [] { return std::string("cannot be made"); });
        }
    }

    static void destroy(ovsshm_store *store) noexcept
    {
        if (store) {
            delete &shell(store);
        }
    }

    static const ovsshm_store_type type;
};

template <class S>
constexpr ovsshm_store_type
make_type()
{
    using G = Glue<S>;
    ovsshm_store_type type = {};
    type.abi = OVSSHM_STORE_ABI;
    type.name = S::store_name;
    type.summary = S::store_summary;
    type.options = S::store_options;
    type.create = G::create;
    type.destroy = G::destroy;
    type.volume_create = G::volume_create;
    type.volume_remove = G::volume_remove;
    type.volume_stat = G::volume_stat;
    type.volume_list = G::volume_list;
    type.volume_resize = G::volume_resize;
    type.volume_rename = G::renames ? G::volume_rename : nullptr;
    type.volume_truncate = G::truncates ? G::volume_truncate : nullptr;
    type.snapshot_create = G::snapshot_create;
    type.snapshot_rollback = G::snapshot_rollback;
    type.snapshot_remove = G::snapshot_remove;
    type.snapshot_is_synced = G::snapshot_is_synced;
    type.snapshot_list = G::snapshot_list;
    type.volume_open = G::volume_open;
    type.volume_close = G::volume_close;
    type.group_create = G::submits ? G::group_create : nullptr;
    type.group_destroy = G::submits ? G::group_destroy : nullptr;
    type.submit = G::submit;
    return type;
}

template <class S> constexpr ovsshm_store_type Glue<S>::type = make_type<S>();

} // namespace detail

template <class S>
constexpr const ovsshm_store_type &
store_type()
{
    return detail::Glue<S>::type;
}

} // namespace openvstorage

#endif
