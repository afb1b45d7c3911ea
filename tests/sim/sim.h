/* tests/sim/sim.h: one seeded program without threads, sockets or clocks. It runs the effects of the real
 * router/ and batcher/, and the real probes of backends/, in a world of clients, workers, connections and
 * mailboxes with faults, and demands all along what docs/architecture.md and docs/evidence.md promise. The
 * same seed gives the same world, the same story, the same digest.
 *
 *   plan.c            seed -> how this world is: loops, models, workers, load, which faults
 *   main.c            options, many seeds, figures
 *   world.c           a world's life, loops and their turns; runs effects as gateway/ does
 *   mail.c            mailboxes between loops, and each loop's agenda
 *   clients.c         lives: who asks for what, until when, and who goes away
 *   workers.c         processes: their device, how they die, hang, stop, and what the keeper says of it
 *   faults.c          which of that happens when
 *   links.c           a loop's connection to a worker: up, lost, full, probed; what it learns of models
 *   calls.c           batches at a worker: what comes of each
 *   pins.c            levels that operators set
 *   kept.c            answers that are kept, and flights: what may come of them
 *   store.c           a store that other instances share
 *   shadows.c         requests that another model is asked, too, and how like its answers are
 *   trials.c          an experiment, whose weights change: who is drawn where
 *   late.c            workers that come late, or tell late what they have: who waits for that at its origin
 *   demands.c         room, the end of a world
 *   demands_ticket.c  a ticket's way, and the budget of messages
 *   demands_batch.c   what may be sent, to whom, in which order
 *   demands_worker.c  what may be concluded of a worker: who is ready, deaths, retries
 *   demands_level.c   what a model's level may be, and why
 *   oracle.c          how an infer may settle: who could have been answered, and what excuses an error
 *
 * Time: microseconds. A loop's turn runs at a moment of its own; what it sees as now may stand still.
 *
 * What it cannot see: memory order (the stress tests under TSan do); real sockets, framing, HTTP and TLS (the
 * integration tests); how a roster is made, counted and handed between loops (a loop learns the truth here, a
 * little late); which calls but inferences wait for a worker to tell, and how many may (they are the doer's); whether the
 * parts of a split request are passed over in their lanes, or wait too long with credit (each is looked at as a ticket, not as
 * one of those who wait); what a worker answers to metadata questions; bodies, and which of them their origin knows
 * (infer/memo.h: desks hear nothing of that); the
 * keeper's own decisions (here it kills and starts when it is told to, after a while); several gateways at one
 * worker; reconnecting (a connection comes back some milliseconds after its worker can take it, whatever the
 * backoff says); of a reload of the configuration all but a model's rules: which loop hears of it when, other limits and
 * deadlines of a flow, models that come, go or move by it, snapshots and who holds them, connections that are closed in
 * order (a worker that goes is dead by then); clients in a hurry whose requests fall to a model
 * that is far slower than they can wait (its batches are recalled, and a worker that computes them all the same looks silent).
 */
#ifndef SLUICE_TESTS_SIM_H
#define SLUICE_TESTS_SIM_H

#include "backends/probe.h"
#include "base/block.h"
#include "base/check.h"
#include "router/await.h"
#include "router/desk.h"
#include "router/flow.h"

#define SIM_LOOPS 8
#define SIM_MODELS 5
#define SIM_REPLICAS 4
#define SIM_WORKERS (SIM_MODELS * SIM_REPLICAS)
#define SIM_INSTANCES 3
#define SIM_IDS 64   // who takes a worker's place has its id and so much more
#define SIM_ROWS 8   // of one request, at most
#define SIM_WIDE 200 // of one that no batch takes
#define SIM_START_US 1000000000ull
#define SIM_NEVER UINT64_MAX
#define SIM_SHIFT 100 // a world that shifts is so much slower at first
#define SIM_INCARNATIONS 4096
#define SIM_SEQUENCES 8 // that clients of a model know
#define SIM_WORD 4096
#define SIM_TENANTS 6
#define SIM_STORED 4096 // answers in the store
#define SIM_LOSSES 4    // of one life that are remembered
#define SIM_EPSILON_US                                                                             \
    4000 // how late a settlement may be: a wheel's tick, a turn, and a wake that was early

// What a request can be like: each has a batch key of its own.
enum kind {
    KIND_PLAIN,
    KIND_OTHER,    // another shape, or a parameter of its own, or of its input
    KIND_VERSION1, // names version 1
    KIND_VERSION2, // version 2, which only some replicas have
    KIND_VERSION9, // nobody has
    KIND_SEQUENCE, // goes alone
    KIND_SCALAR,   // no first dimension: goes alone
    KINDS
};

