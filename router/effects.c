#include "router/effects.h"

#include "base/check.h"
#include "base/mem.h"

const char *const refusal_name[REFUSALS] = {
    [REFUSAL_NONE] = "none",     [REFUSAL_QUEUE] = "queue", [REFUSAL_PRIORITY] = "priority",
    [REFUSAL_TENANT] = "tenant", [REFUSAL_LATE] = "late",   [REFUSAL_MEMORY] = "memory",
};

const char *const note_name[NOTE_KINDS] = {
    [NOTE_BATCH] = "batch",
    [NOTE_DONE] = "done",
    [NOTE_SHED] = "shed",
    [NOTE_EXPIRED] = "expired",
    [NOTE_REFUSED] = "refused",
    [NOTE_DROPPED] = "dropped",
    [NOTE_HALVED] = "halved",
    [NOTE_RETRIED] = "retried",
    [NOTE_POISON] = "poison",
    [NOTE_WRONG_SHAPE] = "wrong_shape",
    [NOTE_STEP] = "step",
    [NOTE_REPLICA_UP] = "replica_up",
    [NOTE_REPLICA_DOWN] = "replica_down",
    [NOTE_REPLICA_DIFFERS] = "replica_differs",
    [NOTE_REPLICA_PAUSED] = "replica_paused",
    [NOTE_REPLICA_EJECTED] = "replica_ejected",
    [NOTE_REPLICA_BACK] = "replica_back",
    [NOTE_NO_REPLICA] = "no_replica",
    [NOTE_LEVEL] = "level",
};

const bool note_of_replica[NOTE_KINDS] = {
    [NOTE_WRONG_SHAPE] = true,     [NOTE_REPLICA_UP] = true,     [NOTE_REPLICA_DOWN] = true,
    [NOTE_REPLICA_DIFFERS] = true, [NOTE_REPLICA_PAUSED] = true, [NOTE_REPLICA_EJECTED] = true,
    [NOTE_REPLICA_BACK] = true,
};

void effects_init(struct effects *fx, struct block_owner *blocks)
{
    *fx = (struct effects){.blocks = blocks};
}

void effects_deinit(struct effects *fx)
{
    mem_free(fx->at);
    effects_init(fx, fx->blocks);
}

// Out of line: the list soon has the size that it stays at.
static __attribute__((noinline, cold)) void grow(struct effects *fx)
{
    unsigned cap = fx->cap ? fx->cap * 2 : 256;
    struct fx *grown = mem_must(cap * sizeof(*grown));
    if (fx->n > 0)
        memcpy(grown, fx->at, fx->n * sizeof(*grown));
    mem_free(fx->at);
    fx->at = grown;
    fx->cap = cap;
}

struct fx *effects_add(struct effects *fx, enum fx_kind kind)
{
    if (fx->n == fx->cap)
        grow(fx);
    struct fx *f = &fx->at[fx->n++];
    memset(f, 0, sizeof(*f));
    f->kind = kind;
    return f;
}
