// The keeper's pure parts: how long to wait after a death, what a death says, and whether a loop is stuck.
#include "keeper/backoff.h"
#include "keeper/ending.h"
#include "keeper/tickets.h"
#include "keeper/watchdog.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
// cmocka wants the four above before it
#include <cmocka.h>

static void first_death_is_answered_at_once(void **state)
{
    struct restart_backoff b = {0};
    struct rand r;
    rand_seed(&r, 1);
    assert_int_equal(backoff_after_death(&b, 5000, &r), 0);
    assert_true(backoff_after_death(&b, 5000, &r) > 0);
    // a long life in between forgets
    assert_int_equal(backoff_after_death(&b, BACKOFF_LONG_LIFE_US, &r), 0);
    assert_true(backoff_after_death(&b, BACKOFF_LONG_LIFE_US - 1, &r) > 0);
}

// Row 136: a crash loop slows down to one start in 5 to 10 s and no further, for ever.
static void crash_loop_slows_down(void **state)
{
    struct rand r;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct restart_backoff b = {0};
        rand_seed(&r, seed);
        backoff_after_death(&b, 0, &r);
        uint64_t most = BACKOFF_FIRST_US;
        for (int i = 0; i < 200; i++) {
            uint64_t wait = backoff_after_death(&b, 1000, &r);
            assert_in_range(wait, most / 2, most);
            most = most * 2 < BACKOFF_MOST_US ? most * 2 : BACKOFF_MOST_US;
        }
    }
}

static void pauses_are_spread(void **state)
{
    struct rand r;
    uint64_t low = UINT64_MAX, high = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct restart_backoff b = {.quick_deaths = 1};
        rand_seed(&r, seed);
        uint64_t wait = backoff_after_death(&b, 0, &r);
        low = wait < low ? wait : low;
        high = wait > high ? wait : high;
    }
    assert_true(low < BACKOFF_FIRST_US * 6 / 10 && high > BACKOFF_FIRST_US * 9 / 10);
}

// A crash loop at the start is no reason to wait after a hang, nor the other way round; each has its own pauses.
static void kills_are_counted_apart(void **state)
{
    struct restart_backoff b = {0};
    struct rand r;
    rand_seed(&r, 1);
    for (int i = 0; i < 9; i++)
        backoff_after_death(&b, 5000, &r);
    assert_int_equal(backoff_after_kill(&b, 5000, &r), 0);
    uint64_t most = BACKOFF_FIRST_US;
    for (int i = 0; i < 20; i++) { // hangs again and again
        assert_in_range(backoff_after_kill(&b, BACKOFF_LONG_LIFE_US - 1, &r), most / 2, most);
        most = most * 2 < BACKOFF_MOST_US ? most * 2 : BACKOFF_MOST_US;
    }
    assert_int_equal(backoff_after_kill(&b, BACKOFF_LONG_LIFE_US, &r), 0); // forgets both
    assert_int_equal(backoff_after_death(&b, 5000, &r), 0);
}

// As waitpid() says it: the signal's number, or the status shifted by 8.
static enum boot_end by_signal(int number, bool killed)
{
    return ending_of(number, killed);
}

static enum boot_end by_status(int status, bool killed)
{
    return ending_of(status << 8, killed);
}

static bool is_among(int number, const int *list, size_t n)
{
    bool found = false;
    for (size_t i = 0; i < n; i++)
        found |= list[i] == number;
    return found;
}

static void every_signal_says_what_it_is(void **state)
{
    static const int crash[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS, SIGTRAP};
    const size_t n = sizeof(crash) / sizeof(*crash);
    for (int s = 1; s < NSIG; s++) {
        bool crashed = is_among(s, crash, n);
        assert_int_equal(by_signal(s, false), crashed || s == SIGKILL ? BOOT_CRASHED : BOOT_ENDED);
        assert_int_equal(by_signal(s, true), crashed ? BOOT_CRASHED : BOOT_ENDED);
        int core = s | 0x80; // "core dumped" changes nothing
        assert_int_equal(by_signal(core, false), by_signal(s, false));
    }
}

static void every_status_says_what_it_is(void **state)
{
    static const int asked[] = {0, 128 + SIGTERM, 128 + SIGINT, 128 + SIGHUP};
    for (int status = 0; status < 256; status++) {
        enum boot_end want = is_among(status, asked, 4) ? BOOT_ENDED : BOOT_CRASHED;
        assert_int_equal(by_status(status, false), want);
        assert_int_equal(by_status(status, true), want); // it ended before our signal came
    }
}

