/* SPDX-License-Identifier: MIT */
/*
 * Python binding of <openvstorage/shm.h>: converts, releases the GIL, calls C.
 *
 *     convert, memory, fastcall     arguments and results
 *     construct                     who makes instances
 *     gil, wait, origin             threads, signals, fork()
 *     records, requests, buffer     Python's view of C's structs and memory
 *     session, request, turns       an open volume, what is in flight, who waits for it
 *     connection, control, volume, transfer, batch, extents      the calls
 *     future, loop_volume           the same for asyncio
 *     histogram, load               measuring
 */
#include <cstdlib>

#include <pybind11/pybind11.h>

#include "buffer.hpp"
#include "connection.hpp"
#include "future.hpp"
#include "load.hpp"
#include "loop_volume.hpp"
#include "origin.hpp"
#include "records.hpp"
#include "volume.hpp"

namespace {

/*
 * 32 results of 4 KiB are more than glibc's malloc keeps at the top of its heap: it would give the
 * memory back to the kernel and ask for it again with every batch, at several times the cost of the
 * I/O.  It learns to keep more when a large block is freed.
 */
void teach_malloc()
{
    free(malloc(8 << 20));
}

} // namespace

PYBIND11_MODULE(_native, m)
{
    m.doc() = "Binding of <openvstorage/shm.h>; use it through shmclient.";
    m.attr("__version__") = ovsshm_version();
    Origin::watch();
    teach_malloc();
    bind_records(m);
    bind_buffer(m);
    VolumeClass volume = bind_volume(m);
    bind_transfer(volume);
    bind_batch(m, volume);
    bind_extents(m, volume);
    bind_future(m);
    LoopVolumeClass loop_volume = bind_loop_volume(m);
    bind_transfer(loop_volume);
    bind_connection(m);
    bind_load(m);
}
