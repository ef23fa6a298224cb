/* SPDX-License-Identifier: MIT */
/*
 * Goal: the ring's indexes are right whatever they wrapped to, and a peer's impossible index is
 * seen. Method: compare with a counter model at random steps near 2^32; then two threads at full
 * speed.
 */
#define _GNU_SOURCE
#include "shared/doorbell.h"
#include "shared/ring.h"
#include "shared/waiter.h"
#include "testlib.h"

#define ENTRIES_MAX 64

struct pair {
    uint32_t tail_word __attribute__((aligned(64)));
    uint32_t head_word __attribute__((aligned(64)));
    uint64_t slots[ENTRIES_MAX];
    struct ovsshm_ring producer;
    struct ovsshm_ring consumer;
};

static void
pair_init(struct pair *pair, uint32_t entries, uint32_t start)
{
    memset(pair, 0, sizeof(*pair));
    pair->tail_word = start;
    pair->head_word = start;
    ovsshm_ring_init(&pair->producer, &pair->tail_word, &pair->head_word, entries);
    ovsshm_ring_init(&pair->consumer, &pair->head_word, &pair->tail_word, entries);
    pair->producer.own = pair->producer.peer = start;
    pair->consumer.own = pair->consumer.peer = start;
}

static void
test_random_steps_match_a_counter_model(void)
{
    static const uint32_t starts[] = {0, 1, UINT32_MAX - 3, UINT32_MAX - 100, 0x80000000u - 7};
    uint64_t seed = 42;
    for (unsigned s = 0; s < sizeof(starts) / sizeof(starts[0]); s++) {
        for (uint32_t entries = 1; entries <= ENTRIES_MAX; entries *= 2) {
            struct pair pair;
            pair_init(&pair, entries, starts[s]);
            uint64_t produced = 0, consumed = 0, published = 0, released = 0;
            for (unsigned step = 0; step < 2000; step++) {
                uint32_t want = (uint32_t)(test_random(&seed) % (entries + 1));
                int space = ovsshm_ring_space(&pair.producer, want);
                CHECK(space >= 0 && (uint64_t)space <= entries - (produced - released));
                CHECK(want > entries - (produced - released) || (uint32_t)space >= want);
                for (uint32_t i = 0; i < want && i < (uint32_t)space; i++) {
                    pair.slots[ovsshm_ring_slot(&pair.producer, 0)] = produced++;
                    pair.producer.own++;
                }
                if (test_random(&seed) % 2) {
                    ovsshm_ring_publish(&pair.producer);
                    published = produced;
                }
                int available = ovsshm_ring_available(&pair.consumer);
                CHECK(available >= 0 && (uint64_t)available <= published - consumed);
                CHECK(published == consumed || available > 0);
                int take = available ? (int)(test_random(&seed) % (unsigned)(available + 1)) : 0;
                for (int i = 0; i < take; i++) {
                    CHECK_EQ(pair.slots[ovsshm_ring_slot(&pair.consumer, 0)], consumed);
                    consumed++;
                    pair.consumer.own++;
                }
                if (test_random(&seed) % 2) {
                    ovsshm_ring_publish(&pair.consumer);
                    released = consumed;
                }
            }
            CHECK_EQ((uint32_t)(starts[s] + produced), pair.producer.own);
        }
    }
}

static void
test_peer_impossible_index_is_refused(void)
{
    struct pair pair;
    pair_init(&pair, 8, UINT32_MAX - 2);
    pair.tail_word = pair.consumer.own + 9; /* more than fits */
    CHECK_EQ(ovsshm_ring_available(&pair.consumer), -EPROTO);
    pair_init(&pair, 8, UINT32_MAX - 2);
    pair.tail_word = pair.consumer.own - 1; /* backwards */
    CHECK_EQ(ovsshm_ring_available(&pair.consumer), -EPROTO);
    pair_init(&pair, 8, UINT32_MAX - 2);
    pair.head_word = pair.producer.own + 1; /* consumed what was never there */
    CHECK_EQ(ovsshm_ring_space(&pair.producer, 9), -EPROTO);
}

/* ---- two threads, with doorbells ------------------------------------------------------------ */

#define TRANSFERS 200000

struct channel {
    struct pair pair;
    uint32_t producer_armed __attribute__((aligned(64)));
    uint32_t consumer_armed __attribute__((aligned(64)));
    int producer_bell;
    int consumer_bell;
    uint64_t cap_ns;
};

/* Waits until look() finds something; the loop of waiter.h and doorbell.h as everybody uses it. */
static int
wait_for(struct ovsshm_waiter *waiter, uint32_t *armed, int bell, int (*look)(struct ovsshm_ring *),
         struct ovsshm_ring *ring)
{
    int found;
    while (!(found = look(ring))) {
        if (!ovsshm_waiter_spin(waiter, 0)) {
            ovsshm_doorbell_arm(armed);
            if (!look(ring)) {
                ovsshm_doorbell_wait(bell, -1, -1);
            }
            ovsshm_doorbell_disarm(armed);
            ovsshm_waiter_slept(waiter);
        }
    }
    CHECK(found > 0);
    ovsshm_waiter_found(waiter);
    return found;
}

