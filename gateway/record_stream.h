/* gateway/record_stream.h: records of predictions into Redis Streams, one for each instance and loop, each with an id of ours:
 * XADD of one that is there already, or is less than the last one, is refused. So what was sent and not answered is sent again,
 * and nothing is there twice.
 *
 *   record_stream_put ─► queue ─ XADD ─► answered with its id ─────────────────────────► gone
 *         │                ▲       ├──── refused for its id: is it there (XRANGE)? ─ yes ──┘
 *         │                │       │                          └ no: another id, sent again
 *         │                │       └──── late, lost, another error: sent again, after a pause
 *         └ Redis is away ─► spool, in order; read when the queue is empty
 *
 * Does. Thread: the writer's. */
#ifndef SLUICE_GATEWAY_RECORD_STREAM_H
#define SLUICE_GATEWAY_RECORD_STREAM_H

#include "backends/redis.h"
#include "gateway/record_spool.h"
#include "net/loop.h"

#define STREAM_PREFIX 192 // "sluice:DEPLOYMENT:predictions:INSTANCE:"

struct store_plan;

struct stream_record {
    struct stream_record *next;
    struct record_stream *stream;
    uint64_t ms, seq;
    uint32_t loop;
    uint32_t bytes;
    uint64_t behind; // of the spool that it came from; 0: it did not
    enum { STREAM_WAITS, STREAM_SENT, STREAM_ASKED, STREAM_DONE } state;
    char text[];
};

struct record_stream {
    struct loop *loop;
    struct store_plan *plan; // one reference; NULL: none
    struct redis_config config;
    struct redis *redis;
    struct redis_stats stats;
    struct record_spool spool;
    char prefix[STREAM_PREFIX];
    uint64_t most, spool_most;           // entries of a stream; bytes
    struct stream_record *first, **last; // the queue; those that are out are its beginning
    struct stream_record *unsent;        // the first that waits, or none
    struct stream_record *held;          // neither queue nor disk takes it now
    uint64_t queued;                     // bytes
    unsigned out;                        // commands without an answer
    uint64_t pause_us;                   // nothing is sent before
    struct wheel_timer again;
    struct loop_call pump;
    struct buffer scratch;
    bool up;
    bool wanted;                // on_room is
    bool refused;               // the last one was, for a reason that is not its id
    char why[FILE_WHY];         // it is away, or takes nothing
    void (*on_room)(void *ctx); // it takes more
    // *ms, *seq is an id of that loop's stream: the next one, behind it and all that the loop has used.
    void (*renew)(void *ctx, unsigned loop, uint64_t *ms, uint64_t *seq);
    void *ctx;
    _Atomic uint64_t written, again_there, renewed, errors;
};

struct record_stream_place {
    struct store_plan *plan;          // NULL: nowhere
    const char *instance, *state_dir; // NULL: there is no spool
    uint64_t most, spool_most;
};

void record_stream_init(struct record_stream *s, struct loop *l);
// What is queued for the place before goes to the spool.
void record_stream_move(struct record_stream *s, const struct record_stream_place *to);
static inline bool record_stream_is_on(const struct record_stream *s)
{
    return s->plan != NULL;
}
// False: it takes nothing now; on_room follows.
bool record_stream_has_room(const struct record_stream *s);
// It has room. A line without its newline. False: it is lost, as there is no memory and no room on the disk.
bool record_stream_put(struct record_stream *s, unsigned loop, uint64_t ms, uint64_t seq,
                       struct view line);
// Nothing is queued, nothing waits on the disk.
bool record_stream_is_idle(const struct record_stream *s);
// Closes; what is left is in the spool. Returns the records that are nowhere.
uint64_t record_stream_close(struct record_stream *s);

#endif
