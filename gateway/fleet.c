#include "gateway/fleet.h"

#include "base/check.h"
#include "base/mem.h"
#include "gateway/endpoint.h"
#include <stdio.h>

#define LOOK_US 20000 // at who is ready, while somebody waits for it

#define FLEET_EVENT(e, event)                                                                      \
    GATEWAY_EVENT((e)->gateway, NULL, LOG_INFO, event, LOG_CSTR("worker", (e)->name),              \
                  LOG_CSTR("address", (e)->address))

// ---- who comes ---------------------------------------------------------------------------------------

static void append(struct endpoint **list, struct endpoint *e)
{
    while (*list)
        list = &(*list)->next;
    *list = e;
}

static void mark_places(const struct endpoint *e, bool *taken)
{
    for (; e; e = e->next)
        taken[e->id % ENDPOINTS_MOST] = true;
}

// The lowest place that nobody has. ENDPOINTS_MOST: there is none.
static unsigned find_place(const struct gateway *g, const struct fleet_change *change)
{
    bool taken[ENDPOINTS_MOST] = {false};
    unsigned i = 0;
    mark_places(g->fleet.endpoints, taken);
    mark_places(change->coming, taken);
    while (i < ENDPOINTS_MOST && taken[i])
        i++;
    return i;
}

static const char *make_one(struct gateway *g, const struct config *c, const struct boot_place *b,
                            struct fleet_change *out)
{
    unsigned place = find_place(g, out);
    const char *why = "too many workers: those that leave still have batches aboard";
    if (place == ENDPOINTS_MOST)
        return why;
    struct endpoint *e = endpoint_new(g, c, b, g->fleet.round * ENDPOINTS_MOST + place, &why);
    if (e)
        append(&out->coming, e);
    return e ? NULL : why;
}

static const char *want_tls(struct gateway *g, const struct fleet_change *change, char *why)
{
    bool any = false;
    for (const struct endpoint *e = change->coming; e; e = e->next)
        any |= e->tls;
    if (any && !g->fleet.tls && !(g->fleet.tls = tls_client_new(NULL, why)))
        return why;
    return NULL;
}

bool fleet_prepare(struct gateway *g, const struct config *c, const struct boot_place *list,
                   unsigned n, struct fleet_change *out, char *why, size_t size)
{
    const char *wrong = NULL;
    char tls_why[TLS_ERROR];
    *out = (struct fleet_change){0};
    for (unsigned i = 0; i < n && !wrong; i++) {
        if (endpoint_by_number(g, list[i].number))
            continue;
        wrong = make_one(g, c, &list[i], out);
        if (wrong && list[i].section < c->worker_count)
            snprintf(why, size, "worker \"%s\": %s", c->workers[list[i].section].name, wrong);
    }
    if (!wrong && (wrong = want_tls(g, out, tls_why)))
        snprintf(why, size, "workers: %s", wrong);
    if (wrong)
        fleet_drop(out);
    return !wrong;
}

void fleet_drop(struct fleet_change *change)
{
    for (struct endpoint *e; (e = change->coming);) {
        change->coming = e->next;
        endpoint_free(e);
    }
}

// ---- who goes ----------------------------------------------------------------------------------------

static void tell_all(struct endpoint *e, enum link_word word)
{
    for (unsigned i = 0; i < e->gateway->loops.n; i++)
        endpoint_say(e, &e->gateway->main, i, word);
}

static void let_go(struct endpoint *e)
{
    e->leaving = true;
    FLEET_EVENT(e, "worker_leaving");
    tell_all(e, WORD_LEAVE);
}

static bool is_listed(const struct endpoint *e, const struct boot_place *list, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (list[i].number == e->number)
            return true;
    }
    return false;
}

static bool is_peer(const struct endpoint *a, const struct endpoint *b)
{
    return a != b && !b->leaving && strcmp(a->section, b->section) == 0;
}

// One of its section that comes, and is not ready yet. rolled: in the place of one that has gone.
static bool is_awaited(const struct endpoint *of, bool rolled)
{
    for (const struct endpoint *e = of->gateway->fleet.endpoints; e; e = e->next) {
        if (!is_peer(of, e) || e->was_ready || e->wait_us)
            continue;
        if (rolled ? e->replaces && !endpoint_by_number(e->gateway, e->replaces) : !e->replaces)
            return true;
    }
    return false;
}

