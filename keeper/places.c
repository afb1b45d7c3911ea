#include "keeper/places.h"
#include "base/mem.h"
#include "keeper/ending.h"
#include "keeper/event.h"
#include "keeper/state.h"
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PLACE_EVENT(level, p, event, ...)                                                          \
    EVENT(level, event, LOG_CSTR("name", (p)->section), LOG_I("replica", (p)->replica), __VA_ARGS__)

static void tell_gateway(const struct keeper *k, const struct worker_place *p,
                         enum boot_word_kind kind, enum boot_end how)
{
    keeper_tell(k, &(struct boot_word){kind, p->number, (uint32_t)p->child.pid, how});
}

static struct worker_place *find(const struct keeper *k, uint32_t number)
{
    struct worker_place *p = k->places;
    while (p && p->number != number)
        p = p->next;
    return p;
}

// ---- made and freed ----------------------------------------------------------------------------------

static char *copy(const char *text)
{
    size_t n = strlen(text) + 1;
    char *to = mem_must(n);
    memcpy(to, text, n);
    return to;
}

// argv: the command, then --listen ADDRESS --liveness-fd N.
static void set_command(struct worker_place *p, const struct config_worker *w, int liveness_fd)
{
    char program[600];
    p->liveness_fd = liveness_fd;
    snprintf(p->fd_text, sizeof(p->fd_text), "%d", liveness_fd);
    const char *more[] = {"--listen", p->address, "--liveness-fd", p->fd_text};
    p->command_count = w->command_count;
    p->command = mem_must_zero((p->command_count + 5) * sizeof(*p->command));
    for (unsigned i = 0; i < p->command_count; i++)
        p->command[i] = copy(w->command[i]);
    for (unsigned i = 0; i < 4; i++)
        p->command[p->command_count + i] = copy(more[i]);
    bool found = runtime_find_program(w->command[0], program, sizeof(program));
    p->program = copy(found ? program : w->command[0]); // else its exec says why
}

static struct worker_place *place_new(const struct keeper *k, const struct config *c,
                                      const struct plan_row *row)
{
    const struct config_worker *w = &c->workers[row->to_be.section];
    struct worker_place *p = mem_must_zero(sizeof(*p));
    p->number = row->to_be.number;
    p->replica = row->to_be.replica;
    p->section = copy(w->name);
    if (row->to_be.address != BOOT_LOCAL) {
        p->remote = copy(w->addresses[row->to_be.address].text);
        p->child.state = CHILD_OVER;
        return p;
    }
    memcpy(p->address, row->to_be.path, sizeof(p->address));
    set_command(p, w, k->boot.liveness_fd);
    return p;
}

static void place_free(struct worker_place *p)
{
    for (char **word = p->command; word && *word; word++)
        mem_free(*word);
    mem_free(p->command);
    mem_free(p->program);
    mem_free(p->remote);
    mem_free(p->section);
    mem_free(p);
}

static bool is_done(const struct worker_place *p)
{
    return p->state == PLACE_STOPS && !child_alive(&p->child);
}

static void sweep(struct keeper *k)
{
    for (struct worker_place **at = &k->places, *p; (p = *at);) {
        if (!is_done(p)) {
            at = &p->next;
            continue;
        }
        *at = p->next;
        if (!p->remote)
            unlink(p->address + strlen("unix:"));
        place_free(p);
    }
}

void places_free(struct keeper *k)
{
    for (struct worker_place *p; (p = k->places);) {
        k->places = p->next;
        place_free(p);
    }
    mem_free(k->boot_places);
}

// ---- another configuration ---------------------------------------------------------------------------

bool places_prepare(struct keeper *k, const struct config *c, struct places_plan *out, char *why)
{
    places_plan(k->places, c, k->last_place, out);
    for (unsigned i = 0; i < out->n; i++) {
        struct boot_place *b = &out->rows[i].to_be;
        if (b->address != BOOT_LOCAL)
            continue;
        if (!k->dir.path[0] && !runtime_dir_make(&k->dir, c->runtime_dir, why))
            return false;
        snprintf(b->path, sizeof(b->path), "unix:%s/w%u.sock", k->dir.path, b->number);
    }
    return true;
}

