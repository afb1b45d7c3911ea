#include "gateway/trial_pages.h"

#include "base/json.h"
#include "base/num.h"
#include "gateway/creation_pages.h"
#include "gateway/trial_store.h"
#include "net/server.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#define ALPHA 0.05    // of each interval
#define TIGHT_AT 2000 // requests for which they are narrowest

// What is not known, or has no end, is null.
static void put_number(struct json_writer *w, const char *key, double value)
{
    json_w_key(w, view_str(key));
    if (isfinite(value))
        json_w_f64(w, value);
    else
        json_w_null(w);
}

// ---- effects -----------------------------------------------------------------------------------------

static void put_interval(struct json_writer *w, const char *key, double value,
                         struct stats_interval i)
{
    json_w_key(w, view_str(key));
    json_w_object(w);
    put_number(w, "value", value);
    put_number(w, "low", i.low);
    put_number(w, "high", i.high);
    json_w_object_end(w);
}

static double rate_of(struct stats_arm a)
{
    return a.n > 0 ? a.bad / (double)a.n : NAN;
}

static void put_rate_lift(struct json_writer *w, const char *key, struct stats_arm control,
                          struct stats_arm variant)
{
    put_interval(w, key, rate_of(variant) - rate_of(control),
                 stats_rate_lift(control, variant, ALPHA));
}

// The sum is exact; of the squares each is taken at the upper edge of its bucket, so that the interval is no narrower.
static struct stats_sum sum_of_hist(const struct hist *h)
{
    struct stats_sum s = {.n = h->count, .sum = (double)h->sum};
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        s.squares += (double)h->bucket[i] * (double)hist_upper(i) * (double)hist_upper(i);
    return s;
}

static double mean_of(const struct stats_sum *s)
{
    return s->n > 0 ? s->sum / (double)s->n : NAN;
}

static void put_lift(struct json_writer *w, const char *key, struct stats_sum control,
                     struct stats_sum variant)
{
    put_interval(w, key, mean_of(&variant) - mean_of(&control),
                 stats_lift(&control, &variant, ALPHA, TIGHT_AT));
}

static void put_quantile(struct json_writer *w, const char *key, const struct hist *h, double q)
{
    double value = h->count > 0 ? (double)hist_quantile(h, q) : NAN;
    put_interval(w, key, value, stats_quantile(h, q, ALPHA));
}

// The mean is of requests: those without a reward have had 0. One reward alone says nothing of how they vary.
static void put_reward(struct json_writer *w, const char *name, const struct stats_sum arm[2],
                       const uint64_t drawn[2], bool is_control)
{
    struct stats_sum mean[2], seen[2];
    for (unsigned i = 0; i < 2; i++) {
        mean[i] = (struct stats_sum){drawn[i], arm[i].sum, arm[i].squares};
        seen[i] = arm[i].n < 2 ? (struct stats_sum){0} : mean[i];
    }
    json_w_object(w);
    json_put_text(w, "name", name);
    json_put(w, "posted", arm[1].n);
    put_number(w, "sum", arm[1].sum);
    put_interval(w, "mean", mean_of(&mean[1]), stats_mean(&seen[1], ALPHA, TIGHT_AT));
    if (!is_control)
        put_interval(w, "against_control", mean_of(&mean[1]) - mean_of(&mean[0]),
                     stats_lift(&seen[0], &seen[1], ALPHA, TIGHT_AT));
    json_w_object_end(w);
}

static void put_rewards(struct json_writer *w, const struct gateway *g, const struct trial_run *run,
                        unsigned variant, uint64_t drawn_control, uint64_t drawn)
{
    const struct config_experiment *c = run->place->keeps[run->index].config;
    struct stats_sum control[CONFIG_MAX_REWARDS], own[CONFIG_MAX_REWARDS];
    trials_rewards(g, run, 0, control);
    trials_rewards(g, run, variant, own);
    json_w_key(w, VIEW("rewards"));
    json_w_array(w);
    for (unsigned i = 0; i < c->reward_count; i++)
        put_reward(w, c->rewards[i], (struct stats_sum[2]){control[i], own[i]},
                   (uint64_t[2]){drawn_control, drawn}, variant == 0);
    json_w_array_end(w);
}

