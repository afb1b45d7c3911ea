/* bench/batchsim: the product's own batcher, policy and estimate in virtual time, beside Triton's rules.
 * Usage: batchsim [--small] [--data DIR]     prints tables, and what they demand; ends with 1 when that is missed
 *
 * World: rows come one by one (Poisson, bursts, a recorded trace, or clients that ask again when they are answered),
 * each with a deadline; servers take t(b) = alpha + beta * b with a noise of 5 %, one batch in 500 four times that;
 * 50 to 150 us each way; timers up to 60 us late. Arrivals, kinds, service and transfers are drawn from streams of
 * their own, so that all rules meet the same world. Triton's rules are played here, first in, first out, with a
 * time-out as long as the deadline; they and the bound are given the truth, auto learns t(b) from what it sees.
 * Goodput is rows answered in time, as a share of what full batches on all servers carry. Times: microseconds. */
#include "base/check.h"
#include "base/rand.h"
#include "batcher/batcher.h"
#include "batcher/server.h"
#include "bench/batchsim_bound.h"
#include <stdio.h>
#include <string.h>

#define SERVERS 8
#define PIPELINE_AUTO 3
#define BEGIN_US 1e6
#define NOISE 0.05
#define TAIL 0.002
#define TAIL_TIMES 4
#define NEVER 1e300

static struct size {
    double rows, closed_us, bound_rows;
} size = {30000, 3e6, 5000};
static const char *data = "../shared/data";
static unsigned missed;

// ---- what is played ------------------------------------------------------------------------------------

struct regime {
    const char *name;
    double alpha, beta;
    uint32_t max_rows;
};
static const struct regime tiny = {"tiny", 30, 2, 64}, cnn = {"cnn", 50, 110, 32},
                           gpu = {"gpu", 1000, 20, 64}, xfmr = {"xfmr", 4000, 250, 32},
                           heavy = {"heavy", 20000, 1000, 32};

enum kind { TIGHT, MEDIUM, LOOSE, MIXED };
static const char *const kind_name[] = {"tight", "medium", "loose", "mixed"};
enum coming { POISSON, BURSTS, CLOSED, AZURE, MOONCAKE, COMINGS };
static const char *const coming_name[] = {"Poisson", "bursts x4", "closed", "Azure", "Mooncake"};

struct rule {
    const char *name;
    bool triton;
    struct policy policy; // not Triton's
    uint32_t pipeline;
    uint32_t most;   // Triton: largest batch as a share of max_rows: 1 / most
    double delay_us; // Triton
    double patience; // Triton: time-out as a share of the deadline
};
static const struct rule triton0 = {"Triton 0", .triton = true, .pipeline = 1, .most = 1,
                                    .patience = 1};
static const struct rule triton1 = {"Triton 1 ms", .triton = true,   .pipeline = 1,
                                    .most = 1,     .delay_us = 1000, .patience = 1};
static const struct rule triton5 = {"Triton 5 ms", .triton = true,   .pipeline = 1,
                                    .most = 1,     .delay_us = 5000, .patience = 1};
static const struct rule fixed2 = {"fixed", .policy = {.kind = POLICY_FIXED, .max_wait_us = 2000},
                                   .pipeline = 2};
static const struct rule fixed0 = {"fixed, wait 0", .policy = {.kind = POLICY_FIXED},
                                   .pipeline = 2};
static const struct rule automatic = {
    "auto", .policy = {.kind = POLICY_AUTO, .max_wait_us = UINT64_MAX}, .pipeline = PIPELINE_AUTO};

struct game {
    struct regime regime;
    enum kind kind;
    enum coming coming;
    double load; // of capacity
    unsigned servers, clients;
    double high; // share of the highest lane
    // What may be wrong:
    double said;                     // of its time, by the worker; 0: it says nothing
    double slow, slow_from, slow_to; // times slower between these shares of the run
};

struct figures {
    double goodput, rows_per_s, p50_us, p99_us, device_us, mean_batch, high, low;
};

// ---- a run -----------------------------------------------------------------------------------------------

struct row {
    struct infer_request request;
    struct ticket ticket;
    double came, due;
    int client; // -1: none
    struct row *next;
};

struct travel { // a batch on its way
    struct row *rows[256];
    unsigned n;
    unsigned server;
    double sent, came, began, took;
    uint64_t expected_us;
    bool quiet;
    struct travel *next;
};

enum event_kind { ROW_COMES, CLIENT_ASKS, BATCH_THERE, BATCH_DONE, BATCH_BACK, WAKE };
struct event {
    double at;
    uint64_t order;
    enum event_kind kind;
    union {
        struct travel *travel;
        int client;
    };
};

struct device {
    struct travel *running, *first, **last;
};

