/* batcher/policy_auto: the properties that the rule of `auto` has, of random summaries and of a played queue. */
#include "tests/unit/batcher_kit.h"

#include <math.h>
#include <stdlib.h>

#define NOW 800000000ull // a multiple of LANE_TICK_US
#define MOST 400

struct world { // a summary and what it was made of
    struct policy p;
    struct summary s;
    struct due_rows due[POLICY_LANES];
    uint64_t deadline[POLICY_LANES][MOST]; // of one row each, ascending
    struct rand rand;
};
static struct world w;

static uint64_t edge_us(unsigned i)
{
    uint64_t far = i - DUE_NEAR;
    uint64_t ticks = i < DUE_NEAR ? i + 1 : (DUE_FAR + far % DUE_FAR + 1) << (far / DUE_FAR + 1);
    return ticks * LANE_TICK_US;
}

static int by_time(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void fill_due(unsigned lane, uint32_t rows)
{
    struct due_rows *d = &w.due[lane];
    *d = (struct due_rows){.from_us = NOW};
    qsort(w.deadline[lane], rows, sizeof(uint64_t), by_time);
    for (unsigned i = 0, n = 0; i < DUE_EDGES; i++) {
        while (n < rows && w.deadline[lane][n] < NOW + edge_us(i))
            n++;
        d->rows[i] = n;
    }
    w.s.lane[lane] = (struct lane_rows){.rows = rows, .earliest_us = w.deadline[lane][0], .due = d};
}

static double below(double most)
{
    return most * rand_unit(&w.rand);
}

// Times of the device up to 30 ms; slack from none to plenty.
static void draw(uint64_t seed, unsigned lanes)
{
    rand_seed(&w.rand, seed);
    w.p = (struct policy){.kind = POLICY_AUTO,
                          .max_rows = 1 + (uint32_t)rand_below(&w.rand, 64),
                          .max_wait_us = rand_below(&w.rand, 3) ? UINT64_MAX : 5000};
    w.s = (struct summary){.oldest_us = NOW - rand_below(&w.rand, 5000),
                           .earliest_us = UINT64_MAX,
                           .n_lanes = lanes,
                           .trusted = true,
                           .alpha = 10 + below(10000),
                           .beta = below(300),
                           .high = 1 + below(0.3),
                           .trip_us = below(400),
                           .rate = below(0.1)};
    w.s.at = (struct outlook){.servers = 1 + (uint32_t)rand_below(&w.rand, 4), .idle = 1};
    double most_us = (w.s.alpha + 64 * w.s.beta) * (0.5 + below(8));
    for (unsigned i = 0; i < lanes; i++) {
        uint32_t rows = 1 + (uint32_t)rand_below(&w.rand, MOST - 1);
        for (uint32_t k = 0; k < rows; k++)
            w.deadline[i][k] = NOW + (uint64_t)below(most_us);
        fill_due(i, rows);
        w.s.rows += rows;
        if (w.s.lane[i].earliest_us < w.s.earliest_us)
            w.s.earliest_us = w.s.lane[i].earliest_us;
    }
}

static void draw_busy(void)
{
    w.s.at.idle = 0;
    w.s.at.in_flight = 1 + (uint32_t)rand_below(&w.rand, 2);
    w.s.at.running_rows = 1 + (uint32_t)rand_below(&w.rand, 64);
    w.s.at.free_us = NOW + rand_below(&w.rand, 3000);
}

static void draw_returns(void)
{
    w.s.returns.answered_us = NOW - rand_below(&w.rand, 2000);
    w.s.returns.answered = (uint32_t)rand_below(&w.rand, 65);
    w.s.returns.came = (uint32_t)rand_below(&w.rand, 20);
    for (unsigned i = 0; i < ARRIVALS_WINDOWS; i++)
        w.s.returns.back[i] = rand_unit(&w.rand);
}

static struct verdict decide(void)
{
    return policy_decide(&w.p, &w.s, NOW);
}

static double start_us(void)
{
    double there = NOW + w.s.trip_us / 2;
    return fmax(there, (double)w.s.at.free_us);
}

static double end_us(uint32_t b)
{
    return start_us() + w.s.high * (w.s.alpha + w.s.beta * b) + w.s.trip_us / 2;
}

static uint32_t least(uint64_t a, uint64_t b)
{
    return (uint32_t)(a < b ? a : b);
}

// Rows of the first lane with a deadline before that.
static uint32_t count_before(unsigned lane, double at)
{
    uint32_t n = 0;
    while (n < w.s.lane[lane].rows && (double)w.deadline[lane][n] < at)
        n++;
    return n;
}

// ---- 1: pure, and without a scale ----------------------------------------------------------------------

static void the_same_gives_the_same(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 500; seed++) {
        draw(seed, 1 + seed % 3);
        draw_returns();
        struct verdict a = decide(), b = decide();
        assert_memory_equal(&a, &b, sizeof(a));
    }
}

