#include "ctl/level.h"

#include "ctl/columns.h"
#include "ctl/units.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define FOR_MOST_S (30 * 86400)
#define WHY_BYTES 160

// ---- words in ------------------------------------------------------------------------------------------------

static bool is_level(const char *word)
{
    return word && word[0] >= '0' && word[0] <= '4' && !word[1];
}

bool level_check_set(const struct ctl_options *o, char why[OPTIONS_ERROR])
{
    const char *level = o->more[1] ? o->more[1] : o->more[0];
    unsigned long s = units_seconds(o->for_);
    size_t n = o->why ? strlen(o->why) : 0;
    if (!is_level(level))
        return options_refuse(why,
                              "level set: expected [MODEL] and a level from 0 to 4, got \"%.80s\"",
                              level ? level : "");
    if (s == 0 || s > FOR_MOST_S)
        return options_refuse(
            why,
            "level set: expected --for as \"90s\", \"10m\", \"2h\" or \"1d\", 30 days at most, "
            "got \"%.80s\"",
            o->for_ ? o->for_ : "");
    if (n == 0 || n > WHY_BYTES)
        return options_refuse(why, "level set: expected --why with 1 to %d bytes: others will ask",
                              WHY_BYTES);
    return true;
}

bool level_check_clear(const struct ctl_options *o, char why[OPTIONS_ERROR])
{
    return !o->more[1] ||
           options_refuse(why, "level clear: expected one model at most, got \"%.80s\" too",
                          o->more[1]);
}

static json_t *about(const char *model)
{
    return model ? json_pack("{s:s}", "model", model) : json_object();
}

static json_t *with(json_t *wish, const char *key, json_t *value)
{
    if (json_object_set_new(wish, key, value) == 0) // takes it in any case
        return wish;
    json_decref(wish);
    return NULL;
}

json_t *level_wish_set(const struct ctl_options *o)
{
    const char *level = o->more[1] ? o->more[1] : o->more[0];
    json_t *wish = about(o->more[1] ? o->more[0] : NULL);
    wish = with(wish, "level", json_integer(level[0] - '0'));
    wish = with(wish, "for_s", json_integer((json_int_t)units_seconds(o->for_)));
    return with(wish, "why", json_string(o->why));
}

json_t *level_wish_clear(const struct ctl_options *o)
{
    return with(about(o->more[0]), "level", json_null());
}

// ---- words out -----------------------------------------------------------------------------------------------

static const char *text_of(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static bool number_of(const json_t *o, const char *key, uint64_t *out)
{
    const json_t *v = json_object_get(o, key);
    *out = json_is_integer(v) && json_integer_value(v) >= 0 ? (uint64_t)json_integer_value(v) : 0;
    return json_is_integer(v) && json_integer_value(v) >= 0;
}

// "2026-01-02T03:04:05Z"; NULL: there is no such moment.
static const char *moment(const json_t *pin, char out[40])
{
    uint64_t ms;
    struct tm t;
    if (!number_of(pin, "until_ms", &ms))
        return NULL;
    time_t s = (time_t)(ms / 1000);
    return gmtime_r(&s, &t) && strftime(out, 40, "%Y-%m-%dT%H:%M:%SZ", &t) > 0 ? out : NULL;
}

static void cell_number(struct columns *t, const json_t *o, const char *key)
{
    uint64_t n;
    if (number_of(o, key, &n))
        columns_cellf(t, "%llu", (unsigned long long)n);
    else
        columns_cell(t, NULL);
}

static void row(struct columns *t, const char *name, const json_t *o)
{
    const json_t *pin = json_object_get(o, "pin");
    char text[UNITS_TEXT], until[40];
    uint64_t n;
    columns_cell(t, name);
    cell_number(t, o, "level");
    columns_cell(t, text_of(o, "cause"));
    columns_cell(t, number_of(o, "for_ms", &n) ? units_uptime(text, n / 1000) : NULL);
    if (number_of(o, "share_ppm", &n))
        columns_cellf(t, "%llu%%", (unsigned long long)(n + 5000) / 10000);
    else
        columns_cell(t, NULL);
    columns_cell(t, number_of(o, "p99_us", &n) && n > 0 ? units_duration(text, n) : NULL);
    columns_cell(t, json_is_true(json_object_get(o, "critical")) ? "yes" : NULL);
    columns_cell(t, moment(pin, until));
    columns_cell(t, text_of(pin, "why"));
}

bool words_of_levels(const json_t *page, struct buffer *out)
{
    static const char *const heads[] = {"MODEL", ">LEVEL",   "CAUSE",        ">FOR", ">SHARE",
                                        ">P99",  "CRITICAL", "PINNED UNTIL", "WHY",  NULL};
    const json_t *models = json_object_get(page, "models"), *o;
    const json_t *instance = json_object_get(page, "instance");
    struct columns t;
    size_t i;
    if (!json_is_array(models) || !json_is_object(instance))
        return false;
    columns_init(&t, heads);
    json_array_foreach(models, i, o) row(&t, text_of(o, "name"), o);
    row(&t, "(instance)", instance);
    bool ok = columns_print(&t, out);
    columns_deinit(&t);
    return ok;
}

bool words_of_pin(const json_t *answer, struct buffer *out)
{
    const json_t *pin = json_object_get(answer, "pin"), *kept = json_object_get(answer, "kept");
    const char *model = text_of(answer, "model");
    char line[400], until[40] = "";
    uint64_t level;
    if (!pin || !json_is_boolean(kept))
        return false;
    if (json_is_null(pin))
        snprintf(line, sizeof(line), "%s goes by itself again", model ? model : "the instance");
    else if (number_of(pin, "level", &level) && moment(pin, until))
        snprintf(line, sizeof(line), "%s is at level %llu until %s%s",
                 model ? model : "the instance", (unsigned long long)level, until,
                 json_is_true(kept)
                     ? ""
                     : ", or until the gateway ends: state_dir is not set, or cannot be written");
    else
        return false;
    return columns_clean(out, view_str(line)) && buffer_append(out, "\n", 1);
}
