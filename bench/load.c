/* bench/load.c: a closed-loop load of inference requests over HTTP/2 without TLS (prior knowledge).
 *
 * Usage: load -p PORT -f SET [-h 127.0.0.1] [-u PATH] [-n REQUESTS] [-c CONNECTIONS] [-m STREAMS]
 *             [-k K] [-t SECONDS]
 *
 * Each of c connections keeps m requests on their way until n have been answered. Bodies come from SET,
 * one after the other (written by bench/run.py; little endian):
 *
 *     repeated { u32 bytes; body; u32 floats; the reference answer, f32 each }
 *
 * One answer in K (100; 0: none) is compared with its reference: its first "data" array, within
 * rtol 1e-3, atol 1e-4. A server may leave: what it says it did not see (GOAWAY's last stream,
 * REFUSED_STREAM; RFC 9113, 6.8 and 8.7) is sent again, over a new connection where need be. Whatever
 * else ends without a status has failed.
 *
 * Prints one JSON object; the exit status is 0 when every answer was a 200 and matched.
 * One thread; epoll, level triggered. */
#include "base/buffer.h"
#include "base/hist.h"
#include "base/mem.h"
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_BYTES 4096

struct item {
    const uint8_t *body;
    const uint8_t *want; // floats, at any alignment
    uint32_t bytes, floats;
};

struct conn;

// One request on its way; owned by its connection, in the list of free ones between requests.
struct call {
    struct conn *conn;
    struct call *next;
    const struct item *item;
    size_t sent; // of the body
    uint64_t start_us;
    int status;
    bool check, complete;
    size_t got; // of the answer: all of its bytes, kept or not
    char answer[ANSWER_BYTES];
};

struct conn {
    nghttp2_session *session;
    struct buffer out;
    struct call *calls, *free;
    int fd;
    unsigned running;
    bool wants_out;
};

static struct {
    const char *host, *path, *set;
    int port;
    uint64_t requests;
    unsigned conns, streams, check;
    double seconds;
} opt = {.host = "127.0.0.1",
         .path = "/v2/models/digits/infer",
         .requests = 1000,
         .conns = 1,
         .streams = 1,
         .check = 100,
         .seconds = 120};

static struct {
    uint64_t ok, failed, mismatch, checked, again, reconnects, started, bytes;
    uint64_t status[600];
} sum;

static struct item *items;
static uint32_t item_count;
static struct hist latency;
static int epoll_fd;
static char authority[80];

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    exit(2);
}

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

// ---- the set of requests -------------------------------------------------------------------------

static uint32_t take_u32(const uint8_t **at, const uint8_t *end)
{
    uint32_t v;
    if ((size_t)(end - *at) < sizeof v)
        die("%s is cut short", opt.set);
    memcpy(&v, *at, sizeof v);
    *at += sizeof v;
    return v;
}

static const uint8_t *take(const uint8_t **at, const uint8_t *end, size_t bytes)
{
    const uint8_t *p = *at;
    if ((size_t)(end - p) < bytes)
        die("%s is cut short", opt.set);
    *at += bytes;
    return p;
}

static void read_set(void)
{
    FILE *f = fopen(opt.set, "rb");
    if (!f)
        die("%s: %s", opt.set, strerror(errno));
    struct buffer b;
    buffer_init(&b);
    for (size_t n = 1; n > 0; buffer_commit(&b, n)) {
        uint8_t *room = buffer_reserve(&b, 65536);
        if (!room)
            die("out of memory");
        n = fread(room, 1, 65536, f);
    }
    fclose(f);
    const uint8_t *at = b.data, *end = b.data + b.end;
    while (at < end) {
        if (item_count % 256 == 0)
            items = mem_realloc(items, (item_count + 256) * sizeof *items);
        if (!items)
            die("out of memory");
        struct item *i = &items[item_count++];
        i->bytes = take_u32(&at, end);
        i->body = take(&at, end, i->bytes);
        i->floats = take_u32(&at, end);
        i->want = take(&at, end, (size_t)i->floats * sizeof(float));
    }
    if (item_count == 0)
        die("%s is empty", opt.set);
}

