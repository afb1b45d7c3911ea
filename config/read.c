#include "config/read.h"
#include "base/check.h"
#include "config/value.h"
#include <confuse.h>

struct filler {
    struct config *c;
    struct config_errors *errors;
    const struct outline_section *at; // the section that is being read, for lines
};

// ---- libConfuse ---------------------------------------------------------------------------------------

static void no_message(cfg_t *cfg, const char *format, va_list ap)
{
}

// The options of one section: its keys, all as texts, and the sections within it. NULL: no memory.
static cfg_opt_t *options(struct arena *a, enum section_id id)
{
    cfg_opt_t *opts = arena_zalloc(a, (config_key_count + SECTION_KINDS + 1) * sizeof(*opts));
    unsigned n = 0;
    if (!opts)
        return NULL;
    for (unsigned i = 0; i < config_key_count; i++) {
        const struct config_key *k = &config_keys[i];
        if (k->section != id)
            continue;
        opts[n].name = k->name;
        opts[n].type = CFGT_STR;
        opts[n++].flags = CFGF_NODEFAULT | (config_key_is_list(k) ? CFGF_LIST : CFGF_NONE);
    }
    for (enum section_id s = SECTION_LISTEN; s < SECTION_KINDS; s++) {
        if (config_sections[s].parent != id)
            continue;
        opts[n].name = config_sections[s].name;
        opts[n].type = CFGT_SEC;
        opts[n].flags = config_sections[s].titled ? CFGF_MULTI | CFGF_TITLE : CFGF_NONE;
        opts[n].subopts = options(a, s); // depth: the table's, two
        if (!opts[n++].subopts)
            return NULL;
    }
    return opts; // ends in a zero row
}

// ---- values -------------------------------------------------------------------------------------------

static void wrong(struct filler *f, const struct config_key *k, const char *came)
{
    char expects[200];
    config_key_expects(k, expects, sizeof(expects));
    config_error_add(f->errors, outline_line(f->at, k), "%s: expected %s, got \"%.40s\"", k->name,
                     expects, came);
}

static void no_memory(struct filler *f)
{
    config_error_add(f->errors, 0, "out of memory");
}

static void put_number(void *at, uint16_t size, uint64_t v)
{
    if (size == 1)
        *(uint8_t *)at = (uint8_t)v; // bool
    else if (size == 4)
        *(uint32_t *)at = (uint32_t)v;
    else
        *(uint64_t *)at = v;
}

static enum value_result choice(const char *choices, struct view v, uint64_t *out)
{
    for (*out = 0;; ++*out) {
        size_t n = strcspn(choices, "|");
        if (view_eq(v, view_of(choices, n)))
            return VALUE_OK;
        if (!choices[n])
            return VALUE_SYNTAX;
        choices += n + 1;
    }
}

static enum value_result number(const struct config_key *k, struct view v, uint64_t *out)
{
    switch (k->type) {
    case KEY_COUNT:
    case KEY_COUNTS:
        return value_count(v, out);
    case KEY_DURATION:
        return value_duration(v, out);
    case KEY_SIZE:
        return value_size(v, out);
    case KEY_SHARE:
    case KEY_SHARES:
        return value_share(v, out);
    case KEY_BOOL:
        return value_bool(v, out);
    case KEY_CHOICE:
        return choice(k->choices, v, out);
    default:
        return VALUE_SYNTAX;
    }
}

static const char *keep_text(struct filler *f, const char *text)
{
    struct view v = arena_copy(&f->c->arena, view_of(text, strlen(text) + 1));
    if (!v.p)
        no_memory(f);
    return v.p;
}

