/* SPDX-License-Identifier: MIT */
/*
 * Both rings of a queue and both doorbells: the client submits up to DEPTH requests and sleeps for
 * completions, the server sleeps for submissions and completes in batches of any size.  The same
 * promises as in doorbell.pml, and that every request submitted is completed.
 */
#define PROCESSORS 2
#define WORDS 4
#define STORES_MAX 2
#define DOORBELLS 2
#define SPURIOUS_MAX 0         /* those are in doorbell.pml; here they are too many states */

#define CLIENT 0
#define SERVER 1

#define SQ_TAIL 0
#define CQ_TAIL 1
#define CLIENT_ARMED 2
#define SERVER_ARMED 3

#define DEPTH 2
#define INDEX(i) ((i) & 3)

#include "memory.pml"
#include "verbs.pml"

bool stopped;
byte cq_head;                  /* own indexes of the consumers */
byte sq_head;

active proctype Client() {
    byte sq_tail, seen;
    bool armed, over;
    do
    :: INDEX(sq_tail - cq_head) < DEPTH ->
        sq_tail = INDEX(sq_tail + 1);
        if
        :: INDEX(sq_tail - cq_head) < DEPTH -> sq_tail = INDEX(sq_tail + 1)   /* a batch of two */
        :: true
        fi;
        STORE(CLIENT, SQ_TAIL, sq_tail);        /* R1 */
        ring_if_needed(CLIENT, SERVER_ARMED, 0)
    :: sq_tail != cq_head ->
        LOAD(CLIENT, CQ_TAIL, seen);            /* A1 */
        if
        :: seen != cq_head -> assert(INDEX(seen - cq_head) <= DEPTH); cq_head = seen
        :: else -> sleep_unless_changed(CLIENT, CLIENT_ARMED, 1, CQ_TAIL, cq_head, false)
        fi
    :: sq_tail == cq_head -> break              /* nothing in flight: it may stop for good */
    od;
    FENCE(CLIENT);
    stopped = true
}

active proctype Server() {
    byte cq_tail, seen;
    bool armed, over;
    do
    :: over -> break
    :: cq_tail != sq_head ->                    /* taken and not completed */
        cq_tail = INDEX(cq_tail + 1);
        if
        :: cq_tail != sq_head -> cq_tail = INDEX(cq_tail + 1)
        :: true
        fi;
        STORE(SERVER, CQ_TAIL, cq_tail);        /* R1 */
        ring_if_needed(SERVER, CLIENT_ARMED, 1)
    :: !over && cq_tail == sq_head ->
        LOAD(SERVER, SQ_TAIL, seen);            /* A1 */
        if
        :: seen != sq_head -> assert(INDEX(seen - sq_head) <= DEPTH); sq_head = seen
        :: else ->
            sleep_unless_changed(SERVER, SERVER_ARMED, 0, SQ_TAIL, sq_head,
                                 (stopped && memory[SQ_TAIL] == sq_head))
        fi
    od
}

active proctype ClientStores() {
end:
    do
    :: RELEASE_ARRIVES(CLIENT, SQ_TAIL)
    :: ARMED_ARRIVES(CLIENT, CLIENT_ARMED, 1)
    :: RELAXED_ARRIVES(CLIENT, SERVER_ARMED)    /* only with NO_EXCHANGE */
    od
}

active proctype ServerStores() {
end:
    do
    :: RELEASE_ARRIVES(SERVER, CQ_TAIL)
    :: ARMED_ARRIVES(SERVER, SERVER_ARMED, 0)
    :: RELAXED_ARRIVES(SERVER, CLIENT_ARMED)
    od
}

#define SERVER_BESIDE (asleep[0] && memory[SQ_TAIL] != sq_head)
#define CLIENT_BESIDE (asleep[1] && memory[CQ_TAIL] != cq_head)
ltl awake { [] ((SERVER_BESIDE || CLIENT_BESIDE) -> <> !(SERVER_BESIDE || CLIENT_BESIDE)) }
