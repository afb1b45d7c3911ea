#include "tests/sim/sim.h"

#include <stdlib.h>

static const uint8_t priorities[] = {0, 0, 0, 0, 1, 2, 3, 4, 5, 255};

static struct model_of *pick_model(struct world *w)
{
    double at = rand_unit(&w->rand);
    unsigned i = 0;
    while (i + 1 < w->plan.models && w->shares[i] <= at)
        i++;
    return &w->model[i];
}

static enum kind pick_kind(struct world *w)
{
    unsigned at = (unsigned)rand_below(&w->rand, 100);
    if (w->plan.flood || at < 70)
        return KIND_PLAIN;
    if (at < 80)
        return KIND_OTHER;
    if (at < 88)
        return KIND_VERSION1;
    if (at < 91)
        return KIND_VERSION2;
    if (at < 92)
        return KIND_VERSION9;
    if (!w->plan.singles)
        return KIND_PLAIN;
    return at < 96 ? KIND_SEQUENCE : KIND_SCALAR;
}

// 1 in six requests of ten, up to SIM_ROWS in the others: 2.25 in the mean. And those that no batch takes.
static uint32_t pick_rows(struct world *w)
{
    if (world_chance(w, w->plan.wide))
        return 1 + (uint32_t)rand_below(&w->rand, SIM_WIDE);
    if (w->plan.flood || rand_below(&w->rand, 10) < 7)
        return 1;
    return 1 + (uint32_t)rand_below(&w->rand, SIM_ROWS);
}

static uint64_t pick_timeout(struct world *w, const struct model_of *m)
{
    if (w->plan
            .shift) // time enough while it is slow; and then for what it takes now, not for what it took
        return world_slow(w)
                   ? 5000000
                   : 30000 + m->rules.max_wait_us + (uint64_t)(16 * calls_time_us(m, m->max_batch));
    if (m->haste_us > 0)
        return m->haste_us / 2 + rand_below(&w->rand, m->haste_us);
    switch (w->plan.flood || w->plan.rolling ? 0 : rand_below(&w->rand, 20)) {
    case 1:
        return 1 + rand_below(&w->rand, 1000); // hardly possible
    case 2:
    case 3:
        return 2000 + rand_below(&w->rand, 20000);
    case 4:
    case 5:
    case 6:
        return 20000 + rand_below(&w->rand, 300000);
    case 7:
        return 60000000; // longer than we allow
    default:
        return 0;
    }
}

// A step of one of a few sequences; the first and the last one say so.
static void draw_step(struct world *w, struct infer_request *r)
{
    r->sequence_id = 1 + rand_below(&w->rand, SIM_SEQUENCES);
    r->sequence_start = rand_below(&w->rand, 3) == 0;
    r->sequence_end = rand_below(&w->rand, 3) == 0;
}

static void fill(struct world *w, struct life *x)
{
    struct infer_request *r = &x->in.request;
    *r = x->model->form[x->kind];
    x->input = x->model->form_input[x->kind];
    uint32_t rows = x->kind == KIND_SCALAR ? 1 : pick_rows(w);
    x->row = rows > SIM_ROWS ? malloc(rows * sizeof(*x->row)) : x->own;
    x->asks = x->id;
    if (w->plan.cached)
        kept_ask(w, x);
    for (uint32_t i = 0; i < rows; i++)
        x->row[i] = x->asks << 8 | i;
    if (x->kind != KIND_SCALAR) {
        x->input.shape[0] = rows;
        r->rows = rows;
    }
    x->input.data = (const uint8_t *)x->row;
    r->bytes = x->input.bytes = rows * sizeof(uint64_t);
    r->inputs = &x->input;
    r->timeout_us = pick_timeout(w, x->model);
    r->priority = w->plan.flood ? 0 : priorities[rand_below(&w->rand, sizeof(priorities))];
    if (x->kind == KIND_SEQUENCE && rand_below(&w->rand, 2))
        draw_step(w, r);
    // Who asks the same is as guilty.
    struct rand own, *by = x->asks == x->id ? &w->rand : &own;
    rand_seed(&own, x->asks + (uint64_t)(x->model - w->model));
    x->guilty = w->plan.bad_row > 0 && rand_unit(by) < w->plan.bad_row;
    x->poison = w->plan.bad_row > 0 && rand_unit(by) < w->plan.bad_row / 4;
    if (w->plan.cached)
        kept_key(w, x);
}

