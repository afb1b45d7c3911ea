#include "gateway/awaiting.h"

#include "base/check.h"

static void arm(struct part *p, uint64_t now_us)
{
    struct wheel_timer *t = &p->await_timer;
    uint64_t at_us = await_wish_us(&p->await);
    if (at_us != UINT64_MAX && (!wheel_is_set(t) || at_us < t->at_us))
        wheel_set(loop_wheel(p->loop), t, at_us > now_us ? at_us : now_us + 1);
}

static bool is_call(const struct request *r)
{
    return r->serving.call.kind != API_INFER;
}

bool awaiting_begin(struct request *r)
{
    struct part *p = r->part;
    uint64_t now_us = loop_now_us(p->loop);
    if (p->await.n >= AWAITING_MOST || (is_call(r) && p->await_calls >= AWAITING_CALLS))
        return false;
    p->await_calls += is_call(r);
    await_begin(&p->await, &r->awaits, r->infer.deadline_us, now_us);
    arm(p, now_us);
    return true;
}

void awaiting_leave(struct request *r)
{
    r->part->await_calls -= is_call(r);
    await_leave(&r->part->await, &r->awaits);
}

// What the turn has no time for in the next one.
static void on_timer(struct wheel_timer *t, uint64_t now_us)
{
    struct part *p = container_of(t, struct part, await_timer);
    struct await_one *w;
    while (!loop_is_spent(p->loop) && (w = await_next(&p->await, now_us)) != NULL) {
        struct request *r = container_of(w, struct request, awaits);
        p->await_calls -= is_call(r);
        origin_again(r, now_us);
    }
    arm(p, now_us);
}

void awaiting_soon(struct part *p)
{
    uint64_t now_us = loop_now_us(p->loop);
    await_soon(&p->await, now_us);
    arm(p, now_us);
}

void awaiting_init(struct part *p)
{
    p->await_timer.fn = on_timer;
}

void awaiting_deinit(struct part *p)
{
    invariant(p->await.n == 0);
    wheel_cancel(loop_wheel(p->loop), &p->await_timer);
}
