/* router/trial_state: the record of a live experiment: what may be changed, whose record wins, and its JSON, hostile or not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/rand.h"
#include "router/trial_state.h"

static const struct view names[] = {VIEW("control"), VIEW("treatment"), VIEW("third")};
static const uint32_t control[] = {700000, 900000}, treatment[] = {300000, 100000};
static const uint32_t *const weights[] = {control, treatment};
static const struct hash128 digest_a = {1, 2}, digest_b = {3, 4}, digest_c = {5, 6};

static struct trial_section section(struct hash128 digest)
{
    return (struct trial_section){.name = VIEW("digits-cnn"),
                                  .variants = names,
                                  .weight = weights,
                                  .n_variants = 2,
                                  .changes = 2,
                                  .digest = digest};
}

static struct trial_stamp stamp(uint64_t mark)
{
    return (struct trial_stamp){mark, 1700000000000000, VIEW("ann"), VIEW("because \"x\"\n")};
}

static struct trial_state seeded(void)
{
    struct trial_state s;
    struct trial_section c = section(digest_a);
    struct trial_stamp by = stamp(7);
    assert_true(trial_state_seed(&s, NULL, &c, &by));
    return s;
}

static const char *change(struct trial_state *s, enum trial_verb verb, uint64_t mark)
{
    struct trial_change c = {.verb = verb, .variant = 1, .stamp = stamp(mark)};
    return trial_state_change(s, &c, NULL);
}

static const char *weigh(struct trial_state *s, uint32_t second, bool *anew)
{
    uint32_t w[] = {EXPERIMENT_WHOLE - second, second};
    struct trial_change c = {.verb = TRIAL_WEIGH, .weights = w, .stamp = stamp(second)};
    return trial_state_change(s, &c, anew);
}

// ---- changes -----------------------------------------------------------------------------------------

static void seed_is_the_section(void **state)
{
    (void)state;
    struct trial_state s = seeded();
    struct buckets b;
    buckets_init(&b);
    buckets_change(&b, (uint32_t[]){700000, 300000}, 2);
    buckets_change(&b, (uint32_t[]){900000, 100000}, 2);
    assert_int_equal(s.revision, 1);
    assert_int_equal(s.counts_from, 1);
    assert_int_equal(s.status, TRIAL_RUNNING);
    assert_string_equal(s.variant[1], "treatment");
    assert_int_equal(s.buckets.n, b.n);
    assert_memory_equal(s.buckets.last, b.last, b.n * sizeof(b.last[0]));
    assert_memory_equal(s.buckets.of, b.of, b.n);
}

// The newest first, and what stands behind those that there are is as it was.
static void seeds_are_kept_in_order(void **state)
{
    (void)state;
    struct trial_state s = seeded();
    struct trial_section c = section(digest_b);
    struct trial_stamp by = stamp(8);
    const struct hash128 none = {0, 0};
    for (uint64_t i = 1; i < TRIAL_SEEDS; i++) {
        c.digest = (struct hash128){100, i};
        assert_true(trial_state_seed(&s, &s, &c, &by));
        assert_int_equal(s.n_seeds, 1 + i);
        for (uint64_t k = 0; k < i; k++)
            assert_true(hash128_eq(s.seed[k], (struct hash128){100, i - k}));
        assert_true(hash128_eq(s.seed[i], digest_a));
        for (uint64_t k = i + 1; k < TRIAL_SEEDS; k++)
            assert_true(hash128_eq(s.seed[k], none));
    }
}

// A control alone is a whole experiment: its shadows and holdout are.
static void one_variant_is_enough(void **state)
{
    (void)state;
    static const uint32_t all[] = {EXPERIMENT_WHOLE};
    const uint32_t *const of[] = {all};
    struct trial_section c = section(digest_a);
    struct trial_stamp by = stamp(1);
    struct trial_state s, again;
    char wrong[TRIAL_WRONG];
    c.n_variants = c.changes = 1;
    c.weight = of;
    assert_true(trial_state_seed(&s, NULL, &c, &by));
    struct buffer text;
    buffer_init(&text);
    assert_true(trial_state_write(&text, &s));
    assert_true(trial_state_read(&again, buffer_view(&text), wrong));
    assert_int_equal(again.n_variants, 1);
    assert_string_equal(again.variant[0], "control");
    buffer_deinit(&text);
}

static void bad_sections_seed_nothing(void **state)
{
    (void)state;
    struct trial_state s;
    struct trial_stamp by = stamp(1);
    struct trial_section c = section(digest_a);
    c.n_variants = 1;
    assert_false(trial_state_seed(&s, NULL, &c, &by));
    c = section(digest_a);
    c.changes = 0;
    assert_false(trial_state_seed(&s, NULL, &c, &by));
    c = section(digest_a);
    c.name = VIEW("a{b}");
    assert_false(trial_state_seed(&s, NULL, &c, &by));
    const struct view odd[] = {VIEW("control"), VIEW("a\r\nb")};
    c = section(digest_a);
    c.variants = odd;
    assert_false(trial_state_seed(&s, NULL, &c, &by));
    const uint32_t *const more[] = {control, control};
    c = section(digest_a);
    c.weight = more;
    assert_false(trial_state_seed(&s, NULL, &c, &by));
}

// Every verb in every status: what becomes of it.
static void verbs_by_status(void **state)
{
    (void)state;
    enum { NO = TRIAL_STATUSES };
    static const unsigned then[TRIAL_STATUSES][TRIAL_PROMOTE + 1] = {
        [TRIAL_DRAFT] = {TRIAL_DRAFT, TRIAL_RUNNING, NO, NO, NO},
        [TRIAL_RUNNING] = {TRIAL_RUNNING, NO, TRIAL_PAUSED, TRIAL_ROLLED_BACK, TRIAL_PROMOTED},
        [TRIAL_PAUSED] = {TRIAL_PAUSED, TRIAL_RUNNING, NO, TRIAL_ROLLED_BACK, TRIAL_PROMOTED},
        [TRIAL_ROLLED_BACK] = {TRIAL_ROLLED_BACK, TRIAL_RUNNING, NO, NO, NO},
        [TRIAL_PROMOTED] = {TRIAL_PROMOTED, TRIAL_RUNNING, NO, TRIAL_ROLLED_BACK, NO},
    };
    for (unsigned from = 0; from < TRIAL_STATUSES; from++) {
        for (unsigned verb = 0; verb <= TRIAL_PROMOTE; verb++) {
            struct trial_state s = seeded(), was;
            s.status = (enum trial_status)from;
            s.promoted = from == TRIAL_PROMOTED;
            was = s;
            uint32_t w[] = {500000, 500000};
            struct trial_change c = {
                .verb = (enum trial_verb)verb, .weights = w, .variant = 1, .stamp = stamp(9)};
            const char *why = trial_state_change(&s, &c, NULL);
            if (then[from][verb] == NO) {
                assert_non_null(why);
                assert_memory_equal(&s, &was, sizeof(s));
                continue;
            }
            assert_null(why);
            assert_int_equal(s.status, then[from][verb]);
            assert_int_equal(s.revision, 2);
            assert_int_equal(s.mark, 9);
            bool anew = verb == TRIAL_RESUME && from != TRIAL_PAUSED;
            assert_int_equal(s.counts_from, anew ? 2 : 1);
            unsigned whole;
            assert_int_equal(trial_state_draws(&s, &whole), s.status == TRIAL_RUNNING);
            assert_int_equal(whole, s.status == TRIAL_PROMOTED ? 1 : 0);
        }
    }
}

static void weights_that_cannot_be(void **state)
{
    (void)state;
    struct trial_state s = seeded(), was = s;
    uint32_t little[] = {1, 2}, wrap[] = {UINT32_MAX, EXPERIMENT_WHOLE + 1};
    struct trial_change c = {.verb = TRIAL_WEIGH, .weights = little, .stamp = stamp(1)};
    assert_non_null(trial_state_change(&s, &c, NULL));
    c.weights = wrap;
    assert_non_null(trial_state_change(&s, &c, NULL));
    c = (struct trial_change){.verb = TRIAL_PROMOTE, .variant = 2, .stamp = stamp(1)};
    assert_non_null(trial_state_change(&s, &c, NULL));
    assert_memory_equal(&s, &was, sizeof(s));
}

// Any number of changes: the record stays bounded and sound, and draws anew when the buckets are cut up.
static void many_changes(void **state)
{
    (void)state;
    struct trial_state s = seeded(), again;
    struct rand dice;
    char wrong[TRIAL_WRONG];
    rand_seed(&dice, 5);
    s.n_variants = 3;
    strcpy(s.variant[2], "third");
    s.weight[2] = 0;
    for (unsigned i = 0; i < 3000; i++) {
        uint32_t a = (uint32_t)rand_below(&dice, EXPERIMENT_WHOLE + 1);
        uint32_t b = (uint32_t)rand_below(&dice, EXPERIMENT_WHOLE + 1 - a);
        uint32_t w[] = {EXPERIMENT_WHOLE - a - b, a, b};
        struct trial_change c = {.verb = TRIAL_WEIGH, .weights = w, .stamp = stamp(i)};
        bool anew;
        assert_null(trial_state_change(&s, &c, &anew));
        assert_int_equal(s.revision, 2 + i);
        if (anew)
            assert_true(s.buckets.n <= 5);
        if (i % 100 == 0) {
            struct buffer text;
            buffer_init(&text);
            assert_true(trial_state_write(&text, &s));
            assert_true(buffer_len(&text) < TRIAL_TEXT);
            assert_true(trial_state_read(&again, buffer_view(&text), wrong));
            buffer_deinit(&text);
        }
    }
}

static void texts_are_cut(void **state)
{
    (void)state;
    struct trial_state s = seeded();
    char text[TRIAL_WHY + 8];
    memset(text, 'a', sizeof(text));
    memcpy(text + TRIAL_WHY - 1, "\xc3\xa4\xc3\xa4", 4); // half of it would be over the edge
    struct trial_change c = {
        .verb = TRIAL_PAUSE,
        .stamp = {1, 2, view_of(text, sizeof(text)), view_of(text, sizeof(text))}};
    assert_null(trial_state_change(&s, &c, NULL));
    assert_int_equal(strlen(s.who), TRIAL_WHO);
    assert_int_equal(strlen(s.why), TRIAL_WHY - 1);
}

// ---- rules -------------------------------------------------------------------------------------------

static void order_of_two(void **state)
{
    (void)state;
    static const struct {
        struct {
            uint64_t revision, epoch, mark;
        } here, there;
        enum trial_order order;
    } rows[] = {
        {{3, 0, 1}, {3, 0, 1}, TRIAL_SAME},  {{3, 0, 1}, {4, 0, 2}, TRIAL_NEWER},
        {{3, 9, 1}, {4, 0, 2}, TRIAL_NEWER}, {{3, 0, 1}, {2, 0, 2}, TRIAL_OLDER},
        {{3, 0, 1}, {2, 9, 2}, TRIAL_OLDER}, {{3, 0, 1}, {3, 0, 2}, TRIAL_NEWER},
        {{3, 0, 1}, {3, 1, 1}, TRIAL_NEWER}, {{3, 1, 1}, {3, 0, 1}, TRIAL_SAME},
        {{3, 1, 1}, {3, 0, 2}, TRIAL_OLDER}, {{3, 1, 1}, {3, 1, 2}, TRIAL_NEWER},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct trial_state here = seeded(), there = seeded();
        here.revision = rows[i].here.revision, there.revision = rows[i].there.revision;
        here.epoch = rows[i].here.epoch, there.epoch = rows[i].there.epoch;
        here.mark = rows[i].here.mark, there.mark = rows[i].there.mark;
        assert_int_equal(trial_state_order(&here, &there), rows[i].order);
    }
    struct trial_state here = seeded();
    assert_int_equal(trial_state_order(&here, NULL), TRIAL_OLDER);
}

// A store that only does compare-and-set, instances that come in any order: changes, a store that goes back, looks. At the
// end all have the same record, and nobody has ever gone back.
static bool sync(struct trial_state *here, struct trial_state *there)
{
    struct trial_state was = *here;
    switch (trial_state_order(here, there)) {
    case TRIAL_NEWER:
        *here = *there;
        break;
    case TRIAL_OLDER:
        trial_state_fence(here, there);
        *there = *here;
        break;
    case TRIAL_SAME:
        return false;
    }
    assert_true(here->revision >= was.revision);
    return true;
}

static void instances_agree(void **state)
{
    (void)state;
    enum { INSTANCES = 4, BACKUPS = 8 };
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct rand dice;
        rand_seed(&dice, seed);
        struct trial_state store = seeded(), here[INSTANCES], backup[BACKUPS];
        unsigned backups = 0;
        uint64_t most = 0;
        for (unsigned i = 0; i < INSTANCES; i++)
            here[i] = store;
        for (unsigned step = 0; step < 60; step++) {
            unsigned i = (unsigned)rand_below(&dice, INSTANCES);
            switch (rand_below(&dice, 5)) {
            case 0: { // a change, if what it was made of is what is stored
                struct trial_state next = here[i];
                uint32_t second = (uint32_t)rand_below(&dice, EXPERIMENT_WHOLE);
                assert_null(weigh(&next, second, NULL));
                next.mark = rand_u64(&dice);
                if (store.revision == here[i].revision && store.mark == here[i].mark)
                    store = here[i] = next;
                most = store.revision > most ? store.revision : most;
                break;
            }
            case 1:
                backup[backups++ % BACKUPS] = store;
                break;
            case 2:
                if (backups > 0)
                    store = backup[rand_below(&dice, backups < BACKUPS ? backups : BACKUPS)];
                break;
            default:
                sync(&here[i], &store);
            }
        }
        for (unsigned round = 0, moved = 1; moved; round++) {
            moved = 0;
            for (unsigned i = 0; i < INSTANCES; i++)
                moved |= sync(&here[i], &store);
            assert_true(round < 2 * INSTANCES);
        }
        for (unsigned i = 0; i < INSTANCES; i++) {
            assert_int_equal(here[i].mark, store.mark);
            assert_int_equal(here[i].revision, store.revision);
            assert_memory_equal(here[i].weight, store.weight, sizeof(store.weight));
        }
    }
}

static void the_section_seeds(void **state)
{
    (void)state;
    struct trial_state s = seeded();
    struct trial_section c = section(digest_b);
    struct trial_stamp by = stamp(8);
    assert_null(weigh(&s, 500000, NULL));
    assert_null(change(&s, TRIAL_PAUSE, 3));
    assert_false(trial_state_is_seeded_by(&s, digest_a, NULL));
    assert_true(trial_state_is_seeded_by(&s, digest_b, NULL));
    assert_true(trial_state_is_seeded_by(&s, digest_b, &digest_a));
    assert_false(trial_state_is_seeded_by(&s, digest_b, &digest_b)); // another's file has changed
    assert_true(trial_state_seed(&s, &s, &c, &by));
    assert_int_equal(s.revision, 4);
    assert_int_equal(s.counts_from, 4);
    assert_int_equal(s.status, TRIAL_RUNNING);
    assert_int_equal(s.weight[1], 100000);
    assert_false(trial_state_is_seeded_by(&s, digest_b, NULL));
    assert_false(trial_state_is_seeded_by(&s, digest_a, NULL));     // it came with an older file
    assert_true(trial_state_is_seeded_by(&s, digest_a, &digest_b)); // and this one was taken back
    assert_true(trial_state_is_seeded_by(&s, digest_c, NULL));
    for (uint64_t i = 0; i < 2 * TRIAL_SEEDS; i++) {
        c.digest = (struct hash128){100, i};
        assert_true(trial_state_seed(&s, &s, &c, &by));
    }
    assert_int_equal(s.n_seeds, TRIAL_SEEDS);
    assert_true(trial_state_is_seeded_by(&s, digest_a, NULL)); // so long ago that it is forgotten
}

// An instance that has just come, with a section of its own, over what is stored.
static void the_section_over_what_is_stored(void **state)
{
    (void)state;
    struct trial_state here = seeded(), there = seeded();
    struct trial_stamp by = stamp(99);
    here.seed[0] = digest_b;
    there.epoch = 3;
    for (unsigned i = 0; i < 5; i++)
        assert_null(weigh(&there, 1000 * i, NULL));
    assert_true(trial_state_is_seeded_by(&there, here.seed[0], NULL));
    assert_true(trial_state_fit(&here, &there));
    trial_state_over(&here, &there, &by);
    assert_int_equal(here.revision, 7);
    assert_int_equal(here.counts_from, 7);
    assert_int_equal(here.epoch, 3);
    assert_int_equal(here.n_seeds, 2);
    assert_int_equal(here.weight[1], 100000);
    assert_true(hash128_eq(here.seed[0], digest_b) && hash128_eq(here.seed[1], digest_a));
    assert_int_equal(trial_state_order(&there, &here), TRIAL_NEWER);
    strcpy(here.variant[1], "other");
    assert_false(trial_state_fit(&here, &there));
}

static void fits(void **state)
{
    (void)state;
    struct trial_state s = seeded();
    struct trial_section c = section(digest_a);
    const struct view turned[] = {VIEW("treatment"), VIEW("control")};
    assert_true(trial_state_fits(&s, &c));
    c.n_variants = 3;
    assert_false(trial_state_fits(&s, &c));
    c = section(digest_a);
    c.variants = turned;
    assert_false(trial_state_fits(&s, &c));
    c = section(digest_a);
    c.name = VIEW("other");
    assert_false(trial_state_fits(&s, &c));
}

// ---- as JSON -----------------------------------------------------------------------------------------

static char *written(const struct trial_state *s)
{
    struct buffer b;
    buffer_init(&b);
    assert_true(trial_state_write(&b, s) && buffer_append(&b, "", 1));
    char *text = mem_must(buffer_len(&b));
    memcpy(text, b.data, buffer_len(&b));
    buffer_deinit(&b);
    return text;
}

static void round_trip(void **state)
{
    (void)state;
    struct trial_state s = seeded(), again;
    char wrong[TRIAL_WRONG];
    s.epoch = 5;
    assert_null(weigh(&s, 333333, NULL));
    assert_null(change(&s, TRIAL_PROMOTE, UINT64_MAX));
    char *text = written(&s), *twice;
    assert_true(trial_state_read(&again, view_str(text), wrong));
    assert_string_equal(wrong, "");
    assert_string_equal(again.why, "because \"x\"\n");
    assert_int_equal(again.status, TRIAL_PROMOTED);
    assert_int_equal(again.promoted, 1);
    assert_int_equal(again.mark, UINT64_MAX);
    twice = written(&again);
    assert_string_equal(text, twice);
    for (size_t n = 0; n < strlen(text); n++)
        assert_false(trial_state_read(&again, view_of(text, n), wrong));
    mem_free(text);
    mem_free(twice);
}

// Replaces `what` in a good record. NULL: takes the whole text.
static void assert_refused(const char *what, const char *by, const char *said)
{
    struct trial_state s = seeded(), again;
    char wrong[TRIAL_WRONG], *text = written(&s), *at = what ? strstr(text, what) : text;
    size_t room = strlen(text) + strlen(by) + 1;
    char *bad = mem_must(room);
    assert_non_null(at);
    snprintf(bad, room, "%.*s%s%s", (int)(at - text), text, by, what ? at + strlen(what) : "");
    if (trial_state_read(&again, view_str(bad), wrong))
        fail_msg("taken: %s", bad);
    if (!strstr(wrong, said))
        fail_msg("\"%s\", not \"%s\", of %s", wrong, said, bad);
    mem_free(text);
    mem_free(bad);
}

static void hostile_records(void **state)
{
    (void)state;
    assert_refused(NULL, "", "");
    assert_refused(NULL, "[]", "expected an object");
    assert_refused(NULL, "{}", "layout: missing");
    assert_refused("\"}", "\"}{}", "");
    assert_refused("\"}", "\"}x", "");
    assert_refused("\"}", "\",}", "");
    assert_refused("\"layout\":1", "\"layout\":2", "another release");
    assert_refused("\"layout\":1,", "", "layout: missing");
    assert_refused("\"layout\":1", "\"layout\":1,\"layout\":1", "twice");
    assert_refused("\"digits-cnn\"", "\"a\\r\\n\"", "no name");
    assert_refused("\"digits-cnn\"", "\"{a}\"", "no name");
    assert_refused("\"digits-cnn\"", "\"\"", "no name");
    assert_refused("\"digits-cnn\"", "7", "expected a text");
    assert_refused("\"treatment\"", "\"../x\"", "no name");
    assert_refused("\"treatment\"", "\"control\"", "two of one name");
    assert_refused("\"revision\":1", "\"revision\":0", "revision");
    assert_refused("\"revision\":1", "\"revision\":-1", "whole number");
    assert_refused("\"revision\":1", "\"revision\":1.5", "whole number");
    assert_refused("\"revision\":1", "\"revision\":18446744073709551616", "whole number");
    assert_refused("\"revision\":1", "\"revision\":9007199254740993", "whole number");
    assert_refused("\"counts_from\":1", "\"counts_from\":2", "counts_from");
    assert_refused("\"running\"", "\"RUNNING\"", "one of ours");
    assert_refused("\"running\"", "\"promoted_and_more_than_that\"", "at most");
    assert_refused("\"promoted\":0", "\"promoted\":1", "promoted");
    assert_refused("\"promoted\":0", "\"promoted\":16", "whole number");
    assert_refused("\"mark\":\"0", "\"mark\":\"x", "hexadecimal");
    assert_refused("\"mark\":\"0", "\"mark\":\"", "hexadecimal");
    assert_refused("\"weight\":900000", "\"weight\":900001", "add up");
    assert_refused("\"weight\":900000", "\"weight\":4294967296", "whole number");
    assert_refused("\"weight\":900000", "\"weight\":{\"a\":[1]}", "whole number");
    assert_refused(",\"weight\":900000", "", "name and weight");
    assert_refused("\"runs\":[", "\"runs\":[1000,1,", "not what the weights say");
    assert_refused("\"runs\":[", "\"runs\":[5,", "runs");
    assert_refused("\"runs\":[", "\"runs\":[[1,0],", "runs");
    assert_refused("4294967295", "4294967296", "runs");
    assert_refused("4294967295", "4294967294", "nobody");
    assert_refused("\"seeds\":[", "\"seeds\":[\"\",", "hexadecimal");
    assert_refused("\"seeds\":[", "\"seeds\":[[],", "expected a text");
    assert_refused("\"who\":\"ann\"", "\"who\":[[[[]]]]", "expected a text");
    assert_refused("\"who\":\"ann\"", "\"who\":\"\\u0000\"", "");
    assert_refused(
        "\"who\":\"ann\"",
        "\"who\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"",
        "at most");
}

static void none_of_what_there_must_be(void **state)
{
    (void)state;
    char wrong[TRIAL_WRONG];
    for (unsigned i = 0; i < 2; i++) {
        struct trial_state s = seeded(), again;
        *(i ? &s.n_seeds : &s.n_variants) = 0;
        char *text = written(&s);
        assert_false(trial_state_read(&again, view_str(text), wrong));
        assert_string_equal(wrong, "expected a variant and more, and a seed");
        mem_free(text);
    }
}

static void lists_are_bounded(void **state)
{
    (void)state;
    char *many = mem_must(TRIAL_TEXT);
    size_t n = (size_t)sprintf(many, "\"runs\":[");
    for (unsigned i = 0; i < BUCKET_RUNS + 1; i++)
        n += (size_t)sprintf(many + n, "%u,0,", i);
    assert_refused("\"runs\":[", many, "at most");
    n = (size_t)sprintf(many, "\"seeds\":[");
    for (unsigned i = 0; i < TRIAL_SEEDS; i++)
        n += (size_t)sprintf(many + n, "\"%032x\",", i);
    assert_refused("\"seeds\":[", many, "more than 8");
    n = (size_t)sprintf(many, "\"variants\":[");
    for (unsigned i = 0; i < EXPERIMENT_VARIANTS; i++)
        n += (size_t)sprintf(many + n, "{\"name\":\"v%u\",\"weight\":0},", i);
    assert_refused("\"variants\":[", many, "more than 16");
    mem_free(many);
    char *huge = mem_must(TRIAL_TEXT + 2);
    memset(huge, ' ', TRIAL_TEXT + 1);
    huge[TRIAL_TEXT + 1] = '\0';
    assert_refused(NULL, huge, "longer than");
    mem_free(huge);
}

static void later_members_are_passed_over(void **state)
{
    (void)state;
    struct trial_state s = seeded(), again;
    char wrong[TRIAL_WRONG], *text = written(&s);
    size_t room = strlen(text) + 64;
    char *more = mem_must(room);
    snprintf(more, room, "{\"later\":{\"a\":[1,{\"b\":null}]},\"also\":\"x\",%s", text + 1);
    assert_true(trial_state_read(&again, view_str(more), wrong));
    char *twice = written(&again);
    assert_string_equal(text, twice);
    mem_free(twice);
    mem_free(text);
    mem_free(more);
}

static void out_of_memory(void **state)
{
    (void)state;
    struct trial_state s = seeded(), again;
    char wrong[TRIAL_WRONG];
    strcpy(s.why, "esc\"aped");
    char *text = written(&s);
    arena_thread_done();
    pool_thread_done();
    int64_t live = mem_live();
    bool read = false, wrote = false;
    for (uint64_t n = 1; n < 100 && !(read && wrote); n++) {
        struct buffer b;
        buffer_init(&b);
        mem_fail_at(n);
        wrote = trial_state_write(&b, &s);
        mem_fail_at(n);
        read = trial_state_read(&again, view_str(text), wrong);
        mem_fail_at(0);
        buffer_deinit(&b);
        arena_thread_done();
        pool_thread_done();
        assert_int_equal(mem_live(), live);
    }
    assert_true(read && wrote);
    mem_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seed_is_the_section),
        cmocka_unit_test(seeds_are_kept_in_order),
        cmocka_unit_test(one_variant_is_enough),
        cmocka_unit_test(bad_sections_seed_nothing),
        cmocka_unit_test(verbs_by_status),
        cmocka_unit_test(weights_that_cannot_be),
        cmocka_unit_test(many_changes),
        cmocka_unit_test(texts_are_cut),
        cmocka_unit_test(order_of_two),
        cmocka_unit_test(instances_agree),
        cmocka_unit_test(the_section_seeds),
        cmocka_unit_test(the_section_over_what_is_stored),
        cmocka_unit_test(fits),
        cmocka_unit_test(round_trip),
        cmocka_unit_test(hostile_records),
        cmocka_unit_test(none_of_what_there_must_be),
        cmocka_unit_test(lists_are_bounded),
        cmocka_unit_test(later_members_are_passed_over),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