static uint64_t twice(uint64_t us)
{
    return us > NOW ? NOW + 2 * (us - NOW) : NOW - 2 * (NOW - us);
}

// All times are doubled. The edges of what is due double too beyond the near ones.
static void times_have_no_scale(void **state)
{
    (void)state;
    unsigned sized = 0;
    for (uint64_t seed = 1; seed <= 500; seed++) {
        draw(seed, 1);
        w.p.max_wait_us = UINT64_MAX;
        w.s.alpha = 10000 + floor(below(20000));
        w.s.high = 1;
        w.s.trip_us = 200;
        w.s.beta = floor(w.s.beta);
        uint32_t rows = w.s.lane[0].rows;
        for (uint32_t k = 0; k < rows; k++)
            w.deadline[0][k] = NOW + 8000 + (uint64_t)below(6 * w.s.alpha);
        fill_due(0, rows);
        w.s.earliest_us = w.s.lane[0].earliest_us;
        struct verdict a = decide();
        for (uint32_t k = 0; k < rows; k++)
            w.deadline[0][k] = twice(w.deadline[0][k]);
        fill_due(0, rows);
        w.s.earliest_us = w.s.lane[0].earliest_us;
        w.s.oldest_us = twice(w.s.oldest_us);
        w.s.alpha *= 2, w.s.beta *= 2, w.s.trip_us *= 2, w.s.rate /= 2;
        struct verdict b = decide();
        assert_int_equal(a.rows, b.rows);
        sized += a.rows > 0 && a.rows < least(rows, w.p.max_rows);
        if (a.rows == 0)
            assert_true(fabs((double)twice(a.wake_us) - (double)b.wake_us) <= 2);
        else if (a.drop_us[0] > 0)
            assert_true(fabs((double)twice(a.drop_us[0]) - (double)b.drop_us[0]) <= 2);
    }
    assert_true(sized > 50); // deadlines decided
}

// ---- 2, 3: who waits, and for how long -----------------------------------------------------------------

static void one_row(void)
{
    w.deadline[0][0] = NOW + 10000000;
    fill_due(0, 1);
    w.s.rows = 1;
    w.s.earliest_us = NOW + 10000000;
}

static void a_lone_row_goes_at_once(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 500; seed++) {
        draw(seed, 1);
        one_row();
        w.s.rate = 0.5 / (w.s.alpha + w.s.beta); // one at a time keeps up
        struct verdict v = decide();
        assert_int_equal(v.rows, 1);
        assert_int_equal(v.reason, w.p.max_rows == 1 ? BATCH_FULL : BATCH_IDLE);
    }
}

static void who_may_not_wait_does_not(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 1000; seed++) {
        draw(seed, 1 + seed % 3);
        draw_returns();
        w.p.max_wait_us = 0;
        assert_true(decide().rows > 0);
        assert_int_not_equal(decide().reason, BATCH_WAIT);
    }
}

static void rows_or_a_wake_to_come(void **state)
{
    (void)state;
    unsigned waits = 0;
    for (uint64_t seed = 1; seed <= 4000; seed++) {
        draw(seed, 1 + seed % 3);
        draw_returns();
        if (seed % 4 == 0)
            draw_busy();
        if (seed % 5 == 0)
            one_row(), w.s.n_lanes = 1;
        struct verdict v = decide();
        if (v.rows > 0) {
            assert_true(v.rows <= least(w.s.rows, w.p.max_rows));
            continue;
        }
        waits++;
        assert_true(v.wake_us > NOW);
        if (w.s.at.in_flight > 0)
            continue;
        double last = (double)w.s.earliest_us -
                      w.s.high * (w.s.alpha + w.s.beta * ((double)w.s.rows + 1)) - w.s.trip_us;
        assert_true((double)v.wake_us <= last + 1);
        if (w.s.at.servers > 1)
            assert_true((double)v.wake_us <=
                        (double)w.s.oldest_us + fmin(w.s.alpha, (double)w.p.max_wait_us) + 1);
    }
    assert_true(waits > 100);
}

static void what_goes_goes_later_too(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 1000; seed++) {
        draw(seed, 1);
        if (seed % 2)
            draw_busy();
        for (uint64_t at = NOW, gone = 0; at < NOW + 20000; at += 500) {
            struct verdict v = policy_decide(&w.p, &w.s, at);
            assert_true(v.rows > 0 || !gone);
            gone |= v.rows > 0;
        }
    }
}

