/* SPDX-License-Identifier: MIT */
/* Connection: management, one message to the server per call. */
#include "connection.hpp"

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <pybind11/stl.h>

#include <openvstorage/shm.h>

#include "construct.hpp"
#include "control.hpp"
#include "convert.hpp"
#include "origin.hpp"
#include "volume.hpp"
#include "wait.hpp"

namespace {

constexpr unsigned PAGE_ELEMENTS = 64;

class Connection {
public:
    explicit Connection(const std::optional<py::str> &socket)
    {
        std::optional<std::string> path;
        if (socket) {
            path = name_bytes(*socket);
        }
        auto made = std::make_shared<std::shared_ptr<ovsshm_conn>>();
        checked([path, made] {
            ovsshm_conn *conn = nullptr;
            int rc = ovsshm_connect(path ? path->c_str() : nullptr, &conn);
            made->reset(conn, ovsshm_disconnect);
            return rc;
        });
        conn_ = *made;
    }

    void close() { conn_.reset(); }
    bool closed() const { return !conn_; }

    ovsshm_msg_hello_reply hello() const { return *ovsshm_conn_hello(get().get()); }

    struct ovsshm_status status() const
    {
        auto found = std::make_shared<struct ovsshm_status>();
        checked([conn = get(), found] { return ovsshm_status(conn.get(), found.get()); });
        return *found;
    }

    std::vector<ovsshm_session_info> sessions() const
    {
        using Info = ovsshm_session_info;
        return all<Info>([conn = get()](const Info *last, Info *infos) {
            return ovsshm_sessions(conn.get(), last ? last->id : 0, infos, PAGE_ELEMENTS);
        });
    }

    void create(const py::str &name, Count<named::size_bytes> size_bytes) const
    {
        checked([conn = get(), volume = name_bytes(name), size_bytes] {
            return ovsshm_create(conn.get(), volume.c_str(), size_bytes.value);
        });
    }

    void remove(const py::str &name) const
    {
        checked([conn = get(), volume = name_bytes(name)] {
            return ovsshm_remove(conn.get(), volume.c_str());
        });
    }

    void resize(const py::str &name, Count<named::size_bytes> size_bytes) const
    {
        checked([conn = get(), volume = name_bytes(name), size_bytes] {
            return ovsshm_resize(conn.get(), volume.c_str(), size_bytes.value);
        });
    }

    ovsshm_volume_info stat(const py::str &name) const
    {
        auto info = std::make_shared<ovsshm_volume_info>();
        checked([conn = get(), volume = name_bytes(name), info] {
            return ovsshm_stat(conn.get(), volume.c_str(), info.get());
        });
        return *info;
    }

    std::vector<ovsshm_volume_info> list() const
    {
        using Info = ovsshm_volume_info;
        return all<Info>([conn = get()](const Info *last, Info *infos) {
            return ovsshm_list(conn.get(), last ? last->name : nullptr, infos, PAGE_ELEMENTS);
        });
    }

    void snapshot_create(const py::str &volume, const py::str &snapshot, Seconds timeout_s) const
    {
        checked([conn = get(), v = name_bytes(volume), s = name_bytes(snapshot), timeout_s] {
            return ovsshm_snapshot_create(conn.get(), v.c_str(), s.c_str(), timeout_s.value);
        });
    }

    void snapshot_rollback(const py::str &volume, const py::str &snapshot) const
    {
        checked([conn = get(), v = name_bytes(volume), s = name_bytes(snapshot)] {
            return ovsshm_snapshot_rollback(conn.get(), v.c_str(), s.c_str());
        });
    }

    void snapshot_remove(const py::str &volume, const py::str &snapshot) const
    {
        checked([conn = get(), v = name_bytes(volume), s = name_bytes(snapshot)] {
            return ovsshm_snapshot_remove(conn.get(), v.c_str(), s.c_str());
        });
    }

    bool snapshot_is_synced(const py::str &volume, const py::str &snapshot) const
    {
        return checked([conn = get(), v = name_bytes(volume), s = name_bytes(snapshot)] {
                   return ovsshm_snapshot_is_synced(conn.get(), v.c_str(), s.c_str());
               }) == 1;
    }

    std::vector<ovsshm_snapshot_info> snapshot_list(const py::str &name) const
    {
        using Info = ovsshm_snapshot_info;
        return all<Info>([conn = get(), v = name_bytes(name)](const Info *last, Info *infos) {
            return ovsshm_snapshot_list(conn.get(), v.c_str(), last ? last->name : nullptr, infos,
                                        PAGE_ELEMENTS);
        });
    }

    std::unique_ptr<Volume> open(const py::str &name, bool writable, Count<named::depth> depth,
                                 Count<named::arena_bytes> arena_bytes) const
    {
        ovsshm_open_params params = {};
        params.mode = writable ? OVSSHM_MODE_WRITE : OVSSHM_MODE_READ;
        params.depth = static_cast<uint32_t>(std::min<uint64_t>(depth.value, UINT32_MAX));
        params.arena_bytes = arena_bytes.value;
        auto made = std::make_shared<std::shared_ptr<Session>>();
        checked([conn = get(), volume_name = name_bytes(name), params, writable, made] {
            ovsshm_volume *volume = nullptr;
            int rc = ovsshm_open(conn.get(), volume_name.c_str(), &params, &volume);
            if (rc == 0) {
                *made = std::make_shared<Session>(volume, volume_name, writable);
            }
            return rc;
        });
        return std::make_unique<Volume>(*made);
    }

private:
    std::shared_ptr<ovsshm_conn> get() const
    {
        if (!conn_) {
            throw py::value_error("the connection is closed");
        }
        origin_.check();
        return conn_;
    }

