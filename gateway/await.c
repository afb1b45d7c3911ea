#include "gateway/await.h"

#include "base/check.h"

#define LOOK_US 20000 // who is told of on another loop, or not waited for any more, is seen so soon

static void look_at(struct part *p, uint64_t at_us)
{
    struct wheel_timer *t = &p->await.timer;
    if (!wheel_is_set(t) || at_us < t->at_us)
        wheel_set(loop_wheel(p->loop), t, at_us);
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

bool await_begin(struct request *r)
{
    struct awaiting *a = &r->part->await;
    if (a->n >= AWAIT_MOST)
        return false;
    r->await_prev = a->last;
    r->await_next = NULL;
    *(a->last ? &a->last->await_next : &a->first) = r;
    a->last = r;
    a->n++;
    r->awaits = true;
    look_at(r->part, least(r->infer.deadline_us, loop_now_us(r->part->loop) + LOOK_US));
    return true;
}

void await_leave(struct request *r)
{
    struct awaiting *a = &r->part->await;
    *(r->await_prev ? &r->await_prev->await_next : &a->first) = r->await_next;
    *(r->await_next ? &r->await_next->await_prev : &a->last) = r->await_prev;
    a->n--;
    r->awaits = false;
}

// Each once, the oldest first; what the turn has no time for in the next one.
static void on_timer(struct wheel_timer *t, uint64_t now_us)
{
    struct part *p = container_of(t, struct part, await.timer);
    for (uint32_t left = p->await.n; left > 0; left--) {
        struct request *r = p->await.first;
        if (loop_is_spent(p->loop)) {
            look_at(p, now_us + 1);
            return;
        }
        await_leave(r);
        origin_again(r, now_us);
    }
}

void await_soon(struct part *p)
{
    if (p->await.n > 0)
        look_at(p, loop_now_us(p->loop));
}

void await_init(struct part *p)
{
    p->await.timer.fn = on_timer;
}

void await_deinit(struct part *p)
{
    invariant(p->await.n == 0);
    wheel_cancel(loop_wheel(p->loop), &p->await.timer);
}
