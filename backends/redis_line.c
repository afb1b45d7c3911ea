#include "backends/redis_line.h"

#include "backends/redis_lib.h"
#include "backends/redis_words.h"
#include "base/check.h"
#include "base/count.h"
#include "base/mem.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#define OPEN_US 1000000 // look-up, connection, TLS and log-in together
#define REOPEN_US 50000 // the first pause; then doubling
#define REOPEN_MOST_US 1000000
#define ASK_US 50000 // the first pause between questions to one that rests
#define ASK_MOST_US 500000

static const char *const greeting_name[] = {"AUTH", "SELECT", "ROLE", "PING"};
enum greeting { GREET_AUTH, GREET_SELECT, GREET_ROLE, GREET_PING };
static const enum greeting greetings[] = {GREET_AUTH, GREET_SELECT, GREET_ROLE, GREET_PING};

// ---- what came -----------------------------------------------------------------------------------------

static struct redis_answer read_reply(const redisReply *r)
{
    struct redis_answer a = {.text = view_of(r->str, r->str ? r->len : 0)};
    switch (r->type) {
    case REDIS_REPLY_ERROR:
        a.end = REDIS_END_ERROR;
        break;
    case REDIS_REPLY_NIL:
        a.end = REDIS_END_NOTHING;
        break;
    case REDIS_REPLY_INTEGER:
        a.end = REDIS_END_NUMBER;
        a.number = r->integer;
        break;
    case REDIS_REPLY_ARRAY:
        a.end = REDIS_END_LIST;
        a.n = (unsigned)r->elements;
        a.list = r;
        break;
    default:
        a.end = REDIS_END_TEXT;
    }
    return a;
}

struct redis_answer redis_item(const struct redis_answer *a, unsigned i)
{
    const redisReply *r = a->list;
    if (never(i >= a->n) || !r->element[i])
        return (struct redis_answer){.end = REDIS_END_NOTHING};
    return read_reply(r->element[i]);
}

static unsigned depth_of(const redisReadTask *task)
{
    unsigned n = 0;
    for (; task->parent && n <= REDIS_MAX_DEPTH; task = task->parent)
        n++;
    return n;
}

// A server's word on how many elements are to come decides nothing before this; and hiredis 1.x frees lists within lists by
// calling itself, however deep they are.
static void *make_list(const redisReadTask *task, redis_count n)
{
    const struct redis_line *line = task->privdata;
    void *(*plain)(const redisReadTask *, redis_count);
    memcpy(&plain, &line->plain_list, sizeof(plain));
    return (size_t)n > REDIS_MAX_ELEMENTS || depth_of(task) > REDIS_MAX_DEPTH ? NULL
                                                                              : plain(task, n);
}

// ---- asks ----------------------------------------------------------------------------------------------

struct redis_ask *ask_new(const struct view *words, unsigned n)
{
    size_t bytes = redis_write(NULL, words, n);
    struct redis_ask *a = mem_alloc(sizeof(*a) + bytes + 1);
    if (!a)
        return NULL;
    *a = (struct redis_ask){.bytes = bytes};
    redis_write(a->text, words, n);
    a->text[bytes] = '\0'; // hiredis looks for its next argument as in a string
    return a;
}

static void enqueue(struct redis_line *n, struct redis_ask *a)
{
    a->line = n;
    a->next = NULL;
    a->prev = n->waiting_last;
    *n->waiting_last = a;
    n->waiting_last = &a->next;
    n->n_waiting++;
    n->waiting_bytes += a->bytes;
}

static void dequeue(struct redis_line *n, struct redis_ask *a)
{
    *a->prev = a->next;
    if (a->next)
        a->next->prev = a->prev;
    else
        n->waiting_last = a->prev;
    n->n_waiting--;
    n->waiting_bytes -= a->bytes;
}

static void rest(struct redis_line *n, const char *why)
{
    n->state = REDIS_RESTING;
    backoff_reset(&n->asking);
    if (n->stats)
        count_add(&n->stats->rests, 1);
    wheel_set(loop_wheel(n->loop), &n->step,
              loop_now_us(n->loop) + backoff_next_us(&n->asking, &n->loop->rand));
    n->ops->on_rest(n, why);
}

static void weigh(struct redis_line *n, bool failed, const char *why)
{
    if (!failed)
        breaker_answered(&n->breaker);
    else if (breaker_failed(&n->breaker) && n->state == REDIS_UP)
        rest(n, why);
}

