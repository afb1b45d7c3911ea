#include "tests/conformance/contracts.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define LOOPS 64
#define INFERS 4096 // lists of them

struct contract_row contracts[CONTRACTS] = {
    [OWED_POST] = {"FX_POST", "a message arrives once, where it was sent, in order"},
    [OWED_DISPATCH] = {"FX_DISPATCH", "a batch ends exactly once"},
    [OWED_CANCEL] = {"FX_CANCEL", "a batch that is called back ends in time"},
    [OWED_PROBE] = {"FX_PROBE", "a worker that is doubted answers, or is lost, in time"},
    [OWED_HANGS] = {"FX_HANGS", "what is at a worker that hangs ends at once, by us"},
    [OWED_SETTLE] = {"FX_SETTLE", "an infer settles once"},
    [OWED_RELEASE] = {"FX_RELEASE", "an infer is released once, after it has settled"},
    [OWED_UNREF] = {"FX_UNREF", "a block is there while somebody refers to it"},
    [OWED_WAKE] = {"FX_WAKE", "a wake comes neither early nor late"},
    [OWED_STORE] = {"FX_STORE_GET", "what the store is asked it answers once, in time"},
    [OWED_TURN] = {"turn", "a desk that had an input decides in that turn"},
    [OWED_ALONE] = {"alone", "inputs come one after the other, on their loop's thread"},
};

// Something that must come by a time of its loop's clock.
struct due {
    struct due *next;
    enum contract contract;
    const void *thinker; // who wants it
    const void *of;      // the batch, of a cancel and of one that hangs
    uint32_t replica;    // of a probe
    uint64_t since_us, by_us;
    const struct worker_vitals *vitals; // of a probe
};

struct sent { // a batch that is out
    struct sent *next;
    const struct batch *batch;
    uint32_t replica;
};

struct known { // an infer that lives
    struct known *next;
    const struct infer *infer;
    bool settled;
};

struct letter {
    struct letter *next;
    const struct msg *msg;
    unsigned kind;
};

struct post { // from one loop to another
    struct letter *first, **last;
};

