#include "gateway/experiments.h"

#include "base/check.h"
#include "base/count.h"
#include "base/mem.h"
#include "gateway/admin.h"
#include "gateway/card.h"
#include "gateway/difference.h"
#include "gateway/process.h"
#include "gateway/snapshot.h"
#include "router/force.h"
#include <stdio.h>
#include <stdlib.h>

#define TRAITS_MOST 64u               // that experiments under one name ask for
#define TENANT_HEADER "sluice-tenant" // where the file does not name another

_Static_assert(CONFIG_MAX_VARIANTS == EXPERIMENT_VARIANTS, "none is left out");

// ---- counts ------------------------------------------------------------------------------------------

static struct trial *find_trial(const struct experiments *all, const char *name,
                                const char *variant)
{
    for (unsigned i = 0; all && i < all->n; i++) {
        struct experiment_place *p = &all->places[i];
        if (!variant[0] && strcmp(p->outside->name, name) == 0)
            return p->outside;
        for (unsigned k = 0; variant[0] && k < p->site.n; k++) {
            const struct experiment *e = &p->site.experiments[k];
            for (unsigned v = 0; view_is(e->name, name) && v < e->n_variants; v++)
                if (view_is(e->variants[v].name, variant))
                    return p->keeps[k].trials[v];
            for (unsigned v = 0; view_is(e->name, name) && v < e->n_shadows; v++)
                if (view_is(e->shadows[v].name, variant))
                    return p->keeps[k].shadow_trials[v];
        }
    }
    return NULL;
}

static _Atomic uint32_t trials_made;

// One more reference on it. NULL: out of memory.
static struct trial *take_trial(const struct experiments *before, unsigned loops, const char *name,
                                const char *variant)
{
    struct trial *t = find_trial(before, name, variant);
    if (!t && (t = mem_zalloc(sizeof(*t) + loops * sizeof(t->shard[0])))) {
        snprintf(t->name, sizeof(t->name), "%s", name);
        snprintf(t->variant, sizeof(t->variant), "%s", variant);
        t->id = atomic_fetch_add(&trials_made, 1) + 1;
    }
    if (t)
        t->refs++;
    return t;
}

static void drop_trial(struct trial *t, unsigned loops)
{
    if (!t || --t->refs > 0)
        return;
    for (unsigned i = 0; i < loops; i++) {
        struct trial_counts *c = atomic_load(&t->shard[i]);
        if (c)
            mem_free(atomic_load(&c->shadow));
        mem_free(c);
    }
    mem_free(t);
}

struct trial_counts *experiments_counts(struct trial *t, unsigned loop)
{
    struct trial_counts *c = atomic_load_explicit(&t->shard[loop], memory_order_relaxed);
    if (!c && (c = mem_zalloc(sizeof(*c))))
        atomic_store_explicit(&t->shard[loop], c, memory_order_release);
    return c;
}

uint64_t experiments_requests(const struct trial *t, unsigned loops)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < loops; i++) {
        const struct trial_counts *c = atomic_load_explicit(&t->shard[i], memory_order_acquire);
        for (unsigned status = 0; c && status < STATUS_COUNT; status++)
            sum += atomic_load_explicit(&c->requests[status], memory_order_relaxed);
    }
    return sum;
}

// Of a client that is refused, or has gone, nobody knows how it would have ended.
static void add_outcome(struct guard_counts *sum, enum status s, uint64_t n)
{
    bool failed = status_table[s].http >= 500 && s != STATUS_HTTP_VERSION;
    sum->drawn += n;
    sum->errors.bad += failed ? n : 0;
    sum->errors.n += failed || s == STATUS_OK ? n : 0;
}

void experiments_settle(struct trial *t, unsigned loops, uint64_t now_us, uint64_t within_us)
{
    unsigned k = cohort_settled(now_us, within_us);
    struct cohort_sum sum = {0};
    for (unsigned i = 0; i < loops; i++) {
        const struct trial_counts *c = atomic_load_explicit(&t->shard[i], memory_order_acquire);
        sum.n += c ? count_get(&c->cohorts[k].n) : 0;
        sum.gained += c ? count_get(&c->cohorts[k].gained) : 0;
    }
    t->settled[k] = sum;
}

