#include "gateway/shadows.h"

#include "base/check.h"
#include "base/count.h"
#include "base/mem.h"
#include "gateway/origin.h"
#include "router/shadow.h"
#include "router/step.h"
#include <stdio.h>

// ---- whom an experiment gives one --------------------------------------------------------------------

// NULL: out of memory (then nothing is counted).
static struct shadow_counts *counts_of(struct trial *t, unsigned loop)
{
    struct trial_counts *c = experiments_counts(t, loop);
    struct shadow_counts *s = c ? atomic_load_explicit(&c->shadow, memory_order_relaxed) : NULL;
    if (c && !s && (s = mem_zalloc(sizeof(*s))))
        atomic_store_explicit(&c->shadow, s, memory_order_release);
    return s;
}

// It was never lent.
static void count_end(struct request *r, enum shadow_end end)
{
    struct shadow_counts *c = counts_of(r->shadow, r->part->loop->index);
    r->shade.end = shadow_end_name[end];
    if (c)
        count_add(&c->ends[end], 1);
}

// Half of limits.bytes_in_flight is free: else what it holds may be missed by who is served.
static bool has_memory(const struct request *r)
{
    const struct part *p = r->part;
    return budget_admits(&p->lease, &p->gateway->bytes, r->charged, BUDGET_CLASSES - 1);
}

static void begin_shadow(struct request *r, struct model *m)
{
    struct exchange *ex = r->serving.ex;
    size_t parts = step_memory(m, &r->infer.request);
    struct shadow *s = arena_zalloc(&ex->arena, sizeof(*s));
    if (!s || (parts > 0 && !exchange_account(ex, parts))) {
        count_end(r, SHADOW_FULL);
        return;
    }
    s->model = m;
    s->timeout_us = r->shadow_rules->timeout_us;
    r->infer.shadow = s;
    part_use(r->part, m); // until shadows_release
    snapshot_hold_on(r->part, r->snap);
}

void shadows_draw(struct request *r, const struct model *m)
{
    const struct experiment_shadow *s = r->place ? experiment_shade(&r->draw) : NULL;
    if (!s || atomic_load_explicit(&r->part->gateway->draining, memory_order_relaxed))
        return;
    const struct experiment *e = r->draw.experiment;
    const struct experiment_keep *keep = &r->place->keeps[e - r->place->site.experiments];
    r->shadow = keep->shadow_trials[s - e->shadows];
    r->shadow_rules = &keep->config->shadows[s - e->shadows];
    struct model *other = table_find(r->part->gateway->table, s->model);
    if (!other || other == m)
        count_end(r, SHADOW_ABSENT);
    else if (!has_memory(r))
        count_end(r, SHADOW_FULL);
    else
        begin_shadow(r, other);
}

void shadows_release(struct request *r)
{
    part_unuse(r->part, r->infer.shadow->model);
    snapshot_let_go(r->part, r->snap);
}

// ---- what is counted of its answer -------------------------------------------------------------------

static struct view name_of(const struct shadow_output *o)
{
    return view_of(o->name, o->name_bytes);
}

// NULL: there are as many as are told apart.
static struct shadow_output *output_of(struct shadow_counts *c, struct view name)
{
    unsigned n = atomic_load_explicit(&c->n, memory_order_relaxed);
    name.n = name.n < SHADOW_NAME_BYTES ? name.n : SHADOW_NAME_BYTES;
    for (unsigned i = 0; i < n; i++)
        if (view_eq(name_of(&c->outputs[i]), name))
            return &c->outputs[i];
    if (n == LIKENESS_OUTPUTS)
        return NULL;
    struct shadow_output *o = &c->outputs[n];
    memcpy(o->name, name.p, name.n);
    o->name_bytes = (uint8_t)name.n;
    atomic_store_explicit(&c->n, n + 1, memory_order_release);
    return o;
}

static void raise_to(_Atomic uint64_t *bits, double value)
{
    uint64_t was = atomic_load_explicit(bits, memory_order_relaxed), is;
    memcpy(&is, &value, sizeof(is));
    if (is > was) // as those of doubles that are not negative do
        atomic_store_explicit(bits, is, memory_order_relaxed);
}

