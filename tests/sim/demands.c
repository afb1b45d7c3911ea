#include "tests/sim/sim.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define WINDOW_BITS 16 // of the books on peaks: 65 ms

void demand_failed(const struct world *w, const struct life *x, const char *what)
{
    unsigned long long id = x ? x->id : 0, seed = w->plan.seed;
    printf("seed %llu, %.6f s: not so: %s", seed, (double)(w->now_us - SIM_START_US) / 1e6, what);
    if (x)
        printf(" (infer %llu, %s, kind %d, settled as \"%s\")", id, x->model->name, x->kind,
               x->settled ? x->told : "-");
    printf("\nreplay: make sim SEED=%llu", seed);
    if (x)
        printf(" TRACE=%llu", id);
    printf("\n");
    fflush(stdout);
    exit(1);
}

void tell_line(const struct world *w, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("%12.6f      ", (double)(w->now_us - SIM_START_US) / 1e6);
    vprintf(format, args);
    printf("\n");
    va_end(args);
}

void trace_line(const struct world *w, const struct life *x, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("%12.6f  infer %llu ", (double)(w->now_us - SIM_START_US) / 1e6,
           (unsigned long long)x->id);
    vprintf(format, args);
    printf("\n");
    va_end(args);
}

void excuse_until(struct excuse *e, enum fault f, uint64_t until_us)
{
    if (until_us >= e->until_us)
        *e = (struct excuse){until_us, f};
}

// ---- what is out: the books on room and work ---------------------------------------------------------

uint32_t rows_of(const struct life *x)
{
    return x->in.request.rows ? x->in.request.rows : 1;
}

uint32_t batch_cap(const struct model_of *m)
{
    uint32_t cap = m->max_batch ? m->max_batch : 1;
    return m->rules.max_rows && m->rules.max_rows < cap ? m->rules.max_rows : cap;
}

bool goes_alone(const struct life *x)
{
    return x->kind == KIND_SEQUENCE || x->kind == KIND_SCALAR || x->ticket->alone;
}

// What it costs one replica at most, in company where it may have some.
static double work_of(const struct life *x)
{
    const struct model_of *m = x->model;
    uint32_t cap = batch_cap(m);
    if (goes_alone(x) || cap < 2 * SIM_ROWS)
        return calls_time_us(m, rows_of(x));
    return calls_time_us(m, cap) * rows_of(x) / (cap - SIM_ROWS + 1);
}

static void note_peak(struct world *w, struct model_of *m)
{
    uint64_t window = w->now_us >> WINDOW_BITS;
    unsigned i = window % 64;
    if (m->peak_at[i] != window) {
        m->peak_at[i] = window;
        m->peak[i] = m->work_us;
    }
    m->peak[i] = fmax(m->peak[i], m->work_us);
}

double peak_since(const struct world *w, const struct model_of *m, uint64_t since_us)
{
    double peak = m->work_us;
    if (w->now_us - since_us >= 60ull << WINDOW_BITS)
        return INFINITY;
    for (unsigned i = 0; i < 64; i++) {
        if (m->peak_at[i] >= since_us >> WINDOW_BITS)
            peak = fmax(peak, m->peak[i]);
    }
    return peak;
}

static unsigned tenant_of(const struct life *x)
{
    return x->whole ? x->whole->in.tenant : x->in.tenant;
}

void demands_goes_out(struct world *w, struct life *x)
{
    struct model_of *m = x->model;
    x->charged = x->ticket->charged_rows;
    m->rows_out += x->charged;
    m->rows_of[tenant_of(x)] += x->charged;
    m->bytes_out += x->charged > 0 ? (int64_t)x->in.request.bytes : 0;
    bool batches = atomic_load(&m->m->max_batch) > 0, known = m->desk && m->desk->replicas.n > 0;
    bool waits = x->ticket->cache != CACHE_ONLY_STALE; // else it is given back at once
    demand(w, x,
           !known || x->charged == (!waits    ? 0
                                    : batches ? (int64_t)rows_of(x)
                                              : 1),
           "rows are counted where a model batches");
    x->work_us = work_of(x);
    m->work_us += waits ? x->work_us : 0;
}

