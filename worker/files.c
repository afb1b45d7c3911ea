#include "worker/files.h"

#include "base/check.h"
#include "base/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAPS 4096 // files of one model

// Where there is no openat2 (before Linux 5.6, or forbidden): no link is followed, and no "..".
static int open_without_links(int base, const char *path, int flags)
{
    char part[256];
    int at = base;
    for (;;) {
        size_t n = strcspn(path, "/");
        bool last = path[n] == '\0';
        bool leads_out = n == 0 || (n == 2 && memcmp(path, "..", 2) == 0);
        if (leads_out || n >= sizeof(part)) {
            errno = leads_out ? EXDEV : ENAMETOOLONG;
            break;
        }
        memcpy(part, path, n);
        part[n] = '\0';
        int fd = openat(at, part, (last ? flags : O_RDONLY | O_DIRECTORY) | O_NOFOLLOW | O_CLOEXEC);
        if (at != base)
            close(at);
        if (fd < 0 || last)
            return fd;
        at = fd;
        path += n + strspn(path + n, "/");
    }
    if (at != base)
        close(at);
    return -1;
}

int files_open(const struct files_place *p, const char *name, int flags)
{
    char path[sizeof(p->folder) + 1024];
    int n = snprintf(path, sizeof(path), "%s%s%s", p->folder, p->folder[0] ? "/" : "", name);
    struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC), .resolve = RESOLVE_BENEATH};
    if (n < 0 || (size_t)n >= sizeof(path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    long fd = syscall(SYS_openat2, p->base, path, &how, sizeof(how));
    if (fd < 0 && (errno == ENOSYS || errno == EPERM))
        return open_without_links(p->base, path, flags);
    return (int)fd;
}

const char *files_error(int error)
{
    return error == EXDEV ? "a link leads out of the repository" : strerror(error);
}

// A regular file. -1 with why.
static int open_regular(const struct files_place *p, const char *name, struct stat *st,
                        char why[256])
{
    int fd = files_open(p, name, O_RDONLY | O_NONBLOCK);
    if (fd < 0 || fstat(fd, st) != 0) {
        snprintf(why, 256, "%.150s: %s", name, files_error(errno));
    } else if (!S_ISREG(st->st_mode)) {
        snprintf(why, 256, "%.150s: not a regular file", name);
    } else {
        return fd;
    }
    if (fd >= 0)
        close(fd);
    return -1;
}

char *files_read(const struct files_place *p, const char *name, size_t most, size_t *n,
                 char why[256])
{
    struct stat st;
    int fd = open_regular(p, name, &st, why);
    if (fd < 0)
        return NULL;
    size_t size = (size_t)st.st_size, got = 0;
    char *data = size <= most ? mem_alloc(size + 1) : NULL;
    while (data && got < size) {
        ssize_t k = read(fd, data + got, size - got);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            break;
        got += (size_t)k;
    }
    close(fd);
    if (!data || got < size) { // it became shorter while we read
        snprintf(why, 256, "%.150s: %s", name,
                 size > most ? "too large"
                 : data      ? "it changed while it was read"
                             : "out of memory");
        mem_free(data);
        return NULL;
    }
    *n = size;
    return data;
}

// ---- mapped files ------------------------------------------------------------------------------------

struct files_map {
    struct files_map *next;
    void *p;
    size_t n;
};

// Row 121: who cuts a mapped file makes us read pages that are no longer there (SIGBUS). They become zeros,
// and the load is refused when it is over.
static struct files_maps *loading;
static struct sigaction before;

static void on_bus(int signal_number, siginfo_t *info, void *context)
{
    const struct files_map *m = loading ? loading->first : NULL;
    uintptr_t at = (uintptr_t)info->si_addr, page = (uintptr_t)sysconf(_SC_PAGESIZE);
    (void)signal_number;
    (void)context;
    while (m && !(at >= (uintptr_t)m->p && at - (uintptr_t)m->p < m->n))
        m = m->next;
    if (m && mmap((void *)(at & ~(page - 1)), page, PROT_READ,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED)
        loading->cut = true;
    else
        sigaction(SIGBUS, &before, NULL); // not ours: it comes again
}

static bool map_location(struct engine_files *files, struct view location, struct view *all,
                         char why[256])
{
    struct files_maps *m = container_of(files, struct files_maps, files);
    char name[1024];
    if (location.n >= sizeof(name) || memchr(location.p, '\0', location.n)) {
        snprintf(why, 256, "%.*s: not a file's name", (int)(location.n < 100 ? location.n : 100),
                 location.p);
        return false;
    }
    memcpy(name, location.p, location.n);
    name[location.n] = '\0';
    return files_map(m, name, all, why);
}

void files_maps_init(struct files_maps *m, const struct files_place *p)
{
    struct sigaction ours = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO | SA_NODEFER};
    invariant(!loading);
    *m = (struct files_maps){.files.map = map_location, .place = p};
    loading = m;
    sigaction(SIGBUS, &ours, &before);
}

bool files_map(struct files_maps *m, const char *name, struct view *all, char why[256])
{
    struct stat st;
    unsigned n = 0;
    for (const struct files_map *f = m->first; f; f = f->next)
        n++;
    int fd = n < MAPS ? open_regular(m->place, name, &st, why) : -1;
    if (n == MAPS)
        snprintf(why, 256, "%.150s: more than %d files", name, MAPS);
    if (fd < 0)
        return false;
    struct files_map *map = mem_alloc(sizeof(*map));
    size_t size = (size_t)st.st_size;
    void *p = map && size > 0 ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
    close(fd);
    if (!map || p == MAP_FAILED) {
        snprintf(why, 256, "%.150s: %s", name, map ? strerror(errno) : "out of memory");
        mem_free(map);
        return false;
    }
    *map = (struct files_map){m->first, p, p ? size : 0};
    m->first = map;
    *all = view_of(p, map->n);
    return true;
}

bool files_unmap(struct files_maps *m)
{
    struct files_map *f = m->first;
    sigaction(SIGBUS, &before, NULL);
    loading = NULL;
    while (f) {
        struct files_map *next = f->next;
        if (f->n > 0)
            munmap(f->p, f->n);
        mem_free(f);
        f = next;
    }
    m->first = NULL;
    return !m->cut;
}
