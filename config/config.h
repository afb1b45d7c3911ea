/* config/config.h: the bytes of gateway.conf -> one immutable, reference-counted struct config.
 * Thinks: opens no file, reads no clock and no environment variable, so equal bytes give an equal
 * configuration. libConfuse reads the syntax; what a key means, its unit, bounds and default stand
 * in one table (config/keys.h), from which the reader, the check, the defaults and the
 * documentation come.
 *
 * Memory: everything that a struct config points at lives in its own arena and dies with the last
 * reference; nothing in it changes after config_parse has returned. Strings end in NUL.
 * Thread: a struct config may be read from any thread, config_ref/unref called from any.
 * config_parse itself: one thread of a process at a time (libConfuse's scanner is global). */
#ifndef SLUICE_CONFIG_CONFIG_H
#define SLUICE_CONFIG_CONFIG_H

#include "base/arena.h"
#include "base/buffer.h"
#include "base/view.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_MAX_BYTES (1u << 20) // a larger file is refused before anything is read
#define CONFIG_MAX_ERRORS 20
#define CONFIG_MAX_MODELS 1024   // sections; as many as a gateway knows
#define CONFIG_MAX_REPLICAS 2048 // of all workers together
#define CONFIG_NAME_BYTES 129    // of a section's title, with its NUL

enum config_scheme {
    CONFIG_TCP,  // "IP:PORT", "[V6]:PORT"; as a worker's address "grpc://HOST:PORT"
    CONFIG_TLS,  // "grpcs://HOST:PORT" (workers only)
    CONFIG_UNIX, // "unix:PATH"
};

struct config_address {
    const char *text; // as it stands in the file
    enum config_scheme scheme;
    const char
        *host; // CONFIG_TCP, CONFIG_TLS: without brackets; listeners: a numeric address. Else NULL
    uint16_t port;     // listeners: 0 picks a free one and reports it
    const char *path;  // CONFIG_UNIX; else NULL
    uint32_t database; // a Redis': "redis://HOST:PORT/DATABASE"; else 0
};

struct config_listen {
    const char *name; // title of the section
    struct config_address address;
    const char *certificate, *key; // PEM files; both or neither. NULL: no TLS
    bool expose;                   // answers carry sluice-* headers and server-timing
    bool half_close_answers;       // HTTP/1: who has ended his half is still answered
    const char *const *cors;       // origins of pages that may ask, or CONFIG_ANY_ORIGIN alone
    unsigned cors_count;
};
#define CONFIG_ANY_ORIGIN "*"

struct config_admin {
    bool on; // a section admin { } stands in the file
    struct config_address address;
    const char *token_file; // NULL: only what needs no token is served
};

enum config_policy { CONFIG_POLICY_AUTO, CONFIG_POLICY_FIXED };
#define CONFIG_AUTO UINT64_MAX   // max_wait_us: as the policy thinks
#define CONFIG_AUTO_N UINT32_MAX // pipeline: by the policy and the replica's instances

#define CONFIG_MAX_PREFERRED 8 // as many sizes as a model's queue looks at

