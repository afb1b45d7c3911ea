/* Whose slot it is. The map comes from any node (CLUSTER SLOTS), is corrected by each MOVED, and is asked for anew when
 * one came, or a node was lost. One connection a node; only masters are spoken to.
 *
 *  C1  A node has a connection while it owns a slot, or is one of the configured ones.
 *  C2  One question for the map is out at a time, and one a second at most. */
#include "backends/redis_inner.h"

#include "base/check.h"
#include "base/mem.h"
#include <stdio.h>
#include <string.h>

#define LOOK_AGAIN_US 1000000 // while something is amiss
#define LOOK_US 30000000

// ---- nodes ---------------------------------------------------------------------------------------------

static bool node_is(const struct redis_line *n, const struct addr *a)
{
    char one[ADDR_TEXT], other[ADDR_TEXT];
    return n && strcmp(addr_print(&n->addr, one), addr_print(a, other)) == 0;
}

// The node at that address, which is connected to if it is new. REDIS_NO_NODE: no room, no memory.
static unsigned node_at(struct redis *r, const struct addr *a)
{
    struct redis_map *m = r->map;
    unsigned room = REDIS_NO_NODE;
    for (unsigned i = 0; i < REDIS_MAX_NODES; i++) {
        if (node_is(m->node[i], a))
            return i;
        if (!m->node[i] && room == REDIS_NO_NODE)
            room = i;
    }
    if (room == REDIS_NO_NODE || !(m->node[room] = redis_line_new(r, a)))
        return REDIS_NO_NODE;
    line_open(m->node[room]);
    return room;
}

// The host as a node says it; none: the one that was asked.
static bool node_addr(struct addr *out, const struct redis_line *from, struct view host,
                      uint64_t port)
{
    char text[ADDR_TEXT];
    if (host.n == 0 || view_is(host, "?"))
        host = view_str(from->addr.host);
    bool v6 = host.n && memchr(host.p, ':', host.n) != NULL;
    int n = snprintf(text, sizeof(text), "%s%.*s%s:%llu", v6 ? "[" : "", VIEW_ARG(host),
                     v6 ? "]" : "", (unsigned long long)port);
    return n > 0 && n < (int)sizeof(text) && port > 0 && port <= UINT16_MAX &&
           !addr_parse(out, view_str(text), 0);
}

static bool is_configured(const struct redis *r, const struct redis_line *n)
{
    for (unsigned i = 0; i < r->config->n_addrs; i++)
        if (node_is(n, &r->config->addrs[i]))
            return true;
    return false;
}

static void on_sweep(struct loop *l, struct loop_call *c)
{
    struct redis_map *m = container_of(c, struct redis_map, sweep);
    bool owns[REDIS_MAX_NODES] = {false};
    struct redis *r = NULL;
    (void)l;
    for (unsigned slot = 0; slot < REDIS_SLOTS; slot++)
        if (m->owner[slot] != REDIS_NO_NODE)
            owns[m->owner[slot]] = true;
    for (unsigned i = 0; i < REDIS_MAX_NODES; i++) {
        struct redis_line *n = m->node[i];
        if (!n || owns[i] || is_configured(n->ctx, n))
            continue;
        r = n->ctx;
        m->node[i] = NULL;
        redis_line_free(n);
    }
    if (r)
        redis_look(r, NULL);
}

// ---- the map -------------------------------------------------------------------------------------------

// One row: from, to, the master (host, port, ...), its replicas.
static void take_row(struct redis *r, const struct redis_line *from, const struct redis_answer *row)
{
    struct addr a;
    if (row->end != REDIS_END_LIST || row->n < 3)
        return;
    struct redis_answer first = redis_item(row, 0), last = redis_item(row, 1),
                        master = redis_item(row, 2);
    if (first.end != REDIS_END_NUMBER || last.end != REDIS_END_NUMBER || first.number < 0 ||
        last.number >= REDIS_SLOTS || master.end != REDIS_END_LIST || master.n < 2)
        return;
    struct redis_answer host = redis_item(&master, 0), port = redis_item(&master, 1);
    if (port.end != REDIS_END_NUMBER || port.number < 0 ||
        !node_addr(&a, from, host.text, (uint64_t)port.number))
        return;
    unsigned node = node_at(r, &a);
    for (int64_t slot = first.number; slot <= last.number; slot++)
        r->map->owner[slot] = (uint8_t)node;
}

