// gateway/homes: a model's home without memory for its desk (row 141).
#include "base/mem.h"
#include "gateway/homes.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>
// cmocka wants the above before it
#include <cmocka.h>

static struct part *part;
static struct msg *back[8];
static unsigned n_back;

static void on_back(struct loop *l, struct msg *m, void *ctx)
{
    (void)l;
    (void)ctx;
    back[n_back++] = m;
}

static int make(void **state)
{
    static struct gateway g;
    static struct part p;
    static struct config none;
    static struct snapshot snap;
    char why[FILE_WHY];
    struct model_rules rules = {.max_rows = 4, .queue_rows = 16, .deadline_us = 1000000};
    (void)state;
    g = (struct gateway){.loops.n = 1};
    g.loops.loop[0] = loop_new(0, "test", 1);
    g.table = table_new(1);
    g.log = log_new(1, 4096);
    log_set_level(g.log, LOG_ERROR); // nothing that it tells is looked at
    snap.chains = chains_new(&none, why);
    p = (struct part){.gateway = &g, .loop = g.loops.loop[0], .snap = &snap};
    effects_init(&p.fx, loop_blocks(p.loop));
    effects_add(&p.fx, FX_NOTE); // its list takes memory with the first: not what is tested here
    p.fx.n = 0;
    loop_on_msg_range(p.loop, MSG_ROUTER, on_back, NULL);
    part = &p;
    n_back = 0;
    return table_add(g.table, VIEW("m"), &rules) ? 0 : -1;
}

static int clean(void **state)
{
    (void)state;
    homes_free(part);
    effects_deinit(&part->fx);
    chains_free(part->snap->chains);
    table_free(part->gateway->table);
    log_free(part->gateway->log);
    loop_free(part->loop);
    return 0;
}

static struct ticket lent(const struct infer_request *q)
{
    struct ticket t = {.to.model = table_find(part->gateway->table, VIEW("m")), .request = q};
    t.lend.kind = MSG_LEND;
    t.cancel.kind = MSG_CANCEL;
    return t;
}

// The ticket goes back with 503, and a cancel that crosses it is echoed: the n-th allocation fails until none is
// left to fail.
static void no_memory_for_a_desk(void **state)
{
    struct infer_request q = {.model = VIEW("m"), .rows = 1};
    unsigned bounced = 0;
    (void)state;
    for (uint64_t n = 1;; n++) {
        struct ticket t = lent(&q);
        mem_fail_at(n);
        homes_on_msg(part, &t.lend);
        mem_fail_at(0);
        if (t.to.model->desk)
            break; // it has all it needs
        bounced++;
        mem_fail_at(1); // and no memory has come meanwhile
        homes_on_msg(part, &t.cancel);
        mem_fail_at(0);
        loop_turn(part->loop, false);
        assert_int_equal(n_back, 2);
        assert_ptr_equal(back[0], &t.lend);
        assert_int_equal(back[0]->kind, MSG_BACK);
        assert_int_equal(t.error.status, STATUS_UNAVAILABLE);
        assert_ptr_equal(back[1], &t.cancel);
        assert_int_equal(back[1]->kind, MSG_ECHO);
        n_back = 0;
    }
    assert_true(bounced >= 2); // the home, the desk
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(no_memory_for_a_desk, make, clean),
    };
    alarm(300); // a test that waits for ever is one that failed
    return cmocka_run_group_tests(tests, NULL, NULL);
}
