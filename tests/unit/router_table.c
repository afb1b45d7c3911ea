/* router/table: models by name, once each, bounded. Its threads: two that add the same names. */
#include "tests/unit/batcher_kit.h"

#include "router/table.h"
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

static const struct model_rules rules = {.max_rows = 8, .pipeline = 3, .deadline_us = 77};

static void found_when_it_was_added(void **state)
{
    (void)state;
    struct table *t = table_new(4);
    char name[] = "digits";
    assert_null(table_find(t, VIEW("digits")));
    struct model *m = table_add(t, view_str(name), &rules);
    memset(name, 'x', 6); // copied
    assert_non_null(m);
    assert_string_equal(m->name.p, "digits"); // and NUL-terminated
    assert_ptr_equal(table_find(t, VIEW("digits")), m);
    assert_ptr_equal(table_add(t, VIEW("digits"), &(struct model_rules){0}), m); // once
    assert_int_equal(m->rules.deadline_us, 77);
    assert_int_equal(m->rules.pipeline, 3);
    assert_int_equal(atomic_load(&t->count), 1);
    assert_null(table_find(t, VIEW("digit")));
    assert_null(table_find(t, VIEW("digits2")));
    assert_ptr_equal(table_at(t, m->index), m);
    assert_true(model_home(m) < 4);
    assert_int_equal(atomic_load(&m->ready) + atomic_load(&m->max_batch), 0);
    table_free(t);
    table_free(NULL);
}

// Of every length: the copy ends where its memory ends.
static void names_of_every_length(void **state)
{
    (void)state;
    struct table *t = table_new(3);
    char name[MODEL_NAME_MAX + 1];
    memset(name, 'n', sizeof(name));
    for (size_t n = 1; n <= MODEL_NAME_MAX; n++) {
        struct model *m = table_add(t, view_of(name, n), &rules);
        assert_int_equal(strlen(m->name.p), n);
    }
    assert_null(table_add(t, view_of(name, MODEL_NAME_MAX + 1), &rules));
    for (size_t n = 1; n <= MODEL_NAME_MAX; n++)
        assert_int_equal(strlen(table_find(t, view_of(name, n))->name.p), n);
    table_free(t);
}

static void names_that_are_none(void **state)
{
    (void)state;
    struct table *t = table_new(1);
    assert_null(table_add(t, VIEW(""), &rules));
    assert_null(table_add(t, VIEW("a/b"), &rules));
    assert_null(table_find(t, VIEW("a/b")));
    assert_int_equal(atomic_load(&t->count), 0);
    table_free(t);
}

static void defaults(void **state)
{
    (void)state;
    static const struct {
        struct model_rules rules;
        uint32_t limit, pipeline;
    } row[] = {
        {{.max_rows = 0}, 1024, 0},
        {{.max_rows = 15}, 1024, 0},
        {{.max_rows = 16, .pipeline = 1}, 1024, 1},
        {{.max_rows = 17, .pipeline = 2}, 1088, 2},
        {{.max_rows = 100}, 6400, 0},
        {{.max_rows = 100, .queue_rows = 5}, 5, 0},
        {{.queue_rows = 1}, 1, 0},
    };
    struct table *t = table_new(1);
    for (unsigned i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        char name[8];
        snprintf(name, sizeof(name), "m%u", i);
        struct model *m = table_add(t, view_str(name), &row[i].rules);
        assert_int_equal(atomic_load(&m->queue_limit), row[i].limit);
        assert_int_equal(m->rules.pipeline, row[i].pipeline);
    }
    table_free(t);
}

static struct view nth(char *name, unsigned i)
{
    return view_of(name, (size_t)sprintf(name, "model-%u", i));
}

static void full(void **state)
{
    (void)state;
    struct table *t = table_new(7);
    char name[32];
    unsigned homes[7] = {0};
    for (unsigned i = 0; i < TABLE_MODELS; i++) {
        struct model *m = table_add(t, nth(name, i), &rules);
        assert_non_null(m);
        homes[model_home(m)]++;
    }
    assert_null(table_add(t, VIEW("one-too-many"), &rules));
    assert_null(table_find(t, VIEW("one-too-many")));
    assert_int_equal(atomic_load(&t->count), TABLE_MODELS);
    assert_non_null(table_add(t, VIEW("model-5"), &rules)); // who is there is found
    unsigned seen = 0;
    for (unsigned i = 0; i < TABLE_MODELS; i++)
        seen += table_at(t, i) && table_at(t, i)->index == i;
    assert_int_equal(seen, TABLE_MODELS);
    for (unsigned i = 0; i < TABLE_MODELS; i++) {
        struct model *m = table_find(t, nth(name, i));
        assert_string_equal(m->name.p, name);
    }
    for (unsigned i = 0; i < 7; i++)
        assert_in_range(homes[i], 100, 200);
    table_free(t);
}

