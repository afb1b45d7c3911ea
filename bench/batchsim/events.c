/* bench/batchsim/events: what happens next. */
#include "bench/batchsim/world.h"

static bool event_before(const struct event *a, const struct event *b)
{
    return a->at < b->at || (a->at == b->at && a->order < b->order);
}

struct event *event_post(struct run *r, double at, enum event_kind kind)
{
    if (r->n == r->cap)
        r->heap = must(realloc(r->heap, sizeof(*r->heap) * (r->cap = r->cap ? 2 * r->cap : 1024)));
    struct event e = {.at = at, .order = r->order++, .kind = kind};
    unsigned i = r->n++;
    for (; i > 0 && event_before(&e, &r->heap[(i - 1) / 2]); i = (i - 1) / 2)
        r->heap[i] = r->heap[(i - 1) / 2];
    r->heap[i] = e;
    return &r->heap[i];
}

struct event event_next(struct run *r)
{
    struct event first = r->heap[0], e = r->heap[--r->n];
    unsigned i = 0;
    for (unsigned c; (c = 2 * i + 1) < r->n; i = c) {
        c += c + 1 < r->n && event_before(&r->heap[c + 1], &r->heap[c]);
        if (!event_before(&r->heap[c], &e))
            break;
        r->heap[i] = r->heap[c];
    }
    r->heap[i] = e;
    return first;
}
