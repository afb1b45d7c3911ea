#include "router/experiment.h"
#include "tests/sim/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An experiment over some models of a world. Its weights change as a reload of the configuration changes them: each
 * loop goes by its snapshot, and takes up the next one in a turn of its own. And it stands still, goes on and is over, as
 * operators and guards say: at once, on all loops, by the pointer to what is live of the newest. Dice of its own: worlds are the same with it
 * and without, but for who is asked. */

#define KEYS 64
#define GENERATIONS 12

struct trials {
    struct rand dice;
    struct experiment_variant variants[SIM_MODELS];
    uint32_t weights[GENERATIONS][SIM_MODELS];
    struct experiment of[GENERATIONS];
    struct experiment_live live[GENERATIONS];
    struct experiment_site site[GENERATIONS];
    unsigned newest;
    struct experiment_live still;     // one that draws nobody
    uint8_t drawn[GENERATIONS][KEYS]; // 1 + the variant that it had; 0: nobody has asked
};

static void draw_weights(struct trials *t, uint32_t *weights, unsigned n)
{
    uint32_t left = EXPERIMENT_WHOLE;
    unsigned first = (unsigned)rand_below(&t->dice, n);
    for (unsigned i = 1; i < n; i++) {
        uint32_t w = (uint32_t)rand_below(&t->dice, left + 1);
        weights[(first + i) % n] = w;
        left -= w;
    }
    weights[first] = left;
}

// The next configuration: the buckets that were, changed; and all of them made anew, as an instance does that starts now.
static void publish(struct world *w, struct trials *t, unsigned n)
{
    unsigned g = ++t->newest;
    t->of[g] = t->of[g - 1];
    t->live[g] = t->live[g - 1];
    atomic_store(&t->of[g].live, &t->live[g]);
    t->site[g] = t->site[g - 1];
    t->site[g].experiments = &t->of[g];
    draw_weights(t, t->weights[g], n);
    demand(w, NULL, buckets_change(&t->live[g].buckets, t->weights[g], n), "buckets have room");
    struct buckets anew;
    buckets_init(&anew);
    for (unsigned i = 0; i <= g; i++)
        demand(w, NULL, buckets_change(&anew, t->weights[i], n), "buckets have room");
    bool same = anew.n == t->live[g].buckets.n;
    for (unsigned i = 0; same && i < anew.n; i++)
        same = anew.last[i] == t->live[g].buckets.last[i] && anew.of[i] == t->live[g].buckets.of[i];
    demand(w, NULL, same, "who starts later has the same buckets");
}

void trials_open(struct world *w)
{
    const struct plan *p = &w->plan;
    if (p->seed % 3 != 1 || p->flood || p->shift || p->models < 2)
        return;
    struct trials *t = w->trials = calloc(1, sizeof(*t));
    rand_seed(&t->dice, p->seed * 1000033);
    unsigned from = (unsigned)rand_below(&t->dice, p->models);
    for (unsigned i = 0; i < p->models; i++) {
        struct view name = view_str(w->model[(from + i) % p->models].name);
        t->variants[i] = (struct experiment_variant){name, name};
    }
    t->of[0] = (struct experiment){.name = VIEW("trial"),
                                   .seed = experiment_seed(VIEW("trial"), DRAW_FOR_VARIANT),
                                   .held = rand_below(&t->dice, 2) * (BUCKETS / 10),
                                   .holdout_seed = experiment_seed(VIEW("trial"), DRAW_FOR_HOLDOUT),
                                   .variants = t->variants,
                                   .n_variants = p->models};
    t->site[0] = (struct experiment_site){.model = VIEW("tried"),
                                          .control = t->variants[0].model,
                                          .n_traits = 1,
                                          .experiments = &t->of[0],
                                          .n = 1};
    atomic_store(&t->of[0].live, &t->live[0]);
    draw_weights(t, t->weights[0], p->models);
    buckets_init(&t->live[0].buckets);
    demand(w, NULL, buckets_change(&t->live[0].buckets, t->weights[0], p->models),
           "buckets have room");
}

void trials_free(struct world *w)
{
    free(w->trials);
}

static struct model_of *model_named(struct world *w, struct view name)
{
    unsigned i = 0;
    while (!view_is(name, w->model[i].name))
        i++;
    return &w->model[i];
}

