#include "base/check.h"
#include "base/mem.h"
#include "net/listen.h"
#include "net/server_conn.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define ACCEPTS_A_TURN 64
#define BACKLOG_MAX 4096    // as listen.c asks for: what may wait when we stop accepting
#define PAUSE_US 100000     // full (row 83): tried again after this, or when a connection has ended
#define PATIENCE_US 1000000 // full for so long: waiting clients are sent away, one a pause
#define LAST_CALL_US 50000  // handshakes that run when we stop accepting have so long to end
#define TWO_CHOICES 2

// ---- life ----------------------------------------------------------------------------------------------

static void on_resume_timer(struct wheel_timer *t, uint64_t now_us);
static void on_last_call(struct wheel_timer *t, uint64_t now_us);
static void on_op(struct loop *l, struct loop_task *t);
static void on_date(struct wheel_timer *t, uint64_t now_us);

static int spare_open(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void part_init(struct server_part *p, struct server *s, struct loop *l)
{
    p->server = s;
    p->loop = l;
    p->limits = *s->c.limits;
    p->tls = s->c.tls;
    p->spare_fd = spare_open();
    p->resume.fn = on_resume_timer;
    p->last_call.fn = on_last_call;
    p->date.fn = on_date;
    for (int i = 0; i < OPS; i++) {
        p->op[i].part = p;
        p->op[i].task.fn = on_op;
    }
}

struct server *server_new(const struct server_config *c, struct loop *const *loops,
                          unsigned n_loops, const int *fds, unsigned n_fds)
{
    invariant(n_loops > 0 && n_loops <= LOOPS_MAX && c->limits && c->ops && c->budget);
    struct server *s = mem_zalloc(sizeof *s);
    if (!s)
        return NULL;
    s->c = *c;
    s->parts = mem_zalloc(n_loops * sizeof *s->parts);
    s->listeners = mem_zalloc((n_fds + 1) * sizeof *s->listeners);
    if (!s->parts || !s->listeners) {
        mem_free(s->parts);
        mem_free(s->listeners);
        mem_free(s);
        return NULL;
    }
    snprintf(s->name, sizeof s->name, "%s", c->name ? c->name : "");
    s->n_parts = n_loops;
    s->n_listeners = n_fds;
    for (unsigned i = 0; i < n_loops; i++)
        part_init(&s->parts[i], s, loops[i]);
    s->c.name = s->name; // both are the caller's
    s->c.limits = NULL;
    s->c.tls = NULL; // the parts' from now on
    for (unsigned i = 0; i < n_fds; i++) {
        struct server_part *p = &s->parts[i % n_loops];
        s->listeners[i].part = p;
        s->listeners[i].fd = fds[i];
        p->open_listeners++;
    }
    return s;
}

static void listener_close(struct listener *l)
{
    if (l->fd < 0)
        return;
    if (event_initialized(&l->ev))
        event_del(&l->ev);
    close(l->fd);
    l->fd = -1;
    atomic_fetch_sub_explicit(&l->part->open_listeners, 1, memory_order_release);
}

// The loop has nothing of it any more.
static void part_end(struct server_part *p)
{
    p->stopped = true;
    loop_defer_cancel(&p->drain_more);
    server_conn_cut_all(p);
    wheel_cancel(loop_wheel(p->loop), &p->resume);
    wheel_cancel(loop_wheel(p->loop), &p->last_call);
    wheel_cancel(loop_wheel(p->loop), &p->date);
    if (p->spare_fd >= 0)
        close(p->spare_fd);
    p->spare_fd = -1;
}

void server_free(struct server *s)
{
    if (!s)
        return;
    for (unsigned i = 0; i < s->n_listeners; i++)
        listener_close(&s->listeners[i]);
    for (unsigned i = 0; i < s->n_parts; i++)
        part_end(&s->parts[i]);
    mem_free(s->listeners);
    mem_free(s->parts);
    mem_free(s);
}

// ---- accept --------------------------------------------------------------------------------------------

// Two choices: ourselves and one other by chance. Handing over costs a message, so the other must be
// less loaded by more than a little.
static struct server_part *choose(struct server_part *p)
{
    struct server *s = p->server;
    if (s->n_parts < TWO_CHOICES)
        return p;
    unsigned self = (unsigned)(p - s->parts);
    unsigned other = (unsigned)rand_below(&p->loop->rand, s->n_parts - 1);
    struct server_part *o = &s->parts[other + (other >= self)];
    uint32_t mine = atomic_load_explicit(&p->loop->conns, memory_order_relaxed);
    uint32_t theirs = atomic_load_explicit(&o->loop->conns, memory_order_relaxed);
    return mine > theirs + mine / 16 ? o : p;
}

static void set_listening(struct server_part *p, bool on)
{
    struct server *s = p->server;
    for (unsigned i = 0; i < s->n_listeners; i++) {
        struct listener *l = &s->listeners[i];
        if (l->part != p || l->fd < 0)
            continue;
        if (on)
            event_add(&l->ev, NULL);
        else
            event_del(&l->ev);
    }
}

static void pause_accept(struct server_part *p)
{
    uint64_t now_us = loop_now_us(p->loop);
    COUNT(p, accept_paused, 1);
    if (!p->paused_since_us)
        p->paused_since_us = now_us;
    if (!p->paused)
        set_listening(p, false);
    p->paused = true;
    wheel_set(loop_wheel(p->loop), &p->resume, now_us + PAUSE_US);
}

void server_resume(struct server_part *p)
{
    if (!p->paused || p->stopped)
        return;
    p->paused = false;
    wheel_cancel(loop_wheel(p->loop), &p->resume);
    set_listening(p, true);
}

// Out of descriptors for a second, whoever holds them: those who wait learn it, rather than hang.
static void send_one_away(struct listener *l)
{
    struct server_part *p = l->part;
    if (p->spare_fd >= 0)
        close(p->spare_fd);
    int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0)
        close(fd);
    p->spare_fd = spare_open();
}

