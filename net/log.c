#include "net/log.h"
#include "base/check.h"
#include "base/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define BUSY_MS 10   // between looks while lines come
#define IDLE_MS 100  // while none come
#define ERROR_MS 200 // after a disk error
#define GIVE_UP_US 2000000

/* One producer, one consumer. head and tail only grow; head stands at the end of a line always, so whatever
 * the thread takes in one look is whole lines. Invariant: head - tail <= bytes. */
struct ring {
    _Alignas(64) _Atomic uint64_t head; // producer's
    _Atomic uint64_t lines, dropped;
    _Alignas(64) _Atomic uint64_t tail; // thread's
    uint8_t *data;
};

struct log_target { // where a sink is to go
    char *path;     // NULL: nowhere
    int fd;
};

struct sink {
    _Atomic bool used;
    char *path;                        // NULL: standard error, or nowhere
    int fd;                            // -1: nowhere
    _Atomic(struct log_target *) next; // NULL: it stays where it is
    bool
        paced; // fd would block us: a pipe or socket that we were given (standard error, standard output)
    struct ring *rings; // one a producer
    void *raw;
    unsigned
        cut_ring; // whose bytes up to cut_end must follow before any other's: a line was cut there
    uint64_t cut_end; // 0: none
    _Atomic bool reopen;
    _Atomic uint64_t bytes, write_errors, reopen_errors;
};

struct log {
    unsigned n_producers;
    size_t ring_bytes;
    struct sink sink[LOG_SINKS];
    struct buffer *scratch; // one a producer: the line being put together
    int wake_fd;
    struct pollfd full[LOG_SINKS]; // thread's: those that take nothing now
    unsigned n_full;
    _Atomic unsigned level; // enum log_level: lines below it are not written
    _Atomic bool woken;     // an eventfd write is on its way
    _Atomic bool stop;
    bool started;
    pthread_t thread;
};

static uint64_t mono_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

// ---- producers -----------------------------------------------------------------------------------------

static void nudge(struct log *g)
{
    uint64_t one = 1;
    if (!atomic_exchange(&g->woken, true))
        while (write(g->wake_fd, &one, sizeof one) < 0 && errno == EINTR) {
        }
}

bool log_write(struct log *g, unsigned producer, unsigned sink, struct view line)
{
    invariant(producer < g->n_producers && sink < LOG_SINKS);
    if (!g->sink[sink].used || line.n == 0)
        return false;
    struct ring *r = &g->sink[sink].rings[producer];
    uint64_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
    uint64_t tail = atomic_load_explicit(&r->tail, memory_order_acquire);
    size_t cap = g->ring_bytes, used = (size_t)(head - tail);
    if (line.n > cap - used) {
        atomic_fetch_add_explicit(&r->dropped, 1, memory_order_relaxed);
        return false;
    }
    size_t at = head % cap, first = cap - at < line.n ? cap - at : line.n;
    memcpy(r->data + at, line.p, first);
    memcpy(r->data, line.p + first, line.n - first);
    atomic_store_explicit(&r->head, head + line.n, memory_order_release);
    atomic_fetch_add_explicit(&r->lines, 1, memory_order_relaxed);
    if (used + line.n > cap / 2 && used <= cap / 2)
        nudge(g); // it would come by itself, perhaps too late
    return true;
}

void log_set_level(struct log *g, enum log_level lowest)
{
    atomic_store_explicit(&g->level, lowest, memory_order_relaxed);
}

enum log_level log_level(const struct log *g)
{
    return (enum log_level)atomic_load_explicit(&g->level, memory_order_relaxed);
}

bool log_line(struct log *g, unsigned producer, enum log_level level, uint64_t wall_us,
              const char *event, const struct log_field *fields, unsigned n)
{
    invariant(producer < g->n_producers);
    if (level < log_level(g))
        return true;
    struct buffer *b = &g->scratch[producer];
    return log_format(b, level, wall_us, event, fields, n) &&
           log_write(g, producer, LOG_EVENTS, buffer_view(b));
}

// ---- the thread ----------------------------------------------------------------------------------------

