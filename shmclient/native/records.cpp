/* SPDX-License-Identifier: MIT */
/* Records: plain C structs as read-only Python objects. */
#include "records.hpp"

#include "convert.hpp"

namespace {

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

const char *mode_name(uint32_t mode)
{
    return mode == OVSSHM_MODE_WRITE ? "write" : "read";
}

const char *event_name(uint32_t event)
{
    switch (event) {
    case OVSSHM_EVENT_RESIZED: return "resized";
    case OVSSHM_EVENT_DRAINING: return "draining";
    default: return "ended";
    }
}

template <size_t count> py::tuple tuple_of(const uint64_t (&numbers)[count])
{
    py::tuple result(count);
    for (size_t i = 0; i < count; i++) {
        result[i] = numbers[i];
    }
    return result;
}

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

} // namespace

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

    using Session = ovsshm_session_info;
    RecordBinder<Session>(m, "SessionInfo", "A volume that a client has open, since it opened it.")
        .field("id", &Session::id)
        .field("client", [](const Session &info) { return text(info.client); })
        .field("pid", &Session::pid)
        .field("uid", &Session::uid)
        .field("volume", [](const Session &info) { return text(info.volume); })
        .field("mode", [](const Session &info) { return mode_name(info.mode); })
        .field("queues", &Session::queues)
        .field("in_flight", &Session::in_flight)
        .field("uptime_ns", &Session::uptime_ns)
        .field("reads", &Session::reads)
        .field("writes", &Session::writes)
        .field("others", &Session::others)
        .field("errors", &Session::errors)
        .field("read_bytes", &Session::read_bytes)
        .field("written_bytes", &Session::written_bytes)
        .field("latency_ns", &Session::latency_ns)
        .field("latency_counts", [](const Session &info) { return tuple_of(info.latency_counts); })
        .field("doorbells", &Session::doorbells);

    using Event = ovsshm_msg_event;
    RecordBinder<Event>(m, "Event",
                        "What the server says about an open volume by itself.\n\n"
                        "kind \"resized\": value is the size in bytes; \"draining\": the server is "
                        "going to stop;\n\"ended\": the session is over, value is -errno.")
        .field("kind", [](const Event &event) { return event_name(event.event); })
        .field("value", &Event::value)
        .field("reason", [](const Event &event) { return text(event.reason); });

    RecordBinder<Extent>(m, "Extent",
                         "A stretch of a volume that is all alike.\n\n"
                         "hole: not allocated; zero: reads as zeroes.")
        .field("offset_bytes", &Extent::offset_bytes)
        .field("length_bytes", &Extent::length_bytes)
        .field("hole", [](const Extent &extent) { return (extent.flags & OVSSHM_EXTENT_HOLE) != 0; })
        .field("zero", [](const Extent &extent) { return (extent.flags & OVSSHM_EXTENT_ZERO) != 0; });
}
