#include "ctl/experiment.h"

#include "ctl/columns.h"
#include "ctl/units.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NAME_BYTES 128
#define WHY_BYTES 256
#define WHOLE 1000000.0

// ---- words in ------------------------------------------------------------------------------------------------

static bool is_name(const char *word)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t n = word ? strlen(word) : 0;
    return n > 0 && n <= NAME_BYTES && strspn(word, letters) == n;
}

// 0: it is none.
static unsigned long long revision_of(const char *word)
{
    size_t n = strlen(word);
    return n < 17 && strspn(word, "0123456789") == n ? strtoull(word, NULL, 10) : 0;
}

static bool check(const struct ctl_options *o, bool second, char why[OPTIONS_ERROR])
{
    if (!is_name(o->more[0]))
        return options_refuse(why, "experiment %s: expected an experiment's name, got \"%.80s\"",
                              o->argument, o->more[0] ? o->more[0] : "");
    if (!second && o->more[1])
        return options_refuse(why, "experiment %s: expected one name, got \"%.80s\" too",
                              o->argument, o->more[1]);
    if (o->why && strlen(o->why) > WHY_BYTES)
        return options_refuse(why, "experiment %s: expected --why with at most %d bytes",
                              o->argument, WHY_BYTES);
    if (o->revision && revision_of(o->revision) == 0)
        return options_refuse(why, "--revision: expected a whole number from 1, got \"%.80s\"",
                              o->revision);
    return true;
}

bool experiment_check_list(const struct ctl_options *o, char why[OPTIONS_ERROR])
{
    return !o->more[0] ||
           options_refuse(why, "experiment list: expected no word behind it, got \"%.80s\"",
                          o->more[0]);
}

bool experiment_check_watch(const struct ctl_options *o, char why[OPTIONS_ERROR])
{
    return !o->more[0] || check(o, false, why);
}

bool experiment_check_name(const struct ctl_options *o, char why[OPTIONS_ERROR])
{
    return check(o, false, why);
}

// "VARIANT=12.5%": where the next one begins; NULL: it is none.
static const char *read_weight(const char *at, char name[NAME_BYTES + 1], double *percent)
{
    size_t n = strcspn(at, "=");
    char *end;
    if (at[n] != '=' || n > NAME_BYTES)
        return NULL;
    memcpy(name, at, n);
    name[n] = '\0';
    size_t digits = strspn(at + n + 1, "0123456789.");
    *percent = strtod(at + n + 1, &end);
    bool ok =
        is_name(name) && digits > 0 && end == at + n + 1 + digits && *end == '%' && *percent <= 100;
    return !ok ? NULL : end[1] == ',' && end[2] ? end + 2 : end[1] ? NULL : end + 1;
}

bool experiment_check_weights(const struct ctl_options *o, char why[OPTIONS_ERROR])
{
    char name[NAME_BYTES + 1];
    double percent;
    if (!check(o, true, why))
        return false;
    const char *at = o->more[1] && *o->more[1] ? o->more[1] : "=";
    while (at && *at)
        at = read_weight(at, name, &percent);
    return at ||
           options_refuse(why,
                          "experiment weights: expected VARIANT=SHARE, as \"treatment=12.5%%\", or "
                          "several with commas between, got \"%.80s\"",
                          o->more[1] ? o->more[1] : "");
}

bool experiment_check_promote(const struct ctl_options *o, char why[OPTIONS_ERROR])
{
    if (!check(o, true, why))
        return false;
    return is_name(o->more[1]) ||
           options_refuse(why,
                          "experiment promote: expected a variant behind the name, got \"%.80s\"",
                          o->more[1] ? o->more[1] : "");
}

static json_t *with(json_t *wish, const char *key, json_t *value)
{
    if (json_object_set_new(wish, key, value) == 0) // takes it in any case
        return wish;
    json_decref(wish);
    return NULL;
}

json_t *experiment_wish(const struct ctl_options *o)
{
    json_t *wish = json_object();
    if (o->why)
        wish = with(wish, "why", json_string(o->why));
    if (o->revision)
        wish = with(wish, "revision", json_integer((json_int_t)revision_of(o->revision)));
    return wish;
}

json_t *experiment_wish_weights(const struct ctl_options *o)
{
    json_t *weights = json_object();
    char name[NAME_BYTES + 1];
    double percent;
    for (const char *at = o->more[1]; at && *at;) {
        at = read_weight(at, name, &percent);
        weights = with(weights, name, json_integer((json_int_t)llround(percent * WHOLE / 100)));
    }
    return with(experiment_wish(o), "weights_ppm", weights);
}

json_t *experiment_wish_promote(const struct ctl_options *o)
{
    return with(experiment_wish(o), "variant", json_string(o->more[1]));
}

bool experiment_is_about(const json_t *event, const char *name)
{
    const char *it = json_string_value(json_object_get(event, "experiment"));
    return it && (!name || strcmp(it, name) == 0);
}

