/* Shadows at a desk: tickets that nothing served may wait for, or be refused for. The batcher, the room, the standing and the
 * retry budget know nothing of them. They wait in a list of their own, the oldest first, and go when
 *   - nothing that is served is queued, or waits to be sent again, or to be told apart from a worker's killer;
 *   - the worker that would have them does nothing of ours, for whatever model; and no batch of shadows is in flight here.
 * What comes a moment later finds that batch before it, as it would find any other: nothing is interrupted. */
#include "router/desk_inner.h"

#include "base/check.h"

// Why none is taken, or kept; NULL: they are.
static const char *refusal_of(const struct desk *d)
{
    if (standing_level(d->model) > LEVEL_HEALTHY)
        return "the model's service has come down";
    return d->replicas.n_ready == 0 ? "no replica of the model is ready" : NULL;
}

void shadow_came(struct desk *d, struct ticket *t, struct effects *fx)
{
    const char *why = refusal_of(d);
    if (!why && d->n_shadows == DESK_SHADOWS)
        why = "as many shadows wait as may";
    if (why) {
        ticket_failed(d, t, FAILED(STATUS_UNAVAILABLE, why), fx);
        return;
    }
    t->place = PLACE_SHADOW;
    t->next = NULL;
    t->prev = d->shadows_last;
    *d->shadows_last = t;
    d->shadows_last = &t->next;
    d->n_shadows++;
}

void shadow_left(struct desk *d, struct ticket *t)
{
    invariant(t->place == PLACE_SHADOW);
    if (t->next)
        t->next->prev = t->prev;
    else
        d->shadows_last = t->prev;
    *t->prev = t->next;
    t->place = PLACE_NONE;
    d->n_shadows--;
}

// The late ones leave; all do when none is taken.
static void give_back(struct desk *d, uint64_t now_us, struct effects *fx)
{
    struct ticket *next;
    const char *why = refusal_of(d);
    for (struct ticket *t = d->shadows; t; t = next) {
        next = t->next;
        if (!why && now_us < t->deadline_us)
            continue;
        shadow_left(d, t);
        if (why)
            ticket_failed(d, t, FAILED(STATUS_UNAVAILABLE, why), fx);
        else
            ticket_expired(d, t, fx);
    }
}

// It does nothing of ours.
static bool is_idle(const struct replica *r, uint64_t now_us)
{
    const struct worker_vitals *v = r->facts.vitals ? r->facts.vitals : &r->own;
    const struct serial_device *device = r->facts.device;
    return atomic_load_explicit(&v->out, memory_order_relaxed) == 0 &&
           (!device || device_free_us(device) <= now_us);
}

static struct replica *idle_replica(struct desk *d, uint64_t now_us)
{
    if (d->batcher.count > 0 || d->again || d->leads || d->replicas.suspects > 0 || d->shadow_sent)
        return NULL;
    const struct wanted w = {.avoid = REPLICA_NONE, .rows = d->shadows->request->rows};
    struct replica *r = replicas_choose(&d->replicas, &w, now_us);
    return r && is_idle(r, now_us) ? r : NULL;
}

// The oldest, and those that may be with it, within what r takes.
static void fill_batch(struct desk *d, struct batch *b, const struct replica *r)
{
    struct ticket *first = d->shadows, *next;
    uint32_t most = r->facts.max_batch < d->most_rows ? r->facts.max_batch : d->most_rows;
    uint32_t rows = 0;
    for (struct ticket *t = first; t; t = next) {
        next = t->next;
        bool joins = ticket_batches(first) && ticket_batches(t) && hash128_eq(t->key, first->key) &&
                     rows + t->request->rows <= most;
        if (t != first && !joins)
            continue;
        rows += t->request->rows;
        shadow_left(d, t);
        batch_join(b, t);
    }
}

uint64_t shadows_send(struct desk *d, uint64_t now_us, struct effects *fx)
{
    if (!d->shadows)
        return UINT64_MAX;
    give_back(d, now_us, fx);
    struct replica *r = d->shadows ? idle_replica(d, now_us) : NULL;
    struct batch *b = r ? batch_new(d, d->n_shadows) : NULL;
    if (b) {
        fill_batch(d, b, r);
        b->shadow = d->shadow_sent = true;
        b->reason = BATCH_IDLE;
        batch_prune(d, b, now_us, fx); // its rows and its deadline
        batch_send(d, b, r, now_us, fx);
    }
    return d->shadows ? now_us + DESK_SHADOW_LOOK_US : UINT64_MAX;
}
