/* SPDX-License-Identifier: MIT */
#include "requests.hpp"

#include <cstddef>

#include <structmember.h>

#include "convert.hpp"
#include "fastcall.hpp"

namespace {

/* All five types are made of this; each uses what it needs. */
struct Description {
    PyObject_HEAD
    PyObject *memory;
    unsigned long long offset_bytes;
    unsigned long long length_bytes;
    char fua;
    char may_unmap;
};

PyTypeObject *types[OVSSHM_OP_WRITE_ZEROES + 1]; /* by enum ovsshm_op */

PyObject *make(uint8_t op)
{
    PyObject *made = types[op]->tp_alloc(types[op], 0);
    if (!made) {
        throw py::error_already_set();
    }
    return made;
}

Description *description_of(PyObject *self)
{
    return reinterpret_cast<Description *>(self);
}

void dealloc(PyObject *self)
{
    Py_XDECREF(description_of(self)->memory);
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free(self);
    Py_DECREF(type);
}

/* ---- constructors -------------------------------------------------------------------------- */

PyObject *make_transfer(uint8_t op, PyObject *memory, PyObject *offset_bytes, bool fua)
{
    uint64_t offset = to_count(offset_bytes, "offset_bytes");
    PyObject *made = make(op);
    Py_INCREF(memory);
    description_of(made)->memory = memory;
    description_of(made)->offset_bytes = offset;
    description_of(made)->fua = fua;
    return made;
}

PyObject *make_range(uint8_t op, PyObject *length_bytes, PyObject *offset_bytes)
{
    uint64_t length = to_count(length_bytes, "length_bytes");
    uint64_t offset = to_count(offset_bytes, "offset_bytes");
    PyObject *made = make(op);
    description_of(made)->length_bytes = length;
    description_of(made)->offset_bytes = offset;
    return made;
}

PyObject *make_read(PyObject *, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const Parameters parameters("Read", {"buffer", "offset_bytes"}, 2);
    PyObject *values[2];
    parameters.bind(args, count, keywords, values);
    return make_transfer(OVSSHM_OP_READ, values[0], values[1], false);
}

PyObject *make_write(PyObject *, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const Parameters parameters("Write", {"data", "offset_bytes", "fua"}, 2);
    PyObject *values[3];
    parameters.bind(args, count, keywords, values);
    return make_transfer(OVSSHM_OP_WRITE, values[0], values[1], to_bool(values[2], false));
}

PyObject *make_flush(PyObject *, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const Parameters parameters("Flush", {}, 0);
    parameters.bind(args, count, keywords, nullptr);
    return make(OVSSHM_OP_FLUSH);
}

PyObject *make_discard(PyObject *, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const Parameters parameters("Discard", {"length_bytes", "offset_bytes"}, 2);
    PyObject *values[2];
    parameters.bind(args, count, keywords, values);
    return make_range(OVSSHM_OP_DISCARD, values[0], values[1]);
}

PyObject *make_write_zeroes(PyObject *, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const Parameters parameters("WriteZeroes",
                                       {"length_bytes", "offset_bytes", "may_unmap", "fua"}, 2);
    PyObject *values[4];
    parameters.bind(args, count, keywords, values);
    bool may_unmap = to_bool(values[2], true);
    bool fua = to_bool(values[3], false);
    PyObject *made = make_range(OVSSHM_OP_WRITE_ZEROES, values[0], values[1]);
    description_of(made)->may_unmap = may_unmap;
    description_of(made)->fua = fua;
    return made;
}

/* tp_vectorcall of a type: the function above it. */
template <FastFunction function>
PyObject *construct(PyObject *type, PyObject *const *args, size_t flagged, PyObject *keywords)
{
    return guarded<function>(type, args, PyVectorcall_NARGS(flagged), keywords);
}

/* Without a constructor of its own object's would be taken, by those who ask for it by name. */
PyObject *refuse_new(PyTypeObject *type, PyObject *, PyObject *)
{
    return PyErr_Format(PyExc_TypeError, "call %s() to make one", type->tp_name);
}

/* ---- types --------------------------------------------------------------------------------- */

#define MEMBER(name, type, field, doc) \
    {name, type, offsetof(Description, field), READONLY, doc}
#define MEMORY(name, doc) MEMBER(name, T_OBJECT_EX, memory, doc)
#define OFFSET MEMBER("offset_bytes", T_ULONGLONG, offset_bytes, "Where in the volume.")
#define LENGTH MEMBER("length_bytes", T_ULONGLONG, length_bytes, "How much of the volume.")
#define FUA MEMBER("fua", T_BOOL, fua, "Durable when complete.")
#define MAY_UNMAP MEMBER("may_unmap", T_BOOL, may_unmap, "The store may give up the space.")
#define END {nullptr, 0, 0, 0, nullptr}

PyMemberDef read_members[] = {MEMORY("buffer", "What is read into."), OFFSET, END};
PyMemberDef write_members[] = {MEMORY("data", "What is written."), OFFSET, FUA, END};
PyMemberDef flush_members[] = {END};
PyMemberDef discard_members[] = {LENGTH, OFFSET, END};
PyMemberDef write_zeroes_members[] = {LENGTH, OFFSET, MAY_UNMAP, FUA, END};

template <FastFunction function>
void add_type(py::module_ &m, uint8_t op, const char *name, PyMemberDef *members, const char *doc)
{
    PyType_Slot slots[] = {
        {Py_tp_doc, const_cast<char *>(doc)},
        {Py_tp_new, reinterpret_cast<void *>(refuse_new)},
        {Py_tp_dealloc, reinterpret_cast<void *>(dealloc)},
        {Py_tp_members, members},
        {0, nullptr},
    };
    std::string full_name = std::string("shmclient._native.") + name;
    PyType_Spec spec = {full_name.c_str(), sizeof(Description), 0, Py_TPFLAGS_DEFAULT, slots};
    py::object made = py::reinterpret_steal<py::object>(PyType_FromSpec(&spec));
    if (!made) {
        throw py::error_already_set();
    }
    types[op] = reinterpret_cast<PyTypeObject *>(made.ptr());
    types[op]->tp_vectorcall = construct<function>;
    m.attr(name) = made;
}

} // namespace

