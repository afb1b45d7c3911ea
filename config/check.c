/* What one key alone cannot know: keys that need or exclude each other, and things that must differ. */
#include "config/read.h"
#include "config/value.h"

struct checker {
    struct config *c;
    struct config_errors *errors;
    const struct outline *o;
};

static const struct config_key *key(enum section_id s, const char *name)
{
    return config_key_find(s, view_str(name));
}

static bool same_place(const struct config_address *a, const struct config_address *b)
{
    if (a->scheme != b->scheme)
        return false;
    if (a->scheme == CONFIG_UNIX)
        return a->path && b->path && strcmp(a->path, b->path) == 0;
    return a->port != 0 && a->port == b->port && a->host && b->host &&
           strcmp(a->host, b->host) == 0;
}

static unsigned place_in(const char *const *list, unsigned n, const char *name)
{
    for (unsigned i = 0; i < n; i++)
        if (list[i] && strcmp(list[i], name) == 0)
            return i;
    return n;
}

static void check_cors(struct checker *k, const struct outline_section *s,
                       const struct config_listen *l)
{
    unsigned line = outline_line(s, key(SECTION_LISTEN, "cors"));
    for (unsigned i = 0; l->cors && i < l->cors_count; i++) {
        const char *origin = l->cors[i];
        bool any = origin && strcmp(origin, CONFIG_ANY_ORIGIN) == 0;
        const char *why = origin && !any ? value_origin(view_str(origin)) : NULL;
        if (why)
            config_error_add(k->errors, line,
                             "cors: expected an origin such as \"https://app.example\", or \"*\", "
                             "got \"%.60s\": %s",
                             origin, why);
        else if (any && l->cors_count > 1)
            config_error_add(k->errors, line, "cors: \"*\" is all: nothing stands beside it");
        else if (origin && place_in(l->cors, i, origin) < i)
            config_error_add(k->errors, line, "cors: \"%.60s\" stands in it twice", origin);
    }
}

static void check_listen(struct checker *k, const struct outline_section *s, unsigned index)
{
    const struct config_listen *l = &k->c->listens[index];
    const struct config_key *address = key(SECTION_LISTEN, "address");
    if (!l->certificate != !l->key)
        config_error_add(k->errors, s->line, "listen \"%s\": %s needs %s", l->name,
                         l->key ? "key" : "certificate", l->key ? "certificate" : "key");
    for (unsigned i = 0; i < index; i++)
        if (same_place(&l->address, &k->c->listens[i].address))
            config_error_add(k->errors, outline_line(s, address),
                             "address: %s is the address of listen \"%s\" already", l->address.text,
                             k->c->listens[i].name);
    if (k->c->admin.on && same_place(&l->address, &k->c->admin.address))
        config_error_add(k->errors, outline_line(s, address),
                         "address: %s is the address of admin already", l->address.text);
    check_cors(k, s, l);
}

static void complete_model(struct checker *k, struct config_model *m)
{
    if (m->p99_leave_us == 0)
        m->p99_leave_us = m->p99_enter_us / 4 * 3;
    if (m->timeout_us == 0)
        m->timeout_us = k->c->limits.deadline_default_us;
    if (m->queue_rows == 0 && m->max_rows > 0)
        m->queue_rows = m->max_rows > 16 ? 64 * m->max_rows : 1024;
}

// Who comes back before he has gone would move for ever.
static void check_bounds(struct checker *k, const struct outline_section *s, struct config_model *m,
                         enum section_id of)
{
    enum section_id degradation = of + SECTION_MODEL_DEGRADATION - SECTION_MODEL;
    const struct config_key *enter = key(degradation, "p99_enter"),
                            *leave = key(degradation, "p99_leave");
    if (!outline_has(s, enter) && !outline_has(s, leave))
        return;
    unsigned line = outline_line(s, outline_has(s, leave) ? leave : enter);
    char e[32], l[32];
    value_print_duration(e, m->p99_enter_us);
    value_print_duration(l, m->p99_leave_us);
    if (m->p99_leave_us > 0 && m->p99_enter_us == 0)
        config_error_add(k->errors, line, "p99_leave: needs p99_enter");
    else if (m->p99_leave_us > m->p99_enter_us)
        config_error_add(k->errors, line, "p99_leave: expected at most p99_enter (%s), got %s", e,
                         l);
}

