#include "ctl/words.h"

#include "ctl/columns.h"
#include "ctl/units.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

// ---- members --------------------------------------------------------------------------------------------------

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text ? text : "-";
}

// Whole and not negative; false: it is not there.
static bool number_of(const json_t *o, const char *key, uint64_t *out)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return false;
    *out = (uint64_t)json_integer_value(v);
    return true;
}

// Sum of that member of an array's objects.
static uint64_t sum_of(const json_t *array, const char *key)
{
    uint64_t sum = 0, n;
    size_t i;
    const json_t *o;
    json_array_foreach(array, i, o) sum += number_of(o, key, &n) ? n : 0;
    return sum;
}

static void cell_number(struct columns *t, const json_t *o, const char *key)
{
    uint64_t n;
    if (number_of(o, key, &n))
        columns_cellf(t, "%llu", (unsigned long long)n);
    else
        columns_cell(t, NULL);
}

static void cell_unit(struct columns *t, const json_t *o, const char *key,
                      char *(*unit)(char out[UNITS_TEXT], uint64_t n))
{
    char text[UNITS_TEXT];
    uint64_t n;
    columns_cell(t, number_of(o, key, &n) ? unit(text, n) : NULL);
}

static void cell_yes(struct columns *t, const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    columns_cell(t, json_is_true(v) ? "yes" : json_is_false(v) ? "no" : NULL);
}

__attribute__((format(printf, 2, 3))) static bool say_line(struct buffer *out, const char *format,
                                                           ...)
{
    char line[1024];
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(line, sizeof(line) - 1, format, ap);
    va_end(ap);
    struct view text = view_of(line, n < 0 ? 0 : strlen(line));
    return columns_clean(out, text) && buffer_append(out, "\n", 1);
}

static bool finish_columns(struct columns *t, struct buffer *out)
{
    bool ok = columns_print(t, out);
    columns_deinit(t);
    return ok;
}

// ---- status ---------------------------------------------------------------------------------------------------

// Which is in force, and who still goes by older ones.
static bool words_of_configuration(const json_t *o, struct buffer *out)
{
    uint64_t generation;
    const json_t *older = json_object_get(o, "older");
    size_t n = json_array_size(older);
    if (!number_of(o, "generation", &generation))
        return true; // an older gateway
    if (n == 0)
        return say_line(out, "configuration %llu of %s since %s", (unsigned long long)generation,
                        text_of(o, "path"), text_of(o, "since"));
    return say_line(out, "configuration %llu of %s since %s; %zu older held by %llu requests",
                    (unsigned long long)generation, text_of(o, "path"), text_of(o, "since"), n,
                    (unsigned long long)sum_of(older, "requests"));
}

static bool words_of_process(const json_t *page, struct buffer *out)
{
    char up[UNITS_TEXT] = "-", leased[UNITS_TEXT] = "-", limit[UNITS_TEXT] = "-";
    uint64_t pid = 0, restarts = 0, n;
    if (number_of(page, "uptime_s", &n))
        units_uptime(up, n);
    if (number_of(page, "bytes_leased", &n))
        units_bytes(leased, n);
    if (number_of(page, "bytes_limit", &n))
        units_bytes(limit, n);
    number_of(page, "pid", &pid);
    number_of(page, "generation", &restarts);
    return say_line(out, "sluice %s, process %llu, %s for %s, restarts %llu, log level %s",
                    text_of(page, "version"), (unsigned long long)pid, text_of(page, "phase"), up,
                    (unsigned long long)restarts, text_of(page, "log_level")) &&
           words_of_configuration(json_object_get(page, "configuration"), out) &&
           say_line(out, "bytes in flight: %s leased of %s", leased, limit);
}

static bool words_of_listeners(const json_t *listeners, struct buffer *out)
{
    static const char *const heads[] = {"LISTENER",  "ADDRESS",      "STATE",     "TLS",
                                        "ACCEPTING", ">CONNECTIONS", ">ACCEPTED", NULL};
    struct columns t;
    size_t i;
    const json_t *o;
    columns_init(&t, heads);
    json_array_foreach(listeners, i, o)
    {
        columns_cell(&t, text_of(o, "name"));
        columns_cell(&t, text_of(o, "address"));
        columns_cell(&t, text_of(o, "state"));
        cell_yes(&t, o, "tls");
        cell_yes(&t, o, "accepting");
        cell_number(&t, o, "connections");
        cell_number(&t, o, "accepted");
    }
    return finish_columns(&t, out);
}