// The first "data" array of the answer is the reference.
static bool matches(struct call *call)
{
    if (call->got >= sizeof call->answer)
        return false;
    call->answer[call->got] = 0;
    const char *at = strstr(call->answer, "\"data\":[");
    if (!at)
        return false;
    at += strlen("\"data\":[");
    for (uint32_t i = 0; i < call->item->floats; i++) {
        char *end;
        float want;
        memcpy(&want, call->item->want + i * sizeof want, sizeof want);
        float got = strtof(at, &end);
        if (end == at || !(fabsf(got - want) <= 1e-4f + 1e-3f * fabsf(want)))
            return false;
        if (*end != (i + 1 < call->item->floats ? ',' : ']'))
            return false;
        at = end + 1;
    }
    return true;
}

// ---- one connection ------------------------------------------------------------------------------

static nghttp2_nv field(const char *name, const char *value, size_t bytes)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name),
                        bytes, NGHTTP2_NV_FLAG_NO_COPY_NAME};
}

static ssize_t read_body(nghttp2_session *s, int32_t id, uint8_t *out, size_t room, uint32_t *flags,
                         nghttp2_data_source *source, void *user)
{
    struct call *call = source->ptr;
    size_t n = call->item->bytes - call->sent;
    if (n > room)
        n = room;
    memcpy(out, call->item->body + call->sent, n);
    call->sent += n;
    if (call->sent == call->item->bytes)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

static void submit(struct call *call)
{
    char length[16];
    int digits = snprintf(length, sizeof length, "%u", call->item->bytes);
    call->sent = call->got = 0;
    call->status = 0;
    call->complete = false;
    nghttp2_nv head[] = {field(":method", "POST", 4),
                         field(":scheme", "http", 4),
                         field(":authority", authority, strlen(authority)),
                         field(":path", opt.path, strlen(opt.path)),
                         field("user-agent", "sluice-load", 11),
                         field("content-type", "application/json", 16),
                         field("content-length", length, (size_t)digits)};
    nghttp2_data_provider body = {.source = {.ptr = call}, .read_callback = read_body};
    struct conn *c = call->conn;
    if (nghttp2_submit_request(c->session, NULL, head, sizeof head / sizeof *head, &body, call) < 0)
        die("cannot submit a request");
    c->running++;
}

// Starts requests until the connection has its share or all of them have begun.
static void fill(struct conn *c)
{
    while (c->free && sum.started < opt.requests &&
           nghttp2_session_check_request_allowed(c->session)) {
        struct call *call = c->free;
        c->free = call->next;
        // k + k/count: in each round over the set other items are compared.
        uint64_t k = sum.started++;
        call->item = &items[k % item_count];
        call->check = opt.check && (k + k / item_count) % opt.check == 0;
        call->start_us = now_us();
        submit(call);
    }
}

static int on_header(nghttp2_session *s, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_n, const uint8_t *value, size_t n, uint8_t flags, void *user)
{
    struct call *call = nghttp2_session_get_stream_user_data(s, frame->hd.stream_id);
    if (call && name_n == 7 && memcmp(name, ":status", 7) == 0)
        call->status = atoi((const char *)value);
    return 0;
}

static int on_data(nghttp2_session *s, uint8_t flags, int32_t id, const uint8_t *data, size_t n,
                   void *user)
{
    struct call *call = nghttp2_session_get_stream_user_data(s, id);
    if (!call)
        return 0;
    if (call->check && call->got < sizeof call->answer) {
        size_t room = sizeof call->answer - call->got;
        memcpy(call->answer + call->got, data, n < room ? n : room);
    }
    call->got += n;
    return 0;
}

static int on_frame(nghttp2_session *s, const nghttp2_frame *frame, void *user)
{
    bool ends = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    if (ends && (frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS)) {
        struct call *call = nghttp2_session_get_stream_user_data(s, frame->hd.stream_id);
        if (call)
            call->complete = true;
    }
    return 0;
}

// Not seen by the server: as if it had not begun. The next free call of any connection carries it.
static void count_again(struct call *call)
{
    sum.again++;
    sum.started--;
}

static void count(struct call *call)
{
    unsigned status = call->status > 0 && call->status < 600 ? (unsigned)call->status : 0;
    sum.status[status]++;
    sum.bytes += call->got;
    hist_add(&latency, now_us() - call->start_us);
    if (status != 200 || !call->complete) {
        sum.failed++;
        return;
    }
    sum.ok++;
    if (call->check) {
        sum.checked++;
        if (!matches(call)) {
            sum.mismatch++;
            if (sum.mismatch <= 3)
                fprintf(stderr, "load: not the reference answer: %.*s\n", (int)call->got,
                        call->answer);
        }
    }
}

static void retire(struct call *call)
{
    call->next = call->conn->free;
    call->conn->free = call;
    call->conn->running--;
}

static int on_close(nghttp2_session *s, int32_t id, uint32_t error, void *user)
{
    struct call *call = nghttp2_session_get_stream_user_data(s, id);
    if (!call)
        return 0;
    if (error == NGHTTP2_REFUSED_STREAM && !call->complete)
        count_again(call);
    else
        count(call);
    retire(call);
    return 0;
}

// A request that nghttp2 could not send (the server said GOAWAY before it went).
static int on_not_sent(nghttp2_session *s, const nghttp2_frame *frame, int error, void *user)
{
    struct call *call = nghttp2_session_get_stream_user_data(s, frame->hd.stream_id);
    if (frame->hd.type == NGHTTP2_HEADERS && call) {
        nghttp2_session_set_stream_user_data(s, frame->hd.stream_id, NULL);
        count_again(call);
        retire(call);
    }
    return 0;
}

static void open_session(struct conn *c)
{
    nghttp2_session_callbacks *on;
    if (nghttp2_session_callbacks_new(&on) != 0)
        die("out of memory");
    nghttp2_session_callbacks_set_on_header_callback(on, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(on, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(on, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(on, on_close);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(on, on_not_sent);
    if (nghttp2_session_client_new(&c->session, on, c) != 0)
        die("out of memory");
    nghttp2_session_callbacks_del(on);
    nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
                                         {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 20}};
    nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings, 2);
    nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0, 1 << 24);
}

static void connect_to(struct conn *c)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port)};
    if (inet_pton(AF_INET, opt.host, &to.sin_addr) != 1)
        die("%s is no IPv4 address", opt.host);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to) != 0)
        die("%s:%d: %s", opt.host, opt.port, strerror(errno));
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e) != 0)
        die("epoll: %s", strerror(errno));
    c->wants_out = false;
    buffer_reset(&c->out);
    open_session(c);
}