// of: the section of a model or a worker, or the one of the defaults, with those within it. What is inherited was said
// where it stands.
static void check_rules(struct checker *k, const struct outline_section *s, struct config_model *m,
                        enum section_id of)
{
    enum section_id batch = of + SECTION_MODEL_BATCH - SECTION_MODEL,
                    queue = of + SECTION_MODEL_QUEUE - SECTION_MODEL;
    const struct config_key *preferred = key(batch, "preferred"),
                            *max_rows = key(batch, "max_rows"), *rows = key(queue, "rows"),
                            *timeout = key(of, "timeout");
    check_bounds(k, s, m, of);
    if (m->max_rows && m->preferred_count && m->preferred &&
        m->preferred[m->preferred_count - 1] > m->max_rows &&
        (outline_has(s, preferred) || outline_has(s, max_rows)))
        config_error_add(k->errors, outline_line(s, preferred),
                         "preferred: %u is more than max_rows (%u)",
                         m->preferred[m->preferred_count - 1], m->max_rows);
    if (m->queue_rows && m->queue_rows < m->max_rows &&
        (outline_has(s, rows) || outline_has(s, max_rows)))
        config_error_add(k->errors, outline_line(s, rows),
                         "rows: %u is less than batch.max_rows (%u): no batch could be full",
                         m->queue_rows, m->max_rows);
    if (m->timeout_us > k->c->limits.deadline_max_us && outline_has(s, timeout))
        config_error_add(k->errors, outline_line(s, timeout),
                         "timeout: is longer than limits.deadline_max");
    complete_model(k, m);
}

static void check_worker(struct checker *k, const struct outline_section *s, unsigned index)
{
    struct config_worker *w = &k->c->workers[index];
    bool command = outline_has(s, key(SECTION_WORKER, "command"));
    bool addresses = outline_has(s, key(SECTION_WORKER, "addresses"));
    const struct config_key *replicas = key(SECTION_WORKER, "replicas");
    if (command == addresses)
        config_error_add(k->errors, s->line, "worker \"%s\": expected %s of command and addresses",
                         w->name, command ? "only one" : "one");
    if (command && w->command_count && w->command[0] && !w->command[0][0])
        config_error_add(k->errors, outline_line(s, key(SECTION_WORKER, "command")),
                         "command: expected a program's name, got \"\"");
    if (addresses && outline_has(s, replicas))
        config_error_add(k->errors, outline_line(s, replicas),
                         "replicas: goes with command; each of addresses is one replica");
    if (!command)
        w->replicas = 0;
    check_rules(k, s, &w->rules, SECTION_WORKER);
}

// The i-th step of a chain: another model's name, each once, or the written answer, last.
static void check_step(struct checker *k, const struct config_model *m, unsigned line, unsigned i)
{
    const char *step = m->fallback[i];
    struct view name = view_str(step);
    if (strcmp(step, CONFIG_DEFAULT) == 0 && i + 1 < m->fallback_count)
        config_error_add(k->errors, line,
                         "fallback: \"default\" always answers: nothing is asked behind it");
    else if (strcmp(step, CONFIG_CACHED) == 0 && (!m->cache_enabled || m->cache_ttl_us == 0))
        config_error_add(k->errors, line,
                         "fallback: \"cached\" needs cache { ttl }: nothing is kept");
    else if (strcmp(step, CONFIG_DEFAULT) != 0 && !config_name_ok(name))
        config_error_add(k->errors, line,
                         "fallback: expected a model name [A-Za-z0-9._+@~-]{1,128}, got \"%.40s\"",
                         step);
    else if (strcmp(step, m->name) == 0)
        config_error_add(k->errors, line, "fallback: \"%.40s\" is the model itself", step);
    else if (place_in(m->fallback, i, step) < i)
        config_error_add(k->errors, line, "fallback: \"%.40s\" stands in it twice", step);
    else if (k->c->models_listed_only && strcmp(step, CONFIG_DEFAULT) != 0 &&
             strcmp(step, CONFIG_CACHED) != 0 && !config_model_find(k->c, name))
        config_error_add(k->errors, line,
                         "fallback: \"%.40s\" has no model section, and models = listed", step);
}

