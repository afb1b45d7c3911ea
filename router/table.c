#include "router/table.h"

#include "base/mem.h"
#include "infer/request.h"

#define SLOTS (2 * TABLE_MODELS)

struct table *table_new(unsigned loops)
{
    struct table *t = mem_zalloc(sizeof(*t));
    if (t)
        t->loops = (uint16_t)loops;
    return t;
}

static void model_free(struct model *m)
{
    mem_free((char *)m->name.p);
    mem_free(m);
}

void table_free(struct table *t)
{
    if (!t)
        return;
    for (unsigned i = 0; i < SLOTS; i++) {
        if (table_at(t, i))
            model_free(table_at(t, i));
    }
    mem_free(t);
}

struct model *table_find(const struct table *t, struct view name)
{
    uint64_t hash = hash64(name, 0);
    for (unsigned i = 0; i < SLOTS; i++) {
        struct model *m = table_at(t, (unsigned)(hash + i) % SLOTS);
        if (!m)
            return NULL;
        if (m->hash == hash && view_eq(m->name, name))
            return m;
    }
    return NULL;
}

static struct model *model_new(const struct table *t, struct view name,
                               const struct model_rules *rules)
{
    struct model *m = mem_alloc_aligned(sizeof(*m), 64);
    char *copy = mem_alloc(name.n + 1);
    if (!m || !copy) {
        mem_free(m);
        mem_free(copy);
        return NULL;
    }
    memset(m, 0, sizeof(*m));
    memcpy(copy, name.p, name.n);
    copy[name.n] = '\0';
    m->name = view_of(copy, name.n);
    m->hash = hash64(name, 0);
    m->home = (uint16_t)(m->hash % t->loops);
    m->rules = *rules;
    if (m->rules.pipeline == 0)
        m->rules.pipeline = 1;
    atomic_store(&m->queue_limit,
                 rules->queue_rows ? rules->queue_rows : model_queue_rows(rules->max_rows));
    return m;
}

struct model *table_add(struct table *t, struct view name, const struct model_rules *rules)
{
    struct model *m = table_find(t, name);
    if (m || !model_name_ok(name))
        return m;
    if (atomic_fetch_add(&t->count, 1) >= TABLE_MODELS || !(m = model_new(t, name, rules))) {
        atomic_fetch_sub(&t->count, 1);
        return NULL;
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        struct model *there = NULL;
        unsigned at = (unsigned)(m->hash + i) % SLOTS;
        m->index = (uint16_t)at;
        if (atomic_compare_exchange_strong(&t->slot[at], &there, m))
            return m;
        if (there->hash == m->hash && view_eq(there->name, name)) { // another loop was faster
            model_free(m);
            atomic_fetch_sub(&t->count, 1);
            return there;
        }
    }
    model_free(m); // not reached: there are twice as many slots as models
    return NULL;
}
