// The system as it may be, laid before libc by LD_PRELOAD: calls that are interrupted, descriptors and memory
// that run out for a moment, files that take less than was given, a wall clock that jumps, threads that begin late. Only what the manual
// allows: a socket that says EAGAIN or takes less has no room, so these are never made up.
//
// FAULTS_PAGE=FILE is mapped: the test turns the knobs in it, and reads how often each kind has struck.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind { RECV, SEND, WAIT, ACCEPT, WRITE, MEMORY, KINDS };

static struct faults {
    _Atomic int64_t clock_s; // added to CLOCK_REALTIME
    _Atomic int64_t every;   // about every n-th call of a kind fails; 0: none
    _Atomic int64_t
        least; // bytes from which on memory may be refused; 0: never, and else nothing but it is
    _Atomic int64_t calls[KINDS], struck[KINDS];
    _Atomic int64_t late_ms; // by so much the writer of the prediction log begins to work later
} * page;

__attribute__((constructor)) static void map(void)
{
    const char *path = getenv("FAULTS_PAGE");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *p =
        fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p != MAP_FAILED)
        page = p;
    if (fd >= 0)
        close(fd);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

// The how-manieth fault of its kind this is, from 1; 0: none. A multiplicative hash spreads them, so that two
// callers in step do not meet the same fate for ever.
static int64_t unlucky(enum kind k)
{
    int64_t n = page ? atomic_load(&page->every) : 0;
    if (n == 0 || (k == MEMORY) != (atomic_load(&page->least) > 0))
        return 0;
    uint32_t mixed = (uint32_t)(atomic_fetch_add(&page->calls[k], 1) + 1) * 2654435761u;
    return (mixed >> 8) % (uint32_t)n == 0 ? atomic_fetch_add(&page->struck[k], 1) + 1 : 0;
}

static int fail(int error)
{
    errno = error;
    return -1;
}

ssize_t recv(int fd, void *p, size_t n, int flags)
{
    return unlucky(RECV) ? fail(EINTR) : REAL(recv)(fd, p, n, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
    return unlucky(SEND) ? fail(EINTR) : REAL(sendmsg)(fd, m, flags);
}

int epoll_wait(int fd, struct epoll_event *e, int n, int ms)
{
    return unlucky(WAIT) ? fail(EINTR) : REAL(epoll_wait)(fd, e, n, ms);
}

int accept4(int fd, struct sockaddr *a, socklen_t *n, int flags)
{
    static const int errors[] = {EINTR, ECONNABORTED, EMFILE, ENOMEM, ENOBUFS};
    int64_t turn = unlucky(ACCEPT);
    return turn ? fail(errors[turn % 5]) : REAL(accept4)(fd, a, n, flags);
}

// Log files: cut writes, interrupted ones, and a disk that is full or broken now and then.
ssize_t writev(int fd, const struct iovec *v, int n)
{
    int64_t turn = unlucky(WRITE);
    if (turn % 3 == 1)
        return fail(turn % 2 ? ENOSPC : EIO);
    if (turn % 3 == 2)
        return fail(EINTR);
    if (turn)
        return write(fd, v[0].iov_base, v[0].iov_len > 7 ? 7 : v[0].iov_len);
    return REAL(writev)(fd, v, n);
}

// What a thread says first of itself.
int pthread_setname_np(pthread_t thread, const char *name)
{
    if (page && strcmp(name, "predictions") == 0)
        usleep((useconds_t)atomic_load(&page->late_ms) * 1000);
    return REAL(pthread_setname_np)(thread, name);
}

int clock_gettime(clockid_t id, struct timespec *t)
{
    int r = REAL(clock_gettime)(id, t);
    if (r == 0 && page && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        t->tv_sec += (time_t)atomic_load(&page->clock_s);
    return r;
}

time_t time(time_t *out)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    if (out)
        *out = t.tv_sec;
    return t.tv_sec;
}

// Memory. glibc keeps its own under these names, which dlsym, that allocates, does not need to look up.
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);

static int refused(size_t n)
{
    int64_t least = page ? atomic_load(&page->least) : 0;
    if (least == 0 || n < (size_t)least || !unlucky(MEMORY))
        return 0;
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t n)
{
    return refused(n) ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    return refused(n * size) ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    return refused(n) ? NULL : __libc_realloc(p, n);
}
