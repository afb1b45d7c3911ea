// Who serves by another configuration: who keeps number and name, who comes, who goes, who replaces whom and when it starts.
#include "keeper/places.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// cmocka wants the four above before it
#include <cmocka.h>

#define LISTEN "listen \"a\" { address = \"127.0.0.1:0\" }\n"
#define MOST 16

static struct {
    struct worker_place at[MOST];
    struct config *of[MOST]; // whose words it has
    unsigned n;
    uint32_t last;
} stage;

static struct config *parse(const char *workers)
{
    char text[2000];
    struct config_errors e;
    snprintf(text, sizeof(text), LISTEN "%s", workers);
    struct config *c = config_parse(view_str(text), "t.conf", &e);
    if (!c)
        fail_msg("refused: %s", e.error[0].text);
    return c;
}

static struct worker_place *places(void)
{
    for (unsigned i = 0; i < stage.n; i++)
        stage.at[i].next = i + 1 < stage.n ? &stage.at[i + 1] : NULL;
    return stage.n ? stage.at : NULL;
}

static struct worker_place *place(uint32_t number)
{
    for (unsigned i = 0; i < stage.n; i++) {
        if (stage.at[i].number == number)
            return &stage.at[i];
    }
    fail_msg("no place %u", number);
    return NULL;
}

// As places.c does it, without processes.
static void come(struct config *c, const struct plan_row *row)
{
    const struct config_worker *w = &c->workers[row->to_be.section];
    struct worker_place *p = &stage.at[stage.n];
    assert_true(stage.n < MOST);
    *p = (struct worker_place){.number = row->to_be.number,
                               .replica = row->to_be.replica,
                               .section = (char *)(uintptr_t)w->name,
                               .command = (char **)(uintptr_t)w->command,
                               .command_count = w->command_count};
    if (row->to_be.address != BOOT_LOCAL)
        p->remote = (char *)(uintptr_t)w->addresses[row->to_be.address].text;
    stage.of[stage.n++] = config_ref(c);
}

static void say(char *out, size_t size, const struct places_plan *plan)
{
    int at = 0;
    out[0] = '\0';
    for (unsigned i = 0; i < plan->n; i++) {
        const struct plan_row *r = &plan->rows[i];
        at += snprintf(out + at, size - (size_t)at, "%s%u=%u/%u", i ? " " : "", r->to_be.number,
                       r->to_be.section, r->to_be.replica);
        if (r->to_be.replaces)
            at += snprintf(out + at, size - (size_t)at, "%s%u", r->to_be.before ? "<" : ">",
                           r->to_be.replaces);
        if (r->after)
            at += snprintf(out + at, size - (size_t)at, "@%u", r->after);
        if (r->old)
            at += snprintf(out + at, size - (size_t)at, "-");
    }
}

// The plan: NUMBER=SECTION/REPLICA, ">N" that it replaces (after), "<N" (before), "@N" starts when that one has ended,
// "-" it goes when the one that replaces it is there. It is applied.
static void plan(const char *workers, const char *want)
{
    struct places_plan p;
    char got[400];
    struct config *c = parse(workers);
    places_plan(places(), c, stage.last, &p);
    say(got, sizeof(got), &p);
    assert_string_equal(got, want);
    for (unsigned i = 0; i < stage.n; i++)
        stage.at[i].state = PLACE_GOES;
    for (unsigned i = 0; i < p.n; i++) {
        if (p.rows[i].to_be.number > stage.last)
            come(c, &p.rows[i]);
        struct worker_place *at = place(p.rows[i].to_be.number);
        at->state = PLACE_SERVES;
        at->replaces = p.rows[i].to_be.replaces;
        at->before = p.rows[i].to_be.before;
        at->after = p.rows[i].after;
    }
    stage.last = p.last;
    places_plan_deinit(&p);
    config_unref(c);
}

static void runs(uint32_t number)
{
    place(number)->child.state = CHILD_RUNNING;
    place(number)->child.starts = 1;
}

// It has ended, and its place is free.
static void ended(uint32_t number)
{
    unsigned i = (unsigned)(place(number) - stage.at);
    config_unref(stage.of[i]);
    for (stage.n--; i < stage.n; i++) {
        stage.at[i] = stage.at[i + 1];
        stage.of[i] = stage.of[i + 1];
    }
}

static int clear(void **state)
{
    while (stage.n > 0)
        ended(stage.at[0].number);
    stage.last = 0;
    return 0;
}

#define A(n) "worker \"a\" { command = {\"a\", \"x\"} replicas = " #n " }\n"
#define A2(n) "worker \"a\" { command = {\"a\", \"y\"} replicas = " #n " }\n"
#define B2(n) "worker \"a\" { command = {\"a\", \"y\"} replicas = " #n " replace = before }\n"
#define R(...) "worker \"r\" { addresses = {" __VA_ARGS__ "} }\n"

