#include "gateway/index.h"

#include "base/json.h"
#include "gateway/card.h"
#include "gateway/endpoint.h"
#include "gateway/link.h"

// ---- what workers have and cannot serve --------------------------------------------------------------------

// The next connection that has learnt what its worker has.
static const struct link *next_link(const struct part *p, unsigned *at)
{
    while (*at < p->n_links) {
        const struct link *l = p->links[(*at)++];
        if (l && l->worker && !l->leaving && worker_roster(l->worker))
            return l;
    }
    return NULL;
}

static bool is_served(const struct part *p, struct view name)
{
    const struct model *m = table_find(p->gateway->table, name);
    return m && atomic_load_explicit(&m->ready, memory_order_relaxed) > 0;
}

// It is the worker's to serve, and it cannot.
static bool is_refused(const struct link *l, const struct roster_model *m)
{
    return !roster_usable(m) && link_may_serve(l, m->name);
}

struct view index_why(const struct part *p, struct view name)
{
    unsigned at = 0;
    for (const struct link *l; (l = next_link(p, &at));) {
        const struct roster_model *m = roster_find(worker_roster(l->worker), name);
        if (m && is_refused(l, m))
            return m->why;
    }
    return (struct view){0};
}

bool index_lacks(const struct part *p)
{
    unsigned at = 0;
    for (const struct link *l; (l = next_link(p, &at));) {
        const struct roster *r = worker_roster(l->worker);
        for (unsigned i = 0; r->n_usable < r->n && i < r->n; i++) {
            const struct roster_model *m = &r->models[i];
            if (m->expected && is_refused(l, m) && !is_served(p, m->name))
                return true;
        }
    }
    return false;
}

// ---- the lines ---------------------------------------------------------------------------------------------

struct lines {
    struct oip_index *index;
    struct arena *arena;
    struct json_keyset told; // models, and versions of them, that are refused
    unsigned cap, refused;
    bool ready_only;
};

static void add_line(struct lines *l, const struct oip_index_model *line)
{
    if (l->ready_only && !view_is(line->state, "READY"))
        return;
    struct oip_index_model *grown =
        oip_grown(l->arena, l->index->models, l->index->n, &l->cap, sizeof(*grown));
    if (!grown)
        return;
    l->index->models = grown;
    grown[l->index->n++] = *line;
}

// Of many replicas one speaks. False: it was told already.
static bool is_first(struct lines *l, struct view name, struct view version)
{
    char *key = arena_alloc_aligned(l->arena, name.n + 1 + version.n, 1);
    if (!key || l->refused == INDEX_REFUSED)
        return false;
    memcpy(key, name.p, name.n);
    key[name.n] = '/'; // which stands in no name that is served
    if (version.n > 0)
        memcpy(key + name.n + 1, version.p, version.n);
    bool first = json_keyset_add(&l->told, view_of(key, name.n + 1 + version.n)) == JSON_SEEN_NEW;
    l->refused += first;
    return first;
}

// A model that cannot be used, or a version of one that can.
static void add_refused(struct lines *l, const struct part *p, const struct link *of,
                        const struct roster_model *m)
{
    const struct roster_refusal *r = &m->refused;
    bool usable = roster_usable(m);
    if (!link_may_serve(of, m->name) || (usable ? r->state.n == 0 : is_served(p, m->name)))
        return;
    if (is_first(l, m->name, usable ? r->version : VIEW("")))
        add_line(l, &(struct oip_index_model){
                        .name = m->name,
                        .version = r->version,
                        .state = r->state.n || !m->expected ? r->state : VIEW("UNAVAILABLE"),
                        .reason = usable ? r->reason : m->why});
}

static void add_all_refused(struct lines *l, const struct part *p)
{
    unsigned at = 0;
    for (const struct link *of; !l->ready_only && (of = next_link(p, &at));) {
        const struct roster *r = worker_roster(of->worker);
        for (unsigned i = 0; i < r->n; i++)
            add_refused(l, p, of, &r->models[i]);
    }
}

static void add_model(struct lines *l, struct view name, struct model *m, bool ready)
{
    struct oip_index_model line = {.name = name,
                                   .state = ready ? VIEW("READY") : VIEW("UNAVAILABLE")};
    struct view *versions;
    unsigned n = card_versions(m, l->arena, &versions);
    if (!ready && !is_first(l, name, VIEW(""))) // it was refused, and said so
        return;
    for (unsigned i = 0; i < n; i++) {
        line.version = versions[i];
        add_line(l, &line);
    }
    if (n == 0)
        add_line(l, &line);
}

void index_tell(const struct part *p, bool ready_only, struct arena *a, struct oip_index *out)
{
    bool draining = atomic_load(&p->gateway->draining);
    struct lines l = {.index = out, .arena = a, .ready_only = ready_only};
    json_keyset_init(&l.told, a);
    add_all_refused(&l, p);
    for (unsigned i = 0; i < TABLE_MODELS; i++) {
        struct model *m = table_at(p->gateway->table, i);
        if (m)
            add_model(&l, m->name, m, !draining && is_served(p, m->name));
    }
    const struct experiments *all = p->snap->experiments;
    for (unsigned i = 0; all && i < all->n; i++) {
        const struct experiment_site *site = &all->places[i].site;
        struct model *control = table_find(p->gateway->table, site->control);
        if (control && !table_find(p->gateway->table, site->model)) // a name of its own
            add_model(&l, site->model, control, !draining && is_served(p, site->control));
    }
}
