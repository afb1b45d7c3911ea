#include "net/sock.h"
#include "base/check.h"
#include "net/door.h"
#include "net/tls.h"
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WRITE_A_TURN (256u << 10) // bytes; then the others have their turn
#define WRITE_WHEN_SPENT                                                                           \
    (16u << 10) // when the turn has no time left: a little, so that each goes on
#define IOV_MAX_GATHER 64
#define RECORDS_A_TURN 128 // TLS records read, however small (row 127)
#define DIRECT_BYTES 4096  // a first run this long becomes a TLS record without being copied

static void fail(struct sock *s, const char *why)
{
    s->broken = true;
    s->readable = s->writable = false;
    s->ops->on_error(s, why);
}

// ---- reading -------------------------------------------------------------------------------------------

enum read_end { GOT, NOTHING, END, FAILED };

static enum read_end read_plain(struct sock *s, size_t room, size_t *n, const char **why)
{
    ssize_t got;
    do
        got = recv(s->fd, s->loop->scratch, room, 0);
    while (got < 0 && errno == EINTR);
    if (got > 0) {
        *n = (size_t)got;
        return GOT;
    }
    s->readable = false;
    if (got == 0)
        return END;
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return NOTHING;
    *why = strerrordesc_np(errno);
    return FAILED;
}

// Records are gathered in the scratch, so that the room above sees few large runs.
static enum read_end read_tls(struct sock *s, size_t *n, const char **why)
{
    size_t have = 0;
    for (int i = 0; i < RECORDS_A_TURN && have < LOOP_SCRATCH; i++) {
        size_t got = 0;
        enum tls_io io = tls_read(s->tls, s->loop->scratch + have, LOOP_SCRATCH - have, &got);
        have += got;
        if (io == TLS_OK)
            continue;
        if (io != TLS_WANT_WRITE)
            s->readable = false;
        *n = have;
        if (have && (io == TLS_EOF || io == TLS_BROKEN)) {
            s->readable = true; // the end is seen again after what came before it
            return GOT;
        }
        *why = io == TLS_BROKEN ? tls_why(s->tls) : NULL;
        return io == TLS_BROKEN ? FAILED : io == TLS_EOF ? END : have ? GOT : NOTHING;
    }
    *n = have;
    return GOT;
}

// May end in on_eof or on_error, after which s is not touched: the owner may have closed it.
static void pump(struct sock *s)
{
    size_t taken = 0;
    while (s->readable && !s->eof && !DOOR_IS_DEAF(s) &&
           (!s->ops->wants_read || s->ops->wants_read(s))) {
        if (taken >= LOOP_SCRATCH || (taken > 0 && loop_is_spent(s->loop))) {
            loop_defer(s->loop, &s->more);
            return;
        }
        size_t n = 0, room = LOOP_SCRATCH - taken;
        const char *why = NULL;
        enum read_end o = s->tls ? read_tls(s, &n, &why) : read_plain(s, room, &n, &why);
        if (o == NOTHING)
            return;
        if (o == FAILED) {
            fail(s, why);
            return;
        }
        if (o == END) {
            s->eof = true;
            s->ops->on_eof(s);
            return;
        }
        // A run of tiny TLS records counts as a whole turn's reading.
        taken += s->tls && s->readable ? LOOP_SCRATCH : n;
        s->bytes_in += n;
        loop_worked(s->loop, n >= LOOP_LOOK_BYTES ? n : 0); // less may be many small requests
        s->ops->on_data(s, s->loop->scratch, n);
        // A short read has emptied the queue: the next byte makes a new edge. Not so the FIN or the
        // reset that came together with this one's edge.
        if (!s->tls && n < room && !s->hup && s->ops->expects_more && !s->ops->expects_more(s))
            s->readable = false;
    }
}