void bind_requests(py::module_ &m)
{
    add_type<make_read>(m, OVSSHM_OP_READ, "Read", read_members,
                        "Read(buffer, offset_bytes)\n--\n\n"
                        "Read into a writable buffer; the result is the number of bytes.");
    add_type<make_write>(m, OVSSHM_OP_WRITE, "Write", write_members,
                         "Write(data, offset_bytes, fua=False)\n--\n\n"
                         "Write all of data; the result is the number of bytes.");
    add_type<make_flush>(m, OVSSHM_OP_FLUSH, "Flush", flush_members,
                         "Flush()\n--\n\n"
                         "Make durable what was written before the batch; the result is 0.");
    add_type<make_discard>(m, OVSSHM_OP_DISCARD, "Discard", discard_members,
                           "Discard(length_bytes, offset_bytes)\n--\n\n"
                           "These bytes are not needed; the result is 0.");
    add_type<make_write_zeroes>(
        m, OVSSHM_OP_WRITE_ZEROES, "WriteZeroes", write_zeroes_members,
        "WriteZeroes(length_bytes, offset_bytes, may_unmap=True, fua=False)\n--\n\n"
        "Make them read as zeroes; the result is 0.");
}

void to_request(PyObject *object, Request &request)
{
    const Description *it = description_of(object);
    const PyTypeObject *type = Py_TYPE(object);
    if (type == types[OVSSHM_OP_READ]) {
        request.read(View(it->memory, PyBUF_WRITABLE), it->offset_bytes);
    } else if (type == types[OVSSHM_OP_WRITE]) {
        request.write(View(it->memory, PyBUF_SIMPLE), it->offset_bytes, it->fua);
    } else if (type == types[OVSSHM_OP_FLUSH]) {
        request.flush();
    } else if (type == types[OVSSHM_OP_DISCARD]) {
        request.discard(it->length_bytes, it->offset_bytes);
    } else if (type == types[OVSSHM_OP_WRITE_ZEROES]) {
        request.write_zeroes(it->length_bytes, it->offset_bytes, it->may_unmap, it->fua);
    } else {
        PyErr_Format(PyExc_TypeError,
                     "a batch is of Read, Write, Flush, Discard and WriteZeroes, not of %.100s",
                     type->tp_name);
        throw py::error_already_set();
    }
}