struct config_model {
    const char *name; // NULL in config.unlisted, and in a worker's rules
    // Those that serve it, the first while it has capacity, then the next: indices into config.workers. None: whichever
    // has it.
    const unsigned *workers; // [worker_count]
    unsigned worker_count;
    unsigned max_rows;         // 0: what the worker allows
    uint64_t max_wait_us;      // longest wait of the oldest row for company; CONFIG_AUTO
    const uint32_t *preferred; // ascending, each <= max_rows where that is given
    unsigned preferred_count;
    unsigned pipeline; // batches in flight a replica; CONFIG_AUTO_N
    bool refuse_early; // policy auto: 504 at once behind more than can be answered in time
    enum config_policy policy;
    uint32_t queue_rows; // 0: max(1024, 64 * max_rows) (max_rows as the worker gives it)
    uint64_t queue_bytes;
    uint64_t timeout_us;    // deadline of a request that names none; <= limits.deadline_max_us
    uint64_t slow_start_us; // a replica that comes has its whole share after so long; 0: at once
    bool levels;            // its service comes down by levels
    uint64_t p99_enter_us;  // 0: by what the queue takes of the deadlines
    uint64_t p99_leave_us;  // <= p99_enter_us
    uint64_t hold_us, window_us;
    bool critical;      // counts for the level of the instance; a model's own section alone says so
    bool cache_enabled; // false: as with a ttl of 0
    uint64_t cache_ttl_us; // 0: no answers are kept
    uint64_t cache_stale_us;
    bool cache_shared; // by all tenants
    // What else may answer for it, in order: models, CONFIG_CACHED; last, if at all, CONFIG_DEFAULT.
    const char *const *fallback; // [fallback_count]
    unsigned fallback_count;
    uint64_t step_timeout_us;   // of one step; 0: by what is known of its model
    const char *default_answer; // file with an answer of the protocol in JSON; NULL: none
    // Records of its predictions.
    uint32_t predict_ppm;                     // share, in millionths
    uint32_t predict_inputs, predict_outputs; // enum config_recorded
    bool predict_required;                    // no room for the record: no prediction
    bool predict_parameters;
    const char *const *predict_headers; // [predict_header_count] in lower case; differ
    unsigned predict_header_count;
    // "input:NAME", "output:NAME", "header:NAME", "parameter:NAME", "tenant"
    const char *const *redact; // [redact_count]
    unsigned redact_count;
};
enum config_recorded { RECORDED_NONE, RECORDED_HASH, RECORDED_FULL };
#define CONFIG_MAX_REDACT 32
#define CONFIG_MAX_RECORDED 16 // header fields
#define CONFIG_MAX_FALLBACK 16
#define CONFIG_DEFAULT "default" // in a fallback: the answer that default_answer has
#define CONFIG_CACHED "cached"   // and what is kept, stale as it may be
#define CONFIG_MAX_CHOICES 4     // workers of one model, in order

struct config_worker {
    const char *name;
    // Exactly one of the two: a program that the keeper starts `replicas` times, or addresses.
    const char *const *command; // [command_count + 1], ends in NULL; command_count == 0: none
    unsigned command_count;
    unsigned replicas; // local processes; 0 when `addresses` are given
    const struct config_address *addresses;
    unsigned address_count;
    bool replace_before;       // another command: its process is ready before the old one ends
    bool serial;               // it computes one batch at a time, of whatever model
    struct config_model rules; // of models that are served by it and do not say (name NULL)
};

struct config_limits { // every row is explained in docs/configuration.md
    uint32_t rewards_kept;
    uint32_t max_connections;
    uint32_t max_connections_per_address;
    uint32_t max_streams;
    uint32_t max_headers;
    uint32_t max_header_bytes;
    uint32_t max_target;
    uint64_t max_body;
    uint64_t max_answer;
    uint64_t bytes_in_flight; // 0: a quarter of the memory (the cgroup's if smaller)
    uint32_t abuse_budget;
    uint64_t header_timeout_us;
    uint64_t body_timeout_us;
    uint32_t body_min_rate; // bytes a second
    uint64_t idle_timeout_us;
    uint64_t send_timeout_us;
    uint64_t stream_stall_us;
    uint64_t deadline_default_us;
    uint64_t deadline_max_us;
};

struct config_log {
    const char *access;  // path; NULL: off; "-": standard output
    uint32_t sample_ppm; // share of requests written, in millionths
    uint64_t ring_bytes; // of each loop
    uint32_t level;      // events below it are not written: debug, info, warn, error from 0
    uint32_t explain;    // requests that each loop remembers
};

// Where records of predictions go; what they hold stands with the models.
struct config_predictions {
    bool on;          // the file has a section predictions
    bool redis;       // into streams of the store
    bool required;    // those of some model are: derived
    const char *file; // directory; NULL: none
    uint64_t stream_length, spool_bytes;
    const char *instance; // NULL: the host's name
    uint64_t max_bytes;   // of values of each side
    uint64_t ring_bytes;  // of each loop
    uint64_t flush_us;
    uint64_t rotate_bytes, rotate_us;
    uint64_t keep_us;         // 0: for ever
    const char *archive;      // directory of days; NULL: none
    uint64_t archive_keep_us; // of them; 0: for ever
};

struct config_health { // probes of a worker
    uint64_t interval_us;
    uint64_t timeout_us;
    uint32_t failures; // so many in a row: the replica is down
};