static void check_chain(struct checker *k, const struct outline_section *s,
                        const struct config_model *m)
{
    const struct config_key *fallback = key(SECTION_MODEL, "fallback"),
                            *timeout = key(SECTION_MODEL, "step_timeout"),
                            *written = key(SECTION_MODEL, "default");
    for (unsigned i = 0; m->fallback && i < m->fallback_count; i++)
        if (m->fallback[i])
            check_step(k, m, outline_line(s, fallback), i);
    bool ends =
        m->fallback && place_in(m->fallback, m->fallback_count, CONFIG_DEFAULT) < m->fallback_count;
    if (ends && !outline_has(s, written))
        config_error_add(k->errors, outline_line(s, fallback),
                         "fallback: \"default\" needs the key default");
    if (outline_has(s, written) && !ends)
        config_error_add(k->errors, outline_line(s, written),
                         "default: is never given: fallback does not end in \"default\"");
    if (outline_has(s, timeout) && !outline_has(s, fallback))
        config_error_add(
            k->errors, outline_line(s, timeout),
            "step_timeout: goes with fallback; of a model alone the deadline is timeout");
}

// Its values would be shown: in logs, to who may see /status.
static bool is_secret(struct view header)
{
    return view_is(header, "authorization") || view_is(header, "proxy-authorization") ||
           view_is(header, "cookie");
}

static bool is_header_name(struct view v)
{
    for (size_t i = 0; i < v.n; i++) {
        char c = v.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_'))
            return false;
    }
    return v.n > 0 && v.n <= 64;
}

// "input:NAME", "output:NAME", "header:NAME", "parameter:NAME", "tenant".
static bool is_redaction(const char *word)
{
    static const char *const kind[] = {"input:", "output:", "header:", "parameter:"};
    for (unsigned i = 0; i < sizeof(kind) / sizeof(kind[0]); i++)
        if (strncmp(word, kind[i], strlen(kind[i])) == 0)
            return word[strlen(kind[i])] != '\0';
    return strcmp(word, "tenant") == 0;
}

static void check_redact(struct checker *k, const struct outline_section *s,
                         const struct config_model *m, enum section_id of)
{
    const struct config_key *row = key(of, "redact");
    for (unsigned i = 0; outline_has(s, row) && m->redact && i < m->redact_count; i++)
        if (m->redact[i] && !is_redaction(m->redact[i]))
            config_error_add(k->errors, outline_line(s, row),
                             "redact: expected \"input:NAME\", \"output:NAME\", "
                             "\"header:NAME\", \"parameter:NAME\" or \"tenant\", got \"%.40s\"",
                             m->redact[i]);
}

static bool came_before(const char *const *list, unsigned at)
{
    for (unsigned i = 0; i < at; i++)
        if (list[i] && strcmp(list[i], list[at]) == 0)
            return true;
    return false;
}

static void check_recorded(struct checker *k, const struct outline_section *s,
                           const struct config_model *m, enum section_id of)
{
    const struct config_key *row = key(of, "headers");
    unsigned n = outline_has(s, row) && m->predict_headers ? m->predict_header_count : 0;
    for (unsigned i = 0; i < n; i++) {
        const char *name = m->predict_headers[i];
        if (!name)
            continue;
        if (!is_header_name(view_str(name)))
            config_error_add(k->errors, outline_line(s, row),
                             "headers: expected names of at most 64 of a-z 0-9 - _, got \"%.40s\"",
                             name);
        else if (is_secret(view_str(name)))
            config_error_add(k->errors, outline_line(s, row),
                             "headers: %s is a secret, and would be recorded", name);
        else if (came_before(m->predict_headers, i))
            config_error_add(k->errors, outline_line(s, row), "headers: %s came twice", name);
    }
}

// What records hold, of all models or of one.
static void check_records(struct checker *k, const struct outline_section *s,
                          const struct config_model *m, enum section_id of)
{
    check_redact(k, s, m, of);
    check_recorded(k, s, m, of);
    k->c->predictions.required |= m->predict_required;
}

