/* SPDX-License-Identifier: MIT */
/* Where a volume has data: block-status as an iterator over a range of any length. */
#include <algorithm>
#include <memory>
#include <optional>

#include <pybind11/stl.h>

#include "construct.hpp"
#include "records.hpp"
#include "turns.hpp"
#include "volume.hpp"

namespace {

class Extents {
public:
    /* slack: how far behind the end a request reaches, to be of whole blocks. */
    Extents(py::object volume, uint64_t start, uint64_t end, uint64_t slack)
        : volume_(std::move(volume)), next_(start), end_(end), slack_(slack)
    {
        look(); /* what cannot be done at all is said at once */
    }

    Extent next()
    {
        Extent extent = {next_, 0, 0};
        while (look() && (extent.length_bytes == 0 || page_[index_].flags == extent.flags)) {
            uint64_t length_bytes = std::min(page_[index_].length_bytes, end_ - next_);
            extent.flags = page_[index_].flags;
            extent.length_bytes += length_bytes;
            next_ += length_bytes;
            index_++;
        }
        if (extent.length_bytes == 0) {
            throw py::stop_iteration();
        }
        return extent;
    }

private:
    /* Is one known that starts at next_?  Asks for more if need be. */
    bool look()
    {
        if (index_ == count_ && next_ < end_) {
            ask();
        }
        return index_ < count_ && next_ < end_;
    }

    void ask()
    {
        std::shared_ptr<Turns> turns = volume_.cast<const Volume &>().turns();
        auto call = std::make_unique<Call>(1);
        Request &request = call->items[0];
        request.block_status(end_ - next_ + slack_, next_);
        turns->run(call);
        if (request.result < 0) {
            turns->raise_failure(*call, request);
        }
        page_ = std::move(request.extents);
        count_ = static_cast<size_t>(request.result);
        index_ = 0;
    }

    py::object volume_;
    uint64_t next_; /* offset in the volume of what comes next */
    uint64_t end_;
    uint64_t slack_;
    std::unique_ptr<ovsshm_extent[]> page_; /* extents from next_ on, from index_ to count_ */
    size_t index_ = 0;
    size_t count_ = 0;
};

Extents block_status(const py::object &self,
                     std::optional<Count<named::length_bytes>> length_bytes,
                     Count<named::offset_bytes> offset_bytes)
{
    ovsshm_volume *volume = self.cast<const Volume &>().session()->volume;
    uint64_t size_bytes = ovsshm_volume_bytes(volume);
    uint64_t start = std::min(offset_bytes.value, size_bytes);
    uint64_t left = size_bytes - start;
    uint64_t length = length_bytes ? std::min(length_bytes->value, left) : left;
    uint64_t block_bytes = ovsshm_volume_limits(volume)->block_bytes;
    uint64_t slack = length == left ? -size_bytes % block_bytes : 0;
    return Extents(self, start, start + length, slack);
}

} // namespace

void bind_extents(py::module_ &m, VolumeClass &cls)
{
    using py::arg;
    py::class_<Extents> extents(m, "Extents", "Extents of a volume in order; an iterator, made by "
                                              "Volume.block_status().");
    forbid_construction(extents);
    extents.def("__iter__", [](const py::object &self) { return self; })
        .def("__next__", &Extents::next);
    cls.def("block_status", &block_status, arg("length_bytes") = py::none(),
            arg("offset_bytes") = 0,
            "Iterate over the Extents of a range; by default of the whole volume.\n\n"
            "Neighbours differ in kind, and together they cover the range as far as the volume\n"
            "goes.  They are asked for in portions, so that what is written meanwhile may show.\n"
            "EOPNOTSUPP: the store cannot tell.");
}
