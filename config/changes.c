#include "config/changes.h"
#include "config/keys.h"
#include <stdio.h>

#define VALUE_TOLD 60 // bytes of a value; a command may be long

struct finder {
    struct config_changes *out;
    const struct config *was, *is;
    struct buffer before, after; // the values at hand
};

// ---- telling ------------------------------------------------------------------------------------------

static void tell(struct finder *f, bool refused, const char *text)
{
    struct config_changes *c = f->out;
    unsigned n = refused ? c->refused++ : c->taken++;
    struct buffer *to = refused ? &c->refused_text : &c->taken_text;
    if (n >= CONFIG_CHANGES_TOLD)
        return;
    c->failed |= (n > 0 && !buffer_append(to, "; ", 2)) || !buffer_append(to, text, strlen(text));
}

static void tell_section(struct finder *f, enum section_id s, const char *title, const char *what)
{
    char text[300];
    const struct config_section *row = &config_sections[s];
    if (title)
        snprintf(text, sizeof(text), "%s \"%s\": %s", row->name, title, what);
    else
        snprintf(text, sizeof(text), "%s: %s", row->name, what);
    tell(f, row->reload == RELOAD_RESTART, text);
}

static int told_bytes(struct view v)
{
    return v.n > VALUE_TOLD ? VALUE_TOLD : (int)v.n;
}

// A path's end says more than its beginning.
static void tell_key(struct finder *f, const struct config_key *k, const char *title)
{
    const struct config_section *s = &config_sections[k->section];
    const struct config_section *top = s->parent == SECTION_TOP ? s : &config_sections[s->parent];
    struct view a = buffer_view(&f->before), b = buffer_view(&f->after);
    char text[700];
    int n =
        snprintf(text, sizeof(text), "%s%s%s%s%s%s%s%s: was %.*s%s, is %.*s%s", top->name,
                 title ? " \"" : "", title ? title : "", title ? "\"" : "", *top->name ? ": " : "",
                 s == top || s->titled ? "" : s->name, s == top || s->titled ? "" : ": ", k->name,
                 told_bytes(a), a.p, a.n > VALUE_TOLD ? "..." : "", told_bytes(b), b.p,
                 b.n > VALUE_TOLD ? "..." : "");
    if (n > 0)
        tell(f, k->reload == RELOAD_RESTART, text);
}

// ---- values -------------------------------------------------------------------------------------------

static bool print(struct finder *f, const struct config *c, const struct config_key *k,
                  const void *base, struct buffer *out)
{
    buffer_reset(out);
    bool ok = config_key_print(c, k, base, out);
    f->out->failed |= !ok;
    return ok;
}

static bool differs(struct finder *f, const struct config_key *k, const void *was, const void *is)
{
    return print(f, f->was, k, was, &f->before) && print(f, f->is, k, is, &f->after) &&
           !view_eq(buffer_view(&f->before), buffer_view(&f->after));
}

// The keys of one section.
static void compare_keys(struct finder *f, enum section_id s, const char *title, const void *was,
                         const void *is)
{
    for (unsigned i = 0; i < config_key_count; i++) {
        const struct config_key *k = &config_keys[i];
        if (k->section == s && differs(f, k, was, is))
            tell_key(f, k, title);
    }
}

// And of those within it.
static void compare_rules(struct finder *f, enum section_id s, const char *title, const void *was,
                          const void *is)
{
    for (unsigned i = 0; i < CONFIG_RULE_SECTIONS; i++)
        compare_keys(f, s + i, title, was, is);
}

// ---- sections -----------------------------------------------------------------------------------------

static const struct config_listen *find_listen(const struct config *c, const char *name)
{
    for (unsigned i = 0; i < c->listen_count; i++)
        if (strcmp(c->listens[i].name, name) == 0)
            return &c->listens[i];
    return NULL;
}

