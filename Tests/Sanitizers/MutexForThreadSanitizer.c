// Tells Thread Sanitizer of Swift's `Mutex`, which it would otherwise take for no lock at all whenever a thread has to wait:
// the kernel hands the lock over then (FUTEX_LOCK_PI), and the sanitizer sees nothing of it. The quick path is made of
// atomics that it sees.
//
// Loaded before Swift's own library by `scripts/check --sanitize` (LD_PRELOAD); nothing of the product is built with it.
// Shadows two functions of libswiftSynchronization, which Swift 6 calls by these names:
//
//     Synchronization._MutexHandle._lockSlow(Swift.UInt32) -> ()
//     Synchronization._MutexHandle._unlockSlow() -> ()
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define LOCK "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF"
#define UNLOCK "$s15Synchronization12_MutexHandleV11_unlockSlowyyF"

// There in programs that are built with the sanitizer only; this is loaded into others, too.
__attribute__((weak)) void __tsan_acquire(void *address);
__attribute__((weak)) void __tsan_release(void *address);

typedef __attribute__((swiftcall)) void Lock(uint32_t thread, __attribute__((swift_context)) void *handle);
typedef __attribute__((swiftcall)) void Unlock(__attribute__((swift_context)) void *handle);

static void *next(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (found) return found;
    fprintf(stderr, "This version of Swift has no %s; see MutexForThreadSanitizer.c.\n", name);
    abort();
}

__attribute__((swiftcall)) void lockSlow(uint32_t thread, __attribute__((swift_context)) void *handle) __asm__(LOCK);
__attribute__((swiftcall)) void unlockSlow(__attribute__((swift_context)) void *handle) __asm__(UNLOCK);

__attribute__((swiftcall)) void lockSlow(uint32_t thread, __attribute__((swift_context)) void *handle) {
    static Lock *lock;
    if (!lock) lock = (Lock *)next(LOCK);
    lock(thread, handle);
    if (__tsan_acquire) __tsan_acquire(handle);
}

__attribute__((swiftcall)) void unlockSlow(__attribute__((swift_context)) void *handle) {
    static Unlock *unlock;
    if (!unlock) unlock = (Unlock *)next(UNLOCK);
    if (__tsan_release) __tsan_release(handle);
    unlock(handle);
}
