#include "infer/memo.h"

#include "base/count.h"
#include "base/mem.h"
#include "infer/copy.h"

#define OVERHEAD 32 // of the allocator, an entry

struct memo_entry {
    struct memo_entry *chain;         // in its bucket
    struct memo_entry *newer, *older; // by when it came, or went round
    uint64_t name[SIPHASH_BYTES / 8];
    struct cache_key key;
    bool anybody;
    bool asked;          // since it came, or went round
    uint32_t text_bytes; // of the printed answer, which lies behind the request
    size_t copy_bytes;   // of the request's copy
    uint64_t answer;
    struct infer_request request;
    _Alignas(8) uint8_t copy[];
};

static size_t bytes_of(size_t copy, size_t text)
{
    return sizeof(struct memo_entry) + copy + text + OVERHEAD;
}

static void add_bytes(struct memo *m, int64_t n)
{
    count_add(&m->bytes, (uint64_t)n);
}

// ---- the table and the queue ---------------------------------------------------------------------------

static struct memo_entry **place_of(const struct memo *m, const uint64_t *name)
{
    struct memo_entry **at = &m->buckets[name[0] % MEMO_BUCKETS];
    while (*at && ((*at)->name[0] != name[0] || (*at)->name[1] != name[1]))
        at = &(*at)->chain;
    return at;
}

static struct memo_entry *find(const struct memo_ask *a)
{
    return a->memo->buckets ? *place_of(a->memo, a->name) : NULL;
}

static void enqueue(struct memo *m, struct memo_entry *e)
{
    e->asked = false;
    e->newer = NULL;
    e->older = m->newest;
    *(m->newest ? &m->newest->newer : &m->oldest) = e;
    m->newest = e;
}

static void dequeue(struct memo *m, struct memo_entry *e)
{
    *(e->newer ? &e->newer->older : &m->newest) = e->older;
    *(e->older ? &e->older->newer : &m->oldest) = e->newer;
}

static void drop(struct memo *m, struct memo_entry *e)
{
    *place_of(m, e->name) = e->chain;
    dequeue(m, e);
    add_bytes(m, -(int64_t)bytes_of(e->copy_bytes, e->text_bytes));
    mem_free(e);
}

// False: the bound is less than that.
static bool make_room(struct memo *m, size_t bytes)
{
    for (unsigned rounds = 0; m->oldest && count_get(&m->bytes) + bytes > m->bound;) {
        struct memo_entry *e = m->oldest;
        if (!e->asked || rounds++ == MEMO_ROUNDS) {
            drop(m, e);
            continue;
        }
        dequeue(m, e);
        enqueue(m, e);
    }
    return count_get(&m->bytes) + bytes <= m->bound;
}

void memo_bound(struct memo *m, uint64_t bytes)
{
    m->bound = bytes;
    make_room(m, 0);
    if (m->oldest || !m->buckets)
        return;
    mem_free(m->buckets);
    m->buckets = NULL;
    add_bytes(m, -(int64_t)count_get(&m->bytes));
}

static bool have_buckets(struct memo *m)
{
    size_t bytes = MEMO_BUCKETS * sizeof(struct memo_entry *);
    if (m->buckets || bytes > m->bound || !(m->buckets = mem_zalloc(bytes)))
        return m->buckets;
    add_bytes(m, (int64_t)bytes);
    return true;
}

// ---- a request -----------------------------------------------------------------------------------------

// Lengths come first, so that neighbours cannot trade bytes; what is absent is not what is empty.
static void name_parts(struct memo_ask *a)
{
    struct {
        char layout[16];
        uint64_t lengths[MEMO_PARTS];
    } head = {.layout = "sluice memo 1"};
    struct siphash h;
    for (unsigned i = 0; i < MEMO_PARTS; i++)
        head.lengths[i] = a->parts[i].p ? a->parts[i].n + 1 : 0;
    siphash_begin(&h, a->secret);
    siphash_put(&h, &head, sizeof(head));
    for (unsigned i = 0; i < MEMO_PARTS; i++) {
        if (a->parts[i].n > 0)
            siphash_put(&h, a->parts[i].p, a->parts[i].n);
    }
    siphash_end(&h, (uint8_t *)a->name);
    a->named = true;
}

static bool pays(struct memo *m)
{
    return m->vain < MEMO_VAIN || ++m->passed % MEMO_SOME == 0;
}

bool memo_recall(struct memo_ask *a, struct arena *arena, struct infer_request *out)
{
    if (!pays(a->memo))
        return false;
    name_parts(a);
    struct memo_entry *e = find(a);
    void *memory = e ? arena_alloc(arena, e->copy_bytes) : NULL;
    if (!memory)
        return false;
    request_copy(out, memory, &e->request);
    *a->key = e->key;
    a->keyed = true;
    a->anybody = e->anybody;
    e->asked = true;
    a->memo->vain -= a->memo->vain < MEMO_SOME ? a->memo->vain : MEMO_SOME;
    count_add(&a->memo->hits, 1);
    return true;
}

struct view memo_printed(struct memo_ask *a, uint64_t answer)
{
    struct memo_entry *e = a->named && answer > 0 ? find(a) : NULL;
    bool same = e && e->answer == answer;
    return same ? view_of(e->copy + e->copy_bytes, e->text_bytes) : VIEW("");
}

void memo_keep(struct memo_ask *a, const struct infer_request *r, uint64_t answer,
               struct view printed)
{
    struct memo *m = a->memo;
    if (!a->named || !a->keyed || answer == 0 || !have_buckets(m))
        return;
    struct memo_entry *e = find(a);
    if (e && e->answer == answer)
        return;
    if (e)
        drop(m, e);
    size_t copy = request_copy_bytes(r);
    size_t text = bytes_of(copy, printed.n) <= MEMO_ENTRY_BYTES ? printed.n : 0;
    size_t bytes = bytes_of(copy, text);
    if (bytes > MEMO_ENTRY_BYTES || !make_room(m, bytes) || !(e = mem_alloc(bytes - OVERHEAD)))
        return;
    *e = (struct memo_entry){.name = {a->name[0], a->name[1]},
                             .key = *a->key,
                             .anybody = a->anybody,
                             .text_bytes = (uint32_t)text,
                             .copy_bytes = copy,
                             .answer = answer};
    request_copy(&e->request, e->copy, r);
    if (text > 0)
        memcpy(e->copy + copy, printed.p, text);
    struct memo_entry **at = place_of(m, a->name);
    *at = e;
    enqueue(m, e);
    add_bytes(m, (int64_t)bytes);
    m->vain += m->vain < MEMO_VAIN;
}
