/* router/replicas.h: all that is known of the replicas of one model: who is up and agrees with the others,
 * who has credit, who is paused, ejected or doubted, and who should have the next batch. The desk hands it
 * what happened to batches; what is concluded from it stands in router/evidence.h. Thinks. Thread: the home
 * loop's. Owner: the desk.
 *
 *   up, CLOSED ──5 batches in a row that a sibling answered, or silent──► OPEN ──open_until_us──► HALF
 *       ▲                                                                  ▲                        │
 *       └───────────────── a batch is answered ────────────────────────────┼────────────────────────┤
 *                                                                          └──── it is not ─────────┘
 *
 *  R1  A batch goes only to a replica that is up, not OPEN, not paused, and below its credit: `pipeline`
 *      batches, or if nobody said, REPLICA_PIPELINE_… an instance; one while HALF; one at each while a suspect is queued or aboard (below).
 *  R2  A pause doubles with each refusal that follows it (10 ms to 1 s, or what the worker asks for), and
 *      ends with the first good answer.
 *  R3  Ejection for errors leaves at least half of the replicas; for silence it may take the last one.
 *  R4  Replicas that are up agree on metadata and batch size; whoever differs is kept out until the last of
 *      the others has gone.
 *  R5  model.ready counts those that are up and not OPEN.
 *  R6  Who has come up, or was ejected and answers again, has a tenth of its share at first and all of it when
 *      rules.slow_start_us are over (Envoy's slow start: weight = max(0.1, time / window)): after a batch it rests for as
 *      long as makes that share of its time. While it rests others come first that could have the batch now; nobody waits
 *      for that, so what they are not free for it has at once.
 *  R7  Of several classes the first is used while it has capacity: preference.h. */
#ifndef SLUICE_ROUTER_REPLICAS_H
#define SLUICE_ROUTER_REPLICAS_H

#include "base/rand.h"
#include "batcher/server.h"
#include "router/batch.h"
#include "router/device.h"
#include "router/effects.h"
#include "router/evidence.h"
#include "router/table.h"
#include "router/vitals.h"

#define DESK_REPLICAS 64
#define REPLICA_NONE UINT32_MAX // no id
#define REPLICA_SERVERS 16      // instances that are told apart; more share these
#define REPLICA_WORDS 4         // of the keeper, kept for losses that are noticed after it
#define REPLICA_RANKS 4         // classes (preference.h)
#define REPLICA_RAMP_FROM 0.1   // R6: of its share, at first

// R1. Under auto a batch goes behind another just in time, whatever the credit: three are for ways that are longer
// than what they lead to.
#define REPLICA_PIPELINE_FIXED 2
#define REPLICA_PIPELINE_AUTO 3
#define REPLICA_PAUSE_US 10000 // R2
#define REPLICA_PAUSE_MAX_US 1000000
#define REPLICA_FAULTS 5 // in a row: ejected
#define REPLICA_OPEN_US 1000000
#define REPLICA_OPEN_MAX_US 30000000
#define REPLICA_SAID_US 10000000 // a state that comes and goes is noted so often

// A batch that was out so long, and several times as long as its replica takes, had a fair chance: when it is
// not answered by its last deadline the replica is doubted. Less says only that its clients were in a hurry.
#define REPLICA_FAIR_US 100000
#define REPLICA_FAIR_TIMES 4
#define REPLICA_FAIR_UNKNOWN_US 2000000 // nobody knows yet how long it takes
#define REPLICA_PROBE_US 1000000        // a doubted one is probed so often
// Doubted, and nothing of its worker has ended for so long: silent. The second is times the batch of the
// slowest of its models; a replica that has never answered has the model's default deadline.
#define REPLICA_SILENT_US 2000000
#define REPLICA_SILENT_TIMES 10

// What goes back into the queue after a refusal, when no other replica could have it, costs a token a batch:
// a share of the batches sent, and a few a second. (Finagle's RetryBudget: 10 s of it may be saved up.)
#define RETRY_SHARE 0.1
#define RETRY_A_SECOND 3
#define RETRY_START 30
#define RETRY_MOST 100

struct replica_facts {           // what a replica says of itself when it comes up
    uint32_t max_batch;          // 0: serves singly
    uint8_t rank;                // R7: its class; 0: the first; REPLICA_RANKS: it is about to go
    bool rowless;                // an output of it has no dimension for rows
    struct hash128 metadata;     // of names, datatypes, shapes: replicas of one model must agree
    const struct view *versions; // [n_versions], INFER_MAX_VERSIONS at most; copied, and sorted
    unsigned n_versions;
    uint32_t instances;           // of the model there, which run side by side; 0: one
    uint32_t incarnation;         // process id of a local worker; 0: no keeper watches it
    struct worker_vitals *vitals; // the worker's; NULL: it has no other models and loops
    struct serial_device *
        device; // it computes one batch at a time, of whatever model (then it has vitals); NULL: it does not
    struct device_turn *turn; // of this loop at that device
};