enum accepted { ACCEPTED, NONE_WAITING, AT_BOUND, NO_DESCRIPTOR, ACCEPT_AGAIN };

static enum accepted accept_one(struct listener *l)
{
    struct server_part *p = l->part;
    struct server *s = p->server;
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof ss;
    if (!budget_reserve(s->c.budget))
        return AT_BOUND;
    int fd = accept4(l->fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        int err = errno;
        budget_release(s->c.budget);
        if (err == EAGAIN || err == EWOULDBLOCK) {
            p->paused_since_us = 0; // there was a descriptor: the kernel takes it before it looks
            return NONE_WAITING;
        }
        if (err == EMFILE || err == ENFILE || err == ENOBUFS || err == ENOMEM)
            return NO_DESCRIPTOR;
        return ACCEPT_AGAIN; // EINTR, ECONNABORTED, or a network error that the connection brought along
    }
    p->paused_since_us = 0;
    if (!budget_reserve_addr(s->c.budget, (struct sockaddr *)&ss)) {
        COUNT(p, refused_address, 1);
        budget_release(s->c.budget);
        close(fd);
        return ACCEPTED;
    }
    COUNT(p, accepted, 1);
    struct server_part *to = choose(p);
    if (to != p)
        COUNT(p, handed_over, 1);
    server_conn_admit(to, p->loop, fd, (struct sockaddr *)&ss, loop_now_us(p->loop));
    return ACCEPTED;
}

static void accept_some(struct listener *l, int max)
{
    struct server_part *p = l->part;
    for (int i = 0; i < max; i++) {
        enum accepted a = accept_one(l);
        if (a == NONE_WAITING)
            return;
        if (a != AT_BOUND && a != NO_DESCRIPTOR)
            continue;
        if (a == NO_DESCRIPTOR && p->paused_since_us &&
            loop_now_us(p->loop) >= p->paused_since_us + PATIENCE_US)
            send_one_away(l);
        pause_accept(p);
        return;
    }
}

// Level-triggered: what is left over a turn's share makes the next turn.
static void on_acceptable(evutil_socket_t fd, short what, void *arg)
{
    struct listener *l = arg;
    loop_now_us(l->part->loop);
    accept_some(l, ACCEPTS_A_TURN);
}

static void on_resume_timer(struct wheel_timer *t, uint64_t now_us)
{
    server_resume(container_of(t, struct server_part, resume));
}

static void on_date(struct wheel_timer *t, uint64_t now_us)
{
    struct server_part *p = container_of(t, struct server_part, date);
    uint64_t wall_us = loop_wall_us(p->loop);
    time_t secs = (time_t)(wall_us / 1000000);
    struct tm tm;
    char text[32]; // RFC 9110, 5.6.7; the process keeps the C locale
    http_set_date(view_of(
        text, strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&secs, &tm))));
    wheel_set(loop_wheel(p->loop), t, now_us + 1000000 - wall_us % 1000000);
}

// ---- the steps of its life, each on the part's own loop --------------------------------------------------

static void part_start(struct server_part *p)
{
    struct server *s = p->server;
    on_date(&p->date, loop_now_us(p->loop));
    for (unsigned i = 0; i < s->n_listeners; i++) {
        struct listener *l = &s->listeners[i];
        if (l->part != p || l->fd < 0)
            continue;
        event_assign(&l->ev, p->loop->base, l->fd, EV_READ | EV_PERSIST, on_acceptable, l);
        if (event_add(&l->ev, NULL) < 0)
            pause_accept(p);
    }
}

static void last_call(struct listener *l)
{
    accept_some(l, BACKLOG_MAX);
    listener_close(l);
}

