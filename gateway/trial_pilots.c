#include "gateway/trial_pilots.h"

#include "gateway/admin.h"
#include "gateway/trial_store.h"
#include <math.h>
#include <stdio.h>

#define AGAIN_US 1000000 // a move that came to nothing is wanted again so soon

static const struct config_experiment *config_of(const struct trial_run *run)
{
    return run->place->keeps[run->index].config;
}

static bool variant_fits(const struct trial_run *run, unsigned v)
{
    return !(atomic_load(&run->place->keeps[run->index].unfit) >> v & 1);
}

static bool is_ready(const struct gateway *g, const struct trial_run *run, unsigned v)
{
    const struct model *m =
        table_find(g->table, run->place->site.experiments[run->index].variants[v].model);
    return m && atomic_load_explicit(&m->ready, memory_order_relaxed) > 0;
}

static void move(struct gateway *g, struct trial_run *run, const uint32_t *weights, struct view who,
                 const char *words)
{
    char why[TRIAL_CAUSE];
    struct trial_change c = {
        .verb = TRIAL_WEIGH, .weights = weights, .stamp = {.who = who, .why = view_str(words)}};
    run->pilot.tried_us = loop_wall_us(&g->main);
    if (!trials_change(g, run, &c, NULL, why))
        GATEWAY_EVENT(g, NULL, LOG_ERROR, "experiment_not_moved",
                      LOG_CSTR("experiment", run->state.name), LOG_S("who", who),
                      LOG_CSTR("why", why));
}

// ---- by steps ----------------------------------------------------------------------------------------

static struct ramp_rules ramp_of(const struct config_ramp *c)
{
    static const uint32_t standard[] = {10000, 50000, 250000, 500000, 1000000};
    return (struct ramp_rules){.steps = c->n_steps ? c->steps : standard,
                               .n = c->n_steps ? c->n_steps : 5,
                               .wait_us = c->wait_us,
                               .least = c->min_requests};
}

// As it is now: what was once near a verdict and is not any more holds nothing.
static double alarm_of(const struct trial_run *run, unsigned v)
{
    const struct guards *w = &run->guards;
    double most = 0;
    if (!trials_watched(run))
        return 0;
    for (unsigned k = 0; k < GUARD_KINDS; k++)
        if (w->rules.on[k])
            most = fmax(most, k < GUARD_PAIRS ? w->pairs[v][k].log_e : w->bounds[v][k].log_e);
    return guards_skewed(w) ? 1 : most / guards_needed(w);
}

static unsigned variant_of(const struct trial_run *run, const char *name)
{
    unsigned v = 0;
    while (v + 1 < run->state.n_variants && strcmp(run->state.variant[v], name) != 0)
        v++;
    return v;
}

static void say_held(struct gateway *g, const struct trial_run *run)
{
    enum ramp_hold hold = run->pilot.ramp.hold;
    GATEWAY_EVENT(
        g, NULL, hold == RAMP_FREE ? LOG_INFO : LOG_WARN,
        hold == RAMP_FREE ? "ramp_free" : "ramp_held", LOG_CSTR("experiment", run->state.name),
        LOG_CSTR("variant", config_of(run)->ramp.variant), LOG_CSTR("why", ramp_hold_name[hold]));
}

static void ramp(struct gateway *g, struct trial_run *run, uint64_t now_us)
{
    const struct config_experiment *c = config_of(run);
    struct ramp_rules rules = ramp_of(&c->ramp);
    unsigned v = variant_of(run, c->ramp.variant);
    enum ramp_hold was = run->pilot.ramp.hold;
    uint32_t file[EXPERIMENT_VARIANTS], weights[EXPERIMENT_VARIANTS], weight = 0;
    struct ramp_seen seen = {.weight = run->state.weight[v],
                             .since_us = run->state.at_us,
                             .requests = trials_counts(g, run, v, NULL).drawn,
                             .ready = is_ready(g, run, v),
                             .fits = variant_fits(run, v),
                             .alarm = alarm_of(run, v)};
    enum ramp_move to = ramp_look(&run->pilot.ramp, &rules, &seen, now_us, &weight);
    if (run->pilot.ramp.hold != was && to != RAMP_DONE)
        say_held(g, run);
    if (to != RAMP_GO || !trial_store_leads(g, run))
        return;
    for (unsigned i = 0; i < run->state.n_variants; i++)
        file[i] = c->variants[i].weight[c->variants[i].weights - 1];
    ramp_weigh(file, run->state.n_variants, v, weight, weights);
    char words[80 + TRIAL_NAME];
    snprintf(words, sizeof(words), "%s: the next step, %g %%", c->ramp.variant, weight / 1e4);
    move(g, run, weights, VIEW("ramp"), words);
}

// ---- by a reward -------------------------------------------------------------------------------------

// Of all requests, of which each had a reward or 0.
static struct stats_sum reward_of(const struct gateway *g, const struct trial_run *run, unsigned v)
{
    const struct config_experiment *c = config_of(run);
    struct stats_sum all[CONFIG_MAX_REWARDS];
    unsigned i = 0;
    while (i + 1 < c->reward_count && strcmp(c->rewards[i], c->bandit.reward) != 0)
        i++;
    trials_rewards(g, run, v, all);
    all[i].n = trials_counts(g, run, v, NULL).drawn;
    return all[i];
}

static void bandit(struct gateway *g, struct trial_run *run, uint64_t now_us)
{
    const struct config_bandit *c = &config_of(run)->bandit;
    struct bandit_rules rules = {.floor = c->floor_ppm,
                                 .step = c->step_ppm,
                                 .least = c->min_requests,
                                 .n = run->state.n_variants};
    struct bandit_arm arms[EXPERIMENT_VARIANTS];
    uint32_t weights[EXPERIMENT_VARIANTS];
    if (now_us < run->state.at_us + c->every_us || now_us < run->pilot.tried_us + c->every_us)
        return;
    run->pilot.tried_us = now_us;
    for (unsigned v = 0; v < rules.n; v++)
        arms[v] = (struct bandit_arm){.reward = reward_of(g, run, v),
                                      .stands = is_ready(g, run, v) && variant_fits(run, v)};
    if (bandit_weigh(&rules, arms, run->state.weight, rand_u64(&g->main.rand), weights))
        move(g, run, weights, VIEW("bandit"), c->reward);
}

void pilots_look(struct gateway *g, struct trial_run *run)
{
    uint64_t now_us = loop_wall_us(&g->main);
    const struct config_experiment *c = config_of(run);
    if (c->ramp.variant && now_us >= run->pilot.tried_us + AGAIN_US)
        ramp(g, run, now_us);
    else if (c->bandit.reward && trial_store_leads(g, run))
        bandit(g, run, now_us);
}

bool pilots_steer(const struct trial_run *run)
{
    const struct config_experiment *c = config_of(run);
    return run->state.status == TRIAL_RUNNING && (c->ramp.variant || c->bandit.reward);
}