// ---- removed -------------------------------------------------------------------------------------------

static void removed_only_when_idle(void **state)
{
    (void)state;
    struct table *t = table_new(2);
    struct model *m = table_add(t, VIEW("m"), &rules);
    assert_false(table_remove(t, m)); // it was not offered
    model_offer(m);
    assert_ptr_equal(table_find(t, VIEW("m")), m); // M1
    m->idle_us = 77;
    assert_true(model_keep(m));
    assert_int_equal(m->idle_us, 0);  // when it is idle again that counts anew
    assert_false(table_remove(t, m)); // a replica came up: called off
    model_offer(m);
    unsigned index = m->index;
    assert_true(table_remove(t, m));
    assert_null(table_find(t, VIEW("m")));
    assert_null(table_at(t, index));
    assert_false(table_remove(t, m)); // once
    assert_false(model_keep(m));      // too late
    model_offer(m);
    assert_false(model_keep(m));
    table_release(t, m);
    assert_int_equal(atomic_load(&t->count), 0);
    table_free(t);
}

// A name that comes back is a new model, even while the old one is not free yet.
static void a_name_comes_back(void **state)
{
    (void)state;
    struct table *t = table_new(2);
    struct model *old = table_add(t, VIEW("m"), &rules);
    model_offer(old);
    assert_true(table_remove(t, old));
    struct model *m = table_add(t, VIEW("m"), &(struct model_rules){.deadline_us = 5});
    assert_ptr_not_equal(m, old);
    assert_int_not_equal(m->index, old->index); // M4
    assert_int_equal(m->rules.deadline_us, 5);
    assert_int_equal(atomic_load(&t->count), 2);
    unsigned free_index = old->index;
    table_release(t, old);
    assert_ptr_equal(table_find(t, VIEW("m")), m);
    assert_int_equal(table_add(t, VIEW("n"), &rules)->index, free_index);
    table_free(t);
}

static void drop(struct table *t, struct view name)
{
    struct model *m = table_find(t, name);
    model_offer(m);
    assert_true(table_remove(t, m));
    table_release(t, m);
}

static unsigned slots_in_use(const struct table *t)
{
    unsigned n = 0;
    for (unsigned i = 0; i < TABLE_SLOTS; i++)
        n += atomic_load(&t->slot[i]) != NULL;
    return n;
}

// Where places were crowded no name is lost, and what has gone leaves nothing behind.
static void the_others_stay_found(void **state)
{
    (void)state;
    struct table *t = table_new(3);
    char name[32];
    for (unsigned i = 0; i < TABLE_MODELS; i++)
        table_add(t, nth(name, i), &rules);
    for (unsigned gone = 0; gone < TABLE_MODELS; gone++) {
        drop(t, nth(name, gone * 389 % TABLE_MODELS));
        assert_int_equal(slots_in_use(t), TABLE_MODELS - gone - 1);
        for (unsigned i = 0; gone % 37 == 0 && i < TABLE_MODELS; i++) {
            bool stays = table_find(t, nth(name, i * 389 % TABLE_MODELS)) != NULL;
            assert_int_equal(stays, i > gone);
        }
    }
    table_free(t);
}

static void hundreds_come_and_go(void **state)
{
    (void)state;
    struct table *t = table_new(3);
    char name[32];
    int64_t before = 0;
    for (unsigned i = 0; i < 20 * TABLE_MODELS; i++) {
        assert_non_null(table_add(t, nth(name, i), &rules));
        if (i >= TABLE_MODELS - 1)
            drop(t, nth(name, i - (TABLE_MODELS - 1)));
        if (i == 2 * TABLE_MODELS)
            before = mem_live();
    }
    assert_int_equal(atomic_load(&t->count), TABLE_MODELS - 1);
    assert_int_equal(mem_live(), before);
    table_free(t);
}

static void without_memory(void **state)
{
    (void)state;
    mem_fail_at(1);
    assert_null(table_new(2));
    mem_fail_at(0);
    struct table *t = table_new(2);
    for (unsigned nth_call = 1; nth_call <= 2; nth_call++) {
        mem_fail_at(nth_call);
        assert_null(table_add(t, VIEW("m"), &rules));
        mem_fail_at(0);
        assert_int_equal(atomic_load(&t->count), 0);
        assert_null(table_find(t, VIEW("m")));
    }
    assert_non_null(table_add(t, VIEW("m"), &rules));
    table_free(t);
}

// ---- two threads ---------------------------------------------------------------------------------------

struct adder {
    struct table *table;
    struct model *got[TABLE_MODELS];
    pthread_barrier_t *start;
};

