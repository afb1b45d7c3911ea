/* The simulator's world keeps what a doer owes for each effect (tests/conformance/contracts.h), in many worlds
 * with faults of every kind. Its loops do not stand still here: what that excuses is the simulator's business. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"
#include "tests/conformance/contracts.h"
#include "tests/sim/sim.h"
#include <stdlib.h>

#define SEEDS 500

void __real_plan_models(struct world *w);
void __wrap_plan_models(struct world *w);

// The owner's question fails, which makes every loop ask, and then it takes that many more. A question is given its
// time again for bytes that came before the worker stood still, and once for a timer that was late.
static uint64_t hang_us(const struct plan *p)
{
    uint64_t hops_us = 4 * (p->mail_us + p->turn_us) + SIM_EPSILON_US;
    return p->probe.timeout_us * (p->probe.failures + 4) + hops_us;
}

void __wrap_plan_models(struct world *w)
{
    struct plan *p = &w->plan;
    __real_plan_models(w); // the last thing that is drawn
    p->loop_fault = 0;
    struct doer sim = {.name = "the simulator",
                       .turn_us = 0, // in its own turn
                       .wake_us = p->turn_us,
                       .probe_us = hang_us(p),
                       .call_us = p->probe.interval_us + hang_us(p),
                       .close_us = p->turn_us,
                       .store_us = 20000 + p->turn_us};
    contracts_watch(&sim);
}

// An answer that crosses our cancel has left the worker already. Here it comes whenever the device has it, which
// no real one does: those are called back as well.
void __real_calls_cancel(struct loop_of *l, struct batch *b);
void __wrap_calls_cancel(struct loop_of *l, struct batch *b);
void __wrap_calls_cancel(struct loop_of *l, struct batch *b)
{
    const struct call *c = b->call;
    do {
        __real_calls_cancel(l, b);
    } while (c->end == END_ANSWER);
}

static int run_worlds(void **state)
{
    struct world *w = malloc(sizeof(*w));
    (void)state;
    for (unsigned i = 0; i < CONTRACTS; i++)
        contracts[i].kept = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        world_run(w, seed, 0);
        arena_thread_done();
        contracts_over();
    }
    free(w);
    contracts_show(stdout);
    return 0;
}

// ---- breaches are noticed ----------------------------------------------------------------------------

static struct desk desk;
static struct batch batch = {.desk = &desk};
static struct infer infer;
static struct msg letter[2];
static struct block block;
static struct worker_vitals vitals;
static const struct doer strict = {
    .name = "a test", .call_us = 100, .probe_us = 100, .close_us = 100, .store_us = 100};

// An input to the desk's loop, which wants this; NULL: nothing.
static void input(uint64_t now_us, const struct fx *wanted)
{
    struct effects fx = {.at = (struct fx *)wanted, .n = wanted ? 1 : 0};
    contracts_on_input(0, NULL, now_us);
    contracts_on_effects(0, &desk, &fx, 0, now_us);
}

static void wants(const struct fx *what)
{
    input(1, what);
}

static void break_post(void)
{
    wants(&(struct fx){.kind = FX_POST, .msg = &letter[0]});
    wants(&(struct fx){.kind = FX_POST, .msg = &letter[1]});
    contracts_on_message(&letter[1], MSG_LEND, 0);
    contracts_on_message(&letter[0], MSG_LEND, 0);
}

static void break_dispatch(void)
{
    wants(&(struct fx){.kind = FX_DISPATCH, .batch = &batch});
    contracts_on_end(&batch, false, false);
    contracts_on_end(&batch, false, false);
}

static void break_cancel(void)
{
    wants(&(struct fx){.kind = FX_DISPATCH, .batch = &batch});
    wants(&(struct fx){.kind = FX_CANCEL, .batch = &batch});
    input(102, NULL);
    contracts_on_end(&batch, false, false);
}

static void break_probe(void)
{
    contracts_on_replica(&desk, 0, &(struct replica_facts){.vitals = &vitals});
    wants(&(struct fx){.kind = FX_PROBE, .desk = &desk});
    input(102, NULL);
}

static void break_hangs(void)
{
    wants(&(struct fx){.kind = FX_DISPATCH, .batch = &batch});
    wants(&(struct fx){.kind = FX_HANGS, .desk = &desk});
    contracts_on_end(&batch, true, false);
}

static void break_settle(void)
{
    contracts_on_submit(&infer);
    wants(&(struct fx){.kind = FX_SETTLE, .infer = &infer});
    wants(&(struct fx){.kind = FX_SETTLE, .infer = &infer});
    wants(&(struct fx){.kind = FX_RELEASE, .infer = &infer});
}

static void break_release(void)
{
    contracts_on_gone(&infer);
}

static void break_unref(void)
{
    wants(&(struct fx){.kind = FX_UNREF, .block = &block});
}

static void break_wake(void)
{
    wants(&(struct fx){.kind = FX_WAKE, .desk = &desk, .at_us = 50});
    contracts_on_wake(0, &desk, 49);
}

static void break_store(void)
{
    static struct store_ask it = {.desk = &desk};
    wants(&(struct fx){.kind = FX_STORE_GET, .ask = &it});
    contracts_on_stored(&it);
    contracts_on_stored(&it);
}

static void break_turn(void)
{
    contracts_on_input(0, &desk, 1);
    contracts_on_effects(0, &desk, &(struct effects){0}, 0, 1);
    input(2, NULL);
}

static void break_alone(void)
{
    contracts_on_input(0, NULL, 1);
    input(1, NULL);
    contracts_on_effects(0, &desk, &(struct effects){0}, 0, 1);
}

static void (*const breach[CONTRACTS])(void) = {
    [OWED_POST] = break_post,       [OWED_DISPATCH] = break_dispatch, [OWED_CANCEL] = break_cancel,
    [OWED_PROBE] = break_probe,     [OWED_HANGS] = break_hangs,       [OWED_SETTLE] = break_settle,
    [OWED_RELEASE] = break_release, [OWED_UNREF] = break_unref,       [OWED_WAKE] = break_wake,
    [OWED_STORE] = break_store,     [OWED_TURN] = break_turn,         [OWED_ALONE] = break_alone,
};

static void a_breach_is_noticed(void **state)
{
    struct contract_row *c = *state;
    contracts_watch(&strict);
    assert_string_equal(c->broken, "");
    breach[c - contracts]();
    contracts_on_free(0, &desk);
    assert_string_not_equal(c->broken, "");
    for (unsigned i = 0; i < CONTRACTS; i++)
        assert_true(&contracts[i] == c || !contracts[i].broken[0]);
    c->broken[0] = '\0';
}

// ---- the simulator keeps them ------------------------------------------------------------------------

static void contract_is_kept(void **state)
{
    const struct contract_row *c = *state;
    if (c->broken[0])
        fail_msg("%s: %s", c->owed, c->broken);
    assert_true(c->kept > 0);
}

int main(void)
{
    struct CMUnitTest kept[CONTRACTS], noticed[CONTRACTS];
    for (unsigned i = 0; i < CONTRACTS; i++) {
        kept[i] = noticed[i] =
            (struct CMUnitTest){contracts[i].name, contract_is_kept, NULL, NULL, &contracts[i]};
        noticed[i].test_func = a_breach_is_noticed;
    }
    int failed = cmocka_run_group_tests(noticed, NULL, NULL);
    return failed + cmocka_run_group_tests(kept, run_worlds, NULL);
}
