/* tests/sim/sim.h: one seeded program without threads, sockets or clocks. It runs the effects of the real
 * router/ and batcher/ in a world of clients, replicas and mailboxes with faults, and demands all along
 * what docs/architecture.md promises. The same seed gives the same world, the same story, the same digest.
 *
 *   plan.c      seed -> how this world is: loops, models, load, which faults
 *   world.c     loops, mailboxes, turns; runs effects as gateway/ does
 *   clients.c   lives: who asks for what, until when, and who goes away
 *   replicas.c  what computes, and all the ways in which it does not
 *   demands.c   what must hold, and the oracle that knows who could have been answered
 *   main.c      options, many seeds, figures
 *
 * Time: microseconds. A loop's turn runs at a moment of its own; what it sees as now may stand still. */
#ifndef SLUICE_TESTS_SIM_H
#define SLUICE_TESTS_SIM_H

#include "base/block.h"
#include "base/check.h"
#include "router/desk.h"
#include "router/flow.h"

#define SIM_LOOPS 8
#define SIM_MODELS 5
#define SIM_REPLICAS 4
#define SIM_ROWS 8 // of one request, at most
#define SIM_START_US 1000000000ull
#define SIM_NEVER UINT64_MAX
#define SIM_SHIFT 100 // a world that shifts is so much slower at first
#define SIM_EPSILON_US                                                                             \
    4000 // how late a settlement may be: a wheel's tick, a turn, and a wake that was early

// What a request can be like: each has a batch key of its own.
enum kind {
    KIND_PLAIN,
    KIND_OTHER,    // another shape
    KIND_VERSION1, // names version 1
    KIND_VERSION2, // version 2, which only some replicas have
    KIND_VERSION9, // nobody has
    KIND_SEQUENCE, // goes alone
    KIND_SCALAR,   // no first dimension: goes alone
    KINDS
};

enum fault {
    FAULT_CRASH,
    FAULT_HANG,
    FAULT_SLOW,
    FAULT_REFUSE,
    FAULT_ERROR,     // a whole batch fails, for no reason of its rows
    FAULT_GUILTY,    // one row makes its batch fail
    FAULT_POISON,    // one row kills the worker
    FAULT_SHAPE,     // answers other rows
    FAULT_MALFORMED, // answers what cannot be read
    FAULT_CROSSED,   // the answer crosses our cancel
    FAULT_TWICE,     // answers twice
    FAULT_DIFFERS,   // comes back with other metadata
    FAULT_RELOAD,    // all of a model's replicas are exchanged for others
    FAULT_BORN,      // a model that nobody knew
    FAULT_GONE,      // the client goes away
    FAULT_STALL,     // a loop does not turn for seconds
    FAULT_CLOCK,     // a loop's clock stands still
    FAULT_MAIL,      // a mailbox is slow
    FAULT_MEMORY,    // the n-th allocation fails
    FAULT_ROOM,      // the queue is full
    FAULTS
};
extern const char *const fault_name[FAULTS];

struct plan { // drawn from the seed, then read only
    uint64_t seed;
    bool calm;  // no faults at all
    bool flood; // calm, and all at once: how fast is it?
    bool
        shift; // calm, but slow until half of the lives have come; then quick, and nobody has much time
    unsigned loops, models, lives;
    double load;       // offered, as a share of what the replicas can do
    double burst;      // share of arrivals that come in a burst
    uint64_t mail_us;  // a message takes at most so long
    uint64_t turn_us;  // a loop wakes at most so late
    uint64_t fault_us; // mean time between a replica's faults
    double per_batch;  // share of batches with a fault of their own
    double gone;       // share of clients that go away
    double bad_row;    // share of guilty and of poisonous requests, each
    double loop_fault; // chance of a turn to stall or freeze its loop
    double memory;     // chance of an input to a desk to lack memory
    bool singles;      // sequences and scalars too
};

struct world;
struct life;
struct call;