static void take_row(struct keeper *k, const struct config *c, const struct plan_row *row)
{
    struct worker_place *p = find(k, row->to_be.number), **last = &k->places;
    if (!p && row->old)
        return; // it has gone meanwhile
    if (!p) {
        while (*last)
            last = &(*last)->next;
        *last = p = place_new(k, c, row);
    }
    p->state = PLACE_SERVES;
    p->replaces = row->to_be.replaces;
    p->before = row->to_be.before;
    p->after = row->after;
    if (!p->remote && p->child.state == CHILD_OVER)
        p->child.state = CHILD_WAITING;
}

static void stop(struct worker_place *p, uint64_t now_us)
{
    if (p->state == PLACE_STOPS)
        return;
    p->state = PLACE_STOPS;
    p->kill_us = now_us + KEEPER_WORKER_STOP_US;
    if (child_alive(&p->child)) {
        PLACE_EVENT(LOG_INFO, p, "worker_stopping", LOG_I("pid", p->child.pid));
        child_signal(&p->child, SIGTERM);
    }
}

void places_apply(struct keeper *k, const struct config *c, const struct places_plan *plan)
{
    for (struct worker_place *p = k->places; p; p = p->next) {
        if (p->state == PLACE_SERVES)
            p->state = PLACE_GOES;
    }
    for (unsigned i = 0; i < plan->n; i++)
        take_row(k, c, &plan->rows[i]);
    k->last_place = plan->last;
    for (struct worker_place *p = k->places; p; p = p->next) {
        if (p->state == PLACE_GOES && !child_alive(&p->child))
            p->child.state = CHILD_OVER;
    }
}

static uint32_t address_of(const struct config_worker *w, const char *text)
{
    uint32_t i = 0;
    while (i < w->address_count && strcmp(w->addresses[i].text, text) != 0)
        i++;
    return i;
}

void places_for_boot(struct keeper *k)
{
    unsigned n = 0;
    for (const struct worker_place *p = k->places; p; p = p->next)
        n++;
    mem_free(k->boot_places);
    k->boot_places = mem_must_zero((n + 1) * sizeof(*k->boot_places));
    k->boot.places = k->boot_places;
    k->boot.place_count = 0;
    for (const struct worker_place *p = k->places; p; p = p->next) {
        if (p->state != PLACE_SERVES)
            continue;
        struct boot_place *b = &k->boot_places[k->boot.place_count++];
        const struct config_worker *w = config_worker_find(k->config, p->section);
        *b = (struct boot_place){.number = p->number,
                                 .section = (uint32_t)(w - k->config->workers),
                                 .replica = p->replica,
                                 .address = p->remote ? address_of(w, p->remote) : BOOT_LOCAL,
                                 .replaces = p->replaces,
                                 .before = p->before};
        memcpy(b->path, p->address, sizeof(b->path));
    }
}

// ---- what the gateway says ---------------------------------------------------------------------------

static bool is_replaced(const struct keeper *k, uint32_t number)
{
    for (const struct worker_place *p = k->places; p; p = p->next) {
        if (p->state == PLACE_SERVES && p->replaces == number)
            return true;
    }
    return false;
}

void places_on_left(struct keeper *k, uint32_t number, uint64_t now_us)
{
    struct worker_place *p = find(k, number);
    if (!p || (p->state == PLACE_SERVES && !is_replaced(k, number)))
        return;
    stop(p, now_us);
    sweep(k);
}

// Only the process that the gateway means: another may have taken its place since the word was sent. Its end
// is seen by places_reap, as every other.
void places_on_hangs(struct keeper *k, const struct boot_word *word)
{
    struct worker_place *p = find(k, word->place);
    if (!p || !child_alive(&p->child) || (uint32_t)p->child.pid != word->pid || p->child.killed)
        return;
    PLACE_EVENT(LOG_WARN, p, "worker_hangs", LOG_I("pid", p->child.pid));
    child_signal(&p->child, SIGKILL);
}

void places_tell_all(struct keeper *k)
{
    for (const struct worker_place *p = k->places; p; p = p->next) {
        if (p->child.state == CHILD_RUNNING)
            tell_gateway(k, p, BOOT_WORKER_UP, BOOT_ENDED);
    }
}

// ---- processes ---------------------------------------------------------------------------------------

static const char *socket_path(const struct worker_place *p)
{
    return p->address + strlen("unix:");
}

static int worker_body(void *arg)
{
    struct worker_place *p = arg;
    return child_exec_worker(p->program, p->command, p->liveness_fd, p->section, p->replica);
}

