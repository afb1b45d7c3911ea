/* Who the master is. One connection to one Sentinel, the first of the configured ones that answers; asked every
 * second, and at once when the master is lost or takes no writes any more. What it says is a hint: a server that
 * says of itself (ROLE) that it is no master is refused, and asked for again.
 * Source: redis.io, "Guidelines for Redis clients with support for Redis Sentinel". We ask instead of subscribing:
 * nothing is missed while the connection to the Sentinel is away. */
#include "backends/redis_inner.h"

#include "base/check.h"
#include <string.h>

#define LOOK_US 1000000 // between two questions

static void watch_next(struct redis *r, const char *why)
{
    struct redis_watch *w = &r->watch;
    w->asked = false;
    w->at = (w->at + 1) % r->config->n_addrs;
    w->line.addr = r->config->addrs[w->at];
    line_open_later(&w->line);
    if (r->line->state == REDIS_DOWN)
        redis_look(r, why);
}

static bool is_same_addr(const struct addr *a, const struct addr *b)
{
    char one[ADDR_TEXT], other[ADDR_TEXT];
    return strcmp(addr_print(a, one), addr_print(b, other)) == 0;
}

static void take_master(struct redis *r, const struct addr *a)
{
    if (r->line->addr.port && is_same_addr(a, &r->line->addr)) {
        if (r->line->state == REDIS_DOWN && !wheel_is_set(&r->line->step))
            line_open(r->line);
        return;
    }
    line_close(r->line); // what it was asked ends lost: it is no master any more
    r->line->addr = *a;
    line_open(r->line);
    redis_look(r, "the master is another one");
}

static bool read_master(const struct redis_answer *said, struct addr *out)
{
    char text[ADDR_TEXT];
    if (said->end != REDIS_END_LIST || said->n < 2)
        return false;
    struct view host = redis_item(said, 0).text, port = redis_item(said, 1).text;
    bool v6 = host.n && memchr(host.p, ':', host.n) != NULL;
    int n = snprintf(text, sizeof(text), "%s%.*s%s:%.*s", v6 ? "[" : "", VIEW_ARG(host),
                     v6 ? "]" : "", VIEW_ARG(port));
    return n > 0 && n < (int)sizeof(text) && !addr_parse(out, view_str(text), 0) && out->port > 0;
}

static void on_answer(const struct redis_answer *said, void *user)
{
    struct redis *r = user;
    struct addr a;
    r->watch.asked = false;
    if (said->end == REDIS_END_LOST)
        return; // watch_down comes
    if (read_master(said, &a))
        take_master(r, &a);
    else if (said->end == REDIS_END_NOTHING)
        line_give_up(&r->watch.line, "a Sentinel knows no master of that name");
    else
        line_give_up(&r->watch.line, "a Sentinel does not say who the master is");
}

void sentinel_ask(struct redis *r)
{
    struct redis_watch *w = &r->watch;
    struct view words[] = {VIEW("SENTINEL"), VIEW("get-master-addr-by-name"),
                           view_str(r->config->master)};
    wheel_set(loop_wheel(r->loop), &w->look, loop_now_us(r->loop) + LOOK_US);
    if (!w->asked && w->line.state == REDIS_UP)
        w->asked = redis_tell(r, &w->line, words, 3, on_answer);
}

static void on_look(struct wheel_timer *t, uint64_t now_us)
{
    (void)now_us;
    sentinel_ask(container_of(t, struct redis, watch.look));
}

static void watch_up(struct redis_line *n)
{
    sentinel_ask(n->ctx);
}

static void watch_rest(struct redis_line *n, const char *why)
{
    line_give_up(n, why);
}

static void watch_down(struct redis_line *n, const char *why)
{
    watch_next(n->ctx, why);
}

static const struct line_ops watch_ops = {
    .on_up = watch_up, .on_rest = watch_rest, .on_down = watch_down};

void sentinel_start(struct redis *r)
{
    struct redis_watch *w = &r->watch;
    line_init(&w->line, r->loop, &watch_ops, r);
    w->line.login = (struct line_login){.user = r->config->sentinel_user,
                                        .password = r->config->sentinel_password};
    w->line.tls = r->config->tls;
    w->line.timeout_us = REDIS_PATIENCE_US;
    w->line.addr = r->config->addrs[0];
    w->look.fn = on_look;
    line_open(&w->line);
}

void sentinel_free(struct redis *r)
{
    wheel_cancel(loop_wheel(r->loop), &r->watch.look);
    line_deinit(&r->watch.line);
}