// What is counted of a variant, and how it compares with the control.
static void put_effects(struct json_writer *w, const struct gateway *g, const struct trial_run *run,
                        unsigned variant)
{
    static struct hist took[2]; // the main thread's; too large for its stack
    struct guard_counts own = trials_counts(g, run, variant, &took[1]);
    struct guard_counts control = trials_counts(g, run, 0, &took[0]);
    struct stats_sum latency = sum_of_hist(&took[1]);
    json_put(w, "requests", own.drawn);
    json_put(w, "judged", own.errors.n);
    json_put(w, "errors", (uint64_t)own.errors.bad);
    json_put(w, "answers", own.fallbacks.n);
    json_put(w, "fallbacks", (uint64_t)own.fallbacks.bad);
    json_put(w, "settled", own.rewards.n);
    put_number(w, "gained", (double)own.rewards.n - own.rewards.bad);
    put_interval(w, "error_rate", rate_of(own.errors), stats_rate(own.errors, ALPHA));
    put_interval(w, "latency_mean_us", mean_of(&latency), stats_mean(&latency, ALPHA, TIGHT_AT));
    put_quantile(w, "latency_p50_us", &took[1], 0.5);
    put_quantile(w, "latency_p99_us", &took[1], 0.99);
    put_rewards(w, g, run, variant, control.drawn, own.drawn);
    if (variant == 0)
        return;
    json_w_key(w, VIEW("against_control"));
    json_w_object(w);
    put_rate_lift(w, "error_rate", control.errors, own.errors);
    put_rate_lift(w, "fallback_rate", control.fallbacks, own.fallbacks);
    put_lift(w, "latency_mean_us", sum_of_hist(&took[0]), latency);
    json_w_object_end(w);
}

// ---- what stands --------------------------------------------------------------------------------------

static void put_guards(struct json_writer *w, const struct trial_run *run, unsigned variant)
{
    json_w_key(w, VIEW("guards"));
    json_w_array(w);
    for (unsigned k = 0; k < GUARD_KINDS; k++) {
        if (!run->guards.rules.on[k])
            continue;
        json_w_object(w);
        json_put_text(w, "guard", guard_name[k]);
        if (k >= GUARD_PAIRS)
            put_number(w, "limit", run->guards.rules.limit[k]);
        put_number(w, "evidence", guards_evidence(&run->guards, k, variant));
        put_number(w, "needed", guards_needed(&run->guards));
        json_w_object_end(w);
    }
    json_w_array_end(w);
}

static void put_variants(struct json_writer *w, const struct gateway *g,
                         const struct trial_run *run)
{
    const struct experiment *e = &run->place->site.experiments[run->index];
    json_w_key(w, VIEW("variants"));
    json_w_array(w);
    for (unsigned v = 0; v < run->state.n_variants; v++) {
        json_w_object(w);
        json_put_text(w, "name", run->state.variant[v]);
        json_w_key(w, VIEW("model"));
        json_w_string(w, e->variants[v].model);
        json_put(w, "weight_ppm", run->state.weight[v]);
        put_effects(w, g, run, v);
        if (v > 0 && trials_watched(run))
            put_guards(w, run, v);
        json_w_object_end(w);
    }
    json_w_array_end(w);
}

// NULL: its section stands in gateway.conf.
static const struct created *created_of(const struct gateway *g, const struct trial_run *run)
{
    return run->place->keeps[run->index].config->created
               ? creations_find(g, view_str(run->state.name))
               : NULL;
}

static void put_state(struct json_writer *w, const struct trial_run *run)
{
    const struct trial_state *s = &run->state;
    json_put_text(w, "name", s->name);
    json_w_key(w, VIEW("model"));
    json_w_string(w, run->place->site.model);
    json_put(w, "revision", s->revision);
    json_put_text(w, "status", trial_status_name[s->status]);
    if (s->status == TRIAL_PROMOTED)
        json_put_text(w, "promoted", s->variant[s->promoted]);
    json_put(w, "at_ms", s->at_us / 1000);
    json_put_text(w, "who", s->who);
    json_put_text(w, "why", s->why);
    json_put_bool(w, "kept", run->kept);
    json_put_bool(w, "from_file",
                  s->counts_from == s->revision && strcmp(s->who, "gateway.conf") == 0);
    json_put_bool(w, "watched", trials_watched(run));
    json_put_bool(w, "skewed", run->skewed);
}