static void check_predictions(struct checker *k, const struct outline_section *s)
{
    const struct config_predictions *p = &k->c->predictions;
    if (!p->file && !p->redis)
        config_error_add(k->errors, s->line, "predictions: expected file, or redis = true");
    if (p->redis && !k->c->store.on)
        config_error_add(k->errors, outline_line(s, key(SECTION_PREDICTIONS, "redis")),
                         "redis: needs a store section");
    if (p->instance && !view_is_name(view_str(p->instance), 64))
        config_error_add(k->errors, outline_line(s, key(SECTION_PREDICTIONS, "instance")),
                         "instance: expected at most 64 of A-Z a-z 0-9 . _ -, got \"%.40s\"",
                         p->instance);
    if (p->archive && !p->file)
        config_error_add(k->errors, outline_line(s, key(SECTION_PREDICTIONS, "archive")),
                         "archive: needs file beside it");
    if (p->archive_keep_us > 0 && !p->archive)
        config_error_add(k->errors, outline_line(s, key(SECTION_PREDICTIONS, "archive_keep")),
                         "archive_keep: needs archive beside it");
    if (p->archive && p->keep_us > 0 && p->keep_us < 2 * 24 * 3600000000ull)
        config_error_add(k->errors, outline_line(s, key(SECTION_PREDICTIONS, "keep")),
                         "keep: files would be gone before they are archived: expected 0, or 2d or "
                         "more");
    check_records(k, s, &k->c->unlisted, SECTION_PREDICTIONS);
}

static void check_model(struct checker *k, const struct outline_section *s, unsigned index)
{
    check_chain(k, s, &k->c->models[index]);
    check_records(k, s, &k->c->models[index], SECTION_MODEL_PREDICTIONS);
    check_rules(k, s, &k->c->models[index], SECTION_MODEL);
}

static void check_defaults(struct checker *k, const struct outline_section *s)
{
    check_rules(k, s, &k->c->unlisted, SECTION_DEFAULTS);
}

static void check_limits(struct checker *k, const struct outline_section *s)
{
    const struct config_limits *l = &k->c->limits;
    if (l->deadline_default_us > l->deadline_max_us)
        config_error_add(k->errors, outline_line(s, key(SECTION_LIMITS, "deadline_default")),
                         "deadline_default: is longer than deadline_max");
    if (l->bytes_in_flight && l->bytes_in_flight < l->max_body)
        config_error_add(k->errors, outline_line(s, key(SECTION_LIMITS, "bytes_in_flight")),
                         "bytes_in_flight: is less than max_body: the largest request could never "
                         "be taken");
}

// Keys that go together, or not at all.
static void check_store_pair(struct checker *k, const struct outline_section *s, const char *one,
                             const char *needs)
{
    if (outline_has(s, key(SECTION_STORE, one)) && !outline_has(s, key(SECTION_STORE, needs)))
        config_error_add(k->errors, outline_line(s, key(SECTION_STORE, one)),
                         "%s: needs %s beside it", one, needs);
}

static void check_store_needs_tls(struct checker *k, const struct outline_section *s,
                                  const char *one)
{
    if (outline_has(s, key(SECTION_STORE, one)) && !k->c->store.tls)
        config_error_add(k->errors, outline_line(s, key(SECTION_STORE, one)),
                         "%s: goes with tls or rediss://", one);
}

static void check_store_tls(struct checker *k, const struct outline_section *s)
{
    struct config_store *c = &k->c->store;
    const struct config_key *at = key(SECTION_STORE, c->tls ? "tls" : "redis");
    c->tls |= c->redis.text && c->redis.scheme == CONFIG_TLS;
    check_store_needs_tls(k, s, "ca");
    check_store_needs_tls(k, s, "certificate");
    if (c->tls && c->redis.text && c->redis.scheme == CONFIG_UNIX)
        config_error_add(k->errors, outline_line(s, at), "tls: not over a Unix socket");
#ifndef SLUICE_REDIS_TLS
    if (c->tls)
        config_error_add(k->errors, outline_line(s, at),
                         "%s: this build's hiredis speaks no TLS (1.0 or later does, with "
                         "libhiredis_ssl)",
                         at->name);
#endif
}

