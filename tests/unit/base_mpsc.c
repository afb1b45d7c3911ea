/* base/mpsc under real threads; also the program that TSan watches. Producers push numbered nodes, singly
 * and in chains; the consumer sleeps only after mpsc_try_sleep, on an eventfd that is written only by a
 * producer who was told to. A lost wake-up hangs the test; a lost or reordered node fails it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/mpsc.h"
#include "base/rand.h"
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PRODUCERS 4
#define EACH 60000

struct item {
    struct mpsc_node node;
    unsigned producer, number;
};

struct stress {
    struct mpsc queue;
    int wake;
    _Atomic unsigned wakes;
    struct item items[PRODUCERS][EACH];
};
static struct stress s;

static void wake(void)
{
    atomic_fetch_add(&s.wakes, 1);
    if (eventfd_write(s.wake, 1) != 0)
        abort();
}

static void *produce(void *arg)
{
    unsigned me = (unsigned)(uintptr_t)arg;
    struct rand r;
    rand_seed(&r, me);
    for (unsigned i = 0; i < EACH;) {
        unsigned n = 1 + (unsigned)rand_below(&r, 4);
        if (n > EACH - i)
            n = EACH - i;
        for (unsigned k = 0; k < n; k++) {
            struct item *it = &s.items[me][i + k];
            it->producer = me;
            it->number = i + k;
            if (k > 0)
                atomic_store_explicit(&it[-1].node.next, &it->node, memory_order_relaxed);
        }
        bool must =
            n == 1 ? mpsc_push(&s.queue, &s.items[me][i].node)
                   : mpsc_push_chain(&s.queue, &s.items[me][i].node, &s.items[me][i + n - 1].node);
        if (must)
            wake();
        i += n;
        if (rand_below(&r, 64) == 0)
            sched_yield();
        if (rand_below(&r, 2000) == 0)
            usleep(200);
    }
    return NULL;
}

static unsigned sleep_until_woken(void)
{
    struct pollfd p = {.fd = s.wake, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 20000), 1); // no wake-up for 20 s: it was lost
    eventfd_t n;
    assert_int_equal(eventfd_read(s.wake, &n), 0);
    return (unsigned)n;
}

static void every_node_once_in_order(void **state)
{
    mpsc_init(&s.queue);
    s.wake = eventfd(0, EFD_CLOEXEC);
    assert_true(s.wake >= 0);
    pthread_t t[PRODUCERS];
    for (unsigned i = 0; i < PRODUCERS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, produce, (void *)(uintptr_t)i), 0);
    unsigned next[PRODUCERS] = {0}, got = 0, slept = 0;
    while (got < PRODUCERS * EACH) {
        struct mpsc_node *node = mpsc_pop(&s.queue);
        if (!node) {
            if (mpsc_try_sleep(&s.queue)) {
                slept++;
                sleep_until_woken();
                mpsc_wake(&s.queue);
            }
            continue;
        }
        struct item *it = container_of(node, struct item, node);
        assert_int_equal(it->number, next[it->producer]);
        next[it->producer]++;
        got++;
    }
    for (unsigned i = 0; i < PRODUCERS; i++) {
        pthread_join(t[i], NULL);
        assert_int_equal(next[i], EACH);
    }
    assert_null(mpsc_pop(&s.queue));
    printf("slept %u times, %u wake-ups for %u pushes\n", slept, atomic_load(&s.wakes),
           PRODUCERS * EACH);
    assert_true(atomic_load(&s.wakes) >= slept);
    close(s.wake);
}

static void the_declaration_is_taken_by_one(void **state)
{
    static struct mpsc q; // the sanitizer's stack is not aligned enough
    struct mpsc_node a, b;
    mpsc_init(&q);
    assert_null(mpsc_pop(&q));
    assert_true(mpsc_try_sleep(&q));
    assert_true(mpsc_push(&q, &a));
    assert_false(mpsc_push(&q, &b)); // somebody is waking it already
    assert_false(mpsc_try_sleep(&q));
    assert_ptr_equal(mpsc_pop(&q), &a);
    assert_false(mpsc_try_sleep(&q));
    assert_ptr_equal(mpsc_pop(&q), &b);
    assert_null(mpsc_pop(&q));
    assert_true(mpsc_try_sleep(&q));
    mpsc_wake(&q);
    mpsc_wake(&q);
    assert_false(mpsc_push(&q, &a)); // awake: nobody is told
    assert_ptr_equal(mpsc_pop(&q), &a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_declaration_is_taken_by_one),
        cmocka_unit_test(every_node_once_in_order),
    };
    return cmocka_run_group_tests_name("base: mpsc", tests, NULL, NULL);
}
