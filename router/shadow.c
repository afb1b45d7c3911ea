#include "router/shadow.h"

#include "base/check.h"
#include "router/standing.h"
#include "router/step.h"

const char *const shadow_end_name[SHADOW_ENDS] = {
    [SHADOW_ANSWERED] = "answered", [SHADOW_FAILED] = "failed",     [SHADOW_LATE] = "late",
    [SHADOW_CALLED] = "called",     [SHADOW_UNSERVED] = "unserved", [SHADOW_LEVEL] = "level",
    [SHADOW_ABSENT] = "absent",     [SHADOW_FULL] = "full",
};

static struct infer *owner_of(const struct shadow *s)
{
    return s->step.infer;
}

// ---- those that are out ------------------------------------------------------------------------------

static void shadow_enlist(struct flow *f, struct shadow *s)
{
    s->next = f->shadows;
    s->prev = &f->shadows;
    if (s->next)
        s->next->prev = &s->next;
    f->shadows = s;
    f->n_shadows++;
    f->shadow_bytes += owner_of(s)->request.bytes;
}

static void shadow_delist(struct flow *f, struct shadow *s)
{
    if (s->next)
        s->next->prev = s->prev;
    *s->prev = s->next;
    f->n_shadows--;
    f->shadow_bytes -= owner_of(s)->request.bytes;
}

static void let_answer_go(const struct slice *answer, struct effects *fx)
{
    for (const struct slice *s = answer; s; s = s->next)
        effects_add(fx, FX_UNREF)->block = s->answer->block;
}

// ---- ends --------------------------------------------------------------------------------------------

// The only place where its end is told (S5).
static void shadow_told(struct shadow *s, enum shadow_end end, struct effects *fx)
{
    s->end = end;
    effects_add(fx, FX_SHADOW)->infer = owner_of(s);
    fx_forget(fx, &s->error);
}

static void shadow_over(struct flow *f, struct shadow *s, enum shadow_end end, uint64_t now_us,
                        struct effects *fx)
{
    wheel_cancel(&f->wheel, &s->timer);
    shadow_delist(f, s);
    s->took_us = now_us - s->lent_us;
    shadow_told(s, end, fx);
    let_answer_go(s->answer, fx);
    let_answer_go(owner_of(s)->answer, fx);
}

static void on_late(struct wheel_timer *timer, uint64_t now_us)
{
    struct shadow *s = container_of(timer, struct shadow, timer);
    struct flow *f = owner_of(s)->flow;
    step_give_up(&s->step, f->loop, f->fx);
    shadow_over(f, s, SHADOW_LATE, now_us, f->fx);
}

void flow_call_shadows(struct flow *f, uint64_t now_us, struct effects *fx)
{
    while (f->shadows) {
        struct shadow *s = f->shadows;
        step_give_up(&s->step, f->loop, fx);
        shadow_over(f, s, SHADOW_CALLED, now_us, fx);
    }
}

// ---- out and home ------------------------------------------------------------------------------------

// SHADOW_ENDS: it may go.
static enum shadow_end why_not(const struct flow *f, const struct infer *in)
{
    const struct model *m = in->shadow->model;
    if (in->error.status != STATUS_OK || in->source != SOURCE_MODEL ||
        in->at->to.model != in->step.to.model)
        return SHADOW_UNSERVED;
    if (standing_level(in->step.to.model) > LEVEL_HEALTHY || standing_level(m) > LEVEL_HEALTHY)
        return SHADOW_LEVEL;
    if (atomic_load_explicit(&m->ready, memory_order_relaxed) == 0)
        return SHADOW_ABSENT;
    bool room = f->n_shadows < f->rules.shadows &&
                f->shadow_bytes + in->request.bytes <= f->rules.shadow_bytes;
    return room ? SHADOW_ENDS : SHADOW_FULL;
}

void shadow_begin(struct flow *f, struct infer *in, uint64_t now_us, struct effects *fx)
{
    struct shadow *s = in->shadow;
    uint64_t until_us = now_us + s->timeout_us;
    enum shadow_end end = why_not(f, in);
    s->step.infer = in;
    s->step.to = (struct target){.model = s->model, .name = s->model->name};
    if (end == SHADOW_ENDS && !step_begin_shadow(&s->step, in, until_us, &s->error, fx))
        end = SHADOW_FAILED;
    if (end != SHADOW_ENDS) {
        shadow_told(s, end, fx);
        return;
    }
    for (const struct slice *a = in->answer; a; a = a->next)
        block_ref(a->answer->block);
    shadow_enlist(f, s);
    s->lent_us = now_us;
    s->timer.fn = on_late;
    wheel_set(&f->wheel, &s->timer, until_us);
    step_lend(&s->step, f->loop, fx);
}

void shadow_on_back(struct flow *f, struct ticket *t, uint64_t now_us, struct effects *fx)
{
    struct shadow *s = container_of(t->step, struct shadow, step);
    switch (step_on_back(t->step, t, &s->error, fx)) {
    case STEP_OUT:
        return;
    case STEP_ANSWERED:
        s->answer = &s->step.tickets[0].slice;
        shadow_over(f, s, SHADOW_ANSWERED, now_us, fx);
        return;
    case STEP_FAILED:
        step_give_up(&s->step, f->loop, fx);
        shadow_over(f, s, SHADOW_FAILED, now_us, fx);
    }
}