struct vitals_of { // a replica's, as its desk was told
    struct vitals_of *next;
    const void *desk;
    uint32_t replica;
    const struct worker_vitals *vitals; // NULL: down
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct doer doer;
static struct due *dues[LOOPS];
static struct sent *out[LOOPS];
static struct known *infers[INFERS];
static struct post posts[LOOPS][LOOPS];
static struct vitals_of *replicas;
static pthread_t threads[LOOPS];
static bool thread_known[LOOPS];
static __thread unsigned inside;

__attribute__((format(printf, 2, 3))) static void broken(enum contract c, const char *format, ...)
{
    if (contracts[c].broken[0])
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(contracts[c].broken, sizeof(contracts[c].broken), format, args);
    va_end(args);
    fprintf(stderr, "contract broken by %s: %s: %s\n", doer.name, contracts[c].name,
            contracts[c].broken);
    if (doer.aborts)
        abort();
}

static void kept(enum contract c)
{
    contracts[c].kept++;
}

// Takes the first element out of a list and frees it.
#define LIST_DROP(p)                                                                               \
    do {                                                                                           \
        void *gone = *(p);                                                                         \
        *(p) = (*(p))->next;                                                                       \
        free(gone);                                                                                \
    } while (0)
#define LIST_ADD(list, ...)                                                                        \
    do {                                                                                           \
        __typeof__(**(list)) *new_one = malloc(sizeof(*new_one));                                  \
        *new_one = (__typeof__(**(list))){.next = *(list), __VA_ARGS__};                           \
        *(list) = new_one;                                                                         \
    } while (0)

// ---- what is due -------------------------------------------------------------------------------------

static void due_add(unsigned loop, const struct due *d)
{
    LIST_ADD(&dues[loop], .contract = d->contract, .thinker = d->thinker, .of = d->of,
             .replica = d->replica, .since_us = d->since_us, .by_us = d->by_us,
             .vitals = d->vitals);
}

static bool due_matches(const struct due *d, enum contract c, const void *thinker, const void *of)
{
    return d->contract == c && d->thinker == thinker && d->of == of;
}

static struct due **due_find(unsigned loop, enum contract c, const void *thinker, const void *of)
{
    struct due **p = &dues[loop];
    while (*p && !due_matches(*p, c, thinker, of))
        p = &(*p)->next;
    return p;
}

// It has come. True: it was wanted.
static bool due_done(unsigned loop, enum contract c, const void *thinker, const void *of)
{
    struct due **p = due_find(loop, c, thinker, of);
    if (!*p)
        return false;
    kept(c);
    LIST_DROP(p);
    return true;
}

static bool probe_answered(const struct due *d)
{
    return d->vitals &&
           atomic_load_explicit(&d->vitals->probed_us, memory_order_relaxed) >= d->since_us;
}

// The loop's clock shows now_us: what is late?
static void due_judge(unsigned loop, uint64_t now_us)
{
    for (struct due **p = &dues[loop]; *p;) {
        struct due *d = *p;
        if (now_us <= d->by_us) {
            p = &d->next;
            continue;
        }
        if (d->contract == OWED_PROBE && probe_answered(d))
            kept(OWED_PROBE);
        else
            broken(d->contract,
                   "loop %u: wanted at %" PRIu64 " us, owed within %" PRIu64
                   " us, not there after %" PRIu64,
                   loop, d->since_us, d->by_us - d->since_us, now_us - d->since_us);
        LIST_DROP(p);
    }
}

// ---- inputs ------------------------------------------------------------------------------------------

static void own_thread(unsigned loop)
{
    if (!thread_known[loop]) {
        thread_known[loop] = true;
        threads[loop] = pthread_self();
    }
    if (!pthread_equal(threads[loop], pthread_self()))
        broken(OWED_ALONE, "loop %u: an input on a thread of others", loop);
    else
        kept(OWED_ALONE);
}

void contracts_on_input(unsigned loop, const struct desk *desk, uint64_t now_us)
{
    pthread_mutex_lock(&lock);
    if (inside++ > 0)
        broken(OWED_ALONE, "loop %u: an input inside another", loop);
    own_thread(loop);
    due_judge(loop, now_us);
    if (desk && !*due_find(loop, OWED_TURN, desk, NULL))
        due_add(loop, &(struct due){.contract = OWED_TURN,
                                    .thinker = desk,
                                    .since_us = now_us,
                                    .by_us = now_us + doer.turn_us});
    pthread_mutex_unlock(&lock);
}

void contracts_on_decided(const struct desk *d)
{
    pthread_mutex_lock(&lock);
    due_done(d->home, OWED_TURN, d, NULL);
    pthread_mutex_unlock(&lock);
}

// ---- messages ----------------------------------------------------------------------------------------

static void post_sent(const struct msg *m)
{
    struct post *p = &posts[m->from][m->to];
    struct letter *l = malloc(sizeof(*l));
    *l = (struct letter){.msg = m, .kind = m->kind};
    if (!p->first)
        p->last = &p->first;
    *p->last = l;
    p->last = &l->next;
}

void contracts_on_message(const struct msg *m, enum router_msg kind, unsigned loop)
{
    pthread_mutex_lock(&lock);
    struct post *p = &posts[m->from][m->to];
    struct letter *l = p->first;
    if (m->to != loop)
        broken(OWED_POST, "a message for loop %u came to loop %u", m->to, loop);
    else if (!l || l->msg != m || l->kind != kind)
        broken(OWED_POST,
               "from loop %u to loop %u: a message of kind %u is not the oldest that is on its way",
               m->from, m->to, kind);
    else
        kept(OWED_POST);
    if (l) {
        p->first = l->next;
        if (!p->first)
            p->last = &p->first;
        free(l);
    }
    pthread_mutex_unlock(&lock);
}

// ---- batches -----------------------------------------------------------------------------------------

static struct sent **sent_find(const struct batch *b)
{
    struct sent **p = &out[b->desk->home];
    while (*p && (*p)->batch != b)
        p = &(*p)->next;
    return p;
}

static void batch_sent(const struct batch *b)
{
    if (*sent_find(b))
        broken(OWED_DISPATCH, "a batch is sent while it is out");
    LIST_ADD(&out[b->desk->home], .batch = b, .replica = b->replica);
}

void contracts_on_end(const struct batch *b, bool lost, bool ours)
{
    pthread_mutex_lock(&lock);
    unsigned loop = b->desk->home;
    struct sent **p = sent_find(b);
    if (*p) {
        kept(OWED_DISPATCH);
        LIST_DROP(p);
    } else {
        broken(OWED_DISPATCH, "loop %u: the end of a batch that is not out", loop);
    }
    due_done(loop, OWED_CANCEL, b->desk, b);
    struct due **hangs = due_find(loop, OWED_HANGS, b->desk, b);
    if (*hangs && lost && !ours)
        broken(OWED_HANGS, "loop %u: a call that we gave up ends as lost by others", loop);
    due_done(loop, OWED_HANGS, b->desk, b);
    pthread_mutex_unlock(&lock);
}

static void batch_called_back(const struct batch *b, uint64_t now_us)
{
    if (!*sent_find(b))
        broken(OWED_CANCEL, "a batch is called back that is not out");
    due_add(b->desk->home, &(struct due){.contract = OWED_CANCEL,
                                         .thinker = b->desk,
                                         .of = b,
                                         .since_us = now_us,
                                         .by_us = now_us + doer.call_us});
}

// ---- replicas ----------------------------------------------------------------------------------------

static struct vitals_of *replica_find(const void *desk, uint32_t id)
{
    struct vitals_of *v = replicas;
    while (v && (v->desk != desk || v->replica != id))
        v = v->next;
    return v;
}

static void probes_done(const struct desk *d, uint32_t id)
{
    for (struct due **p = &dues[d->home]; *p;) {
        if ((*p)->contract == OWED_PROBE && (*p)->thinker == d && (*p)->replica == id) {
            kept(OWED_PROBE);
            LIST_DROP(p);
        } else {
            p = &(*p)->next;
        }
    }
}

void contracts_on_replica(const struct desk *d, uint32_t id, const struct replica_facts *facts)
{
    pthread_mutex_lock(&lock);
    struct vitals_of *v = replica_find(d, id);
    if (!v) {
        LIST_ADD(&replicas, .desk = d, .replica = id);
        v = replicas;
    }
    v->vitals = facts ? facts->vitals : NULL;
    if (!facts)
        probes_done(d, id);
    pthread_mutex_unlock(&lock);
}

static void replica_doubted(const struct desk *d, uint32_t id, uint64_t now_us)
{
    const struct vitals_of *v = replica_find(d, id);
    if (!v || !v->vitals) // it is down already: nothing is owed
        return;
    due_add(d->home, &(struct due){.contract = OWED_PROBE,
                                   .thinker = d,
                                   .replica = id,
                                   .since_us = now_us,
                                   .by_us = now_us + doer.probe_us,
                                   .vitals = v->vitals});
}

static void replica_hangs(const struct desk *d, uint32_t id, uint64_t now_us)
{
    for (const struct sent *s = out[d->home]; s; s = s->next) {
        const void *desk = s->batch->desk;
        if (s->replica == id && !*due_find(d->home, OWED_HANGS, desk, s->batch))
            due_add(d->home, &(struct due){.contract = OWED_HANGS,
                                           .thinker = desk,
                                           .of = s->batch,
                                           .since_us = now_us,
                                           .by_us = now_us + doer.close_us});
    }
}

// ---- wakes -------------------------------------------------------------------------------------------

static void wake_wanted(unsigned loop, const void *thinker, uint64_t at_us, uint64_t now_us)
{
    struct due **p = due_find(loop, OWED_WAKE, thinker, NULL);
    if (*p)
        LIST_DROP(p);
    if (at_us == UINT64_MAX) // never
        return;
    uint64_t from_us = at_us > now_us ? at_us : now_us;
    due_add(loop, &(struct due){.contract = OWED_WAKE,
                                .thinker = thinker,
                                .since_us = from_us,
                                .by_us = from_us + doer.wake_us});
}

void contracts_on_wake(unsigned loop, const void *thinker, uint64_t now_us)
{
    pthread_mutex_lock(&lock);
    struct due **p = due_find(loop, OWED_WAKE, thinker, NULL);
    if (!*p)
        broken(OWED_WAKE, "loop %u: a wake that is not wanted", loop);
    else if (now_us < (*p)->since_us)
        broken(OWED_WAKE, "loop %u: a wake %" PRIu64 " us early", loop, (*p)->since_us - now_us);
    due_done(loop, OWED_WAKE, thinker, NULL);
    pthread_mutex_unlock(&lock);
}

// ---- infers ------------------------------------------------------------------------------------------

static struct known **infer_find(const struct infer *in)
{
    struct known **p = &infers[((uintptr_t)in >> 6) % INFERS];
    while (*p && (*p)->infer != in)
        p = &(*p)->next;
    return p;
}

void contracts_on_submit(const struct infer *in)
{
    pthread_mutex_lock(&lock);
    struct known **p = infer_find(in);
    if (*p)
        broken(OWED_RELEASE, "an infer is submitted that lives");
    LIST_ADD(p, .infer = in);
    pthread_mutex_unlock(&lock);
}

void contracts_on_gone(const struct infer *in)
{
    pthread_mutex_lock(&lock);
    if (!*infer_find(in))
        broken(OWED_RELEASE, "the client of an infer that was released goes away");
    pthread_mutex_unlock(&lock);
}

static void infer_settled(const struct infer *in)
{
    struct known **p = infer_find(in);
    if (!*p || (*p)->settled)
        broken(OWED_SETTLE, "an infer settles that %s", *p ? "has settled" : "does not live");
    else
        kept(OWED_SETTLE);
    if (*p)
        (*p)->settled = true;
}

static void infer_released(const struct infer *in)
{
    struct known **p = infer_find(in);
    if (!*p || !(*p)->settled)
        broken(OWED_RELEASE, "an infer is released that %s",
               *p ? "has not settled" : "does not live");
    else
        kept(OWED_RELEASE);
    if (*p)
        LIST_DROP(p);
}

// ---- the store ---------------------------------------------------------------------------------------

static void store_asked_for(const struct store_ask *a, uint64_t now_us)
{
    due_add(a->desk->home, &(struct due){.contract = OWED_STORE,
                                         .thinker = a->desk,
                                         .of = a,
                                         .since_us = now_us,
                                         .by_us = now_us + doer.store_us});
}

void contracts_on_stored(const struct store_ask *a)
{
    pthread_mutex_lock(&lock);
    if (!due_done(a->desk->home, OWED_STORE, a->desk, a))
        broken(OWED_STORE, "the store tells what it was not asked");
    pthread_mutex_unlock(&lock);
}

// ---- effects -----------------------------------------------------------------------------------------

static void block_given_back(const struct block *b)
{
    if (atomic_load_explicit(&b->refs, memory_order_relaxed) == 0)
        broken(OWED_UNREF, "a block is given back that nobody has");
    else
        kept(OWED_UNREF);
}

static void effect_wanted(unsigned loop, const void *thinker, const struct fx *f, uint64_t now_us)
{
    switch (f->kind) {
    case FX_POST:
        post_sent(f->msg);
        break;
    case FX_DISPATCH:
        batch_sent(f->batch);
        break;
    case FX_CANCEL:
        batch_called_back(f->batch, now_us);
        break;
    case FX_PROBE:
        replica_doubted(f->desk, f->replica, now_us);
        break;
    case FX_HANGS:
        replica_hangs(f->desk, f->replica, now_us);
        break;
    case FX_SETTLE:
        infer_settled(f->infer);
        break;
    case FX_RELEASE:
        infer_released(f->infer);
        break;
    case FX_UNREF:
        block_given_back(f->block);
        break;
    case FX_WAKE:
        // A desk may ask for another one of its loop, with which it shares a device.
        wake_wanted(loop, f->desk ? f->desk : thinker, f->at_us, now_us);
        break;
    case FX_STORE_GET:
        store_asked_for(f->ask, now_us);
        break;
    case FX_STORE_PUT: // nothing comes of it
    case FX_USE:       // what the doer keeps of models is its own
    case FX_SHADOW:
    case FX_NOTE:
        break;
    }
}

void contracts_on_effects(unsigned loop, const void *thinker, const struct effects *fx,
                          unsigned from, uint64_t now_us)
{
    pthread_mutex_lock(&lock);
    for (unsigned i = from; i < fx->n; i++)
        effect_wanted(loop, thinker, &fx->at[i], now_us);
    inside--;
    pthread_mutex_unlock(&lock);
}

// ---- the end -----------------------------------------------------------------------------------------

// A desk or flow is freed: nothing of it may be out, and its wishes are void.
void contracts_on_free(unsigned loop, const void *thinker)
{
    pthread_mutex_lock(&lock);
    for (const struct sent *s = out[loop]; s; s = s->next) {
        if (s->batch->desk == thinker)
            broken(OWED_DISPATCH, "loop %u: a desk is freed while a batch of it is out", loop);
    }
    for (struct due **p = &dues[loop]; *p;) {
        if ((*p)->thinker == thinker)
            LIST_DROP(p);
        else
            p = &(*p)->next;
    }
    for (struct vitals_of **p = &replicas; *p;) {
        if ((*p)->desk == thinker)
            LIST_DROP(p);
        else
            p = &(*p)->next;
    }
    pthread_mutex_unlock(&lock);
}

void contracts_watch(const struct doer *d)
{
    doer = *d;
    memset(thread_known, 0, sizeof(thread_known));
}

void contracts_over(void)
{
    for (unsigned i = 0; i < LOOPS; i++) {
        if (out[i])
            broken(OWED_DISPATCH, "loop %u: a batch has never ended", i);
        for (unsigned k = 0; k < LOOPS; k++) {
            if (posts[i][k].first)
                broken(OWED_POST, "from loop %u to loop %u: a message has never arrived", i, k);
        }
    }
    for (unsigned i = 0; i < INFERS; i++) {
        if (infers[i])
            broken(infers[i]->settled ? OWED_RELEASE : OWED_SETTLE, "an infer is never over");
    }
}

void contracts_show(FILE *to)
{
    char line[1024];
    int n = snprintf(line, sizeof(line), "{\"event\":\"contracts\",\"doer\":\"%s\"", doer.name);
    for (unsigned i = 0; i < CONTRACTS; i++)
        n += snprintf(line + n, sizeof(line) - (size_t)n, ",\"%s\":%" PRIu64, contracts[i].name,
                      contracts[i].kept);
    fprintf(to, "%s}\n", line);
}
