#include "base/block.h"
#include "base/check.h"
#include "base/mem.h"
#include <string.h>

// Whom this thread works for. Its address doubles as the thread's tag.
static _Thread_local struct block_owner *here;

// Data follows the header in the same allocation, on a cache line of its own start.
#define HEADER_BYTES ((sizeof(struct block) + 63) & ~(size_t)63)
_Static_assert(HEADER_BYTES + 64 <= BLOCK_OVERHEAD, "with what malloc adds");

void block_owner_init(struct block_owner *o)
{
    memset(o, 0, sizeof(*o));
    mpsc_init(&o->returns);
}

void block_owner_adopt(struct block_owner *o)
{
    here = o;
    o->thread_tag = (uint64_t)(uintptr_t)&here;
}

// Class of a capacity, BLOCK_CLASSES when it is too large to be kept.
static unsigned class_of(size_t bytes)
{
    unsigned k = 0;
    while (k < BLOCK_CLASSES && bytes > (size_t)1 << (BLOCK_CLASS_MIN + k))
        k++;
    return k;
}

#ifdef SLUICE_ASAN // every block is its own malloc, so that ASan sees what outlives it
#define MAY_KEEP 0
#else
#define MAY_KEEP 1
#endif

static bool charge(struct block_owner *o, int64_t delta_bytes)
{
    return !o->account || o->account(o->account_ctx, delta_bytes);
}

static void destroy(struct block *b)
{
    struct block_owner *o = b->owner;
    if (b->on_free)
        b->on_free(b, b->arg);
    o->live_blocks--;
    o->live_bytes -= b->bytes;
    if (b->apart) {
        mem_free_large(b, b->bytes);
        return;
    }
    charge(o, -(int64_t)b->bytes);
    unsigned k = class_of(b->bytes);
    if (MAY_KEEP && k < BLOCK_CLASSES && o->spares[k] < BLOCK_SPARES) {
        b->arg = o->spare[k];
        o->spare[k] = b;
        o->spares[k]++;
    } else {
        mem_free_large(b, b->bytes);
    }
}

unsigned block_owner_collect(struct block_owner *o)
{
    debug_invariant(here == o && o->thread_tag == (uint64_t)(uintptr_t)&here);
    unsigned n = 0;
    for (struct mpsc_node *node; (node = mpsc_pop(&o->returns)); n++)
        destroy(container_of(node, struct block, node));
    return n;
}

void block_owner_trim(struct block_owner *o)
{
    for (unsigned k = 0; k < BLOCK_CLASSES; k++) {
        for (struct block *b = o->spare[k], *next; b; b = next) {
            next = b->arg;
            mem_free(b);
        }
        o->spare[k] = NULL;
        o->spares[k] = 0;
    }
}

void block_owner_deinit(struct block_owner *o)
{
    block_owner_adopt(o); // often the main thread, after the loop's thread has ended
    block_owner_collect(o);
    invariant(o->live_blocks == 0);
    block_owner_trim(o);
    here = NULL;
}

static struct block *block_obtain(struct block_owner *o, size_t bytes)
{
    unsigned k = class_of(bytes);
    if (k < BLOCK_CLASSES && o->spare[k]) {
        if (mem_door_fails())
            return NULL;
        struct block *b = o->spare[k];
        o->spare[k] = b->arg;
        o->spares[k]--;
        return b;
    }
    size_t total;
    if (__builtin_add_overflow(bytes, HEADER_BYTES, &total))
        return NULL;
    return mem_alloc_aligned(total, 64);
}

struct block *block_new(struct block_owner *o, size_t bytes)
{
    debug_invariant(here == o);
    unsigned k = class_of(bytes);
    if (MAY_KEEP && k < BLOCK_CLASSES)
        bytes = (size_t)1 << (BLOCK_CLASS_MIN + k);
    if (!charge(o, (int64_t)bytes))
        return NULL;
    struct block *b = block_obtain(o, bytes);
    if (!b) {
        charge(o, -(int64_t)bytes);
        return NULL;
    }
    *b = (struct block){.owner = o, .data = (uint8_t *)b + HEADER_BYTES, .bytes = bytes};
    atomic_init(&b->refs, 1);
    o->live_blocks++;
    o->live_bytes += bytes;
    return b;
}

struct block *block_new_apart(struct block_owner *o, size_t bytes,
                              void (*on_free)(struct block *b, void *arg), void *arg)
{
    debug_invariant(here == o);
    struct block *b = mem_alloc_aligned(bytes + HEADER_BYTES, 64);
    if (!b)
        return NULL;
    *b = (struct block){.owner = o,
                        .data = (uint8_t *)b + HEADER_BYTES,
                        .bytes = bytes,
                        .on_free = on_free,
                        .arg = arg,
                        .apart = true};
    atomic_init(&b->refs, 1);
    o->live_blocks++;
    o->live_bytes += bytes;
    return b;
}

struct block *block_ref(struct block *b)
{
    atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
    return b;
}

void block_ref_many(struct block *b, uint32_t n)
{
    atomic_fetch_add_explicit(&b->refs, n, memory_order_relaxed);
}

bool block_unref(struct block *b)
{
    uint32_t refs = atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel);
    invariant(refs != 0);
    if (refs != 1)
        return false;
    if (here == b->owner) {
        destroy(b);
        return false;
    }
    return mpsc_push(&b->owner->returns, &b->node);
}