// One value. `base` is the struct that k->offset counts from.
static void fill(struct filler *f, const struct config_key *k, void *base, const char *text)
{
    void *at = (char *)base + k->offset;
    uint64_t v = 0;
    switch (k->type) {
    case KEY_PATH:
        if (!*text)
            wrong(f, k, text);
        *(const char **)at = keep_text(f, text);
        return;
    case KEY_LISTEN: {
        enum value_result r = value_listen_address(view_str(text), &f->c->arena, at);
        if (r == VALUE_MEMORY)
            no_memory(f);
        else if (r != VALUE_OK)
            wrong(f, k, text);
        return;
    }
    case KEY_REDIS: {
        enum value_result r = value_redis_address(view_str(text), &f->c->arena, at);
        if (r == VALUE_MEMORY)
            no_memory(f);
        else if (r != VALUE_OK)
            wrong(f, k, text);
        return;
    }
    case KEY_TRAIT: {
        enum value_result r = value_trait(view_str(text), &f->c->arena, at);
        if (r == VALUE_MEMORY)
            no_memory(f);
        else if (r != VALUE_OK)
            wrong(f, k, text);
        return;
    }
    default: {
        if (k->automatic && strcmp(text, "auto") == 0) {
            put_number(at, k->size, UINT64_MAX);
            return;
        }
        enum value_result r = number(k, view_str(text), &v);
        bool bounded = k->type != KEY_BOOL && k->type != KEY_CHOICE;
        if (r != VALUE_OK || (bounded && (v < k->min || v > k->max)))
            wrong(f, k, text);
        else
            put_number(at, k->size, v);
    }
    }
}

static void fill_words(struct filler *f, const struct config_key *k, cfg_opt_t *opt, unsigned n,
                       void *at)
{
    const char **words = arena_zalloc(&f->c->arena, (n + 1) * sizeof(*words));
    if (!words) {
        no_memory(f);
        return;
    }
    for (unsigned i = 0; i < n; i++)
        words[i] = keep_text(f, cfg_opt_getnstr(opt, i));
    *(const char *const **)at = words;
}

static void fill_counts(struct filler *f, const struct config_key *k, cfg_opt_t *opt, unsigned n,
                        void *at)
{
    uint32_t *counts = arena_zalloc(&f->c->arena, n * sizeof(*counts));
    uint64_t v = 0, last = 0;
    if (!counts) {
        no_memory(f);
        return;
    }
    for (unsigned i = 0; i < n; i++, last = v) {
        const char *text = cfg_opt_getnstr(opt, i);
        bool share = k->type == KEY_SHARES; // in any order; the others ascend
        if (number(k, view_str(text), &v) != VALUE_OK || (!share && v <= last) || v > UINT32_MAX) {
            wrong(f, k, text);
            return;
        }
        counts[i] = (uint32_t)v;
    }
    *(const uint32_t **)at = counts;
}

static void fill_addresses(struct filler *f, const struct config_key *k, cfg_opt_t *opt, unsigned n,
                           void *at)
{
    struct config_address *list = arena_zalloc(&f->c->arena, n * sizeof(*list));
    if (!list) {
        no_memory(f);
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        const char *text = cfg_opt_getnstr(opt, i);
        enum value_result r = (k->type == KEY_PEERS ? value_peer_address : value_worker_address)(
            view_str(text), &f->c->arena, &list[i]);
        if (r == VALUE_MEMORY)
            no_memory(f);
        else if (r != VALUE_OK)
            wrong(f, k, text);
    }
    *(const struct config_address **)at = list;
}

static unsigned worker_index(const struct config *c, const char *name)
{
    unsigned i = 0;
    while (i < c->worker_count && strcmp(c->workers[i].name, name) != 0)
        i++;
    return i;
}

static void fill_workers(struct filler *f, const struct config_key *k, cfg_opt_t *opt, unsigned n,
                         void *at)
{
    unsigned *list = arena_zalloc(&f->c->arena, n * sizeof(*list)), before;
    if (!list) {
        no_memory(f);
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        const char *name = cfg_opt_getnstr(opt, i);
        list[i] = worker_index(f->c, name);
        for (before = 0; list[before] != list[i];)
            before++;
        if (list[i] == f->c->worker_count)
            wrong(f, k, name);
        else if (before < i)
            config_error_add(f->errors, outline_line(f->at, k), "%s: \"%.40s\" stands in it twice",
                             k->name, name);
    }
    *(const unsigned **)at = list;
}