#define BINS 4000
struct run {
    const struct game *game;
    const struct rule *rule;
    struct rand service, coming, kinds, way;
    double now, end, warm, wake;
    struct event *heap;
    unsigned n, cap;
    uint64_t order;
    struct batcher batcher;
    struct row *first, **last; // Triton's queue
    unsigned queued;
    struct batch_server server[SERVERS];
    struct device device[SERVERS];
    struct row *spare_row;
    struct travel *spare_travel;
    double rate; // rows a microsecond
    bool burst;
    double phase_end;
    const double *trace;
    unsigned n_trace, at_trace;
    double *record; // "come, due" pairs of the bound
    // figures
    double offered[2], good[2], late, busy_us, done_rows, done_batches;
    uint32_t bin[BINS];
    double binned;
};

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

static double exponential(struct rand *r, double mean)
{
    return -mean * log(1 - rand_unit(r));
}

static double gauss(struct rand *r)
{
    return sqrt(-2 * log(1 - rand_unit(r))) * cos(6.283185307179586 * rand_unit(r));
}

static bool before(const struct event *a, const struct event *b)
{
    return a->at < b->at || (a->at == b->at && a->order < b->order);
}

static struct event *post(struct run *r, double at, enum event_kind kind)
{
    if (r->n == r->cap)
        r->heap = must(realloc(r->heap, sizeof(*r->heap) * (r->cap = r->cap ? 2 * r->cap : 1024)));
    struct event e = {.at = at, .order = r->order++, .kind = kind};
    unsigned i = r->n++;
    for (; i > 0 && before(&e, &r->heap[(i - 1) / 2]); i = (i - 1) / 2)
        r->heap[i] = r->heap[(i - 1) / 2];
    r->heap[i] = e;
    return &r->heap[i];
}

static struct event next_event(struct run *r)
{
    struct event first = r->heap[0], e = r->heap[--r->n];
    unsigned i = 0;
    for (unsigned c; (c = 2 * i + 1) < r->n; i = c) {
        c += c + 1 < r->n && before(&r->heap[c + 1], &r->heap[c]);
        if (!before(&r->heap[c], &e))
            break;
        r->heap[i] = r->heap[c];
    }
    r->heap[i] = e;
    return first;
}

static double time_of(const struct regime *g, double rows)
{
    return g->alpha + g->beta * rows;
}

static double slack_of(const struct regime *g, enum kind kind)
{
    double one = time_of(g, 1), full = time_of(g, g->max_rows);
    return kind == TIGHT ? 2.5 * one + 500 : kind == MEDIUM ? 2.5 * full + 500 : 10 * full + 2000;
}

static uint64_t clock_us(const struct run *r)
{
    return (uint64_t)r->now;
}

static double transfer(struct run *r)
{
    return 50 + 100 * rand_unit(&r->way);
}

// ---- rows come and end -----------------------------------------------------------------------------------

static bool counts(const struct run *r, const struct row *x)
{
    return x->came >= r->warm && x->came < r->end;
}

static void ask_again(struct run *r, int client)
{
    if (client >= 0 && r->now < r->end)
        post(r, r->now + 50 + 100 * rand_unit(&r->coming), CLIENT_ASKS)->client = client;
}

static void row_over(struct run *r, struct row *x)
{
    ask_again(r, x->client);
    x->next = r->spare_row;
    r->spare_row = x;
}

static void row_answered(struct run *r, struct row *x)
{
    double us = r->now - x->came;
    if (counts(r, x)) {
        r->good[x->ticket.lane > 0] += r->now <= x->due;
        r->late += r->now > x->due;
        unsigned i = (unsigned)(log(fmax(us, 1)) * 200);
        r->bin[i < BINS ? i : BINS - 1]++;
        r->binned++;
    }
    row_over(r, x);
}

static struct row *row_new(struct run *r, int client)
{
    struct row *x = r->spare_row;
    if (x)
        r->spare_row = x->next;
    else
        x = must(malloc(sizeof(*x)));
    const struct game *g = r->game;
    enum kind kind = g->kind == MIXED ? (enum kind)rand_below(&r->kinds, 3) : g->kind;
    *x = (struct row){.came = r->now, .client = client};
    x->due = r->now + slack_of(&g->regime, kind);
    x->request = (struct infer_request){.rows = 1, .bytes = 1, .batch_key = {1, 1}};
    x->ticket = (struct ticket){.request = &x->request, .deadline_us = (uint64_t)x->due};
    x->ticket.lane = g->high > 0 && rand_unit(&r->kinds) >= g->high;
    return x;
}

