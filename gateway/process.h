/* gateway/process.h: what the gateway process holds beside its loops' parts. Built by the main thread
 * before the loops start, read-only for the loops but for the atomics. */
#ifndef SLUICE_GATEWAY_PROCESS_H
#define SLUICE_GATEWAY_PROCESS_H

#include "base/siphash.h"
#include "config/config.h"
#include "gateway/admin.h"
#include "gateway/boot.h"
#include "gateway/budget.h"
#include "gateway/events.h"
#include "gateway/fleet.h"
#include "gateway/handed.h"
#include "gateway/pins.h"
#include "http/http.h"
#include "net/log.h"
#include "net/loop.h"
#include "net/server.h"
#include "net/tls.h"
#include "router/cache.h"
#include "router/table.h"
#include <stdatomic.h>
#include <string.h>

struct front;
struct part;
struct snapshot;
struct live;
struct reload_wish;
struct survey;
struct removal;
struct predictions;
struct live_hold;
struct trials;
struct trial_shop;

// Where log.access points: "-" is standard output.
static inline const char *log_path(const char *access)
{
    return access && strcmp(access, "-") == 0 ? "/dev/stdout" : access;
}

enum { SINK_ACCESS = LOG_EVENTS + 1 }; // sinks of net/log

enum gateway_phase { PHASE_RUNNING, PHASE_DELAYING, PHASE_FINISHING, PHASE_CUTTING, PHASE_OVER };

struct created;
struct creation_answer;
struct creations { // gateway/creations
    struct created *first;
    unsigned n;
    bool stale; // they are others than in the newest snapshot
    struct creation_answer *waiting;
};

struct reload {                  // gateway/reload
    uint32_t wishes;             // of operators, so far
    struct reload_wish *waiting; // for the keeper's word
    struct handed handed;        // the listeners of the next offer
    struct boot_offer offer;     // of the keeper, if memory_fd >= 0: it waits for room
    int memory_fd;
};

struct gateway {
    const struct gateway_boot *boot;
    struct config *birth; // of the start
    struct loops loops;
    struct loop main;    // index loops.n
    struct part **parts; // [loops.n]
    struct server_budget *connections;
    struct table *table;
    struct tenants *tenants;
    struct log *log;
    struct events *events;
    struct predictions *predictions;
    struct live *live;
    struct admin *admin;
    _Atomic bool draining;
    struct budget bytes;         // of requests, in flight
    struct cache_pool kept;      // of answers that are kept
    uint8_t secret[SIPHASH_KEY]; // of the keys that they are found by
    uint64_t started_us;
    char boot_id[33]; // random: no other life of a gateway process has it

    // main thread only
    struct fleet fleet;
    struct snapshot *snap;  // the newest; the loops have their own (part.snap)
    struct snapshot *snaps; // all that are held, newest first
    struct reload reload;
    struct front *fronts; // all that live
    struct tls_ticket_keys ticket_keys;
    unsigned descriptors; // that are left when what every configuration needs is open
    enum gateway_phase phase;
    uint64_t told_us;       // the first signal to end came then; 0: none has
    struct survey *surveys; // questions of /status that are out
    int exit_status;
    struct wheel_timer drain_timer;
    uint64_t drain_until_us;
    struct pins pins; // gateway/levels
    struct wheel_timer pins_timer;
    struct wheel_timer sweep_timer; // gateway/removal
    struct removal *removals;       // models that are out of the table and not free yet
    struct live_hold *lives_before; // gateway/experiments
    struct creations creations;     // gateway/creations
    struct trials *trials;          // gateway/trials
    struct trial_shop *shop;        // gateway/trial_store; NULL: no store
    struct event *keeper_event, *liveness_event, *term_event, *quit_event, *usr1_event;
};

// Main thread: asks the keeper to kill that process of a local worker. False: it could not be said.
bool gateway_say_hangs(struct gateway *g, uint32_t place, uint32_t pid);
// That nothing refers to that replica any more.
bool gateway_say_left(struct gateway *g, uint32_t place);
// Main thread: what an operator wants of the keeper: a drain, as SIGTERM to it begins one; that its events have
// this level, and those of gateways to come. False: it could not be said.
bool gateway_say_drain(struct gateway *g);
bool gateway_say_reload(struct gateway *g, uint32_t wish);
// What the keeper offered is in force: why NULL; or why it is not.
bool gateway_say_taken(struct gateway *g, const char *why);
// Of the listeners that leave no socket is open here any more.
bool gateway_say_let_go(struct gateway *g);
// How many clients' connections a configuration allows here.
unsigned gateway_connections(const struct gateway *g, const struct config *c);
// How many bytes of requests.
int64_t gateway_bytes(const struct config *c);
bool gateway_say_log_level(struct gateway *g, enum log_level level);

// An event, on loop l's thread. NULL: on the main thread.
#define GATEWAY_EVENT(g, l, level, event, ...)                                                     \
    events_tell(g, (l) ? (struct loop *)(l) : &(g)->main, level, event,                            \
                (const struct log_field[]){__VA_ARGS__},                                           \
                sizeof((const struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field))

#endif