static void on_slots(const struct redis_answer *said, void *user)
{
    struct redis *r = user;
    struct redis_map *m = r->map;
    const struct redis_line *from = m->node[m->next];
    m->asked = false;
    if (said->end != REDIS_END_LIST || said->n == 0 || !from)
        return; // asked again, of another one
    memset(m->owner, (int)REDIS_NO_NODE, sizeof(m->owner));
    for (unsigned i = 0; i < said->n; i++) {
        struct redis_answer row = redis_item(said, i);
        take_row(r, from, &row);
    }
    m->known = true;
    loop_defer(r->loop, &m->sweep);
    redis_look(r, NULL);
}

static bool is_amiss(const struct redis_map *m)
{
    bool amiss = !m->known;
    for (unsigned i = 0; i < REDIS_MAX_NODES; i++)
        amiss |= m->node[i] && m->node[i]->state != REDIS_UP;
    return amiss;
}

// A look that is due before stays: a node that is lost again and again must not put it off.
static void look_later(struct redis *r)
{
    struct wheel_timer *look = &r->map->look;
    uint64_t at_us = loop_now_us(r->loop) + (is_amiss(r->map) ? LOOK_AGAIN_US : LOOK_US);
    if (!wheel_is_set(look) || at_us < look->at_us)
        wheel_set(loop_wheel(r->loop), look, at_us);
}

// Of the nodes in turn: one that was cut off from the others may not know it.
static void ask_next(struct redis *r)
{
    struct redis_map *m = r->map;
    struct view words[] = {VIEW("CLUSTER"), VIEW("SLOTS")};
    for (unsigned i = 0; i < REDIS_MAX_NODES && !m->asked; i++) {
        m->next = (m->next + 1) % REDIS_MAX_NODES;
        struct redis_line *n = m->node[m->next];
        m->asked = n && n->state == REDIS_UP && redis_tell(r, n, words, 2, on_slots);
    }
}

static void on_look(struct wheel_timer *t, uint64_t now_us)
{
    struct redis_map *m = container_of(t, struct redis_map, look);
    struct redis *r = NULL;
    (void)now_us;
    for (unsigned i = 0; i < REDIS_MAX_NODES && !r; i++)
        r = m->node[i] ? m->node[i]->ctx : NULL;
    if (!r)
        return;
    ask_next(r);
    look_later(r);
}

void cluster_ask(struct redis *r)
{
    if (!r->map->known)
        ask_next(r);
    look_later(r);
}

void cluster_on_down(struct redis *r)
{
    look_later(r);
}

struct redis_line *cluster_line(struct redis *r, uint16_t slot)
{
    unsigned node = r->map->owner[slot];
    struct redis_line *n = node == REDIS_NO_NODE ? NULL : r->map->node[node];
    return n && n->state == REDIS_UP ? n : NULL;
}

unsigned cluster_servers(const struct redis *r, uint16_t slots[REDIS_MAX_NODES])
{
    bool met[REDIS_MAX_NODES] = {false};
    unsigned n = 0;
    for (unsigned slot = 0; slot < REDIS_SLOTS; slot++) {
        unsigned node = r->map->owner[slot];
        if (node == REDIS_NO_NODE || met[node])
            continue;
        met[node] = true;
        slots[n++] = (uint16_t)slot;
    }
    return n;
}

struct redis_line *cluster_turn(struct redis *r, const struct redis_line *from,
                                const struct redis_turn *turn, bool moved)
{
    struct redis_map *m = r->map;
    struct addr a;
    if (!node_addr(&a, from, turn->host, turn->port))
        return NULL;
    unsigned node = node_at(r, &a);
    if (moved) {
        m->owner[turn->slot] = (uint8_t)node;
        wheel_set(loop_wheel(r->loop), &m->look, loop_now_us(r->loop) + LOOK_AGAIN_US);
    }
    struct redis_line *n = node == REDIS_NO_NODE ? NULL : m->node[node];
    return n && n->state == REDIS_UP ? n : NULL;
}

bool cluster_start(struct redis *r)
{
    struct redis_map *m = r->map = mem_zalloc(sizeof(*m));
    if (!m)
        return false;
    memset(m->owner, (int)REDIS_NO_NODE, sizeof(m->owner));
    m->sweep.fn = on_sweep;
    m->look.fn = on_look;
    for (unsigned i = 0; i < r->config->n_addrs && i < REDIS_MAX_NODES; i++)
        if (node_at(r, &r->config->addrs[i]) == REDIS_NO_NODE)
            return false;
    return true;
}

void cluster_free(struct redis *r)
{
    struct redis_map *m = r->map;
    if (!m)
        return;
    for (unsigned i = 0; i < REDIS_MAX_NODES; i++)
        redis_line_free(m->node[i]);
    loop_defer_cancel(&m->sweep);
    wheel_cancel(loop_wheel(r->loop), &m->look);
    mem_free(m);
    r->map = NULL;
}
