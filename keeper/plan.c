#include "base/mem.h"
#include "keeper/places.h"
#include <string.h>

struct planner {
    const struct worker_place *now;
    const struct config *c;
    unsigned section;
    struct places_plan *out;
    uint32_t chained; // P2: the last one that is replaced in this section
};

static bool is_of(const struct planner *p, const struct worker_place *at)
{
    return strcmp(at->section, p->c->workers[p->section].name) == 0;
}

static bool is_planned(const struct planner *p, uint32_t number)
{
    for (unsigned i = 0; i < p->out->n; i++) {
        if (p->out->rows[i].to_be.number == number)
            return true;
    }
    return false;
}

static const struct worker_place *find(const struct planner *p, uint32_t number)
{
    const struct worker_place *at = p->now;
    while (at && at->number != number)
        at = at->next;
    return at;
}

static bool is_free(const struct planner *p, uint32_t replica)
{
    for (const struct worker_place *at = p->now; at; at = at->next) {
        if (is_of(p, at) && at->replica == replica)
            return false;
    }
    for (unsigned i = 0; i < p->out->n; i++) {
        const struct boot_place *b = &p->out->rows[i].to_be;
        if (b->section == p->section && b->replica == replica)
            return false;
    }
    return true;
}

static struct plan_row *add(struct planner *p)
{
    struct places_plan *out = p->out;
    if (out->n == out->cap) {
        out->cap = out->cap ? 2 * out->cap : 16;
        struct plan_row *grown = mem_must_zero(out->cap * sizeof(*grown));
        if (out->n > 0)
            memcpy(grown, out->rows, out->n * sizeof(*grown));
        mem_free(out->rows);
        out->rows = grown;
    }
    return &out->rows[out->n++];
}

static struct plan_row *keep(struct planner *p, const struct worker_place *at, uint32_t address)
{
    struct plan_row *r = add(p);
    *r = (struct plan_row){.to_be = {.number = at->number,
                                     .section = p->section,
                                     .replica = at->replica,
                                     .address = address,
                                     .replaces = at->replaces,
                                     .before = at->before},
                           .after = at->after};
    return r;
}

static struct plan_row *make(struct planner *p, uint32_t address)
{
    uint32_t replica = 0;
    while (!is_free(p, replica))
        replica++;
    struct plan_row *r = add(p);
    *r = (struct plan_row){.to_be = {.number = ++p->out->last,
                                     .section = p->section,
                                     .replica = replica,
                                     .address = address}};
    return r;
}

// ---- addresses ---------------------------------------------------------------------------------------

static const struct worker_place *find_remote(const struct planner *p, const char *text)
{
    for (const struct worker_place *at = p->now; at; at = at->next) {
        if (at->state == PLACE_SERVES && at->remote && is_of(p, at) &&
            strcmp(at->remote, text) == 0 && !is_planned(p, at->number))
            return at;
    }
    return NULL;
}

static void plan_addresses(struct planner *p)
{
    const struct config_worker *w = &p->c->workers[p->section];
    for (unsigned i = 0; i < w->address_count; i++) {
        const struct worker_place *at = find_remote(p, w->addresses[i].text);
        if (at)
            keep(p, at, i);
        else
            make(p, i);
    }
}

// ---- processes ---------------------------------------------------------------------------------------

static bool is_process(const struct planner *p, const struct worker_place *at)
{
    return at->state == PLACE_SERVES && !at->remote && is_of(p, at) && !is_planned(p, at->number);
}

static bool has_command(const struct worker_place *at, const struct config_worker *w)
{
    if (at->command_count != w->command_count)
        return false;
    for (unsigned i = 0; i < w->command_count; i++) {
        if (strcmp(at->command[i], w->command[i]) != 0)
            return false;
    }
    return true;
}

static bool was_started(const struct worker_place *at)
{
    return at->child.starts > 0 || at->after == 0;
}

// Those that do what the section says, the oldest first, but for those that wait for their turn.
static unsigned keep_processes(struct planner *p, bool started)
{
    const struct config_worker *w = &p->c->workers[p->section];
    unsigned n = 0;
    for (unsigned i = 0; i < p->out->n; i++)
        n += p->out->rows[i].to_be.section == p->section;
    for (const struct worker_place *at = p->now; at && n < w->replicas; at = at->next) {
        if (!is_process(p, at) || !has_command(at, w) || was_started(at) != started)
            continue;
        keep(p, at, BOOT_LOCAL);
        n++;
    }
    return n;
}

static void plan_old(struct planner *p, const struct worker_place *old)
{
    struct plan_row *r = keep(p, old, BOOT_LOCAL);
    r->old = true;
    r->to_be.replaces = r->after = 0;
    p->chained = old->number;
}

// What was kept may be on its way to replace one of another command.
static void keep_pairs(struct planner *p, unsigned from)
{
    unsigned to = p->out->n;
    for (unsigned i = from; i < to; i++) {
        struct boot_place *b = &p->out->rows[i].to_be;
        const struct worker_place *old = b->replaces ? find(p, b->replaces) : NULL;
        if (!old || old->state != PLACE_SERVES)
            continue;
        if (is_planned(p, old->number))
            b->replaces = 0;
        else
            plan_old(p, old);
    }
}

// Of another command, those first that do not run.
static unsigned find_old(const struct planner *p, const struct worker_place **old)
{
    unsigned n = 0;
    for (unsigned runs = 0; runs < 2; runs++) {
        for (const struct worker_place *at = p->now; at; at = at->next) {
            if (is_process(p, at) && was_started(at) && (at->child.state == CHILD_RUNNING) == runs)
                old[n++] = at;
        }
    }
    return n;
}

static void make_process(struct planner *p, const struct worker_place *old)
{
    bool before = p->c->workers[p->section].replace_before;
    struct plan_row *r = make(p, BOOT_LOCAL);
    if (!old)
        return;
    r->to_be.replaces = old->number;
    r->to_be.before = before;
    r->after = before ? p->chained : old->number;
    plan_old(p, old);
}

static unsigned count(const struct worker_place *at)
{
    unsigned n = 0;
    for (; at; at = at->next)
        n++;
    return n;
}

// More old ones than are needed go at once: not those that run.
static void plan_processes(struct planner *p)
{
    unsigned from = p->out->n, replicas = p->c->workers[p->section].replicas;
    const struct worker_place **old = mem_must((count(p->now) + 1) * sizeof(*old));
    keep_processes(p, true);
    unsigned kept = keep_processes(p, false), wanted = replicas > kept ? replicas - kept : 0;
    keep_pairs(p, from);
    unsigned n = find_old(p, old), skipped = 0;
    while (n - skipped > wanted && old[skipped]->child.state != CHILD_RUNNING)
        skipped++;
    for (unsigned i = 0; i < wanted; i++)
        make_process(p, skipped + i < n ? old[skipped + i] : NULL);
    mem_free(old);
}

void places_plan(const struct worker_place *now, const struct config *c, uint32_t last,
                 struct places_plan *out)
{
    struct planner p = {.now = now, .c = c, .out = out};
    *out = (struct places_plan){.last = last};
    for (; p.section < c->worker_count; p.section++) {
        p.chained = 0;
        if (c->workers[p.section].command_count > 0)
            plan_processes(&p);
        else
            plan_addresses(&p);
    }
}

void places_plan_deinit(struct places_plan *p)
{
    mem_free(p->rows);
    *p = (struct places_plan){0};
}
