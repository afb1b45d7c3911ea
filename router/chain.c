#include "router/chain.h"

#include "base/check.h"
#include <stdarg.h>
#include <stdio.h>

const char *chain_outcome(unsigned outcome)
{
    static const char *const passed[PASSED_REASONS] = {
        [PASSED_NOT] = "tried",   [PASSED_UNKNOWN] = "unknown", [PASSED_NOT_READY] = "not_ready",
        [PASSED_LATE] = "late",   [PASSED_SHARE] = "share",     [PASSED_POISON] = "poison",
        [PASSED_UNFIT] = "unfit",
    };
    if (outcome >= STATUS_COUNT)
        return passed[outcome - STATUS_COUNT];
    return outcome == STATUS_DEADLINE ? "timeout" : status_table[outcome].name;
}

_Static_assert(CHAIN_LINKS <= 32, "a bit each");

static uint32_t bit_of(unsigned i)
{
    return 1u << i;
}

// ---- what stands a chance ----------------------------------------------------------------------------

static bool is_late(const struct chance *s, uint64_t left_us)
{
    return s->wait_us + s->row_us > left_us;
}

// Who is beyond the share is drawn anew among those that are.
static bool is_beyond(const struct chance *s, uint32_t *lot)
{
    if (*lot < s->share)
        return false;
    *lot = (uint32_t)((uint64_t)(*lot - s->share) * CHAIN_LOTS / (CHAIN_LOTS - s->share));
    return true;
}

static enum passed why_passed(const struct chain_walk *w, const struct chance *s, uint32_t *lot,
                              uint64_t left_us)
{
    if (w->poisonous)
        return PASSED_POISON;
    if (!s->known)
        return PASSED_UNKNOWN;
    if (!s->ready)
        return PASSED_NOT_READY;
    if (is_late(s, left_us))
        return PASSED_LATE;
    return is_beyond(s, lot) ? PASSED_SHARE : PASSED_NOT;
}

// ---- the walk ----------------------------------------------------------------------------------------

static struct attempt *add_attempt(struct chain_walk *w, unsigned i, uint64_t now_us)
{
    invariant(w->n < CHAIN_ATTEMPTS); // a link is passed over once, and tried once
    struct attempt *a = &w->attempt[w->n++];
    *a = (struct attempt){.link = (uint8_t)i, .began_us = now_us};
    return a;
}

static void pass_over(struct chain_walk *w, unsigned i, enum passed why, uint64_t now_us)
{
    add_attempt(w, i, now_us)->passed = (uint8_t)why;
    w->done |= bit_of(i);
    if (why == PASSED_SHARE || why == PASSED_NOT_READY)
        w->spared |= bit_of(i);
}

// Of those that were passed over, after all.
static unsigned spared(const struct chain_walk *w, const struct chance *s, unsigned n,
                       uint64_t left_us)
{
    unsigned waits = CHAIN_END;
    for (unsigned i = 0; i < n && !w->poisonous; i++) {
        if (!(w->spared & bit_of(i)) || !s[i].known)
            continue;
        if (s[i].ready && !is_late(&s[i], left_us))
            return i;
        if (!s[i].ready && waits == CHAIN_END)
            waits = i;
    }
    return waits;
}

// Link 0 is short of most of what it had: what is kept spares it. The number of links: it is not, or nothing is.
static unsigned cached_first(const struct chain *c, const struct chance *s,
                             const struct chain_walk *w)
{
    unsigned i = 0;
    while (i < c->n && (c->links[i].kind != LINK_CACHED || w->done & bit_of(i)))
        i++;
    return s[0].level >= CHAIN_CACHE_LEVEL ? i : c->n;
}

unsigned chain_next(const struct chain *c, const struct chance *s, struct chain_walk *w,
                    uint64_t now_us, uint64_t left_us)
{
    unsigned cached = cached_first(c, s, w);
    uint32_t unfit = c->unfit ? atomic_load_explicit(c->unfit, memory_order_relaxed) : 0;
    if (cached < c->n)
        return cached;
    for (unsigned i = 0; i < c->n; i++) {
        enum passed why = PASSED_NOT;
        if (w->done & bit_of(i))
            continue;
        if (unfit & bit_of(i))
            why = PASSED_UNFIT;
        else if (c->links[i].kind == LINK_MODEL)
            why = why_passed(w, &s[i], &w->lot, left_us);
        if (why == PASSED_NOT)
            return i;
        pass_over(w, i, why, now_us);
    }
    return spared(w, s, c->n, left_us);
}

void chain_begin(struct chain_walk *w, unsigned i, uint64_t now_us)
{
    add_attempt(w, i, now_us)->out = true;
    w->done |= bit_of(i);
    w->spared &= ~bit_of(i);
}