// Everything that nghttp2 has to say, in one write. False: the connection is broken.
static bool flush(struct conn *c)
{
    const uint8_t *data;
    ssize_t n;
    while ((n = nghttp2_session_mem_send(c->session, &data)) > 0)
        if (!buffer_append(&c->out, data, (size_t)n))
            die("out of memory");
    if (n < 0)
        return false;
    while (buffer_len(&c->out) > 0) {
        n = send(c->fd, c->out.data + c->out.at, buffer_len(&c->out), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            return false;
        if (n < 0)
            break;
        buffer_consume(&c->out, (size_t)n);
    }
    bool wants = buffer_len(&c->out) > 0;
    if (wants != c->wants_out) {
        struct epoll_event e = {.events = EPOLLIN | (wants ? EPOLLOUT : 0), .data.ptr = c};
        epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
        c->wants_out = wants;
    }
    return true;
}

static bool receive(struct conn *c)
{
    static uint8_t in[256 << 10];
    ssize_t n = recv(c->fd, in, sizeof in, MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    return n > 0 && nghttp2_session_mem_recv(c->session, in, (size_t)n) == n;
}

static void close_conn(struct conn *c)
{
    if (c->session) {
        nghttp2_session_del(c->session); // tells no stream's end: what still runs has failed
        c->session = NULL;
        close(c->fd);
    }
    sum.failed += c->running;
    sum.status[0] += c->running;
    c->running = 0;
    c->free = NULL;
    for (unsigned i = 0; i < opt.streams; i++) {
        c->calls[i].next = c->free;
        c->free = &c->calls[i];
    }
}

// ---- the run -------------------------------------------------------------------------------------

static uint64_t done(void)
{
    return sum.ok + sum.failed;
}

// A turn of one connection: read, start, write; a new connection when this one has ended or leaves.
static void turn(struct conn *c, uint32_t events)
{
    bool alive = !(events & (EPOLLIN | EPOLLHUP | EPOLLERR)) || receive(c);
    if (alive) {
        fill(c);
        alive = flush(c);
    }
    bool leaves = alive && c->running == 0 && !nghttp2_session_check_request_allowed(c->session);
    if (alive && !leaves)
        return;
    close_conn(c);
    if (done() < opt.requests) {
        sum.reconnects++;
        if (sum.reconnects > 1000 + opt.conns)
            die("the server ends connection after connection");
        connect_to(c);
        fill(c);
        flush(c);
    }
}

static struct conn *open_all(void)
{
    struct conn *conns = mem_zalloc(opt.conns * sizeof *conns);
    for (unsigned i = 0; conns && i < opt.conns; i++) {
        struct conn *c = &conns[i];
        buffer_init(&c->out);
        c->calls = mem_zalloc(opt.streams * sizeof *c->calls);
        if (!c->calls)
            die("out of memory");
        for (unsigned k = 0; k < opt.streams; k++)
            c->calls[k].conn = c;
        close_conn(c);
        connect_to(c);
    }
    return conns;
}

static void run(void)
{
    struct conn *conns = open_all();
    if (!conns)
        die("out of memory");
    for (unsigned i = 0; i < opt.conns; i++)
        turn(&conns[i], 0);
    uint64_t until = now_us() + (uint64_t)(opt.seconds * 1e6);
    while (done() < opt.requests && now_us() < until) {
        struct epoll_event events[64];
        int n = epoll_wait(epoll_fd, events, 64, 100);
        for (int i = 0; i < n; i++)
            turn(events[i].data.ptr, events[i].events);
        for (unsigned i = 0; n == 0 && i < opt.conns; i++)
            turn(&conns[i], 0); // what was refused elsewhere may wait for an idle connection
    }
    for (unsigned i = 0; i < opt.conns; i++) {
        close_conn(&conns[i]);
        buffer_deinit(&conns[i].out);
        mem_free(conns[i].calls);
    }
    mem_free(conns);
}

static void print(double seconds)
{
    printf("{\"requests\":%lu,\"ok\":%lu,\"failed\":%lu,\"checked\":%lu,\"mismatch\":%lu,",
           opt.requests, sum.ok, sum.failed, sum.checked, sum.mismatch);
    printf("\"again\":%lu,\"reconnects\":%lu,\"bytes\":%lu,\"status\":{", sum.again, sum.reconnects,
           sum.bytes);
    const char *comma = "";
    for (unsigned i = 0; i < 600; i++)
        if (sum.status[i]) {
            printf("%s\"%u\":%lu", comma, i, sum.status[i]);
            comma = ",";
        }
    printf("},\"seconds\":%.3f,\"p50_us\":%lu,\"p99_us\":%lu}\n", seconds,
           hist_quantile(&latency, 0.5), hist_quantile(&latency, 0.99));
}

int main(int argc, char **argv)
{
    for (int c; (c = getopt(argc, argv, "h:p:u:f:n:c:m:k:t:")) != -1;) {
        switch (c) {
        case 'h':
            opt.host = optarg;
            break;
        case 'p':
            opt.port = atoi(optarg);
            break;
        case 'u':
            opt.path = optarg;
            break;
        case 'f':
            opt.set = optarg;
            break;
        case 'n':
            opt.requests = strtoull(optarg, NULL, 10);
            break;
        case 'c':
            opt.conns = (unsigned)atoi(optarg);
            break;
        case 'm':
            opt.streams = (unsigned)atoi(optarg);
            break;
        case 'k':
            opt.check = (unsigned)atoi(optarg);
            break;
        case 't':
            opt.seconds = atof(optarg);
            break;
        default:
            return 2;
        }
    }
    if (!opt.set || opt.port <= 0 || opt.conns == 0 || opt.streams == 0)
        die("-p PORT and -f SET are needed; -c and -m are at least 1");
    snprintf(authority, sizeof authority, "%s:%d", opt.host, opt.port);
    read_set();
    hist_init(&latency);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    uint64_t start = now_us();
    run();
    print((double)(now_us() - start) * 1e-6);
    return sum.ok == opt.requests && sum.mismatch == 0 ? 0 : 1;
}
