#include "net/loop.h"
#include "base/arena.h"
#include "base/check.h"
#include "base/mem.h"
#include "base/pool.h"
#include <errno.h>
#include <event2/dns.h>
#include <event2/thread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MSGS_A_TURN 1024    // what is left over is handled next turn, after I/O has had its chance
#define FLUSH_PASSES 8      // flushing may flag others; past it the loop turns without sleeping
#define HEARTBEAT_US 200000 // longest sleep: the keeper looks for a sign four times a second
#define SECOND_US 1000000
#define REST_US 100000                 // least time between two rests
#define SWEEP_A_TURN ((size_t)4 << 20) // a tenth of a millisecond
#define KIND_TASK MSG_NET

static uint64_t clock_us(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * SECOND_US + (uint64_t)ts.tv_nsec / 1000;
}

void net_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    // The bases themselves carry no lock (EVENT_BASE_FLAG_NOLOCK): libevent's threading is switched on
    // for its process-wide random state alone, which resolvers of several loops share.
    pthread_once(&once, (void (*)(void))evthread_use_pthreads);
    signal(SIGPIPE, SIG_IGN); // OpenSSL writes with write(2)
}

// ---- rest ----------------------------------------------------------------------------------------------

static _Atomic unsigned busy; // loops of this process that hold connections

static void rest(struct loop *l, struct loop_flush *f)
{
    if (atomic_load(&l->conns) > 0)
        return;
    l->unrested = false;
    l->rested_us = l->now_us;
    arena_thread_done();
    pool_thread_done();
    block_owner_trim(&l->blocks);
    if (atomic_load(&busy) == 0) // else the loops that work would have to fetch it all again
        mem_trim();
}

static void rest_soon(struct loop *l)
{
    if (l->unrested && l->conns == 0 && l->now_us >= l->rested_us + REST_US)
        loop_flush_later(l, &l->rest);
}

void loop_conns_add(struct loop *l, int delta)
{
    uint32_t before = atomic_fetch_add(&l->conns, (uint32_t)delta);
    if (!l->rests)
        return;
    if (before == 0)
        atomic_fetch_add(&busy, 1);
    if (before + (uint32_t)delta > 0)
        return;
    atomic_fetch_sub(&busy, 1);
    l->unrested = true;
    rest_soon(l);
}

// ---- life ----------------------------------------------------------------------------------------------

// Both are edge-triggered and never read: each write (each expiry) is a new edge.
static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    loop_now_us(arg);
}

static void on_clock(evutil_socket_t fd, short what, void *arg)
{
    struct loop *l = arg;
    l->timer_at_us = UINT64_MAX;
    loop_now_us(l);
}

static void on_second(struct wheel_timer *t, uint64_t now_us)
{
    struct loop *l = container_of(t, struct loop, second);
    l->wall_offset_us = (int64_t)clock_us(CLOCK_REALTIME) - (int64_t)clock_us(CLOCK_MONOTONIC);
    wheel_set(&l->wheel, t, now_us + SECOND_US);
    rest_soon(l); // a rest that would have come too soon after another
}

static void on_stop_task(struct loop *l, struct loop_task *t)
{
    l->running = false;
}

static struct event_base *base_new(void)
{
    struct event_config *cfg = event_config_new();
    if (!cfg)
        return NULL;
    event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK);
    event_config_require_features(cfg, EV_FEATURE_ET | EV_FEATURE_EARLY_CLOSE);
    struct event_base *base = event_base_new_with_config(cfg);
    event_config_free(cfg);
    return base;
}

static int add_event(struct loop *l, struct event *ev, int fd, event_callback_fn fn)
{
    if (event_assign(ev, l->base, fd, EV_READ | EV_ET | EV_PERSIST, fn, l) < 0)
        return -1;
    return event_add(ev, NULL);
}

int loop_init(struct loop *l, unsigned index, const char *name, uint64_t seed)
{
    invariant(index < LOOPS_MAX);
    net_init();
    memset(l, 0, sizeof *l);
    l->index = index;
    snprintf(l->name, sizeof l->name, "%s", name);
    l->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    l->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    l->base = base_new();
    l->timer_at_us = UINT64_MAX;
    l->now_us = clock_us(CLOCK_MONOTONIC);
    mpsc_init(&l->box);
    wheel_init(&l->wheel, l->now_us);
    block_owner_init(&l->blocks);
    hist_init(&l->delay);
    rand_seed(&l->rand, seed ^ (0x9e3779b97f4a7c15u * (index + 1)));
    l->stop.fn = on_stop_task;
    l->scratch = mem_must(LOOP_SCRATCH);
    l->record = mem_must(LOOP_RECORD);
    if (l->wake_fd < 0 || l->timer_fd < 0 || !l->base ||
        add_event(l, &l->wake_ev, l->wake_fd, on_wake) < 0 ||
        add_event(l, &l->timer_ev, l->timer_fd, on_clock) < 0) {
        int err = errno ? errno : ENOMEM;
        loop_deinit(l);
        errno = err;
        return -1;
    }
    l->rest.fn = rest;
    l->second.fn = on_second;
    on_second(&l->second, l->now_us);
    return 0;
}

