#include "gateway/past.h"

#include "base/mem.h"

bool past_init(struct past *p, uint32_t n)
{
    *p = (struct past){.n = n};
    if (n == 0)
        return true;
    p->slot = mem_zalloc(n * sizeof(*p->slot));
    p->tail = mem_zalloc(n * sizeof(*p->tail));
    return p->slot && p->tail;
}

void past_deinit(struct past *p)
{
    mem_free(p->slot);
    mem_free(p->tail);
    *p = (struct past){0};
}

bool past_resize(struct past *p, uint32_t n)
{
    struct past now;
    if (n == p->n)
        return true;
    if (!past_init(&now, n)) {
        past_deinit(&now);
        return false;
    }
    now.added = p->added;
    past_deinit(p);
    *p = now;
    return true;
}

static uint32_t place_of(const struct past *p, uint64_t number)
{
    return (uint32_t)((number - 1) % p->n);
}

// Ids that clients make differ in their last bytes, where counters are, as well as random ones do.
static uint64_t tail_of(struct view id)
{
    uint64_t tail = 0;
    if (id.n >= sizeof(tail))
        memcpy(&tail, id.p + id.n - sizeof(tail), sizeof(tail));
    else if (id.n > 0)
        memcpy(&tail, id.p, id.n);
    return tail;
}

// Behind those before it, at `at`; returns where it ends.
static inline size_t put_text(struct past_request *r, unsigned word, size_t at, struct view text,
                              size_t most)
{
    size_t n = text.n < most ? text.n : most;
    if (n > 0)
        memcpy(r->text + at, text.p, n);
    r->end[word] = (uint16_t)(at + n);
    return at + n;
}

struct past_request *past_add(struct past *p, const struct view words[PAST_WORDS])
{
    uint32_t place = place_of(p, ++p->added);
    struct past_request *r = &p->slot[place];
    p->tail[place] = tail_of(words[PAST_WORD_ID]);
    r->number = p->added;
    size_t at = put_text(r, PAST_WORD_ID, 0, words[PAST_WORD_ID], PAST_ID);
    for (unsigned i = PAST_WORD_CLIENT; i < PAST_WORD_ATTEMPTS; i++)
        at = put_text(r, i, at, words[i], PAST_NAME);
    at = put_text(r, PAST_WORD_ATTEMPTS, at, words[PAST_WORD_ATTEMPTS], PAST_TRIED);
    put_text(r, PAST_WORD_WHY, at, words[PAST_WORD_WHY], PAST_TEXT - at);
    return r;
}

struct past_request *past_at(struct past *p, uint64_t number)
{
    struct past_request *r = p->n > 0 ? &p->slot[place_of(p, number)] : NULL;
    return r && r->number == number ? r : NULL;
}

const struct past_request *past_find(const struct past *p, struct view id)
{
    uint64_t tail = tail_of(id);
    uint64_t oldest = p->added > p->n ? p->added - p->n : 0;
    for (uint64_t number = p->added; number > oldest; number--) {
        uint32_t place = place_of(p, number);
        if (p->slot[place].number == number && p->tail[place] == tail &&
            view_eq(past_text(&p->slot[place], PAST_WORD_ID), id))
            return &p->slot[place];
    }
    return NULL;
}

struct view past_text(const struct past_request *r, enum past_word word)
{
    size_t start = word > 0 ? r->end[word - 1] : 0;
    return view_of(r->text + start, r->end[word] - start);
}
