/* SPDX-License-Identifier: MIT */
/*
 * Python binding of <openvstorage/shm.h>: converts, releases the GIL, calls C.
 *
 * Threads: every method may be called from any thread.  A call holds a reference to the C object, so
 * close() in another thread takes effect when running calls have returned.
 * Errors: OSError (by errno FileNotFoundError, PermissionError, ...) with the library's reason.
 */
#include <cerrno>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <openvstorage/shm.h>

namespace py = pybind11;

namespace {

/* ---- conversions --------------------------------------------------------------------------- */

/* Names are bytes; what is not UTF-8 survives the way through Python. */
py::str text(const char *bytes)
{
    return py::reinterpret_steal<py::str>(
        PyUnicode_DecodeUTF8(bytes, static_cast<Py_ssize_t>(strlen(bytes)), "surrogateescape"));
}

/* A name on its way to C.  Refuses the one character that C would take for the end. */
std::string name_bytes(const py::str &name)
{
    py::object bytes = py::reinterpret_steal<py::object>(
        PyUnicode_AsEncodedString(name.ptr(), "utf-8", "surrogateescape"));
    if (!bytes) {
        throw py::error_already_set();
    }
    std::string result = bytes.cast<std::string>();
    if (result.find('\0') != std::string::npos) {
        throw py::value_error("embedded null character");
    }
    return result;
}

[[noreturn]] void raise_os_error(int error, const char *reason)
{
    py::object exception = py::reinterpret_steal<py::object>(
        PyObject_CallFunction(PyExc_OSError, "iO", error, text(reason).ptr()));
    if (exception) {
        PyErr_SetObject(reinterpret_cast<PyObject *>(Py_TYPE(exception.ptr())), exception.ptr());
    }
    throw py::error_already_set();
}

/* Runs a C call without the GIL; it returns 0, a count, or -errno with a reason. */
template <class Call> auto checked(Call call)
{
    decltype(call()) result;
    std::string reason;
    {
        py::gil_scoped_release release;
        result = call();
        if (result < 0) {
            reason = ovsshm_reason();
        }
    }
    if (result < 0) {
        raise_os_error(static_cast<int>(-result), reason.c_str());
    }
    return result;
}

/* Contiguous bytes of any object with the buffer protocol, held until the end of the scope. */
class BufferView {
public:
    BufferView(const py::object &object, int flags)
    {
        if (PyObject_GetBuffer(object.ptr(), &view_, flags) != 0) {
            throw py::error_already_set();
        }
    }
    ~BufferView() { PyBuffer_Release(&view_); }
    BufferView(const BufferView &) = delete;
    BufferView &operator=(const BufferView &) = delete;

    void *data() const { return view_.buf; }
    uint64_t bytes() const { return static_cast<uint64_t>(view_.len); }

private:
    Py_buffer view_;
};

/* Each capability of the store by its name; the order of enum ovsshm_capability. */
py::tuple capability_names(uint64_t bits)
{
    static const char *const names[] = {"write",  "discard",  "write-zeroes", "block-status",
                                        "resize", "snapshot", "manage"};
    py::list found;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (bits >> i & 1) {
            found.append(names[i]);
        }
    }
    return py::tuple(found);
}

/* ---- records: plain C structs as read-only Python objects ------------------------------------ */

/* Gives a bound struct _fields, _asdict(), repr and equality, like a named tuple. */
template <class Record> class RecordBinder {
public:
    RecordBinder(py::module_ &m, const char *name, const char *doc) : cls_(m, name, doc) {}

    template <class Member> RecordBinder &field(const char *name, Member member)
    {
        if constexpr (std::is_member_object_pointer_v<Member>) {
            cls_.def_readonly(name, member);
        } else {
            cls_.def_property_readonly(name, member);
        }
        fields_.append(name);
        return *this;
    }

    ~RecordBinder()
    {
        cls_.attr("_fields") = py::tuple(fields_);
        cls_.def("_asdict", &asdict, "Field names and values, in order.");
        cls_.def("__repr__", [](const py::object &self) {
            return py::str("{}({})").format(py::type::of(self).attr("__name__"), asdict(self));
        });
        cls_.def("__eq__", [](const py::object &self, const py::object &other) {
            return py::type::of(self).is(py::type::of(other)) && asdict(self).equal(asdict(other));
        });
    }

private:
    static py::dict asdict(const py::object &self)
    {
        py::dict values;
        for (py::handle name : self.attr("_fields")) {
            values[name] = self.attr(name.cast<py::str>());
        }
        return values;
    }

    py::class_<Record> cls_;
    py::list fields_;
};

