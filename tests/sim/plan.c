#include "tests/sim/sim.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define SILENT_WORLD_US 30e6

const char *const fault_name[FAULTS] = {
    [FAULT_CRASH] = "crash",       [FAULT_EXIT] = "exit",       [FAULT_HANG] = "hang",
    [FAULT_STUCK] = "stuck",       [FAULT_SLOW] = "slow",       [FAULT_STOP] = "stop",
    [FAULT_UNLOAD] = "unload",     [FAULT_RELOAD] = "reload",   [FAULT_OVERLOAD] = "overload",
    [FAULT_REFUSE] = "refuse",     [FAULT_BROKEN] = "broken",   [FAULT_FLAP] = "flap",
    [FAULT_FULL] = "full",         [FAULT_KILLED] = "killed",   [FAULT_NO_WORD] = "no_word",
    [FAULT_NO_END] = "no_end",     [FAULT_ERROR] = "error",     [FAULT_GUILTY] = "guilty_row",
    [FAULT_POISON] = "poison_row", [FAULT_SHAPE] = "shape",     [FAULT_MALFORMED] = "malformed",
    [FAULT_CROSSED] = "crossed",   [FAULT_TWICE] = "twice",     [FAULT_DIFFERS] = "differs",
    [FAULT_BORN] = "born",         [FAULT_EJECTED] = "ejected", [FAULT_GONE] = "gone",
    [FAULT_STALL] = "stall",       [FAULT_CLOCK] = "clock",     [FAULT_MAIL] = "mail",
    [FAULT_MEMORY] = "memory",     [FAULT_ROOM] = "room",       [FAULT_RULES] = "rules",
    [FAULT_REMOVED] = "removed",   [FAULT_NO_ROOM] = "no_room", [FAULT_ANOTHER] = "another",
    [FAULT_PINNED] = "pinned",
};

static double between(struct rand *r, double low, double high)
{
    return low + (high - low) * rand_unit(r);
}

static double one_of(struct rand *r, const double *values, unsigned n)
{
    return values[rand_below(r, n)];
}

// How much comes, and how the loops are.
static void draw_load(struct plan *p, struct rand *r)
{
    p->loops = 2 + (unsigned)rand_below(r, SIM_LOOPS - 1);
    p->models = 1 + (unsigned)rand_below(r, SIM_MODELS);
    p->lives = 600 + (unsigned)rand_below(r, 1000);
    p->load = one_of(r, (double[]){0.1, 0.4, 0.7, 0.9, 1.5}, 5);
    p->burst = one_of(r, (double[]){0, 0.02, 0.2}, 3);
    p->mail_us = (uint64_t)one_of(r, (double[]){2, 20, 200}, 3);
    p->turn_us = (uint64_t)one_of(r, (double[]){5, 50, 400}, 3);
    p->singles = rand_below(r, 2) == 0;
    p->socket_bytes = (uint64_t)one_of(r, (double[]){2e4, 2e5, 2e6}, 3);
    p->probe_share = one_of(r, (double[]){0.003, 0.01, 0.03}, 3);
    p->probe.failures = 1 + (unsigned)rand_below(r, 3);
    p->haste = p->shared && !p->calm && rand_below(r, 2);
    p->hurried = p->haste && rand_below(r, 3) == 0;
}

static void shape_calm(struct plan *p, struct rand *r)
{
    if (p->flood) {
        p->models = 1;
        p->lives = 6000;
        p->mail_us = 20;
        p->turn_us = 50;
    }
    if (p->shift) {
        p->load = 0.4 / SIM_SHIFT;
        p->burst = 0;
    }
    if (p->rolling) {
        p->load = one_of(r, (double[]){0.05, 0.1, 0.2}, 3);
        p->burst = 0;
        p->singles = false;
    }
}