bool chain_has_more(const struct chain *c, const struct chain_walk *w, unsigned i)
{
    uint32_t all = bit_of(c->n) - 1;
    return (all & ~w->done & ~bit_of(i)) != 0;
}

void chain_spare(struct chain_walk *w)
{
    w->spared |= bit_of(w->attempt[w->n - 1].link);
}

// ---- time --------------------------------------------------------------------------------------------

// For what has still to be given, however quick: a sixteenth.
#define RESERVE_MOST_US 100000

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t chain_patience(const struct chain *c, const struct chance *s, const struct chain_walk *w,
                        unsigned i, uint64_t left_us)
{
    uint64_t rest_us = smaller(left_us / 16, RESERVE_MOST_US);
    bool last = true;
    for (unsigned k = 0; k < c->n; k++) {
        bool model = c->links[k].kind == LINK_MODEL;
        bool may = k != i && (!(w->done & bit_of(k)) || w->spared & bit_of(k));
        if (!may || (model && !s[k].ready))
            continue;
        last = false;
        if (model)
            rest_us += s[k].wait_us + s[k].row_us;
    }
    if (last)
        return left_us;
    uint64_t patience_us = c->step_timeout_us;
    if (patience_us == 0)
        patience_us = larger(larger(CHAIN_PATIENCE_US, 4 * s[i].p99_us),
                             s[i].wait_us + CHAIN_PATIENCE_TIMES * s[i].row_us);
    return smaller(patience_us, left_us > rest_us ? left_us - rest_us : left_us / 2);
}

// ---- ends --------------------------------------------------------------------------------------------

// What the model itself finds wrong with the request is wrong with it. What another one finds wrong may be that it is
// another one.
bool chain_goes_on(const struct chain *c, const struct chain_walk *w, unsigned i,
                   enum status status)
{
    if (status == STATUS_CLIENT_GONE)
        return false;
    if (c->links[i].kind != LINK_MODEL || i > 0 || w->poisonous)
        return true;
    return status_table[status].retryable;
}

enum status chain_verdict(const struct chain_walk *w, bool late)
{
    if (w->poisonous)
        return STATUS_POISON;
    for (unsigned i = 0; i < w->n && !late; i++) {
        const struct attempt *a = &w->attempt[i];
        if (a->passed != PASSED_LATE && (a->passed || a->why.status != STATUS_DEADLINE))
            return STATUS_UNAVAILABLE;
    }
    return STATUS_DEADLINE;
}

// ---- telling -----------------------------------------------------------------------------------------

struct told {
    char *out;
    size_t size, n;
};

__attribute__((format(printf, 2, 3))) static void say(struct told *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(t->out + t->n, t->size - t->n, format, args);
    va_end(args);
    if (n > 0)
        t->n = t->n + (size_t)n < t->size ? t->n + (size_t)n : t->size - 1;
}

static const char *words_of(const struct attempt *a)
{
    static const char *const passed[PASSED_REASONS] = {
        [PASSED_UNKNOWN] = "it is not known",
        [PASSED_NOT_READY] = "no replica of the model is ready",
        [PASSED_LATE] = "it could not answer in time",
        [PASSED_SHARE] = "it has all that it can carry",
        [PASSED_POISON] = "workers died of this request",
        [PASSED_UNFIT] = "its inputs or outputs are others",
    };
    return a->passed ? passed[a->passed] : a->why.text;
}

void chain_reasons(const struct chain *c, const struct chain_walk *w, char *out, size_t size)
{
    struct told t = {.out = out, .size = size};
    *out = 0;
    for (unsigned i = 0; i < w->n; i++)
        say(&t, "%s%.*s: %s", i ? "; " : "", VIEW_ARG(c->links[w->attempt[i].link].name),
            words_of(&w->attempt[i]));
}

size_t chain_tell(const struct chain *c, const struct chain_walk *w, char out[CHAIN_TOLD])
{
    struct told t = {.out = out, .size = CHAIN_TOLD};
    *out = 0;
    for (unsigned i = 0; i < w->n; i++) {
        const struct attempt *a = &w->attempt[i];
        size_t before = t.n;
        say(&t, "%s%.*s;%s", i ? ", " : "", VIEW_ARG(c->links[a->link].name),
            chain_outcome(a->passed ? STATUS_COUNT + (unsigned)a->passed : a->why.status));
        if (!a->passed)
            say(&t, ";dur=%llu", (unsigned long long)(a->took_us + 500) / 1000);
        if (t.n == CHAIN_TOLD - 1)
            return before;
    }
    return t.n;
}
