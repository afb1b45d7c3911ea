#include "gateway/live.h"

#include "base/check.h"
#include "base/mem.h"
#include "gateway/process.h"
#include "gateway/tally.h"

#define STEP_US 1000000

struct live_reader {
    struct admin_stream stream; // first: it is ex->user
    struct live *live;
    struct exchange *ex;
    struct live_reader *next, **prev;
    uint64_t step; // that it has; 0: none
};

struct live_event { // as it is sent; block NULL: there is none
    struct block *block;
    size_t n;
};

struct live {
    struct gateway *gateway;
    struct wheel_timer timer;
    struct live_reader *readers;
    unsigned n_readers;
    struct tally *tally; // NULL: nobody watches
    uint64_t step, step_us;
    struct live_event change; // of this step
    struct live_event whole;  // as of this step, when somebody wanted it
    bool ended;
};

static void drop(struct live_event *e)
{
    if (e->block)
        block_unref(e->block);
    *e = (struct live_event){0};
}

static uint64_t now(const struct live *v)
{
    return loop_now_us(&v->gateway->main);
}

// page: one JSON object. Frees it.
static struct live_event event_of(struct live *v, struct buffer *page, bool failed)
{
    static const char head[] = "event: stats\ndata: ";
    size_t n = sizeof(head) - 1, bytes = n + buffer_len(page) + 2;
    struct block *b = failed ? NULL : block_new(loop_blocks(&v->gateway->main), bytes);
    if (b) {
        memcpy(b->data, head, n);
        memcpy(b->data + n, buffer_view(page).p, buffer_len(page));
        memcpy(b->data + bytes - 2, "\n\n", 2);
    }
    buffer_deinit(page);
    return (struct live_event){b, b ? bytes : 0};
}

static void make_change(struct live *v)
{
    struct json_writer w;
    struct buffer page;
    buffer_init(&page);
    json_write(&w, &page);
    tally_step(v->tally, (now(v) - v->step_us) / 1000, &w);
    drop(&v->change);
    drop(&v->whole);
    v->change = event_of(v, &page, w.failed);
    v->step++;
    v->step_us = now(v);
}

static bool make_whole(struct live *v)
{
    struct json_writer w;
    struct buffer page;
    if (v->whole.block)
        return true;
    buffer_init(&page);
    json_write(&w, &page);
    tally_whole(v->tally, &w);
    v->whole = event_of(v, &page, w.failed);
    return v->whole.block != NULL;
}

static void wake_all(struct live *v)
{
    for (struct live_reader *r = v->readers; r; r = r->next)
        server_wake(r->ex, now(v));
}

static void on_step(struct wheel_timer *t, uint64_t now_us)
{
    struct live *v = container_of(t, struct live, timer);
    make_change(v);
    wake_all(v);
    wheel_set(loop_wheel(&v->gateway->main), t, now_us + STEP_US);
}

// False: out of memory.
static bool begin(struct live *v)
{
    v->tally = tally_new(v->gateway);
    if (!v->tally)
        return false;
    v->step++;
    v->step_us = now(v);
    wheel_set(loop_wheel(&v->gateway->main), &v->timer, v->step_us + STEP_US);
    return true;
}

static void rest(struct live *v)
{
    wheel_cancel(loop_wheel(&v->gateway->main), &v->timer);
    drop(&v->change);
    drop(&v->whole);
    tally_free(v->tally);
    v->tally = NULL;
}

struct live *live_new(struct gateway *g)
{
    struct live *v = mem_zalloc(sizeof(*v));
    if (!v)
        return NULL;
    v->gateway = g;
    v->timer.fn = on_step;
    return v;
}

void live_free(struct live *v)
{
    if (!v)
        return;
    invariant(!v->readers);
    mem_free(v);
}

// ---- readers -----------------------------------------------------------------------------------------

static void put_event(struct exchange *ex, const struct live_event *e)
{
    exchange_put(ex, (struct http_seg){e->block->data, e->n, block_ref(e->block)});
}

static void on_want(struct exchange *ex)
{
    struct live_reader *r = ex->user;
    struct live *v = r->live;
    if (v->ended || ex->closing) {
        exchange_end(ex, NULL, 0);
        return;
    }
    if (r->step == v->step)
        return; // until the next one
    if (r->step + 1 == v->step && v->change.block)
        put_event(ex, &v->change);
    else if (make_whole(v))
        put_event(ex, &v->whole);
    else
        exchange_cut(ex); // it is to ask again
    r->step = v->step;
}

static void on_ended(struct exchange *ex)
{
    struct live_reader *r = ex->user;
    struct live *v = r->live;
    *r->prev = r->next;
    if (r->next)
        r->next->prev = r->prev;
    if (--v->n_readers == 0)
        rest(v);
}

void live_page(struct exchange *ex, void *gateway)
{
    struct live *v = ((struct gateway *)gateway)->live;
    struct http_header headers[] = {{VIEW("content-type"), VIEW("text/event-stream")},
                                    {VIEW("cache-control"), VIEW("no-store")}};
    struct http_response head = {.status = 200, .headers = headers, .n_headers = 2};
    struct live_reader *r =
        v->n_readers < LIVE_READERS ? arena_zalloc(&ex->arena, sizeof(*r)) : NULL;
    if (!r || (!v->tally && !begin(v))) {
        admin_refuse(ex, 503, VIEW("live: as many read it as may"));
        return;
    }
    *r = (struct live_reader){.stream = {on_want, on_ended},
                              .live = v,
                              .ex = ex,
                              .next = v->readers,
                              .prev = &v->readers};
    if (r->next)
        r->next->prev = &r->next;
    v->readers = r;
    v->n_readers++;
    ex->user = r;
    server_flow(ex, &head, now(v));
}

void live_end(struct live *v)
{
    v->ended = true;
    wake_all(v);
}
