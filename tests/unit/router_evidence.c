/* router/evidence: every combination of what can be seen, held against the invariants of the header; and the
 * rows of docs/evidence.md, one by one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "router/evidence.h"
#include <stdio.h>

// ---- every combination -------------------------------------------------------------------------------

static const char *text_of(const struct evidence *e)
{
    static char text[200];
    snprintf(
        text, sizeof(text),
        "seen %d status %d ours %d local %d only %d company %d sequence %d sibling %d silent %d "
        "process %d live %d",
        e->seen, e->status, e->ours, e->local, e->only, e->company, e->sequence, e->sibling,
        e->silent, e->process, e->live);
    return text;
}

#define hold(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fail_msg("not so: %s, with %s", #condition, text_of(e));                               \
    } while (0)

static bool is_refusal(const struct evidence *e)
{
    return e->seen == SEEN_UNPROCESSED ||
           (e->seen == SEEN_STATUS &&
            (e->status == STATUS_NOT_FOUND || e->status == STATUS_UNAVAILABLE ||
             e->status == STATUS_WORKER_LOST || e->status == STATUS_QUOTA));
}

static bool is_sent_again(enum tickets_fate fate)
{
    return fate == TICKETS_HALVED || fate == TICKETS_SIBLING || fate == TICKETS_RETRIED ||
           fate == TICKETS_REQUEUED || fate == TICKETS_SURVIVED;
}

static void check_deaths(const struct evidence *e, const struct outcome *o)
{
    bool crashed = e->process == PROCESS_CRASHED;
    bool alone = e->process == PROCESS_UNKNOWN && !e->local && e->only;
    hold(o->death == (e->seen == SEEN_LOST && !e->ours && (crashed || alone))); // E1
    hold(!o->death || o->tickets == TICKETS_SURVIVED || e->sequence);
}

static void check_replica(const struct evidence *e, const struct outcome *o)
{
    bool ours = (e->seen == SEEN_LOST && e->ours) || e->seen == SEEN_RECALLED;
    hold(!ours || (o->replica == REPLICA_KEPT || o->replica == REPLICA_BUSY)); // E2
    hold(!ours || (!o->death && !o->guilty));
    hold(e->seen != SEEN_NO_ROOM || (o->replica == REPLICA_HEARD && !o->guilty)); // E7
    hold((o->replica == REPLICA_REFUSED) == is_refusal(e));
    hold((o->replica == REPLICA_WELL) == (e->seen == SEEN_ANSWER));
    hold(o->replica != REPLICA_SILENT ||
         (e->seen == SEEN_OVERDUE && e->silent && e->live == LIVE_YES));
    hold(o->replica != REPLICA_HANGS || (e->seen == SEEN_OVERDUE && e->live == LIVE_NO));
    if (e->seen == SEEN_OVERDUE && e->live == LIVE_YES && !e->silent)
        hold(o->replica == REPLICA_BUSY); // E6
}

static void check_tickets(const struct evidence *e, const struct outcome *o)
{
    hold(o->tickets != TICKETS_HALVED || (e->company && !is_refusal(e)));         // E4
    hold(o->tickets != TICKETS_HALVED || o->guilty != (e->seen == SEEN_NO_ROOM)); // E3
    if (e->seen == SEEN_NO_ROOM) // E7: in parts or not at all, never again as it is
        hold(o->tickets == (e->company ? TICKETS_HALVED : TICKETS_FAILED));
    hold(o->tickets != TICKETS_RETRIED || is_refusal(e));
    hold(!e->sequence || o->tickets == TICKETS_HALVED || !is_sent_again(o->tickets)); // E5
    hold((o->tickets == TICKETS_ANSWERED) == (e->seen == SEEN_ANSWER));
    hold((o->tickets == TICKETS_OUT) == (e->seen == SEEN_OVERDUE));
    hold(o->tickets != TICKETS_SIBLING || (e->sibling && o->replica == REPLICA_FAILED));
    hold(o->tickets != TICKETS_DROPPED || (e->sequence && e->seen == SEEN_LOST));
    if (e->seen == SEEN_LOST && !e->sequence)
        hold(o->tickets == (e->ours ? TICKETS_REQUEUED : TICKETS_SURVIVED));
}

// Eleven members, each with all its values.
static void every_combination_keeps_the_invariants(void **state)
{
    (void)state;
    unsigned tried = 0;
    for (unsigned bits = 0; bits < 128; bits++) {
        for (unsigned seen = 0; seen < SEEN_KINDS; seen++) {
            for (unsigned k = 0; k < STATUS_COUNT * 9; k++) {
                struct evidence one = {.seen = (enum seen)seen,
                                       .status = (enum status)(k / 9),
                                       .ours = bits & 1,
                                       .local = bits & 2,
                                       .only = bits & 4,
                                       .company = bits & 8,
                                       .sequence = bits & 16,
                                       .sibling = bits & 32,
                                       .silent = bits & 64,
                                       .process = (enum process_word)(k % 3),
                                       .live = (enum liveness)(k / 3 % 3)};
                const struct evidence *e = &one;
                if (one.seen == SEEN_STATUS && one.status == STATUS_OK)
                    continue; // a status that is OK is an answer
                if (one.sequence && one.company)
                    continue; // a step goes alone
                struct outcome o = evidence_weigh(&one);
                check_deaths(e, &o);
                check_replica(e, &o);
                check_tickets(e, &o);
                tried++;
            }
        }
    }
    assert_true(tried > 100000);
}

// ---- the table ---------------------------------------------------------------------------------------

struct row {
    struct evidence e;
    enum replica_fate replica;
    enum tickets_fate tickets;
    bool death, guilty;
};

static const struct row rows[] = {
    {{.seen = SEEN_ANSWER}, REPLICA_WELL, TICKETS_ANSWERED, false, false},
    {{.seen = SEEN_WRONG, .sibling = true}, REPLICA_FAILED, TICKETS_SIBLING, false, true},
    {{.seen = SEEN_WRONG, .company = true}, REPLICA_FAILED, TICKETS_HALVED, false, true},
    {{.seen = SEEN_WRONG}, REPLICA_FAILED, TICKETS_FAILED, false, true},
    {{.seen = SEEN_WRONG, .sibling = true, .sequence = true},
     REPLICA_FAILED,
     TICKETS_FAILED,
     false,
     true},
    {{.seen = SEEN_STATUS, .status = STATUS_INTERNAL, .sibling = true, .company = true},
     REPLICA_FAILED,
     TICKETS_SIBLING,
     false,
     true},
    {{.seen = SEEN_STATUS, .status = STATUS_INTERNAL, .company = true},
     REPLICA_FAILED,
     TICKETS_HALVED,
     false,
     true},
    {{.seen = SEEN_STATUS, .status = STATUS_BAD_ANSWER},
     REPLICA_FAILED,
     TICKETS_FAILED,
     false,
     true},
    {{.seen = SEEN_STATUS, .status = STATUS_BAD_REQUEST, .company = true, .sibling = true},
     REPLICA_HEARD,
     TICKETS_HALVED,
     false,
     true},
    {{.seen = SEEN_STATUS, .status = STATUS_BAD_REQUEST},
     REPLICA_HEARD,
     TICKETS_FAILED,
     false,
     true},
    {{.seen = SEEN_STATUS, .status = STATUS_UNSUPPORTED},
     REPLICA_HEARD,
     TICKETS_FAILED,
     false,
     true},
    {{.seen = SEEN_STATUS, .status = STATUS_DEADLINE, .company = true},
     REPLICA_BUSY,
     TICKETS_FAILED,
     false,
     false},
    {{.seen = SEEN_STATUS, .status = STATUS_NOT_FOUND, .company = true, .sibling = true},
     REPLICA_REFUSED,
     TICKETS_RETRIED,
     false,
     false},
    {{.seen = SEEN_STATUS, .status = STATUS_UNAVAILABLE},
     REPLICA_REFUSED,
     TICKETS_RETRIED,
     false,
     false},
    {{.seen = SEEN_STATUS, .status = STATUS_WORKER_LOST},
     REPLICA_REFUSED,
     TICKETS_RETRIED,
     false,
     false},
    {{.seen = SEEN_STATUS, .status = STATUS_QUOTA}, REPLICA_REFUSED, TICKETS_RETRIED, false, false},
    {{.seen = SEEN_UNPROCESSED}, REPLICA_REFUSED, TICKETS_RETRIED, false, false},
    {{.seen = SEEN_UNPROCESSED, .sequence = true}, REPLICA_REFUSED, TICKETS_FAILED, false, false},
    {{.seen = SEEN_NO_ROOM, .company = true, .sibling = true},
     REPLICA_HEARD,
     TICKETS_HALVED,
     false,
     false},
    {{.seen = SEEN_NO_ROOM, .sibling = true}, REPLICA_HEARD, TICKETS_FAILED, false, false},
    {{.seen = SEEN_NO_ROOM, .sequence = true}, REPLICA_HEARD, TICKETS_FAILED, false, false},
    {{.seen = SEEN_LOST, .ours = true, .only = true}, REPLICA_KEPT, TICKETS_REQUEUED, false, false},
    {{.seen = SEEN_LOST, .ours = true, .process = PROCESS_CRASHED}, // we were first
     REPLICA_KEPT,
     TICKETS_REQUEUED,
     false,
     false},
    {{.seen = SEEN_LOST}, REPLICA_LOST, TICKETS_SURVIVED, false, true},
    {{.seen = SEEN_LOST, .only = true}, REPLICA_LOST, TICKETS_SURVIVED, true, true},
    {{.seen = SEEN_LOST, .only = true, .local = true}, REPLICA_LOST, TICKETS_SURVIVED, false, true},
    {{.seen = SEEN_LOST, .local = true, .process = PROCESS_CRASHED},
     REPLICA_LOST,
     TICKETS_SURVIVED,
     true,
     true},
    {{.seen = SEEN_LOST, .local = true, .only = true, .process = PROCESS_ENDED},
     REPLICA_LOST,
     TICKETS_SURVIVED,
     false,
     false},
    {{.seen = SEEN_LOST, .sequence = true}, REPLICA_LOST, TICKETS_DROPPED, false, true},
    {{.seen = SEEN_LOST, .sequence = true, .ours = true},
     REPLICA_KEPT,
     TICKETS_DROPPED,
     false,
     false},
    {{.seen = SEEN_RECALLED, .company = true}, REPLICA_BUSY, TICKETS_FAILED, false, false},
    {{.seen = SEEN_OVERDUE, .live = LIVE_YES}, REPLICA_BUSY, TICKETS_OUT, false, false},
    {{.seen = SEEN_OVERDUE, .live = LIVE_YES, .silent = true},
     REPLICA_SILENT,
     TICKETS_OUT,
     false,
     false},
    {{.seen = SEEN_OVERDUE, .silent = true}, REPLICA_BUSY, TICKETS_OUT, false, false},
    {{.seen = SEEN_OVERDUE, .live = LIVE_NO}, REPLICA_HANGS, TICKETS_OUT, false, false},
};

static void every_row_of_the_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *r = &rows[i];
        struct outcome o = evidence_weigh(&r->e);
        if (o.replica != r->replica || o.tickets != r->tickets || o.death != r->death ||
            o.guilty != r->guilty)
            fail_msg("row %zu: want %d %d %d %d, got %d %d %d %d, with %s", i, r->replica,
                     r->tickets, r->death, r->guilty, o.replica, o.tickets, o.death, o.guilty,
                     text_of(&r->e));
    }
}

static void losses_and_deaths(void **state)
{
    (void)state;
    static const struct {
        unsigned losses, deaths;
        bool alone;
        enum ticket_fate watched, not_watched;
    } want[] = {
        {1, 0, false, TICKET_AGAIN, TICKET_AGAIN},  {1, 0, true, TICKET_AGAIN, TICKET_AGAIN},
        {1, 1, false, TICKET_ALONE, TICKET_ALONE},  {1, 1, true, TICKET_ALONE, TICKET_ALONE},
        {2, 0, false, TICKET_ALONE, TICKET_ALONE},  {2, 1, true, TICKET_ALONE, TICKET_ALONE},
        {2, 2, false, TICKET_ALONE, TICKET_ALONE}, // with others aboard each time: maybe innocent
        {2, 2, true, TICKET_POISON, TICKET_ALONE}, // a line that flaps looks like a death
        {3, 0, true, TICKET_LOST, TICKET_LOST},     {3, 1, true, TICKET_LOST, TICKET_LOST},
        {3, 2, false, TICKET_LOST, TICKET_LOST},    {3, 2, true, TICKET_POISON, TICKET_POISON},
        {3, 3, true, TICKET_POISON, TICKET_POISON},
    };
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        unsigned losses = want[i].losses, deaths = want[i].deaths;
        assert_int_equal(ticket_fate_after_loss(losses, deaths, want[i].alone, true),
                         want[i].watched);
        assert_int_equal(ticket_fate_after_loss(losses, deaths, want[i].alone, false),
                         want[i].not_watched);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_combination_keeps_the_invariants),
        cmocka_unit_test(every_row_of_the_table),
        cmocka_unit_test(losses_and_deaths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