// By whatever loop: one key, one variant of one configuration; and by the next one it is another's only if its own shrank
// and that one grew.
static void look_at_key(const struct world *w, struct trials *t, const struct life *x, unsigned g,
                        unsigned key, unsigned variant)
{
    uint8_t was = t->drawn[g][key];
    demand(w, x, was == 0 || was == 1 + variant, "a key has one variant");
    t->drawn[g][key] = (uint8_t)(1 + variant);
    unsigned before = g > 0 ? t->drawn[g - 1][key] : 0;
    if (before == 0 || before == 1 + variant)
        return;
    demand(w, x, t->weights[g][before - 1] < t->weights[g - 1][before - 1],
           "only who shrinks gives a key up");
    demand(w, x, t->weights[g][variant] > t->weights[g - 1][variant], "only who grows takes one");
}

// Of the newest: it draws, or all have one model.
static void change_live(struct trials *t, unsigned n)
{
    static const enum draw_how hows[] = {DRAW_DRAFT, DRAW_PAUSED, DRAW_ROLLED_BACK, DRAW_PROMOTED};
    struct experiment *e = &t->of[t->newest];
    bool draws = rand_below(&t->dice, 2);
    t->still.how = hows[rand_below(&t->dice, 4)];
    t->still.whole = t->still.how == DRAW_PROMOTED ? (uint8_t)rand_below(&t->dice, n) : 0;
    atomic_store(&e->live, draws ? &t->live[t->newest] : &t->still);
}

// Who takes part in none: held out, or nobody is drawn.
static void look_at_others(const struct world *w, const struct trials *t, const struct life *x,
                           const struct experiment_live *live, const struct experiment_draw *d)
{
    unsigned whole = live->how == DRAW_TAKEN ? 0 : live->whole;
    demand(w, x, d->how == (live->how == DRAW_TAKEN ? DRAW_HELD_OUT : live->how),
           "who takes no part knows why");
    demand(w, x, view_eq(d->model, t->variants[whole].model), "and has the control, or all have");
}

void trials_draw(struct loop_of *l, struct life *x)
{
    struct world *w = l->w;
    struct trials *t = w->trials;
    if (!t || rand_below(&t->dice, 2))
        return;
    if (t->newest + 1 < GENERATIONS && rand_below(&t->dice, 40) == 0)
        publish(w, t, w->plan.models);
    if (rand_below(&t->dice, 20) == 0)
        l->trial = t->newest;
    if (rand_below(&t->dice, 15) == 0)
        change_live(t, w->plan.models);
    char text[16];
    unsigned key = (unsigned)rand_below(&t->dice, KEYS);
    struct view said = view_of(text, (size_t)snprintf(text, sizeof(text), "k%u", key));
    struct experiment_draw d;
    experiment_draw(&t->site[l->trial], &said, &d);
    x->model = model_named(w, d.model);
    x->tried = true;
    if (d.variant)
        look_at_key(w, t, x, l->trial, key, (unsigned)(d.variant - t->variants));
    else
        look_at_others(w, t, x, atomic_load(&t->site[l->trial].experiments->live), &d);
}

// Under the experiment's name, as the gateway does: whose model is known is asked.
void trials_ask(struct life *x)
{
    struct model *m = x->tried ? table_find(x->model->w->table, view_str(x->model->name)) : NULL;
    if (!m)
        return;
    x->in.request.model = VIEW("tried");
    x->in.step.to.model = m;
}

static bool is_in_chain(const struct model_of *m, struct view name)
{
    for (unsigned i = 0; i < m->chain.n; i++)
        if (m->chain.links[i].kind == LINK_MODEL && view_eq(m->chain.links[i].name, name))
            return true;
    return view_is(name, m->name);
}

// Whoever was asked, and whoever answered, is of its variant's chain.
void trials_settled(const struct world *w, const struct life *x)
{
    if (!x->tried)
        return;
    for (const struct step *s = x->in.at; s; s = s->before)
        demand(w, x, !s->to.model || is_in_chain(x->model, s->to.model->name),
               "a variant's own chain is asked, and no other");
    demand(w, x,
           x->in.error.status != STATUS_OK || x->in.source != SOURCE_DEFAULT ||
               x->model->chain.n > 0,
           "what is written down is the variant's");
}