enum fault {
    // A worker's own, drawn by plan.weight.
    FAULT_CRASH,    // its process dies
    FAULT_EXIT,     // its process ends as it was told to
    FAULT_HANG,     // its process stands still: nothing is read, answered or probed
    FAULT_STUCK,    // its device stands still: probes are answered, nothing is computed
    FAULT_SLOW,     //
    FAULT_STOP,     // it stops as Triton does: unavailable, then without its models, then gone
    FAULT_UNLOAD,   // a model is unloaded and loaded again
    FAULT_RELOAD,   // all of a model's replicas are exchanged for others
    FAULT_OVERLOAD, // it refuses what is beyond a short queue
    FAULT_REFUSE,   // it processes nothing of a model for a while
    FAULT_BROKEN,   // every answer of one replica is an error
    FAULT_FLAP,     // a connection ends, no process does
    FAULTS_DRAWN,
    // What comes of them, and of others.
    FAULT_FULL = FAULTS_DRAWN, // the socket buffer of a worker that does not read is full
    FAULT_KILLED,              // the keeper killed a worker that hangs
    FAULT_NO_WORD,             // the keeper says nothing of a death
    FAULT_NO_END,              // a connection's peer is dead and the connection does not end
    FAULT_ERROR,               // a whole batch fails, for no reason of its rows
    FAULT_GUILTY,              // one row makes its batch fail
    FAULT_POISON,              // one row kills the worker
    FAULT_SHAPE,               // answers other rows
    FAULT_MALFORMED,           // answers what cannot be read
    FAULT_NO_ROOM,             // the gateway has no room for a batch's answer
    FAULT_CROSSED,             // the answer crosses our cancel
    FAULT_TWICE,               // answers twice
    FAULT_DIFFERS,             // comes back with other metadata
    FAULT_BORN,                // a model that nobody knew
    FAULT_REMOVED,             // a model that no worker has any more: it may come back
    FAULT_EJECTED,             // a replica, by its desk
    FAULT_GONE,                // the client goes away
    FAULT_STALL,               // a loop does not turn for seconds
    FAULT_CLOCK,               // a loop's clock stands still
    FAULT_MAIL,                // a mailbox is slow
    FAULT_MEMORY,              // the n-th allocation fails
    FAULT_ROOM,                // the queue is full
    FAULT_RULES,               // a model's rules are others, by a reload of the configuration
    FAULT_PINNED,              // an operator sets a model's level, or lets it go
    FAULT_ANOTHER,             // a worker comes no more, by a reload, and another has its slots
    FAULTS
};
extern const char *const fault_name[FAULTS];

struct plan { // drawn from the seed, then read only
    uint64_t seed;
    bool calm;    // no faults at all
    bool flood;   // calm, and all at once: how fast is it?
    bool rolling; // calm, but one worker after the other is stopped and comes back
    bool
        shift; // calm, but slow until half of the lives have come; then quick, and nobody has much time
    bool shared;  // workers have several models
    bool haste;   // clients of some models are in a hurry
    bool hurried; // and nothing else is wrong
    bool silent;  // lasts long; devices stand still
    unsigned loops, models, workers, lives;
    double load;       // offered, as a share of what the replicas can do
    double burst;      // share of arrivals that come in a burst
    uint64_t mail_us;  // a message takes at most so long
    uint64_t turn_us;  // a loop wakes at most so late
    uint64_t fault_us; // mean time between a worker's faults
    unsigned weight[FAULTS_DRAWN], weights;
    bool killers;          // poisonous rows are the only thing that ends a connection
    double per_batch;      // share of batches with a fault of their own
    double no_room;        // share of models whose answers to more than a few rows find no room
    double gone;           // share of clients that go away
    double bad_row;        // share of guilty and of poisonous requests, each
    double loop_fault;     // chance of a turn to stall or freeze its loop
    double memory;         // chance of an input to a desk to lack memory
    double rules;          // chance of a desk's turn to begin with other rules
    bool levels;           // service comes down
    double pins;           // chance of a turn that an operator sets a level
    unsigned tenants;      // of which the first sends most; 0: they are not tracked
    bool ranked;           // models are at workers of two classes
    double wide;           // share of requests that are split, where models are small enough
    double chains;         // share of models that have a chain
    bool cached;           // models keep their answers, and clients ask the same again
    unsigned questions;    // of them, for each model
    int64_t kept_bytes;    // most of what is kept, in all
    bool stored;           // and in a store, which others fill, too
    double store_fails;    // share of what it is asked and told that comes to nothing
    bool shadows;          // some requests have one
    bool late;             // workers come late, and tell late what they have
    bool singles;          // sequences and scalars too
    uint64_t socket_bytes; // what a socket buffer holds
    double probe_share;    // of the time in which clients come: a probe's time-out
    struct probe_rules probe;
};