static void draw_faults(struct plan *p, struct rand *r)
{
    for (unsigned i = 0; i < FAULTS_DRAWN; i++) {
        p->weight[i] = rand_below(r, 2) ? 0 : 1 + (unsigned)rand_below(r, 4);
        p->weights += p->weight[i];
    }
    p->killers = !(p->weight[FAULT_CRASH] | p->weight[FAULT_EXIT] | p->weight[FAULT_FLAP] |
                   p->weight[FAULT_STOP] | p->weight[FAULT_HANG] | p->weight[FAULT_STUCK]);
    p->fault_us = (uint64_t)one_of(r, (double[]){2e4, 2e5, 2e6}, 3);
    p->per_batch = one_of(r, (double[]){0, 0.01, 0.1}, 3);
    p->no_room = one_of(r, (double[]){0, 0, 0.5}, 3);
    p->gone = one_of(r, (double[]){0, 0.05, 0.3}, 3);
    p->bad_row = one_of(r, (double[]){0, 0.002, 0.02}, 3);
    p->wide = one_of(r, (double[]){0, 0.01, 0.1}, 3);
    p->chains = one_of(r, (double[]){0, 0.3, 1}, 3);
    p->loop_fault = one_of(r, (double[]){0, 0, 0.001}, 3);
    p->memory = one_of(r, (double[]){0, 0, 0.002}, 3);
    p->rules = one_of(r, (double[]){0, 0.001, 0.01}, 3);
    if (rand_below(r, 5) == 0)
        p->mail_us = 20000;
}

// Long enough for a worker that computes nothing to be found out, and nothing else.
static void shape_silent(struct plan *p)
{
    memset(p->weight, 0, sizeof(p->weight));
    p->weight[FAULT_STUCK] = 3;
    p->weight[FAULT_BROKEN] = 2;
    p->weights = 5;
    p->fault_us = 5000000;
    p->haste = p->hurried = p->killers = false;
    p->loop_fault = p->memory = 0;
}

// Of twelve seeds one is a flood, one shifts, one is calm or (every other time) rolling, one is silent; the
// others have faults as they are drawn. Half of all but flood and shift share their workers. In four of five service comes
// down by levels. In half of those with faults operators set some.
void plan_draw(struct plan *p, uint64_t seed)
{
    struct rand r;
    rand_seed(&r, seed * 2 + 1);
    *p = (struct plan){.seed = seed,
                       .calm = seed % 4 == 0,
                       .flood = seed % 12 == 0,
                       .shift = seed % 12 == 4,
                       .rolling = seed % 24 == 8,
                       .silent = seed % 12 == 6,
                       .cached = seed / 12 % 3 == 2,
                       .levels = seed % 5 > 0,
                       .tenants = seed % 7 < 3 ? 2 + (unsigned)(seed % (SIM_TENANTS - 1)) : 0,
                       .ranked = seed % 7 > 3};
    p->shadows = seed / 3 % 3 == 1 && !p->flood && !p->shift;
    p->cached &= !p->flood && !p->shift;
    p->ranked &= !p->flood && !p->shift;
    p->stored = p->cached && seed / 36 % 4 > 1;
    p->store_fails = p->calm ? 0 : (double[]){0, 0.02, 0.3}[seed % 3];
    p->pins = p->calm ? 0 : (double[]){0, 0, 0.0005, 0.005}[seed / 7 % 4];
    p->questions = 1 + (unsigned)(seed * 7919 % 60);
    p->kept_bytes = (int64_t[]){0, 20000, 300000, 16 << 20}[seed / 36 % 4];
    p->shared = !p->flood && !p->shift && (p->rolling || rand_below(&r, 2) == 0);
    draw_load(p, &r);
    shape_calm(p, &r);
    if (p->calm)
        return;
    draw_faults(p, &r);
    if (p->silent)
        shape_silent(p);
    p->late = seed % 9 == 2 && !p->silent && !p->hurried;
    if (p->hurried)
        p->weights = 0,
        p->per_batch = p->no_room = p->bad_row = p->memory = p->loop_fault = p->rules = p->pins = 0;
}

// Of a dice of their own, so that worlds are the same with levels and without.
static void draw_levels(struct world *w, struct model_of *m)
{
    struct rand r;
    struct model_rules *k = &m->rules;
    rand_seed(&r, w->plan.seed * 1000003 + (uint64_t)(m - w->model) * 1009 + m->drawn++);
    k->slow_start_us = (uint64_t)one_of(&r, (double[]){0, 1e5, 2e6}, 3);
    k->levels = w->plan.levels && rand_below(&r, 8) > 0;
    k->alternatives = m->chain.n > 0;
    k->hold_us = (uint64_t)one_of(&r, (double[]){5e4, 2e5, 1e6}, 3);
    k->window_us = k->hold_us * (1 + rand_below(&r, 3));
    if (w->plan.flood || rand_below(&r, 2))
        return;
    k->p99_enter_us = (uint64_t)(between(&r, 1, 8) * (m->alpha_us + 8 * m->beta_us));
    k->p99_leave_us = k->p99_enter_us * (1 + rand_below(&r, 4)) / 4;
}