// What was split goes on as its parts. Of a guilty one the last part is.
static void life_split(struct life *x)
{
    unsigned n = x->in.step.n;
    x->parts = calloc(n, sizeof(*x->parts));
    for (unsigned i = 0; i < n; i++) {
        struct ticket *t = &x->in.step.tickets[i];
        struct life *p = &x->parts[i];
        *p = (struct life){
            .id = x->id, .asks = x->asks, .loop = x->loop, .live = true, .model = x->model};
        p->whole = x;
        p->ticket = t;
        p->kind = x->kind;
        p->guilty = x->guilty && i + 1 == n;
        p->poison = x->poison && i + 1 == n;
        p->in.request = *t->request;
        p->in.step.to = t->to;
        p->in.arrived_us = x->in.arrived_us;
        p->in.deadline_us = t->deadline_us;
        p->let_us = x->let_us;
    }
}

struct life *life_part(struct life *x, unsigned i)
{
    for (struct stride *s = x->strides; s; i -= s->n, s = s->next)
        if (i < s->n)
            return &s->parts[i];
    if (!x->parts)
        return i == 0 && !x->in.walk ? x : NULL;
    return i < x->in.step.n ? &x->parts[i] : NULL;
}

// ---- along a chain -----------------------------------------------------------------------------------

static struct model_of *model_at(struct world *w, const struct model *m)
{
    return atomic_load(&((struct model *)m)->user);
}

// What its origin knew of its losses at the models before: what has not come home it does not know. Of several parts the
// one with the most losses counts, and the one with the most deaths, which may be another.
static void remember_losses(struct life *p, const struct life *x)
{
    const struct world *w = p->model->w;
    const struct life *most = NULL, *worst = NULL;
    for (const struct stride *s = x->strides; s; s = s->next) {
        for (unsigned i = 0; i < s->n; i++) {
            const struct life *part = &s->parts[i];
            if (!most || part->losses > most->losses)
                most = part;
            if (!worst || demands_evidence(w, part) > demands_evidence(w, worst))
                worst = part;
        }
    }
    p->losses = p->ticket->losses_before;
    demand(w, p, p->losses <= (most ? most->losses : 0),
           "no more losses are told to the next model than there were");
    if (worst)
        memcpy(p->loss, demands_evidence(w, worst) > 0 ? worst->loss : most->loss, sizeof(p->loss));
    p->model->suspects += p->losses > 0;
}

static void stride_begin(struct loop_of *l, struct life *x, struct step *of)
{
    struct world *w = l->w;
    struct stride *s = calloc(1, sizeof(*s));
    *s = (struct stride){.of = of,
                         .attempt = x->in.walk->n - 1,
                         .parts = calloc(of->n, sizeof(struct life)),
                         .n = of->n,
                         .next = x->strides};
    struct model_of *m = model_at(w, of->to.model);
    bool first = of->to.model == x->in.step.to.model;
    bool versioned = x->kind >= KIND_VERSION1 && x->kind <= KIND_VERSION9;
    for (unsigned i = 0; i < s->n; i++) {
        struct life *p = &s->parts[i];
        struct ticket *t = &of->tickets[i];
        *p = (struct life){
            .id = x->id, .asks = x->asks, .loop = x->loop, .live = true, .model = m, .whole = x};
        p->ticket = t;
        p->kind = versioned && !first ? KIND_PLAIN : x->kind; // a version is one of its model
        p->guilty = x->guilty && i + 1 == s->n;
        p->poison = x->poison && i + 1 == s->n;
        p->in.request = *t->request;
        p->in.step.to = t->to;
        p->in.arrived_us = l->now_us;
        p->in.deadline_us = t->deadline_us;
        remember_losses(p, x);
        demands_goes_out(w, p);
    }
    x->strides = s;
    trace(w, x, "asks %s, %u tickets, until %llu us from now%s", m->name, s->n,
          (unsigned long long)(of->tickets[0].deadline_us - l->now_us),
          of->elsewhere ? ", or something else" : "");
    demands_room(w, &s->parts[0]);
}

void clients_lend(struct loop_of *l, struct ticket *t)
{
    struct life *x = t->step->infer->user;
    if (t->shadow)
        shadows_lend(l, t);
    else if (x->in.walk && (!x->strides || x->strides->of != t->step))
        stride_begin(l, x, t->step);
}

void clients_use(struct loop_of *l, struct model *m)
{
    model_at(l->w, m)->uses++;
}

static void strides_end(struct world *w, struct life *x)
{
    if (x->in.step.to.model)
        model_at(w, x->in.step.to.model)->uses--;
    for (const struct step *s = x->in.at; s != &x->in.step; s = s->before)
        model_at(w, s->to.model)->uses--;
    while (x->strides) {
        struct stride *s = x->strides;
        x->strides = s->next;
        free(s->parts);
        free(s);
    }
}