static void *add_all(void *arg)
{
    struct adder *a = arg;
    char name[32];
    pthread_barrier_wait(a->start);
    for (unsigned i = 0; i < 500; i++)
        a->got[i] = table_add(a->table, nth(name, i), &rules);
    return NULL;
}

static void both_get_the_same(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 8; round++) {
        pthread_barrier_t start;
        pthread_barrier_init(&start, NULL, 2);
        static struct adder a[2];
        a[0].table = a[1].table = table_new(2);
        a[0].start = a[1].start = &start;
        pthread_t thread[2];
        for (unsigned i = 0; i < 2; i++)
            pthread_create(&thread[i], NULL, add_all, &a[i]);
        for (unsigned i = 0; i < 2; i++)
            pthread_join(thread[i], NULL);
        for (unsigned i = 0; i < 500; i++) {
            assert_non_null(a[0].got[i]);
            assert_ptr_equal(a[0].got[i], a[1].got[i]);
        }
        assert_int_equal(atomic_load(&a[0].table->count), 500);
        table_free(a[0].table);
        pthread_barrier_destroy(&start);
    }
}

// One looks for names that stay, and adds names that come and go, as every loop does; the other is home and
// main thread: it removes those, waits for a turn of the first, and releases them. All their hashes point at the
// same few slots, so that the ways are long and each removal moves many.
#define STAY 150
#define PASS 50

static char crowd[STAY + PASS][16];

static struct view crowded(unsigned i)
{
    return view_str(crowd[i]);
}

static void gather_crowd(void)
{
    for (unsigned i = 0, n = 0; n < STAY + PASS; i++) {
        snprintf(crowd[n], sizeof(crowd[n]), "m%u", i);
        n += hash64(crowded(n), 0) % TABLE_SLOTS < 4;
    }
}

struct contender {
    struct table *table;
    _Atomic uint64_t turns;
    _Atomic bool over;
    unsigned missed;
};

static void *look_and_add(void *arg)
{
    struct contender *c = arg;
    for (unsigned i = 0; !atomic_load(&c->over); i++) {
        struct model *m = table_find(c->table, crowded(i % STAY));
        c->missed += !m || !view_eq(m->name, crowded(i % STAY));
        m = table_add(c->table, crowded(STAY + i % PASS), &rules);
        c->missed += !m || !view_eq(m->name, crowded(STAY + i % PASS));
        atomic_fetch_add(&c->turns, 1);
    }
    return NULL;
}

static unsigned remove_found(struct contender *c, struct model **gone)
{
    unsigned n = 0;
    for (unsigned i = STAY; i < STAY + PASS; i++) {
        struct model *m = table_find(c->table, crowded(i));
        if (!m)
            continue;
        model_offer(m);
        assert_true(table_remove(c->table, m));
        gone[n++] = m;
    }
    return n;
}

static void release_all(struct contender *c, struct model **gone, unsigned n)
{
    uint64_t seen = atomic_load(&c->turns);
    while (atomic_load(&c->turns) < seen + 2)
        sched_yield();
    for (unsigned i = 0; i < n; i++)
        table_release(c->table, gone[i]);
}

static struct table *crowded_table(void)
{
    struct table *t = table_new(2);
    for (unsigned i = 0; i < PASS;
         i++) // those who go stand before those who stay, who are moved up
        table_add(t, crowded(STAY + i), &rules);
    for (unsigned i = 0; i < STAY; i++)
        table_add(t, crowded(i), &rules);
    return t;
}

static void found_while_others_come_and_go(void **state)
{
    (void)state;
    gather_crowd();
    for (unsigned round = 0; round < 200; round++) {
        static struct contender c;
        c = (struct contender){.table = crowded_table()};
        pthread_t thread;
        pthread_create(&thread, NULL, look_and_add, &c);
        while (atomic_load(&c.turns) == 0)
            sched_yield();
        struct model *gone[PASS];
        for (unsigned again = 0; again < 3; again++)
            release_all(&c, gone, remove_found(&c, gone));
        atomic_store(&c.over, true);
        pthread_join(thread, NULL);
        assert_int_equal(c.missed, 0);
        assert_true(atomic_load(&c.table->moves) > STAY);
        table_free(c.table);
    }
}

static int64_t memory;

static int setup(void **state)
{
    (void)state;
    memory = mem_live();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    assert_int_equal(mem_live(), memory);
    return 0;
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(found_when_it_was_added),
        TEST(names_of_every_length),
        TEST(names_that_are_none),
        TEST(defaults),
        TEST(full),
        TEST(removed_only_when_idle),
        TEST(a_name_comes_back),
        TEST(the_others_stay_found),
        TEST(hundreds_come_and_go),
        TEST(without_memory),
        cmocka_unit_test(both_get_the_same),
        cmocka_unit_test(found_while_others_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
