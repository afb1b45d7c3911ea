/* base/check.h: three kinds of wrong. invariant(): our own bug, on in release, prints and aborts (the
 * keeper restarts us). never(): cannot happen but would hurt: asserts in debug, and is a handled
 * branch in release: if (never(cond)) { recover }. Bad input is neither: see infer/status.h. */
#ifndef SLUICE_BASE_CHECK_H
#define SLUICE_BASE_CHECK_H

#include <stdbool.h>
#include <stddef.h>

_Noreturn void check_failed(const char *file, int line, const char *what);

#define invariant(cond)                                                                            \
    do {                                                                                           \
        if (__builtin_expect(!(cond), 0))                                                          \
            check_failed(__FILE__, __LINE__, #cond);                                               \
    } while (0)

#ifdef SLUICE_DEBUG
#define never(cond) ((cond) ? (check_failed(__FILE__, __LINE__, "never: " #cond), true) : false)
#define debug_invariant(cond) invariant(cond)
#else
#define never(cond) __builtin_expect(!!(cond), 0)
#define debug_invariant(cond) ((void)0)
#endif

// From a member's address back to the struct that embeds it.
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#endif
