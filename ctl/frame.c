#include "ctl/frame.h"

#include "base/mem.h"
#include "ctl/columns.h"
#include "ctl/units.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void frame_init(struct top_frame *f)
{
    *f = (struct top_frame){.models = json_object()};
    f->failed = !f->models;
}

void frame_deinit(struct top_frame *f)
{
    json_decref(f->models);
    json_decref(f->last);
}

// ---- events ---------------------------------------------------------------------------------------------------

static const char *const counted[] = {"answers", "failures", "batches", "by",    "cache",
                                      "rows",    "sizes",    "p50_us",  "p99_us"};

static void forget_counts(json_t *model)
{
    for (size_t i = 0; i < sizeof(counted) / sizeof(counted[0]); i++)
        json_object_del(model, counted[i]);
}

static bool take_model(struct top_frame *f, const json_t *model, bool whole)
{
    const char *name = json_string_value(json_object_get(model, "name"));
    json_t *own = name ? json_copy((json_t *)model) : NULL; // its members are shared, and stay
    if (own && whole) // counts since the process began are no rate
        forget_counts(own);
    return own && json_object_set_new(f->models, name, own) == 0;
}

static void drop_gone(struct top_frame *f, const json_t *gone)
{
    const json_t *name;
    size_t i;
    json_array_foreach(gone, i, name)
    {
        if (json_is_string(name))
            json_object_del(f->models, json_string_value(name));
    }
}

static bool keep_last(struct top_frame *f, const json_t *event)
{
    json_decref(f->last);
    f->last = json_copy((json_t *)event);
    return f->last != NULL;
}

bool frame_take(struct top_frame *f, const json_t *event)
{
    const json_t *models = json_object_get(event, "models"), *model;
    const json_t *whole = json_object_get(event, "whole");
    json_t *each;
    const char *name;
    size_t i;
    if (f->failed || !json_is_array(models) || !json_is_boolean(whole))
        return false;
    if (json_is_true(whole))
        json_object_clear(f->models);
    json_object_foreach(f->models, name, each) forget_counts(each);
    drop_gone(f, json_object_get(event, "gone"));
    json_array_foreach(models, i, model)
    {
        if (!take_model(f, model, json_is_true(whole)))
            return false;
    }
    json_int_t ms = json_integer_value(json_object_get(event, "ms"));
    f->ms = json_is_true(whole) || ms < 1 ? 0 : (uint64_t)ms;
    f->n = json_object_size(f->models);
    return keep_last(f, event);
}

// ---- figures --------------------------------------------------------------------------------------------------

static uint64_t number_of(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    json_int_t n = json_is_integer(v) ? json_integer_value(v) : 0;
    return n > 0 ? (uint64_t)n : 0;
}

static uint64_t sum_of(const json_t *o, const char *key)
{
    json_t *each;
    const char *name;
    json_int_t sum = 0;
    json_object_foreach(json_object_get(o, key), name, each)
    {
        if (json_is_integer(each) && json_integer_value(each) > 0)
            sum += json_integer_value(each);
    }
    return (uint64_t)sum;
}

static double rate_of(const struct top_frame *f, uint64_t n)
{
    return f->ms > 0 ? (double)n * 1000 / (double)f->ms : 0;
}

static uint64_t requests_of(const json_t *model)
{
    return sum_of(model, "answers") + sum_of(model, "failures");
}

// ---- text -----------------------------------------------------------------------------------------------------

static bool say_gateway(const struct top_frame *f, struct buffer *out)
{
    uint64_t requests = 0, failed = 0, waiting = 0, flying = 0;
    json_t *model, *loop;
    const char *name, *phase = json_string_value(json_object_get(f->last, "phase"));
    char line[300], up[UNITS_TEXT], p50[UNITS_TEXT] = "-", p99[UNITS_TEXT] = "-";
    size_t i;
    json_object_foreach(f->models, name, model)
    {
        requests += requests_of(model);
        failed += sum_of(model, "failures");
        waiting += number_of(model, "waiting");
    }
    json_array_foreach(json_object_get(f->last, "loops"), i, loop) flying +=
        number_of(loop, "in_flight");
    if (f->ms > 0 && json_object_get(f->last, "p50_us"))
        units_duration(p50, number_of(f->last, "p50_us"));
    if (f->ms > 0 && json_object_get(f->last, "p99_us"))
        units_duration(p99, number_of(f->last, "p99_us"));
    int n = snprintf(line, sizeof(line), "sluice %.40s for %s, level %llu: ", phase ? phase : "-",
                     units_uptime(up, number_of(f->last, "uptime_s")),
                     (unsigned long long)number_of(f->last, "level"));
    if (f->ms > 0)
        n += snprintf(line + n, sizeof(line) - (size_t)n, "%.1f requests/s, %.1f failed/s",
                      rate_of(f, requests), rate_of(f, failed));
    else
        n += snprintf(line + n, sizeof(line) - (size_t)n, "- requests/s, - failed/s");
    snprintf(line + n, sizeof(line) - (size_t)n,
             ", p50 %s, p99 %s, %llu in flight, %llu rows waiting", p50, p99,
             (unsigned long long)flying, (unsigned long long)waiting);
    return columns_clean(out, view_str(line)) && buffer_append(out, "\n", 1);
}