static bool words_of_loops(const json_t *loops, struct buffer *out)
{
    static const char *const heads[] = {">LOOP",    "ANSWERS",  ">CONNECTIONS", ">IN FLIGHT",
                                        ">STREAMS", ">ZOMBIES", ">DELAY P99",   NULL};
    struct columns t;
    size_t i;
    const json_t *o;
    columns_init(&t, heads);
    json_array_foreach(loops, i, o)
    {
        cell_number(&t, o, "index");
        cell_yes(&t, o, "answered");
        cell_number(&t, o, "connections");
        cell_number(&t, o, "in_flight");
        cell_number(&t, o, "streams");
        cell_number(&t, o, "zombies");
        cell_unit(&t, o, "delay_p99_us", units_duration);
    }
    return finish_columns(&t, out);
}

// Nothing, where there is none. One line: every loop has a connection of its own to the same store.
static bool words_of_store(const json_t *loops, struct buffer *out)
{
    const char *why = "", *state = NULL;
    unsigned up = 0, have = 0;
    size_t i;
    const json_t *o;
    json_array_foreach(loops, i, o)
    {
        const json_t *store = json_object_get(json_object_get(o, "holds"), "store");
        const char *its = text_of(store, "state");
        if (!store || strcmp(its, "none") == 0)
            continue;
        have++;
        up += strcmp(its, "up") == 0;
        if (state && strcmp(its, "up") == 0)
            continue;
        state = its;
        why = text_of(store, "why");
    }
    if (have == 0)
        return true;
    return say_line(out, "store: %s, up on %u of %u loops%s%s", state, up, have, *why ? ": " : "",
                    why);
}

bool words_of_status(const json_t *page, struct buffer *out)
{
    const json_t *listeners = json_object_get(page, "listeners");
    const json_t *loops = json_object_get(page, "loops");
    const json_t *o;
    size_t i;
    if (!json_is_array(listeners) || !json_is_array(loops))
        return false;
    bool ok = words_of_process(page, out) && words_of_store(loops, out) &&
              buffer_append(out, "\n", 1) && words_of_listeners(listeners, out) &&
              buffer_append(out, "\n", 1) && words_of_loops(loops, out);
    json_array_foreach(loops, i, o)
    {
        uint64_t index = i;
        number_of(o, "index", &index);
        if (json_is_false(json_object_get(o, "answered")))
            ok = ok && say_line(out, "loop %llu did not answer in time: it is stuck or very busy",
                                (unsigned long long)index);
    }
    return ok;
}

// ---- models ---------------------------------------------------------------------------------------------------

// What the loop at that place of "loops" told of what it holds; NULL: nothing.
static const json_t *holds_of(const json_t *page, size_t loop)
{
    return json_object_get(json_array_get(json_object_get(page, "loops"), loop), "holds");
}

// The object of an array whose `key` is `name`; or NULL.
static json_t *find_named(const json_t *array, const char *key, const char *name)
{
    size_t i;
    json_t *o;
    json_array_foreach(array, i, o)
    {
        if (strcmp(text_of(o, key), name) == 0)
            return o;
    }
    return NULL;
}

static const json_t *find_numbered(const json_t *array, uint64_t id)
{
    const json_t *o;
    uint64_t its;
    size_t i;
    json_array_foreach(array, i, o)
    {
        if (number_of(o, "id", &its) && its == id)
            return o;
    }
    return NULL;
}

// A desk knows its replicas by their numbers.
static bool name_replicas(json_t *desk, const json_t *page)
{
    const json_t *workers = json_object_get(page, "workers"), *worker;
    bool ok = true;
    size_t i;
    json_t *r;
    json_array_foreach(json_object_get(desk, "replicas"), i, r)
    {
        uint64_t id;
        if (number_of(r, "id", &id) && (worker = find_numbered(workers, id)))
            ok = ok && json_object_set_new(r, "name", json_string(text_of(worker, "name"))) == 0;
    }
    return ok;
}

static bool add_desk(json_t *model, const json_t *page)
{
    uint64_t home;
    const json_t *told = NULL;
    if (number_of(model, "home", &home))
        told = find_named(json_object_get(holds_of(page, home), "desks"), "model",
                          text_of(model, "name"));
    json_t *desk = told ? json_deep_copy(told) : json_null();
    return json_object_set_new(model, "desk", desk) == 0 && (!told || name_replicas(desk, page));
}