static void fill_list(struct filler *f, const struct config_key *k, void *base, cfg_opt_t *opt)
{
    unsigned n = cfg_opt_size(opt);
    void *at = (char *)base + k->offset;
    if (n > k->max) {
        config_error_add(f->errors, outline_line(f->at, k),
                         "%s: expected at most %u elements, got %u", k->name, (unsigned)k->max, n);
        return;
    }
    if (k->type == KEY_WORDS)
        fill_words(f, k, opt, n, at);
    else if (k->type == KEY_COUNTS || k->type == KEY_SHARES)
        fill_counts(f, k, opt, n, at);
    else if (k->type == KEY_WORKERS)
        fill_workers(f, k, opt, n, at);
    else
        fill_addresses(f, k, opt, n, at);
    *(unsigned *)((char *)base + k->count_offset) = n;
}

// ---- sections -----------------------------------------------------------------------------------------

// Defaults go through the same readers as what stands in a file.
static void fill_defaults(struct filler *f, enum section_id id, void *base)
{
    for (unsigned i = 0; i < config_key_count; i++)
        if (config_keys[i].section == id && config_keys[i].standard)
            fill(f, &config_keys[i], base, config_keys[i].standard);
}

static void fill_section(struct filler *f, enum section_id id, void *base, cfg_t *cfg)
{
    for (unsigned i = 0; i < config_key_count; i++) {
        const struct config_key *k = &config_keys[i];
        if (k->section != id)
            continue;
        cfg_opt_t *opt = cfg_getopt(cfg, k->name);
        if (never(!opt))
            continue;
        if (cfg_opt_size(opt) == 0) {
            if (k->required)
                config_error_add(f->errors, f->at->line, "%s: %s is missing",
                                 config_sections[id].name, k->name);
        } else if (config_key_is_list(k)) {
            fill_list(f, k, base, opt);
        } else {
            fill(f, k, base, cfg_opt_getnstr(opt, 0));
        }
    }
}

// A section with rules, and those within it.
static void fill_rules(struct filler *f, void *base, cfg_t *cfg, enum section_id of)
{
    fill_section(f, of, base, cfg);
    for (unsigned i = 1; i < CONFIG_RULE_SECTIONS; i++)
        fill_section(f, of + i, base, cfg_getsec(cfg, config_sections[of + i].name));
}

// What holds for a model when nobody says anything; then what the section `defaults` says.
static void fill_unlisted(struct filler *f, cfg_t *cfg)
{
    struct config_model *m = &f->c->unlisted;
    if (cfg) {
        fill_rules(f, m, cfg, SECTION_DEFAULTS);
        return;
    }
    for (unsigned i = 0; i < CONFIG_RULE_SECTIONS; i++)
        fill_defaults(f, SECTION_DEFAULTS + i, m);
}

// A model's rules before its own section: those of the worker that it names first, or of the only one. Of several it may
// find itself at any, with other rules at each: then there is no saying.
static const struct config_model *inherited(const struct config *c, cfg_t *cfg)
{
    const char *named = cfg_size(cfg, "worker") > 0 ? cfg_getnstr(cfg, "worker", 0) : NULL;
    for (unsigned i = 0; i < c->worker_count; i++) {
        if (named ? strcmp(named, c->workers[i].name) == 0 : c->worker_count == 1)
            return &c->workers[i].rules;
    }
    return &c->unlisted;
}

// The next one of them.
static void fill_variant(struct filler *f, struct config_experiment *e, cfg_t *cfg)
{
    struct config_variant *v = &e->variants[e->variant_count];
    cfg_t *section = cfg_getnsec(cfg, "variant", e->variant_count++);
    if (never(!section))
        return;
    v->name = keep_text(f, cfg_title(section));
    fill_section(f, SECTION_EXPERIMENT_VARIANT, v, section);
}

static void fill_shadow(struct filler *f, struct config_experiment *e, cfg_t *cfg)
{
    struct config_shadow *s = &e->shadows[e->shadow_count];
    cfg_t *section = cfg_getnsec(cfg, "shadow", e->shadow_count++);
    if (never(!section))
        return;
    s->name = keep_text(f, cfg_title(section));
    fill_defaults(f, SECTION_EXPERIMENT_SHADOW, s);
    fill_section(f, SECTION_EXPERIMENT_SHADOW, s, section);
}

