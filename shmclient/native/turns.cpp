/* SPDX-License-Identifier: MIT */
#include "turns.hpp"

#include <algorithm>
#include <cerrno>

#include <poll.h>
#include <sched.h>

#include "gil.hpp"
#include "wait.hpp"

constexpr unsigned REAP_MAX = 64;

/* The server starts on the first of a batch while the others are being prepared. */
constexpr size_t PORTION = 8;

/* With the GIL: for requests of so many bytes, so many looks at the queue, a few us. */
constexpr uint64_t AT_ONCE_BYTES_MAX = 16384;
constexpr int AT_ONCE_LOOKS = 200;
constexpr unsigned AT_ONCE_FAILURES_MAX = 8; /* then every 256th request is tried */

static void relax()
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

Call::Call(size_t requests) : items(new Item[requests]), count(requests)
{
    for (size_t i = 0; i < requests; i++) {
        items[i].call = this;
        items[i].io.user_data = reinterpret_cast<uintptr_t>(&items[i]);
    }
}

void Turns::run(std::unique_ptr<Call> &call)
{
    for (bool over = run_at_once(*call); !over;) {
        {
            GilReleased released;
            over = advance(*call);
        }
        if (!over && PyErr_CheckSignals() != 0) {
            abandon(std::move(call));
            throw py::error_already_set();
        }
    }
    drop_abandoned();
}

/* True: it is over; false: it is not for this way, or takes longer. */
bool Turns::run_at_once(Call &call)
{
    ovsshm_completion completions[REAP_MAX];
    Lock lock(mutex_, std::defer_lock);
    if (call.count != 1 || call.items[0].io.length_bytes > AT_ONCE_BYTES_MAX || !lock.try_lock() ||
        asleep_) {
        return false;
    }
    if (at_once_pause_ != 0) {
        at_once_pause_--;
        return false;
    }
    start(call);
    for (int look = 0; !call.over() && look < AT_ONCE_LOOKS; look++) {
        if (ovsshm_queue_ready(session->queue)) {
            settle(completions, ovsshm_queue_poll(session->queue, completions, REAP_MAX));
        } else {
            relax();
        }
    }
    at_once_failures_ = call.over() ? 0 : std::min(at_once_failures_ + 1, AT_ONCE_FAILURES_MAX);
    at_once_pause_ = (1u << at_once_failures_) - 1;
    return call.over();
}

/* True: the call is over; false: time to look for signals. */
bool Turns::advance(Call &call)
{
    ovsshm_completion completions[REAP_MAX];
    waiting_++;
    Lock lock(mutex_);
    waiting_--;
    for (;;) {
        start(call);
        if (call.over()) {
            return true;
        }
        if (asleep_) {
            if (changed_.wait_for(lock, SIGNAL_SLICE) == std::cv_status::timeout) {
                return call.over();
            }
            continue;
        }
        int settled = ovsshm_queue_spin(session->queue, completions, REAP_MAX);
        settle(completions, settled);
        if (settled == 0 && !sleep(lock)) {
            return call.over();
        }
        give_way(lock);
    }
}

void Turns::settle(const ovsshm_completion *completions, int count)
{
    for (int i = 0; i < count; i++) {
        auto *item = reinterpret_cast<Call::Item *>(completions[i].user_data);
        item->result = completions[i].result;
        item->call->finished++;
    }
}

/* Hands C as much of the call as it takes now. */
void Turns::start(Call &call)
{
    for (; call.started < call.count; call.started++) {
        Call::Item &item = call.items[call.started];
        if (item.empty()) {
            call.finished++;
            continue;
        }
        int rc = ovsshm_queue_prep(session->queue, &item.io);
        if (rc == -EAGAIN && ovsshm_queue_in_flight(session->queue) != 0) {
            break;
        }
        if (rc != 0) {
            Refusal refusal(rc);
            item.result = -refusal.error;
            call.finished++;
            if (!call.refused) {
                call.refused = &item;
                call.reason = refusal.reason;
            }
        }
        if (call.started % PORTION == 0) {
            ovsshm_queue_submit(session->queue);
        }
    }
    ovsshm_queue_submit(session->queue);
}

/* Until something happens.  False: it was a signal, or nothing for some time. */
bool Turns::sleep(Lock &lock)
{
    if (ovsshm_queue_arm(session->queue) != 0) {
        return true;
    }
    asleep_ = true;
    lock.unlock();
    pollfd fd = {ovsshm_queue_fd(session->queue), POLLIN, 0};
    int ready = poll(&fd, 1, static_cast<int>(SIGNAL_SLICE.count()));
    lock.lock();
    asleep_ = false;
    ovsshm_queue_disarm(session->queue);
    changed_.notify_all();
    return ready > 0;
}

/* A mutex is not fair: whoever has it would have it again. */
void Turns::give_way(Lock &lock)
{
    if (waiting_ != 0) {
        lock.unlock();
        sched_yield();
        lock.lock();
    }
}

void Turns::abandon(std::unique_ptr<Call> call)
{
    std::lock_guard<std::mutex> lock(mutex_);
    call->count = call->started;
    abandoned_.push_back(std::move(call));
}

/* Gives back the memory of those that are over. */
void Turns::drop_abandoned()
{
    if (abandoned_.empty()) {
        return;
    }
    std::list<std::unique_ptr<Call>> over;
    {
        std::lock_guard<std::mutex> lock(mutex_);
        for (auto call = abandoned_.begin(); call != abandoned_.end();) {
            auto next = std::next(call);
            if ((*call)->over()) {
                over.splice(over.end(), abandoned_, call);
            }
            call = next;
        }
    }
}

void Turns::raise_failure(const Call &call, const Request &request) const
{
    if (&request == call.refused) {
        raise_os_error(static_cast<int>(-request.result), call.reason.c_str());
    }
    ::raise_failure(*session, request);
}