// ---- words out -----------------------------------------------------------------------------------------------

static const char *text_of(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static double number_of(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static void cell_count(struct columns *t, const json_t *o, const char *key)
{
    double n = number_of(o, key);
    if (isfinite(n))
        columns_cellf(t, "%.0f", n);
    else
        columns_cell(t, NULL);
}

static void cell_percent(struct columns *t, double share)
{
    if (isfinite(share))
        columns_cellf(t, "%.4g%%", 100 * share);
    else
        columns_cell(t, NULL);
}

static double rate_of(const json_t *variant, const char *bad, const char *all)
{
    double n = number_of(variant, all);
    return n > 0 ? number_of(variant, bad) / n : NAN;
}

static void cell_time(struct columns *t, const json_t *interval)
{
    char text[UNITS_TEXT];
    double us = number_of(interval, "value");
    columns_cell(t, isfinite(us) ? units_duration(text, (uint64_t)us) : NULL);
}

// "+9.1% (+5.2% to +13%)"; points of a share, or milliseconds.
static void cell_lift(struct columns *t, const json_t *interval, double per_unit, const char *unit)
{
    double v = number_of(interval, "value"), low = number_of(interval, "low"),
           high = number_of(interval, "high");
    if (!isfinite(v))
        columns_cell(t, NULL);
    else if (!isfinite(low) || !isfinite(high))
        columns_cellf(t, "%+.3g%s", v * per_unit, unit);
    else
        columns_cellf(t, "%+.3g%s (%+.3g to %+.3g)", v * per_unit, unit, low * per_unit,
                      high * per_unit);
}

static void list_row(struct columns *t, const json_t *e, const json_t *v, bool first)
{
    columns_cell(t, first ? text_of(e, "name") : "");
    columns_cell(t, first ? text_of(e, "status") : "");
    if (first)
        cell_count(t, e, "revision");
    else
        columns_cell(t, NULL);
    columns_cell(t, text_of(v, "name"));
    columns_cell(t, text_of(v, "model"));
    cell_percent(t, number_of(v, "weight_ppm") / WHOLE);
    cell_count(t, v, "requests");
    cell_percent(t, rate_of(v, "errors", "judged"));
    cell_percent(t, rate_of(v, "fallbacks", "answers"));
    cell_time(t, json_object_get(v, "latency_p99_us"));
}

static bool put_line(struct buffer *out, const char *line)
{
    return columns_clean(out, view_str(line)) && buffer_append(out, "\n", 1);
}

bool words_of_experiments(const json_t *page, struct buffer *out)
{
    static const char *const heads[] = {"EXPERIMENT", "STATUS",  ">REV",   "VARIANT",
                                        "MODEL",      ">WEIGHT", ">DRAWN", ">ERRORS",
                                        ">FALLBACKS", ">P99",    NULL};
    const json_t *all = json_object_get(page, "experiments"), *e, *v;
    struct columns t;
    size_t i, k;
    if (!json_is_array(all))
        return false;
    columns_init(&t, heads);
    json_array_foreach(all, i, e)
    {
        json_array_foreach(json_object_get(e, "variants"), k, v) list_row(&t, e, v, k == 0);
    }
    bool ok = columns_print(&t, out);
    columns_deinit(&t);
    json_array_foreach(json_object_get(page, "kept_out"), i, e)
    {
        char line[1000];
        const char *name = text_of(e, "name"), *why = text_of(e, "why");
        snprintf(line, sizeof(line), "%s was created and is kept out: %s", name ? name : "?",
                 why ? why : "?");
        ok = ok && put_line(out, line);
    }
    return ok;
}

static const char *moment(const json_t *e, char out[40])
{
    double ms = number_of(e, "at_ms");
    struct tm t;
    time_t s = isfinite(ms) ? (time_t)(ms / 1000) : -1;
    bool ok = s >= 0 && gmtime_r(&s, &t) && strftime(out, 40, "%Y-%m-%dT%H:%M:%SZ", &t) > 0;
    return ok ? out : "-";
}

static bool say(const json_t *e, struct buffer *out)
{
    char line[1000], at[40];
    const char *promoted = text_of(e, "promoted"), *why = text_of(e, "why");
    bool created = json_is_true(json_object_get(e, "created"));
    snprintf(line, sizeof(line), "%s: %s%s%s, revision %.0f since %s by %s%s%s", text_of(e, "name"),
             text_of(e, "status"), promoted ? " " : "", promoted ? promoted : "",
             number_of(e, "revision"), moment(e, at), text_of(e, "who"), why && *why ? ": " : "",
             why ? why : "");
    bool ok = put_line(out, line);
    if (json_is_true(json_object_get(e, "from_file")))
        ok = ok && put_line(out, "as its section in gateway.conf says");
    else if (created)
        ok = ok && put_line(out, "created while the gateway ran: it stays until it is deleted");
    else
        ok =
            ok && put_line(out, "changed since: it wins until its section in gateway.conf changes");
    if (!json_is_true(json_object_get(e, "kept")) &&
        !json_is_true(json_object_get(e, "from_file")) && !created)
        ok = ok &&
             put_line(
                 out,
                 "it is not kept, and ends with the gateway: state_dir is not set, or cannot be "
                 "written");
    if (json_is_true(json_object_get(e, "skewed")))
        ok = ok && put_line(out, "skewed: requests do not come to its variants as the weights say");
    return ok;
}

static bool put_variants(const json_t *variants, struct buffer *out)
{
    static const char *const heads[] = {
        "VARIANT",    "MODEL",           ">WEIGHT", ">DRAWN",      ">ERRORS", ">+ POINTS (95%)",
        ">FALLBACKS", ">+ POINTS (95%)", ">MEAN",   ">+ MS (95%)", ">P50",    ">P99",
        NULL};
    const json_t *v;
    struct columns t;
    size_t i;
    columns_init(&t, heads);
    json_array_foreach(variants, i, v)
    {
        const json_t *lift = json_object_get(v, "against_control");
        columns_cell(&t, text_of(v, "name"));
        columns_cell(&t, text_of(v, "model"));
        cell_percent(&t, number_of(v, "weight_ppm") / WHOLE);
        cell_count(&t, v, "requests");
        cell_percent(&t, rate_of(v, "errors", "judged"));
        cell_lift(&t, json_object_get(lift, "error_rate"), 100, "");
        cell_percent(&t, rate_of(v, "fallbacks", "answers"));
        cell_lift(&t, json_object_get(lift, "fallback_rate"), 100, "");
        cell_time(&t, json_object_get(v, "latency_mean_us"));
        cell_lift(&t, json_object_get(lift, "latency_mean_us"), 1e-3, "");
        cell_time(&t, json_object_get(v, "latency_p50_us"));
        cell_time(&t, json_object_get(v, "latency_p99_us"));
    }
    bool ok = columns_print(&t, out);
    columns_deinit(&t);
    return ok;
}

// "0.124 (0.1 to 0.15)"
static void cell_mean(struct columns *t, const json_t *interval)
{
    double v = number_of(interval, "value"), low = number_of(interval, "low"),
           high = number_of(interval, "high");
    if (!isfinite(v))
        columns_cell(t, NULL);
    else if (!isfinite(low) || !isfinite(high))
        columns_cellf(t, "%.4g", v);
    else
        columns_cellf(t, "%.4g (%.4g to %.4g)", v, low, high);
}

static bool put_rewards(const json_t *variants, struct buffer *out)
{
    static const char *const heads[] = {
        "REWARD", "VARIANT", ">POSTED", ">SUM", ">MEAN (95%)", ">+ TO CONTROL (95%)", NULL};
    const json_t *v, *r;
    struct columns t;
    size_t i, k;
    columns_init(&t, heads);
    json_array_foreach(variants, i, v)
    {
        json_array_foreach(json_object_get(v, "rewards"), k, r)
        {
            columns_cell(&t, text_of(r, "name"));
            columns_cell(&t, text_of(v, "name"));
            cell_count(&t, r, "posted");
            columns_cellf(&t, "%.6g", number_of(r, "sum"));
            cell_mean(&t, json_object_get(r, "mean"));
            cell_lift(&t, json_object_get(r, "against_control"), 1, "");
        }
    }
    bool ok = (t.cells == 0 || buffer_append(out, "\n", 1)) && columns_print(&t, out);
    columns_deinit(&t);
    return ok;
}

static bool put_guards(const json_t *variants, struct buffer *out)
{
    static const char *const heads[] = {"VARIANT", "GUARD", ">LIMIT", ">EVIDENCE", NULL};
    const json_t *v, *g;
    struct columns t;
    size_t i, k;
    columns_init(&t, heads);
    json_array_foreach(variants, i, v)
    {
        json_array_foreach(json_object_get(v, "guards"), k, g)
        {
            columns_cell(&t, text_of(v, "name"));
            columns_cell(&t, text_of(g, "guard"));
            cell_percent(&t, number_of(g, "limit"));
            cell_percent(&t, number_of(g, "evidence") / number_of(g, "needed"));
        }
    }
    bool ok = (t.cells == 0 || buffer_append(out, "\n", 1)) && columns_print(&t, out);
    columns_deinit(&t);
    return ok;
}

bool words_of_experiment(const json_t *page, struct buffer *out)
{
    const json_t *variants = json_object_get(page, "variants");
    if (!json_is_array(variants) || !text_of(page, "name") || !text_of(page, "status") ||
        !text_of(page, "who"))
        return false;
    return say(page, out) && buffer_append(out, "\n", 1) && put_variants(variants, out) &&
           put_rewards(variants, out) && put_guards(variants, out);
}