// A copy of that array of objects, each with what `add` finds in the page.
static json_t *pick_array(const json_t *page, const char *key,
                          bool (*add)(json_t *object, const json_t *page))
{
    const json_t *array = json_object_get(page, key);
    json_t *picked = json_is_array(array) ? json_deep_copy(array) : NULL, *o;
    bool ok = picked != NULL;
    size_t i;
    json_array_foreach(picked, i, o) ok = ok && add(o, page);
    if (ok)
        return picked;
    json_decref(picked);
    return NULL;
}

json_t *words_pick_models(const json_t *page)
{
    return pick_array(page, "models", add_desk);
}

static void cell_replicas(struct columns *t, const json_t *model)
{
    const json_t *replicas = json_object_get(json_object_get(model, "desk"), "replicas");
    uint64_t ready;
    if (!number_of(model, "ready_replicas", &ready))
        columns_cell(t, NULL);
    else if (json_is_array(replicas))
        columns_cellf(t, "%llu/%zu", (unsigned long long)ready, json_array_size(replicas));
    else
        columns_cellf(t, "%llu", (unsigned long long)ready);
}

// What it says that it can carry of its traffic.
static void cell_share(struct columns *t, const json_t *model)
{
    uint64_t ppm;
    if (number_of(model, "share_ppm", &ppm))
        columns_cellf(t, "%llu%%", (unsigned long long)(ppm + 5000) / 10000);
    else
        columns_cell(t, NULL);
}

// How long a request without a priority would wait there.
static void cell_wait(struct columns *t, const json_t *model)
{
    const json_t *lane = json_array_get(json_object_get(model, "wait_us"), 1);
    char text[UNITS_TEXT];
    bool known = json_is_integer(lane) && json_integer_value(lane) >= 0;
    columns_cell(t, known ? units_duration(text, (uint64_t)json_integer_value(lane)) : NULL);
}

// Why a replica gets no batches now; NULL: it gets them.
static const char *trouble_of(const json_t *replica)
{
    if (json_is_false(json_object_get(replica, "up")))
        return "away";
    if (json_is_true(json_object_get(replica, "differs")))
        return "kept out, what it says of the model is not what the others say";
    if (strcmp(text_of(replica, "breaker"), "open") == 0)
        return "ejected, it fails what others answer";
    if (json_object_get(replica, "paused_us"))
        return "paused, it refused";
    return NULL;
}

// The first place in the model's list of workers that is ready.
static uint64_t rank_in_force(const json_t *replicas)
{
    const json_t *r;
    uint64_t first = UINT64_MAX, rank;
    size_t i;
    json_array_foreach(replicas, i, r)
    {
        if (number_of(r, "rank", &rank) && rank < first && !trouble_of(r))
            first = rank;
    }
    return first;
}

static bool words_of_troubles(const json_t *model, struct buffer *out)
{
    const json_t *replicas = json_object_get(json_object_get(model, "desk"), "replicas"), *r;
    uint64_t first = rank_in_force(replicas), rank;
    bool ok = true;
    size_t i;
    json_array_foreach(replicas, i, r)
    {
        const char *trouble = trouble_of(r);
        if (!trouble && number_of(r, "rank", &rank) && rank > first)
            trouble = "in reserve, until those of the workers before its own are saturated or away";
        if (trouble)
            ok = ok && say_line(out, "%s: replica %s is %s", text_of(model, "name"),
                                text_of(r, "name"), trouble);
    }
    return ok;
}

bool words_of_models(const json_t *picked, struct buffer *out)
{
    static const char *const heads[] = {
        "MODEL", ">READY",       ">LEVEL", ">SHARE",         ">WAIT", ">WAITING", ">RUNNING",
        ">ROW",  ">QUEUE LIMIT", ">BATCH", ">BYTES CHARGED", ">LOOP", NULL};
    struct columns t;
    size_t i;
    const json_t *m;
    columns_init(&t, heads);
    json_array_foreach(picked, i, m)
    {
        columns_cell(&t, text_of(m, "name"));
        cell_replicas(&t, m);
        cell_number(&t, m, "level");
        cell_share(&t, m);
        cell_wait(&t, m);
        cell_number(&t, m, "waiting_rows");
        cell_number(&t, m, "running_rows");
        cell_unit(&t, m, "row_us", units_duration);
        cell_number(&t, m, "queue_limit_rows");
        cell_number(&t, m, "max_batch");
        cell_unit(&t, m, "charged_bytes", units_bytes);
        cell_number(&t, m, "home");
    }
    if (json_array_size(picked) == 0) {
        columns_deinit(&t);
        return say_line(out, "no models: no worker has told of one yet");
    }
    bool ok = finish_columns(&t, out);
    json_array_foreach(picked, i, m) ok = ok && words_of_troubles(m, out);
    return ok;
}

