#include "keeper/reload.h"
#include "base/mem.h"
#include "config/changes.h"
#include "gateway/file.h"
#include "gateway/secrets.h"
#include "keeper/event.h"
#include "keeper/state.h"
#include "net/listen.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

// ---- the child -------------------------------------------------------------------------------------------

enum { FOUND_GOOD = 0, FOUND_BAD = 1 };

static void say(const struct keeper *k, struct view v)
{
    file_write(k->reload.said_fd, v);
}

static int refuse_errors(const struct keeper *k, const struct config_errors *errors)
{
    char line[800];
    for (unsigned i = 0; i < errors->count; i++) {
        config_error_print(line, sizeof(line), k->config->path, &errors->error[i]);
        say(k, view_str(line));
    }
    return FOUND_BAD;
}

// What cannot change while it runs is named; else what does is.
static int compare(const struct keeper *k, const struct config *c)
{
    struct config_changes changes;
    bool refused = true;
    config_changes_find(&changes, k->config, c);
    if (changes.failed) {
        say(k, VIEW("out of memory"));
    } else if (changes.refused > 0) {
        char head[120];
        snprintf(head, sizeof(head),
                 "%u changes want a restart, nothing was taken: ", changes.refused);
        say(k, view_str(changes.refused == 1 ? "a change wants a restart, nothing was taken: "
                                             : head));
        say(k, buffer_view(&changes.refused_text));
    } else {
        char more[60] = "";
        if (changes.taken > CONFIG_CHANGES_TOLD)
            snprintf(more, sizeof(more), "; and %u more", changes.taken - CONFIG_CHANGES_TOLD);
        say(k, buffer_view(&changes.taken_text));
        say(k, view_str(more));
        refused = false;
    }
    config_changes_deinit(&changes);
    return refused ? FOUND_BAD : FOUND_GOOD;
}

static int check_text(const struct keeper *k, struct view text)
{
    struct config_errors errors;
    struct config *c = config_parse(text, k->config->path, &errors);
    if (!c)
        return refuse_errors(k, &errors);
    int found = FOUND_BAD;
    if (runtime_check_files(c, k->config->path, k->reload.said_fd) == 0)
        found = compare(k, c);
    if (found == FOUND_GOOD && !file_write(k->reload.memory_fd, text)) {
        say(k, VIEW("no memory for the configuration"));
        found = FOUND_BAD;
    }
    config_unref(c);
    return found;
}

static int check_body(void *arg)
{
    struct keeper *k = arg;
    struct buffer text;
    char why[RUNTIME_ERROR];
    int found = FOUND_BAD;
    close(k->liveness_write); // its closing is the message
    close(k->signal_fd);
    if (k->gateway_fd >= 0)
        close(k->gateway_fd);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    buffer_init(&text);
    if (file_read(k->config->path, CONFIG_MAX_BYTES, &text, why))
        found = check_text(k, buffer_view(&text));
    else
        say(k, view_str(why));
    buffer_deinit(&text);
    _exit(found); // nothing of the keeper's is undone here
}

// ---- ends ------------------------------------------------------------------------------------------------

