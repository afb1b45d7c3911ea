#include "ctl/bench_trace.h"

#include "base/mem.h"
#include "base/rand.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static struct bench_request *grow(struct bench_trace *t)
{
    if (t->n == t->room) {
        size_t room = t->room ? 2 * t->room : 1024;
        void *more = mem_realloc(t->at, room * sizeof(*t->at));
        if (!more)
            return NULL;
        t->at = more;
        t->room = room;
    }
    t->at[t->n] = (struct bench_request){0};
    return &t->at[t->n];
}

static char *copy(const char *text, size_t n)
{
    char *to = mem_alloc(n + 1);
    if (to) {
        memcpy(to, text, n);
        to[n] = '\0';
    }
    return to;
}

// ---- from records --------------------------------------------------------------------------------------

static const char *text_of(const json_t *record, const char *key)
{
    const char *text = json_string_value(json_object_get(record, key));
    return text ? text : "";
}

// "2026-01-02T03:04:05.678901Z", since 1970; 0: it is none.
static uint64_t time_of(const char *text)
{
    int y, m, d, h, min, s;
    unsigned us;
    if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%6uZ", &y, &m, &d, &h, &min, &s, &us) != 7 ||
        y < 1970)
        return 0;
    y -= m <= 2; // days by years that begin in March, as base/date.c has it
    int64_t era = y / 400, yoe = y % 400, doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    int64_t day = era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
    return ((uint64_t)day * 86400 + (uint64_t)(h * 3600 + min * 60 + s)) * 1000000 + us;
}

static bool is_whole(const json_t *inputs)
{
    size_t i;
    json_t *one;
    json_array_foreach(inputs, i, one) if (!json_object_get(one, "data") ||
                                           json_object_get(one, "cut")) return false;
    return json_array_size(inputs) > 0;
}

static char *body_of(json_t *inputs, json_t *parameters)
{
    json_t *body = json_pack("{s:O, s:O*}", "inputs", inputs, "parameters", parameters);
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    char *own = text ? copy(text, strlen(text)) : NULL;
    free(text);
    json_decref(body);
    return own;
}

// ---- the head ------------------------------------------------------------------------------------------

bool bench_is_field_name(const char *name)
{
    return *name &&
           name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                             "!#$%&'*+-.^_`|~")] == '\0';
}

static bool is_field_value(const char *value)
{
    for (; *value; value++)
        if ((*value >= 0 && *value < ' ' && *value != '\t') || *value == 0x7f)
            return false;
    return true;
}

// Of this body and this connection; or of another protocol's.
static bool is_own_field(const char *name)
{
    static const char *const names[] = {"accept-encoding",
                                        "connection",
                                        "expect",
                                        "host",
                                        "keep-alive",
                                        "te",
                                        "trailer",
                                        "upgrade",
                                        "transfer-encoding",
                                        "inference-header-content-length"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcasecmp(name, names[i]) == 0)
            return true;
    return strncasecmp(name, "content-", 8) == 0 || strncasecmp(name, "grpc-", 5) == 0;
}

// An empty one is written so (curl_easy_setopt, CURLOPT_HTTPHEADER).
static bool put_field(json_t *fields, const char *name, const char *value)
{
    return json_array_append_new(fields, *value ? json_sprintf("%s: %s", name, value)
                                                : json_sprintf("%s;", name)) == 0;
}

static bool can_send(json_t *headers)
{
    const char *name;
    json_t *value;
    json_object_foreach(headers, name, value)
    {
        const char *text = json_string_value(value);
        if (!text || strlen(text) != json_string_length(value) || !bench_is_field_name(name) ||
            !is_field_value(text))
            return false;
    }
    return true;
}

static bool make_fields(json_t **fields, json_t *headers, const char *tenant_header,
                        const char *tenant)
{
    const char *name;
    json_t *value;
    bool ok = (*fields = json_array()) != NULL, told = false;
    json_object_foreach(headers, name, value)
    {
        told |= tenant_header && strcasecmp(name, tenant_header) == 0; // twice would be refused
        ok = ok && (is_own_field(name) || put_field(*fields, name, json_string_value(value)));
    }
    return ok && (told || !tenant_header || !*tenant || put_field(*fields, tenant_header, tenant));
}

// ---- a record ------------------------------------------------------------------------------------------

// All that was asked is there, and can be sent.
static bool can_ask(json_t *record)
{
    json_t *parameters = json_object_get(record, "parameters"),
           *headers = json_object_get(record, "headers");
    return strcmp(text_of(record, "outcome"), "ok") == 0 && !json_object_get(record, "cut") &&
           is_whole(json_object_get(record, "inputs")) &&
           (!parameters || json_is_object(parameters)) && (!headers || json_is_object(headers)) &&
           can_send(headers) && is_field_value(text_of(record, "tenant"));
}