// ---- workers --------------------------------------------------------------------------------------------------

static bool add_held(json_t *worker, const json_t *page)
{
    json_t *held = json_array();
    bool ok = held != NULL;
    for (size_t i = 0; ok && i < json_array_size(json_object_get(page, "loops")); i++) {
        json_t *one = find_named(json_object_get(holds_of(page, i), "workers"), "name",
                                 text_of(worker, "name"));
        ok = json_array_append_new(held, one ? json_incref(one) : json_null()) == 0;
    }
    if (ok)
        return json_object_set_new(worker, "held", held) == 0; // takes it in any case
    json_decref(held);
    return false;
}

json_t *words_pick_workers(const json_t *page)
{
    return pick_array(page, "workers", add_held);
}

// What its owner knows: only one loop asks it.
static const json_t *owner_of(const json_t *worker)
{
    const json_t *held = json_object_get(worker, "held"), *o;
    size_t i;
    json_array_foreach(held, i, o)
    {
        if (json_is_true(json_object_get(o, "owner")))
            return o;
    }
    return NULL;
}

// "2/2" are ready; and of the others the first state, unless it is on its way out.
static void cell_connections(struct columns *t, const json_t *worker)
{
    const json_t *states = json_object_get(worker, "connections"), *s;
    const char *other = NULL;
    size_t i, ready = 0;
    json_array_foreach(states, i, s)
    {
        const char *state = json_string_value(s);
        bool is_ready = state && strcmp(state, "ready") == 0;
        ready += is_ready;
        if (!is_ready && !other)
            other = state;
    }
    columns_cellf(t, "%zu/%zu", ready, json_array_size(states));
    bool leaves = json_is_true(json_object_get(worker, "leaving"));
    columns_cell(t, leaves ? "leaving" : other ? other : ready > 0 ? "ready" : NULL);
}

static void cell_models(struct columns *t, const json_t *owner)
{
    const json_t *models = json_object_get(owner, "models");
    if (json_is_array(models))
        columns_cellf(t, "%zu", json_array_size(models));
    else
        columns_cell(t, NULL);
}

// The models that a worker has and that are not served, and why.
static bool words_of_unusable(const json_t *worker, struct buffer *out)
{
    json_t *unusable = json_object_get(owner_of(worker), "not_usable"), *reason;
    const char *model;
    bool ok = true;
    json_object_foreach(unusable, model, reason)
    {
        const char *why = json_string_value(reason);
        ok = ok && say_line(out, "%s: model %s is not served: %s", text_of(worker, "name"), model,
                            why ? why : "-");
    }
    return ok;
}

bool words_of_workers(const json_t *picked, struct buffer *out)
{
    static const char *const heads[] = {"WORKER",  "ADDRESS",    ">READY",  "STATE", ">PID",
                                        ">MODELS", ">IN FLIGHT", ">LOSSES", NULL};
    struct columns t;
    size_t i;
    const json_t *w;
    columns_init(&t, heads);
    json_array_foreach(picked, i, w)
    {
        const json_t *held = json_object_get(w, "held");
        columns_cell(&t, text_of(w, "name"));
        columns_cell(&t, text_of(w, "address"));
        cell_connections(&t, w);
        cell_number(&t, owner_of(w), "pid");
        cell_models(&t, owner_of(w));
        columns_cellf(&t, "%llu", (unsigned long long)sum_of(held, "in_flight"));
        columns_cellf(&t, "%llu", (unsigned long long)sum_of(held, "losses"));
    }
    bool ok = finish_columns(&t, out);
    json_array_foreach(picked, i, w) ok = ok && words_of_unusable(w, out);
    return ok;
}

// ---- one request ----------------------------------------------------------------------------------------------

