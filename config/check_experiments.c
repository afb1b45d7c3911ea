/* What experiments owe each other: weights that add up, slices that do not overlap, no circles. */
#include "config/read.h"
#include "config/value.h"

struct looker {
    const struct config *c;
    struct config_errors *errors;
};

static const struct config_key *key(enum section_id s, const char *name)
{
    return config_key_find(s, view_str(name));
}

static unsigned line_of(const struct outline_section *s, const char *name)
{
    return outline_line(s, key(s->kind, name));
}

static bool given(const struct outline_section *s, const char *name)
{
    return outline_has(s, key(s->kind, name));
}

// ---- variants ----------------------------------------------------------------------------------------

static const struct config_experiment *experiment_of(const struct config *c, const char *model)
{
    for (unsigned i = 0; i < c->experiment_count; i++)
        if (strcmp(c->experiments[i].model, model) == 0)
            return &c->experiments[i];
    return NULL;
}

// Clients reach a model by its name, too, and a variant means that one: nothing is drawn twice.
static bool is_a_model(const struct config_experiment *e)
{
    return e->variant_count > 0 && strcmp(e->variants[0].model, e->model) == 0;
}

static void check_model(struct looker *k, const struct outline_section *s,
                        const struct config_experiment *e, const char *model)
{
    const struct config_experiment *other = experiment_of(k->c, model);
    unsigned line = line_of(s, "model");
    if (!config_name_ok(view_str(model)))
        config_error_add(k->errors, line,
                         "model: expected a model name [A-Za-z0-9._-]{1,128}, got \"%.40s\"",
                         model);
    else if (strcmp(model, e->model) == 0 && strcmp(e->variants[0].model, e->model) != 0)
        config_error_add(k->errors, line,
                         "model: \"%.40s\" is what clients ask for: its variant is the control, "
                         "which stands first",
                         model);
    else if (other && strcmp(model, e->model) != 0 && !is_a_model(other))
        config_error_add(k->errors, line,
                         "model: \"%.40s\" stands for experiment \"%.40s\": a %s is a model", model,
                         other->name, config_sections[s->kind].name);
    else if (k->c->models_listed_only && !config_model_find(k->c, view_str(model)))
        config_error_add(k->errors, line,
                         "model: \"%.40s\" has no model section, and models = listed", model);
}

// The first section of that kind from there on.
static const struct outline_section *of_kind(const struct outline_section *s, enum section_id kind)
{
    while (s && s->kind != kind)
        s = s->next;
    return s;
}

// Each of the weights that were and are in force.
static void check_weights(struct looker *k, const struct outline_section *s,
                          const struct config_experiment *e)
{
    const struct outline_section *inner = of_kind(s->inner, SECTION_EXPERIMENT_VARIANT);
    for (unsigned i = 1; i < e->variant_count; i++) {
        inner = of_kind(inner->next, SECTION_EXPERIMENT_VARIANT);
        if (e->variants[i].weights == e->variants[0].weights)
            continue;
        config_error_add(k->errors, line_of(inner, "weight"),
                         "weight: expected as many as variant \"%.40s\" has (%u), got %u",
                         e->variants[0].name, e->variants[0].weights, e->variants[i].weights);
        return;
    }
    for (unsigned w = 0; w < e->variants[0].weights; w++) {
        uint64_t sum = 0;
        char text[32];
        for (unsigned i = 0; i < e->variant_count; i++)
            sum += e->variants[i].weight[w];
        value_print_share(text, sum);
        if (sum != 1000000)
            config_error_add(k->errors, s->line,
                             "experiment \"%.40s\": expected weights that add up to 100%%, got %s",
                             e->name, text);
    }
}

static void check_shadow(struct looker *k, const struct outline_section *s,
                         const struct config_experiment *e, const struct config_shadow *shadow)
{
    check_model(k, s, e, shadow->model);
    if (strcmp(shadow->model, e->variants[0].model) == 0)
        config_error_add(k->errors, line_of(s, "model"),
                         "model: \"%.40s\" is the control: it cannot be compared with itself",
                         shadow->model);
    for (unsigned i = 0; i < e->variant_count; i++)
        if (strcmp(e->variants[i].name, shadow->name) == 0)
            config_error_add(k->errors, s->line, "shadow \"%.40s\": a variant has that title",
                             shadow->name);
}

