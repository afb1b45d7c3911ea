#include "gateway/chunks.h"

#include "base/count.h"
#include "base/mem.h"

// ---- taking from the end -------------------------------------------------------------------------------

// The oldest; with `spare` only where all in it may go.
static struct chunk *take(struct chunks *q, bool spare)
{
    for (;;) {
        uint64_t tail = atomic_load(&q->tail);
        if (tail == atomic_load(&q->head))
            return NULL;
        uintptr_t at = atomic_load(&q->slot[tail % CHUNKS_MOST]);
        if (spare && at & 1)
            return NULL;
        if (!atomic_compare_exchange_strong(&q->tail, &tail, tail + 1))
            continue; // the other side has it, and may have freed it: nothing of it was looked at
        struct chunk *c = (struct chunk *)(at & ~(uintptr_t)1);
        atomic_fetch_sub(&q->bytes, (int64_t)c->size);
        return c;
    }
}

struct chunk *chunks_take(struct chunks *q)
{
    return atomic_load(&q->head) > 0 ? take(q, false) : NULL;
}

void chunk_free(struct chunk *c)
{
    mem_free(c);
}

// ---- the producer --------------------------------------------------------------------------------------

static uint64_t held(const struct chunks *q)
{
    int64_t bytes = atomic_load_explicit(&q->bytes, memory_order_relaxed);
    return (uint64_t)bytes + (q->filling ? q->filling->size : 0) + q->promised;
}

static bool drop_oldest(struct chunks *q)
{
    struct chunk *c = take(q, true);
    if (!c)
        return false;
    count_add(&q->dropped, c->records);
    chunk_free(c);
    return true;
}

static bool make_room(struct chunks *q, uint64_t n, uint64_t most)
{
    while (held(q) + n > most)
        if (!drop_oldest(q))
            return false;
    return true;
}

static bool is_behind(const struct chunks *q)
{
    return atomic_load(&q->tail) < atomic_load_explicit(&q->head, memory_order_relaxed);
}

// False: there is no slot for it.
static bool push(struct chunks *q)
{
    struct chunk *c = q->filling;
    uint64_t head = atomic_load_explicit(&q->head, memory_order_relaxed);
    if (!q->slot && !(q->slot = mem_zalloc(CHUNKS_MOST * sizeof(*q->slot))))
        return false;
    if (head - atomic_load(&q->tail) == CHUNKS_MOST && !drop_oldest(q))
        return false;
    atomic_store(&q->slot[head % CHUNKS_MOST], (uintptr_t)c | (c->required > 0));
    atomic_fetch_add(&q->bytes, (int64_t)c->size);
    atomic_store(&q->head, head + 1);
    q->filling = NULL;
    return true;
}

bool chunks_hand(struct chunks *q)
{
    if (!q->filling || q->filling->records == 0)
        return true;
    return !is_behind(q) && push(q);
}

void chunks_end(struct chunks *q)
{
    if (q->filling && q->filling->records > 0)
        push(q);
}

static bool begin(struct chunks *q, size_t n)
{
    size_t size = n > CHUNK_BYTES ? n : CHUNK_BYTES;
    struct chunk *c = mem_alloc(sizeof(*c) + size);
    if (c)
        *c = (struct chunk){.size = size};
    q->filling = c;
    return c != NULL;
}

uint8_t *chunks_room(struct chunks *q, size_t n, bool promised, uint64_t most)
{
    struct chunk *c = q->filling;
    count_add(&q->records, 1);
    if (c && c->size - c->used >= n)
        return c->data + c->used;
    bool room = (!c || push(q)) &&
                (promised || make_room(q, n > CHUNK_BYTES ? n : CHUNK_BYTES, most)) && begin(q, n);
    if (room)
        return q->filling->data;
    count_add(&q->dropped, 1);
    return NULL;
}

void chunks_add(struct chunks *q, size_t n, bool required)
{
    q->filling->used += n;
    q->filling->records++;
    q->filling->required += required;
}

bool chunks_promise(struct chunks *q, size_t n, uint64_t most)
{
    if (!make_room(q, n + CHUNK_BYTES, most))
        return false;
    q->promised += n;
    return true;
}

void chunks_keep(struct chunks *q, size_t n)
{
    q->promised -= n;
}

void chunks_free(struct chunks *q)
{
    for (struct chunk *c; (c = chunks_take(q));)
        chunk_free(c);
    mem_free(q->filling);
    mem_free(q->slot);
    *q = (struct chunks){0};
}
