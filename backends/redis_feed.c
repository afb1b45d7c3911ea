/* A subscription. One connection, to the node that answers commands now: the server, the master, any node of a Cluster (which
 * tells all others). It is alive while it answers: SUBSCRIBE is sent again each second, which changes nothing and has a
 * reply.
 * Source: redis.io, "Redis Pub/Sub", "Redis cluster specification" (publish/subscribe). */
#include "backends/redis_inner.h"

#include "base/check.h"

#define LOOK_US 1000000
#define REFUSED_US 30000000

static bool ask(struct redis *r)
{
    struct view words[] = {VIEW("SUBSCRIBE"), view_str(r->feed.channel)};
    return line_listen(&r->feed.line, words, 2);
}

static void on_look(struct wheel_timer *t, uint64_t now_us)
{
    struct redis *r = container_of(t, struct redis, feed.look);
    struct redis_feed *f = &r->feed;
    if (f->line.state != REDIS_UP)
        return;
    if (now_us - f->heard_us > REDIS_PATIENCE_US)
        line_give_up(&f->line, "it has said nothing for 3 s");
    else if (!ask(r))
        line_give_up(&f->line, "out of memory");
    wheel_set(loop_wheel(r->loop), t, now_us + LOOK_US);
}

static void on_up(struct redis_line *n)
{
    struct redis *r = n->ctx;
    r->feed.heard_us = loop_now_us(r->loop);
    wheel_set(loop_wheel(r->loop), &r->feed.look, r->feed.heard_us + LOOK_US);
    if (!ask(r))
        line_give_up(n, "out of memory");
    else
        r->feed.fn(false, view_of(NULL, 0), r->feed.user);
}

static void on_push(struct redis_line *n, const struct redis_answer *said)
{
    struct redis *r = n->ctx;
    r->feed.heard_us = loop_now_us(r->loop);
    if (said->end == REDIS_END_ERROR) {
        r->feed.refused = true;
        line_give_up(n, "it lets nobody listen");
        return;
    }
    if (said->end != REDIS_END_LIST || said->n != 3 ||
        !view_is(redis_item(said, 0).text, "message"))
        return;
    r->feed.fn(true, redis_item(said, 2).text, r->feed.user);
}

static void on_rest(struct redis_line *n, const char *why)
{
    line_give_up(n, why);
}

// The node to subscribe at; NULL: none answers commands now.
static const struct addr *whom(const struct redis *r)
{
    if (r->line)
        return r->line->state == REDIS_UP || r->line->state == REDIS_RESTING ? &r->line->addr
                                                                             : NULL;
    for (unsigned i = 0; r->map && i < REDIS_MAX_NODES; i++)
        if (r->map->node[i] && r->map->node[i]->state == REDIS_UP)
            return &r->map->node[i]->addr;
    return NULL;
}

static void on_down(struct redis_line *n, const char *why)
{
    struct redis *r = n->ctx;
    const struct addr *a = whom(r);
    (void)why; // reported by the connection for commands
    if (a)
        n->addr = *a;
    if (r->feed.refused)
        wheel_set(loop_wheel(r->loop), &n->step, loop_now_us(r->loop) + REFUSED_US);
    else
        line_open_later(n);
    r->feed.refused = false;
}

static const struct line_ops feed_ops = {on_up, on_rest, on_down, on_push};

// A Cluster's nodes all tell the same: the one that is listened to stays.
void feed_look(struct redis *r)
{
    struct redis_line *n = &r->feed.line;
    const struct addr *a = r->feed.channel ? whom(r) : NULL;
    char one[ADDR_TEXT], other[ADDR_TEXT];
    if (!a || (n->state != REDIS_DOWN &&
               (r->map || strcmp(addr_print(a, one), addr_print(&n->addr, other)) == 0)))
        return;
    if (n->state == REDIS_DOWN && wheel_is_set(&n->step))
        return; // its pause is not over
    line_close(n);
    n->addr = *a;
    line_open(n);
}

void redis_listen(struct redis *r, const char *channel, redis_feed_fn *fn, void *user)
{
    struct redis_feed *f = &r->feed;
    static const struct addr nowhere;
    f->channel = channel;
    f->fn = fn;
    f->user = user;
    f->look.fn = on_look;
    redis_line_setup(r, &f->line, &feed_ops, &nowhere);
    feed_look(r);
}

bool redis_listens(const struct redis *r)
{
    return r->feed.channel && r->feed.line.state == REDIS_UP;
}

void feed_free(struct redis *r)
{
    if (!r->feed.channel)
        return;
    r->feed.channel = NULL;
    wheel_cancel(loop_wheel(r->loop), &r->feed.look);
    line_deinit(&r->feed.line);
}
