/* router/level: the table, row by row; then worlds of random signals: one step at a time, each held, nothing skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/rand.h"
#include "router/level.h"

#define S 1000000ull
#define ENTER 150
#define LEAVE 120

static const struct level_rules rules = {.enter = ENTER, .leave = LEAVE, .hold_us = 5 * S};
static struct level_state at;
static uint64_t now_us;

static const struct level_signals well = {.strain = 10,
                                          .ready = 4,
                                          .known = 4,
                                          .share_ppm = 1000000,
                                          .alternatives = true,
                                          .rest = LEVEL_REST_ROOM};

static int begin(void **state)
{
    (void)state;
    at = (struct level_state){0};
    now_us = 100 * S;
    return 0;
}

// So long it is as g says, looked at every tenth of a second; the moves.
static unsigned pass(const struct level_signals *g, uint64_t us)
{
    unsigned moves = 0;
    for (uint64_t end_us = now_us + us; now_us < end_us; now_us += S / 10)
        moves += level_step(&at, &rules, g, now_us);
    return moves;
}

static void expect_level(enum level level, enum level_cause cause)
{
    assert_int_equal(at.level, level);
    assert_string_equal(level_cause_name[at.cause], level_cause_name[cause]);
}

static void healthy(void **state)
{
    (void)state;
    assert_int_equal(pass(&well, 60 * S), 0);
    assert_false(level_unsettled(&at));
    struct level_signals g = well; // between leaving and entering
    g.strain = ENTER;
    assert_int_equal(pass(&g, 60 * S), 0);
}

static void latency(void **state)
{
    (void)state;
    struct level_signals g = well;
    g.strain = ENTER + 1;
    assert_int_equal(pass(&g, 5 * S), 0);
    assert_true(level_unsettled(&at));
    assert_int_equal(pass(&g, S / 10), 1);
    expect_level(LEVEL_LATENCY, LEVEL_CAUSE_STRAIN);
    g.strain = LEAVE + 1; // better, and not good
    assert_int_equal(pass(&g, 60 * S), 0);
    g.strain = LEAVE;
    assert_int_equal(pass(&g, 10 * S), 0);
    assert_int_equal(pass(&g, S / 10), 1);
    expect_level(LEVEL_HEALTHY, LEVEL_CAUSE_CALM);
}

// It is counted from the first microsecond of a clock.
static void unsettled(void **state)
{
    (void)state;
    struct level_signals late = well, few = well;
    late.strain = ENTER + 1;
    few.share_ppm = LEVEL_SHARE_LOW - 1;
    assert_false(level_step(&at, &rules, &late, 1));
    assert_true(level_unsettled(&at));
    assert_true(level_step(&at, &rules, &late, 1 + rules.hold_us));
    at = (struct level_state){0};
    assert_false(level_step(&at, &rules, &few, 1));
    assert_true(level_unsettled(&at));
    few.share_ppm = LEVEL_SHARE_BACK - 1; // the gap
    assert_false(level_step(&at, &rules, &few, 2));
    assert_int_equal(at.short_us, 1);
    assert_true(level_step(&at, &rules, &few, 1 + rules.hold_us));
    at = (struct level_state){.level = LEVEL_LATENCY};
    assert_true(level_unsettled(&at)); // one day it comes down
    struct level_signals none = well;
    none.ready = 0;
    at = (struct level_state){0};
    assert_true(level_step(&at, &rules, &none, 1));
    assert_false(level_step(&at, &rules, &none, rules.hold_us)); // L2
    assert_true(level_step(&at, &rules, &none, 1 + rules.hold_us));
}

static void a_hiccup(void **state)
{
    (void)state;
    struct level_signals g = well;
    g.strain = 1000;
    assert_int_equal(pass(&g, 4 * S), 0);
    assert_int_equal(pass(&well, S), 0);
    assert_int_equal(pass(&g, 4 * S), 0);
}

static void a_replica_is_lost(void **state)
{
    (void)state;
    struct level_signals g = well;
    g.ready = 3;
    assert_int_equal(pass(&g, S / 10), 1); // at once
    expect_level(LEVEL_LATENCY, LEVEL_CAUSE_LOST);
    assert_int_equal(pass(&g, 4 * S), 0);
    assert_int_equal(pass(&g, 60 * S), 1);
    expect_level(LEVEL_CAPACITY, LEVEL_CAUSE_LOST);
    assert_int_equal(pass(&well, S / 10), 1);
    expect_level(LEVEL_LATENCY, LEVEL_CAUSE_CAPACITY);
    assert_int_equal(pass(&well, 5 * S), 1); // it has been calm for long
    expect_level(LEVEL_HEALTHY, LEVEL_CAUSE_CALM);
}

static void over_capacity(void **state)
{
    (void)state;
    struct level_signals g = well;
    g.share_ppm = LEVEL_SHARE_LOW - 1;
    assert_int_equal(pass(&g, 5 * S), 0);
    assert_int_equal(pass(&g, 60 * S), 2);
    expect_level(LEVEL_CAPACITY, LEVEL_CAUSE_SHORT);
    g.share_ppm = LEVEL_SHARE_BACK - 1; // the gap
    assert_int_equal(pass(&g, 60 * S), 0);
    g.share_ppm = LEVEL_SHARE_BACK;
    assert_int_equal(pass(&g, S / 10), 1);
    expect_level(LEVEL_LATENCY, LEVEL_CAUSE_CAPACITY);
    g.share_ppm = LEVEL_SHARE_LOW; // enough
    assert_int_equal(pass(&g, 60 * S), 1);
    expect_level(LEVEL_HEALTHY, LEVEL_CAUSE_CALM);
    g.known = g.ready = 1; // of one alone, too
    g.share_ppm = LEVEL_SHARE_LOW - 1;
    assert_int_equal(pass(&g, 60 * S), 2);
    expect_level(LEVEL_CAPACITY, LEVEL_CAUSE_SHORT);
}

static void most_are_lost(void **state)
{
    (void)state;
    struct level_signals g = well;
    g.ready = 1;
    assert_int_equal(pass(&g, 60 * S), 3);
    expect_level(LEVEL_PARTIAL, LEVEL_CAUSE_MOST);
    g.ready = 2;
    assert_int_equal(pass(&g, 60 * S), 1);
    expect_level(LEVEL_CAPACITY, LEVEL_CAUSE_CAPACITY);
    g.known = 5; // three of five
    assert_int_equal(pass(&g, 60 * S), 1);
    expect_level(LEVEL_PARTIAL, LEVEL_CAUSE_MOST);
}

// All are back, and are not enough: it stays until it is known for how long.
static void back_and_short(void **state)
{
    (void)state;
    struct level_signals g = well;
    g.ready = 3;
    assert_int_equal(pass(&g, 60 * S), 2);
    expect_level(LEVEL_CAPACITY, LEVEL_CAUSE_LOST);
    g.ready = 4;
    g.share_ppm = LEVEL_SHARE_LOW - 1;
    assert_int_equal(pass(&g, 60 * S), 0);
    assert_int_equal(pass(&well, S / 10), 1);
    expect_level(LEVEL_LATENCY, LEVEL_CAUSE_CAPACITY);
}

static void the_rest_is_full(void **state)
{
    (void)state;
    struct level_signals g = well;
    g.share_ppm = 500000;
    g.rest = LEVEL_REST_FULL;
    assert_int_equal(pass(&g, 60 * S), 3);
    expect_level(LEVEL_PARTIAL, LEVEL_CAUSE_REST);
    g.rest = LEVEL_REST_ROOM;
    assert_int_equal(pass(&g, 60 * S), 1);
    expect_level(LEVEL_CAPACITY, LEVEL_CAUSE_CAPACITY);
}

static void outage(void **state)
{
    (void)state;
    struct level_signals g = well;
    g.ready = 0;
    g.rest = LEVEL_REST_NONE;
    assert_int_equal(pass(&g, 60 * S), 4);
    expect_level(LEVEL_OUTAGE, LEVEL_CAUSE_NOBODY);
    g.ready = 1;
    assert_int_equal(pass(&g, S / 10), 1);
    expect_level(LEVEL_PARTIAL, LEVEL_CAUSE_SOMEBODY);
    g.ready = 0;
    assert_int_equal(pass(&g, 60 * S), 1);
    assert_int_equal(pass(&well, S / 10), 1); // all is back: straight
    expect_level(LEVEL_HEALTHY, LEVEL_CAUSE_ALL);
    g.ready = 0;
    assert_int_equal(pass(&g, 4 * S), 0); // and held
    for (unsigned late = 0; late < 2; late++) {
        struct level_signals back = well;
        back.strain = ENTER + late; // straight, unless answers come late
        begin(NULL);
        assert_int_equal(pass(&g, 60 * S), 4);
        assert_int_equal(pass(&back, S / 10), 1);
        expect_level(late ? LEVEL_PARTIAL : LEVEL_HEALTHY,
                     late ? LEVEL_CAUSE_SOMEBODY : LEVEL_CAUSE_ALL);
    }
}

// Its chain can answer while none of its replicas can.
static void others_answer(void **state)
{
    (void)state;
    struct level_signals g = well;
    g.ready = 0;
    assert_int_equal(pass(&g, 60 * S), 3);
    expect_level(LEVEL_PARTIAL, LEVEL_CAUSE_MOST);
}

static void without_alternatives(void **state)
{
    (void)state;
    struct level_signals g = well;
    g.alternatives = false;
    g.rest = LEVEL_REST_NONE;
    g.ready = 1;
    g.share_ppm = 300000;
    assert_int_equal(pass(&g, 60 * S), 0); // there is nothing that it could do
    g.ready = 0;
    assert_int_equal(pass(&g, 5 * S), 1);
    expect_level(LEVEL_LATENCY, LEVEL_CAUSE_NOBODY);
    assert_int_equal(pass(&g, 60 * S), 1);
    expect_level(LEVEL_OUTAGE, LEVEL_CAUSE_NOBODY);
    g.ready = 1;
    assert_int_equal(pass(&g, 5 * S), 1);
    expect_level(LEVEL_LATENCY, LEVEL_CAUSE_SOMEBODY);
}

// A reload takes its chain away while it stands where only one with a chain can.
static void alternatives_go(void **state)
{
    (void)state;
    struct level_signals g = well;
    g.ready = 3;
    assert_int_equal(pass(&g, 60 * S), 2);
    g.alternatives = false;
    g.rest = LEVEL_REST_NONE;
    assert_int_equal(pass(&g, S / 10), 1);
    expect_level(LEVEL_LATENCY, LEVEL_CAUSE_CAPACITY);
    at.level = LEVEL_PARTIAL;
    assert_int_equal(pass(&g, 6 * S), 1);
    expect_level(LEVEL_LATENCY, LEVEL_CAUSE_CAPACITY);
    at.level = LEVEL_CAPACITY;
    g.ready = 0;
    assert_int_equal(pass(&g, 6 * S), 1);
    expect_level(LEVEL_OUTAGE, LEVEL_CAUSE_NOBODY);
}

static void never_served(void **state)
{
    (void)state;
    struct level_signals g = {.share_ppm = 0};
    assert_int_equal(pass(&g, 60 * S), 0);
    assert_false(level_unsettled(&at)); // time alone changes nothing
}

static void switched_off(void **state)
{
    (void)state;
    struct level_rules off = rules;
    struct level_signals g = well;
    off.off = true;
    g.ready = 1;
    assert_int_equal(pass(&g, 60 * S), 3);
    assert_true(level_step(&at, &off, &g, now_us));
    expect_level(LEVEL_HEALTHY, LEVEL_CAUSE_RULES);
    for (unsigned i = 0; i < 100; i++)
        assert_false(level_step(&at, &off, &g, now_us += S));
}

// Whatever it does around the threshold, once in a hold and no more.
static void a_signal_that_oscillates(void **state)
{
    (void)state;
    struct level_signals g = well;
    unsigned moves = 0, periods = 0;
    for (uint64_t half_us = S / 10; half_us < 40 * S; half_us += half_us / 3) {
        begin(NULL);
        uint64_t last_us = 0;
        moves = 0;
        periods++;
        for (uint64_t t = 0; t < 400 * S; t += S / 10) {
            g.strain = t / half_us % 2 ? ENTER + 1 : LEAVE - 1;
            g.ready = t / half_us % 2 ? 1 : 4;
            if (!level_step(&at, &rules, &g, now_us + t))
                continue;
            assert_true(last_us == 0 || t - last_us >= rules.hold_us);
            last_us = t;
            moves++;
        }
        assert_true(moves <= 400 / 5 + 1);
    }
    assert_true(periods > 10 && moves > 0);
}

static bool neighbours(enum level a, enum level b, bool alternatives)
{
    if (a == LEVEL_OUTAGE && b == LEVEL_HEALTHY)
        return true;
    if (alternatives)
        return a + 1 == b || b + 1 == a;
    return (a + b == LEVEL_LATENCY + LEVEL_OUTAGE && a != b) || a + b == LEVEL_LATENCY;
}

static void random_signals(struct rand *r, struct level_signals *g)
{
    if (rand_below(r, 4) == 0)
        g->strain = rand_below(r, 2 * ENTER);
    if (rand_below(r, 4) == 0)
        g->ready = (uint32_t)rand_below(r, g->known + 1);
    if (rand_below(r, 4) == 0)
        g->share_ppm = 1000000 - (uint32_t)rand_below(r, 200000);
    if (rand_below(r, 8) == 0)
        g->rest = g->alternatives ? (enum level_rest)rand_below(r, 3) : LEVEL_REST_NONE;
}

// Why it may be where it has come to, by the table alone.
static bool explained(enum level to, enum level from, const struct level_signals *g)
{
    if (to < from)
        return to > LEVEL_HEALTHY || from == LEVEL_OUTAGE || g->strain <= LEAVE;
    bool out = g->ready == 0 && g->rest == LEVEL_REST_NONE;
    bool lost = g->ready < g->known, low = g->share_ppm < LEVEL_SHARE_BACK;
    switch (to) {
    case LEVEL_LATENCY:
        return out || g->strain > ENTER || (g->alternatives && (lost || low));
    case LEVEL_CAPACITY:
        return out || lost || low;
    case LEVEL_PARTIAL:
        return out || 2 * g->ready < g->known || (low && g->rest != LEVEL_REST_ROOM);
    default:
        return out;
    }
}

static void worlds(void **state)
{
    (void)state;
    struct rand r;
    unsigned reached[LEVELS] = {0}, straight = 0;
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        rand_seed(&r, seed);
        begin(NULL);
        struct level_signals g = well;
        struct level_rules k = rules;
        k.hold_us = 1 + rand_below(&r, 10 * S);
        g.alternatives = rand_below(&r, 2);
        g.rest = g.alternatives ? LEVEL_REST_ROOM : LEVEL_REST_NONE;
        g.known = 1 + (uint32_t)rand_below(&r, 6);
        g.ready = g.known;
        enum level was = at.level;
        uint64_t moved_us = 0;
        for (unsigned i = 0; i < 600; i++, now_us += 1 + rand_below(&r, S)) {
            random_signals(&r, &g);
            if (!level_step(&at, &k, &g, now_us)) {
                assert_int_equal(at.level, was);
                continue;
            }
            enum level is = at.level;
            if (!neighbours(was, is, g.alternatives))
                fail_msg("seed %llu: from %d to %d", (unsigned long long)seed, was, is);
            assert_true(moved_us == 0 || now_us - moved_us >= k.hold_us);
            if (!explained(is, was, &g))
                fail_msg("seed %llu: %d to %d, ready %u of %u, share %u, strain %llu, rest %d",
                         (unsigned long long)seed, was, is, g.ready, g.known, g.share_ppm,
                         (unsigned long long)g.strain, (int)g.rest);
            straight += was == LEVEL_OUTAGE && is == LEVEL_HEALTHY;
            reached[is]++;
            was = is;
            moved_us = now_us;
        }
        g = (struct level_signals){.ready = g.known,
                                   .known = g.known,
                                   .share_ppm = 1000000,
                                   .alternatives = g.alternatives,
                                   .rest = LEVEL_REST_ROOM};
        for (unsigned i = 0; i < 600; i++, now_us += S) // healed, it comes home
            level_step(&at, &k, &g, now_us);
        assert_int_equal(at.level, LEVEL_HEALTHY);
        assert_false(level_unsettled(&at));
    }
    for (unsigned i = 0; i < LEVELS; i++)
        assert_true(reached[i] > 100);
    assert_true(straight > 10);
}

#define T(f) cmocka_unit_test_setup(f, begin)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(healthy),          T(latency),
        T(a_hiccup),         T(a_replica_is_lost),
        T(over_capacity),    T(most_are_lost),
        T(the_rest_is_full), T(outage),
        T(others_answer),    T(without_alternatives),
        T(alternatives_go),  T(never_served),
        T(switched_off),     T(a_signal_that_oscillates),
        T(worlds),           T(unsettled),
        T(back_and_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
