#include "gateway/part.h"

#include "base/check.h"
#include "base/count.h"
#include "base/mem.h"
#include "base/version.h"
#include "gateway/awaiting.h"
#include "gateway/card.h"
#include "gateway/doors.h"
#include "gateway/endpoint.h"
#include "gateway/front.h"
#include "gateway/homes.h"
#include "gateway/predictions.h"
#include "gateway/removal.h"
#include "gateway/shadows.h"
#include "gateway/workers.h"
#include <stdio.h>
#include <sys/random.h>

// How long a queue waits for a lost replica: as long as a killed worker may be away. Then 503, at once.
#define FIXED_WAIT_US 2000 // `fixed`: of the oldest row, where nobody says
#define GRACE_US 2000000
#define QUEUE_BYTES (256 << 20)
// Answers of workers come when their requests have been computed: they may use so much more than requests may
// hold, and what clients get of them as much again, so that what runs finishes and gives its memory back while
// nothing new is taken. Those of probes (and all that are as small) are counted, and never refused: a worker is
// not lost because clients hold our memory.
#define ANSWERS_FREE (64 << 10)

// ---- effects -----------------------------------------------------------------------------------------

static void note_replica(struct part *p, const struct note *n, enum log_level level)
{
    const struct link *l = part_link(p, (uint32_t)n->a);
    const struct endpoint *e = l->endpoint; // it is there: its desk has just spoken of it
    const char *why = n->why ? n->why : "";
    char difference[DIFFERENCE_TEXT];
    if (n->kind == NOTE_REPLICA_DIFFERS && workers_differ(p, n->model, n->a, difference))
        why = difference;
    GATEWAY_EVENT(p->gateway, p->loop, level, note_name[n->kind], LOG_S("model", n->model->name),
                  LOG_CSTR("replica", e->name), LOG_CSTR("address", e->address),
                  LOG_CSTR("why", why));
}

static void note_model(struct part *p, const struct note *n, enum log_level level)
{
    struct view model = n->model ? n->model->name : VIEW("");
    char digest[17];
    snprintf(digest, sizeof(digest), "%016llx", (unsigned long long)n->b);
    if (n->kind == NOTE_POISON)
        GATEWAY_EVENT(p->gateway, p->loop, level, note_name[n->kind], LOG_S("model", model),
                      LOG_CSTR("digest", digest));
    else
        GATEWAY_EVENT(p->gateway, p->loop, level, note_name[n->kind], LOG_S("model", model),
                      LOG_I("tickets", n->a));
}

// A move, with what was seen then. Its desk is this loop's.
static void note_level(struct part *p, const struct note *n, enum log_level level)
{
    const struct desk_standing *s = &n->model->desk->standing;
    GATEWAY_EVENT(p->gateway, p->loop, level, note_name[n->kind], LOG_S("model", n->model->name),
                  LOG_I("now", n->a), LOG_I("before", n->b),
                  LOG_CSTR("cause", atomic_load(&n->model->level_cause)),
                  LOG_I("p99_us", recent_p99(&s->took)), LOG_I("share_ppm", s->signals.share_ppm),
                  LOG_I("ready", s->signals.ready), LOG_I("replicas", s->signals.known));
}

// What happens for every batch, or so often: told at LOG_DEBUG alone.
static void note_rows(struct part *p, const struct note *n, enum log_level level)
{
    struct log_field fields[3] = {LOG_S("model", n->model ? n->model->name : VIEW("")),
                                  LOG_I("rows", n->a)};
    unsigned used = 2;
    if (n->kind == NOTE_BATCH)
        fields[used++] = LOG_CSTR("reason", batch_reason_name[n->b]);
    else if (n->kind == NOTE_DONE)
        fields[used++] = LOG_I("took_us", n->b);
    log_line(p->gateway->log, p->loop->index, level, loop_wall_us(p->loop), note_name[n->kind],
             fields, used);
}

static void note_step(struct part *p, const struct note *n, enum log_level level)
{
    struct log_field fields[] = {LOG_S("model", n->model->name),
                                 LOG_CSTR("outcome", chain_outcome((unsigned)n->a))};
    log_line(p->gateway->log, p->loop->index, level, loop_wall_us(p->loop), note_name[n->kind],
             fields, 2);
}

