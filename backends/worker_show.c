// What a worker's connection says of itself.
#include "backends/worker_inner.h"
#include "base/json.h"

void worker_stats(const struct worker *w, struct worker_stats *out)
{
    *out = w->stats;
    out->models = w->believed ? w->believed->n_usable : 0;
    out->since_us = w->since_us;
}

static void show_number(struct json_writer *out, struct view key, uint64_t value)
{
    json_w_key(out, key);
    json_w_u64(out, value);
}

static void show_counts(const struct worker *w, struct json_writer *out)
{
    show_number(out, VIEW("connects"), w->stats.connects);
    show_number(out, VIEW("losses"), w->stats.losses);
    show_number(out, VIEW("probes"), w->stats.probes);
    show_number(out, VIEW("probes_failed"), w->stats.probes_missed);
    show_number(out, VIEW("rounds"), w->stats.rounds);
    show_number(out, VIEW("calls"), w->stats.calls);
    show_number(out, VIEW("in_flight"), w->stats.in_flight);
}

static void show_text(struct json_writer *out, struct view key, struct view text)
{
    if (text.n == 0)
        return;
    json_w_key(out, key);
    json_w_string(out, text);
}

static struct view why_unused(const struct worker *w, const struct roster_model *m,
                              const char *(*why_not)(struct view name, void *ctx))
{
    return roster_usable(m) ? view_str(why_not(m->name, w->ctx)) : m->why;
}

static void show_models(const struct worker *w, const char *(*why_not)(struct view name, void *ctx),
                        struct json_writer *out)
{
    const struct roster *r = w->believed;
    json_w_key(out, VIEW("models"));
    json_w_array(out);
    for (unsigned i = 0; r && i < r->n; i++) {
        if (why_unused(w, &r->models[i], why_not).n == 0)
            json_w_string(out, r->models[i].name);
    }
    json_w_array_end(out);
    json_w_key(out, VIEW("not_usable"));
    json_w_object(out);
    for (unsigned i = 0; r && i < r->n; i++)
        show_text(out, r->models[i].name, why_unused(w, &r->models[i], why_not));
    json_w_object_end(out);
    json_w_key(out, VIEW("config_refused"));
    json_w_object(out);
    for (unsigned i = 0; r && i < r->n; i++)
        show_text(out, r->models[i].name, r->models[i].config_why);
    json_w_object_end(out);
}

static const char *what_is_wrong(const struct worker *w)
{
    if (w->state < WORKER_ASKING && (w->stats.in_flight > 0 || w->questions))
        return "calls are in flight without a connection";
    if (w->state == WORKER_READY && !w->believed)
        return "ready, and nothing is believed of it";
    if (w->state != WORKER_READY && w->believed)
        return "not ready, and models are served";
    return NULL;
}

void worker_show(const struct worker *w, const char *(*why_not)(struct view name, void *ctx),
                 struct json_writer *out)
{
    const char *wrong = what_is_wrong(w);
    json_w_object(out);
    json_w_key(out, VIEW("name"));
    json_w_string(out, view_str(w->name));
    json_w_key(out, VIEW("state"));
    json_w_string(out, view_str(worker_state_name[w->state]));
    show_number(out, VIEW("state_us"), loop_now_us(w->loop) - w->since_us);
    json_w_key(out, VIEW("owner"));
    json_w_bool(out, w->config.owner);
    show_number(out, VIEW("pid"), w->pid);
    show_counts(w, out);
    show_models(w, why_not, out);
    if (wrong) {
        json_w_key(out, VIEW("wrong"));
        json_w_string(out, view_str(wrong));
    }
    json_w_object_end(out);
}
