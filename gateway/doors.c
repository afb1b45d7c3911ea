/* Compiled into build/sluice-doors only. What the doors know is kept here, not in the structs of the product:
 * those are the same in both builds, since most of their files are compiled once for both. */
#ifndef SLUICE_DOORS
#define SLUICE_DOORS // for what reads this file without the Makefile
#endif
#include "gateway/doors.h"

#include "base/check.h"
#include "base/mem.h"
#include "gateway/endpoint.h"
#include "gateway/workers.h"
#include "net/door.h"
#include "net/sock.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MAX_HELD_MODELS 8
#define MAX_REPLICAS 64 // bits of a word
#define MAX_WORDS 4     // of a command
#define MAX_COMMAND 256

struct kept_end { // a call that has ended, as the desk has not heard yet
    struct kept_end *next;
    struct part *part;
    struct batch *batch;
    struct http_call call; // a copy with the answer's body; the call itself is gone
    enum http_call_end end;
    door_end_fn *fn;
    struct worker *worker;
    void *ctx;
    char message[HTTP_GRPC_MESSAGE]; // call.grpc_message
};

struct late_cancel {
    struct late_cancel *next;
    struct wheel_timer timer;
    struct part *part;
    struct batch *batch; // it runs: else door_keeps_end has removed us
};

struct loop_doors { // the doors of one loop; its thread's
    char held[MAX_HELD_MODELS][128];
    uint64_t deaf, drops; // a bit for each replica
    uint64_t cancel_us[MAX_REPLICAS];
    struct kept_end *ends; // oldest first
    struct late_cancel *cancels;
};

struct late_word {
    struct late_word *next;
    struct wheel_timer timer;
    struct boot_word word;
    door_hear_fn *hear;
};

static struct {               // main thread, but for loops
    struct gateway *gateway;  // NULL: no doors in this process
    struct loop_doors *loops; // [loops.n]
    int fd;
    struct event *event;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    uint64_t keeper_us;
    struct late_word *words;
    _Atomic uint64_t gone_us; // any thread
} doors = {.fd = -1};

static struct loop_doors *doors_of(const struct part *p)
{
    return doors.gateway ? &doors.loops[p->loop->index] : NULL;
}

// Of a place.
static bool has_bit(uint64_t set, unsigned place)
{
    return place < MAX_REPLICAS && (set >> place & 1);
}

static unsigned place_of(uint32_t id)
{
    return id % ENDPOINTS_MOST;
}

// ---- hold --------------------------------------------------------------------------------------------

static char *find_held(struct loop_doors *r, struct view model)
{
    for (unsigned i = 0; i < MAX_HELD_MODELS; i++) {
        if (view_eq(view_str(r->held[i]), model))
            return r->held[i];
    }
    return NULL;
}

static struct kept_end *kept_end_of(struct loop_doors *r, const struct batch *b)
{
    struct kept_end *k = r->ends;
    while (k && k->batch != b)
        k = k->next;
    return k;
}

static void deliver(struct loop_doors *r, struct kept_end *k, enum http_call_end end)
{
    struct kept_end **at = &r->ends;
    while (*at != k)
        at = &(*at)->next;
    *at = k->next;
    k->fn(k->worker, &k->call, end, k->batch, k->ctx);
    if (k->call.body)
        block_unref(k->call.body);
    mem_free(k);
}

static void keep_end(struct loop_doors *r, const struct kept_end *what, struct http_call *call)
{
    struct kept_end *k = mem_must(sizeof(*k)), **last = &r->ends;
    *k = *what;
    k->call = *call;
    k->call.body = http_call_take_body(call);
    struct view message = call->grpc_message;
    k->call.grpc_message = view_of(k->message, message.n);
    if (message.n > 0)
        memcpy(k->message, message.p, message.n);
    k->batch->call = NULL; // the call is freed when we return
    while (*last)
        last = &(*last)->next;
    *last = k;
}

static void forget_cancels(struct loop_doors *r, const struct part *p, const struct batch *b)
{
    for (struct late_cancel **at = &r->cancels; *at;) {
        struct late_cancel *c = *at;
        if (b && c->batch != b) {
            at = &c->next;
            continue;
        }
        *at = c->next;
        wheel_cancel(loop_wheel(p->loop), &c->timer);
        mem_free(c);
    }
}

