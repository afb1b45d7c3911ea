/* A desk with one worker, for tests of what becomes of a batch, and of those aboard, however its call ends. A test is
 * LOCAL, with a worker whose processes the keeper knows, or REMOTE. */
#ifndef SLUICE_TESTS_UNIT_ROUTER_WORKER_H
#define SLUICE_TESTS_UNIT_ROUTER_WORKER_H

#include "tests/unit/router_kit.h"

static const struct model_rules rules = {.max_rows = 8,
                                         .pipeline = 2,
                                         .deadline_us = 5000000,
                                         .queue_bytes = 1 << 20,
                                         .grace_us = 50000};

static struct worker_vitals vitals[2];

// Replicas 1 and 2 take batches of 4; they are the local processes 101 and 102, unless the test says another.
static inline void up_local(uint32_t id, uint32_t incarnation)
{
    struct replica_facts f = {.max_batch = 4,
                              .metadata = {1, 1},
                              .versions = &(struct view){"1", 1},
                              .n_versions = 1,
                              .incarnation = incarnation,
                              .vitals = &vitals[id - 1]};
    desk_on_replica_up(office.desk, id, &f, NOW, &office.fx);
}

static inline int local_worker(void **state)
{
    (void)state;
    memset(vitals, 0, sizeof(vitals));
    office_open(&rules);
    up_local(1, 101);
    forget();
    return 0;
}

// Replica 7 takes batches of 8.
static inline int remote_worker(void **state)
{
    (void)state;
    office_open(&rules);
    up(7, 8, "1", NOW);
    forget();
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    office_close();
    return 0;
}

#define LOCAL(f) cmocka_unit_test_setup_teardown(f, local_worker, teardown)
#define REMOTE(f) cmocka_unit_test_setup_teardown(f, remote_worker, teardown)

// Who waits goes.
static inline void drop_guests(uint64_t now_us)
{
    for (unsigned i = 0; i < office.n; i++) {
        struct guest *g = &office.guest[i];
        if (g->ticket.place == PLACE_QUEUED) {
            g->ticket.cancel.from = 0;
            desk_on_cancel(office.desk, &g->ticket, now_us, &office.fx);
        }
    }
}

static inline struct replica *replica(uint32_t id)
{
    return replicas_find(&office.desk->replicas, id);
}

static inline struct batch *send_one(uint64_t now_us)
{
    lend_at(1, "", now_us + 1000000, now_us);
    run(now_us);
    return sent();
}

static inline void answer_one(struct batch *b, uint64_t now_us)
{
    struct ticket *t = b->tickets[0];
    answer(b, now_us, 0, 1);
    block_unref(t->slice.answer->block);
}

// Its connection ends, by us or by itself.
static inline void lose(struct batch *b, bool ours, uint64_t now_us)
{
    desk_on_end(office.desk, b, &(struct batch_end){.seen = SEEN_LOST, .ours = ours}, now_us,
                &office.fx);
}

// Sends whatever waits, one batch after the other, and fails each that has the guilty one aboard.
static inline unsigned halve(const struct guest *guilty, uint64_t now_us)
{
    unsigned calls = 0;
    for (;;) {
        run(now_us);
        struct batch *b = sent();
        if (!b)
            return calls;
        calls++;
        bool bad = false;
        for (uint32_t i = 0; i < b->n; i++)
            bad |= b->tickets[i] == &guilty->ticket;
        if (bad)
            end(b, SEEN_STATUS, now_us);
        else
            answer(b, now_us, 0, b->rows);
    }
}

#endif