// As the desk does with a ticket that comes.
static void row_queued(struct run *r, struct row *x)
{
    struct batcher *b = &r->batcher;
    if (r->rule->triton) {
        *r->last = x;
        r->last = &x->next;
        r->queued++;
        return;
    }
    batcher_came(b, 1, clock_us(r));
    bool refused =
        r->rule->policy.kind == POLICY_AUTO && batcher_refuses(b, &x->ticket, clock_us(r));
    if (refused || batcher_hopeless(b, &x->ticket, clock_us(r)))
        row_over(r, x);
    else if (!batcher_push(b, &x->ticket, clock_us(r)))
        abort();
}

static void row_comes(struct run *r, int client)
{
    struct row *x = row_new(r, client);
    if (counts(r, x))
        r->offered[x->ticket.lane > 0]++;
    row_queued(r, x);
}

// ---- batches ---------------------------------------------------------------------------------------------

static struct travel *travel_new(struct run *r)
{
    struct travel *t = r->spare_travel;
    if (t)
        r->spare_travel = t->next;
    else
        t = must(malloc(sizeof(*t)));
    t->n = 0;
    t->next = NULL;
    return t;
}

static void send(struct run *r, struct travel *t, unsigned server)
{
    struct batch_server *s = &r->server[server];
    t->server = server;
    t->sent = r->now;
    t->quiet = s->in_flight == 0;
    t->expected_us = estimate_mean_us(&r->batcher.estimate, t->n);
    server_sent(s, t->n, t->expected_us, r->batcher.trip_us, clock_us(r));
    post(r, r->now + transfer(r), BATCH_THERE)->travel = t;
}

static double service(struct run *r, unsigned rows)
{
    const struct game *g = r->game;
    double us = time_of(&g->regime, rows), at = (r->now - BEGIN_US) / (r->end - BEGIN_US);
    us *= exp(NOISE * gauss(&r->service) - NOISE * NOISE / 2);
    us *= rand_unit(&r->service) < TAIL ? TAIL_TIMES : 1;
    return us * (g->slow > 0 && at >= g->slow_from && at < g->slow_to ? g->slow : 1);
}

static void begin(struct run *r, struct device *d)
{
    struct travel *t = d->first;
    if (d->running || !t)
        return;
    d->first = t->next;
    if (!d->first)
        d->last = &d->first;
    d->running = t;
    t->began = r->now;
    t->took = service(r, t->n);
    post(r, r->now + t->took, BATCH_DONE)->travel = t;
}

static void batch_there(struct run *r, struct travel *t)
{
    struct device *d = &r->device[t->server];
    t->came = r->now;
    t->next = NULL;
    *d->last = t;
    d->last = &t->next;
    begin(r, d);
}

static void batch_done(struct run *r, struct travel *t)
{
    struct device *d = &r->device[t->server];
    d->running = NULL;
    if (t->began >= r->warm && t->began < r->end) {
        r->busy_us += t->took;
        r->done_rows += t->n;
        r->done_batches++;
    }
    post(r, r->now + transfer(r), BATCH_BACK)->travel = t;
    begin(r, d);
}

// As the desk learns from an answer.
static void batch_learnt(struct run *r, const struct travel *t)
{
    struct batcher *b = &r->batcher;
    struct batch_server *s = &r->server[t->server];
    uint64_t now = clock_us(r), sent = (uint64_t)t->sent;
    uint64_t said = (uint64_t)(t->took * r->game->said);
    uint64_t waited = (uint64_t)(t->began - t->came);
    if (t->quiet && said > 0 && now > sent + said + waited)
        batcher_trip(b, now - sent - said - waited);
    batcher_learn(b, t->n, server_took_us(s, sent, t->quiet, said, now), now);
    server_ended(s, t->expected_us, true, b->trip_us, now);
}

static void batch_back(struct run *r, struct travel *t)
{
    if (r->rule->triton)
        r->server[t->server].in_flight--;
    else
        batch_learnt(r, t);
    for (unsigned i = 0; i < t->n; i++)
        row_answered(r, t->rows[i]);
    t->next = r->spare_travel;
    r->spare_travel = t;
}

// ---- decisions -------------------------------------------------------------------------------------------

static void wake_at(struct run *r, double at)
{
    if (at >= r->wake && r->wake > r->now)
        return;
    r->wake = at;
    if (at < NEVER)
        post(r, fmax(at, r->now) + 60 * rand_unit(&r->way), WAKE);
}

static struct batch_server *choose_server(struct run *r, uint32_t limit)
{
    struct batch_server *best = NULL;
    for (unsigned i = 0; i < r->game->servers; i++) {
        struct batch_server *s = &r->server[i];
        bool better = !best || (r->rule->policy.kind == POLICY_AUTO && !r->rule->triton
                                    ? server_before(s, best, clock_us(r))
                                    : s->in_flight < best->in_flight);
        if (s->in_flight < limit && better)
            best = s;
    }
    return best;
}

static struct row *row_of(struct ticket *t)
{
    return container_of(t, struct row, ticket);
}

