#include "gateway/trials.h"

#include "base/check.h"
#include "base/mem.h"
#include "gateway/creations.h"
#include "gateway/rewards.h"
#include "gateway/trial_file.h"
#include "gateway/trial_pages.h"
#include "gateway/trial_store.h"
#include <math.h>
#include <stdio.h>

#define LOOK_US 250000 // between two looks of the guards

struct trial_run *trials_find(struct gateway *g, struct view name)
{
    for (struct trial_run *run = g->trials->first; run; run = run->next)
        if (view_is(name, run->state.name))
            return run;
    return NULL;
}

static struct experiment_keep *keep_of(const struct trial_run *run)
{
    return &run->place->keeps[run->index];
}

// ---- what is counted ---------------------------------------------------------------------------------

static struct guard_counts count(const struct gateway *g, const struct trial_run *run,
                                 unsigned variant, struct hist *took)
{
    const struct experiment_keep *keep = keep_of(run);
    return experiments_sum(keep->trials[variant], g->loops.n, keep->config->guard.max_p99_us, took);
}

static struct stats_arm arm_since(struct stats_arm now, struct stats_arm from)
{
    return (struct stats_arm){now.n - from.n, now.bad - from.bad};
}

static void hist_take(struct hist *h, const struct hist *from)
{
    h->count -= from->count;
    h->sum -= from->sum;
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        h->bucket[i] -= from->bucket[i];
}

static struct guard_counts own_counts(const struct gateway *g, const struct trial_run *run,
                                      unsigned variant, struct hist *took)
{
    struct guard_counts now = count(g, run, variant, took);
    if (!run->from)
        return now;
    const struct trial_counted *from = &run->from[variant];
    if (took)
        hist_take(took, &from->took);
    return (struct guard_counts){
        arm_since(now.errors, from->counts.errors),
        arm_since(now.fallbacks, from->counts.fallbacks), arm_since(now.slow, from->counts.slow),
        arm_since(now.rewards, from->counts.rewards), now.drawn - from->counts.drawn};
}

static void fill_took(struct hist *took, const struct trial_sums *s)
{
    hist_init(took);
    took->sum = s->took_us;
    took->count = s->answers;
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        took->bucket[i] = s->took[i];
}

struct guard_counts trials_counts(const struct gateway *g, const struct trial_run *run,
                                  unsigned variant, struct hist *took)
{
    struct trial_sums all;
    uint64_t limit = keep_of(run)->config->guard.max_p99_us;
    if (!trial_store_sums(g, run, variant, &all))
        return own_counts(g, run, variant, took);
    if (took)
        fill_took(took, &all);
    struct guard_counts out = {.errors = {all.ended, all.errors},
                               .fallbacks = {all.answers, all.fallbacks},
                               .rewards = cohort_arm((struct cohort_sum){all.settled, all.gained}),
                               .drawn = all.requests};
    for (unsigned i = 0; limit > 0 && i < HIST_BUCKETS; i++) {
        out.slow.n += all.took[i];
        out.slow.bad += i > hist_index(limit) ? all.took[i] : 0;
    }
    return out;
}

static struct stats_sum own_reward(const struct gateway *g, const struct trial_run *run,
                                   unsigned variant, unsigned slot)
{
    struct stats_sum now = rewards_sum(keep_of(run)->trials[variant], g->loops.n, slot);
    struct stats_sum from = run->from ? run->from[variant].rewards[slot] : (struct stats_sum){0};
    return (struct stats_sum){now.n - from.n, now.sum - from.sum, now.squares - from.squares};
}

void trials_rewards(const struct gateway *g, const struct trial_run *run, unsigned variant,
                    struct stats_sum out[CONFIG_MAX_REWARDS])
{
    const struct experiment_keep *keep = keep_of(run);
    const uint8_t *slots = &keep->reward_slots[variant * CONFIG_MAX_REWARDS];
    struct trial_sums all;
    bool shared = trial_store_sums(g, run, variant, &all);
    for (unsigned i = 0; i < keep->config->reward_count; i++)
        out[i] = shared ? *trial_sums_reward(&all, view_str(keep->config->rewards[i]))
                        : own_reward(g, run, variant, slots[i]);
}

// What only grows: of a store that has gone back it stands still for a while, as it does when one source of it takes the place
// of another.
static void keep_most(struct stats_arm *now, const struct stats_arm *before)
{
    now->n = now->n > before->n ? now->n : before->n;
    now->bad = fmax(now->bad, before->bad);
}