// Of two servers the last free one waits for what the load needs, and no longer than alpha.
static void the_last_free_server_waits(void **state)
{
    (void)state;
    w.p = (struct policy){.kind = POLICY_AUTO, .max_rows = 32, .max_wait_us = UINT64_MAX};
    w.s = (struct summary){.rows = 3,
                           .oldest_us = NOW - 1000,
                           .n_lanes = 1,
                           .at = {.servers = 2, .idle = 1},
                           .trusted = true,
                           .alpha = 4000,
                           .beta = 250,
                           .high = 1,
                           .rate = 0.004}; // needs ceil(4000 * .002 / (1 - .5)) = 16
    for (unsigned i = 0; i < 3; i++)
        w.deadline[0][i] = NOW + 1000000;
    fill_due(0, 3);
    w.s.earliest_us = NOW + 1000000;
    assert_int_equal(decide().rows, 0);
    assert_int_equal(decide().wake_us, NOW + 3000);
    w.p.max_wait_us = 1500;
    assert_int_equal(decide().wake_us, NOW + 500);
    w.p.max_wait_us = 1000;
    assert_int_equal(decide().rows, 3);
    assert_int_equal(decide().reason, BATCH_WAIT);
    w.p.max_wait_us = UINT64_MAX;
    w.s.at.idle = 2; // another one stays free for who comes
    assert_int_equal(decide().rows, 3);
    w.s.at.idle = 1;
    w.s.at.servers = 1; // never for strangers
    assert_int_equal(decide().rows, 3);
    w.s.at.servers = 2;
    w.s.rate = 0.0005; // ceil(4000 * .00025 / (1 - .0625)) = 2
    assert_int_equal(decide().rows, 3);
    w.s.rate = 0.1; // more than full batches can serve
    assert_int_equal(decide().rows, 0);
    w.s.rate = 0.012; // more than any batch can
    assert_int_equal(decide().rows, 0);
    w.s.rate = 0.004;
    for (unsigned i = 3; i < 16; i++)
        w.deadline[0][i] = NOW + 1000000;
    fill_due(0, 15);
    w.s.rows = 15; // of the 16
    assert_int_equal(decide().rows, 0);
    fill_due(0, 16);
    w.s.rows = 16;
    assert_int_equal(decide().rows, 16);
    fill_due(0, 3);
    w.s.rows = 3;
    w.s.earliest_us = NOW + 7000; // last: less t(4) = 5000
    w.s.lane[0].earliest_us = NOW + 7000;
    assert_int_equal(decide().wake_us, NOW + 2000);
    w.s.earliest_us = NOW + 5000;
    w.s.lane[0].earliest_us = NOW + 5000;
    assert_int_equal(decide().rows, 3);
    assert_int_equal(decide().reason, BATCH_DEADLINE);
}