void bind_records(py::module_ &m)
{
    using Info = ovsshm_volume_info;
    RecordBinder<Info>(m, "VolumeInfo", "A volume as the server knows it.")
        .field("name", [](const Info &info) { return text(info.name); })
        .field("size_bytes", &Info::size_bytes)
        .field("allocated_bytes", &Info::allocated_bytes)
        .field("block_bytes", &Info::block_bytes)
        .field("writers", &Info::writers)
        .field("readers", &Info::readers)
        .field("snapshots", &Info::snapshots);

    using Snapshot = ovsshm_snapshot_info;
    RecordBinder<Snapshot>(m, "SnapshotInfo", "A snapshot of a volume.")
        .field("name", [](const Snapshot &info) { return text(info.name); })
        .field("size_bytes", &Snapshot::size_bytes)
        .field("allocated_bytes", &Snapshot::allocated_bytes)
        .field("created_ns", &Snapshot::created_ns);

    using Hello = ovsshm_msg_hello_reply;
    RecordBinder<Hello>(m, "Hello", "What the server said when the connection was made.")
        .field("server", [](const Hello &hello) { return text(hello.server); })
        .field("store", [](const Hello &hello) { return text(hello.store); })
        .field("version", &Hello::version)
        .field("capabilities", [](const Hello &hello) { return capability_names(hello.capabilities); })
        .field("queues_max", &Hello::queues_max)
        .field("depth_max", &Hello::depth_max)
        .field("request_bytes_max", &Hello::request_bytes_max)
        .field("range_bytes_max", &Hello::range_bytes_max)
        .field("segments_max", &Hello::segments_max)
        .field("arena_bytes_max", &Hello::arena_bytes_max);

    using Status = struct ovsshm_status;
    RecordBinder<Status>(m, "Status", "Totals since the server started.")
        .field("pid", &Status::pid)
        .field("uptime_ns", &Status::uptime_ns)
        .field("connections", &Status::connections)
        .field("sessions", &Status::sessions)
        .field("reactors", &Status::reactors)
        .field("requests", &Status::requests)
        .field("errors", &Status::errors)
        .field("read_bytes", &Status::read_bytes)
        .field("written_bytes", &Status::written_bytes)
        .field("doorbells", &Status::doorbells)
        .field("sleeps", &Status::sleeps)
        .field("violations", &Status::violations);

    using Limits = ovsshm_limits;
    RecordBinder<Limits>(m, "Limits", "Limits of an open volume, fixed while it is open.")
        .field("block_bytes", &Limits::block_bytes)
        .field("request_bytes_max", &Limits::request_bytes_max)
        .field("range_bytes_max", &Limits::range_bytes_max)
        .field("depth", &Limits::depth)
        .field("queues", &Limits::queues)
        .field("arena_bytes", &Limits::arena_bytes)
        .field("capabilities", [](const Limits &limits) { return capability_names(limits.capabilities); });

    using Extent = ovsshm_extent;
    RecordBinder<Extent>(m, "Extent", "A stretch of a volume that is all alike.")
        .field("length_bytes", &Extent::length_bytes)
        .field("hole", [](const Extent &extent) { return (extent.flags & OVSSHM_EXTENT_HOLE) != 0; })
        .field("zero", [](const Extent &extent) { return (extent.flags & OVSSHM_EXTENT_ZERO) != 0; });
}

/* ---- volume -------------------------------------------------------------------------------- */

class Volume {
public:
    explicit Volume(ovsshm_volume *volume) : open_(std::make_shared<Open>(volume)) {}

    void close() { open_.reset(); }
    bool closed() const { return !open_; }

    uint64_t size_bytes() const { return ovsshm_volume_bytes(get()->volume); }
    ovsshm_limits limits() const { return *ovsshm_volume_limits(get()->volume); }

    ovsshm_volume_info stat() const
    {
        auto open = get();
        ovsshm_volume_info info;
        checked([&] { return ovsshm_volume_stat(open->volume, &info); });
        return info;
    }

    void resize(uint64_t size_bytes) const
    {
        auto open = get();
        checked([&] { return ovsshm_volume_resize(open->volume, size_bytes); });
    }

    void set_writable(bool writable) const
    {
        auto open = get();
        uint32_t mode = writable ? OVSSHM_MODE_WRITE : OVSSHM_MODE_READ;
        checked([&] { return ovsshm_volume_set_mode(open->volume, mode); });
    }

