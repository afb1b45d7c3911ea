#include "worker/serve.h"

#include "base/check.h"
#include "base/version.h"
#include "net/memory.h"

static struct worker_request *request_of(struct serving *s)
{
    return container_of(s, struct worker_request, serving);
}

// ---- models ------------------------------------------------------------------------------------------

static struct served *model_of(struct serving *s, struct error *e)
{
    return repository_find(request_of(s)->batches->repository, s->call.model, s->call.version, e);
}

static bool tell_ready(struct serving *s, bool *ready, struct error *e)
{
    *ready = !container_of(request_of(s)->batches, struct serve, batches)->draining;
    return s->call.model.n == 0 || model_of(s, e) != NULL;
}

static const struct model_metadata *find_metadata(struct serving *s, struct error *e)
{
    const struct served *m = model_of(s, e);
    return m ? &m->meta : NULL;
}

static bool show_index(struct serving *s, struct oip_index *index, struct error *e)
{
    const struct repository *all = request_of(s)->batches->repository;
    index->models =
        arena_array(&s->ex->arena, (size_t)all->n + all->n_refused + 1, sizeof(*index->models));
    for (const struct served *m = all->models; index->models && m; m = m->next)
        index->models[index->n++] = (struct oip_index_model){
            .name = view_str(m->name), .version = view_str(m->version), .state = VIEW("READY")};
    const struct refused *f = s->call.ready_only ? NULL : all->refused;
    for (; index->models && f; f = f->next)
        index->models[index->n++] = (struct oip_index_model){.name = view_str(f->name),
                                                             .version = view_str(f->version),
                                                             .state = VIEW("UNAVAILABLE"),
                                                             .reason = view_str(f->why)};
    return index->models || error_set(e, STATUS_UNAVAILABLE, "out of memory");
}

static bool tell_statistics(struct serving *s, struct oip_statistics *out, struct error *e)
{
    const struct repository *all = request_of(s)->batches->repository;
    struct view named = s->call.model, version = s->call.version;
    if (named.n > 0 && !model_of(s, e))
        return false;
    *out = (struct oip_statistics){
        .models = arena_array(&s->ex->arena, (size_t)all->n + 1, sizeof(*out->models))};
    for (struct served *m = all->models; out->models && m; m = m->next) {
        m->figures.name = view_str(m->name);
        m->figures.version = view_str(m->version);
        m->figures.batches = m->sizes;
        if (named.n == 0 || (view_eq(named, m->figures.name) &&
                             (version.n == 0 || view_eq(version, m->figures.version))))
            out->models[out->n++] = m->figures;
    }
    return out->models || error_set(e, STATUS_UNAVAILABLE, "out of memory");
}

// ---- inference ---------------------------------------------------------------------------------------

static bool submit_infer(struct serving *s, uint64_t now_us, struct error *e)
{
    struct worker_request *r = request_of(s);
    (void)now_us;
    if (!batches_add(r->batches, r, e))
        return false;
    batches_run(r->batches);
    return true;
}

static void abandon_infer(struct serving *s)
{
    struct worker_request *r = request_of(s);
    if (batches_remove(r->batches, r)) // else its batch comes home, and releases it
        serving_release(s);
}

static void on_work(struct loop *l, struct loop_call *c)
{
    struct worker_request *r = container_of(c, struct worker_request, work);
    if (serving_step(&r->serving, loop_now_us(l)))
        loop_defer(l, c);
}

// ---- what the HTTP room calls ------------------------------------------------------------------------

static void on_watch_timer(struct wheel_timer *t, uint64_t now_us)
{
    struct serve *s = container_of(t, struct serve, watch_timer);
    if (serving_look(&s->api, now_us))
        wheel_set(loop_wheel(s->batches.loop), t, now_us + SERVING_LOOK_US);
}

static void look_soon(struct serving *s)
{
    struct loop *l = request_of(s)->batches->loop;
    struct serve *serve = container_of(request_of(s)->batches, struct serve, batches);
    wheel_set(loop_wheel(l), &serve->watch_timer, loop_now_us(l) + SERVING_LOOK_US);
}