// "2.1ms"; "-" where there is none.
static char *span_of(char out[UNITS_TEXT], const json_t *o, const char *key)
{
    uint64_t us;
    if (number_of(o, key, &us))
        return units_duration(out, us);
    snprintf(out, UNITS_TEXT, "-");
    return out;
}

static uint64_t count_of(const json_t *o, const char *key)
{
    uint64_t n = 0;
    number_of(o, key, &n);
    return n;
}

static bool words_of_outcome(const json_t *r, struct buffer *out)
{
    const char *why = json_string_value(json_object_get(r, "why"));
    bool cut = json_is_false(json_object_get(r, "whole"));
    return say_line(out, "%s: %llu %s%s%s%s", text_of(r, "id"),
                    (unsigned long long)count_of(r, "status"), text_of(r, "outcome"),
                    why ? ": " : "", why ? why : "",
                    cut ? "; the client has not taken all of it" : "");
}

static bool words_of_attempts(const json_t *r, struct buffer *out)
{
    const char *attempts = json_string_value(json_object_get(r, "attempts"));
    return !attempts || say_line(out, "tried %s", attempts);
}

// Of a name that stands for an experiment.
static bool words_of_draw(const json_t *r, struct buffer *out)
{
    const char *draw = json_string_value(json_object_get(r, "draw"));
    const char *experiment = json_string_value(json_object_get(r, "experiment"));
    if (!draw)
        return true;
    if (!experiment)
        return say_line(out, "took part in no experiment: %s", draw);
    return say_line(out, "experiment %s, variant %s: %s", experiment, text_of(r, "variant"), draw);
}

static bool words_of_shadow(const json_t *r, struct buffer *out)
{
    const json_t *s = json_object_get(r, "shadow");
    const char *end = json_string_value(json_object_get(s, "end"));
    const char *outcome = json_string_value(json_object_get(s, "outcome"));
    const char *verdict = json_string_value(json_object_get(s, "verdict"));
    char took[UNITS_TEXT];
    if (!json_is_object(s))
        return true;
    if (!end)
        return say_line(out, "shadow %s: not home", text_of(s, "name"));
    if (!json_object_get(s, "took_us"))
        return say_line(out, "shadow %s: not asked: %s", text_of(s, "name"), end);
    return say_line(out, "shadow %s: %s after %s%s%s%s%s", text_of(s, "name"), end,
                    span_of(took, s, "took_us"), outcome ? ": " : "", outcome ? outcome : "",
                    verdict ? ", " : "", verdict ? verdict : "");
}

static bool words_of_stages(const json_t *r, struct buffer *out)
{
    const json_t *s = json_object_get(r, "stages");
    char total[UNITS_TEXT], parse[UNITS_TEXT], queue[UNITS_TEXT], compute[UNITS_TEXT],
        deadline[UNITS_TEXT], left[UNITS_TEXT];
    uint64_t had_us;
    bool ok = say_line(out, "took %s: parse %s, queue %s, compute %s",
                       span_of(total, s, "total_us"), span_of(parse, s, "parse_us"),
                       span_of(queue, s, "queue_us"), span_of(compute, s, "compute_us"));
    if (!number_of(r, "deadline_us", &had_us))
        return ok;
    return ok && say_line(out, "had %s, of which %s were left", span_of(deadline, r, "deadline_us"),
                          span_of(left, r, "left_us"));
}

// The model, where nothing is said.
static bool words_of_source(const json_t *r, struct buffer *out)
{
    const json_t *age = json_object_get(r, "age_s");
    return !json_is_integer(age) || say_line(out, "source: %s, %lld s old", text_of(r, "source"),
                                             (long long)json_integer_value(age));
}

static bool words_of_standing(const json_t *r, struct buffer *out)
{
    const json_t *s = json_object_get(r, "admitted");
    if (!json_is_object(s))
        return say_line(out, "it was refused before its model was looked at");
    return say_line(out,
                    "found %llu replicas ready, %llu rows waiting, %llu running; of the room for "
                    "%llu rows %llu taken",
                    (unsigned long long)count_of(s, "ready_replicas"),
                    (unsigned long long)count_of(s, "waiting_rows"),
                    (unsigned long long)count_of(s, "running_rows"),
                    (unsigned long long)count_of(s, "queue_limit_rows"),
                    (unsigned long long)count_of(s, "charged_rows"));
}