// Those that were just answered come back: three of four within 250 us.
static void a_single_server_waits_for_returns(void **state)
{
    (void)state;
    w.p = (struct policy){.kind = POLICY_AUTO, .max_rows = 32, .max_wait_us = UINT64_MAX};
    w.s = (struct summary){
        .rows = 1,
        .oldest_us = NOW - 20,
        .n_lanes = 1,
        .at = {.servers = 1, .idle = 1},
        .trusted = true,
        .alpha = 4000,
        .beta = 20,
        .high = 1,
        .trip_us = 100,
        .returns = {.answered_us = NOW - 50, .answered = 4, .came = 1, .back = {0.75, 0.75, 0.75}}};
    w.deadline[0][0] = w.s.earliest_us = NOW + 1000000;
    fill_due(0, 1);
    assert_int_equal(decide().rows, 0);
    assert_int_equal(decide().wake_us, NOW + 200); // 2 rows * 4000 > 1 row * 200
    w.p.max_wait_us = 120;                         // since the row came
    assert_int_equal(decide().wake_us, NOW + 100);
    w.p.max_wait_us = 21;
    assert_int_equal(decide().wake_us, NOW + 1);
    w.p.max_wait_us = UINT64_MAX;
    w.s.returns.came = 3; // all are here
    assert_int_equal(decide().rows, 1);
    w.s.returns.came = 1;
    w.s.at.servers = 2;
    assert_int_equal(decide().rows, 1);
    w.s.at.servers = 1;
    w.s.trip_us = 5000; // the way is longer than what is saved
    assert_int_equal(decide().rows, 1);
    w.s.trip_us = 100;
    struct verdict v = policy_decide(&w.p, &w.s, NOW + 950); // the last window is over
    assert_int_equal(v.rows, 1);
    assert_int_equal(v.reason, BATCH_WAIT);
    w.p.max_wait_us =
        1; // late by more than a timer may be, 250 us since the row came, it has waited
    assert_int_equal(policy_decide(&w.p, &w.s, NOW + 230).reason, BATCH_IDLE);
    assert_int_equal(policy_decide(&w.p, &w.s, NOW + 231).reason, BATCH_WAIT);
    w.p.max_wait_us = UINT64_MAX;
    w.s.returns.back[0] = w.s.returns.back[1] = 0; // they are slower
    assert_int_equal(decide().wake_us, NOW + 950);
    w.s.returns.back[0] = w.s.returns.back[1] = 0.75;
    w.p.max_rows = 1; // no room for them
    assert_int_equal(decide().rows, 1);
    // Behind a running batch of 8, whose clients come back when it is answered.
    w.p.max_rows = 32;
    w.s.at = (struct outlook){.servers = 1, .in_flight = 1, .running_rows = 8, .free_us = NOW + 90};
    assert_int_equal(decide().rows, 0);
    assert_int_equal(decide().wake_us, NOW + 350); // free, there and back, and a window of 250
    w.s.returns.back[0] = 0.08; // .64 of a row save 2560, and are worth 7 rows for 350
    w.s.returns.back[1] = w.s.returns.back[2] = 0;
    w.s.rows = 7;
    assert_int_equal(decide().wake_us, NOW + 350);
    w.s.rows = 8;
    assert_int_equal(decide().rows, 8);
    w.s.rows = 1;
    // The server is waited for from when a batch that goes now would find it free, or from when the row came.
    w.p.max_wait_us = 100;
    assert_int_equal(decide().wake_us, NOW + 140);
    w.s.at.free_us = NOW + 30;
    assert_int_equal(decide().wake_us, NOW + 100);
    w.s.at.free_us = NOW + 90;
    w.s.oldest_us = NOW + 45;
    assert_int_equal(decide().wake_us, NOW + 145);
}

// ---- 4, 8: one behind another --------------------------------------------------------------------------

static void behind_a_running_batch_just_in_time(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 500; seed++) {
        draw(seed, 1);
        draw_busy();
        uint64_t open_us =
            (uint64_t)ceil((double)w.s.at.free_us - w.s.trip_us / 2 - policy_lead_us(w.s.alpha));
        struct verdict v = decide();
        if (NOW < open_us) {
            assert_int_equal(v.rows, 0);
            assert_int_equal(v.wake_us, open_us);
            assert_false(policy_presses(&w.p, &w.s, NOW));
            assert_int_equal(policy_turn_us(&w.s, NOW), open_us);
            assert_int_equal(policy_turn_us(&w.s, open_us), 0);
        } else {
            assert_int_equal(policy_turn_us(&w.s, NOW), 0);
        }
        assert_int_equal(policy_decide(&w.p, &w.s, open_us - 1).rows, 0);
        assert_int_equal(policy_decide(&w.p, &w.s, open_us - 1).wake_us, open_us);
    }
}

// Nothing is there that anybody waits for, but what was recalled may still be computed.
static void behind_what_was_recalled(void **state)
{
    (void)state;
    w.s = (struct summary){.alpha = 1600, .trip_us = 200, .at = {.servers = 1, .free_us = NOW}};
    assert_int_equal(policy_turn_us(&w.s, NOW), 0);
    assert_int_equal(policy_turn_us(&w.s, NOW - 1), NOW); // not trusted: when it is over
    w.s.trusted = true;
    assert_int_equal(policy_turn_us(&w.s, NOW), 0);
    assert_int_equal(policy_turn_us(&w.s, NOW - 201), NOW - 200); // half a way, and a sixteenth
    assert_int_equal(policy_turn_us(&w.s, NOW - 200), 0);
    w.s.at.overtaken = true;
    assert_int_equal(policy_turn_us(&w.s, NOW - 5000), 0);
}

static void not_trusted_it_learns(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        draw(seed, 1);
        w.s.trusted = false;
        uint32_t most = least(w.s.rows, w.p.max_rows), size[3];
        for (w.s.sent = 30; w.s.sent < 33; w.s.sent++) {
            struct verdict v = decide();
            size[w.s.sent - 30] = v.rows;
            assert_true(v.rows >= 1 && v.drop_us[0] == 0);
            assert_false(policy_presses(&w.p, &w.s, NOW));
        }
        assert_int_equal(size[0], most);
        assert_int_equal(size[1], (most + 3) / 4);
        assert_int_equal(size[2], (most + 1) / 2);
        draw_busy();
        assert_int_equal(decide().rows, 0);
        assert_true(decide().wake_us == UINT64_MAX);
        assert_true(policy_turn_us(&w.s, NOW) == UINT64_MAX);
        w.s.at.in_flight = 1;
        w.s.at.free_us = 0; // it was expected to take no time
        assert_true(policy_turn_us(&w.s, NOW) == UINT64_MAX);
    }
}

