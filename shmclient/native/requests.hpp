/* SPDX-License-Identifier: MIT */
/*
 * Requests as Python objects: Read, Write, Flush, Discard, WriteZeroes.  They say what shall be
 * done and nothing of what became of it; one object may be used in many batches.
 *
 * Written against CPython's own API: making one takes as long as making a tuple.
 */
#ifndef SHMCLIENT_REQUESTS_HPP
#define SHMCLIENT_REQUESTS_HPP

#include <pybind11/pybind11.h>

#include "request.hpp"

void bind_requests(pybind11::module_ &m);

/* Fills in the request that a Python object describes, and holds its memory.  TypeError. */
void to_request(PyObject *object, Request &request);

#endif
