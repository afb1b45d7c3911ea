#include "base/arena.h"
#include "base/check.h"
#include "base/mem.h"

#ifdef SLUICE_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(p, n) __asan_poison_memory_region((p), (n))
#define UNPOISON(p, n) __asan_unpoison_memory_region((p), (n))
#define REDZONE 16
#else
#define POISON(p, n) ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#define REDZONE 0
#endif

#define CHUNK_DEFAULT 4096

struct arena_chunk {
    struct arena_chunk *next;
    size_t bytes; // of data
    _Alignas(16) char data[];
};

// The calling thread's spare chunks: a few sizes, first come first served, each with a bounded stock.
// 2 MiB of 6 KiB chunks are 341 requests in flight.
#define CACHE_SIZES 4
#define CACHE_BYTES ((size_t)2 << 20)
#define CACHE_MAX_CHUNK ((size_t)256 << 10)

struct chunk_cache {
    size_t bytes; // of each chunk; 0: free entry
    size_t held;  // chunks in the list times bytes
    struct arena_chunk *list;
};

#ifndef SLUICE_ASAN
static _Thread_local struct chunk_cache caches[CACHE_SIZES];

static struct chunk_cache *cache_for(size_t bytes)
{
    if (bytes > CACHE_MAX_CHUNK)
        return NULL;
    for (int i = 0; i < CACHE_SIZES; i++) {
        if (caches[i].bytes == bytes)
            return &caches[i];
        if (caches[i].bytes == 0) {
            caches[i].bytes = bytes;
            return &caches[i];
        }
    }
    return NULL;
}

void arena_thread_done(void)
{
    for (int i = 0; i < CACHE_SIZES; i++) {
        for (struct arena_chunk *c = caches[i].list, *next; c; c = next) {
            next = c->next;
            mem_free(c);
        }
        caches[i] = (struct chunk_cache){0};
    }
}
#else
static struct chunk_cache *cache_for(size_t bytes)
{
    return NULL;
}

void arena_thread_done(void)
{
}
#endif

static struct arena_chunk *chunk_new(size_t bytes, bool ordinary)
{
    struct chunk_cache *cache = ordinary ? cache_for(bytes) : NULL;
    if (cache && cache->list) {
        if (mem_door_fails()) // a test that counts allocations must not depend on the cache
            return NULL;
        struct arena_chunk *c = cache->list;
        cache->list = c->next;
        cache->held -= bytes;
        return c;
    }
    size_t total;
    if (__builtin_add_overflow(bytes, sizeof(struct arena_chunk), &total))
        return NULL;
    struct arena_chunk *c = mem_alloc(total);
    if (!c)
        return NULL;
    c->bytes = bytes;
    POISON(c->data, bytes);
    return c;
}

static void chunk_free(struct arena_chunk *c, bool ordinary)
{
    struct chunk_cache *cache = ordinary ? cache_for(c->bytes) : NULL;
    if (cache && cache->held + c->bytes <= CACHE_BYTES) {
        c->next = cache->list;
        cache->list = c;
        cache->held += c->bytes;
        return;
    }
    UNPOISON(c->data, c->bytes);
    mem_free_large(c, c->bytes);
}

void arena_init(struct arena *a, size_t chunk_bytes)
{
    *a = (struct arena){.chunk_bytes = chunk_bytes ? chunk_bytes : CHUNK_DEFAULT};
}

static void arena_empty(struct arena *a, struct arena_chunk *keep)
{
    for (struct arena_chunk *c = a->chunk, *next; c; c = next) {
        next = c->next;
        if (c != keep)
            chunk_free(c, c->bytes == a->chunk_bytes);
    }
    *a = (struct arena){.chunk_bytes = a->chunk_bytes};
}

void arena_deinit(struct arena *a)
{
    arena_empty(a, NULL);
}

void arena_reset(struct arena *a)
{
    struct arena_chunk *keep = a->chunk;
    while (keep && keep->bytes != a->chunk_bytes)
        keep = keep->next;
    arena_empty(a, keep);
    if (!keep)
        return;
    keep->next = NULL;
    POISON(keep->data, keep->bytes);
    a->chunk = keep;
    a->at = keep->data;
    a->end = keep->data + keep->bytes;
    a->bytes = keep->bytes;
}

// Takes `bytes` from the free run, or NULL when they do not fit.
static void *bump(struct arena *a, size_t bytes, size_t align)
{
    if (!a->at)
        return NULL;
    uintptr_t at = ((uintptr_t)a->at + REDZONE + align - 1) & ~(uintptr_t)(align - 1);
    if (at > (uintptr_t)a->end || bytes > (uintptr_t)a->end - at)
        return NULL;
    a->at = (char *)at + bytes;
    UNPOISON((void *)at, bytes);
    return (void *)at;
}

// A request that would fill a good part of a chunk gets one of its own, placed behind the newest, whose
// free run goes on being used.
static void *own_chunk(struct arena *a, size_t bytes, size_t align)
{
    size_t total;
    if (__builtin_add_overflow(bytes, align + REDZONE, &total))
        return NULL;
    if (total == a->chunk_bytes)
        total++; // its size would pass for an ordinary chunk's
    struct arena_chunk *c = chunk_new(total, false);
    if (!c)
        return NULL;
    a->bytes += total;
    if (a->chunk) {
        c->next = a->chunk->next;
        a->chunk->next = c;
    } else {
        c->next = NULL;
        a->chunk = c; // at and end stay NULL: it has no free run
    }
    uintptr_t at = ((uintptr_t)c->data + align - 1) & ~(uintptr_t)(align - 1);
    UNPOISON((void *)at, bytes);
    return (void *)at;
}

void *arena_alloc_slow(struct arena *a, size_t bytes, size_t align)
{
    debug_invariant(align && (align & (align - 1)) == 0 && align <= 64);
    void *p = bump(a, bytes, align);
    if (p)
        return p;
    if (bytes > a->chunk_bytes / 4 || a->chunk_bytes < 4 * (64 + REDZONE))
        return own_chunk(a, bytes, align);
    struct arena_chunk *c = chunk_new(a->chunk_bytes, true);
    if (!c)
        return NULL;
    c->next = a->chunk;
    a->chunk = c;
    a->at = c->data;
    a->end = c->data + c->bytes;
    a->bytes += c->bytes;
    return bump(a, bytes, align);
}

void *arena_zalloc(struct arena *a, size_t bytes)
{
    void *p = arena_alloc(a, bytes);
    return p ? memset(p, 0, bytes) : NULL;
}

void *arena_array(struct arena *a, size_t count, size_t size)
{
    size_t bytes;
    return __builtin_mul_overflow(count, size, &bytes) ? NULL : arena_alloc(a, bytes);
}

struct view arena_copy(struct arena *a, struct view v)
{
    if (v.n == 0)
        return view_of(NULL, 0);
    char *p = arena_alloc_aligned(a, v.n, 1);
    if (!p)
        return view_of(NULL, 0);
    memcpy(p, v.p, v.n);
    return view_of(p, v.n);
}
