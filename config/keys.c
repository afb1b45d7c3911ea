#include "config/keys.h"
#include "config/config.h"
#include "config/value.h"
#include <inttypes.h>
#include <stdio.h>

#define MS 1000ull
#define S 1000000ull
#define MIN (60 * S)
#define HOUR (60 * MIN)
#define KIB 1024ull
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

const struct config_section config_sections[SECTION_KINDS] = {
    [SECTION_TOP] = {"", SECTION_TOP, false, RELOAD_RESTART,
                     "Keys that stand outside of any section."},
    [SECTION_LISTEN] = {"listen", SECTION_TOP, true, RELOAD_TAKES,
                        "Where clients are served: HTTP/1.1, HTTP/2 and gRPC on one port, over TLS "
                        "when a certificate is given. At least one."},
    [SECTION_ADMIN] = {"admin", SECTION_TOP, false, RELOAD_RESTART,
                       "The operators' listener: /metrics, /healthz, /status, /events."},
    [SECTION_DEFAULTS] = {"defaults", SECTION_TOP, false, RELOAD_TAKES,
                          "Rules of all models. A worker's section comes before it, a model's own "
                          "before both."},
    [SECTION_DEFAULTS_BATCH] = {"batch", SECTION_DEFAULTS, false, RELOAD_TAKES,
                                "When a batch goes, and how large, where a model does not say."},
    [SECTION_DEFAULTS_QUEUE] = {"queue", SECTION_DEFAULTS, false, RELOAD_TAKES,
                                "What may wait for a model that does not say."},
    [SECTION_DEFAULTS_DEGRADATION] = {"degradation", SECTION_DEFAULTS, false, RELOAD_TAKES,
                                      "When the service of a model that does not say comes down, "
                                      "and up again. See resilience.md."},
    [SECTION_DEFAULTS_CACHE] =
        {"cache", SECTION_DEFAULTS, false, RELOAD_TAKES,
         "Which answers are kept of a model that does not say. See cache.md."},
    [SECTION_PREDICTIONS] =
        {"predictions", SECTION_TOP, false, RELOAD_TAKES,
         "The prediction log: a record of each prediction. What its records hold stands here for "
         "all "
         "models, and in a model's own section for that one. See predictions.md."},
    [SECTION_WORKER] =
        {"worker", SECTION_TOP, true, RELOAD_TAKES,
         "Model servers that speak the Open Inference Protocol over gRPC: a program "
         "to start, or addresses of servers that run elsewhere. At least one. Rules in it "
         "hold for the models that name it as their `worker` and for those without a "
         "section; when it is the only worker, for all."},
    [SECTION_WORKER_BATCH] =
        {"batch", SECTION_WORKER, false, RELOAD_TAKES,
         "When a batch goes, and how large, for models of this worker that do not "
         "say. What stands nowhere in it is as in `defaults`."},
    [SECTION_WORKER_QUEUE] = {"queue", SECTION_WORKER, false, RELOAD_TAKES,
                              "What may wait for models of this worker that do not say."},
    [SECTION_WORKER_DEGRADATION] = {"degradation", SECTION_WORKER, false, RELOAD_TAKES,
                                    "When the service of models of this worker that do not say "
                                    "comes down, and up again."},
    [SECTION_WORKER_CACHE] = {"cache", SECTION_WORKER, false, RELOAD_TAKES,
                              "Which answers are kept of models of this worker that do not say."},
    [SECTION_MODEL] = {"model", SECTION_TOP, true, RELOAD_TAKES,
                       "How one model is batched, queued and routed; the title is its name."},
    [SECTION_MODEL_BATCH] = {"batch", SECTION_MODEL, false, RELOAD_TAKES,
                             "When a batch goes, and how large."},
    [SECTION_MODEL_QUEUE] = {"queue", SECTION_MODEL, false, RELOAD_TAKES,
                             "What may wait for the model."},
    [SECTION_MODEL_DEGRADATION] = {"degradation", SECTION_MODEL, false, RELOAD_TAKES,
                                   "When the service of the model comes down, and up again."},
    [SECTION_MODEL_CACHE] = {"cache", SECTION_MODEL, false, RELOAD_TAKES,
                             "Which of its answers are kept for those who ask the same."},
    [SECTION_MODEL_PREDICTIONS] = {"predictions", SECTION_MODEL, false, RELOAD_TAKES,
                                   "What is recorded of its predictions. What it does not say is "
                                   "as in the section of that name at the top."},
    [SECTION_CACHE] = {"cache", SECTION_TOP, false, RELOAD_TAKES,
                       "Where answers are kept, of models that have a `cache.ttl`."},
    [SECTION_LIMITS] = {"limits", SECTION_TOP, false, RELOAD_TAKES,
                        "Bounds and time-outs. Each answers an attack or a fault; each has a "
                        "default."},
    [SECTION_LOG] = {"log", SECTION_TOP, false, RELOAD_TAKES,
                     "The access log, one JSON line a request, and the events."},
    [SECTION_HEALTH] = {"health", SECTION_TOP, false, RELOAD_TAKES, "How workers are probed."},
    [SECTION_STORE] = {"store", SECTION_TOP, false, RELOAD_TAKES,
                       "A Redis that instances share: a server, a master behind Sentinels, or a "
                       "Cluster. Nothing depends on it: without it, and while it is away, every "
                       "instance has its own memory alone. See store.md."},
    [SECTION_LAYER] = {"layer", SECTION_TOP, true, RELOAD_TAKES,
                       "Experiments that exclude each other: a key takes part in one of them at "
                       "most. See experiments.md."},
    [SECTION_EXPERIMENT] = {"experiment", SECTION_TOP, true, RELOAD_TAKES,
                            "Who asks for a model gets one of several, always the same one for "
                            "the same key. See experiments.md."},
    [SECTION_EXPERIMENT_TARGET] = {"target", SECTION_EXPERIMENT, false, RELOAD_TAKES,
                                   "Who takes part. Whoever does not fit is answered by the "
                                   "control. Without it: all."},
    [SECTION_EXPERIMENT_GUARD] = {"guard", SECTION_EXPERIMENT, false, RELOAD_TAKES,
                                  "What ends it by itself: everybody gets the control. All guards "
                                  "of an experiment together are wrong about variants that are no "
                                  "worse once in 20 experiments, however long they look."},
    [SECTION_EXPERIMENT_RAMP] =
        {"ramp", SECTION_EXPERIMENT, false, RELOAD_TAKES,
         "A variant's weight is raised step by step, and held while it is not "
         "well. See experiments.md."},
    [SECTION_EXPERIMENT_BANDIT] = {"bandit", SECTION_EXPERIMENT, false, RELOAD_TAKES,
                                   "Weights follow a reward that clients post (Thompson sampling). "
                                   "See experiments.md."},
    [SECTION_EXPERIMENT_VARIANT] = {"variant", SECTION_EXPERIMENT, true, RELOAD_TAKES,
                                    "What is tried, 2 to 16 of them. The first one is the control: "
                                    "it answers, too, those who take no part."},
    [SECTION_EXPERIMENT_SHADOW] =
        {"shadow", SECTION_EXPERIMENT, true, RELOAD_TAKES,
         "A model that is asked what the control has answered, up to 8 of "
         "them. Its answer is compared with the control's and dropped."},
};

