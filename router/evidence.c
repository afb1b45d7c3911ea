#include "router/evidence.h"

// Either the replica or a row is to blame. A sibling tells which; without one the batch itself does.
static struct outcome weigh_failure(const struct evidence *e)
{
    struct outcome o = {.replica = REPLICA_FAILED, .guilty = true};
    if (e->sibling && !e->sequence)
        o.tickets = TICKETS_SIBLING;
    else
        o.tickets = e->company ? TICKETS_HALVED : TICKETS_FAILED;
    return o;
}

// Not processed, so safe to repeat, but not at once where it was refused.
static struct outcome weigh_refusal(const struct evidence *e)
{
    return (struct outcome){.replica = REPLICA_REFUSED,
                            .tickets = e->sequence ? TICKETS_FAILED : TICKETS_RETRIED};
}

// The lack is ours. Half of the answer may find room; of one ticket alone the client is told.
static struct outcome weigh_no_room(const struct evidence *e)
{
    return (struct outcome){.replica = REPLICA_HEARD,
                            .tickets = e->company ? TICKETS_HALVED : TICKETS_FAILED};
}

static struct outcome weigh_status(const struct evidence *e)
{
    switch (e->status) {
    case STATUS_NOT_FOUND: // of a model that it had listed: unloaded, or the server is stopping
    case STATUS_UNAVAILABLE:
    case STATUS_WORKER_LOST:
    case STATUS_QUOTA:
        return weigh_refusal(e);
    case STATUS_INTERNAL:
    case STATUS_BAD_ANSWER:
        return weigh_failure(e);
    case STATUS_DEADLINE: // the time that we gave it is over
        return (struct outcome){.replica = REPLICA_BUSY, .tickets = TICKETS_FAILED};
    default: // it has read the request and does not like it
        return (struct outcome){.replica = REPLICA_HEARD,
                                .tickets = e->company ? TICKETS_HALVED : TICKETS_FAILED,
                                .guilty = true};
    }
}

static struct outcome weigh_loss(const struct evidence *e)
{
    struct outcome o = {.replica = e->ours ? REPLICA_KEPT : REPLICA_LOST};
    if (!e->ours && e->process == PROCESS_CRASHED)
        o.death = true;
    else if (!e->ours && e->process == PROCESS_UNKNOWN)
        o.death = e->only && !e->local;
    o.guilty = !e->ours && e->process != PROCESS_ENDED;
    if (e->sequence)
        o.tickets = TICKETS_DROPPED;
    else
        o.tickets = e->ours ? TICKETS_REQUEUED : TICKETS_SURVIVED;
    return o;
}

static struct outcome weigh_overdue(const struct evidence *e)
{
    struct outcome o = {.replica = REPLICA_BUSY, .tickets = TICKETS_OUT};
    if (e->live == LIVE_NO)
        o.replica = REPLICA_HANGS;
    else if (e->silent && e->live == LIVE_YES)
        o.replica = REPLICA_SILENT;
    return o;
}

struct outcome evidence_weigh(const struct evidence *e)
{
    switch (e->seen) {
    case SEEN_ANSWER:
        return (struct outcome){.replica = REPLICA_WELL, .tickets = TICKETS_ANSWERED};
    case SEEN_WRONG:
        return weigh_failure(e);
    case SEEN_STATUS:
        return weigh_status(e);
    case SEEN_UNPROCESSED:
        return weigh_refusal(e);
    case SEEN_NO_ROOM:
        return weigh_no_room(e);
    case SEEN_LOST:
        return weigh_loss(e);
    case SEEN_OVERDUE:
        return weigh_overdue(e);
    default: // SEEN_RECALLED
        return (struct outcome){.replica = REPLICA_BUSY, .tickets = TICKETS_FAILED};
    }
}
