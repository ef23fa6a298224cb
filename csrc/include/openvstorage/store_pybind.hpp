/* SPDX-License-Identifier: MIT */
/*
 * A store of store.hpp as a Python class, for `shmserver --store package.module:Class` and
 * shmserver.Server(Class):
 *
 *     PYBIND11_MODULE(disks, module)
 *     {
 *         pybind11::class_<Disks> disks(module, "Disks");
 *         openvstorage::serve(disks);
 *     }
 *
 * The module is not linked with a library of ours: it uses the server that loads it, and importing
 * it imports shmserver.  The server makes the store, from the options as strings; the class needs no
 * constructor for Python.
 *
 * Threads: none of a store's functions is called with the GIL.
 */
#ifndef OPENVSTORAGE_STORE_PYBIND_HPP
#define OPENVSTORAGE_STORE_PYBIND_HPP

#include <dlfcn.h>

#include <pybind11/pybind11.h>

#include <openvstorage/store.hpp>

namespace openvstorage
{
namespace detail
{

/* Python keeps the symbols of a module to itself, so they are asked for by name. */
inline void
find_server_of_python()
{
    const auto file = pybind11::module_::import("shmserver._core").attr("__file__");
    void *core = dlopen(file.cast<std::string>().c_str(), RTLD_LAZY | RTLD_NOLOAD);
    void *found = core ? dlsym(core, "ovsshm_request_complete") : nullptr;
    if (!found) {
        throw pybind11::import_error("shmserver does not export ovsshm_request_complete()");
    }
    dlclose(core); /* Python has it loaded for good */
    request_complete = reinterpret_cast<decltype(request_complete)>(found);
}

} // namespace detail

template <class S, class... Others>
void
serve(pybind11::class_<S, Others...> &store_class)
{
    detail::find_server_of_python();
    store_class.attr("__ovsshm_store__") =
        pybind11::capsule(&store_type<S>(), "ovsshm_store_type");
}

} // namespace openvstorage

#endif