struct world;
struct life;
struct call;
struct model_of;
struct worker_of;

struct excuse { // until then: what named fault keeps it from working as it should
    uint64_t until_us;
    enum fault fault;
};

struct link_of { // one loop's connection to a worker
    struct worker_of *worker;
    unsigned loop;
    bool used; // a model of the worker has its home there, or the loop owns the worker
    bool up;
    bool full;              // the worker does not read, and nothing more fits
    bool owed;              // a probe is answered as soon as anybody reads it
    uint32_t incarnation;   // of the process at the other end
    uint64_t generation;    // of the connection: what belongs to an earlier one is void
    uint64_t unread, heard; // bytes
    struct probe probe;
    struct device_turn turn; // of the desks here, at a serial device
    uint64_t probe_tag;      // of its timer
    struct call *calls;
};

enum process { PROCESS_DEAD, PROCESS_RUNS, PROCESS_HANGS, PROCESS_STUCK };

struct replica_of { // one model at one worker, as it really is
    struct model_of *model;
    struct worker_of *worker;
    bool second;         // has version 2
    bool lesser;         // of the other class: smaller batches, and slower
    bool loaded;         // the worker has the model
    bool connected;      // its desk was told that it is there
    bool told;           // its desk says that it counts on it
    unsigned generation; // of its metadata
    uint32_t max_batch;
    unsigned in_flight;
    uint64_t refuse_until, broken_until, paused_until;
    uint64_t said_us;    // when its desk noted a pause last
    unsigned failed;     // batches in a row that it failed
    unsigned shamed;     // batches in a row that it failed and a sibling answered
    uint64_t unused_us;  // when its desk did not count on it last
    uint64_t probed_us;  // when its desk asked for a probe last, since a batch was overdue
    uint64_t asked_us;   // likewise, whatever for
    uint64_t overdue_us; // since then a batch of it is overdue; 0: none is
    uint64_t
        turn_us; // its desk waits for its serial device, and has it by then; 0: it does not wait
    unsigned pauses, opened; // in a row
    bool probe_due;          // it refused, so it is to be asked
    bool silent;             // it was ejected for silence, and has answered nothing since
};

struct worker_of { // one process that has several models
    struct world *w;
    uint32_t
        id; // the replica's name at every desk; another's whenever it takes the place of one that comes no more
    unsigned owner;
    bool local; // the keeper watches it
    enum process process;
    uint32_t incarnation;
    uint64_t since_us; // it is what it is
    uint64_t state;    // changes with it: what was planned for another state is void
    unsigned instances, queued;
    uint64_t free_us[SIM_INSTANCES]; // when an instance has nothing to do any more
    uint64_t slow_until, overload_until;
    uint64_t heard_us; // when a call was answered last, whatever the answer said
    unsigned bound;    // of its queue, while overloaded
    unsigned stopping; // 0: no; 1: it says so; 2: its models are gone
    bool refuses;      // while it says so it takes no streams (GOAWAY), instead of answering
    bool listed;       // while it says so its models are still listed
    struct excuse excuse;
    struct link_of link[SIM_LOOPS];
    struct replica_of *replica[SIM_MODELS];
    unsigned n_replicas;
    struct worker_vitals vitals;
    bool serial; // it says that it computes one batch at a time
    struct serial_device device;
};

struct model_of {
    struct world *w;
    char name[24];
    unsigned home;
    struct model_rules rules;
    struct model *m; // NULL: not born
    struct desk *desk;
    bool configured;
    uint64_t haste_us; // time-out of its clients, about; 0: as ever
    double alpha_us, beta_us, tail;
    bool ranked;         // it has a replica of each class
    bool lesser_first;   // the order of the two, by the configuration
    double lesser_times; // as slow
    uint64_t row_bytes;
    bool tells_compute;
    uint32_t max_batch;
    uint32_t room_rows; // of more tickets' rows the gateway has no room for an answer; 0: it has
    unsigned generation;
    unsigned n_replicas;
    struct replica_of replica[SIM_REPLICAS];
    struct life *askers; // lent, and of use for the cache
    struct infer_request form[KINDS];
    struct tensor form_input[KINDS];
    struct requested_output form_output;
    uint64_t desk_wake_us;
    bool dirty;
    struct {
        uint32_t replica, incarnation; // 0: none has its state
    } sequence[SIM_SEQUENCES];
    unsigned uses;      // requests that refer to it, by as many steps
    unsigned downs;     // times that a replica went down or was ejected
    struct chain chain; // n == 0: it has none
    struct chain_link links[SIM_MODELS + 2];
    struct ticket *word[SIM_WORD]; // those that wait for the keeper's word
    unsigned n_word;

