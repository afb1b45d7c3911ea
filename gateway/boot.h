/* gateway/boot.h: the one struct that crosses the fork from the keeper to the gateway process, and
 * the words that the two say to each other over their socketpair. Everything the gateway may use of
 * its parent is in here; nothing else is inherited on purpose. Thread: written by the keeper before
 * the fork, read by the gateway's main thread. */
#ifndef SLUICE_GATEWAY_BOOT_H
#define SLUICE_GATEWAY_BOOT_H

#include "net/addr.h"
#include "net/tls.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BOOT_MAX_LOOPS 256

// One cache line a loop in memory that keeper and gateway share. A loop stores CLOCK_MONOTONIC
// microseconds at every turn; 0: no such loop, or it has ended in order. A loop that sleeps must
// wake at least once a second to store. The keeper aborts the gateway when a line gets older than
// `watchdog`.
struct heartbeat {
    _Alignas(64) _Atomic uint64_t turn_us;
};
_Static_assert(sizeof(struct heartbeat) == 64, "one cache line");

struct heartbeat_page {
    struct heartbeat loop[BOOT_MAX_LOOPS];
    struct heartbeat main; // the gateway's main thread
};

struct boot_listener { // the sockets of a `listen`: non-blocking, close-on-exec, already listening
    uint32_t id; // of these sockets, as long as they live: grows from 1, whatever section has them
    const char *name;    // title of its section
    const char *wanted;  // its address as the section has it, printed: "127.0.0.1:0"
    const char *address; // as bound, with the real port: "127.0.0.1:41234", "[::1]:8080", "unix:/x"
    unsigned n;          // one a loop; of a Unix address one
    int *fds;            // -1: closed
};

// One replica of a worker: a process that the keeper runs, or an address. It has its number and its name
// ("section/replica") for as long as the configuration says the same of it, over restarts of its process and of ours.
struct boot_place {
    uint32_t number;  // by which the two speak of it; never another's
    uint32_t section; // among the configuration's workers
    uint32_t replica; // of the section: no two that live have the same
    uint32_t
        address; // among the section's addresses; BOOT_LOCAL: a process, which listens at `path`
    uint32_t replaces; // number of the one that goes for it; 0: none
    uint32_t before;   // it is ready before that one goes (else: starts when that one has ended)
    char path[112];    // "unix:PATH"
};
#define BOOT_LOCAL UINT32_MAX

struct gateway_boot {
    int keeper_fd;   // SOCK_SEQPACKET, non-blocking: struct boot_word both ways. End of file: the
                     // keeper is gone
    int liveness_fd; // never readable; end of file: the keeper is gone, end at once
    int admin_fd;    // listening socket of the admin listener; -1: none
    const char *admin_address;
    const uint8_t *config_text; // parsed again by the gateway; the keeper has found it good
    size_t config_bytes;
    const char *config_path;
    uint64_t config_generation; // 1: the first that this keeper read; grows by one with each reload
    uint64_t config_since_us;   // wall clock: in force since then
    unsigned loops;             // decided: 1 .. BOOT_MAX_LOOPS
    struct boot_listener *const *listeners; // one a section, in the order of the configuration
    const struct boot_place *places;        // all that are to serve
    unsigned place_count;
    struct heartbeat_page *page;
    struct tls_ticket_keys ticket_keys; // those of now, after every restart too: sessions resume
    unsigned log_level;  // enum log_level (net/log.h): the configuration's, or what was set since
    unsigned generation; // 0: first start; counts restarts of the gateway
};

enum boot_word_kind {
    BOOT_READY = 1,   // gateway -> keeper: loops run, listeners accept
    BOOT_DRAIN,       // keeper -> gateway: as SIGTERM: stop in order, exit 0
    BOOT_WORKER_UP,   // keeper -> gateway: the process of `place` was (re)started: connect now
    BOOT_WORKER_GONE, // keeper -> gateway: process `pid` of it has ended; `how` says in what way
    BOOT_TICKET_KEYS, // keeper -> gateway: a struct boot_ticket_keys: seal with the first of them from now on
    BOOT_WORKER_HANGS, // gateway -> keeper: process `pid` of it answers nothing: kill it, start another. A pid
                       // that is not the living one's is ignored: it has ended on its own meanwhile
    BOOT_DRAIN_ASKED, // gateway -> keeper: an operator wants what SIGTERM to the keeper does. BOOT_DRAIN follows
    BOOT_RELOAD_ASKED, // gateway -> keeper: an operator wants what SIGHUP does; `how` numbers the wish, growing from 1
    BOOT_LISTENER, // keeper -> gateway: a struct boot_listen: before BOOT_OFFER, of each `listen` of what is offered
    BOOT_OFFER, // keeper -> gateway: a struct boot_offer, and a descriptor of the configuration's bytes
    BOOT_TAKEN, // gateway -> keeper: a struct boot_said: `how` 1: what was offered is in force here; 0: text says why not
    BOOT_RELOADED, // keeper -> gateway: a struct boot_said: a reload is over, which answers the wishes up to `place`;
    // `how` 1: it is in force, text says what has changed: listeners that are not in it leave; 0: text says why not
    BOOT_LET_GO, // gateway -> keeper: of those that leave no socket is open here any more
    BOOT_EVENT, // keeper -> gateway: a struct boot_said, for /events: the event's name, and behind its NUL the line; `how`: so
    // many were lost before it
    BOOT_PLACE_LEFT, // gateway -> keeper: nothing here refers to `place` any more: its process may end
    BOOT_LOG_LEVEL, // gateway -> keeper: `how` is the enum log_level from now on: here, and of gateways to come
};

enum boot_end { // of a worker process (keeper/ending.h)
    BOOT_ENDED =
        0, // in order, or because somebody wanted it: no evidence against what it was doing
    BOOT_CRASHED = 1, // by its own doing, or by a SIGKILL that the keeper did not send
};

struct boot_word {
    uint32_t kind;  // enum boot_word_kind; unknown ones are ignored
    uint32_t place; // UP, GONE, HANGS, LEFT: its number; RELOADED: see there; else 0
    uint32_t pid;   // UP, GONE, HANGS: of that worker; else 0
    uint32_t how;   // GONE: enum boot_end; LOG_LEVEL: that; else 0
};

// With descriptors, unless the gateway has them; more than go at a time follow with the same numbers.
struct boot_listen {
    struct boot_word word; // `how`: 1: the first of an offer
    uint32_t section;      // among the configuration's listen sections
    uint32_t id;           // of its sockets
    char address[ADDR_TEXT];
};

struct boot_offer {
    struct boot_word word;
    uint64_t generation, since_us; // as in struct gateway_boot
    uint64_t bytes;                // of the configuration; behind it stand
    uint64_t places;               // so many struct boot_place
};

#define BOOT_TEXT 4096
struct boot_said { // sent as far as the text goes, with its NUL
    struct boot_word word;
    uint64_t generation;
    char text[BOOT_TEXT];
};

struct boot_ticket_keys {
    struct boot_word word;
    struct tls_ticket_keys keys;
};

#endif