// Half of all is the first one's. By dice of its own: worlds are the same with tenants and without.
static uint16_t pick_tenant(const struct world *w, const struct life *x)
{
    uint64_t dice[2] = {w->plan.seed, x->id}, at = hash64(view_of(dice, sizeof(dice)), 0);
    if (w->plan.tenants == 0)
        return TENANT_NONE;
    return (uint16_t)(at & 1 ? 1 : 1 + (at >> 1) % w->plan.tenants);
}

void clients_go_on(struct loop_of *l, struct life *x)
{
    struct world *w = l->w;
    x->let_us = w->now_us;
    x->in.deadline_us = 0;
    trials_ask(x);
    shadows_ask(w, x);
    flow_submit(&l->flow, &x->in, l->now_us, &l->fx);
    if (x->in.step.to.model)
        model_at(w, x->in.step.to.model)->uses++;
    if (x->in.state == INFER_OUT && !x->in.walk && x->in.step.n > 1)
        life_split(x);
    demands_on_submit(l, x);
    world_effects(l);
}

static void submit(struct loop_of *l)
{
    struct world *w = l->w;
    struct life *x = w->free_lives;
    w->free_lives = x->next;
    *x = (struct life){.id = ++w->submitted, .loop = l->index, .live = true};
    x->model = pick_model(w);
    trials_draw(l, x);
    x->kind = pick_kind(w);
    fill(w, x);
    x->in.arrived_us = l->now_us;
    x->in.user = x;
    x->in.arena = &x->arena;
    x->in.chain = x->model->chain.n > 0 ? &x->model->chain : NULL;
    x->in.lot = (uint32_t)rand_below(&w->rand, CHAIN_LOTS);
    x->in.tenant = pick_tenant(w, x);
    x->ticket = &x->in.step.first;
    arena_init(&x->arena, 0);
    w->alive++;
    trace(w, x, "arrives at loop %u for %s: kind %d, %u rows, timeout %llu us, priority %u%s%s",
          l->index, x->model->name, x->kind, x->in.request.rows,
          (unsigned long long)x->in.request.timeout_us, x->in.request.priority,
          x->guilty ? ", guilty" : "", x->poison ? ", poison" : "");
    if (late_begins(l, x)) {
        trace(w, x, "waits for what is not known yet");
        w->totals.awaited++;
    } else {
        clients_go_on(l, x);
    }
    if (x->live && world_chance(w, w->plan.gone)) {
        // At every scale: from at once to the deadline.
        uint64_t in_us = 1ull << rand_below(&w->rand, 21);
        world_at(w, l, w->now_us + rand_below(&w->rand, in_us), EVENT_GONE, x, x->id);
    }
}

void clients_arrive(struct loop_of *l)
{
    struct world *w = l->w;
    while (l->next_arrival_us <= w->now_us) {
        if (w->submitted == w->plan.lives) {
            l->next_arrival_us = SIM_NEVER;
            return;
        }
        submit(l);
        if (world_chance(w, w->plan.burst)) {
            for (unsigned n = (unsigned)rand_below(&w->rand, 40);
                 n > 0 && w->submitted < w->plan.lives; n--)
                submit(l);
        }
        l->next_arrival_us += world_exponential(w, w->arrival_us);
    }
}

void clients_gone(struct loop_of *l, struct life *x, uint64_t id)
{
    if (!x->live || x->id != id)
        return;
    if (!x->settled)
        world_count(l->w, FAULT_GONE);
    trace(l->w, x, "the client goes away");
    if (x->awaits.waits) {
        late_gone(l, x);
        return;
    }
    flow_on_gone(&l->flow, &x->in, l->now_us, &l->fx); // harmless when it has settled
}

void clients_settle(struct loop_of *l, struct infer *in)
{
    struct life *x = in->user;
    demands_on_settle(l, x);
    if (in->error.status != STATUS_OK)
        return;
    // A slow reader holds the answer's block for a while.
    struct block **place = &l->pinned[l->pin++ % 8];
    if (*place)
        block_unref(*place);
    *place = in->answer->answer->block;
    for (const struct slice *s = in->answer->next; s; s = s->next)
        block_unref(s->answer->block);
}

void clients_release(struct loop_of *l, struct infer *in)
{
    struct world *w = l->w;
    struct life *x = in->user;
    demands_on_release(l, x);
    shadows_release(w, x);
    free(x->parts);
    x->parts = NULL;
    strides_end(w, x);
    clients_over(w, x);
}

void clients_over(struct world *w, struct life *x)
{
    trace(w, x, "is over");
    // Whoever still reads what was lent reads this.
    memset(x->own, 0xdd, sizeof(x->own));
    if (x->row != x->own)
        free(x->row);
    arena_deinit(&x->arena);
    memset(&x->in, 0xdd, sizeof(x->in));
    x->live = false;
    w->alive--;
    x->next = w->free_lives;
    w->free_lives = x;
}
