/* SPDX-License-Identifier: MIT */
#ifndef SHMCLIENT_RECORDS_HPP
#define SHMCLIENT_RECORDS_HPP

#include <cstdint>

#include <pybind11/pybind11.h>

#include <openvstorage/shm.h>

/* An extent that knows where it is. */
struct Extent {
    uint64_t offset_bytes;
    uint64_t length_bytes;
    uint32_t flags; /* enum ovsshm_extent_flag */
};

void bind_records(pybind11::module_ &m);

#endif
