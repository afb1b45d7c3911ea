/* A store that other instances share: slow, gone, forgetful, ahead or behind in its clock, and filled by others that
 * nobody sees. What it gives is whole and of the version that was asked for: the rest is refused by the codec
 * (infer/stored.h) before a desk hears of it. */
#include "tests/sim/sim.h"

#include "base/hash.h"
#include "infer/oip_grpc.h"
#include <stdlib.h>

#define LATE_US 20000 // store.timeout: no answer comes later
#define USUAL_US 800
#define SKEW_US 2000000.0

struct in_store { // an answer, at the place that its name has
    uint64_t name, stored_us;
    uint64_t *row;
    uint32_t n, rows;
};

static uint64_t name_of(const struct store_ask *a)
{
    uint64_t words[] = {a->id.row, a->id.rows, atomic_load(&a->model->cache.fleet_epoch),
                        a->model->hash};
    uint64_t name = hash64(view_of(words, sizeof(words)), 7);
    name = hash64(store_version(a), name);
    return hash64(view_of(a->id.key.bytes, sizeof(a->id.key.bytes)), name);
}

static struct in_store *place_of(struct world *w, uint64_t name)
{
    return &w->store[name % SIM_STORED];
}

static void put_rows(struct in_store *p, uint64_t name, const uint64_t *row, uint32_t n,
                     uint32_t rows, uint64_t stored_us)
{
    free(p->row);
    *p = (struct in_store){name, stored_us, malloc(n * sizeof(*row)), n, rows};
    memcpy(p->row, row, n * sizeof(*row));
}

// ---- FX_STORE_PUT --------------------------------------------------------------------------------------

void store_put(struct loop_of *l, struct store_ask *a)
{
    struct world *w = l->w;
    struct tensor t = slice_output(&a->slice, 0);
    bool current = a->epoch == atomic_load(&a->model->cache.epoch);
    demand(w, NULL, w->plan.stored, "where there is no store nobody tells it");
    demand(w, NULL, !a->slice.next && a->sent_us <= l->now_us && a->keep_us > 0 && a->id.key.shared,
           "what is told is one answer, and how long it is good");
    demand(w, NULL, view_eq(a->slice.answer->version, store_version(a)),
           "it is told under the version that it is of");
    if (current && !world_chance(w, w->plan.store_fails)) {
        uint64_t name = name_of(a);
        put_rows(place_of(w, name), name, (const uint64_t *)t.data, (uint32_t)(t.bytes / 8),
                 a->slice.answer->rows > 0 ? (uint32_t)(t.bytes / 8) : 0, a->sent_us);
    }
    w->totals.told++;
    store_told(a);
}

// ---- FX_STORE_GET --------------------------------------------------------------------------------------

// Another instance has computed it a while ago.
static void fill_by_others(struct loop_of *l, const struct store_ask *a, uint64_t name)
{
    const struct infer_request *q = a->ticket ? a->ticket->request : NULL;
    struct view v = store_version(a);
    uint64_t row[SIM_WIDE];
    uint32_t n = q && q->rows > 0 ? q->rows : 1;
    if (!q || n > SIM_WIDE || (!view_is(v, "1") && !view_is(v, "2")))
        return;
    for (uint32_t i = 0; i < n; i++)
        row[i] =
            calls_answer_of(((const uint64_t *)q->inputs[0].data)[i]) + (uint64_t)(v.p[0] - '0');
    uint64_t skew_us = (uint64_t)world_exponential(l->w, SKEW_US);
    put_rows(place_of(l->w, name), name, row, n, q->rows,
             skew_us & 1 ? l->now_us + skew_us : l->now_us - skew_us);
}

static struct answer *answer_of(struct loop_of *l, const struct store_ask *a,
                                const struct in_store *p)
{
    struct block *block = block_new(l->blocks, p->n * sizeof(*p->row));
    memcpy(block->data, p->row, p->n * sizeof(*p->row));
    struct tensor t = {.name = VIEW("y"),
                       .dtype = DT_UINT64,
                       .rank = 1,
                       .shape = {p->n},
                       .data = block->data,
                       .bytes = p->n * sizeof(*p->row)};
    struct answer *of = answer_new(block, &t, 1, p->rows);
    of->version = view_is(store_version(a), "2") ? VIEW("2") : VIEW("1"); // it outlives the ask
    return of;
}

// p NULL: nothing, or not in time.
static void give(struct loop_of *l, struct store_ask *a, const struct in_store *p)
{
    struct model_of *m = a->desk->user;
    struct life *x = a->ticket ? life_of(a->ticket) : NULL;
    struct answer *of = p ? answer_of(l, a, p) : NULL;
    struct slice whole = {.answer = of};
    if (x) {
        x->asked_until_us = l->w->now_us;
        trace(l->w, x, "hears of the store: %s", p ? "it is there" : "nothing");
    }
    l->w->totals.asked++;
    l->w->totals.found += p != NULL;
    l->w->asks_out--;
    world_memory(l->w, m);
    desk_on_stored(a->desk, a, p ? &whole : NULL, p ? p->stored_us : 0, l->now_us, &l->fx);
    world_memory_end();
    if (of)
        block_unref(of->block);
    m->dirty = true;
    kept_look(l, m);
}

void store_event(struct loop_of *l, struct store_ask *a, bool in_time)
{
    uint64_t name = name_of(a);
    struct in_store *p = place_of(l->w, name);
    if (in_time && p->name != name && world_chance(l->w, 0.2))
        fill_by_others(l, a, name);
    give(l, a, in_time && p->name == name ? p : NULL);
}

void store_get(struct loop_of *l, struct store_ask *a)
{
    struct world *w = l->w;
    demand(w, NULL, w->plan.stored && a->ticket && a->ticket->place == PLACE_ASKS,
           "who asks the store waits for it");
    demand(w, NULL, a->id.key.shared, "what is asked of a store has a name that all give it");
    w->asks_out++;
    life_of(a->ticket)->asked_until_us = w->now_us + LATE_US;
    demand(w, NULL, a->desk->home == l->index, "a desk asks on its home loop");
    if (world_chance(w, w->plan.store_fails)) {
        a->unheard = true;
        give(l, a, NULL); // it is away: nobody waits
    } else if (world_chance(w, w->plan.store_fails)) {
        world_at(w, l, w->now_us + LATE_US, EVENT_STORED, a, false);
    } else {
        uint64_t us = world_exponential(w, USUAL_US);
        world_at(w, l, w->now_us + (us < LATE_US ? us : LATE_US), EVENT_STORED, a, true);
    }
}

void store_free(struct world *w)
{
    for (unsigned i = 0; w->store && i < SIM_STORED; i++)
        free(w->store[i].row);
    free(w->store);
    w->store = NULL;
}

void store_open(struct world *w)
{
    w->store = w->plan.stored ? calloc(SIM_STORED, sizeof(*w->store)) : NULL;
}

// Of every few thousand turns one: all that is in it is lost.
void store_turn(struct loop_of *l)
{
    struct world *w = l->w;
    if (!w->plan.stored || w->healed || rand_below(&w->rand, 3000) > 0)
        return;
    store_free(w);
    store_open(w);
}