static void note(struct part *p, const struct note *n)
{
    static const enum log_level level[NOTE_KINDS] = {
        [NOTE_POISON] = LOG_ERROR,          [NOTE_WRONG_SHAPE] = LOG_WARN,
        [NOTE_REPLICA_UP] = LOG_INFO,       [NOTE_REPLICA_DOWN] = LOG_WARN,
        [NOTE_REPLICA_DIFFERS] = LOG_ERROR, [NOTE_REPLICA_PAUSED] = LOG_WARN,
        [NOTE_REPLICA_EJECTED] = LOG_WARN,  [NOTE_REPLICA_BACK] = LOG_INFO,
        [NOTE_NO_REPLICA] = LOG_WARN,       [NOTE_LEVEL] = LOG_WARN,
    };
    bool said_lately = n->kind == NOTE_WRONG_SHAPE && n->b == 0;
    enum log_level at = said_lately ? LOG_DEBUG : level[n->kind];
    metrics_note(&p->metrics, n);
    if (at < log_level(p->gateway->log))
        return; // counted only
    if (n->kind == NOTE_STEP)
        note_step(p, n, at);
    else if (note_of_replica[n->kind])
        note_replica(p, n, at);
    else if (n->kind == NOTE_LEVEL)
        note_level(p, n, at);
    else if (n->kind <= NOTE_DROPPED) // those of rows stand first
        note_rows(p, n, at);
    else
        note_model(p, n, at);
}

static void run_one(struct part *p, const struct fx *f)
{
    switch (f->kind) {
    case FX_POST:
        loop_post(p->loop, p->gateway->loops.loop[f->msg->to], f->msg);
        break;
    case FX_DISPATCH:
        workers_dispatch(p, f->batch);
        break;
    case FX_CANCEL:
        if (!DOOR_KEEPS_CANCEL(p, f->batch))
            workers_cancel(p, f->batch);
        break;
    case FX_PROBE:
        workers_probe(p, f->replica);
        break;
    case FX_HANGS:
        workers_hangs(p, f->replica);
        break;
    case FX_USE:
        part_use(p, f->model);
        break;
    case FX_SETTLE:
        origin_settle(p, f->infer);
        break;
    case FX_SHADOW:
        shadows_told(f->infer);
        break;
    case FX_RELEASE:
        origin_release(p, f->infer);
        break;
    case FX_UNREF:
        block_unref(f->block);
        break;
    case FX_WAKE:
        if (f->desk)
            homes_wake(p, f->desk, f->at_us);
        else
            wheel_set(loop_wheel(p->loop), &p->flow_timer, f->at_us);
        break;
    case FX_STORE_GET:
        store_get(p, f->ask);
        break;
    case FX_STORE_PUT:
        store_put(p, f->ask);
        break;
    case FX_NOTE:
        note(p, &f->note);
        break;
    }
}

void part_run(struct part *p)
{
    if (p->running)
        return; // we are inside an effect: the loop below comes to what was added
    p->running = true;
    for (unsigned i = 0; i < p->fx.n; i++) {
        struct fx f = p->fx.at[i]; // a copy: running it may grow the list
        run_one(p, &f);
    }
    p->fx.n = 0;
    p->running = false;
    atomic_store_explicit(&p->metrics.live, p->flow.n_live, memory_order_relaxed);
    atomic_store_explicit(&p->metrics.zombies, p->flow.n_zombies, memory_order_relaxed);
}

static void on_flow_timer(struct wheel_timer *t, uint64_t now_us)
{
    struct part *p = container_of(t, struct part, flow_timer);
    flow_on_wake(&p->flow, now_us, &p->fx);
    part_run(p);
}

static void on_msg(struct loop *l, struct msg *m, void *ctx)
{
    (void)l;
    homes_on_msg(ctx, m);
}

// ---- building ----------------------------------------------------------------------------------------

static bool build_fleet(struct gateway *g)
{
    struct fleet_change change;
    char why[256];
    const struct boot_place *places = g->boot->places;
    unsigned n = g->boot->place_count;
    if (!fleet_prepare(g, g->birth, places, n, &change, why, sizeof(why))) {
        fprintf(stderr, "%s\n", why);
        return false;
    }
    fleet_apply(g, g->birth, places, n, &change, false);
    return true;
}

