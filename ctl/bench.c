/* sluice-bench: load on a gateway, in an open loop, and what became of it: at random at a rate, or a prediction log again. */
#include "base/version.h"
#include "ctl/bench_run.h"
#include <curl/curl.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Usage: sluice-bench [OPTIONS] http://HOST:PORT\n"
    "\n"
    "Asks a gateway for predictions, each when it is due, whatever became of those before it, and "
    "tells\n"
    "what came of them. Times are from when a request was due.\n"
    "\n"
    "  --replay FILE      the records of a prediction log (sluicectl log export; - is standard "
    "input)\n"
    "                     that have their inputs in full, in the rhythm in which they came; "
    "answers are\n"
    "                     compared with recorded outputs\n"
    "  --speed FACTOR     replay: so many times as fast (1)\n"
    "  --tolerance T      replay: numbers so far apart are equal, absolute or relative (1e-5)\n"
    "  --tenant-header NAME  replay: the field of a head that says whose a request is\n"
    "  --model MODEL      the model to ask; replay: in place of the recorded ones\n"
    "  --body FILE        the request to send, JSON of the Open Inference Protocol\n"
    "  --rate R           so many requests a second, with exponential gaps (100)\n"
    "  --requests N       so many (1000)\n"
    "  --seed S           of the gaps (1)\n"
    "  --connections N    at most so many at a time (64)\n"
    "  --timeout SECONDS  of a request (30)\n"
    "  --json             figures for programs\n"
    "  --version          print the version\n"
    "  --help             print this\n"
    "\n"
    "Exit status: 0 all were answered with 200, and as recorded; 1 some were not; 2 nothing was "
    "asked.\n";

struct bench_options {
    struct bench_target target;
    const char *replay, *model, *body, *tenant_header;
    double speed, rate;
    unsigned long requests, seed;
    bool json;
};

enum { DONE, NOT_ALL, NOT_ASKED };

static int complain(const char *what, const char *why)
{
    fprintf(stderr, "sluice-bench: %s: %s\n", what, why);
    return NOT_ASKED;
}

// ---- the command line ----------------------------------------------------------------------------------

static bool read_number(const char *text, double low, double high, double *out)
{
    char *end;
    *out = strtod(text, &end);
    return end != text && !*end && *out >= low && *out <= high;
}

// False: said why.
static bool read_value(struct bench_options *o, const char *name, const char *text)
{
    static const struct {
        const char *name;
        double low, high;
    } rows[] = {{"speed", 1e-3, 1e6},   {"tolerance", 0, 1e9}, {"rate", 1e-3, 1e6},
                {"requests", 1, 1e8},   {"seed", 0, 1e15},     {"connections", 1, 10000},
                {"timeout", 1e-2, 3600}};
    double v = 0;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (strcmp(rows[i].name, name) != 0)
            continue;
        if (!read_number(text, rows[i].low, rows[i].high, &v)) {
            fprintf(stderr, "sluice-bench: --%s: expected a number from %g to %g, got \"%.80s\"\n",
                    name, rows[i].low, rows[i].high, text);
            return false;
        }
    }
    if (strcmp(name, "speed") == 0)
        o->speed = v;
    else if (strcmp(name, "tolerance") == 0)
        o->target.tolerance = v;
    else if (strcmp(name, "rate") == 0)
        o->rate = v;
    else if (strcmp(name, "requests") == 0)
        o->requests = (unsigned long)v;
    else if (strcmp(name, "seed") == 0)
        o->seed = (unsigned long)v;
    else if (strcmp(name, "connections") == 0)
        o->target.connections = (unsigned)v;
    else if (strcmp(name, "timeout") == 0)
        o->target.timeout_ms = (long)(v * 1000 + 0.5);
    else if (strcmp(name, "replay") == 0)
        o->replay = text;
    else if (strcmp(name, "model") == 0)
        o->model = text;
    else if (strcmp(name, "tenant-header") == 0)
        o->tenant_header = text;
    else
        o->body = text;
    return true;
}

