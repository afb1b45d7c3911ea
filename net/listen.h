/* net/listen.h: opens listening sockets (the keeper does, and hands them to the gateway process by
 * SCM_RIGHTS). TCP: one descriptor a loop with SO_REUSEPORT; Unix: one, shared, since they do not
 * balance. All are nonblocking and close-on-exec. Thread: any. */
#ifndef SLUICE_NET_LISTEN_H
#define SLUICE_NET_LISTEN_H

#include "net/addr.h"

#define LISTEN_ERROR 256

// Opens n sockets for a (Unix: always one, whatever n says) into fds; *a gets the port that was
// chosen when it was 0. Returns how many, or -1 with err: "listen 127.0.0.1:8080: port in use".
// Nothing stays open on failure. A stale Unix socket file (nobody answers on it) is replaced; a
// living one, or a file that is no socket, is an error. To be sure that "in use" is found out
// although SO_REUSEPORT would let two processes of one user share the port, the port is probed
// first without it.
int listen_open(struct addr *a, unsigned n, int *fds, char err[LISTEN_ERROR]);
void listen_close(const struct addr *a, int *fds, unsigned n, bool unlink_unix);
// Before a listening socket is closed: whoever is not on his way yet is not let in any more, and those whose
// handshake runs may finish it: accept them, a moment later, and nobody is left. TCP: a SYN is dropped as if
// the net had lost it; repeated, a second later, it finds the port closed. Unix: connect is refused; there is
// no handshake, so false: who waits now is all there is. It holds for the socket, in every process that shares
// it, and is not taken back.
bool listen_turn_away(int fd);
// What a descriptor that came from elsewhere listens on; false: it is no listening socket.
bool listen_addr_of(int fd, struct addr *a);

// Descriptors over a Unix socket: at most FDS_MAX beside at least one byte. Both return bytes (as
// sendmsg/recvmsg), -1 with errno. fds_recv: *n_fds in: room, out: how many came (close-on-exec).
#define FDS_MAX 250
long fds_send(int sock, const void *p, size_t bytes, const int *fds, unsigned n_fds);
long fds_recv(int sock, void *p, size_t bytes, int *fds, unsigned *n_fds);

#endif