#define NUMBER(sec, type_, member, lo, hi, dflt, text)                                             \
    .section = sec, .type = type_, .min = lo, .max = hi, .standard = dflt, .doc = text,            \
    .offset = offsetof(struct config, member), .size = sizeof(((struct config *)0)->member)
#define NUMBER_IN(sec, strukt, type_, member, lo, hi, dflt, text)                                  \
    .section = sec, .type = type_, .min = lo, .max = hi, .standard = dflt, .doc = text,            \
    .offset = offsetof(struct strukt, member), .size = sizeof(((struct strukt *)0)->member)
#define LIST_IN(sec, strukt, type_, member, count, hi, text)                                       \
    .section = sec, .type = type_, .min = 1, .max = hi, .doc = text,                               \
    .offset = offsetof(struct strukt, member), .count_offset = offsetof(struct strukt, count)
#define TEXT_IN(sec, strukt, type_, member, text)                                                  \
    .section = sec, .type = type_, .doc = text, .offset = offsetof(struct strukt, member)
#define LIMIT(type_, member, lo, hi, dflt, text)                                                   \
    NUMBER(SECTION_LIMITS, type_, limits.member, lo, hi, dflt, text)

// clang-format off
// What a model's section may say, and a worker's and `defaults` for those that do not: in the member `in` of a
// struct, or the struct itself.
#define RULES(top, batch, queue, degradation, cache, strukt, in) \
    {.name = "timeout", NUMBER_IN(top, strukt, KEY_DURATION, in timeout_us, 0, 24 * HOUR, "0", \
        "Deadline of a request that names none. 0: `limits.deadline_default`.")}, \
    {.name = "slow_start", NUMBER_IN(top, strukt, KEY_DURATION, in slow_start_us, 0, HOUR, "10s", \
        "A replica that comes, or comes back, has a tenth of its share at first and all of it after so long; what no other " \
        "one is free for it has at once. 0: all of it from the start.")}, \
    {.name = "levels", NUMBER_IN(top, strukt, KEY_BOOL, in levels, 0, 1, "true", \
        "Its service comes down by levels when it is in trouble (resilience.md). `off`: always level 0, and nobody can pin it.")}, \
    {.name = "policy", NUMBER_IN(batch, strukt, KEY_CHOICE, in policy, 0, 0, "auto", \
        "`auto`: batches as large as deadlines and load allow, waits only where that pays. " \
        "`fixed`: `preferred` sizes and `max_wait`. See batching.md."), .choices = "auto|fixed"}, \
    {.name = "max_rows", NUMBER_IN(batch, strukt, KEY_COUNT, in max_rows, 0, 65536, "0", \
        "Rows in a batch at most. 0: what the worker allows; more than that is cut to it. 1: no " \
        "batching.")}, \
    {.name = "max_wait", NUMBER_IN(batch, strukt, KEY_DURATION, in max_wait_us, 0, 10 * S, "auto", \
        "The oldest row waits no longer than this for company while a replica is free. `auto`: no " \
        "bound but the policy's own; 2ms under `fixed`."), .automatic = true}, \
    {.name = "preferred", LIST_IN(batch, strukt, KEY_COUNTS, in preferred, in preferred_count, CONFIG_MAX_PREFERRED, \
        "`fixed`: batch sizes to send at once when reached, ascending, at most eight.")}, \
    {.name = "pipeline", NUMBER_IN(batch, strukt, KEY_COUNT, in pipeline, 1, 64, "auto", \
        "Batches in flight to one replica; further rows wait in the queue, where batches fill. " \
        "`auto`: three an instance of the model, each just in time; two under `fixed`."), \
        .automatic = true}, \
    {.name = "refuse_early", NUMBER_IN(queue, strukt, KEY_BOOL, in refuse_early, 0, 1, "true", \
        "`auto`: who stands behind more than can be answered in time is answered 504 at once.")}, \
    {.name = "rows", NUMBER_IN(queue, strukt, KEY_COUNT, in queue_rows, 0, 16777216, "0", \
        "Rows that may wait; past it requests are answered 503. 0: max(1024, 64 x max_rows).")}, \
    {.name = "bytes", NUMBER_IN(queue, strukt, KEY_SIZE, in queue_bytes, KIB, 1024 * GIB, "256MiB", \
        "Bytes of requests that may wait; past it requests are answered 503.")}, \
    {.name = "p99_enter", NUMBER_IN(degradation, strukt, KEY_DURATION, in p99_enter_us, 0, HOUR, "0", \
        "Level 1 when 99 of 100 answers of the last `window` take longer than this, from the queue to the answer, for " \
        "`hold`. 0: when more than one of 100 requests waits for half of the time that its deadline leaves.")}, \
    {.name = "p99_leave", NUMBER_IN(degradation, strukt, KEY_DURATION, in p99_leave_us, 0, HOUR, "0", \
        "And back when they take no longer than this for twice `hold`. 0: 3/4 of `p99_enter`.")}, \
    {.name = "hold", NUMBER_IN(degradation, strukt, KEY_DURATION, in hold_us, 10 * MS, HOUR, "5s", \
        "A level is held for at least so long, and what is measured has to last as long.")}, \
    {.name = "window", NUMBER_IN(degradation, strukt, KEY_DURATION, in window_us, 100 * MS, HOUR, "10s", \
        "What is measured is of the last so long.")}, \
    {.name = "enabled", NUMBER_IN(cache, strukt, KEY_BOOL, in cache_enabled, 0, 1, "true", \
        "false: nothing is looked up and nothing kept, whatever `ttl` says. What is kept already stays.")}, \
    {.name = "ttl", NUMBER_IN(cache, strukt, KEY_DURATION, in cache_ttl_us, 0, 365 * 24 * HOUR, "0", \
        "An answer that is younger is given to who asks the same, and requests that ask the same at once are computed once. " \
        "0: neither. For models whose answers follow from their inputs alone.")}, \
    {.name = "stale", NUMBER_IN(cache, strukt, KEY_DURATION, in cache_stale_us, 0, 365 * 24 * HOUR, "24h", \
        "An answer that is older than `ttl` and younger than this is kept for when the model cannot be asked.")}, \
    {.name = "shared", NUMBER_IN(cache, strukt, KEY_BOOL, in cache_shared, 0, 1, "false", \
        "true: what one tenant has been answered is given to others, too.")},

