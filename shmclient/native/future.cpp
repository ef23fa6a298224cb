/* SPDX-License-Identifier: MIT */
#include "future.hpp"

#include <new>

#include "convert.hpp"
#include "fastcall.hpp"

namespace {

using State = Future::State;

PyTypeObject *type;

/* Of asyncio; kept for good. */
PyObject *cancelled_error;
PyObject *invalid_state_error;

Future *future_of(PyObject *self)
{
    return reinterpret_cast<Future *>(self);
}

PyObject *object_of(Future *future)
{
    return reinterpret_cast<PyObject *>(future);
}

/* An exception refers to the frames it went through, and so perhaps to us. */
int traverse(PyObject *self, visitproc visit, void *arg)
{
    Future *future = future_of(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(future->loop);
    Py_VISIT(future->value);
    Py_VISIT(future->callback);
    Py_VISIT(future->context);
    Py_VISIT(future->more);
    return 0;
}

int clear(PyObject *self)
{
    Future *future = future_of(self);
    Py_CLEAR(future->value);
    Py_CLEAR(future->callback);
    Py_CLEAR(future->context);
    Py_CLEAR(future->more);
    return 0;
}

void dealloc(PyObject *self)
{
    Future *future = future_of(self);
    PyObject_GC_UnTrack(self);
    clear(self);
    Py_CLEAR(future->loop);
    future->request.~Request();
    PyTypeObject *own = Py_TYPE(self);
    own->tp_free(self);
    Py_DECREF(own);
}

/* ---- result -------------------------------------------------------------------------------- */

/* What the request has brought; nullptr with an exception. */
PyObject *make_value(Future *future, Session &session)
{
    Request &request = future->request;
    try {
        if (request.result < 0) {
            raise_failure(session, request);
        }
        return request_value(request, future->kind);
    } catch (py::error_already_set &error) {
        error.restore();
        return nullptr;
    }
}

/* The exception that is set, as an object. */
PyObject *take_exception()
{
    PyObject *kind, *value, *traceback;
    PyErr_Fetch(&kind, &value, &traceback);
    PyErr_NormalizeException(&kind, &value, &traceback);
    Py_XDECREF(kind);
    Py_XDECREF(traceback);
    return value;
}

/* As result() of asyncio.Future. */
PyObject *result(PyObject *self, PyObject *)
{
    Future *future = future_of(self);
    switch (future->state) {
    case State::FINISHED: Py_INCREF(future->value); return future->value;
    case State::FAILED:
        PyErr_SetObject(reinterpret_cast<PyObject *>(Py_TYPE(future->value)), future->value);
        return nullptr;
    case State::CANCELLED: PyErr_SetObject(cancelled_error, future->value); return nullptr;
    default: PyErr_SetString(invalid_state_error, "the result is not there yet"); return nullptr;
    }
}

PyObject *exception(PyObject *self, PyObject *)
{
    Future *future = future_of(self);
    switch (future->state) {
    case State::FINISHED: Py_RETURN_NONE;
    case State::FAILED: Py_INCREF(future->value); return future->value;
    default: return result(self, nullptr);
    }
}

/* ---- awaiting ------------------------------------------------------------------------------ */

PyObject *self_again(PyObject *self)
{
    Py_INCREF(self);
    return self;
}

PySendResult send(PyObject *self, PyObject *, PyObject **value)
{
    Future *future = future_of(self);
    if (future->state == State::PENDING) {
        future->blocking = true;
        *value = self_again(self);
        return PYGEN_NEXT;
    }
    *value = result(self, nullptr);
    return *value ? PYGEN_RETURN : PYGEN_ERROR;
}

/* For those who drive coroutines by hand. */
PyObject *next(PyObject *self)
{
    PyObject *value;
    switch (send(self, nullptr, &value)) {
    case PYGEN_NEXT: return value;
    case PYGEN_RETURN: {
        PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, value);
        Py_DECREF(value);
        if (stop) {
            PyErr_SetObject(PyExc_StopIteration, stop);
            Py_DECREF(stop);
        }
        return nullptr;
    }
    default: return nullptr;
    }
}

/* ---- callbacks ----------------------------------------------------------------------------- */

PyObject *call_soon(PyObject *loop, PyObject *callback, PyObject *argument, PyObject *context)
{
    static PyObject *const name = PyUnicode_InternFromString("call_soon");
    static PyObject *const keywords = Py_BuildValue("(s)", "context");
    PyObject *args[] = {loop, callback, argument, context};
    return PyObject_VectorcallMethod(name, args, 3, keywords);
}

PyObject *add_done_callback(PyObject *self, PyObject *const *args, Py_ssize_t count,
                            PyObject *keywords)
{
    static const Parameters parameters("add_done_callback", {"fn", "context"}, 1, 1);
    PyObject *values[2];
    parameters.bind(args, count, keywords, values);
    Future *future = future_of(self);
    PyObject *context = values[1];
    if (!context || context == Py_None) {
        context = PyContext_CopyCurrent();
    } else {
        Py_INCREF(context);
    }
    auto own_context = py::reinterpret_steal<py::object>(context);
    if (!own_context) {
        throw py::error_already_set();
    }
    if (future->state != State::PENDING) {
        return call_soon(future->loop, values[0], self, context);
    }
    if (!future->callback) {
        Py_INCREF(values[0]);
        future->callback = values[0];
        future->context = own_context.release().ptr();
        Py_RETURN_NONE;
    }
    if (!future->more) {
        future->more = PyList_New(0);
    }
    auto pair = py::reinterpret_steal<py::object>(PyTuple_Pack(2, values[0], context));
    if (!future->more || !pair || PyList_Append(future->more, pair.ptr()) != 0) {
        throw py::error_already_set();
    }
    Py_RETURN_NONE;
}

/* All callbacks, which are then the caller's: a list of (callback, context). */
py::list take_callbacks(Future *future)
{
    auto found = py::reinterpret_steal<py::list>(future->more ? future->more : PyList_New(0));
    future->more = nullptr;
    if (future->callback) {
        auto callback = py::reinterpret_steal<py::object>(std::exchange(future->callback, nullptr));
        auto context = py::reinterpret_steal<py::object>(std::exchange(future->context, nullptr));
        found.insert(0, py::make_tuple(callback, context));
    }
    return found;
}

PyObject *remove_done_callback(PyObject *self, PyObject *fn)
{
    try {
        Future *future = future_of(self);
        int removed = 0;
        py::list kept;
        for (py::handle pair : take_callbacks(future)) {
            py::object callback = py::reinterpret_borrow<py::tuple>(pair)[0];
            if (callback.equal(py::handle(fn))) {
                removed++;
            } else {
                kept.append(pair);
            }
        }
        future->more = kept.release().ptr();
        return PyLong_FromLong(removed);
    } catch (py::error_already_set &error) {
        error.restore();
        return nullptr;
    }
}

/* Tells the loop of an exception that nobody can catch.  False: the loop shall end by it. */
bool report(Future *future)
{
    if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) ||
        PyErr_ExceptionMatches(PyExc_SystemExit)) {
        return false;
    }
    PyObject *what = take_exception();
    PyObject *context = Py_BuildValue("{s:s,s:N,s:O}", "message", "Exception in callback",
                                      "exception", what, "future", object_of(future));
    PyObject *told = context ? PyObject_CallMethod(future->loop, "call_exception_handler", "O",
                                                   context)
                             : nullptr;
    Py_XDECREF(context);
    Py_XDECREF(told);
    return told != nullptr;
}

