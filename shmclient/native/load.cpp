/* SPDX-License-Identifier: MIT */
#include "load.hpp"

#include <cerrno>
#include <cstring>
#include <ctime>
#include <optional>
#include <stdexcept>

#include <pybind11/stl.h>

#include "construct.hpp"
#include "convert.hpp"
#include "volume.hpp"
#include "wait.hpp"

namespace {

constexpr unsigned REAP_MAX = 64;

uint64_t clock_ns(clockid_t clock)
{
    timespec ts;
    clock_gettime(clock, &ts);
    return static_cast<uint64_t>(ts.tv_sec) * 1000000000 + static_cast<uint64_t>(ts.tv_nsec);
}

uint64_t slice_ns()
{
    return static_cast<uint64_t>(std::chrono::nanoseconds(SIGNAL_SLICE).count());
}

} // namespace

Load::Load(std::shared_ptr<Session> opened, const LoadPlan &wanted)
    : session(std::move(opened)), plan(wanted), slots_(wanted.depth), random_(wanted.seed)
{
    for (size_t i = 0; i < slots_.size(); i++) {
        if (plan.read_percent != 0) {
            slots_[i].into = allocate();
        }
        if (plan.read_percent != 100) {
            slots_[i].from = allocate();
            fill(slots_[i].from);
        }
        idle_.push_back(i);
    }
}

void *Load::allocate()
{
    void *buffer = ovsshm_buffer_alloc(session->volume, plan.block_bytes);
    if (!buffer) {
        raise_os_error(ENOMEM, ovsshm_reason());
    }
    return buffer;
}

/* With something that does not compress, and that no store takes for zeroes. */
void Load::fill(void *buffer)
{
    auto *bytes = static_cast<unsigned char *>(buffer);
    for (uint64_t i = 0; i < plan.block_bytes; i += sizeof(uint64_t)) {
        uint64_t word = random_.next();
        memcpy(bytes + i, &word, std::min<uint64_t>(sizeof(word), plan.block_bytes - i));
    }
}

bool Load::advance(uint64_t deadline_ns)
{
    ovsshm_completion completions[REAP_MAX];
    uint64_t cpu_before_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);
    uint64_t pause_ns = now_ns + slice_ns();
    bool over = false;
    while (!over && now_ns < pause_ns) {
        int count = ovsshm_queue_wait(session->queue, completions, REAP_MAX,
                                      static_cast<int64_t>(slice_ns()));
        now_ns = clock_ns(CLOCK_MONOTONIC);
        for (int i = 0; i < count; i++) {
            finish(completions[i], now_ns);
        }
        if (now_ns < deadline_ns && !stopped_ && failed.result == 0) {
            start(now_ns);
        }
        over = idle_.size() == slots_.size();
    }
    cpu_ns += clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_before_ns;
    return over;
}

/* As many as may be in flight. */
void Load::start(uint64_t now_ns)
{
    while (!idle_.empty() && start(idle_.back(), now_ns)) {
        idle_.pop_back();
    }
    ovsshm_queue_submit(session->queue);
}

bool Load::start(size_t index, uint64_t now_ns)
{
    Slot &slot = slots_[index];
    bool write = random_.below(100) >= plan.read_percent;
    uint64_t block = plan.random ? random_.below(plan.blocks) : next_block_++ % plan.blocks;
    slot.started_ns = now_ns;
    slot.io = {};
    slot.io.op = write ? OVSSHM_OP_WRITE : OVSSHM_OP_READ;
    slot.io.offset_bytes = plan.offset_bytes + block * plan.block_bytes;
    slot.io.length_bytes = plan.block_bytes;
    slot.io.buffer = write ? slot.from : slot.into;
    slot.io.user_data = index;
    int rc = ovsshm_queue_prep(session->queue, &slot.io);
    if (rc == 0) {
        return true;
    }
    if (rc != -EAGAIN || idle_.size() == slots_.size()) {
        failed.io = slot.io;
        failed.result = rc;
    }
    return false;
}

void Load::finish(const ovsshm_completion &completion, uint64_t now_ns)
{
    const Slot &slot = slots_[completion.user_data];
    idle_.push_back(completion.user_data);
    if (completion.result != static_cast<int64_t>(plan.block_bytes)) {
        failed.io = slot.io;
        failed.result = completion.result < 0 ? completion.result : -EIO;
        return;
    }
    LoadCounts &counts = slot.io.op == OVSSHM_OP_WRITE ? writes : reads;
    counts.latencies.add(now_ns - slot.started_ns);
    counts.requests.store(counts.latencies.count(), std::memory_order_relaxed);
}

/* ---- as Python has it ---------------------------------------------------------------------- */

namespace {

/* A Load, and who is in it. */
class Run {
public:
    Run(std::shared_ptr<Session> session, const LoadPlan &plan) : load_(std::move(session), plan) {}

    /* A load runs once. */
    void run(Count<named::duration_ns> duration_ns)
    {
        if (started_.exchange(true)) {
            throw std::runtime_error("the load has been run already");
        }
        uint64_t begin_ns = clock_ns(CLOCK_MONOTONIC);
        uint64_t deadline_ns = begin_ns + duration_ns.value;
        for (bool over = false; !over;) {
            {
                GilReleased released;
                over = load_.advance(deadline_ns);
            }
            check_signals();
        }
        elapsed_ns_ = clock_ns(CLOCK_MONOTONIC) - begin_ns;
        if (load_.failed.result < 0) {
            raise_failure(*load_.session, load_.failed);
        }
    }