static void addresses(void **state)
{
    plan(R("\"grpc://h:1\", \"grpc://h:2\""), "1=0/0 2=0/1");
    plan(R("\"grpc://h:2\", \"grpc://h:1\""), "2=0/1 1=0/0"); // the same in another order
    plan(R("\"grpc://h:2\", \"grpc://h:3\""),
         "2=0/1 3=0/2"); // the first goes, and still has its name
    plan(R("\"grpc://h:2\", \"grpc://h:3\", \"grpc://h:1\""), "2=0/1 3=0/2 4=0/3");
    ended(1);
    plan(R("\"grpc://h:2\", \"grpc://h:2\""), "2=0/1 5=0/0");              // twice the same is two
    plan(A(1) R("\"grpc://h:2\""), "6=0/0 2=1/1");                         // sections have moved
    plan(A(1) "worker \"r\" { command = {\"a\", \"x\"} }", "6=0/0 7=1/4"); // of another kind
}

static void counted_up_and_down(void **state)
{
    plan(A(2), "1=0/0 2=0/1");
    runs(1), runs(2);
    plan(A(4), "1=0/0 2=0/1 3=0/2 4=0/3");
    plan(A(1), "1=0/0"); // the oldest stays
    plan(A(2), "1=0/0 5=0/4");
    ended(2), ended(3), ended(4);
    plan(A(3), "1=0/0 5=0/4 6=0/1");
    plan(A(3) "worker \"b\" { command = {\"a\", \"x\"} }", "1=0/0 5=0/4 6=0/1 7=1/0");
}

static void the_old_one_ends_first(void **state)
{
    plan(A(2), "1=0/0 2=0/1");
    runs(1), runs(2);
    plan(A2(2), "3=0/2>1@1 1=0/0- 4=0/3>2@2 2=0/1-");
    // The same again, and counted down: who waits for its turn goes, and the one that it was to replace.
    plan(A2(2), "3=0/2>1@1 4=0/3>2@2 1=0/0- 2=0/1-");
    ended(1);
    runs(3);
    plan(
        A2(2),
        "3=0/2>1@1 4=0/3>2@2 2=0/1-"); // that it has replaced one is remembered: the next one waits for it
    plan(A2(1), "3=0/2>1@1");
    plan(A2(3), "3=0/2>1@1 5=0/0 6=0/4");
}

static void taken_back(void **state)
{
    plan(A(2), "1=0/0 2=0/1");
    runs(1), runs(2);
    plan(A2(2), "3=0/2>1@1 1=0/0- 4=0/3>2@2 2=0/1-");
    ended(1);
    place(3)->child.starts = 5; // it does not come up
    plan(A(2), "2=0/1 5=0/0>3@3 3=0/2-");
    ended(3);
    runs(5);
    // Another one, while one does not run: that one first.
    place(5)->child.state = CHILD_WAITING;
    ended(4);
    plan(A2(2), "6=0/2>5@5 5=0/0- 7=0/3>2@2 2=0/1-");
}

static void the_new_one_is_ready_first(void **state)
{
    plan(A(3), "1=0/0 2=0/1 3=0/2");
    runs(1), runs(2), runs(3);
    plan(B2(2), "4=0/3<1 1=0/0- 5=0/4<2@1 2=0/1-");
    runs(4);
    plan(B2(3), "4=0/3<1 5=0/4<2@1 1=0/0- 2=0/1- 6=0/5"); // 3 goes as it was to
    ended(1), ended(2), ended(3);
    plan(A(1), "7=0/0>4@4 4=0/3-"); // one too many, that does not run, goes at once
    ended(5), ended(6);
    plan(B2(1), "4=0/3"); // taken back before anything has come of it
    plan(A(1), "8=0/1>4@4 4=0/3-");
    runs(8);
    plan("worker \"a\" { command = {\"z\"} replace = before }",
         "9=0/2<4 4=0/3-"); // the older of two is the one that surely serves
}

static void kept_numbers_of_others(void **state)
{
    plan(A(1) R("\"grpc://h:1\""), "1=0/0 2=1/0");
    plan(R("\"grpc://h:1\""), "2=0/0");
    plan(R("\"grpc://h:1\"") A(1), "2=0/0 3=1/1"); // 1 is on its way out
    place(1)->state = PLACE_STOPS;
    plan(A(2), "3=0/1 4=0/2");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_teardown(f, clear)
    const struct CMUnitTest tests[] = {
        TEST(addresses),  TEST(counted_up_and_down),        TEST(the_old_one_ends_first),
        TEST(taken_back), TEST(the_new_one_is_ready_first), TEST(kept_numbers_of_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
