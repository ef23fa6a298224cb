/* SPDX-License-Identifier: MIT */
/* Reading and writing: the calls whose speed matters. */
#include <algorithm>

#include <pybind11/pybind11.h>

#include "fastcall.hpp"
#include "request.hpp"
#include "turns.hpp"
#include "volume.hpp"

namespace {

/* A call of one request. */
class Single {
public:
    explicit Single(PyObject *volume)
        : turns_(self_of<Volume>(volume).turns()), call_(std::make_unique<Call>(1))
    {
    }

    Request &request() { return call_->items[0]; }

    int64_t run()
    {
        turns_->run(call_);
        if (request().result < 0) {
            turns_->raise_failure(*call_, request());
        }
        return request().result;
    }

    /* A read of length_bytes needs no more memory than this. */
    Py_ssize_t length_max() const
    {
        ovsshm_volume *volume = turns_->session->volume;
        uint64_t block_bytes = ovsshm_volume_limits(volume)->block_bytes;
        uint64_t size_bytes = ovsshm_volume_bytes(volume);
        return static_cast<Py_ssize_t>(std::min<uint64_t>(
            (size_bytes / block_bytes + 1) * block_bytes, PY_SSIZE_T_MAX));
    }

    PyObject *run_for_count() { return PyLong_FromLongLong(run()); }

    PyObject *run_for_none()
    {
        run();
        Py_RETURN_NONE;
    }

private:
    std::shared_ptr<Turns> turns_;
    std::unique_ptr<Call> call_;
};

PyObject *pread(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const Parameters parameters("pread", {"length_bytes", "offset_bytes"}, 2);
    PyObject *values[2];
    parameters.bind(args, count, keywords, values);
    Single single(self);
    auto length_bytes = static_cast<Py_ssize_t>(to_count(values[0], "length_bytes"));
    uint64_t offset_bytes = to_count(values[1], "offset_bytes");
    length_bytes = std::min(length_bytes, single.length_max());
    single.request().read(View::of_new_bytes(length_bytes), offset_bytes);
    int64_t found = single.run();
    PyObject *bytes = single.request().view.take();
    if (found != length_bytes) {
        _PyBytes_Resize(&bytes, found);
    }
    return bytes;
}

PyObject *preadinto(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const Parameters parameters("preadinto", {"buffer", "offset_bytes"}, 2);
    PyObject *values[2];
    parameters.bind(args, count, keywords, values);
    Single single(self);
    single.request().read(View(values[0], PyBUF_WRITABLE), to_count(values[1], "offset_bytes"));
    return single.run_for_count();
}

PyObject *preadv(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const Parameters parameters("preadv", {"buffers", "offset_bytes"}, 2);
    PyObject *values[2];
    parameters.bind(args, count, keywords, values);
    Single single(self);
    single.request().readv(Views(values[0], PyBUF_WRITABLE), to_count(values[1], "offset_bytes"));
    return single.run_for_count();
}

PyObject *pwrite(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const Parameters parameters("pwrite", {"data", "offset_bytes", "fua"}, 2, 1);
    PyObject *values[3];
    parameters.bind(args, count, keywords, values);
    Single single(self);
    single.request().write(View(values[0], PyBUF_SIMPLE), to_count(values[1], "offset_bytes"),
                           to_bool(values[2], false));
    return single.run_for_count();
}

PyObject *pwritev(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const Parameters parameters("pwritev", {"buffers", "offset_bytes", "fua"}, 2, 1);
    PyObject *values[3];
    parameters.bind(args, count, keywords, values);
    Single single(self);
    single.request().writev(Views(values[0], PyBUF_SIMPLE), to_count(values[1], "offset_bytes"),
                            to_bool(values[2], false));
    return single.run_for_count();
}

PyObject *flush(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const Parameters parameters("flush", {}, 0);
    parameters.bind(args, count, keywords, nullptr);
    Single single(self);
    single.request().flush();
    return single.run_for_none();
}

PyObject *discard(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const Parameters parameters("discard", {"length_bytes", "offset_bytes"}, 2);
    PyObject *values[2];
    parameters.bind(args, count, keywords, values);
    Single single(self);
    single.request().discard(to_count(values[0], "length_bytes"),
                             to_count(values[1], "offset_bytes"));
    return single.run_for_none();
}

PyObject *write_zeroes(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const Parameters parameters(
        "write_zeroes", {"length_bytes", "offset_bytes", "may_unmap", "fua"}, 2, 2);
    PyObject *values[4];
    parameters.bind(args, count, keywords, values);
    Single single(self);
    single.request().write_zeroes(to_count(values[0], "length_bytes"),
                                  to_count(values[1], "offset_bytes"), to_bool(values[2], true),
                                  to_bool(values[3], false));
    return single.run_for_none();
}

} // namespace

void bind_transfer(VolumeClass &cls)
{
    add_fast_method<pread>(cls, "pread",
                           "pread($self, length_bytes, offset_bytes)\n--\n\n"
                           "Read into new bytes: fewer only at the end of the volume, none beyond.");
    add_fast_method<preadinto>(
        cls, "preadinto",
        "preadinto($self, buffer, offset_bytes)\n--\n\n"
        "Read into a writable, contiguous buffer; returns the number of bytes, as pread().\n\n"
        "A Buffer of this volume, or a part of one, is read into without a copy.  BufferError when\n"
        "it is read-only or not contiguous, TypeError when it is no buffer.");
    add_fast_method<preadv>(
        cls, "preadv",
        "preadv($self, buffers, offset_bytes)\n--\n\n"
        "Read one range into several buffers, one behind the other; returns the number of bytes.\n\n"
        "buffers: any iterable of what preadinto() takes.");
    add_fast_method<pwrite>(
        cls, "pwrite",
        "pwrite($self, data, offset_bytes, *, fua=False)\n--\n\n"
        "Write all of data, contiguous bytes of any kind; returns their number.\n\n"
        "With fua they are durable when this returns.  EFBIG: they reach beyond the end; EBADF: not\n"
        "open for writing.");
    add_fast_method<pwritev>(
        cls, "pwritev",
        "pwritev($self, buffers, offset_bytes, *, fua=False)\n--\n\n"
        "Write several buffers, one behind the other; returns the number of bytes.\n\n"
        "buffers: any iterable of what pwrite() takes.");
    add_fast_method<flush>(cls, "flush",
                           "flush($self)\n--\n\n"
                           "Make durable what has been written before this call.");
    add_fast_method<discard>(
        cls, "discard",
        "discard($self, length_bytes, offset_bytes)\n--\n\n"
        "Say that these bytes are not needed; what they read as afterwards is undefined.");
    add_fast_method<write_zeroes>(
        cls, "write_zeroes",
        "write_zeroes($self, length_bytes, offset_bytes, *, may_unmap=True, fua=False)\n--\n\n"
        "Make them read as zeroes; with may_unmap the store may give up their space.");
}
