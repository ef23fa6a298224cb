/* SPDX-License-Identifier: MIT */
/*
 * The only file that names a memory order.  Shared words are plain uint32_t in shm_wire.h (Python
 * and C++ read that header too), so the atomics are the compiler's builtins on plain objects.
 */
#ifndef OVSSHM_ATOMIC_H
#define OVSSHM_ATOMIC_H

#define ovsshm_load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define ovsshm_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define ovsshm_store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define ovsshm_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define ovsshm_exchange(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL)
#define ovsshm_add_relaxed(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)
#define ovsshm_add(p, v) __atomic_add_fetch((p), (v), __ATOMIC_ACQ_REL)
#define ovsshm_sub(p, v) __atomic_sub_fetch((p), (v), __ATOMIC_ACQ_REL)
#define ovsshm_cas_weak(p, expected, v) \
    __atomic_compare_exchange_n((p), (expected), (v), 1, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)

/*
 * A full fence, between a store to one word and a load of another.  TSan does not model fences, so
 * under it (and only there) the fence is a read-modify-write of one global word, which it does.
 */
#if defined(__SANITIZE_THREAD__)
#define OVSSHM_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define OVSSHM_TSAN 1
#endif
#endif
#ifdef OVSSHM_TSAN
static inline void
ovsshm_fence(void)
{
    static unsigned word;
    (void)__atomic_fetch_add(&word, 1, __ATOMIC_SEQ_CST);
}
#else
static inline void
ovsshm_fence(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
#endif

static inline void
ovsshm_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

#endif
