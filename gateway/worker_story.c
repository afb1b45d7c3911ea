#include "gateway/worker_story.h"

#include "gateway/endpoint.h"
#include <stdarg.h>
#include <stdio.h>

#define STORY(l, level, event, ...)                                                                \
    GATEWAY_EVENT((l)->part->gateway, (l)->part->loop, level, event,                               \
                  LOG_CSTR("worker", (l)->endpoint->name),                                         \
                  LOG_CSTR("address", (l)->endpoint->address), __VA_ARGS__)

// Is it news? Then it counts as said.
static bool is_news(struct worker_story *s, enum story_said said, struct view why)
{
    struct hash128 h = hash128(why, 0);
    if (s->said == said && hash128_eq(s->why, h))
        return false;
    s->said = said;
    s->why = h;
    return true;
}

// ---- lists -------------------------------------------------------------------------------------------

struct reasons {
    char text[LOG_FIELD_MAX];
    size_t n;
};

__attribute__((format(printf, 2, 3))) static void add_reason(struct reasons *r, const char *format,
                                                             ...)
{
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(r->text + r->n, sizeof(r->text) - r->n, format, ap);
    va_end(ap);
    if (n > 0)
        r->n += (size_t)n < sizeof(r->text) - r->n ? (size_t)n : sizeof(r->text) - r->n - 1;
}

// ---- what it has -------------------------------------------------------------------------------------

static bool is_to_be_said(const struct link *l, const struct roster_model *m)
{
    const struct roster_model *before = roster_find(l->story.told, m->name);
    return !roster_usable(m) && m->expected && link_may_serve(l, m->name) &&
           !(before && view_eq(before->why, m->why));
}

static bool has_config_to_be_said(const struct link *l, const struct roster_model *m)
{
    const struct roster_model *before = roster_find(l->story.told, m->name);
    return m->config_why.n > 0 && !(before && view_eq(before->config_why, m->config_why));
}

// Served by it, and not by us: the operator has said so.
static bool is_kept_out(const struct link *l, const struct roster_model *m)
{
    return roster_usable(m) && !link_may_serve(l, m->name) &&
           !roster_usable(roster_find(l->story.told, m->name));
}

// In one line: a repository may be full of them.
static void say_unloaded(struct link *l, const struct roster *r)
{
    struct reasons names = {.n = 0};
    unsigned n = 0;
    for (unsigned i = 0; i < r->n; i++) {
        const struct roster_model *m = &r->models[i];
        const struct roster_model *before = roster_find(l->story.told, m->name);
        if (roster_usable(m) || m->expected || (before && view_eq(before->why, m->why)))
            continue;
        add_reason(&names, "%s%.*s", n++ ? ", " : "", VIEW_ARG(m->name));
    }
    if (n > 0)
        STORY(l, LOG_INFO, "models_not_loaded", LOG_I("models", n),
              LOG_S("names", view_of(names.text, names.n)));
}

static void say_models(struct link *l, struct roster *r)
{
    say_unloaded(l, r);
    for (unsigned i = 0; i < r->n; i++) {
        const struct roster_model *m = &r->models[i];
        if (is_to_be_said(l, m))
            STORY(l, LOG_WARN, "model_not_usable", LOG_S("model", m->name), LOG_S("why", m->why));
        if (is_kept_out(l, m))
            STORY(l, LOG_INFO, "model_not_served", LOG_S("model", m->name),
                  LOG_CSTR("why", STORY_KEPT_OUT));
        if (has_config_to_be_said(l, m))
            STORY(l, LOG_WARN, "model_config_refused", LOG_S("model", m->name),
                  LOG_S("why", m->config_why));
    }
    if (r->left_out > 0 && !(l->story.told && l->story.told->left_out == r->left_out))
        STORY(l, LOG_WARN, "models_left_out", LOG_I("models", r->left_out),
              LOG_I("most", ROSTER_MODELS));
    roster_ref(r);
    roster_unref(l->story.told);
    l->story.told = r;
}

static unsigned served(const struct link *l, const struct roster *r)
{
    unsigned n = 0;
    for (unsigned i = 0; i < r->n; i++)
        n += roster_usable(&r->models[i]) && link_may_serve(l, r->models[i].name);
    return n;
}

// Model by model; those that are merely not loaded are counted.
static void why_nothing(const struct link *l, const struct roster *r, struct reasons *out)
{
    unsigned unloaded = 0, others = 0;
    for (unsigned i = 0; i < r->n; i++) {
        const struct roster_model *m = &r->models[i];
        if (roster_usable(m))
            others++;
        else if (!m->expected)
            unloaded++;
        else if (link_may_serve(l, m->name))
            add_reason(out, "%s%.*s: %.*s", out->n ? "; " : "", VIEW_ARG(m->name),
                       VIEW_ARG(m->why));
    }
    if (others > 0)
        add_reason(out, "%s%u models that the configuration does not give to it",
                   out->n ? "; " : "", others);
    if (unloaded > 0)
        add_reason(out, "%s%u models that are not loaded", out->n ? "; " : "", unloaded);
    if (out->n == 0)
        add_reason(out, "it names no models");
}

void story_learnt(struct link *l, struct roster *r)
{
    unsigned models = served(l, r);
    struct reasons why = {.n = 0};
    l->story.failed = (struct hash128){0};
    if (r != l->story.told && r->why.n == 0)
        say_models(l, r);
    if (models > 0 && is_news(&l->story, SAID_READY, VIEW("")))
        STORY(l, LOG_INFO, "worker_ready", LOG_I("models", models));
    if (models > 0)
        return;
    if (r->why.n > 0)
        add_reason(&why, "%.*s", VIEW_ARG(r->why));
    else
        why_nothing(l, r, &why);
    if (is_news(&l->story, SAID_SERVES_NOTHING, view_of(why.text, why.n)))
        STORY(l, LOG_WARN, "worker_serves_nothing", LOG_S("why", view_of(why.text, why.n)));
}

void story_not_learnt(struct link *l, const char *why, bool knows_nothing)
{
    struct hash128 h = hash128(view_str(why), 0);
    if (knows_nothing && is_news(&l->story, SAID_SERVES_NOTHING, view_str(why)))
        STORY(l, LOG_WARN, "worker_serves_nothing", LOG_CSTR("why", why));
    else if (!knows_nothing && !hash128_eq(l->story.failed, h))
        STORY(l, LOG_WARN, "worker_index_failed", LOG_CSTR("why", why));
    l->story.failed = h;
}

// ---- whether it is there -----------------------------------------------------------------------------

// Local workers take a moment to come up, and the keeper says so of those that do not.
void story_down(struct link *l, const char *why)
{
    bool is_local = l->endpoint->local;
    bool was_ready = l->story.said == SAID_READY || l->story.said == SAID_SERVES_NOTHING;
    enum story_said said = was_ready ? SAID_DOWN : SAID_UNREACHABLE;
    if (!was_ready && is_local)
        return;
    if (is_news(&l->story, said, view_str(why)))
        STORY(l, LOG_WARN, was_ready ? "worker_down" : "worker_unreachable", LOG_CSTR("why", why));
}

void story_deinit(struct worker_story *s)
{
    roster_unref(s->told);
}