void part_rules(const struct config_model *c, struct model_rules *out)
{
    bool planned = c->policy == CONFIG_POLICY_AUTO;
    bool keeps = c->cache_enabled && c->cache_ttl_us > 0;
    uint64_t wait_us = planned ? UINT64_MAX : FIXED_WAIT_US;
    *out = (struct model_rules){.policy = planned ? POLICY_AUTO : POLICY_FIXED,
                                .refuse_early = c->refuse_early,
                                .max_rows = c->max_rows,
                                .max_wait_us =
                                    c->max_wait_us == CONFIG_AUTO ? wait_us : c->max_wait_us,
                                .pipeline = c->pipeline == CONFIG_AUTO_N ? 0 : c->pipeline,
                                .queue_rows = c->queue_rows,
                                .queue_bytes = c->queue_bytes ? c->queue_bytes : QUEUE_BYTES,
                                .deadline_us = c->timeout_us,
                                .slow_start_us = c->slow_start_us,
                                .grace_us = GRACE_US,
                                .levels = c->levels,
                                .alternatives = c->fallback_count > 0 || keeps,
                                .p99_enter_us = c->p99_enter_us,
                                .p99_leave_us = c->p99_leave_us,
                                .hold_us = c->hold_us,
                                .window_us = c->window_us,
                                .cache_ttl_us = keeps ? c->cache_ttl_us : 0,
                                .cache_stale_us = c->cache_stale_us,
                                .cache_shared = c->cache_shared};
    _Static_assert(CONFIG_MAX_PREFERRED == POLICY_MAX_PREFERRED, "none is left out");
    for (unsigned i = 0; i < c->preferred_count; i++)
        out->preferred[out->n_preferred++] = c->preferred[i];
}

static bool build_table(struct gateway *g)
{
    g->table = table_new(g->loops.n);
    uint64_t secret; // see tenants_new
    if (getrandom(&secret, sizeof(secret), 0) != sizeof(secret))
        return false;
    g->tenants = tenants_new(secret);
    if (!g->tenants)
        return false;
    for (unsigned i = 0; g->table && i < g->birth->model_count; i++) {
        const struct config_model *c = &g->birth->models[i];
        struct model_rules rules;
        part_rules(c, &rules);
        rules.listed = true;
        if (!table_add(g->table, view_str(c->name), &rules))
            return false;
    }
    return g->table != NULL;
}

// ---- memory of what is kept ----------------------------------------------------------------------------

#define MEMO_SHARE 8 // one part of so many is for bodies, in whole MiB
// Of a loop: a lower bound makes it drop all that in one turn.
#define MEMO_MOST ((uint64_t)16 << 20)

// Of a loop.
static uint64_t memo_bytes(const struct gateway *g, const struct config *c)
{
    uint64_t all = c->cache_bytes / MEMO_SHARE / CACHE_SLICE * CACHE_SLICE;
    return all / g->loops.n < MEMO_MOST ? all / g->loops.n : MEMO_MOST;
}

void parts_set_cache(struct gateway *g, const struct config *c)
{
    uint64_t memos = memo_bytes(g, c) * g->loops.n;
    cache_pool_set(&g->kept, (int64_t)(c->cache_bytes - memos), g->loops.n);
}

uint64_t parts_cache_limit(const struct gateway *g)
{
    return g->snap->config->cache_bytes;
}

uint64_t parts_cache_leased(const struct gateway *g)
{
    uint64_t bytes = (uint64_t)atomic_load(&g->kept.granted);
    for (unsigned i = 0; i < g->loops.n; i++)
        bytes += count_get(&g->parts[i]->memo.bytes);
    return bytes;
}

void part_adopt(struct part *p)
{
    flow_set_rules(&p->flow, &p->snap->flow);
    for (unsigned i = 0; i < p->snap->config->listen_count; i++) {
        const struct front *f = p->snap->fronts[i];
        server_adopt(f->server, p->loop->index, &p->snap->limits, f->tls);
    }
    if (!past_resize(&p->past, p->snap->config->log.explain))
        GATEWAY_EVENT(p->gateway, p->loop, LOG_ERROR, "explain_kept",
                      LOG_CSTR("why", "out of memory"), LOG_I("requests", p->past.n));
    memo_bound(&p->memo, memo_bytes(p->gateway, p->snap->config));
    workers_adopt_sections(p);
    homes_adopt(p);
    workers_adopt(p);
    store_adopt(p);
    part_run(p);
}

