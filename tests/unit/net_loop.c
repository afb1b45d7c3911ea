/* Loops: turn order, timers, flush and deferred calls; then the mailbox under several threads (built with
 * -fsanitize=thread as well): exact counts, first in first out for each producer, no lost wake-up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "net/loop.h"
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static uint64_t mono_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static bool wait_for(_Atomic unsigned *what, unsigned value, unsigned seconds)
{
    uint64_t end_us = mono_us() + seconds * 1000000ull;
    while (atomic_load(what) < value) {
        if (mono_us() > end_us) {
            print_error("waited for %u, have %u\n", value, atomic_load(what));
            return false;
        }
        usleep(1000);
    }
    return true;
}

// ---- one loop, turned by hand ------------------------------------------------------------------------------

struct trace {
    char steps[64];
    unsigned n;
};

static struct trace trace;

static void step(char c)
{
    trace.steps[trace.n++] = c;
    trace.steps[trace.n] = 0;
}

struct fixture {
    struct loop *l;
    struct loop_flush flush;
    struct loop_call call;
    struct wheel_timer timer;
    struct loop_task task, task2;
    int again;
};

static struct fixture fx;

static void on_flush(struct loop *l, struct loop_flush *f)
{
    step('f');
    if (fx.again-- > 0)
        loop_flush_later(l, f);
}

static void on_task2(struct loop *l, struct loop_task *t)
{
    step('2');
}

static void on_task(struct loop *l, struct loop_task *t)
{
    step('1');
    loop_flush_later(l, &fx.flush);
    loop_flush_later(l, &fx.flush); // flagged twice, called once
}

static void on_call(struct loop *l, struct loop_call *c)
{
    step('c');
    if (fx.again-- > 0)
        loop_defer(l, c); // next turn, not this one
    loop_post_task(l, l, &fx.task2);
}

static void on_timer(struct wheel_timer *t, uint64_t now_us)
{
    step('t');
}

static int setup(void **state)
{
    trace = (struct trace){0};
    fx = (struct fixture){0};
    fx.l = loop_new(0, "test", 1);
    assert_non_null(fx.l);
    fx.flush.fn = on_flush;
    fx.call.fn = on_call;
    fx.timer.fn = on_timer;
    fx.task.fn = on_task;
    fx.task2.fn = on_task2;
    return 0;
}

static int teardown(void **state)
{
    loop_free(fx.l);
    return 0;
}

static void turn_has_its_order(void **state)
{
    wheel_set(loop_wheel(fx.l), &fx.timer, 0);
    loop_post_task(NULL, fx.l, &fx.task); // pushed at once
    loop_defer(fx.l, &fx.call);           // posts task2 to its own loop: behind task
    loop_turn(fx.l, true);
    assert_string_equal(trace.steps, "c12tf");
}

static void flush_flags_itself_again(void **state)
{
    fx.again = 2;
    loop_flush_later(fx.l, &fx.flush);
    loop_turn(fx.l, true);
    assert_string_equal(trace.steps, "fff");
    loop_flush_later(fx.l, &fx.flush);
    loop_flush_cancel(&fx.flush);
    loop_flush_cancel(&fx.flush);
    loop_turn(fx.l, false);
    assert_string_equal(trace.steps, "fff");
}

static void endless_flush_does_not_hold_the_turn(void **state)
{
    fx.again = 1000;
    loop_flush_later(fx.l, &fx.flush);
    uint64_t took_us = UINT64_MAX;
    for (int i = 0; i < 15 && took_us >= 150000; i++) { // a busy machine may spoil some
        uint64_t began_us = mono_us();
        trace.n = 0;
        loop_turn(fx.l, true);
        loop_turn(fx.l, true); // does not sleep: something is flagged still
        took_us = mono_us() - began_us;
        assert_true(trace.n < 64 && trace.n >= 4);
    }
    assert_true(took_us < 150000);
    loop_flush_cancel(&fx.flush);
}

static void deferred_call_runs_next_turn_without_sleep(void **state)
{
    uint64_t took_us = UINT64_MAX;
    for (int i = 0; i < 20 && took_us >= 100000; i++) { // as above
        trace.n = 0;
        fx.again = 1;
        loop_defer(fx.l, &fx.call);
        loop_turn(fx.l, true);
        assert_string_equal(trace.steps, "c2");
        uint64_t began_us = mono_us();
        loop_turn(fx.l, true);
        took_us = mono_us() - began_us;
        assert_string_equal(trace.steps, "c2c2");
    }
    assert_true(took_us < 100000);
    loop_defer(fx.l, &fx.call);
    loop_defer_cancel(&fx.call);
    loop_turn(fx.l, false);
    assert_string_equal(trace.steps, "c2c2");
}

struct busy {              // a call that works, and comes back
    struct loop_call call; // first
    uint64_t works_us;
    unsigned ran;
};

static void work(struct loop *l, struct loop_call *c)
{
    struct busy *w = (struct busy *)c;
    uint64_t until_us = mono_us() + w->works_us;
    while (mono_us() < until_us)
        ;
    w->ran++;
    loop_defer(l, c);
}

// Calls that work take turns: a turn ends when it has worked for LOOP_TURN_US, and the next goes on where it did.
static void calls_that_work_take_turns(void **state)
{
    struct busy w[20] = {0};
    for (unsigned i = 0; i < 20; i++) {
        w[i].call.fn = work;
        w[i].works_us = LOOP_TURN_US / 4;
        loop_defer(fx.l, &w[i].call);
    }
    unsigned turns = 0;
    for (; w[19].ran < 3; turns++) {
        loop_turn(fx.l, true); // does not sleep
        for (unsigned i = 1; i < 20;
             i++) // in order, and nobody twice before all have had their turn
            assert_true(w[i].ran <= w[i - 1].ran && w[i - 1].ran <= w[i].ran + 1);
        assert_true(w[0].ran <= w[19].ran + 1);
    }
    assert_true(turns >= 3 * 20 / 5);
    assert_true(turns <= 3 * 20); // at least one call a turn, however slow the machine
    for (unsigned i = 0; i < 20; i++)
        loop_defer_cancel(&w[i].call);
    unsigned ran = w[0].ran + w[19].ran;
    loop_turn(fx.l, false); // those that were due are gone as well
    assert_int_equal(w[0].ran + w[19].ran, ran);
}

static void timers_fire_in_time(void **state)
{
    for (unsigned ms = 1; ms <= 30; ms += 7) {
        uint64_t late_us = UINT64_MAX;
        for (int i = 0; i < 50 && late_us >= 50000; i++) { // as above
            trace.n = 0;
            uint64_t at_us = mono_us() + ms * 1000;
            wheel_set(loop_wheel(fx.l), &fx.timer, at_us);
            while (trace.n == 0)
                loop_turn(fx.l, true);
            uint64_t now_us = mono_us();
            assert_true(now_us >= at_us);
            late_us = now_us - at_us; // 1 ms on a quiet machine
        }
        assert_true(late_us < 50000);
    }
}

static void idle_loop_leaves_a_heartbeat(void **state)
{
    _Atomic uint64_t beat = 0;
    fx.l->heartbeat = &beat;
    uint64_t least_us = UINT64_MAX, all_us = 0;
    for (int i = 0; i < 5 || (least_us >= 250000 && i < 50); i++) {
        uint64_t began_us = mono_us();
        loop_turn(fx.l, true);
        uint64_t took_us = mono_us() - began_us;
        assert_true(atomic_load(&beat) >= began_us);
        least_us = took_us < least_us ? took_us : least_us;
        all_us += took_us;
    }
    assert_true(least_us < 250000); // what the keeper counts on, unless the machine stands still
    assert_true(all_us > 200000);   // and it does sleep
}

static void clock_stands_within_a_turn(void **state)
{
    uint64_t now_us = loop_now_us(fx.l);
    usleep(3000);
    assert_int_equal(loop_now_us(fx.l), now_us);
    loop_turn(fx.l, false);
    assert_true(loop_now_us(fx.l) >= now_us + 3000);
    uint64_t wall = loop_wall_us(fx.l), real = (uint64_t)time(NULL) * 1000000;
    assert_true(wall + 3000000 > real && wall < real + 3000000);
}

static unsigned seen_kinds[4];
static void on_kind(struct loop *l, struct msg *m, void *ctx)
{
    seen_kinds[*(int *)ctx]++;
}

static void kinds_go_to_their_room(void **state)
{
    static int any = 0, backends = 1;
    struct msg m[3] = {
        {.kind = MSG_ROUTER + 3}, {.kind = MSG_GATEWAY}, {.kind = MSG_BACKENDS + 63}};
    loop_on_msg_range(fx.l, MSG_ROUTER, on_kind, &any);
    loop_on_msg_range(fx.l, MSG_GATEWAY, on_kind, &any);
    loop_on_msg_range(fx.l, MSG_BACKENDS, on_kind, &backends);
    for (int i = 0; i < 3; i++)
        loop_post(fx.l, fx.l, &m[i]);
    loop_turn(fx.l, true);
    assert_int_equal(seen_kinds[any], 2);
    assert_int_equal(seen_kinds[backends], 1);
    assert_int_equal(m[0].from, 0);
}

#ifndef SLUICE_ASAN // where nothing is kept
static unsigned spares(const struct loop *l)
{
    unsigned n = 0;
    for (unsigned k = 0; k < BLOCK_CLASSES; k++)
        n += l->blocks.spares[k];
    return n;
}

static void leave_a_spare(struct loop *l)
{
    struct block *b = block_new(loop_blocks(l), 2000);
    assert_non_null(b);
    block_unref(b);
    assert_int_equal(spares(l), 1);
}

static void who_lost_the_last_connection_gives_memory_back(void **state)
{
    fx.l->rests = true;
    loop_turn(fx.l, false);
    leave_a_spare(fx.l);
    loop_conns_add(fx.l, 2);
    loop_conns_add(fx.l, -1);
    loop_turn(fx.l, false);
    assert_int_equal(spares(fx.l), 1); // it has another
    loop_conns_add(fx.l, -1);
    assert_int_equal(spares(fx.l), 1); // not before the turn's end
    loop_turn(fx.l, false);
    assert_int_equal(spares(fx.l), 0);
    leave_a_spare(fx.l);
    loop_conns_add(fx.l, 1);
    loop_conns_add(fx.l, -1);
    while (spares(fx.l) > 0) // too soon after the first rest: a later turn will do
        loop_turn(fx.l, true);
}

static void who_serves_no_clients_does_not_rest(void **state)
{
    loop_turn(fx.l, false);
    leave_a_spare(fx.l);
    loop_conns_add(fx.l, 1);
    loop_conns_add(fx.l, -1);
    loop_turn(fx.l, false);
    assert_int_equal(spares(fx.l), 1);
}
#endif

// ---- several loops -------------------------------------------------------------------------------------

enum { LOOPS = 3, WINDOW = 32, KIND_OUT = 1, KIND_BACK = 2 };
#ifdef __SANITIZE_THREAD__
enum { ROUNDS = 20000, HOPS = 4000, OUTSIDE = 20000 };
#else
enum { ROUNDS = 60000, HOPS = 20000, OUTSIDE = 60000 };
#endif

struct parcel {
    struct msg msg; // first
    unsigned owner;
    uint64_t seq;
};

static struct loops set;
static struct parcel parcels[LOOPS][LOOPS][WINDOW]; // [sender][receiver]
static struct {                                     // touched by the loop of the first index alone
    uint64_t next_out[LOOPS], next_in[LOOPS], next_back[LOOPS];
    uint64_t outside_next;
} at[LOOPS];
static _Atomic unsigned finished, outside_done, wrong;

static void send_next(struct loop *l, unsigned to, struct parcel *p)
{
    uint64_t *next = &at[l->index].next_out[to];
    if (*next == ROUNDS)
        return;
    p->seq = (*next)++;
    p->owner = l->index;
    p->msg.kind = KIND_OUT;
    loop_post(l, set.loop[to], &p->msg);
}

static void on_parcel(struct loop *l, struct msg *m, void *ctx)
{
    struct parcel *p = (struct parcel *)m;
    if (m->from == UINT16_MAX) { // from outside any loop
        if (p->seq != at[l->index].outside_next++)
            atomic_fetch_add(&wrong, 1);
        atomic_fetch_add(&outside_done, 1);
        return;
    }
    if (m->kind == KIND_OUT) {
        if (p->seq != at[l->index].next_in[p->owner]++ || m->from != p->owner)
            atomic_fetch_add(&wrong, 1);
        m->kind = KIND_BACK;
        loop_post(l, set.loop[p->owner], m);
        return;
    }
    if (p->seq != at[l->index].next_back[m->from]++)
        atomic_fetch_add(&wrong, 1);
    if (at[l->index].next_back[m->from] == ROUNDS)
        atomic_fetch_add(&finished, 1);
    send_next(l, m->from, p);
}

static void on_start(struct loop *l, void *ctx)
{
    for (unsigned to = 0; to < LOOPS; to++)
        for (unsigned i = 0; i < WINDOW; i++)
            send_next(l, to, &parcels[l->index][to][i]);
}

static void mailbox_loses_and_reorders_nothing(void **state)
{
    static struct parcel outside[OUTSIDE];
    assert_int_equal(loops_init(&set, LOOPS, 7), 0);
    set.on_start = on_start;
    for (unsigned i = 0; i < LOOPS; i++)
        loop_on_msg_range(set.loop[i], MSG_ROUTER, on_parcel, NULL);
    assert_int_equal(loops_start(&set), 0);
    for (unsigned i = 0; i < OUTSIDE; i++) {
        outside[i].seq = i;
        loop_post(NULL, set.loop[0], &outside[i].msg);
    }
    bool all = wait_for(&finished, LOOPS * LOOPS, 60) && wait_for(&outside_done, OUTSIDE, 60);
    loops_stop(&set);
    assert_true(all);
    assert_int_equal(wrong, 0);
    for (unsigned i = 0; i < LOOPS; i++)
        for (unsigned k = 0; k < LOOPS; k++)
            assert_int_equal(at[i].next_in[k], ROUNDS);
    assert_int_equal(outside_done, OUTSIDE);
    loops_deinit(&set);
}

// One message, hop by hop: each hop finds the other loop asleep. A lost wake-up shows as a hop that waits
// for the heartbeat (a fifth of a second): a thousand of them would not fit the time.
static _Atomic unsigned hops;
static void on_hop(struct loop *l, struct msg *m, void *ctx)
{
    if (atomic_fetch_add(&hops, 1) + 1 < HOPS)
        loop_post(l, set.loop[1 - l->index], m);
}

static void sleeping_loops_are_woken(void **state)
{
    static struct msg ball = {.kind = MSG_ROUTER};
    assert_int_equal(loops_init(&set, 2, 7), 0);
    for (unsigned i = 0; i < 2; i++)
        loop_on_msg_range(set.loop[i], MSG_ROUTER, on_hop, NULL);
    assert_int_equal(loops_start(&set), 0);
    uint64_t began_us = mono_us();
    loop_post(NULL, set.loop[0], &ball);
    bool all = wait_for(&hops, HOPS, 60);
    uint64_t took_us = mono_us() - began_us;
    loops_stop(&set);
    uint64_t turns = loop_turns(set.loop[0]);
    loops_deinit(&set);
    assert_true(all);
    print_message("%u hops, %.1f us each\n", HOPS, (double)took_us / HOPS);
    assert_true(turns < HOPS * 2 + 1000); // no spinning either
}

static void loops_stop_from_outside_at_once(void **state)
{
    for (int i = 0; i < 20; i++) {
        assert_int_equal(loops_init(&set, 2, 7), 0);
        assert_int_equal(loops_start(&set), 0);
        uint64_t began_us = mono_us();
        loops_stop(&set);
        assert_true(mono_us() - began_us < 20000000);
        loops_deinit(&set);
    }
}

// A block made on one loop and let go on another comes home.
static struct block *travelling;
static _Atomic unsigned released;
static struct loop_task make_task, drop_task;
static void on_free(struct block *b, void *arg)
{
    if (pthread_equal(pthread_self(), set.loop[0]->thread))
        atomic_fetch_add(&released, 1);
}
static void drop_block(struct loop *l, struct loop_task *t)
{
    block_unref(travelling);
}
static void make_block(struct loop *l, struct loop_task *t)
{
    travelling = block_new(loop_blocks(l), 1000);
    travelling->on_free = on_free;
    drop_task.fn = drop_block;
    loop_post_task(l, set.loop[1], &drop_task);
}

static void blocks_come_home(void **state)
{
    assert_int_equal(loops_init(&set, 2, 7), 0);
    assert_int_equal(loops_start(&set), 0);
    make_task.fn = make_block;
    loop_post_task(NULL, set.loop[0], &make_task);
    bool home = wait_for(&released, 1, 5);
    loops_stop(&set);
    loops_deinit(&set);
    assert_true(home);
}

// `loops` may be 256, and the main thread has a loop of its own behind them.
static void most_loops_and_the_main_thread(void **state)
{
    struct rlimit files;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    struct loops s;
    assert_int_equal(loops_init(&s, 256, 1), 0);
    struct loop *last = loop_new(s.n, "main", 2);
    assert_non_null(last);
    loop_free(last);
    loops_deinit(&s);
}

int main(void)
{
    alarm(300);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(turn_has_its_order, setup, teardown),
        cmocka_unit_test_setup_teardown(flush_flags_itself_again, setup, teardown),
        cmocka_unit_test_setup_teardown(endless_flush_does_not_hold_the_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(calls_that_work_take_turns, setup, teardown),
        cmocka_unit_test_setup_teardown(deferred_call_runs_next_turn_without_sleep, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(timers_fire_in_time, setup, teardown),
        cmocka_unit_test_setup_teardown(idle_loop_leaves_a_heartbeat, setup, teardown),
        cmocka_unit_test_setup_teardown(clock_stands_within_a_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(kinds_go_to_their_room, setup, teardown),
#ifndef SLUICE_ASAN
        cmocka_unit_test_setup_teardown(who_lost_the_last_connection_gives_memory_back, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(who_serves_no_clients_does_not_rest, setup, teardown),
#endif
        cmocka_unit_test(mailbox_loses_and_reorders_nothing),
        cmocka_unit_test(sleeping_loops_are_woken),
        cmocka_unit_test(loops_stop_from_outside_at_once),
        cmocka_unit_test(blocks_come_home),
        cmocka_unit_test(most_loops_and_the_main_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
