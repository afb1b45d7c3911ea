/* bench/batchsim/arrivals: when rows come in open loops: Poisson, in bursts, or as in a recorded trace. */
#include "bench/batchsim/world.h"
#include <math.h>
#include <stdio.h>

const char *const coming_name[] = {"Poisson", "bursts x4", "closed", "Azure", "Mooncake"};

static struct {
    double *at;
    unsigned n;
} trace[COMINGS];

static double exponential(struct rand *r, double mean)
{
    return -mean * log(1 - rand_unit(r));
}

// Four times the mean rate within a burst, a quarter of it outside: 20 % of the time has 80 % of the rows.
static double next_in_bursts(struct run *r)
{
    double full = time_of(&r->game->regime, r->game->regime.max_rows), at = r->now;
    for (;;) {
        double rate = r->rate * (r->burst ? 4 : 0.25), gap = exponential(&r->coming, 1 / rate);
        if (at + gap < r->phase_end)
            return at + gap;
        at = r->phase_end;
        r->burst = !r->burst;
        r->phase_end = at + exponential(&r->coming, r->burst ? 5 * full : 20 * full);
    }
}

static double next_of_trace(struct run *r)
{
    double span = r->trace[r->n_trace - 1] * r->n_trace / (r->n_trace - 1);
    unsigned i = r->at_trace++;
    double at = r->trace[i % r->n_trace] + span * (i / r->n_trace);
    return fmax(r->now, BEGIN_US + at * (r->n_trace / span) / r->rate);
}

void arrivals_begin(struct run *r)
{
    r->trace = trace[r->game->coming].at;
    r->n_trace = trace[r->game->coming].n;
    r->phase_end = BEGIN_US;
    r->burst = true;
}

void arrivals_next(struct run *r)
{
    double at = r->game->coming == POISSON  ? r->now + exponential(&r->coming, 1 / r->rate)
                : r->game->coming == BURSTS ? next_in_bursts(r)
                                            : next_of_trace(r);
    if (at < r->end)
        event_post(r, at, ROW_COMES);
}

// ---- recorded traces

static double azure_time(const char *line)
{
    int day, hour, minute;
    double second;
    if (sscanf(line, "%*d-%*d-%d %d:%d:%lf", &day, &hour, &minute, &second) != 4)
        return -1;
    return (day * 24.0 + hour) * 3600 + minute * 60 + second;
}

static double mooncake_time(const char *line)
{
    double ms;
    return sscanf(line, "{\"timestamp\": %lf", &ms) == 1 ? ms / 1000 : -1;
}

static void read_trace(const char *folder, enum coming coming, const char *file,
                       double (*time_in)(const char *))
{
    char path[512], line[4096];
    snprintf(path, sizeof(path), "%s/%s", folder, file);
    FILE *f = fopen(path, "r");
    if (!f) {
        printf("skipped: the %s trace: no %s\n", coming_name[coming], path);
        return;
    }
    double *at = must(malloc(sizeof(*at) * 100000)), begin_s = -1;
    unsigned n = 0;
    while (n < 100000 && fgets(line, sizeof(line), f)) {
        double s = time_in(line);
        if (begin_s < 0)
            begin_s = s;
        if (s >= 0)
            at[n++] = s - begin_s;
    }
    fclose(f);
    trace[coming].at = at;
    trace[coming].n = n;
}

void traces_read(const char *folder)
{
    read_trace(folder, AZURE, "azure_llm_2023_conv/AzureLLMInferenceTrace_conv.csv", azure_time);
    read_trace(folder, MOONCAKE, "mooncake_conversation/conversation_trace.jsonl", mooncake_time);
}

bool trace_is_there(enum coming coming)
{
    return trace[coming].n > 0;
}

void traces_free(void)
{
    for (unsigned i = 0; i < COMINGS; i++)
        free(trace[i].at);
}
