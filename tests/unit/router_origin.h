/* A flow with what it needs, and infers for it; its effects are looked at, not run. */
#ifndef SLUICE_TESTS_UNIT_ROUTER_ORIGIN_H
#define SLUICE_TESTS_UNIT_ROUTER_ORIGIN_H

#include "tests/unit/batcher_kit.h"

#include "infer/oip_grpc.h"
#include "router/flow.h"
#include "router/retry.h"
#include <stdlib.h>

#define NOW 5000000ull
#define LOOP 3

struct world {
    struct table *table;
    struct model *model;
    struct flow flow;
    struct effects fx;
    struct block_owner *blocks;
    struct infer in[8];
    struct arena arena; // of the infers
    unsigned n;
};
static struct world w;

static inline int setup(void **state)
{
    (void)state;
    static const struct flow_rules rules = {.deadline_us = 1000000, .deadline_max_us = 5000000};
    static const struct model_rules of_model = {.queue_rows = 10, .queue_bytes = 1000};
    memset(&w, 0, sizeof(w));
    w.blocks = aligned_alloc(64, (sizeof(*w.blocks) + 63) & ~(size_t)63);
    block_owner_init(w.blocks);
    block_owner_adopt(w.blocks);
    w.table = table_new(2);
    w.model = table_add(w.table, VIEW("m"), &of_model);
    effects_init(&w.fx, w.blocks);
    arena_init(&w.arena, 0);
    flow_init(&w.flow, LOOP, w.table, &rules, 7, NOW);
    return 0;
}

// The effects so far have been run.
static inline void forget(void)
{
    for (unsigned i = 0; i < w.fx.n; i++) {
        if (w.fx.at[i].kind == FX_UNREF)
            block_unref(w.fx.at[i].block);
    }
    w.fx.n = 0;
}

static inline int teardown(void **state)
{
    (void)state;
    assert_int_equal(atomic_load(&w.model->room_rows), 0);
    assert_int_equal(atomic_load(&w.model->room_bytes), 0);
    assert_int_equal(w.flow.n_live + w.flow.n_zombies, 0);
    assert_null(w.flow.live);
    flow_deinit(&w.flow);
    forget();
    effects_deinit(&w.fx);
    arena_deinit(&w.arena);
    block_owner_deinit(w.blocks);
    free(w.blocks);
    table_free(w.table);
    return 0;
}

static inline struct infer *make(uint32_t rows)
{
    struct infer *in = &w.in[w.n++];
    *in = (struct infer){.arrived_us = NOW, .arena = &w.arena};
    in->request =
        (struct infer_request){.model = VIEW("m"), .rows = rows, .bytes = 10 * rows, .priority = 1};
    return in;
}

static inline struct infer *submit(struct infer *in)
{
    forget();
    flow_submit(&w.flow, in, NOW, &w.fx);
    return in;
}

static inline unsigned count(enum fx_kind kind, const struct infer *in)
{
    unsigned n = 0;
    for (unsigned i = 0; i < w.fx.n; i++)
        n += w.fx.at[i].kind == kind && (!in || w.fx.at[i].infer == in);
    return n;
}

static inline const struct msg *posted(unsigned kind)
{
    const struct msg *m = NULL;
    for (unsigned i = 0; i < w.fx.n; i++) {
        if (w.fx.at[i].kind == FX_POST && w.fx.at[i].msg->kind == kind) {
            assert_null(m);
            m = w.fx.at[i].msg;
            assert_int_equal(m->from, LOOP);
            assert_int_equal(m->to, w.model->home);
        }
    }
    return m;
}

// Told when to come again, or not.
static inline void comes_back_later(const struct infer *in, bool told)
{
    assert_int_equal(in->retry_after_ms > 0, told);
    assert_true(in->retry_after_ms <= RETRY_UNKNOWN_US / 1000 * 3 / 2);
}

// Refused at once, and over: told why, and of no cost to anybody.
static inline void refused(struct infer *in, enum status status)
{
    assert_int_equal(in->error.status, status);
    assert_int_equal(count(FX_SETTLE, in), 1);
    assert_int_equal(count(FX_RELEASE, in), 1);
    assert_int_equal(count(FX_POST, NULL) + count(FX_WAKE, NULL), 0);
    assert_int_equal(in->state, INFER_OVER);
    assert_int_equal(in->step.first.charged_rows, 0);
    comes_back_later(in, status == STATUS_UNAVAILABLE);
}

static inline void home(struct infer *in, enum status status)
{
    forget();
    in->step.first.error.status = status;
    flow_on_back(&w.flow, &in->step.first, NOW, &w.fx);
}

#endif