    // The books that the demands keep.
    int64_t rows_out, bytes_out;        // charged: of lives that are not over
    int64_t rows_of[SIM_TENANTS + 1];   // likewise, by tenant
    uint64_t asked_us[SIM_TENANTS + 1]; // when it asked for room last
    bool moved;                         // they have changed since they were compared last
    struct excuse excuse;               // a fault of a batch or of memory, that slows others down
    uint64_t no_credit_us;              // when no replica had credit last
    uint64_t alone_since_us;            // since when no replica is told; 0 while one is
    uint64_t alone_us;                  // when that was so last
    uint64_t second_us;                 // when no replica with version 2 was told last
    bool mistaught;      // a batch took far longer than it should: what that teaches is believed
    uint64_t memory_us;  // when an allocation failed last
    uint64_t rules_us;   // since when its rules are these; 0: from the beginning
    uint64_t met_us;     // when a batch was sent or answered last
    unsigned suspects;   // lives at home that were aboard when a connection was lost
    unsigned inversions; // batches in a row of a lower lane than one that waits
    uint32_t waiting[KINDS][BATCHER_LANES], passed[KINDS][BATCHER_LANES];
    uint64_t lane_since[KINDS][BATCHER_LANES]; // it waits, or was served last
    uint64_t peak_at[64];                      // which 16 ms the entry is about
    double peak[64]; // and the most work that was out in them, microseconds of one replica
    double work_us;
    uint64_t dispatched_rows, answered_rows, noted_rows, noted_done, shed;
    uint64_t batches,
        tokens;        // sent; refused, and back in the queue though no other replica was at hand
    uint64_t first_us; // when the first batch was sent
    unsigned drawn;    // times that its rules were
    // Levels.
    unsigned level;    // in force
    unsigned reckoned; // beneath a pin
    uint64_t moved_us; // that, by its home's clock; 0: it has not
    bool shut;         // it is pinned as if nothing could answer
    uint64_t shut_us;  // when it last was
    uint64_t eased_us; // when its desk last decided at another level than 0
    uint64_t
        late_us; // when one of its requests last had to wait, or to be long under way; or was given up
    uint64_t lost_us; // when a replica was last not there that had been
    uint64_t out_us;  // since when none is there that had been; 0: one is, or none ever was
};

struct
    stride { // a step of a request with a chain: its tickets live as parts do, each from its lending on
    struct step *of;
    unsigned attempt;   // of the walk
    struct life *parts; // [n]
    unsigned n;
    struct stride *next;
};

struct loss {
    uint32_t incarnation;
    bool only;  // its batch was the only one at the worker
    bool alone; // and it was the only one in it
    bool local;
};

// Of a request that was split each part lives on its own: what becomes of a ticket is its part's, how the request ends
// is the whole's.
struct
    life { // one request from arrival to release, or one part of it, from its lending to its release
    struct infer in; // of a part: its own request and deadline
    struct ticket *ticket;
    struct life *parts;     // of a request that was split: [in.step.n]
    struct stride *strides; // of one with a chain: its steps, the last one first
    struct life *whole;     // whose part it is; else NULL
    struct life
        *shades; // its shadow's tickets, each as a part: [in.shadow->step.n]; NULL: none was lent
    bool shadow_told;
    struct tensor input;
    struct arena arena;
    uint64_t own[SIM_ROWS], *row; // own, or more of them
    uint64_t id;
    uint64_t asks; // what its rows are: its own id, or the number of a question that others ask too
    uint64_t asked_until_us;               // it waited for the store until then
    bool followed;                         // it was in a flight, and not its leader
    struct life *asker_next, **asker_prev; // of model.askers
    struct model_of *model;
    enum kind kind;
    unsigned loop, group; // group: in which it waits
    bool guilty, poison;
    bool tried;                                   // its model was drawn
    bool live, settled, lent, waiting, cancelled; // cancelled: its home was told
    bool queued_behind;                           // it was sent to a replica that had a batch
    bool called;                                  // its home is being told
    bool err_alone, bad_answer, no_room_alone;    // what happened to it
    uint64_t words;                               // that a worker said of it last: their number
    char told[96];                                // what it settled with; "": answered
    bool refused;                                 // its last batch was refused
    uint32_t aboard_of;                           // the worker that it was sent to last
    uint32_t avoid;                               // a sibling of this replica is to have it now
    unsigned sent, ends, losses, ours, refusals, failures, no_rooms; // times
    unsigned posts;
    struct loss loss[SIM_LOSSES];
    int64_t charged;
    uint64_t first_us, since_us; // its home saw it first; it waits since then
    double work_us;
    struct await_one awaits;    // what its model's workers have
    uint64_t looked_us, let_us; // it had its turn, or began to wait; it went on
    struct life *next;          // free ones
};