static void count_all(const struct gateway *g, const struct trial_run *run,
                      struct guard_counts out[EXPERIMENT_VARIANTS])
{
    for (unsigned v = 0; v < run->state.n_variants; v++) {
        const struct guard_counts *seen = &run->guards.seen[v];
        out[v] = trials_counts(g, run, v, NULL);
        keep_most(&out[v].errors, &seen->errors);
        keep_most(&out[v].fallbacks, &seen->fallbacks);
        keep_most(&out[v].slow, &seen->slow);
        keep_most(&out[v].rewards, &seen->rewards);
        out[v].drawn = out[v].drawn > run->guards.from[v] ? out[v].drawn : run->guards.from[v];
    }
}

// Without memory what was counted before counts, too.
static void count_anew(const struct gateway *g, struct trial_run *run)
{
    mem_free(run->from);
    run->from = mem_zalloc(run->state.n_variants * sizeof(*run->from));
    for (unsigned v = 0; run->from && v < run->state.n_variants; v++) {
        const struct trial *t = keep_of(run)->trials[v];
        run->from[v].counts = count(g, run, v, &run->from[v].took);
        for (unsigned i = 0; i < t->n_rewards; i++)
            run->from[v].rewards[i] = rewards_sum(t, g->loops.n, i);
    }
}

// ---- guards ------------------------------------------------------------------------------------------

static struct guard_rules rules_of(const struct trial_run *run)
{
    const struct config_experiment *c = keep_of(run)->config;
    const struct config_guard *w = &c->guard;
    return (struct guard_rules){.on = {[GUARD_ERRORS] = w->errors,
                                       [GUARD_FALLBACKS] = w->fallbacks,
                                       [GUARD_REWARD] = w->reward != NULL,
                                       [GUARD_MAX_ERRORS] = w->max_errors_ppm > 0,
                                       [GUARD_MAX_FALLBACKS] = w->max_fallbacks_ppm > 0,
                                       [GUARD_MAX_P99] = w->max_p99_us > 0,
                                       [GUARD_MIN_REWARD] = w->min_reward_ppm > 0},
                                .limit = {[GUARD_MAX_ERRORS] = w->max_errors_ppm / 1e6,
                                          [GUARD_MAX_FALLBACKS] = w->max_fallbacks_ppm / 1e6,
                                          [GUARD_MAX_P99] = 0.01,
                                          [GUARD_MIN_REWARD] = w->min_reward_ppm / 1e6},
                                .least = w->min_requests,
                                .split = c->key.kind ==
                                         CONFIG_REQUEST_ID, // who asks often would skew it else
                                .variants = run->state.n_variants};
}

static void weights_of(const struct trial_state *s, double out[EXPERIMENT_VARIANTS])
{
    for (unsigned v = 0; v < s->n_variants; v++)
        out[v] = (double)s->weight[v] / EXPERIMENT_WHOLE;
}

static void begin_guards(const struct gateway *g, struct trial_run *run)
{
    struct guard_rules rules = rules_of(run);
    struct guard_counts counts[EXPERIMENT_VARIANTS];
    double weights[EXPERIMENT_VARIANTS];
    for (unsigned v = 0; v < run->state.n_variants; v++)
        counts[v] = trials_counts(g, run, v, NULL);
    weights_of(&run->state, weights);
    guards_begin(&run->guards, &rules, weights, counts);
    run->skewed = false;
}

static void weigh_guards(const struct gateway *g, struct trial_run *run)
{
    struct guard_counts counts[EXPERIMENT_VARIANTS];
    double weights[EXPERIMENT_VARIANTS];
    count_all(g, run, counts);
    weights_of(&run->state, weights);
    guards_weigh(&run->guards, weights, counts);
}

bool trials_watched(const struct trial_run *run)
{
    bool any = run->guards.rules.split;
    for (unsigned k = 0; k < GUARD_KINDS; k++)
        any |= run->guards.rules.on[k];
    return any && run->state.status == TRIAL_RUNNING;
}

static void roll_back(struct gateway *g, struct trial_run *run, const struct guard_verdict *v)
{
    char words[GUARD_WORDS], why[TRIAL_CAUSE], said[GUARD_WORDS + TRIAL_NAME + 4];
    guard_words(v, words);
    snprintf(said, sizeof(said), "%s: %s", run->state.variant[v->variant], words);
    struct trial_change c = {.verb = TRIAL_ROLL_BACK,
                             .stamp = {.who = VIEW("guard"), .why = view_str(said)}};
    if (!trials_change(g, run, &c, NULL, why)) // next time
        GATEWAY_EVENT(g, NULL, LOG_ERROR, "experiment_not_rolled_back",
                      LOG_CSTR("experiment", run->state.name), LOG_CSTR("guard", said),
                      LOG_CSTR("why", why));
}