struct cohort_sum experiments_settled(const struct trial *t)
{
    struct cohort_sum sum = {0};
    for (unsigned k = 0; k < COHORTS; k++) {
        sum.n += t->settled[k].n;
        sum.gained += t->settled[k].gained;
    }
    return sum;
}

struct guard_counts experiments_sum(const struct trial *t, unsigned loops, uint64_t slow_us,
                                    struct hist *took)
{
    struct guard_counts sum = {.rewards = cohort_arm(experiments_settled(t))};
    if (took)
        hist_init(took);
    for (unsigned i = 0; i < loops; i++) {
        const struct trial_counts *c = atomic_load_explicit(&t->shard[i], memory_order_acquire);
        if (!c)
            continue;
        sum.fallbacks.bad += count_get(&c->fallbacks); // before its whole, which is written first
        for (unsigned s = 0; s < STATUS_COUNT; s++)
            add_outcome(&sum, s, count_get(&c->requests[s]));
        sum.fallbacks.n += count_get(&c->requests[STATUS_OK]);
        for (unsigned b = 0; slow_us > 0 && b < HIST_BUCKETS; b++) {
            uint64_t n = count_get(&c->took.bucket[b]);
            sum.slow.n += n;
            sum.slow.bad += b > hist_index(slow_us) ? n : 0;
        }
        if (took)
            hist_merge(took, &c->took);
    }
    return sum;
}

struct trial *experiments_trial(const struct experiment_place *p, const struct experiment_draw *d)
{
    if (!d->experiment)
        return p->outside;
    return p->keeps[d->experiment - p->site.experiments]
        .trials[d->variant - d->experiment->variants];
}

// ---- making ------------------------------------------------------------------------------------------

struct builder {
    struct experiments *all;
    const struct config *config;
    const struct experiments *before;
    struct trait traits[TRAITS_MOST]; // of the place at hand
    char *why;
};

static bool no_memory(struct builder *b)
{
    snprintf(b->why, FILE_WHY, "out of memory");
    return false;
}

// TRAITS_MOST: they are too many.
static unsigned trait_index(struct builder *b, struct experiment_place *p, enum trait_kind kind,
                            struct view name)
{
    unsigned i = 0;
    while (i < p->site.n_traits && (b->traits[i].kind != kind || !view_eq(b->traits[i].name, name)))
        i++;
    if (i == p->site.n_traits && i < TRAITS_MOST)
        b->traits[p->site.n_traits++] = (struct trait){kind, name};
    return i;
}

static struct trait trait_of(const struct config_trait *t)
{
    static const enum trait_kind kind[] = {
        [CONFIG_REQUEST_ID] = TRAIT_REQUEST_ID, [CONFIG_API_KEY] = TRAIT_API_KEY,
        [CONFIG_HEADER] = TRAIT_HEADER,         [CONFIG_COOKIE] = TRAIT_COOKIE,
        [CONFIG_PARAMETER] = TRAIT_PARAMETER,   [CONFIG_CLAIM] = TRAIT_CLAIM};
    return (struct trait){kind[t->kind], view_str(t->name)};
}

// Whose requests are told apart by it, are so here, too. NULL: out of memory.
static struct view tenant_header(struct builder *b)
{
    struct view named = b->config->tenant_header;
    return named.n > 0 ? arena_copy(&b->all->arena, named) : VIEW(TENANT_HEADER);
}