static void draw_rules(struct world *w, struct model_of *m)
{
    struct rand *r = &w->rand;
    struct model_rules *k = &m->rules;
    *k = (struct model_rules){.pipeline = 1 + (uint32_t)rand_below(r, 3),
                              .deadline_us = (uint64_t)between(r, 2e5, 2e6),
                              .grace_us = (uint64_t)one_of(r, (double[]){0, 2e4, 5e5}, 3)};
    k->max_wait_us = (uint64_t)one_of(r, (double[]){0, 500, 2000, 20000}, 4);
    if (rand_below(r, 3) == 0)
        k->max_rows = SIM_ROWS + (uint32_t)rand_below(r, 40);
    if (rand_below(r, 3) == 0) {
        k->n_preferred = 2;
        k->preferred[0] = 4;
        k->preferred[1] = SIM_ROWS;
    }
    if (rand_below(r, 4) == 0)
        k->queue_rows = 64;
    if (rand_below(r, 8) == 0)
        k->queue_bytes = 64 * 8;
    if (w->plan.rolling) {
        k->deadline_us = 3000000;
        k->grace_us = 500000;
        k->queue_rows = k->queue_bytes = 0;
    }
    if (w->plan.flood) {
        *k = (struct model_rules){.pipeline = 2, .deadline_us = 500000000, .queue_rows = 1 << 20};
        k->max_wait_us = rand_below(r, 2) ? 2000 : 0;
    }
    if (w->plan.cached) {
        k->cache_ttl_us = (uint64_t)one_of(r, (double[]){0, 1e4, 1e6, 1e8}, 4);
        k->cache_stale_us = (uint64_t)one_of(r, (double[]){0, 1e5, 1e9}, 3);
    }
    k->policy = rand_below(r, 2) ? POLICY_AUTO : POLICY_FIXED;
    k->refuse_early = rand_below(r, 4) > 0;
    draw_levels(w, m);
}

// Deadlines stay: in some worlds others are reckoned by them.
void plan_rules(struct model_of *m)
{
    uint64_t deadline_us = m->rules.deadline_us;
    draw_rules(m->w, m);
    m->rules.deadline_us = deadline_us;
}

// The requests that clients send: filled and sealed once, as a codec would.
static void draw_forms(struct model_of *m)
{
    static const char *const version[KINDS] = {
        [KIND_VERSION1] = "1", [KIND_VERSION2] = "2", [KIND_VERSION9] = "9"};
    static struct param told = {.key = VIEW("p"), .type = PARAM_INT64, .i = 1};
    static const struct params list = {&told, 1, 1};
    unsigned other = m->w->plan.seed % 3; // of all models alike: a step of a chain asks another one
    for (unsigned k = 0; k < KINDS; k++) {
        struct tensor *t = &m->form_input[k];
        *t = (struct tensor){.name = VIEW("x"), .dtype = DT_UINT64, .rank = 2, .shape = {1, 1}};
        if (k == KIND_OTHER && other == 0)
            t->rank = 3, t->shape[2] = 1;
        if (k == KIND_OTHER && other == 1)
            t->params = &list;
        if (k == KIND_SCALAR)
            t->rank = 0;
        t->bytes = 8;
        struct infer_request *r = &m->form[k];
        *r = (struct infer_request){.model = view_str(m->name),
                                    .version = view_str(version[k] ? version[k] : ""),
                                    .inputs = t,
                                    .n_inputs = 1};
        r->sequence = k == KIND_SEQUENCE;
        r->params = &told;
        r->n_params = k == KIND_OTHER && other == 2;
        request_seal(r);
    }
}

// Some are slow, and the clients of the others have no time for that.
static void draw_haste(struct world *w, struct model_of *m, unsigned i)
{
    struct rand *r = &w->rand;
    if (i > 0 && rand_below(r, 2)) {
        m->haste_us = (uint64_t)one_of(r, (double[]){5000, 60000, 150000}, 3);
        return;
    }
    m->alpha_us *= one_of(r, (double[]){10, 50, 100}, 3);
    m->rules.deadline_us = 10 * (uint64_t)m->alpha_us + 2000000;
}

