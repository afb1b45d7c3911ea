/* A desk with what it needs, for tests of the router. Its effects are looked at, not run. */
#ifndef SLUICE_TESTS_UNIT_ROUTER_KIT_H
#define SLUICE_TESTS_UNIT_ROUTER_KIT_H

#include "infer/oip_grpc.h"
#include "router/desk.h"
#include "router/replicas.h"
#include "tests/unit/batcher_kit.h"

#include <stdlib.h>

#define NOW 5000000ull
#define FAR (NOW + 1000000)
#define GUESTS 400

struct office {
    struct table *table;
    struct model *model;
    struct desk *desk;
    struct effects fx;
    struct block_owner *blocks;
    struct guest guest[GUESTS];
    unsigned n;
    unsigned read;  // effects that were looked at
    unsigned given; // of those before it the blocks were given back
    int64_t memory;
};

static struct office office;

static inline void office_open(const struct model_rules *rules)
{
    arena_thread_done();
    office.memory = mem_live();
    office.n = office.read = office.given = 0;
    office.table = table_new(2);
    office.model = table_add(office.table, VIEW("m"), rules);
    office.desk = desk_new(office.model, 1, 1, NOW);
    office.blocks = aligned_alloc(64, (sizeof(*office.blocks) + 63) & ~(size_t)63);
    block_owner_init(office.blocks);
    block_owner_adopt(office.blocks);
    effects_init(&office.fx, office.blocks);
}

static inline void give_back(void)
{
    for (; office.given < office.fx.n; office.given++) {
        if (office.fx.at[office.given].kind == FX_UNREF)
            block_unref(office.fx.at[office.given].block);
    }
}

static inline void office_close(void)
{
    give_back();
    for (unsigned i = 0; i < office.n; i++) {
        if (office.guest[i].ticket.error.block)
            block_unref(office.guest[i].ticket.error.block);
    }
    desk_free(office.desk);
    effects_deinit(&office.fx);
    block_owner_deinit(office.blocks);
    free(office.blocks);
    table_free(office.table);
    arena_thread_done();
    assert_int_equal(mem_live(), office.memory);
}

static inline void up(uint32_t id, uint32_t max_batch, const char *version, uint64_t now_us)
{
    struct replica_facts facts = {.max_batch = max_batch, .metadata = {1, 1}, .n_versions = 1};
    struct view only = view_str(version);
    facts.versions = &only;
    desk_on_replica_up(office.desk, id, &facts, now_us, &office.fx);
}

static inline struct guest *lend_at(uint32_t rows, const char *version, uint64_t deadline_us,
                                    uint64_t now_us)
{
    struct guest *g = &office.guest[office.n++];
    guest_init(g, rows, 1, deadline_us);
    g->ticket.to = (struct target){office.model, VIEW("m"), view_str(version)};
    g->ticket.key = ticket_key(&g->request, g->ticket.to.version);
    g->ticket.lend.from = 0;
    desk_on_ticket(office.desk, &g->ticket, now_us, &office.fx);
    return g;
}

static inline struct guest *lend(uint32_t rows)
{
    return lend_at(rows, "", FAR, NOW);
}

static inline void run(uint64_t now_us)
{
    desk_run(office.desk, now_us, &office.fx);
}

// The next effect of that kind that nobody has looked at yet; what stands before it is skipped.
static inline struct fx *next_fx(enum fx_kind kind)
{
    while (office.read < office.fx.n) {
        struct fx *f = &office.fx.at[office.read++];
        if (f->kind == kind)
            return f;
    }
    return NULL;
}

static inline struct batch *sent(void) // the next batch that was dispatched
{
    struct fx *f = next_fx(FX_DISPATCH);
    return f ? f->batch : NULL;
}

static inline void forget(void) // whatever was wanted up to here
{
    office.read = office.fx.n;
}

static inline unsigned count_fx(enum fx_kind kind)
{
    unsigned n = 0;
    for (unsigned i = office.read; i < office.fx.n; i++)
        n += office.fx.at[i].kind == kind;
    return n;
}

// a of the only note of that kind since; -1: none.
static inline int64_t noted(enum note_kind kind)
{
    int64_t a = -1;
    for (unsigned i = office.read; i < office.fx.n; i++) {
        if (office.fx.at[i].kind != FX_NOTE || office.fx.at[i].note.kind != kind)
            continue;
        assert_int_equal(a, -1);
        assert_ptr_equal(office.fx.at[i].note.model, office.model);
        if (kind != NOTE_BATCH && kind != NOTE_DONE && kind != NOTE_POISON &&
            kind != NOTE_WRONG_SHAPE)
            assert_int_equal(office.fx.at[i].note.b, 0);
        a = (int64_t)office.fx.at[i].note.a;
    }
    return a;
}

// How often it was posted back since; its status is checked.
static inline unsigned back(const struct guest *g, enum status status)
{
    unsigned n = 0;
    for (unsigned i = office.read; i < office.fx.n; i++) {
        const struct fx *f = &office.fx.at[i];
        if (f->kind != FX_POST || f->msg != &g->ticket.lend)
            continue;
        assert_int_equal(f->msg->kind, MSG_BACK);
        assert_int_equal(f->msg->to, 0);
        assert_int_equal(f->msg->from, 1);
        assert_int_equal(g->ticket.error.status, status);
        assert_int_equal(g->ticket.place, PLACE_NONE);
        assert_null(g->ticket.batch);
        n++;
    }
    return n;
}

static inline void answer(struct batch *b, uint64_t now_us, uint64_t compute_us, uint32_t rows)
{
    struct block *block = block_new(office.blocks, rows * 8);
    struct tensor t = {.name = VIEW("y"),
                       .dtype = DT_UINT64,
                       .rank = 1,
                       .shape = {rows},
                       .data = block->data,
                       .bytes = rows * 8};
    uint64_t *out = (uint64_t *)block->data;
    for (uint32_t i = 0; i < rows; i++)
        out[i] = i;
    struct answer *a = answer_new(block, &t, 1, rows);
    a->compute_us = compute_us;
    desk_on_answer(office.desk, b, a, now_us, &office.fx);
    give_back();
}

static const struct failure so_it_says = {.status = STATUS_INTERNAL, .text = "so it says"};

static inline void end(struct batch *b, enum seen seen, uint64_t now_us)
{
    bool says = seen == SEEN_STATUS || seen == SEEN_WRONG;
    desk_on_end(office.desk, b,
                &(struct batch_end){.seen = seen, .error = says ? &so_it_says : NULL}, now_us,
                &office.fx);
}

// Its call ends with this status of the worker.
static inline void end_as(struct batch *b, enum status status, uint64_t now_us)
{
    desk_on_end(office.desk, b,
                &(struct batch_end){.seen = SEEN_STATUS, .error = FAILED(status, "so it says")},
                now_us, &office.fx);
}

// Nothing more is tried for those aboard.
static inline void give_up(struct batch *b, uint64_t now_us)
{
    desk_on_end(office.desk, b, &(struct batch_end){.seen = SEEN_RECALLED, .error = &so_it_says},
                now_us, &office.fx);
}

#endif
