#include "gateway/past.h"

#include "base/hash.h"
#include "base/mem.h"

bool past_init(struct past *p, uint32_t n)
{
    *p = (struct past){.n = n};
    if (n == 0)
        return true;
    p->slot = mem_zalloc(n * sizeof(*p->slot));
    p->hash = mem_zalloc(n * sizeof(*p->hash));
    return p->slot && p->hash;
}

void past_deinit(struct past *p)
{
    mem_free(p->slot);
    mem_free(p->hash);
    *p = (struct past){0};
}

static uint32_t place_of(const struct past *p, uint64_t number)
{
    return (uint32_t)((number - 1) % p->n);
}

static uint32_t hash_of(struct view id)
{
    return (uint32_t)hash64(id, 0);
}

struct past_request *past_add(struct past *p, struct view id)
{
    uint32_t place = place_of(p, ++p->added);
    struct past_request *r = &p->slot[place];
    p->hash[place] = hash_of(id);
    r->number = p->added;
    past_put(r, PAST_WORD_ID, id);
    return r;
}

struct past_request *past_at(struct past *p, uint64_t number)
{
    struct past_request *r = &p->slot[place_of(p, number)];
    return r->number == number ? r : NULL;
}

const struct past_request *past_find(const struct past *p, struct view id)
{
    uint32_t hash = hash_of(id);
    uint64_t oldest = p->added > p->n ? p->added - p->n : 0;
    for (uint64_t number = p->added; number > oldest; number--) {
        uint32_t place = place_of(p, number);
        if (p->hash[place] == hash && view_eq(past_text(&p->slot[place], PAST_WORD_ID), id))
            return &p->slot[place];
    }
    return NULL;
}

void past_put(struct past_request *r, enum past_word word, struct view text)
{
    static const uint16_t most[PAST_WORDS] = {PAST_ID,   PAST_NAME, PAST_NAME,
                                              PAST_NAME, PAST_NAME, PAST_TEXT};
    size_t start = word > 0 ? r->end[word - 1] : 0, room = PAST_TEXT - start;
    size_t n = text.n < most[word] ? text.n : most[word];
    if (n > room)
        n = room;
    if (n > 0)
        memcpy(r->text + start, text.p, n);
    for (unsigned i = word; i < PAST_WORDS; i++) // those that are left out begin and end here
        r->end[i] = (uint16_t)(start + n);
}

struct view past_text(const struct past_request *r, enum past_word word)
{
    size_t start = word > 0 ? r->end[word - 1] : 0;
    return view_of(r->text + start, r->end[word] - start);
}