static void compare_listens(struct finder *f)
{
    for (unsigned i = 0; i < f->was->listen_count; i++) {
        const struct config_listen *was = &f->was->listens[i], *is = find_listen(f->is, was->name);
        if (is)
            compare_keys(f, SECTION_LISTEN, was->name, was, is);
        else
            tell_section(f, SECTION_LISTEN, was->name, "removed");
    }
    for (unsigned i = 0; i < f->is->listen_count; i++)
        if (!find_listen(f->was, f->is->listens[i].name))
            tell_section(f, SECTION_LISTEN, f->is->listens[i].name, "added");
}

static void compare_workers(struct finder *f)
{
    for (unsigned i = 0; i < f->was->worker_count; i++) {
        const struct config_worker *was = &f->was->workers[i],
                                   *is = config_worker_find(f->is, was->name);
        if (is)
            compare_rules(f, SECTION_WORKER, was->name, was, is);
        else
            tell_section(f, SECTION_WORKER, was->name, "removed");
    }
    for (unsigned i = 0; i < f->is->worker_count; i++)
        if (!config_worker_find(f->was, f->is->workers[i].name))
            tell_section(f, SECTION_WORKER, f->is->workers[i].name, "added");
}

static void compare_models(struct finder *f)
{
    for (unsigned i = 0; i < f->was->model_count; i++) {
        const struct config_model *was = &f->was->models[i],
                                  *is = config_model_find(f->is, view_str(was->name));
        if (is)
            compare_rules(f, SECTION_MODEL, was->name, was, is);
        else
            tell_section(f, SECTION_MODEL, was->name, "removed");
    }
    for (unsigned i = 0; i < f->is->model_count; i++)
        if (!config_model_find(f->was, view_str(f->is->models[i].name)))
            tell_section(f, SECTION_MODEL, f->is->models[i].name, "added");
}

static void compare_layers(struct finder *f)
{
    for (unsigned i = 0; i < f->was->layer_count; i++) {
        const struct config_layer *was = &f->was->layers[i],
                                  *is = config_layer_find(f->is, was->name);
        if (is)
            compare_keys(f, SECTION_LAYER, was->name, was, is);
        else
            tell_section(f, SECTION_LAYER, was->name, "removed");
    }
    for (unsigned i = 0; i < f->is->layer_count; i++)
        if (!config_layer_find(f->was, f->is->layers[i].name))
            tell_section(f, SECTION_LAYER, f->is->layers[i].name, "added");
}

static const struct config_variant *find_variant(const struct config_experiment *e,
                                                 const char *name)
{
    for (unsigned i = 0; i < e->variant_count; i++)
        if (strcmp(e->variants[i].name, name) == 0)
            return &e->variants[i];
    return NULL;
}

static void tell_inner(struct finder *f, const char *experiment, enum section_id kind,
                       const char *title, const char *what)
{
    char text[300];
    snprintf(text, sizeof(text), "%s \"%s\" %s", config_sections[kind].name, title, what);
    tell_section(f, SECTION_EXPERIMENT, experiment, text);
}

// Each in its place: where it stands says where its keys are.
static void compare_variants(struct finder *f, const struct config_experiment *was,
                             const struct config_experiment *is)
{
    for (unsigned i = 0; i < was->variant_count; i++) {
        const struct config_variant *v = &was->variants[i], *now = find_variant(is, v->name);
        char title[2 * CONFIG_NAME_BYTES + 16];
        snprintf(title, sizeof(title), "%s\": variant \"%s", was->name, v->name);
        if (now)
            compare_keys(f, SECTION_EXPERIMENT_VARIANT, title, v, now);
        else
            tell_inner(f, was->name, SECTION_EXPERIMENT_VARIANT, v->name, "removed");
        if (now && (unsigned)(now - is->variants) != i)
            tell_inner(f, was->name, SECTION_EXPERIMENT_VARIANT, v->name, "stands elsewhere");
    }
    for (unsigned i = 0; i < is->variant_count; i++)
        if (!find_variant(was, is->variants[i].name))
            tell_inner(f, was->name, SECTION_EXPERIMENT_VARIANT, is->variants[i].name, "added");
}

