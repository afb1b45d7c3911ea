/* batcher/batcher.h: a model's queue: who waits, in which order they go, with whom. Tickets with an equal
 * batch key stand in one group; a group has lanes by priority; within a lane the earliest deadline goes
 * first. Those that go singly stand in a group for each version, so that one whose version has no replica
 * at hand is in nobody's way. Groups are bounded: what would need more than BATCHER_GROUPS at the same time
 * goes singly in the last one, which is mixed.
 * Knows tickets and now; nothing of loops, HTTP or workers, so that it serves the gateway and the worker.
 * Thinks. Memory: tickets are the caller's; groups are kept and used again. Thread: the home loop's.
 *
 * Starvation bound: lanes are strict across groups, but a lane that BATCHER_PASSES batches in a row left
 * waiting has the next one: a low priority gets one batch in nine. Within a lane, groups with the earliest
 * deadline go first, but one that BATCHER_PASSES batches of that lane passed over has the lane's next one. So
 * a lane's head goes after at most (BATCHER_PASSES + BATCHER_LANES) * (BATCHER_PASSES + BATCHER_GROUPS)
 * batches, and a high priority waits for one batch of a lower one at most. */
#ifndef SLUICE_BATCHER_BATCHER_H
#define SLUICE_BATCHER_BATCHER_H

#include "batcher/arrivals.h"
#include "batcher/due.h"
#include "batcher/estimate.h"
#include "batcher/lane.h"
#include "batcher/policy.h"

#define BATCHER_LANES POLICY_LANES
#define BATCHER_GROUPS 32 // the last one is the mixed one
#define BATCHER_PASSES 8
#define BATCHER_DOUBT_US 1000000 // an estimate that refuses is put to the test so often

struct group {
    struct hash128 key;
    bool used;
    bool single; // one ticket a batch
    bool mixed;  // of any version: its tickets may have no replica at hand, others behind them have
    bool
        overtaken; // while it waited for company, a lower priority went: it waits for none any more
    uint32_t count;
    uint64_t rows;
    struct ticket *oldest, *newest; // by arrival: in order of senior_us
    struct lane lane[BATCHER_LANES];
};

struct batcher {
    struct policy policy;
    struct estimate estimate;
    struct arrivals arrivals;
    struct outlook outlook; // what batcher_expect said last
    double trip_us;         // to a server and back; 0: not known
    uint64_t half_us;       // of the way, as whole microseconds
    // When batcher_expect was called: t of a full batch, its upper quantile, and rows that all servers take at once, or
    // those beside them in that time.
    uint64_t full_us, full_high_us;
    double round_rows;
    uint32_t sent;                        // batches taken, ever
    uint64_t learned_us;                  // when the estimate last met the world
    bool refusing;                        // since then it alone was why a ticket was hopeless
    bool probing;                         // a batch is out that tests it
    uint32_t missed;                      // batches that were late, since one was answered
    struct group *groups[BATCHER_GROUPS]; // NULL: never needed
    uint32_t passed[BATCHER_LANES];       // batches in a row that left out a group of this lane
    uint32_t count;
    uint32_t elsewhere; // of those, tickets that have something else to try
    uint64_t rows, bytes;
    uint64_t lane_rows[BATCHER_LANES];
    struct due_rows *
        due; // [BATCHER_LANES], of the group that is asked about; NULL: no deadline has pressed yet
};

struct batch_plan {      // what batcher_plan found
    struct group *group; // NULL: nothing may go now
    uint8_t lane;        // the batch starts with this lane
    uint32_t rows;       // at most so many
    enum batch_reason reason;
    uint64_t
        drop_us[BATCHER_LANES]; // auto: heads of that lane with a deadline before stand in the way
    uint64_t wake_us;           // group == NULL: ask again then; UINT64_MAX: when something changes
};

// OIP's priority to a lane: 1 -> 0; 0 (none given) and 2 -> 1; 3, 4 -> 2; the rest -> 3.
uint8_t batcher_lane_of(uint8_t priority);

