#include "tests/sim/sim.h"

#include "infer/oip_grpc.h"
#include <stdlib.h>

#define HEAL_US 50000

uint64_t replicas_answer_of(uint64_t row)
{
    row ^= row >> 31;
    row *= 0x9e3779b97f4a7c15ull;
    return row ^ row >> 29;
}

double replicas_time_us(const struct model_of *m, double rows)
{
    return m->alpha_us + m->beta_us * rows;
}

// ---- up and down -------------------------------------------------------------------------------------

static void tell_up(struct loop_of *l, struct replica_of *r)
{
    struct model_of *m = r->model;
    struct world *w = m->w;
    world_add_model(w, m);
    r->alive = r->connected = true;
    demands_trouble(w, m, w->now_us + 5000);
    r->hung_until = r->busy_until = r->paused_until = 0;
    r->generation = m->generation;
    r->max_batch = m->max_batch;
    struct replica_facts facts = {.max_batch = r->max_batch,
                                  .metadata = {r->generation, 7},
                                  .versions = {VIEW("1"), VIEW("2")},
                                  .n_versions = r->second ? 2 : 1};
    world_desk(w, m);
    demands_credit(w, m);
    desk_on_replica_up(m->desk, r->id, &facts, l->now_us, &l->fx);
    m->dirty = true;
    world_effects(l);
}

static void tell_down(struct loop_of *l, struct replica_of *r)
{
    struct model_of *m = r->model;
    if (!r->connected)
        return;
    r->connected = false;
    demands_credit(m->w, m);
    desk_on_replica_down(m->desk, r->id, l->now_us, &l->fx);
    m->dirty = true;
    world_effects(l);
}

static uint64_t most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static struct loop_of *home_of(const struct replica_of *r)
{
    return &r->model->w->loop[r->model->home];
}

// ---- calls -------------------------------------------------------------------------------------------

static struct call *call_new(struct world *w, struct batch *b, struct replica_of *r)
{
    struct call *c = w->free_calls;
    if (c)
        w->free_calls = c->next;
    else
        c = malloc(sizeof(*c));
    *c = (struct call){.batch = b, .replica = r, .next = r->calls, .prev = &r->calls};
    if (r->calls)
        r->calls->prev = &c->next;
    r->calls = c;
    b->call = c;
    return c;
}

static void call_free(struct world *w, struct call *c)
{
    if (c->next)
        c->next->prev = c->prev;
    *c->prev = c->next;
    c->tag = 0;
    c->next = w->free_calls;
    w->free_calls = c;
}

// Fixes how and when it ends; what was fixed before is void.
static void call_ends(struct call *c, enum end end, uint64_t at_us)
{
    struct world *w = c->replica->model->w;
    c->end = end;
    c->tag = ++w->tag;
    if (at_us < SIM_NEVER / 2)
        world_at(w, home_of(c->replica), at_us, EVENT_CALL, c, c->tag);
}

static uint64_t soon(struct world *w, uint64_t within_us)
{
    return w->now_us + rand_below(&w->rand, within_us + 1);
}

static void lose_calls(struct replica_of *r)
{
    for (struct call *c = r->calls; c; c = c->next) {
        if (c->end != END_RECALLED)
            call_ends(c, END_LOST, soon(r->model->w, 300));
    }
}

// The worker's process ends. Its keeper starts another.
static void crash(struct replica_of *r)
{
    struct world *w = r->model->w;
    if (!r->alive)
        return;
    r->alive = false;
    lose_calls(r);
    uint64_t down_us = soon(w, 500);
    world_at(w, home_of(r), down_us, EVENT_DOWN, r, 0);
    uint64_t up_us = down_us + 1000 + world_exponential(w, 100000);
    world_at(w, home_of(r), up_us, EVENT_UP, r, 0);
    demands_trouble(w, r->model, up_us + 5000);
}

static bool batch_has(const struct batch *b, bool poison)
{
    for (uint32_t i = 0; i < b->n; i++) {
        const struct life *x = life_of(b->tickets[i]);
        if (poison ? x->poison : x->guilty)
            return true;
    }
    return false;
}

