#include "tests/sim/sim.h"

#include "infer/likeness.h"
#include "router/shadow.h"
#include <stdlib.h>

/* Shadows: some requests are asked of another model, too, when they have been answered. Each of its tickets lives as a
 * part does. Dice of their own: who asks for what is the same with them and without. */

static const struct model_of *shadow_model(const struct world *w, const struct life *x)
{
    uint64_t dice[2] = {w->plan.seed, x->id}, at = hash64(view_of(dice, sizeof(dice)), 1);
    bool plain = x->kind == KIND_PLAIN || x->kind == KIND_OTHER || x->kind == KIND_SCALAR;
    const struct model_of *m = &w->model[(at >> 8) % w->plan.models];
    return w->plan.shadows && plain && at % 2 && m != x->model && m->m ? m : NULL;
}

void shadows_ask(struct world *w, struct life *x)
{
    const struct model_of *m = shadow_model(w, x);
    if (!m)
        return;
    struct shadow *s = x->in.shadow = arena_zalloc(&x->arena, sizeof(*s));
    s->model = m->m;
    s->timeout_us = (uint64_t[]){1, 2000, 50000, 2000000}[x->id % 4];
    ((struct model_of *)m)->uses++;
}

static struct model_of *model_of_shadow(const struct life *x)
{
    return atomic_load(&x->in.shadow->model->user);
}

// ---- out and home ------------------------------------------------------------------------------------

static void shades_begin(struct loop_of *l, struct life *x)
{
    const struct step *of = &x->in.shadow->step;
    demand(l->w, x, x->settled, "a shadow is lent when its request has been answered");
    x->shades = calloc(of->n, sizeof(*x->shades));
    for (unsigned i = 0; i < of->n; i++) {
        struct life *p = &x->shades[i];
        struct ticket *t = &of->tickets[i];
        *p = (struct life){.id = x->id,
                           .asks = x->asks,
                           .loop = x->loop,
                           .live = true,
                           .model = model_of_shadow(x),
                           .whole = x,
                           .ticket = t,
                           .kind = x->kind,
                           .guilty = x->guilty && i + 1 == of->n,
                           .poison = x->poison && i + 1 == of->n,
                           .work_us = 1};
        p->in.request = *t->request;
        p->in.step.to = t->to;
        p->in.arrived_us = l->now_us;
        p->in.deadline_us = t->deadline_us;
        demand(l->w, p, t->charged_rows == 0 && t->cache == CACHE_NONE && !t->elsewhere,
               "a shadow takes no room, and nothing of what is kept");
    }
    trace(l->w, x, "its shadow asks %s", model_of_shadow(x)->name);
}

void shadows_lend(struct loop_of *l, struct ticket *t)
{
    struct life *x = t->step->infer->user;
    if (!x->shades)
        shades_begin(l, x);
}

// The one way for a shadow to be sent: nobody who is served waits, and nothing is tried twice.
void shadows_dispatched(struct loop_of *l, struct batch *b)
{
    struct world *w = l->w;
    struct model_of *m = b->desk->user;
    const struct life *first = life_of(b->tickets[0]);
    const struct replica_of *r = replica_by_id(m, b->replica);
    uint32_t rows = 0;
    demand(w, first, b->n > 0 && m->home == l->index && r && r->told,
           "a batch leaves from its home, to a replica that is up");
    demand(w, first, m->desk->batcher.count == 0 && !m->desk->again,
           "no shadow goes while somebody waits who is served");
    for (unsigned k = 0; k < KINDS; k++)
        for (unsigned lane = 0; lane < BATCHER_LANES; lane++)
            demand(w, first, m->waiting[k][lane] == 0,
                   "no shadow goes while somebody waits who is served");
    demand(w, first, r->in_flight == 0, "a shadow goes behind nothing");
    demand(w, first, m->level == LEVEL_HEALTHY, "no shadow goes when the service has come down");
    demand(w, first, replica_known(r)->standing != STANDING_OPEN && l->now_us >= r->paused_until,
           "a replica that is left alone is left alone");
    for (uint32_t i = 0; i < b->n; i++) {
        struct life *x = life_of(b->tickets[i]);
        const struct ticket *t = b->tickets[i];
        demand(w, x, t->shadow && x->lent && t->place == PLACE_ABOARD && t->batch == b,
               "a batch of shadows has nobody else");
        demand(w, x, l->now_us < t->deadline_us && !x->cancelled,
               "nothing past its deadline is sent, and nothing cancelled");
        demand(w, x, x->kind == first->kind, "rows of a batch have an equal key");
        demand(w, x, x->sent == 0, "a shadow is tried once");
        rows += t->request->rows;
        x->sent++;
        x->aboard_of = b->replica;
        trace(w, x, "its shadow is sent to replica %u in a batch of %u", b->replica, b->n);
    }
    demand(w, first, b->rows == (m->desk->replicas.max_batch ? rows : 0),
           "a batch has the rows of its tickets");
    demand(w, first, b->n == 1 || rows <= replica_known(r)->facts.max_batch,
           "a batch has no more rows than its replica takes");
    if (m->batches++ == 0)
        m->first_us = w->now_us;
    m->dispatched_rows += b->rows ? b->rows : 1;
    m->met_us = w->now_us;
}