bool door_keeps_end(struct part *p, struct batch *b, struct http_call *call, enum http_call_end end,
                    door_end_fn *fn, struct worker *w, void *ctx)
{
    struct loop_doors *r = doors_of(p);
    if (!r)
        return false;
    if (end == CALL_ANSWERED && find_held(r, b->model->name)) {
        keep_end(r,
                 &(struct kept_end){
                     .part = p, .batch = b, .end = end, .fn = fn, .worker = w, .ctx = ctx},
                 call);
        return true;
    }
    forget_cancels(r, p, b);
    return false;
}

void door_on_down(struct part *p, unsigned id)
{
    struct loop_doors *r = doors_of(p);
    struct kept_end *k = r ? r->ends : NULL;
    while (k) {
        bool its = k->batch->replica == id;
        if (its)
            deliver(r, k, CALL_LOST);
        k = its ? r->ends : k->next; // an end may bring about others
    }
}

// ---- cancels -----------------------------------------------------------------------------------------

static bool cancel_kept(struct loop_doors *r, struct batch *b)
{
    struct kept_end *k = kept_end_of(r, b);
    if (k)
        deliver(r, k, CALL_CANCELLED);
    return k != NULL;
}

static void on_late_cancel(struct wheel_timer *t, uint64_t now_us)
{
    struct late_cancel *c = container_of(t, struct late_cancel, timer);
    struct part *p = c->part;
    struct batch *b = c->batch;
    struct loop_doors *r = doors_of(p);
    struct late_cancel **at = &r->cancels;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    mem_free(c);
    if (!cancel_kept(r, b))
        workers_cancel(p, b);
}

bool door_keeps_cancel(struct part *p, struct batch *b)
{
    struct loop_doors *r = doors_of(p);
    if (!r || has_bit(r->drops, place_of(b->replica)))
        return r != NULL;
    unsigned place = place_of(b->replica);
    uint64_t us = place < MAX_REPLICAS ? r->cancel_us[place] : 0;
    if (us == 0)
        return cancel_kept(r, b);
    struct late_cancel *c = mem_must(sizeof(*c));
    *c =
        (struct late_cancel){.next = r->cancels, .timer.fn = on_late_cancel, .part = p, .batch = b};
    r->cancels = c;
    wheel_set(loop_wheel(p->loop), &c->timer, loop_now_us(p->loop) + us);
    return true;
}

// ---- deaf sockets ------------------------------------------------------------------------------------

static bool is_peer(int fd, const struct addr *want)
{
    struct addr a = {0};
    socklen_t n = sizeof(a.un);
    if (getpeername(fd, &a.sa, &n) != 0)
        return false;
    if (addr_is_unix(want) || a.sa.sa_family == AF_UNIX)
        return addr_is_unix(want) && a.sa.sa_family == AF_UNIX &&
               strcmp(a.un.sun_path, want->un.sun_path) == 0;
    char have[ADDR_TEXT], text[ADDR_TEXT];
    struct addr got;
    addr_from_sockaddr(&got, &a.sa, n);
    if (addr_is_name(want)) // whatever address it has
        return got.port == want->port;
    return strcmp(addr_print(&got, have), addr_print(want, text)) == 0;
}

static bool is_peer_of(const struct loop *l, int fd, uint64_t ids)
{
    const struct part *p = doors.gateway->parts[l->index];
    for (unsigned i = 0; i < p->n_links && i < MAX_REPLICAS; i++) {
        if (has_bit(ids, i) && p->links[i] && is_peer(fd, &p->links[i]->endpoint->addr))
            return true;
    }
    return false;
}

bool door_is_deaf(const struct sock *s)
{
    if (!doors.gateway || s->loop->index >= doors.gateway->loops.n)
        return false;
    uint64_t deaf = doors.loops[s->loop->index].deaf;
    return deaf && is_peer_of(s->loop, s->fd, deaf);
}

struct found {
    const struct loop *loop;
    uint64_t ids;
    struct event *events[MAX_REPLICAS * 4];
    unsigned n;
};

