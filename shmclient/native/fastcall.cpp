/* SPDX-License-Identifier: MIT */
#include "fastcall.hpp"

Parameters::Parameters(const char *function, std::initializer_list<const char *> names,
                       size_t required, size_t keyword_only)
    : function_(function), count_(names.size()), required_(required),
      positional_max_(names.size() - keyword_only),
      simple_(keyword_only ? -1 : static_cast<Py_ssize_t>(names.size()))
{
    size_t i = 0;
    for (const char *name : names) {
        names_[i++] = PyUnicode_InternFromString(name);
    }
}

/* Index of the argument, or count_. */
size_t Parameters::find(PyObject *keyword) const
{
    for (size_t i = 0; i < count_; i++) {
        if (names_[i] == keyword) {
            return i;
        }
    }
    for (size_t i = 0; i < count_; i++) {
        if (PyUnicode_Compare(names_[i], keyword) == 0) {
            return i;
        }
    }
    return count_;
}

void Parameters::bind_slowly(PyObject *const *args, Py_ssize_t positional, PyObject *keywords,
                             PyObject **values) const
{
    if (positional > static_cast<Py_ssize_t>(positional_max_)) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %zu positional arguments (%zd given)",
                     function_, positional_max_, positional);
        throw py::error_already_set();
    }
    for (size_t i = 0; i < count_; i++) {
        values[i] = i < static_cast<size_t>(positional) ? args[i] : nullptr;
    }
    for (Py_ssize_t k = 0; keywords && k < PyTuple_GET_SIZE(keywords); k++) {
        PyObject *keyword = PyTuple_GET_ITEM(keywords, k);
        size_t i = find(keyword);
        if (i == count_ || values[i]) {
            PyErr_Format(PyExc_TypeError,
                         i == count_ ? "%s() got an unexpected keyword argument '%U'"
                                     : "%s() got multiple values for argument '%U'",
                         function_, keyword);
            throw py::error_already_set();
        }
        values[i] = args[positional + k];
    }
    for (size_t i = 0; i < required_; i++) {
        if (!values[i]) {
            PyErr_Format(PyExc_TypeError, "%s() missing required argument '%U'", function_,
                         names_[i]);
            throw py::error_already_set();
        }
    }
}