struct replica_of { // one worker, as it really is
    struct model_of *model;
    uint32_t id;
    bool alive;          // computes
    bool told;           // its desk counts on it
    bool connected;      // its desk knows that it is there
    bool second;         // has version 2
    unsigned generation; // of its metadata
    uint32_t max_batch;
    unsigned in_flight;
    uint64_t busy_until, slow_until, hung_until, refuse_until, paused_until;
    struct call *calls;
};

struct model_of {
    struct world *w;
    char name[24];
    unsigned home;
    struct model_rules rules;
    struct model *m; // NULL: not born
    struct desk *desk;
    bool configured;
    double alpha_us, beta_us, tail;
    bool tells_compute;
    uint32_t max_batch;
    unsigned generation;
    unsigned n_replicas;
    struct replica_of replica[SIM_REPLICAS];
    struct infer_request form[KINDS];
    struct tensor form_input[KINDS];
    struct requested_output form_output;
    uint64_t desk_wake_us;
    bool dirty;

    // The books that the demands keep.
    int64_t rows_out, bytes_out; // charged: of lives that are not over
    uint64_t trouble_until;      // faults until then excuse
    uint64_t no_credit_us;       // when no replica had credit last
    uint64_t alone_since_us;     // since when no replica is told; 0 while one is
    uint64_t memory_us;          // when an allocation failed last
    uint64_t dispatched_us;      // when a batch was sent last
    unsigned suspects;           // lives at home that were aboard when a worker died
    uint32_t waiting[KINDS][BATCHER_LANES], passed[KINDS][BATCHER_LANES];
    uint64_t lane_since[KINDS][BATCHER_LANES]; // it waits, or was served last
    uint64_t peak_at[64];                      // which 16 ms the entry is about
    double peak[64]; // and the most work that was out in them, microseconds of one replica
    double work_us;
    uint64_t dispatched_rows, answered_rows, noted_rows, noted_done, shed;
};

struct life { // one request from arrival to release
    struct infer in;
    struct tensor input;
    uint64_t row[SIM_ROWS];
    uint64_t id;
    struct model_of *model;
    enum kind kind;
    unsigned loop;
    bool guilty, poison;
    bool live, settled, lent, waiting, cancelled; // cancelled: its home was told
    bool queued_behind;                           // it was sent to a replica that had a batch
    bool called;                                  // its home is being told
    bool err_alone, bad_answer;                   // what happened to it
    unsigned deaths, sent;                        // times
    uint64_t first_us, since_us;                  // its home saw it first; it waits since then
    double work_us;
    struct life *next; // free ones
};

enum end { END_ANSWER, END_REFUSED, END_LOST, END_ERROR, END_MALFORMED, END_SHAPE, END_RECALLED };

struct call { // one batch at one replica
    struct batch *batch;
    struct replica_of *replica;
    enum end end;
    uint64_t tag; // changes whenever its end is fixed anew
    struct call *next, **prev;
};

enum event { EVENT_CALL, EVENT_GONE, EVENT_UP, EVENT_DOWN, EVENT_FAULT, EVENT_RELOAD };

struct entry { // of a loop's agenda, a binary heap
    uint64_t at_us, seq;
    enum event event;
    void *p;
    uint64_t tag;
};

struct letter {
    struct msg *msg;
    uint64_t at_us;
};
struct mailbox { // from one loop to another: a ring, first in first out
    struct letter *ring;
    unsigned head, n, cap; // cap: a power of two
    uint64_t last_us;
};

struct loop_of {
    struct world *w;
    unsigned index;
    struct flow flow;
    struct effects fx;
    struct block_owner *blocks;
    struct mailbox in[SIM_LOOPS];
    struct entry *agenda;
    unsigned n_agenda, cap_agenda;
    uint64_t next_arrival_us, flow_wake_us;
    uint64_t wake_us;        // when it turns next
    uint64_t now_us;         // what its clock shows
    uint64_t stalled_until;  // it does not turn before
    uint64_t frozen_until;   // its clock stands
    struct block *pinned[8]; // answers that slow readers still hold
    unsigned pin;
};

struct totals {
    uint64_t lives, settled[STATUS_COUNT], faults[FAULTS], virtual_us;
};