static void remove_row(struct run *r, struct ticket *t)
{
    batcher_remove(&r->batcher, t);
    row_over(r, row_of(t));
}

static struct outlook outlook_of(const struct run *r)
{
    struct outlook o = {0};
    for (unsigned i = 0; i < r->game->servers; i++)
        outlook_add(&o, &r->server[i], clock_us(r));
    return o;
}

static void batch_taken(struct run *r, const struct batch_plan *plan, struct batch_server *s)
{
    struct ticket *tickets[256];
    struct travel *t = travel_new(r);
    t->n = batcher_take(&r->batcher, plan, tickets, 256, clock_us(r));
    for (unsigned i = 0; i < t->n; i++)
        t->rows[i] = row_of(tickets[i]);
    send(r, t, (unsigned)(s - r->server));
}

// One batch of what waits, as the desk does it. False: nothing goes now.
static bool ask_batcher(struct run *r)
{
    struct batcher *b = &r->batcher;
    struct outlook o = outlook_of(r);
    batcher_expect(b, &o);
    for (struct ticket *t; (t = batcher_doomed(b, clock_us(r))) != NULL;)
        remove_row(r, t);
    struct batch_server *s = choose_server(r, r->rule->pipeline);
    if (!s || b->count == 0)
        return false;
    outlook_at(&o, s, clock_us(r));
    batcher_expect(b, &o);
    struct batch_plan plan = batcher_plan(b, r->game->regime.max_rows, clock_us(r), NULL, NULL);
    if (!plan.group) {
        wake_at(r, plan.wake_us == UINT64_MAX ? NEVER : (double)plan.wake_us);
        return false;
    }
    for (struct ticket *t; (t = batcher_dropped(b, &plan, clock_us(r))) != NULL;)
        remove_row(r, t);
    batch_taken(r, &plan, s);
    return true;
}

static struct row *triton_pop(struct run *r)
{
    struct row *x = r->first;
    r->first = x->next;
    if (!r->first)
        r->last = &r->first;
    r->queued--;
    return x;
}

static bool ask_triton(struct run *r)
{
    const struct rule *rule = r->rule;
    uint32_t most = r->game->regime.max_rows / rule->most;
    while (r->first && r->now > r->first->came + rule->patience * (r->first->due - r->first->came))
        row_over(r, triton_pop(r));
    struct batch_server *s = choose_server(r, rule->pipeline);
    if (!s || !r->first)
        return false;
    double until = r->first->came + rule->delay_us;
    if (r->queued < most && r->now < until) {
        wake_at(r, until);
        return false;
    }
    struct travel *t = travel_new(r);
    while (r->first && t->n < most)
        t->rows[t->n++] = triton_pop(r);
    send(r, t, (unsigned)(s - r->server));
    return true;
}

static void ask(struct run *r)
{
    while (r->rule->triton ? ask_triton(r) : ask_batcher(r)) {
    }
}

// ---- arrivals ----------------------------------------------------------------------------------------------

// A quarter of what a burst has the rest of the time, so that a fifth of the time carries four fifths of the rows.
static double next_in_bursts(struct run *r)
{
    double full = time_of(&r->game->regime, r->game->regime.max_rows), at = r->now;
    for (;;) {
        double rate = r->rate * (r->burst ? 4 : 0.25), gap = exponential(&r->coming, 1 / rate);
        if (at + gap < r->phase_end)
            return at + gap;
        at = r->phase_end;
        r->burst = !r->burst;
        r->phase_end = at + exponential(&r->coming, r->burst ? 5 * full : 20 * full);
    }
}

static double next_of_trace(struct run *r)
{
    double span = r->trace[r->n_trace - 1] * r->n_trace / (r->n_trace - 1);
    unsigned i = r->at_trace++;
    double at = r->trace[i % r->n_trace] + span * (i / r->n_trace);
    return fmax(r->now, BEGIN_US + at * (r->n_trace / span) / r->rate);
}

static void next_row(struct run *r)
{
    double at = r->game->coming == POISSON  ? r->now + exponential(&r->coming, 1 / r->rate)
                : r->game->coming == BURSTS ? next_in_bursts(r)
                                            : next_of_trace(r);
    if (at < r->end)
        post(r, at, ROW_COMES);
}

static struct {
    double *at;
    unsigned n;
} trace[COMINGS];

static double azure_time(const char *line)
{
    int day, hour, minute;
    double second;
    if (sscanf(line, "%*d-%*d-%d %d:%d:%lf", &day, &hour, &minute, &second) != 4)
        return -1;
    return (day * 24.0 + hour) * 3600 + minute * 60 + second;
}

static double mooncake_time(const char *line)
{
    double ms;
    return sscanf(line, "{\"timestamp\": %lf", &ms) == 1 ? ms / 1000 : -1;
}

