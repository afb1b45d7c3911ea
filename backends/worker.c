#include "backends/worker_inner.h"

#include "base/check.h"
#include "base/mem.h"

const char *const worker_state_name[WORKER_STATES] = {
    [WORKER_DOWN] = "down",
    [WORKER_CONNECTING] = "connecting",
    [WORKER_ASKING] = "asking",
    [WORKER_READY] = "ready",
};

static void enter(struct worker *w, enum worker_state state)
{
    if (state == w->state)
        return;
    w->state = state;
    w->since_us = loop_now_us(w->loop);
    w->ops->on_state(w, w->ctx);
}

// ---- models ------------------------------------------------------------------------------------------

static bool is_same(const struct roster_model *a, const struct roster_model *b)
{
    return roster_usable(a) && roster_usable(b) && hash128_eq(a->digest, b->digest);
}

// A model that differs goes and comes again: its users must treat it as another one.
static void exchange(struct worker *w, struct roster *next)
{
    struct roster *old = w->believed;
    w->believed = next;
    for (unsigned i = 0; old && i < old->n; i++) {
        const struct roster_model *m = &old->models[i];
        if (roster_usable(m) && !is_same(m, roster_find(next, m->name)))
            w->ops->on_model_gone(w, m->name, w->ctx);
    }
    for (unsigned i = 0; next && i < next->n; i++) {
        const struct roster_model *m = &next->models[i];
        if (roster_usable(m) && !is_same(m, roster_find(old, m->name)))
            w->ops->on_model(w, &m->meta, w->ctx);
    }
    roster_unref(old);
}

void worker_believe(struct worker *w, struct roster *r)
{
    if (w->state < WORKER_ASKING || w->dying || w->draining || r == w->believed)
        return;
    exchange(w, roster_ref(r));
    backoff_reset(&w->backoff);
    enter(w, WORKER_READY);
}

void worker_repeat(struct worker *w)
{
    for (unsigned i = 0; w->believed && i < w->believed->n; i++) {
        if (roster_usable(&w->believed->models[i]))
            w->ops->on_model(w, &w->believed->models[i].meta, w->ctx);
    }
}

const struct model_metadata *worker_model(struct worker *w, struct view name)
{
    const struct roster_model *m = roster_find(w->believed, name);
    return roster_usable(m) ? &m->meta : NULL;
}

const struct roster *worker_roster(const struct worker *w)
{
    return w->believed;
}

// ---- the connection ----------------------------------------------------------------------------------

static void went_down(struct worker *w, const char *why)
{
    loop_defer_cancel(&w->bury);
    loop_defer_cancel(&w->withdraw);
    ask_down(w);
    w->dying = NULL;
    w->draining = false;
    w->pid = 0;
    w->stats.losses += w->state >= WORKER_ASKING;
    enter(w, WORKER_DOWN);
    exchange(w, NULL);
    w->ops->on_down(w, why, w->ctx);
    wheel_set(loop_wheel(w->loop), &w->reconnect,
              loop_now_us(w->loop) + backoff_next_us(&w->backoff, &w->loop->rand));
}

void worker_give_up(struct worker *w, const char *why)
{
    if (w->state < WORKER_ASKING || w->dying)
        return;
    w->dying = why;
    loop_defer(w->loop, &w->bury);
}

static void on_bury(struct loop *l, struct loop_call *c)
{
    (void)l;
    struct worker *w = container_of(c, struct worker, bury);
    peer_close(w->peer); // calls end CALL_ABANDONED from inside
    went_down(w, w->dying);
}

// W4: what runs goes on, and nothing new is sent. When the last call has ended, the peer goes down.
static void on_withdraw(struct loop *l, struct loop_call *c)
{
    (void)l;
    struct worker *w = container_of(c, struct worker, withdraw);
    if (w->draining)
        return;
    w->draining = true;
    ask_stop(w);
    enter(w, WORKER_ASKING);
    exchange(w, NULL);
    peer_touch(w->peer);
}

struct http_client *worker_line(struct worker *w)
{
    struct http_client *client =
        w->state >= WORKER_ASKING && !w->dying && !w->draining ? peer_client(w->peer) : NULL;
    if (!client || http_client_ready(client))
        return client;
    loop_defer(w->loop, &w->withdraw);
    return NULL;
}

static void on_peer_up(struct peer *p, void *ctx)
{
    struct worker *w = ctx;
    w->stats.connects++;
    w->up_us = loop_now_us(w->loop);
    w->pid = peer_pid(p);
    enter(w, WORKER_ASKING);
    ask_up(w);
    w->ops->on_up(w, w->ctx);
}

static void on_peer_down(struct peer *p, const char *why, void *ctx)
{
    (void)p;
    went_down(ctx, why);
}