    /* The whole of a list that C gives in pages: those after the last one seen. */
    template <class Info, class Page> static std::vector<Info> all(Page page)
    {
        auto found = std::make_shared<std::vector<Info>>();
        checked([page, found] {
            for (;;) {
                size_t before = found->size();
                found->resize(before + PAGE_ELEMENTS);
                int count = page(before ? &(*found)[before - 1] : nullptr, &(*found)[before]);
                found->resize(before + static_cast<size_t>(std::max(count, 0)));
                if (count <= 0) {
                    return count;
                }
            }
        });
        return std::move(*found);
    }

    std::shared_ptr<ovsshm_conn> conn_;
    Origin origin_;
};

std::string default_socket()
{
    char path[4096];
    int rc = ovsshm_default_socket(path, sizeof(path));
    if (rc != 0) {
        raise_os_error(-rc, ovsshm_reason());
    }
    return path;
}

} // namespace

void bind_connection(py::module_ &m)
{
    using py::arg;
    m.def("default_socket", &default_socket,
          "The path where a client looks when none is given: $OVS_SHM_SOCKET, or that of the\n"
          "system for root, else one in $XDG_RUNTIME_DIR.");
    py::class_<Connection> cls(m, "Connection",
                               R"(A connection to a server, for management; a context manager.

Sizes are in bytes.  Volume names are 1 to 254 bytes, "/" in them makes directories on demand.

Threads: any; calls take turns.  The GIL is released while a call waits, and Ctrl-C ends the wait.

Errors: OSError by errno with the server's reason: FileNotFoundError, FileExistsError,
PermissionError (also to shrink), EBUSY, EINVAL, ENAMETOOLONG, ENOSPC; EOPNOTSUPP: the store cannot;
ENOTCONN: the server is gone.  ValueError after close(), RuntimeError in the child after fork().)");
    require_init(cls);
    bind_closing(cls, "Close it; a call that is under way ends by itself.  Again is fine.");
    cls.def(py::init<std::optional<py::str>>(), arg("socket") = py::none(),
            "Connect to the server at a socket's path; see shmclient.connect().")
        .def_property_readonly("hello", &Connection::hello,
                               "What the server said when the connection was made: a Hello.")
        .def("status", &Connection::status, "Totals since the server started: a Status.")
        .def("sessions", &Connection::sessions,
             "Who has which volume open, and what they have done since: a list of SessionInfo.")
        .def("create", &Connection::create, arg("name"), arg("size_bytes"),
             "Create a volume that reads as zeroes; size_bytes is a multiple of 512.")
        .def("remove", &Connection::remove, arg("name"),
             "Remove a volume and its snapshots.  EBUSY while anybody has it open.")
        .def("resize", &Connection::resize, arg("name"), arg("size_bytes"),
             "Grow a volume, also while it is open.")
        .def("stat", &Connection::stat, arg("name"), "One volume: a VolumeInfo.")
        .def("list", &Connection::list, "All volumes in order of name: a list of VolumeInfo.")
        .def("snapshot_create", &Connection::snapshot_create, arg("volume"), arg("snapshot"),
             py::kw_only(), arg("timeout_s") = 0,
             "Make a snapshot, also while the volume is in use.\n\n"
             "timeout_s: wait at most so many seconds for it to be safe, else TimeoutError;\n"
             "0: for ever, below 0: not at all.  OverflowError: beyond 64 bits.")
        .def("snapshot_rollback", &Connection::snapshot_rollback, arg("volume"), arg("snapshot"),
             "Put contents and size back to what they were.  Newer snapshots are dropped.")
        .def("snapshot_remove", &Connection::snapshot_remove, arg("volume"), arg("snapshot"),
             "Remove one snapshot.")
        .def("snapshot_is_synced", &Connection::snapshot_is_synced, arg("volume"), arg("snapshot"),
             "Is it safe in the store?")
        .def("snapshot_list", &Connection::snapshot_list, arg("volume"),
             "The snapshots of a volume, oldest first: a list of SnapshotInfo.")
        .def("open", &Connection::open, arg("name"), py::kw_only(), arg("writable") = false,
             arg("depth") = 0, arg("arena_bytes") = 0,
             "Open a Volume, on a session of its own that outlives this connection.\n\n"
             "writable: one client at a time may write, else EBUSY; EROFS: nobody may.\n"
             "depth: requests in flight; arena_bytes: shared memory, a multiple of 4096, for\n"
             "Buffers and for requests on other memory; 0 for the defaults (256 and 64 MiB, or\n"
             "the server's limit if that is less).  EINVAL: more than the server allows.");
}