// F2: is it the turn of the one that `by` replaces?
static bool is_due(struct endpoint *by, struct endpoint *old)
{
    return by->before ? by->was_ready : !is_awaited(old, true);
}

static bool is_going(const struct gateway *g, const char *section)
{
    for (const struct endpoint *e = g->fleet.endpoints; e; e = e->next) {
        if (e->leaving && e->local && strcmp(e->section, section) == 0)
            return true;
    }
    return false;
}

// False: nobody waits.
static bool look(struct gateway *g, uint64_t now_us)
{
    bool waits = false;
    for (struct endpoint *e = g->fleet.endpoints; e; e = e->next)
        e->was_ready |= endpoint_is_ready(e);
    for (struct endpoint *e = g->fleet.endpoints; e; e = e->next) {
        bool stays = !e->leaving && !e->wait_us;
        struct endpoint *old = stays && e->replaces ? endpoint_by_number(g, e->replaces) : NULL;
        if (old && is_due(e, old) && !is_going(g, e->section))
            let_go(old);
        else if (old)
            waits = true;
        if (e->wait_us && !e->leaving && (now_us >= e->wait_us || !is_awaited(e, false)))
            let_go(e);
        waits |= e->wait_us && !e->leaving;
    }
    return waits;
}

static bool tell_of_those_that_left(struct gateway *g)
{
    bool untold = false;
    for (struct endpoint **at = &g->fleet.endpoints, *e; (e = *at);) {
        bool again =
            endpoint_by_number(g, e->number) != NULL; // the keeper wants that one after all
        if (!e->is_over || (!again && !gateway_say_left(g, e->number))) {
            untold |= e->is_over;
            at = &e->next;
            continue;
        }
        *at = e->next;
        FLEET_EVENT(e, "worker_removed");
        endpoint_free(e);
    }
    return untold;
}

static void on_timer(struct wheel_timer *t, uint64_t now_us)
{
    struct gateway *g = container_of(t, struct gateway, fleet.timer);
    if (g->fleet.held)
        return;
    bool waits = look(g, now_us), untold = tell_of_those_that_left(g);
    if (waits || untold)
        wheel_set(loop_wheel(&g->main), t, now_us + LOOK_US);
}

void fleet_go_on(struct gateway *g)
{
    g->fleet.held = false;
    g->fleet.timer.fn = on_timer;
    on_timer(&g->fleet.timer, loop_now_us(&g->main));
}

void fleet_on_over(struct loop *l, struct loop_task *t)
{
    struct endpoint *e = container_of(t, struct endpoint, over);
    (void)l;
    e->is_over = true;
    if (!e->gateway->fleet.held)
        fleet_go_on(e->gateway);
}

// ---- another list ------------------------------------------------------------------------------------

static void take_wishes(struct gateway *g, const struct boot_place *list, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct endpoint *e = endpoint_by_number(g, list[i].number);
        e->replaces = list[i].replaces;
        e->before = list[i].before;
        e->wait_us = 0;
    }
}

void fleet_apply(struct gateway *g, const struct config *c, const struct boot_place *list,
                 unsigned n, struct fleet_change *change, bool joins)
{
    struct endpoint *coming = change->coming;
    uint64_t now_us = loop_now_us(&g->main);
    if (coming)
        g->fleet.round = (g->fleet.round + 1) % (UINT32_MAX / ENDPOINTS_MOST);
    append(&g->fleet.endpoints, coming);
    change->coming = NULL;
    g->fleet.held = true;
    for (struct endpoint *e = coming; e && joins; e = e->next) {
        FLEET_EVENT(e, "worker_added");
        tell_all(e, WORD_JOIN);
    }
    take_wishes(g, list, n);
    for (struct endpoint *e = g->fleet.endpoints; e; e = e->next) {
        if (e->leaving || is_listed(e, list, n))
            continue;
        if (!e->wait_us) // F3; a local one that only goes has nobody to wait for
            e->wait_us =
                now_us + (e->local || !config_worker_find(c, e->section) ? 0 : FLEET_WAIT_US);
    }
}

void fleet_free(struct gateway *g)
{
    wheel_cancel(loop_wheel(&g->main), &g->fleet.timer);
    struct fleet_change all = {g->fleet.endpoints};
    fleet_drop(&all);
    g->fleet.endpoints = NULL;
    if (g->fleet.tls)
        tls_client_free(g->fleet.tls);
}