static void read_trace(enum coming coming, const char *file, double (*time_in)(const char *))
{
    char path[512], line[4096];
    snprintf(path, sizeof(path), "%s/%s", data, file);
    FILE *f = fopen(path, "r");
    if (!f) {
        printf("skipped: the %s trace: no %s\n", coming_name[coming], path);
        return;
    }
    double *at = must(malloc(sizeof(*at) * 100000)), begin_s = -1;
    unsigned n = 0;
    while (n < 100000 && fgets(line, sizeof(line), f)) {
        double s = time_in(line);
        if (begin_s < 0)
            begin_s = s;
        if (s >= 0)
            at[n++] = s - begin_s;
    }
    fclose(f);
    trace[coming].at = at;
    trace[coming].n = n;
}

// ---- one game ------------------------------------------------------------------------------------------------

static double capacity(const struct game *g)
{
    return g->servers * g->regime.max_rows / time_of(&g->regime, g->regime.max_rows);
}

static void run_begins(struct run *r, const struct game *g, const struct rule *rule, double rows)
{
    *r = (struct run){.game = g, .rule = rule, .now = BEGIN_US, .wake = NEVER};
    rand_seed(&r->service, 1);
    rand_seed(&r->coming, 2);
    rand_seed(&r->kinds, 3);
    rand_seed(&r->way, 4);
    r->last = &r->first;
    for (unsigned i = 0; i < SERVERS; i++)
        r->device[i].last = &r->device[i].first;
    struct policy p = rule->policy;
    p.max_rows = g->regime.max_rows;
    batcher_init(&r->batcher, &p);
    r->rate = g->load * capacity(g);
    r->trace = trace[g->coming].at;
    r->n_trace = trace[g->coming].n;
    r->end = BEGIN_US + (g->coming == CLOSED ? size.closed_us : rows / r->rate);
    r->warm = BEGIN_US + 0.1 * (r->end - BEGIN_US);
    r->phase_end = BEGIN_US;
    r->burst = true;
    for (unsigned i = 0; g->coming == CLOSED && i < g->clients; i++)
        ask_again(r, (int)i);
    if (g->coming != CLOSED)
        next_row(r);
}

static void turn(struct run *r, const struct event *e)
{
    switch (e->kind) {
    case ROW_COMES:
        next_row(r);
        row_comes(r, -1);
        break;
    case CLIENT_ASKS:
        row_comes(r, e->client);
        break;
    case BATCH_THERE:
        batch_there(r, e->travel);
        return;
    case BATCH_DONE:
        batch_done(r, e->travel);
        return;
    case BATCH_BACK:
        batch_back(r, e->travel);
        break;
    case WAKE:
        if (r->wake > r->now)
            return;
        r->wake = NEVER;
        break;
    }
    ask(r);
}

static double quantile(const struct run *r, double p)
{
    double seen = 0;
    for (unsigned i = 0; i < BINS; i++) {
        seen += r->bin[i];
        if (seen > p * r->binned)
            return exp((i + 0.5) / 200);
    }
    return 0;
}

static struct figures figures_of(const struct run *r)
{
    double us = r->end - r->warm;
    return (struct figures){.goodput = (r->good[0] + r->good[1]) / us / capacity(r->game),
                            .rows_per_s = (r->good[0] + r->good[1] + r->late) / us * 1e6,
                            .p50_us = quantile(r, 0.5),
                            .p99_us = quantile(r, 0.99),
                            .device_us = r->done_rows > 0 ? r->busy_us / r->done_rows : 0,
                            .mean_batch = r->done_batches > 0 ? r->done_rows / r->done_batches : 0,
                            .high = r->offered[0] > 0 ? r->good[0] / r->offered[0] : 0,
                            .low = r->offered[1] > 0 ? r->good[1] / r->offered[1] : 0};
}

static void run_ends(struct run *r)
{
    for (struct ticket *t; (t = batcher_any(&r->batcher)) != NULL;)
        remove_row(r, t);
    while (r->first)
        row_over(r, triton_pop(r));
    batcher_deinit(&r->batcher);
    for (struct row *x; (x = r->spare_row) != NULL; free(x))
        r->spare_row = x->next;
    for (struct travel *t; (t = r->spare_travel) != NULL; free(t))
        r->spare_travel = t->next;
    free(r->heap);
}

static struct figures play(struct game g, const struct rule *rule)
{
    static struct run r;
    bool long_queue = g.kind == LOOSE || g.kind == MIXED; // queues are as long as deadlines
    run_begins(&r, &g, rule, size.rows * (long_queue ? g.servers : 1));
    while (r.n > 0) {
        struct event e = next_event(&r);
        r.now = e.at;
        turn(&r, &e);
    }
    struct figures f = figures_of(&r);
    run_ends(&r);
    return f;
}