static int open_file(const char *path)
{
    if (strcmp(path, "/dev/stdout") == 0) // may be a socket (journald's), which no path leads to
        return fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    // Without O_NONBLOCK a FIFO that nobody reads would hold us up, here and at every write.
    int flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    return open(path, flags, 0640);
}

// Whether a write to it may hold the thread up, and with it every other sink and our own end. We may not
// set O_NONBLOCK: the description is shared with whoever gave it to us.
static bool may_block(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && !S_ISREG(st.st_mode) && !(fcntl(fd, F_GETFL) & O_NONBLOCK);
}

static void target_free(struct log_target *t)
{
    if (t && t->fd >= 0)
        close(t->fd);
    if (t)
        mem_free(t->path);
    mem_free(t);
}

// Switches to the file that log_move named. What came for the file before has been written by now, as far as it takes it.
static void move(struct sink *s)
{
    struct log_target *t = s->cut_end ? NULL : atomic_exchange(&s->next, NULL);
    if (!t)
        return;
    struct log_target old = *t;
    t->path = s->path;
    t->fd = s->path ? s->fd : -1; // standard error is not ours to close
    s->path = old.path;
    s->fd = old.fd;
    s->paced = s->fd >= 0 && may_block(s->fd);
    target_free(t);
}

static void reopen(struct sink *s)
{
    if (!s->path || s->cut_end) // a line that was cut is finished in its own file
        return;
    if (!atomic_exchange(&s->reopen, false))
        return;
    int fd = open_file(s->path);
    if (fd < 0) {
        atomic_fetch_add_explicit(&s->reopen_errors, 1, memory_order_relaxed);
        return; // the old file goes on
    }
    close(s->fd);
    s->fd = fd;
    s->paced = may_block(fd);
}

enum written { WRITE_ALL, WRITE_FULL, WRITE_FAILED };

// A pipe that says it can be written takes PIPE_BUF bytes without blocking, and in one piece: whole lines,
// as others (keeper, workers) write into the same one.
static size_t paced_share(const struct log *g, const struct ring *r, uint64_t tail, size_t n)
{
    if (n <= PIPE_BUF)
        return n;
    for (size_t k = PIPE_BUF; k > 0; k--) {
        if (r->data[(tail + k - 1) % g->ring_bytes] == '\n')
            return k;
    }
    return PIPE_BUF;
}

static enum written write_some(struct sink *s, struct iovec *iov, int n, size_t *put)
{
    struct pollfd p = {.fd = s->fd, .events = POLLOUT};
    if (s->paced && poll(&p, 1, 0) == 0)
        return WRITE_FULL;
    ssize_t got = writev(s->fd, iov, n);
    if (got >= 0) {
        *put = (size_t)got;
        atomic_fetch_add_explicit(&s->bytes, *put, memory_order_relaxed);
        return got > 0 ? WRITE_ALL : WRITE_FULL;
    }
    if (errno == EINTR)
        return WRITE_ALL; // of nothing
    if (errno == EAGAIN)
        return WRITE_FULL;
    atomic_fetch_add_explicit(&s->write_errors, 1, memory_order_relaxed);
    return WRITE_FAILED;
}

// Ring i's lines up to `end`, as far as they are taken.
static enum written write_ring(struct log *g, struct sink *s, unsigned i, uint64_t end)
{
    struct ring *r = &s->rings[i];
    uint64_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    enum written w = WRITE_ALL;
    while (tail < end && w == WRITE_ALL) {
        size_t n = (size_t)(end - tail), cap = g->ring_bytes, at = tail % cap, put = 0;
        if (s->paced)
            n = paced_share(g, r, tail, n);
        size_t first = cap - at < n ? cap - at : n;
        struct iovec iov[2] = {{r->data + at, first}, {r->data, n - first}};
        w = write_some(s, iov, n > first ? 2 : 1, &put);
        if (put > 0) { // cut: what is left of these lines comes before any other's
            tail += put;
            s->cut_end = tail < end ? end : 0;
            s->cut_ring = i;
            atomic_store_explicit(&r->tail, tail, memory_order_release);
        }
    }
    return w;
}

