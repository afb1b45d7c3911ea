/* gateway/process.h: what the gateway process holds beside its loops' parts. Built by the main thread
 * before the loops start, read-only for the loops but for the atomics. */
#ifndef SLUICE_GATEWAY_PROCESS_H
#define SLUICE_GATEWAY_PROCESS_H

#include "config/config.h"
#include "gateway/admin.h"
#include "gateway/boot.h"
#include "gateway/budget.h"
#include "gateway/events.h"
#include "gateway/news.h"
#include "http/http.h"
#include "net/log.h"
#include "net/loop.h"
#include "net/server.h"
#include "net/tls.h"
#include "router/device.h"
#include "router/table.h"
#include "router/vitals.h"
#include <stdatomic.h>

struct part;
struct survey;
struct removal;

enum { SINK_ACCESS = LOG_EVENTS + 1 }; // sinks of net/log

enum gateway_phase { PHASE_RUNNING, PHASE_DELAYING, PHASE_FINISHING, PHASE_CUTTING, PHASE_OVER };

struct front { // one `listen` of the configuration
    struct gateway *gateway;
    const struct config_listen *config;
    struct server *server;
    struct tls_server *tls;
};

struct endpoint { // one address that serves models: a replica, numbered by its place in the array
    _Alignas(64) struct worker_vitals vitals; // of all loops
    struct serial_device device;              // of all loops, when it is a serial one
    struct news news;             // what its owner (the loop `number % loops`) has learnt
    _Atomic uint64_t replaced_us; // connections that came up before it are to be replaced
    char name[96];                // "cpu/0"
    char address[ADDR_TEXT];      // for logs
    unsigned worker, replica;
    struct addr addr;
    bool tls;
    uint32_t hung_pid; // main thread only: the last process of it that the keeper was asked to kill
};

struct gateway {
    const struct gateway_boot *boot;
    struct config *config;
    struct http_limits limits;
    struct loops loops;
    struct loop main;          // index loops.n
    struct part **parts;       // [loops.n]
    struct endpoint *replicas; // [n_replicas]
    unsigned n_replicas;
    struct view *known_models; // names in the configuration, for servers that have no index
    struct front *fronts;      // [config->listen_count]
    struct server_budget *connections;
    struct tls_client *tls_client; // NULL: no worker wants TLS
    struct table *table;
    struct log *log;
    struct events *events;
    struct admin *admin;
    _Atomic bool draining;
    struct budget bytes; // of requests, in flight
    uint64_t started_us;

    // main thread only
    enum gateway_phase phase;
    unsigned terms;         // SIGTERMs that came
    struct survey *surveys; // questions of /status that are out
    int exit_status;
    struct wheel_timer drain_timer;
    uint64_t drain_until_us;
    struct wheel_timer sweep_timer; // gateway/removal
    struct removal *removals;       // models that are out of the table and not free yet
    struct event *keeper_event, *liveness_event, *term_event, *usr1_event;
};

// Main thread: asks the keeper to kill that process of a local worker. False: it could not be said.
bool gateway_say_hangs(struct gateway *g, unsigned worker, unsigned replica, uint32_t pid);
// Main thread: what an operator wants of the keeper: a drain, as SIGTERM to it begins one; that its events have
// this level, and those of gateways to come. False: it could not be said.
bool gateway_say_drain(struct gateway *g);
bool gateway_say_log_level(struct gateway *g, enum log_level level);

// An event, on loop l's thread. NULL: on the main thread.
#define GATEWAY_EVENT(g, l, level, event, ...)                                                     \
    events_tell(g, (l) ? (struct loop *)(l) : &(g)->main, level, event,                            \
                (const struct log_field[]){__VA_ARGS__},                                           \
                sizeof((const struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field))

#endif