// L1: those that are due are told, and stay.
static void on_expire(struct wheel_timer *t, uint64_t now_us)
{
    struct redis_line *n = container_of(t, struct redis_line, expire);
    uint64_t next_us = UINT64_MAX;
    for (struct redis_ask *a = n->waiting; a; a = a->next) {
        if (a->told)
            continue;
        if (a->deadline_us > now_us) {
            next_us = a->deadline_us < next_us ? a->deadline_us : next_us;
            continue;
        }
        a->told = true;
        weigh(n, true, "its answers come late");
        a->on_end(a, &(struct redis_answer){.end = REDIS_END_LATE});
    }
    if (next_us != UINT64_MAX && (!wheel_is_set(t) || next_us < t->at_us))
        wheel_set(loop_wheel(n->loop), t, next_us);
}

static void on_reply(struct redisAsyncContext *ac, void *reply, void *ask)
{
    struct redis_ask *a = ask;
    struct redis_line *n = a->line;
    struct redis_answer said = {.end = REDIS_END_LOST};
    (void)ac;
    dequeue(n, a);
    if (reply) {
        said = read_reply(reply);
        bool away = said.end == REDIS_END_ERROR && redis_fault(said.text) == REDIS_FAULT_AWAY;
        if (!a->told)
            weigh(n, away, "it says that it cannot answer");
    } else if (n->state != REDIS_DOWN) {
        n->state = REDIS_OPENING; // L2: it is over, nothing more is sent
    }
    if (a->told || !a->on_end(a, &said))
        mem_free(a);
}

static void ignore_reply(struct redisAsyncContext *ac, void *reply, void *user)
{
    (void)ac;
    (void)reply;
    (void)user;
}

static bool say(struct redis_line *n, redisCallbackFn *fn, void *user, const struct view *words,
                unsigned count_words)
{
    struct redis_ask *a = ask_new(words, count_words);
    bool ok =
        a && n->ac && redisAsyncFormattedCommand(n->ac, fn, user, a->text, a->bytes) == REDIS_OK;
    if (a)
        explicit_bzero(a->text, a->bytes); // a password may be in it
    mem_free(a);
    return ok;
}

bool line_send(struct redis_line *n, struct redis_ask *a, bool asking)
{
    if (n->state != REDIS_UP || !n->ac || n->why[0] || n->n_waiting >= REDIS_MAX_WAITING ||
        n->waiting_bytes + a->bytes > REDIS_MAX_BYTES)
        return false;
    if (asking && !say(n, ignore_reply, NULL, &VIEW("ASKING"), 1))
        return false;
    enqueue(n, a);
    if (redisAsyncFormattedCommand(n->ac, on_reply, a, a->text, a->bytes) != REDIS_OK) {
        dequeue(n, a);
        return false;
    }
    if (!wheel_is_set(&n->expire) || a->deadline_us < n->expire.at_us)
        wheel_set(loop_wheel(n->loop), &n->expire, a->deadline_us);
    return true;
}

bool line_listen(struct redis_line *n, const struct view *words, unsigned count_words)
{
    n->listens = true;
    return say(n, NULL, NULL, words, count_words);
}

// ---- is it alive? --------------------------------------------------------------------------------------

static void wake(struct redis_line *n)
{
    n->state = REDIS_UP;
    breaker_close(&n->breaker);
    wheel_cancel(loop_wheel(n->loop), &n->step);
    n->ops->on_up(n);
}

static bool cannot_answer(const redisReply *r)
{
    struct redis_answer said = read_reply(r);
    enum redis_fault fault =
        said.end == REDIS_END_ERROR ? redis_fault(said.text) : REDIS_FAULT_OTHER;
    return fault == REDIS_FAULT_AWAY || fault == REDIS_FAULT_ENTRY;
}

static void on_asked(struct redisAsyncContext *ac, void *reply, void *user)
{
    struct redis_line *n = user;
    uint64_t now_us = loop_now_us(n->loop);
    bool late = now_us - n->asked_us > n->timeout_us;
    (void)ac;
    n->asked_us = 0;
    if (!reply || n->state != REDIS_RESTING || n->why[0])
        return;
    if (!late && !cannot_answer(reply))
        wake(n);
    else
        wheel_set(loop_wheel(n->loop), &n->step,
                  now_us + (late ? 0 : backoff_next_us(&n->asking, &n->loop->rand)));
}