struct teller { // a worker, to a loop that does not know yet what it has
    struct worker_of *worker;
    unsigned loop;
    struct await_worker of;
};

enum end {
    END_ANSWER,
    END_NO_ROOM, // it was being answered, and the gateway had no room for that
    END_SHAPE,
    END_MALFORMED,
    END_ERROR,
    END_BAD,        // a bad request, says the worker
    END_NOT_FOUND,  // no such model
    END_STOPPING,   // the server is stopping
    END_OVERLOADED, // its queue is full
    END_REFUSED,    // not processed, says the protocol
    END_LOST,
    END_RECALLED,
    ENDS
};

#define CALLS_NUMBER ", number "              // before that of a worker's words
static inline bool end_is_heard(enum end end) // the worker does what it should
{
    return end == END_ANSWER || end == END_NO_ROOM || end == END_BAD;
}

static inline bool end_refuses(enum end end)
{
    return end == END_NOT_FOUND || end == END_STOPPING || end == END_OVERLOADED ||
           end == END_REFUSED;
}

struct call { // one batch at one replica
    struct batch *batch;
    struct replica_of *replica;
    struct link_of *link;
    enum end end;
    bool ours;            // END_LOST
    bool only;            // END_LOST: nothing else of ours was at that worker
    bool local;           // likewise: the keeper watches that worker
    bool queued;          // the worker's device has it
    bool stalls;          // nothing will come before its worker goes on
    bool tried;           // it tries who was silent, and another could have it
    uint32_t incarnation; // of the process that has it
    uint64_t pushback_us, due_us;
    uint64_t tag; // changes whenever its end is fixed anew
    struct call *next, **prev;
};

enum event {
    EVENT_GONE,   // life: its client goes away
    EVENT_CALL,   // call: ends
    EVENT_TRY,    // link: connects, if there is anybody
    EVENT_CUT,    // link: ends at the other side
    EVENT_TIMER,  // link: of its probe
    EVENT_PROBED, // link: a probe is answered
    EVENT_DOUBT,  // link: another loop doubts its worker
    EVENT_CLOSE,  // link: another loop says that its worker hangs
    EVENT_NEWS,   // link: what the worker has
    EVENT_WORD,   // worker: the keeper says that it ended (tag: id, incarnation, crashed)
    EVENT_KILL,   // worker: the keeper kills it, if it is still that incarnation
    EVENT_START,  // worker
    EVENT_RESUME, // worker: goes on, if it is still in that state
    EVENT_STEP,   // worker: the next step of its stopping
    EVENT_FAULT,  // worker: the next one of its own accord
    EVENT_LOAD,   // replica: its model is there again
    EVENT_ROLL,   // worker: it is its turn
    EVENT_PINNED, // model: its desk is told to look at its pin
    EVENT_TOLD,   // teller: asked what it has
    EVENT_STORED, // ask: what the store says (tag: in time)
    EVENT_JUDGE   // worker: has been doing nothing for so long that no desk may count on it
};

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
    struct cache *cache;
    struct mailbox in[SIM_LOOPS];
    struct entry *agenda;
    unsigned n_agenda, cap_agenda;
    struct await await;
    struct teller teller[SIM_WORKERS];
    uint64_t told_us; // when one told last
    uint64_t next_arrival_us, flow_wake_us;
    uint64_t wake_us;        // when it turns next
    uint64_t now_us;         // what its clock shows
    uint64_t stalled_until;  // it does not turn before
    uint64_t frozen_until;   // its clock stands
    struct block *pinned[8]; // answers that slow readers still hold
    unsigned pin;
    bool lost;      // a connection ended in this turn
    unsigned trial; // the generation of weights that it goes by
};

struct totals {
    uint64_t lives, settled[STATUS_COUNT], faults[FAULTS], virtual_us;
    uint64_t fallbacks, defaults; // of the answers, those of other models, and the written ones
    uint64_t posts, dispatches;
    uint64_t sources[SOURCES], followers;
    uint64_t awaited;            // times that a life began to wait for a worker to tell
    uint64_t asked, found, told; // of and to the store
    uint64_t shadows[SHADOW_ENDS];
};

