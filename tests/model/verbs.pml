/* SPDX-License-Identifier: MIT */
/*
 * csrc/shared/doorbell.h and the use its comment prescribes, statement by statement.  Each -DNO_...
 * leaves one out, for the test that the checker notices.
 *
 * The includer defines DOORBELLS and includes memory.pml.
 */
byte counter[DOORBELLS];       /* the eventfds; 2 stands for many */
bool asleep[DOORBELLS];
bool rung[DOORBELLS];          /* since the owner's armed word last became 1 */
byte spurious = SPURIOUS_MAX;  /* wake-ups for nothing that may still come */

inline ring(d) {
    d_step {
        if
        :: counter[d] < 2 -> counter[d]++
        :: else
        fi
    }
}

/* Ringer, after publishing. */
inline ring_if_needed(p, armed_word, d) {
#ifndef NO_FENCE_RINGER
    FENCE(p);                                   /* F2 */
#endif
    LOAD(p, armed_word, armed);
    if
    :: armed ->
#ifdef NO_EXCHANGE
        STORE(p, armed_word, 0);
#else
        d_step {
            EXCHANGE(p, armed_word, 0, armed);
            assert(!(armed && rung[d]));        /* at most one ring per arming */
            rung[d] = rung[d] || armed
        }
#endif
        if
        :: armed -> ring(d)
        :: else
        fi
    :: else
    fi
}

/* Sleeper: returns when there may be something, or with over = true when all is done for good. */
inline sleep_unless_changed(p, armed_word, d, tail_word, own, all_done) {
#ifdef CLEAR_AFTER_ARM
    STORE(p, armed_word, 1);
    FENCE(p);
    LOAD(p, tail_word, seen);
    counter[d] = 0;
#else
    STORE(p, armed_word, 1);
#ifndef NO_FENCE_SLEEPER
    FENCE(p);                                   /* F1 */
#endif
#ifdef NO_RECHECK
    seen = own;
#else
    LOAD(p, tail_word, seen);
#endif
#endif
    if
    :: seen == own ->
        asleep[d] = true;
        if
        :: counter[d] > 0
        :: spurious > 0 -> spurious--
        :: all_done -> over = true
        fi;
        asleep[d] = false;
        if                                      /* either order will do */
        :: counter[d] = 0; STORE(p, armed_word, 0)
        :: STORE(p, armed_word, 0); counter[d] = 0
        fi
    :: else -> STORE(p, armed_word, 0)
    fi
}

/* The armed word's stores; `rung` starts anew when a 1 arrives. */
#define ARMED_ARRIVES(p, word, d) \
    atomic { \
        buffer[p]??eval(word), memory[word]; \
        if \
        :: memory[word] == 1 -> rung[d] = false \
        :: else \
        fi \
    }