// A Redis that instances share. Exactly one of redis, sentinels and cluster.
struct config_store {
    bool on;                     // a section store { } stands in the file
    struct config_address redis; // text NULL: none. CONFIG_TLS: rediss://
    const struct config_address *sentinels, *cluster;
    unsigned sentinel_count, cluster_count;
    const char *master; // name of the Sentinels' master; NULL without them
    const char *user, *password_file;
    const char *sentinel_user, *sentinel_password_file;
    const char *ca;                // PEM file; NULL: the system's
    const char *certificate, *key; // PEM files that we show; both or neither
    const char *deployment;        // in the names of its keys
    uint64_t timeout_us;
    bool tls;
};

// What a request says of who asks: the sticky key of an experiment.
enum config_trait_kind {
    CONFIG_REQUEST_ID,
    CONFIG_API_KEY, // x-api-key, else the bearer token
    CONFIG_HEADER,
    CONFIG_COOKIE,
    CONFIG_PARAMETER, // of the request's body
    CONFIG_CLAIM,     // of the bearer token, a JWT, which is not verified
};
struct config_trait {
    const char *text; // as written in the file; NULL: not given
    enum config_trait_kind kind;
    const char *name; // headers: in lower case; NULL where the kind has none
};

struct config_layer {
    const char *name;
    struct config_trait key;
    const char *salt; // never NULL
};

#define CONFIG_MAX_EXPERIMENTS 256u // sections; so many layers, too
#define CONFIG_MAX_SITE 16          // experiments under one model's name
#define CONFIG_MAX_VARIANTS 16
#define CONFIG_MAX_WEIGHTS 32 // of one variant, one after the other
#define CONFIG_MAX_TARGETS 32

struct config_variant {
    const char *name, *model;
    const uint32_t *weight; // [weights] in millionths; the last one is in force
    unsigned weights;
};
struct config_guard {       // of an experiment; 0, false: not that one
    bool errors, fallbacks; // more of them than the control
    uint32_t max_errors_ppm, max_fallbacks_ppm;
    uint64_t max_p99_us;
    const char *reward; // one of `rewards`: less of it than the control; NULL: not looked at
    uint32_t reward_max;
    uint64_t reward_within_us; // of its request
    uint32_t min_reward_ppm;   // of reward_max
    uint32_t min_requests;     // of a variant, before anything is said of it
};
#define CONFIG_MAX_SHADOWS 8
#define CONFIG_MAX_REWARDS 8
#define CONFIG_MAX_STEPS 16
struct config_shadow { // a model that is asked too, and compared
    const char *name, *model;
    uint32_t share_ppm;     // of the keys that have the control
    uint32_t compare_ppm;   // of its answers
    uint32_t tolerance_ppm; // see infer/likeness.h
    uint64_t timeout_us;
};
struct config_ramp {       // of an experiment's weights by steps
    const char *variant;   // NULL: there is none
    const uint32_t *steps; // [n_steps] in millionths; none: as documented
    unsigned n_steps;
    uint64_t wait_us;
    uint32_t min_requests;
};
struct config_bandit {  // or by a reward
    const char *reward; // NULL: there is none
    uint32_t floor_ppm, step_ppm;
    uint64_t every_us;
    uint32_t min_requests;
};
struct config_experiment {
    const char *name, *model;
    struct config_trait key; // its layer's, where it has one
    const char *salt;        // never NULL
    const char *layer;       // NULL: none
    uint32_t holdout_ppm;
    uint32_t from_ppm, to_ppm; // of its layer; without one 0 and all
    const char *force_key_file;
    bool draft; // it does not run of itself
    uint64_t
        created; // 0: its section is in the file; else the mark of its creation (config_add_experiment)
    const char *const *target_header, *const *target_tenant, *const *target_parameter;
    unsigned target_headers, target_tenants, target_parameters;
    struct config_guard guard;
    struct config_ramp ramp;
    struct config_bandit bandit;
    struct config_variant
        *variants; // [variant_count], 2 and more, or 1 with shadows; [0] is the control
    unsigned variant_count;
    const char *const *rewards; // [reward_count]: names that clients may post
    unsigned reward_count;
    struct config_shadow *shadows; // [shadow_count]
    unsigned shadow_count;
};

