/* SPDX-License-Identifier: MIT */
/*
 * An open volume of C and its queue, shared by all who are in a call on it; the last closes it.
 *
 * Threads: any.  The queue belongs to who says so: Turns (turns.hpp), LoopVolume
 * (loop_volume.hpp) or Load (load.hpp).
 */
#ifndef SHMCLIENT_SESSION_HPP
#define SHMCLIENT_SESSION_HPP

#include <string>
#include <utility>

#include <openvstorage/shm.h>

#include "origin.hpp"

class Session {
public:
    Session(ovsshm_volume *opened, std::string volume_name, bool for_writing)
        : volume(opened), queue(ovsshm_volume_queue(opened, 0)), name(std::move(volume_name)),
          writable(for_writing)
    {
    }
    ~Session() { ovsshm_close(volume); }
    Session(const Session &) = delete;
    Session &operator=(const Session &) = delete;

    /* Ends it for the server and for all who wait, at once. */
    void end()
    {
        if (origin.here()) {
            ovsshm_volume_abort(volume);
        }
    }

    ovsshm_volume *const volume;
    ovsshm_queue *const queue;
    const std::string name;
    bool writable; /* changed with the GIL */
    const Origin origin;
};

#endif
