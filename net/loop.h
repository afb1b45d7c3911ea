/* net/loop.h: a loop: one thread, one libevent base, its mailbox, its timer wheel, its blocks.
 * Does. Everything here belongs to the loop's own thread unless a line says "any thread".
 *
 * A turn: I/O events -> deferred calls, own posts -> mailbox (bounded) -> timers -> flush -> sleep.
 * Flush is: flush items (sockets write once), then one splice and at most one eventfd write for
 * each target loop that was posted to in this turn. libevent 2.1 has no prepare hook, hence our own
 * turn around event_base_loop(EVLOOP_ONCE).
 *
 * Life: loop_init -> (attach listeners, handlers; any one thread) -> loop_run on its thread, until
 * loop_stop (any thread) -> loop_deinit. */
#ifndef SLUICE_NET_LOOP_H
#define SLUICE_NET_LOOP_H

#include "base/block.h"
#include "base/hist.h"
#include "base/msg.h"
#include "base/rand.h"
#include "base/wheel.h"
#include <event2/event.h>
#include <event2/event_struct.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define LOOPS_MAX                                                                                  \
    258 // loops in one process: 256 (gateway/boot.h), the main thread's, and that of the prediction log
#define LOOP_SCRATCH (256u << 10) // bytes one read may bring
#define LOOP_RECORD (16u << 10)   // a TLS record's plain text

// What one turn works at most, before what cannot be put off: past it, reads and codecs wait for the next. One
// piece of work (OIP_STEP_BYTES of a body, a read, a write) may begin just before it.
#define LOOP_TURN_US 700
#define LOOP_LOOK_BYTES (16u << 10) // of work, between two looks at the clock
#define LOOP_LITTLE_BYTES (4u << 10)

struct loop;
struct evdns_base;

// Called for each message, on the receiving loop's thread. The message is the callee's.
typedef void loop_msg_fn(struct loop *l, struct msg *m, void *ctx);

// An item of the flush list: flagged as often as one likes, called once before the loop sleeps. It
// may flag itself or others again from inside (they run before the sleep, or the loop does not
// sleep).
struct loop_flush {
    struct loop_flush *next, **prev; // prev == NULL: not flagged
    void (*fn)(struct loop *l, struct loop_flush *f);
};

// A call put off to a later turn (the loop does not sleep before it). For work that is resumed: a socket that
// has more to read than one turn may take, a codec in the middle of a large body. Turns run them in the order
// in which they were deferred, as many as LOOP_TURN_US allows and at least one; what they defer comes behind
// all that wait.
struct loop_call {
    struct loop_call *next, **prev; // prev == NULL: not deferred
    void (*fn)(struct loop *l, struct loop_call *c);
};

// A call carried to another loop's thread by its mailbox. Embedded in the caller's object, which
// stays alive until fn has begun.
struct loop_task {
    struct msg msg; // first
    void (*fn)(struct loop *l, struct loop_task *t);
};

struct loop_out { // posts of this turn to one target, gathered
    struct loop *to;
    struct mpsc_node *first, *last;
    bool dirty; // listed in loop->dirty
};

struct loop {
    unsigned index; // in its process, < LOOPS_MAX; messages carry it
    char name[16];
    struct event_base *base;
    struct evdns_base *dns; // NULL until the first look-up
    struct wheel wheel;
    struct block_owner blocks;
    struct rand rand;
    uint8_t *scratch; // LOOP_SCRATCH bytes for whoever reads now
    uint8_t *record;  // LOOP_RECORD bytes for whoever writes a TLS record now

    _Atomic uint32_t conns; // client connections it holds: loop_conns_add
    bool
        rests; // it serves clients (loops_init): see loop_conns_add. The admin's, with a connection for
               // every scrape, neither rests nor keeps others from it
    _Atomic uint64_t turns; // relaxed, for metrics
    _Atomic uint64_t msgs;  // messages handled
    struct hist delay; // µs from waking to going to sleep again (how late a new event is seen)
    _Atomic uint64_t *heartbeat; // NULL, or where the time of the last turn is left (>= 4 a second)

    // private to loop.c
    uint64_t now_us;
    int64_t wall_offset_us; // wall clock minus monotonic, looked up once a second
    bool stale;             // now_us is from before the sleep
    bool asleep;            // the mailbox holds our declaration of sleep
    bool running;
    struct mpsc box;
    int wake_fd, timer_fd;
    struct event wake_ev, timer_ev;
    uint64_t timer_at_us;      // what timer_fd is armed for; UINT64_MAX: nothing
    struct wheel_timer second; // Date header and wall clock
    struct loop_out out[LOOPS_MAX];
    uint16_t dirty[LOOPS_MAX]; // targets with something in out[]
    unsigned n_dirty;
    struct loop_flush *flush;
    struct loop_call *calls; // deferred since `due` was taken, the newest first
    struct loop_call *due;   // what is run now, the oldest first
    size_t worked;           // since the last look at the clock, in bytes
    bool spent;              // this turn has worked for LOOP_TURN_US
    bool sweeping;           // large memory that was freed is given back, some of it each turn
    struct loop_flush rest;
    bool unrested; // it has lost its last connection since it last rested
    uint64_t rested_us;
    struct {
        loop_msg_fn *fn;
        void *ctx;
    } handler[4]; // by kind / 64
    struct loop_task stop;
    _Atomic bool stop_posted;
    pthread_t thread;   // set by the loop itself
    pthread_t joinable; // set by whoever started it
    void *raw;          // what loop_free gives back
};