static const struct serving_ops serving_ops = {.bytes = sizeof(struct worker_request),
                                               .ready = tell_ready,
                                               .metadata = find_metadata,
                                               .index = show_index,
                                               .statistics = tell_statistics,
                                               .submit = submit_infer,
                                               .abandon = abandon_infer,
                                               .watched = look_soon};

static void on_head(struct exchange *ex, void *ctx)
{
    struct serve *s = ctx;
    struct loop *l = s->batches.loop;
    struct worker_request *r = serving_new(ex, &s->api, &serving_ops, loop_now_us(l));
    if (!r)
        return;
    r->batches = &s->batches;
    r->work.fn = on_work;
    r->serving.request = &r->request;
    uint64_t random[2] = {rand_u64(&l->rand), rand_u64(&l->rand)};
    serving_route(&r->serving, random, loop_now_us(l));
}

static void on_request(struct exchange *ex, void *ctx)
{
    struct worker_request *r = ex->user;
    struct loop *l = r->batches->loop;
    (void)ctx;
    if (serving_on_request(&r->serving, loop_is_spent(l), loop_now_us(l)))
        loop_defer(l, &r->work);
    loop_worked(l, r->serving.in_bytes);
}

static void on_gone(struct exchange *ex, void *ctx)
{
    struct worker_request *r = ex->user;
    (void)ctx;
    loop_defer_cancel(&r->work);
    serving_on_gone(&r->serving);
}

static void on_sent(struct exchange *ex, bool whole, void *ctx)
{
    struct worker_request *r = ex->user;
    (void)whole;
    (void)ctx;
    if (r && serving_on_sent(&r->serving)) // NULL: there was no memory for it
        loop_defer_cancel(&r->work);
}

static void on_want(struct exchange *ex, void *ctx)
{
    struct worker_request *r = ex->user;
    struct loop *l = r->batches->loop;
    uint64_t before = ex->sent_bytes;
    (void)ctx;
    if (serving_on_want(&r->serving, loop_is_spent(l), loop_now_us(l)))
        loop_defer(l, &r->work);
    loop_worked(l, ex->sent_bytes - before);
}

static void on_body(struct exchange *ex, void *ctx)
{
    struct worker_request *r = ex->user;
    (void)ctx;
    serving_on_body(&r->serving, loop_now_us(r->batches->loop));
}

static void on_refuse(struct http_conn *c, struct exchange *ex, unsigned status, const char *why,
                      void *ctx)
{
    struct serve *s = ctx;
    if (ex)
        serving_refuse(ex, &s->api, status, why, loop_now_us(s->batches.loop));
}

static bool on_charge(struct exchange *ex, int64_t delta_bytes, void *ctx)
{
    struct serve *s = ctx;
    (void)ex;
    if (delta_bytes > 0 && delta_bytes > s->most - s->held)
        return false;
    s->held += delta_bytes;
    return true;
}

const struct http_server_ops serve_ops = {.on_head = on_head,
                                          .on_request = on_request,
                                          .on_body = on_body,
                                          .on_gone = on_gone,
                                          .on_sent = on_sent,
                                          .on_want = on_want,
                                          .on_refuse = on_refuse,
                                          .on_charge = on_charge};

void serve_init(struct serve *s, struct loop *l, struct repository *r)
{
    struct api_carry carry = {server_respond, server_flow, server_wake, loop_blocks(l)};
    *s = (struct serve){.most = memory_total() / 4};
    batches_init(&s->batches, l, r);
    api_init(&s->api, &carry, VIEW("sluice-worker"), VIEW(SLUICE_VERSION));
    s->watch_timer.fn = on_watch_timer;
}

void serve_deinit(struct serve *s)
{
    wheel_cancel(loop_wheel(s->batches.loop), &s->watch_timer);
    batches_deinit(&s->batches);
    api_deinit(&s->api);
}

bool serve_idle(const struct serve *s)
{
    return s->batches.waiting == 0 && s->batches.running == 0;
}
