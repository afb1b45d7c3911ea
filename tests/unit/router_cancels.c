/* router/desk: a cancel finds its ticket in the queue, aboard, or waiting to be sent again. */
#include "tests/unit/router_worker.h"

static void a_cancel_is_echoed_wherever_it_finds_the_ticket(void **state)
{
    (void)state;
    struct guest *queued = lend(1), *aboard;
    desk_on_cancel(office.desk, &queued->ticket, NOW, &office.fx);
    assert_int_equal(back(queued, STATUS_CLIENT_GONE), 1);
    aboard = lend(1);
    run(NOW);
    struct batch *b = sent();
    forget();
    desk_on_cancel(office.desk, &aboard->ticket, NOW, &office.fx);
    assert_int_equal(back(aboard, STATUS_CLIENT_GONE), 0); // a frame still refers to it
    assert_int_equal(count_fx(FX_CANCEL), 1);
    struct fx *f = next_fx(FX_POST);
    assert_ptr_equal(f->msg, &aboard->ticket.cancel);
    assert_int_equal(f->msg->kind, MSG_ECHO);
    end(b, SEEN_RECALLED, NOW);
    assert_int_equal(back(aboard, STATUS_DEADLINE), 1);
    forget();
    desk_on_cancel(office.desk, &queued->ticket, NOW, &office.fx); // they cross
    assert_int_equal(count_fx(FX_POST), 1);
    assert_int_equal(back(queued, STATUS_CLIENT_GONE), 0);
}

static void a_lost_call_does_not_bring_back_who_is_gone(void **state)
{
    (void)state;
    struct guest *g = lend(1);
    run(NOW);
    struct batch *b = sent();
    desk_on_cancel(office.desk, &g->ticket, NOW, &office.fx);
    forget();
    end(b, SEEN_LOST, NOW);
    assert_int_equal(back(g, STATUS_CLIENT_GONE), 1);
    assert_int_equal(office.desk->replicas.suspects, 0);
    run(NOW);
    assert_null(sent());
}

// Those that wait to be sent again leave as soon as nobody wants them.
static void who_waits_again_can_be_cancelled(void **state)
{
    (void)state;
    lend(1);
    lend(1);
    run(NOW);
    struct batch *b = sent();
    desk_on_replica_down(office.desk, 7, NOW, &office.fx);
    end(b, SEEN_STATUS, NOW);
    run(NOW);
    assert_int_equal(office.desk->n_again, 2);
    forget();
    desk_on_cancel(office.desk, &office.guest[0].ticket, NOW, &office.fx);
    run(NOW);
    assert_int_equal(back(&office.guest[0], STATUS_CLIENT_GONE), 1);
    assert_int_equal(office.desk->n_again, 1);
    forget();
    up(7, 8, "1", NOW);
    run(NOW);
    b = sent();
    assert_ptr_equal(b->tickets[0], &office.guest[1].ticket);
    give_up(b, NOW);
}

// Of those that wait again and those that are out, whoever goes first.
static void cancels_on_both_sides(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++)
        lend(2);
    run(NOW);
    struct batch *b = sent();
    lend(8);
    run(NOW);
    struct batch *out = sent();
    end(b, SEEN_STATUS, NOW); // two halves
    desk_on_replica_down(office.desk, 7, NOW, &office.fx);
    assert_int_equal(office.desk->n_again, 2);
    desk_on_cancel(office.desk, &office.guest[0].ticket, NOW, &office.fx);
    desk_on_cancel(office.desk, &office.guest[4].ticket, NOW, &office.fx);
    forget();
    run(NOW);
    assert_int_equal(back(&office.guest[0], STATUS_CLIENT_GONE), 1);
    assert_false(office.desk->again_cancelled);
    end(out, SEEN_RECALLED, NOW);
    up(7, 8, "1", NOW);
    run(NOW);
    b = sent();
    assert_int_equal(b->n, 1);
    struct batch *other = sent();
    forget();
    desk_on_cancel(office.desk, &office.guest[1].ticket, NOW, &office.fx); // the last aboard
    assert_int_equal(count_fx(FX_CANCEL), 1);
    forget();
    desk_on_cancel(office.desk, &office.guest[2].ticket, NOW, &office.fx); // not the last
    assert_int_equal(count_fx(FX_CANCEL), 0);
    end(b, SEEN_RECALLED, NOW);
    give_up(other, NOW);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        REMOTE(a_cancel_is_echoed_wherever_it_finds_the_ticket),
        REMOTE(a_lost_call_does_not_bring_back_who_is_gone),
        REMOTE(who_waits_again_can_be_cancelled),
        REMOTE(cancels_on_both_sides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