static void fill_experiment(struct filler *f, struct config_experiment *e, cfg_t *cfg)
{
    const struct outline_section *whole = f->at;
    fill_defaults(f, SECTION_EXPERIMENT, e);
    fill_section(f, SECTION_EXPERIMENT, e, cfg);
    fill_section(f, SECTION_EXPERIMENT_TARGET, e, cfg_getsec(cfg, "target"));
    fill_defaults(f, SECTION_EXPERIMENT_GUARD, e);
    fill_section(f, SECTION_EXPERIMENT_GUARD, e, cfg_getsec(cfg, "guard"));
    fill_defaults(f, SECTION_EXPERIMENT_RAMP, e);
    fill_section(f, SECTION_EXPERIMENT_RAMP, e, cfg_getsec(cfg, "ramp"));
    fill_defaults(f, SECTION_EXPERIMENT_BANDIT, e);
    fill_section(f, SECTION_EXPERIMENT_BANDIT, e, cfg_getsec(cfg, "bandit"));
    unsigned variants = cfg_size(cfg, "variant"), shadows = cfg_size(cfg, "shadow");
    e->variants = arena_zalloc(&f->c->arena, (variants + 1) * sizeof(*e->variants));
    e->shadows = arena_zalloc(&f->c->arena, (shadows + 1) * sizeof(*e->shadows));
    if (!e->variants || !e->shadows) {
        no_memory(f);
        return;
    }
    for (const struct outline_section *s = whole->inner; s; s = s->next) {
        f->at = s;
        if (s->kind == SECTION_EXPERIMENT_VARIANT)
            fill_variant(f, e, cfg);
        else
            fill_shadow(f, e, cfg);
    }
    f->at = whole;
}

// The i-th section of a titled kind.
static void fill_titled(struct filler *f, enum section_id kind, unsigned i, cfg_t *cfg)
{
    struct config *c = f->c;
    const char *title = keep_text(f, cfg_title(cfg));
    switch (kind) {
    case SECTION_LISTEN:
        c->listens[i].name = title;
        fill_defaults(f, kind, &c->listens[i]);
        fill_section(f, kind, &c->listens[i], cfg);
        break;
    case SECTION_WORKER:
        c->workers[i].name = title;
        fill_defaults(f, kind, &c->workers[i]);
        c->workers[i].rules = c->unlisted;
        fill_rules(f, &c->workers[i], cfg, kind);
        break;
    case SECTION_LAYER:
        c->layers[i] = (struct config_layer){.name = title, .salt = title};
        fill_section(f, kind, &c->layers[i], cfg);
        break;
    case SECTION_EXPERIMENT:
        c->experiments[i] = (struct config_experiment){.name = title, .salt = title};
        fill_experiment(f, &c->experiments[i], cfg);
        break;
    default:
        c->models[i] = *inherited(c, cfg);
        c->models[i].name = title;
        c->models[i].critical = false;
        fill_rules(f, &c->models[i], cfg, kind);
        fill_section(f, SECTION_MODEL_PREDICTIONS, &c->models[i], cfg_getsec(cfg, "predictions"));
    }
}

// libConfuse keeps the sections of a kind in the order of the file, as the outline does.
static void fill_kind(struct filler *f, const struct outline *o, enum section_id kind, cfg_t *cfg)
{
    unsigned i = 0;
    for (const struct outline_section *s = o->top.next; s; s = s->next) {
        if (s->kind != kind)
            continue;
        cfg_t *section = cfg_getnsec(cfg, config_sections[kind].name, i);
        f->at = s;
        if (never(!section))
            return;
        if (config_sections[kind].titled)
            fill_titled(f, kind, i++, section);
        else if (kind == SECTION_DEFAULTS)
            fill_unlisted(f, section);
        else
            fill_section(f, kind, f->c, section);
    }
}

