/* bench/predictions.c: what a record of the prediction log costs, in CPU of all threads: packed into chunks by one thread, as
 * a loop does it; printed, compressed and written by another, as the writer does it, both with the gateway's own code. The
 * directory is real; the disk is not waited for. One answer in eight has other values than the one before it; each has its
 * own id, times and hash.
 * With a Redis: into a stream, by the writer's loop and client, at most 1,024 commands without an answer. What Redis itself
 * takes is told by itself, from /proc.
 * --writers: so many such processes at once, each with an instance and a stream of its own and that many records; from when
 * all are ready until the last one has the answer for its last record.
 * Usage: predictions [records, default 1000000] [full: values instead of hashes | said: three parameters and two headers each |
 *                    unix:PATH of a Redis [--writers N]] */
#include "base/check.h"
#include "base/num.h"
#include "base/rand.h"
#include "gateway/chunks.h"
#include "gateway/record_files.h"
#include "gateway/record_stream.h"
#include "gateway/store_plan.h"
#include "infer/prediction.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PIXELS 16
#define CLASSES 3
#define RING (64ull << 20)
#define FRAME_BYTES (256u << 10)
#define WRITERS_MOST 64

static struct chunks chunks;
static struct record_files files;
static _Atomic bool over;
static uint64_t wanted = 1000000, written, line_bytes, packed_bytes;
static double cpu[2];
static char instance[32];