// "NAME: VALUE" or "NAME=VALUE"; a header's name in lower case.
static bool read_condition(struct builder *b, struct experiment_place *p, enum trait_kind kind,
                           const char *text, struct experiment_condition *out)
{
    size_t n = strcspn(text, kind == TRAIT_HEADER ? ":" : "=");
    const char *value = text + n + 1;
    char *name = (char *)arena_copy(&b->all->arena, view_of(text, n)).p;
    if (!name)
        return no_memory(b);
    for (size_t i = 0; kind == TRAIT_HEADER && i < n; i++)
        name[i] |= name[i] >= 'A' && name[i] <= 'Z' ? 0x20 : 0;
    value += kind == TRAIT_HEADER ? strspn(value, " \t") : 0;
    out->trait = trait_index(b, p, kind, view_of(name, n));
    out->value = view_str(value);
    return true;
}

static int by_trait(const void *a, const void *b)
{
    const struct experiment_condition *x = a, *y = b;
    return (x->trait > y->trait) - (x->trait < y->trait);
}

static bool fill_conditions(struct builder *b, struct experiment_place *p, struct experiment *e,
                            const struct config_experiment *c)
{
    unsigned n = c->target_headers + c->target_tenants + c->target_parameters, at = 0;
    struct experiment_condition *list = arena_array(&b->all->arena, n + 1, sizeof(*list));
    if (!list)
        return no_memory(b);
    for (unsigned i = 0; i < c->target_headers; i++)
        if (!read_condition(b, p, TRAIT_HEADER, c->target_header[i], &list[at++]))
            return false;
    for (unsigned i = 0; i < c->target_parameters; i++)
        if (!read_condition(b, p, TRAIT_PARAMETER, c->target_parameter[i], &list[at++]))
            return false;
    struct view tenant = tenant_header(b);
    if (c->target_tenants > 0 && !tenant.p)
        return no_memory(b);
    for (unsigned i = 0; i < c->target_tenants; i++)
        list[at++] = (struct experiment_condition){trait_index(b, p, TRAIT_HEADER, tenant),
                                                   view_str(c->target_tenant[i])};
    qsort(list, n, sizeof(*list), by_trait);
    if (n > 0 && list[n - 1].trait == TRAITS_MOST) {
        snprintf(b->why, FILE_WHY,
                 "experiment \"%s\": target: more than %u names under model \"%s\"", c->name,
                 TRAITS_MOST, c->model);
        return false;
    }
    e->conditions = list;
    e->n_conditions = n;
    return true;
}

struct live_hold { // and what is in force: where an experiment's `live` points into
    struct loop_task task;
    struct gateway *gateway;
    unsigned visited;               // loops that have had a turn since
    struct live_hold *next, **prev; // of gateway.lives_before
    struct experiment_live live;
};

static struct live_hold *hold_of(const struct experiment_live *live)
{
    return live ? container_of((struct experiment_live *)live, struct live_hold, live) : NULL;
}

static void free_hold(struct live_hold *p)
{
    if (p && p->prev) {
        *p->prev = p->next;
        if (p->next)
            p->next->prev = p->prev;
    }
    mem_free(p);
}

static void on_visit(struct loop *l, struct loop_task *t)
{
    struct live_hold *p = container_of(t, struct live_hold, task);
    struct gateway *g = p->gateway;
    if (l == &g->main && p->visited == g->loops.n) {
        free_hold(p);
        return;
    }
    loop_post_task(l, p->visited < g->loops.n ? g->loops.loop[p->visited] : &g->main, t);
    if (p->visited < g->loops.n)
        p->visited++;
}

// Nobody begins to read it any more.
static void retire(struct gateway *g, struct live_hold *p)
{
    p->gateway = g;
    p->next = g->lives_before;
    p->prev = &g->lives_before;
    if (p->next)
        p->next->prev = &p->next;
    g->lives_before = p;
    p->task.fn = on_visit;
    on_visit(&g->main, &p->task);
}

bool experiments_put(struct gateway *gateway, struct experiment_place *p, unsigned index,
                     const struct experiment_live *live)
{
    struct experiment *e = (struct experiment *)&p->site.experiments[index];
    struct live_hold *next = hold_of(atomic_load(&e->live));
    if (next && !gateway) {
        next->live = *live;
        return true;
    }
    next = mem_zalloc(sizeof(*next));
    if (!next)
        return false;
    next->live = *live;
    struct live_hold *before = hold_of(atomic_exchange(&e->live, &next->live));
    if (before)
        retire(gateway, before);
    return true;
}

