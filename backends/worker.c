#include "backends/worker.h"

#include "backends/backoff.h"
#include "base/check.h"
#include "base/json.h"
#include "base/mem.h"
#include "infer/oip_grpc.h"

#define SERVICE "/inference.GRPCInferenceService/"
#define ASK_TIMEOUT_US 5000000 // of one question while ASKING
#define PROBE_WAITS 8 // times its own time-out that a probe is waited for while octets come

// What we ask a server, one question at a time.
enum ask {
    ASK_NOTHING,
    ASK_READY,    // ServerReady: first thing on a connection, and every probe
    ASK_INDEX,    // RepositoryIndex: which models
    ASK_METADATA, // ModelMetadata of models[asked]
    ASK_CONFIG,   // ModelConfig of models[asked]
};

struct served { // one model that the worker has told us of
    struct arena arena;
    struct model_metadata meta;
    struct view name;
    bool listed; // by the newest index
    bool told;   // on_model was called
    bool bad;    // its metadata could not be had or read: not asked again on this connection
};

struct worker {
    struct loop *loop;
    struct peer *peer;
    struct worker_config config;
    const struct worker_ops *ops;
    void *ctx;
    enum worker_state state;
    uint64_t since_us;
    struct backoff backoff;
    struct wheel_timer reconnect, probe, patience; // patience: the open question's time-out
    enum ask ask;
    struct http_call *asking;
    struct arena ask_arena; // the question's octets
    unsigned asked;         // models[asked] is being asked about
    unsigned failures;      // probes in a row
    uint64_t heard;    // octets that had come when we last looked: more of them are a sign of life
    unsigned waits;    // how often such a sign has prolonged the open question
    bool no_index;     // the server does not know RepositoryIndex
    const char *dying; // why the connection is being given up; NULL: it is not
    struct loop_call bury;  // gives it up at the next turn: we may be inside one of its callbacks
    struct served **models; // [n_models]
    unsigned n_models;
    struct worker_stats stats;
    char name[64];
};

static void enter(struct worker *w, enum worker_state state)
{
    w->state = state;
    w->since_us = loop_now_us(w->loop);
}

// ---- models ------------------------------------------------------------------------------------------

static void served_free(struct served *m)
{
    arena_deinit(&m->arena);
    mem_free(m);
}

static void forget_models(struct worker *w)
{
    for (unsigned i = 0; i < w->n_models; i++)
        served_free(w->models[i]);
    w->n_models = 0;
}

static struct served *find_model(struct worker *w, struct view name)
{
    for (unsigned i = 0; i < w->n_models; i++) {
        if (view_eq(w->models[i]->name, name))
            return w->models[i];
    }
    return NULL;
}

static void list_model(struct worker *w, struct view name)
{
    struct served *m = find_model(w, name);
    if (m) {
        m->listed = true;
        return;
    }
    if (!model_name_ok(name) || w->n_models == WORKER_MAX_MODELS)
        return;
    m = mem_zalloc(sizeof(*m));
    if (!m)
        return;
    arena_init(&m->arena, 1024);
    m->name = arena_copy(&m->arena, name);
    if (!m->name.p) {
        served_free(m);
        return;
    }
    m->listed = true;
    w->models[w->n_models++] = m;
}

// A model that was reloaded under another version is another model: it goes and comes again.
static bool serves(const struct served *m, struct view version)
{
    if (!m->told || version.n == 0)
        return true;
    for (unsigned i = 0; i < m->meta.n_versions; i++) {
        if (view_eq(m->meta.versions[i], version))
            return true;
    }
    return false;
}

static void drop_unlisted(struct worker *w)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < w->n_models; i++) {
        struct served *m = w->models[i];
        if (m->listed) {
            w->models[kept++] = m;
            continue;
        }
        if (m->told)
            w->ops->on_model_gone(w, m->name, w->ctx);
        served_free(m);
    }
    w->n_models = kept;
}

// ---- questions ---------------------------------------------------------------------------------------

static void give_up(struct worker *w, const char *why);

static void ask(struct worker *w, enum ask what, struct view method, struct view message)
{
    struct http_seg seg = {(const uint8_t *)message.p, message.n, NULL};
    uint64_t timeout = w->state == WORKER_READY ? w->config.probe_timeout_us : ASK_TIMEOUT_US;
    struct http_client *client = peer_client(w->peer);
    w->ask = what;
    w->asking =
        client ? http_client_call(client, method, &seg, message.n ? 1 : 0, timeout, w) : NULL;
    if (w->asking)
        peer_touch(w->peer);
    // No stream to be had is no answer: the patience timer counts it as a failure.
    w->heard = peer_bytes_in(w->peer);
    w->waits = 0;
    wheel_set(loop_wheel(w->loop), &w->patience, loop_now_us(w->loop) + timeout);
}

