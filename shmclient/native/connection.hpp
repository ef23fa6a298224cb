/* SPDX-License-Identifier: MIT */
#ifndef SHMCLIENT_CONNECTION_HPP
#define SHMCLIENT_CONNECTION_HPP

#include <pybind11/pybind11.h>

void bind_connection(pybind11::module_ &m);

#endif