void experiments_forget(struct gateway *g)
{
    while (g->lives_before)
        free_hold(g->lives_before);
}

// As the file says: what has changed since is put in its place before any loop sees it (gateway/trials.h).
static bool fill_live(struct builder *b, struct experiment_place *p, unsigned index,
                      const struct config_experiment *c)
{
    struct experiment_live live = {.how = DRAW_TAKEN};
    uint32_t weights[EXPERIMENT_VARIANTS];
    buckets_init(&live.buckets);
    for (unsigned w = 0; w < c->variants[0].weights; w++) {
        for (unsigned i = 0; i < c->variant_count; i++)
            weights[i] = c->variants[i].weight[w];
        if (!buckets_change(&live.buckets, weights, c->variant_count)) {
            snprintf(b->why, FILE_WHY,
                     "experiment \"%s\": weight: too many changes: leave the oldest out", c->name);
            return false;
        }
    }
    return experiments_put(NULL, p, index, &live) || no_memory(b);
}

static bool fill_variants(struct builder *b, struct experiment *e, struct experiment_keep *keep,
                          const struct config_experiment *c)
{
    struct experiment_variant *list = arena_array(&b->all->arena, c->variant_count, sizeof(*list));
    keep->trials = arena_zalloc(&b->all->arena, c->variant_count * sizeof(*keep->trials));
    if (!list || !keep->trials)
        return no_memory(b);
    e->variants = list;
    for (unsigned i = 0; i < c->variant_count; i++) {
        const struct config_variant *v = &c->variants[i];
        list[i] = (struct experiment_variant){view_str(v->name), view_str(v->model)};
        keep->trials[i] = take_trial(b->before, b->all->loops, c->name, v->name);
        if (!keep->trials[i])
            return no_memory(b);
        e->n_variants++;
    }
    return true;
}

// TRIAL_REWARDS: there is none left.
static unsigned slot_of(struct trial *t, const char *reward)
{
    unsigned i = 0;
    while (i < t->n_rewards && strcmp(t->reward[i], reward) != 0)
        i++;
    if (i < t->n_rewards || i == TRIAL_REWARDS)
        return i;
    snprintf(t->reward[i], sizeof(t->reward[i]), "%s", reward);
    return t->n_rewards++;
}

static bool fill_rewards(struct builder *b, const struct experiment *e,
                         struct experiment_keep *keep, const struct config_experiment *c)
{
    unsigned n = e->n_variants * CONFIG_MAX_REWARDS;
    keep->reward_slots = arena_zalloc(&b->all->arena, n);
    if (!keep->reward_slots)
        return no_memory(b);
    for (unsigned v = 0; v < e->n_variants; v++) {
        for (unsigned i = 0; i < c->reward_count; i++) {
            unsigned slot = slot_of(keep->trials[v], c->rewards[i]);
            if (slot == TRIAL_REWARDS) {
                snprintf(b->why, FILE_WHY,
                         "experiment \"%s\": rewards: more than %u names since the start", c->name,
                         TRIAL_REWARDS);
                return false;
            }
            keep->reward_slots[v * CONFIG_MAX_REWARDS + i] = (uint8_t)slot;
        }
    }
    return true;
}

static uint64_t bucket_at(uint32_t ppm)
{
    return ppm * BUCKETS / EXPERIMENT_WHOLE;
}