// Of a sink that is nowhere. What was written after log_move found a file for it is seen here with `next`, and stays.
static void drop_lines(struct log *g, struct sink *s)
{
    for (unsigned i = 0; i < g->n_producers; i++) {
        uint64_t head = atomic_load_explicit(&s->rings[i].head, memory_order_acquire);
        if (atomic_load(&s->next))
            return;
        atomic_store_explicit(&s->rings[i].tail, head, memory_order_release);
    }
}

static enum written write_sink(struct log *g, struct sink *s)
{
    enum written w = WRITE_ALL;
    if (s->fd < 0) {
        drop_lines(g, s);
        return w;
    }
    if (s->cut_end)
        w = write_ring(g, s, s->cut_ring, s->cut_end);
    for (unsigned i = 0; i < g->n_producers && w == WRITE_ALL; i++)
        w = write_ring(g, s, i, atomic_load_explicit(&s->rings[i].head, memory_order_acquire));
    return w;
}

// Until a producer calls, a sink that was full takes more, or the time is over.
static void rest(struct log *g, int ms)
{
    struct pollfd p[LOG_SINKS + 1] = {{.fd = g->wake_fd, .events = POLLIN}};
    uint64_t count;
    memcpy(p + 1, g->full, g->n_full * sizeof *p);
    if (poll(p, g->n_full + 1, ms) > 0 && p[0].revents &&
        read(g->wake_fd, &count, sizeof count) > 0)
        atomic_store(&g->woken, false);
}

static void *log_main(void *arg)
{
    struct log *g = arg;
    uint64_t stop_us = 0; // when it was told to stop, or last wrote after that
    pthread_setname_np(pthread_self(), "log");
    for (;;) {
        bool stop = atomic_load(&g->stop), wrote = false, failed = false;
        g->n_full = 0;
        for (unsigned i = 0; i < LOG_SINKS; i++) {
            struct sink *s = &g->sink[i];
            if (!s->used)
                continue;
            if (atomic_load_explicit(&s->next, memory_order_relaxed))
                write_sink(g, s); // what came for the file that it leaves
            move(s);
            reopen(s);
            uint64_t before = atomic_load_explicit(&s->bytes, memory_order_relaxed);
            enum written w = write_sink(g, s);
            wrote |= atomic_load_explicit(&s->bytes, memory_order_relaxed) != before;
            failed |= w == WRITE_FAILED;
            if (w == WRITE_FULL)
                g->full[g->n_full++] = (struct pollfd){.fd = s->fd, .events = POLLOUT};
        }
        if (stop) {
            uint64_t now_us = mono_us();
            if (!stop_us || wrote)
                stop_us = now_us;
            if ((!wrote && !failed && !g->n_full) || now_us - stop_us > GIVE_UP_US)
                return NULL;
            if (failed || g->n_full)
                rest(g, BUSY_MS);
            continue;
        }
        rest(g, failed ? ERROR_MS : wrote ? BUSY_MS : IDLE_MS);
    }
}

// ---- life ----------------------------------------------------------------------------------------------

struct log *log_new(unsigned n_producers, size_t ring_bytes)
{
    struct log *g = mem_zalloc(sizeof *g);
    if (!g)
        return NULL;
    g->n_producers = n_producers;
    g->level = LOG_INFO;
    g->ring_bytes = ring_bytes ? ring_bytes : LOG_RING;
    g->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    g->scratch = mem_zalloc(n_producers * sizeof *g->scratch);
    for (unsigned i = 0; i < LOG_SINKS; i++)
        g->sink[i].fd = -1;
    if (g->wake_fd < 0 || !g->scratch || log_open(g, LOG_EVENTS, NULL) < 0) {
        log_free(g);
        return NULL;
    }
    return g;
}

// -1 with errno.
static int make_rings(struct log *g, struct sink *s)
{
    errno = ENOMEM;
    if (!s->raw) {
        s->raw = mem_zalloc(g->n_producers * sizeof(struct ring) + 64);
        if (!s->raw)
            return -1;
        s->rings = (struct ring *)(((uintptr_t)s->raw + 63) & ~(uintptr_t)63);
    }
    for (unsigned i = 0; i < g->n_producers; i++) {
        if (!s->rings[i].data) // touched as lines come: address space, not memory
            s->rings[i].data = mem_alloc(g->ring_bytes);
        if (!s->rings[i].data)
            return -1;
    }
    return 0;
}