// Once a process, before any loop: libevent's locks for its resolver, SIGPIPE ignored. Idempotent.
void net_init(void);

// 0, or -1 with errno (descriptors). seed feeds l->rand. l lies on a 64-byte boundary (static memory
// does; else loop_new). All of it is set here.
int loop_init(struct loop *l, unsigned index, const char *name, uint64_t seed);
void loop_deinit(struct loop *l);
struct loop *loop_new(unsigned index, const char *name, uint64_t seed); // NULL with errno
void loop_free(struct loop *l);
void loop_run(struct loop *l);  // the calling thread becomes the loop's until loop_stop
void loop_stop(struct loop *l); // any thread: a message; the turn it arrives in is the last
// One turn, for tests and for tools that have no thread to give away. block: may sleep.
void loop_turn(struct loop *l, bool block);

void loop_awake(struct loop *l); // private: the first look at the clock after a sleep
// CLOCK_MONOTONIC in microseconds, read once a turn (after the sleep).
static inline uint64_t loop_now_us(struct loop *l)
{
    if (l->stale)
        loop_awake(l);
    return l->now_us;
}
// Work was done that grows with so many bytes. Little of it does not count: bursts of small requests are served in
// one turn, where they share reads, batches and writes.
static inline void loop_worked(struct loop *l, size_t bytes)
{
    l->worked += bytes >= LOOP_LITTLE_BYTES ? bytes : 0;
}
bool loop_look(struct loop *l); // private
// This turn has worked for long enough: what can be put off is deferred. Cheap: it looks at the clock when
// enough was done since the last time.
static inline bool loop_is_spent(struct loop *l)
{
    return l->spent || (l->worked >= LOOP_LOOK_BYTES && loop_look(l));
}
// The wall clock for log lines; never for time-outs.
uint64_t loop_wall_us(struct loop *l);
static inline struct wheel *loop_wheel(struct loop *l)
{
    return &l->wheel;
}
static inline struct block_owner *loop_blocks(struct loop *l)
{
    return &l->blocks;
}
static inline uint64_t loop_turns(const struct loop *l)
{
    return atomic_load_explicit(&l->turns, memory_order_relaxed);
}

// Gives m away to `to`. from: the loop whose thread this is (gathered, spliced at the end of the
// turn; also when to == from: same queue, same order), or NULL from any other thread (pushed at
// once). First in first out for each producer.
void loop_post(struct loop *from, struct loop *to, struct msg *m);
// Who handles the 64 kinds from first_kind: MSG_ROUTER, MSG_GATEWAY or MSG_BACKENDS.
void loop_on_msg_range(struct loop *l, unsigned first_kind, loop_msg_fn *fn, void *ctx);
// Runs fn(to, t) on to's thread. from as in loop_post.
void loop_post_task(struct loop *from, struct loop *to, struct loop_task *t);

// Any thread: delta connections come to l (before they arrive there: hand-over looks at the counts) or,
// on l's own thread, go. A loop that has lost its last one rests: at the end of the turn, but not more
// than ten times a second, it gives its spare memory back; when no loop of the process has any, to the
// system. A burst, or a fragmented heap, so lasts no longer than the connections that it came from.
void loop_conns_add(struct loop *l, int delta);

void loop_flush_later(struct loop *l, struct loop_flush *f); // f->fn must be set
void loop_flush_cancel(struct loop_flush *f);                // harmless when not flagged
void loop_defer(struct loop *l, struct loop_call *c);        // c->fn must be set
void loop_defer_cancel(struct loop_call *c);

// ---- a set of loops with threads
// -----------------------------------------------------------------------

struct loops {
    unsigned n;
    struct loop *loop[LOOPS_MAX]; // index i has loop->index == i
    // Called on each loop's thread before its first and after its last turn. Either may be NULL.
    void (*on_start)(struct loop *l, void *ctx);
    void (*on_stop)(struct loop *l, void *ctx);
    void *ctx;
};

// n loops named loop-0, loop-1, …; no thread yet. 0 or -1 with errno.
int loops_init(struct loops *s, unsigned n, uint64_t seed);
int loops_start(struct loops *s); // 0 or -1 with errno (those that started were stopped again)
void loops_stop(struct loops *s); // stops all and joins
void loops_deinit(struct loops *s);

#endif