    py::bytes pread(uint64_t length_bytes, uint64_t offset_bytes) const
    {
        if (length_bytes > static_cast<uint64_t>(PY_SSIZE_T_MAX)) {
            throw py::value_error("length too large");
        }
        PyObject *bytes = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(length_bytes));
        if (!bytes) {
            throw py::error_already_set();
        }
        py::bytes result = py::reinterpret_steal<py::bytes>(bytes);
        int64_t count = read(PyBytes_AS_STRING(bytes), length_bytes, offset_bytes);
        if (static_cast<uint64_t>(count) == length_bytes) {
            return result;
        }
        return py::bytes(PyBytes_AS_STRING(bytes), static_cast<size_t>(count));
    }

    int64_t preadinto(const py::object &buffer, uint64_t offset_bytes) const
    {
        BufferView view(buffer, PyBUF_WRITABLE);
        return read(view.data(), view.bytes(), offset_bytes);
    }

    int64_t pwrite(const py::object &data, uint64_t offset_bytes, bool fua) const
    {
        BufferView view(data, PyBUF_SIMPLE);
        ovsshm_io io = request(OVSSHM_OP_WRITE, offset_bytes, view.bytes());
        io.flags = fua ? OVSSHM_SQE_FUA : 0;
        io.buffer = view.data();
        return run(io);
    }

    void flush() const { run(request(OVSSHM_OP_FLUSH, 0, 0)); }

    void discard(uint64_t length_bytes, uint64_t offset_bytes) const
    {
        run(request(OVSSHM_OP_DISCARD, offset_bytes, length_bytes));
    }

    void write_zeroes(uint64_t length_bytes, uint64_t offset_bytes, bool may_unmap, bool fua) const
    {
        ovsshm_io io = request(OVSSHM_OP_WRITE_ZEROES, offset_bytes, length_bytes);
        io.flags = static_cast<uint8_t>((may_unmap ? OVSSHM_SQE_MAY_UNMAP : 0) |
                                        (fua ? OVSSHM_SQE_FUA : 0));
        run(io);
    }

    std::vector<ovsshm_extent> block_status(uint64_t length_bytes, uint64_t offset_bytes) const
    {
        std::vector<ovsshm_extent> extents(256);
        ovsshm_io io = request(OVSSHM_OP_BLOCK_STATUS, offset_bytes, length_bytes);
        io.buffer = extents.data();
        io.extents_max = extents.size();
        extents.resize(static_cast<size_t>(run(io)));
        return extents;
    }

private:
    /* The C object and the turn on its one queue. */
    struct Open {
        explicit Open(ovsshm_volume *v) : volume(v), queue(ovsshm_volume_queue(v, 0)) {}
        ~Open() { ovsshm_close(volume); }
        ovsshm_volume *volume;
        ovsshm_queue *queue;
        std::mutex turn;
    };

    std::shared_ptr<Open> get() const
    {
        if (!open_) {
            throw py::value_error("the volume is closed");
        }
        return open_;
    }

    static ovsshm_io request(uint8_t op, uint64_t offset_bytes, uint64_t length_bytes)
    {
        ovsshm_io io = {};
        io.op = op;
        io.offset_bytes = offset_bytes;
        io.length_bytes = length_bytes;
        return io;
    }

    int64_t read(void *buffer, uint64_t length_bytes, uint64_t offset_bytes) const
    {
        ovsshm_io io = request(OVSSHM_OP_READ, offset_bytes, length_bytes);
        io.buffer = buffer;
        return run(io);
    }

    int64_t run(const ovsshm_io &io) const
    {
        auto open = get();
        if (io.length_bytes == 0 && io.op != OVSSHM_OP_FLUSH) {
            return 0; /* Python's files do nothing too; C refuses it */
        }
        return checked([&] {
            std::lock_guard<std::mutex> lock(open->turn);
            return ovsshm_queue_run(open->queue, &io);
        });
    }

    std::shared_ptr<Open> open_;
};

/* ---- connection ---------------------------------------------------------------------------- */

class Connection {
public:
    explicit Connection(const std::optional<py::str> &socket)
    {
        std::string path = socket ? name_bytes(*socket) : "";
        ovsshm_conn *conn = nullptr;
        checked([&] { return ovsshm_connect(socket ? path.c_str() : nullptr, &conn); });
        conn_ = std::shared_ptr<ovsshm_conn>(conn, ovsshm_disconnect);
    }

