/* SPDX-License-Identifier: MIT */
/* Many requests with one crossing between Python and C. */
#include "requests.hpp"
#include "fastcall.hpp"
#include "turns.hpp"
#include "volume.hpp"

namespace {

/* Mostly they are all the same number: one object then. */
py::list results_of(const Call &call)
{
    py::list results(call.count);
    py::object last;
    for (size_t i = 0; i < call.count; i++) {
        int64_t result = call.items[i].result;
        if (i == 0 || result != call.items[i - 1].result) {
            last = py::int_(result);
        }
        PyList_SET_ITEM(results.ptr(), static_cast<Py_ssize_t>(i), last.inc_ref().ptr());
    }
    return results;
}

/* Raises the first failure, with all results. */
void check_results(const Turns &turns, const Call &call, const py::list &results)
{
    for (size_t i = 0; i < call.count; i++) {
        if (call.items[i].result < 0) {
            try {
                turns.raise_failure(call, call.items[i]);
            } catch (py::error_already_set &error) {
                error.value().attr("results") = results;
                throw;
            }
        }
    }
}

PyObject *batch(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const Parameters parameters("batch", {"requests", "check"}, 1, 1);
    PyObject *values[2];
    parameters.bind(args, count, keywords, values);
    bool check = to_bool(values[1], true);
    std::shared_ptr<Turns> turns = self_of<Volume>(self).turns();
    /* A copy: __buffer__() of Python 3.12 may be anybody's code, and change a list under us. */
    auto requests = py::reinterpret_steal<py::tuple>(PySequence_Tuple(values[0]));
    if (!requests) {
        throw py::error_already_set();
    }
    size_t size = requests.size();
    auto call = std::make_unique<Call>(size);
    for (size_t i = 0; i < size; i++) {
        to_request(PyTuple_GET_ITEM(requests.ptr(), static_cast<Py_ssize_t>(i)), call->items[i]);
    }
    turns->run(call);
    py::list results = results_of(*call);
    if (check) {
        check_results(*turns, *call, results);
    }
    return results.release().ptr();
}

} // namespace

void bind_batch(py::module_ &m, VolumeClass &cls)
{
    bind_requests(m);
    add_fast_method<batch>(
        cls, "batch",
        "batch($self, requests, *, check=True)\n--\n\n"
        "Run many requests with one call; returns their results in order.\n\n"
        "requests: an iterable of Read, Write, Flush, Discard and WriteZeroes, any number.  They\n"
        "are in flight together, as many as the queue is deep, and may be done in any order: a\n"
        "Flush covers what was written before this call.\n\n"
        "With check the first failure (in order) is raised, an OSError whose attribute `results`\n"
        "has all of them; without, a failure is -errno in its place.  A request that is wrong by\n"
        "itself (TypeError, BufferError, ValueError) keeps all of them from being submitted.");
}