static double thread_cpu(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void put(struct buffer *lines)
{
    line_bytes += buffer_len(lines);
    invariant(record_files_put(&files, buffer_view(lines), 1764175000000000));
    buffer_reset(lines);
}

static void print(struct buffer *lines, const struct chunk *c)
{
    for (uint64_t at = 0; at < c->used; at += prediction_bytes(c->data + at)) {
        struct prediction_place place = {.instance = view_str(instance),
                                         .ms = 1764175000123 + written / 1000,
                                         .seq = written % 1000};
        invariant(prediction_print(lines, c->data + at, &place));
        written++;
        if (buffer_len(lines) >= FRAME_BYTES)
            put(lines);
    }
}

// ---- into a stream -------------------------------------------------------------------------------------

static struct record_stream stream;
static struct store_plan plan = {.refs = 1, .prefix = "sluice:bench:"};
static struct addr redis_addr;

static void on_room(void *ctx)
{
    (void)ctx;
}

static void renew(void *ctx, unsigned loop, uint64_t *ms, uint64_t *seq)
{
    (void)ctx;
    (void)loop;
    (void)ms;
    ++*seq;
}

static void print_into_stream(struct buffer *line, const struct chunk *c, struct loop *l)
{
    for (uint64_t at = 0; at < c->used; at += prediction_bytes(c->data + at)) {
        struct prediction_place place = {.instance = view_str(instance),
                                         .ms = 1764175000123 + written / 1000,
                                         .seq = written % 1000};
        buffer_reset(line);
        invariant(prediction_print(line, c->data + at, &place));
        line_bytes += buffer_len(line);
        struct view text = view_of(line->data, buffer_len(line) - 1);
        while (!record_stream_has_room(&stream) || stream.queued > (1u << 20))
            loop_turn(l, true);
        invariant(record_stream_put(&stream, 0, place.ms, place.seq, text));
        if (++written % 64 == 0)
            loop_turn(l, false);
    }
}

static void *stream_writer(void *arg)
{
    struct loop *l = loop_new(1, "writer", 1);
    struct buffer line;
    struct record_stream_place place = {
        .plan = &plan, .instance = instance, .most = 100000, .spool_most = 1};
    invariant(l);
    buffer_init(&line);
    record_stream_init(&stream, l);
    stream.on_room = on_room;
    stream.renew = renew;
    record_stream_move(&stream, &place);
    while (!stream.up)
        loop_turn(l, true);
    for (;;) {
        bool last = atomic_load(&over);
        struct chunk *c = chunks_take(&chunks);
        if (c)
            print_into_stream(&line, c, l);
        else if (last && record_stream_is_idle(&stream))
            break;
        else
            loop_turn(l, !record_stream_is_idle(&stream));
        chunk_free(c);
    }
    invariant(atomic_load(&stream.written) == written && atomic_load(&stream.again_there) == 0);
    cpu[1] = thread_cpu();
    record_stream_close(&stream);
    buffer_deinit(&line);
    loop_free(l);
    return arg;
}

// ---- into files ----------------------------------------------------------------------------------------

static void *writer(void *arg)
{
    struct buffer lines;
    buffer_init(&lines);
    for (;;) {
        bool last = atomic_load(&over);
        struct chunk *c = chunks_take(&chunks);
        if (!c && last)
            break;
        if (!c)
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        else
            print(&lines, c);
        chunk_free(c);
    }
    put(&lines);
    record_files_close(&files);
    buffer_deinit(&lines);
    cpu[1] = thread_cpu();
    return arg;
}

struct scene { // one request after the other
    float pixels[PIXELS], answer[CLASSES];
    struct tensor in, out;
    struct infer_request request;
    struct answer all;
    struct slice slice;
    struct param headers[2], parameters[3];
    char id[33];
    struct prediction prediction;
};

static void begin(struct scene *s)
{
    s->headers[0] = (struct param){VIEW("x-country"), .type = PARAM_STRING, .s = VIEW("de")};
    s->headers[1] = (struct param){VIEW("x-user-id"), .type = PARAM_STRING, .s = VIEW("12345678")};
    s->parameters[0] = (struct param){VIEW("top_k"), .type = PARAM_INT64, .i = 5};
    s->parameters[1] = (struct param){VIEW("exact"), .type = PARAM_BOOL, .b = true};
    s->parameters[2] = (struct param){VIEW("lang"), .type = PARAM_STRING, .s = VIEW("en-GB")};
    s->in = (struct tensor){.name = VIEW("input"),
                            .dtype = DT_FP32,
                            .rank = 2,
                            .shape = {1, PIXELS},
                            .data = (const uint8_t *)s->pixels,
                            .bytes = sizeof(s->pixels)};
    s->out = s->in;
    s->out.name = VIEW("output");
    s->out.shape[1] = CLASSES;
    s->out.data = (const uint8_t *)s->answer;
    s->out.bytes = sizeof(s->answer);
    s->request = (struct infer_request){.inputs = &s->in, .n_inputs = 1, .rows = 1};
    s->all = (struct answer){.outputs = &s->out, .n_outputs = 1};
    s->slice = (struct slice){.answer = &s->all};
    s->prediction = (struct prediction){
        .facts = {.outcome = "ok", .source = "model", .reason = "idle", .rows = 1},
        .text = {[PREDICTION_ASKED] = VIEW("digits"), [PREDICTION_VERSION] = VIEW("1")},
        .request = &s->request,
        .answer = &s->slice};
}

static void next(struct scene *s, struct rand *r, uint64_t i)
{
    uint64_t random = rand_u64(r);
    if (i % 8 == 0)
        for (unsigned k = 0; k < PIXELS; k++)
            s->pixels[k] = (float)(rand_u64(r) % 16);
    for (unsigned k = 0; k < CLASSES; k++)
        s->answer[k] = (float)(random >> k & 1023) / 1024;
    num_print_hex(s->id, random);
    num_print_hex(s->id + 16, i);
    s->prediction.text[PREDICTION_ID] = view_of(s->id, 32);
    struct prediction_facts *f = &s->prediction.facts;
    f->wall_us = 1764175000000000 + i * 10;
    f->parse_us = random % 8;
    f->queue_us = random >> 3 & 255;
    f->compute_us = 100 + (random >> 11 & 255);
    f->total_us = f->queue_us + f->compute_us + 20;
    f->batch_rows = 1 + (random >> 20 & 15);
}

enum what { WHAT_HASH, WHAT_FULL, WHAT_SAID, WHAT_REDIS };

static void measure(enum what what, void (*ready)(void))
{
    static struct scene scene;
    struct rand r;
    pthread_t thread;
    struct prediction_rules rules = {.inputs = what == WHAT_FULL ? DETAIL_FULL : DETAIL_HASH,
                                     .outputs = what == WHAT_FULL ? DETAIL_FULL : DETAIL_HASH,
                                     .most = 16384,
                                     .parameters = what == WHAT_SAID};
    begin(&scene);
    if (what == WHAT_SAID) {
        scene.prediction.headers = scene.headers;
        scene.prediction.n_headers = 2;
        scene.request.params = scene.parameters;
        scene.request.n_params = 3;
    }
    rand_seed(&r, 1);
    double idle = thread_cpu();
    for (uint64_t i = 0; i < wanted; i++)
        next(&scene, &r, i);
    double making = thread_cpu() - idle; // of the requests themselves: not the log's
    rand_seed(&r, 1);
    ready();
    invariant(pthread_create(&thread, NULL, what == WHAT_REDIS ? stream_writer : writer, NULL) ==
              0);
    double before = thread_cpu();
    for (uint64_t i = 0; i < wanted; i++) {
        next(&scene, &r, i);
        while (atomic_load(&chunks.bytes) > (int64_t)RING / 2)
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        uint8_t *to = chunks_room(&chunks, prediction_room(&scene.prediction, &rules), false, RING);
        invariant(to); // none is dropped
        size_t n = prediction_pack(to, &scene.prediction, &rules);
        packed_bytes += n;
        chunks_add(&chunks, n, false);
    }
    chunks_end(&chunks);
    cpu[0] = thread_cpu() - before - making;
    atomic_store(&over, true);
    pthread_join(thread, NULL);
    chunks_free(&chunks);
}

static void print_cpu(double n)
{
    printf("CPU a record: %.3f us on the loop, %.3f us in the writer, %.3f us in all\n",
           cpu[0] * 1e6 / n, cpu[1] * 1e6 / n, (cpu[0] + cpu[1]) * 1e6 / n);
}

static void at_once(void)
{
}

static int alone(enum what what)
{
    struct record_place place = {
        .instance = "bench", .rotate_bytes = 64u << 20, .rotate_us = 3600000000};
    char command[PATH_MAX + 16];
    snprintf(place.directory, sizeof(place.directory), "/tmp/sluice-bench-XXXXXX");
    invariant(mkdtemp(place.directory) && record_files_init(&files));
    record_files_move(&files, &place);
    snprintf(instance, sizeof(instance), "gw-%d", (int)getpid());
    measure(what, at_once);
    printf("%llu records: %.0f bytes packed, %.0f a line, %.0f in a file\n",
           (unsigned long long)written, (double)packed_bytes / (double)wanted,
           (double)line_bytes / (double)written, (double)files.written / (double)written);
    print_cpu((double)written);
    record_files_deinit(&files);
    snprintf(command, sizeof(command), "rm -rf %s", place.directory);
    return system(command);
}

// ---- several at once -----------------------------------------------------------------------------------

static int ready_pipe[2], go_pipe[2], told_pipe[2];

static void wait_for_all(void)
{
    char c;
    invariant(write(ready_pipe[1], "", 1) == 1);
    invariant(read(go_pipe[0], &c, 1) == 0); // closed by the one who started us
}

static void be_writer(unsigned i)
{
    close(go_pipe[1]);
    snprintf(instance, sizeof(instance), "gw-%d-%u", (int)getppid(), i + 1);
    measure(WHAT_REDIS, wait_for_all);
    invariant(write(told_pipe[1], cpu, sizeof(cpu)) == sizeof(cpu));
    _exit(0);
}

// Who listens at the other end of the socket.
static pid_t redis_pid(const char *path)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    struct ucred who;
    socklen_t n = sizeof(who);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(to.sun_path, sizeof(to.sun_path), "%s", path);
    invariant(fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0);
    invariant(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) == 0);
    close(fd);
    return who.pid;
}