    void stop() { load_.stop(); }
    uint64_t reads() const { return load_.reads.requests.load(std::memory_order_relaxed); }
    uint64_t writes() const { return load_.writes.requests.load(std::memory_order_relaxed); }

    /* What only a load that is over can say. */
    Histogram read_latencies() const { return over().reads.latencies; }
    Histogram write_latencies() const { return over().writes.latencies; }
    uint64_t cpu_ns() const { return over().cpu_ns; }
    uint64_t elapsed_ns() const { return over(), elapsed_ns_; }

private:
    const Load &over() const
    {
        if (elapsed_ns_ == 0) {
            throw std::runtime_error("the load is not over");
        }
        return load_;
    }

    Load load_;
    std::atomic<bool> started_{false};
    uint64_t elapsed_ns_ = 0;
};

std::unique_ptr<Run> make_run(Volume &volume, Count<named::read_percent> read_percent, bool random,
                              Count<named::block_bytes> block_bytes, Count<named::depth> depth,
                              Count<named::offset_bytes> offset_bytes,
                              std::optional<Count<named::length_bytes>> length_bytes,
                              Count<named::seed> seed)
{
    uint64_t size_bytes = ovsshm_volume_bytes(volume.session()->volume);
    uint64_t start = std::min(offset_bytes.value, size_bytes);
    uint64_t length = std::min(length_bytes ? length_bytes->value : size_bytes, size_bytes - start);
    if (read_percent.value > 100) {
        throw py::value_error("read_percent must be 0 to 100");
    }
    if (block_bytes.value == 0 || length < block_bytes.value) {
        throw py::value_error("the range has no room for a block");
    }
    if (depth.value == 0 || depth.value > ovsshm_volume_limits(volume.session()->volume)->depth) {
        throw py::value_error("depth must be 1 to that of the volume");
    }
    LoadPlan plan = {};
    plan.read_percent = read_percent.value;
    plan.random = random;
    plan.block_bytes = block_bytes.value;
    plan.depth = depth.value;
    plan.offset_bytes = start;
    plan.blocks = length / block_bytes.value;
    plan.seed = seed.value;
    return std::make_unique<Run>(volume.take_session(), plan);
}

void bind_histogram(py::module_ &m)
{
    using py::arg;
    py::class_<Histogram> cls(
        m, "LatencyHistogram",
        "Latencies in nanoseconds, counted in buckets: right within 0.4 %.\n\n"
        "Threads: one at a time.");
    require_init(cls);
    cls.def(py::init<>())
        .def(
            "add",
            [](Histogram &self, Count<named::latency_ns> latency_ns) {
                self.add(latency_ns.value);
            },
            arg("latency_ns"), "Count one.")
        .def("merge", &Histogram::merge, arg("other"), "Count all of another one too.")
        .def_property_readonly("count", &Histogram::count, "How many were counted.")
        .def_property_readonly("min_ns", &Histogram::min_ns, "Exact; 0 when there are none.")
        .def_property_readonly("max_ns", &Histogram::max_ns, "Exact; 0 when there are none.")
        .def_property_readonly("mean_ns", &Histogram::mean_ns, "Exact; 0 when there are none.")
        .def(
            "percentile_ns",
            [](const Histogram &self, double percent) {
                if (!(percent >= 0 && percent <= 100)) {
                    throw py::value_error("percent must be 0 to 100");
                }
                return self.percentile_ns(percent);
            },
            arg("percent"), "What so many per cent do not exceed; 0 when there are none.");
}

} // namespace

void bind_load(py::module_ &m)
{
    using py::arg;
    bind_histogram(m);
    py::class_<Run> cls(m, "Load", R"(A load on a volume, made without Python in its way.

depth requests of block_bytes are in flight, each replaced by another when it has completed:
read_percent of them are reads, the others writes.  random: anywhere in the range, by the seed;
else one block after the other, over and over.  The range is length_bytes from offset_bytes on, by
default the whole volume.

Takes the volume over: it is closed for others, and ends with the load.  Its arena must have
room for depth buffers of block_bytes, or twice that for reads and writes, else OSError ENOMEM.

Threads: run() in one; stop() and the numbers of reads and writes in any, also while it runs.)");
    require_init(cls);
    cls.def(py::init(&make_run), arg("volume"), py::kw_only(), arg("read_percent") = 100,
             arg("random") = true, arg("block_bytes") = 4096, arg("depth") = 1,
             arg("offset_bytes") = 0, arg("length_bytes") = py::none(),
             arg("seed") = 0)
        .def("run", &Run::run, arg("duration_ns"),
             "Go on for so long, once, and wait for what is in flight; the GIL is released.\n\n"
             "The first request that fails ends it and is raised, an OSError.")
        .def("stop", &Run::stop, "Let it end now.")
        .def_property_readonly("reads", &Run::reads, "Completed so far.")
        .def_property_readonly("writes", &Run::writes, "Completed so far.")
        .def_property_readonly("read_latencies", &Run::read_latencies,
                               "From submission to completion, a LatencyHistogram; at the end.")
        .def_property_readonly("write_latencies", &Run::write_latencies, "The same of the writes.")
        .def_property_readonly("cpu_ns", &Run::cpu_ns, "Of the thread in run(); when it is over.")
        .def_property_readonly("elapsed_ns", &Run::elapsed_ns, "When it is over.");
}