static void ask_whether(struct redis_line *n, uint64_t now_us)
{
    if (n->asked_us) {
        line_give_up(n, "it has not answered for 3 s");
        return;
    }
    n->asked_us = now_us;
    wheel_set(loop_wheel(n->loop), &n->step, now_us + REDIS_PATIENCE_US);
    if (!say(n, on_asked, n, &VIEW("PING"), 1))
        line_give_up(n, "out of memory");
}

// ---- the log-in ----------------------------------------------------------------------------------------

static void let_in(struct redis_line *n)
{
    backoff_reset(&n->reopen);
    if (n->stats)
        count_add(&n->stats->connects, 1);
    wake(n);
}

static void refuse(struct redis_line *n, const char *greeting, struct view why)
{
    char text[LINE_WHY];
    snprintf(text, sizeof(text), "%s: %.*s", greeting, (int)(why.n < 120 ? why.n : 120), why.p);
    line_give_up(n, text);
}

static void on_greeted(struct redisAsyncContext *ac, void *reply, void *user)
{
    struct redis_line *n = ac->data;
    enum greeting g = *(const enum greeting *)user;
    if (!reply || n->state != REDIS_OPENING || n->why[0])
        return;
    struct redis_answer said = read_reply(reply);
    bool error = said.end == REDIS_END_ERROR;
    // A user who may not say PING or ROLE has been let in all the same.
    bool may_not = error && said.text.n >= 6 && memcmp(said.text.p, "NOPERM", 6) == 0;
    if (error && !(may_not && g >= GREET_ROLE)) {
        refuse(n, greeting_name[g], said.text);
        return;
    }
    if (g == GREET_ROLE && said.end == REDIS_END_LIST && said.n > 0 &&
        !view_is(redis_item(&said, 0).text, "master")) {
        refuse(n, greeting_name[g], VIEW("it is no master"));
        return;
    }
    if (--n->greetings == 0)
        let_in(n);
}

static bool greet(struct redis_line *n, enum greeting g, const char *first, const char *second)
{
    struct view words[3] = {view_str(greeting_name[g])};
    unsigned used = 1;
    if (first)
        words[used++] = view_str(first);
    if (second)
        words[used++] = view_str(second);
    n->greetings++;
    return say(n, on_greeted, (void *)&greetings[g], words, used);
}

// All at once: whoever is not let in says so to each of them.
static bool greet_all(struct redis_line *n)
{
    const struct line_login *l = &n->login;
    char database[16];
    snprintf(database, sizeof(database), "%u", l->database);
    n->greetings = 0;
    return (!l->password || (l->user ? greet(n, GREET_AUTH, l->user, l->password)
                                     : greet(n, GREET_AUTH, l->password, NULL))) &&
           (!l->database || greet(n, GREET_SELECT, database, NULL)) &&
           (l->master ? greet(n, GREET_ROLE, NULL, NULL) : greet(n, GREET_PING, NULL, NULL));
}

// ---- hiredis on our loop -------------------------------------------------------------------------------

// hiredis itself would end the process where a server says something that it was not asked.
static bool take_reply(struct redis_line *n, void *reply)
{
    redisCallback owed;
    if (n->listens) {
        struct redis_answer said = read_reply(reply);
        n->ops->on_push(n, &said);
        return true;
    }
    if (!redis_next_owed(n->ac, &owed)) {
        line_give_up(n, "it says what it was not asked");
        return false;
    }
    owed.fn(n->ac, reply, owed.privdata);
    return true;
}

static bool next_reply(struct redis_line *n)
{
    void *reply = NULL;
    redisReader *reader = n->ac->c.reader;
    if (redisReaderGetReply(reader, &reply) != REDIS_OK) {
        line_give_up(n, reader->errstr);
        return false;
    }
    bool more = reply && take_reply(n, reply);
    if (reply)
        freeReplyObject(reply);
    return more;
}

static void read_replies(struct redis_line *n)
{
    redisAsyncContext *ac = n->ac;
    if (redisBufferRead(&ac->c) != REDIS_OK) {
        event_del(&n->read_ev);
        n->state = REDIS_OPENING; // L2: it is over, nothing more is sent
        line_give_up(n, ac->c.errstr);
        return;
    }
    while (n->ac == ac && !n->why[0] && next_reply(n)) {
    }
}

// Within TLS reading and writing are one: hiredis does both. Until it is connected, writing is what it waits for.
static void on_readable(evutil_socket_t fd, short what, void *line)
{
    struct redis_line *n = line;
    (void)fd;
    (void)what;
    if (n->ac && n->ssl && !n->listens)
        redisAsyncHandleRead(n->ac);
    else if (n->ac && n->connected)
        read_replies(n);
    if (n->ac && n->ac->c.reader->len > REDIS_MAX_REPLY)
        line_give_up(n, "a reply is larger than 16 MiB");
}