// Seconds of all its threads (proc(5), /proc/PID/stat: utime and stime).
static double cpu_of(pid_t pid)
{
    char path[64];
    unsigned long user, system;
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "r");
    invariant(f);
    int n =
        fscanf(f, "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
    invariant(n == 2);
    fclose(f);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static double clock_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int together(unsigned writers, const char *path)
{
    double sum[2] = {0};
    char c;
    invariant(pipe(ready_pipe) == 0 && pipe(go_pipe) == 0 && pipe(told_pipe) == 0);
    for (unsigned i = 0; i < writers; i++) {
        pid_t pid = fork();
        invariant(pid >= 0);
        if (pid == 0)
            be_writer(i);
    }
    for (unsigned i = 0; i < writers; i++)
        invariant(read(ready_pipe[0], &c, 1) == 1);
    pid_t redis = redis_pid(path);
    double theirs = cpu_of(redis), begin_s = clock_s();
    close(go_pipe[1]);
    close(told_pipe[1]); // who ends without a word is noticed
    for (unsigned i = 0; i < writers; i++) {
        invariant(read(told_pipe[0], cpu, sizeof(cpu)) == sizeof(cpu));
        sum[0] += cpu[0];
        sum[1] += cpu[1];
    }
    double took_s = clock_s() - begin_s, n = (double)wanted * writers;
    theirs = cpu_of(redis) - theirs;
    for (int status = 0; wait(&status) > 0;)
        invariant(status == 0);
    printf("%.0f records of %u writers in %.2f s: %.0f a second\n", n, writers, took_s, n / took_s);
    cpu[0] = sum[0];
    cpu[1] = sum[1];
    print_cpu(n);
    printf("Redis: %.3f us a record, %.0f %% of a core\n", theirs * 1e6 / n, 100 * theirs / took_s);
    return 0;
}

int main(int argc, char **argv)
{
    const char *word = argc > 2 ? argv[2] : "";
    unsigned long writers = 0;
    enum what what = !*word                      ? WHAT_HASH
                     : strcmp(word, "full") == 0 ? WHAT_FULL
                     : strcmp(word, "said") == 0 ? WHAT_SAID
                                                 : WHAT_REDIS;
    if (argc > 1)
        wanted = strtoull(argv[1], NULL, 10);
    if (argc > 4 && strcmp(argv[3], "--writers") == 0)
        writers = strtoul(argv[4], NULL, 10);
    if (what == WHAT_REDIS) {
        invariant(!addr_parse(&redis_addr, view_str(word), 6379));
        plan.redis = (struct redis_config){.addrs = &redis_addr, .n_addrs = 1};
    }
    if (writers == 0)
        return alone(what);
    if (strncmp(word, "unix:", 5) != 0 || writers > WRITERS_MOST) {
        fprintf(stderr, "--writers: expected 1 to %d, behind unix:PATH\n", WRITERS_MOST);
        return 2;
    }
    return together((unsigned)writers, word + 5);
}
