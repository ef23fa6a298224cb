/* SPDX-License-Identifier: MIT */
/*
 * One ring and its doorbell: a producer publishes batches for ever or stops at any point, a consumer
 * takes what there is and sleeps.  Checked over all interleavings and all delays of stores:
 *
 *  - no lost wake-up: the consumer never ends up asleep with entries published (an invalid end state,
 *    since only a consumer that has everything may end), and never stays asleep beside them (ltl);
 *  - an entry below the tail is complete when the consumer reads it (R1, A1);
 *  - at most one ring per arming.
 */
#define PROCESSORS 2
#define WORDS 4
#define STORES_MAX 3
#define DOORBELLS 1
#define SPURIOUS_MAX 2

#define PRODUCER 0
#define CONSUMER 1

#define TAIL 0
#define HEAD 1
#define ENTRY 2                /* the newest entry written: its index + 1 */
#define ARMED 3

#define ENTRIES 2
#define INDEX(i) ((i) & 3)     /* indexes run freely modulo 4 */

#include "memory.pml"
#include "verbs.pml"

bool stopped;                  /* the producer has nothing more, for ever */
byte head;                     /* the consumer's own index */

active proctype Producer() {
    byte tail, peer_head, new;
    bool armed;
    do
    :: INDEX(tail - peer_head) < ENTRIES ->
        new = 0;
        do
        :: INDEX(tail + new - peer_head) < ENTRIES ->
            new++;
            STORE(PRODUCER, ENTRY, INDEX(tail + new))
        :: new > 0 -> break
        od;
        tail = INDEX(tail + new);
        new = 0;
        STORE(PRODUCER, TAIL, tail);            /* R1 */
        ring_if_needed(PRODUCER, ARMED, 0)
    :: memory[HEAD] != peer_head -> LOAD(PRODUCER, HEAD, peer_head)   /* A1 */
    :: break
    od;
    FENCE(PRODUCER);
    stopped = true
}

active proctype Consumer() {
    byte seen;
    bool over;
    do
    :: over -> break
    :: else ->
        LOAD(CONSUMER, TAIL, seen);             /* A1 */
        if
        :: seen != head ->
            assert(INDEX(memory[ENTRY] - head) >= INDEX(seen - head));
            head = seen;
            STORE(CONSUMER, HEAD, head)         /* R1 */
        :: else ->
            sleep_unless_changed(CONSUMER, ARMED, 0, TAIL, head, (stopped && memory[TAIL] == head))
        fi
    od
}

active proctype ProducerStores() {
end:
    do
    :: RELAXED_ARRIVES(PRODUCER, ENTRY)
    :: RELEASE_ARRIVES(PRODUCER, TAIL)
    :: RELAXED_ARRIVES(PRODUCER, ARMED)         /* only with NO_EXCHANGE */
    od
}

active proctype ConsumerStores() {
end:
    do
    :: RELEASE_ARRIVES(CONSUMER, HEAD)
    :: ARMED_ARRIVES(CONSUMER, ARMED, 0)
    od
}

#define BESIDE_ENTRIES (asleep[0] && memory[TAIL] != head)
ltl awake { [] (BESIDE_ENTRIES -> <> !BESIDE_ENTRIES) }
