#include "gateway/endpoint.h"

#include "base/mem.h"
#include "gateway/fleet.h"
#include "gateway/workers.h"
#include <stdio.h>

static const char *set_address(struct endpoint *e, const char *text)
{
    struct view v = view_str(text);
    if (v.n > 8 && memcmp(v.p, "grpcs://", 8) == 0) {
        e->tls = true;
        v = view_of(v.p + 8, v.n - 8);
    } else if (v.n > 7 && memcmp(v.p, "grpc://", 7) == 0) {
        v = view_of(v.p + 7, v.n - 7);
    }
    const char *why = addr_parse(&e->addr, v, 8001);
    if (!why)
        addr_print(&e->addr, e->address);
    return why;
}

static const char *text_of(const struct config *c, const struct boot_place *b)
{
    if (b->address == BOOT_LOCAL)
        return b->path;
    const struct config_worker *w = &c->workers[b->section];
    return b->address < w->address_count ? w->addresses[b->address].text : NULL;
}

struct endpoint *endpoint_new(struct gateway *g, const struct config *c, const struct boot_place *b,
                              uint32_t id, const char **why)
{
    const char *text = b->section < c->worker_count ? text_of(c, b) : NULL;
    size_t bytes = sizeof(struct endpoint) + g->loops.n * sizeof(struct link);
    struct endpoint *e = text ? mem_alloc_aligned((bytes + 63) & ~(size_t)63, 64) : NULL;
    *why = text ? "out of memory" : "a worker that the configuration does not name";
    if (!e)
        return NULL;
    memset(e, 0, bytes);
    snprintf(e->section, sizeof(e->section), "%s", c->workers[b->section].name);
    snprintf(e->name, sizeof(e->name), "%s/%u", e->section, b->replica);
    e->gateway = g;
    e->id = id;
    e->number = b->number;
    e->local = b->address == BOOT_LOCAL;
    e->over.fn = fleet_on_over;
    atomic_store(&e->holders, g->loops.n);
    news_init(&e->news);
    for (unsigned i = 0; i < g->loops.n; i++)
        workers_link(&e->link[i], e, i);
    *why = set_address(e, text);
    if (!*why)
        return e;
    endpoint_free(e);
    return NULL;
}

void endpoint_free(struct endpoint *e)
{
    for (unsigned i = 0; i < e->gateway->loops.n; i++)
        story_deinit(&e->link[i].story);
    news_deinit(&e->news);
    mem_free(e);
}

struct endpoint *endpoint_by_number(const struct gateway *g, uint32_t number)
{
    struct endpoint *e = g->fleet.endpoints;
    while (e && (e->number != number || e->leaving))
        e = e->next;
    return e;
}

const char *endpoint_name(const struct gateway *g, uint32_t id)
{
    const struct endpoint *e = g->fleet.endpoints;
    while (e && e->id != id)
        e = e->next;
    return e ? e->name : NULL;
}

bool endpoint_is_ready(struct endpoint *e)
{
    for (unsigned i = 0; i < e->gateway->loops.n; i++) {
        if (endpoint_state(e, i) != WORKER_READY)
            return false;
    }
    return news_serves(&e->news);
}

void endpoint_say(struct endpoint *e, struct loop *from, unsigned to, enum link_word word)
{
    struct link *l = &e->link[to];
    if (atomic_fetch_or(&l->words, word) != 0)
        return;
    atomic_fetch_add(&e->holders, 1);
    loop_post_task(from, e->gateway->loops.loop[to], &l->task);
}

void endpoint_unhold(struct endpoint *e, struct loop *from)
{
    if (atomic_fetch_sub(&e->holders, 1) == 1)
        loop_post_task(from, &e->gateway->main, &e->over);
}
