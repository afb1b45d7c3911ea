/* bench/batchsim/rules: who goes next, to which server, and when: by the product's batcher, as the desk asks it, or by
 * Triton's rules, first in, first out, with a time-out as long as the deadline. */
#include "base/check.h"
#include "bench/batchsim/world.h"
#include <math.h>

#define PIPELINE_AUTO 3

const struct rule triton0 = {"Triton 0", .triton = true, .pipeline = 1, .most = 1, .patience = 1};
const struct rule triton1 = {"Triton 1 ms", .triton = true,   .pipeline = 1,
                             .most = 1,     .delay_us = 1000, .patience = 1};
const struct rule triton5 = {"Triton 5 ms", .triton = true,   .pipeline = 1,
                             .most = 1,     .delay_us = 5000, .patience = 1};
const struct rule fixed2 = {"fixed", .policy = {.kind = POLICY_FIXED, .max_wait_us = 2000},
                            .pipeline = 2};
const struct rule fixed0 = {"fixed, wait 0", .policy = {.kind = POLICY_FIXED}, .pipeline = 2};
const struct rule automatic = {"auto", .policy = {.kind = POLICY_AUTO, .max_wait_us = UINT64_MAX},
                               .pipeline = PIPELINE_AUTO};

static void wake_at(struct run *r, double at)
{
    if (at >= r->wake && r->wake > r->now)
        return;
    r->wake = at;
    if (at < NEVER)
        event_post(r, fmax(at, r->now) + 60 * rand_unit(&r->way), WAKE);
}

static struct batch_server *choose_server(struct run *r, uint32_t limit)
{
    struct batch_server *best = NULL;
    for (unsigned i = 0; i < r->game->servers; i++) {
        struct batch_server *s = &r->server[i];
        bool better = !best || (r->rule->policy.kind == POLICY_AUTO && !r->rule->triton
                                    ? server_before(s, best, clock_us(r))
                                    : s->in_flight < best->in_flight);
        if (s->in_flight < limit && better)
            best = s;
    }
    return best;
}

// ---- the product's

static struct row *row_of(struct ticket *t)
{
    return container_of(t, struct row, ticket);
}

static void row_remove(struct run *r, struct ticket *t)
{
    batcher_remove(&r->batcher, t);
    row_over(r, row_of(t));
}

static struct outlook outlook_of(const struct run *r)
{
    struct outlook o = {0};
    for (unsigned i = 0; i < r->game->servers; i++)
        outlook_add(&o, &r->server[i], clock_us(r));
    return o;
}

static void batch_taken(struct run *r, const struct batch_plan *plan, struct batch_server *s)
{
    struct ticket *tickets[256];
    struct travel *t = travel_new(r);
    t->n = batcher_take(&r->batcher, plan, tickets, 256, clock_us(r));
    for (unsigned i = 0; i < t->n; i++)
        t->rows[i] = row_of(tickets[i]);
    batch_send(r, t, (unsigned)(s - r->server));
}

// One batch of what waits, as the desk does it. False: nothing goes now.
static bool ask_batcher(struct run *r)
{
    struct batcher *b = &r->batcher;
    struct outlook o = outlook_of(r);
    batcher_expect(b, &o);
    for (struct ticket *t; (t = batcher_doomed(b, clock_us(r))) != NULL;)
        row_remove(r, t);
    struct batch_server *s = choose_server(r, r->rule->pipeline);
    if (!s || b->count == 0)
        return false;
    outlook_at(&o, s, clock_us(r));
    batcher_expect(b, &o);
    struct batch_plan plan = batcher_plan(b, r->game->regime.max_rows, clock_us(r), NULL, NULL);
    if (!plan.group) {
        wake_at(r, plan.wake_us == UINT64_MAX ? NEVER : (double)plan.wake_us);
        return false;
    }
    for (struct ticket *t; (t = batcher_dropped(b, &plan, clock_us(r))) != NULL;)
        row_remove(r, t);
    batch_taken(r, &plan, s);
    return true;
}

// ---- Triton's

static struct row *triton_pop(struct run *r)
{
    struct row *x = r->first;
    r->first = x->next;
    if (!r->first)
        r->last = &r->first;
    r->queued--;
    return x;
}

static bool ask_triton(struct run *r)
{
    const struct rule *rule = r->rule;
    uint32_t most = r->game->regime.max_rows / rule->most;
    while (r->first && r->now > r->first->came + rule->patience * (r->first->due - r->first->came))
        row_over(r, triton_pop(r));
    struct batch_server *s = choose_server(r, rule->pipeline);
    if (!s || !r->first)
        return false;
    double until = r->first->came + rule->delay_us;
    if (r->queued < most && r->now < until) {
        wake_at(r, until);
        return false;
    }
    struct travel *t = travel_new(r);
    while (r->first && t->n < most)
        t->rows[t->n++] = triton_pop(r);
    batch_send(r, t, (unsigned)(s - r->server));
    return true;
}

void rules_ask(struct run *r)
{
    while (r->rule->triton ? ask_triton(r) : ask_batcher(r)) {
    }
}

void rules_forget(struct run *r)
{
    for (struct ticket *t; (t = batcher_any(&r->batcher)) != NULL;)
        row_remove(r, t);
    while (r->first)
        row_over(r, triton_pop(r));
}