static void ask_ready(struct worker *w)
{
    arena_reset(&w->ask_arena);
    ask(w, ASK_READY, VIEW(SERVICE "ServerReady"), VIEW(""));
}

static void ask_index(struct worker *w)
{
    arena_reset(&w->ask_arena);
    ask(w, ASK_INDEX, VIEW(SERVICE "RepositoryIndex"), oip_grpc_index_request(&w->ask_arena, true));
}

static void ask_model(struct worker *w, enum ask what)
{
    arena_reset(&w->ask_arena);
    struct view message =
        oip_grpc_model_request(&w->ask_arena, w->models[w->asked]->name, VIEW(""));
    ask(w, what, what == ASK_METADATA ? VIEW(SERVICE "ModelMetadata") : VIEW(SERVICE "ModelConfig"),
        message);
}

// The questions are over for now: tell, and set the next probe.
static void ask_done(struct worker *w)
{
    w->ask = ASK_NOTHING;
    wheel_cancel(loop_wheel(w->loop), &w->patience);
    wheel_set(loop_wheel(w->loop), &w->probe, loop_now_us(w->loop) + w->config.probe_interval_us);
    if (w->state != WORKER_READY) {
        enter(w, WORKER_READY);
        backoff_reset(&w->backoff);
        w->ops->on_ready(w, w->ctx);
    }
}

// The next model that we know by name only, or the end.
static void ask_next(struct worker *w)
{
    for (w->asked = 0; w->asked < w->n_models; w->asked++) {
        if (!w->models[w->asked]->told && !w->models[w->asked]->bad) {
            ask_model(w, ASK_METADATA);
            return;
        }
    }
    ask_done(w);
}

static void on_ready_answer(struct worker *w, struct view message)
{
    bool ready = false;
    if (!oip_grpc_read_ready(message, &ready) || !ready) {
        // Alive but not ready (Triton while loading): ask again soon; nothing is dispatched meanwhile.
        if (w->state == WORKER_READY)
            give_up(w, "the worker says that it is not ready");
        else {
            w->ask = ASK_NOTHING;
            wheel_cancel(loop_wheel(w->loop), &w->patience);
            wheel_set(loop_wheel(w->loop), &w->probe, loop_now_us(w->loop) + 100000);
        }
        return;
    }
    w->failures = 0;
    if (!w->no_index) {
        ask_index(w);
        return;
    }
    for (unsigned i = 0; i < w->config.n_known_models; i++)
        list_model(w, w->config.known_models[i]);
    ask_next(w);
}

static bool index_ready(const struct oip_index_model *m)
{
    return m->state.n == 0 || view_is(m->state, "READY");
}

static void mark_listed(struct worker *w, const struct oip_index *index)
{
    for (unsigned i = 0; i < w->n_models; i++)
        w->models[i]->listed = w->models[i]->bad = false;
    for (unsigned i = 0; i < index->n; i++) {
        struct served *m = find_model(w, index->models[i].name);
        if (m && index_ready(&index->models[i]) && serves(m, index->models[i].version))
            m->listed = true;
    }
}

static void on_index_answer(struct worker *w, struct view message)
{
    struct oip_index index;
    struct arena arena;
    arena_init(&arena, 4096);
    if (oip_grpc_read_index(&arena, message, &index)) {
        mark_listed(w, &index);
        drop_unlisted(w);
        for (unsigned i = 0; i < index.n; i++) {
            if (index_ready(&index.models[i]))
                list_model(w, index.models[i].name);
        }
    }
    arena_deinit(&arena);
    ask_next(w);
}

static void tell_model(struct worker *w, struct served *m)
{
    m->told = true;
    w->ops->on_model(w, &m->meta, w->ctx);
}

static void on_metadata_answer(struct worker *w, struct view message)
{
    struct served *m = w->models[w->asked];
    struct error e;
    struct view kept = arena_copy(&m->arena, message); // the views of m->meta point into it
    if (!oip_grpc_read_metadata(&m->arena, kept, &m->meta, &e)) {
        m->bad = true;
        ask_next(w);
        return;
    }
    ask_model(w, ASK_CONFIG);
}

static void on_config_answer(struct worker *w, struct view message)
{
    struct served *m = w->models[w->asked];
    uint32_t max_batch = 0;
    if (oip_grpc_read_config(message, &max_batch))
        m->meta.max_batch = max_batch;
    tell_model(w, m);
    ask_next(w);
}