static void look(struct gateway *g, struct trial_run *run)
{
    struct guard_counts counts[EXPERIMENT_VARIANTS];
    struct guard_verdict v;
    count_all(g, run, counts);
    bool worse = guards_look(&run->guards, counts, &v);
    if (guards_skewed(&run->guards) && !run->skewed) {
        run->skewed = true;
        GATEWAY_EVENT(g, NULL, LOG_ERROR, "experiment_skewed",
                      LOG_CSTR("experiment", run->state.name),
                      LOG_CSTR("why", "requests do not come to its variants as the weights say: "
                                      "what is counted compares unlike clients"));
    }
    if (worse && trial_store_leads(g, run))
        roll_back(g, run, &v);
}

// Also while it stands still: its last requests may have their rewards yet.
static void settle(struct gateway *g, const struct trial_run *run)
{
    const struct experiment_keep *keep = keep_of(run);
    const struct config_guard *w = &keep->config->guard;
    for (unsigned v = 0; w->reward && v < run->state.n_variants; v++)
        experiments_settle(keep->trials[v], g->loops.n, loop_now_us(&g->main), w->reward_within_us);
}

static void on_look(struct wheel_timer *t, uint64_t now_us)
{
    struct gateway *g = container_of(t, struct trials, timer)->gateway;
    for (struct trial_run *run = g->trials->first; run; run = run->next) {
        settle(g, run);
        if (trials_watched(run))
            look(g, run);
        if (run->state.status == TRIAL_RUNNING)
            pilots_look(g, run);
    }
    if (g->trials->first)
        wheel_set(loop_wheel(&g->main), t, now_us + LOOK_US);
}

// ---- in force ----------------------------------------------------------------------------------------

static void fill_live(const struct trial_state *s, struct experiment_live *out)
{
    static const enum draw_how how[TRIAL_STATUSES] = {[TRIAL_DRAFT] = DRAW_DRAFT,
                                                      [TRIAL_RUNNING] = DRAW_TAKEN,
                                                      [TRIAL_PAUSED] = DRAW_PAUSED,
                                                      [TRIAL_ROLLED_BACK] = DRAW_ROLLED_BACK,
                                                      [TRIAL_PROMOTED] = DRAW_PROMOTED};
    unsigned whole;
    trial_state_draws(s, &whole);
    *out = (struct experiment_live){
        .how = how[s->status], .whole = (uint8_t)whole, .buckets = s->buckets};
}

// seen: by loops, already. False: out of memory; then nothing has changed.
static bool put_in_force(struct gateway *g, struct trial_run *run, const struct trial_state *next,
                         bool seen)
{
    struct experiment_live live;
    fill_live(next, &live);
    if (!experiments_put(seen ? g : NULL, run->place, run->index, &live))
        return false;
    bool anew = next->counts_from != run->state.counts_from;
    bool weighed = memcmp(next->weight, run->state.weight, sizeof(next->weight)) != 0;
    if (anew && seen)
        trial_store_count(g, run);
    run->state = *next;
    if (anew) {
        if (seen)
            trial_store_count(g, run);
        count_anew(g, run);
        begin_guards(g, run);
    } else if (weighed) {
        weigh_guards(g, run);
    }
    return true;
}

static void tell(struct gateway *g, const struct trial_run *run, const char *event)
{
    const struct trial_state *s = &run->state;
    GATEWAY_EVENT(g, NULL, LOG_WARN, event, LOG_CSTR("experiment", s->name),
                  LOG_CSTR("status", trial_status_name[s->status]), LOG_I("revision", s->revision),
                  LOG_CSTR("variant", s->status == TRIAL_PROMOTED ? s->variant[s->promoted] : ""),
                  LOG_CSTR("who", s->who), LOG_CSTR("why", s->why));
}

static void tell_not_kept(struct gateway *g, const struct trial_state *s, const char *why)
{
    GATEWAY_EVENT(g, NULL, LOG_ERROR, "experiment_not_kept", LOG_CSTR("experiment", s->name),
                  LOG_I("revision", s->revision), LOG_CSTR("why", why));
}

// Beside a store that others share: what an instance starts with before it has heard the store.
static void copy(struct gateway *g, const struct trial_run *run)
{
    char why[TRIAL_CAUSE];
    if (g->trials->keeper && g->trials->keeper->shared && g->birth->state_dir &&
        !trial_file_save(g, &run->state, why))
        tell_not_kept(g, &run->state, why);
}

// ---- changes -----------------------------------------------------------------------------------------