// A day's key seals no longer than that day, and opens for at least one more.
static void ticket_keys_rotate_daily(void **state)
{
    struct config_listen plain = {.name = "a"}, tls = {.name = "b", .certificate = "cert.pem"};
    struct config c = {.listens = &plain, .listen_count = 1};
    struct tickets t;
    struct tls_ticket_keys keys, first;
    uint64_t now = 7000000;
    tickets_start(&t, &keys, &c);
    assert_false(tickets_due(&t, &keys, now + 2 * TICKETS_LIFE_US)); // nobody seals anything
    c.listens = &tls;
    tickets_start(&t, &keys, &c);
    first = keys;
    assert_int_equal(keys.n, 1);
    assert_false(tickets_due(&t, &keys, now));
    assert_false(tickets_due(&t, &keys, now + TICKETS_LIFE_US - 1));
    assert_true(tickets_due(&t, &keys, now + TICKETS_LIFE_US));
    assert_false(tickets_due(&t, &keys, now + TICKETS_LIFE_US));
    assert_int_equal(keys.n, 2);
    assert_memory_not_equal(keys.key[0], first.key[0], TLS_TICKET_KEY);
    assert_memory_equal(keys.key[1], first.key[0], TLS_TICKET_KEY);
    t.untold = true; // its socket was full: once more, with the same key
    first = keys;
    assert_true(tickets_due(&t, &keys, now + TICKETS_LIFE_US + 1));
    assert_memory_equal(&keys, &first, sizeof(keys));
    t.untold = false;
    assert_true(
        tickets_due(&t, &keys, now + 9 * TICKETS_LIFE_US)); // a machine that slept: one new key
    assert_false(tickets_due(&t, &keys, now + 9 * TICKETS_LIFE_US + 1));
    assert_int_equal(keys.n, 3);
}

static struct heartbeat_page page;
static struct watchdog dog;
#define LIMIT (10 * WATCHDOG_TICK_US)

static void beat(unsigned loop, uint64_t value)
{
    atomic_store(&page.loop[loop].turn_us, value);
}

static int look(uint64_t tick)
{
    return watchdog_look(&dog, &page, 2, LIMIT, 1000 * WATCHDOG_TICK_US + tick * WATCHDOG_TICK_US);
}

static void begin(void)
{
    memset(&page, 0, sizeof(page));
    watchdog_reset(&dog);
}

static void stuck_loop_is_named(void **state)
{
    begin();
    beat(0, 1);
    beat(1, 1);
    for (uint64_t t = 0; t < 10; t++) {
        beat(0, t + 2);
        assert_int_equal(look(t), WATCHDOG_FINE);
    }
    beat(0, 100);
    assert_int_equal(look(10), 1);
}

static void main_thread_is_watched(void **state)
{
    begin();
    atomic_store(&page.main.turn_us, 7);
    for (uint64_t t = 0; t < 10; t++)
        assert_int_equal(look(t), WATCHDOG_FINE);
    assert_int_equal(look(10), 2);
}

static void not_begun_and_ended_are_fine(void **state)
{
    begin();
    for (uint64_t t = 0; t < 100; t++)
        assert_int_equal(look(t), WATCHDOG_FINE);
    beat(0, 5);
    for (uint64_t t = 100; t < 105; t++)
        assert_int_equal(look(t), WATCHDOG_FINE);
    beat(0, 0); // ended in order
    for (uint64_t t = 105; t < 150; t++)
        assert_int_equal(look(t), WATCHDOG_FINE);
}

// The machine slept for an hour, or keeper and gateway were stopped together: no verdict at once.
static void standing_still_together_is_no_fault(void **state)
{
    begin();
    beat(0, 1);
    assert_int_equal(look(0), WATCHDOG_FINE);
    assert_int_equal(look(3600), WATCHDOG_FINE);
    beat(0, 2);
    for (uint64_t t = 3601; t < 3611; t++)
        assert_int_equal(look(t), WATCHDOG_FINE);
    assert_int_equal(look(3611), 0); // but then it counts
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_death_is_answered_at_once),
        cmocka_unit_test(crash_loop_slows_down),
        cmocka_unit_test(pauses_are_spread),
        cmocka_unit_test(kills_are_counted_apart),
        cmocka_unit_test(every_signal_says_what_it_is),
        cmocka_unit_test(every_status_says_what_it_is),
        cmocka_unit_test(ticket_keys_rotate_daily),
        cmocka_unit_test(stuck_loop_is_named),
        cmocka_unit_test(main_thread_is_watched),
        cmocka_unit_test(not_begun_and_ended_are_fine),
        cmocka_unit_test(standing_still_together_is_no_fault),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