bool run_callback(Future *future, PyObject *callback, PyObject *context)
{
    if (PyContext_Enter(context) != 0) {
        return report(future);
    }
    PyObject *done = PyObject_CallOneArg(callback, object_of(future));
    bool good = done || report(future);
    Py_XDECREF(done);
    return PyContext_Exit(context) == 0 && good;
}

/* ---- cancellation -------------------------------------------------------------------------- */

PyObject *cancel(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    static const Parameters parameters("cancel", {"msg"}, 0);
    PyObject *values[1];
    parameters.bind(args, count, keywords, values);
    Future *future = future_of(self);
    if (future->state != State::PENDING) {
        Py_RETURN_FALSE;
    }
    future->state = State::CANCELLED;
    if (values[0] && values[0] != Py_None) {
        Py_INCREF(values[0]);
        future->value = values[0];
    }
    if (!future->handed) {
        future->request = Request(); /* else C uses the memory until the request completes */
    }
    schedule_callbacks(future);
    Py_RETURN_TRUE;
}

PyObject *make_cancelled_error(PyObject *self, PyObject *)
{
    PyObject *message = future_of(self)->value;
    return message ? PyObject_CallOneArg(cancelled_error, message)
                   : PyObject_CallNoArgs(cancelled_error);
}

PyObject *done(PyObject *self, PyObject *)
{
    return PyBool_FromLong(future_of(self)->state != State::PENDING);
}

PyObject *cancelled(PyObject *self, PyObject *)
{
    return PyBool_FromLong(future_of(self)->state == State::CANCELLED);
}

PyObject *get_loop(PyObject *self, PyObject *)
{
    PyObject *loop = future_of(self)->loop;
    Py_INCREF(loop);
    return loop;
}

PyObject *get_blocking(PyObject *self, void *)
{
    return PyBool_FromLong(future_of(self)->blocking);
}

int set_blocking(PyObject *self, PyObject *value, void *)
{
    future_of(self)->blocking = value == Py_True;
    return 0;
}

template <FastFunction function> PyCFunction fast()
{
    return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&guarded<function>));
}

/* asyncio.gather() asks for it. */
PyObject *get_cancel_message(PyObject *self, void *)
{
    Future *future = future_of(self);
    bool known = future->state == State::CANCELLED && future->value;
    PyObject *message = known ? future->value : Py_None;
    Py_INCREF(message);
    return message;
}