int log_open(struct log *g, unsigned sink, const char *path)
{
    invariant(sink < LOG_SINKS && !g->started);
    struct sink *s = &g->sink[sink];
    int fd = path ? open_file(path) : STDERR_FILENO;
    if (fd < 0)
        return -1;
    char *copy = path ? mem_alloc(strlen(path) + 1) : NULL;
    if (make_rings(g, s) < 0 || (path && !copy)) {
        if (path)
            close(fd);
        mem_free(copy);
        errno = ENOMEM;
        return -1;
    }
    if (path)
        memcpy(copy, path, strlen(path) + 1);
    if (s->path)
        close(s->fd);
    mem_free(s->path);
    s->path = copy;
    s->fd = fd;
    s->paced = may_block(fd);
    s->used = true;
    return 0;
}

int log_move(struct log *g, unsigned sink, const char *path)
{
    invariant(sink < LOG_SINKS && sink != LOG_EVENTS && g->started);
    struct sink *s = &g->sink[sink];
    struct log_target *t = mem_zalloc(sizeof *t);
    int fd = t && path ? open_file(path) : -1;
    bool whole = t && (!path || fd >= 0);
    if (whole && path) {
        t->path = mem_alloc(strlen(path) + 1);
        if (t->path)
            memcpy(t->path, path, strlen(path) + 1);
        else
            errno = ENOMEM;
        whole = t->path && (s->used || make_rings(g, s) == 0);
    }
    if (!whole) {
        int error = t ? errno : ENOMEM;
        if (t)
            t->fd = fd;
        target_free(t);
        errno = error;
        return -1;
    }
    t->fd = fd;
    target_free(atomic_exchange(&s->next, t)); // an earlier wish that nobody has seen yet
    if (path)
        atomic_store(&s->used, true);
    nudge(g);
    return 0;
}

int log_start(struct log *g)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int err = pthread_create(&g->thread, NULL, log_main, g);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    g->started = err == 0;
    errno = err;
    return err ? -1 : 0;
}

void log_free(struct log *g)
{
    if (!g)
        return;
    if (g->started) {
        atomic_store(&g->stop, true);
        nudge(g);
        pthread_join(g->thread, NULL);
    }
    for (unsigned i = 0; i < LOG_SINKS; i++) {
        struct sink *s = &g->sink[i];
        for (unsigned k = 0; s->rings && k < g->n_producers; k++)
            mem_free(s->rings[k].data);
        mem_free(s->raw);
        target_free(atomic_exchange(&s->next, NULL));
        if (s->path)
            close(s->fd);
        mem_free(s->path);
    }
    for (unsigned i = 0; g->scratch && i < g->n_producers; i++)
        buffer_deinit(&g->scratch[i]);
    mem_free(g->scratch);
    if (g->wake_fd >= 0)
        close(g->wake_fd);
    mem_free(g);
}

void log_reopen(struct log *g)
{
    for (unsigned i = 0; i < LOG_SINKS; i++)
        atomic_store(&g->sink[i].reopen, true);
    nudge(g);
}

void log_stats(const struct log *g, unsigned sink, struct log_stats *out)
{
    const struct sink *s = &g->sink[sink];
    *out = (struct log_stats){
        .bytes = atomic_load_explicit(&s->bytes, memory_order_relaxed),
        .write_errors = atomic_load_explicit(&s->write_errors, memory_order_relaxed),
        .reopen_errors = atomic_load_explicit(&s->reopen_errors, memory_order_relaxed)};
    for (unsigned i = 0; s->rings && i < g->n_producers; i++) {
        out->lines += atomic_load_explicit(&s->rings[i].lines, memory_order_relaxed);
        out->dropped += atomic_load_explicit(&s->rings[i].dropped, memory_order_relaxed);
    }
}