static double bound_of(struct game g)
{
    static struct run r;
    int n = (int)size.bound_rows, i = 0;
    double *come = must(malloc(sizeof(*come) * (size_t)(n + 1))),
           *due = must(malloc(sizeof(*due) * (size_t)(n + 1)));
    run_begins(&r, &g, &triton0, n * 1.2);
    while (i < n && r.n > 0) {
        r.now = next_event(&r).at;
        next_row(&r);
        i++;
        come[i] = r.now + 50;
        due[i] = r.now + slack_of(&g.regime, g.kind) - 50;
    }
    run_ends(&r);
    double more = 1 + TAIL * (TAIL_TIMES - 1);
    int rows = bound_rows(g.regime.alpha * more, g.regime.beta * more, (int)g.regime.max_rows, come,
                          due, i);
    free(come);
    free(due);
    return rows / (double)i * g.load;
}

// ---- tables ----------------------------------------------------------------------------------------------------

static const double loads[] = {0.7, 1, 1.5, 2};
#define LOADS 4

static void demand(bool met, const char *what, double value)
{
    printf("%s: %s: %.3f\n", met ? "met" : "missed", what, value);
    missed += !met;
}

struct cells {
    double v[LOADS];
};

static struct cells goodput(struct game g, const struct rule *rule)
{
    struct cells c;
    for (unsigned i = 0; i < LOADS; i++) {
        g.load = loads[i];
        c.v[i] = play(g, rule).goodput;
    }
    return c;
}

static struct cells bounds(struct game g)
{
    struct cells c;
    for (unsigned i = 0; i < LOADS; i++) {
        g.load = loads[i];
        c.v[i] = bound_of(g);
    }
    return c;
}

static void print_cells(const struct cells *c)
{
    printf(" %.2f / %.2f / %.2f / %.2f |", c->v[0], c->v[1], c->v[2], c->v[3]);
}

// Triton's best of 72 settings for these loads.
static struct cells tuned(struct game g)
{
    static const double delays[] = {0, 1000, 5000}, shares[] = {1, 0.75, 0.5, 0.25};
    struct cells best = {{0}};
    double best_score = -1;
    for (unsigned i = 0; i < 72; i++) {
        struct rule rule = {.triton = true,
                            .most = 1u << i % 3,
                            .delay_us = delays[i / 3 % 3],
                            .patience = shares[i / 9 % 4],
                            .pipeline = 1 + i / 36};
        struct cells c = goodput(g, &rule);
        double score = 0;
        for (unsigned k = 0; k < LOADS; k++)
            score += c.v[k] / fmin(1, loads[k]);
        if (score > best_score)
            best_score = score, best = c;
    }
    return best;
}

// Sums for the demands.
static struct {
    double wide_least;                      // medium, loose, loads 1 to 2
    double tight_least, tight_log, tight_n; // of the bound
    double mixed_least;                     // at 1.5 and 2
    double tuned_log, tuned_n, tuned_mixed_log, tuned_mixed_n;
} sum;

static void judge(const struct game *g, const struct cells *c, const struct cells *bound,
                  const struct cells *best)
{
    for (unsigned i = 0; i < LOADS; i++) {
        if ((g->kind == MEDIUM || g->kind == LOOSE) && loads[i] >= 1)
            sum.wide_least = fmin(sum.wide_least, c->v[i]);
        if (g->kind == MIXED && loads[i] > 1)
            sum.mixed_least = fmin(sum.mixed_least, c->v[i]);
        if (g->kind == TIGHT && bound) {
            sum.tight_least = fmin(sum.tight_least, c->v[i] / bound->v[i]);
            sum.tight_log += log(c->v[i] / bound->v[i]);
            sum.tight_n++;
        }
        double ratio = best ? log(fmax(c->v[i], 1e-3) / fmax(best->v[i], 1e-3)) : 0;
        if (best && g->kind == TIGHT && g->servers == 1)
            sum.tuned_log += ratio, sum.tuned_n++;
        if (best && g->kind == MIXED && loads[i] > 1)
            sum.tuned_mixed_log += ratio, sum.tuned_mixed_n++;
    }
}

static void goodput_row(struct game g, bool with_tuned)
{
    static const struct rule *const rules[] = {&triton0, &triton1, &triton5, &fixed2, &automatic};
    struct cells c = {{0}}, best, bound;
    bool bounded = g.servers == 1 && g.kind != MIXED && g.kind != LOOSE && g.coming == POISSON;
    printf("| %s %s, %u |", g.regime.name, kind_name[g.kind], g.servers);
    for (unsigned i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        c = goodput(g, rules[i]);
        print_cells(&c);
    }
    if (with_tuned) {
        best = tuned(g);
        print_cells(&best);
    } else {
        printf(" |");
    }
    if (bounded) {
        bound = bounds(g);
        print_cells(&bound);
    } else {
        printf(" |");
    }
    printf("\n");
    fflush(stdout);
    if (g.coming == POISSON)
        judge(&g, &c, bounded ? &bound : NULL, with_tuned ? &best : NULL);
}

