/* base/arena.h: memory that lives and dies together (a request's, a connection's, a batch's).
 * Bump allocation from chunks; nothing is freed singly. An arena is an argument, never hidden.
 * Released memory is poisoned under ASan. Thread: whoever owns the arena, one at a time. */
#ifndef SLUICE_BASE_ARENA_H
#define SLUICE_BASE_ARENA_H

#include "base/view.h"
#include <stdint.h>

struct arena_chunk;

struct arena {
    struct arena_chunk *chunk; // newest first; NULL until the first allocation
    char *at, *end;            // free run of the newest chunk
    size_t bytes;              // taken from the system so far (for accounting)
    size_t chunk_bytes;        // size of the next ordinary chunk
};

// No allocation happens here. chunk_bytes: what an ordinary chunk holds (0: 4 KiB).
void arena_init(struct arena *a, size_t chunk_bytes);
// Frees everything; the arena may be used again.
void arena_deinit(struct arena *a);
// Like deinit, but keeps one ordinary chunk for the next life.
void arena_reset(struct arena *a);

// Ordinary chunks of common sizes are kept in a small cache of the calling thread, so that a request's
// arena costs no malloc in steady state (not under ASan). A thread that ends, or has nothing to do, gives
// its cache back.
void arena_thread_done(void);

void *arena_alloc_slow(struct arena *a, size_t bytes, size_t align);

// align: a power of two, at most 64. NULL when out of memory. Not zeroed.
static inline void *arena_alloc_aligned(struct arena *a, size_t bytes, size_t align)
{
#ifndef SLUICE_ASAN // under ASan the slow path unpoisons exactly what it hands out
    uintptr_t at = ((uintptr_t)a->at + align - 1) & ~(uintptr_t)(align - 1);
    if (a->at && at <= (uintptr_t)a->end && bytes <= (uintptr_t)a->end - at) {
        a->at = (char *)at + bytes;
        return (void *)at;
    }
#endif
    return arena_alloc_slow(a, bytes, align);
}

static inline void *arena_alloc(struct arena *a, size_t bytes)
{
    return arena_alloc_aligned(a, bytes, 16);
}

void *arena_zalloc(struct arena *a, size_t bytes);
// count * size with the overflow checked; NULL when it wraps or memory is out.
void *arena_array(struct arena *a, size_t count, size_t size);
// Copies; .p is NULL (n == 0) when out of memory and v.n > 0.
struct view arena_copy(struct arena *a, struct view v);

#endif
