/* SPDX-License-Identifier: MIT */
/*
 * Methods without pybind11's dispatch, which costs about as much as a read: plain functions of
 * CPython's vectorcall, added to a type that pybind11 has made.
 */
#ifndef SHMCLIENT_FASTCALL_HPP
#define SHMCLIENT_FASTCALL_HPP

#include <cstddef>
#include <initializer_list>

#include <pybind11/pybind11.h>

namespace py = pybind11;

using FastFunction = PyObject *(PyObject *, PyObject *const *, Py_ssize_t, PyObject *);

/*
 * Names of a function's arguments, in order; the last keyword_only of them are that.  Static: it
 * keeps interned strings.
 */
class Parameters {
public:
    static constexpr size_t MAX = 6;

    Parameters(const char *function, std::initializer_list<const char *> names, size_t required,
               size_t keyword_only = 0);

    /* Sorts what was passed into values[], nullptr for what was not.  Raises TypeError. */
    void bind(PyObject *const *args, Py_ssize_t positional, PyObject *keywords,
              PyObject **values) const
    {
        if (!keywords && positional == simple_) {
            for (size_t i = 0; i < count_; i++) {
                values[i] = args[i];
            }
        } else {
            bind_slowly(args, positional, keywords, values);
        }
    }

private:
    void bind_slowly(PyObject *const *args, Py_ssize_t positional, PyObject *keywords,
                     PyObject **values) const;
    size_t find(PyObject *keyword) const;

    const char *function_;
    PyObject *names_[MAX] = {};
    size_t count_;
    size_t required_;
    size_t positional_max_;
    Py_ssize_t simple_; /* so many positional arguments are all of them; -1: none are */
};

/* Is it true?  Absent: the default. */
inline bool to_bool(PyObject *object, bool absent)
{
    if (!object) {
        return absent;
    }
    int truth = PyObject_IsTrue(object);
    if (truth < 0) {
        throw py::error_already_set();
    }
    return truth != 0;
}

/* The object of C++ behind an instance, which Python has found to be of the type. */
template <class Class> Class &self_of(PyObject *self)
{
    auto *instance = reinterpret_cast<py::detail::instance *>(self);
    void *value = instance->simple_layout ? instance->simple_value_holder[0] : nullptr;
    if (!value) {
        throw py::type_error("an uninitialised object, or of several types at once");
    }
    return *static_cast<Class *>(value);
}

/* Exceptions of C++ become Python's. */
template <FastFunction function>
PyObject *guarded(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    try {
        return function(self, args, count, keywords);
    } catch (py::error_already_set &error) {
        error.restore();
    } catch (const py::builtin_exception &error) {
        error.set_error();
    } catch (const std::exception &error) {
        PyErr_SetString(PyExc_RuntimeError, error.what());
    }
    return nullptr;
}

/* doc starts with the signature as help() shows it: "name($self, a, /)\n--\n\nText." */
template <FastFunction function>
void add_fast_method(py::handle type, const char *name, const char *doc)
{
    static PyMethodDef method = {
        name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&guarded<function>)),
        METH_FASTCALL | METH_KEYWORDS, doc};
    type.attr(name) = py::reinterpret_steal<py::object>(
        PyDescr_NewMethod(reinterpret_cast<PyTypeObject *>(type.ptr()), &method));
}

#endif
