/* router/tenants: who is told apart, and what each may have of a model's room. */
#include "tests/unit/batcher_kit.h"

#include "base/rand.h"
#include "router/tenants.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND 1000000ull
#define NOW (1000 * SECOND)

static struct tenants *names;
static struct tenant_books *books;

static int setup(void **state)
{
    (void)state;
    names = tenants_new(7);
    books = aligned_alloc(64, (sizeof(*books) + 63) & ~(size_t)63);
    memset(books, 0, sizeof(*books));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tenants_free(names);
    free(books);
    return 0;
}

// ---- names -------------------------------------------------------------------------------------------

static uint16_t find(unsigned number, uint64_t now_us)
{
    char name[16];
    int n = snprintf(name, sizeof(name), "t-%u", number);
    return tenants_find(names, view_of(name, (size_t)n), now_us);
}

static void who_is_named_is_found_again(void **state)
{
    (void)state;
    char name[TENANT_NAME];
    uint16_t a = tenants_find(names, VIEW("a"), NOW), b = tenants_find(names, VIEW("b"), NOW);
    uint16_t nobody = tenants_find(names, VIEW(""), NOW); // who say nothing are a tenant, too
    assert_true(a != b && a != nobody && b != nobody);
    assert_true(a >= 1 && a <= TENANTS);
    assert_int_equal(tenants_find(names, VIEW("a"), NOW), a);
    assert_int_equal(tenants_name(names, a, name), 1);
    assert_memory_equal(name, "a", 1);
    assert_int_equal(tenants_name(names, TENANT_REST, name), 0);
    assert_int_equal(tenants_name(names, 900, name), 0);
}

static void names_are_shown_cut_and_printable(void **state)
{
    (void)state;
    char name[TENANT_NAME], longer[TENANT_NAME + 9];
    memset(longer, 'x', sizeof(longer));
    uint16_t bad = tenants_find(names, VIEW("a\x1b\xff b"), NOW);
    assert_int_equal(tenants_name(names, bad, name), 5);
    assert_memory_equal(name, "a???b", 5);
    uint16_t edges = tenants_find(names, VIEW("!~ \x7f"), NOW);
    assert_int_equal(tenants_name(names, edges, name), 4);
    assert_memory_equal(name, "!~??", 4);
    uint16_t one = tenants_find(names, view_of(longer, sizeof(longer)), NOW);
    uint16_t other = tenants_find(names, view_of(longer, sizeof(longer) - 1), NOW);
    assert_true(one != other); // all of it counts
    assert_int_equal(tenants_name(names, one, name), TENANT_NAME);
}

static void those_without_a_place_are_one(void **state)
{
    (void)state;
    bool seen[TENANTS + 1] = {false};
    uint16_t place[TENANTS];
    char name[TENANT_NAME];
    for (unsigned i = 0; i < TENANTS; i++) {
        uint16_t at = place[i] = find(i, NOW);
        assert_true(at >= 1 && at <= TENANTS && !seen[at]);
        seen[at] = true;
    }
    assert_int_equal(tenants_name(names, TENANTS, name), 6); // the last one has a name, too
    for (unsigned i = TENANTS; i < TENANTS + 50; i++)
        assert_int_equal(find(i, NOW + i * SECOND / 50), TENANT_REST);
    for (unsigned i = 0; i < TENANTS; i += 2) // half of them go on
        assert_int_equal(find(i, NOW + 40 * SECOND), place[i]);
    uint64_t later = NOW + TENANT_IDLE_US + 2 * SECOND;
    for (unsigned i = 2000; i < 2000 + TENANTS / 2; i++)
        assert_true(find(i, later) <= TENANTS); // the others' places are free
    for (unsigned i = 0; i < TENANTS; i += 2)
        assert_int_equal(find(i, later), place[i]); // and theirs still theirs
    assert_int_equal(find(9999, later), TENANT_REST);
}

