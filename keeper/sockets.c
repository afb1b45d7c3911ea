/* The listening sockets: opened once by the keeper, kept over every death of the gateway process. */
#include "base/mem.h"
#include "keeper/runtime.h"
#include "net/listen.h"
#include <stdio.h>
#include <unistd.h>

static char *keep(const char *text)
{
    size_t n = strlen(text) + 1;
    return memcpy(mem_must(n), text, n);
}

// n sockets for one address; their descriptors and the address as bound. Returns how many, 0: why.
static unsigned open_one(const char *who, const struct config_address *at, unsigned n, int *fds,
                         char bound[ADDR_TEXT], char why[RUNTIME_ERROR])
{
    struct addr a;
    char error[LISTEN_ERROR];
    const char *bad = addr_parse(&a, view_str(at->text), 0);
    if (bad) {
        snprintf(why, RUNTIME_ERROR, "%s: %s: %s", who, at->text, bad);
        return 0;
    }
    int got = listen_open(&a, n, fds, error);
    if (got <= 0) {
        snprintf(why, RUNTIME_ERROR, "%s: %s", who, error);
        return 0;
    }
    addr_print(&a, bound);
    return (unsigned)got;
}

static bool open_listen(struct sockets *s, const struct config *c, unsigned index, unsigned loops,
                        char why[RUNTIME_ERROR])
{
    const struct config_listen *l = &c->listens[index];
    int fds[BOOT_MAX_LOOPS];
    char bound[ADDR_TEXT], who[160];
    snprintf(who, sizeof(who), "listen \"%s\"", l->name);
    unsigned n = open_one(who, &l->address, loops, fds, bound, why);
    for (unsigned i = 0; i < n; i++) {
        s->listeners[s->count++] = (struct boot_listener){
            .name = keep(l->name),
            .loop = i,
            .shared = l->address.scheme == CONFIG_UNIX,
            .fd = fds[i],
            .address = keep(bound),
        };
    }
    return n > 0;
}

bool sockets_open(struct sockets *s, const struct config *c, unsigned loops,
                  char why[RUNTIME_ERROR])
{
    *s = (struct sockets){.admin_fd = -1};
    // Our own bounds: at most 4,096 sections and 256 loops.
    s->listeners = mem_must_zero(c->listen_count * loops * sizeof(*s->listeners));
    bool ok = true;
    for (unsigned i = 0; ok && i < c->listen_count; i++)
        ok = open_listen(s, c, i, loops, why);
    if (ok && c->admin.on) {
        char bound[ADDR_TEXT];
        ok = open_one("admin", &c->admin.address, 1, &s->admin_fd, bound, why) == 1;
        if (ok)
            s->admin_address = keep(bound);
        else
            s->admin_fd = -1;
    }
    if (!ok)
        sockets_close(s);
    return ok;
}

static void close_one(int fd, const char *address)
{
    if (strncmp(address, "unix:", 5) == 0)
        unlink(address + 5);
    if (fd >= 0)
        close(fd);
}

void sockets_let_go(struct sockets *s)
{
    for (unsigned i = 0; i < s->count; i++) {
        if (s->listeners[i].fd >= 0)
            close(s->listeners[i].fd);
        s->listeners[i].fd = -1;
    }
}

void sockets_close(struct sockets *s)
{
    for (unsigned i = 0; i < s->count; i++) {
        close_one(s->listeners[i].fd, s->listeners[i].address);
        mem_free((void *)(uintptr_t)s->listeners[i].address);
        mem_free((void *)(uintptr_t)s->listeners[i].name);
    }
    if (s->admin_fd >= 0)
        close_one(s->admin_fd, s->admin_address);
    mem_free(s->admin_address);
    mem_free(s->listeners);
    *s = (struct sockets){.admin_fd = -1};
}
