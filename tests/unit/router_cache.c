/* router/cache: against a model of it in a slow form, and S3-FIFO against a plain reference written from the paper
 * (algorithm 1), and LRU. SLUICE_CACHE_OPS=10000000 for the long form. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rand.h"
#include "infer/oip_grpc.h"
#include "router/cache.h"
#include <math.h>
#include <stdlib.h>

#define MIB ((int64_t)1 << 20)

static struct block_owner blocks;

static int setup(void **state)
{
    block_owner_init(&blocks);
    block_owner_adopt(&blocks);
    return 0;
}

static int teardown(void **state)
{
    block_owner_deinit(&blocks);
    return 0;
}

static struct cache_id id_of(uint64_t n)
{
    struct cache_id id = {0};
    memcpy(id.key.bytes, &n, sizeof(n));
    return id;
}

// An answer of one output, of so many bytes, each of which says whose it is.
static struct answer *answer_of(uint64_t says, size_t bytes)
{
    struct block *b = block_new(&blocks, bytes ? bytes : 1);
    assert_non_null(b);
    memset(b->data, (int)(says & 0xff), bytes);
    if (bytes >= sizeof(says))
        memcpy(b->data, &says, sizeof(says));
    struct tensor t = {.name = VIEW("y"),
                       .dtype = DT_UINT8,
                       .rank = 2,
                       .shape = {1, (int64_t)bytes},
                       .data = bytes ? b->data : NULL,
                       .bytes = bytes};
    struct answer *a = answer_new(b, &t, 1, 1);
    assert_non_null(a);
    a->version = VIEW("7");
    return a;
}

static bool put(struct cache_of *of, uint64_t key, uint64_t says, size_t bytes, uint64_t now_us)
{
    struct answer *a = answer_of(says, bytes);
    struct slice s = {.answer = a, .rows = 1};
    struct cache_id id = id_of(key);
    bool kept = cache_put(of, &id, &s, atomic_load(&of->figures->epoch), now_us, now_us, &blocks);
    block_unref(a->block);
    return kept;
}

static struct answer *get(struct cache_of *of, uint64_t key)
{
    struct cache_id id = id_of(key);
    struct cache_node *n = cache_find(of, &id);
    struct answer *a = n ? cache_answer(n) : NULL;
    if (a)
        cache_touch(n);
    return a;
}

// ---- against a model of it ------------------------------------------------------------------------------

#define LOOPS 2
#define MODELS 3
#define KEYS 600
#define PINS 16

static struct {
    struct cache_pool pool;
    struct cache *cache[LOOPS];
    struct cache_of *of[LOOPS][MODELS];
    struct cache_figures figures[LOOPS][MODELS];
    struct {
        uint64_t says; // 0: it must not be there
        size_t bytes;
        struct cache_node *led;
    } key[LOOPS][MODELS][KEYS];
    struct block *pin[PINS];
    struct rand rand;
    uint64_t now_us, said;
} w;

static void check_entry(unsigned l, unsigned m, unsigned k)
{
    struct answer *a = get(w.of[l][m], k);
    if (!a)
        return; // it may have been evicted
    assert_int_not_equal(w.key[l][m][k].says, 0);
    assert_int_equal(a->n_outputs, 1);
    assert_int_equal(a->outputs[0].bytes, w.key[l][m][k].bytes);
    assert_true(view_is(a->version, "7") && view_is(a->outputs[0].name, "y"));
    for (size_t i = 8; i < a->outputs[0].bytes; i++)
        assert_int_equal(a->outputs[0].data[i], w.key[l][m][k].says & 0xff);
    if (a->outputs[0].bytes >= 8)
        assert_int_equal(load_u64(a->outputs[0].data), w.key[l][m][k].says);
    unsigned pin = (unsigned)rand_below(&w.rand, 8 * PINS);
    if (pin < PINS) { // somebody is being sent it
        if (w.pin[pin])
            block_unref(w.pin[pin]);
        w.pin[pin] = block_ref(a->block);
    }
}

static void put_entry(unsigned l, unsigned m, unsigned k)
{
    static const size_t most[] = {8, 100, 100, 4000, 4000, 60000, CACHE_ENTRY_BYTES + 5000};
    size_t bytes = rand_below(&w.rand, most[rand_below(&w.rand, 7)]);
    bool kept = put(w.of[l][m], k, ++w.said, bytes, w.now_us);
    assert_true(bytes <= CACHE_ENTRY_BYTES || !kept);
    w.key[l][m][k].says = kept ? w.said : 0;
    w.key[l][m][k].bytes = bytes;
    assert_true(!kept || get(w.of[l][m], k)); // and now it is there
}

static void lead(unsigned l, unsigned m, unsigned k)
{
    static struct ticket leader;
    struct cache_id id = id_of(k);
    if (w.key[l][m][k].led) {
        struct cache_node *n = w.key[l][m][k].led;
        assert_ptr_equal(cache_find(w.of[l][m], &id), n); // C2
        w.key[l][m][k].led = NULL;
        cache_release(w.cache[l], n);
        return;
    }
    struct cache_node *n = cache_claim(w.of[l][m], &id);
    assert_non_null(n);
    n->leader = &leader;
    w.key[l][m][k].led = n;
}

static void forget_all(unsigned l, unsigned m)
{
    for (unsigned k = 0; k < KEYS; k++)
        w.key[l][m][k].says = 0;
}

static void leave_and_return(unsigned l, unsigned m)
{
    for (unsigned k = 0; k < KEYS; k++) {
        if (w.key[l][m][k].led)
            lead(l, m, k);
    }
    cache_leave(w.of[l][m]);
    w.figures[l][m] = (struct cache_figures){0};
    w.of[l][m] = cache_join(w.cache[l], &w.figures[l][m]);
    forget_all(l, m);
}

static void check_sums(void)
{
    int64_t leased = 0;
    for (unsigned l = 0; l < LOOPS; l++) {
        struct cache *c = w.cache[l];
        uint64_t entries = 0;
        leased += c->leased;
        for (unsigned m = 0; m < MODELS; m++) {
            entries += atomic_load(&w.figures[l][m].entries);
            assert_true((int64_t)atomic_load(&w.figures[l][m].bytes) <= c->leased);
        }
        assert_true(c->small.count + c->main.count >= entries); // others' are not swept yet
        assert_true(c->ghosts.count <= c->small.count + c->main.count);
        assert_true(c->live + (int64_t)c->small.count * 300 <=
                    c->leased); // C1; a node takes more than that
        assert_true(c->small.bytes + c->main.bytes <= (uint64_t)c->leased);
    }
    assert_int_equal(leased, atomic_load(&w.pool.granted));
}

static void one_operation(uint64_t n)
{
    unsigned l = (unsigned)rand_below(&w.rand, LOOPS), m = (unsigned)rand_below(&w.rand, MODELS);
    unsigned k = (unsigned)(rand_below(&w.rand, KEYS) * rand_below(&w.rand, KEYS) / KEYS);
    uint64_t what = rand_below(&w.rand, 100000);
    w.now_us += rand_below(&w.rand, 100);
    if (what < 60000)
        check_entry(l, m, k);
    else if (what < 85000)
        put_entry(l, m, k);
    else if (what < 97000)
        lead(l, m, k);
    else if (what < 97020)
        cache_flush(&w.figures[l][m], 1), forget_all(l, m);
    else if (what < 97030)
        leave_and_return(l, m);
    else if (what < 97032)
        cache_pool_set(&w.pool, MIB * (int64_t)rand_below(&w.rand, 5), LOOPS);
    for (l = 0; l < LOOPS; l++) {
        if (w.cache[l]->tick_us <= w.now_us)
            cache_tick(w.cache[l], w.now_us);
        else if (n % 50 == 0)
            cache_tick(w.cache[l], w.now_us);
    }
    if (n % 64 == 0 && what >= 97032)
        check_sums();
}

static void as_a_slow_model_says(void **state)
{
    const char *asked = getenv("SLUICE_CACHE_OPS");
    uint64_t operations = asked ? strtoull(asked, NULL, 10) : 300000;
    int64_t before = mem_live();
    rand_seed(&w.rand, 1);
    cache_pool_set(&w.pool, 3 * MIB, LOOPS);
    for (unsigned l = 0; l < LOOPS; l++) {
        w.cache[l] = cache_new(&w.pool, l);
        for (unsigned m = 0; m < MODELS; m++)
            w.of[l][m] = cache_join(w.cache[l], &w.figures[l][m]);
    }
    for (uint64_t n = 0; n < operations; n++)
        one_operation(n);
    print_message("%llu operations are as a slow model says\n", (unsigned long long)operations);
    cache_pool_set(&w.pool, 3 * MIB, LOOPS);
    for (unsigned l = 0; l < LOOPS; l++) {
        for (unsigned m = 0; m < MODELS; m++) {
            leave_and_return(l, m);
            cache_leave(w.of[l][m]);
        }
        for (unsigned n = 0; n < 10000 && w.cache[l]->ofs; n++)
            cache_tick(w.cache[l], w.now_us);
        assert_int_equal(w.cache[l]->nodes, 0); // all was swept
        cache_free(w.cache[l]);
    }
    assert_int_equal(atomic_load(&w.pool.granted), 0);
    for (unsigned i = 0; i < PINS; i++) { // who is still being sent something needs no cache
        if (w.pin[i])
            block_unref(w.pin[i]);
    }
    block_owner_collect(&blocks);
    block_owner_trim(&blocks);
    arena_thread_done();
    assert_int_equal(mem_live(), before);
}

// ---- S3-FIFO as the paper has it --------------------------------------------------------------------------

#define OBJECTS 20000
#define REQUESTS 120000

struct fifo { // of objects; the oldest stands first
    unsigned at[OBJECTS], n;
};

static struct {
    struct fifo s, m, g;
    unsigned freq[OBJECTS];
    uint64_t size, capacity; // of an object, of the cache: bytes
} ref;

static void fifo_push(struct fifo *q, unsigned x)
{
    q->at[q->n++] = x;
}

static bool fifo_take(struct fifo *q, unsigned x)
{
    for (unsigned i = 0; i < q->n; i++) {
        if (q->at[i] != x)
            continue;
        memmove(q->at + i, q->at + i + 1, (--q->n - i) * sizeof(q->at[0]));
        return true;
    }
    return false;
}

static bool fifo_has(const struct fifo *q, unsigned x)
{
    for (unsigned i = 0; i < q->n; i++) {
        if (q->at[i] == x)
            return true;
    }
    return false;
}

static void ref_evict_m(void)
{
    bool evicted = false;
    while (!evicted && ref.m.n > 0) {
        unsigned t = ref.m.at[0];
        fifo_take(&ref.m, t);
        if (ref.freq[t] > 0) {
            fifo_push(&ref.m, t);
            ref.freq[t]--;
        } else {
            evicted = true;
        }
    }
}

static void ref_evict_s(void)
{
    bool evicted = false;
    while (!evicted && ref.s.n > 0) {
        unsigned t = ref.s.at[0];
        if (ref.freq[t] > 1) {
            fifo_push(&ref.m, t);
            ref.freq[t] = 0;
            if (ref.m.n * ref.size * 10 > ref.capacity * 9)
                ref_evict_m();
        } else {
            fifo_push(&ref.g, t);
            evicted = true;
        }
        fifo_take(&ref.s, t);
    }
}

static bool ref_request(unsigned x)
{
    if (fifo_has(&ref.s, x) || fifo_has(&ref.m, x)) {
        ref.freq[x] += ref.freq[x] < 3;
        return true;
    }
    bool ghost = fifo_take(&ref.g, x);
    while ((ref.s.n + ref.m.n + 1) * ref.size > ref.capacity) {
        if (ref.s.n * ref.size * 10 >= ref.capacity)
            ref_evict_s();
        else
            ref_evict_m();
    }
    fifo_push(ghost ? &ref.m : &ref.s, x);
    ref.freq[x] = 0;
    while (ref.g.n > (ref.s.n + ref.m.n) * 9 / 10)
        fifo_take(&ref.g, ref.g.at[0]);
    return false;
}

// LRU: newest last.
static bool lru_request(struct fifo *q, unsigned x, unsigned most)
{
    bool hit = fifo_take(q, x);
    if (q->n == most)
        fifo_take(q, q->at[0]);
    fifo_push(q, x);
    return hit;
}

// A share of OBJECTS by Zipf's law; every `scan` requests a run of objects that are seen once.
static unsigned next_object(struct rand *r, const double *sums, unsigned n, unsigned i,
                            unsigned scan)
{
    static unsigned scanned;
    if (scan > 0 && i % scan < scan / 4)
        return n + scanned++ % (OBJECTS - n);
    double want = (double)rand_below(r, 1 << 30) / (1 << 30) * sums[n - 1];
    unsigned low = 0, high = n - 1;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (sums[middle] < want)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void run_trace(double exponent, unsigned objects, unsigned scan)
{
    static double sums[OBJECTS];
    static struct fifo lru;
    struct cache_pool pool = {0};
    struct cache_figures figures = {0};
    struct rand r;
    unsigned hits = 0, lru_hits = 0;
    for (unsigned i = 0; i < objects; i++)
        sums[i] = (i ? sums[i - 1] : 0) + pow(i + 1, -exponent);
    cache_pool_set(&pool, MIB / 2, 1);
    struct cache *c = cache_new(&pool, 5);
    struct cache_of *of = cache_join(c, &figures);
    put(of, OBJECTS, 1, 16, 1); // what one takes
    memset(&ref, 0, sizeof(ref));
    ref.size = atomic_load(&figures.bytes);
    ref.capacity = (uint64_t)MIB / 2;
    cache_leave(of);
    cache_tick(c, 1);
    of = cache_join(c, &figures);
    lru.n = 0;
    rand_seed(&r, 9);
    for (unsigned i = 0; i < REQUESTS; i++) {
        unsigned x = next_object(&r, sums, objects, i, scan);
        bool hit = get(of, x) != NULL;
        assert_int_equal(hit, ref_request(x)); // the very same ones
        if (!hit)
            assert_true(put(of, x, x, 16, 1));
        hits += hit;
        lru_hits += lru_request(&lru, x, (unsigned)(ref.capacity / ref.size));
    }
    print_message("zipf %.1f, %u objects, scans of %u: S3-FIFO %.4f, LRU %.4f\n", exponent, objects,
                  scan / 4, (double)hits / REQUESTS, (double)lru_hits / REQUESTS);
    assert_true(hits + REQUESTS / 100 >= lru_hits);
    cache_leave(of);
    cache_free(c);
}

static void as_the_paper_says(void **state)
{
    run_trace(0.9, 10000, 0);
    run_trace(1.2, 10000, 0);
    run_trace(0.6, 2000, 0);
    run_trace(1.0, 4000, 2000);
    run_trace(1.0, 10000, 20000);
}

// ---- memory -------------------------------------------------------------------------------------------------

// One loop has taken all; another one, whose share that is, gets it, a slice at a time.
static void a_hungry_loop_gets_its_share(void **state)
{
    struct cache_pool pool = {0};
    struct cache_figures figures[2] = {0};
    struct cache *c[2];
    struct cache_of *of[2];
    cache_pool_set(&pool, 8 * MIB, 2);
    for (unsigned l = 0; l < 2; l++) {
        c[l] = cache_new(&pool, l);
        of[l] = cache_join(c[l], &figures[l]);
    }
    for (unsigned k = 0; k < 4000; k++)
        put(of[0], k, k, 10000, k);
    assert_int_equal(c[0]->leased, 8 * MIB);
    unsigned kept = 0;
    for (unsigned k = 0; k < 4000; k++) {
        kept += put(of[1], k, k, 10000, k);
        cache_tick(c[0], k);
        assert_true(c[0]->leased + c[1]->leased <= 8 * MIB);
    }
    assert_true(kept > 3900);
    assert_int_equal(c[0]->leased, 4 * MIB); // and no more than that
    assert_int_equal(c[1]->leased, 4 * MIB);
    cache_pool_set(&pool, MIB, 2);
    for (unsigned k = 0; k < 100; k++) {
        cache_tick(c[0], k);
        cache_tick(c[1], k);
    }
    assert_true(c[0]->leased + c[1]->leased <= MIB);
    for (unsigned l = 0; l < 2; l++) {
        cache_leave(of[l]);
        cache_free(c[l]);
    }
}

// Every allocation fails in turn: it is not kept, and nothing else.
static void without_memory(void **state)
{
    struct cache_pool pool = {0};
    struct cache_figures figures = {0};
    cache_pool_set(&pool, MIB, 1);
    block_owner_trim(&blocks);
    arena_thread_done();
    int64_t before = mem_live();
    for (uint64_t n = 1; n < 4; n++) {
        mem_fail_at(n);
        struct cache *c = cache_new(&pool, 1);
        struct cache_of *of = c ? cache_join(c, &figures) : NULL;
        mem_fail_at(0);
        assert_int_equal(c != NULL, n > 2);
        assert_null(of);
        if (c)
            cache_free(c);
    }
    struct cache *c = cache_new(&pool, 1);
    struct cache_of *of = cache_join(c, &figures);
    struct answer *a = answer_of(1, 100);
    struct slice s = {.answer = a, .rows = 1};
    struct cache_id id = id_of(1);
    for (uint64_t n = 1; n < 4; n++) {
        mem_fail_at(n);
        bool kept = cache_put(of, &id, &s, 0, 1, 1, &blocks);
        mem_fail_at(0);
        assert_int_equal(kept, n > 2); // a node, a block
    }
    block_unref(a->block);
    cache_leave(of);
    cache_free(c);
    block_owner_trim(&blocks);
    arena_thread_done();
    assert_int_equal(mem_live(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_a_slow_model_says),
        cmocka_unit_test(as_the_paper_says),
        cmocka_unit_test(a_hungry_loop_gets_its_share),
        cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