// What is recorded of a model's predictions; standard: NULL where it inherits.
#define PREDICTED(section, strukt, in, all, hash, no) \
    {.name = "sample", NUMBER_IN(section, strukt, KEY_SHARE, in predict_ppm, 0, 1000000, all, \
        "Share of the predictions that are recorded.")}, \
    {.name = "inputs", NUMBER_IN(section, strukt, KEY_CHOICE, in predict_inputs, 0, 0, hash, \
        "What a record says of the inputs: `none`, nothing; `hash`, a hash of their values; `full`, the values. Nothing at " \
        "level 1 of the model and above."), .choices = "none|hash|full"}, \
    {.name = "outputs", NUMBER_IN(section, strukt, KEY_CHOICE, in predict_outputs, 0, 0, hash, \
        "The same of the outputs, at every level."), .choices = "none|hash|full"}, \
    {.name = "required", NUMBER_IN(section, strukt, KEY_BOOL, in predict_required, 0, 1, no, \
        "true: without room for its record a request is answered 503. Else it is answered, and the oldest records go.")}, \
    {.name = "parameters", NUMBER_IN(section, strukt, KEY_BOOL, in predict_parameters, 0, 1, no, \
        "true: parameters that the model's worker is told of; those of an input where `inputs` is full. None at level 1 of the " \
        "model and above.")}, \
    {.name = "headers", LIST_IN(section, strukt, KEY_WORDS, in predict_headers, in predict_header_count, CONFIG_MAX_RECORDED, \
        "Fields of the request's head, or metadata, that are recorded, in lower case, such as {\"x-country\"}.")}, \
    {.name = "redact", LIST_IN(section, strukt, KEY_WORDS, in redact, in redact_count, CONFIG_MAX_REDACT, \
        "\"input:NAME\", \"output:NAME\": neither values nor a hash of that tensor; \"header:NAME\", \"parameter:NAME\", " \
        "\"tenant\": left out.")},