// One behind the other, in the order of the file.
static bool fill_shadows(struct builder *b, struct experiment *e, struct experiment_keep *keep,
                         const struct config_experiment *c)
{
    struct arena *a = &b->all->arena;
    struct experiment_shadow *list = arena_array(a, c->shadow_count + 1, sizeof(*list));
    keep->shadow_trials = arena_zalloc(a, (c->shadow_count + 1) * sizeof(*keep->shadow_trials));
    if (!list || !keep->shadow_trials)
        return no_memory(b);
    uint32_t at_ppm = 0;
    e->shadows = list;
    for (unsigned i = 0; i < c->shadow_count; i++) {
        const struct config_shadow *s = &c->shadows[i];
        list[i] = (struct experiment_shadow){.name = view_str(s->name),
                                             .model = view_str(s->model),
                                             .from = bucket_at(at_ppm),
                                             .to = bucket_at(at_ppm + s->share_ppm)};
        at_ppm += s->share_ppm;
        keep->shadow_trials[i] = take_trial(b->before, b->all->loops, c->name, s->name);
        if (!keep->shadow_trials[i])
            return no_memory(b);
        e->n_shadows++;
    }
    return true;
}

// Not the operators' token, whatever file that is in.
static bool read_key(struct builder *b, struct experiment_keep *keep,
                     const struct config_experiment *c)
{
    char key[TOKEN_BYTES + 1], token[TOKEN_BYTES + 1];
    const char *why, *path = c->force_key_file, *other = b->config->admin.token_file;
    if (!path)
        return true;
    bool ok = admin_read_token(path, key, &why) == 0;
    if (ok && other && admin_read_token(other, token, &(const char *){NULL}) == 0 &&
        strcmp(key, token) == 0) {
        why = "is the operators' token: testers need a key of their own";
        ok = false;
    }
    if (!ok)
        snprintf(b->why, FILE_WHY, "experiment \"%s\": force_key_file: %.200s: %s", c->name, path,
                 why);
    keep->force_bytes = ok ? strlen(key) : 0;
    if (ok && !(keep->force_key = (char *)arena_copy(&b->all->arena, view_str(key)).p))
        ok = no_memory(b);
    explicit_bzero(key, sizeof(key));
    explicit_bzero(token, sizeof(token));
    return ok;
}

static unsigned era_of(const struct experiments *before, const struct config_experiment *c)
{
    for (unsigned i = 0; before && i < before->n; i++) {
        const struct experiment_place *p = &before->places[i];
        for (unsigned k = 0; k < p->site.n; k++) {
            const struct config_experiment *was = p->keeps[k].config;
            bool same = was->guard.reward_within_us == c->guard.reward_within_us;
            if (strcmp(was->name, c->name) == 0)
                return (p->keeps[k].era + !same) % EXPERIMENT_ERAS;
        }
    }
    return 0;
}

static bool fill_experiment(struct builder *b, struct experiment_place *p, unsigned index,
                            struct experiment *e, const struct config_experiment *c)
{
    struct experiment_keep *keep = &p->keeps[index];
    keep->config = c;
    keep->era = era_of(b->before, c);
    *e = (struct experiment){
        .name = view_str(c->name),
        .seed = experiment_seed(view_str(c->salt), DRAW_FOR_VARIANT),
        .from = bucket_at(c->from_ppm),
        .to = bucket_at(c->to_ppm),
        .held = bucket_at(c->holdout_ppm),
        .holdout_seed = experiment_seed(view_str(c->salt), DRAW_FOR_HOLDOUT),
        .unfit = &keep->unfit,
        .shadow_seed = experiment_seed(view_str(c->salt), DRAW_FOR_SHADOW),
    };
    return fill_variants(b, e, keep, c) && fill_shadows(b, e, keep, c) &&
           fill_rewards(b, e, keep, c) && fill_live(b, p, index, c) &&
           fill_conditions(b, p, e, c) && read_key(b, keep, c);
}

static unsigned count_of(const struct config *c, const char *model)
{
    unsigned n = 0;
    for (unsigned i = 0; i < c->experiment_count; i++)
        n += strcmp(c->experiments[i].model, model) == 0;
    return n;
}