void reload_init(struct reload_job *r)
{
    *r = (struct reload_job){.memory_fd = -1, .said_fd = -1, .sockets.admin_fd = -1};
    buffer_init(&r->text);
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void forget(struct keeper *k)
{
    struct reload_job *r = &k->reload;
    sockets_drop(&r->sockets, &k->sockets);
    close_fd(&r->memory_fd);
    close_fd(&r->said_fd);
    config_unref(r->config);
    r->config = NULL;
    places_plan_deinit(&r->places);
    buffer_deinit(&r->text);
    buffer_init(&r->text);
    r->state = RELOAD_IDLE;
    r->kill_us = 0;
}

// It reads as soon as it can: what does not fit is not lost, if it is alive.
static bool send_surely(const struct keeper *k, const void *p, size_t bytes, const int *fds,
                        unsigned n_fds)
{
    struct pollfd room = {.fd = k->gateway_fd, .events = POLLOUT};
    long n = -1;
    while (k->gateway_fd >= 0 && (n = fds_send(k->gateway_fd, p, bytes, fds, n_fds)) < 0 &&
           errno == EAGAIN && poll(&room, 1, RELOAD_SEND_MS) == 1 && room.revents == POLLOUT) {
    }
    return n == (long)bytes;
}

static void tell_gateway(struct keeper *k, bool taken, const char *text)
{
    struct boot_said said = {
        .word = {.kind = BOOT_RELOADED, .place = k->reload.answers, .how = taken},
        .generation = k->boot.config_generation};
    int n = snprintf(said.text, sizeof(said.text), "%s", text);
    size_t bytes = n < 0 ? 0 : (size_t)n < BOOT_TEXT ? (size_t)n : BOOT_TEXT - 1;
    if (taken || k->reload.answers > 0)
        send_surely(k, &said, offsetof(struct boot_said, text) + bytes + 1, NULL, 0);
}

static void refuse(struct keeper *k, const char *why)
{
    EVENT(LOG_WARN, "reload_refused", LOG_CSTR("file", k->config->path), LOG_CSTR("why", why));
    tell_gateway(k, false, why);
    forget(k);
}

// ---- in force ----------------------------------------------------------------------------------------------

static void adopt_sockets(struct keeper *k, const struct config *c, uint64_t now_us)
{
    struct reload_job *r = &k->reload;
    for (unsigned i = 0; i < r->sockets.count; i++) {
        const struct boot_listener *l = r->sockets.listeners[i];
        if (!sockets_has(&k->sockets, l))
            EVENT(LOG_INFO, "listening", LOG_CSTR("name", l->name),
                  LOG_CSTR("address", l->address));
    }
    unsigned closed = sockets_commit(&k->sockets, &r->sockets, c);
    k->boot.listeners = k->sockets.listeners;
    r->let_go_us = closed > 0 && k->gateway_fd >= 0 ? now_us + RELOAD_LET_GO_US : 0;
    tickets_adopt(&k->tickets, c);
}

static void put_in_force(struct keeper *k, uint64_t now_us)
{
    struct reload_job *r = &k->reload;
    struct config *before = k->config;
    places_apply(k, r->config, &r->places);
    adopt_sockets(k, r->config, now_us);
    if (r->config->log.level != before->log.level) { // else what an operator has set since stays
        k->boot.log_level = r->config->log.level;
        event_set_level((enum log_level)k->boot.log_level);
    }
    k->config = r->config;
    r->config = NULL;
    secrets_guard(k->config);
    config_unref(before);
    buffer_deinit(&k->text);
    k->text = r->text;
    buffer_init(&r->text);
    k->boot.config_text = (const uint8_t *)buffer_view(&k->text).p;
    k->boot.config_bytes = buffer_len(&k->text);
    k->boot.config_path = k->config->path;
    k->boot.config_generation++;
    k->boot.config_since_us = r->since_us;
    EVENT(LOG_INFO, "reloaded", LOG_CSTR("file", k->config->path),
          LOG_I("generation", k->boot.config_generation), LOG_CSTR("changes", r->said));
    tell_gateway(k, true, r->said);
    forget(k);
}

// Parsed from the bytes that the child found good: it says the same.
static bool read_again(struct keeper *k)
{
    struct reload_job *r = &k->reload;
    struct config_errors errors;
    off_t bytes = lseek(r->memory_fd, 0, SEEK_END);
    uint8_t *at =
        bytes > 0 && bytes <= CONFIG_MAX_BYTES ? buffer_reserve(&r->text, (size_t)bytes) : NULL;
    if (!at || pread(r->memory_fd, at, (size_t)bytes, 0) != bytes)
        return false;
    buffer_commit(&r->text, (size_t)bytes);
    r->config = config_parse(buffer_view(&r->text), k->config->path, &errors);
    return r->config != NULL;
}

// The workers stand behind the configuration's bytes.
static bool add_places(struct reload_job *r)
{
    size_t at = buffer_len(&r->text), bytes = sizeof(struct boot_place);
    for (unsigned i = 0; i < r->places.n; i++) {
        if (pwrite(r->memory_fd, &r->places.rows[i].to_be, bytes, (off_t)(at + i * bytes)) !=
            (ssize_t)bytes)
            return false;
    }
    return true;
}

// A section's sockets: their number, and what the gateway does not have.
static bool hand_over(struct keeper *k, unsigned section)
{
    const struct boot_listener *l = k->reload.sockets.listeners[section];
    struct boot_listen said = {
        .word = {.kind = BOOT_LISTENER, .how = section == 0}, .section = section, .id = l->id};
    unsigned left = sockets_has(&k->sockets, l) ? 0 : l->n;
    const int *fds = l->fds;
    snprintf(said.address, sizeof(said.address), "%s", l->address);
    do {
        unsigned n = left < FDS_MAX ? left : FDS_MAX;
        if (!send_surely(k, &said, sizeof(said), fds, n))
            return false;
        said.word.how = 0;
        fds += n;
        left -= n;
    } while (left > 0);
    return true;
}

static void offer(struct keeper *k)
{
    struct reload_job *r = &k->reload;
    struct boot_offer o = {.word.kind = BOOT_OFFER,
                           .generation = k->boot.config_generation + 1,
                           .since_us = r->since_us,
                           .bytes = buffer_len(&r->text),
                           .places = r->places.n};
    bool told = add_places(r);
    for (unsigned i = 0; told && i < r->sockets.count; i++)
        told = hand_over(k, i);
    if (told && send_surely(k, &o, sizeof(o), &r->memory_fd, 1))
        r->state = RELOAD_OFFERED;
    else
        refuse(k, "the gateway process could not be told");
}

static void go_on(struct keeper *k, uint64_t now_us)
{
    struct reload_job *r = &k->reload;
    char why[RUNTIME_ERROR];
    r->since_us = log_wall_us();
    if (!read_again(k))
        refuse(k, "what was found good cannot be read again");
    else if (k->phase != RUNNING)
        refuse(k, "the gateway drains");
    else if (!sockets_prepare(&r->sockets, &k->sockets, r->config, k->boot.loops, why))
        refuse(k, why);
    else if (!places_prepare(k, r->config, &r->places, why))
        refuse(k, why);
    else if (k->gateway_fd < 0)
        put_in_force(k, now_us);
    else
        offer(k);
}

static void keep_said(struct reload_job *r, const char *text)
{
    for (; *text && r->said_bytes < BOOT_TEXT - 1; text++)
        r->said[r->said_bytes++] = *text;
    r->said[r->said_bytes] = '\0';
}

// Lines become one.
static void hear_child(struct reload_job *r)
{
    char some[512];
    bool ended = false;
    for (ssize_t n; (n = read(r->said_fd, some, sizeof(some))) > 0;) {
        for (ssize_t i = 0; i < n; i++) {
            char one[2] = {some[i]};
            if (ended)
                keep_said(r, "; ");
            ended = some[i] == '\n';
            if (!ended)
                keep_said(r, one);
        }
    }
}

bool reload_reap(struct keeper *k, pid_t pid, int status, uint64_t now_us)
{
    struct reload_job *r = &k->reload;
    if (r->state != RELOAD_CHECKING || pid != r->child.pid)
        return false;
    bool late = r->child.killed;
    hear_child(r);
    r->child = (struct child){0};
    if (WIFEXITED(status) && WEXITSTATUS(status) == FOUND_GOOD)
        go_on(k, now_us);
    else if (WIFEXITED(status) && r->said_bytes > 0)
        refuse(k, r->said);
    else
        refuse(k, late ? "the file could not be read in time"
                       : "the process that checks it has failed");
    return true;
}

// ---- the way ----------------------------------------------------------------------------------------------

void reload_ask(struct keeper *k, uint32_t wish)
{
    k->reload.asked = true;
    if (wish > 0)
        k->reload.wish = wish;
}

// The child's end is written and read without waiting: it says at most what a pipe holds.
static bool open_ways(struct reload_job *r, int *said_write)
{
    int pair[2];
    r->memory_fd = memfd_create("configuration", MFD_CLOEXEC);
    if (r->memory_fd < 0 || pipe2(pair, O_CLOEXEC | O_NONBLOCK) != 0)
        return false;
    r->said_fd = pair[0];
    *said_write = pair[1];
    return true;
}

static void begin(struct keeper *k, uint64_t now_us)
{
    struct reload_job *r = &k->reload;
    int said_write = -1;
    r->asked = false;
    r->answers = r->wish;
    r->said_bytes = 0;
    r->said[0] = '\0';
    if (k->phase != RUNNING) {
        refuse(k, "the gateway drains");
        return;
    }
    if (!open_ways(r, &said_write)) {
        refuse(k, strerrordesc_np(errno));
        return;
    }
    int said_read = r->said_fd;
    r->said_fd = said_write; // the child's
    bool forked = child_fork(&r->child, check_body, k, now_us, &k->rand);
    r->said_fd = said_read;
    close(said_write);
    r->state = RELOAD_CHECKING;
    r->kill_us = now_us + RELOAD_CHECK_US;
    if (!forked)
        refuse(k, "no process could be made to check it");
}

static bool is_due(const struct reload_job *r)
{
    return r->state == RELOAD_IDLE && r->asked && !r->let_go_us;
}

void reload_turn(struct keeper *k, uint64_t now_us)
{
    struct reload_job *r = &k->reload;
    if (r->state == RELOAD_CHECKING && now_us >= r->kill_us) {
        child_signal(&r->child, SIGKILL);
        r->kill_us = UINT64_MAX;
    }
    if (r->let_go_us && now_us >= r->let_go_us)
        r->let_go_us = 0;
    if (is_due(r))
        begin(k, now_us);
}

void reload_on_let_go(struct keeper *k)
{
    k->reload.let_go_us = 0;
}

void reload_on_taken(struct keeper *k, const struct boot_said *said, uint64_t now_us)
{
    if (k->reload.state != RELOAD_OFFERED)
        return;
    if (said->word.how)
        put_in_force(k, now_us);
    else
        refuse(k, said->text);
}

void reload_on_gateway_gone(struct keeper *k)
{
    struct reload_job *r = &k->reload;
    r->wish = r->answers = 0;
    r->let_go_us = 0;
    if (r->state == RELOAD_OFFERED)
        refuse(k, "the gateway process has ended before it had taken it");
}

uint64_t reload_wake_us(const struct reload_job *r)
{
    if (is_due(r))
        return 0;
    if (r->state == RELOAD_CHECKING)
        return r->kill_us;
    return r->let_go_us ? r->let_go_us : UINT64_MAX;
}

void reload_deinit(struct keeper *k)
{
    child_signal(&k->reload.child, SIGKILL);
    forget(k);
    buffer_deinit(&k->reload.text);
}
