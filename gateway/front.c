#include "gateway/front.h"

#include "base/check.h"
#include "base/mem.h"
#include "gateway/origin.h"
#include "gateway/process.h"
#include "gateway/snapshot.h"
#include <stdio.h>

#define SOON_US 5000   // until its sockets are closed
#define LATER_US 50000 // and until its connections have ended

const char *const front_state_name[] = {"new", "serving", "going", "leaving"};

// ---- making ------------------------------------------------------------------------------------------

struct tls_server *front_tls(const struct gateway *g, const struct config_listen *l,
                             char why[TLS_ERROR])
{
    *why = '\0';
    return l->certificate ? tls_server_new(l->certificate, l->key, &g->ticket_keys, g->loops.n, why)
                          : NULL;
}

static void rename_front(struct front *f, const struct config_listen *l)
{
    snprintf(f->name, sizeof(f->name), "%s", l->name);
    atomic_store_explicit(&f->expose, l->expose, memory_order_relaxed);
    atomic_store_explicit(&f->half_close, l->half_close_answers, memory_order_relaxed);
}

static void enlist(struct front *f)
{
    struct gateway *g = f->gateway;
    f->next = g->fronts;
    f->prev = &g->fronts;
    if (f->next)
        f->next->prev = &f->next;
    g->fronts = f;
}

struct front *front_new(struct gateway *g, uint32_t id, const char *address, const int *fds,
                        unsigned n_fds, const struct config_listen *l, char why[TLS_ERROR])
{
    struct front *f = mem_zalloc(sizeof(*f));
    snprintf(why, TLS_ERROR, "out of memory");
    if (!f)
        return NULL;
    f->gateway = g;
    f->id = id;
    snprintf(f->address, sizeof(f->address), "%s", address);
    rename_front(f, l);
    f->tls = front_tls(g, l, why);
    if (!*why) {
        struct server_config c = {.name = f->name,
                                  .limits = &g->snap->limits,
                                  .ops = &origin_server_ops,
                                  .ctx = f,
                                  .tls = f->tls,
                                  .budget = g->connections};
        snprintf(why, TLS_ERROR, "out of memory");
        f->server = server_new(&c, g->loops.loop, g->loops.n, fds, n_fds);
    }
    if (!f->server) {
        tls_server_free(f->tls);
        mem_free(f);
        return NULL;
    }
    enlist(f);
    return f;
}

struct front *front_find(const struct gateway *g, uint32_t id)
{
    for (struct front *f = g->fronts; f; f = f->next) {
        if (f->id == id && f->state == FRONT_SERVING)
            return f;
    }
    return NULL;
}

void front_adopt(struct front *f, const struct config_listen *l, struct tls_server *tls)
{
    debug_invariant(!f->before);
    rename_front(f, l);
    f->before = f->tls;
    f->tls = tls;
}

void front_drop(struct front *f)
{
    wheel_cancel(loop_wheel(&f->gateway->main), &f->timer);
    server_free(f->server);
    tls_server_free(f->before);
    tls_server_free(f->tls);
    *f->prev = f->next;
    if (f->next)
        f->next->prev = f->prev;
    mem_free(f);
}

// ---- in force ----------------------------------------------------------------------------------------

void fronts_publish(struct gateway *g)
{
    for (struct front *f = g->fronts; f; f = f->next)
        f->listed = false;
    for (unsigned i = 0; i < g->snap->config->listen_count; i++)
        g->snap->fronts[i]->listed = true;
}

void fronts_in_force(struct gateway *g)
{
    for (struct front *f = g->fronts; f; f = f->next) {
        tls_server_free(f->before);
        f->before = NULL;
        if (f->state == FRONT_NEW) {
            f->state = FRONT_SERVING;
            server_start(f->server, &g->main);
        } else if (f->state == FRONT_SERVING && !f->listed) {
            f->state = FRONT_GOING;
        }
    }
}

// ---- leaving -----------------------------------------------------------------------------------------

static bool accepts(const struct front *f)
{
    struct server_stats s;
    server_stats(f->server, &s);
    return s.accepting;
}

static void tell_let_go(struct gateway *g)
{
    for (const struct front *f = g->fronts; f; f = f->next) {
        if (f->state == FRONT_GOING || (f->state == FRONT_LEAVING && !f->closed))
            return;
    }
    gateway_say_let_go(g);
}

static void on_retired(struct loop *l, struct loop_task *t)
{
    struct front *f = container_of(t, struct front, retired);
    (void)l;
    GATEWAY_EVENT(f->gateway, NULL, LOG_INFO, "listener_gone", LOG_CSTR("name", f->name),
                  LOG_CSTR("address", f->address));
    front_drop(f);
}

static void cut(struct front *f)
{
    struct server_stats s;
    server_stats(f->server, &s);
    GATEWAY_EVENT(f->gateway, NULL, LOG_WARN, "listener_cut", LOG_CSTR("name", f->name),
                  LOG_CSTR("address", f->address), LOG_I("connections", s.conns));
    f->cut = true;
    server_cut(f->server, &f->gateway->main);
}

static void on_timer(struct wheel_timer *t, uint64_t now_us)
{
    struct front *f = container_of(t, struct front, timer);
    struct gateway *g = f->gateway;
    if (!f->closed && !accepts(f)) {
        f->closed = true;
        tell_let_go(g);
    }
    if (server_idle(f->server)) {
        f->retired.fn = on_retired;
        server_retire(f->server, &g->main, &f->retired);
        return;
    }
    if (now_us >= f->until_us && !f->cut)
        cut(f);
    wheel_set(loop_wheel(&g->main), t, now_us + (f->closed ? LATER_US : SOON_US));
}

static void leave(struct front *f)
{
    struct gateway *g = f->gateway;
    uint64_t now_us = loop_now_us(&g->main);
    struct server_stats s;
    server_stats(f->server, &s);
    GATEWAY_EVENT(g, NULL, LOG_INFO, "listener_leaves", LOG_CSTR("name", f->name),
                  LOG_CSTR("address", f->address), LOG_I("connections", s.conns));
    f->state = FRONT_LEAVING;
    f->until_us = now_us + g->snap->config->drain_timeout_us;
    server_drain(f->server, &g->main, now_us);
    server_stop_accept(f->server, &g->main);
    f->timer.fn = on_timer;
    wheel_set(loop_wheel(&g->main), &f->timer, now_us + SOON_US);
}

void fronts_leave(struct gateway *g)
{
    for (struct front *f = g->fronts; f; f = f->next) {
        if (f->state == FRONT_GOING)
            leave(f);
    }
    tell_let_go(g);
}