static bool add(struct bench_trace *t, json_t *record, const struct bench_again *how)
{
    json_t *outputs = json_object_get(record, "outputs");
    uint64_t at_us = time_of(text_of(record, "time"));
    uint64_t took_us = (uint64_t)json_integer_value(json_object_get(record, "total_us"));
    const char *asked = how->model ? how->model : text_of(record, "model");
    if (!can_ask(record) || !*asked || at_us <= took_us) {
        t->passed_over++;
        return true;
    }
    struct bench_request *r = grow(t);
    if (!r)
        return false;
    r->due_us = at_us - took_us; // its time is that of its answer
    r->model = copy(asked, strlen(asked));
    r->body = body_of(json_object_get(record, "inputs"), json_object_get(record, "parameters"));
    r->outputs = is_whole(outputs) ? json_incref(outputs) : NULL;
    t->n++;
    return make_fields(&r->fields, json_object_get(record, "headers"), how->tenant_header,
                       text_of(record, "tenant")) &&
           r->model && r->body;
}

bool bench_trace_add(struct bench_trace *t, struct view line, const struct bench_again *how)
{
    json_t *record = json_loadb(line.p, line.n, JSON_ALLOW_NUL, NULL);
    bool ok = json_is_object(record) && add(t, record, how);
    json_decref(record);
    return ok;
}

static int by_due(const void *a, const void *b)
{
    const struct bench_request *x = a, *y = b;
    return (x->due_us > y->due_us) - (x->due_us < y->due_us);
}

void bench_trace_sort(struct bench_trace *t, double speed)
{
    if (t->n == 0)
        return;
    qsort(t->at, t->n, sizeof(*t->at), by_due);
    uint64_t first_us = t->at[0].due_us;
    for (size_t i = 0; i < t->n; i++)
        t->at[i].due_us = (uint64_t)((double)(t->at[i].due_us - first_us) / speed);
}

// ---- at random -----------------------------------------------------------------------------------------

bool bench_trace_poisson(struct bench_trace *t, size_t n, double rate, uint64_t seed,
                         const char *model, struct view body)
{
    struct rand r;
    double at_us = 0;
    rand_seed(&r, seed);
    t->body = copy(body.p, body.n);
    for (size_t i = 0; t->body && i < n; i++) {
        struct bench_request *q = grow(t);
        if (!q || !(q->model = copy(model, strlen(model))))
            return false;
        at_us += -log(1 - rand_unit(&r)) * 1e6 / rate;
        q->due_us = (uint64_t)at_us;
        t->n++;
    }
    return t->body != NULL;
}

void bench_trace_free(struct bench_trace *t)
{
    for (size_t i = 0; i < t->n; i++) {
        mem_free(t->at[i].model);
        mem_free(t->at[i].body);
        json_decref(t->at[i].outputs);
        json_decref(t->at[i].fields);
    }
    mem_free(t->at);
    mem_free(t->body);
    *t = (struct bench_trace){0};
}

// ---- answers -------------------------------------------------------------------------------------------

static const json_t *output_of(const json_t *list, const json_t *name)
{
    size_t i;
    const json_t *one;
    json_array_foreach(list, i, one) if (json_equal(json_object_get(one, "name"), name)) return one;
    return NULL;
}

static bool is_near(double a, double b, double tolerance, double *worst)
{
    double distance = fabs(a - b), greater = fmax(fabs(a), fabs(b));
    if (a == b || (isnan(a) && isnan(b)))
        return true;
    *worst = isnan(distance) ? INFINITY : fmax(*worst, distance);
    return distance <= tolerance * fmax(1, greater);
}

static bool same_data(const json_t *a, const json_t *b, double tolerance, double *worst)
{
    bool same = json_array_size(a) == json_array_size(b);
    for (size_t i = 0; i < json_array_size(a) && i < json_array_size(b); i++) {
        const json_t *x = json_array_get(a, i), *y = json_array_get(b, i);
        same = (json_is_number(x) && json_is_number(y)
                    ? is_near(json_number_value(x), json_number_value(y), tolerance, worst)
                    : json_equal(x, y)) &&
               same;
    }
    return same;
}

enum bench_verdict bench_compare(const json_t *recorded, struct view answer, double tolerance,
                                 double *worst)
{
    json_t *root = json_loadb(answer.n ? answer.p : "", answer.n, JSON_ALLOW_NUL, NULL);
    const json_t *outputs = json_object_get(root, "outputs"), *was;
    bool known = is_whole(outputs), same = json_array_size(outputs) == json_array_size(recorded);
    size_t i;
    json_array_foreach(recorded, i, was)
    {
        const json_t *is = output_of(outputs, json_object_get(was, "name"));
        same = is && json_equal(json_object_get(is, "shape"), json_object_get(was, "shape")) &&
               same_data(json_object_get(was, "data"), json_object_get(is, "data"), tolerance,
                         worst) &&
               same;
    }
    json_decref(root);
    return !known ? BENCH_UNKNOWN : same ? BENCH_EQUAL : BENCH_DIFFERS;
}