static void check_shadows(struct looker *k, const struct outline_section *s,
                          const struct config_experiment *e)
{
    uint64_t sum = 0;
    unsigned i = 0;
    const struct outline_section *inner = of_kind(s->inner, SECTION_EXPERIMENT_SHADOW);
    for (; inner; inner = of_kind(inner->next, SECTION_EXPERIMENT_SHADOW)) {
        sum += e->shadows[i].share_ppm;
        check_shadow(k, inner, e, &e->shadows[i++]);
        if (i == CONFIG_MAX_SHADOWS + 1)
            config_error_add(k->errors, inner->line,
                             "experiment \"%.40s\": expected at most %u shadows", e->name,
                             CONFIG_MAX_SHADOWS);
    }
    char text[32];
    value_print_share(text, sum);
    if (sum > 1000000)
        config_error_add(k->errors, s->line,
                         "experiment \"%.40s\": expected shares of shadows that add up to 100%% at "
                         "most, got %s",
                         e->name, text);
}

static void check_variants(struct looker *k, const struct outline_section *s,
                           const struct config_experiment *e)
{
    unsigned least = e->shadow_count > 0 ? 1 : 2; // the control alone can be compared
    if (e->variant_count < least || e->variant_count > CONFIG_MAX_VARIANTS) {
        config_error_add(k->errors, s->line,
                         "experiment \"%.40s\": expected %u to %u variants, got %u", e->name, least,
                         CONFIG_MAX_VARIANTS, e->variant_count);
        return;
    }
    unsigned i = 0;
    const struct outline_section *v = of_kind(s->inner, SECTION_EXPERIMENT_VARIANT);
    for (; v; v = of_kind(v->next, SECTION_EXPERIMENT_VARIANT))
        check_model(k, v, e, e->variants[i++].model);
    check_weights(k, s, e);
    check_shadows(k, s, e);
    if (config_model_find(k->c, view_str(e->model)) && strcmp(e->variants[0].model, e->model) != 0)
        config_error_add(k->errors, line_of(s, "model"),
                         "model: \"%.40s\" has a section of its own: the first variant must be it",
                         e->model);
}

// ---- targets -----------------------------------------------------------------------------------------

static void check_target(struct looker *k, const struct outline_section *s, const char *name,
                         const char *const *list, unsigned n, char between, const char *form)
{
    for (unsigned i = 0; i < n; i++) {
        const char *at = list[i] ? strchr(list[i], between) : NULL;
        if (list[i] && (!at || at == list[i] || !at[1]))
            config_error_add(k->errors, outline_line(s, key(SECTION_EXPERIMENT_TARGET, name)),
                             "%s: expected %s, got \"%.40s\"", name, form, list[i]);
    }
}

static void check_rewards(struct looker *k, const struct outline_section *s,
                          const struct config_experiment *e)
{
    for (unsigned i = 0; i < e->reward_count; i++) {
        if (e->rewards[i] && !config_name_ok(view_str(e->rewards[i])))
            config_error_add(k->errors, line_of(s, "rewards"),
                             "rewards: expected names [A-Za-z0-9._-]{1,128}, got \"%.40s\"",
                             e->rewards[i]);
        for (unsigned o = 0; o < i; o++)
            if (e->rewards[i] && e->rewards[o] && strcmp(e->rewards[i], e->rewards[o]) == 0)
                config_error_add(k->errors, line_of(s, "rewards"),
                                 "rewards: \"%.40s\" stands twice", e->rewards[i]);
    }
}

// ---- a guard's reward ----------------------------------------------------------------------------------

static bool has_reward(const struct config_experiment *e, const char *name)
{
    bool any = false;
    for (unsigned i = 0; i < e->reward_count; i++)
        any |= e->rewards[i] && strcmp(e->rewards[i], name) == 0;
    return any;
}

static void check_guard(struct looker *k, const struct outline_section *s,
                        const struct config_experiment *e)
{
    static const char *const with[] = {"reward_max", "reward_within", "min_reward"};
    const char *reward = e->guard.reward;
    if (reward && !has_reward(e, reward))
        config_error_add(k->errors, outline_line(s, key(SECTION_EXPERIMENT_GUARD, "reward")),
                         "reward: \"%.40s\" is none of the experiment's rewards", reward);
    for (unsigned i = 0; !reward && i < 3; i++) {
        const struct config_key *its = key(SECTION_EXPERIMENT_GUARD, with[i]);
        if (outline_has(s, its))
            config_error_add(k->errors, outline_line(s, its), "%s: goes with reward", with[i]);
    }
}

