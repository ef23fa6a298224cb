/* SPDX-License-Identifier: MIT */
/*
 * Shared memory as processors have it: a store goes into a buffer of its processor and reaches memory
 * later, while the processor goes on.  Relaxed stores to different words may overtake each other
 * (partial store order); all that x86 does (total store order) is among this.  A release store
 * reaches memory after everything its processor stored before.  A fence waits for an empty buffer.
 *
 * The includer defines PROCESSORS, WORDS, and STORES_MAX: what one buffer holds.
 */
byte memory[WORDS];
chan buffer[PROCESSORS] = [STORES_MAX] of { byte, byte };   /* word, value; oldest first */

#define STORE(p, word, value) buffer[p]!word, value
#define FENCE(p) empty(buffer[p])

/* Nobody here reads a word of which it has a store under way, so buffers need no forwarding. */
#define LOAD(p, word, into) \
    d_step { assert(!(buffer[p]??[eval(word), _])); into = memory[word] }

/* Inside of a d_step. */
#define EXCHANGE(p, word, value, into) \
    assert(!(buffer[p]??[eval(word), _])); into = memory[word]; memory[word] = value

/* For the do-loop of a process that lets stores arrive. */
#define RELAXED_ARRIVES(p, word) atomic { buffer[p]??eval(word), memory[word] }
#ifdef NO_RELEASE
#define RELEASE_ARRIVES(p, word) RELAXED_ARRIVES(p, word)
#else
#define RELEASE_ARRIVES(p, word) atomic { buffer[p]?eval(word), memory[word] }
#endif
