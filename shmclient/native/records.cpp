/* SPDX-License-Identifier: MIT */
/* Records: plain C structs as read-only Python objects. */
#include "records.hpp"

#include "construct.hpp"
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

    template <class Member> RecordBinder &field(const char *name, const char *doc, Member member)
    {
        if constexpr (std::is_member_object_pointer_v<Member>) {
            cls_.def_readonly(name, member, doc);
        } else {
            cls_.def_property_readonly(name, member, doc);
        }
        fields_.append(name);
        return *this;
    }

    template <class Make> RecordBinder &constructor(Make make)
    {
        cls_.def(py::init(make));
        require_init(cls_);
        constructible_ = true;
        return *this;
    }

    ~RecordBinder()
    {
        if (!constructible_) {
            forbid_construction(cls_);
        }
        cls_.attr("_fields") = py::tuple(fields_);
        cls_.def("_asdict", &asdict, "Field names and values, in order.");
        cls_.def("__repr__", [](const py::object &self) {
            py::list values;
            for (auto item : asdict(self)) {
                values.append(py::str("{}={!r}").format(item.first, item.second));
            }
            return py::str("{}({})").format(py::type::of(self).attr("__name__"),
                                            py::str(", ").attr("join")(values));
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
    bool constructible_ = false;
    py::list fields_;
};

} // namespace

void bind_records(py::module_ &m)
{
    using Info = ovsshm_volume_info;
    RecordBinder<Info>(m, "VolumeInfo", "A volume as the server knows it.")
        .field("name", "As it is opened.", [](const Info &info) { return text(info.name); })
        .field("size_bytes", "A multiple of 512.", &Info::size_bytes)
        .field("allocated_bytes", "What it takes in the store.", &Info::allocated_bytes)
        .field("block_bytes", "Requests are aligned to it; 1: any will do.", &Info::block_bytes)
        .field("writers", "0 or 1: sessions that have it open for writing.", &Info::writers)
        .field("readers", "Sessions that have it open for reading.", &Info::readers)
        .field("snapshots", "How many it has.", &Info::snapshots);

    using Snapshot = ovsshm_snapshot_info;
    RecordBinder<Snapshot>(m, "SnapshotInfo", "A snapshot of a volume.")
        .field("name", "Unique among those of its volume.",
               [](const Snapshot &info) { return text(info.name); })
        .field("size_bytes", "Of the volume, then.", &Snapshot::size_bytes)
        .field("allocated_bytes", "What it takes in the store.", &Snapshot::allocated_bytes)
        .field("created_ns", "When it was made, since the epoch.", &Snapshot::created_ns);

    using Hello = ovsshm_msg_hello_reply;
    RecordBinder<Hello>(m, "Hello", "What the server said when the connection was made.")
        .field("server", "Program and version.",
               [](const Hello &hello) { return text(hello.server); })
        .field("store", "Which one it serves.",
               [](const Hello &hello) { return text(hello.store); })
        .field("version", "Of the protocol.", &Hello::version)
        .field("capabilities", "What the store can do: \"write\", \"discard\", ...",
               [](const Hello &hello) { return capability_names(hello.capabilities); })
        .field("queues_max", "Of an open volume.", &Hello::queues_max)
        .field("depth_max", "Requests in flight on a queue.", &Hello::depth_max)
        .field("request_bytes_max", "Longer reads and writes are split.", &Hello::request_bytes_max)
        .field("range_bytes_max", "Longer ranges of other requests are split.",
               &Hello::range_bytes_max)
        .field("segments_max", "Buffers of one request; more are split.", &Hello::segments_max)
        .field("arena_bytes_max", "Shared memory of an open volume.", &Hello::arena_bytes_max);

    using Status = struct ovsshm_status;
    RecordBinder<Status>(m, "Status", "Totals since the server started.")
        .field("pid", "The server's process.", &Status::pid)
        .field("uptime_ns", "Since it started.", &Status::uptime_ns)
        .field("connections", "Clients now.", &Status::connections)
        .field("sessions", "Open volumes now.", &Status::sessions)
        .field("reactors", "Threads that serve requests.", &Status::reactors)
        .field("requests", "Completed, with any result.", &Status::requests)
        .field("errors", "Completed with an error.", &Status::errors)
        .field("read_bytes", "By reads that succeeded.", &Status::read_bytes)
        .field("written_bytes", "By writes that succeeded.", &Status::written_bytes)
        .field("doorbells", "Rung for clients that slept.", &Status::doorbells)
        .field("sleeps", "Of reactors that had nothing to do.", &Status::sleeps)
        .field("violations", "Sessions ended as their client broke the rules.",
               &Status::violations);

    using Limits = ovsshm_limits;
    RecordBinder<Limits>(m, "Limits", "Limits of an open volume, fixed while it is open.")
        .field("block_bytes", "Offsets and lengths are multiples; 1: any will do.",
               &Limits::block_bytes)
        .field("request_bytes_max", "Longer reads and writes are split.",
               &Limits::request_bytes_max)
        .field("range_bytes_max", "Longer ranges of other requests are split.",
               &Limits::range_bytes_max)
        .field("depth", "Requests in flight.", &Limits::depth)
        .field("queues", "Rings that requests go through.", &Limits::queues)
        .field("arena_bytes", "Shared memory for data.", &Limits::arena_bytes)
        .field("capabilities", "What can be done: \"write\", \"discard\", ...",
               [](const Limits &limits) { return capability_names(limits.capabilities); });

    using Session = ovsshm_session_info;
    RecordBinder<Session>(m, "SessionInfo", "A volume that a client has open, since it opened it.")
        .field("id", "Ascending, never used again.", &Session::id)
        .field("client", "The program, as it calls itself.",
               [](const Session &info) { return text(info.client); })
        .field("pid", "Of the client, when it connected.", &Session::pid)
        .field("uid", "Its user.", &Session::uid)
        .field("volume", "What it has open.", [](const Session &info) { return text(info.volume); })
        .field("mode", "\"read\" or \"write\".",
               [](const Session &info) { return mode_name(info.mode); })
        .field("queues", "Rings that requests go through.", &Session::queues)
        .field("in_flight", "Taken by the server and not completed.", &Session::in_flight)
        .field("uptime_ns", "Since it opened the volume.", &Session::uptime_ns)
        .field("reads", "Completed, with any result.", &Session::reads)
        .field("writes", "Completed, with any result.", &Session::writes)
        .field("others", "Completed: flush, discard, write-zeroes, block-status.", &Session::others)
        .field("errors", "Of these three, those with an error.", &Session::errors)
        .field("read_bytes", "By reads that succeeded.", &Session::read_bytes)
        .field("written_bytes", "By writes that succeeded.", &Session::written_bytes)
        .field("latency_ns", "In the server, of all completed together.", &Session::latency_ns)
        .field("latency_counts",
               "How many took from 2**i ns on: element i; the last also more, the first also less.",
               [](const Session &info) { return tuple_of(info.latency_counts); })
        .field("doorbells", "Rung for the client when it slept.", &Session::doorbells);

    using Event = ovsshm_msg_event;
    RecordBinder<Event>(m, "Event",
                        "What the server says about an open volume by itself.\n\n"
                        "kind \"resized\": value is the size in bytes; \"draining\": the server is "
                        "going to stop;\n\"ended\": the session is over, value is -errno.")
        .field("kind", "\"resized\", \"draining\" or \"ended\".",
               [](const Event &event) { return event_name(event.event); })
        .field("value", "By kind.", &Event::value)
        .field("reason", "Text of the server, may be empty.",
               [](const Event &event) { return text(event.reason); });

    RecordBinder<Extent>(m, "Extent",
                         "A stretch of a volume that is all alike.\n\n"
                         "hole: not allocated; zero: reads as zeroes.")
        .constructor([](Count<named::offset_bytes> offset_bytes,
                        Count<named::length_bytes> length_bytes, bool hole, bool zero) {
            uint32_t flags = (hole ? OVSSHM_EXTENT_HOLE : 0) | (zero ? OVSSHM_EXTENT_ZERO : 0);
            return Extent{offset_bytes.value, length_bytes.value, flags};
        })
        .field("offset_bytes", "Where in the volume.", &Extent::offset_bytes)
        .field("length_bytes", "Up to its end, or where another kind begins.",
               &Extent::length_bytes)
        .field("hole", "Not allocated.",
               [](const Extent &extent) { return (extent.flags & OVSSHM_EXTENT_HOLE) != 0; })
        .field("zero", "Reads as zeroes.",
               [](const Extent &extent) { return (extent.flags & OVSSHM_EXTENT_ZERO) != 0; });
}