void demands_at_origin(struct life *x)
{
    struct model_of *m = x->model;
    if (x->ticket->lent || x->ticket->called || x->charged == 0)
        return;
    m->rows_out -= x->charged;
    m->rows_of[tenant_of(x)] -= x->charged;
    m->bytes_out -= (int64_t)x->in.request.bytes;
    m->work_us -= x->work_us;
    x->charged = 0;
    note_peak(m->w, m);
    m->moved = true;
}

static void demand_tenants(const struct world *w, const struct model_of *m)
{
    const struct tenant_books *b = atomic_load(&m->m->books);
    for (unsigned i = 1; i <= w->plan.tenants; i++)
        demand(w, NULL, (b ? atomic_load(&b->of[i].rows) : 0) == m->rows_of[i],
               "what a tenant holds is charged and given back by the row");
}

// When all that one input wanted is done: it may have begun steps at several models.
void demands_rooms(struct world *w)
{
    for (unsigned i = 0; i < w->plan.models; i++) {
        struct model_of *m = &w->model[i];
        if (!m->moved)
            continue;
        m->moved = false;
        demand(w, NULL, m->rows_out == atomic_load(&m->m->room_rows),
               "room is charged and given back by the row");
        demand(w, NULL, m->bytes_out == atomic_load(&m->m->room_bytes),
               "room is charged and given back by the byte");
        demand_tenants(w, m);
    }
}

void demands_room(struct world *w, const struct life *x)
{
    struct model_of *m = x->model;
    note_peak(w, m);
    m->moved = true;
    const struct life *first = life_part((struct life *)x, 0);
    if (first && first->charged == 0)
        return; // it takes no room
    demand(w, x, m->rows_out <= (int64_t)atomic_load(&m->m->queue_limit),
           "no more rows than the queue's bound");
    demand(w, x, m->rules.queue_bytes == 0 || m->bytes_out <= (int64_t)m->rules.queue_bytes,
           "no more bytes than the queue's bound");
    uint32_t limit = m->rules.queue_rows;
    if (limit == 0 && m->desk && atomic_load(&m->m->ready) > 0)
        limit = batch_cap(m) > 16 ? 64 * batch_cap(m) : 1024;
    demand(w, x,
           !w->plan.calm || limit == 0 || m->ranked || limit == atomic_load(&m->m->queue_limit),
           "the bound is max(1,024, 64 x max_rows), or what the rules say");
}

void demands_on_submit(struct loop_of *l, struct life *x)
{
    struct world *w = l->w;
    struct model_of *m = x->model;
    demand(w, x,
           x->in.state == INFER_OUT || x->in.error.status != STATUS_OK ||
               x->in.source == SOURCE_DEFAULT,
           "it goes out or is told why not");
    demand(w, x, (x->in.step.to.model == NULL) == (m->m == NULL),
           "a model is known when it is born");
    for (unsigned i = 0; i < w->plan.models; i++) // and whoever its chain asks
        w->model[i].asked_us[x->in.tenant] = w->now_us;
    if (x->in.state != INFER_OUT)
        return;
    struct life *p;
    for (unsigned i = 0; (p = life_part(x, i)) != NULL; i++)
        demands_goes_out(w, p);
    if (!x->in.walk) // else each of its steps goes out by itself
        demands_room(w, x);
    uint64_t asked = x->in.request.timeout_us;
    uint64_t want = asked ? asked : m->rules.deadline_us;
    if (want > l->flow.rules.deadline_max_us)
        want = l->flow.rules.deadline_max_us;
    demand(w, x, x->in.deadline_us == x->in.arrived_us + want, "a deadline as it was asked for");
}

void demands_on_release(struct loop_of *l, struct life *x)
{
    struct world *w = l->w;
    struct life *p;
    demand(w, x, x->live && x->settled && l->index == x->loop,
           "an infer is over once, settled, at its origin");
    for (unsigned i = 0; (p = life_part(x, i)) != NULL; i++) {
        demand(w, p, !p->lent && p->charged == 0, "an infer is over with all its tickets at home");
        demands_messages(w, p);
    }
}