// An answer that is an error, or none at all.
static void on_ask_failed(struct worker *w, enum ask what, int grpc_status)
{
    switch (what) {
    case ASK_INDEX:
        if (grpc_status == 12) { // UNIMPLEMENTED: a plain OIP server; ask for what the file names
            w->no_index = true;
            ask_ready(w);
            return;
        }
        break;
    case ASK_METADATA: // listed, but gone or still loading: the next index will tell
        w->models[w->asked]->bad = true;
        ask_next(w);
        return;
    case ASK_CONFIG: // ModelConfig is Triton's extension: without it the model is served singly
        if (grpc_status >= 0) {
            on_config_answer(w, VIEW(""));
            return;
        }
        break;
    default:
        break;
    }
    if (++w->failures >= w->config.probe_failures || w->state != WORKER_READY) {
        give_up(w, "the worker does not answer probes");
        return;
    }
    w->stats.probe_failures++;
    w->ask = ASK_NOTHING;
    wheel_set(loop_wheel(w->loop), &w->probe, loop_now_us(w->loop) + w->config.probe_interval_us);
}

static void on_ask_end(struct worker *w, struct http_call *call, enum http_call_end end)
{
    enum ask what = w->ask;
    w->asking = NULL;
    wheel_cancel(loop_wheel(w->loop), &w->patience);
    if (what == ASK_NOTHING || end == CALL_LOST)
        return; // on_down follows
    if (end != CALL_ANSWERED || call->grpc_status != 0) {
        on_ask_failed(w, what, end == CALL_ANSWERED ? call->grpc_status : -1);
        return;
    }
    struct view message = call->body ? view_of(call->body->data, call->body_bytes) : VIEW("");
    switch (what) {
    case ASK_READY:
        on_ready_answer(w, message);
        break;
    case ASK_INDEX:
        on_index_answer(w, message);
        break;
    case ASK_METADATA:
        on_metadata_answer(w, message);
        break;
    case ASK_CONFIG:
        on_config_answer(w, message);
        break;
    case ASK_NOTHING:
        break;
    }
}

static void on_patience(struct wheel_timer *t, uint64_t now_us)
{
    struct worker *w = container_of(t, struct worker, patience);
    uint64_t heard = peer_bytes_in(w->peer);
    // Its answer may wait behind others on a slow line. Not for ever: window updates come from a server whose
    // transport lives and which answers nothing.
    if (w->state == WORKER_READY && heard != w->heard && w->waits++ < PROBE_WAITS) {
        w->heard = heard;
        wheel_set(loop_wheel(w->loop), t, now_us + w->config.probe_timeout_us);
        return;
    }
    if (w->asking) {
        http_call_cancel(w->asking); // its end comes as CALL_CANCELLED: a failure
        peer_touch(w->peer);
    } else {
        on_ask_failed(w, w->ask, -1);
    }
}

static void on_probe(struct wheel_timer *t, uint64_t now_us)
{
    (void)now_us;
    struct worker *w = container_of(t, struct worker, probe);
    if (w->state < WORKER_ASKING || w->ask != ASK_NOTHING)
        return;
    w->stats.probes++;
    ask_ready(w);
}

// ---- the connection ----------------------------------------------------------------------------------

static void went_down(struct worker *w, const char *why)
{
    struct wheel *wheel = loop_wheel(w->loop);
    wheel_cancel(wheel, &w->probe);
    wheel_cancel(wheel, &w->patience);
    loop_defer_cancel(&w->bury);
    w->dying = NULL;
    w->ask = ASK_NOTHING;
    w->asking = NULL;
    w->failures = 0;
    w->stats.losses += w->state >= WORKER_ASKING;
    enter(w, WORKER_DOWN);
    w->ops->on_down(w, why, w->ctx);
    forget_models(w);
    wheel_set(wheel, &w->reconnect,
              loop_now_us(w->loop) + backoff_next_us(&w->backoff, &w->loop->rand));
}

static void give_up(struct worker *w, const char *why)
{
    if (w->state == WORKER_DOWN || w->dying)
        return;
    w->dying = why;
    loop_defer(w->loop, &w->bury);
}

static void on_bury(struct loop *l, struct loop_call *c)
{
    (void)l;
    struct worker *w = container_of(c, struct worker, bury);
    const char *why = w->dying;
    w->ask = ASK_NOTHING; // the open question's end is of no interest
    peer_close(w->peer);  // calls end CALL_LOST from inside
    went_down(w, why);
}

static void on_peer_up(struct peer *p, void *ctx)
{
    struct worker *w = ctx;
    (void)p;
    w->stats.connects++;
    enter(w, WORKER_ASKING);
    ask_ready(w);
}

static void on_peer_down(struct peer *p, const char *why, void *ctx)
{
    (void)p;
    went_down(ctx, why);
}