static bool is_same(const struct likeness *l)
{
    return l->kind == LIKE_VALUES && l->equal == l->elements;
}

static void count_output(struct shadow_counts *c, const struct likeness *l)
{
    struct shadow_output *o = output_of(c, l->name);
    if (!o)
        return;
    count_add(&o->found[l->kind], 1);
    count_add(&o->same, is_same(l));
    count_add(&o->elements, l->elements);
    count_add(&o->equal, l->equal);
    raise_to(&o->max_abs, l->max_abs);
    raise_to(&o->max_rel, l->max_rel);
}

static void say_differs(struct request *r, const struct likeness *l)
{
    static const char *const why[LIKE_KINDS] = {"values", "missing", "datatype", "shape"};
    struct part *p = r->part;
    uint64_t now_us = loop_now_us(p->loop);
    char apart[32], relative[32];
    if (p->shadow_said_us > 0 && now_us < p->shadow_said_us + SHADOW_SAID_US)
        return;
    p->shadow_said_us = now_us;
    snprintf(apart, sizeof(apart), "%.6g", l->max_abs);
    snprintf(relative, sizeof(relative), "%.6g", l->max_rel);
    GATEWAY_EVENT(p->gateway, p->loop, LOG_INFO, "shadow_differs",
                  LOG_CSTR("experiment", r->shadow->name), LOG_CSTR("shadow", r->shadow->variant),
                  LOG_S("request_id", r->serving.meta.request_id), LOG_S("output", l->name),
                  LOG_CSTR("why", why[l->kind]), LOG_I("elements", l->elements),
                  LOG_I("differ", l->elements - l->equal), LOG_CSTR("max_abs", apart),
                  LOG_CSTR("max_rel", relative));
}

static void compare_answers(struct request *r, struct shadow_counts *c)
{
    struct likeness found[LIKENESS_OUTPUTS];
    const struct likeness *worst = NULL;
    double tolerance = r->shadow_rules->tolerance_ppm / 1e6;
    unsigned n = likeness_find(r->infer.answer, r->infer.shadow->answer, tolerance, found);
    for (unsigned i = 0; i < n; i++) {
        count_output(c, &found[i]);
        if (!worst && !is_same(&found[i]))
            worst = &found[i];
    }
    r->shade.verdict = worst ? "differs" : "same";
    if (worst)
        say_differs(r, worst);
    loop_worked(r->part->loop, LIKENESS_BYTES);
}

static void count_answer(struct request *r, const struct shadow *s)
{
    struct shadow_counts *c = counts_of(r->shadow, r->part->loop->index);
    if (!c)
        return;
    count_add(&c->ends[s->end], 1);
    if (s->end == SHADOW_FAILED)
        count_add(&c->failures[s->error.status], 1);
    if (s->end != SHADOW_ANSWERED)
        return;
    hist_add(&c->took, s->took_us);
    if (rand_below(&r->part->loop->rand, 1000000) < r->shadow_rules->compare_ppm)
        compare_answers(r, c);
}

void shadows_told(struct infer *in)
{
    struct request *r = in->user;
    const struct shadow *s = in->shadow;
    r->shade = (struct past_shadow){.end = shadow_end_name[s->end],
                                    .lent = s->lent_us > 0,
                                    .took_us = s->took_us,
                                    .status = (uint8_t)s->error.status};
    count_answer(r, s);
    tell_shadow(r);
}

// ---- called home -------------------------------------------------------------------------------------

void shadows_call(struct part *p)
{
    flow_call_shadows(&p->flow, loop_now_us(p->loop), &p->fx);
    part_run(p);
}

static void on_call(struct loop *l, struct loop_task *t)
{
    (void)l;
    shadows_call(container_of(t, struct part, shadow_call));
}

void shadows_call_all(struct gateway *g)
{
    for (unsigned i = 0; i < g->loops.n; i++) {
        g->parts[i]->shadow_call.fn = on_call;
        loop_post_task(&g->main, g->loops.loop[i], &g->parts[i]->shadow_call);
    }
}
