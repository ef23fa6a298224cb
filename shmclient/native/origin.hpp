/* SPDX-License-Identifier: MIT */
/*
 * In which process something was made.  After fork() the child has copies of its parent's sockets
 * and shared memory; it may drop them, and must not use them.
 */
#ifndef SHMCLIENT_ORIGIN_HPP
#define SHMCLIENT_ORIGIN_HPP

class Origin {
public:
    Origin() : forks_(forks) {}

    bool here() const { return forks_ == forks; }

    /* Raises RuntimeError in a child process of the one that has made it. */
    void check() const;

    /* Called once when the module is loaded. */
    static void watch();

private:
    static unsigned forks; /* between the start of the first process and this one */
    unsigned forks_;
};

#endif
