#include "base/pool.h"

#include "base/mem.h"
#include <string.h>

#define STEP 64
#define CLASSES 16                     // blocks of 64 to 1,024 bytes, header included
#define KEEP_BYTES ((size_t)128 << 10) // of each class and thread

// In front of each block. Class 0: it came from mem.h by itself.
union header {
    struct {
        size_t bytes; // that the holder may use
        unsigned class;
    };
    _Alignas(16) char align[16];
};

struct waiting {
    struct waiting *next;
};

struct list {
    struct waiting *first;
    size_t bytes;
};

#ifdef SLUICE_ASAN
static struct list *list_of(unsigned class)
{
    return NULL;
}
void pool_thread_done(void)
{
}
#else
static _Thread_local struct list lists[CLASSES + 1];

static struct list *list_of(unsigned class)
{
    return class ? &lists[class] : NULL;
}

void pool_thread_done(void)
{
    for (unsigned class = 1; class <= CLASSES; class ++) {
        for (struct waiting *w = lists[class].first, *next; w; w = next) {
            next = w->next;
            mem_free((union header *)w - 1);
        }
        lists[class] = (struct list){0};
    }
}
#endif

void *pool_alloc(size_t bytes)
{
    size_t total;
    if (__builtin_add_overflow(bytes, sizeof(union header), &total))
        return NULL;
    unsigned class = total <= CLASSES * STEP ? (unsigned)((total + STEP - 1) / STEP) : 0;
    struct list *l = list_of(class);
    if (l && l->first) {
        if (mem_door_fails())
            return NULL;
        struct waiting *w = l->first;
        l->first = w->next;
        l->bytes -= class * STEP;
        return w;
    }
    if (l)
        total = class * STEP;
    union header *h = mem_alloc(total);
    if (!h)
        return NULL;
    h->bytes = total - sizeof(*h);
    h->class = l ? class : 0;
    return h + 1;
}

void *pool_zalloc(size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return NULL;
    void *p = pool_alloc(bytes);
    return p ? memset(p, 0, bytes) : NULL;
}

void pool_free(void *p)
{
    if (!p)
        return;
    union header *h = (union header *)p - 1;
    struct list *l = list_of(h->class);
    size_t bytes = h->class * STEP;
    if (!l || l->bytes + bytes > KEEP_BYTES) {
        mem_free_large(h, h->bytes + sizeof(*h));
        return;
    }
    struct waiting *w = p;
    w->next = l->first;
    l->first = w;
    l->bytes += bytes;
}

void *pool_realloc(void *p, size_t bytes)
{
    if (!p)
        return pool_alloc(bytes);
    union header *h = (union header *)p - 1;
    if (h->class && bytes <= h->bytes)
        return p;
    size_t total;
    if (h->class == 0) { // mem.h's own way may grow it where it is
        if (__builtin_add_overflow(bytes, sizeof(*h), &total) || !(h = mem_realloc(h, total)))
            return NULL;
        h->bytes = bytes;
        return h + 1;
    }
    void *grown = pool_alloc(bytes);
    if (!grown)
        return NULL;
    memcpy(grown, p, h->bytes);
    pool_free(p);
    return grown;
}
