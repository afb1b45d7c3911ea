#include "gateway/survey.h"

#include "base/check.h"
#include "base/mem.h"
#include "gateway/part.h"

#define PATIENCE_US 200000 // of a loop that works; its turns are a thousand times shorter

struct survey_question { // to one loop, and its answer on the way back
    struct loop_task task;
    struct survey *survey;
    struct part *part;
    struct buffer said;
    bool is_back;
};

// Freed when every question is back, however late: a loop that is stuck still holds its own.
struct survey {
    struct gateway *gateway;
    survey_ask_fn *ask;
    char about[SURVEY_ABOUT];
    size_t about_n;
    void (*done)(struct gateway *g, const struct buffer *said, void *ctx);
    void *ctx;
    struct wheel_timer patience;
    unsigned n, n_out;
    bool told;
    struct survey *next, **prev; // of gateway.surveys
    struct survey_question question[];
};

static void survey_free(struct survey *s)
{
    for (unsigned i = 0; i < s->n; i++)
        buffer_deinit(&s->question[i].said);
    wheel_cancel(loop_wheel(&s->gateway->main), &s->patience);
    if (s->next)
        s->next->prev = s->prev;
    *s->prev = s->next;
    mem_free(s);
}

static void tell(struct survey *s)
{
    struct buffer said[LOOPS_MAX];
    s->told = true;
    for (unsigned i = 0; i < s->n; i++) {
        if (s->question[i].is_back)
            said[i] = s->question[i].said;
        else
            buffer_init(&said[i]); // its own is being written
    }
    s->done(s->gateway, said, s->ctx);
}

static void on_patience(struct wheel_timer *t, uint64_t now_us)
{
    (void)now_us;
    tell(container_of(t, struct survey, patience));
}

static void on_back(struct loop *l, struct loop_task *t)
{
    struct survey_question *q = container_of(t, struct survey_question, task);
    struct survey *s = q->survey;
    (void)l;
    q->is_back = true;
    if (--s->n_out > 0)
        return;
    if (!s->told)
        tell(s);
    survey_free(s);
}

// On the loop that is asked.
static void on_asked(struct loop *l, struct loop_task *t)
{
    struct survey_question *q = container_of(t, struct survey_question, task);
    const struct survey *s = q->survey;
    s->ask(q->part, view_of(s->about, s->about_n), &q->said);
    t->fn = on_back;
    loop_post_task(l, &q->part->gateway->main, t);
}

struct survey *survey_start(struct gateway *g, survey_ask_fn *ask, struct view about,
                            void (*done)(struct gateway *g, const struct buffer *said, void *ctx),
                            void *ctx)
{
    struct survey *s = mem_zalloc(sizeof(*s) + g->loops.n * sizeof(s->question[0]));
    if (!s)
        return NULL;
    invariant(about.n <= SURVEY_ABOUT);
    s->gateway = g;
    s->ask = ask;
    s->about_n = about.n;
    if (about.n > 0)
        memcpy(s->about, about.p, about.n);
    s->done = done;
    s->ctx = ctx;
    s->n = s->n_out = g->loops.n;
    s->next = g->surveys;
    s->prev = &g->surveys;
    if (s->next)
        s->next->prev = &s->next;
    g->surveys = s;
    s->patience.fn = on_patience;
    wheel_set(loop_wheel(&g->main), &s->patience, loop_now_us(&g->main) + PATIENCE_US);
    for (unsigned i = 0; i < s->n; i++) {
        struct survey_question *q = &s->question[i];
        q->survey = s;
        q->part = g->parts[i];
        q->task.fn = on_asked;
        buffer_init(&q->said);
        loop_post_task(&g->main, g->loops.loop[i], &q->task);
    }
    return s;
}

void surveys_free(struct gateway *g, void (*dropped)(void *ctx))
{
    while (g->surveys) {
        struct survey *s = g->surveys;
        if (!s->told)
            dropped(s->ctx);
        survey_free(s);
    }
}
