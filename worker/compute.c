#include "worker/compute.h"

#include "base/check.h"
#include "base/mem.h"
#include <errno.h>
#include <pthread.h>

struct compute {
    struct engine_host host;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct engine_task *first, **last; // under lock
    bool stop;                         // under lock
    unsigned n;
    pthread_t threads[];
};

static struct engine_task *take(struct compute *c)
{
    pthread_mutex_lock(&c->lock);
    while (!c->first && !c->stop)
        pthread_cond_wait(&c->wake, &c->lock);
    struct engine_task *t = c->stop ? NULL : c->first;
    if (t) {
        c->first = t->next;
        if (!c->first)
            c->last = &c->first;
    }
    pthread_mutex_unlock(&c->lock);
    return t;
}

static void *work(void *arg)
{
    struct engine_task *t;
    while ((t = take(arg)) != NULL)
        t->run(t);
    return NULL;
}

static void post(struct engine_host *h, struct engine_task *t)
{
    struct compute *c = container_of(h, struct compute, host);
    t->next = NULL;
    pthread_mutex_lock(&c->lock);
    *c->last = t;
    c->last = &t->next;
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
}

struct compute *compute_new(unsigned threads)
{
    invariant(threads > 0);
    struct compute *c = mem_must_zero(sizeof(*c) + threads * sizeof(c->threads[0]));
    c->host.post = post;
    c->last = &c->first;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->wake, NULL);
    for (; c->n < threads; c->n++) {
        int error = pthread_create(&c->threads[c->n], NULL, work, c);
        if (error != 0) {
            compute_stop(c);
            compute_free(c);
            errno = error;
            return NULL;
        }
        pthread_setname_np(c->threads[c->n], "compute");
    }
    return c;
}

struct engine_host *compute_host(struct compute *c)
{
    return &c->host;
}

void compute_stop(struct compute *c)
{
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_cond_broadcast(&c->wake);
    pthread_mutex_unlock(&c->lock);
    for (unsigned i = 0; i < c->n; i++)
        pthread_join(c->threads[i], NULL);
}

void compute_free(struct compute *c)
{
    pthread_cond_destroy(&c->wake);
    pthread_mutex_destroy(&c->lock);
    mem_free(c);
}