static bool check(const struct bench_options *o)
{
    const char *wrong = NULL;
    if (!o->target.url || strncmp(o->target.url, "http", 4) != 0)
        wrong = "expected http://HOST:PORT";
    else if (o->replay && o->body)
        wrong = "--body goes without --replay";
    else if (o->tenant_header && (!o->replay || !bench_is_field_name(o->tenant_header)))
        wrong = "--tenant-header: expected the name of a header field, beside --replay";
    else if (!o->replay && (!o->body || !o->model))
        wrong = "expected --replay FILE, or --model MODEL and --body FILE";
    if (wrong)
        fprintf(stderr, "sluice-bench: %s; see sluice-bench --help\n", wrong);
    return !wrong;
}

// -1: go on; else the exit status.
static int read_options(struct bench_options *o, int argc, char **argv)
{
    static const struct option options[] = {{"replay", required_argument, NULL, 'v'},
                                            {"speed", required_argument, NULL, 'v'},
                                            {"tolerance", required_argument, NULL, 'v'},
                                            {"tenant-header", required_argument, NULL, 'v'},
                                            {"model", required_argument, NULL, 'v'},
                                            {"body", required_argument, NULL, 'v'},
                                            {"rate", required_argument, NULL, 'v'},
                                            {"requests", required_argument, NULL, 'v'},
                                            {"seed", required_argument, NULL, 'v'},
                                            {"connections", required_argument, NULL, 'v'},
                                            {"timeout", required_argument, NULL, 'v'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"version", no_argument, NULL, 'V'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    int index, c;
    while ((c = getopt_long(argc, argv, "", options, &index)) != -1) {
        if (c == 'v' && !read_value(o, options[index].name, optarg))
            return NOT_ASKED;
        if (c == 'h' || c == 'V')
            return fputs(c == 'h' ? help : "sluice-bench " SLUICE_VERSION "\n", stdout) < 0
                       ? NOT_ASKED
                       : DONE;
        if (c == '?')
            return NOT_ASKED;
        o->json |= c == 'j';
    }
    o->target.url = argc == optind + 1 ? argv[optind] : NULL;
    return check(o) ? -1 : NOT_ASKED;
}

// ---- what is asked -------------------------------------------------------------------------------------

static int read_records(const struct bench_options *o, struct bench_trace *t)
{
    FILE *f = strcmp(o->replay, "-") == 0 ? stdin : fopen(o->replay, "r");
    char *line = NULL;
    size_t room = 0;
    bool ok = true;
    const struct bench_again how = {.model = o->model, .tenant_header = o->tenant_header};
    if (!f)
        return complain(o->replay, strerror(errno));
    for (ssize_t n; ok && (n = getline(&line, &room, f)) > 0;)
        ok = bench_trace_add(t, view_of(line, (size_t)n), &how);
    free(line);
    if (f != stdin)
        fclose(f);
    if (!ok)
        return complain(o->replay, "a line is no record, or there is no memory");
    bench_trace_sort(t, o->speed);
    return t->n > 0 ? DONE
                    : complain(o->replay, "no record was answered and has its inputs in full");
}

static int read_body(const struct bench_options *o, struct bench_trace *t)
{
    struct buffer body;
    FILE *f = fopen(o->body, "r");
    if (!f)
        return complain(o->body, strerror(errno));
    buffer_init(&body);
    size_t n = 1;
    for (uint8_t *to; n > 0 && (to = buffer_reserve(&body, 65536));)
        buffer_commit(&body, n = fread(to, 1, 65536, f));
    fclose(f);
    bool ok = bench_trace_poisson(t, o->requests, o->rate, o->seed, o->model, buffer_view(&body));
    buffer_deinit(&body);
    return ok ? DONE : complain(o->body, "out of memory");
}

// ---- what came of it -----------------------------------------------------------------------------------

static int by_time(const void *a, const void *b)
{
    const struct bench_request *x = a, *y = b;
    bool good = x->status == 200, other = y->status == 200;
    if (good != other)
        return good ? -1 : 1;
    return (x->took_us > y->took_us) - (x->took_us < y->took_us);
}

// Those that were answered with 200 first, the quickest first; how many.
static size_t sort_answered(struct bench_trace *t)
{
    size_t n = 0;
    qsort(t->at, t->n, sizeof(*t->at), by_time);
    while (n < t->n && t->at[n].status == 200)
        n++;
    return n;
}

static uint64_t quantile(const struct bench_trace *t, size_t answered, double q)
{
    if (answered == 0)
        return 0;
    size_t i = (size_t)ceil(q * (double)answered);
    return t->at[i > 0 ? i - 1 : 0].took_us;
}

static json_t *statuses(const struct bench_trace *t)
{
    json_t *all = json_object();
    char name[16];
    for (size_t i = 0; i < t->n; i++) {
        snprintf(name, sizeof(name), t->at[i].status ? "%d" : "none", t->at[i].status);
        json_object_set_new(all, name,
                            json_integer(json_integer_value(json_object_get(all, name)) + 1));
    }
    return all;
}

static const struct {
    const char *name;
    double q;
} quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}, {"max", 1}};
#define QUANTILES (sizeof(quantiles) / sizeof(quantiles[0]))