PyMethodDef methods[] = {
    {"result", result, METH_NOARGS,
     "result($self, /)\n--\n\nThe result; raises what went wrong, or InvalidStateError before."},
    {"exception", exception, METH_NOARGS,
     "exception($self, /)\n--\n\nWhat went wrong, or None."},
    {"done", done, METH_NOARGS, "done($self, /)\n--\n\nIs it over, one way or the other?"},
    {"cancelled", cancelled, METH_NOARGS, "cancelled($self, /)\n--\n\nHas it been cancelled?"},
    {"cancel", fast<cancel>(), METH_FASTCALL | METH_KEYWORDS,
     "cancel($self, msg=None)\n--\n\n"
     "Stop waiting; False when it is over.  The request itself cannot be taken back: the memory\n"
     "it uses stays in use until the server has answered."},
    {"add_done_callback", fast<add_done_callback>(), METH_FASTCALL | METH_KEYWORDS,
     "add_done_callback($self, fn, /, *, context=None)\n--\n\nCall fn(self) when it is over."},
    {"remove_done_callback", remove_done_callback, METH_O,
     "remove_done_callback($self, fn, /)\n--\n\nForget fn; returns how often it was there."},
    {"get_loop", get_loop, METH_NOARGS, "get_loop($self, /)\n--\n\nThe loop it belongs to."},
    {"_make_cancelled_error", make_cancelled_error, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef properties[] = {
    {"_asyncio_future_blocking", get_blocking, set_blocking, nullptr, nullptr},
    {"_cancel_message", get_cancel_message, nullptr, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

const char doc[] =
    "A request on its way; await it for its result.  Made by the methods of aio.Volume.\n\n"
    "It is with the server already, or waits for room, whether it is awaited or not.  It has the\n"
    "interface of asyncio.Future, for asyncio.gather(), wait_for() and the like.  Whoever waits\n"
    "when it completes runs at once, before the loop looks for anything else.";

PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char *>(doc)},
    {Py_tp_dealloc, reinterpret_cast<void *>(dealloc)},
    {Py_tp_traverse, reinterpret_cast<void *>(traverse)},
    {Py_tp_clear, reinterpret_cast<void *>(clear)},
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {Py_tp_iter, reinterpret_cast<void *>(self_again)},
    {Py_tp_iternext, reinterpret_cast<void *>(next)},
    {Py_am_await, reinterpret_cast<void *>(self_again)},
    {Py_am_send, reinterpret_cast<void *>(send)},
    {0, nullptr},
};

PyType_Spec spec = {"shmclient._native.Future", sizeof(Future), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                    slots};

void end_future(Future *future, State state, PyObject *value)
{
    future->state = state;
    future->value = value;
}

} // namespace

void bind_future(py::module_ &m)
{
    auto exceptions = py::module_::import("asyncio.exceptions");
    cancelled_error = py::object(exceptions.attr("CancelledError")).release().ptr();
    invalid_state_error = py::object(exceptions.attr("InvalidStateError")).release().ptr();
    py::object made = py::reinterpret_steal<py::object>(PyType_FromSpec(&spec));
    if (!made) {
        throw py::error_already_set();
    }
    type = reinterpret_cast<PyTypeObject *>(made.ptr());
    m.attr("Future") = made;
}

Future *make_future(PyObject *loop, ResultKind kind)
{
    PyObject *made = type->tp_alloc(type, 0);
    if (!made) {
        throw py::error_already_set();
    }
    Future *future = future_of(made);
    new (&future->request) Request();
    future->request.io.user_data = reinterpret_cast<uintptr_t>(future);
    Py_INCREF(loop);
    future->loop = loop;
    future->kind = kind;
    return future;
}

void settle_future(Future *future, Session &session)
{
    future->handed = false;
    if (future->state == State::PENDING) {
        PyObject *value = make_value(future, session);
        State state = value ? State::FINISHED : State::FAILED;
        end_future(future, state, value ? value : take_exception());
    }
    future->request = Request();
}

void fail_future(Future *future, PyObject *error)
{
    end_future(future, State::FAILED, error);
    future->request = Request();
}

bool run_callbacks(Future *future)
{
    bool good = true;
    if (PyObject *callback = std::exchange(future->callback, nullptr)) {
        PyObject *context = std::exchange(future->context, nullptr);
        good = run_callback(future, callback, context);
        Py_DECREF(callback);
        Py_DECREF(context);
    }
    if (future->more) {
        PyObject *kind, *value, *traceback;
        PyErr_Fetch(&kind, &value, &traceback);
        schedule_callbacks(future);
        PyErr_Restore(kind, value, traceback);
    }
    return good;
}

void schedule_callbacks(Future *future)
{
    for (py::handle pair : take_callbacks(future)) {
        auto one = py::reinterpret_borrow<py::tuple>(pair);
        PyObject *handle = call_soon(future->loop, one[0].ptr(), object_of(future), one[1].ptr());
        if (!handle) {
            PyErr_Clear();
        }
        Py_XDECREF(handle);
    }
}