static int find_event(const struct event_base *base, const struct event *e, void *arg)
{
    struct found *f = arg;
    bool is_socket = !(event_get_events(e) & EV_SIGNAL) && event_get_fd(e) >= 0;
    if (is_socket && f->n < sizeof(f->events) / sizeof(*f->events) &&
        is_peer_of(f->loop, event_get_fd(e), f->ids))
        f->events[f->n++] = (struct event *)(uintptr_t)e;
    return 0;
}

// Edges that came meanwhile were used up.
static void wake_sockets(struct loop *l, uint64_t ids)
{
    struct found f = {.loop = l, .ids = ids};
    event_base_foreach_event(l->base, find_event, &f);
    for (unsigned i = 0; i < f.n; i++)
        event_active(f.events[i], EV_READ, 0);
}

// ---- the keeper's words ------------------------------------------------------------------------------

static void on_late_word(struct wheel_timer *t, uint64_t now_us)
{
    struct late_word *w = container_of(t, struct late_word, timer);
    struct late_word **at = &doors.words;
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    w->hear(doors.gateway, &w->word);
    mem_free(w);
}

bool door_keeps_word(struct gateway *g, const struct boot_word *word, door_hear_fn *hear)
{
    if (!doors.gateway || doors.keeper_us == 0)
        return false;
    struct late_word *w = mem_must(sizeof(*w));
    *w = (struct late_word){
        .next = doors.words, .timer.fn = on_late_word, .word = *word, .hear = hear};
    doors.words = w;
    wheel_set(loop_wheel(&g->main), &w->timer, loop_now_us(&g->main) + doors.keeper_us);
    return true;
}

// ---- commands ----------------------------------------------------------------------------------------

struct order_step { // of an order, for one loop
    struct loop_task task;
    struct order *order;
    struct part *part;
};

struct order {
    const struct door *door;
    char model[128];
    uint64_t ids; // the replicas meant, a bit for each
    bool on;
    uint64_t us;
    uint32_t number;
    struct sockaddr_un from; // who asked
    socklen_t from_bytes;
    unsigned out; // loops that have not done it yet
    struct order_step step[];
};

// Arguments: m model, w worker, t milliseconds, s on or off, p process id or another number. `on`: which of two opposites it is.
struct door {
    const char *name, *arguments;
    bool on;
    void (*on_loop)(struct part *p, struct loop_doors *r, const struct order *o); // NULL: on_main
    void (*on_main)(const struct order *o);
};

static void set_held(struct part *p, struct loop_doors *r, const struct order *o)
{
    struct view model = view_str(o->model);
    char *place = find_held(r, model);
    if (!place && o->on)
        place = find_held(r, VIEW(""));
    if (place)
        snprintf(place, sizeof(r->held[0]), "%s", o->on ? o->model : "");
    for (struct kept_end *k = o->on ? NULL : r->ends; k;) {
        bool its = view_eq(k->batch->model->name, model);
        if (its)
            deliver(r, k, k->end);
        k = its ? r->ends : k->next;
    }
}

static void set_deaf(struct part *p, struct loop_doors *r, const struct order *o)
{
    r->deaf = o->on ? r->deaf | o->ids : r->deaf & ~o->ids;
    if (!o->on)
        wake_sockets(p->loop, o->ids);
}

static void set_drops(struct part *p, struct loop_doors *r, const struct order *o)
{
    r->drops = o->on ? r->drops | o->ids : r->drops & ~o->ids;
}

static void set_cancel_delay(struct part *p, struct loop_doors *r, const struct order *o)
{
    for (unsigned id = 0; id < MAX_REPLICAS; id++) {
        if (has_bit(o->ids, id))
            r->cancel_us[id] = o->us;
    }
}

static void skew_probes(struct part *p, struct loop_doors *r, const struct order *o)
{
    for (unsigned i = 0; i < p->n_links && i < MAX_REPLICAS; i++) {
        if (has_bit(o->ids, i) && p->links[i])
            workers_skew(p, p->links[i]->id, o->us);
    }
}

static void say_hangs(struct part *p, struct loop_doors *r, const struct order *o)
{
    for (unsigned i = 0; i < p->n_links && i < MAX_REPLICAS; i++) {
        if (has_bit(o->ids, i) && p->links[i])
            parts_worker_hangs(p, p->links[i]->id, o->number);
    }
}

