/* gateway/predictions.h: the prediction log: a record of each prediction, written by a thread of its own. A loop packs what
 * it has settled (infer/prediction.h) into its lane's chunks (gateway/chunks.h); the writer, a loop without clients, prints
 * them as lines of JSON and puts these into files (gateway/record_files.h). Nothing waits for it: where a disk is slow,
 * full or away the chunks fill, then the oldest records go and are counted; or, where a model's are required, it is
 * refused before it is asked.
 *
 *   loop: origin_settle ─► record_settled ─► chunks ─ full, or so old ─► nudge ─┐
 *   writer:                                       lines ◄─ prediction_print ◄───┘
 *                                                   └─ so many, or so old ─► record_files_put
 *
 * A configuration reaches loops by their snapshot, and the writer when all of them have it. Does. */
#ifndef SLUICE_GATEWAY_PREDICTIONS_H
#define SLUICE_GATEWAY_PREDICTIONS_H

#include "gateway/archiver.h"
#include "gateway/chunks.h"
#include "gateway/file.h"
#include "gateway/record_files.h"
#include "gateway/record_stream.h"
#include "net/log.h"
#include "net/loop.h"

struct config;
struct gateway;
struct prom;
struct store_plan;

struct record_lane { // of one loop, which it belongs to but for what a line says
    struct chunks chunks;
    struct predictions *predictions;
    struct loop *loop;
    struct wheel_timer hand;  // what is there goes to the writer
    uint64_t sampled;         // error term of the sampling
    _Atomic uint64_t refused; // predictions that were not made for want of room for their record
    _Atomic bool nudged;      // nudge is on its way
    struct loop_task nudge;
    uint64_t ms, seq; // the writer's: of the last record
};

#define PREDICTIONS_WORDS 8 // of the writer, that are on their way; of more some are not told

struct predictions_word { // to the main thread, whose events are
    struct loop_task task;
    struct gateway *gateway;
    _Atomic bool busy;
    enum log_level level;
    const char *event;
    uint64_t records;
    char why[FILE_WHY];
};

struct predictions {
    struct gateway *gateway;
    struct loop *loop; // NULL: it was never on
    struct record_lane *lanes;
    unsigned n;
    _Atomic uint64_t written, lost; // records
    struct record_files files;
    struct record_stream stream;
    struct archiver archiver;

    // the writer's
    struct config *config; // one reference; NULL: nothing is written
    struct chunk *chunk;   // that is being printed, of that lane, up to there
    unsigned lane;
    uint64_t at;
    struct buffer lines;       // printed, and not put yet
    uint32_t n_lines, n_frame; // records there, and in the frame that waits
    uint64_t n_unsent;         // of those for Redis: neither it nor the disk has them
    uint64_t lines_us;         // since when
    struct loop_call go_on;
    struct wheel_timer look;
    bool failing; // told so
    bool away;    // likewise of Redis
    bool ending;
    uint64_t looked_us; // at all that changes by itself
    uint64_t end_us;    // it waits no longer for Redis
    struct loop_task end;
    uint64_t other_ms, other_seq; // of loops that are no more: their last id
    bool over;                    // its thread has ended: the main thread does what is left
    struct predictions_word words[PREDICTIONS_WORDS];
    uint64_t told_drops, told_drops_us;
};

// NULL: out of memory.
struct predictions *predictions_new(struct gateway *g);
// Main thread: what that configuration wants can be had; the writer's thread runs if it wants any. False: why.
bool predictions_prepare(struct predictions *p, const struct config *c, char why[FILE_WHY]);
// All loops have it; store: its, NULL: none.
void predictions_adopt(struct predictions *p, struct config *c, struct store_plan *store);
// The loops have stopped: what is there is written, as far as it can be.
void predictions_stop(struct predictions *p);
void predictions_free(struct predictions *p); // stopped
// A lane's thread: the writer has something to do.
void predictions_nudge(struct record_lane *lane);

struct predictions_sum {
    uint64_t records, dropped, refused, waiting; // waiting: bytes
};
struct predictions_sum predictions_sum(const struct predictions *p); // any thread

// Main thread: its families of the metrics page.
void predictions_metrics(struct prom *o, const struct gateway *g);

#endif