static void tick_later(struct part *p)
{
    if (p->cache->tick_us != UINT64_MAX && !wheel_is_set(&p->cache_timer))
        wheel_set(loop_wheel(p->loop), &p->cache_timer, p->cache->tick_us);
}

static void on_cache_timer(struct wheel_timer *t, uint64_t now_us)
{
    struct part *p = container_of(t, struct part, cache_timer);
    cache_tick(p->cache, now_us);
    tick_later(p);
}

static void decide(struct loop *l, struct loop_flush *f)
{
    struct part *p = container_of(f, struct part, decide);
    homes_decide(p, loop_now_us(l));
    part_run(p);
    tick_later(p);
}

static bool on_block_charge(void *ctx, int64_t delta_bytes)
{
    struct part *p = ctx;
    return budget_charge(&p->lease, &p->gateway->bytes, delta_bytes,
                         delta_bytes <= ANSWERS_FREE ? BUDGET_MUST : BUDGET_ANSWERS);
}

static void on_watch_timer(struct wheel_timer *t, uint64_t now_us)
{
    struct part *p = container_of(t, struct part, watch_timer);
    if (serving_look(&p->api, now_us))
        wheel_set(loop_wheel(p->loop), t, now_us + SERVING_LOOK_US);
}

static bool build_part(struct gateway *g, unsigned index)
{
    struct part *p = mem_zalloc(sizeof(*p));
    if (!p)
        return false;
    g->parts[index] = p;
    p->gateway = g;
    p->loop = g->loops.loop[index];
    p->snap = g->snap;
    p->lane = &g->predictions->lanes[index];
    flow_init(&p->flow, index, g->table, &p->snap->flow, rand_u64(&p->loop->rand),
              loop_now_us(p->loop));
    effects_init(&p->fx, loop_blocks(p->loop));
    buffer_init(&p->line);
    loop_blocks(p->loop)->account = on_block_charge;
    loop_blocks(p->loop)->account_ctx = p;
    struct api_carry carry = {server_respond, server_flow, server_wake, loop_blocks(p->loop)};
    p->decide.fn = decide;
    p->flow_timer.fn = on_flow_timer;
    p->cache_timer.fn = on_cache_timer;
    memo_bound(&p->memo, memo_bytes(g, g->birth));
    p->cache = cache_new(&g->kept, rand_u64(&p->loop->rand));
    if (!p->cache)
        return false;
    api_init(&p->api, &carry, VIEW("sluice"), VIEW(SLUICE_VERSION));
    p->api.n_extensions = OIP_EXTENSIONS;
    p->watch_timer.fn = on_watch_timer;
    awaiting_init(p);
    loop_on_msg_range(p->loop, MSG_ROUTER, on_msg, p);
    return past_init(&p->past, g->birth->log.explain) && workers_build(p);
}

static void on_start(struct loop *l, void *ctx)
{
    struct gateway *g = ctx;
    workers_start(g->parts[l->index]);
    store_adopt(g->parts[l->index]);
    removals_watch(g->parts[l->index]);
}

// On the loop's own thread, when it runs no more: what still lives is taken down where it was made.
static void on_stop(struct loop *l, void *ctx)
{
    struct gateway *g = ctx;
    DOORS_STOP(g->parts[l->index]);
    workers_free(g->parts[l->index]);
    store_close(g->parts[l->index]);
}

bool parts_build(struct gateway *g)
{
    budget_init(&g->bytes, gateway_bytes(g->birth), g->loops.n);
    parts_set_cache(g, g->birth);
    g->parts = mem_zalloc(g->loops.n * sizeof(*g->parts));
    if (!g->parts || !build_fleet(g) || !build_table(g))
        return false;
    for (unsigned i = 0; i < g->loops.n; i++) {
        if (!build_part(g, i))
            return false;
    }
    g->loops.on_start = on_start;
    g->loops.on_stop = on_stop;
    g->loops.ctx = g;
    return true;
}

// ---- the rest ----------------------------------------------------------------------------------------