// ---- how it ended ------------------------------------------------------------------------------------

static uint64_t version_of(const struct slice *s)
{
    return (uint64_t)(s->answer->version.p[0] - '0');
}

static void check_shade(const struct world *w, const struct life *x)
{
    const struct slice *part = x->in.shadow->answer;
    for (uint32_t row = 0; part; part = part->next) {
        struct tensor t = slice_output(part, 0);
        for (uint32_t i = 0; i < t.bytes / sizeof(uint64_t); i++, row++)
            demand(w, x,
                   load_u64(t.data + i * sizeof(uint64_t)) ==
                       calls_answer_of(x->asks << 8 | row) + version_of(part),
                   "a shadow's answer is a function of its own rows");
    }
}

// Both answers are there, whole.
static void check_likeness(const struct world *w, const struct life *x)
{
    struct likeness found[LIKENESS_OUTPUTS];
    const struct slice *a = x->in.answer, *b = x->in.shadow->answer;
    unsigned n = likeness_find(a, b, 0, found);
    demand(w, x, n == 1 && found[0].kind == LIKE_VALUES, "equal outputs can be compared");
    demand(w, x, found[0].elements == rows_of(x), "every element is looked at");
    bool whole = !a->next && !b->next; // else parts may be of several versions
    demand(w, x,
           !whole || found[0].equal == (version_of(a) == version_of(b) ? found[0].elements : 0),
           "answers are as like as their versions");
}

static bool came_down(const struct life *x)
{
    return standing_level(x->in.step.to.model) > LEVEL_HEALTHY ||
           standing_level(x->in.shadow->model) > LEVEL_HEALTHY;
}

void shadows_told(struct loop_of *l, struct infer *in)
{
    struct world *w = l->w;
    struct life *x = in->user;
    const struct shadow *s = in->shadow;
    demand(w, x, x->settled && !x->shadow_told,
           "a shadow's end is told once, behind its request's");
    x->shadow_told = true;
    w->totals.shadows[s->end]++;
    trace(w, x, "its shadow ends: %s", shadow_end_name[s->end]);
    demand(w, x, (s->end < SHADOW_UNSERVED) == (x->shades != NULL) || s->end == SHADOW_FAILED,
           "what was lent is told of as such");
    demand(w, x, s->end != SHADOW_LEVEL || came_down(x), "none is lent at a level above 0");
    demand(w, x, s->end != SHADOW_LATE || l->now_us >= s->lent_us + s->timeout_us,
           "a shadow has its own time");
    demand(w, x, (s->end == SHADOW_FAILED) == (s->error.status != STATUS_OK),
           "a shadow that failed says why");
    demand(w, x,
           s->end != SHADOW_FULL || l->flow.n_shadows >= l->flow.rules.shadows ||
               l->flow.shadow_bytes + in->request.bytes > l->flow.rules.shadow_bytes,
           "one is left out where there are as many as may be");
    if (s->end != SHADOW_ANSWERED)
        return;
    check_shade(w, x);
    check_likeness(w, x);
}

void shadows_release(struct world *w, struct life *x)
{
    if (!x->in.shadow)
        return;
    demand(w, x, x->shadow_told, "every shadow's end is told");
    for (unsigned i = 0; x->shades && i < x->in.shadow->step.n; i++) {
        const struct life *p = &x->shades[i];
        demand(w, p, !p->lent, "an infer is over with all its tickets at home");
        demands_messages(w, p);
    }
    model_of_shadow(x)->uses--;
    free(x->shades);
}

// A loop that wants its memory back, or is to be drained.
void shadows_turn(struct loop_of *l)
{
    struct world *w = l->w;
    const struct flow *f = &l->flow;
    demand(w, NULL, f->n_shadows <= f->rules.shadows && f->shadow_bytes <= f->rules.shadow_bytes,
           "no more shadows are out than may be");
    if (f->n_shadows == 0 || w->now_us % 97 != 0)
        return;
    flow_call_shadows(&l->flow, l->now_us, &l->fx);
    demand(w, NULL, f->n_shadows == 0 && f->shadow_bytes == 0, "all are called home");
    world_effects(l);
}
