/* bench/base.c: nanoseconds per operation of the parts of base/ that every request passes through.
 * Usage: base [seconds per row, default 0.2] */
#include "base/arena.h"
#include "base/hist.h"
#include "base/json.h"
#include "base/mpsc.h"
#include "base/num.h"
#include "base/rand.h"
#include "base/wheel.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double seconds_per_row = 0.2;

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

// Runs `row` (which does `ops` operations) until the time is up and prints the best pass.
static void measure(const char *name, double ops, void (*row)(void *), void *arg)
{
    double best = 1e9, until = now_s() + seconds_per_row;
    for (double t0 = now_s(), t1; t0 < until; t0 = t1) {
        row(arg);
        t1 = now_s();
        if (t1 - t0 < best)
            best = t1 - t0;
    }
    printf("%-44s %8.1f ns\n", name, best * 1e9 / ops);
}

#define PASSES 500

static void parse_f32(void *arg)
{
    const struct view *text = arg;
    float out[1024];
    for (int i = 0; i < PASSES; i++) {
        struct json_reader r;
        size_t n;
        json_read(&r, *text);
        json_next(&r);
        if (json_numbers_f32(&r, out, 1024, &n) != JSON_ARRAY_END)
            abort();
    }
}

// PASSES pictures: another one each time, or the branch predictor would know them by heart.
static void parse_pictures(void *arg)
{
    const struct view *pictures = arg;
    float out[64];
    for (int i = 0; i < PASSES; i++) {
        struct json_reader r;
        size_t n;
        json_read(&r, pictures[i]);
        json_next(&r);
        if (json_numbers_f32(&r, out, 64, &n) != JSON_ARRAY_END)
            abort();
    }
}

// Half of the grey values of a digit are 0, the others 1 to 16.
static void draw_pictures(struct buffer *text, struct view *pictures, struct rand *r)
{
    static size_t start[PASSES + 1];
    for (int i = 0; i < PASSES; i++) {
        start[i] = buffer_len(text);
        for (int k = 0; k < 64; k++) {
            char number[8];
            unsigned v = rand_below(r, 2) ? 0 : 1 + (unsigned)rand_below(r, 16);
            int n = snprintf(number, sizeof(number), "%c%u", k ? ',' : '[', v);
            buffer_append(text, number, (size_t)n);
        }
        buffer_append(text, "]", 1);
    }
    start[PASSES] = buffer_len(text);
    for (int i = 0; i < PASSES; i++)
        pictures[i] = view_of(text->data + start[i], start[i + 1] - start[i]);
}

static void print_f32(void *arg)
{
    struct buffer b;
    buffer_init(&b);
    for (int i = 0; i < PASSES; i++) {
        struct json_writer w;
        buffer_reset(&b);
        json_write(&w, &b);
        json_w_f32_array(&w, arg, 10);
    }
    buffer_deinit(&b);
}

static void print_f64(void *arg)
{
    const double *v = arg;
    char out[32];
    for (int i = 0; i < PASSES; i++)
        for (int k = 0; k < 10; k++)
            num_print_f64(out, v[k]);
}

static void timer_fired(struct wheel_timer *t, uint64_t now_us)
{
}

static void wheel_pair(void *arg)
{
    static struct wheel w;
    static struct wheel_timer t = {.fn = timer_fired};
    wheel_init(&w, 1000000);
    for (int i = 0; i < PASSES; i++) {
        wheel_set(&w, &t, 1000000 + 30000000 + (uint64_t)i);
        wheel_cancel(&w, &t);
    }
}

static void mpsc_pair(void *arg)
{
    static struct mpsc q;
    static struct mpsc_node nodes[64];
    mpsc_init(&q);
    for (int i = 0; i < PASSES; i++) {
        for (int k = 0; k < 64; k++)
            mpsc_push(&q, &nodes[k]);
        for (int k = 0; k < 64; k++)
            if (!mpsc_pop(&q))
                abort();
    }
}

static void arena_cycle(void *arg)
{
    for (int i = 0; i < PASSES; i++) {
        struct arena a;
        arena_init(&a, 0);
        for (int k = 0; k < 10; k++)
            *(volatile char *)arena_alloc(&a, 64) = 1;
        arena_deinit(&a);
    }
}

static void hist_row(void *arg)
{
    static struct hist h;
    for (int i = 0; i < PASSES; i++)
        hist_add(&h, (uint64_t)i * 37);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        seconds_per_row = atof(argv[1]);
    struct buffer text;
    buffer_init(&text);
    struct rand r;
    rand_seed(&r, 1);

    static struct view pictures[PASSES];
    struct buffer drawn;
    buffer_init(&drawn);
    draw_pictures(&drawn, pictures, &r);
    measure("parse pictures, each of 64 grey values", 64.0 * PASSES, parse_pictures, pictures);
    buffer_deinit(&drawn);

    buffer_append(&text, "[", 1);
    for (int i = 0; i < 64; i++) {
        char number[48];
        int n = snprintf(number, sizeof(number), "%s%.6f", i ? "," : "", rand_unit(&r));
        buffer_append(&text, number, (size_t)n);
    }
    buffer_append(&text, "]", 1);
    struct view six = buffer_view(&text);
    measure("parse 64 floats of 6 decimals, each", 64.0 * PASSES, parse_f32, &six);

    float probabilities[10];
    double doubles[10];
    for (int i = 0; i < 10; i++) {
        doubles[i] = rand_unit(&r);
        probabilities[i] = (float)doubles[i];
    }
    buffer_reset(&text);
    struct json_writer w;
    json_write(&w, &text);
    json_w_array(&w);
    for (int i = 0; i < 64; i++)
        json_w_f64(&w, rand_unit(&r));
    json_w_array_end(&w);
    struct view full = buffer_view(&text);
    measure("parse 64 floats of 16 to 17 digits, each", 64.0 * PASSES, parse_f32, &full);

    measure("print 10 floats, each", 10.0 * PASSES, print_f32, probabilities);
    measure("print 10 doubles, each", 10.0 * PASSES, print_f64, doubles);
    measure("wheel: set and cancel", PASSES, wheel_pair, NULL);
    measure("mpsc: push and pop, one thread", 64.0 * PASSES, mpsc_pair, NULL);
    measure("arena: a request's life, 10 allocations", PASSES, arena_cycle, NULL);
    measure("histogram: add", PASSES, hist_row, NULL);
    buffer_deinit(&text);
    arena_thread_done();
    return 0;
}
