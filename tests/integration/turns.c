// How long a loop works without a pause, laid before libevent by LD_PRELOAD. A turn begins where the loop asks
// libevent for events, and sleeping costs no CPU: what its thread has used from one such call to the next is the
// work of one turn, whatever else the machine does meanwhile.
//
// TURNS_PAGE=FILE is mapped: the test clears and reads it.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static struct turns {
    _Atomic int64_t longest_ns, count;
} * page;

__attribute__((constructor)) static void map(void)
{
    const char *path = getenv("TURNS_PAGE");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *p =
        fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p != MAP_FAILED)
        page = p;
    if (fd >= 0)
        close(fd);
}

static void count_turn(int64_t ns)
{
    int64_t longest = atomic_load(&page->longest_ns);
    while (ns > longest && !atomic_compare_exchange_weak(&page->longest_ns, &longest, ns))
        ;
    atomic_fetch_add(&page->count, 1);
}

struct event_base;
int event_base_loop(struct event_base *base, int flags);

int event_base_loop(struct event_base *base, int flags)
{
    static int (*real)(struct event_base *, int);
    static _Thread_local int64_t before_ns;
    if (!real)
        real = (int (*)(struct event_base *, int))dlsym(RTLD_NEXT, "event_base_loop");
    if (page) {
        struct timespec t;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        int64_t now_ns = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
        if (before_ns > 0)
            count_turn(now_ns - before_ns);
        before_ns = now_ns;
    }
    return real(base, flags);
}