// Who is silent keeps his place as long as there are others.
static void nobody_leaves_while_there_is_room(void **state)
{
    (void)state;
    uint16_t silent = find(1, NOW);
    assert_true(find(2, NOW + 2 * TENANT_IDLE_US) != silent);
    assert_int_equal(find(1, NOW + 2 * TENANT_IDLE_US), silent);
}

// Whoever leaves takes his name along; and so it goes on, a crowd after the other.
static void places_are_used_again(void **state)
{
    (void)state;
    char name[TENANT_NAME];
    for (unsigned crowd = 0; crowd < 5; crowd++) {
        uint64_t now_us = NOW + crowd * (TENANT_IDLE_US + SECOND);
        bool seen[TENANTS + 1] = {false};
        for (unsigned i = 0; i < TENANTS; i++) {
            uint16_t at = find(crowd * TENANTS + i, now_us);
            assert_true(at >= 1 && at <= TENANTS && !seen[at]);
            seen[at] = true;
            assert_true(i > 0 || tenants_name(names, at, name) > 0);
            assert_true(i > 0 || tenants_name(names, TENANTS, name) == 0);
        }
        assert_int_equal(find(99999, now_us), TENANT_REST);
        assert_int_equal(find(99999, now_us + SECOND), TENANT_REST);
    }
}

// Once nobody has left it is not tried again before another second, whoever asks for a place.
static void swept_once_a_second(void **state)
{
    (void)state;
    uint64_t full_us = NOW + TENANT_IDLE_US + SECOND;
    for (unsigned i = 0; i < TENANTS; i++)
        find(i, NOW + SECOND);
    assert_int_equal(find(9999, full_us), TENANT_REST); // for as long they may be silent
    find(0, NOW);                                       // of a loop whose clock is far behind
    assert_int_equal(find(9999, full_us + SECOND - 1), TENANT_REST);
    find(1, NOW + 2 * SECOND);
    uint16_t at = find(9999, full_us + SECOND);
    assert_true(at >= 1 && at <= TENANTS);
    assert_int_equal(find(1, full_us + SECOND), 2);
}

// ---- parts -------------------------------------------------------------------------------------------

static uint32_t part(uint16_t index, unsigned lane, uint32_t room)
{
    return tenants_part(books, index, lane, room, NOW);
}

// Holds so many rows, from this pane on.
static void hold(uint16_t index, uint32_t rows)
{
    assert_true(tenants_take(books, index, rows, UINT32_MAX));
}

static void alone_it_has_all(void **state)
{
    (void)state;
    assert_int_equal(part(1, 3, 100), UINT32_MAX);
    hold(1, 90);
    tenants_reckon(books, 100, NOW);
    assert_int_equal(tenants_active(books), 1);
    assert_int_equal(part(1, 3, 100), UINT32_MAX);
    // Who comes anew has an equal part before anybody has reckoned with him.
    assert_int_equal(part(2, 0, 100), 50);
}

static void what_one_leaves_is_the_others(void **state)
{
    (void)state;
    hold(1, 80);
    hold(2, 10);
    hold(3, 20);
    tenants_reckon(books, 90, NOW);
    assert_int_equal(part(1, 0, 90), 60);
    assert_int_equal(part(2, 0, 90), 35); // if it wants more: 90 - 20, by two
    assert_int_equal(part(3, 0, 90), 40); // 90 - 10, by two
    assert_int_equal(part(4, 0, 90), 30); // 90 - 30, by two: more than 90 / 4
}

// What it has beyond its part stays; it gets no more until it has less.
static void who_has_too_much_gets_no_more(void **state)
{
    (void)state;
    hold(1, 100);
    tenants_reckon(books, 100, NOW);
    tenants_refused(books, 2); // the queue was full
    tenants_reckon(books, 100, NOW + 1);
    uint32_t most = part(1, 0, 100);
    assert_int_equal(most, 50);
    for (unsigned i = 0; i < 50; i++) {
        assert_false(tenants_take(books, 1, 1, most));
        tenants_give(books, 1, 1);
    }
    assert_false(tenants_take(books, 1, 1, most));
    tenants_give(books, 1, 1);
    assert_true(tenants_take(books, 1, 1, most));
    assert_true(tenants_take(books, 2, 1, part(2, 0, 100)));
}

