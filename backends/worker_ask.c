// The small questions on a worker's connection: probes, and the owner's rounds of what the server has.
#include "backends/worker_inner.h"
#include "base/check.h"
#include "base/mem.h"

#define PATIENCE_US 5000000 // with one question of a round
#define HUNGRY_US 100000    // first pause between two rounds while nothing is served

// ---- questions ---------------------------------------------------------------------------------------

static struct question *question_new(struct worker *w, struct view method, struct view message,
                                     uint64_t timeout_us)
{
    struct http_client *client = worker_line(w);
    struct question *q = client && message.n <= QUESTION_BYTES ? mem_zalloc(sizeof(*q)) : NULL;
    if (!q)
        return NULL;
    if (message.n > 0)
        memcpy(q->message, message.p, message.n);
    struct http_seg seg = {q->message, message.n, NULL};
    q->call = http_client_call(client, method, NULL, 0, &seg, message.n ? 1 : 0, timeout_us, q);
    if (!q->call) {
        mem_free(q);
        return NULL;
    }
    q->next = w->questions;
    w->questions = q;
    peer_touch(w->peer);
    return q;
}

static struct question *question_taken(struct worker *w, const struct http_call *call)
{
    for (struct question **at = &w->questions; *at; at = &(*at)->next) {
        struct question *q = *at;
        if (q == call->user) {
            *at = q->next;
            return q;
        }
    }
    return NULL;
}

// ---- probes ------------------------------------------------------------------------------------------

static void set_probe_timer(struct worker *w)
{
    if (w->probe.due_us == UINT64_MAX)
        wheel_cancel(loop_wheel(w->loop), &w->probe_timer);
    else
        wheel_set(loop_wheel(w->loop), &w->probe_timer, w->probe.due_us);
}

// Answered, the newest says all. Unanswered, they are too many.
static void cancel_probes(struct worker *w, unsigned but)
{
    for (struct question *q = w->questions; q; q = q->next) {
        if (q->is_probe && but > 0)
            but--;
        else if (q->is_probe)
            http_call_cancel(q->call);
    }
}

static void send_probe(struct worker *w)
{
    w->probe_owed = true;
    cancel_probes(w, PROBES_OUT - 1);
    struct question *q =
        question_new(w, VIEW("/inference.GRPCInferenceService/ServerLive"), VIEW(""), 0);
    if (!q)
        return;
    q->is_probe = true;
    w->probe_owed = false;
    w->stats.probes++;
}

static void act(struct worker *w, enum probe_act what)
{
    set_probe_timer(w);
    if (what == PROBE_ASK) {
        send_probe(w);
    } else if (what == PROBE_HANGS) {
        w->ops->on_hangs(w, w->ctx);
        worker_give_up(w, "it does not answer probes");
    }
}

static void on_probe_timer(struct wheel_timer *t, uint64_t now_us)
{
    struct worker *w = container_of(t, struct worker, probe_timer);
    unsigned before = w->probe.failures;
    enum probe_act what = probe_on_time(&w->probe, peer_bytes_in(w->peer), now_us);
    bool missed = w->probe.failures > before;
    w->stats.probes_missed += missed;
    act(w, what);
    if (missed && before == 0 && what == PROBE_ASK)
        w->ops->on_missed(w, w->ctx);
}

void worker_doubt(struct worker *w)
{
    if (w->state >= WORKER_ASKING && !w->dying)
        act(w, probe_on_suspect(&w->probe, peer_bytes_in(w->peer), loop_now_us(w->loop)));
}

// A reset and a refusal are answers too: it lives.
static void on_probe_end(struct worker *w, enum http_call_end end)
{
    if (end == CALL_LOST || end == CALL_ABANDONED || end == CALL_CANCELLED)
        return;
    probe_on_answer(&w->probe, loop_now_us(w->loop));
    w->probe_owed = false;
    set_probe_timer(w);
    cancel_probes(w, 0);
    w->ops->on_probed(w, w->ctx);
}

void ask_owed(struct worker *w)
{
    if (w->probe_owed && w->probe.out)
        send_probe(w);
}

// ---- rounds ------------------------------------------------------------------------------------------

static void ask_next(struct worker *w);

static void start_round(struct worker *w)
{
    wheel_cancel(loop_wheel(w->loop), &w->round);
    if (!worker_line(w))
        return;
    w->stats.rounds++;
    w->round_wish = w->wish;
    inquiry_begin(&w->inquiry, loop_now_us(w->loop));
    ask_next(w);
}

static uint64_t pause_us(struct worker *w)
{
    const struct roster *known = w->inquiry.last;
    if (known && known->n_usable > 0 && w->inquiry.why[0] == '\0') {
        backoff_reset(&w->hungry);
        return w->config.rules.probe.interval_us;
    }
    uint64_t wait_us = backoff_next_us(&w->hungry, &w->loop->rand);
    return wait_us < w->config.rules.probe.interval_us ? wait_us
                                                       : w->config.rules.probe.interval_us;
}

static void round_over(struct worker *w)
{
    uint64_t wait_us = pause_us(w); // of a round that failed for a wish too: else wishes are a loop
    if (w->inquiry.why[0] == '\0') {
        w->told_wish = w->round_wish;
        wait_us = w->wish > w->told_wish ? 0 : wait_us;
    }
    wheel_set(loop_wheel(w->loop), &w->round, loop_now_us(w->loop) + wait_us);
    w->ops->on_learnt(w, w->inquiry.why, w->ctx);
}