enum standing { STANDING_CLOSED, STANDING_OPEN, STANDING_HALF }; // as of a breaker

struct replica {
    uint32_t id;  // the doer's number, which is never another's; REPLICA_NONE: the place is free
    bool up;      // its connection is, and the model is ready there
    bool differs; // R4: kept out
    bool lost;    // it was up, is not now, and nobody has said that it is not missed
    enum standing standing; // see above
    uint8_t opened;         // times in a row: the next one is longer
    uint8_t faults;         // batches in a row that it failed and a sibling answered
    uint8_t refusals;       // pauses in a row
    bool silent;            // it was found so, and has answered nothing since
    uint32_t batches, rows; // in flight
    struct batch_server *
        server; // [servers_cap]: most have one; what has gone down keeps them for what is in flight
    unsigned servers_cap;
    unsigned n_servers; // in use: one an instance; one for a serial device
    struct device_seat seat;
    uint64_t
        promised_us; // when its device was to be free as the desk began to wait for it; 0: it does not wait
    double latency_us; // EWMA of a batch's time; 0: never answered
    uint64_t lost_us;  // since when
    uint64_t ramp_us;  // R6: since when it has come up
    uint64_t rest_us;  // and until when it rests
    uint64_t open_until_us;
    uint64_t not_before_us; // paused until then
    uint64_t doubt_us;      // when the batch was sent that made us doubt; 0: none
    uint64_t late_us;       // when a batch of it was overdue last, that had had a fair chance
    uint64_t busy_us;       // batches > 0: since then without a pause
    uint64_t probe_us;      // when FX_PROBE was asked for last
    uint64_t said_us;       // when a pause was noted last
    bool paused_said;
    uint64_t wrong_us; // when a wrong shape was said last
    struct replica_facts facts;
    struct view *version; // what facts.versions are: a list with its texts behind it; NULL: none
    struct {
        uint32_t incarnation;
        enum process_word word;
    } word[REPLICA_WORDS]; // of the keeper, the last ones
    unsigned n_words;
    struct worker_vitals own; // when facts.vitals is NULL
    char why[112];            // of its newest note
};

struct class_known {          // C3
    struct estimate beside;   // t(b), while it is not in force
    struct estimate answered; // by answers alone, for when it is
    uint64_t met_us;          // when that last met the world, or is put to the test
};

struct replicas {
    struct desk *desk; // whose they are
    struct model *model;
    struct rand rand;
    struct replica at[DESK_REPLICAS];
    unsigned n;         // slots in use; when all are, one whose replica is down is used again
    unsigned n_up;      // R4
    unsigned n_ready;   // R5
    unsigned n_known;   // those that are up, and those that are lost
    bool bereft;        // the last one was taken away: it is counted as lost
    uint32_t max_batch; // of those that are up and of the class in force (they agree)
    unsigned rank;      // R7: that class
    bool mixed;         // those that are up are of several
    bool moved;         // another class is in force than batches are formed for
    struct class_known known[REPLICA_RANKS + 1]; // of the others
    uint64_t ramp_until_us;                      // R6: from then on nobody rests
    struct hash128 metadata;                     // likewise
    uint64_t alone_since_us;                     // since when none is ready; 0 while one is
    uint64_t look_us; // when replicas_look wants to be called; UINT64_MAX: not
    // Tickets at the desk that must be alone, since a worker may have died of them. While there are any a
    // replica gets one batch at a time: else a second death would prove nothing.
    uint32_t suspects;
    double tokens; // of the retry budget
    uint64_t tokens_us;
};

void replicas_init(struct replicas *rs, struct desk *d, uint64_t seed, uint64_t now_us);
void replicas_deinit(struct replicas *rs);
struct replica *replicas_find(struct replicas *rs, uint32_t id); // NULL: never seen

// It can answer now; its facts are copied. It cannot any more: its calls end as they end.
void replicas_up(struct replicas *rs, uint32_t id, const struct replica_facts *facts,
                 uint64_t now_us, struct effects *fx);