static void the_lowest_priority_gives_way_first(void **state)
{
    (void)state;
    hold(1, 10);
    hold(2, 10);
    tenants_refused(books, 1);
    tenants_refused(books, 2);
    tenants_reckon(books, 80, NOW);
    static const uint32_t parts[POLICY_LANES] = {40, 30, 20, 10};
    for (unsigned lane = 0; lane < POLICY_LANES; lane++)
        assert_int_equal(part(1, lane, 80), parts[lane]);
    static const uint32_t of_ten[POLICY_LANES] = {10, 8, 5, 3}; // rounded up
    for (unsigned lane = 0; lane < POLICY_LANES; lane++)
        assert_int_equal(part(1, lane, 20), of_ten[lane]);
    assert_int_equal(part(1, 3, 1), 1); // however small: one request goes
}

// It was refused by its part alone: it wants more, and is told so with the next look.
static void who_is_at_its_part_wants_more(void **state)
{
    (void)state;
    hold(1, 10);
    hold(2, 10);
    tenants_reckon(books, 80, NOW);
    assert_int_equal(atomic_load(&books->of[1].wants), 10);
    assert_true(tenants_take(books, 1, 5, 11));
    assert_false(tenants_take(books, 1, 5, 15));
    assert_false(tenants_take(books, 3, 1, 0)); // of nothing
    tenants_reckon(books, 80, NOW + 1);
    assert_int_equal(atomic_load(&books->of[1].wants), TENANT_MORE);
    assert_int_equal(atomic_load(&books->of[2].wants), 10);
    assert_int_equal(atomic_load(&books->of[3].wants), TENANT_MORE);
    assert_int_equal(atomic_load(&books->of[1].rows), 15); // what was refused is not held
}

// The home has written down what this one wants, and not yet the word: it is not taken out of what is not in it.
static void a_word_that_is_behind(void **state)
{
    (void)state;
    hold(1, 10);
    hold(2, 20);
    tenants_reckon(books, 90, NOW); // two, of whom none wants more: 30 rows
    assert_int_equal(part(1, 0, 90), 70);
    atomic_store(&books->of[1].wants, TENANT_MORE);
    assert_int_equal(part(1, 0, 90), 60);
    atomic_store(&books->of[1].wants, 31);
    assert_int_equal(part(1, 0, 90), 60);
    atomic_store(&books->of[1].wants, 30);
    assert_int_equal(part(1, 0, 90), 90);
}

// A row for two is for neither: both want more than their part.
static void a_room_too_small_for_all(void **state)
{
    (void)state;
    hold(1, 1);
    hold(2, 5);
    for (uint32_t room = 0; room < 2; room++) {
        tenants_reckon(books, room, NOW);
        assert_int_equal(atomic_load(&books->word), 2ull << 48 | 2ull << 32);
    }
    tenants_reckon(books, 2, NOW + TENANTS_PANE_US);
    assert_int_equal(atomic_load(&books->word), 2ull << 48 | 1ull << 32 | 1);
}

// Where the room has no bound who wants more still does.
static void a_room_without_a_bound(void **state)
{
    (void)state;
    static const uint32_t rooms[] = {INT32_MAX - 1, INT32_MAX, INT32_MAX + 1u, UINT32_MAX};
    for (unsigned i = 0; i < sizeof(rooms) / sizeof(rooms[0]); i++) {
        memset(books, 0, sizeof(*books));
        tenants_refused(books, 1);
        tenants_reckon(books, rooms[i], NOW);
        assert_int_equal(atomic_load(&books->word), 1ull << 48 | 1ull << 32);
        hold(2, 10);
        tenants_reckon(books, rooms[i], NOW + 1);
        assert_int_equal(atomic_load(&books->word), 2ull << 48 | 1ull << 32 | 10);
    }
}