struct wedge {
    struct loop_task task;
    uint64_t us;
};

static void on_wedge(struct loop *l, struct loop_task *t)
{
    struct wedge *w = container_of(t, struct wedge, task);
    struct timespec still = {(time_t)(w->us / 1000000), (long)(w->us % 1000000) * 1000};
    (void)l;
    nanosleep(&still, NULL);
    mem_free(w);
}

// Told at once that it is on its way: the loop could only say so when it is over.
static void wedge_loop(const struct order *o)
{
    struct gateway *g = doors.gateway;
    if (o->number >= g->loops.n)
        return;
    struct wedge *w = mem_must(sizeof(*w));
    *w = (struct wedge){.task.fn = on_wedge, .us = o->us};
    loop_post_task(&g->main, g->loops.loop[o->number], &w->task);
}

static void set_keeper_delay(const struct order *o)
{
    doors.keeper_us = o->us;
}

static void set_gone(const struct order *o)
{
    atomic_store(&doors.gone_us, o->us);
}

uint64_t door_gone_us(uint64_t us)
{
    uint64_t set_us = atomic_load(&doors.gone_us);
    return set_us ? set_us : us;
}

bool door_rotates(void)
{
    const char *path = getenv("SLUICE_DOORS_ROTATE");
    return path && unlink(path) == 0;
}

static const struct door all_doors[] = {
    {"hold", "m", true, set_held, NULL},
    {"release", "m", false, set_held, NULL},
    {"deafen", "w", true, set_deaf, NULL},
    {"hear", "w", false, set_deaf, NULL},
    {"drop-cancels", "ws", false, set_drops, NULL},
    {"delay-cancels", "wt", false, set_cancel_delay, NULL},
    {"delay-keeper", "t", false, NULL, set_keeper_delay},
    {"skew-probe", "wt", false, skew_probes, NULL},
    {"hangs", "wp", false, say_hangs, NULL},
    {"wedge", "pt", false, NULL, wedge_loop},
    {"remove-models", "t", false, NULL, set_gone},
};

static void answer(const struct order *o, const char *text)
{
    (void)!sendto(doors.fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL,
                  (const struct sockaddr *)&o->from, o->from_bytes);
}

// "name" means all replicas of it, "name/1" the one.
static uint64_t replicas_named(const char *name)
{
    uint64_t ids = 0;
    for (const struct endpoint *e = doors.gateway->fleet.endpoints; e; e = e->next) {
        bool its = strcmp(e->name, name) == 0 || strcmp(e->section, name) == 0;
        if (its && place_of(e->id) < MAX_REPLICAS)
            ids |= 1ull << place_of(e->id);
    }
    return ids;
}

// NULL, or why not.
static const char *read_argument(struct order *o, char kind, const char *word)
{
    char *end = NULL;
    unsigned long number = strtoul(word, &end, 10);
    if ((kind == 't' || kind == 'p') && (*word == '\0' || *end != '\0' || number > UINT32_MAX))
        return "not a number";
    switch (kind) {
    case 'm':
        return snprintf(o->model, sizeof(o->model), "%s", word) < (int)sizeof(o->model)
                   ? NULL
                   : "no such name";
    case 'w':
        o->ids = replicas_named(word);
        return o->ids ? NULL : "no such worker";
    case 't':
        o->us = number * 1000;
        return NULL;
    case 'p':
        o->number = (uint32_t)number;
        return NULL;
    default:
        o->on = strcmp(word, "on") == 0;
        return o->on || strcmp(word, "off") == 0 ? NULL : "neither on nor off";
    }
}

static const char *read_command(struct order *o, char *text)
{
    char *words[MAX_WORDS + 1], *rest = NULL;
    unsigned n = 0;
    for (char *w = strtok_r(text, " \n", &rest); w && n <= MAX_WORDS;
         w = strtok_r(NULL, " \n", &rest))
        words[n++] = w;
    for (size_t i = 0; n && i < sizeof(all_doors) / sizeof(*all_doors); i++) {
        if (strcmp(all_doors[i].name, words[0]) == 0)
            o->door = &all_doors[i];
    }
    if (!o->door)
        return "no such door";
    if (strlen(o->door->arguments) != n - 1)
        return "another number of arguments is wanted";
    o->on = o->door->on;
    for (unsigned i = 1; i < n; i++) {
        const char *why = read_argument(o, o->door->arguments[i - 1], words[i]);
        if (why)
            return why;
    }
    return NULL;
}

