/* router/trial_sums: sums and their fields; flushes to a store that is away, loses answers, and goes back: each is added once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rand.h"
#include "router/trial_sums.h"

static struct trial_sums some(uint64_t k)
{
    struct trial_sums s = {.requests = 10 * k,
                           .ended = 9 * k,
                           .errors = 2 * k,
                           .answers = 7 * k,
                           .fallbacks = k,
                           .settled = 8 * k,
                           .gained = 1500000 * k,
                           .took_us = 1000 * k};
    s.took[0] = k;
    s.took[HIST_BUCKETS - 1] = 4 * k;
    *trial_sums_reward(&s, VIEW("click")) = (struct stats_sum){2 * k, 0.5 * (double)k, 0.25};
    *trial_sums_reward(&s, VIEW("loss")) = (struct stats_sum){k, -3e11 * (double)k, 1e24};
    s.rewards[0].of.squares *= (double)k;
    s.rewards[1].of.squares *= (double)k;
    return s;
}

static void assert_sums(const struct trial_sums *a, const struct trial_sums *b)
{
    assert_memory_equal(a, b, sizeof(*a));
}

// The fields of a text, taken as a store gives them.
static void take_text(struct trial_sums *into, struct view text)
{
    char copy[1024], *rest = copy;
    assert_true(text.n < sizeof(copy));
    memcpy(copy, text.p, text.n);
    copy[text.n] = '\0';
    for (char *name; (name = strsep(&rest, " ")) && *name;)
        assert_true(trial_sums_take(into, view_str(name), view_str(strsep(&rest, " "))));
}

static void sums_add_up(void **state)
{
    (void)state;
    struct trial_sums a = some(1), b = some(3), c = some(4), out;
    trial_sums_since(&out, &c, &a);
    assert_sums(&out, &b);
    trial_sums_add(&a, &b);
    assert_sums(&a, &c);
    assert_true(trial_sums_is_zero(&(struct trial_sums){0}) && !trial_sums_is_zero(&a));
    assert_false(trial_sums_is_zero(&(struct trial_sums){.settled = 1}));
    // Less than it was in anything: counted anew.
    b.requests = 1000;
    b.errors = 1;
    trial_sums_since(&out, &b, &a);
    assert_sums(&out, &b);
}

// By name, in whatever order each has them; one that was not there before has had none.
static void rewards_add_up_by_name(void **state)
{
    (void)state;
    struct trial_sums a = {0}, b = {0}, out;
    *trial_sums_reward(&a, VIEW("x")) = (struct stats_sum){1, 2, 4};
    *trial_sums_reward(&b, VIEW("y")) = (struct stats_sum){5, -1, 3};
    *trial_sums_reward(&b, VIEW("x")) = (struct stats_sum){3, 1, 9};
    trial_sums_since(&out, &b, &a);
    assert_memory_equal(trial_sums_reward(&out, VIEW("y")), &b.rewards[0].of,
                        sizeof(struct stats_sum));
    struct stats_sum less = {2, -1, 5}, both = {4, 3, 13};
    assert_memory_equal(trial_sums_reward(&out, VIEW("x")), &less, sizeof(less));
    trial_sums_add(&a, &b);
    assert_int_equal(a.n_rewards, 2);
    assert_memory_equal(trial_sums_reward(&a, VIEW("x")), &both, sizeof(both));
    assert_false(trial_sums_is_zero(&a));
    // Fewer of them than there were, or none of that name any more: counted anew.
    trial_sums_since(&out, &b, &a);
    assert_sums(&out, &b);
    trial_sums_since(&out, &(struct trial_sums){.requests = 1}, &a);
    assert_true(out.requests == 1 && out.n_rewards == 0);
    // No more names than there is room for, none that is too long; what is there stays.
    char name[TRIAL_SUMS_NAME + 1] = "";
    memset(name, 'n', TRIAL_SUMS_NAME);
    assert_null(trial_sums_reward(&a, view_str(name)));
    for (unsigned i = 2; i < TRIAL_SUMS_REWARDS; i++)
        assert_non_null(trial_sums_reward(&a, view_of(name, i)));
    assert_null(trial_sums_reward(&a, VIEW("z")));
    *trial_sums_reward(&out, VIEW("z")) = less;
    trial_sums_add(&a, &out);
    assert_int_equal(a.n_rewards, TRIAL_SUMS_REWARDS);
}

static void as_fields(void **state)
{
    (void)state;
    struct trial_sums a = some(7), b = {0};
    struct buffer text;
    buffer_init(&text);
    assert_true(trial_sums_write(&text, &(struct trial_sums){0}));
    assert_int_equal(buffer_len(&text), 0);
    assert_true(trial_sums_write(&text, &a));
    trial_sums_reward(&b, VIEW("click"));
    trial_sums_reward(&b, VIEW("loss"));
    take_text(&b, buffer_view(&text));
    assert_sums(&a, &b);
    buffer_deinit(&text);
}

static void hostile_fields(void **state)
{
    (void)state;
    static const struct {
        const char *field, *value;
    } rows[] = {{"requests", "-1"},
                {"requests", "1.5"},
                {"requests", ""},
                {"requests", "1 "},
                {"Requests", "1"},
                {"", "1"},
                {"requests", "18446744073709551616"},
                {"b", "1"},
                {"b594", "1"},
                {"b-1", "1"},
                {"b18446744073709551617", "1"},
                {"b1", "x"},
                {"c1", "1"},
                {"rewards:other", "1"},
                {"rewards:", "1"},
                {"rewards:click", "-1"},
                {"rewards:click", "1.5"},
                {"rewards:click ", "1"},
                {"reward_sum:click", "nan"},
                {"reward_sum:click", "inf"},
                {"reward_sum:click", "1e309"},
                {"reward_sum:click", "0x10"},
                {"reward_sum:click", ""},
                {"reward_sum:clic", "1"},
                {"reward_squares:click", "-0.5"}};
    struct trial_sums s = {0}, zero = {0};
    trial_sums_reward(&s, VIEW("click"));
    trial_sums_reward(&zero, VIEW("click"));
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (trial_sums_take(&s, view_str(rows[i].field), view_str(rows[i].value)))
            fail_msg("taken: %s %s", rows[i].field, rows[i].value);
    assert_sums(&s, &zero);
    assert_true(trial_sums_take(&s, VIEW("requests"), VIEW("18446744073709551615")));
    assert_false(trial_sums_take(&s, VIEW("requests"), VIEW("1")));
    assert_true(trial_sums_take(&s, VIEW("reward_sum:click"), VIEW("1.7e308")));
    assert_false(trial_sums_take(&s, VIEW("reward_sum:click"), VIEW("1.7e308")));
    assert_true(trial_sums_take(&s, VIEW("reward_sum:click"), VIEW("-1.7e308")));
    assert_true(s.rewards[0].of.sum == 0);
}

// ---- flushes -----------------------------------------------------------------------------------------

struct shop { // the store's side: what its script does
    uint64_t last, sum;
};

enum answer { ADDED, GAP, UNKNOWN };

static enum answer add(struct shop *s, uint64_t number, bool forced, uint64_t n)
{
    if (number <= s->last)
        return ADDED;
    if (number > s->last + 1 && !forced)
        return GAP;
    s->last = number;
    s->sum += n;
    return ADDED;
}

static uint64_t value_of(const struct trial_flush *f)
{
    struct trial_sums s = {0};
    take_text(&s, buffer_view(&f->text));
    return s.requests;
}

// Everything that can happen between the two, at random: answers and questions get lost, the store goes back by a few flushes
// (all of them remembered), or, when `far`, by more.
static void run(uint64_t seed, bool far)
{
    struct rand dice;
    struct trial_flushes f;
    struct shop store = {0}, past[64] = {{0}};
    uint64_t told = 0, lost = 0, waits = 0;
    rand_seed(&dice, seed);
    trial_flushes_init(&f);
    for (unsigned step = 0; step < 600 || !trial_flushes_are_added(&f) || waits; step++) {
        bool calm = step >= 500;
        uint64_t came = step < 600 ? rand_below(&dice, 50) : 0;
        told += came;
        waits += came;
        assert_true(step < 1000);
        if (!calm && store.last > 0 && rand_below(&dice, 20) == 0) {
            uint64_t most = FLUSH_KEPT - 1; // the next one takes a place, too
            uint64_t least = !far && f.newest > most ? f.newest - most : 0;
            uint64_t back = rand_below(&dice, 40);
            uint64_t to = back < store.last ? store.last - back : 0;
            to = to > least ? to : least;
            store = past[(to < store.last ? to : store.last) % 64];
        }
        if (trial_flushes_are_added(&f) && waits) {
            struct trial_sums s = {.requests = waits};
            assert_true(trial_sums_write(&trial_flushes_make(&f)->text, &s));
            waits = 0;
        }
        struct trial_flush *flush = trial_flushes_send(&f);
        if (!flush)
            continue;
        assert_null(trial_flushes_send(&f)); // F1
        uint64_t way = calm ? 3 : rand_below(&dice, 4);
        enum answer said =
            way == 0 ? UNKNOWN : add(&store, flush->number, f.forced, value_of(flush));
        past[store.last % 64] = store;
        if (said == UNKNOWN || way == 1)
            trial_flushes_unsent(&f);
        else if (said == GAP)
            lost += trial_flushes_gap(&f, store.last);
        else
            trial_flushes_added(&f);
    }
    if (!far)
        assert_int_equal(lost, 0);
    if (lost == 0)
        assert_int_equal(store.sum, told);
    else
        assert_true(store.sum < told);
    trial_flushes_deinit(&f);
}

static void each_is_added_once(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 400; seed++)
        run(seed, false);
}

static void what_is_lost_is_known(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 400; seed++)
        run(seed, true);
}

static void one_that_was_not_made(void **state)
{
    (void)state;
    struct trial_flushes f;
    trial_flushes_init(&f);
    trial_flushes_make(&f);
    trial_flushes_unmake(&f);
    assert_null(trial_flushes_send(&f));
    assert_true(trial_flushes_are_added(&f));
    assert_int_equal(trial_flushes_make(&f)->number, 1);
    assert_int_equal(trial_flushes_send(&f)->number, 1);
    trial_flushes_deinit(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_add_up),
        cmocka_unit_test(rewards_add_up_by_name),
        cmocka_unit_test(as_fields),
        cmocka_unit_test(hostile_fields),
        cmocka_unit_test(each_is_added_once),
        cmocka_unit_test(what_is_lost_is_known),
        cmocka_unit_test(one_that_was_not_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