static struct trial_put *new_put(struct gateway *g, const struct trial_state *next,
                                 struct exchange *ex)
{
    struct trial_put *p = mem_zalloc(sizeof(*p));
    if (!p)
        return NULL;
    *p = (struct trial_put){.gateway = g, .next = *next, .ex = ex, .waiting = g->trials->waiting};
    g->trials->waiting = p;
    if (ex)
        exchange_ref(ex);
    return p;
}

static void drop_put(struct trial_put *p)
{
    struct trial_put **at = &p->gateway->trials->waiting;
    while (*at != p)
        at = &(*at)->waiting;
    *at = p->waiting;
    if (p->ex)
        exchange_unref(p->ex);
    mem_free(p);
}

static void send_put(struct gateway *g, struct trial_put *p)
{
    if (g->trials->keeper)
        g->trials->keeper->put(g, p);
    else
        trials_put_end(p, TRIAL_NOT_KEPT, NULL, "state_dir is not set: it ends with this process");
}

// Kept, although nobody waits for it.
static void keep_state(struct gateway *g, struct trial_run *run)
{
    struct trial_put *p = new_put(g, &run->state, NULL);
    if (p)
        send_put(g, p);
}

bool trials_change(struct gateway *g, struct trial_run *run, struct trial_change *c,
                   struct exchange *ex, char why[TRIAL_CAUSE])
{
    struct trial_state next = run->state;
    bool anew, unfit = c->verb == TRIAL_PROMOTE && c->variant < next.n_variants &&
                       atomic_load(&keep_of(run)->unfit) >> c->variant & 1;
    c->stamp.mark = rand_u64(&g->main.rand);
    c->stamp.at_us = loop_wall_us(&g->main);
    const char *wrong = unfit ? "it takes or gives something else than the control"
                              : trial_state_change(&next, c, &anew);
    struct trial_put *p = wrong ? NULL : new_put(g, &next, ex);
    if (!p) {
        snprintf(why, TRIAL_CAUSE, "%s", wrong ? wrong : "out of memory");
        return false;
    }
    send_put(g, p);
    return true;
}

void trials_changed(struct gateway *g, const struct trial_state *there)
{
    struct trial_run *run = trials_find(g, view_str(there->name));
    if (!run || trial_state_order(&run->state, there) != TRIAL_NEWER ||
        !trial_state_fit(&run->state, there) || !put_in_force(g, run, there, true))
        return;
    run->kept = true;
    copy(g, run);
    tell(g, run, "experiment_changed");
}

void trials_put_end(struct trial_put *p, enum trial_put_end end, const struct trial_state *there,
                    const char *why)
{
    struct gateway *g = p->gateway;
    struct trial_run *run = trials_find(g, view_str(p->next.name));
    bool is_in_force = run && p->next.mark == run->state.mark;         // the file's
    bool is_next = run && p->next.revision == run->state.revision + 1; // nobody else's came since
    if (end == TRIAL_CONFLICT && there)
        trials_changed(g, there);
    bool done = end != TRIAL_CONFLICT && is_next && put_in_force(g, run, &p->next, true);
    if (done || is_in_force)
        run->kept = end == TRIAL_KEPT;
    if (done) {
        copy(g, run);
        tell(g, run, "experiment_changed");
    }
    if ((done || is_in_force) && end == TRIAL_NOT_KEPT)
        tell_not_kept(g, &p->next, why);
    if (p->ex)
        trial_pages_answer(p, run, done);
    drop_put(p);
}

// ---- configurations ----------------------------------------------------------------------------------

struct section { // what trial_section points to
    struct trial_section s;
    struct view variants[EXPERIMENT_VARIANTS];
    const uint32_t *weights[EXPERIMENT_VARIANTS];
};

// Without memory for its text it is one that nobody has had: the file wins. One that is created again counts anew, whatever it
// says.
static struct hash128 digest_of(const struct config *c, const struct config_experiment *e)
{
    struct buffer text;
    buffer_init(&text);
    bool whole = config_experiment_print(c, e, &text);
    struct hash128 d = hash128(buffer_view(&text), e->created ^ (whole ? 0 : 1));
    buffer_deinit(&text);
    return d;
}

static void fill_section(struct section *out, const struct config *c,
                         const struct config_experiment *e)
{
    for (unsigned v = 0; v < e->variant_count; v++) {
        out->variants[v] = view_str(e->variants[v].name);
        out->weights[v] = e->variants[v].weight;
    }
    out->s = (struct trial_section){.name = view_str(e->name),
                                    .variants = out->variants,
                                    .weight = out->weights,
                                    .n_variants = e->variant_count,
                                    .changes = e->variants[0].weights,
                                    .draft = e->draft,
                                    .digest = digest_of(c, e)};
}