static bool make_room(struct config *c, const struct outline *o)
{
    for (const struct outline_section *s = o->top.next; s; s = s->next) {
        c->listen_count += s->kind == SECTION_LISTEN;
        c->worker_count += s->kind == SECTION_WORKER;
        c->model_count += s->kind == SECTION_MODEL;
        c->layer_count += s->kind == SECTION_LAYER;
        c->experiment_count += s->kind == SECTION_EXPERIMENT;
        c->admin.on |= s->kind == SECTION_ADMIN;
        c->store.on |= s->kind == SECTION_STORE;
        c->predictions.on |= s->kind == SECTION_PREDICTIONS;
    }
    c->listens = arena_zalloc(&c->arena, c->listen_count * sizeof(*c->listens));
    c->workers = arena_zalloc(&c->arena, c->worker_count * sizeof(*c->workers));
    c->models = arena_zalloc(&c->arena, c->model_count * sizeof(*c->models));
    c->layers = arena_zalloc(&c->arena, c->layer_count * sizeof(*c->layers));
    c->experiments = arena_zalloc(&c->arena, c->experiment_count * sizeof(*c->experiments));
    return (c->listens || !c->listen_count) && (c->workers || !c->worker_count) &&
           (c->models || !c->model_count) && (c->layers || !c->layer_count) &&
           (c->experiments || !c->experiment_count);
}

static void fill_all(struct filler *f, const struct outline *o, cfg_t *cfg)
{
    static const enum section_id defaulted[] = {SECTION_TOP,        SECTION_CACHE,  SECTION_LIMITS,
                                                SECTION_LOG,        SECTION_HEALTH, SECTION_STORE,
                                                SECTION_PREDICTIONS};
    f->at = &o->top;
    for (unsigned i = 0; i < sizeof(defaulted) / sizeof(*defaulted); i++)
        fill_defaults(f, defaulted[i], f->c);
    fill_unlisted(f, NULL);
    fill_section(f, SECTION_TOP, f->c, cfg);
    // In the order of the ids: workers and defaults come before the models.
    for (enum section_id s = SECTION_LISTEN; s < SECTION_KINDS; s++)
        if (config_sections[s].parent == SECTION_TOP)
            fill_kind(f, o, s, cfg);
}

// opts NULL: out of memory. What was read is freed by the caller; NULL: errors.
static cfg_t *parse(const char *text, cfg_opt_t *opts, struct filler *f)
{
    cfg_t *cfg = opts ? cfg_init(opts, CFGF_NONE) : NULL;
    if (!cfg) {
        no_memory(f);
        return NULL;
    }
    cfg_set_error_function(cfg, no_message);
    if (cfg_parse_buf(cfg, text) == CFG_SUCCESS)
        return cfg;
    // the outline is stricter than libConfuse, so only memory can be the reason
    config_error_add(f->errors, cfg->line > 0 ? (unsigned)cfg->line : 0, "cannot be read here");
    cfg_free(cfg);
    return NULL;
}

void config_read(struct config *c, const char *text, const struct outline *o, struct arena *scratch,
                 struct config_errors *errors)
{
    struct filler f = {.c = c, .errors = errors};
    cfg_opt_t *opts = options(scratch, SECTION_TOP);
    cfg_t *cfg = parse(text, opts && make_room(c, o) ? opts : NULL, &f);
    if (!cfg)
        return;
    fill_all(&f, o, cfg);
    cfg_free(cfg);
}

void config_read_experiment(struct config *c, const char *text, const struct outline *o,
                            struct arena *scratch, struct config_errors *errors)
{
    struct filler f = {.c = c, .errors = errors, .at = o->top.next};
    cfg_opt_t opts[] = {
        CFG_SEC("experiment", options(scratch, SECTION_EXPERIMENT), CFGF_MULTI | CFGF_TITLE),
        CFG_END()};
    cfg_t *cfg = parse(text, opts[0].subopts ? opts : NULL, &f);
    if (!cfg)
        return;
    fill_titled(&f, SECTION_EXPERIMENT, c->experiment_count++, cfg_getnsec(cfg, "experiment", 0));
    cfg_free(cfg);
}