// ---- 5: who is saved -----------------------------------------------------------------------------------

// To what rounding to an edge may do: it says late of what has so little more.
static double tolerance(double at)
{
    return LANE_TICK_US + (at - NOW) / 31;
}

static void who_goes_can_make_it(void **state)
{
    (void)state;
    unsigned dropping = 0, sized = 0;
    for (uint64_t seed = 1; seed <= 4000; seed++) {
        draw(seed, 1);
        if (seed % 3 == 0)
            draw_busy();
        struct verdict v = decide();
        if (v.rows == 0)
            continue;
        uint32_t lost = count_before(0, end_us(1)), dropped = count_before(0, (double)v.drop_us[0]);
        double end = end_us(v.rows);
        if (lost < w.s.lane[0].rows && v.rows < w.s.rows)
            sized++;
        if (v.drop_us[0] == 0) {
            assert_true(lost == 0 || due_late(&w.due[0], end_us(1)) == w.s.lane[0].rows);
            if (lost == 0) // nobody is made late but within an edge of the last moment for one
                assert_true(count_before(0, end) <=
                            count_before(0, end_us(1) + tolerance(end_us(1))));
            continue;
        }
        dropping++;
        assert_true(dropped < w.s.lane[0].rows); // never empty
        bool harmless = v.drop_us[0] == (uint64_t)ceil(end_us(1));
        if (harmless)
            assert_int_equal(dropped, lost); // exactly those that are late at end(1)
        else
            assert_true(w.s.lane[0].rows - dropped >= v.rows); // so many are left to make it
    }
    assert_true(dropping > 300 && sized > 300);
}

// t(b) = alpha + beta b, and so many rows of each deadline, on one server that is free.
static struct verdict decide_rows(double alpha, double beta, uint32_t max_rows, uint32_t first,
                                  uint64_t first_us, uint32_t rest)
{
    w.p = (struct policy){.kind = POLICY_AUTO, .max_rows = max_rows};
    w.s = (struct summary){.rows = first + rest,
                           .oldest_us = NOW,
                           .earliest_us = NOW + first_us,
                           .n_lanes = 1,
                           .at = {.servers = 1, .idle = 1},
                           .trusted = true,
                           .alpha = alpha,
                           .beta = beta,
                           .high = 1};
    for (uint32_t i = 0; i < first + rest; i++)
        w.deadline[0][i] = NOW + (i < first ? first_us : 100000);
    fill_due(0, first + rest);
    return decide();
}

// Two rows can make it in a batch of two and in no larger one; the six behind them have time for full batches.
static void who_can_be_saved_without_harm_is(void **state)
{
    (void)state;
    struct verdict v = decide_rows(1000, 100, 4, 2, 1250, 6);
    assert_int_equal(v.rows, 2);
    assert_true(v.drop_us[0] == 0);
}

// A row can make it alone, and not with another.
static void who_can_make_it_alone_goes_alone(void **state)
{
    (void)state;
    struct verdict v = decide_rows(1000, 200, 8, 1, 1300, 1);
    assert_int_equal(v.rows, 1);
    assert_true(v.drop_us[0] == 0);
    v = decide_rows(1000, 200, 8, 1, 1000, 1); // not even alone
    assert_int_equal(v.drop_us[0], NOW + 1200);
}

// Two rows that a larger batch would make late, four with plenty of time and four that are due in last_us.
static struct verdict decide_between(uint32_t servers, uint64_t last_us)
{
    decide_rows(1000, 100, 4, 2, 1250, 8);
    w.s.at = (struct outlook){.servers = servers, .idle = servers};
    for (uint32_t i = 2; i < 10; i++)
        w.deadline[0][i] = NOW + last_us - (i < 6 ? 125 : 0);
    fill_due(0, 10);
    return decide();
}