struct world {
    struct plan plan;
    struct rand rand, late; // late.c's dice: worlds are the same with them and without
    uint64_t late_us;
    struct table *table;
    struct cache_pool kept;
    struct trials *trials;  // NULL: no experiment
    struct in_store *store; // [SIM_STORED]; NULL: there is none
    unsigned asks_out;      // that it has not answered
    struct loop_of loop[SIM_LOOPS];
    struct model_of model[SIM_MODELS];
    struct worker_of worker[SIM_WORKERS];
    struct life *lives, *free_lives;
    struct default_answer *written; // at the end of some chains
    struct call *free_calls;
    unsigned submitted, alive, n_batches;
    uint64_t words;    // times that a worker said something
    double arrival_us; // mean time between arrivals at a loop
    double shares[SIM_MODELS];
    uint64_t now_us, seq, tag;
    uint64_t stalled_us;    // until then a loop stood still, or its clock
    uint64_t trouble_until; // of all models, since a loop stood still, or the world is healing
    uint32_t incarnations;
    bool crashed[SIM_INCARNATIONS]; // as the keeper would say of a process
    bool healed;
    uint64_t first_dispatch_us, last_answer_us;
    uint64_t digest;
    uint64_t trace; // 0: none, else id of a life
    struct totals totals;
};

// plan.c
void plan_draw(struct plan *p, uint64_t seed);
void plan_models(struct world *w);
void plan_ranks(struct model_of *m); // its configuration has another order of workers
void plan_rules(struct model_of *m); // others

// world.c
void world_run(struct world *w, uint64_t seed, uint64_t trace);
void world_effects(struct loop_of *l);
struct desk *world_desk(struct world *w, struct model_of *m);
void world_add_model(struct world *w, struct model_of *m);
bool world_chance(struct world *w, double p);
uint64_t world_exponential(struct world *w, double mean_us);
uint64_t world_soon(struct world *w, uint64_t within_us);
bool world_slow(const struct world *w); // it shifts, and has not yet
void world_count(struct world *w, enum fault f);
// The next inputs to a desk may lack memory; world_memory_end says that they are over.
void world_memory(struct world *w, struct model_of *m);
void world_memory_end(void);

// mail.c
void world_at(struct world *w, struct loop_of *l, uint64_t at_us, enum event event, void *p,
              uint64_t tag);
struct entry agenda_pop(struct loop_of *l);
void mail_send(struct loop_of *from, struct msg *m);
struct msg *mail_take(struct loop_of *l, struct mailbox *b); // NULL: nothing has arrived

// clients.c
void clients_arrive(struct loop_of *l);
void clients_gone(struct loop_of *l, struct life *x, uint64_t id);
void clients_settle(struct loop_of *l, struct infer *in);
void clients_release(struct loop_of *l, struct infer *in);
void clients_go_on(struct loop_of *l, struct life *x);  // to the flow
void clients_over(struct world *w, struct life *x);     // nothing refers to it
void clients_lend(struct loop_of *l, struct ticket *t); // before MSG_LEND is posted
void clients_use(struct loop_of *l, struct model *m);   // FX_USE

// workers.c
void workers_start(struct world *w);
void workers_heal(struct world *w);
void workers_event(struct loop_of *l, const struct entry *e);
void workers_crash(struct worker_of *k, enum fault why);
void workers_exit(struct worker_of *k);
void workers_stand(struct worker_of *k, enum process how, uint64_t for_us);
void workers_stop(struct worker_of *k);
void workers_unload(struct replica_of *r, uint64_t for_us);
void workers_hang_word(struct loop_of *l, struct worker_of *k,
                       uint32_t incarnation);               // to the keeper
uint64_t workers_compute(struct worker_of *k, uint64_t us); // when a batch that comes now is done
static inline bool workers_answers(const struct worker_of *k)
{
    return k->process == PROCESS_RUNS || k->process == PROCESS_STUCK;
}
// Is that process still at its other end? A machine that lost its power, and came back, knows nothing of it.
static inline bool link_answers(const struct link_of *k)
{
    return k->up && workers_answers(k->worker) && k->incarnation == k->worker->incarnation;
}

// faults.c
void faults_next(struct worker_of *k);
void faults_strike(struct worker_of *k);
void faults_roll(struct worker_of *k);

// links.c
void links_event(struct loop_of *l, const struct entry *e);
void links_probe(struct loop_of *l, struct worker_of *k);  // FX_PROBE
void links_silent(struct loop_of *l, struct worker_of *k); // FX_HANGS
void links_close(struct loop_of *l, struct link_of *k, bool ours);
void links_cut_soon(struct link_of *k, uint64_t at_us);
void links_try_soon(struct link_of *k, uint64_t within_us);
void links_news_soon(struct link_of *k, uint64_t within_us);
void links_resumed(struct link_of *k);
static inline struct link_of *link_at_home(const struct replica_of *r)
{
    return &r->worker->link[r->model->home];
}

