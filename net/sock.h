/* net/sock.h: a connected stream of bytes on a loop, plain or TLS. Nonblocking, edge-triggered:
 * one libevent event for its whole life. Reads land in the loop's scratch and go to on_data at
 * once; writes are pulled by gather when the socket was flagged with sock_flush (once before the
 * loop sleeps). Owner: whoever embeds it. Thread: its loop's. EINTR, EAGAIN and short writes end
 * here.
 *
 *   sock_init(connected fd) -> sock_start ──handshake──► on_open ──► on_data…, gather/sent…
 *       ──► on_eof (the peer's FIN; we may still write) or on_error (broken) ──► sock_close
 * on_eof, on_error and on_flushed are the last thing that happens in their call: there the owner may close
 * the socket and free itself. In the others it may not: it flags the socket and closes in on_flushed. */
#ifndef SLUICE_NET_SOCK_H
#define SLUICE_NET_SOCK_H

#include "net/loop.h"
#include <sys/uio.h>

struct tls; // net/tls.h
struct sock;

struct sock_ops {
    void (*on_open)(struct sock *s); // TLS: the handshake is over; plain: from inside sock_start
    // Bytes, valid during the call only.
    void (*on_data)(struct sock *s, const uint8_t *p, size_t n);
    void (*on_eof)(struct sock *s);
    // The stream is broken: nothing more is read or written. The owner closes it (now or later).
    void (*on_error)(struct sock *s, const char *why);
    // What to send: fills iov, 0: nothing. Bytes not yet told by sent come first again next time.
    int (*gather)(struct sock *s, struct iovec *iov, int max);
    void (*sent)(struct sock *s, size_t n);
    // After each round of writing that emptied gather or met a full socket: for time-outs and
    // closing.
    void (*on_flushed)(struct sock *s, bool drained);
    bool (*wants_read)(struct sock *s); // NULL: always. False pauses; sock_resume goes on.
    // After on_data, plain sockets: may more of the same be at hand? False saves a read that would find
    // nothing, at a price: a reset that came together with these bytes is seen with the next write only
    // (libevent does not tell it from readiness). NULL: always read until there is nothing.
    bool (*expects_more)(struct sock *s);
};

struct sock {
    struct loop *loop;
    const struct sock_ops *ops;
    struct tls *tls; // NULL: plain; owned
    int fd;          // -1: closed
    bool
        may_be_plain; // TLS: a peer that begins to speak without it is heard so (set before sock_start)
    bool plain;       // it did: tls is NULL from on_open on
    bool open;        // handshake done
    bool readable; // the edge said so and EAGAIN has not been seen since
    bool writable;
    bool hup;        // the peer's FIN is waiting behind the data: read until 0
    bool eof;        // on_eof was told
    bool broken;     // on_error was told
    bool busy;       // inside a callback of ours: closing waits
    bool shut;       // our FIN is out
    bool write_more; // a turn's share was written, more waits
    const char *why;
    uint64_t bytes_in, bytes_out;
    struct event ev;
    struct loop_flush flush;
    struct loop_call more; // reading goes on next turn
};

// Takes fd (nonblocking, connected) and tls over. 0, or -1 (the event could not be added): fd and
// tls are closed. Nothing is called before sock_start.
int sock_init(struct sock *s, struct loop *l, int fd, struct tls *tls, const struct sock_ops *ops);
void sock_start(struct sock *s);  // handshake and reading begin
void sock_flush(struct sock *s);  // something may be there to send
void sock_resume(struct sock *s); // wants_read may be true again
// Closes at once: no callback any more. Not from inside this socket's own callbacks, but for
// on_flushed, on_eof and on_error, where it is allowed.
void sock_close(struct sock *s);
// Sends FIN (TLS: close_notify first), no more writing. Reading goes on: let the peer read our last
// words (lingering close is the owner's: a deadline, and data thrown away).
void sock_shut(struct sock *s);
// What waits in the kernel goes with the next sock_close, by a reset: the peer does not take it, and it is no
// longer ours to keep (megabytes a connection).
void sock_abandon(struct sock *s);
int sock_detach(struct sock *s); // gives the descriptor back and forgets it (plain sockets only)

#endif