static const struct config_shadow *find_shadow(const struct config_experiment *e, const char *name)
{
    for (unsigned i = 0; i < e->shadow_count; i++)
        if (strcmp(e->shadows[i].name, name) == 0)
            return &e->shadows[i];
    return NULL;
}

static void compare_shadows(struct finder *f, const struct config_experiment *was,
                            const struct config_experiment *is)
{
    for (unsigned i = 0; i < was->shadow_count; i++) {
        const struct config_shadow *s = &was->shadows[i], *now = find_shadow(is, s->name);
        char title[2 * CONFIG_NAME_BYTES + 16];
        snprintf(title, sizeof(title), "%s\": shadow \"%s", was->name, s->name);
        if (now)
            compare_keys(f, SECTION_EXPERIMENT_SHADOW, title, s, now);
        else
            tell_inner(f, was->name, SECTION_EXPERIMENT_SHADOW, s->name, "removed");
        if (now && (unsigned)(now - is->shadows) != i)
            tell_inner(f, was->name, SECTION_EXPERIMENT_SHADOW, s->name, "stands elsewhere");
    }
    for (unsigned i = 0; i < is->shadow_count; i++)
        if (!find_shadow(was, is->shadows[i].name))
            tell_inner(f, was->name, SECTION_EXPERIMENT_SHADOW, is->shadows[i].name, "added");
}

static void compare_experiments(struct finder *f)
{
    for (unsigned i = 0; i < f->was->experiment_count; i++) {
        const struct config_experiment *was = &f->was->experiments[i],
                                       *is = config_experiment_find(f->is, was->name);
        if (!is) {
            tell_section(f, SECTION_EXPERIMENT, was->name, "removed");
            continue;
        }
        compare_keys(f, SECTION_EXPERIMENT, was->name, was, is);
        compare_keys(f, SECTION_EXPERIMENT_TARGET, was->name, was, is);
        compare_keys(f, SECTION_EXPERIMENT_GUARD, was->name, was, is);
        compare_keys(f, SECTION_EXPERIMENT_RAMP, was->name, was, is);
        compare_keys(f, SECTION_EXPERIMENT_BANDIT, was->name, was, is);
        compare_variants(f, was, is);
        compare_shadows(f, was, is);
    }
    for (unsigned i = 0; i < f->is->experiment_count; i++)
        if (!config_experiment_find(f->was, f->is->experiments[i].name))
            tell_section(f, SECTION_EXPERIMENT, f->is->experiments[i].name, "added");
}

// A section without a title that may be missing.
static void compare_whole(struct finder *f, enum section_id s, bool was, bool is)
{
    if (was && is)
        compare_keys(f, s, NULL, f->was, f->is);
    else if (was != is)
        tell_section(f, s, NULL, is ? "added" : "removed");
}

void config_changes_find(struct config_changes *out, const struct config *was,
                         const struct config *is)
{
    struct finder f = {.out = out, .was = was, .is = is};
    *out = (struct config_changes){0};
    buffer_init(&out->taken_text);
    buffer_init(&out->refused_text);
    buffer_init(&f.before);
    buffer_init(&f.after);
    compare_keys(&f, SECTION_TOP, NULL, was, is);
    compare_listens(&f);
    compare_whole(&f, SECTION_ADMIN, was->admin.on, is->admin.on);
    compare_rules(&f, SECTION_DEFAULTS, NULL, &was->unlisted, &is->unlisted);
    compare_workers(&f);
    compare_models(&f);
    compare_keys(&f, SECTION_CACHE, NULL, was, is);
    compare_keys(&f, SECTION_LIMITS, NULL, was, is);
    compare_keys(&f, SECTION_LOG, NULL, was, is);
    compare_keys(&f, SECTION_HEALTH, NULL, was, is);
    compare_whole(&f, SECTION_STORE, was->store.on, is->store.on);
    compare_layers(&f);
    compare_experiments(&f);
    buffer_deinit(&f.before);
    buffer_deinit(&f.after);
}

void config_changes_deinit(struct config_changes *c)
{
    buffer_deinit(&c->taken_text);
    buffer_deinit(&c->refused_text);
}
