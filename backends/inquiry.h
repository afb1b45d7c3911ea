/* backends/inquiry.h: what the owner of a worker asks it, question by question, to draw up its roster: the index;
 * for each model that the index calls ready, metadata and configuration, unless they are known and the index
 * says what it said; of a server without an index, whether the models that the configuration names are ready.
 * Its owner (backends/worker.c) sends the questions and brings the answers, or the word that none came. Thinks.
 *
 *   begin ─► INDEX ─► ready, and new ─► METADATA ─► CONFIG ─► the next model … ─► OVER: .last, or .why
 *              │ no state given ─► READY ─► true ─┘ ▲
 *              └─ UNIMPLEMENTED: the configured names ┘
 *
 * - ServerReady is not asked: it is about starting, or about all models at once. Readiness is by model.
 * - Nothing grows from round to round: a round has one arena, which the next one empties.
 * - What cannot be read is asked again after a pause that grows to a minute, or when the index says something new.
 * - No answer changes nothing that was known: whether a server hangs is not judged here (backends/probe.h). */
#ifndef SLUICE_BACKENDS_INQUIRY_H
#define SLUICE_BACKENDS_INQUIRY_H

#include "backends/roster.h"

#define INQUIRY_INDEX_BYTES ((size_t)8 << 20)    // of an index that we read
#define INQUIRY_METADATA_BYTES ((size_t)1 << 20) // of a model's metadata or configuration
#define INQUIRY_PAUSE_US 200000                  // first pause of a model that could not be had
#define INQUIRY_PAUSE_MAX_US 60000000
// Every so many rounds a model that is known is asked about again, in turn: it may have been loaded anew under
// the same version, and then the index says what it said.
#define INQUIRY_REFRESH 4

enum inquiry_ask {
    INQUIRY_OVER,
    INQUIRY_INDEX,    // RepositoryIndex, ready = false: what is not ready says why
    INQUIRY_READY,    // ModelReady
    INQUIRY_METADATA, // ModelMetadata
    INQUIRY_CONFIG    // ModelConfig
};

struct inquiry_line;

struct inquiry {
    const struct view *names; // that the configuration gives; alive until others are given
    unsigned n_names;
    struct roster *last;  // what is known; NULL: nothing yet
    char why[ROSTER_WHY]; // why the round that is over learnt nothing; empty: it did
    bool no_index;        // the server does not know RepositoryIndex

    enum inquiry_ask ask; // the question that is open
    struct arena arena;   // of this round
    struct inquiry_line *lines;
    unsigned n, at, left_out; // lines[at] is being asked about
    unsigned rounds;
};

void inquiry_init(struct inquiry *q, const struct view *names, unsigned n_names);
void inquiry_deinit(struct inquiry *q);
void inquiry_set_names(struct inquiry *q, const struct view *names, unsigned n_names);
// The connection is another: nothing is known of who is at its end.
void inquiry_forget(struct inquiry *q);
// A round begins (one that was open is given up). The first question; OVER only without memory.
enum inquiry_ask inquiry_begin(struct inquiry *q, uint64_t now_us);
// The open question: its method, and its message in the round's arena.
struct view inquiry_method(enum inquiry_ask ask);
struct view inquiry_message(struct inquiry *q);
struct inquiry_answer {
    int status;          // gRPC's; -1: no answer came
    struct view text;    // what it says beside its status, or why none came
    struct view message; // status 0. Read during the call only
};
enum inquiry_ask inquiry_on_answer(struct inquiry *q, const struct inquiry_answer *a,
                                   uint64_t now_us);

#endif
