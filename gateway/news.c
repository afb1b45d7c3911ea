#include "gateway/news.h"

void news_init(struct news *n)
{
    pthread_mutex_init(&n->lock, NULL);
}

void news_deinit(struct news *n)
{
    roster_unref(n->roster);
    pthread_mutex_destroy(&n->lock);
}

uint64_t news_wish(struct news *n)
{
    return atomic_fetch_add(&n->wishes, 1) + 1;
}

bool news_publish(struct news *n, struct roster *r, uint64_t answers, uint32_t pid)
{
    pthread_mutex_lock(&n->lock);
    bool is_new = r != n->roster || answers != n->answers || pid != n->pid;
    struct roster *old = n->roster;
    n->roster = roster_ref(r);
    n->answers = answers;
    n->pid = pid;
    pthread_mutex_unlock(&n->lock);
    roster_unref(old);
    return is_new;
}

struct roster *news_take(struct news *n, uint64_t wish, uint32_t pid)
{
    pthread_mutex_lock(&n->lock);
    bool fits = n->answers >= wish && n->pid == pid;
    struct roster *r = fits ? roster_ref(n->roster) : NULL;
    pthread_mutex_unlock(&n->lock);
    return r;
}

bool news_serves(struct news *n)
{
    pthread_mutex_lock(&n->lock);
    bool serves = n->roster && n->roster->n_usable > 0;
    pthread_mutex_unlock(&n->lock);
    return serves;
}