static struct trial_run *new_run(struct gateway *g)
{
    struct trial_run *run = mem_zalloc(sizeof(*run));
    if (run) {
        run->next = g->trials->first;
        g->trials->first = run;
    }
    return run;
}

static void free_run(struct trial_run *run)
{
    mem_free(run->from);
    mem_free(run);
}

// What is live of it: of this process, else where it is kept. False: nothing.
static bool find_live(struct gateway *g, const struct trial_run *run, const char *name,
                      struct trial_state *out)
{
    if (run) {
        *out = run->state;
        return true;
    }
    return g->trials->keeper && g->trials->keeper->find(g, name, out);
}

// By the section, as a new revision if there was one.
static bool seed(struct gateway *g, const struct section *section, bool created,
                 const struct trial_state *before, struct trial_state *out)
{
    struct trial_stamp stamp = {.mark = rand_u64(&g->main.rand),
                                .at_us = loop_wall_us(&g->main),
                                .who = VIEW("gateway.conf"),
                                .why =
                                    before ? VIEW("its section has changed") : VIEW("its section")};
    const struct created *made = created ? creations_find(g, section->s.name) : NULL;
    if (made) {
        stamp.who = view_str(made->it.who);
        stamp.why = made->it.why[0] ? view_str(made->it.why) : VIEW("created");
    }
    return trial_state_seed(out, before, &section->s, &stamp);
}

static void adopt(struct gateway *g, const struct config *c, struct experiment_place *place,
                  unsigned index)
{
    const struct config_experiment *e = place->keeps[index].config;
    struct section section;
    struct trial_state live, next;
    fill_section(&section, c, e);
    struct trial_run *run = trials_find(g, view_str(e->name));
    bool was = find_live(g, run, e->name, &live),
         shared = g->trials->keeper && g->trials->keeper->shared;
    const struct hash128 *last = run ? &run->digest : was && !shared ? &live.seed[0] : NULL;
    bool seeds = !was || trial_state_is_seeded_by(&live, section.s.digest, last) ||
                 !trial_state_fits(&live, &section.s);
    if (seeds && !seed(g, &section, e->created != 0, was ? &live : NULL, &next))
        return; // what the configuration's reader lets through is none of that
    bool fresh = !run;
    if (run && seeds)
        trial_store_count(g, run);
    if (!run && !(run = new_run(g)))
        return; // it goes by its section
    run->place = place;
    run->index = index;
    run->present = true;
    run->digest = section.s.digest;
    put_in_force(g, run, seeds ? &next : &live, false);
    run->kept = was && !seeds && (run->kept || fresh);
    if (seeds && was)
        tell(g, run, "experiment_changed");
    if (seeds && shared)
        copy(g, run); // what the store has is looked at first
    else if (seeds && was)
        keep_state(g, run);
}

static void drop_absent(struct gateway *g)
{
    for (struct trial_run **at = &g->trials->first, *run; (run = *at);) {
        if (run->present) {
            run->present = false;
            at = &run->next;
            continue;
        }
        *at = run->next;
        trial_store_count(g, run);
        free_run(run);
    }
}

static const struct trial_keeper *keeper_of(const struct gateway *g, const struct snapshot *snap)
{
    return snap->store ? &trial_store : g->birth->state_dir ? &trial_file : NULL;
}

void trials_adopt(struct gateway *g, struct snapshot *snap)
{
    struct experiments *all = snap->experiments;
    g->trials->keeper = keeper_of(g, snap);
    creations_tell(g);
    for (unsigned i = 0; all && i < all->n; i++)
        for (unsigned k = 0; k < all->places[i].site.n; k++)
            adopt(g, snap->config, &all->places[i], k);
    drop_absent(g);
    trial_store_adopt(g);
    if (g->trials->first && !wheel_is_set(&g->trials->timer))
        wheel_set(loop_wheel(&g->main), &g->trials->timer, loop_now_us(&g->main) + LOOK_US);
}

void trials_start(struct gateway *g)
{
    g->trials = mem_must(sizeof(*g->trials));
    *g->trials = (struct trials){.gateway = g, .timer = {.fn = on_look}};
    trials_adopt(g, g->snap);
}

void trials_free(struct gateway *g)
{
    if (!g->trials)
        return;
    trial_store_free(g);
    wheel_cancel(loop_wheel(&g->main), &g->trials->timer);
    while (g->trials->waiting)
        drop_put(g->trials->waiting);
    while (g->trials->first) {
        struct trial_run *run = g->trials->first;
        g->trials->first = run->next;
        free_run(run);
    }
    mem_free(g->trials);
    experiments_forget(g);
}
