/* SPDX-License-Identifier: MIT */
/*
 * Waiting without the GIL.
 *
 * When the interpreter ends while a thread waits, Python makes that thread end where it asks for
 * the GIL again (before 3.14), by unwinding its stack: destructors would run that need the GIL.
 * Such a thread sleeps here instead until the process is gone, as it does in newer Pythons.
 */
#ifndef SHMCLIENT_GIL_HPP
#define SHMCLIENT_GIL_HPP

#include <unistd.h>

#include <Python.h>

/* Released from construction to the end of the scope.  No Python object may be touched in it. */
class GilReleased {
public:
    GilReleased() : state_(PyEval_SaveThread()) {}
    ~GilReleased()
    {
        try {
            PyEval_RestoreThread(state_);
        } catch (...) { /* that unwinding; it brings no object that could be named */
            for (;;) {
                pause();
            }
        }
    }
    GilReleased(const GilReleased &) = delete;
    GilReleased &operator=(const GilReleased &) = delete;

private:
    PyThreadState *state_;
};

#endif
