/* bench/batchsim/world: clients, rows, the way, and servers that take t(b) with noise. */
#include "bench/batchsim/world.h"
#include <math.h>

#define NOISE 0.05
#define TAIL 0.002
#define TAIL_TIMES 4

struct size size = {30000, 3e6, 5000};

double time_of(const struct regime *g, double rows)
{
    return g->alpha + g->beta * rows;
}

double slack_of(const struct regime *g, enum kind kind)
{
    double one = time_of(g, 1), full = time_of(g, g->max_rows);
    return kind == TIGHT ? 2.5 * one + 500 : kind == MEDIUM ? 2.5 * full + 500 : 10 * full + 2000;
}

double capacity(const struct game *g)
{
    return g->servers * g->regime.max_rows / time_of(&g->regime, g->regime.max_rows);
}

static double gauss(struct rand *r)
{
    return sqrt(-2 * log(1 - rand_unit(r))) * cos(6.283185307179586 * rand_unit(r));
}

static double transfer(struct run *r)
{
    return 50 + 100 * rand_unit(&r->way);
}

// ---- rows come and end

static bool counts(const struct run *r, const struct row *x)
{
    return x->came >= r->warm && x->came < r->end;
}

static void ask_again(struct run *r, int client)
{
    if (client >= 0 && r->now < r->end)
        event_post(r, r->now + 50 + 100 * rand_unit(&r->coming), CLIENT_ASKS)->client = client;
}

void row_over(struct run *r, struct row *x)
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
    x->ticket = (struct ticket){
        .request = &x->request, .key = x->request.batch_key, .deadline_us = (uint64_t)x->due};
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

// ---- batches

struct travel *travel_new(struct run *r)
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

void batch_send(struct run *r, struct travel *t, unsigned server)
{
    struct batch_server *s = &r->server[server];
    t->server = server;
    t->sent = r->now;
    t->quiet = s->in_flight == 0;
    t->expected_us = estimate_mean_us(&r->batcher.estimate, t->n);
    server_sent(s, t->n, t->expected_us, r->batcher.trip_us, clock_us(r));
    event_post(r, r->now + transfer(r), BATCH_THERE)->travel = t;
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
    event_post(r, r->now + t->took, BATCH_DONE)->travel = t;
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
    }
    event_post(r, r->now + transfer(r), BATCH_BACK)->travel = t;
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

// ---- one game

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
    r->end = BEGIN_US + (g->coming == CLOSED ? size.closed_us : rows / r->rate);
    r->warm = BEGIN_US + 0.1 * (r->end - BEGIN_US);
    arrivals_begin(r);
    for (unsigned i = 0; g->coming == CLOSED && i < g->clients; i++)
        ask_again(r, (int)i);
    if (g->coming != CLOSED)
        arrivals_next(r);
}

static void turn(struct run *r, const struct event *e)
{
    switch (e->kind) {
    case ROW_COMES:
        arrivals_next(r);
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
    rules_ask(r);
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
                            .high = r->offered[0] > 0 ? r->good[0] / r->offered[0] : 0,
                            .low = r->offered[1] > 0 ? r->good[1] / r->offered[1] : 0};
}

static void run_ends(struct run *r)
{
    rules_forget(r);
    batcher_deinit(&r->batcher);
    for (struct row *x; (x = r->spare_row) != NULL; free(x))
        r->spare_row = x->next;
    for (struct travel *t; (t = r->spare_travel) != NULL; free(t))
        r->spare_travel = t->next;
    free(r->heap);
}

struct figures game_play(struct game g, const struct rule *rule)
{
    static struct run r;
    bool long_queue = g.kind == LOOSE || g.kind == MIXED; // queues are as long as deadlines
    run_begins(&r, &g, rule, size.rows * (long_queue ? g.servers : 1));
    while (r.n > 0) {
        struct event e = event_next(&r);
        r.now = e.at;
        turn(&r, &e);
    }
    struct figures f = figures_of(&r);
    run_ends(&r);
    return f;
}

double game_bound(struct game g)
{
    static struct run r;
    int n = (int)size.bound_rows, i = 0;
    double *come = must(malloc(sizeof(*come) * (size_t)(n + 1))),
           *due = must(malloc(sizeof(*due) * (size_t)(n + 1)));
    run_begins(&r, &g, &triton0, n * 1.2);
    while (i < n && r.n > 0) {
        r.now = event_next(&r).at;
        arrivals_next(&r);
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