struct world {
    struct plan plan;
    struct rand rand;
    struct table *table;
    struct loop_of loop[SIM_LOOPS];
    struct model_of model[SIM_MODELS];
    struct life *lives, *free_lives;
    struct call *free_calls;
    unsigned submitted, alive, n_batches;
    double arrival_us; // mean time between arrivals at a loop
    double shares[SIM_MODELS];
    uint64_t now_us, seq, tag;
    uint64_t trouble_until; // of all models
    bool healed;
    unsigned overdue; // calls that were out for long, past their deadline, and not suspected yet
    uint64_t first_dispatch_us, last_answer_us;
    uint64_t digest;
    uint64_t trace; // 0: none, else id of a life
    struct totals totals;
};

// plan.c
void plan_draw(struct plan *p, uint64_t seed);
void plan_models(struct world *w);

// world.c
void world_run(struct world *w, uint64_t seed, uint64_t trace);
void world_at(struct world *w, struct loop_of *l, uint64_t at_us, enum event event, void *p,
              uint64_t tag);
void world_effects(struct loop_of *l);
struct desk *world_desk(struct world *w, struct model_of *m);
void world_add_model(struct world *w, struct model_of *m);
bool world_chance(struct world *w, double p);
uint64_t world_exponential(struct world *w, double mean_us);
bool world_slow(const struct world *w); // it shifts, and has not yet
void world_count(struct world *w, enum fault f);
// The next inputs to a desk may lack memory; world_memory_end says that they are over.
void world_memory(struct world *w, struct model_of *m);
void world_memory_end(void);

// clients.c
void clients_arrive(struct loop_of *l);
void clients_gone(struct loop_of *l, struct life *x, uint64_t id);
void clients_settle(struct loop_of *l, struct infer *in);
void clients_release(struct loop_of *l, struct infer *in);

// replicas.c
void replicas_start(struct world *w, struct model_of *m);
void replicas_dispatch(struct loop_of *l, struct batch *b);
void replicas_cancel(struct loop_of *l, struct batch *b);
void replicas_suspect(struct loop_of *l, struct desk *d, uint32_t id);
void replicas_event(struct loop_of *l, const struct entry *e);
void replicas_heal(struct world *w);
uint64_t replicas_answer_of(uint64_t row); // the function that every replica computes
double replicas_time_us(const struct model_of *m, double rows);

// demands.c
void demand_failed(const struct world *w, const struct life *x, const char *what);
#define demand(w, x, cond, what)                                                                   \
    do {                                                                                           \
        if (__builtin_expect(!(cond), 0))                                                          \
            demand_failed(w, x, what);                                                             \
    } while (0)
void trace_line(const struct world *w, const struct life *x, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
#define trace(w, x, ...)                                                                           \
    do {                                                                                           \
        if (__builtin_expect((w)->trace == (x)->id, 0))                                            \
            trace_line(w, x, __VA_ARGS__);                                                         \
    } while (0)
static inline struct life *life_of(const struct ticket *t)
{
    return container_of(container_of(t, struct infer, ticket), struct life, in);
}
void demands_on_submit(struct loop_of *l, struct life *x); // after flow_submit, before its effects
void demands_on_post(struct loop_of *l, struct msg *m);
void demands_on_deliver(struct loop_of *l, struct msg *m);
void demands_called_home(struct loop_of *l, struct ticket *t); // after its cancel came
void demands_decided(struct loop_of *l, struct model_of *m);   // after its desk ran
void demands_queued(struct loop_of *l, struct ticket *t);      // after the home took it up (again)
void demands_on_dispatch(struct loop_of *l, struct batch *b);
void demands_on_end(struct loop_of *l, struct call *c);
void demands_on_note(struct loop_of *l, const struct note *n);
void demands_on_settle(struct loop_of *l, struct life *x);
void demands_on_release(struct loop_of *l, struct life *x);
void demands_credit(struct world *w, struct model_of *m); // after any input to its desk
void demands_trouble(struct world *w, struct model_of *m, uint64_t until_us);
void demands_at_rest(struct world *w);

#endif