// text: of one that was created, too.
static void put_members(struct json_writer *w, const struct gateway *g, const struct trial_run *run,
                        bool text)
{
    const struct created *made = created_of(g, run);
    put_state(w, run);
    json_put_bool(w, "acts", trial_store_leads(g, run));
    json_put_bool(w, "created", made != NULL);
    if (made && text)
        json_put_view(w, "definition", buffer_view(&made->it.text));
    put_variants(w, g, run);
}

static void put_experiment(struct json_writer *w, const struct gateway *g,
                           const struct trial_run *run, bool text)
{
    json_w_object(w);
    put_members(w, g, run, text);
    json_w_object_end(w);
}

// Those that were created, and are not in force.
static void put_kept_out(struct json_writer *w, const struct gateway *g)
{
    json_w_key(w, VIEW("kept_out"));
    json_w_array(w);
    for (const struct created *c = g->creations.first; c; c = c->next) {
        if (!c->told[0])
            continue;
        json_w_object(w);
        json_put_text(w, "name", c->it.name);
        json_put_text(w, "why", c->told);
        json_put_text(w, "who", c->it.who);
        json_put(w, "at_ms", c->it.at_us / 1000);
        json_w_object_end(w);
    }
    json_w_array_end(w);
}

void trial_pages_list(struct exchange *ex, void *gateway)
{
    struct gateway *g = gateway;
    struct admin_json page;
    struct json_writer *w = admin_json_begin(&page);
    json_w_key(w, VIEW("experiments"));
    json_w_array(w);
    const struct experiments *all = g->snap->experiments; // in their order
    for (unsigned i = 0; all && i < all->n; i++) {
        for (unsigned k = 0; k < all->places[i].site.n; k++) {
            const struct trial_run *run = trials_find(g, all->places[i].site.experiments[k].name);
            if (run)
                put_experiment(w, g, run, false);
        }
    }
    json_w_array_end(w);
    put_kept_out(w, g);
    admin_json_end(&page, ex, 200);
}

void trial_pages_tell(struct exchange *ex, unsigned status, const struct gateway *g,
                      const struct trial_run *run)
{
    struct admin_json page;
    put_members(admin_json_begin(&page), g, run, true);
    admin_json_end(&page, ex, status);
}

// 409, with what is there.
static void conflict(struct exchange *ex, const struct gateway *g, const struct trial_run *run,
                     uint64_t expected, const char *why)
{
    struct admin_json page;
    struct json_writer *w = admin_json_begin(&page);
    json_put_text(w, "error", why);
    if (expected > 0)
        json_put(w, "expected_revision", expected);
    json_w_key(w, VIEW("is"));
    put_experiment(w, g, run, false);
    admin_json_end(&page, ex, 409);
}

// Somebody else was there before.
void trial_pages_conflict(struct exchange *ex, const struct gateway *g, const struct trial_run *run,
                          uint64_t expected)
{
    const struct trial_state *s = &run->state;
    char why[TRIAL_CAUSE + TRIAL_WHO];
    snprintf(why, sizeof(why), "revision: expected %llu, it is %llu: %s, by %s",
             (unsigned long long)expected, (unsigned long long)s->revision,
             trial_status_name[s->status], s->who);
    conflict(ex, g, run, expected, why);
}

static void refuse_name(struct exchange *ex)
{
    admin_refuse(ex, 404, VIEW("experiment: expected one that is in force"));
}

void trial_pages_show(struct exchange *ex, void *gateway)
{
    struct gateway *g = gateway;
    struct view name =
        view_of(ex->path.p + sizeof(TRIAL_PATH) - 1, ex->path.n - (sizeof(TRIAL_PATH) - 1));
    const struct trial_run *run = trials_find(g, name);
    if (run)
        trial_pages_tell(ex, 200, g, run);
    else
        refuse_name(ex);
}

// ---- what is to become of it --------------------------------------------------------------------------

static const char *const verb_name[] = {[TRIAL_WEIGH] = "weights",
                                        [TRIAL_RESUME] = "resume",
                                        [TRIAL_PAUSE] = "pause",
                                        [TRIAL_ROLL_BACK] = "rollback",
                                        [TRIAL_PROMOTE] = "promote"};