static void handle_write(struct redis_line *n)
{
    n->writing = true;
    if (n->ac)
        redisAsyncHandleWrite(n->ac);
    n->writing = false;
}

static void on_writable(evutil_socket_t fd, short what, void *line)
{
    (void)fd;
    (void)what;
    handle_write(line);
}

static void on_flush(struct loop *l, struct loop_flush *f)
{
    (void)l;
    handle_write(container_of(f, struct redis_line, flush));
}

static void add_read(void *line)
{
    struct redis_line *n = line;
    if (!event_pending(&n->read_ev, EV_READ, NULL))
        event_add(&n->read_ev, NULL);
}

static void delete_read(void *line)
{
    event_del(&((struct redis_line *)line)->read_ev);
}

// Commands of a turn leave together before the loop sleeps; what the socket did not take waits for it.
static void add_write(void *line)
{
    struct redis_line *n = line;
    if (n->connected && !n->writing)
        loop_flush_later(n->loop, &n->flush);
    else if (!event_pending(&n->write_ev, EV_WRITE, NULL))
        event_add(&n->write_ev, NULL);
}

static void delete_write(void *line)
{
    struct redis_line *n = line;
    if (event_pending(&n->write_ev, EV_WRITE, NULL))
        event_del(&n->write_ev);
}

#ifdef SLUICE_REDIS_TLS
// The context owns it from then on.
static bool secure(struct redis_line *n)
{
    SSL *ssl = n->tls ? tls_client_ssl(n->tls, n->addr.host) : NULL;
    if (!n->tls)
        return true;
    n->ssl = ssl;
    if (ssl && redisInitiateSSL(&n->ac->c, ssl) == REDIS_OK)
        return true;
    n->ssl = NULL;
    SSL_free(ssl);
    return false;
}

// hiredis does not say what was wrong with it.
static const char *certificate_why(const struct redis_line *n)
{
    long wrong = n->ssl ? SSL_get_verify_result(n->ssl) : X509_V_OK;
    return wrong == X509_V_OK ? NULL : X509_verify_cert_error_string(wrong);
}
#else
static bool secure(struct redis_line *n)
{
    return !n->tls;
}

static const char *certificate_why(const struct redis_line *n)
{
    (void)n;
    return NULL;
}
#endif

// L2: the context is about to go.
static void on_cleanup(void *line)
{
    struct redis_line *n = line;
    char why[LINE_WHY];
    const char *certificate = certificate_why(n);
    const char *said = n->ac->err && n->ac->errstr ? n->ac->errstr : "closed";
    snprintf(why, sizeof(why), "%s%s", certificate ? "certificate verify failed: " : "",
             certificate ? certificate : said);
    event_del(&n->read_ev);
    event_del(&n->write_ev);
    loop_flush_cancel(&n->flush);
    n->ac = NULL;
    n->ssl = NULL;
    n->connected = false;
    line_give_up(n, why);
}

static void on_connected(const struct redisAsyncContext *ac, int status)
{
    struct redis_line *n = ac->data;
    n->connected = status == REDIS_OK;
}

static void attach(struct redis_line *n, redisAsyncContext *ac)
{
    n->ac = ac;
    ac->data = n;
    fcntl(ac->c.fd, F_SETFD, FD_CLOEXEC);
    event_assign(&n->read_ev, n->loop->base, ac->c.fd, EV_READ | EV_PERSIST, on_readable, n);
    event_assign(&n->write_ev, n->loop->base, ac->c.fd, EV_WRITE | EV_PERSIST, on_writable, n);
    ac->ev.data = n;
    ac->ev.addRead = add_read;
    ac->ev.delRead = delete_read;
    ac->ev.addWrite = add_write;
    ac->ev.delWrite = delete_write;
    ac->ev.cleanup = on_cleanup;
}

// A copy of hiredis' table of makers with one of ours; it lives as long as the line.
static bool bound_lists(struct redis_line *n, redisReader *reader)
{
    redisReplyObjectFunctions *makers = n->makers ? n->makers : mem_alloc(sizeof(*makers));
    if (!makers)
        return false;
    *makers = *reader->fn;
    memcpy(&n->plain_list, &makers->createArray, sizeof(n->plain_list));
    makers->createArray = make_list;
    n->makers = reader->fn = makers;
    reader->privdata = n;
    return true;
}

// ---- its life ------------------------------------------------------------------------------------------