// What was wanted is remembered for two panes at most, and one at least.
static void who_wants_nothing_is_forgotten(void **state)
{
    (void)state;
    hold(1, 10);
    hold(2, 30);
    tenants_reckon(books, 40, NOW); // the pane begins
    tenants_give(books, 2, 30);
    tenants_reckon(books, 40, NOW + TENANTS_PANE_US - 1);
    assert_int_equal(part(1, 0, 40), 20);
    tenants_reckon(books, 40, NOW + TENANTS_PANE_US);
    assert_int_equal(tenants_active(books), 2);
    tenants_reckon(books, 40, NOW + 2 * TENANTS_PANE_US);
    tenants_reckon(books, 40, NOW + 3 * TENANTS_PANE_US);
    assert_int_equal(tenants_active(books), 1);
    assert_int_equal(part(1, 0, 40), UINT32_MAX);
}

// However often that is looked at.
static void what_was_wanted_lasts_for_its_panes(void **state)
{
    (void)state;
    hold(1, 10);
    hold(2, 30);
    tenants_reckon(books, 90, NOW); // the pane begins
    tenants_give(books, 2, 30);
    tenants_refused(books, 3);
    for (uint64_t us = 1; us <= 2 * TENANTS_PANE_US; us += us == 1 ? 99999 : 100000) {
        tenants_reckon(books, 90, NOW + us);
        assert_int_equal(tenants_active(books), 3);
        assert_int_equal(part(4, 0, 90), 25); // what the others leave is the third's: he wants more
    }
    tenants_reckon(books, 90, NOW + 2 * TENANTS_PANE_US + 1);
    assert_int_equal(tenants_active(books), 1);
}

// Of books that nobody has used nothing is read, nor written: there are a thousand of them.
static void only_used_books_are_looked_at(void **state)
{
    (void)state;
    hold(1, 10);
    hold(2, 95);
    atomic_store(&books->of[3].wants, 95);
    tenants_reckon(books, 100, NOW);
    assert_int_equal(atomic_load(&books->of[3].wants), 95);
    assert_int_equal(tenants_active(books), 2);
    assert_int_equal(atomic_load(&books->word), 2ull << 48 | 1ull << 32 | 10);
    assert_int_equal(atomic_load(&books->used), 3);
    hold(TENANT_REST, 1);
    assert_int_equal(atomic_load(&books->used), TENANT_INDICES);
}

// Nobody has looked for long: nobody wants anything.
static void an_old_word_is_none(void **state)
{
    (void)state;
    hold(1, 10);
    hold(2, 10);
    tenants_reckon(books, 20, NOW);
    uint64_t until_us = NOW + 2 * TENANTS_PANE_US;
    assert_int_equal(tenants_part(books, 1, 0, 20, until_us - 1), 10);
    assert_int_equal(tenants_part(books, 1, 0, 20, until_us), UINT32_MAX);
}

// The most that can be had of the room at an equal level, by trying.
static uint32_t level_by_trying(const uint32_t *wants, unsigned n, uint32_t room)
{
    for (uint32_t level = room;; level--) {
        uint32_t sum = 0;
        for (unsigned i = 0; i < n; i++)
            sum += wants[i] < level ? wants[i] : level;
        if (sum <= room || level == 0)
            return level;
    }
}

static void parts_are_max_min(void **state)
{
    (void)state;
    struct rand r;
    rand_seed(&r, 3);
    for (unsigned round = 0; round < 2000; round++) {
        unsigned n = 2 + (unsigned)rand_below(&r, 9);
        uint32_t wants[12], room = 20 + (uint32_t)rand_below(&r, 500);
        memset(books, 0, sizeof(*books));
        for (unsigned i = 0; i < n; i++) {
            wants[i] = 1 + (uint32_t)rand_below(&r, room / 2);
            hold((uint16_t)(i + 1), wants[i]);
        }
        tenants_reckon(books, room, NOW);
        for (unsigned i = 0; i < n; i++) {
            uint32_t was = wants[i], got = part((uint16_t)(i + 1), 0, room);
            wants[i] = room; // it asks for as much as there is
            uint32_t want = level_by_trying(wants, n, room);
            wants[i] = was;
            if (got > want || got < room / n)
                fail_msg("round %u: %u of %u, expected %u", round, got, room, want);
            // Those that were known to want more than their part are known exactly.
            bool more = atomic_load(&books->of[i + 1].wants) == TENANT_MORE;
            assert_true(!more || got == want);
        }
    }
}