// calls.c
void calls_dispatch(struct loop_of *l, struct batch *b);
void calls_cancel(struct loop_of *l, struct batch *b);
void calls_event(struct loop_of *l, const struct entry *e);
void calls_lose(struct link_of *k, bool ours);
void calls_stall(struct link_of *k);  // nothing is answered from now on
void calls_resume(struct link_of *k); // what stalled is computed now
struct replica_of *replica_by_id(struct model_of *m, uint32_t id); // or of one whose place it took
uint64_t calls_answer_of(uint64_t row); // the function that every replica computes
double calls_time_us(const struct model_of *m, double rows);
static inline double calls_slower(const struct replica_of *r) // how many times
{
    return r->lesser ? r->model->lesser_times : 1;
}
static inline uint8_t replica_rank(const struct replica_of *r)
{
    return r->lesser != r->model->lesser_first;
}
static inline uint32_t replica_batch(const struct replica_of *r) // what it takes at once now
{
    uint32_t max = r->model->max_batch;
    return r->lesser && max > 1 ? max / 2 : max;
}

// demands.c
void demand_failed(const struct world *w, const struct life *x, const char *what);
#define demand(w, x, cond, what)                                                                   \
    do {                                                                                           \
        if (__builtin_expect(!(cond), 0))                                                          \
            demand_failed(w, x, what);                                                             \
    } while (0)
