#include "net/listen.h"
#include "base/check.h"
#include <errno.h>
#include <linux/filter.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define BACKLOG 4096 // the kernel cuts it to somaxconn
// What the kernel holds of an answer that has not been sent once: beyond it nothing is taken until half of it has
// left. Else it would be megabytes a connection (tcp_wmem) that no account of ours sees, and a reader that does not
// read would have them. What is on its way to a reader that reads is not meant: that follows the path.
#define UNSENT_BYTES (256 << 10)

static int fail(const struct addr *a, char err[LISTEN_ERROR], const char *why)
{
    char text[ADDR_TEXT];
    snprintf(err, LISTEN_ERROR, "listen %s: %s", addr_print(a, text), why);
    return -1;
}

static int fail_errno(const struct addr *a, char err[LISTEN_ERROR])
{
    if (errno == EADDRINUSE)
        return fail(a, err, "port in use");
    if (errno == EADDRNOTAVAIL)
        return fail(a, err, "no such address on this machine");
    return fail(a, err, strerrordesc_np(errno));
}

static int tcp_socket(const struct addr *a, bool shared)
{
    int fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int one = 1;
    bool ok = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0;
    if (shared)
        ok = ok && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) == 0;
    if (a->sa.sa_family == AF_INET6) // [::] and 0.0.0.0 are two listeners, as in nginx
        ok = ok && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) == 0;
    // Accepted sockets inherit both.
    int unsent = UNSENT_BYTES;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
    if (ok && bind(fd, &a->sa, a->len) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int err = errno;
    close(fd);
    errno = err;
    return -1;
}

// Finds out whether somebody (perhaps we ourselves, started twice) has the port, and chooses one for 0.
static int probe(struct addr *a)
{
    int fd = tcp_socket(a, false);
    if (fd < 0)
        return -1;
    socklen_t len = a->len;
    int rc = getsockname(fd, &a->sa, &len);
    a->port = ntohs(a->sa.sa_family == AF_INET6 ? a->in6.sin6_port : a->in.sin_port);
    close(fd);
    return rc;
}

static int unix_alive(const struct addr *a)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int rc = connect(fd, &a->sa, a->len);
    bool dead = rc < 0 && (errno == ECONNREFUSED || errno == ENOENT);
    close(fd);
    return !dead;
}

static int unix_open(const struct addr *a, char err[LISTEN_ERROR])
{
    struct stat st;
    if (lstat(a->un.sun_path, &st) == 0) {
        if (!S_ISSOCK(st.st_mode))
            return fail(a, err, "the path exists and is no socket");
        int alive = unix_alive(a);
        if (alive < 0)
            return fail_errno(a, err);
        if (alive)
            return fail(a, err, "in use by another process");
        if (unlink(a->un.sun_path) < 0 && errno != ENOENT)
            return fail_errno(a, err);
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail_errno(a, err);
    if (bind(fd, &a->sa, a->len) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    fail_errno(a, err);
    close(fd);
    return -1;
}

int listen_open(struct addr *a, unsigned n, int *fds, char err[LISTEN_ERROR])
{
    invariant(n > 0);
    if (addr_is_name(a))
        return fail(a, err, "a name cannot be listened on: write its address");
    if (addr_is_unix(a)) {
        fds[0] = unix_open(a, err);
        return fds[0] < 0 ? -1 : 1;
    }
    if (probe(a) < 0)
        return fail_errno(a, err);
    for (unsigned i = 0; i < n; i++) {
        fds[i] = tcp_socket(a, true);
        if (fds[i] < 0) {
            fail_errno(a, err);
            listen_close(a, fds, i, false);
            return -1;
        }
    }
    return (int)n;
}

void listen_close(const struct addr *a, int *fds, unsigned n, bool unlink_unix)
{
    for (unsigned i = 0; i < n; i++) {
        close(fds[i]);
        fds[i] = -1;
    }
    if (unlink_unix && addr_is_unix(a))
        unlink(a->un.sun_path);
}

bool listen_turn_away(int fd)
{
    // Classic BPF over the TCP header, which is where the kernel lets a socket's filter begin: byte 13 holds
    // the flags; SYN without ACK opens a connection (RFC 9293, 3.1).
    static const struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13),          BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0x12),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x02, 0, 1), BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    struct sock_fprog filter = {sizeof(code) / sizeof(*code), (struct sock_filter *)code};
    int domain = AF_UNSPEC;
    socklen_t n = sizeof(domain);
    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n);
    if (domain == AF_UNIX) {
        shutdown(fd, SHUT_RDWR);
        return false;
    }
    // Where it is not possible the gap stays as small as accept and close leave it.
    setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter));
    return true;
}

bool listen_addr_of(int fd, struct addr *a)
{
    int listening = 0;
    socklen_t len = sizeof listening;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0 || !listening)
        return false;
    struct sockaddr_storage ss;
    len = sizeof ss;
    if (getsockname(fd, (struct sockaddr *)&ss, &len) < 0)
        return false;
    addr_from_sockaddr(a, (struct sockaddr *)&ss, len);
    return true;
}

// ---- descriptors over a Unix socket ----------------------------------------------------------------------

long fds_send(int sock, const void *p, size_t bytes, const int *fds, unsigned n_fds)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int) * FDS_MAX)];
    } control;
    invariant(n_fds <= FDS_MAX && bytes > 0);
    struct iovec iov = {(void *)p, bytes};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n_fds) {
        memset(&control, 0, sizeof control);
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
    }
    ssize_t n;
    do
        n = sendmsg(sock, &msg, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n;
}

long fds_recv(int sock, void *p, size_t bytes, int *fds, unsigned *n_fds)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int) * FDS_MAX)];
    } control;
    struct iovec iov = {p, bytes};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof control};
    ssize_t n;
    do
        n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    unsigned room = *n_fds;
    *n_fds = 0;
    if (n < 0)
        return n;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (*n_fds < room)
                fds[(*n_fds)++] = fd;
            else
                close(fd); // more came than we have room for: none may stay open unseen
        }
    }
    return n;
}