#define VERBS (sizeof(verb_name) / sizeof(verb_name[0]))

struct wish { // of a POST
    enum trial_verb verb;
    uint64_t revision; // 0: not said
    bool weighed;      // weights has been said
    bool promoted;     // variant has been
    unsigned variant;
    bool said[EXPERIMENT_VARIANTS];
    uint32_t weights[EXPERIMENT_VARIANTS];
    char why_text[TRIAL_WHY + 1];
    char *why; // [TRIAL_CAUSE], of a refusal
};

__attribute__((format(printf, 2, 3))) static bool refuse(struct wish *w, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(w->why, TRIAL_CAUSE, format, ap);
    va_end(ap);
    return false;
}

// The variant's place; n_variants: there is none.
static unsigned place_of(const struct trial_run *run, struct view name)
{
    unsigned v = 0;
    while (v < run->state.n_variants && !view_is(name, run->state.variant[v]))
        v++;
    return v;
}

static bool read_u64(struct json_reader *r, uint64_t most, uint64_t *out)
{
    return json_next(r) == JSON_NUMBER && num_parse_u64(r->text, out) == NUM_OK && *out <= most;
}

static bool read_revision(struct json_reader *r, struct wish *w)
{
    return (read_u64(r, TRIAL_MOST, &w->revision) && w->revision > 0) ||
           refuse(w, "revision: expected a whole number from 1");
}

static bool read_why(struct json_reader *r, struct wish *w)
{
    bool ok = json_next(r) == JSON_STRING && !r->escaped && r->text.n <= TRIAL_WHY;
    if (!ok)
        return refuse(w, "why: expected at most %u bytes, without escapes", TRIAL_WHY);
    memcpy(w->why_text, r->text.p, r->text.n);
    w->why_text[r->text.n] = '\0';
    return true;
}

static bool read_weights(struct json_reader *r, struct wish *w, const struct trial_run *run)
{
    enum json_token t;
    if (json_next(r) != JSON_OBJECT)
        return refuse(w, "weights_ppm: expected {VARIANT: N, ...}");
    w->weighed = true;
    while ((t = json_next(r)) == JSON_KEY) {
        unsigned v = place_of(run, r->text);
        uint64_t weight;
        if (v == run->state.n_variants || w->said[v])
            return refuse(w, "weights_ppm: expected the experiment's variants, each once");
        if (!read_u64(r, EXPERIMENT_WHOLE, &weight))
            return refuse(w, "weights_ppm: expected whole numbers from 0 to %u", EXPERIMENT_WHOLE);
        w->said[v] = true;
        w->weights[v] = (uint32_t)weight;
    }
    return t == JSON_OBJECT_END || refuse(w, "weights_ppm: expected {VARIANT: N, ...}");
}

static bool read_variant(struct json_reader *r, struct wish *w, const struct trial_run *run)
{
    bool text = json_next(r) == JSON_STRING;
    w->variant = text ? place_of(run, r->text) : run->state.n_variants;
    w->promoted = true;
    return w->variant < run->state.n_variants ||
           refuse(w, "variant: expected one of the experiment's");
}

static bool read_member(struct json_reader *r, struct wish *w, const struct trial_run *run)
{
    struct view key = r->text;
    if (view_is(key, "revision") && w->revision == 0)
        return read_revision(r, w);
    if (view_is(key, "why") && !w->why_text[0])
        return read_why(r, w);
    if (view_is(key, "weights_ppm") && w->verb == TRIAL_WEIGH && !w->weighed)
        return read_weights(r, w, run);
    if (view_is(key, "variant") && w->verb == TRIAL_PROMOTE && !w->promoted)
        return read_variant(r, w, run);
    return refuse(w, "body: expected %srevision and why, each once",
                  w->verb == TRIAL_WEIGH     ? "weights_ppm, "
                  : w->verb == TRIAL_PROMOTE ? "variant, "
                                             : "");
}