// All experiments under the name of the first.
static bool fill_place(struct builder *b, struct experiment_place *p,
                       const struct config_experiment *first)
{
    const struct config *c = b->config;
    struct arena *a = &b->all->arena;
    unsigned n = count_of(c, first->model);
    struct experiment *list = arena_zalloc(a, n * sizeof(*list));
    p->site.model = view_str(first->model);
    p->site.control = view_str(first->variants[0].model);
    p->site.experiments = list;
    p->keeps = arena_zalloc(a, n * sizeof(*p->keeps));
    p->outside = take_trial(b->before, b->all->loops, first->model, "");
    if (!list || !p->keeps || !p->outside)
        return no_memory(b);
    const struct config_layer *l = first->layer ? config_layer_find(c, first->layer) : NULL;
    p->site.layered = l != NULL;
    p->site.layer_seed = l ? experiment_seed(view_str(l->salt), DRAW_FOR_LAYER) : 0;
    b->traits[0] = trait_of(&first->key);
    p->site.n_traits = 1;
    for (unsigned i = 0; i < c->experiment_count; i++) {
        const struct config_experiment *e = &c->experiments[i];
        if (strcmp(e->model, first->model) != 0)
            continue;
        unsigned at = p->site.n++;
        if (!fill_experiment(b, p, at, &list[at], e))
            return false;
    }
    struct trait *traits = arena_array(a, p->site.n_traits, sizeof(*traits));
    if (!traits)
        return no_memory(b);
    memcpy(traits, b->traits, p->site.n_traits * sizeof(*traits));
    p->traits = traits;
    return true;
}

static int compare_names(struct view a, struct view b)
{
    int way = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
    return way ? way : (a.n > b.n) - (a.n < b.n);
}

static int by_model(const void *a, const void *b)
{
    const struct experiment_place *x = a, *y = b;
    return compare_names(x->site.model, y->site.model);
}

static bool is_first(const struct config *c, unsigned index)
{
    for (unsigned i = 0; i < index; i++)
        if (strcmp(c->experiments[i].model, c->experiments[index].model) == 0)
            return false;
    return true;
}

static bool fill(struct builder *b)
{
    const struct config *c = b->config;
    struct experiments *all = b->all;
    all->places = arena_zalloc(&all->arena, c->experiment_count * sizeof(*all->places));
    if (!all->places)
        return no_memory(b);
    for (unsigned i = 0; i < c->experiment_count; i++)
        if (is_first(c, i) && !fill_place(b, &all->places[all->n++], &c->experiments[i]))
            return false;
    qsort(all->places, all->n, sizeof(*all->places), by_model);
    return true;
}

struct experiments *experiments_new(const struct config *c, const struct experiments *before,
                                    unsigned loops, char why[FILE_WHY])
{
    why[0] = '\0';
    if (c->experiment_count == 0)
        return NULL;
    struct experiments *all = mem_zalloc(sizeof(*all));
    struct builder *b = mem_zalloc(sizeof(*b));
    bool ok = all && b;
    if (ok) {
        *b = (struct builder){.all = all, .config = c, .before = before, .why = why};
        arena_init(&all->arena, 0);
        all->loops = loops;
        ok = fill(b);
    } else {
        snprintf(why, FILE_WHY, "out of memory");
    }
    mem_free(b);
    if (ok)
        return all;
    experiments_free(all);
    return NULL;
}

void experiments_free(struct experiments *all)
{
    if (!all)
        return;
    for (unsigned i = 0; i < all->n; i++) {
        struct experiment_place *p = &all->places[i];
        drop_trial(p->outside, all->loops);
        for (unsigned k = 0; k < p->site.n; k++) {
            struct experiment_keep *keep = &p->keeps[k];
            free_hold(hold_of(atomic_load(&p->site.experiments[k].live)));
            for (unsigned v = 0; v < p->site.experiments[k].n_variants; v++)
                drop_trial(keep->trials[v], all->loops);
            for (unsigned v = 0; v < p->site.experiments[k].n_shadows; v++)
                drop_trial(keep->shadow_trials[v], all->loops);
            if (keep->force_key)
                explicit_bzero(keep->force_key, keep->force_bytes);
        }
    }
    arena_deinit(&all->arena);
    mem_free(all);
}

