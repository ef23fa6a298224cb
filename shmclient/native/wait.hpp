/* SPDX-License-Identifier: MIT */
/*
 * Calls into C that talk to the server and may take long: the GIL is released, and in the main
 * thread, where Python runs its signal handlers, Ctrl-C ends the wait.
 *
 * C cannot be told to stop waiting for a reply, so the main thread lets another one wait.  After
 * Ctrl-C that one goes on alone, and what comes of it is dropped: everything that the call uses
 * is in its frame, which both share.
 */
#ifndef SHMCLIENT_WAIT_HPP
#define SHMCLIENT_WAIT_HPP

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <thread>

#include <csignal>
#include <sys/syscall.h>
#include <unistd.h>

#include <openvstorage/shm.h>

#include "convert.hpp"
#include "gil.hpp"

/* How long Ctrl-C may have to wait where no signal can wake the waiting. */
constexpr std::chrono::milliseconds SIGNAL_SLICE{50};

/* Runs Python's signal handlers; raises what they raise. */
inline void check_signals()
{
    if (PyErr_CheckSignals() != 0) {
        throw py::error_already_set();
    }
}

/* A call of C on its way: what it needs and what comes of it. */
template <class Work> struct Frame {
    explicit Frame(Work w) : work(std::move(w)) {}

    void run()
    {
        result = (*work)();
        reason = result < 0 ? ovsshm_reason() : "";
    }

    void run_aside()
    {
        run();
        std::lock_guard<std::mutex> lock(mutex);
        over = true;
        changed.notify_all();
    }

    std::optional<Work> work;
    int64_t result = 0;
    std::string reason;
    std::mutex mutex;
    std::condition_variable changed;
    bool over = false;
};

/* Runs it in a thread that no signal is delivered to.  False: there can be no more threads. */
template <class Work> bool run_in_thread(Work work)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool started = true;
    try {
        std::thread(std::move(work)).detach();
    } catch (const std::system_error &) {
        started = false;
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return started;
}

/*
 * Makes a call of C, which returns 0, a count, or -errno with a reason: raises that.  `work` owns
 * what it uses (captures by value or shared pointer): it may outlive this call.
 */
template <class Work> int64_t checked(Work work)
{
    auto frame = std::make_shared<Frame<Work>>(std::move(work));
    bool main_thread = getpid() == static_cast<pid_t>(syscall(SYS_gettid));
    bool aside = main_thread && run_in_thread([frame] { frame->run_aside(); });
    for (bool over = false; !over;) {
        {
            GilReleased released;
            if (aside) {
                std::unique_lock<std::mutex> lock(frame->mutex);
                over = frame->changed.wait_for(lock, SIGNAL_SLICE, [&] { return frame->over; });
            } else {
                frame->run();
                over = true;
            }
        }
        check_signals();
    }
    frame->work.reset(); /* what it held ends here, not whenever the other thread does */
    if (frame->result < 0) {
        raise_os_error(static_cast<int>(-frame->result), frame->reason.c_str());
    }
    return frame->result;
}

#endif
