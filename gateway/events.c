#include "gateway/events.h"

#include "base/check.h"
#include "base/mem.h"
#include "gateway/process.h"
#include <stdio.h>

#define SLOTS                                                                                      \
    16 // events of one loop on their way to the main thread; past them they are lost, and counted
#define BEAT_US                                                                                    \
    15000000 // a comment after so long without an event: whoever stands between sees that we live
#define HELLO ": sluice\nretry: 1000\n\n"
#define BEAT ":\n\n"

struct event_slot { // an event on its way
    struct loop_task task;
    struct events *events;
    _Atomic bool busy; // set by its loop, reset by the main thread
    const char *event;
    struct buffer line;
};

struct event_reader {
    struct admin_stream stream; // first: it is ex->user
    struct events *events;
    struct exchange *ex;
    struct event_reader *next, **prev;
    uint64_t at;      // the next event it gets
    uint64_t beat_us; // when it is to hear something, at the latest
    bool greeted;
};

struct event_text { // as it is sent; block NULL: lost
    struct block *block;
    size_t n;
};

struct events {
    struct gateway *gateway;
    struct event_slot *slots; // [n_loops * SLOTS]
    unsigned n_slots;
    _Atomic uint64_t dropped;
    // main thread only
    uint64_t epoch;                      // in ids: those of another process are none of ours
    uint64_t next;                       // number of the next event
    struct event_text ring[EVENTS_KEPT]; // [number % EVENTS_KEPT]
    struct event_reader *readers;
    unsigned n_readers;
    bool ended;
};

static void on_carried(struct loop *l, struct loop_task *t);

struct events *events_new(struct gateway *g, unsigned n_loops)
{
    struct events *e = mem_zalloc(sizeof(*e));
    if (!e)
        return NULL;
    e->gateway = g;
    block_owner_adopt(loop_blocks(&g->main)); // the first events come before its loop turns
    e->n_slots = n_loops * SLOTS;
    e->epoch = log_wall_us();
    e->slots = mem_zalloc(e->n_slots * sizeof(*e->slots));
    if (!e->slots) {
        mem_free(e);
        return NULL;
    }
    for (unsigned i = 0; i < e->n_slots; i++) {
        e->slots[i].events = e;
        e->slots[i].task.fn = on_carried;
        buffer_init(&e->slots[i].line);
    }
    return e;
}

void events_free(struct events *e)
{
    if (!e)
        return;
    invariant(!e->readers);
    for (unsigned i = 0; i < EVENTS_KEPT; i++) {
        if (e->ring[i].block)
            block_unref(e->ring[i].block);
    }
    for (unsigned i = 0; i < e->n_slots; i++)
        buffer_deinit(&e->slots[i].line);
    mem_free(e->slots);
    mem_free(e);
}

// ---- events ------------------------------------------------------------------------------------------

static uint64_t now(const struct events *e)
{
    return loop_now_us(&e->gateway->main);
}

static void ring_put(struct events *e, struct event_text t)
{
    struct event_text *place = &e->ring[e->next++ % EVENTS_KEPT];
    if (place->block)
        block_unref(place->block);
    *place = t;
}

static struct event_text text_of(struct events *e, const char *event, struct view line)
{
    char head[160];
    int n = snprintf(head, sizeof(head),
                     "id: %llx.%llu\nevent: %.80s\ndata: ", (unsigned long long)e->epoch,
                     (unsigned long long)e->next, event);
    size_t bytes = (size_t)n + line.n + 2;
    struct block *b = block_new(loop_blocks(&e->gateway->main), bytes);
    if (!b)
        return (struct event_text){0};
    memcpy(b->data, head, (size_t)n);
    memcpy(b->data + n, line.p, line.n);
    memcpy(b->data + n + line.n, "\n\n", 2);
    return (struct event_text){b, bytes};
}

static void wake_all(struct events *e)
{
    for (struct event_reader *r = e->readers; r; r = r->next)
        server_wake(r->ex, now(e));
}

static void publish(struct events *e, const char *event, struct view line)
{
    for (uint64_t lost = atomic_exchange(&e->dropped, 0); lost > 0; lost--)
        ring_put(e, (struct event_text){0});
    ring_put(e, line.n > 0 ? text_of(e, event, line) : (struct event_text){0});
    wake_all(e);
}

static struct view without_newline(const struct buffer *line)
{
    struct view v = buffer_view(line);
    v.n -= v.n > 0;
    return v;
}

static void on_carried(struct loop *l, struct loop_task *t)
{
    struct event_slot *s = container_of(t, struct event_slot, task);
    (void)l;
    publish(s->events, s->event, without_newline(&s->line));
    atomic_store_explicit(&s->busy, false, memory_order_release);
}

static struct event_slot *slot_acquire(struct events *e, unsigned loop)
{
    for (unsigned i = loop * SLOTS; i < (loop + 1) * SLOTS; i++) {
        if (!atomic_load_explicit(&e->slots[i].busy, memory_order_acquire)) {
            atomic_store_explicit(&e->slots[i].busy, true, memory_order_relaxed);
            return &e->slots[i];
        }
    }
    return NULL;
}

// False: it is lost.
static bool carry(struct events *e, struct loop *from, uint64_t wall_us, enum log_level level,
                  const char *event, const struct log_field *fields, unsigned n)
{
    struct event_slot *s = slot_acquire(e, from->index);
    if (!s)
        return false;
    if (!log_format(&s->line, level, wall_us, event, fields, n)) {
        atomic_store_explicit(&s->busy, false, memory_order_relaxed);
        return false;
    }
    s->event = event;
    loop_post_task(from, &e->gateway->main, &s->task);
    return true;
}