static void ask_next(struct worker *w)
{
    struct inquiry *q = &w->inquiry;
    w->asking = NULL;
    if (q->ask == INQUIRY_OVER) {
        wheel_cancel(loop_wheel(w->loop), &w->patience);
        round_over(w);
        return;
    }
    w->asking = question_new(w, inquiry_method(q->ask), inquiry_message(q), PATIENCE_US);
    wheel_set(loop_wheel(w->loop), &w->patience, loop_now_us(w->loop) + PATIENCE_US);
}

static void on_patience(struct wheel_timer *t, uint64_t now_us)
{
    struct worker *w = container_of(t, struct worker, patience);
    struct inquiry_answer none = {
        .status = -1, .text = w->asking ? VIEW("no answer in 5 s") : VIEW("no stream was free")};
    if (w->asking) {
        http_call_cancel(w->asking->call); // its end is of no interest
        peer_touch(w->peer);
    }
    inquiry_on_answer(&w->inquiry, &none, now_us);
    ask_next(w);
}

static void on_round(struct wheel_timer *t, uint64_t now_us)
{
    (void)now_us;
    start_round(container_of(t, struct worker, round));
}

static struct inquiry_answer answer_of(const struct http_call *call, enum http_call_end end)
{
    struct inquiry_answer a = {.status = -1};
    if (end == CALL_ANSWERED && call->grpc_status >= 0) {
        a.status = call->grpc_status;
        a.text = call->grpc_message;
        a.message = call->body ? view_of(call->body->data, call->body_bytes) : VIEW("");
    } else if (end == CALL_TOO_LARGE) {
        a.text = VIEW("the answer is too large");
    } else if (end == CALL_NO_ROOM) {
        a.text = VIEW("the answer found no room in limits.bytes_in_flight");
    } else {
        a.text = VIEW("the answer is not gRPC");
    }
    return a;
}

static void on_ask_end(struct worker *w, const struct http_call *call, enum http_call_end end)
{
    if (end == CALL_LOST || end == CALL_ABANDONED)
        return; // on_down follows
    struct inquiry_answer a = answer_of(call, end);
    inquiry_on_answer(&w->inquiry, &a, loop_now_us(w->loop));
    ask_next(w);
}

void worker_news(struct worker *w, uint64_t wish)
{
    if (wish > w->wish)
        w->wish = wish;
    if (w->state == WORKER_DOWN)
        worker_kick(w); // a loop wishes it whose connection is up
    else if (w->state >= WORKER_ASKING && w->inquiry.ask == INQUIRY_OVER &&
             w->inquiry.why[0] == '\0')
        wheel_set(loop_wheel(w->loop), &w->round, loop_now_us(w->loop));
}

struct roster *worker_learnt(const struct worker *w, uint64_t *wish)
{
    *wish = w->told_wish;
    return w->inquiry.last;
}

// ---- life --------------------------------------------------------------------------------------------

bool ask_on_end(struct worker *w, struct http_call *call, enum http_call_end end)
{
    struct question *q = question_taken(w, call);
    if (!q)
        return false;
    bool is_probe = q->is_probe, is_asking = q == w->asking;
    mem_free(q);
    if (is_asking)
        w->asking = NULL;
    if (is_probe)
        on_probe_end(w, end);
    else if (is_asking)
        on_ask_end(w, call, end);
    return true;
}

void ask_up(struct worker *w)
{
    probe_start(&w->probe, &w->config.rules.probe, w->config.owner, loop_now_us(w->loop));
    set_probe_timer(w);
    if (w->config.owner) {
        backoff_reset(&w->hungry);
        start_round(w);
    }
}

void ask_stop(struct worker *w)
{
    struct wheel *wheel = loop_wheel(w->loop);
    probe_stop(&w->probe);
    w->probe_owed = false;
    w->asking = NULL;
    wheel_cancel(wheel, &w->probe_timer);
    wheel_cancel(wheel, &w->round);
    wheel_cancel(wheel, &w->patience);
    for (struct question *q = w->questions; q; q = q->next)
        http_call_cancel(q->call);
}

void ask_down(struct worker *w)
{
    ask_stop(w);
    inquiry_forget(&w->inquiry);
    w->inquiry.why[0] = '\0';
}

static void set_hunger(struct worker *w)
{
    uint64_t interval_us = w->config.rules.probe.interval_us;
    w->hungry = (struct backoff){.first_us = interval_us < HUNGRY_US ? interval_us : HUNGRY_US,
                                 .cap_us = interval_us};
}

void ask_init(struct worker *w)
{
    w->probe_timer.fn = on_probe_timer;
    w->round.fn = on_round;
    w->patience.fn = on_patience;
    set_hunger(w);
    probe_stop(&w->probe);
    inquiry_init(&w->inquiry, w->config.rules.known_models, w->config.rules.n_known_models);
}

void ask_rules(struct worker *w)
{
    set_hunger(w);
    uint64_t now_us = loop_now_us(w->loop), next_us = now_us + w->config.rules.probe.interval_us;
    probe_set_rules(&w->probe, &w->config.rules.probe, now_us);
    set_probe_timer(w);
    if (wheel_is_set(&w->round) && w->round.at_us > next_us)
        wheel_set(loop_wheel(w->loop), &w->round, next_us);
    inquiry_set_names(&w->inquiry, w->config.rules.known_models, w->config.rules.n_known_models);
}

void ask_free(struct worker *w)
{
    ask_stop(w);
    inquiry_deinit(&w->inquiry);
}