// Two rows take 1200 and four 1400: behind the two the last four are answered after 4000, or by two servers after
// 600 + 700 + 1400.
static void who_is_saved_costs_nobody_behind(void **state)
{
    (void)state;
    static const struct {
        uint32_t servers;
        uint64_t last_us;
        uint32_t rows;
    } rows[] = {{1, 4250, 2}, {1, 3875, 4}, {2, 2875, 2}, {2, 2500, 4}};
    for (unsigned i = 0; i < 4; i++) {
        struct verdict v = decide_between(rows[i].servers, rows[i].last_us);
        assert_int_equal(v.rows, rows[i].rows);
        assert_int_equal(v.drop_us[0], v.rows == 2 ? 0 : NOW + 1400); // the two are given up
    }
}

// Two rows are due shortly after a batch of so many: no smaller one is sent, and no larger one.
static void a_batch_grows_until_somebody_is_late(void **state)
{
    (void)state;
    for (uint32_t rows = 2; rows < 8; rows++) {
        struct verdict v = decide_rows(1000, 500, 8, 2, 1250 + 500 * rows, 14);
        assert_int_equal(v.rows, rows);
        assert_true(v.drop_us[0] == 0);
    }
}

// Two rows can each make it alone, and neither behind the other: the batch is as large as there are others to fill it.
static void who_is_dropped_makes_room_for_all_the_others(void **state)
{
    (void)state;
    for (uint32_t others = 2; others <= 8; others++) {
        struct verdict v = decide_rows(1000, 200, 8, 2, 1300, others);
        assert_int_equal(v.rows, others);
        assert_int_equal(v.drop_us[0], NOW + 1000 + 200 * others);
    }
}

// The lowest lane makes nobody late of any that is higher: four rows take 3000, five 3500.
static void every_higher_lane_is_spared(void **state)
{
    (void)state;
    for (unsigned hurried = 0; hurried < 2; hurried++) {
        decide_rows(1000, 500, 16, 1, 100000, 0);
        w.s.n_lanes = 3;
        for (unsigned lane = 0; lane < 3; lane++) {
            uint32_t rows = lane < 2 ? 1 : 10;
            for (uint32_t i = 0; i < rows; i++)
                w.deadline[lane][i] = NOW + (lane == hurried ? 3250 : 100000);
            fill_due(lane, rows);
        }
        w.s.rows = 12;
        w.s.earliest_us = NOW + 3250;
        struct verdict v = decide();
        assert_int_equal(v.rows, 4);
        assert_int_equal(v.reason, BATCH_DEADLINE);
        assert_true(v.drop_us[0] + v.drop_us[1] + v.drop_us[2] == 0);
    }
}

// Behind a running batch there is time for a wait, but three rows would be late together: it cannot grow, and goes.
static void what_a_deadline_keeps_small_does_not_wait(void **state)
{
    (void)state;
    decide_rows(32000, 1200, 32, 2, 37250, 1);
    w.p.max_wait_us = UINT64_MAX;
    w.s.at =
        (struct outlook){.servers = 1, .in_flight = 1, .running_rows = 8, .free_us = NOW + 2000};
    w.s.returns = (struct returns){.answered_us = NOW - 50, .back = {1, 1, 1}};
    struct verdict v = decide();
    assert_int_equal(v.rows, 2); // there and done after 36400, three after 37600
    assert_int_equal(v.reason, BATCH_DEADLINE);
}

static void without_a_deadline_nobody_is_dropped(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        draw(seed, 1);
        for (uint32_t k = 0; k < w.s.rows; k++)
            w.deadline[0][k] = UINT64_MAX - 1;
        fill_due(0, w.s.lane[0].rows);
        w.s.earliest_us = w.s.lane[0].earliest_us;
        w.s.at.idle = w.s.at.servers;
        struct verdict v = decide();
        assert_false(policy_presses(&w.p, &w.s, NOW));
        assert_int_equal(v.rows, least(w.s.rows, w.p.max_rows));
        assert_true(v.drop_us[0] == 0);
    }
}

// ---- 6: overload that lasts ----------------------------------------------------------------------------