static void publish_own(struct events *e, uint64_t wall_us, enum log_level level, const char *event,
                        const struct log_field *fields, unsigned n)
{
    struct buffer line;
    buffer_init(&line);
    if (!log_format(&line, level, wall_us, event, fields, n))
        buffer_reset(&line);
    publish(e, event, without_newline(&line));
    buffer_deinit(&line);
}

void events_tell(struct gateway *g, struct loop *from, enum log_level level, const char *event,
                 const struct log_field *fields, unsigned n)
{
    uint64_t wall_us = loop_wall_us(from);
    log_line(g->log, from->index, level, wall_us, event, fields, n);
    if (!g->events || level < LOG_INFO) // a batch is no change of state
        return;
    if (from == &g->main)
        publish_own(g->events, wall_us, level, event, fields, n);
    else if (!carry(g->events, from, wall_us, level, event, fields, n))
        atomic_fetch_add(&g->events->dropped, 1);
}

void events_relay(struct events *e, const char *event, struct view line, uint32_t lost)
{
    atomic_fetch_add(&e->dropped, lost);
    publish(e, event, line);
}

// ---- readers -----------------------------------------------------------------------------------------

static void put_text(struct exchange *ex, const char *text)
{
    exchange_put(ex, (struct http_seg){(const uint8_t *)text, strlen(text), NULL});
}

// How many of those that come next the ring does not have (any more).
static uint64_t reader_skip(struct event_reader *r)
{
    struct events *e = r->events;
    uint64_t from = r->at, first = e->next > EVENTS_KEPT ? e->next - EVENTS_KEPT : 0;
    if (r->at < first)
        r->at = first;
    while (r->at < e->next && !e->ring[r->at % EVENTS_KEPT].block)
        r->at++;
    return r->at - from;
}

static void put_lost(struct event_reader *r, uint64_t lost)
{
    struct block *b = block_new(loop_blocks(&r->events->gateway->main), 40);
    int n = b ? snprintf((char *)b->data, 40, ": lost %llu\n\n", (unsigned long long)lost) : 0;
    if (b)
        exchange_put(r->ex, (struct http_seg){b->data, (size_t)n, b});
    else
        exchange_cut(r->ex); // it has to learn it
}

// One event, or that some are lost. False: there is none.
static bool put_next(struct event_reader *r)
{
    struct events *e = r->events;
    uint64_t lost = reader_skip(r);
    if (lost > 0) {
        put_lost(r, lost);
    } else if (r->at < e->next) {
        struct event_text t = e->ring[r->at++ % EVENTS_KEPT];
        exchange_put(r->ex, (struct http_seg){t.block->data, t.n, block_ref(t.block)});
    } else {
        return false;
    }
    return true;
}

static void on_want(struct exchange *ex)
{
    struct event_reader *r = ex->user;
    struct events *e = r->events;
    bool any = !r->greeted;
    if (any)
        put_text(ex, HELLO);
    r->greeted = true;
    // One at a time: the ring holds the others as well as an output would.
    any |= put_next(r);
    if (!any && (e->ended || ex->closing)) {
        exchange_end(ex, NULL, 0);
        return;
    }
    if (!any && now(e) >= r->beat_us) {
        put_text(ex, BEAT);
        any = true;
    }
    if (any)
        r->beat_us = now(e) + BEAT_US;
    else
        exchange_ask_at(ex, r->beat_us);
}

static void on_ended(struct exchange *ex)
{
    struct event_reader *r = ex->user;
    *r->prev = r->next;
    if (r->next)
        r->next->prev = r->prev;
    r->events->n_readers--;
}

static uint64_t reader_start(const struct events *e, const struct exchange *ex)
{
    struct view v = exchange_header(ex, "last-event-id");
    char text[48];
    unsigned long long epoch, number;
    int end = 0;
    snprintf(text, sizeof(text), "%.*s", (int)(v.n < 47 ? v.n : 47), v.n ? v.p : "");
    if (sscanf(text, "%llx.%llu%n", &epoch, &number, &end) < 2 || text[end])
        return e->next;
    if (epoch != e->epoch)
        return 0;
    return number < e->next ? number + 1 : e->next;
}

static void answer_full(const struct events *e, struct exchange *ex)
{
    struct http_header headers[] = {{VIEW("content-type"), VIEW("application/json")},
                                    {VIEW("retry-after"), VIEW("1")}};
    struct view why = VIEW("{\"error\":\"events: as many read them as may\"}");
    struct http_seg body = {(const uint8_t *)why.p, why.n, NULL};
    struct http_response r = {
        .status = 503, .headers = headers, .n_headers = 2, .body = &body, .n_body = 1};
    server_respond(ex, &r, now(e));
}

void events_page(struct exchange *ex, void *gateway)
{
    struct events *e = ((struct gateway *)gateway)->events;
    struct http_header headers[] = {{VIEW("content-type"), VIEW("text/event-stream")},
                                    {VIEW("cache-control"), VIEW("no-store")}};
    struct http_response head = {.status = 200, .headers = headers, .n_headers = 2};
    struct event_reader *r = NULL;
    if (e->n_readers < EVENTS_READERS)
        r = arena_zalloc(&ex->arena, sizeof(*r));
    if (!r) {
        answer_full(e, ex);
        return;
    }
    *r = (struct event_reader){.stream = {on_want, on_ended},
                               .events = e,
                               .ex = ex,
                               .at = reader_start(e, ex),
                               .next = e->readers,
                               .prev = &e->readers};
    if (r->next)
        r->next->prev = &r->next;
    e->readers = r;
    e->n_readers++;
    ex->user = r;
    server_flow(ex, &head, now(e));
}

unsigned events_readers(const struct events *e)
{
    return e->n_readers;
}

void events_end(struct events *e)
{
    e->ended = true;
    wake_all(e);
}