// ---- drawing -----------------------------------------------------------------------------------------

const struct experiment_place *experiments_find(const struct experiments *all, struct view model)
{
    for (unsigned low = 0, high = all->n; low < high && model.n > 0;) {
        unsigned middle = low + (high - low) / 2;
        int way = compare_names(model, all->places[middle].site.model);
        if (way == 0)
            return &all->places[middle];
        if (way < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static bool force_variant(const struct experiment_place *p, struct view text, uint64_t wall_s,
                          struct experiment_draw *out, struct error *e)
{
    struct force f;
    if (!force_read(text, &f, e))
        return false;
    if (!experiment_force(&p->site, f.experiment, f.variant, out))
        return error_set(e, STATUS_BAD_REQUEST, "sluice-variant: %.*s has no such variant",
                         VIEW_ARG(p->site.model));
    const struct experiment_keep *keep = &p->keeps[out->experiment - p->site.experiments];
    if (!keep->force_key)
        return error_set(e, STATUS_UNAUTHENTICATED,
                         "sluice-variant: the experiment has no force_key_file");
    return force_holds(&f, view_of(keep->force_key, keep->force_bytes), wall_s, e);
}

bool experiments_draw(const struct experiment_place *p, struct exchange *ex,
                      const struct infer_request *r, struct view request_id, uint64_t wall_s,
                      struct experiment_draw *out, struct error *e)
{
    static const struct trait forced = {TRAIT_HEADER, VIEW("sluice-variant")};
    struct view said[TRAITS_MOST], word = trait_read(&forced, ex, r, request_id);
    if (word.n > 0)
        return force_variant(p, word, wall_s, out, e);
    *out = (struct experiment_draw){.how = DRAW_BOUND, .model = p->site.control};
    if (r->version.n > 0 || r->sequence_id != 0)
        return true;
    for (unsigned i = 0; i < p->site.n_traits; i++)
        said[i] = trait_read(&p->traits[i], ex, r, request_id);
    experiment_draw(&p->site, said, out);
    return true;
}

// ---- do they fit? --------------------------------------------------------------------------------------

// What is not known of fits: its errors will tell.
static bool variant_fits(struct gateway *g, const struct experiment_place *p, struct view model,
                         char why[DIFFERENCE_TEXT])
{
    struct model *m = table_find(g->table, model), *control = table_find(g->table, p->site.control);
    struct model_metadata it, asked;
    struct arena a;
    arena_init(&a, 0);
    bool fits = !m || !control || m == control || !card_copy(m, &a, &it) ||
                !card_copy(control, &a, &asked) || metadata_fits(why, &it, &asked);
    arena_deinit(&a);
    return fits;
}

static void look_at_variant(struct gateway *g, struct experiment_place *p, unsigned k, unsigned v)
{
    const struct experiment *e = &p->site.experiments[k];
    char why[DIFFERENCE_TEXT] = "";
    bool fits = variant_fits(g, p, e->variants[v].model, why);
    uint32_t bit = 1u << v, was = atomic_load(&p->keeps[k].unfit);
    if (!(was & bit) == fits)
        return;
    atomic_store(&p->keeps[k].unfit, fits ? was & ~bit : was | bit);
    if (fits)
        GATEWAY_EVENT(g, NULL, LOG_INFO, "variant_fits", LOG_S("experiment", e->name),
                      LOG_S("variant", e->variants[v].name));
    else
        GATEWAY_EVENT(g, NULL, LOG_ERROR, "variant_unfit", LOG_S("experiment", e->name),
                      LOG_S("variant", e->variants[v].name), LOG_CSTR("why", why));
}

void experiments_look(struct gateway *g)
{
    struct experiments *all = g->snap->experiments;
    for (unsigned i = 0; all && i < all->n; i++)
        for (unsigned k = 0; k < all->places[i].site.n; k++)
            for (unsigned v = 1; v < all->places[i].site.experiments[k].n_variants; v++)
                look_at_variant(g, &all->places[i], k, v);
}