// Rows come evenly at twice what full batches carry, each with D of time. The mean batch stays near the largest that
// is filled in time.
static double mean_batch(double alpha, double beta, uint32_t max_rows, double slack)
{
    double rate = 2 * max_rows / (alpha + beta * max_rows), free = NOW;
    double first = 0, taken = 0, batches = 0; // rows by number; number n comes at n / rate
    rand_seed(&w.rand, 1);
    w.p = (struct policy){.kind = POLICY_AUTO, .max_rows = max_rows};
    for (unsigned i = 0; i < 400; i++) {
        double came = floor((free - NOW) * rate);
        double hopeless = (free - NOW + alpha + beta - slack) * rate; // R7
        first = fmax(first, ceil(hopeless));
        uint32_t rows = (uint32_t)fmin(fmax(came - first, 1), MOST);
        w.s = (struct summary){.rows = rows, .n_lanes = 1, .trusted = true, .high = 1};
        w.s.at = (struct outlook){.servers = 1, .idle = 1};
        w.s.alpha = alpha, w.s.beta = beta, w.s.rate = rate;
        w.s.oldest_us = NOW;
        for (uint32_t k = 0; k < rows; k++) // moved to NOW
            w.deadline[0][k] = (uint64_t)((first + k) / rate + slack - (free - NOW) + NOW);
        fill_due(0, rows);
        w.s.earliest_us = w.s.lane[0].earliest_us;
        struct verdict v = decide();
        first += count_before(0, (double)v.drop_us[0]) + v.rows;
        free += alpha + beta * v.rows;
        taken += i >= 100 ? v.rows : 0;
        batches += i >= 100;
    }
    return taken / batches;
}

static void overload_does_not_shrink_batches(void **state)
{
    (void)state;
    static const struct {
        double alpha, beta;
        uint32_t max_rows;
        double slack;
    } rows[] = {{1000, 20, 64, 3050}, {4000, 250, 32, 11125}, {20000, 1000, 32, 53000}};
    for (unsigned i = 0; i < 3; i++) {
        double rate = 2 * rows[i].max_rows / (rows[i].alpha + rows[i].beta * rows[i].max_rows);
        double best = floor((rows[i].slack - rows[i].alpha) / (rows[i].beta + 1 / rate));
        best = fmin(best, rows[i].max_rows);
        double mean = mean_batch(rows[i].alpha, rows[i].beta, rows[i].max_rows, rows[i].slack);
        if (mean < 0.75 * best)
            fail_msg("row %u: a mean of %.1f rows, %.1f can be filled in time", i, mean, best);
    }
}

// ---- 7: more is not less -------------------------------------------------------------------------------

static void more_slack_never_lowers_it(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 1000; seed++) {
        draw(seed, 1);
        w.p.max_wait_us = 0;
        // One deadline for all: only so is what is saved a matter of size alone.
        uint64_t slack = 500 + rand_below(&w.rand, 40000);
        uint32_t before = 0;
        for (unsigned i = 0; i < 8; i++, slack += slack / 3) {
            for (uint32_t k = 0; k < w.s.rows; k++)
                w.deadline[0][k] = NOW + slack;
            fill_due(0, w.s.lane[0].rows);
            w.s.earliest_us = NOW + slack;
            struct verdict v = decide();
            bool any = (double)NOW + (double)slack > end_us(1) + tolerance(end_us(1));
            assert_true(!any || v.rows >= before);
            before = any ? v.rows : 0;
        }
    }
}

static void a_row_more_never_lowers_it(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        draw(seed, 1);
        w.p.max_wait_us = 0;
        for (uint32_t k = 0; k < MOST; k++)
            w.deadline[0][k] = NOW + 100000000;
        uint32_t before = 0;
        for (uint32_t n = 1; n <= 130; n++) {
            fill_due(0, n);
            w.s.rows = n;
            w.s.earliest_us = NOW + 100000000;
            struct verdict v = decide();
            assert_true(v.rows >= before);
            before = v.rows;
        }
    }
}

// What the first lane is given is the same, whoever stands below.
static void a_higher_lane_decides_alone(void **state)
{
    (void)state;
    unsigned filled = 0, bounded = 0;
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        draw(seed, 3);
        w.p.max_wait_us = 0;
        if (seed % 2) { // the first one is small enough to leave room
            for (uint32_t k = 0; k < 5; k++)
                w.deadline[0][k] = NOW + (uint64_t)(1.2 * (w.s.alpha + 20 * w.s.beta)) + 700 * k;
            fill_due(0, 5);
        }
        w.s.rows = w.s.lane[0].rows + w.s.lane[1].rows + w.s.lane[2].rows;
        w.s.earliest_us = w.deadline[0][0];
        for (unsigned i = 1; i < 3; i++) {
            if (w.deadline[i][0] < w.s.earliest_us)
                w.s.earliest_us = w.deadline[i][0];
        }
        struct verdict all = decide();
        struct summary s = w.s;
        w.s.n_lanes = 1;
        w.s.rows = w.s.lane[0].rows;
        w.s.earliest_us = w.deadline[0][0];
        struct verdict one = decide();
        assert_int_equal(all.drop_us[0], one.drop_us[0]);
        assert_int_equal(least(all.rows, s.lane[0].rows), one.rows);
        assert_true(all.rows == one.rows || one.rows == w.s.lane[0].rows);
        if (all.rows == one.rows)
            continue;
        filled++;
        // Nobody of the first lane is made late by what fills up.
        if (policy_presses(&w.p, &s, NOW))
            assert_true(count_before(0, end_us(all.rows)) <= due_late(&w.due[0], end_us(one.rows)));
        bounded += all.rows < least(s.rows, w.p.max_rows);
    }
    assert_true(filled > 100 && bounded > 20);
}

