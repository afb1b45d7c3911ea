#include "router/desk_inner.h"

#include "base/check.h"
#include "base/mem.h"

/* A store behind what is kept here: whoever would lead a flight asks it first (PLACE_ASKS), and is queued when it has
 * nothing. Others who ask the same follow, as they do behind one that is queued. Who wants what is kept alone
 * (CACHE_ONLY_STALE) asks as well, and leads nobody: it never goes to the model.
 *
 *   leads ─► ASKS ─it is there─► answered, and kept here
 *             ├─it is not, too old, or not in time─► admitted, as a ticket that has just come
 *             └─called home─► the next of the flight leads, and goes to the model
 *
 *   wants what is kept ─► ASKS ─it is there, stale as it may be─► answered, and kept here
 *                          └─else, or called home─► given back
 *
 *  S1  Each ask is in desk.asks until desk_on_stored; its ticket may be gone long before.
 *  S2  Who asks much and finds little asks seldom: a model whose inputs never repeat would wait for nothing each time. For
 *      a last resort nothing is too much.
 *  S3  Keys that only this process makes are no names in a store (infer/cache_key.h): on one loop the configuration may
 *      have a store already, on another not yet. */

#define WINDOW 1024 // asks that are judged together
#define WORTH 100   // one of so many must find something
#define SELDOM 8    // else one of so many misses asks

static struct store_ask *ask_new(struct desk *d, const struct cache_id *id, struct view version)
{
    struct store_ask *a = version.n <= MODEL_VERSION_MAX ? mem_alloc(sizeof(*a)) : NULL;
    if (!a)
        return NULL;
    *a = (struct store_ask){.model = d->model, .id = *id, .desk = d};
    a->version_bytes = (uint8_t)version.n;
    if (version.n > 0)
        memcpy(a->version, version.p, version.n);
    return a;
}

// ---- is it worth it? (S2) ------------------------------------------------------------------------------

static bool is_worth_it(struct desk *d)
{
    return !d->store_cold || d->store_misses++ % SELDOM == 0;
}

static void judge(struct desk *d, bool found)
{
    d->store_found += found;
    if (++d->store_asked < WINDOW)
        return;
    d->store_cold = d->store_found * WORTH < d->store_asked;
    d->store_asked = d->store_found = 0;
}

// ---- asking --------------------------------------------------------------------------------------------

static void list(struct desk *d, struct store_ask *a)
{
    a->next = d->asks;
    a->prev = &d->asks;
    if (a->next)
        a->next->prev = &a->next;
    d->asks = a;
}

static void unlist(struct store_ask *a)
{
    if (a->next)
        a->next->prev = a->prev;
    *a->prev = a->next;
}

bool store_asked(struct desk *d, struct ticket *t, const struct cache_id *id, struct view version,
                 struct effects *fx)
{
    bool last = t->cache == CACHE_ONLY_STALE;
    if (!d->stored || !t->cache_key->shared || (!last && !is_worth_it(d)))
        return false;
    struct store_ask *a = ask_new(d, id, version);
    if (!a || (!last && !cache_lead(d, t))) {
        mem_free(a);
        return false;
    }
    a->ticket = t;
    a->epoch = t->cache_epoch;
    t->ask = a;
    t->place = PLACE_ASKS;
    list(d, a);
    effects_add(fx, FX_STORE_GET)->ask = a;
    return true;
}

void store_forgotten(struct ticket *t)
{
    t->ask->ticket = NULL;
    t->ask = NULL;
    t->place = PLACE_NONE;
}

static void ask_the_model(struct desk *d, struct ticket *t, uint64_t now_us, struct effects *fx)
{
    cache_add(&d->model->cache.count[CACHE_MISSES], 1);
    t->queued_us = now_us; // or it would go before all that have come meanwhile
    desk_missed(d, t, now_us, fx);
}

// Its ticket still waits for it.
static void ask_over(struct desk *d, struct store_ask *a, const struct slice *s, uint64_t stored_us,
                     uint64_t now_us, struct effects *fx)
{
    struct ticket *t = a->ticket;
    bool current = a->epoch == atomic_load(&d->model->cache.epoch);
    store_forgotten(t);
    bool found = s && current && store_answers(d, t, &a->id, s, a->epoch, stored_us, now_us, fx);
    if (!a->unheard) // what is away is as good as before when it is back
        judge(d, found);
    if (!found && t->cache == CACHE_ONLY_STALE)
        cache_has_none(d, t, fx);
    else if (!found)
        ask_the_model(d, t, now_us, fx);
}

void desk_on_stored(struct desk *d, struct store_ask *a, const struct slice *s, uint64_t stored_us,
                    uint64_t now_us, struct effects *fx)
{
    unlist(a);
    if (a->ticket) // clocks of instances differ
        ask_over(d, a, s, stored_us < now_us ? stored_us : now_us, now_us, fx);
    mem_free(a);
}

// ---- telling -------------------------------------------------------------------------------------------

void store_keep(struct desk *d, const struct ticket *t, const struct cache_id *id,
                struct view version, uint64_t sent_us, struct effects *fx)
{
    const struct model_rules *k = &d->model->rules;
    bool named = d->stored && t->cache_key->shared; // S3
    struct store_ask *a = named ? ask_new(d, id, version) : NULL;
    if (!a)
        return;
    a->epoch = t->cache_epoch;
    a->sent_us = sent_us;
    a->keep_us = k->cache_stale_us > k->cache_ttl_us ? k->cache_stale_us : k->cache_ttl_us;
    a->slice = t->slice;
    block_ref(a->slice.answer->block);
    effects_add(fx, FX_STORE_PUT)->ask = a;
}

void store_told(struct store_ask *a)
{
    block_unref(a->slice.answer->block);
    mem_free(a);
}