void replicas_down(struct replicas *rs, uint32_t id, uint64_t now_us, struct effects *fx);
// What is lost is not missed any more: it was taken away, or has been away for too long. The last
// one is missed for ever: a model that nobody has is not well.
void replicas_forget(struct replicas *rs, uint32_t id, uint64_t now_us);
// It comes no more, is down, and has nothing in flight: its place is free, and nothing that its facts point at is looked
// at any more.
void replicas_vacate(struct replicas *rs, uint32_t id, uint64_t now_us);
bool replicas_absent(const struct replicas *rs); // none has the model, like the others or not
// The keeper's word on one incarnation, kept; and asked for again.
void replicas_process_ended(struct replicas *rs, uint32_t id, uint32_t incarnation,
                            enum process_word word);
enum process_word replicas_process(const struct replica *r, uint32_t incarnation);

// Is there one that is up and has this version (empty: any)? with_credit: and may take a batch now.
bool replicas_serve(const struct replicas *rs, struct view version, bool with_credit,
                    uint64_t now_us);
bool replicas_credit(const struct replicas *rs, uint64_t now_us); // any version
bool replica_has(const struct replica *r, struct view version);
bool replica_usable(const struct replica *r, uint64_t now_us); // up, not OPEN, not paused
// The classes of those that are known may be others now, as a new list of the model's workers has them; REPLICA_RANKS: it
// is about to go. What is known of a class goes with its replicas. False: they are not.
bool replicas_rank(struct replicas *rs, unsigned (*rank_of)(uint32_t id, void *ctx), void *ctx,
                   uint64_t now_us, struct effects *fx);
// Of those of the lowest class (R7; `rank` or above) that have credit, under `auto` the one of which a server is free
// soonest; under `fixed` two drawn at random, and of them the one with less to do: in-flight rows times the time of a batch
// (power of two choices: Mitzenmacher 2001). Not `avoid`, nor one that takes less than `rows` at once while another takes
// them; who rests (R6) is last. NULL: none has credit.
struct wanted {
    struct view version;
    uint32_t avoid; // REPLICA_NONE: nobody
    uint32_t rows;
    unsigned rank;
};
struct replica *replicas_choose(struct replicas *rs, const struct wanted *w, uint64_t now_us);
// Could another than w->avoid have it, credit and rank or not?
bool replicas_sibling(const struct replicas *rs, const struct wanted *w, uint64_t now_us);
// What the replica takes at once that would have such a batch now.
uint32_t replicas_cap(struct replicas *rs, const struct wanted *w, uint64_t now_us);

// auto: on the servers of all replicas of the lowest class that are usable; and the one at hand for this version. NULL: none
// has credit.
struct outlook replicas_outlook(const struct replicas *rs, uint64_t now_us);
const struct batch_server *replicas_at_hand(struct replicas *rs, const struct wanted *w,
                                            uint64_t now_us);

// What the devices of others do, into our servers: before anything is decided.
void replicas_watch_devices(struct replicas *rs, uint64_t now_us);
// auto: one that is up, whose device is shared with other models of this loop and nearly free, so that they may want it
// too. NULL: none.
struct device_turn *replicas_open_turn(const struct replicas *rs, uint64_t now_us);

// The batch goes to r, to the server that is free soonest: counted. Its call has ended, and so: counted back, and what it says of the replica.
// pushback_us: what a refusing worker asked for; 0: nothing. why: its words, or NULL.
void replicas_sent(struct replicas *rs, struct replica *r, struct batch *b, uint64_t now_us,
                   struct effects *fx);
void replicas_ended(struct replicas *rs, struct batch *b, enum replica_fate fate,
                    uint64_t pushback_us, const char *why, uint64_t now_us, struct effects *fx);
// How long a batch that is answered now took: to be asked before replicas_ended. compute_us: what the worker says.
// 0: it cannot be said.
uint64_t replicas_took_us(struct replicas *rs, const struct batch *b, uint64_t compute_us,
                          uint64_t now_us);
// It has answered other rows than it was asked for: noted, and said once in a while.
void replicas_wrong(struct replicas *rs, uint32_t id, uint64_t now_us, struct effects *fx);
// A sibling has answered what the replica failed: that was the replica's fault.
void replicas_fault(struct replicas *rs, uint32_t id, uint64_t now_us, struct effects *fx);
// The batch is out past its last deadline.
void replicas_overdue(struct replicas *rs, const struct batch *b, uint64_t now_us,
                      struct effects *fx);
// May what was refused go back into the queue? Elsewhere always; else a token is taken.
bool replicas_may_retry(struct replicas *rs, struct view version, uint64_t now_us);

// What time brings: ejections that end, silence. Then asks to be called again at look_us.
void replicas_look(struct replicas *rs, uint64_t now_us, struct effects *fx);
// When the first pause or ejection ends; UINT64_MAX: none.
uint64_t replicas_pause_ends(const struct replicas *rs, uint64_t now_us);

#endif