static void start(struct keeper *k, struct worker_place *p, uint64_t now_us)
{
    unlink(socket_path(p)); // of its last life; its coming back says that the new one listens
    if (child_fork(&p->child, worker_body, p, now_us, &k->rand))
        PLACE_EVENT(LOG_INFO, p, "worker_started", LOG_I("pid", p->child.pid),
                    LOG_I("start", p->child.starts));
}

static void watch(const struct keeper *k, struct worker_place *p)
{
    struct stat st;
    if (p->child.state != CHILD_STARTING || stat(socket_path(p), &st) != 0 || !S_ISSOCK(st.st_mode))
        return;
    child_ready(&p->child);
    PLACE_EVENT(LOG_INFO, p, "worker_listening", LOG_I("pid", p->child.pid));
    tell_gateway(k, p, BOOT_WORKER_UP, BOOT_ENDED);
}

// It is somebody's turn before it (P2).
static bool waits(const struct keeper *k, const struct worker_place *p)
{
    return p->child.state != CHILD_WAITING || p->state != PLACE_SERVES ||
           (p->after && find(k, p->after));
}

void places_turn(struct keeper *k, uint64_t now_us)
{
    for (struct worker_place *p = k->places; p; p = p->next) {
        if (p->state == PLACE_GOES && k->gateway_fd < 0)
            stop(p, now_us); // nobody is connected to it
        if (!waits(k, p) && now_us >= p->child.at_us)
            start(k, p, now_us);
        watch(k, p);
        if (p->state == PLACE_STOPS && p->kill_us && now_us >= p->kill_us) {
            child_signal(&p->child, SIGKILL);
            p->kill_us = 0;
        }
    }
    sweep(k);
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t places_wake_us(const struct keeper *k, uint64_t now_us)
{
    uint64_t at_us = UINT64_MAX;
    for (const struct worker_place *p = k->places; p; p = p->next) {
        const struct child *c = &p->child;
        if (!waits(k, p))
            at_us = least(at_us, c->at_us);
        else if (c->state == CHILD_STARTING) // often at first; a slow or broken one costs little
            at_us = least(at_us, now_us + (now_us - c->started_us < 5000000 ? KEEPER_SOCKET_POLL_US
                                                                            : 200000));
        if (p->state == PLACE_STOPS && p->kill_us)
            at_us = least(at_us, p->kill_us);
    }
    return at_us;
}

static void died(struct keeper *k, struct worker_place *p, int status, uint64_t now_us)
{
    bool again = k->phase <= DRAINING && p->state == PLACE_SERVES;
    bool wanted = p->state == PLACE_STOPS || k->phase > DRAINING;
    pid_t pid = p->child.pid;
    bool signaled = WIFSIGNALED(status);
    tell_gateway(k, p, BOOT_WORKER_GONE, ending_of(status, p->child.killed));
    child_died(&p->child, again, now_us, &k->rand);
    PLACE_EVENT(
        wanted ? LOG_INFO : LOG_WARN, p, "worker_exited", LOG_I("pid", pid),
        LOG_I(signaled ? "signal" : "status", signaled ? WTERMSIG(status) : WEXITSTATUS(status)),
        LOG_I("lived_us", now_us - p->child.started_us),
        LOG_I("restart_in_us", again ? p->child.at_us - now_us : 0));
}

bool places_reap(struct keeper *k, pid_t pid, int status, uint64_t now_us)
{
    struct worker_place *p = k->places;
    while (p && p->child.pid != pid)
        p = p->next;
    if (!p)
        return false;
    died(k, p, status, now_us);
    sweep(k);
    return true;
}

void places_signal(struct keeper *k, int signal)
{
    for (struct worker_place *p = k->places; p; p = p->next)
        child_signal(&p->child, signal);
}

void places_give_up(struct keeper *k)
{
    for (struct worker_place *p = k->places; p; p = p->next) {
        if (!child_alive(&p->child))
            p->child.state = CHILD_OVER;
    }
}

void places_end(struct keeper *k)
{
    places_signal(k, SIGTERM);
    places_give_up(k);
}

bool places_over(const struct keeper *k)
{
    for (const struct worker_place *p = k->places; p; p = p->next) {
        if (p->child.state != CHILD_OVER)
            return false;
    }
    return true;
}