static json_t *figures(const struct bench_options *o, const struct bench_trace *t,
                       const struct bench_result *r, size_t answered)
{
    double s = (double)r->took_us / 1e6;
    json_t *took = json_object();
    for (size_t i = 0; i < QUANTILES; i++)
        json_object_set_new(took, quantiles[i].name,
                            json_integer((json_int_t)quantile(t, answered, quantiles[i].q)));
    json_t *all = json_pack("{s:I, s:f, s:f, s:o, s:o}", "requests", (json_int_t)t->n, "seconds", s,
                            "rate", (double)t->n / s, "status", statuses(t), "took_us", took);
    if (o->replay)
        json_object_set_new(all, "replay",
                            json_pack("{s:I, s:I, s:I, s:I, s:f}", "equal", (json_int_t)r->equal,
                                      "different", (json_int_t)r->differ, "not_compared",
                                      (json_int_t)(answered - r->equal - r->differ), "passed_over",
                                      (json_int_t)t->passed_over, "largest_difference", r->worst));
    return all;
}

static void print_table(const struct bench_options *o, const struct bench_trace *t,
                        const struct bench_result *r, size_t answered)
{
    const char *name;
    json_t *all = statuses(t), *n;
    double s = (double)r->took_us / 1e6;
    printf("%zu requests in %.2f s, %.1f a second\n\nSTATUS  REQUESTS\n", t->n, s,
           (double)t->n / s);
    json_object_foreach(all, name, n)
        printf("%-6s  %lld\n", name, (long long)json_integer_value(n));
    json_decref(all);
    printf("\nOF 200     ms\n");
    for (size_t i = 0; i < QUANTILES; i++)
        printf("%-6s  %.3f\n", quantiles[i].name,
               (double)quantile(t, answered, quantiles[i].q) / 1e3);
    if (o->replay)
        printf(
            "\nBESIDE THE RECORDS\nequal         %llu\ndifferent     %llu (largest difference %g)\n"
            "not compared  %llu\npassed over   %llu\n",
            (unsigned long long)r->equal, (unsigned long long)r->differ, r->worst,
            (unsigned long long)(answered - r->equal - r->differ),
            (unsigned long long)t->passed_over);
    if (r->why[0])
        fprintf(stderr, "sluice-bench: some were not answered: %s\n", r->why);
}

static int bench(const struct bench_options *o, struct bench_trace *t)
{
    struct bench_result r;
    if (!bench_run(&o->target, t, &r))
        return complain(o->target.url, "libcurl could not be had");
    size_t answered = sort_answered(t);
    if (o->json) {
        json_t *all = figures(o, t, &r, answered);
        json_dumpf(all, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(all);
    } else {
        print_table(o, t, &r, answered);
    }
    if (fflush(stdout) != 0)
        return complain("standard output", strerror(errno));
    return answered == t->n && r.differ == 0 ? DONE : NOT_ALL;
}

int main(int argc, char **argv)
{
    struct bench_options o = {.target = {.connections = 64, .timeout_ms = 30000, .tolerance = 1e-5},
                              .speed = 1,
                              .rate = 100,
                              .requests = 1000,
                              .seed = 1};
    struct bench_trace t = {0};
    int end = read_options(&o, argc, argv);
    if (end >= 0)
        return end;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
        return complain("libcurl", "cannot be had");
    end = o.replay ? read_records(&o, &t) : read_body(&o, &t);
    if (end == DONE)
        end = bench(&o, &t);
    bench_trace_free(&t);
    curl_global_cleanup();
    return end;
}
