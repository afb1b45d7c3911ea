/* router/experiment: who has which bucket, and what moves; draws; layers, holdouts, targets. router/force: signed words.
 * SLUICE_EXPERIMENT_KEYS=N: so many keys where uniformity is measured (1,000,000). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/hash.h"
#include "base/rand.h"
#include "router/experiment.h"
#include "router/force.h"

#define PERCENT 10000u
#define HISTORY 24

static struct rand dice;

// ---- buckets -----------------------------------------------------------------------------------------

static uint64_t least_moved(const uint32_t *was, const uint32_t *is, unsigned n)
{
    uint64_t ppm = 0;
    for (unsigned i = 0; i < n; i++)
        ppm += is[i] > was[i] ? is[i] - was[i] : 0;
    return ppm * BUCKETS / EXPERIMENT_WHOLE;
}

// Exactly: how many buckets are another's.
static uint64_t moved(const struct buckets *a, const struct buckets *b)
{
    uint64_t sum = 0, from = 0;
    for (unsigned i = 0, k = 0; i < a->n && k < b->n;) {
        uint64_t to = a->last[i] < b->last[k] ? a->last[i] : b->last[k];
        sum += a->of[i] != b->of[k] ? to + 1 - from : 0;
        from = to + 1;
        i += a->last[i] == to;
        k += b->last[k] == to;
    }
    return sum;
}

// Within a thousandth, and what rounding to whole buckets takes.
static void assert_least(uint64_t did, uint64_t least, unsigned n)
{
    if (did > least + least / 1000 + 2 * n)
        fail_msg("%llu buckets moved, %llu have to", (unsigned long long)did,
                 (unsigned long long)least);
}

static void assert_sound(const struct buckets *b, const uint32_t *weights, unsigned n)
{
    assert_int_equal(b->last[b->n - 1], UINT32_MAX);
    for (unsigned i = 1; i < b->n; i++) {
        assert_true(b->last[i - 1] < b->last[i]);
        assert_int_not_equal(b->of[i - 1], b->of[i]);
    }
    for (unsigned i = 0; i < n; i++) {
        uint64_t due = (uint64_t)weights[i] * BUCKETS / EXPERIMENT_WHOLE, has = buckets_of(b, i);
        assert_true(has <= due + 1 && has + 1 >= due);
    }
}

static void draw_weights(uint32_t *weights, unsigned n)
{
    uint32_t left = EXPERIMENT_WHOLE;
    for (unsigned i = 0; i + 1 < n; i++) {
        weights[i] = rand_below(&dice, 4) ? (uint32_t)rand_below(&dice, left + 1) : 0;
        left -= weights[i];
    }
    weights[n - 1] = left;
    for (unsigned i = n; i > 1; i--) { // the last one is not always what is left
        unsigned k = (unsigned)rand_below(&dice, i);
        uint32_t w = weights[k];
        weights[k] = weights[i - 1];
        weights[i - 1] = w;
    }
}

static void a_change_moves_the_least(void **state)
{
    (void)state;
    rand_seed(&dice, 7);
    for (unsigned round = 0; round < 400; round++) {
        unsigned n = round % 2 ? 4 : 2 + (unsigned)rand_below(&dice, EXPERIMENT_VARIANTS - 1);
        uint32_t was[EXPERIMENT_VARIANTS] = {EXPERIMENT_WHOLE}, is[EXPERIMENT_VARIANTS];
        struct buckets now, before;
        buckets_init(&now);
        for (unsigned change = 0; change < (n > 8 ? 4 : HISTORY); change++) {
            before = now;
            draw_weights(is, n);
            assert_true(buckets_change(&now, is, n));
            assert_sound(&now, is, n);
            assert_least(moved(&before, &now), least_moved(was, is, n), n);
            memcpy(was, is, sizeof(was));
        }
    }
}

static void make(struct buckets *b, const uint32_t *weights, unsigned n)
{
    buckets_init(b);
    assert_true(buckets_change(b, weights, n));
}

// Of two variants whatever they say.
static void weights_alone_do_between_two(void **state)
{
    (void)state;
    rand_seed(&dice, 8);
    for (unsigned round = 0; round < 1000; round++) {
        uint32_t was[2], is[2];
        struct buckets a, b;
        draw_weights(was, 2);
        draw_weights(is, 2);
        make(&a, was, 2);
        make(&b, is, 2);
        assert_least(moved(&a, &b), least_moved(was, is, 2), 2);
    }
}

// Among more: all beside the control grow, or all shrink, and none has more than its part of the circle.
static void weights_alone_do_in_one_direction(void **state)
{
    (void)state;
    rand_seed(&dice, 9);
    for (unsigned round = 0; round < 1000; round++) {
        uint32_t few[4], many[4];
        struct buckets a, b;
        few[0] = many[0] = EXPERIMENT_WHOLE;
        for (unsigned i = 1; i < 4; i++) {
            many[i] = (uint32_t)rand_below(&dice, EXPERIMENT_WHOLE / 4);
            few[i] = (uint32_t)rand_below(&dice, many[i] + 1);
            many[0] -= many[i];
            few[0] -= few[i];
        }
        make(&a, few, 4);
        make(&b, many, 4);
        assert_least(moved(&a, &b), least_moved(few, many, 4), 4);
    }
}

// Runs grow together again: their number follows from the variants, not from how often weights were changed.
static void changes_leave_room_for_more(void **state)
{
    (void)state;
    rand_seed(&dice, 10);
    struct buckets b;
    uint32_t weights[EXPERIMENT_VARIANTS];
    buckets_init(&b);
    for (unsigned change = 0; change < 3000; change++) {
        draw_weights(weights, EXPERIMENT_VARIANTS);
        assert_true(buckets_change(&b, weights, EXPERIMENT_VARIANTS));
        assert_true(b.n < BUCKET_RUNS / 2);
    }
}

// Who is to have more than its part of the circle leaves the others theirs.
static void all_have_their_own_places_first(void **state)
{
    (void)state;
    const uint32_t weights[4] = {0, 50 * PERCENT, 30 * PERCENT, 20 * PERCENT};
    const uint8_t of[6] = {1, 2, 1, 2, 3, 1};
    struct buckets b;
    make(&b, weights, 4);
    assert_sound(&b, weights, 4);
    assert_int_equal(b.n, 6);
    assert_memory_equal(b.of, of, sizeof(of));
    assert_int_equal(b.last[2], BUCKETS / 2 - 1);
    assert_int_equal(b.last[3], BUCKETS / 4 * 3 - 1);
}

static void without_room_it_says_so(void **state)
{
    (void)state;
    const uint32_t weights[4] = {40 * PERCENT, 30 * PERCENT, 4 * PERCENT, 26 * PERCENT};
    struct buckets b = {.n = BUCKET_RUNS};
    for (unsigned i = 0; i < BUCKET_RUNS; i++) {
        b.last[i] = (uint32_t)((i + 1) * (BUCKETS / BUCKET_RUNS) - 1);
        b.of[i] = i % 4;
    }
    assert_false(buckets_change(&b, weights, 4));
}

// ---- hashes ------------------------------------------------------------------------------------------

static size_t write_key(char text[32], uint64_t i)
{
    return (size_t)snprintf(text, 32, "user-%llu", (unsigned long long)i);
}

static double chi_square(const uint64_t *seen, const double *due, unsigned n)
{
    double sum = 0;
    for (unsigned i = 0; i < n; i++)
        sum += ((double)seen[i] - due[i]) * ((double)seen[i] - due[i]) / due[i];
    return sum;
}

static uint64_t keys_asked(void)
{
    const char *asked = getenv("SLUICE_EXPERIMENT_KEYS");
    return asked ? strtoull(asked, NULL, 10) : 1000000;
}

// 1,023 degrees of freedom, three for the variants: one of a thousand would be beyond 1,168 and 16.3.
static void keys_spread_evenly(void **state)
{
    (void)state;
    static uint64_t cell[1024];
    static double due[1024];
    const uint32_t weights[4] = {70 * PERCENT, 20 * PERCENT, 9 * PERCENT, 1 * PERCENT};
    uint64_t keys = keys_asked(), of[4] = {0}, seed = experiment_seed(VIEW("digits-cnn"), 0);
    struct buckets b;
    make(&b, weights, 4);
    memset(cell, 0, sizeof(cell));
    for (uint64_t i = 0; i < keys; i++) {
        char text[32];
        uint32_t bucket = experiment_bucket(view_of(text, write_key(text, i)), seed);
        cell[bucket >> 22]++;
        of[buckets_find(&b, bucket)]++;
    }
    for (unsigned i = 0; i < 1024; i++)
        due[i] = (double)keys / 1024;
    double cells = chi_square(cell, due, 1024);
    for (unsigned i = 0; i < 4; i++)
        due[i] = (double)keys * weights[i] / EXPERIMENT_WHOLE;
    double variants = chi_square(of, due, 4);
    print_message("%llu keys: chi-square %.1f of 1,024 cells, %.2f of 4 variants\n",
                  (unsigned long long)keys, cells, variants);
    assert_true(cells < 1168 && variants < 16.3);
}

// What is measured of keys is what was counted of buckets.
static void few_keys_move(void **state)
{
    (void)state;
    const uint32_t was[4] = {70 * PERCENT, 20 * PERCENT, 9 * PERCENT, 1 * PERCENT};
    const uint32_t is[4] = {40 * PERCENT, 30 * PERCENT, 4 * PERCENT, 26 * PERCENT};
    uint64_t keys = keys_asked(), other = 0, seed = experiment_seed(VIEW("digits-cnn"), 0);
    struct buckets a, b;
    make(&a, was, 4);
    b = a;
    assert_true(buckets_change(&b, is, 4));
    for (uint64_t i = 0; i < keys; i++) {
        char text[32];
        uint32_t bucket = experiment_bucket(view_of(text, write_key(text, i)), seed);
        other += buckets_find(&a, bucket) != buckets_find(&b, bucket);
    }
    double share = (double)other / (double)keys, least = 0.35;
    print_message("%.4f of the keys moved, %.4f have to\n", share, least);
    assert_true(share <
                least + 4 * 0.5 / 1000); // four times the standard deviation of a million draws
}

// Two experiments of the same people do not know of each other: 9 degrees of freedom, one of a thousand is beyond 27.9.
static void salts_keep_experiments_apart(void **state)
{
    (void)state;
    const uint64_t seeds[2] = {experiment_seed(VIEW("a"), DRAW_FOR_VARIANT),
                               experiment_seed(VIEW("a"), DRAW_FOR_LAYER)};
    uint64_t seen[16] = {0};
    double due[16];
    for (uint64_t i = 0; i < 400000; i++) {
        char text[32];
        struct view key = view_of(text, write_key(text, i));
        seen[experiment_bucket(key, seeds[0]) >> 30 << 2 |
             experiment_bucket(key, seeds[1]) >> 30]++;
    }
    for (unsigned i = 0; i < 16; i++)
        due[i] = 25000;
    assert_true(chi_square(seen, due, 16) < 37.7); // 15, since the margins are drawn, too
}

// Who says otherwise moves every user of every instance: these never change.
static void draws_are_the_same_for_ever(void **state)
{
    (void)state;
    uint64_t seed = experiment_seed(VIEW("digits-cnn"), DRAW_FOR_VARIANT);
    assert_int_equal(experiment_bucket(VIEW("user-1"), seed), 3219764042);
    assert_int_equal(experiment_bucket(VIEW("b2c5f3a0-7f7e-4a8e-8a4e-0a6d1f9c5d11"), seed),
                     2379597443);
    assert_int_equal(experiment_bucket(VIEW(""), seed), 1598650408);
    assert_int_equal(
        experiment_bucket(VIEW("user-1"), experiment_seed(VIEW("front"), DRAW_FOR_LAYER)),
        3711697952);
    const uint32_t weights[4] = {70 * PERCENT, 20 * PERCENT, 9 * PERCENT, 1 * PERCENT};
    static const uint32_t last[7] = {1073741823, 1932735282, 2147483647, 2534030704,
                                     3221225471, 3264175144, 4294967295};
    static const uint8_t of[7] = {0, 1, 0, 2, 0, 3, 0};
    struct buckets b;
    make(&b, weights, 4);
    assert_int_equal(b.n, 7);
    assert_memory_equal(b.last, last, sizeof(last));
    assert_memory_equal(b.of, of, sizeof(of));
}

// ---- draws -------------------------------------------------------------------------------------------

static const struct experiment_variant variants[2][2] = {
    {{VIEW("control"), VIEW("m")}, {VIEW("treatment"), VIEW("n")}},
    {{VIEW("old"), VIEW("m")}, {VIEW("new"), VIEW("o")}},
};
static const struct experiment_condition conditions[] = {
    {1, VIEW("de")}, {1, VIEW("at")}, {2, VIEW("acme")}};
static struct experiment both[2];
static struct experiment_live live[2];
static struct experiment_site site;
static _Atomic uint32_t unfit;

static int begin(void **state)
{
    (void)state;
    const uint32_t weights[2] = {50 * PERCENT, 50 * PERCENT};
    for (unsigned i = 0; i < 2; i++) {
        both[i] = (struct experiment){.name = i ? VIEW("e1") : VIEW("e0"),
                                      .to = BUCKETS,
                                      .variants = variants[i],
                                      .n_variants = 2};
        both[i].seed = experiment_seed(both[i].name, DRAW_FOR_VARIANT);
        both[i].holdout_seed = experiment_seed(both[i].name, DRAW_FOR_HOLDOUT);
        live[i] = (struct experiment_live){.how = DRAW_TAKEN};
        make(&live[i].buckets, weights, 2);
        atomic_store(&both[i].live, &live[i]);
    }
    site = (struct experiment_site){.model = VIEW("m"),
                                    .control = VIEW("m"),
                                    .n_traits = 3,
                                    .experiments = both,
                                    .n = 1,
                                    .layer_seed = experiment_seed(VIEW("l"), DRAW_FOR_LAYER)};
    atomic_store(&unfit, 0);
    return 0;
}

static struct experiment_draw draw(const char *key, const char *country, const char *tenant)
{
    struct view said[3] = {view_str(key), view_str(country), view_str(tenant)};
    struct experiment_draw d;
    experiment_draw(&site, said, &d);
    return d;
}

static struct experiment_draw draw_key(uint64_t i)
{
    char text[32];
    write_key(text, i);
    return draw(text, "", "");
}

static void assert_outside(const struct experiment_draw *d, enum draw_how how)
{
    assert_null(d->experiment);
    assert_null(d->variant);
    assert_int_equal(d->how, how);
    assert_true(view_is(d->model, "m"));
}

// Whoever does not draw has one model for all: no key is needed then, and nobody is held out; targets and slices hold.
static void who_does_not_draw_has_one_model(void **state)
{
    (void)state;
    static const enum draw_how hows[] = {DRAW_DRAFT, DRAW_PAUSED, DRAW_ROLLED_BACK};
    struct experiment_live still = {.how = DRAW_PAUSED};
    both[0].held = BUCKETS;
    atomic_store(&both[0].live, &still);
    for (unsigned i = 0; i < 3; i++) {
        still.how = hows[i];
        struct experiment_draw d = draw(i ? "k" : "", "", "");
        assert_outside(&d, hows[i]);
    }
    still = (struct experiment_live){.how = DRAW_PROMOTED, .whole = 1};
    struct experiment_draw d = draw("", "", "");
    assert_null(d.experiment);
    assert_int_equal(d.how, DRAW_PROMOTED);
    assert_true(view_is(d.model, "n"));
    both[0].conditions = conditions;
    both[0].n_conditions = 3;
    d = draw("k", "fr", "acme");
    assert_outside(&d, DRAW_NOT_TARGETED);
    assert_int_equal(draw("k", "de", "acme").how, DRAW_PROMOTED);
    both[0].unfit = &unfit;
    atomic_store(&unfit, 2);
    d = draw("k", "de", "acme");
    assert_outside(&d, DRAW_UNFIT);
    site.layered = true;
    d = draw("", "de", "acme");
    assert_outside(&d, DRAW_NO_KEY);
    assert_true(experiment_force(&site, VIEW("e0"), VIEW("treatment"), &d)); // testers go on
}

static void a_key_draws_its_variant(void **state)
{
    (void)state;
    unsigned treated = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        struct experiment_draw d = draw_key(i), again = draw_key(i);
        assert_ptr_equal(d.experiment, &both[0]);
        assert_int_equal(d.how, DRAW_TAKEN);
        assert_ptr_equal(d.variant, again.variant);
        assert_true(view_eq(d.model, d.variant->model));
        treated += d.variant == &variants[0][1];
    }
    assert_in_range(treated, 440, 560);
    struct experiment_draw d = draw("", "", "");
    assert_outside(&d, DRAW_NO_KEY);
}

static void experiments_of_a_layer_exclude_each_other(void **state)
{
    (void)state;
    site.layered = true;
    site.n = 2;
    both[0].to = BUCKETS / 10 * 3;
    both[1].from = BUCKETS / 10 * 4;
    both[1].to = BUCKETS / 10 * 9;
    unsigned in[2] = {0}, outside = 0;
    for (uint64_t i = 0; i < 10000; i++) {
        struct experiment_draw d = draw_key(i);
        if (d.experiment) {
            in[d.experiment - both]++;
            continue;
        }
        assert_outside(&d, DRAW_OTHER_SLICE);
        outside++;
    }
    assert_in_range(in[0], 2800, 3200);
    assert_in_range(in[1], 4800, 5200);
    assert_in_range(outside, 1800, 2200);
}

// And whoever is held out changes nothing for the others.
static void a_holdout_takes_no_part(void **state)
{
    (void)state;
    unsigned held = 0;
    for (uint64_t i = 0; i < 10000; i++) {
        both[0].held = 0;
        struct experiment_draw before = draw_key(i);
        both[0].held = BUCKETS / 20;
        struct experiment_draw d = draw_key(i);
        if (d.experiment) {
            assert_ptr_equal(d.variant, before.variant);
            continue;
        }
        assert_outside(&d, DRAW_HELD_OUT);
        held++;
    }
    assert_in_range(held, 420, 580);
}

static void a_target_is_one_of_each(void **state)
{
    (void)state;
    both[0].conditions = conditions;
    both[0].n_conditions = 3;
    assert_non_null(draw("k", "de", "acme").experiment);
    assert_non_null(draw("k", "at", "acme").experiment);
    static const char *const others[][2] = {
        {"ch", "acme"}, {"de", "other"}, {"", "acme"}, {"de", ""}};
    for (unsigned i = 0; i < 4; i++) {
        struct experiment_draw d = draw("k", others[i][0], others[i][1]);
        assert_outside(&d, DRAW_NOT_TARGETED);
    }
}

static void what_does_not_fit_is_the_controls(void **state)
{
    (void)state;
    both[0].unfit = &unfit;
    atomic_store(&unfit, 1u << 1);
    unsigned outside = 0;
    for (uint64_t i = 0; i < 100; i++) {
        struct experiment_draw d = draw_key(i);
        if (d.experiment) {
            assert_ptr_equal(d.variant, &variants[0][0]);
            continue;
        }
        assert_outside(&d, DRAW_UNFIT);
        outside++;
    }
    assert_in_range(outside, 30, 70);
}

static void a_tester_may_say(void **state)
{
    (void)state;
    struct experiment_draw d = {0};
    site.n = 2;
    assert_true(experiment_force(&site, VIEW("e1"), VIEW("new"), &d));
    assert_ptr_equal(d.experiment, &both[1]);
    assert_int_equal(d.how, DRAW_FORCED);
    assert_true(view_is(d.model, "o"));
    assert_false(experiment_force(&site, VIEW("e1"), VIEW("treatment"), &d));
    assert_false(experiment_force(&site, VIEW("e2"), VIEW("new"), &d));
}

// ---- signed words --------------------------------------------------------------------------------------

#define WORD "digits-cnn/treatment;1800000000;"
#define SIGNATURE "e086c85721e9a108ecd5a24fcbe69f55e1e60f7a9ecf273b0edbb76eb5afa0ac"
#define KEY VIEW("0123456789abcdef0123456789abcdef")

static enum status holds(const char *text, struct view key, uint64_t now_s)
{
    struct error e = {.status = STATUS_OK};
    struct force f;
    if (force_read(view_str(text), &f, &e))
        force_holds(&f, key, now_s, &e);
    return e.status;
}

static void a_signed_word_holds_until_it_expires(void **state)
{
    (void)state;
    struct force f;
    struct error e;
    assert_true(force_read(VIEW(WORD SIGNATURE), &f, &e));
    assert_true(view_is(f.experiment, "digits-cnn"));
    assert_true(view_is(f.variant, "treatment"));
    assert_int_equal(f.expires_s, 1800000000);
    assert_int_equal(holds(WORD SIGNATURE, KEY, 1799999999), STATUS_OK);
    assert_int_equal(holds(WORD SIGNATURE, KEY, 1800000000), STATUS_UNAUTHENTICATED);
    assert_int_equal(holds(WORD SIGNATURE, VIEW("another key of the house"), 0),
                     STATUS_UNAUTHENTICATED);
}

static void what_was_changed_does_not(void **state)
{
    (void)state;
    char text[] = WORD SIGNATURE;
    for (size_t i = 0; i + 1 < sizeof(text); i++) {
        char was = text[i];
        text[i] = was == '7' ? '8' : '7';
        assert_int_not_equal(holds(text, KEY, 0), STATUS_OK);
        text[i] = was;
    }
    static const char *const bad[] = {
        "",         "a",     "a/b",      "a/b;1",     "a/b;;c",
        "a/b;-1;c", "a;1;c", "a/b;1 ;c", "a/b;1e3;c", "/;18446744073709551616;"};
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(holds(bad[i], KEY, 0), STATUS_BAD_REQUEST);
    assert_int_equal(holds(WORD, KEY, 0), STATUS_UNAUTHENTICATED);
    assert_int_equal(holds(WORD SIGNATURE "00", KEY, 0), STATUS_UNAUTHENTICATED);
}

// Either case will do; what stands beside the digits in ASCII is none.
static void a_signature_is_of_hexadecimal_digits(void **state)
{
    (void)state;
    static const char others[] = "/:@G`g \xff";
    char text[] = WORD SIGNATURE;
    size_t from = sizeof(WORD) - 1;
    for (size_t i = from; i + 1 < sizeof(text); i++) {
        char was = text[i];
        for (const char *c = others; *c; c++) {
            struct error e = {.status = STATUS_OK};
            struct force f;
            text[i] = *c;
            assert_true(force_read(view_str(text), &f, &e));
            assert_false(force_holds(&f, KEY, 0, &e));
            assert_non_null(strstr(e.text, "expected a signature of 64 hexadecimal digits"));
        }
        text[i] = was;
    }
    for (size_t i = from; i + 1 < sizeof(text); i++)
        text[i] = (char)(text[i] >= 'a' ? text[i] - 'a' + 'A' : text[i]);
    assert_int_equal(holds(text, KEY, 0), STATUS_OK);
}

// One in ten of the control's keys and one in five others, always the same ones; of nobody else's.
static void shadows_see_a_share(void **state)
{
    (void)state;
    static const struct experiment_variant two_of[] = {{VIEW("a"), VIEW("m")},
                                                       {VIEW("b"), VIEW("n")}};
    static const struct experiment_shadow shadows[] = {
        {VIEW("x"), VIEW("o"), 0, BUCKETS / 10},
        {VIEW("y"), VIEW("p"), BUCKETS / 10, BUCKETS * 3 / 10}};
    struct experiment e = {.variants = two_of,
                           .n_variants = 2,
                           .shadow_seed = experiment_seed(VIEW("e"), DRAW_FOR_SHADOW),
                           .shadows = shadows,
                           .n_shadows = 2};
    unsigned seen[2] = {0};
    for (unsigned i = 0; i < 100000; i++) {
        char key[16];
        struct experiment_draw d = {.experiment = &e, .variant = two_of, .how = DRAW_TAKEN};
        d.key = view_of(key, (size_t)snprintf(key, sizeof(key), "user-%u", i));
        const struct experiment_shadow *s = experiment_shade(&d);
        assert_ptr_equal(experiment_shade(&d), s);
        if (s)
            seen[s - shadows]++;
        d.variant = &two_of[1];
        assert_null(experiment_shade(&d));
        d.variant = two_of;
        d.how = DRAW_FORCED;
        assert_null(experiment_shade(&d));
    }
    assert_in_range(seen[0], 9500, 10500);
    assert_in_range(seen[1], 19300, 20700);
    assert_null(experiment_shade(&(struct experiment_draw){.how = DRAW_NO_KEY}));
    e.n_shadows = 0;
    assert_null(experiment_shade(&(struct experiment_draw){.experiment = &e}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shadows_see_a_share),
        cmocka_unit_test(a_change_moves_the_least),
        cmocka_unit_test(weights_alone_do_between_two),
        cmocka_unit_test(weights_alone_do_in_one_direction),
        cmocka_unit_test(changes_leave_room_for_more),
        cmocka_unit_test(all_have_their_own_places_first),
        cmocka_unit_test(without_room_it_says_so),
        cmocka_unit_test(keys_spread_evenly),
        cmocka_unit_test(few_keys_move),
        cmocka_unit_test(salts_keep_experiments_apart),
        cmocka_unit_test(draws_are_the_same_for_ever),
        cmocka_unit_test_setup(who_does_not_draw_has_one_model, begin),
        cmocka_unit_test_setup(a_key_draws_its_variant, begin),
        cmocka_unit_test_setup(experiments_of_a_layer_exclude_each_other, begin),
        cmocka_unit_test_setup(a_holdout_takes_no_part, begin),
        cmocka_unit_test_setup(a_target_is_one_of_each, begin),
        cmocka_unit_test_setup(what_does_not_fit_is_the_controls, begin),
        cmocka_unit_test_setup(a_tester_may_say, begin),
        cmocka_unit_test(a_signed_word_holds_until_it_expires),
        cmocka_unit_test(what_was_changed_does_not),
        cmocka_unit_test(a_signature_is_of_hexadecimal_digits),
    };
    return cmocka_run_group_tests_name("router/experiment", tests, NULL, NULL);
}