static void on_done(struct loop *l, struct loop_task *t)
{
    struct order *o = container_of(t, struct order_step, task)->order;
    if (--o->out > 0)
        return;
    answer(o, "ok");
    mem_free(o);
}

static void on_order(struct loop *l, struct loop_task *t)
{
    struct order_step *s = container_of(t, struct order_step, task);
    s->order->door->on_loop(s->part, doors_of(s->part), s->order);
    part_run(s->part);
    t->fn = on_done;
    loop_post_task(l, &doors.gateway->main, t);
}

static void give_order(struct order *o)
{
    struct gateway *g = doors.gateway;
    o->out = g->loops.n;
    for (unsigned i = 0; i < g->loops.n; i++) {
        o->step[i] = (struct order_step){.task.fn = on_order, .order = o, .part = g->parts[i]};
        loop_post_task(&g->main, g->loops.loop[i], &o->step[i].task);
    }
}

static void obey(struct order *o, char *text)
{
    char line[MAX_COMMAND];
    const char *why = read_command(o, text);
    if (!why && o->door->on_loop) {
        give_order(o);
        return;
    }
    if (!why)
        o->door->on_main(o);
    snprintf(line, sizeof(line), "%s%s", why ? "error: " : "ok", why ? why : "");
    answer(o, line);
    mem_free(o);
}

static void on_command(evutil_socket_t fd, short what, void *arg)
{
    char text[MAX_COMMAND];
    for (;;) {
        struct order *o = mem_must_zero(sizeof(*o) + doors.gateway->loops.n * sizeof(o->step[0]));
        o->from_bytes = sizeof(o->from);
        ssize_t n = recvfrom(fd, text, sizeof(text) - 1, MSG_DONTWAIT, (struct sockaddr *)&o->from,
                             &o->from_bytes);
        if (n < 0) {
            mem_free(o);
            return;
        }
        text[n] = '\0';
        obey(o, text);
    }
}

// ---- life --------------------------------------------------------------------------------------------

static bool open_socket(struct gateway *g)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    memcpy(a.sun_path, doors.path, sizeof(a.sun_path));
    unlink(doors.path);
    doors.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (doors.fd < 0 || bind(doors.fd, (struct sockaddr *)&a, sizeof(a)) != 0)
        return false;
    doors.event = event_new(g->main.base, doors.fd, EV_READ | EV_PERSIST, on_command, NULL);
    return doors.event && event_add(doors.event, NULL) == 0;
}

void doors_open(struct gateway *g)
{
    const char *path = getenv("SLUICE_DOORS");
    if (!path)
        return;
    snprintf(doors.path, sizeof(doors.path), "%s", path);
    doors.loops = mem_must_zero(g->loops.n * sizeof(*doors.loops));
    doors.gateway = g;
    bool opened = open_socket(g);
    GATEWAY_EVENT(g, NULL, LOG_WARN, opened ? "doors_open" : "doors_failed",
                  LOG_CSTR("path", doors.path), LOG_CSTR("why", opened ? "" : strerror(errno)));
}

void doors_stop(struct part *p)
{
    struct loop_doors *r = doors_of(p);
    if (!r)
        return;
    forget_cancels(r, p, NULL);
    while (r->ends)
        deliver(r, r->ends, CALL_LOST);
}

void doors_close(struct gateway *g)
{
    if (!doors.gateway)
        return;
    while (doors.words) {
        struct late_word *w = doors.words;
        doors.words = w->next;
        wheel_cancel(loop_wheel(&g->main), &w->timer);
        mem_free(w);
    }
    if (doors.event)
        event_free(doors.event);
    if (doors.fd >= 0)
        close(doors.fd);
    unlink(doors.path);
    mem_free(doors.loops);
    doors.gateway = NULL;
}
