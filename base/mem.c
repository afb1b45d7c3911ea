#include "base/mem.h"
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

// Three words a thread: with the door shut a call costs two increments and a test.
static _Thread_local uint64_t calls;
static _Thread_local uint64_t countdown; // 0: off; 1: the next call fails
static _Thread_local int64_t live;

bool mem_door_fails(void)
{
    calls++;
    return __builtin_expect(countdown != 0, 0) && --countdown == 0;
}

void mem_fail_at(uint64_t n)
{
    countdown = n;
}

uint64_t mem_count(void)
{
    return calls;
}

int64_t mem_live(void)
{
    return live;
}

static void *taken(void *p)
{
    live += p != NULL;
    return p;
}

void *mem_alloc(size_t bytes)
{
    return mem_door_fails() ? NULL : taken(malloc(bytes ? bytes : 1));
}

void *mem_zalloc(size_t bytes)
{
    return mem_door_fails() ? NULL : taken(calloc(1, bytes ? bytes : 1));
}

void *mem_realloc(void *p, size_t bytes)
{
    if (mem_door_fails())
        return NULL;
    void *moved = realloc(p, bytes ? bytes : 1);
    return p ? moved : taken(moved);
}

void *mem_alloc_aligned(size_t bytes, size_t align)
{
    void *p;
    if (mem_door_fails() || posix_memalign(&p, align < 16 ? 16 : align, bytes ? bytes : 1) != 0)
        return NULL;
    return taken(p);
}

void mem_free(void *p)
{
    live -= p != NULL;
    free(p);
}

#define MAPPED_FROM (256 << 10)

void mem_map_large(void)
{
    mallopt(M_MMAP_THRESHOLD,
            MAPPED_FROM); // fixed: it would rise with the first large block that is freed
}

// ---- large memory, a piece at a time -------------------------------------------------------------------

#define PAGE ((size_t)4096)

struct swept { // in the freed memory itself: its first page goes last
    struct swept *next;
    size_t bytes; // that still have pages
};
static _Thread_local struct swept *to_sweep;
static _Thread_local bool sweeps;

void mem_sweep_later(void *p, size_t bytes)
{
    if (!p || !sweeps) {
        mem_free(p);
        return;
    }
    live--;
    struct swept *s = p;
    *s = (struct swept){to_sweep, bytes};
    to_sweep = s;
}

// The last pages of it, but not those that its neighbours share.
static size_t drop_pages(struct swept *s, size_t most)
{
    uintptr_t begin = (uintptr_t)s + PAGE, end = ((uintptr_t)s + s->bytes) & ~(PAGE - 1);
    begin = (begin + PAGE - 1) & ~(PAGE - 1);
    if (end > begin && end - begin > most)
        begin = end - (most & ~(PAGE - 1));
    if (end <= begin || madvise((void *)begin, end - begin, MADV_DONTNEED) != 0) {
        s->bytes = 0; // free finds what is left
        return 0;
    }
    s->bytes = begin - (uintptr_t)s;
    return end - begin;
}

bool mem_sweep(size_t most)
{
    while (to_sweep && most >= PAGE) {
        struct swept *s = to_sweep;
        most -= drop_pages(s, most);
        if (s->bytes > 2 * PAGE)
            continue;
        to_sweep = s->next;
        free(s);
    }
    return to_sweep != NULL;
}

void mem_sweeps(bool on)
{
#ifndef SLUICE_ASAN // it must see what is used after it was freed
    sweeps = on;
#endif
    if (!on)
        mem_sweep(SIZE_MAX);
}

void mem_trim(void)
{
    malloc_trim(0);
}

static void *must(void *p, size_t bytes)
{
    if (!p) {
        fprintf(stderr, "sluice: out of memory (%zu bytes)\n", bytes);
        abort();
    }
    return taken(p);
}

void *mem_must(size_t bytes)
{
    return must(malloc(bytes ? bytes : 1), bytes);
}

void *mem_must_zero(size_t bytes)
{
    return must(calloc(1, bytes ? bytes : 1), bytes);
}

void *mem_must_aligned(size_t bytes, size_t align)
{
    void *p;
    if (posix_memalign(&p, align < 16 ? 16 : align, bytes ? bytes : 1) != 0)
        p = NULL;
    return __builtin_memset(must(p, bytes), 0, bytes);
}