static void draw_model(struct world *w, struct model_of *m, unsigned i)
{
    struct rand *r = &w->rand;
    *m = (struct model_of){.w = w, .desk_wake_us = SIM_NEVER};
    snprintf(m->name, sizeof(m->name), "model-%u", i);
    m->alpha_us = between(r, 200, 3000);
    m->beta_us = between(r, 5, 200);
    m->tail = w->plan.calm ? 1 : one_of(r, (double[]){1, 2, 4}, 3);
    m->tells_compute = rand_below(r, 2) == 0;
    m->max_batch = rand_below(r, 8) == 0 ? 0 : SIM_ROWS / 2 + (uint32_t)rand_below(r, 61);
    m->row_bytes = (uint64_t)one_of(r, (double[]){8, 1000, 50000}, 3);
    if (world_chance(w, w->plan.no_room))
        m->room_rows = SIM_ROWS + (uint32_t)rand_below(r, 20);
    m->home = (unsigned)(hash64(view_str(m->name), 0) % w->plan.loops);
    m->configured = w->plan.calm || rand_below(r, 4) > 0;
    if (w->plan.flood) {
        m->max_batch = 8 + (uint32_t)rand_below(r, 25);
        m->alpha_us = between(r, 1000, 3000);
    }
    if (w->plan
            .shift) { // mostly the same for one row and for many: who learns that it is slow has no hope
        m->alpha_us = between(r, 1000, 3000);
        m->beta_us = between(r, 5, 20);
    }
    draw_rules(w, m);
    draw_forms(m);
    if (w->plan.haste)
        draw_haste(w, m, i);
}

// ---- who is served by whom ---------------------------------------------------------------------------

static void draw_workers(struct world *w)
{
    struct rand *r = &w->rand;
    for (unsigned i = 0; i < w->plan.workers; i++) {
        struct worker_of *k = &w->worker[i];
        k->w = w;
        k->id = i + 1;
        k->owner = k->id % w->plan.loops;
        k->local = rand_below(r, 2);
        k->instances = w->plan.shared ? 1 + (unsigned)rand_below(r, SIM_INSTANCES) : 1;
        k->serial = w->plan.shared && k->instances == 1 && k->id % 2;
        for (unsigned j = 0; j < w->plan.loops; j++)
            k->link[j] = (struct link_of){.worker = k, .loop = j, .used = j == k->owner};
    }
}

static void join_worker(struct model_of *m, struct worker_of *k)
{
    struct replica_of *r = &m->replica[m->n_replicas++];
    bool second = m->n_replicas == 1 || m->w->plan.rolling || rand_below(&m->w->rand, 2) == 0;
    *r = (struct replica_of){.model = m, .worker = k, .second = second, .max_batch = m->max_batch};
    k->replica[k->n_replicas++] = r;
    k->link[m->home].used = true;
}

// A model at some of a few workers, at least at one.
static void share_workers(struct world *w, struct model_of *m)
{
    unsigned always = (unsigned)rand_below(&w->rand, w->plan.workers);
    for (unsigned i = 0; i < w->plan.workers; i++) {
        if (w->plan.rolling || i == always || rand_below(&w->rand, 2))
            join_worker(m, &w->worker[i]);
    }
}

static void draw_replicas(struct world *w)
{
    unsigned wanted[SIM_MODELS];
    w->plan.workers = w->plan.rolling  ? 2
                      : w->plan.shared ? 1 + (unsigned)rand_below(&w->rand, SIM_REPLICAS)
                                       : 0;
    for (unsigned i = 0; !w->plan.shared && i < w->plan.models; i++) {
        wanted[i] = 1 + (unsigned)rand_below(&w->rand, SIM_REPLICAS);
        w->plan.workers += wanted[i];
    }
    draw_workers(w);
    for (unsigned i = 0, at = 0; i < w->plan.models; i++) {
        if (w->plan.shared)
            share_workers(w, &w->model[i]);
        else
            for (; wanted[i] > 0; wanted[i]--)
                join_worker(&w->model[i], &w->worker[at++]);
    }
    for (unsigned i = 0; i < w->plan.workers; i++) {
        if (w->worker[i].n_replicas == 0)
            join_worker(&w->model[0], &w->worker[i]);
    }
}

// Each model that has several is of two classes, in an order that may change. Of dice of their own, too.
static void draw_ranks(struct world *w, struct model_of *m)
{
    struct rand r;
    unsigned lesser = 0;
    rand_seed(&r, w->plan.seed * 1000033 + (uint64_t)(m - w->model) * 1013);
    m->lesser_times = one_of(&r, (double[]){0.5, 1, 3, 20}, w->plan.calm ? 4 : 3); // see sim.h
    m->lesser_first = rand_below(&r, 4) == 0;
    for (unsigned i = 0; w->plan.ranked && i < m->n_replicas; i++) {
        m->replica[i].lesser = rand_below(&r, 2) == 0;
        lesser += m->replica[i].lesser;
    }
    m->ranked = lesser > 0;
}

