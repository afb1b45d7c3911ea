/* gateway/prom: the text format, byte for byte; histograms whose writer goes on; memory that runs out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"
#include "gateway/prom.h"
#include <stdio.h>
#include <stdlib.h>

static struct buffer page;

static int setup(void **state)
{
    (void)state;
    buffer_init(&page);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mem_fail_at(0);
    buffer_deinit(&page);
    return 0;
}

static void expect(const char *text)
{
    struct view got = buffer_view(&page);
    if (!view_is(got, text))
        fail_msg("got:\n%.*swant:\n%s", VIEW_ARG(got), text);
}

static void families(void **state)
{
    (void)state;
    struct prom p;
    prom_init(&p, &page);
    prom_family(&p, "a_total", "counter", "What it is.");
    prom_count(&p, NULL, 0, 7);
    const struct prom_label labels[] = {{"model", VIEW("digits")}, {"status", VIEW("ok")}};
    prom_count(&p, labels, 2, UINT64_MAX);
    prom_family(&p, "b", "gauge", "Another.");
    prom_count(&p, labels, 1, 25);
    assert_false(p.failed);
    expect("# HELP a_total What it is.\n# TYPE a_total counter\n"
           "a_total 7\n"
           "a_total{model=\"digits\",status=\"ok\"} 18446744073709551615\n"
           "# HELP b Another.\n# TYPE b gauge\n"
           "b{model=\"digits\"} 25\n");
}

// A label's value may come from a configuration or a worker: it can neither end the string nor the line.
static void labels_are_escaped(void **state)
{
    (void)state;
    static const struct {
        const char *value, *want;
    } rows[] = {
        {"", ""},
        {"plain", "plain"},
        {"a\"b", "a\\\"b"},
        {"a\\b", "a\\\\b"},
        {"a\\\"", "a\\\\\\\""},
        {"two\nlines", "two\\nlines"},
        {"\r\t\x1b[31m\x7f", "???[31m?"},
        {"\"} 1\nb_total{x=\"", "\\\"} 1\\nb_total{x=\\\""},
        {"caf\xc3\xa9", "caf\xc3\xa9"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct prom p;
        struct prom_label label = PROM_LABEL("x", view_str(rows[i].value));
        char want[200];
        buffer_reset(&page);
        prom_init(&p, &page);
        p.family = "a_total";
        prom_count(&p, &label, 1, 1);
        snprintf(want, sizeof(want), "a_total{x=\"%s\"} 1\n", rows[i].want);
        expect(want);
    }
}

static void histograms(void **state)
{
    (void)state;
    static const uint64_t bounds[] = {100, 1000, 2500000};
    struct hist *h = mem_must(sizeof(*h));
    struct prom_label label = PROM_LABEL("stage", VIEW("total"));
    struct prom p;
    hist_init(h);
    prom_init(&p, &page);
    prom_family(&p, "t_seconds", "histogram", "Time.");
    prom_hist(&p, &label, 1, h, bounds, 3, 1e6);
    expect("# HELP t_seconds Time.\n# TYPE t_seconds histogram\n"
           "t_seconds_bucket{stage=\"total\",le=\"0.0001\"} 0\n"
           "t_seconds_bucket{stage=\"total\",le=\"0.001\"} 0\n"
           "t_seconds_bucket{stage=\"total\",le=\"2.5\"} 0\n"
           "t_seconds_bucket{stage=\"total\",le=\"+Inf\"} 0\n"
           "t_seconds_sum{stage=\"total\"} 0\n"
           "t_seconds_count{stage=\"total\"} 0\n");
    hist_add(h, 50);
    hist_add(h, 500);
    hist_add(h, 3000000);
    buffer_reset(&page);
    prom_hist(&p, NULL, 0, h, bounds, 3, 1e6);
    expect("t_seconds_bucket{le=\"0.0001\"} 1\n"
           "t_seconds_bucket{le=\"0.001\"} 2\n"
           "t_seconds_bucket{le=\"2.5\"} 2\n"
           "t_seconds_bucket{le=\"+Inf\"} 3\n"
           "t_seconds_sum 3.00055\n"
           "t_seconds_count 3\n");
    buffer_reset(&page);
    static const uint64_t rows[] = {1, 64, 512};
    hist_init(h);
    hist_add(h, 1);
    hist_add(h, 64); // full batches: on the edges, and counted there
    hist_add(h, 65);
    hist_add(h, 512);
    prom_hist(&p, NULL, 0, h, rows, 3, 1);
    expect("t_seconds_bucket{le=\"1\"} 1\nt_seconds_bucket{le=\"64\"} 2\n"
           "t_seconds_bucket{le=\"512\"} 4\n"
           "t_seconds_bucket{le=\"+Inf\"} 4\nt_seconds_sum 642\nt_seconds_count 4\n");
    mem_free(h);
}

// The count is added before its bucket, or behind it: whichever a scrape sees, the buckets never go down.
static void a_writer_in_between(void **state)
{
    (void)state;
    static const uint64_t bounds[] = {100};
    struct hist *h = mem_must(sizeof(*h));
    struct prom p;
    hist_init(h);
    hist_add(h, 50);
    atomic_store(&h->count, 0);
    prom_init(&p, &page);
    p.family = "t";
    prom_hist(&p, NULL, 0, h, bounds, 1, 1);
    expect("t_bucket{le=\"100\"} 1\nt_bucket{le=\"+Inf\"} 1\nt_sum 50\nt_count 1\n");
    mem_free(h);
}

static void no_memory(void **state)
{
    (void)state;
    for (unsigned n = 1;; n++) {
        struct prom p;
        buffer_deinit(&page);
        buffer_init(&page);
        prom_init(&p, &page);
        mem_fail_at(n);
        for (unsigned i = 0; i < 50; i++) {
            prom_family(&p, "a_total", "counter", "What it is.");
            prom_count(&p, NULL, 0, i);
        }
        mem_fail_at(0);
        if (!p.failed) {
            assert_true(n > 3);
            return;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(families, setup, teardown),
        cmocka_unit_test_setup_teardown(labels_are_escaped, setup, teardown),
        cmocka_unit_test_setup_teardown(histograms, setup, teardown),
        cmocka_unit_test_setup_teardown(a_writer_in_between, setup, teardown),
        cmocka_unit_test_setup_teardown(no_memory, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
