/* A value as it would stand in a file: to compare two of them, and to say what was and what is. */
#include "config/config.h"
#include "config/keys.h"
#include "config/value.h"
#include <inttypes.h>
#include <stdio.h>

static bool put(struct buffer *out, const char *text)
{
    return buffer_append(out, text, strlen(text));
}

static bool put_quoted(struct buffer *out, const char *text)
{
    return put(out, "\"") && put(out, text) && put(out, "\"");
}

static uint64_t number_at(const struct config_key *k, const void *at)
{
    return k->size == 1   ? *(const uint8_t *)at
           : k->size == 4 ? *(const uint32_t *)at
                          : *(const uint64_t *)at;
}

static bool put_number(struct buffer *out, const struct config_key *k, uint64_t v)
{
    char text[32];
    if (k->automatic && v == (k->size == 4 ? UINT32_MAX : UINT64_MAX))
        return put(out, "auto");
    if (k->type == KEY_DURATION)
        value_print_duration(text, v);
    else if (k->type == KEY_SIZE)
        value_print_size(text, v);
    else if (k->type == KEY_SHARE || k->type == KEY_SHARES)
        value_print_share(text, v);
    else
        snprintf(text, sizeof(text), "%" PRIu64, v);
    return put(out, text);
}

static bool put_choice(struct buffer *out, const char *choices, uint64_t v)
{
    for (; v > 0; v--)
        choices += strcspn(choices, "|") + 1;
    return buffer_append(out, choices, strcspn(choices, "|"));
}

// One title as a text, several as a list.
static bool put_workers(struct buffer *out, const struct config *c, const unsigned *workers,
                        unsigned n)
{
    bool ok = n > 0 || put(out, "any");
    for (unsigned i = 0; ok && i < n; i++)
        ok = put(out, n == 1   ? ""
                      : i == 0 ? "{"
                               : ", ") &&
             put_quoted(out, c->workers[workers[i]].name);
    return ok && put(out, n > 1 ? "}" : "");
}

static bool put_list(struct buffer *out, const struct config_key *k, const void *at, unsigned n)
{
    bool ok = put(out, "{");
    for (unsigned i = 0; ok && i < n; i++) {
        ok = i == 0 || put(out, ", ");
        if (k->type == KEY_WORDS)
            ok = ok && put_quoted(out, (*(const char *const *const *)at)[i]);
        else if (k->type == KEY_COUNTS || k->type == KEY_SHARES)
            ok = ok && put_number(out, k, (*(const uint32_t *const *)at)[i]);
        else
            ok = ok && put_quoted(out, (*(const struct config_address *const *)at)[i].text);
    }
    return ok && put(out, "}");
}

bool config_key_print(const struct config *c, const struct config_key *k, const void *base,
                      struct buffer *out)
{
    const void *at = (const char *)base + k->offset;
    const void *count = (const char *)base + k->count_offset; // of a list
    if (k->type == KEY_WORKERS)
        return put_workers(out, c, *(const unsigned *const *)at, *(const unsigned *)count);
    if (config_key_is_list(k))
        return put_list(out, k, at, *(const unsigned *)count);
    switch (k->type) {
    case KEY_BOOL:
        return put(out, number_at(k, at) ? "true" : "false");
    case KEY_CHOICE:
        return put_choice(out, k->choices, number_at(k, at));
    case KEY_PATH:
        return *(const char *const *)at ? put_quoted(out, *(const char *const *)at)
                                        : put(out, "none");
    case KEY_TRAIT:
        return put(out, ((const struct config_trait *)at)->text);
    case KEY_LISTEN:
    case KEY_REDIS: {
        const char *text = ((const struct config_address *)at)->text;
        return text ? put_quoted(out, text) : put(out, "none");
    }
    default:
        return put_number(out, k, number_at(k, at));
    }
}

static bool print_section(const struct config *c, enum section_id section, const void *base,
                          struct buffer *out)
{
    struct buffer value;
    bool ok = true;
    buffer_init(&value);
    for (unsigned i = 0; ok && i < config_key_count; i++) {
        const struct config_key *k = &config_keys[i];
        if (k->section != section)
            continue;
        buffer_reset(&value);
        ok = config_key_print(c, k, base, &value);
        const char *silent = k->standard ? k->standard : config_key_is_list(k) ? "{}" : "none";
        if (ok && !view_is(buffer_view(&value), silent))
            ok = put(out, k->name) && put(out, " = ") &&
                 buffer_append(out, buffer_view(&value).p, buffer_len(&value)) && put(out, "\n");
    }
    buffer_deinit(&value);
    return ok;
}

bool config_experiment_print(const struct config *c, const struct config_experiment *e,
                             struct buffer *out)
{
    bool ok = print_section(c, SECTION_EXPERIMENT, e, out) &&
              print_section(c, SECTION_EXPERIMENT_TARGET, e, out) &&
              print_section(c, SECTION_EXPERIMENT_GUARD, e, out);
    for (unsigned i = 0; ok && i < e->variant_count; i++)
        ok = put(out, "variant ") && put(out, e->variants[i].name) && put(out, "\n") &&
             print_section(c, SECTION_EXPERIMENT_VARIANT, &e->variants[i], out);
    return ok;
}