// The first byte tells: TLS begins with the number of a record, a request with a letter of its method. False: it has
// not come yet. Nothing but its edge follows then: TLS would read what has not been looked at.
static bool look_at_first_byte(struct sock *s)
{
    uint8_t first = 0;
    ssize_t got;
    do
        got = recv(s->fd, &first, 1, MSG_PEEK);
    while (got < 0 && errno == EINTR);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return false;
    s->may_be_plain = false; // an end, or an error, is for the handshake to find
    s->plain = first >= 'A' && first <= 'Z';
    if (!s->plain)
        return true;
    tls_free(s->tls);
    s->tls = NULL;
    return true;
}

static void handshake(struct sock *s)
{
    if (s->may_be_plain && !look_at_first_byte(s))
        return;
    loop_worked(s->loop, LOOP_LOOK_BYTES); // a signature: look at the clock behind it
    enum tls_io io = s->tls ? tls_handshake(s->tls) : TLS_OK;
    if (io == TLS_WANT_READ || io == TLS_WANT_WRITE)
        return;
    if (io != TLS_OK) {
        fail(s, io == TLS_EOF ? "closed in the TLS handshake" : tls_why(s->tls));
        return;
    }
    s->open = true;
    s->ops->on_open(s);
    loop_flush_later(s->loop, &s->flush);
    pump(s);
}

// Behind the peer's FIN there is nothing to read, and reading says no more than that.
static void look_for_reset(struct sock *s)
{
    int err = 0;
    socklen_t n = sizeof(err);
    if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &err, &n) == 0 && err != 0)
        fail(s, strerrordesc_np(err));
}

static void advance(struct sock *s)
{
    if (s->broken)
        return;
    if (s->eof)
        look_for_reset(s);
    else if (s->open)
        pump(s);
    else
        handshake(s);
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    struct sock *s = arg;
    loop_now_us(s->loop);
    if (what & EV_CLOSED)
        s->hup = true;
    if (what & (EV_READ | EV_CLOSED))
        s->readable = true;
    if ((what & EV_WRITE) && !s->writable && !s->broken) {
        s->writable = true;
        loop_flush_later(s->loop, &s->flush);
    }
    if (loop_is_spent(s->loop))
        loop_defer(s->loop, &s->more); // others have worked for all of this turn
    else
        advance(s);
}

static void on_more(struct loop *l, struct loop_call *c)
{
    struct sock *s = container_of(c, struct sock, more);
    if (s->write_more) {
        s->write_more = false;
        loop_flush_later(l, &s->flush);
    }
    advance(s);
}

// ---- writing -------------------------------------------------------------------------------------------

// Bytes taken; 0: the socket is full; -1: broken.
static long write_plain(struct sock *s, struct iovec *iov, int n)
{
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)n};
    ssize_t put;
    do
        put = sendmsg(s->fd, &msg, MSG_NOSIGNAL);
    while (put < 0 && errno == EINTR);
    if (put >= 0)
        return put;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS)
        return 0;
    s->why = strerrordesc_np(errno);
    return -1;
}

static long write_tls(struct sock *s, struct iovec *iov, int n)
{
    const uint8_t *p = iov[0].iov_base;
    size_t bytes = iov[0].iov_len;
    if (n > 1 && bytes < DIRECT_BYTES) {
        p = s->loop->record;
        bytes = 0;
        for (int i = 0; i < n && bytes < LOOP_RECORD; i++) {
            size_t take = LOOP_RECORD - bytes;
            take = iov[i].iov_len < take ? iov[i].iov_len : take;
            memcpy(s->loop->record + bytes, iov[i].iov_base, take);
            bytes += take;
        }
    }
    if (bytes > LOOP_RECORD)
        bytes = LOOP_RECORD;
    size_t put = 0;
    enum tls_io io = tls_write(s->tls, p, bytes, &put);
    if (io == TLS_OK)
        return (long)put;
    s->why = tls_why(s->tls);
    return io == TLS_BROKEN || io == TLS_EOF ? -1 : 0;
}

// A record that the socket did not take whole goes first. False: the round is over.
static bool write_pending(struct sock *s)
{
    if (!s->tls || !s->writable || !tls_pending(s->tls))
        return true;
    enum tls_io io = tls_flush(s->tls);
    if (io == TLS_OK)
        return true;
    if (io == TLS_BROKEN || io == TLS_EOF) {
        fail(s, tls_why(s->tls));
        return false;
    }
    s->writable = false;
    s->ops->on_flushed(s, false);
    return false;
}