// Nobody begins to connect any more. Those who have begun may arrive for a moment yet; then the end. Who is
// there hears of it now.
static void part_stop(struct server_part *p)
{
    struct server *s = p->server;
    server_conn_drain(p, loop_now_us(p->loop));
    for (unsigned i = 0; i < s->n_listeners; i++) {
        struct listener *l = &s->listeners[i];
        if (l->part == p && l->fd >= 0 && !listen_turn_away(l->fd))
            last_call(l);
    }
    wheel_set(loop_wheel(p->loop), &p->last_call, loop_now_us(p->loop) + LAST_CALL_US);
}

static void on_last_call(struct wheel_timer *t, uint64_t now_us)
{
    struct server_part *p = container_of(t, struct server_part, last_call);
    struct server *s = p->server;
    for (unsigned i = 0; i < s->n_listeners; i++) {
        struct listener *l = &s->listeners[i];
        if (l->part == p && l->fd >= 0)
            last_call(l);
    }
    p->stopped = true;
    wheel_cancel(loop_wheel(p->loop), &p->resume);
}

// The last one posts: none touches the server after it.
static void part_retire(struct server_part *p)
{
    struct server *s = p->server;
    part_end(p);
    if (atomic_fetch_sub(&s->retiring, 1) == 1)
        loop_post_task(p->loop, s->retired_to, s->retired);
}

static void on_op(struct loop *l, struct loop_task *t)
{
    struct server_op *op = container_of(t, struct server_op, task);
    struct server_part *p = op->part;
    switch (op - p->op) {
    case OP_START:
        part_start(p);
        break;
    case OP_DRAIN:
        server_conn_drain(p, atomic_load(&p->server->serve_until_us));
        break;
    case OP_STOP:
        part_stop(p);
        break;
    case OP_CUT:
        server_conn_cut_all(p);
        break;
    case OP_RETIRE:
        part_retire(p);
        break;
    }
}

static void post_all(struct server *s, struct loop *from, int which)
{
    for (unsigned i = 0; i < s->n_parts; i++) {
        struct server_op *op = &s->parts[i].op[which];
        if (!atomic_exchange(&op->posted, true))
            loop_post_task(from, s->parts[i].loop, &op->task);
    }
}

void server_start(struct server *s, struct loop *from)
{
    post_all(s, from, OP_START);
}

void server_drain(struct server *s, struct loop *from, uint64_t serve_until_us)
{
    atomic_store(&s->serve_until_us, serve_until_us);
    post_all(s, from, OP_DRAIN);
}

void server_stop_accept(struct server *s, struct loop *from)
{
    post_all(s, from, OP_STOP);
}

void server_cut(struct server *s, struct loop *from)
{
    post_all(s, from, OP_CUT);
}

void server_retire(struct server *s, struct loop *from, struct loop_task *done)
{
    debug_invariant(server_idle(s));
    s->retired_to = from;
    s->retired = done;
    atomic_store(&s->retiring, s->n_parts);
    post_all(s, from, OP_RETIRE);
}

bool server_idle(const struct server *s)
{
    for (unsigned i = 0; i < s->n_parts; i++) {
        if (atomic_load_explicit(&s->parts[i].open_listeners, memory_order_acquire))
            return false;
    }
    return atomic_load_explicit(&s->conns, memory_order_acquire) == 0;
}

void server_adopt(struct server *s, unsigned loop, const struct http_limits *limits,
                  struct tls_server *tls)
{
    s->parts[loop].limits = *limits;
    s->parts[loop].tls = tls;
}

const char *server_name(const struct server *s)
{
    return s->name;
}

void server_stats(const struct server *s, struct server_stats *out)
{
    *out = (struct server_stats){.conns = atomic_load(&s->conns)};
    for (unsigned i = 0; i < s->n_parts; i++) {
        const struct server_part *p = &s->parts[i];
        out->accepted += atomic_load_explicit(&p->accepted, memory_order_relaxed);
        out->refused_address += atomic_load_explicit(&p->refused_address, memory_order_relaxed);
        out->handed_over += atomic_load_explicit(&p->handed_over, memory_order_relaxed);
        out->accept_paused += atomic_load_explicit(&p->accept_paused, memory_order_relaxed);
        out->tls_failed += atomic_load_explicit(&p->tls_failed, memory_order_relaxed);
        out->plain_on_tls += atomic_load_explicit(&p->plain_on_tls, memory_order_relaxed);
        out->tls_on_plain += atomic_load_explicit(&p->tls_on_plain, memory_order_relaxed);
        out->bytes_in += atomic_load_explicit(&p->bytes_in, memory_order_relaxed);
        out->bytes_out += atomic_load_explicit(&p->bytes_out, memory_order_relaxed);
        out->accepting |= atomic_load_explicit(&p->open_listeners, memory_order_relaxed) > 0;
    }
}