static void on_peer_end(struct http_call *call, enum http_call_end end, void *ctx)
{
    struct worker *w = ctx;
    if (call->user == w) {
        on_ask_end(w, call, end);
        return;
    }
    w->stats.in_flight--;
    w->ops->on_infer_end(w, call, end, call->user, w->ctx);
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
    w->probe.fn = on_probe;
    w->patience.fn = on_patience;
    w->bury.fn = on_bury;
    size_t n = strnlen(c->name, sizeof(w->name) - 1);
    memcpy(w->name, c->name, n);
    w->config.name = w->name;
    arena_init(&w->ask_arena, 512);
    struct peer_config peer = {
        .addr = c->addr,
        .tls = c->tls,
        .limits = {.max_answer = c->max_answer, .frame_bytes = 1 << 20, .window_bytes = 16 << 20}};
    w->models = mem_zalloc(WORKER_MAX_MODELS * sizeof(*w->models));
    w->peer = w->models ? peer_new(l, &peer, &peer_ops, w) : NULL;
    if (!w->peer) {
        mem_free(w->models);
        mem_free(w);
        return NULL;
    }
    enter(w, WORKER_DOWN);
    return w;
}

void worker_start(struct worker *w)
{
    wheel_set(loop_wheel(w->loop), &w->reconnect, loop_now_us(w->loop));
}

void worker_free(struct worker *w)
{
    if (!w)
        return;
    struct wheel *wheel = loop_wheel(w->loop);
    w->ask = ASK_NOTHING;
    loop_defer_cancel(&w->bury);
    peer_free(w->peer);
    wheel_cancel(wheel, &w->reconnect);
    wheel_cancel(wheel, &w->probe);
    wheel_cancel(wheel, &w->patience);
    forget_models(w);
    arena_deinit(&w->ask_arena);
    mem_free(w->models);
    mem_free(w);
}

enum worker_state worker_state(const struct worker *w)
{
    return w->state;
}

const char *worker_name(const struct worker *w)
{
    return w->name;
}

void worker_kick(struct worker *w)
{
    backoff_reset(&w->backoff);
    if (w->state == WORKER_DOWN)
        wheel_set(loop_wheel(w->loop), &w->reconnect, loop_now_us(w->loop));
}

void worker_suspect(struct worker *w, const char *why)
{
    if (w->state >= WORKER_ASKING)
        give_up(w, why);
}

const struct model_metadata *worker_model(struct worker *w, struct view name)
{
    const struct served *m = find_model(w, name);
    return m && m->told ? &m->meta : NULL;
}

struct http_call *worker_infer(struct worker *w, const struct http_seg *segs, unsigned n,
                               uint64_t timeout_us, void *user)
{
    struct http_client *client =
        w->state == WORKER_READY && !w->dying ? peer_client(w->peer) : NULL;
    if (!client)
        return NULL;
    struct http_call *call =
        http_client_call(client, VIEW(SERVICE "ModelInfer"), segs, n, timeout_us, user);
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

void worker_stats(const struct worker *w, struct worker_stats *out)
{
    *out = w->stats;
    out->models = w->n_models;
    out->since_us = w->since_us;
}

// ---- what it says of itself --------------------------------------------------------------------------

static void show_number(struct json_writer *out, struct view key, uint64_t value)
{
    json_w_key(out, key);
    json_w_u64(out, value);
}

void worker_show(const struct worker *w, struct json_writer *out)
{
    static const char *const state[] = {"down", "connecting", "asking", "ready"};
    json_w_object(out);
    json_w_key(out, VIEW("name"));
    json_w_string(out, view_str(w->name));
    json_w_key(out, VIEW("state"));
    json_w_string(out, view_str(state[w->state]));
    show_number(out, VIEW("state_us"), loop_now_us(w->loop) - w->since_us);
    show_number(out, VIEW("connects"), w->stats.connects);
    show_number(out, VIEW("losses"), w->stats.losses);
    show_number(out, VIEW("probes"), w->stats.probes);
    show_number(out, VIEW("probes_failed"), w->stats.probe_failures);
    show_number(out, VIEW("calls"), w->stats.calls);
    show_number(out, VIEW("in_flight"), w->stats.in_flight);
    json_w_key(out, VIEW("models"));
    json_w_array(out);
    for (unsigned i = 0; i < w->n_models; i++)
        json_w_string(out, w->models[i]->name);
    json_w_array_end(out);
    if (w->state != WORKER_READY && w->state != WORKER_ASKING && w->stats.in_flight > 0) {
        json_w_key(out, VIEW("wrong"));
        json_w_string(out, VIEW("calls are in flight without a connection"));
    }
    json_w_object_end(out);
}

#ifdef SLUICE_DOORS
void worker_skew(struct worker *w, uint64_t us)
{
    struct wheel_timer *t = w->ask == ASK_NOTHING ? &w->probe : &w->patience;
    if (wheel_is_set(t))
        wheel_set(loop_wheel(w->loop), t, t->at_us > us ? t->at_us - us : 0);
}
#endif