void trace_line(const struct world *w, const struct life *x, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// What happens to workers is told beside every life's story.
void tell_line(const struct world *w, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
#define tell(w, ...)                                                                               \
    do {                                                                                           \
        if (__builtin_expect((w)->trace != 0, 0))                                                  \
            tell_line(w, __VA_ARGS__);                                                             \
    } while (0)
#define trace(w, x, ...)                                                                           \
    do {                                                                                           \
        if (__builtin_expect((w)->trace == (x)->id, 0))                                            \
            trace_line(w, x, __VA_ARGS__);                                                         \
    } while (0)
// Those that have tickets: x itself, its parts, those of all of its steps. NULL: that is all.
struct life *life_part(struct life *x, unsigned i);
static inline struct life *life_of(const struct ticket *t)
{
    struct life *x = container_of(t->step->infer, struct life, in);
    if (t->shadow)
        return &x->shades[t - t->step->tickets];
    for (struct stride *s = x->strides; s; s = s->next)
        if (s->of == t->step)
            return &s->parts[t - t->step->tickets];
    return x->parts ? &x->parts[t - x->in.step.tickets] : x;
}
static inline uint64_t most_us(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}
static inline uint64_t least_us(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}
void excuse_until(struct excuse *e, enum fault f, uint64_t until_us);
uint32_t rows_of(const struct life *x);
uint32_t batch_cap(const struct model_of *m);
bool goes_alone(const struct life *x);
double peak_since(const struct world *w, const struct model_of *m, uint64_t since_us);
void demands_on_submit(struct loop_of *l, struct life *x); // after flow_submit, before its effects
void demands_goes_out(struct world *w, struct life *x);    // to its model, as it is or as a part
void demands_room(struct world *w, const struct life *x);  // when all of a step have gone
void demands_rooms(struct world *w);                       // when the effects of an input have run
void demands_on_release(struct loop_of *l, struct life *x);
void demands_at_origin(
    struct life *x); // its ticket, or its echo, came home: what room does it still hold?
void demands_at_rest(struct world *w);

// demands_ticket.c
void demands_on_post(struct loop_of *l, struct msg *m);
void demands_on_deliver(struct loop_of *l, struct msg *m);
void demands_called_home(struct loop_of *l, struct ticket *t); // after its cancel came
void demands_queued(struct loop_of *l, struct ticket *t);      // after the home took it up (again)
void demands_messages(const struct world *w, const struct life *x); // at its release
void demands_before_word(struct model_of *m); // the keeper's, about those that lost a worker
void demands_after_word(struct loop_of *l, struct model_of *m);
void stop_waiting(struct life *x);
unsigned group_of(const struct life *x);

// demands_batch.c
void demands_on_dispatch(struct loop_of *l, struct batch *b);
void demands_decided(struct loop_of *l, struct model_of *m); // after its desk ran
uint64_t waits_until(const struct model_of *m, uint64_t senior_us);
uint64_t credit_since(const struct model_of *m, const struct replica_of *r, uint64_t now_us);
void demands_credit(struct world *w, struct model_of *m); // after any input to its desk

// demands_worker.c
void demands_on_hang(struct loop_of *l, const struct link_of *k); // PROBE_HANGS
void demands_doubt(const struct loop_of *l, struct model_of *m);  // after its desk ran
void demands_ready(struct world *w, const struct model_of *m);
void demands_on_probe(struct loop_of *l, struct replica_of *r); // FX_PROBE
void demands_shamed(const struct replica_of *r); // a sibling has answered what it failed
bool demands_tried(const struct replica_of *r, const struct batch *b); // see struct call
void demands_on_end(struct loop_of *l, struct call *c);
void demands_on_note(struct loop_of *l, const struct note *n);
// What was refused at r has been handed to its desk; elsewhere: another replica was at hand.
void demands_refused(struct loop_of *l, struct replica_of *r, struct ticket **tickets, uint32_t n,
                     bool elsewhere, uint64_t pushback_us);
// What had no room has been handed to its desk.
void demands_no_room(struct loop_of *l, const struct replica_of *r, struct ticket **tickets,
                     uint32_t n);
// Could another have a batch of it, with so many rows?
bool demands_elsewhere(const struct replica_of *r, const struct life *x, uint32_t rows);
void demands_judge(struct loop_of *l, struct worker_of *k);
const struct replica *replica_known(const struct replica_of *r); // by its desk; NULL: not yet
bool replica_used(const struct replica_of *r); // its desk counts on it, and has not ejected it
void demands_alone(struct world *w, struct model_of *m);
uint64_t demands_patience_us(const struct worker_of *k); // how long it may do nothing unnoticed
void demands_turned(struct loop_of *l);                  // at the end of its turn
bool demands_second(const struct model_of *m);           // is a replica with version 2 counted on?
unsigned demands_evidence(const struct world *w, const struct life *x);

// pins.c
void pins_turn(struct loop_of *l);
void pins_event(const struct entry *e);
void pins_heal(struct world *w); // whoever set them lets them go

// kept.c
void kept_ask(struct world *w, struct life *x); // its question, and what it wants of what is kept
void kept_key(struct world *w, struct life *x); // when its request is whole
void kept_lent(struct life *x);                 // it came to its home
void kept_back(struct loop_of *l, struct life *x); // and leaves it
void kept_look(struct loop_of *l,
               struct model_of *m); // after any input to its desk: who waits now?
void kept_dispatched(struct loop_of *l, const struct batch *b, const struct model_of *m);
void kept_turn(struct loop_of *l);

// demands_level.c
void demands_before_run(struct world *w, struct model_of *m);       // its desk is to decide
bool demands_eased(const struct model_of *m, const struct life *x); // since x came, at some time
void demands_on_level(struct loop_of *l, struct model_of *m, const struct note *n);
void demands_on_back(struct loop_of *l, const struct ticket *t); // leaves its home
void demands_standing(struct loop_of *l, struct model_of *m);    // after its desk ran

// store.c
void store_open(struct world *w);
void store_free(struct world *w);
void store_get(struct loop_of *l, struct store_ask *a); // FX_STORE_GET
void store_put(struct loop_of *l, struct store_ask *a); // FX_STORE_PUT
void store_event(struct loop_of *l, struct store_ask *a, bool in_time);
void store_turn(struct loop_of *l);

// shadows.c
void shadows_ask(struct world *w, struct life *x);      // before it is submitted
void shadows_lend(struct loop_of *l, struct ticket *t); // before MSG_LEND of a shadow's is posted
void shadows_dispatched(struct loop_of *l, struct batch *b); // a batch of them
void shadows_told(struct loop_of *l, struct infer *in);      // FX_SHADOW
void shadows_release(struct world *w, struct life *x);       // FX_RELEASE
void shadows_turn(struct loop_of *l);

// trials.c
void trials_open(struct world *w);
void trials_free(struct world *w);
void trials_draw(struct loop_of *l, struct life *x); // its model
void trials_ask(struct life *x);                     // when its request is whole
void trials_settled(const struct world *w, const struct life *x);

// late.c
void late_open(struct world *w);
uint64_t late_start_us(struct world *w); // so much later a worker starts
void late_another(struct worker_of *k);  // it has another's place, and has told nobody
void late_event(const struct entry *e);  // EVENT_TOLD
void late_turn(struct loop_of *l);
void late_gone(struct loop_of *l, struct life *x); // its client, while it waits
// It waits: no replica of its model is ready, and one that may have it has not told.
bool late_begins(struct loop_of *l, struct life *x);
bool late_unheard(const struct world *w, const struct life *x);

// oracle.c
double demands_batch_us(const struct model_of *m); // what one of its batches takes, at most
void demands_on_settle(struct loop_of *l, struct life *x);

#endif