// ---- weights that move by themselves -----------------------------------------------------------------

static unsigned ramp_line(const struct outline_section *s, const char *name)
{
    return outline_line(s, key(SECTION_EXPERIMENT_RAMP, name));
}

static bool is_step(const struct config_ramp *r, uint32_t weight)
{
    static const uint32_t standard[] = {10000, 50000, 250000, 500000, 1000000};
    const uint32_t *steps = r->n_steps ? r->steps : standard;
    bool any = weight == 0;
    for (unsigned i = 0; i < (r->n_steps ? r->n_steps : 5); i++)
        any |= steps[i] == weight;
    return any;
}

static void check_ramp(struct looker *k, const struct outline_section *s,
                       const struct config_experiment *e)
{
    const struct config_ramp *r = &e->ramp;
    const struct config_variant *v = NULL;
    for (unsigned i = 0; i < e->variant_count; i++)
        v = strcmp(e->variants[i].name, r->variant) == 0 ? &e->variants[i] : v;
    for (unsigned i = 0; i < r->n_steps; i++)
        if (r->steps[i] == 0 || (i > 0 && r->steps[i] <= r->steps[i - 1]))
            config_error_add(k->errors, ramp_line(s, "steps"),
                             "steps: expected each greater than the one before it, from above 0%%");
    if (e->bandit.reward)
        config_error_add(k->errors, ramp_line(s, "variant"),
                         "variant: an experiment has a ramp or a bandit");
    else if (!v)
        config_error_add(k->errors, ramp_line(s, "variant"),
                         "variant: there is no variant \"%.40s\"", r->variant);
    else if (!is_step(r, v->weight[v->weights - 1]))
        config_error_add(
            k->errors, ramp_line(s, "variant"),
            "variant: expected that the weight of \"%.40s\" is 0%% or one of the steps",
            r->variant);
}

static void check_bandit(struct looker *k, const struct outline_section *s,
                         const struct config_experiment *e)
{
    const struct config_bandit *b = &e->bandit;
    if (!has_reward(e, b->reward))
        config_error_add(k->errors, outline_line(s, key(SECTION_EXPERIMENT_BANDIT, "reward")),
                         "reward: \"%.40s\" is none of the experiment's rewards", b->reward);
    if ((uint64_t)b->floor_ppm * e->variant_count > 1000000)
        config_error_add(k->errors, outline_line(s, key(SECTION_EXPERIMENT_BANDIT, "floor")),
                         "floor: %u variants cannot all have so much", e->variant_count);
}

// ---- layers ------------------------------------------------------------------------------------------

static void check_slice(struct looker *k, const struct outline_section *s,
                        const struct config_experiment *e)
{
    if (e->from_ppm >= e->to_ppm)
        config_error_add(k->errors, line_of(s, given(s, "to") ? "to" : "from"),
                         "to: expected more than from");
    for (const struct config_experiment *o = k->c->experiments; o < e; o++) {
        if (!o->layer || strcmp(o->layer, e->layer) != 0 || o->to_ppm <= e->from_ppm ||
            e->to_ppm <= o->from_ppm)
            continue;
        char from[32], to[32];
        value_print_share(from, o->from_ppm);
        value_print_share(to, o->to_ppm);
        config_error_add(k->errors, line_of(s, given(s, "from") ? "from" : "layer"),
                         "layer \"%.40s\": from and to overlap %s to %s of experiment \"%.40s\"",
                         e->layer, from, to, o->name);
    }
}

static void check_layer(struct looker *k, const struct outline_section *s,
                        struct config_experiment *e)
{
    static const char *const alone[] = {"key", "holdout"}, *const within[] = {"from", "to"};
    if (!e->layer) {
        for (unsigned i = 0; i < 2; i++)
            if (given(s, within[i]))
                config_error_add(k->errors, line_of(s, within[i]), "%s: goes with layer",
                                 within[i]);
        return;
    }
    for (unsigned i = 0; i < 2; i++)
        if (given(s, alone[i]))
            config_error_add(k->errors, line_of(s, alone[i]),
                             i ? "%s: in a layer it is what no slice has"
                               : "%s: is the layer's, for all of its experiments",
                             alone[i]);
    const struct config_layer *l = config_layer_find(k->c, e->layer);
    if (!l) {
        config_error_add(k->errors, line_of(s, "layer"), "layer: there is no layer \"%.40s\"",
                         e->layer);
        return;
    }
    e->key = l->key;
    check_slice(k, s, e);
}