static void connect_to(struct redis_line *n, const struct addr *a)
{
    redisAsyncContext *ac;
    char host[INET6_ADDRSTRLEN];
    if (addr_is_unix(a)) {
        ac = redisAsyncConnectUnix(a->un.sun_path);
    } else {
        const void *bytes = a->sa.sa_family == AF_INET6 ? (const void *)&a->in6.sin6_addr
                                                        : (const void *)&a->in.sin_addr;
        inet_ntop(a->sa.sa_family, bytes, host, sizeof(host));
        ac = redisAsyncConnect(host, a->port); // digits: nothing is looked up
    }
    if (!ac || ac->err) {
        line_give_up(n, ac ? ac->errstr : "out of memory");
        if (ac)
            redisAsyncFree(ac);
        return;
    }
    attach(n, ac);
    if (!bound_lists(n, ac->c.reader) || !secure(n) ||
        redisAsyncSetConnectCallback(ac, on_connected) != REDIS_OK || !greet_all(n))
        line_give_up(n, ac->c.err ? ac->c.errstr : "out of memory, or no TLS");
}

static void on_looked_up(const struct addr *a, const char *why, void *line)
{
    struct redis_line *n = line;
    n->lookup = NULL;
    if (a)
        connect_to(n, a);
    else
        line_give_up(n, why);
}

void line_open(struct redis_line *n)
{
    invariant(n->state == REDIS_DOWN && !n->ac);
    n->state = REDIS_OPENING;
    wheel_set(loop_wheel(n->loop), &n->step, loop_now_us(n->loop) + OPEN_US);
    if (!addr_is_name(&n->addr))
        connect_to(n, &n->addr);
    else if (!(n->lookup = addr_resolve(n->loop, &n->addr, on_looked_up, n)))
        line_give_up(n, "out of memory");
}

void line_open_later(struct redis_line *n)
{
    wheel_set(loop_wheel(n->loop), &n->step,
              loop_now_us(n->loop) + backoff_next_us(&n->reopen, &n->loop->rand));
}

static void on_step(struct wheel_timer *t, uint64_t now_us)
{
    struct redis_line *n = container_of(t, struct redis_line, step);
    if (n->state == REDIS_DOWN)
        line_open(n);
    else if (n->state == REDIS_RESTING)
        ask_whether(n, now_us);
    else if (n->state == REDIS_OPENING)
        line_give_up(n,
                     n->connected ? "it has not let us in within 1 s" : "no connection within 1 s");
}

void line_close(struct redis_line *n)
{
    if (n->lookup)
        addr_resolve_cancel(n->lookup);
    n->lookup = NULL;
    n->state = REDIS_DOWN;
    if (n->ac)
        redisAsyncFree(n->ac); // L2: all that wait are told, on_cleanup
    invariant(!n->ac && !n->waiting);
    loop_defer_cancel(&n->bury);
    wheel_cancel(loop_wheel(n->loop), &n->step);
    wheel_cancel(loop_wheel(n->loop), &n->expire);
    n->why[0] = '\0';
    n->asked_us = 0;
    n->listens = false;
    breaker_close(&n->breaker);
}

static void on_bury(struct loop *l, struct loop_call *c)
{
    struct redis_line *n = container_of(c, struct redis_line, bury);
    char why[LINE_WHY];
    (void)l;
    memcpy(why, n->why, sizeof(why));
    if (n->stats)
        count_add(&n->stats->losses, 1);
    line_close(n);
    n->ops->on_down(n, why);
}

void line_give_up(struct redis_line *n, const char *why)
{
    if (n->state == REDIS_DOWN || n->why[0])
        return; // it is closed by us, or over already: the first reason counts
    snprintf(n->why, sizeof(n->why), "%s", why[0] ? why : "closed");
    loop_defer(n->loop, &n->bury);
}

void line_deinit(struct redis_line *n)
{
    line_close(n);
    mem_free(n->makers);
}

void line_init(struct redis_line *n, struct loop *l, const struct line_ops *ops, void *ctx)
{
    *n = (struct redis_line){.loop = l, .ops = ops, .ctx = ctx};
    n->waiting_last = &n->waiting;
    n->flush.fn = on_flush;
    n->bury.fn = on_bury;
    n->step.fn = on_step;
    n->expire.fn = on_expire;
    n->reopen = (struct backoff){.first_us = REOPEN_US, .cap_us = REOPEN_MOST_US};
    n->asking = (struct backoff){.first_us = ASK_US, .cap_us = ASK_MOST_US};
}