// The first `room` bytes of the runs; how many runs these are.
static int cut_to(struct iovec *iov, int n, size_t room)
{
    for (int i = 0; i < n; i++) {
        if (iov[i].iov_len >= room) {
            iov[i].iov_len = room;
            return i + 1;
        }
        room -= iov[i].iov_len;
    }
    return n;
}

static void on_flush(struct loop *l, struct loop_flush *f)
{
    struct sock *s = container_of(f, struct sock, flush);
    struct iovec iov[IOV_MAX_GATHER];
    size_t budget = loop_is_spent(l) ? WRITE_WHEN_SPENT : WRITE_A_TURN;
    if (!s->open || s->broken || !write_pending(s))
        return;
    while (s->writable && !s->shut) {
        int n = s->ops->gather(s, iov, IOV_MAX_GATHER);
        if (n == 0) {
            s->ops->on_flushed(s, true);
            return;
        }
        n = cut_to(iov, n, budget);
        long put = s->tls ? write_tls(s, iov, n) : write_plain(s, iov, n);
        if (put < 0) {
            fail(s, s->why);
            return;
        }
        if (put == 0) {
            s->writable = false; // the edge comes
            break;
        }
        s->bytes_out += (uint64_t)put;
        s->ops->sent(s, (size_t)put);
        if (s->tls && tls_pending(s->tls)) {
            s->writable = false;
            break;
        }
        loop_worked(l, (size_t)put >= LOOP_LOOK_BYTES ? (size_t)put : 0);
        if ((size_t)put >= budget) {
            s->write_more = true;
            loop_defer(l, &s->more);
            break;
        }
        budget -= (size_t)put;
    }
    s->ops->on_flushed(s, false);
}

// ---- life ----------------------------------------------------------------------------------------------

int sock_init(struct sock *s, struct loop *l, int fd, struct tls *tls, const struct sock_ops *ops)
{
    *s = (struct sock){.loop = l, .ops = ops, .tls = tls, .fd = fd, .writable = true};
    s->flush.fn = on_flush;
    s->more.fn = on_more;
    short what = EV_READ | EV_WRITE | EV_CLOSED | EV_ET | EV_PERSIST;
    if (event_assign(&s->ev, l->base, fd, what, on_event, s) == 0 && event_add(&s->ev, NULL) == 0)
        return 0;
    s->fd = -1;
    tls_free(tls);
    close(fd);
    return -1;
}

void sock_start(struct sock *s)
{
    s->readable = true; // perhaps: the first read finds out
    if (s->tls) {
        handshake(s);
        return;
    }
    s->open = true;
    s->ops->on_open(s);
    loop_flush_later(s->loop, &s->flush);
    pump(s);
}

void sock_flush(struct sock *s)
{
    if (s->fd >= 0 && !s->broken)
        loop_flush_later(s->loop, &s->flush);
}

void sock_resume(struct sock *s)
{
    if (s->readable && s->fd >= 0)
        loop_defer(s->loop, &s->more);
}

void sock_shut(struct sock *s)
{
    if (s->shut || s->fd < 0)
        return;
    s->shut = true;
    if (s->tls && s->open && !s->broken)
        tls_shut(s->tls);
    shutdown(s->fd, SHUT_WR);
}

void sock_abandon(struct sock *s)
{
    struct linger none = {.l_onoff = 1, .l_linger = 0};
    setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
}

int sock_detach(struct sock *s)
{
    int fd = s->fd;
    loop_flush_cancel(&s->flush);
    loop_defer_cancel(&s->more);
    if (fd >= 0)
        event_del(&s->ev);
    s->fd = -1;
    return fd;
}

void sock_close(struct sock *s)
{
    int fd = sock_detach(s);
    tls_free(s->tls); // before the descriptor goes to somebody else
    s->tls = NULL;
    if (fd >= 0)
        close(fd);
}
