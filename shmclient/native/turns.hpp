/* SPDX-License-Identifier: MIT */
/*
 * Threads that share the queue of a volume: each submits its requests and waits for them.
 *
 * Whoever has the mutex uses the queue, and settles what comes out of it for everybody.  One thread
 * at a time sleeps on the queue's descriptor, without the mutex, so that others can submit; those
 * wait for it to wake up.
 *
 * Requests are in C's hands until they complete.  When a wait ends before that (Ctrl-C), the call
 * is abandoned: it is kept, with the memory it uses, until it is over or the volume closed.
 *
 * A short request is waited for with the GIL, for a moment: most are done sooner than the GIL can
 * be given away and taken back, which takes a system call where another thread wants it.
 *
 * Lock order: nobody waits for the GIL with the mutex; the other way round only who sees to
 * abandoned calls.
 */
#ifndef SHMCLIENT_TURNS_HPP
#define SHMCLIENT_TURNS_HPP

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <string>

#include "request.hpp"
#include "session.hpp"

/* Requests that one thread waits for together. */
struct Call {
    struct Item : Request {
        Call *call = nullptr;
    };

    explicit Call(size_t requests);

    bool over() const { return finished == count; }

    std::unique_ptr<Item[]> items;
    size_t count;
    size_t started = 0;  /* the first so many are in C's hands, or finished */
    size_t finished = 0; /* of these */
    const Item *refused = nullptr; /* the first that C did not take, and why */
    std::string reason;
};

class Turns {
public:
    explicit Turns(std::shared_ptr<Session> opened) : session(std::move(opened)) {}

    /* Runs all requests; results are in them.  With the GIL, see above.  Raises on Ctrl-C. */
    void run(std::unique_ptr<Call> &call);

    /* Raises the OSError of one of its requests whose result is negative. */
    [[noreturn]] void raise_failure(const Call &call, const Request &request) const;

    const std::shared_ptr<Session> session;

private:
    using Lock = std::unique_lock<std::mutex>;

    bool run_at_once(Call &call);
    bool advance(Call &call);
    void start(Call &call);
    void settle(const ovsshm_completion *completions, int count);
    bool sleep(Lock &lock);
    void give_way(Lock &lock);
    void abandon(std::unique_ptr<Call> call);
    void drop_abandoned();

    std::mutex mutex_;                /* guards the queue and the rest */
    std::condition_variable changed_; /* asleep_ has become false */
    bool asleep_ = false;             /* a thread sleeps on the descriptor */
    std::atomic<int> waiting_{0};     /* threads that want the mutex */
    unsigned at_once_pause_ = 0;      /* so many requests are not tried with the GIL, ... */
    unsigned at_once_failures_ = 0;   /* as it has been in vain so often lately */
    std::list<std::unique_ptr<Call>> abandoned_; /* changed with the GIL and the mutex */
};

#endif