// Rows a second that a model's replicas can do when their batches are full.
static double capacity(const struct model_of *m)
{
    uint32_t rows = m->max_batch ? m->max_batch : 1;
    if (m->rules.max_rows && m->rules.max_rows < rows)
        rows = m->rules.max_rows;
    double all = 0;
    for (unsigned i = 0; i < m->n_replicas; i++)
        all += 1 / calls_slower(&m->replica[i]);
    return all * rows / calls_time_us(m, rows);
}

// A world that lasts longer needs no more probes than a short one.
static void draw_probes(struct world *w)
{
    double all_us = w->arrival_us * w->plan.lives / w->plan.loops;
    struct probe_rules *p = &w->plan.probe;
    p->timeout_us = (uint64_t)fmax(5000, w->plan.probe_share * all_us);
    p->interval_us = p->timeout_us * (1 + rand_below(&w->rand, 4));
}

// Behind a model some of the others, in any order; what is kept, and what is written down.
static void draw_chain(struct world *w, struct model_of *m)
{
    if (!world_chance(w, w->plan.chains) || m->haste_us > 0)
        return; // who has no time for the others has no use for them: see sim.h
    unsigned n = 1, start = (unsigned)rand_below(&w->rand, w->plan.models);
    double slowest_us = calls_time_us(m, batch_cap(m));
    m->links[0] = (struct chain_link){LINK_MODEL, view_str(m->name)};
    for (unsigned i = 0; i < w->plan.models; i++) {
        const struct model_of *other = &w->model[(start + i) % w->plan.models];
        if (other == m || rand_below(&w->rand, 3) == 0)
            continue;
        m->links[n++] = (struct chain_link){LINK_MODEL, view_str(other->name)};
        slowest_us = fmax(slowest_us, calls_time_us(other, batch_cap(other)));
    }
    if (w->plan.cached && rand_below(&w->rand, 3) > 0)
        m->links[n++] = (struct chain_link){LINK_CACHED, VIEW("cached")};
    if (rand_below(&w->rand, 3) == 0)
        m->links[n++] = (struct chain_link){LINK_DEFAULT, VIEW("default")};
    if (n == 1)
        return;
    m->chain = (struct chain){.links = m->links, .n = n, .answer = w->written};
    m->rules.alternatives = true;
    if (rand_below(&w->rand, 2))
        m->chain.step_timeout_us = (uint64_t)(20 * slowest_us);
}

static unsigned least_instances(const struct world *w)
{
    unsigned least = SIM_INSTANCES;
    for (unsigned i = 0; i < w->plan.workers; i++)
        least = w->worker[i].instances < least ? w->worker[i].instances : least;
    return least;
}

void plan_models(struct world *w)
{
    double all = 0;
    unsigned replicas = 0, instances = 0;
    for (unsigned i = 0; i < w->plan.models; i++)
        draw_model(w, &w->model[i], i);
    for (unsigned i = 0; i < w->plan.models; i++)
        draw_chain(w, &w->model[i]);
    draw_replicas(w);
    for (unsigned i = 0; i < w->plan.models; i++) {
        draw_ranks(w, &w->model[i]);
        all += capacity(&w->model[i]);
        w->shares[i] = all;
        replicas += w->model[i].n_replicas;
    }
    for (unsigned i = 0; i < w->plan.workers; i++)
        instances += w->worker[i].instances;
    for (unsigned i = 0; i < w->plan.models; i++)
        w->shares[i] /= all;
    double rows_each = w->plan.flood ? 1 : 2.25; // mean of clients.c's draw
    w->arrival_us = rows_each * w->plan.loops / (all * w->plan.load);
    if (w->plan.rolling) // while one is away the lesser of the two has to do it all
        instances = 2 * least_instances(w);
    if (w->plan.shared) // a worker does one thing at a time for all of them
        w->arrival_us *= (double)replicas / instances;
    if (w->plan.flood)
        w->arrival_us = 0.01;
    if (w->plan.silent)
        w->arrival_us = SILENT_WORLD_US * w->plan.loops / w->plan.lives;
    draw_probes(w);
}