static void check_store(struct checker *k, const struct outline_section *s)
{
    struct config_store *c = &k->c->store;
    unsigned ways = outline_has(s, key(SECTION_STORE, "redis")) +
                    outline_has(s, key(SECTION_STORE, "sentinels")) +
                    outline_has(s, key(SECTION_STORE, "cluster"));
    if (ways != 1)
        config_error_add(k->errors, s->line, "store: expected %s of redis, sentinels and cluster",
                         ways ? "only one" : "one");
    check_store_pair(k, s, "sentinels", "master");
    check_store_pair(k, s, "master", "sentinels");
    check_store_pair(k, s, "user", "password_file");
    check_store_pair(k, s, "sentinel_user", "sentinel_password_file");
    check_store_pair(k, s, "sentinel_password_file", "sentinels");
    check_store_pair(k, s, "certificate", "key");
    check_store_pair(k, s, "key", "certificate");
    check_store_tls(k, s);
    if (!c->deployment)
        c->deployment = "default";
    if (!view_is_name(view_str(c->deployment), 64))
        config_error_add(k->errors, outline_line(s, key(SECTION_STORE, "deployment")),
                         "deployment: expected at most 64 of A-Z a-z 0-9 . _ -, got \"%.40s\"",
                         c->deployment);
}

static void check_tenant(struct checker *k)
{
    static const char prefix[] = "header:";
    const size_t n = sizeof(prefix) - 1;
    unsigned line = outline_line(&k->o->top, key(SECTION_TOP, "tenant"));
    struct view text = view_str(k->c->tenant), name = {0};
    if (text.n > n && memcmp(text.p, prefix, n) == 0)
        name = view_of(text.p + n, text.n - n);
    if (!is_header_name(name))
        config_error_add(k->errors, line,
                         "tenant: expected \"header:NAME\" with at most 64 of a-z 0-9 - _, got "
                         "\"%.40s\"",
                         k->c->tenant);
    else if (is_secret(name))
        config_error_add(k->errors, line,
                         "tenant: %.*s is a secret, and names of tenants are shown: have a proxy "
                         "set a header of its own",
                         VIEW_ARG(name));
    else
        k->c->tenant_header = name;
}

void config_check(struct config *c, const struct outline *o, struct config_errors *errors)
{
    struct checker k = {.c = c, .errors = errors, .o = o};
    unsigned listens = 0, workers = 0, models = 0, experiments = 0;
    for (const struct outline_section *s = o->top.next; s; s = s->next) {
        if (s->kind == SECTION_LISTEN)
            check_listen(&k, s, listens++);
        else if (s->kind == SECTION_WORKER)
            check_worker(&k, s, workers++);
        else if (s->kind == SECTION_MODEL)
            check_model(&k, s, models++);
        else if (s->kind == SECTION_DEFAULTS)
            check_defaults(&k, s);
        else if (s->kind == SECTION_LIMITS)
            check_limits(&k, s);
        else if (s->kind == SECTION_STORE)
            check_store(&k, s);
        else if (s->kind == SECTION_PREDICTIONS)
            check_predictions(&k, s);
        else if (s->kind == SECTION_EXPERIMENT)
            config_check_experiment(c, s, experiments++, errors);
    }
    complete_model(&k, &c->unlisted);
    if (c->tenant)
        check_tenant(&k);
    if (listens == 0)
        config_error_add(errors, 0, "no listen section: nobody could reach the gateway");
    if (workers == 0)
        config_error_add(errors, 0, "no worker section: nothing could answer");
    if (c->models_listed_only && models == 0)
        config_error_add(errors, 0, "models = listed, but no model section");
    if (models > CONFIG_MAX_MODELS)
        config_error_add(errors, 0, "expected at most %u model sections, got %u", CONFIG_MAX_MODELS,
                         models);
    if (experiments > CONFIG_MAX_EXPERIMENTS || c->layer_count > CONFIG_MAX_EXPERIMENTS)
        config_error_add(errors, 0,
                         "expected at most %u experiments and as many layers, got %u, %u",
                         CONFIG_MAX_EXPERIMENTS, experiments, c->layer_count);
    if (config_replicas(c) > CONFIG_MAX_REPLICAS)
        config_error_add(errors, 0, "expected at most %u replicas of all workers together, got %u",
                         CONFIG_MAX_REPLICAS, config_replicas(c));
    if (c->log.access && strcmp(c->log.access, "off") == 0)
        c->log.access = NULL;
}
