/* SPDX-License-Identifier: MIT */
/*
 * Reading and writing, whose speed matters: the methods that Volume and LoopVolume have in common.
 * They differ in what becomes of a request: the one waits for it, the other returns a Future.
 */
#include <algorithm>

#include <pybind11/pybind11.h>

#include "fastcall.hpp"
#include "future.hpp"
#include "loop_volume.hpp"
#include "requests.hpp"
#include "turns.hpp"
#include "volume.hpp"

namespace {

using Kind = ResultKind;

/* A request that is waited for. */
template <Kind kind> class Wait {
public:
    explicit Wait(PyObject *volume)
        : turns_(self_of<Volume>(volume).turns()), call_(std::make_unique<Call>(1))
    {
    }

    Session &session() const { return *turns_->session; }
    Request &request() { return call_->items[0]; }

    PyObject *go()
    {
        turns_->run(call_);
        if (request().result < 0) {
            turns_->raise_failure(*call_, request());
        }
        return request_value(request(), kind);
    }

private:
    std::shared_ptr<Turns> turns_;
    std::unique_ptr<Call> call_;
};

/* A request that is awaited. */
template <Kind kind> class Await {
public:
    explicit Await(PyObject *volume)
        : object_(volume), volume_(self_of<LoopVolume>(volume)), session_(volume_.session()),
          future_(make_future(volume_.loop(), kind))
    {
    }
    ~Await() { Py_XDECREF(reinterpret_cast<PyObject *>(future_)); }
    Await(const Await &) = delete;
    Await &operator=(const Await &) = delete;

    Session &session() const { return *session_; }
    Request &request() { return future_->request; }

    PyObject *go() { return volume_.start(object_, std::exchange(future_, nullptr)); }

private:
    PyObject *object_;
    LoopVolume &volume_;
    std::shared_ptr<Session> session_; /* while Python's code makes the arguments numbers */
    Future *future_;
};

/* No read needs more memory than this. */
Py_ssize_t length_max(const Session &session)
{
    uint64_t block_bytes = ovsshm_volume_limits(session.volume)->block_bytes;
    uint64_t size_bytes = ovsshm_volume_bytes(session.volume);
    return static_cast<Py_ssize_t>(
        std::min<uint64_t>((size_bytes / block_bytes + 1) * block_bytes, PY_SSIZE_T_MAX));
}

/* ---- the methods: `Way` is Wait or Await ---------------------------------------------------- */

template <template <Kind> class Way>
PyObject *pread(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const Parameters parameters("pread", {"length_bytes", "offset_bytes"}, 2);
    PyObject *values[2];
    parameters.bind(args, count, keywords, values);
    Way<Kind::BYTES> way(self);
    auto length_bytes = static_cast<Py_ssize_t>(to_count(values[0], "length_bytes"));
    uint64_t offset_bytes = to_count(values[1], "offset_bytes");
    length_bytes = std::min(length_bytes, length_max(way.session()));
    way.request().read(View::of_new_bytes(length_bytes), offset_bytes);
    return way.go();
}

template <template <Kind> class Way>
PyObject *preadinto(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const Parameters parameters("preadinto", {"buffer", "offset_bytes"}, 2);
    PyObject *values[2];
    parameters.bind(args, count, keywords, values);
    Way<Kind::COUNT> way(self);
    way.request().read(View(values[0], PyBUF_WRITABLE), to_count(values[1], "offset_bytes"));
    return way.go();
}

template <template <Kind> class Way>
PyObject *preadv(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const Parameters parameters("preadv", {"buffers", "offset_bytes"}, 2);
    PyObject *values[2];
    parameters.bind(args, count, keywords, values);
    Way<Kind::COUNT> way(self);
    way.request().readv(Views(values[0], PyBUF_WRITABLE), to_count(values[1], "offset_bytes"));
    return way.go();
}

template <template <Kind> class Way>
PyObject *pwrite(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const Parameters parameters("pwrite", {"data", "offset_bytes", "fua"}, 2, 1);
    PyObject *values[3];
    parameters.bind(args, count, keywords, values);
    Way<Kind::COUNT> way(self);
    way.request().write(View(values[0], PyBUF_SIMPLE), to_count(values[1], "offset_bytes"),
                           to_bool(values[2], false));
    return way.go();
}

template <template <Kind> class Way>
PyObject *pwritev(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const Parameters parameters("pwritev", {"buffers", "offset_bytes", "fua"}, 2, 1);
    PyObject *values[3];
    parameters.bind(args, count, keywords, values);
    Way<Kind::COUNT> way(self);
    way.request().writev(Views(values[0], PyBUF_SIMPLE), to_count(values[1], "offset_bytes"),
                            to_bool(values[2], false));
    return way.go();
}

template <template <Kind> class Way>
PyObject *flush(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const Parameters parameters("flush", {}, 0);
    parameters.bind(args, count, keywords, nullptr);
    Way<Kind::NOTHING> way(self);
    way.request().flush();
    return way.go();
}

template <template <Kind> class Way>
PyObject *discard(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const Parameters parameters("discard", {"length_bytes", "offset_bytes"}, 2);
    PyObject *values[2];
    parameters.bind(args, count, keywords, values);
    Way<Kind::NOTHING> way(self);
    way.request().discard(to_count(values[0], "length_bytes"),
                             to_count(values[1], "offset_bytes"));
    return way.go();
}

template <template <Kind> class Way>
PyObject *write_zeroes(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const Parameters parameters(
        "write_zeroes", {"length_bytes", "offset_bytes", "may_unmap", "fua"}, 2, 2);
    PyObject *values[4];
    parameters.bind(args, count, keywords, values);
    Way<Kind::NOTHING> way(self);
    way.request().write_zeroes(to_count(values[0], "length_bytes"),
                                  to_count(values[1], "offset_bytes"), to_bool(values[2], true),
                                  to_bool(values[3], false));
    return way.go();
}

/* ---- LoopVolume only ------------------------------------------------------------------------ */

PyObject *extents(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const Parameters parameters("_extents", {"length_bytes", "offset_bytes"}, 2);
    PyObject *values[2];
    parameters.bind(args, count, keywords, values);
    Await<Kind::EXTENTS> way(self);
    way.request().block_status(to_count(values[0], "length_bytes"),
                               to_count(values[1], "offset_bytes"));
    return way.go();
}

PyObject *submit(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const Parameters parameters("_submit", {"requests"}, 1);
    PyObject *values[1];
    parameters.bind(args, count, keywords, values);
    auto &volume = self_of<LoopVolume>(self);
    volume.session();
    py::list futures;
    for (py::handle request : py::iter(py::handle(values[0]))) {
        Future *future = make_future(volume.loop(), Kind::COUNT);
        futures.append(py::reinterpret_steal<py::object>(reinterpret_cast<PyObject *>(future)));
        to_request(request.ptr(), future->request);
    }
    for (py::handle future : futures) {
        auto *object = future.inc_ref().ptr();
        Py_XDECREF(volume.start(self, reinterpret_cast<Future *>(object)));
    }
    return futures.release().ptr();
}

/* ---- binding -------------------------------------------------------------------------------- */

template <template <Kind> class Way> void bind(py::handle cls)
{
    add_fast_method<pread<Way>>(cls, "pread",
                           "pread($self, length_bytes, offset_bytes)\n--\n\n"
                           "Read into new bytes: fewer only at the volume's end, none beyond.");
    add_fast_method<preadinto<Way>>(
        cls, "preadinto",
        "preadinto($self, buffer, offset_bytes)\n--\n\n"
        "Read into a writable, contiguous buffer; returns the number of bytes, as pread().\n\n"
        "A Buffer of this volume, or a part of one, is read into without a copy.  BufferError\n"
        "when it is read-only or not contiguous, TypeError when it is no buffer.");
    add_fast_method<preadv<Way>>(
        cls, "preadv",
        "preadv($self, buffers, offset_bytes)\n--\n\n"
        "Read one range into several buffers, one after the other; returns the bytes read.\n\n"
        "buffers: any iterable of what preadinto() takes.");
    add_fast_method<pwrite<Way>>(
        cls, "pwrite",
        "pwrite($self, data, offset_bytes, *, fua=False)\n--\n\n"
        "Write all of data, contiguous bytes of any kind; returns their number.\n\n"
        "With fua they are durable when this returns.  EFBIG: they reach beyond the end;\n"
        "EBADF: not open for writing.");
    add_fast_method<pwritev<Way>>(
        cls, "pwritev",
        "pwritev($self, buffers, offset_bytes, *, fua=False)\n--\n\n"
        "Write several buffers, one behind the other; returns the number of bytes.\n\n"
        "buffers: any iterable of what pwrite() takes.");
    add_fast_method<flush<Way>>(cls, "flush",
                           "flush($self)\n--\n\n"
                           "Make durable what has been written before this call.");
    add_fast_method<discard<Way>>(
        cls, "discard",
        "discard($self, length_bytes, offset_bytes)\n--\n\n"
        "Say that these bytes are not needed; what they read as afterwards is undefined.");
    add_fast_method<write_zeroes<Way>>(
        cls, "write_zeroes",
        "write_zeroes($self, length_bytes, offset_bytes, *, may_unmap=True, fua=False)\n--\n\n"
        "Make them read as zeroes; with may_unmap the store may give up their space.");
}

} // namespace

void bind_transfer(VolumeClass &cls)
{
    bind<Wait>(cls);
}

void bind_transfer(LoopVolumeClass &cls)
{
    bind<Await>(cls);
    add_fast_method<extents>(cls, "_extents",
                             "_extents($self, length_bytes, offset_bytes)\n--\n\n"
                             "A portion of block_status().");
    add_fast_method<submit>(cls, "_submit",
                            "_submit($self, requests)\n--\n\nA Future of each, all or none.");
}