static double tail(struct world *w, const struct model_of *m)
{
    return m->tail > 1 && rand_below(&w->rand, 50) == 0 ? 1 + (m->tail - 1) * rand_unit(&w->rand)
                                                        : 1;
}

static enum end pick_end(struct world *w, const struct batch *b, struct model_of *m)
{
    if (batch_has(b, false)) {
        world_count(w, FAULT_GUILTY);
        return END_ERROR;
    }
    if (w->healed || !world_chance(w, w->plan.per_batch))
        return END_ANSWER;
    static const struct {
        enum end end;
        enum fault fault;
    } kinds[] = {{END_ERROR, FAULT_ERROR},
                 {END_MALFORMED, FAULT_MALFORMED},
                 {END_SHAPE, FAULT_SHAPE},
                 {END_REFUSED, FAULT_REFUSE}};
    unsigned k = (unsigned)rand_below(&w->rand, 4);
    if (kinds[k].end == END_SHAPE && (b->rows == 0 || m->max_batch == 0))
        return END_ANSWER; // no shape of ours to miss
    world_count(w, kinds[k].fault);
    demands_trouble(w, m, w->now_us + 100000);
    return kinds[k].end;
}

void replicas_dispatch(struct loop_of *l, struct batch *b)
{
    struct world *w = l->w;
    struct model_of *m = b->desk->user;
    struct replica_of *r = m->replica;
    while (r->id != b->replica)
        r++;
    struct call *c = call_new(w, b, r);
    r->in_flight++;
    if (!r->alive) { // its end has not been noticed yet
        call_ends(c, rand_below(&w->rand, 2) ? END_LOST : END_REFUSED, soon(w, 300));
        return;
    }
    if (w->now_us < r->refuse_until) {
        call_ends(c, END_REFUSED, soon(w, 300));
        return;
    }
    double us = replicas_time_us(m, b->rows ? b->rows : 1) * tail(w, m);
    if (w->now_us < r->slow_until)
        us *= 20;
    if (world_slow(w)) {
        world_count(w, FAULT_SLOW);
        us *= SIM_SHIFT;
        uint64_t end_us = most(r->busy_until, w->now_us) + (uint64_t)us + SIM_EPSILON_US;
        demands_trouble(w, m, end_us + BATCHER_DOUBT_US); // what it teaches is believed so long
    }
    enum end end = pick_end(w, b, m);
    if (end == END_REFUSED) {
        call_ends(c, end, soon(w, 300));
        return;
    }
    r->busy_until = (r->busy_until > w->now_us ? r->busy_until : w->now_us) + (uint64_t)us + 1;
    if (r->hung_until > w->now_us)
        r->busy_until = SIM_NEVER / 2; // for all that it cares
    call_ends(c, end, r->busy_until);
}

void replicas_cancel(struct loop_of *l, struct batch *b)
{
    struct world *w = l->w;
    struct call *c = b->call;
    demand(w, life_of(b->tickets[0]), c && c->batch == b, "a call that is cancelled is out");
    uint64_t out_us = l->now_us - b->sent_us;
    const struct replica *known = NULL;
    for (unsigned i = 0; !known; i++) {
        if (b->desk->replica[i].id == b->replica)
            known = &b->desk->replica[i];
    }
    w->overdue += l->now_us >= b->deadline_us && out_us >= DESK_SILENT_US &&
                  (double)out_us >= DESK_SILENT_TIMES * known->latency_us;
    if (c->end == END_ANSWER && c->replica->busy_until < w->now_us + 1000 &&
        rand_below(&w->rand, 2)) {
        world_count(w, FAULT_CROSSED);
        return; // the answer was on its way
    }
    call_ends(c, END_RECALLED, soon(w, 300));
}