void batcher_init(struct batcher *b, const struct policy *p);
void batcher_deinit(struct batcher *b); // empty
// place becomes QUEUED. queued_us is kept when it is not 0: a ticket that comes back into the queue stands
// before all that came after it (with the seniority of the oldest, when that is less: its group goes at
// once). False: out of memory, nothing changed.
bool batcher_push(struct batcher *b, struct ticket *t, uint64_t now_us);
void batcher_remove(struct batcher *b, struct ticket *t); // place becomes NONE
// auto: rows came, before anything is decided about them; the servers as they are now, before batcher_plan,
// batcher_refuses, batcher_hopeless and what uses them; a batch on a quiet server was on its way so long.
void batcher_came(struct batcher *b, uint32_t rows, uint64_t now_us);
void batcher_expect(struct batcher *b, const struct outlook *at);
void batcher_trip(struct batcher *b, uint64_t us);
// Which batch should go now, if any; cap_rows: what the replica at hand takes (>= 1). may_send: NULL, or
// says whether a group can go to the replica at hand (versions); groups that cannot are passed over.
struct batch_plan batcher_plan(struct batcher *b, uint32_t cap_rows, uint64_t now_us,
                               bool (*may_send)(const struct group *g, void *ctx), void *ctx);
// What a batch would be that goes now: the lane it begins with, and its rows for the time it takes, b / t(b), as a share
// of what full batches reach (0 .. 1; 1 while t is not known). Something is queued.
struct batcher_bid {
    uint8_t lane;
    double share;
};
struct batcher_bid batcher_bid(const struct batcher *b);
// auto: the next ticket that the plan drops, to be removed and refused before batcher_take. NULL: none.
struct ticket *batcher_dropped(struct batcher *b, const struct batch_plan *plan, uint64_t now_us);
// Takes the plan's tickets out of the queue, at most max, in the order in which they go; place becomes
// ABOARD. Counts passes. At least one.
unsigned batcher_take(struct batcher *b, const struct batch_plan *plan, struct ticket **out,
                      unsigned max, uint64_t now_us);
// Others serve it now, of which so much is known, and since when; what was doubted of those before is not of them.
void batcher_knows(struct batcher *b, const struct estimate *t, uint64_t met_us);
// A batch of so many rows was answered, and took so long.
void batcher_learn(struct batcher *b, uint32_t rows, uint64_t took_us, uint64_t now_us);
// A batch was late, and recalled: nobody waits for it any more.
void batcher_missed(struct batcher *b);
// Is the next one to be let end, however late, since it teaches? Under overload the next deadline goes first, and when it
// is not known how long a batch takes, or it takes longer than it did, all that go are recalled, one after the other, and
// none ever says that they are sent too late. So: after the first while nothing is known, after three in a row when what
// is known must be wrong.
bool batcher_curious(const struct batcher *b);
// True: it is neither refused nor hopeless (the two below), whatever is queued before it. Cheap, and nearly always
// so: the two need not be called then.
bool batcher_timely(const struct batcher *b, const struct ticket *t, uint64_t now_us);
// R6, auto: its deadline leaves time for full batches, but more of them are queued before it than can be served in
// time, with a sixteenth to spare. Shorter deadlines are not refused here: dropping others may serve them. Called
// before it is queued. 0: not refused; else how late its answer would be, us.
uint64_t batcher_refuses(const struct batcher *b, const struct ticket *t, uint64_t now_us);
// It cannot be answered in time: its deadline is past, or nearer than the low quantile of t(its rows); under auto
// (R7) counted from when a server is free, with the way there and back; nor by a server beside those.
// Who is refused teaches nothing, so a worker that was slow once might be thought slow for ever: an estimate
// that has refused and met no answer for BATCHER_DOUBT_US is not believed until a batch has gone; when that
// one was quicker than it said, it is forgotten.
bool batcher_hopeless(struct batcher *b, const struct ticket *t, uint64_t now_us);
// The next queued ticket that is hopeless. NULL: none. Not removed.
struct ticket *batcher_doomed(struct batcher *b, uint64_t now_us);
// When batcher_doomed should be asked next; never late by more than a slot of a lane. UINT64_MAX: empty.
uint64_t batcher_doom_us(const struct batcher *b);
// Any queued ticket (to empty the queue); NULL: empty.
struct ticket *batcher_any(struct batcher *b);

#endif