static bool words_of_parts(const json_t *parts, struct buffer *out)
{
    static const char *const heads[] = {">PART",    ">ROWS",    "OUTCOME", "REPLICA", ">SENT",
                                        ">LOST",    ">REFUSED", ">BATCH",  "REASON",  ">QUEUE",
                                        ">COMPUTE", ">LEFT",    NULL};
    struct columns t;
    size_t i;
    const json_t *p;
    columns_init(&t, heads);
    json_array_foreach(parts, i, p)
    {
        bool out_there = json_is_false(json_object_get(p, "home"));
        columns_cellf(&t, "%zu", i + 1);
        cell_number(&t, p, "rows");
        columns_cell(&t, out_there ? "not home" : text_of(p, "outcome"));
        columns_cell(&t, text_of(p, "replica"));
        cell_number(&t, p, "sent");
        cell_number(&t, p, "losses");
        cell_number(&t, p, "refusals");
        cell_number(&t, p, "batch_rows");
        columns_cell(&t, text_of(p, "batch_reason"));
        cell_unit(&t, p, "queue_us", units_duration);
        cell_unit(&t, p, "compute_us", units_duration);
        cell_unit(&t, p, "left_us", units_duration);
    }
    return finish_columns(&t, out);
}

static bool words_of_step(const json_t *step, struct buffer *out)
{
    const json_t *parts = json_object_get(step, "parts");
    uint64_t tickets = count_of(step, "tickets");
    size_t shown = json_array_size(parts);
    bool ok = say_line(out, "step: model %s, version %s", text_of(step, "model"),
                       text_of(step, "version")) &&
              words_of_parts(parts, out);
    if (tickets > shown)
        ok = ok && say_line(out, "and %llu parts more", (unsigned long long)tickets - shown);
    return ok;
}

bool words_of_request(const json_t *answer, struct buffer *out)
{
    const json_t *steps = json_object_get(answer, "steps"), *step;
    size_t i;
    if (!json_is_string(json_object_get(answer, "id")) || !json_is_array(steps))
        return false;
    bool ok = words_of_outcome(answer, out) &&
              say_line(out, "arrived %s from %s by %s, loop %llu: model %s, %llu rows",
                       text_of(answer, "arrived"), text_of(answer, "client"),
                       text_of(answer, "protocol"), (unsigned long long)count_of(answer, "loop"),
                       text_of(answer, "model"), (unsigned long long)count_of(answer, "rows")) &&
              words_of_draw(answer, out) && words_of_source(answer, out) &&
              words_of_attempts(answer, out) && words_of_stages(answer, out) &&
              words_of_standing(answer, out) && words_of_shadow(answer, out);
    json_array_foreach(steps, i, step) ok = ok && words_of_step(step, out);
    return ok;
}

// ---- events ---------------------------------------------------------------------------------------------------

// "09:41:12.345" of "2026-01-02T09:41:12.345678Z"; else what stands there.
static struct view clock_of(const char *time)
{
    size_t n = strlen(time);
    return n == 27 && time[10] == 'T' ? view_of(time + 11, 12) : view_of(time, n);
}

static bool words_of_field(const char *key, const json_t *value, struct buffer *out)
{
    const char *text = json_string_value(value);
    bool quoted = text && (!*text || strpbrk(text, " =\"") != NULL);
    char *made = text ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    bool ok = (text || made) && buffer_append(out, " ", 1) && columns_clean(out, view_str(key)) &&
              buffer_append(out, quoted ? "=\"" : "=", quoted ? 2 : 1) &&
              columns_clean(out, view_str(text ? text : made)) &&
              (!quoted || buffer_append(out, "\"", 1));
    free(made);
    return ok;
}

bool words_of_event(const json_t *event, struct buffer *out)
{
    char head[200];
    const char *name = json_string_value(json_object_get(event, "event")), *key;
    if (!name)
        return false;
    struct view at = clock_of(text_of(event, "time"));
    snprintf(head, sizeof(head), "%.*s  %-5.20s  %-18.80s", at.n < 40 ? (int)at.n : 40, at.p,
             text_of(event, "level"), name);
    bool ok = columns_clean(out, view_str(head));
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)event, key, value)
    {
        if (strcmp(key, "time") != 0 && strcmp(key, "level") != 0 && strcmp(key, "event") != 0)
            ok = ok && words_of_field(key, value, out);
    }
    return ok && buffer_append(out, "\n", 1);
}