    void close() { conn_.reset(); }
    bool closed() const { return !conn_; }

    ovsshm_msg_hello_reply hello() const { return *ovsshm_conn_hello(get().get()); }

    struct ovsshm_status status() const
    {
        auto conn = get();
        struct ovsshm_status status;
        checked([&] { return ovsshm_status(conn.get(), &status); });
        return status;
    }

    void create(const py::str &name, uint64_t size_bytes) const
    {
        auto conn = get();
        std::string volume = name_bytes(name);
        checked([&] { return ovsshm_create(conn.get(), volume.c_str(), size_bytes); });
    }

    void remove(const py::str &name) const
    {
        auto conn = get();
        std::string volume = name_bytes(name);
        checked([&] { return ovsshm_remove(conn.get(), volume.c_str()); });
    }

    void resize(const py::str &name, uint64_t size_bytes) const
    {
        auto conn = get();
        std::string volume = name_bytes(name);
        checked([&] { return ovsshm_resize(conn.get(), volume.c_str(), size_bytes); });
    }

    ovsshm_volume_info stat(const py::str &name) const
    {
        auto conn = get();
        std::string volume = name_bytes(name);
        ovsshm_volume_info info;
        checked([&] { return ovsshm_stat(conn.get(), volume.c_str(), &info); });
        return info;
    }

    std::vector<ovsshm_volume_info> list() const
    {
        auto conn = get();
        return all<ovsshm_volume_info>([&](const char *after, ovsshm_volume_info *infos, unsigned count) {
            return ovsshm_list(conn.get(), after, infos, count);
        });
    }

    void snapshot_create(const py::str &volume, const py::str &snapshot, int64_t timeout_s) const
    {
        snapshot_call(volume, snapshot, [&](ovsshm_conn *conn, const char *v, const char *s) {
            return ovsshm_snapshot_create(conn, v, s, timeout_s);
        });
    }

    void snapshot_rollback(const py::str &volume, const py::str &snapshot) const
    {
        snapshot_call(volume, snapshot, ovsshm_snapshot_rollback);
    }

    void snapshot_remove(const py::str &volume, const py::str &snapshot) const
    {
        snapshot_call(volume, snapshot, ovsshm_snapshot_remove);
    }

    bool snapshot_is_synced(const py::str &volume, const py::str &snapshot) const
    {
        return snapshot_call(volume, snapshot, ovsshm_snapshot_is_synced) == 1;
    }

    std::vector<ovsshm_snapshot_info> snapshot_list(const py::str &name) const
    {
        auto conn = get();
        std::string volume = name_bytes(name);
        return all<ovsshm_snapshot_info>(
            [&](const char *after, ovsshm_snapshot_info *infos, unsigned count) {
                return ovsshm_snapshot_list(conn.get(), volume.c_str(), after, infos, count);
            });
    }

    std::unique_ptr<Volume> open(const py::str &name, bool writable, uint32_t depth,
                                 uint64_t arena_bytes) const
    {
        auto conn = get();
        std::string volume_name = name_bytes(name);
        ovsshm_open_params params = {};
        params.mode = writable ? OVSSHM_MODE_WRITE : OVSSHM_MODE_READ;
        params.depth = depth;
        params.arena_bytes = arena_bytes;
        ovsshm_volume *volume = nullptr;
        checked([&] { return ovsshm_open(conn.get(), volume_name.c_str(), &params, &volume); });
        return std::make_unique<Volume>(volume);
    }

private:
    std::shared_ptr<ovsshm_conn> get() const
    {
        if (!conn_) {
            throw py::value_error("the connection is closed");
        }
        return conn_;
    }

    template <class Call>
    int snapshot_call(const py::str &volume, const py::str &snapshot, Call call) const
    {
        auto conn = get();
        std::string v = name_bytes(volume);
        std::string s = name_bytes(snapshot);
        return checked([&] { return call(conn.get(), v.c_str(), s.c_str()); });
    }

    /* The whole of a list that C gives in pages. */
    template <class Info, class Page> static std::vector<Info> all(Page page)
    {
        std::vector<Info> found;
        Info infos[64];
        for (;;) {
            const char *after = found.empty() ? nullptr : found.back().name;
            int count = checked([&] { return page(after, infos, 64); });
            if (count == 0) {
                return found;
            }
            found.insert(found.end(), infos, infos + count);
        }
    }

    std::shared_ptr<ovsshm_conn> conn_;
};