struct config {
    _Atomic uint32_t refs;
    struct arena arena;
    const char *path; // of the file, for messages
    struct view text; // of the file

    unsigned loops;          // 0: one per core
    bool models_listed_only; // `models = listed`: what is not in the file is not served
    bool ready_all;          // `ready_when = all`
    bool core_dumps;         // a crash may write a core although secrets are in memory
    uint64_t drain_delay_us, drain_timeout_us;
    uint64_t watchdog_us;      // a loop without a turn for so long: the gateway process is aborted
    const char *tenant;        // "header:NAME"; NULL: tenants are not tracked
    struct view tenant_header; // that name, in lower case; empty: likewise
    const char *state_dir;     // NULL: what would be kept there ends with the process
    const char *runtime_dir;   // NULL: a fresh directory below $XDG_RUNTIME_DIR or /tmp

    struct config_listen *listens;
    unsigned listen_count; // >= 1
    struct config_admin admin;
    struct config_worker *workers;
    unsigned worker_count;
    struct config_model *models;
    unsigned model_count;
    const struct config_model **by_name; // the models, sorted
    struct config_model
        unlisted; // what a model that is not in the file gets where its worker says nothing else (name NULL, any)
    uint64_t cache_bytes; // of all answers that are kept
    struct config_limits limits;
    struct config_log log;
    struct config_health health;
    struct config_predictions predictions;
    struct config_store store;
    struct config_layer *layers;
    unsigned layer_count;
    struct config_experiment
        *experiments; // those of the file, then those that were created, in their order
    unsigned experiment_count, experiment_room;
};

struct config_error {
    unsigned line;   // 1-based; 0: the file as a whole
    unsigned column; // where what is wrong begins, in bytes, 1-based; 0: not known
    char text[248];  // key, what was expected, what came; printable, ends in NUL; without file and
                     // line
};

struct config_errors {
    unsigned count;   // kept below
    unsigned dropped; // found beyond CONFIG_MAX_ERRORS
    bool taken;       // config_add_experiment: its name is another one's
    struct config_error error[CONFIG_MAX_ERRORS];
};

// Reads and checks the whole text. filename is for messages only (copied). NULL: refused, `errors`
// says why, in the order of the lines (count >= 1). On success errors->count is 0 and the caller
// holds one reference. Out of memory is one such error, too.
struct config *config_parse(struct view text, const char *filename, struct config_errors *errors);
// What its file says and nothing else, once more. NULL: out of memory.
struct config *config_again(const struct config *c);
struct config *config_ref(struct config *c);
void config_unref(struct config *c); // NULL is fine

// "FILE:LINE: TEXT\n" of one error; returns the length that it has (cut to fit size, like
// snprintf).
int config_error_print(char *out, size_t size, const char *filename, const struct config_error *e);

// Model and section names: [A-Za-z0-9._+@~-]{1,128}.
bool config_name_ok(struct view name);
// The model's row, or NULL when the file does not list it.
const struct config_model *config_model_find(const struct config *c, struct view name);
// Whoever reads the files that it names has secrets in memory: keys, a token.
bool config_names_secrets(const struct config *c);
// Replicas of all workers together.
unsigned config_replicas(const struct config *c);
const struct config_worker *config_worker_find(const struct config *c, const char *name);
const struct config_layer *config_layer_find(const struct config *c, const char *name);
// All that its section says and that is no default, appended; what it says alone, not how it is written. False: out of memory.
bool config_experiment_print(const struct config *c, const struct config_experiment *e,
                             struct buffer *out);
const struct config_experiment *config_experiment_find(const struct config *c, const char *name);

#define CONFIG_MAX_CREATED CONFIG_MAX_EXPERIMENTS // beside those of the file

struct config_creation { // of an experiment that no file has
    struct view text;    // one section, as it would stand in the file
    uint64_t mark;       // which it is: not 0
    bool start;          // it runs of itself; else it is a draft, whatever the text says
};

// Appends a created experiment to a configuration that is not shared yet. It is checked like a section of the file, against
// all experiments of c, and may name no files. NULL: see `errors`, whose lines are those of its text; c is unchanged.
const struct config_experiment *config_add_experiment(struct config *c,
                                                      const struct config_creation *creation,
                                                      struct config_errors *errors);

#endif