static void on_peer_end(struct http_call *call, enum http_call_end end, void *ctx)
{
    struct worker *w = ctx;
    if (ask_on_end(w, call, end))
        return;
    w->stats.in_flight--;
    w->ops->on_infer_end(w, call, end, call->user, w->ctx);
    ask_owed(w);
}

static const struct peer_ops peer_ops = {
    .on_up = on_peer_up, .on_down = on_peer_down, .on_end = on_peer_end};

static void on_reconnect(struct wheel_timer *t, uint64_t now_us)
{
    (void)now_us;
    struct worker *w = container_of(t, struct worker, reconnect);
    if (w->state != WORKER_DOWN)
        return;
    enter(w, WORKER_CONNECTING);
    peer_connect(w->peer);
}

void worker_kick(struct worker *w)
{
    backoff_reset(&w->backoff);
    if (w->state == WORKER_DOWN)
        wheel_set(loop_wheel(w->loop), &w->reconnect, loop_now_us(w->loop));
}

void worker_replace(struct worker *w, const char *why)
{
    worker_give_up(w, why);
}

// ---- life --------------------------------------------------------------------------------------------

struct worker *worker_new(struct loop *l, const struct worker_config *c,
                          const struct worker_ops *ops, void *ctx)
{
    struct worker *w = mem_zalloc(sizeof(*w));
    if (!w)
        return NULL;
    w->loop = l;
    w->config = *c;
    w->ops = ops;
    w->ctx = ctx;
    w->backoff = (struct backoff){.first_us = 20000, .cap_us = 2000000};
    w->reconnect.fn = on_reconnect;
    w->bury.fn = on_bury;
    w->withdraw.fn = on_withdraw;
    size_t n = strnlen(c->name, sizeof(w->name) - 1);
    memcpy(w->name, c->name, n);
    w->config.name = w->name;
    w->since_us = loop_now_us(l);
    struct peer_config peer = {.addr = c->addr,
                               .tls = c->tls,
                               .limits = {.max_answer = c->rules.max_answer,
                                          .frame_bytes = 1 << 20,
                                          .window_bytes = 16 << 20}};
    w->peer = peer_new(l, &peer, &peer_ops, w);
    if (!w->peer) {
        mem_free(w);
        return NULL;
    }
    ask_init(w);
    return w;
}

void worker_set_rules(struct worker *w, const struct worker_rules *rules)
{
    w->config.rules = *rules;
    peer_set_max_answer(w->peer, rules->max_answer);
    ask_rules(w);
}

void worker_start(struct worker *w)
{
    wheel_set(loop_wheel(w->loop), &w->reconnect, loop_now_us(w->loop));
}

void worker_free(struct worker *w)
{
    if (!w)
        return;
    loop_defer_cancel(&w->bury);
    loop_defer_cancel(&w->withdraw);
    w->dying = "freed"; // no new calls from inside the ends of the old ones
    peer_free(w->peer);
    wheel_cancel(loop_wheel(w->loop), &w->reconnect);
    ask_free(w);
    roster_unref(w->believed);
    mem_free(w);
}

// ---- calls -------------------------------------------------------------------------------------------

// One stream is kept for a probe: else a busy server could not be asked whether it lives.
static bool has_stream(const struct worker *w, const struct http_client *client)
{
    unsigned room = http_client_room(client);
    return room > 1 || (room == 1 && w->stats.in_flight == 0);
}

struct http_call *worker_infer(struct worker *w, const struct http_header *more, unsigned n_more,
                               const struct http_seg *segs, unsigned n, uint64_t timeout_us,
                               void *user)
{
    struct http_client *client = w->state == WORKER_READY ? worker_line(w) : NULL;
    if (!client || !has_stream(w, client))
        return NULL;
    struct http_call *call =
        http_client_call(client, VIEW("/inference.GRPCInferenceService/ModelInfer"), more, n_more,
                         segs, n, timeout_us, user);
    if (!call)
        return NULL;
    w->stats.calls++;
    w->stats.in_flight++;
    peer_touch(w->peer);
    return call;
}

void worker_cancel(struct worker *w, struct http_call *call)
{
    http_call_cancel(call);
    peer_touch(w->peer);
}

// ---- what it is --------------------------------------------------------------------------------------

enum worker_state worker_state(const struct worker *w)
{
    return w->state;
}

const char *worker_name(const struct worker *w)
{
    return w->name;
}

uint32_t worker_pid(const struct worker *w)
{
    return w->pid;
}

uint64_t worker_up_us(const struct worker *w)
{
    return w->up_us;
}

#ifdef SLUICE_DOORS
void worker_skew(struct worker *w, uint64_t us)
{
    struct wheel_timer *t = &w->probe_timer;
    uint64_t now_us = loop_now_us(w->loop);
    if (!wheel_is_set(t))
        return;
    w->probe.due_us = t->at_us > now_us + us ? t->at_us - us : now_us;
    wheel_set(loop_wheel(w->loop), t, w->probe.due_us);
}
#endif
