#include "http/out.h"

#include "base/check.h"
#include "base/mem.h"

#define KEPT_BYTES OUT_COPIED_MOST // of a connection that rests
#define KEPT_ITEMS 64u

void out_init(struct out *o)
{
    *o = (struct out){0};
    buffer_init(&o->copy);
}

static void finish(const struct out_item *i)
{
    if (i->block)
        block_unref(i->block);
    if (i->done)
        i->done(i->arg);
}

void out_deinit(struct out *o)
{
    while (o->at < o->n) {
        struct out_item i = o->items[o->at++];
        finish(&i);
    }
    buffer_deinit(&o->copy);
    mem_free(o->items);
    out_init(o);
}

static struct out_item *add(struct out *o)
{
    if (o->at == o->n)
        o->at = o->n = 0;
    // A queue that is never quite empty must not grow for what has left: it moves down when that pays.
    if (o->n == o->cap && o->at > o->cap / 2) {
        memmove(o->items, o->items + o->at, (o->n - o->at) * sizeof(*o->items));
        o->n -= o->at;
        o->at = 0;
    }
    if (o->n == o->cap) {
        unsigned cap = o->cap ? 2 * o->cap : 16;
        struct out_item *grown = mem_realloc(o->items, cap * sizeof(*grown));
        if (!grown)
            return NULL;
        o->items = grown;
        o->cap = cap;
    }
    struct out_item *i = &o->items[o->n++];
    *i = (struct out_item){0};
    return i;
}

uint8_t *out_room(struct out *o, size_t n)
{
    return buffer_room(&o->copy, n);
}

bool out_commit(struct out *o, size_t n)
{
    struct out_item *last = o->at < o->n ? &o->items[o->n - 1] : NULL;
    if (!last || last->p || last->done)
        last = add(o);
    if (!last)
        return false;
    buffer_commit(&o->copy, n);
    last->n += n;
    o->bytes += n;
    return true;
}

bool out_copy(struct out *o, const void *p, size_t n)
{
    if (n == 0)
        return true;
    uint8_t *to = out_room(o, n);
    if (!to)
        return false;
    memcpy(to, p, n);
    return out_commit(o, n);
}

bool out_refer(struct out *o, const void *p, size_t n, struct block *block, void (*done)(void *),
               void *arg)
{
    struct out_item *i = add(o);
    if (!i)
        return false;
    *i = (struct out_item){.p = p, .n = n, .block = block, .done = done, .arg = arg};
    o->bytes += n;
    return true;
}

bool out_mark(struct out *o, void (*done)(void *), void *arg)
{
    return out_refer(o, "", 0, NULL, done, arg);
}

int out_gather(const struct out *o, struct iovec *iov, int max)
{
    int n = 0;
    const uint8_t *copy = o->copy.data ? o->copy.data + o->copy.at : NULL;
    for (unsigned i = o->at; i < o->n && n < max; i++) {
        const struct out_item *item = &o->items[i];
        if (item->n == 0)
            continue;
        iov[n++] = (struct iovec){(void *)(item->p ? item->p : copy), item->n};
        if (!item->p)
            copy += item->n;
    }
    return n;
}

void out_sent(struct out *o, size_t n)
{
    invariant(n <= o->bytes);
    o->bytes -= n;
    while (o->at < o->n) {
        struct out_item *i = &o->items[o->at];
        size_t part = i->n < n ? i->n : n;
        if (!i->p)
            buffer_consume(&o->copy, part);
        else
            i->p += part;
        i->n -= part;
        n -= part;
        if (i->n > 0)
            return;
        struct out_item gone = *i; // finishing may add to the queue
        o->at++;
        finish(&gone);
    }
    buffer_reset(&o->copy);
}

void out_rest(struct out *o)
{
    if (o->at < o->n)
        return;
    if (o->copy.cap > KEPT_BYTES) {
        buffer_deinit(&o->copy);
        buffer_init(&o->copy);
    }
    if (o->cap > KEPT_ITEMS) {
        mem_free(o->items);
        o->items = NULL;
        o->at = o->n = o->cap = 0;
    }
}