void replicas_suspect(struct loop_of *l, struct desk *d, uint32_t id)
{
    struct model_of *m = d->user;
    m->w->overdue--;
    for (unsigned i = 0; i < m->n_replicas; i++) {
        struct replica_of *r = &m->replica[i];
        if (r->id != id || !r->connected)
            continue;
        lose_calls(r);
        r->alive = false;
        world_at(m->w, l, m->w->now_us, EVENT_DOWN, r, 0);
        world_at(m->w, l, m->w->now_us + 1000, EVENT_UP, r, 0);
        demands_trouble(m->w, m, m->w->now_us + 5000);
    }
}

// ---- ends --------------------------------------------------------------------------------------------

static struct answer *make_answer(struct loop_of *l, const struct batch *b, uint32_t extra)
{
    uint32_t rows = b->rows + extra, n = b->rows ? rows : 1, at = 0;
    struct block *block = block_new(l->blocks, n * sizeof(uint64_t));
    uint64_t *out = (uint64_t *)block->data;
    memset(out, 0, n * sizeof(*out));
    for (uint32_t i = 0; i < b->n; i++) {
        const struct infer_request *q = b->tickets[i]->request;
        const uint64_t *in = (const uint64_t *)q->inputs[0].data;
        for (uint32_t k = 0; k < (q->rows ? q->rows : 1); k++)
            out[at++] = replicas_answer_of(in[k]);
    }
    struct tensor t = {.name = VIEW("y"),
                       .dtype = DT_UINT64,
                       .rank = 1,
                       .shape = {n},
                       .data = block->data,
                       .bytes = n * sizeof(*out)};
    return answer_new(block, &t, 1, b->rows ? rows : 0);
}

static void end_call(struct loop_of *l, struct call *c)
{
    struct world *w = l->w;
    struct replica_of *r = c->replica;
    struct model_of *m = r->model;
    struct batch *b = c->batch;
    struct error e = {.status = STATUS_INTERNAL, .text = "the kernel failed"};
    if (c->end == END_ANSWER && batch_has(b, true) && r->alive) {
        world_count(w, FAULT_POISON);
        crash(r); // fixes the end anew: lost
        return;
    }
    demands_on_end(l, c);
    demands_credit(w, m);
    r->in_flight--;
    b->call = NULL;
    enum end end = c->end;
    call_free(w, c);
    struct ticket *tickets[4096];
    uint32_t n = b->n;
    memcpy(tickets, b->tickets, n * sizeof(tickets[0]));
    world_memory(w, m);
    bool no_memory = m->memory_us == w->now_us;
    if (end == END_ANSWER || end == END_SHAPE) {
        world_memory_end();
        struct answer *a = make_answer(l, b, end == END_SHAPE);
        double us = replicas_time_us(m, b->rows ? b->rows : 1);
        a->compute_us = m->tells_compute ? (uint64_t)us : 0;
        w->last_answer_us = w->now_us;
        desk_on_answer(m->desk, b, a, l->now_us, &l->fx);
    } else {
        static const enum desk_fail kind[] = {[END_REFUSED] = FAIL_REFUSED,
                                              [END_LOST] = FAIL_LOST,
                                              [END_ERROR] = FAIL_ERROR,
                                              [END_MALFORMED] = FAIL_MALFORMED,
                                              [END_RECALLED] = FAIL_RECALLED};
        if (end == END_MALFORMED)
            e.status = STATUS_BAD_ANSWER;
        bool tells = end == END_ERROR || end == END_MALFORMED;
        if (end == END_REFUSED)
            r->paused_until = l->now_us + DESK_REFUSED_PAUSE_US;
        for (uint32_t i = 0; no_memory && i < n; i++)
            life_of(tickets[i])->err_alone = true; // there may be no memory to halve it
        desk_on_fail(m->desk, b, kind[end], tells ? &e : NULL, l->now_us, &l->fx);
        world_memory_end();
    }
    for (uint32_t i = 0; i < n; i++)
        demands_queued(l, tickets[i]);
    m->dirty = true;
}

// ---- faults of their own accord ----------------------------------------------------------------------

static void next_fault(struct replica_of *r)
{
    struct world *w = r->model->w;
    if (w->plan.fault_us > 0 && !w->healed)
        world_at(w, home_of(r), w->now_us + world_exponential(w, (double)w->plan.fault_us),
                 EVENT_FAULT, r, 0);
}

