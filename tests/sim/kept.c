#include "tests/sim/sim.h"

#include "infer/cache_key.h"

// Low numbers are asked most. An id is never as small as that: see submit in clients.c.
#define QUESTION ((uint64_t)1 << 40)

void kept_ask(struct world *w, struct life *x)
{
    struct rand *r = &w->rand;
    uint64_t most = 1 + rand_below(r, w->plan.questions);
    x->in.step.cache = (enum cache_use[]){CACHE_USE,  CACHE_USE, CACHE_USE,   CACHE_USE,
                                          CACHE_USE,  CACHE_USE, CACHE_RENEW, CACHE_ONLY_STALE,
                                          CACHE_NONE, CACHE_NONE}[rand_below(r, 10)];
    if (x->in.request.sequence_id > 0 || x->kind == KIND_SEQUENCE)
        x->in.step.cache = CACHE_NONE;
    if (x->in.step.cache != CACHE_NONE && rand_below(r, 4) > 0)
        x->asks = QUESTION | (1 + rand_below(r, most));
}

// In steps, as an origin does. Some origins have no store in their configuration yet.
void kept_key(struct world *w, struct life *x)
{
    static const uint8_t secret[SIPHASH_KEY] = "of this world  ";
    struct cache_keying k;
    if (x->in.step.cache == CACHE_NONE)
        return;
    bool shared = w->plan.stored && rand_below(&w->rand, 16) > 0;
    cache_key_begin(&k, &x->in.request, VIEW(""), shared ? NULL : secret);
    while (!cache_key_step(&k, 100, &x->in.cache_key))
        ;
    x->in.step.cache_key = &x->in.cache_key;
}

// ---- who is at its home, and of use for the cache ------------------------------------------------------

void kept_lent(struct life *x)
{
    struct model_of *m = x->model;
    if (x->ticket->cache == CACHE_NONE)
        return;
    x->asker_next = m->askers;
    x->asker_prev = &m->askers;
    if (m->askers)
        m->askers->asker_prev = &x->asker_next;
    m->askers = x;
}

static void check_kept(struct loop_of *l, const struct life *x)
{
    struct world *w = l->w;
    const struct ticket *t = x->ticket;
    const struct model_rules *k = &x->model->rules;
    bool fresh = t->source == SOURCE_CACHE;
    bool stale_too = t->cache == CACHE_ONLY_STALE || standing_level(x->model->m) >= LEVEL_PARTIAL;
    demand(w, x, t->cache != CACHE_RENEW && (fresh || stale_too),
           "what is kept is given to who may have it");
    demand(w, x, x->sent == 0 && t->batch_rows == 0, "and is not computed");
    demand(w, x, (uint64_t)t->age_s * 1000000 < (fresh ? k->cache_ttl_us : k->cache_stale_us),
           "it is no older than it may be");
    for (unsigned i = 0; fresh && t->to.version.n == 0 && i < x->model->n_replicas; i++) {
        const struct replica_of *r = &x->model->replica[i];
        const struct replica *known = replica_known(r);
        demand(w, x, !known || !known->up || r->second || view_is(t->slice.answer->version, "1"),
               "who names no version gets one that all replicas have");
    }
}

void kept_back(struct loop_of *l, struct life *x)
{
    struct ticket *t = x->ticket;
    if (t->error.status == STATUS_OK && t->source != SOURCE_MODEL)
        check_kept(l, x);
    demand(l->w, x, t->cache != CACHE_ONLY_STALE || x->sent == 0,
           "who wants what is kept alone is not sent");
    demand(l->w, x, !t->flight && !t->followers, "who leaves its home has left its flight");
    if (t->cache == CACHE_NONE)
        return;
    if (x->asker_next)
        x->asker_next->asker_prev = x->asker_prev;
    *x->asker_prev = x->asker_next;
}

void kept_look(struct loop_of *l, struct model_of *m)
{
    uint32_t n = 0;
    for (struct life *x = m->askers; x; x = x->asker_next) {
        bool waits = x->ticket->place == PLACE_WAITS;
        n += waits;
        x->followed |= waits;
        if (waits && x->waiting)
            stop_waiting(x); // another one leads
        else if (!waits)
            demands_queued(l, x->ticket);
        demand(l->w, x, !waits || !x->cancelled, "who is called home follows nobody");
        demand(l->w, x, !waits || x->ticket->flight->leader, "a flight has its leader");
    }
    demand(l->w, NULL, !m->desk || m->desk->followers == n, "who follows is counted");
}

static bool asks_the_same(const struct ticket *a, const struct ticket *b)
{
    return memcmp(a->cache_key->bytes, b->cache_key->bytes, sizeof(a->cache_key->bytes)) == 0 &&
           view_eq(a->to.version, b->to.version) && a->cache_row == b->cache_row &&
           a->cache_rows == b->cache_rows;
}

// Of those that ask the same at a time one is computed. Where memory was out, or the rules were others, it has no flight.
void kept_dispatched(struct loop_of *l, const struct batch *b, const struct model_of *m)
{
    struct world *w = l->w;
    if (m->rules.cache_ttl_us == 0 || m->rules_us > 0 || m->memory_us > 0)
        return;
    for (uint32_t i = 0; i < b->n; i++) {
        const struct ticket *t = b->tickets[i];
        for (const struct life *y = m->askers; t->cache == CACHE_USE && y; y = y->asker_next) {
            const struct ticket *u = y->ticket;
            demand(w, y,
                   u == t || u->cache != CACHE_USE || u->place != PLACE_ABOARD ||
                       !asks_the_same(t, u),
                   "what is asked by many at a time is computed once");
        }
    }
}

// ---- the cache itself ------------------------------------------------------------------------------------

void kept_turn(struct loop_of *l)
{
    struct world *w = l->w;
    const struct cache *c = l->cache;
    if (c->tick_us <= l->now_us)
        cache_tick(l->cache, l->now_us);
    demand(w, NULL, atomic_load(&w->kept.granted) <= w->plan.kept_bytes,
           "no more is kept than the bound says");
    demand(w, NULL, c->live <= c->leased, "no loop keeps more than it has leased");
    if (w->healed || !w->plan.cached || w->plan.rules == 0 || rand_below(&w->rand, 5000) > 0)
        return;
    for (unsigned i = 0; i < w->plan.models; i++) {
        if (w->model[i].m)
            cache_flush(&w->model[i].m->cache, w->now_us);
    }
}
