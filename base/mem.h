/* base/mem.h: the only place that calls malloc. Two kinds of request: sizes that a stranger's bytes
 * decide may fail and are checked by the caller; sizes that our own bounds decide use mem_must and
 * abort when the machine has no memory left. Thread: any. */
#ifndef SLUICE_BASE_MEM_H
#define SLUICE_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

// NULL when out of memory (or when the test door says so). Free with mem_free.
void *mem_alloc(size_t bytes);
void *mem_zalloc(size_t bytes);
void *mem_realloc(void *p, size_t bytes);
void mem_free(void *p);

// Never NULL: aborts with one line. For sizes bounded by our own constants only.
void *mem_must(size_t bytes);
void *mem_must_zero(size_t bytes);

// Test door: the n-th call of mem_alloc/mem_zalloc/mem_realloc from now on (1 = the next) by this
// thread fails once; 0 switches it off. mem_count says how many such calls this thread has made.
void mem_fail_at(uint64_t n);
uint64_t mem_count(void);

#endif
