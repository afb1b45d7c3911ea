/* What operators set: a model is held at a level for a while. The main thread writes the word, and tells the model's home to
 * look; without memory for that its desk looks when it does something next. */
#include "tests/sim/sim.h"

static void set(struct world *w, struct model_of *m, uint8_t pin)
{
    atomic_store(&m->m->pin, pin);
    tell(w, "%s: pin %u", m->name, pin);
    world_count(w, FAULT_PINNED);
    if (w->healed || !world_chance(w, 0.1))
        world_at(w, &w->loop[m->home], world_soon(w, 1000), EVENT_PINNED, m, 0);
}

void pins_turn(struct loop_of *l)
{
    struct world *w = l->w;
    if (w->healed || !world_chance(w, w->plan.pins))
        return;
    struct model_of *m = &w->model[rand_below(&w->rand, w->plan.models)];
    if (m->m)
        set(w, m, rand_below(&w->rand, 2) ? 0 : 1 + (uint8_t)rand_below(&w->rand, LEVELS));
}

void pins_event(const struct entry *e)
{
    struct model_of *m = e->p;
    m->dirty |= m->desk != NULL;
}

void pins_heal(struct world *w)
{
    for (unsigned i = 0; i < w->plan.models; i++) {
        struct model_of *m = &w->model[i];
        if (m->m && atomic_load(&m->m->pin) > 0)
            set(w, m, 0);
    }
}
