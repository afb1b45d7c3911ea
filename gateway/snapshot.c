#include "gateway/snapshot.h"

#include "base/check.h"
#include "base/count.h"
#include "base/mem.h"
#include "gateway/creations.h"
#include "gateway/part.h"
#include "gateway/reload.h"
#include "gateway/shadows.h"
#include "gateway/store_plan.h"
#include "gateway/trials.h"
#include <stdio.h>

_Static_assert(STORE_WHY <= FILE_WHY, "it fits");
_Static_assert(CONFIG_MAX_MODELS <= TABLE_MODELS, "each that is configured is known");

// ---- making ------------------------------------------------------------------------------------------

static void set_limits(struct http_limits *l, const struct config_limits *c)
{
    http_limits_default(l);
    l->max_headers = c->max_headers;
    l->max_header_bytes = c->max_header_bytes;
    l->max_target = c->max_target;
    l->max_body = c->max_body;
    l->max_streams = c->max_streams;
    l->abuse_budget = c->abuse_budget;
    l->header_timeout_us = c->header_timeout_us;
    l->body_timeout_us = c->body_timeout_us;
    l->body_min_rate = c->body_min_rate;
    l->idle_timeout_us = c->idle_timeout_us;
    l->send_timeout_us = c->send_timeout_us;
    l->stream_stall_us = c->stream_stall_us;
}

// The keeper has compared them already: what stands here is what this process can do, whatever it is told.
static const char *fill_sections(struct snapshot *p)
{
    const struct config *c = p->config;
    p->fronts = mem_zalloc((c->listen_count + 1) * sizeof(*p->fronts));
    p->names = mem_zalloc((c->model_count + 1) * sizeof(*p->names));
    if (!p->fronts || !p->names)
        return "out of memory";
    for (unsigned i = 0; i < c->model_count; i++)
        p->names[i] = view_str(c->models[i].name);
    return NULL;
}

static void snapshot_free(struct snapshot *p)
{
    if (p->next)
        p->next->prev = p->prev;
    if (p->prev)
        *p->prev = p->next;
    mem_free(p->fronts);
    mem_free(p->names);
    chains_free(p->chains);
    experiments_free(p->experiments);
    store_plan_unref(p->store);
    config_unref(p->config);
    mem_free(p);
}

void snapshot_drop(struct snapshot *p)
{
    snapshot_free(p);
}

static void on_over(struct loop *l, struct loop_task *t)
{
    struct snapshot *p = container_of(t, struct snapshot, over);
    struct gateway *g = p->gateway;
    (void)l;
    snapshot_free(p);
    reload_on_room(g);
}

struct snapshot *snapshot_new(struct gateway *g, struct config *c, uint64_t generation,
                              uint64_t since_us, char why[FILE_WHY])
{
    size_t bytes = sizeof(struct snapshot) + g->loops.n * sizeof(struct snapshot_hold);
    struct snapshot *p = mem_alloc_aligned((bytes + 63) & ~(size_t)63, 64);
    if (!p) {
        snprintf(why, FILE_WHY, "out of memory");
        config_unref(c);
        return NULL;
    }
    memset(p, 0, bytes);
    p->gateway = g;
    p->config = c;
    p->generation = generation;
    p->since_us = since_us;
    p->over.fn = on_over;
    set_limits(&p->limits, &c->limits);
    p->flow = (struct flow_rules){.deadline_us = c->limits.deadline_default_us,
                                  .deadline_max_us = c->limits.deadline_max_us,
                                  .shadows = SHADOWS_OUT,
                                  .shadow_bytes = gateway_bytes(c) / SHADOWS_PART / g->loops.n};
    bool is_same = g->snap && g->snap->store && g->snap->generation == generation;
    const char *other = fill_sections(p);
    if (other)
        snprintf(why, FILE_WHY, "%s", other);
    else if ((p->chains = chains_new(c, why)) != NULL) {
        why[0] = '\0';
        p->store = is_same ? store_plan_ref(g->snap->store)
                           : store_plan_new(c, g->snap ? g->snap->store : NULL, why);
    }
    if (!other && p->chains && !why[0])
        p->experiments = experiments_new(c, g->snap ? g->snap->experiments : NULL, g->loops.n, why);
    if (!other && p->chains && !why[0])
        return p;
    snapshot_free(p);
    return NULL;
}

unsigned snapshots_held(const struct gateway *g)
{
    unsigned n = 0;
    for (const struct snapshot *p = g->snaps; p; p = p->next)
        n++;
    return n;
}

static void enlist(struct snapshot *p)
{
    struct gateway *g = p->gateway;
    atomic_store(&p->holders, g->loops.n + 1);
    p->next = g->snaps;
    p->prev = &g->snaps;
    if (p->next)
        p->next->prev = &p->next;
    g->snaps = g->snap = p;
}

void snapshot_first(struct snapshot *p)
{
    enlist(p);
}

// ---- holding -----------------------------------------------------------------------------------------

static void leave(struct snapshot *p, struct loop *from)
{
    if (atomic_fetch_sub(&p->holders, 1) == 1)
        loop_post_task(from, &p->gateway->main, &p->over);
}

static void on_taken(struct loop *l, struct loop_task *t)
{
    struct snapshot *p = container_of(t, struct snapshot, taken);
    (void)l;
    if (!p->is_ours)
        reload_in_force(p->gateway);
    creations_taken(p);
    leave(p, &p->gateway->main);
}

static void on_take_up(struct loop *l, struct loop_task *t)
{
    struct snapshot_hold *mine = container_of(t, struct snapshot_hold, task);
    struct snapshot *p =
        (struct snapshot *)((char *)(mine - l->index) - offsetof(struct snapshot, hold));
    struct part *part = p->gateway->parts[l->index];
    struct snapshot *before = part->snap;
    part->snap = p;
    part_adopt(part);
    if (atomic_fetch_sub(&p->awaited, 1) == 1)
        loop_post_task(l, &p->gateway->main, &p->taken);
    if (atomic_load_explicit(&before->hold[l->index].uses, memory_order_relaxed) == 0)
        leave(before, l);
}

void snapshot_publish(struct snapshot *p)
{
    struct gateway *g = p->gateway;
    struct snapshot *before = g->snap;
    enlist(p);
    atomic_fetch_add(&p->holders,
                     1); // on_taken: else another loop's word that it is over might come first
    trials_adopt(g, p);  // before the first draw
    experiments_look(g);
    atomic_store(&p->awaited, g->loops.n);
    p->taken.fn = on_taken;
    for (unsigned i = 0; i < g->loops.n; i++) {
        p->hold[i].task.fn = on_take_up;
        loop_post_task(&g->main, g->loops.loop[i], &p->hold[i].task);
    }
    leave(before, &g->main);
}

struct snapshot *snapshot_hold(struct part *part)
{
    count_add(&part->snap->hold[part->loop->index].uses, 1);
    return part->snap;
}

void snapshot_hold_on(struct part *part, struct snapshot *p)
{
    count_add(&p->hold[part->loop->index].uses, 1);
}

void snapshot_let_go(struct part *part, struct snapshot *p)
{
    _Atomic uint64_t *uses = &p->hold[part->loop->index].uses;
    count_add(uses, (uint64_t)-1);
    if (p != part->snap && atomic_load_explicit(uses, memory_order_relaxed) == 0)
        leave(p, part->loop);
}

void snapshots_free(struct gateway *g)
{
    while (g->snaps)
        snapshot_free(g->snaps);
}
