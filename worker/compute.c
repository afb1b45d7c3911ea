#include "worker/compute.h"

#include "base/check.h"
#include "base/mem.h"
#include <errno.h>

struct compute_thread {
    struct compute *compute;
    unsigned index;
    pthread_t thread;
};

struct compute {
    struct loop *loop;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct compute_job *first, **last; // under lock
    bool stop;                         // under lock
    unsigned busy;                     // the loop's own count
    unsigned n;
    struct compute_thread threads[];
};

static struct compute_job *take(struct compute *c)
{
    pthread_mutex_lock(&c->lock);
    while (!c->first && !c->stop)
        pthread_cond_wait(&c->wake, &c->lock);
    struct compute_job *j = c->stop ? NULL : c->first;
    if (j) {
        c->first = j->next;
        if (!c->first)
            c->last = &c->first;
    }
    pthread_mutex_unlock(&c->lock);
    return j;
}

static void come_home(struct loop *l, struct loop_task *t)
{
    (void)l;
    struct compute_job *j = container_of(t, struct compute_job, home);
    j->compute->busy--;
    j->done(j);
}

static void *work(void *arg)
{
    struct compute_thread *t = arg;
    struct compute *c = t->compute;
    struct compute_job *j;
    while ((j = take(c)) != NULL) {
        j->run(j, t->index);
        loop_post_task(NULL, c->loop, &j->home);
    }
    return NULL;
}

static void join(struct compute *c, unsigned n)
{
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_cond_broadcast(&c->wake);
    pthread_mutex_unlock(&c->lock);
    for (unsigned i = 0; i < n; i++)
        pthread_join(c->threads[i].thread, NULL);
    pthread_cond_destroy(&c->wake);
    pthread_mutex_destroy(&c->lock);
    mem_free(c);
}

struct compute *compute_new(struct loop *l, unsigned threads)
{
    invariant(threads > 0);
    struct compute *c = mem_must_zero(sizeof(*c) + threads * sizeof(c->threads[0]));
    c->loop = l;
    c->n = threads;
    c->last = &c->first;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->wake, NULL);
    for (unsigned i = 0; i < threads; i++) {
        struct compute_thread *t = &c->threads[i];
        *t = (struct compute_thread){.compute = c, .index = i};
        int error = pthread_create(&t->thread, NULL, work, t);
        if (error != 0) {
            join(c, i);
            errno = error;
            return NULL;
        }
        pthread_setname_np(t->thread, "compute");
    }
    return c;
}

void compute_submit(struct compute *c, struct compute_job *j)
{
    j->next = NULL;
    j->compute = c;
    j->home.fn = come_home;
    c->busy++;
    pthread_mutex_lock(&c->lock);
    *c->last = j;
    c->last = &j->next;
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
}

unsigned compute_busy(const struct compute *c)
{
    return c->busy;
}

unsigned compute_threads(const struct compute *c)
{
    return c->n;
}

void compute_free(struct compute *c)
{
    if (c)
        join(c, c->n);
}