void loop_deinit(struct loop *l)
{
    if (l->dns)
        evdns_base_free(l->dns, 0);
    if (l->base) {
        if (event_initialized(&l->wake_ev))
            event_del(&l->wake_ev);
        if (event_initialized(&l->timer_ev))
            event_del(&l->timer_ev);
        event_base_free(l->base);
    }
    if (l->wake_fd >= 0)
        close(l->wake_fd);
    if (l->timer_fd >= 0)
        close(l->timer_fd);
    block_owner_adopt(&l->blocks); // the loop's own thread has ended
    block_owner_deinit(&l->blocks);
    mem_free(l->scratch);
    mem_free(l->record);
    l->base = NULL;
    l->dns = NULL;
    l->wake_fd = l->timer_fd = -1;
    l->scratch = l->record = NULL;
}

struct loop *loop_new(unsigned index, const char *name, uint64_t seed)
{
    void *raw =
        mem_must(sizeof(struct loop) + 64); // the mailbox's two ends want lines of their own
    struct loop *l = (struct loop *)(((uintptr_t)raw + 63) & ~(uintptr_t)63);
    if (loop_init(l, index, name, seed) < 0) {
        mem_free(raw);
        return NULL;
    }
    l->raw = raw;
    return l;
}

void loop_free(struct loop *l)
{
    if (!l)
        return;
    loop_deinit(l);
    mem_free(l->raw);
}

// ---- posts ---------------------------------------------------------------------------------------------

