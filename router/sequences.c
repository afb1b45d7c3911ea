#include "router/sequences.h"

#include "base/mem.h"

void sequences_free(struct sequences *s)
{
    mem_free(s->at);
    s->at = NULL;
}

static struct sequence_place *find_place(struct sequences *s, uint64_t id)
{
    for (unsigned i = 0; s->at && i < SEQUENCES_WAYS; i++) {
        struct sequence_place *p = &s->at[(id + i) % SEQUENCES_MOST];
        if (p->id == id)
            return p;
    }
    return NULL;
}

// A free place, else the one that was idle longest. NULL: out of memory.
static struct sequence_place *make_place(struct sequences *s, uint64_t id)
{
    if (!s->at)
        s->at = mem_zalloc(SEQUENCES_MOST * sizeof(*s->at));
    if (!s->at)
        return NULL;
    struct sequence_place *best = &s->at[id % SEQUENCES_MOST];
    for (unsigned i = 1; i < SEQUENCES_WAYS && best->id != 0; i++) {
        struct sequence_place *p = &s->at[(id + i) % SEQUENCES_MOST];
        if (p->id == 0 || p->used_us < best->used_us)
            best = p;
    }
    *best = (struct sequence_place){.id = id};
    return best;
}

static bool fits(const struct replica *r, const struct target *to)
{
    return r->up && r->standing != STANDING_OPEN && replica_has(r, to->version);
}

// Of the lowest class the highest hash of (sequence, replica): a replica that comes or goes moves only the sequences that it must
// (Thaler, Ravishankar: "A Name-Based Mapping Scheme for Rendezvous", 1996).
static struct replica *by_hash(struct replicas *rs, const struct ticket *t)
{
    struct replica *best = NULL;
    uint64_t highest = 0;
    for (unsigned i = 0; i < rs->n; i++) {
        struct replica *r = &rs->at[i];
        uint64_t hash = hash64(view_of(&r->id, sizeof(r->id)), t->request->sequence_id);
        bool same = best && r->facts.rank == best->facts.rank;
        if (fits(r, &t->to) &&
            (!best || r->facts.rank < best->facts.rank || (same && hash > highest))) {
            best = r;
            highest = hash;
        }
    }
    return best;
}

struct replica *sequences_choose(struct sequences *s, struct replicas *rs, const struct ticket *t,
                                 uint64_t now_us, bool *gone)
{
    const struct infer_request *q = t->request;
    struct sequence_place *p = find_place(s, q->sequence_id);
    struct replica *r = p ? replicas_find(rs, p->replica) : NULL;
    bool kept = r && fits(r, &t->to) && r->facts.incarnation == p->incarnation;
    *gone = p && !kept && !q->sequence_start;
    if (*gone) {
        p->id = 0;
        return NULL;
    }
    if (!kept)
        r = by_hash(rs, t);
    if (r && !p)
        p = make_place(s, q->sequence_id);
    if (r && p)
        *p = (struct sequence_place){.id = q->sequence_end ? 0 : q->sequence_id,
                                     .replica = r->id,
                                     .incarnation = r->facts.incarnation,
                                     .used_us = now_us};
    return r;
}