static void goodput_head(const char *what)
{
    printf("\n### Goodput, %s, at loads .7 / 1 / 1.5 / 2\n\n", what);
    printf("| regime, servers | Triton 0 | Triton 1 ms | Triton 5 ms | fixed | **auto** | Triton "
           "tuned | bound |\n");
    printf("|---|---|---|---|---|---|---|---|\n");
}

static void goodput_table(bool small)
{
    static const struct {
        const struct regime *regime;
        enum kind kind;
        unsigned servers;
    } rows[] = {{&gpu, TIGHT, 1},   {&gpu, MEDIUM, 1},  {&cnn, TIGHT, 1},  {&xfmr, TIGHT, 1},
                {&heavy, TIGHT, 1}, {&xfmr, MEDIUM, 1}, {&gpu, LOOSE, 1},  {&xfmr, LOOSE, 1},
                {&gpu, MIXED, 1},   {&xfmr, MIXED, 1},  {&gpu, TIGHT, 4},  {&xfmr, TIGHT, 4},
                {&heavy, TIGHT, 4}, {&xfmr, MEDIUM, 4}, {&xfmr, MIXED, 4}, {&xfmr, LOOSE, 4}};
    sum.wide_least = sum.tight_least = sum.mixed_least = 1e9;
    goodput_head("Poisson");
    for (unsigned i = 0; i < (small ? 2 : sizeof(rows) / sizeof(rows[0])); i++) {
        struct game g = {
            .regime = *rows[i].regime, .kind = rows[i].kind, .servers = rows[i].servers, .said = 1};
        goodput_row(g, !small && (g.kind == TIGHT || g.kind == MIXED));
    }
}

static void uneven_tables(bool small)
{
    static const enum coming comings[] = {BURSTS, AZURE, MOONCAKE};
    static const struct regime *const regimes[] = {&gpu, &xfmr};
    for (unsigned i = 0; i < 3; i++) {
        if (comings[i] != BURSTS && trace[comings[i]].n == 0)
            continue;
        goodput_head(coming_name[comings[i]]);
        for (unsigned k = 0; k < (small ? 1 : 4); k++) {
            struct game g = {.regime = *regimes[k / 2],
                             .kind = k % 2 ? MEDIUM : TIGHT,
                             .coming = comings[i],
                             .servers = 1,
                             .said = 1};
            goodput_row(g, false);
        }
    }
}

static void closed_table(bool small)
{
    static const struct {
        const struct regime *regime;
        unsigned clients, servers;
    } rows[] = {{&gpu, 1, 1},   {&gpu, 2, 1},   {&gpu, 32, 1}, {&gpu, 32, 4},
                {&xfmr, 32, 1}, {&xfmr, 32, 4}, {&tiny, 32, 1}};
    static const struct rule *const rules[] = {&triton0, &triton1, &fixed2, &fixed0, &automatic};
    double two = 0; // of two clients
    printf("\n### Closed loops: rows a second, p50 / p99 us\n\n");
    printf("| clients, servers | Triton 0 | Triton 1 ms | fixed | fixed, wait 0 | **auto** "
           "|\n|---|---|---|---|---|---|\n");
    for (unsigned i = 0; i < (small ? 2 : sizeof(rows) / sizeof(rows[0])); i++) {
        struct game g = {.regime = *rows[i].regime,
                         .kind = LOOSE,
                         .coming = CLOSED,
                         .load = 1,
                         .clients = rows[i].clients,
                         .servers = rows[i].servers,
                         .said = 1};
        printf("| %s, %u clients, %u |", g.regime.name, g.clients, g.servers);
        for (unsigned k = 0; k < 5; k++) {
            struct figures f = play(g, rules[k]);
            printf(" %.0f, %.0f / %.0f |", f.rows_per_s, f.p50_us, f.p99_us);
            two = k == 4 && g.clients == 2 ? f.rows_per_s : two;
        }
        printf("\n");
    }
    printf("\n");
    if (!small)
        demand(two >= 1400, "rows a second of two closed-loop clients, at least 1,400", two);
}

static void latency_table(void)
{
    static const struct rule *const rules[] = {&triton0, &triton1, &fixed2, &automatic};
    static const double at[] = {0.02, 0.3, 0.5, 0.9};
    printf("\n### Poisson, loose deadlines: p50 / p99 us, device us a row\n\n");
    printf("| regime, servers, load | Triton 0 | Triton 1 ms | fixed | **auto** "
           "|\n|---|---|---|---|---|\n");
    for (unsigned i = 0; i < 8; i++) {
        struct game g = {.regime = i / 4 ? heavy : gpu,
                         .kind = LOOSE,
                         .servers = i / 4 ? 8 : 1,
                         .load = at[i % 4],
                         .said = 1};
        printf("| %s, %u, %g |", g.regime.name, g.servers, g.load);
        for (unsigned k = 0; k < 4; k++) {
            struct figures f = play(g, rules[k]);
            printf(" %.0f / %.0f, %.0f |", f.p50_us, f.p99_us, f.device_us);
        }
        printf("\n");
    }
}

