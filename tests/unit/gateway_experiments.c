/* gateway/experiments: from the sections of a file to draws; counts that another configuration takes over; no memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "gateway/experiments.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LOOPS 2
#define FILE_TEXT                                                                                  \
    "listen \"a\" { address = \"127.0.0.1:0\" }\n"                                                 \
    "worker \"w\" { addresses = {\"grpc://10.0.0.7:8001\"} }\n"                                    \
    "layer \"l\" { key = \"header:x-user\" }\n"                                                    \
    "experiment \"one\" { model = \"m\" layer = \"l\" to = 50% force_key_file = \"%s\"\n"          \
    "  target { header = {\"X-Country: de\", \"x-country:at\"} tenant = {\"t\"} parameter = "      \
    "{\"p=1\"} }\n"                                                                                \
    "  variant \"a\" { model = \"m\" weight = %s } variant \"b\" { model = \"n\" weight = %s } "   \
    "}\n"                                                                                          \
    "experiment \"two\" { model = \"m\" layer = \"l\" from = 50%\n"                                \
    "  variant \"a\" { model = \"m\" weight = 10% } variant \"b\" { model = \"o\" weight = 90% } " \
    "}\n"                                                                                          \
    "experiment \"alone\" { model = \"k\" force_key_file = \"%s\"\n"                               \
    "  variant \"a\" { model = \"q\" weight = 10% } variant \"b\" { model = \"r\" weight = 90% } " \
    "}\n"

static char key_file[] = "/tmp/sluice-experiments-XXXXXX";
static char why[FILE_WHY];

static int write_key(void **state)
{
    (void)state;
    int fd = mkstemp(key_file);
    assert_int_equal(write(fd, "a key of testers!\n", 18), 18);
    close(fd);
    return 0;
}

static int drop_key(void **state)
{
    (void)state;
    return unlink(key_file);
}

static const char *top = ""; // before the rest of the file

// FILE_TEXT with its words in the place of %s.
static struct config *parse(const char *a, const char *b)
{
    const char *const words[] = {key_file, a, b, key_file};
    struct config_errors e;
    struct buffer text;
    buffer_init(&text);
    assert_true(buffer_append(&text, top, strlen(top)));
    unsigned word = 0;
    for (const char *p = FILE_TEXT; *p; p++) {
        bool here = p[0] == '%' && p[1] == 's';
        assert_true(buffer_append(&text, here ? words[word] : p, here ? strlen(words[word]) : 1));
        word += here;
        p += here;
    }
    struct config *c = config_parse(buffer_view(&text), "t.conf", &e);
    if (!c)
        fail_msg("refused, line %u: %s", e.error[0].line, e.error[0].text);
    buffer_deinit(&text);
    return c;
}

static struct experiment_draw draw(const struct experiments *all, const char *model,
                                   const struct http_header *headers, unsigned n)
{
    static const struct param p = {.key = {"p", 1}, .type = PARAM_INT64, .i = 1};
    struct infer_request r = {.params = (struct param *)&p, .n_params = 1};
    struct exchange ex = {.headers = (struct http_header *)headers, .n_headers = (uint16_t)n};
    struct experiment_draw d;
    struct error e;
    arena_init(&ex.arena, 0);
    const struct experiment_place *place = experiments_find(all, view_str(model));
    assert_non_null(place);
    assert_true(experiments_draw(place, &ex, &r, VIEW("id"), 0, &d, &e));
    arena_deinit(&ex.arena);
    return d;
}

static void sections_become_draws(void **state)
{
    (void)state;
    struct config *c = parse("50%", "50%");
    struct experiments *all = experiments_new(c, NULL, LOOPS, why);
    assert_non_null(all);
    assert_int_equal(all->n, 2);
    assert_null(experiments_find(all, VIEW("n")));
    assert_null(experiments_find(all, VIEW("")));
    unsigned of[2] = {0};
    for (unsigned i = 0; i < 200; i++) {
        char user[16];
        snprintf(user, sizeof(user), "u%u", i);
        const struct http_header headers[] = {{VIEW("x-user"), view_str(user)},
                                              {VIEW("x-country"), VIEW("at")},
                                              {VIEW("sluice-tenant"), VIEW("t")}};
        struct experiment_draw d = draw(all, "m", headers, 3), bare = draw(all, "m", headers, 1);
        assert_int_equal(d.how, DRAW_TAKEN);
        bool two = view_is(d.experiment->name, "two");
        of[two]++;
        assert_int_equal(bare.how, two ? DRAW_TAKEN : DRAW_NOT_TARGETED);
        assert_true(view_is(d.key, user));
    }
    assert_in_range(of[0], 70, 130);
    assert_int_equal(draw(all, "m", NULL, 0).how, DRAW_NO_KEY);
    assert_int_equal(draw(all, "k", NULL, 0).how, DRAW_TAKEN); // its key is the request's id
    experiments_free(all);
    config_unref(c);
}

// What is live takes the place of what the file says, before any loop has seen it.
static void what_is_live_is_drawn(void **state)
{
    (void)state;
    struct config *c = parse("50%", "50%");
    struct experiments *all = experiments_new(c, NULL, LOOPS, why);
    assert_non_null(all);
    struct experiment_place *p = (struct experiment_place *)experiments_find(all, VIEW("k"));
    struct experiment_live live = {.how = DRAW_PROMOTED, .whole = 1};
    assert_int_equal(draw(all, "k", NULL, 0).how, DRAW_TAKEN);
    assert_true(experiments_put(NULL, p, 0, &live));
    struct experiment_draw d = draw(all, "k", NULL, 0);
    assert_int_equal(d.how, DRAW_PROMOTED);
    assert_null(d.experiment);
    assert_true(view_is(d.model, "r"));
    experiments_free(all);
    config_unref(c);
}

// Of all loops: what clients did wrong is judged by nobody, what takes too long by the histogram's edges.
static void what_guards_are_given(void **state)
{
    (void)state;
    struct config *c = parse("50%", "50%");
    struct experiments *all = experiments_new(c, NULL, LOOPS, why);
    struct trial *t = experiments_find(all, VIEW("k"))->keeps[0].trials[1];
    static struct hist took;
    for (unsigned i = 0; i < LOOPS; i++) {
        struct trial_counts *counts = experiments_counts(t, i);
        assert_non_null(counts);
        counts->requests[STATUS_OK] = 10;
        counts->requests[STATUS_DEADLINE] = 2;
        counts->requests[STATUS_UNAVAILABLE] = 1;
        counts->requests[STATUS_BAD_REQUEST] = counts->requests[STATUS_CLIENT_GONE] = 100;
        counts->fallbacks = 3;
        for (unsigned k = 0; k < 10; k++)
            hist_add(&counts->took, k < 8 ? 1000 : 3000);
    }
    struct guard_counts sum = experiments_sum(t, LOOPS, 2000, &took);
    assert_int_equal(sum.drawn, LOOPS * 213);
    assert_int_equal(sum.errors.n, LOOPS * 13);
    assert_int_equal(sum.errors.bad, LOOPS * 3);
    assert_int_equal(sum.fallbacks.n, LOOPS * 10);
    assert_int_equal(sum.fallbacks.bad, LOOPS * 3);
    assert_int_equal(sum.slow.n, LOOPS * 10);
    assert_int_equal(sum.slow.bad, LOOPS * 2);
    assert_int_equal(took.count, LOOPS * 10);
    assert_int_equal(experiments_sum(t, LOOPS, 0, NULL).slow.n, 0);
    experiments_free(all);
    config_unref(c);
}

// Of all loops, what a cohort had when it was read; what comes behind that is read the next time round.
static void cohorts_are_read_when_they_are_whole(void **state)
{
    (void)state;
    struct config *c = parse("50%", "50%");
    struct experiments *all = experiments_new(c, NULL, LOOPS, why);
    struct trial *t = experiments_find(all, VIEW("k"))->keeps[0].trials[1];
    uint64_t within = COHORT_WITHIN_MIN_US, quarter = within / 4;
    experiments_settle(t, LOOPS, 0, within); // of no counts at all
    for (unsigned i = 0; i < LOOPS; i++) {
        struct trial_counts *counts = experiments_counts(t, i);
        assert_non_null(counts);
        for (unsigned k = 0; k < COHORTS; k++) {
            counts->cohorts[k].n = 10 + k;
            counts->cohorts[k].gained = 1500000;
        }
    }
    unsigned mark = cohort_at(7 * quarter, within);
    experiments_settle(t, LOOPS, 13 * quarter, within);
    assert_int_equal(experiments_settled(t).n, LOOPS * (10 + mark % COHORTS));
    struct guard_counts sum = experiments_sum(t, LOOPS, 0, NULL);
    assert_int_equal(sum.rewards.n, LOOPS * (10 + mark % COHORTS));
    assert_true(sum.rewards.bad == LOOPS * (10 + mark % COHORTS - 1.5));
    experiments_counts(t, 0)->cohorts[mark % COHORTS].n++;
    experiments_settle(t, LOOPS, 12 * quarter, within);
    assert_int_equal(experiments_settled(t).n, LOOPS * (19 + 2 * (mark % COHORTS)));
    experiments_settle(t, LOOPS, 21 * quarter, within);
    assert_int_equal(experiments_settled(t).n, LOOPS * (19 + 2 * (mark % COHORTS)) + 1);
    experiments_free(all);
    config_unref(c);
}

#define WAITS(within)                                                                              \
    "experiment \"g\" { model = \"z\" rewards = {\"c\"} guard { reward = \"c\" reward_within = "   \
    "\"" within "\" }\n"                                                                           \
    "  variant \"a\" { model = \"z\" weight = 50% } variant \"b\" { model = \"y\" weight = 50% } " \
    "}\n"

// Each time that rewards are waited for another time, and only then.
static void another_time_is_another_era(void **state)
{
    (void)state;
    static const struct {
        const char *top;
        unsigned era;
    } files[] = {{WAITS("5s"), 0}, {WAITS("5s"), 0}, {WAITS("6s"), 1}, {WAITS("6s"), 1},
                 {WAITS("5s"), 2}, {WAITS("7s"), 3}, {WAITS("6s"), 0}};
    struct experiments *before = NULL;
    struct config *config = NULL;
    for (unsigned i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        top = files[i].top;
        struct config *c = parse("50%", "50%");
        struct experiments *all = experiments_new(c, before, LOOPS, why);
        assert_non_null(all);
        assert_int_equal(experiments_find(all, VIEW("z"))->keeps[0].era, files[i].era);
        assert_int_equal(experiments_find(all, VIEW("k"))->keeps[0].era, 0);
        experiments_free(before);
        if (config)
            config_unref(config);
        before = all;
        config = c;
    }
    top = "";
    experiments_free(before);
    config_unref(config);
}

// Of a file that names the field of tenants an experiment asks for it, too.
static void a_tenant_is_who_the_file_says(void **state)
{
    (void)state;
    top = "tenant = \"header:x-org\"\n";
    struct config *c = parse("50%", "50%");
    top = "";
    struct experiments *all = experiments_new(c, NULL, LOOPS, why);
    assert_non_null(all);
    unsigned of_file = 0, of_none = 0;
    for (unsigned i = 0; i < 100; i++) {
        char user[16];
        snprintf(user, sizeof(user), "u%u", i);
        struct http_header headers[] = {{VIEW("x-user"), view_str(user)},
                                        {VIEW("x-country"), VIEW("at")},
                                        {VIEW("x-org"), VIEW("t")}};
        of_file += view_is(draw(all, "m", headers, 3).experiment->name, "one");
        headers[2].name = VIEW("sluice-tenant");
        of_none += draw(all, "m", headers, 3).how == DRAW_NOT_TARGETED;
    }
    assert_in_range(of_file, 30, 70);
    assert_int_equal(of_none, of_file);
    experiments_free(all);
    config_unref(c);
}

// For as long as a configuration has the variant.
static void counts_go_on(void **state)
{
    (void)state;
    struct config *c = parse("50%", "50%"), *next = parse("{50%, 20%}", "{50%, 80%}");
    struct experiments *all = experiments_new(c, NULL, LOOPS, why);
    struct trial *t = all->places[1].keeps[0].trials[1];
    experiments_counts(t, 1)->requests[STATUS_OK] = 3;
    experiments_counts(t, 0)->requests[STATUS_DEADLINE] = 2;
    struct experiments *after = experiments_new(next, all, LOOPS, why);
    assert_ptr_equal(after->places[1].keeps[0].trials[1], t);
    assert_ptr_equal(after->places[0].outside, all->places[0].outside);
    assert_ptr_not_equal(after->places[1].keeps[1].trials[1], t);
    experiments_free(all);
    assert_int_equal(experiments_requests(t, LOOPS), 5);
    experiments_free(after);
    config_unref(c);
    config_unref(next);
}

static void no_memory(void **state)
{
    (void)state;
    struct config *c = parse("50%", "50%");
    struct experiments *before = experiments_new(c, NULL, LOOPS, why), *all = NULL;
    int64_t live = mem_live();
    for (unsigned n = 1; !all; n++) {
        mem_fail_at(n);
        all = experiments_new(c, n % 2 ? before : NULL, LOOPS, why);
        mem_fail_at(0);
        if (all)
            break;
        assert_string_equal(why, "out of memory");
        assert_true(mem_live() == live);
        assert_in_range(n, 1, 100);
    }
    experiments_free(all);
    experiments_free(before);
    config_unref(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sections_become_draws),
        cmocka_unit_test(what_is_live_is_drawn),
        cmocka_unit_test(what_guards_are_given),
        cmocka_unit_test(cohorts_are_read_when_they_are_whole),
        cmocka_unit_test(another_time_is_another_era),
        cmocka_unit_test(a_tenant_is_who_the_file_says),
        cmocka_unit_test(counts_go_on),
        cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests_name("gateway/experiments", tests, write_key, drop_key);
}