static void what_is_of_use(void **state)
{
    (void)state;
    assert_int_equal(tenants_room(1000, 0, 8, 1, SECOND), 1000); // nobody knows
    assert_int_equal(tenants_room(1000, 400, 8, 1, SECOND), 200);
    assert_int_equal(tenants_room(1000, 400, 8, 1, 20000), 16); // a few batches
    assert_int_equal(tenants_room(1000, 400, 8, 3, 20000), 48);
    assert_int_equal(tenants_room(1000, 400, 0, 0, 0), 2);
    assert_int_equal(tenants_room(100, 400, 8, 1, SECOND), 100);
    assert_int_equal(tenants_room(10000, 1, 1, 1, UINT64_MAX), 1800); // half an hour's, at most
    assert_int_equal(tenants_room(UINT32_MAX, UINT32_MAX, 1, 1, UINT64_MAX), UINT32_MAX);
}

// ---- several loops -----------------------------------------------------------------------------------

#define LOOPS 3
#define ROUNDS 20000

struct origin {
    unsigned index;
    bool moved; // a tenant was found in two places within a minute
};

// Those of its own find the same place each time, whoever comes and goes beside them; what it takes it gives back.
static void *ask_and_give(void *arg)
{
    struct origin *o = arg;
    uint16_t mine = find(o->index, NOW);
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t now_us = NOW + i * SECOND / 400; // clocks of loops differ by little
        o->moved |= find(o->index, now_us) != mine;
        uint16_t other = find(10 + (o->index * ROUNDS + i) % 3000, now_us);
        uint32_t had = tenants_part(books, mine, 0, 30, now_us);
        bool one = tenants_take(books, mine, 1, had), two = tenants_take(books, other, 1, 1);
        if (one)
            tenants_give(books, mine, 1);
        if (two)
            tenants_give(books, other, 1);
    }
    return NULL;
}

static void several_loops_at_once(void **state)
{
    (void)state;
    pthread_t thread[LOOPS];
    struct origin o[LOOPS] = {{0}};
    for (unsigned i = 0; i < TENANTS; i++) // whose places are free
        find(5000 + i, NOW - 2 * TENANT_IDLE_US);
    for (unsigned i = 0; i < LOOPS; i++) {
        o[i].index = i;
        assert_int_equal(pthread_create(&thread[i], NULL, ask_and_give, &o[i]), 0);
    }
    for (unsigned i = 0; i < 200; i++) // their home
        tenants_reckon(books, 30, NOW + i * SECOND);
    for (unsigned i = 0; i < LOOPS; i++)
        pthread_join(thread[i], NULL);
    for (unsigned i = 0; i < LOOPS; i++)
        assert_false(o[i].moved);
    for (unsigned i = 0; i < TENANT_INDICES; i++)
        assert_int_equal(atomic_load(&books->of[i].rows), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(who_is_named_is_found_again),
        TEST(names_are_shown_cut_and_printable),
        TEST(those_without_a_place_are_one),
        TEST(nobody_leaves_while_there_is_room),
        TEST(places_are_used_again),
        TEST(swept_once_a_second),
        TEST(alone_it_has_all),
        TEST(what_one_leaves_is_the_others),
        TEST(who_has_too_much_gets_no_more),
        TEST(the_lowest_priority_gives_way_first),
        TEST(who_is_at_its_part_wants_more),
        TEST(a_word_that_is_behind),
        TEST(a_room_without_a_bound),
        TEST(a_room_too_small_for_all),
        TEST(who_wants_nothing_is_forgotten),
        TEST(what_was_wanted_lasts_for_its_panes),
        TEST(only_used_books_are_looked_at),
        TEST(an_old_word_is_none),
        TEST(parts_are_max_min),
        TEST(what_is_of_use),
        TEST(several_loops_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