const struct config_key config_keys[] = {
    {.name = "loops", NUMBER(SECTION_TOP, KEY_COUNT, loops, 0, 256, "0",
        "Event loops, each a thread. 0: one per core."), .reload = RELOAD_RESTART},
    {.name = "models", NUMBER(SECTION_TOP, KEY_CHOICE, models_listed_only, 0, 0, "all",
        "`all`: every model that a worker has is served, those without a section with the defaults. "
        "`listed`: only models that have a section."), .choices = "all|listed"},
    {.name = "ready_when", NUMBER(SECTION_TOP, KEY_CHOICE, ready_all, 0, 0, "any",
        "`/v2/health/ready` is 200 when `any` model can answer, or only when `all` can."),
        .choices = "any|all"},
    {.name = "drain_delay", NUMBER(SECTION_TOP, KEY_DURATION, drain_delay_us, 0, HOUR, "5s",
        "After SIGTERM: readiness is false, but requests are served for so long, so that load "
        "balancers can turn away first.")},
    {.name = "drain_timeout", NUMBER(SECTION_TOP, KEY_DURATION, drain_timeout_us, 0, 24 * HOUR, "60s",
        "After `drain_delay`: requests that run may finish within this time.")},
    {.name = "watchdog", NUMBER(SECTION_TOP, KEY_DURATION, watchdog_us, 2 * S, HOUR, "10s",
        "A loop that makes no turn for so long is stuck: the gateway process is aborted and started "
        "again.")},
    {.name = "core_dumps", NUMBER(SECTION_TOP, KEY_BOOL, core_dumps, 0, 1, "false",
        "Let a crash leave a core file (it holds keys and requests).")},
    {.name = "runtime_dir", TEXT_IN(SECTION_TOP, config, KEY_PATH, runtime_dir,
        "Directory below which a private one for the sockets of local workers is made. Without it: "
        "`$XDG_RUNTIME_DIR`, else `/tmp`."), .reload = RELOAD_RESTART},
    {.name = "tenant", TEXT_IN(SECTION_TOP, config, KEY_PATH, tenant,
        "Who a request is of, `\"header:x-tenant\"`: the value of that field of its head, or metadata. Tenants share each model's "
        "queue by max-min, and are not given what is kept for others. See resilience.md."), .reload = RELOAD_TAKES},
    {.name = "state_dir", TEXT_IN(SECTION_TOP, config, KEY_PATH, state_dir,
        "Directory for what outlives the process: pinned levels, what was changed of experiments, and those that were created. Made when it is not there. Without it they end with the "
        "gateway process."), .reload = RELOAD_RESTART},

    {.name = "address", TEXT_IN(SECTION_LISTEN, config_listen, KEY_LISTEN, address,
        "Port 0 picks a free one and reports it."), .required = true},
    {.name = "certificate", TEXT_IN(SECTION_LISTEN, config_listen, KEY_PATH, certificate,
        "PEM file with the certificate and its chain: this listener speaks TLS. Needs `key`."), .reload = RELOAD_CONNECTIONS},
    {.name = "key", TEXT_IN(SECTION_LISTEN, config_listen, KEY_PATH, key,
        "PEM file with the private key of `certificate`."), .reload = RELOAD_CONNECTIONS},
    {.name = "expose", NUMBER_IN(SECTION_LISTEN, config_listen, KEY_BOOL, expose, 0, 1, "true",
        "Answers say which model gave them, from where, in which batch and how long each stage took "
        "(`sluice-*` and `server-timing`).")},
    {.name = "cors", LIST_IN(SECTION_LISTEN, config_listen, KEY_WORDS, cors, cors_count, 128,
        "Origins of web pages that may ask here and read the answers, such as {\"https://app.example\"}; \"*\" alone: of all. "
        "Cookies are not asked for. See oip.md.")},
    {.name = "half_close", NUMBER_IN(SECTION_LISTEN, config_listen, KEY_CHOICE, half_close_answers, 0, 0, "cancel",
        "HTTP/1.1 clients that end their half of the connection before they are answered (`nc -N`) look like those that have left. "
        "`cancel`: nothing more is computed for them; `answer`: what they have sent whole is answered first."), .choices = "cancel|answer"},

    {.name = "address", TEXT_IN(SECTION_ADMIN, config, KEY_LISTEN, admin.address,
        "Keep it on loopback or a Unix socket."), .required = true, .reload = RELOAD_RESTART},
    {.name = "token_file", TEXT_IN(SECTION_ADMIN, config, KEY_PATH, admin.token_file,
        "File with the bearer token. Without it only `/metrics` and `/healthz` are served.")},

    RULES(SECTION_DEFAULTS, SECTION_DEFAULTS_BATCH, SECTION_DEFAULTS_QUEUE, SECTION_DEFAULTS_DEGRADATION, SECTION_DEFAULTS_CACHE, config_model,)

    {.name = "file", TEXT_IN(SECTION_PREDICTIONS, config, KEY_PATH, predictions.file,
        "Directory for files of JSON lines, compressed by zstd. Made when it is not there.")},
    {.name = "redis", NUMBER(SECTION_PREDICTIONS, KEY_BOOL, predictions.redis, 0, 1, "false",
        "true: into Redis Streams of the `store`, with `file` or without.")},
    {.name = "stream_length", NUMBER(SECTION_PREDICTIONS, KEY_COUNT, predictions.stream_length, 1000, 1ull << 40, "1000000",
        "Records that a stream (one for each instance and loop) holds at least; Redis drops older ones.")},
    {.name = "spool", NUMBER(SECTION_PREDICTIONS, KEY_SIZE, predictions.spool_bytes, 64 * KIB, 1ull << 50, "1GiB",
        "Bytes in `state_dir` of records that wait for a Redis that is away.")},
    {.name = "instance", TEXT_IN(SECTION_PREDICTIONS, config, KEY_PATH, predictions.instance,
        "Stands in each record and in the names of files. Without it: the host's name. Gateways that write to one place "
        "need one each.")},
    PREDICTED(SECTION_PREDICTIONS, config, unlisted., "100%", "hash", "false")
    {.name = "max_bytes", NUMBER(SECTION_PREDICTIONS, KEY_SIZE, predictions.max_bytes, 0, MIB, "16KiB",
        "`full`: bytes of values that a record holds of all inputs, and as many of all outputs; what is behind them is cut.")},
    {.name = "ring", NUMBER(SECTION_PREDICTIONS, KEY_SIZE, predictions.ring_bytes, 4 * MIB, GIB, "8MiB",
        "Records of one loop that may wait for the disk.")},
    {.name = "flush", NUMBER(SECTION_PREDICTIONS, KEY_DURATION, predictions.flush_us, 10 * MS, MIN, "1s",
        "A record is written after so long at most: as much is lost when the process is killed.")},
    {.name = "rotate_size", NUMBER(SECTION_PREDICTIONS, KEY_SIZE, predictions.rotate_bytes, 64 * KIB, 1024 * GIB, "256MiB",
        "A file that would grow larger is closed: synced, and renamed from `.part`.")},
    {.name = "rotate_every", NUMBER(SECTION_PREDICTIONS, KEY_DURATION, predictions.rotate_us, S, 24 * HOUR, "1h",
        "So is one at each multiple of this by UTC's clock.")},
    {.name = "keep", NUMBER(SECTION_PREDICTIONS, KEY_DURATION, predictions.keep_us, 0, 3650 * 24 * HOUR, "0",
        "Closed files of this instance that are older are removed. 0: none are.")},
    {.name = "archive", TEXT_IN(SECTION_PREDICTIONS, config, KEY_PATH, predictions.archive,
        "Directory where closed files of days that are over (UTC) are put together, a file a day; they are removed from `file`. "
        "Made when it is not there.")},
    {.name = "archive_keep", NUMBER(SECTION_PREDICTIONS, KEY_DURATION, predictions.archive_keep_us, 0, 3650 * 24 * HOUR, "0",
        "Files of days that have been over for longer are removed. 0: none are.")},

    {.name = "command", LIST_IN(SECTION_WORKER, config_worker, KEY_WORDS, command, command_count, 256,
        "Program and arguments of a local worker; `--listen` and `--liveness-fd` are added. A name "
        "without a slash is looked for beside `sluice` first, then in PATH.")},
    {.name = "replicas", NUMBER_IN(SECTION_WORKER, config_worker, KEY_COUNT, replicas, 1, 64, "1",
        "How many processes of `command` run.")},
    {.name = "replace", NUMBER_IN(SECTION_WORKER, config_worker, KEY_CHOICE, replace_before, 0, 0, "after",
        "When a reload brings another `command`: `after`, the new process is started when the old one has ended (their "
        "models may not fit into a GPU together); `before`, the old one goes when the new one is ready. One replica at a "
        "time."), .choices = "after|before"},
    {.name = "addresses", LIST_IN(SECTION_WORKER, config_worker, KEY_ADDRESSES, addresses, address_count, 256,
        "Workers that run elsewhere, each one replica.")},
    {.name = "serial", NUMBER_IN(SECTION_WORKER, config_worker, KEY_BOOL, serial, 0, 1, "false",
        "Each of these servers computes one batch at a time, of whatever model: their models take turns for it. "
        "`sluice-worker` says so itself. Not for a Triton, which runs its models side by side.")},

    RULES(SECTION_WORKER, SECTION_WORKER_BATCH, SECTION_WORKER_QUEUE, SECTION_WORKER_DEGRADATION, SECTION_WORKER_CACHE, config_worker, rules.)

    {.name = "worker", LIST_IN(SECTION_MODEL, config_model, KEY_WORKERS, workers, worker_count, CONFIG_MAX_CHOICES,
        "Who serves it; of several the first while it has capacity, the next when that is saturated or away, and so on "
        "(resilience.md). Without it: whichever worker has the model, all alike.")},
    {.name = "critical", NUMBER_IN(SECTION_MODEL, config_model, KEY_BOOL, critical, 0, 1, "false",
        "Its level counts for the instance's, which is the highest of such models.")},
    {.name = "fallback", LIST_IN(SECTION_MODEL, config_model, KEY_WORDS, fallback, fallback_count, CONFIG_MAX_FALLBACK,
        "What answers when it cannot, in order: names of models; `cached`, what is kept of its answers, stale as it may be; "
        "last, if at all, `default`, the answer of the key of that name. See resilience.md.")},
    {.name = "step_timeout", NUMBER_IN(SECTION_MODEL, config_model, KEY_DURATION, step_timeout_us, 0, HOUR, "0",
        "Of each step of its chain but the last: past it the next one is asked. 0: what the steps behind it leave, at "
        "most a second, or the time to wait and 16 times what a row takes where that is more.")},
    {.name = "default", TEXT_IN(SECTION_MODEL, config_model, KEY_PATH, default_answer,
        "File with an answer of the Open Inference Protocol in JSON, of one row, which is given as often as rows were "
        "asked for.")},
    RULES(SECTION_MODEL, SECTION_MODEL_BATCH, SECTION_MODEL_QUEUE, SECTION_MODEL_DEGRADATION, SECTION_MODEL_CACHE, config_model,)
    PREDICTED(SECTION_MODEL_PREDICTIONS, config_model,, NULL, NULL, NULL)

    {.name = "memory", NUMBER(SECTION_CACHE, KEY_SIZE, cache_bytes, 0, 1ull << 50, "256MiB",
        "Bytes of all answers that are kept, and of what keeping them takes. 0: none are; those who ask the same at "
        "once are still computed once.")},

    {.name = "rewards_kept", LIMIT(KEY_COUNT, rewards_kept, 0, 1 << 26, "262144",
        "Requests of experiments with `rewards` that are remembered, for a day at most, so that a reward finds its variant by the "
        "request's id: 16 bytes each, of all loops together. 0: none."), .reload = RELOAD_RESTART},
    {.name = "max_connections", LIMIT(KEY_COUNT, max_connections, 1, 1048576, "65536",
        "Connections of clients. Past it (or when descriptors run out) accepting pauses.")},
    {.name = "max_connections_per_address", LIMIT(KEY_COUNT, max_connections_per_address, 1, 1048576, "1024",
        "Connections of one client address; further ones are closed.")},
    {.name = "max_streams", LIMIT(KEY_COUNT, max_streams, 1, 65536, "128",
        "HTTP/2 streams a connection; further ones get REFUSED_STREAM."), .reload = RELOAD_CONNECTIONS},
    {.name = "max_headers", LIMIT(KEY_COUNT, max_headers, 8, 10000, "100",
        "Header fields of a request; past it 431."), .reload = RELOAD_CONNECTIONS},
    {.name = "max_header_bytes", LIMIT(KEY_SIZE, max_header_bytes, KIB, MIB, "32KiB",
        "Names, values and 32 bytes a field; past it 431. An HTTP/2 header block of more than four times as many "
        "ends its connection."), .reload = RELOAD_CONNECTIONS},
    {.name = "max_target", LIMIT(KEY_SIZE, max_target, 64, MIB, "8KiB",
        "Bytes of the request target; past it 414."), .reload = RELOAD_CONNECTIONS},
    {.name = "max_body", LIMIT(KEY_SIZE, max_body, KIB, 4 * GIB, "64MiB",
        "Bytes of a request's body, also after decompression; past it 413."), .reload = RELOAD_CONNECTIONS},
    {.name = "max_answer", LIMIT(KEY_SIZE, max_answer, KIB, 4 * GIB, "256MiB",
        "Bytes of a worker's answer; past it 502.")},
    {.name = "bytes_in_flight", LIMIT(KEY_SIZE, bytes_in_flight, 0, 1ull << 50, "0",
        "Bytes of all requests and their answers at once; past it 503, the lowest priority first: a request that "
        "has been read goes on while all others together hold no more than 15/16 of it (priority 2, or none), 3/4 "
        "(3, 4) or half (5 and more); with priority 1 always. Before its body is read a request has no priority. "
        "0: a quarter of the memory.")},
    {.name = "abuse_budget", LIMIT(KEY_COUNT, abuse_budget, 10, 1000000, "200",
        "Points a connection may spend on empty frames, PINGs and malformed streams before it is cut. So many "
        "resets of its own, and eight times max_streams more, before it takes no new streams; each answer pays "
        "for one."), .reload = RELOAD_CONNECTIONS},
    {.name = "header_timeout", LIMIT(KEY_DURATION, header_timeout_us, 10 * MS, HOUR, "10s",
        "From accept (TLS handshake included), or from the first byte of a later request, to the "
        "end of the header."), .reload = RELOAD_CONNECTIONS},
    {.name = "body_timeout", LIMIT(KEY_DURATION, body_timeout_us, 10 * MS, HOUR, "10s",
        "Longest gap within a body; past it 408."), .reload = RELOAD_CONNECTIONS},
    {.name = "body_min_rate", LIMIT(KEY_COUNT, body_min_rate, 0, 1ull << 30, "500",
        "Bytes a second that a body must bring, over 20 s; below it 408. 0: any."), .reload = RELOAD_CONNECTIONS},
    {.name = "idle_timeout", LIMIT(KEY_DURATION, idle_timeout_us, 10 * MS, 24 * HOUR, "75s",
        "A connection without a request is closed after this."), .reload = RELOAD_CONNECTIONS},
    {.name = "send_timeout", LIMIT(KEY_DURATION, send_timeout_us, 10 * MS, HOUR, "30s",
        "A client that takes nothing of its answer for so long is closed."), .reload = RELOAD_CONNECTIONS},
    {.name = "stream_stall", LIMIT(KEY_DURATION, stream_stall_us, 10 * MS, HOUR, "10s",
        "An HTTP/2 stream whose answer is held by a zero window for so long is reset."), .reload = RELOAD_CONNECTIONS},
    {.name = "deadline_default", LIMIT(KEY_DURATION, deadline_default_us, MS, 24 * HOUR, "30s",
        "Deadline of a request that names none; past it 504.")},
    {.name = "deadline_max", LIMIT(KEY_DURATION, deadline_max_us, MS, 24 * HOUR, "10m",
        "Longest deadline that a request may ask for; more is cut to it.")},

    {.name = "access", TEXT_IN(SECTION_LOG, config, KEY_PATH, log.access,
        "File of the access log, opened again on SIGUSR1; \"-\" is standard output, \"off\" none (the "
        "default).")},
    {.name = "sample", NUMBER(SECTION_LOG, KEY_SHARE, log.sample_ppm, 0, 1000000, "100%",
        "Share of the requests that are logged. Failed ones always are.")},
    {.name = "ring", NUMBER(SECTION_LOG, KEY_SIZE, log.ring_bytes, 64 * KIB, GIB, "4MiB",
        "Log lines of one loop that may wait for the disk; more are dropped and counted."), .reload = RELOAD_RESTART},
    {.name = "level", NUMBER(SECTION_LOG, KEY_CHOICE, log.level, 0, 0, "info",
        "Events below it are not written to standard error. `sluicectl loglevel` changes it while we run. "
        "`debug` tells of every batch."),
        .choices = "debug|info|warn|error"},
    {.name = "explain", NUMBER(SECTION_LOG, KEY_COUNT, log.explain, 0, 65536, "2048",
        "The last requests of each loop that are remembered for `sluicectl explain`, in 1.8 KiB each. 0: none.")},

    {.name = "interval", NUMBER(SECTION_HEALTH, KEY_DURATION, health.interval_us, 10 * MS, HOUR, "1s",
        "Time between two probes of a worker.")},
    {.name = "timeout", NUMBER(SECTION_HEALTH, KEY_DURATION, health.timeout_us, 10 * MS, HOUR, "2s",
        "A probe without an answer for so long has failed.")},
    {.name = "failures", NUMBER(SECTION_HEALTH, KEY_COUNT, health.failures, 1, 100, "3",
        "Failed probes in a row that take a worker out; one good probe takes it in.")},

    {.name = "redis", TEXT_IN(SECTION_STORE, config, KEY_REDIS, store.redis,
        "A server alone. Without a database's number: 0.")},
    {.name = "sentinels", LIST_IN(SECTION_STORE, config, KEY_PEERS, store.sentinels, store.sentinel_count, 64,
        "Sentinels, asked for `master` in this order.")},
    {.name = "master", TEXT_IN(SECTION_STORE, config, KEY_PATH, store.master,
        "The name that the Sentinels have for the master.")},
    {.name = "cluster", LIST_IN(SECTION_STORE, config, KEY_PEERS, store.cluster, store.cluster_count, 64,
        "Some nodes of a Cluster; they tell of the others.")},
    {.name = "timeout", NUMBER(SECTION_STORE, KEY_DURATION, store.timeout_us, MS, 10 * S, "20ms",
        "A command without an answer for so long is given up: so long at most a request waits for the store.")},
    {.name = "user", TEXT_IN(SECTION_STORE, config, KEY_PATH, store.user,
        "User of an access control list. Needs `password_file`.")},
    {.name = "password_file", TEXT_IN(SECTION_STORE, config, KEY_PATH, store.password_file,
        "File with the password, in its first line; read again by every reload.")},
    {.name = "sentinel_user", TEXT_IN(SECTION_STORE, config, KEY_PATH, store.sentinel_user,
        "The same toward the Sentinels.")},
    {.name = "sentinel_password_file", TEXT_IN(SECTION_STORE, config, KEY_PATH, store.sentinel_password_file,
        "The same toward the Sentinels. Without it they are asked without a password.")},
    {.name = "tls", NUMBER(SECTION_STORE, KEY_BOOL, store.tls, 0, 1, "false",
        "Every connection of the store is TLS; `rediss://` says the same. Wants a build with hiredis 1.0 or later.")},
    {.name = "ca", TEXT_IN(SECTION_STORE, config, KEY_PATH, store.ca,
        "PEM file of the authorities that servers' certificates are checked against. Without it: the system's.")},
    {.name = "certificate", TEXT_IN(SECTION_STORE, config, KEY_PATH, store.certificate,
        "PEM file with the certificate, and its chain, that is shown to servers that ask for one. Needs `key`.")},
    {.name = "key", TEXT_IN(SECTION_STORE, config, KEY_PATH, store.key,
        "PEM file with the private key of `certificate`.")},
    {.name = "deployment", TEXT_IN(SECTION_STORE, config, KEY_PATH, store.deployment,
        "All keys begin with `sluice:DEPLOYMENT:`. Instances that say the same share what they store. Without it: "
        "`default`.")},

    {.name = "key", TEXT_IN(SECTION_LAYER, config_layer, KEY_TRAIT, key,
        "The sticky key of all its experiments."), .required = true},
    {.name = "salt", TEXT_IN(SECTION_LAYER, config_layer, KEY_PATH, salt,
        "Goes into the hash that gives keys their slice. Without it: the title. Another one deals all keys anew.")},

    {.name = "model", TEXT_IN(SECTION_EXPERIMENT, config_experiment, KEY_PATH, model,
        "The name that clients ask for: a model's, which is the control's then, or a name of its own."), .required = true},
    {.name = "key", TEXT_IN(SECTION_EXPERIMENT, config_experiment, KEY_TRAIT, key,
        "The sticky key. Requests without it take no part."), .standard = "request-id"},
    {.name = "salt", TEXT_IN(SECTION_EXPERIMENT, config_experiment, KEY_PATH, salt,
        "Goes into the hash that draws the variant. Without it: the title. Another one draws all keys anew.")},
    {.name = "holdout", NUMBER_IN(SECTION_EXPERIMENT, config_experiment, KEY_SHARE, holdout_ppm, 0, 1000000, "0%",
        "Share of the keys that take no part. In a layer: what no slice has.")},
    {.name = "layer", TEXT_IN(SECTION_EXPERIMENT, config_experiment, KEY_PATH, layer,
        "Title of the layer that it is in, whose key is its key.")},
    {.name = "from", NUMBER_IN(SECTION_EXPERIMENT, config_experiment, KEY_SHARE, from_ppm, 0, 1000000, "0%",
        "Where its slice of the layer begins.")},
    {.name = "to", NUMBER_IN(SECTION_EXPERIMENT, config_experiment, KEY_SHARE, to_ppm, 0, 1000000, "100%",
        "Where its slice of the layer ends.")},
    {.name = "draft", NUMBER_IN(SECTION_EXPERIMENT, config_experiment, KEY_BOOL, draft, 0, 1, "false",
        "It waits for `sluicectl experiment resume`: until then all get the control.")},
    {.name = "rewards", LIST_IN(SECTION_EXPERIMENT, config_experiment, KEY_WORDS, rewards, reward_count, CONFIG_MAX_REWARDS,
        "Names of what clients may post of an answer that they had, to `/sluice/v1/feedback`.")},
    {.name = "force_key_file", TEXT_IN(SECTION_EXPERIMENT, config_experiment, KEY_PATH, force_key_file,
        "File with the key, 16 bytes or more, that testers' `sluice-variant` is signed with. Without it nobody can say "
        "which variant he wants. Read again by every reload.")},

    {.name = "header", LIST_IN(SECTION_EXPERIMENT_TARGET, config_experiment, KEY_WORDS, target_header, target_headers, CONFIG_MAX_TARGETS,
        "\"NAME: VALUE\" of header fields or gRPC metadata. Each name needs one of its values.")},
    {.name = "tenant", LIST_IN(SECTION_EXPERIMENT_TARGET, config_experiment, KEY_WORDS, target_tenant, target_tenants, CONFIG_MAX_TARGETS,
        "Values of the header field that `tenant` at the top of the file names; without that key, of `sluice-tenant`.")},
    {.name = "parameter", LIST_IN(SECTION_EXPERIMENT_TARGET, config_experiment, KEY_WORDS, target_parameter, target_parameters, CONFIG_MAX_TARGETS,
        "\"NAME=VALUE\" of the request's parameters. Each name needs one of its values.")},

    {.name = "errors", NUMBER_IN(SECTION_EXPERIMENT_GUARD, config_experiment, KEY_BOOL, guard.errors, 0, 1, "false",
        "A variant that fails (500 and above) more often than the control.")},
    {.name = "fallbacks", NUMBER_IN(SECTION_EXPERIMENT_GUARD, config_experiment, KEY_BOOL, guard.fallbacks, 0, 1, "false",
        "A variant whose answers come more often from another model than the control's do.")},
    {.name = "max_errors", NUMBER_IN(SECTION_EXPERIMENT_GUARD, config_experiment, KEY_SHARE, guard.max_errors_ppm, 0, 999999, "0%",
        "A variant that fails more often than this. 0%: no such guard.")},
    {.name = "max_fallbacks", NUMBER_IN(SECTION_EXPERIMENT_GUARD, config_experiment, KEY_SHARE, guard.max_fallbacks_ppm, 0, 999999, "0%",
        "A variant of whose answers a larger share comes from another model. 0%: no such guard.")},
    {.name = "max_p99", NUMBER_IN(SECTION_EXPERIMENT_GUARD, config_experiment, KEY_DURATION, guard.max_p99_us, 0, HOUR, "0",
        "A variant of whose answers more than 1% take longer, by up to a sixteenth. 0: no such guard.")},
    {.name = "reward", TEXT_IN(SECTION_EXPERIMENT_GUARD, config_experiment, KEY_PATH, guard.reward,
        "One of the experiment's `rewards`: a variant whose requests have less of it than the control's. It is what is posted "
        "by the request's id, the first time.")},
    {.name = "reward_max", NUMBER_IN(SECTION_EXPERIMENT_GUARD, config_experiment, KEY_COUNT, guard.reward_max, 1, 1000000000, "1",
        "The most that a request can have of it. A reward above it counts as this, one below 0 as 0, for the guard alone.")},
    {.name = "reward_within", NUMBER_IN(SECTION_EXPERIMENT_GUARD, config_experiment, KEY_DURATION, guard.reward_within_us, 2000000, 12 * HOUR, "1m",
        "How long after its answer a request's reward is waited for; the guard looks at no request before. One that comes later is not "
        "looked at.")},
    {.name = "min_reward", NUMBER_IN(SECTION_EXPERIMENT_GUARD, config_experiment, KEY_SHARE, guard.min_reward_ppm, 0, 999999, "0%",
        "A variant whose requests have less of it in the mean, as a share of `reward_max`. 0%: no such guard.")},
    {.name = "min_requests", NUMBER_IN(SECTION_EXPERIMENT_GUARD, config_experiment, KEY_COUNT, guard.min_requests, 1, 1000000000, "100",
        "Nothing is said of a variant with fewer.")},

    {.name = "variant", TEXT_IN(SECTION_EXPERIMENT_RAMP, config_experiment, KEY_PATH, ramp.variant,
        "Title of the variant that is ramped. Its weight in the file is 0% or one of the steps.")},
    {.name = "steps", LIST_IN(SECTION_EXPERIMENT_RAMP, config_experiment, KEY_SHARES, ramp.steps, ramp.n_steps, CONFIG_MAX_STEPS,
        "Its weights, one after the other. Without it: {1%, 5%, 25%, 50%, 100%}.")},
    {.name = "wait", NUMBER_IN(SECTION_EXPERIMENT_RAMP, config_experiment, KEY_DURATION, ramp.wait_us, 1000000, 30 * 24 * HOUR, "1h",
        "How long each step lasts, without anything that holds it.")},
    {.name = "min_requests", NUMBER_IN(SECTION_EXPERIMENT_RAMP, config_experiment, KEY_COUNT, ramp.min_requests, 0, 1000000000, "100",
        "And how many requests the variant has had in it.")},
    {.name = "reward", TEXT_IN(SECTION_EXPERIMENT_BANDIT, config_experiment, KEY_PATH, bandit.reward,
        "One of the experiment's `rewards`. More of it, on each request, is better.")},
    {.name = "floor", NUMBER_IN(SECTION_EXPERIMENT_BANDIT, config_experiment, KEY_SHARE, bandit.floor_ppm, 10000, 500000, "1%",
        "No weight falls below it.")},
    {.name = "step", NUMBER_IN(SECTION_EXPERIMENT_BANDIT, config_experiment, KEY_SHARE, bandit.step_ppm, 10000, 1000000, "5%",
        "No weight moves by more at a time.")},
    {.name = "every", NUMBER_IN(SECTION_EXPERIMENT_BANDIT, config_experiment, KEY_DURATION, bandit.every_us, 1000000, 24 * HOUR, "1m",
        "How often they are reckoned anew.")},
    {.name = "min_requests", NUMBER_IN(SECTION_EXPERIMENT_BANDIT, config_experiment, KEY_COUNT, bandit.min_requests, 2, 1000000000, "100",
        "Of each variant, before anything moves.")},

    {.name = "model", TEXT_IN(SECTION_EXPERIMENT_VARIANT, config_variant, KEY_PATH, model,
        "The model that answers, with its own fallback and cache."), .required = true},
    {.name = "weight", LIST_IN(SECTION_EXPERIMENT_VARIANT, config_variant, KEY_SHARES, weight, weights, CONFIG_MAX_WEIGHTS,
        "Share of the keys; the weights of an experiment add up to 100%. A list has those before it, the oldest first, so "
        "that a change moves no more keys than it must."), .required = true},

    {.name = "model", TEXT_IN(SECTION_EXPERIMENT_SHADOW, config_shadow, KEY_PATH, model,
        "The model that is asked; without its fallback and its cache."), .required = true},
    {.name = "share", NUMBER_IN(SECTION_EXPERIMENT_SHADOW, config_shadow, KEY_SHARE, share_ppm, 0, 1000000, "10%",
        "Share of the keys that the control has whose requests are copied. Those of an experiment add up to 100% at most.")},
    {.name = "compare", NUMBER_IN(SECTION_EXPERIMENT_SHADOW, config_shadow, KEY_SHARE, compare_ppm, 0, 1000000, "100%",
        "Share of its answers that are compared.")},
    {.name = "tolerance", NUMBER_IN(SECTION_EXPERIMENT_SHADOW, config_shadow, KEY_SHARE, tolerance_ppm, 0, 1000000, "0.1%",
        "Two numbers with a fraction are equal when they are so near: of the larger one, or of 1 where both are smaller.")},
    {.name = "timeout", NUMBER_IN(SECTION_EXPERIMENT_SHADOW, config_shadow, KEY_DURATION, timeout_us, 1000, HOUR / 6, "10s",
        "Its own deadline, from the control's answer on. For so long, at most, the request's memory is held.")},
};
// clang-format on
const unsigned config_key_count = sizeof(config_keys) / sizeof(config_keys[0]);
_Static_assert(sizeof(config_keys) / sizeof(config_keys[0]) ==
                   138 + 21 + 7 + 5 + 2 + 9 + 1 + 4 + 2 + 4 + 2,
               "count the rows, and their tests");