static void cell_rate(struct columns *t, const struct top_frame *f, uint64_t n)
{
    if (f->ms > 0)
        columns_cellf(t, "%.1f", rate_of(f, n));
    else
        columns_cell(t, NULL);
}

static void cell_number(struct columns *t, const json_t *o, const char *key)
{
    if (json_is_integer(json_object_get(o, key)))
        columns_cellf(t, "%llu", (unsigned long long)number_of(o, key));
    else
        columns_cell(t, NULL);
}

static void cell_duration(struct columns *t, const json_t *o, const char *key)
{
    char text[UNITS_TEXT];
    columns_cell(t, json_object_get(o, key) ? units_duration(text, number_of(o, key)) : NULL);
}

static void put_row(struct columns *t, const struct top_frame *f, const json_t *m)
{
    const char *cause = json_string_value(json_object_get(m, "cause"));
    uint64_t batches = sum_of(m, "batches");
    bool pinned = json_is_true(json_object_get(m, "pinned"));
    columns_cell(t, json_string_value(json_object_get(m, "name")));
    cell_rate(t, f, requests_of(m));
    cell_rate(t, f, sum_of(m, "failures"));
    cell_duration(t, m, "p50_us");
    cell_duration(t, m, "p99_us");
    cell_number(t, m, "waiting");
    cell_number(t, m, "running");
    if (batches > 0)
        columns_cellf(t, "%.1f", (double)number_of(m, "rows") / (double)batches);
    else
        columns_cell(t, NULL);
    cell_number(t, m, "ready");
    cell_number(t, m, "level");
    columns_cell(t, pinned ? "pinned" : cause && strcmp(cause, "none") != 0 ? cause : NULL);
}

// The larger one first, by what `by` says; else by name.
struct frame_row {
    const json_t *model;
    const char *name;
    uint64_t weight;
};

static uint64_t weight_of(const json_t *m, enum frame_sort by)
{
    switch (by) {
    case FRAME_BY_RATE:
        return requests_of(m);
    case FRAME_BY_P99:
        return number_of(m, "p99_us");
    case FRAME_BY_WAITING:
        return number_of(m, "waiting");
    case FRAME_BY_LEVEL:
        return number_of(m, "level");
    case FRAME_BY_NAME:
        break;
    }
    return 0;
}

static int compare_rows(const void *a, const void *b)
{
    const struct frame_row *x = a, *y = b;
    if (x->weight != y->weight)
        return x->weight < y->weight ? 1 : -1;
    return strcmp(x->name, y->name);
}

static bool put_rows(const struct top_frame *f, enum frame_sort by, size_t first, size_t most,
                     struct columns *t)
{
    struct frame_row *rows = mem_zalloc((f->n + 1) * sizeof(*rows));
    json_t *model;
    const char *name;
    size_t n = 0;
    if (!rows)
        return false;
    json_object_foreach(f->models, name, model)
    {
        rows[n++] = (struct frame_row){model, name, weight_of(model, by)};
    }
    qsort(rows, n, sizeof(*rows), compare_rows);
    for (size_t i = first; i < n && i - first < most; i++)
        put_row(t, f, rows[i].model);
    mem_free(rows);
    return true;
}

bool frame_text(const struct top_frame *f, enum frame_sort by, size_t first, size_t most,
                struct buffer *out)
{
    static const char *const heads[] = {"MODEL",  ">REQUESTS/S", ">FAILED/S", ">P50",
                                        ">P99",   ">WAITING",    ">RUNNING",  ">BATCH ROWS",
                                        ">READY", ">LEVEL",      "WHY",       NULL};
    struct columns t;
    if (!f->last)
        return false;
    columns_init(&t, heads);
    bool ok = say_gateway(f, out) && buffer_append(out, "\n", 1) &&
              put_rows(f, by, first, most, &t) && columns_print(&t, out);
    columns_deinit(&t);
    return ok;
}
