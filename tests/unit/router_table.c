/* router/table: models by name, once each, bounded. Its threads: two that add the same names. */
#include "tests/unit/batcher_kit.h"

#include "router/table.h"
#include <pthread.h>
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
        {{.max_rows = 0}, 1024, 1},
        {{.max_rows = 15}, 1024, 1},
        {{.max_rows = 16, .pipeline = 1}, 1024, 1},
        {{.max_rows = 17, .pipeline = 2}, 1088, 2},
        {{.max_rows = 100}, 6400, 1},
        {{.max_rows = 100, .queue_rows = 5}, 5, 1},
        {{.queue_rows = 1}, 1, 1},
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
    for (unsigned i = 0; i < 2 * TABLE_MODELS; i++)
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
        TEST(without_memory),
        cmocka_unit_test(both_get_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