// ---- actions --------------------------------------------------------------------------------------------------

bool words_of_reload(const json_t *answer, struct buffer *out)
{
    uint64_t generation;
    const char *changes = json_string_value(json_object_get(answer, "changes"));
    if (!changes || !number_of(answer, "generation", &generation))
        return false;
    char head[60];
    snprintf(head, sizeof(head),
             "configuration %llu is in force: ", (unsigned long long)generation);
    return columns_clean(out, view_str(head)) &&
           columns_clean(out, view_str(*changes ? changes : "its file says what it said before")) &&
           buffer_append(out, "\n", 1);
}

bool words_of_drain(const json_t *answer, struct buffer *out)
{
    uint64_t delay_ms, timeout_ms;
    const json_t *already = json_object_get(answer, "already");
    if (!json_is_boolean(already) || !number_of(answer, "delay_ms", &delay_ms) ||
        !number_of(answer, "timeout_ms", &timeout_ms))
        return false;
    if (json_is_true(already))
        return say_line(out, "it drains already");
    return say_line(out,
                    "draining: requests are served for %g s more, what runs then has %g s to end",
                    (double)delay_ms / 1e3, (double)timeout_ms / 1e3);
}

bool words_of_level(const json_t *answer, struct buffer *out)
{
    const char *now = json_string_value(json_object_get(answer, "level"));
    const char *before = json_string_value(json_object_get(answer, "before"));
    if (!now || !before)
        return false;
    if (strcmp(now, before) == 0)
        return say_line(out, "%s", now);
    return say_line(out, "%s (it was %s)", now, before);
}

// ---- cache ----------------------------------------------------------------------------------------------------

// Of all that asked, those that needed no model.
static void cell_ratio(struct columns *t, const json_t *m)
{
    double hits = (double)json_integer_value(json_object_get(m, "hit")) +
                  (double)json_integer_value(json_object_get(m, "follower"));
    double all = hits + (double)json_integer_value(json_object_get(m, "miss"));
    if (all > 0)
        columns_cellf(t, "%.1f%%", 100 * hits / all);
    else
        columns_cell(t, NULL);
}

bool words_of_cache(const json_t *answer, struct buffer *out)
{
    static const char *const heads[] = {"MODEL",   "KEEPS",      ">ENTRIES",   ">BYTES",
                                        ">HITS",   ">STALE",     ">FOLLOWERS", ">MISSES",
                                        ">STORES", ">EVICTIONS", ">SPARED",    NULL};
    static const char *const numbers[] = {"hit", "stale", "follower", "miss", "store", "eviction"};
    const json_t *models = json_object_get(answer, "models"), *m;
    char leased[UNITS_TEXT], limit[UNITS_TEXT];
    struct columns t;
    size_t i;
    const json_t *held = json_object_get(answer, "leased_bytes"),
                 *most = json_object_get(answer, "limit_bytes");
    if (!json_is_array(models) || !json_is_integer(held) || !json_is_integer(most))
        return false;
    columns_init(&t, heads);
    json_array_foreach(models, i, m)
    {
        columns_cell(&t, text_of(m, "name"));
        columns_cell(&t, json_is_true(json_object_get(m, "enabled")) ? "yes" : "no");
        cell_number(&t, m, "entries");
        cell_unit(&t, m, "bytes", units_bytes);
        for (unsigned k = 0; k < sizeof(numbers) / sizeof(numbers[0]); k++)
            cell_number(&t, m, numbers[k]);
        cell_ratio(&t, m);
    }
    units_bytes(leased, (uint64_t)json_integer_value(held));
    units_bytes(limit, (uint64_t)json_integer_value(most));
    bool ok = say_line(out, "memory: %s of %s", leased, limit);
    if (json_array_size(models) == 0) {
        columns_deinit(&t);
        return ok && say_line(out, "no model has a cache { ttl }");
    }
    return ok && say_line(out, "%s", "") && finish_columns(&t, out);
}

bool words_of_flush(const json_t *answer, struct buffer *out)
{
    const char *model = json_string_value(json_object_get(answer, "model"));
    const json_t *entries = json_object_get(answer, "entries");
    if (!model || !json_is_integer(entries))
        return false;
    return say_line(out, "%lld answers of %s are not given any more",
                    (long long)json_integer_value(entries), *model ? model : "all models");
}
