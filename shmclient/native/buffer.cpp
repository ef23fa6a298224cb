/* SPDX-License-Identifier: MIT */
#include "buffer.hpp"

#include <cerrno>
#include <new>

#include "convert.hpp"

namespace {

/* The memory; given back at the end, to the arena if that is still there. */
class ArenaPiece {
public:
    ArenaPiece(const std::shared_ptr<Session> &session, uint64_t bytes)
        : length_bytes(bytes), data(ovsshm_buffer_alloc(session->volume, bytes)),
          session_(session)
    {
        if (!data) {
            raise_os_error(ENOMEM, ovsshm_reason());
        }
        memory_ = ovsshm_volume_hold(session->volume);
    }
    ~ArenaPiece()
    {
        if (std::shared_ptr<Session> session = session_.lock()) {
            ovsshm_buffer_free(session->volume, data);
        }
        ovsshm_memory_release(memory_);
    }
    ArenaPiece(const ArenaPiece &) = delete;
    ArenaPiece &operator=(const ArenaPiece &) = delete;

    const uint64_t length_bytes;
    void *const data;
    const Origin origin;

private:
    std::weak_ptr<Session> session_;
    ovsshm_memory *memory_;
};

struct Buffer {
    PyObject_HEAD
    ArenaPiece *piece; /* nullptr: released */
    Py_ssize_t exports;
};

PyTypeObject *type;

Buffer *buffer_of(PyObject *self)
{
    return reinterpret_cast<Buffer *>(self);
}

void buffer_dealloc(PyObject *self)
{
    delete buffer_of(self)->piece; /* without exports: each has a reference */
    PyTypeObject *own = Py_TYPE(self);
    own->tp_free(self);
    Py_DECREF(own);
}

int buffer_get(PyObject *self, Py_buffer *view, int flags)
{
    Buffer *buffer = buffer_of(self);
    view->obj = nullptr;
    if (!buffer->piece) {
        PyErr_SetString(PyExc_ValueError, "the buffer has been released");
        return -1;
    }
    if (!buffer->piece->origin.here()) {
        PyErr_SetString(PyExc_RuntimeError, "the buffer belongs to the process before fork()");
        return -1;
    }
    if (PyBuffer_FillInfo(view, self, buffer->piece->data,
                          static_cast<Py_ssize_t>(buffer->piece->length_bytes), 0, flags) != 0) {
        return -1;
    }
    buffer->exports++;
    return 0;
}

void buffer_put(PyObject *self, Py_buffer *)
{
    buffer_of(self)->exports--;
}

PyObject *buffer_release(PyObject *self, PyObject *)
{
    Buffer *buffer = buffer_of(self);
    if (buffer->exports != 0) {
        PyErr_Format(PyExc_BufferError,
                     "the buffer is in use: %zd views of it, or requests in flight, are left",
                     buffer->exports);
        return nullptr;
    }
    delete buffer->piece;
    buffer->piece = nullptr;
    Py_RETURN_NONE;
}

PyObject *buffer_enter(PyObject *self, PyObject *)
{
    Py_INCREF(self);
    return self;
}

PyObject *buffer_exit(PyObject *self, PyObject *)
{
    return buffer_release(self, nullptr);
}

PyObject *buffer_released(PyObject *self, void *)
{
    return PyBool_FromLong(buffer_of(self)->piece == nullptr);
}

Py_ssize_t buffer_length(PyObject *self)
{
    const ArenaPiece *piece = buffer_of(self)->piece;
    return piece ? static_cast<Py_ssize_t>(piece->length_bytes) : 0;
}

PyMethodDef methods[] = {
    {"release", buffer_release, METH_NOARGS,
     "release($self, /)\n--\n\n"
     "Give the memory back; again is fine.\n\n"
     "Raises BufferError while a memoryview, an array or a request in flight uses it."},
    {"__enter__", buffer_enter, METH_NOARGS, nullptr},
    {"__exit__", buffer_exit, METH_VARARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef properties[] = {
    {"released", buffer_released, nullptr, "Has it been given back?", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

const char doc[] =
    "Shared memory of a volume, made by Volume.buffer().\n\n"
    "Requests on it, or on any part of a memoryview of it, are not copied.  It has the buffer\n"
    "protocol: memoryview(buffer), numpy.frombuffer(buffer), len(buffer).  The contents are\n"
    "undefined at first; the address is a multiple of 4096, or of 512 when it is shorter.\n\n"
    "It belongs to whoever asked for it and is given back by release(), at the end of a with\n"
    "block, or when nobody refers to it any more.  It stays valid when its volume is closed; then\n"
    "nobody but this process sees what is written to it.  Any thread may use it.";

PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char *>(doc)},
    {Py_tp_dealloc, reinterpret_cast<void *>(buffer_dealloc)},
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {Py_sq_length, reinterpret_cast<void *>(buffer_length)},
    {Py_bf_getbuffer, reinterpret_cast<void *>(buffer_get)},
    {Py_bf_releasebuffer, reinterpret_cast<void *>(buffer_put)},
    {0, nullptr},
};

PyType_Spec spec = {"shmclient._native.Buffer", sizeof(Buffer), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};

} // namespace

void bind_buffer(py::module_ &m)
{
    py::object made = py::reinterpret_steal<py::object>(PyType_FromSpec(&spec));
    if (!made) {
        throw py::error_already_set();
    }
    type = reinterpret_cast<PyTypeObject *>(made.ptr());
    m.attr("Buffer") = made;
}

py::object make_buffer(const std::shared_ptr<Session> &session, uint64_t length_bytes)
{
    if (length_bytes == 0) {
        throw py::value_error("a buffer of 0 bytes");
    }
    auto piece = std::make_unique<ArenaPiece>(session, length_bytes);
    py::object made = py::reinterpret_steal<py::object>(type->tp_alloc(type, 0));
    if (!made) {
        throw py::error_already_set();
    }
    buffer_of(made.ptr())->piece = piece.release();
    buffer_of(made.ptr())->exports = 0;
    return made;
}
