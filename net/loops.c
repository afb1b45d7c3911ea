#include "base/check.h"
#include "base/mem.h"
#include "net/loop.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>

struct start { // handed to a thread; freed by it
    struct loops *set;
    struct loop *loop;
};

static void *loop_main(void *arg)
{
    struct start start = *(struct start *)arg;
    mem_free(arg);
    struct loop *l = start.loop;
    pthread_setname_np(pthread_self(), l->name);
    block_owner_adopt(&l->blocks);
    if (start.set->on_start)
        start.set->on_start(l, start.set->ctx);
    loop_run(l);
    if (start.set->on_stop)
        start.set->on_stop(l, start.set->ctx);
    return NULL;
}

int loops_init(struct loops *s, unsigned n, uint64_t seed)
{
    invariant(n > 0 && n < LOOPS_MAX);
    *s = (struct loops){0};
    for (unsigned i = 0; i < n; i++) {
        char name[16];
        snprintf(name, sizeof name, "loop-%u", i);
        s->loop[i] = loop_new(i, name, seed);
        if (!s->loop[i]) {
            int err = errno;
            s->n = i;
            loops_deinit(s);
            errno = err;
            return -1;
        }
        s->loop[i]->rests = true;
    }
    s->n = n;
    return 0;
}

static void stop_first(struct loops *s, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        loop_stop(s->loop[i]);
    for (unsigned i = 0; i < n; i++)
        pthread_join(s->loop[i]->joinable, NULL);
}

int loops_start(struct loops *s)
{
    // Signals belong to the main thread.
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int err = 0;
    for (unsigned i = 0; i < s->n && !err; i++) {
        struct start *start = mem_must(sizeof *start);
        *start = (struct start){s, s->loop[i]};
        pthread_t thread;
        err = pthread_create(&thread, NULL, loop_main, start);
        if (err) {
            mem_free(start);
            stop_first(s, i);
        } else {
            s->loop[i]->joinable = thread;
        }
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    errno = err;
    return err ? -1 : 0;
}

void loops_stop(struct loops *s)
{
    stop_first(s, s->n);
}

void loops_deinit(struct loops *s)
{
    for (unsigned i = 0; i < s->n; i++)
        loop_free(s->loop[i]);
    s->n = 0;
}