// Whoever is not named has what he had, and the control the rest.
static bool complete_weights(struct wish *w, const struct trial_run *run)
{
    uint64_t sum = 0;
    for (unsigned v = 0; v < run->state.n_variants; v++) {
        if (v > 0 && !w->said[v])
            w->weights[v] = run->state.weight[v];
        sum += v > 0 || w->said[v] ? w->weights[v] : 0;
    }
    if (sum > EXPERIMENT_WHOLE || (w->said[0] && sum != EXPERIMENT_WHOLE))
        return refuse(w, "weights_ppm: expected weights that add up to %u, got %llu",
                      EXPERIMENT_WHOLE, (unsigned long long)sum);
    if (!w->said[0])
        w->weights[0] = (uint32_t)(EXPERIMENT_WHOLE - sum);
    return true;
}

static bool read_wish(const struct exchange *ex, struct wish *w, const struct trial_run *run)
{
    struct json_reader r;
    enum json_token t = JSON_OBJECT_END;
    json_read(&r, buffer_view(&ex->body));
    if (buffer_len(&ex->body) > 0) {
        if (json_next(&r) != JSON_OBJECT)
            return refuse(w, "body: expected one JSON object");
        while ((t = json_next(&r)) == JSON_KEY)
            if (!read_member(&r, w, run))
                return false;
        if (t != JSON_OBJECT_END || json_next(&r) != JSON_END)
            return refuse(w, "body: expected one JSON object");
    }
    if (w->verb == TRIAL_WEIGH && !w->weighed)
        return refuse(w, "weights_ppm: expected {VARIANT: N, ...}");
    if (w->verb == TRIAL_PROMOTE && !w->promoted)
        return refuse(w, "variant: expected the one that all shall get");
    return w->verb != TRIAL_WEIGH || complete_weights(w, run);
}

// NAME/VERB behind TRIAL_PATH. False: no such verb.
static bool split_path(struct view path, struct view *name, enum trial_verb *verb)
{
    const char *at = path.p + sizeof(TRIAL_PATH) - 1, *end = path.p + path.n;
    const char *slash = memchr(at, '/', (size_t)(end - at));
    *name = view_of(at, (size_t)((slash ? slash : end) - at));
    unsigned v = 0;
    struct view word = slash ? view_of(slash + 1, (size_t)(end - slash - 1)) : VIEW("");
    while (v < VERBS && !view_is(word, verb_name[v]))
        v++;
    *verb = (enum trial_verb)v;
    return v < VERBS;
}

static bool is_delete(struct view path, struct view name)
{
    const char *verb = name.p + name.n;
    return view_is(view_of(verb, (size_t)(path.p + path.n - verb)), "/delete");
}

static void change(struct exchange *ex, struct gateway *g, struct trial_run *run,
                   const struct wish *w)
{
    char why[TRIAL_CAUSE], who[TRIAL_WHO + 1];
    snprintf(who, sizeof(who), "%.*s", VIEW_ARG(server_conn_peer(ex->conn)));
    struct trial_change c = {.verb = w->verb,
                             .weights = w->weights,
                             .variant = w->variant,
                             .stamp = {.who = view_str(who), .why = view_str(w->why_text)}};
    if (w->revision > 0 && w->revision != run->state.revision)
        trial_pages_conflict(ex, g, run, w->revision);
    else if (!trials_change(g, run, &c, ex, why))
        conflict(ex, g, run, 0, why);
}

void trial_pages_change(struct exchange *ex, void *gateway)
{
    struct gateway *g = gateway;
    char why[TRIAL_CAUSE];
    struct wish w = {.why = why};
    struct view name;
    bool verb = split_path(ex->path, &name, &w.verb);
    struct trial_run *run = trials_find(g, name);
    if (!verb && is_delete(ex->path, name))
        creation_pages_delete(ex, g, name);
    else if (!run)
        refuse_name(ex);
    else if (!verb)
        admin_refuse(
            ex, 404,
            VIEW("path: expected weights, resume, pause, rollback, promote or delete behind "
                 "the experiment's name"));
    else if (!read_wish(ex, &w, run))
        admin_refuse(ex, 400, view_str(why));
    else
        change(ex, g, run, &w);
}

void trial_pages_answer(const struct trial_put *p, const struct trial_run *run, bool done)
{
    if (!run)
        refuse_name(p->ex);
    else if (done)
        trial_pages_tell(p->ex, 200, p->gateway, run);
    else
        trial_pages_conflict(p->ex, p->gateway, run, p->next.revision - 1);
}