const struct config_key *config_key_find(enum section_id section, struct view name)
{
    for (unsigned i = 0; i < config_key_count; i++)
        if (config_keys[i].section == section && view_is(name, config_keys[i].name))
            return &config_keys[i];
    return NULL;
}

enum section_id config_section_find(enum section_id parent, struct view name)
{
    for (enum section_id s = SECTION_LISTEN; s < SECTION_KINDS; s++)
        if (config_sections[s].parent == parent && view_is(name, config_sections[s].name))
            return s;
    return SECTION_KINDS;
}

#define NEAR_MAX 40 // longer words are near to nothing

// Optimal string alignment distance (Damerau-Levenshtein without edits of edits): insert, delete,
// replace, and swap of neighbours cost one each.
static unsigned distance(const char *a, size_t n, const char *b, size_t m)
{
    unsigned row[3][NEAR_MAX + 1];
    for (size_t j = 0; j <= m; j++)
        row[0][j] = (unsigned)j;
    for (size_t i = 1; i <= n; i++) {
        unsigned *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];
        now[0] = (unsigned)i;
        for (size_t j = 1; j <= m; j++) {
            unsigned best = last[j - 1] + (a[i - 1] != b[j - 1]);
            if (last[j] + 1 < best)
                best = last[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
    }
    return row[n % 3][m];
}

const char *config_nearest(enum section_id section, struct view came)
{
    if (came.n == 0 || came.n > NEAR_MAX)
        return NULL;
    const char *best = NULL;
    unsigned best_distance = 1 + (unsigned)came.n / 3;
    for (unsigned i = 0; i < config_key_count + SECTION_KINDS; i++) {
        const char *name;
        if (i < config_key_count) {
            if (config_keys[i].section != section)
                continue;
            name = config_keys[i].name;
        } else {
            enum section_id s = (enum section_id)(i - config_key_count);
            if (s == SECTION_TOP || config_sections[s].parent != section)
                continue;
            name = config_sections[s].name;
        }
        unsigned d = distance(came.p, came.n, name, strlen(name));
        if (came.n >= 3 && strncmp(name, came.p, came.n) == 0 && d > 2)
            d = 2; // the beginning of a longer name
        if (d <= best_distance && (!best || d < best_distance)) {
            best = name;
            best_distance = d;
        }
    }
    return best;
}

bool config_key_is_list(const struct config_key *k)
{
    return k->type == KEY_WORDS || k->type == KEY_COUNTS || k->type == KEY_ADDRESSES ||
           k->type == KEY_PEERS || k->type == KEY_SHARES || k->type == KEY_WORKERS;
}

static void print_bound(const struct config_key *k, uint64_t v, char out[32])
{
    switch (k->type) {
    case KEY_DURATION:
        value_print_duration(out, v);
        break;
    case KEY_SIZE:
        value_print_size(out, v);
        break;
    case KEY_SHARE:
        value_print_share(out, v);
        break;
    default:
        snprintf(out, 32, "%" PRIu64, v);
    }
}

void config_key_expects(const struct config_key *k, char *out, size_t size)
{
    static const char *const kinds[] = {
        [KEY_COUNT] = "a whole number",
        [KEY_DURATION] = "a duration such as \"2ms\" or \"5s\"",
        [KEY_SIZE] = "a size such as \"64MiB\"",
        [KEY_SHARE] = "a share such as \"12.5%\"",
        [KEY_BOOL] = "true or false",
        [KEY_PATH] = "a text that is not empty",
        [KEY_LISTEN] = "\"IP:PORT\", \"[IPV6]:PORT\" or \"unix:PATH\"",
        [KEY_WORDS] = "a list of texts {\"a\", \"b\"}",
        [KEY_COUNTS] = "an ascending list of whole numbers {8, 16}",
        [KEY_REDIS] = "\"redis://HOST[:PORT][/DATABASE]\", \"rediss://...\" or \"unix:PATH\"",
        [KEY_WORKERS] = "the title of a worker section, or a list of them {\"a\", \"b\"} with the "
                        "preferred first",
        [KEY_PEERS] = "a list of \"HOST:PORT\"",
        [KEY_TRAIT] = "\"request-id\", \"api-key\", \"header:NAME\", \"cookie:NAME\", "
                      "\"parameter:NAME\" or \"jwt:CLAIM\"",
        [KEY_SHARES] = "a share such as \"12.5%\", or a list of them",
        [KEY_ADDRESSES] = "a list of \"grpc://HOST:PORT\", \"grpcs://HOST:PORT\" or \"unix:PATH\"",
    };
    char low[32], high[32];
    if (k->type == KEY_CHOICE) {
        snprintf(out, size, strchr(k->choices, '|') ? "one of %s" : "%s", k->choices);
        return;
    }
    if (k->type > KEY_SHARE) {
        snprintf(out, size, "%s", kinds[k->type]);
        return;
    }
    print_bound(k, k->min, low);
    print_bound(k, k->max, high);
    snprintf(out, size, "%s%s from %s to %s", k->automatic ? "auto, or " : "", kinds[k->type], low,
             high);
}