static void lanes_table(void)
{
    static const struct game games[] = {
        {.regime = {"gpu", 1000, 20, 64}, .kind = MEDIUM, .servers = 1},
        {.regime = {"xfmr", 4000, 250, 32}, .kind = MEDIUM, .servers = 4},
        {.regime = {"gpu", 1000, 20, 64}, .kind = TIGHT, .servers = 1}};
    printf("\n### A fifth of the rows in the highest lane, load 2: in time, high / low\n\n");
    printf("| regime, servers | fixed | **auto** |\n|---|---|---|\n");
    double least = 1;
    for (unsigned i = 0; i < 3; i++) {
        struct game g = games[i];
        g.high = 0.2;
        g.load = 2;
        g.said = 1;
        struct figures f = play(g, &fixed2), a = play(g, &automatic);
        printf("| %s %s, %u | %.2f / %.2f | %.2f / %.2f |\n", g.regime.name, kind_name[g.kind],
               g.servers, f.high, f.low, a.high, a.low);
        least = g.kind == MEDIUM ? fmin(least, a.high) : least;
    }
    printf("\n");
    demand(least >= 0.95, "high lane at load 2, medium deadlines, in time, at least .95", least);
}

// What the estimate may be told wrongly, or too late.
static void wrong_table(void)
{
    static const struct {
        const char *what;
        double said, slow, from, to;
    } rows[] = {{"all is well", 1, 0, 0, 0},
                {"the worker says nothing", 0, 0, 0, 0},
                {"it says half its time", 0.5, 0, 0, 0},
                {"slower by two for a third of the time", 1, 2, 0.4, 0.7}};
    printf("\n### Wrong or late knowledge, one server, auto: goodput at .7 / 1 / 1.5 / 2\n\n");
    printf("| | gpu medium | gpu tight | xfmr tight |\n|---|---|---|---|\n");
    for (unsigned i = 0; i < 4; i++) {
        printf("| %s |", rows[i].what);
        for (unsigned k = 0; k < 3; k++) {
            struct game g = {.regime = k < 2 ? gpu : xfmr,
                             .kind = k ? TIGHT : MEDIUM,
                             .servers = 1,
                             .said = rows[i].said,
                             .slow = rows[i].slow,
                             .slow_from = rows[i].from,
                             .slow_to = rows[i].to};
            struct cells c = goodput(g, &automatic);
            print_cells(&c);
        }
        printf("\n");
    }
}

static void judge_goodput(void)
{
    printf("\n");
    demand(sum.wide_least >= 0.90, "medium and loose, loads 1 to 2, at least .90 of capacity",
           sum.wide_least);
    demand(sum.tight_least >= 0.77, "tight, one server, at least .77 of the bound",
           sum.tight_least);
    demand(exp(sum.tight_log / sum.tight_n) >= 0.83, "and .83 by geometric mean",
           exp(sum.tight_log / sum.tight_n));
    demand(sum.mixed_least >= 0.85, "mixed, loads 1.5 and 2, at least .85", sum.mixed_least);
    demand(exp(sum.tuned_log / sum.tuned_n) >= 1.2,
           "tight, one server, at least 1.2 times tuned Triton by geometric mean",
           exp(sum.tuned_log / sum.tuned_n));
    demand(exp(sum.tuned_mixed_log / sum.tuned_mixed_n) >= 1.8,
           "mixed past capacity, at least 1.8 times tuned Triton",
           exp(sum.tuned_mixed_log / sum.tuned_mixed_n));
}

int main(int argc, char **argv)
{
    bool small = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--small") == 0)
            small = true;
        else if (strcmp(argv[i], "--data") == 0 && i + 1 < argc)
            data = argv[++i];
    }
    if (small)
        size = (struct size){3000, 1e5, 600};
    read_trace(AZURE, "azure_llm_2023_conv/AzureLLMInferenceTrace_conv.csv", azure_time);
    read_trace(MOONCAKE, "mooncake_conversation/conversation_trace.jsonl", mooncake_time);
    goodput_table(small);
    if (!small)
        judge_goodput();
    uneven_tables(small);
    closed_table(small);
    if (!small) {
        latency_table();
        lanes_table();
        wrong_table();
    }
    for (unsigned i = 0; i < COMINGS; i++)
        free(trace[i].at);
    return missed > 0;
}