static void wake(struct loop *to)
{
    uint64_t one = 1;
    while (write(to->wake_fd, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

static void splice(struct loop_out *o)
{
    if (!o->first)
        return;
    struct mpsc_node *first = o->first, *last = o->last;
    o->first = o->last = NULL;
    if (mpsc_push_chain(&o->to->box, first, last))
        wake(o->to);
}

void loop_post(struct loop *from, struct loop *to, struct msg *m)
{
    m->to = (uint16_t)to->index;
    if (!from) {
        m->from = UINT16_MAX;
        if (mpsc_push(&to->box, &m->node))
            wake(to);
        return;
    }
    debug_invariant(!from->running || pthread_equal(from->thread, pthread_self()));
    m->from = (uint16_t)from->index;
    struct loop_out *o = &from->out[to->index];
    if (o->to != to) { // two loops of one index: they belong to different sets (tests)
        splice(o);
        o->to = to;
    }
    atomic_store_explicit(&m->node.next, NULL, memory_order_relaxed);
    if (o->first)
        atomic_store_explicit(&o->last->next, &m->node, memory_order_relaxed);
    else
        o->first = &m->node;
    o->last = &m->node;
    if (!o->dirty) {
        o->dirty = true;
        from->dirty[from->n_dirty++] = (uint16_t)to->index;
    }
}

static void splice_all(struct loop *l)
{
    for (unsigned i = 0; i < l->n_dirty; i++) {
        struct loop_out *o = &l->out[l->dirty[i]];
        o->dirty = false;
        splice(o);
    }
    l->n_dirty = 0;
}

void loop_post_task(struct loop *from, struct loop *to, struct loop_task *t)
{
    t->msg.kind = KIND_TASK;
    loop_post(from, to, &t->msg);
}

void loop_on_msg_range(struct loop *l, unsigned first_kind, loop_msg_fn *fn, void *ctx)
{
    unsigned range = first_kind / 64;
    invariant(range < 4 && first_kind != MSG_NET);
    l->handler[range].fn = fn;
    l->handler[range].ctx = ctx;
}

static void dispatch(struct loop *l, struct msg *m)
{
    if (m->kind == KIND_TASK) {
        struct loop_task *t = (struct loop_task *)m;
        t->fn(l, t);
        return;
    }
    unsigned range = m->kind / 64;
    invariant(range < 4 && l->handler[range].fn);
    l->handler[range].fn(l, m, l->handler[range].ctx);
}

void loop_stop(struct loop *l)
{
    if (!atomic_exchange(&l->stop_posted, true))
        loop_post_task(NULL, l, &l->stop);
}

// ---- lists ---------------------------------------------------------------------------------------------

void loop_flush_later(struct loop *l, struct loop_flush *f)
{
    if (f->prev)
        return;
    f->next = l->flush;
    f->prev = &l->flush;
    if (f->next)
        f->next->prev = &f->next;
    l->flush = f;
}

void loop_flush_cancel(struct loop_flush *f)
{
    if (!f->prev)
        return;
    *f->prev = f->next;
    if (f->next)
        f->next->prev = f->prev;
    f->prev = NULL;
}

void loop_defer(struct loop *l, struct loop_call *c)
{
    if (c->prev)
        return;
    c->next = l->calls;
    c->prev = &l->calls;
    if (c->next)
        c->next->prev = &c->next;
    l->calls = c;
}

void loop_defer_cancel(struct loop_call *c)
{
    if (!c->prev)
        return;
    *c->prev = c->next;
    if (c->next)
        c->next->prev = c->prev;
    c->prev = NULL;
}

// A round: what was deferred until now, the oldest first.
static void take_calls(struct loop *l)
{
    struct loop_call *newest = l->calls;
    l->calls = NULL;
    while (newest) {
        struct loop_call *c = newest;
        newest = c->next;
        c->next = l->due;
        c->prev = &l->due;
        if (c->next)
            c->next->prev = &c->next;
        l->due = c;
    }
}

// Both runners take the list off first: what is flagged from inside belongs to the next round.
static void run_calls(struct loop *l)
{
    if (!l->due)
        take_calls(l);
    while (l->due) {
        struct loop_call *c = l->due;
        loop_defer_cancel(c);
        c->fn(l, c);
        if (l->due && loop_look(l))
            return;
    }
}

static void run_flush(struct loop *l)
{
    for (int pass = 0; l->flush && pass < FLUSH_PASSES; pass++) {
        struct loop_flush *batch = l->flush;
        l->flush = NULL;
        batch->prev = &batch;
        while (batch) {
            struct loop_flush *f = batch;
            loop_flush_cancel(f);
            f->fn(l, f);
        }
    }
}

// ---- the turn ------------------------------------------------------------------------------------------

void loop_awake(struct loop *l)
{
    l->stale = false;
    l->now_us = clock_us(CLOCK_MONOTONIC);
    l->spent = false;
    l->worked = 0;
    if (l->asleep) {
        l->asleep = false;
        mpsc_wake(&l->box);
    }
}

bool loop_look(struct loop *l)
{
    l->worked = 0;
    l->spent = l->spent || clock_us(CLOCK_MONOTONIC) >= l->now_us + LOOP_TURN_US;
    return l->spent;
}

uint64_t loop_wall_us(struct loop *l)
{
    return (uint64_t)((int64_t)loop_now_us(l) + l->wall_offset_us);
}

// A timerfd instead of libevent's timers: those count whole milliseconds on a clock that ticks every
// four; and it is set again only when the next deadline lies before the one it is set for.
static void arm(struct loop *l)
{
    uint64_t next = wheel_next_us(&l->wheel);
    if (next > l->now_us + HEARTBEAT_US)
        next = l->now_us + HEARTBEAT_US;
    if (l->timer_at_us <= next)
        return;
    struct itimerspec at = {.it_value = {.tv_sec = (time_t)(next / SECOND_US),
                                         .tv_nsec = (long)(next % SECOND_US) * 1000 + 1}};
    timerfd_settime(l->timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
    l->timer_at_us = next;
}

static bool may_sleep(struct loop *l)
{
    if (l->calls || l->due || l->flush || l->sweeping || l->n_dirty ||
        wheel_next_us(&l->wheel) <= l->now_us)
        return false;
    arm(l);
    return mpsc_try_sleep(&l->box);
}

static void run_mailbox(struct loop *l)
{
    unsigned n = 0;
    for (; n < MSGS_A_TURN; n++) {
        struct mpsc_node *node = mpsc_pop(&l->box);
        if (!node)
            break;
        dispatch(l, (struct msg *)node);
    }
    if (n)
        atomic_fetch_add_explicit(&l->msgs, n, memory_order_relaxed);
}

void loop_turn(struct loop *l, bool block)
{
    if (!l->running) // turned by hand
        block_owner_adopt(&l->blocks);
    l->asleep = block && may_sleep(l);
    l->stale = true;
    event_base_loop(l->base, EVLOOP_ONCE | (l->asleep ? 0 : EVLOOP_NONBLOCK));
    uint64_t began_us = loop_now_us(l);
    if (l->heartbeat)
        atomic_store_explicit(l->heartbeat, began_us, memory_order_relaxed);
    run_calls(l);
    splice(&l->out[l->index]); // own posts go before what the mailbox brings next
    run_mailbox(l);
    block_owner_collect(&l->blocks);
    wheel_run(&l->wheel, began_us);
    run_flush(l);
    l->sweeping = mem_sweep(SWEEP_A_TURN);
    splice_all(l);
    atomic_store_explicit(&l->turns, loop_turns(l) + 1, memory_order_relaxed);
    hist_add(&l->delay, clock_us(CLOCK_MONOTONIC) - began_us);
}

void loop_run(struct loop *l)
{
    l->thread = pthread_self();
    l->running = true;
    block_owner_adopt(&l->blocks);
    mem_sweeps(true);
    while (l->running)
        loop_turn(l, true);
    mem_sweeps(false);
}
