/* What the linker puts in place of the router's functions (Makefile: CONTRACT_WRAPS): each tells contracts.c
 * of the input, calls the real one, and tells of the effects that it has left. */
#include "tests/conformance/contracts.h"

#define WATCH(loop, thinker, desk, call)                                                           \
    do {                                                                                           \
        unsigned loop_ = (loop), from_ = fx->n;                                                    \
        const void *thinker_ = (thinker);                                                          \
        contracts_on_input(loop_, desk, now_us);                                                   \
        call;                                                                                      \
        contracts_on_effects(loop_, thinker_, fx, from_, now_us);                                  \
    } while (0)
#define WATCH_FLOW(f, call) WATCH((f)->loop, f, NULL, call)
#define WATCH_DESK(d, call) WATCH((d)->home, d, d, call)

// __wrap_f stands where f was called, __real_f is f.
#define WRAPS(name, ...)                                                                           \
    void __real_##name(__VA_ARGS__);                                                               \
    void __wrap_##name(__VA_ARGS__);                                                               \
    void __wrap_##name(__VA_ARGS__)

// ---- flows -------------------------------------------------------------------------------------------

WRAPS(flow_submit, struct flow *f, struct infer *in, uint64_t now_us, struct effects *fx)
{
    contracts_on_submit(in);
    WATCH_FLOW(f, __real_flow_submit(f, in, now_us, fx));
}

WRAPS(flow_on_gone, struct flow *f, struct infer *in, uint64_t now_us, struct effects *fx)
{
    contracts_on_gone(in);
    WATCH_FLOW(f, __real_flow_on_gone(f, in, now_us, fx));
}

WRAPS(flow_on_back, struct flow *f, struct ticket *t, uint64_t now_us, struct effects *fx)
{
    contracts_on_message(&t->lend, MSG_BACK, f->loop);
    WATCH_FLOW(f, __real_flow_on_back(f, t, now_us, fx));
}

WRAPS(flow_on_echo, struct flow *f, struct ticket *t, uint64_t now_us, struct effects *fx)
{
    contracts_on_message(&t->cancel, MSG_ECHO, f->loop);
    WATCH_FLOW(f, __real_flow_on_echo(f, t, now_us, fx));
}

WRAPS(flow_call_shadows, struct flow *f, uint64_t now_us, struct effects *fx)
{
    WATCH_FLOW(f, __real_flow_call_shadows(f, now_us, fx));
}

WRAPS(flow_on_wake, struct flow *f, uint64_t now_us, struct effects *fx)
{
    contracts_on_wake(f->loop, f, now_us);
    WATCH_FLOW(f, __real_flow_on_wake(f, now_us, fx));
}

WRAPS(flow_deinit, struct flow *f)
{
    contracts_on_free(f->loop, f);
    __real_flow_deinit(f);
}

// ---- desks -------------------------------------------------------------------------------------------

WRAPS(desk_on_ticket, struct desk *d, struct ticket *t, uint64_t now_us, struct effects *fx)
{
    contracts_on_message(&t->lend, MSG_LEND, d->home);
    WATCH_DESK(d, __real_desk_on_ticket(d, t, now_us, fx));
}

WRAPS(desk_on_cancel, struct desk *d, struct ticket *t, uint64_t now_us, struct effects *fx)
{
    contracts_on_message(&t->cancel, MSG_CANCEL, d->home);
    WATCH_DESK(d, __real_desk_on_cancel(d, t, now_us, fx));
}

WRAPS(desk_on_replica_up, struct desk *d, uint32_t id, const struct replica_facts *facts,
      uint64_t now_us, struct effects *fx)
{
    contracts_on_replica(d, id, facts);
    WATCH_DESK(d, __real_desk_on_replica_up(d, id, facts, now_us, fx));
}

WRAPS(desk_on_replica_down, struct desk *d, uint32_t id, uint64_t now_us, struct effects *fx)
{
    contracts_on_replica(d, id, NULL);
    WATCH_DESK(d, __real_desk_on_replica_down(d, id, now_us, fx));
}

WRAPS(desk_on_process_end, struct desk *d, uint32_t id, uint32_t incarnation, bool crashed,
      uint64_t now_us, struct effects *fx)
{
    WATCH_DESK(d, __real_desk_on_process_end(d, id, incarnation, crashed, now_us, fx));
}

WRAPS(desk_on_answer, struct desk *d, struct batch *b, struct answer *a, uint64_t now_us,
      struct effects *fx)
{
    contracts_on_end(b, false, false);
    WATCH_DESK(d, __real_desk_on_answer(d, b, a, now_us, fx));
}

WRAPS(desk_on_end, struct desk *d, struct batch *b, const struct batch_end *end, uint64_t now_us,
      struct effects *fx)
{
    contracts_on_end(b, end->seen == SEEN_LOST, end->ours);
    WATCH_DESK(d, __real_desk_on_end(d, b, end, now_us, fx));
}

WRAPS(desk_on_stored, struct desk *d, struct store_ask *a, const struct slice *s,
      uint64_t stored_us, uint64_t now_us, struct effects *fx)
{
    contracts_on_stored(a);
    WATCH_DESK(d, __real_desk_on_stored(d, a, s, stored_us, now_us, fx));
}

WRAPS(desk_on_wake, struct desk *d, uint64_t now_us, struct effects *fx)
{
    contracts_on_wake(d->home, d, now_us);
    WATCH_DESK(d, __real_desk_on_wake(d, now_us, fx));
    contracts_on_decided(d);
}

WRAPS(desk_run, struct desk *d, uint64_t now_us, struct effects *fx)
{
    WATCH_DESK(d, __real_desk_run(d, now_us, fx));
    contracts_on_decided(d);
}

WRAPS(desk_free, struct desk *d)
{
    contracts_on_free(d->home, d);
    __real_desk_free(d);
}