// Under one name clients reach several experiments only where a layer says which one.
static void check_site(struct looker *k, const struct outline_section *s,
                       const struct config_experiment *e)
{
    unsigned n = 1;
    for (const struct config_experiment *o = k->c->experiments; o < e; o++) {
        if (strcmp(o->model, e->model) != 0)
            continue;
        n++;
        if (!o->layer || !e->layer || strcmp(o->layer, e->layer) != 0)
            config_error_add(k->errors, line_of(s, "model"),
                             "model: experiment \"%.40s\" has it already: they must be in one "
                             "layer",
                             o->name);
        else if (o->variant_count && e->variant_count &&
                 strcmp(o->variants[0].model, e->variants[0].model) != 0)
            config_error_add(k->errors, line_of(s, "model"),
                             "model: experiment \"%.40s\" has it, too, and another control",
                             o->name);
    }
    if (n == CONFIG_MAX_SITE + 1)
        config_error_add(k->errors, line_of(s, "model"), "model: more than %u experiments have it",
                         CONFIG_MAX_SITE);
}

void config_check_experiment(struct config *c, const struct outline_section *s, unsigned index,
                             struct config_errors *errors)
{
    struct looker k = {.c = c, .errors = errors};
    struct config_experiment *e = &c->experiments[index];
    if (!config_name_ok(view_str(e->model)))
        config_error_add(errors, line_of(s, "model"),
                         "model: expected a model name [A-Za-z0-9._-]{1,128}, got \"%.40s\"",
                         e->model);
    check_variants(&k, s, e);
    check_layer(&k, s, e);
    check_site(&k, s, e);
    check_rewards(&k, s, e);
    check_guard(&k, s, e);
    if (e->ramp.variant)
        check_ramp(&k, s, e);
    if (e->bandit.reward)
        check_bandit(&k, s, e);
    check_target(&k, s, "header", e->target_header, e->target_headers, ':', "\"NAME: VALUE\"");
    check_target(&k, s, "parameter", e->target_parameter, e->target_parameters, '=',
                 "\"NAME=VALUE\"");
    if (e->force_key_file && c->admin.token_file &&
        strcmp(e->force_key_file, c->admin.token_file) == 0)
        config_error_add(
            errors, line_of(s, "force_key_file"),
            "force_key_file: is the operators' token: testers need a key of their own");
}

// ---- created ones ------------------------------------------------------------------------------------

static bool names_model(const struct config_experiment *e, const char *model)
{
    for (unsigned i = 0; i < e->variant_count; i++)
        if (strcmp(e->variants[i].model, model) == 0)
            return true;
    for (unsigned i = 0; i < e->shadow_count; i++)
        if (strcmp(e->shadows[i].model, model) == 0)
            return true;
    return false;
}

// Those before it have been checked already, when its name was a model's.
static void check_others(struct looker *k, const struct outline_section *s,
                         const struct config_experiment *e)
{
    for (const struct config_experiment *o = k->c->experiments; o < e; o++)
        if (names_model(o, e->model) && strcmp(o->model, e->model) != 0 && !is_a_model(e))
            config_error_add(k->errors, line_of(s, "model"),
                             "model: \"%.40s\" is a model of experiment \"%.40s\": the first "
                             "variant must be it",
                             e->model, o->name);
}

// Whoever may create one over the admin listener, or write into the store, names no file of this machine.
void config_check_created(const struct config *c, const struct outline_section *s, unsigned index,
                          bool start, struct config_errors *errors)
{
    struct looker k = {.c = c, .errors = errors};
    const struct config_experiment *e = &c->experiments[index];
    check_others(&k, s, e);
    if (e->force_key_file)
        config_error_add(errors, line_of(s, "force_key_file"),
                         "force_key_file: stands in gateway.conf alone: testers of an experiment "
                         "that is created have no key");
    if (start && e->draft)
        config_error_add(errors, line_of(s, "draft"),
                         "draft: expected false: it is to start at once");
}