void parts_free(struct gateway *g)
{
    for (unsigned i = 0; i < g->loops.n; i++) {
        struct part *p = g->parts[i];
        loop_blocks(p->loop)->account = NULL; // some may still be on their way back to it
        homes_free(p);
        wheel_cancel(loop_wheel(p->loop), &p->cache_timer);
        block_owner_adopt(loop_blocks(p->loop));
        cache_free(p->cache);
        flow_deinit(&p->flow);
        wheel_cancel(loop_wheel(p->loop), &p->flow_timer);
        wheel_cancel(loop_wheel(p->loop), &p->watch_timer);
        wheel_cancel(loop_wheel(p->loop), &p->look_timer);
        awaiting_deinit(p);
        wheel_cancel(loop_wheel(p->loop), &p->lane->hand);
        api_deinit(&p->api);
        for (unsigned k = 0; k < TABLE_MODELS; k++)
            debug_invariant(p->uses[k] == 0); // every request has ended
        mem_free(p->links);
        effects_deinit(&p->fx);
        buffer_deinit(&p->line);
        past_deinit(&p->past);
        memo_bound(&p->memo, 0);
        rewards_deinit(&p->rewards);
        metrics_deinit(&p->metrics);
        mem_free(p);
        g->parts[i] = NULL;
    }
    removals_free(g);
    for (unsigned i = 0; i < TABLE_MODELS; i++) {
        if (table_at(g->table, i))
            card_free(table_at(g->table, i));
    }
    table_free(g->table);
    tenants_free(g->tenants);
    fleet_free(g);
    mem_free(g->parts);
}

bool parts_idle(const struct gateway *g)
{
    for (unsigned i = 0; i < g->loops.n; i++) {
        if (atomic_load(&g->parts[i]->metrics.live) > 0)
            return false;
    }
    return true;
}

// ---- what is said of processes -------------------------------------------------------------------------

struct word { // of the keeper, on its way to one loop
    struct loop_task task;
    struct part *part;
    unsigned id;
    uint32_t pid;
    bool crashed;
};

static void on_kick(struct loop *l, struct loop_task *t)
{
    struct word *w = container_of(t, struct word, task);
    (void)l;
    workers_kick(w->part, w->id);
    mem_free(w);
}

static void on_process_gone(struct loop *l, struct loop_task *t)
{
    struct word *w = container_of(t, struct word, task);
    (void)l;
    workers_gone(w->part, w->id, w->pid, w->crashed);
    mem_free(w);
}

// To every loop, in the order in which the keeper said it. Without memory the word is lost: a connection that
// ends says nearly as much, a little later.
static void carry_word(struct gateway *g, const struct word *what)
{
    for (unsigned i = 0; i < g->loops.n; i++) {
        struct word *w = mem_zalloc(sizeof(*w));
        if (!w)
            continue;
        *w = *what;
        w->part = g->parts[i];
        loop_post_task(&g->main, g->loops.loop[i], &w->task);
    }
}

void parts_kick_worker(struct gateway *g, uint32_t place)
{
    const struct endpoint *e = endpoint_by_number(g, place);
    if (e)
        carry_word(g, &(struct word){.task.fn = on_kick, .id = e->id});
}

// Of one that leaves, too: what it may have died of is still asked.
void parts_worker_gone(struct gateway *g, uint32_t place, uint32_t pid, bool crashed)
{
    for (const struct endpoint *e = g->fleet.endpoints; e; e = e->next) {
        if (e->number == place)
            carry_word(
                g, &(struct word){
                       .task.fn = on_process_gone, .id = e->id, .pid = pid, .crashed = crashed});
    }
}

// On the main thread. Each loop finds it out by itself: one word is enough.
static void on_hangs(struct loop *l, struct loop_task *t)
{
    struct word *w = container_of(t, struct word, task);
    struct gateway *g = w->part->gateway;
    struct endpoint *e = g->fleet.endpoints;
    (void)l;
    while (e && e->id != w->id)
        e = e->next;
    if (e && e->hung_pid != w->pid && gateway_say_hangs(g, e->number, w->pid))
        e->hung_pid = w->pid;
    mem_free(w);
}

void parts_worker_hangs(struct part *p, unsigned id, uint32_t pid)
{
    struct gateway *g = p->gateway;
    const struct link *l = part_link(p, id);
    struct word *w = l && l->endpoint->local && pid ? mem_zalloc(sizeof(*w)) : NULL;
    if (!w)
        return;
    *w = (struct word){.task.fn = on_hangs, .part = p, .id = id, .pid = pid};
    loop_post_task(p->loop, &g->main, &w->task);
}