// All of them are exchanged, one after the other, for some that say something else of themselves.
static void reload(struct model_of *m)
{
    struct world *w = m->w;
    world_count(w, FAULT_RELOAD);
    m->generation++;
    if (m->max_batch > 0)
        m->max_batch = SIM_ROWS / 2 + (uint32_t)rand_below(&w->rand, 61);
    for (unsigned i = 0; i < m->n_replicas; i++)
        world_at(w, &w->loop[m->home], soon(w, 20000), EVENT_RELOAD, &m->replica[i], 0);
}

static void fault(struct replica_of *r)
{
    struct world *w = r->model->w;
    if (w->healed)
        return;
    uint64_t until = w->now_us + world_exponential(w, 50000);
    switch (rand_below(&w->rand, 12)) {
    case 0:
    case 1:
    case 2:
        world_count(w, FAULT_CRASH);
        crash(r);
        break;
    case 3:
    case 4:
        world_count(w, FAULT_HANG);
        r->hung_until = SIM_NEVER; // until it is replaced
        r->busy_until = SIM_NEVER / 2;
        for (struct call *c = r->calls; c; c = c->next) {
            if (c->end == END_ANSWER)
                call_ends(c, END_ANSWER, SIM_NEVER / 2);
        }
        break; // the oracle sees it: hung_until
    case 5:
    case 6:
    case 7:
        world_count(w, FAULT_SLOW);
        r->slow_until = until;
        demands_trouble(w, r->model, until + 20 * (uint64_t)replicas_time_us(r->model, 64));
        break;
    case 8:
    case 9:
    case 10:
        world_count(w, FAULT_REFUSE);
        r->refuse_until = until;
        demands_trouble(w, r->model, until + 3 * DESK_REFUSED_PAUSE_US);
        break;
    default:
        reload(r->model);
    }
    next_fault(r);
}

void replicas_event(struct loop_of *l, const struct entry *e)
{
    struct world *w = l->w;
    struct replica_of *r = e->p;
    switch (e->event) {
    case EVENT_CALL: {
        struct call *c = e->p;
        if (c->tag != e->tag)
            return; // fixed anew, or over: a second answer finds nobody
        if (c->end == END_ANSWER && world_chance(w, w->plan.per_batch)) {
            world_count(w, FAULT_TWICE);
            world_at(w, l, soon(w, 1000), EVENT_CALL, c, c->tag);
        }
        end_call(l, c);
        break;
    }
    case EVENT_UP:
        if (!r->connected)
            tell_up(l, r);
        break;
    case EVENT_DOWN:
        if (!r->alive)
            tell_down(l, r);
        break;
    case EVENT_RELOAD:
        crash(r);
        break;
    case EVENT_FAULT:
        fault(r);
        break;
    case EVENT_GONE:
        break;
    }
}

void replicas_start(struct world *w, struct model_of *m)
{
    for (unsigned i = 0; i < m->n_replicas; i++) {
        struct replica_of *r = &m->replica[i];
        world_at(w, home_of(r), w->now_us + rand_below(&w->rand, 15000), EVENT_UP, r, 0);
        next_fault(r);
    }
}

// From now on nothing goes wrong any more; what hangs is replaced.
void replicas_heal(struct world *w)
{
    for (unsigned i = 0; i < w->plan.models; i++) {
        struct model_of *m = &w->model[i];
        for (unsigned k = 0; k < m->n_replicas; k++) {
            struct replica_of *r = &m->replica[k];
            r->slow_until = r->refuse_until = 0;
            if (r->hung_until > w->now_us) {
                r->hung_until = 0;
                crash(r);
            }
            if (!r->alive)
                world_at(w, home_of(r), w->now_us + HEAL_US, EVENT_UP, r, 0);
        }
    }
    w->trouble_until =
        w->trouble_until > w->now_us + 2 * HEAL_US ? w->trouble_until : w->now_us + 2 * HEAL_US;
}