// ---- what comes back, and how much comes ---------------------------------------------------------------

static void the_rate_is_right_from_its_start(void **state)
{
    (void)state;
    struct arrivals a = {0};
    assert_true(arrivals_rate(&a, 1000, NOW) == 0);
    for (unsigned i = 1; i <= 2000; i++) {
        arrivals_came(&a, 2, NOW + 10 * i);
        double rate = arrivals_rate(&a, 5000, NOW + 10 * i);
        assert_true(i < 3 || fabs(rate - 0.2) < 0.001); // long before tau is over
    }
    for (unsigned i = 1; i <= 100; i++)
        arrivals_rate(&a, 5000, NOW + 20000 + 50 * i);
    assert_true(fabs(arrivals_rate(&a, 5000, NOW + 25000) - 0.2 * exp(-1)) < 0.003);
    assert_true(arrivals_rate(&a, 5000, NOW + 25000) == arrivals_rate(&a, 5000, NOW + 24000));
}

static void a_window_is_measured_to_its_end(void **state)
{
    (void)state;
    struct arrivals a = {0};
    double alpha = 1600; // windows of 100, 200, 400
    arrivals_answered(&a, 10, 0, NOW);
    assert_false(a.measuring); // before t is known
    arrivals_answered(&a, 10, alpha, NOW);
    arrivals_came(&a, 4, NOW + 50);
    assert_int_equal(a.returns.came, 4);
    arrivals_answered(&a, 3, alpha, NOW + 120); // does not end it
    assert_true(a.returns.came == 0 && a.returns.answered == 3);
    assert_true(a.returns.answered_us == NOW + 120);
    arrivals_came(&a, 2, NOW + 150);
    arrivals_answered(&a, 3, alpha, NOW + 300); // nor when two windows of three are over
    assert_int_equal(a.of_rows, 10);
    arrivals_came(&a, 60, NOW + 399);
    arrivals_came(&a, 60, NOW + 400);
    assert_true(a.returns.back[2] == 0);
    arrivals_answered(&a, 5, alpha, NOW + 400);
    assert_true(fabs(a.returns.back[0] - 0.04) < 1e-9); // a tenth of the way to 0.4
    assert_true(fabs(a.returns.back[1] - 0.06) < 1e-9);
    assert_true(fabs(a.returns.back[2] - 0.10) < 1e-9); // above one is one
    assert_true(a.measuring && a.until_us[0] == NOW + 500 && a.of_rows == 5);
    assert_int_equal(a.seen[0] + a.seen[1] + a.seen[2], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_gives_the_same),
        cmocka_unit_test(times_have_no_scale),
        cmocka_unit_test(a_lone_row_goes_at_once),
        cmocka_unit_test(who_may_not_wait_does_not),
        cmocka_unit_test(rows_or_a_wake_to_come),
        cmocka_unit_test(what_goes_goes_later_too),
        cmocka_unit_test(the_last_free_server_waits),
        cmocka_unit_test(a_single_server_waits_for_returns),
        cmocka_unit_test(behind_a_running_batch_just_in_time),
        cmocka_unit_test(behind_what_was_recalled),
        cmocka_unit_test(not_trusted_it_learns),
        cmocka_unit_test(who_goes_can_make_it),
        cmocka_unit_test(who_can_be_saved_without_harm_is),
        cmocka_unit_test(who_can_make_it_alone_goes_alone),
        cmocka_unit_test(who_is_saved_costs_nobody_behind),
        cmocka_unit_test(a_batch_grows_until_somebody_is_late),
        cmocka_unit_test(who_is_dropped_makes_room_for_all_the_others),
        cmocka_unit_test(every_higher_lane_is_spared),
        cmocka_unit_test(what_a_deadline_keeps_small_does_not_wait),
        cmocka_unit_test(without_a_deadline_nobody_is_dropped),
        cmocka_unit_test(overload_does_not_shrink_batches),
        cmocka_unit_test(more_slack_never_lowers_it),
        cmocka_unit_test(a_row_more_never_lowers_it),
        cmocka_unit_test(a_higher_lane_decides_alone),
        cmocka_unit_test(the_rate_is_right_from_its_start),
        cmocka_unit_test(a_window_is_measured_to_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
