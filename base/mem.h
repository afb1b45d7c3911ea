/* base/mem.h: the only place that calls malloc. Two kinds of request: sizes that a stranger's bytes
 * decide may fail and are checked by the caller; sizes that our own bounds decide use mem_must and
 * abort when the machine has no memory left. Thread: any. */
#ifndef SLUICE_BASE_MEM_H
#define SLUICE_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// NULL when out of memory (or when the test door says so). Free with mem_free.
void *mem_alloc(size_t bytes);
void *mem_zalloc(size_t bytes);
void *mem_realloc(void *p, size_t bytes);
void mem_free(void *p);
// Gives free memory back to the system. Walks the whole heap and locks it: for when nothing is to be done.
void mem_trim(void);
// From now on large allocations are mappings of their own: a body that doubles is moved by its page table and
// not copied, and what is freed is the system's at once, whichever thread's heap it would have been in. Once a
// process, before its threads.
void mem_map_large(void);
// Frees what has so many bytes. The kernel takes a millisecond for 30 MB of pages: a thread that sweeps frees
// large memory a piece at a time, with mem_sweep.
void mem_sweep_later(void *p, size_t bytes); // private
#define MEM_LARGE ((size_t)1 << 20)
static inline void mem_free_large(void *p, size_t bytes)
{
    if (bytes < MEM_LARGE)
        mem_free(p);
    else
        mem_sweep_later(p, bytes);
}
void mem_sweeps(
    bool on); // this thread calls mem_sweep from now on, or no more (then all is freed at once)
// Gives about `most` bytes of it back. True: more is left.
bool mem_sweep(size_t most);
// For structs whose members ask for more than malloc's 16 (align: a power of two). NULL when out of
// memory; goes through the test door like mem_alloc. Free with mem_free.
void *mem_alloc_aligned(size_t bytes, size_t align);

// Never NULL: aborts with one line. For sizes bounded by our own constants only.
void *mem_must(size_t bytes);
void *mem_must_zero(size_t bytes);
void *mem_must_aligned(size_t bytes, size_t align); // zeroed

// Test door: the n-th call of mem_alloc/mem_zalloc/mem_realloc from now on (1 = the next) by this
// thread fails once; 0 switches it off. mem_count says how many such calls this thread has made.
void mem_fail_at(uint64_t n);
uint64_t mem_count(void);
// What this thread has taken, less what it has freed: where one thread does both, what is still out.
int64_t mem_live(void);
// For caches of memory in base/: counts as one call; true when this one has to fail.
bool mem_door_fails(void);

#endif
