/* SPDX-License-Identifier: MIT */
#include "origin.hpp"

#include <pthread.h>

#include <pybind11/pybind11.h>

unsigned Origin::forks = 0;

void Origin::watch()
{
    pthread_atfork(nullptr, nullptr, [] { forks++; });
}

void Origin::check() const
{
    if (!here()) {
        PyErr_SetString(PyExc_RuntimeError,
                        "opened before fork(): connect and open again in the child process");
        throw pybind11::error_already_set();
    }
}
