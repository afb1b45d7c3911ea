/* The listening sockets: opened by the keeper, kept over every death of the gateway process, and over every
 * configuration that has their address. */
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

static void drop(const char *kept)
{
    mem_free((void *)(uintptr_t)kept);
}

// n sockets for one address; their descriptors, the address as it was asked for, and as bound. Returns how many, 0: why.
static unsigned open_one(const char *who, const struct config_address *at, unsigned n, int *fds,
                         char wanted[ADDR_TEXT], char bound[ADDR_TEXT], char why[RUNTIME_ERROR])
{
    struct addr a;
    char error[LISTEN_ERROR];
    const char *bad = addr_parse(&a, view_str(at->text), 0);
    if (bad) {
        snprintf(why, RUNTIME_ERROR, "%s: %s: %s", who, at->text, bad);
        return 0;
    }
    addr_print(&a, wanted);
    int got = listen_open(&a, n, fds, error);
    if (got <= 0) {
        snprintf(why, RUNTIME_ERROR, "%s: %s", who, error);
        return 0;
    }
    addr_print(&a, bound);
    return (unsigned)got;
}

static struct boot_listener *open_listen(const struct config_listen *l, uint32_t id, unsigned loops,
                                         char why[RUNTIME_ERROR])
{
    int fds[BOOT_MAX_LOOPS];
    char wanted[ADDR_TEXT], bound[ADDR_TEXT], who[160];
    snprintf(who, sizeof(who), "listen \"%s\"", l->name);
    unsigned n = open_one(who, &l->address, loops, fds, wanted, bound, why);
    if (n == 0)
        return NULL;
    struct boot_listener *b = mem_must_zero(sizeof(*b));
    *b = (struct boot_listener){.id = id,
                                .name = keep(l->name),
                                .wanted = keep(wanted),
                                .address = keep(bound),
                                .n = n,
                                .fds = mem_must(n * sizeof(*b->fds))};
    memcpy(b->fds, fds, n * sizeof(*fds));
    return b;
}

static void close_fds(struct boot_listener *l)
{
    for (unsigned i = 0; i < l->n; i++) {
        if (l->fds[i] >= 0)
            close(l->fds[i]);
        l->fds[i] = -1;
    }
}

static void remove_file(const char *address)
{
    if (strncmp(address, "unix:", 5) == 0)
        unlink(address + 5);
}

static void close_listen(struct boot_listener *l)
{
    remove_file(l->address);
    close_fds(l);
    drop(l->name);
    drop(l->wanted);
    drop(l->address);
    mem_free(l->fds);
    mem_free(l);
}

bool sockets_has(const struct sockets *s, const struct boot_listener *l)
{
    for (unsigned i = 0; i < s->count; i++) {
        if (s->listeners[i] == l)
            return true;
    }
    return false;
}

// ---- another configuration --------------------------------------------------------------------------------

static bool is_port_zero(const char *address)
{
    size_t n = strlen(address);
    return strncmp(address, "unix:", 5) != 0 && n > 2 && strcmp(address + n - 2, ":0") == 0;
}

// The one of `now` that section l goes on with.
static struct boot_listener *find_same(const struct sockets *now, const struct config_listen *l)
{
    struct addr a;
    char wanted[ADDR_TEXT];
    if (addr_parse(&a, view_str(l->address.text), 0))
        return NULL;
    addr_print(&a, wanted);
    for (unsigned i = 0; i < now->count; i++) {
        struct boot_listener *b = now->listeners[i];
        bool by_name = is_port_zero(wanted) && strcmp(b->name, l->name) == 0;
        if (strcmp(by_name ? b->wanted : b->address, wanted) == 0)
            return b;
    }
    return NULL;
}

bool sockets_prepare(struct sockets *next, const struct sockets *now, const struct config *c,
                     unsigned loops, char why[RUNTIME_ERROR])
{
    *next = (struct sockets){
        .last_id = now->last_id, .admin_fd = now->admin_fd, .admin_address = now->admin_address};
    // Our own bound: at most 4,096 sections.
    next->listeners = mem_must_zero((c->listen_count + 1) * sizeof(struct boot_listener *));
    for (unsigned i = 0; i < c->listen_count; i++) {
        struct boot_listener *l = find_same(now, &c->listens[i]);
        if (!l || sockets_has(next, l)) // the section whose port 0 it was has it already
            l = open_listen(&c->listens[i], ++next->last_id, loops, why);
        if (!l) {
            sockets_drop(next, now);
            return false;
        }
        next->listeners[next->count++] = l;
    }
    return true;
}

static unsigned close_others(struct sockets *s, const struct sockets *but)
{
    unsigned closed = 0;
    for (unsigned i = 0; i < s->count; i++) {
        if (sockets_has(but, s->listeners[i]))
            continue;
        close_listen(s->listeners[i]);
        closed++;
    }
    mem_free(s->listeners);
    *s = (struct sockets){.admin_fd = -1};
    return closed;
}

void sockets_drop(struct sockets *next, const struct sockets *now)
{
    close_others(next, now);
}

unsigned sockets_commit(struct sockets *now, struct sockets *next, const struct config *c)
{
    unsigned closed = close_others(now, next);
    *now = *next;
    *next = (struct sockets){.admin_fd = -1};
    for (unsigned i = 0; i < now->count; i++) {
        drop(now->listeners[i]->name);
        now->listeners[i]->name = keep(c->listens[i].name);
    }
    return closed;
}

// ---- the first, and the last --------------------------------------------------------------------------------

bool sockets_open(struct sockets *s, const struct config *c, unsigned loops,
                  char why[RUNTIME_ERROR])
{
    static const struct sockets none = {.admin_fd = -1};
    bool ok = sockets_prepare(s, &none, c, loops, why);
    if (ok && c->admin.on) {
        char wanted[ADDR_TEXT], bound[ADDR_TEXT];
        ok = open_one("admin", &c->admin.address, 1, &s->admin_fd, wanted, bound, why) == 1;
        if (ok)
            s->admin_address = keep(bound);
        else
            s->admin_fd = -1;
    }
    if (!ok)
        sockets_close(s);
    return ok;
}

void sockets_let_go(struct sockets *s)
{
    for (unsigned i = 0; i < s->count; i++)
        close_fds(s->listeners[i]);
}

void sockets_close(struct sockets *s)
{
    for (unsigned i = 0; i < s->count; i++)
        close_listen(s->listeners[i]);
    mem_free(s->listeners);
    if (s->admin_fd >= 0) {
        remove_file(s->admin_address);
        close(s->admin_fd);
    }
    mem_free(s->admin_address);
    *s = (struct sockets){.admin_fd = -1};
}
