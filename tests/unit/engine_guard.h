/* The CPU as a device that runs every step between guard pages: each input, output and scratch of a step ends
 * where a page begins that cannot be touched, and stands on sentinels. Included by tests alone. */
#ifndef SLUICE_TESTS_ENGINE_GUARD_H
#define SLUICE_TESTS_ENGINE_GUARD_H

#include "base/check.h"
#include "engine/cpu/device.h"
#include "engine/device.h"
#include "engine/plan.h"

#include <stdio.h>
#include <sys/mman.h>

#define GUARD_PAGE ((size_t)4096)
#define GUARD_SENTINEL 0xa5

struct guarded {
    char *base, *data;
    size_t pages, bytes, before; // before: sentinels in front of it
};

static inline struct guarded guarded_new(size_t bytes, const void *from)
{
    struct guarded g = {.bytes = bytes, .pages = (bytes + GUARD_PAGE - 1) / GUARD_PAGE + 2};
    g.base = mmap(NULL, g.pages * GUARD_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                  -1, 0);
    invariant(g.base != MAP_FAILED);
    char *end = g.base + (g.pages - 1) * GUARD_PAGE;
    g.data = end - (bytes + 7) / 8 * 8; // any address of 8 will do for a kernel
    if (bytes % 8 != 0 && bytes % 4 == 0)
        g.data = end - bytes;
    g.before = (size_t)(g.data - g.base - (ptrdiff_t)GUARD_PAGE);
    memset(g.base + GUARD_PAGE, GUARD_SENTINEL, g.before);
    if (from && bytes > 0)
        memcpy(g.data, from, bytes);
    invariant(mprotect(end, GUARD_PAGE, PROT_NONE) == 0 &&
              mprotect(g.base, GUARD_PAGE, PROT_NONE) == 0);
    return g;
}

static inline void guarded_free(struct guarded *g)
{
    for (size_t i = 0; i < g->before; i++)
        invariant((unsigned char)g->base[GUARD_PAGE + i] == GUARD_SENTINEL);
    munmap(g->base, g->pages * GUARD_PAGE);
}

static inline void guarded_run(const struct job *j)
{
    struct guarded in[NODE_MAX_INPUTS], out[NODE_MAX_OUTPUTS], scratch;
    struct array ins[NODE_MAX_INPUTS], outs[NODE_MAX_OUTPUTS];
    const struct node *n = j->node;
    struct job copy = *j;
    for (unsigned i = 0; i < n->n_inputs; i++) {
        if (!j->in[i])
            continue;
        ins[i] = *j->in[i];
        // What is prepared stands for the inputs behind the first.
        in[i] = guarded_new(ins[i].data ? array_bytes(&ins[i]) : 0, ins[i].data);
        ins[i].data = ins[i].data ? in[i].data : NULL;
        copy.in[i] = &ins[i];
    }
    for (unsigned i = 0; i < n->n_outputs; i++) {
        if (!j->outs[i])
            continue;
        outs[i] = *j->outs[i];
        out[i] = guarded_new(array_bytes(&outs[i]), NULL);
        outs[i].data = out[i].data;
        copy.outs[i] = &outs[i];
    }
    copy.out = copy.outs[0];
    size_t bytes = n->kernel->scratch ? n->kernel->scratch(j) : 0;
    scratch = guarded_new((bytes + 7) / 8 * 8, NULL); // where a double may lie
    copy.scratch = scratch.data;
    cpu_run(&copy);
    for (unsigned i = 0; i < n->n_outputs; i++) {
        if (j->outs[i]) {
            void *to = j->outs[i]->data;
            if (array_bytes(&outs[i]) > 0)
                memcpy(to, outs[i].data, array_bytes(&outs[i]));
            *j->outs[i] = outs[i]; // it may be less than there was room for
            j->outs[i]->data = to;
            guarded_free(&out[i]);
        }
    }
    for (unsigned i = 0; i < n->n_inputs; i++) {
        if (j->in[i])
            guarded_free(&in[i]);
    }
    guarded_free(&scratch);
}

static const char *guard_failure;

static inline void guard_enqueue(struct queue *q, struct plan *p)
{
    static char why[160];
    (void)q;
    p->failure = NULL;
    for (unsigned s = 0; s < p->n_steps && !p->failure; s++) {
        if (step_runs(&p->steps[s]))
            guarded_run(&p->steps[s].job);
    }
    if (p->failure && !guard_failure) {
        snprintf(why, sizeof(why), "%s", p->failure);
        guard_failure = why;
    }
}

static inline void guard_step(struct queue *q, const struct job *j)
{
    (void)q;
    guarded_run(j);
}

static inline const char *guard_sync(struct queue *q)
{
    const char *why = guard_failure;
    (void)q;
    guard_failure = NULL;
    return why;
}

static inline void guard_event(struct queue *q, void (*fn)(void *ctx, const char *error), void *ctx)
{
    fn(ctx, guard_sync(q));
}

// As cpu_device_new, in plain C.
static inline struct device *guard_device_new(void)
{
    static struct device_ops ops;
    struct device *d = cpu_device_new((struct cpu_options){.plain = true});
    ops = *d->ops;
    ops.enqueue = guard_enqueue;
    ops.step = guard_step;
    ops.sync = guard_sync;
    ops.event = guard_event;
    d->ops = &ops;
    return d;
}

#endif