static int
look_space(struct ovsshm_ring *ring)
{
    return ovsshm_ring_space(ring, 1);
}

static void *
produce(void *arg)
{
    struct channel *c = arg;
    struct ovsshm_waiter waiter;
    uint64_t seed = 7;
    ovsshm_waiter_init(&waiter, c->cap_ns);
    for (uint64_t i = 0; i < TRANSFERS;) {
        int space =
            wait_for(&waiter, &c->producer_armed, c->producer_bell, look_space, &c->pair.producer);
        for (uint64_t n = 1 + test_random(&seed) % (unsigned)space; n && i < TRANSFERS; n--) {
            c->pair.slots[ovsshm_ring_slot(&c->pair.producer, 0)] = i++;
            c->pair.producer.own++;
        }
        ovsshm_ring_publish(&c->pair.producer);
        if (ovsshm_doorbell_needed(&c->consumer_armed)) {
            ovsshm_doorbell_ring(c->consumer_bell);
        }
    }
    return NULL;
}

static void
channel_run(uint32_t entries, uint64_t cap_ns)
{
    static struct channel c;
    memset(&c, 0, sizeof(c));
    pair_init(&c.pair, entries, UINT32_MAX - 1000);
    c.cap_ns = cap_ns;
    c.producer_bell = ovsshm_doorbell_create();
    c.consumer_bell = ovsshm_doorbell_create();
    CHECK(c.producer_bell >= 0 && c.consumer_bell >= 0);
    struct ovsshm_waiter waiter;
    ovsshm_waiter_init(&waiter, cap_ns);
    pthread_t thread = test_thread(produce, &c);
    for (uint64_t i = 0; i < TRANSFERS;) {
        int available = wait_for(&waiter, &c.consumer_armed, c.consumer_bell, ovsshm_ring_available,
                                 &c.pair.consumer);
        for (; available; available--) {
            CHECK_EQ(c.pair.slots[ovsshm_ring_slot(&c.pair.consumer, 0)], i++);
            c.pair.consumer.own++;
        }
        ovsshm_ring_publish(&c.pair.consumer);
        if (ovsshm_doorbell_needed(&c.producer_armed)) {
            ovsshm_doorbell_ring(c.producer_bell);
        }
    }
    test_join(thread);
    close(c.producer_bell);
    close(c.consumer_bell);
}

static void
test_two_threads_lose_nothing_when_they_poll(void)
{
    channel_run(64, OVSSHM_SERVER_SPIN_NS_MAX);
}

static void
test_two_threads_lose_no_wakeup_when_they_only_sleep(void)
{
    channel_run(1, 0);
    channel_run(4, 0);
}

/* ---- the waiter's rules --------------------------------------------------------------------- */

static void
test_waiter_does_not_poll_for_a_peer_on_its_own_cpu(void)
{
    struct ovsshm_waiter waiter;
    ovsshm_waiter_init(&waiter, 1000000000);
    uint32_t before, after;
    bool spins;
    do { /* until the scheduler left us where we were */
        before = ovsshm_own_cpu();
        spins = ovsshm_waiter_spin(&waiter, before);
        after = ovsshm_own_cpu();
    } while (before != after);
    CHECK(before != 0 && !spins);
}

static void
test_waiter_that_may_not_poll_sleeps_at_once(void)
{
    struct ovsshm_waiter waiter;
    ovsshm_waiter_init(&waiter, 0);
    CHECK(!ovsshm_waiter_spin(&waiter, 0));
    ovsshm_waiter_slept(&waiter);
    ovsshm_waiter_found(&waiter);
    CHECK(!ovsshm_waiter_spin(&waiter, 0));
}

static void
test_waiter_polling_is_bounded(void)
{
    struct ovsshm_waiter waiter;
    ovsshm_waiter_init(&waiter, OVSSHM_CLIENT_SPIN_NS_MAX);
    uint64_t start = ovsshm_ticks();
    while (ovsshm_waiter_spin(&waiter, 0)) {
        CHECK(ovsshm_ticks() - start < ovsshm_ticks_from_ns(30000000000));
    }
    ovsshm_waiter_slept(&waiter);
    ovsshm_waiter_found(&waiter);
}

int
main(void)
{
    test_begin(120);
    RUN(test_random_steps_match_a_counter_model);
    RUN(test_peer_impossible_index_is_refused);
    RUN(test_two_threads_lose_nothing_when_they_poll);
    RUN(test_two_threads_lose_no_wakeup_when_they_only_sleep);
    RUN(test_waiter_does_not_poll_for_a_peer_on_its_own_cpu);
    RUN(test_waiter_that_may_not_poll_sleeps_at_once);
    RUN(test_waiter_polling_is_bounded);
    return 0;
}