std::string default_socket()
{
    char path[4096];
    checked([&] { return ovsshm_default_socket(path, sizeof(path)); });
    return path;
}

template <class Class> void context_manager(py::class_<Class> &cls)
{
    cls.def("close", &Class::close, "Close; again is fine.");
    cls.def_property_readonly("closed", &Class::closed);
    cls.def("__enter__", [](const py::object &self) { return self; });
    cls.def("__exit__", [](Class &self, const py::args &) { self.close(); });
}

} // namespace

PYBIND11_MODULE(_native, m)
{
    m.doc() = "Binding of <openvstorage/shm.h>.";
    m.attr("__version__") = ovsshm_version();
    m.def("default_socket", &default_socket, "Where a client looks when no socket is given.");
    bind_records(m);

    using py::arg;
    py::class_<Volume> volume(m, "Volume", "An open volume.  Made by Connection.open().");
    context_manager(volume);
    volume.def_property_readonly("size_bytes", &Volume::size_bytes, "The size now.")
        .def_property_readonly("limits", &Volume::limits, "Fixed while it is open.")
        .def("stat", &Volume::stat, "Ask the server about the volume.")
        .def("resize", &Volume::resize, arg("size_bytes"), "Grow it.")
        .def("set_writable", &Volume::set_writable, arg("writable"),
             "Take the writer's role, or give it up.")
        .def("pread", &Volume::pread, arg("length_bytes"), arg("offset_bytes"),
             "Read; fewer bytes only at the end of the volume, none beyond it.")
        .def("preadinto", &Volume::preadinto, arg("buffer"), arg("offset_bytes"),
             "Read into a writable buffer; the number of bytes.")
        .def("pwrite", &Volume::pwrite, arg("data"), arg("offset_bytes"), py::kw_only(),
             arg("fua") = false,
             "Write all of it; the number of bytes.  With fua it is durable when this returns.")
        .def("flush", &Volume::flush, "Make durable what has been written.")
        .def("discard", &Volume::discard, arg("length_bytes"), arg("offset_bytes"),
             "Say that these bytes are not needed; what they read as afterwards is undefined.")
        .def("write_zeroes", &Volume::write_zeroes, arg("length_bytes"), arg("offset_bytes"),
             py::kw_only(), arg("may_unmap") = true, arg("fua") = false,
             "Make them read as zeroes, with may_unmap by giving up their space.")
        .def("block_status", &Volume::block_status, arg("length_bytes"), arg("offset_bytes"),
             "Extents from the offset on; they may end before the range does: ask again from there.");

    py::class_<Connection> connection(m, "Connection", "A connection to a server, for management.");
    context_manager(connection);
    connection.def(py::init<std::optional<py::str>>(), arg("socket") = py::none())
        .def_property_readonly("hello", &Connection::hello, "The server's limits and names.")
        .def("status", &Connection::status, "Totals since the server started.")
        .def("create", &Connection::create, arg("name"), arg("size_bytes"),
             "Create a volume that reads as zeroes; sizes are multiples of 512.")
        .def("remove", &Connection::remove, arg("name"), "Remove a volume and its snapshots.")
        .def("resize", &Connection::resize, arg("name"), arg("size_bytes"), "Grow a volume.")
        .def("stat", &Connection::stat, arg("name"))
        .def("list", &Connection::list, "All volumes in order of name.")
        .def("snapshot_create", &Connection::snapshot_create, arg("volume"), arg("snapshot"),
             py::kw_only(), arg("timeout_s") = 0,
             "Wait timeout_s for it to be safe, else TimeoutError; 0: for ever, below 0: not.")
        .def("snapshot_rollback", &Connection::snapshot_rollback, arg("volume"), arg("snapshot"),
             "Put the contents back; newer snapshots are dropped.")
        .def("snapshot_remove", &Connection::snapshot_remove, arg("volume"), arg("snapshot"))
        .def("snapshot_is_synced", &Connection::snapshot_is_synced, arg("volume"), arg("snapshot"),
             "Is it safe in the store?")
        .def("snapshot_list", &Connection::snapshot_list, arg("volume"), "Oldest first.")
        .def("open", &Connection::open, arg("name"), py::kw_only(), arg("writable") = false,
             arg("depth") = 0, arg("arena_bytes") = 0,
             "Open a volume; one client at a time may have it writable, else EBUSY.  depth and\n"
             "arena_bytes: requests in flight and shared memory, 0 for the defaults.");
}
