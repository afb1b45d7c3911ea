/* backends/probe: every rule of its header (P1..P8), and every order of events against a model of what is owed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "backends/probe.h"
#include "base/rand.h"

#define INTERVAL 1000
#define TIMEOUT 200
#define FAILURES 3

static const struct probe_rules rules = {INTERVAL, TIMEOUT, FAILURES};

static struct probe started(bool periodic, uint64_t now_us)
{
    struct probe p;
    probe_start(&p, &rules, periodic, now_us);
    return p;
}

// The owner asks at once, then an interval after each answer.
static void a_periodic_one_asks_by_itself(void **state)
{
    (void)state;
    struct probe p = started(true, 50);
    assert_int_equal(p.due_us, 50);
    assert_int_equal(probe_on_time(&p, 0, 50), PROBE_ASK);
    assert_true(p.out);
    assert_int_equal(p.due_us, 50 + TIMEOUT);
    probe_on_answer(&p, 60);
    assert_false(p.out);
    assert_int_equal(p.due_us, 60 + INTERVAL);
    assert_int_equal(probe_on_time(&p, 9, 60 + INTERVAL), PROBE_ASK);
}

// P8
static void another_asks_on_suspicion_only(void **state)
{
    (void)state;
    struct probe p = started(false, 50);
    assert_true(p.due_us == UINT64_MAX);
    assert_int_equal(probe_on_time(&p, 0, 1000000), PROBE_NOTHING);
    assert_int_equal(probe_on_suspect(&p, 0, 1000000), PROBE_ASK);
    assert_int_equal(probe_on_time(&p, 0, 1000000 + TIMEOUT), PROBE_ASK); // failed once: goes on
    assert_int_equal(p.failures, 1);
    probe_on_answer(&p, 1000000 + TIMEOUT + 1);
    assert_int_equal(p.failures, 0);
    assert_true(p.due_us == UINT64_MAX);
}

// P1, P2, P7: nothing but the clock is needed.
static void silence_is_found_in_time(void **state)
{
    (void)state;
    struct probe p = started(true, 0);
    unsigned asked = 0;
    for (uint64_t now = 0; now < FAILURES * TIMEOUT; now = p.due_us)
        asked += probe_on_time(&p, 7, now) == PROBE_ASK;
    assert_int_equal(asked, FAILURES);
    assert_int_equal(p.due_us, FAILURES * TIMEOUT);
    assert_int_equal(probe_on_time(&p, 7, p.due_us), PROBE_HANGS);
    assert_true(p.due_us == UINT64_MAX);
    for (uint64_t now = 0; now < 100000; now += 77) {
        assert_int_equal(probe_on_time(&p, now, now), PROBE_NOTHING);
        assert_int_equal(probe_on_suspect(&p, now, now), PROBE_NOTHING);
        probe_on_answer(&p, now);
        assert_true(p.due_us == UINT64_MAX);
    }
    probe_start(&p, &rules, false, 100000);
    assert_int_equal(probe_on_suspect(&p, 0, 100000), PROBE_ASK);
}

static void no_failure_allowed_is_one(void **state)
{
    (void)state;
    static const struct probe_rules none = {INTERVAL, TIMEOUT, 0};
    struct probe p;
    probe_start(&p, &none, true, 0);
    assert_int_equal(probe_on_time(&p, 0, 0), PROBE_ASK);
    assert_int_equal(probe_on_time(&p, 0, TIMEOUT), PROBE_HANGS);
}

static void a_timer_before_its_time_is_nothing(void **state)
{
    (void)state;
    struct probe p = started(true, 100);
    assert_int_equal(probe_on_time(&p, 0, 99), PROBE_NOTHING);
    assert_int_equal(probe_on_time(&p, 0, 100), PROBE_ASK);
    assert_int_equal(probe_on_time(&p, 0, 99 + TIMEOUT), PROBE_NOTHING);
    assert_int_equal(p.failures, 0);
}

// P3: each question is prolonged so often, and not longer.
static void bytes_prolong_a_question(void **state)
{
    (void)state;
    struct probe p = started(false, 0);
    assert_int_equal(probe_on_suspect(&p, 0, 0), PROBE_ASK);
    uint64_t now = 0, heard = 0;
    for (unsigned i = 0; i < PROBE_WAITS; i++) {
        now = p.due_us;
        assert_int_equal(probe_on_time(&p, ++heard, now), PROBE_NOTHING);
        assert_int_equal(p.due_us, now + TIMEOUT);
    }
    assert_int_equal(p.failures, 0);
    now = p.due_us;
    assert_int_equal(probe_on_time(&p, ++heard, now), PROBE_ASK); // failed all the same
    assert_int_equal(p.failures, 1);
    assert_int_equal(p.waits, 0);
    now = p.due_us;
    assert_int_equal(probe_on_time(&p, heard, now), PROBE_ASK); // no more of them: failed at once
    assert_int_equal(p.failures, 2);
}

// P4: we slept; the server is not judged for it. The second time it is.
static void our_own_sleep_is_forgiven_once(void **state)
{
    (void)state;
    struct probe p = started(true, 0);
    assert_int_equal(probe_on_time(&p, 0, 0), PROBE_ASK);
    uint64_t now = TIMEOUT + TIMEOUT / 2 + 1;
    assert_int_equal(probe_on_time(&p, 0, now), PROBE_NOTHING);
    assert_int_equal(p.failures, 0);
    assert_int_equal(p.due_us, now + TIMEOUT);
    now = p.due_us + 10 * TIMEOUT;
    assert_int_equal(probe_on_time(&p, 0, now), PROBE_ASK);
    assert_int_equal(p.failures, 1);
    now = p.due_us + 10 * TIMEOUT; // the next question has its own
    assert_int_equal(probe_on_time(&p, 0, now), PROBE_NOTHING);
    assert_int_equal(p.failures, 1);
}

static void a_little_late_is_no_sleep(void **state)
{
    (void)state;
    struct probe p = started(true, 0);
    probe_on_time(&p, 0, 0);
    assert_int_equal(probe_on_time(&p, 0, TIMEOUT + TIMEOUT / 2), PROBE_ASK);
    assert_int_equal(p.failures, 1);
}

// Bytes that lay unread while we slept are not counted twice: neither for the sleep nor as a wait after it.
static void sleep_takes_no_wait(void **state)
{
    (void)state;
    struct probe p = started(true, 0);
    probe_on_time(&p, 0, 0);
    assert_int_equal(probe_on_time(&p, 5, 10 * TIMEOUT), PROBE_NOTHING);
    assert_int_equal(p.waits, 0);
    assert_int_equal(probe_on_time(&p, 5, p.due_us), PROBE_ASK);
    assert_int_equal(p.failures, 1);
}

// The question itself may be late without end: nothing was asked yet.
static void a_late_question_is_asked(void **state)
{
    (void)state;
    struct probe p = started(true, 0);
    assert_int_equal(probe_on_time(&p, 0, 100 * TIMEOUT), PROBE_ASK);
    assert_int_equal(p.due_us, 101 * TIMEOUT);
}

// P5: the answer to a question that has failed already.
static void a_late_answer_is_a_sign_of_life(void **state)
{
    (void)state;
    struct probe p = started(true, 0);
    probe_on_time(&p, 0, 0);
    probe_on_time(&p, 0, TIMEOUT);
    probe_on_time(&p, 0, 2 * TIMEOUT);
    assert_int_equal(p.failures, 2);
    probe_on_answer(&p, 2 * TIMEOUT + 1);
    assert_int_equal(p.failures, 0);
    assert_false(p.out);
    probe_on_answer(&p, 2 * TIMEOUT + 5); // and that of the newest
    assert_int_equal(p.due_us, 2 * TIMEOUT + 5 + INTERVAL);
}

// P6: neither prolongs the question nor asks again.
static void suspicion_does_not_add_up(void **state)
{
    (void)state;
    struct probe p = started(true, 0);
    assert_int_equal(probe_on_suspect(&p, 0, 10), PROBE_ASK); // before its turn
    for (uint64_t now = 11; now < 10 + TIMEOUT; now++)
        assert_int_equal(probe_on_suspect(&p, now, now), PROBE_NOTHING);
    assert_int_equal(p.due_us, 10 + TIMEOUT);
    assert_int_equal(p.heard, 0);
}

static void stopped_is_off(void **state)
{
    (void)state;
    struct probe p = started(true, 0);
    probe_on_time(&p, 0, 0);
    probe_on_time(&p, 0, TIMEOUT);
    probe_stop(&p);
    assert_int_equal(p.failures, 0);
    assert_false(p.out);
    assert_true(p.due_us == UINT64_MAX);
    assert_int_equal(probe_on_suspect(&p, 0, 5000), PROBE_NOTHING);
    assert_int_equal(probe_on_time(&p, 0, 5000), PROBE_NOTHING);
    probe_on_answer(&p, 5000);
    assert_true(p.due_us == UINT64_MAX);
}

// ---- every order of events ---------------------------------------------------------------------------

// What holds whatever has happened.
static void holds(const struct probe *p)
{
    assert_true(p->out == (p->on && p->out));
    assert_in_range(p->waits, 0, PROBE_WAITS);
    if (p->on) {
        assert_in_range(p->failures, 0, FAILURES - 1);
        assert_true(p->failures == 0 || p->out); // it goes on asking (P2, P8)
        assert_true((p->due_us == UINT64_MAX) == (!p->out && !p->periodic));
    } else {
        assert_true(p->due_us == UINT64_MAX);
    }
}

// All words of these letters: an answer, suspicion, bytes, the timer in time, the timer late, a stop, a start.
enum { ANSWER, SUSPECT, BYTES, TIMER, LATE, STOP, START, LETTERS };

struct walk {
    struct probe p;
    uint64_t now, heard;
    unsigned
        questions; // since something was heard, or nothing was asked; HANGS comes of FAILURES of them
};

static void letter(struct walk *w, unsigned event)
{
    bool was_on = w->p.on, was_out = w->p.out;
    enum probe_act act = PROBE_NOTHING;
    w->now++;
    switch (event) {
    case ANSWER:
        probe_on_answer(&w->p, w->now);
        w->questions = 0;
        break;
    case SUSPECT:
        act = probe_on_suspect(&w->p, w->heard, w->now);
        assert_int_equal(act, was_on && !was_out ? PROBE_ASK : PROBE_NOTHING);
        break;
    case BYTES:
        w->heard++;
        break;
    case TIMER:
    case LATE:
        if (w->p.due_us != UINT64_MAX)
            w->now = w->p.due_us + (event == LATE ? TIMEOUT : 0);
        act = probe_on_time(&w->p, w->heard, w->now);
        break;
    case STOP:
        probe_stop(&w->p);
        w->questions = 0;
        break;
    default:
        probe_start(&w->p, &rules, w->p.periodic, w->now);
        w->questions = 0;
        break;
    }
    w->questions += act == PROBE_ASK;
    if (act == PROBE_HANGS)
        assert_int_equal(w->questions, FAILURES);
    holds(&w->p);
}

static void every_order(void **state)
{
    (void)state;
    enum { LONGEST = 7 };
    for (unsigned periodic = 0; periodic < 2; periodic++) {
        uint64_t words = 1;
        for (unsigned i = 0; i < LONGEST; i++)
            words *= LETTERS;
        for (uint64_t word = 0; word < words; word++) {
            struct walk w = {.p = started(periodic, 0)};
            uint64_t rest = word;
            for (unsigned i = 0; i < LONGEST; i++, rest /= LETTERS)
                letter(&w, rest % LETTERS);
        }
    }
}

// Long walks: from any state a server that falls silent is found, and one that answers is never.
static void long_walks(void **state)
{
    (void)state;
    struct rand r;
    rand_seed(&r, 1);
    for (unsigned n = 0; n < 2000; n++) {
        struct walk w = {.p = started(rand_below(&r, 2), 0)};
        for (unsigned i = 0; i < 100; i++)
            letter(&w, (unsigned)rand_below(&r, LETTERS));
        if (!w.p.on)
            continue;
        uint64_t since = w.now + 1;
        if (!w.p.periodic)
            letter(&w, SUSPECT);
        for (unsigned i = 0; w.p.on && i < 100; i++)
            letter(&w, TIMER);
        assert_false(w.p.on);
        assert_in_range(w.now, since, since + INTERVAL + (FAILURES + 1) * TIMEOUT);
    }
}

// The next question comes no later than the new rules say, and no earlier than the old ones; what is out keeps its time.
static void other_rules(void **state)
{
    (void)state;
    struct probe p = started(true, 50);
    static const struct probe_rules soon = {INTERVAL / 4, TIMEOUT / 2, 1},
                                    late = {INTERVAL * 4, TIMEOUT, FAILURES};
    assert_int_equal(probe_on_time(&p, 0, 50), PROBE_ASK);
    probe_set_rules(&p, &soon, 60);
    assert_int_equal(p.due_us, 50 + TIMEOUT);
    probe_on_answer(&p, 70);
    assert_int_equal(p.due_us, 70 + INTERVAL / 4);
    probe_set_rules(&p, &late, 80);
    assert_int_equal(p.due_us, 70 + INTERVAL / 4);
    assert_int_equal(probe_on_time(&p, 9, p.due_us), PROBE_ASK);
    probe_on_answer(&p, 1000);
    assert_int_equal(p.due_us, 1000 + INTERVAL * 4);
    probe_set_rules(&p, &soon, 1001);
    assert_int_equal(p.due_us, 1001 + INTERVAL / 4);
    assert_int_equal(probe_on_time(&p, 9, p.due_us), PROBE_ASK);
    assert_int_equal(probe_on_time(&p, 9, p.due_us), PROBE_HANGS); // one failure is enough now
    probe_set_rules(&p, &rules, 5000);
    assert_int_equal(p.due_us, UINT64_MAX); // it is off
    p = started(false, 50);
    probe_set_rules(&p, &soon, 60);
    assert_int_equal(p.due_us, UINT64_MAX);
}

static void one_that_answers_never_hangs(void **state)
{
    (void)state;
    struct rand r;
    rand_seed(&r, 2);
    struct walk w = {.p = started(true, 0)};
    for (unsigned i = 0; i < 100000; i++) {
        letter(&w, (unsigned)rand_below(&r, STOP));
        if (w.p.out && w.p.failures == FAILURES - 1)
            letter(&w, ANSWER);
        assert_true(w.p.on);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_periodic_one_asks_by_itself),
        cmocka_unit_test(another_asks_on_suspicion_only),
        cmocka_unit_test(silence_is_found_in_time),
        cmocka_unit_test(no_failure_allowed_is_one),
        cmocka_unit_test(a_timer_before_its_time_is_nothing),
        cmocka_unit_test(bytes_prolong_a_question),
        cmocka_unit_test(our_own_sleep_is_forgiven_once),
        cmocka_unit_test(a_little_late_is_no_sleep),
        cmocka_unit_test(sleep_takes_no_wait),
        cmocka_unit_test(a_late_question_is_asked),
        cmocka_unit_test(a_late_answer_is_a_sign_of_life),
        cmocka_unit_test(suspicion_does_not_add_up),
        cmocka_unit_test(stopped_is_off),
        cmocka_unit_test(other_rules),
        cmocka_unit_test(every_order),
        cmocka_unit_test(long_walks),
        cmocka_unit_test(one_that_answers_never_hangs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