// ---- after the world has healed ----------------------------------------------------------------------

static void check_model(struct world *w, struct model_of *m)
{
    const struct desk *d = m->desk;
    if (!m->m)
        return;
    demand(w, NULL,
           atomic_load(&m->m->room_rows) == 0 && atomic_load(&m->m->room_bytes) == 0 &&
               m->rows_out == 0,
           "all room was given back");
    if (!d)
        return;
    demand(w, NULL, d->batcher.count == 0 && d->batcher.rows == 0 && d->batcher.bytes == 0,
           "the queue is empty");
    demand(w, NULL, !d->sent && !d->again && d->n_again == 0 && d->running_rows == 0 && !d->lost,
           "nothing is out");
    demand(w, NULL, !d->shadows && d->n_shadows == 0 && !d->shadow_sent, "no shadow is left");
    demand(w, NULL, m->suspects == 0 && d->replicas.suspects == 0,
           "no ticket that was lost is at home any more");
    demand(w, NULL, atomic_load(&m->m->waiting) == 0 && atomic_load(&m->m->running) == 0,
           "what is published agrees");
    demand(w, NULL, m->noted_rows == m->dispatched_rows, "every row that was sent was counted");
    demand(w, NULL, m->noted_done == m->answered_rows, "every row that was answered was counted");
    for (unsigned i = 0; i < d->replicas.n; i++)
        demand(w, NULL, d->replicas.at[i].batches == 0 && d->replicas.at[i].rows == 0,
               "every replica has its credit back");
    for (unsigned i = 0; i < m->n_replicas; i++)
        demand(w, NULL, m->replica[i].told && m->replica[i].in_flight == 0,
               "every replica is up again");
}

// Full batches, one after the other, on every replica: within 5 % of that, and a start and an end.
static void check_flood(struct world *w, const struct model_of *m)
{
    uint32_t cap = batch_cap(m);
    double t = calls_time_us(m, cap);
    double ideal = w->plan.lives / (double)cap * t / m->n_replicas;
    double took = (double)(w->last_answer_us - w->first_dispatch_us);
    demand(w, NULL, took <= ideal / 0.95 + 3 * t + 2000, "a flood is served as fast as can be");
    demand(w, NULL, w->totals.settled[STATUS_OK] == w->plan.lives, "a flood is served whole");
}

void demands_at_rest(struct world *w)
{
    demand(w, NULL, w->alive == 0 && w->totals.lives == w->plan.lives, "all lives are over");
    for (unsigned i = 0; i < w->plan.loops; i++) {
        struct loop_of *l = &w->loop[i];
        demand(w, NULL, l->flow.n_live == 0 && l->flow.n_zombies == 0 && l->flow.wheel.count == 0,
               "every flow is empty");
        demand(w, NULL, !l->flow.shadows && l->flow.n_shadows == 0 && l->flow.shadow_bytes == 0,
               "no shadow is left");
        demand(w, NULL, l->await.n == 0 && !l->await.first, "nobody waits for a worker to tell");
        for (unsigned k = 0; k < w->plan.loops; k++)
            demand(w, NULL, l->in[k].n == 0, "every mailbox is empty");
    }
    for (unsigned i = 0; i < w->plan.models; i++)
        check_model(w, &w->model[i]);
    for (unsigned i = 0; i < w->plan.workers; i++)
        demand(w, NULL,
               atomic_load(&w->worker[i].vitals.out) == 0 &&
                   atomic_load(&w->worker[i].device.pending_us) == 0,
               "no batch is out anywhere");
    uint64_t shed = 0;
    for (unsigned i = 0; i < w->plan.models; i++)
        shed += w->model[i].shed;
    demand(w, NULL, shed == w->totals.faults[FAULT_ROOM], "every refusal was counted");
    if (w->plan.flood)
        check_flood(w, &w->model[0]);
}
