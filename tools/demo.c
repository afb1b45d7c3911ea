/* demo: what `make run` starts. demo PROGRAM ARGUMENT... runs sluice in the foreground, asks it one
 * question when it is ready, prints the answer for a person to enjoy, and stays until sluice ends;
 * its status is sluice's. Plain sockets, so that a bare system needs no curl.
 *
 * Ctrl-C: a terminal sends it to the whole foreground group, and make, when it gets one, ends with a
 * failure whatever its recipe does. So at a terminal we move ourselves and sluice to a group of our
 * own and give that the terminal: the key then reaches sluice, which drains, and make sees 0. */
#include <arpa/inet.h>
#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <math.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PORT = 8080, ADMIN_PORT = 9090, PIXELS = 64, CLASSES = 10, READY_TRIES = 1200 };

static const char infer_path[] = "/v2/models/digits/infer";

struct sample {
    int label;
    int pixel[PIXELS]; // [8, 8], 0..16
};

struct answer {
    int status;       // 0: no answer
    char text[16384]; // head and body, ended by NUL
};

static void nap_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

static int connect_to(int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

// Sends `request` (which asks for connection: close) and reads all that comes, for ten seconds.
static void ask(const char *request, struct answer *a)
{
    size_t n = 0;
    int fd = connect_to(PORT);
    a->status = 0;
    a->text[0] = 0;
    if (fd < 0)
        return;
    if (send(fd, request, strlen(request), MSG_NOSIGNAL) == (ssize_t)strlen(request)) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        while (n < sizeof(a->text) - 1 && poll(&p, 1, 10000) == 1) {
            ssize_t got = recv(fd, a->text + n, sizeof(a->text) - 1 - n, 0);
            if (got <= 0)
                break;
            n += (size_t)got;
        }
    }
    close(fd);
    a->text[n] = 0;
    if (strncmp(a->text, "HTTP/1.1 ", 9) == 0)
        a->status = atoi(a->text + 9);
}

// The value of a header field, or "". The caller uses it before it asks again.
static const char *header(const struct answer *a, const char *name)
{
    static char value[400];
    size_t n = strlen(name);
    value[0] = 0;
    for (const char *line = strstr(a->text, "\r\n"); line && line[2] != '\r';
         line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, name, n) == 0 && line[2 + n] == ':') {
            const char *from = line + 3 + n + strspn(line + 3 + n, " ");
            snprintf(value, sizeof(value), "%.*s", (int)strcspn(from, "\r"), from);
            break;
        }
    }
    return value;
}

// One of models/samples.json, another one each second.
static bool read_sample(struct sample *s)
{
    char text[65536];
    FILE *f = fopen("models/samples.json", "r");
    size_t n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;
    if (f)
        fclose(f);
    text[n] = 0;
    unsigned lines = 0;
    for (const char *p = text; (p = strstr(p, "\"label\":")); p++)
        lines++;
    if (lines == 0)
        return false;
    const char *p = text;
    for (unsigned pick = (unsigned)time(NULL) % lines + 1; pick > 0; pick--)
        p = strstr(p, "\"label\":") + strlen("\"label\":");
    s->label = atoi(p);
    p = strstr(p, "\"input\":[");
    for (int i = 0; p && i < PIXELS; i++) {
        p += strcspn(p, "0123456789");
        s->pixel[i] = (int)strtol(p, (char **)(void *)&p, 10);
    }
    return p != NULL;
}

static size_t body_of(const struct sample *s, char *out, size_t room)
{
    size_t n = (size_t)snprintf(out, room,
                                "{\"inputs\":[{\"name\":\"input\",\"shape\":[1,64],"
                                "\"datatype\":\"FP32\",\"data\":[");
    for (int i = 0; i < PIXELS; i++)
        n += (size_t)snprintf(out + n, room - n, i ? ",%d" : "%d", s->pixel[i]);
    return n + (size_t)snprintf(out + n, room - n, "]}]}");
}

static bool read_probabilities(const struct answer *a, double p[CLASSES])
{
    const char *at = strstr(a->text, "\"data\":");
    for (int i = 0; at && i < CLASSES; i++) {
        char *end;
        at += strcspn(at, "-0123456789");
        p[i] = strtod(at, &end);
        at = end == at ? NULL : end;
    }
    return at != NULL;
}

// The picture on the left, the ten bars on the right, line by line.
static void draw(const struct sample *s, const double p[CLASSES])
{
    static const char *const blocks[] = {"  ", "░░", "▒▒", "▓▓", "██"};
    static const char *const plain[] = {"  ", "..", "++", "%%", "@@"};
    bool utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    const char *const *shade = utf8 ? blocks : plain;
    int best = 0;
    for (int i = 1; i < CLASSES; i++)
        best = p[i] > p[best] ? i : best;
    puts("");
    for (int row = 0; row < CLASSES; row++) {
        fputs("    ", stdout);
        for (int x = 0; x < 8; x++) {
            int v = row >= 1 && row <= 8 ? s->pixel[(row - 1) * 8 + x] : 0;
            fputs(shade[(v + 3) / 4 > 4 ? 4 : (v + 3) / 4], stdout);
        }
        printf("      %d ", row);
        for (int i = 0; i < (int)lround(p[row] * 40); i++)
            fputs(utf8 ? "█" : "#", stdout);
        printf(" %.1f %%%s\n", p[row] * 100, row == best ? "  <- the answer" : "");
    }
    printf("\n    the model says %d, the person who wrote it meant %d\n", best, s->label);
}

static void print_curls(const char *body)
{
    printf("\nTry next, from another terminal:\n\n"
           "  curl -s http://127.0.0.1:%d/v2/models/digits\n"
           "  curl -s -i http://127.0.0.1:%d%s -d '%s'\n"
           "  curl -s http://127.0.0.1:%d/metrics\n"
           "  curl -s http://127.0.0.1:%d/healthz\n\n"
           "Ctrl-C drains and ends.\n",
           PORT, PORT, infer_path, body, ADMIN_PORT, ADMIN_PORT);
}

// true: answered and printed.
static bool show_one(void)
{
    static struct answer a;
    struct sample s;
    double p[CLASSES];
    char body[1024], request[2048];
    if (!read_sample(&s)) {
        fprintf(stderr, "demo: models/samples.json cannot be read\n");
        return false;
    }
    size_t n = body_of(&s, body, sizeof(body));
    snprintf(request, sizeof(request),
             "POST %s HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\n"
             "content-length: %zu\r\nconnection: close\r\n\r\n%s",
             infer_path, PORT, n, body);
    ask(request, &a);
    if (a.status != 200 || !read_probabilities(&a, p)) {
        fprintf(stderr, "demo: no good answer from the model:\n%s\n", a.text);
        return false;
    }
    printf("\nA digit of 8 x 8 grey values, sent to %s:\n", infer_path);
    draw(&s, p);
    static const char *const shown[] = {"sluice-model", "sluice-source", "sluice-batch",
                                        "server-timing", "x-request-id"};
    puts("");
    for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++)
        if (*header(&a, shown[i]))
            printf("    %s: %s\n", shown[i], header(&a, shown[i]));
    print_curls(body);
    fflush(stdout);
    return true;
}

static bool ready(void)
{
    static struct answer a;
    ask("GET /v2/models/digits/ready HTTP/1.1\r\nhost: demo\r\nconnection: close\r\n\r\n", &a);
    return a.status == 200;
}

// Somebody serves there already: what they would answer is not ours to show.
static bool port_taken(void)
{
    int fd = connect_to(PORT);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

// Waits for the model, until the child ends (*running, *status) or somebody asks us to end. True: it is ready.
static bool wait_ready(pid_t child, bool *running, int *status)
{
    for (int tries = 0; tries < READY_TRIES; tries++, nap_ms(25)) {
        sigset_t pending;
        *running = waitpid(child, status, WNOHANG) == 0;
        if (!*running || (sigpending(&pending) == 0 &&
                          (sigismember(&pending, SIGINT) || sigismember(&pending, SIGTERM))))
            return false;
        if (ready())
            return true;
    }
    fprintf(stderr, "demo: the model was not ready within %d s\n", READY_TRIES / 40);
    return false;
}

static int status_of(int wait_status)
{
    return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

// Waits for the child to end. A SIGINT was most likely sent to it as well; when two seconds later
// it still takes connections, it was not, and is told now.
static int stay(pid_t child, const sigset_t *signals)
{
    bool told = false;
    int status;
    for (;;) {
        struct timespec two = {.tv_sec = 2};
        int sig = sigtimedwait(signals, NULL, &two);
        if (waitpid(child, &status, WNOHANG) == child)
            return status_of(status);
        if (sig == SIGTERM || sig == SIGHUP)
            kill(child, SIGTERM);
        if (sig == SIGINT)
            told = true;
        int fd = sig < 0 && told ? connect_to(PORT) : -1;
        if (fd >= 0) {
            close(fd);
            kill(child, SIGTERM);
            told = false;
        }
    }
}

static pid_t start(char **words, const sigset_t *before)
{
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        sigprocmask(SIG_SETMASK, before, NULL);
        execv(words[0], words);
        fprintf(stderr, "demo: %s: %s\n", words[0], strerror(errno));
        _exit(127);
    }
    return child;
}

// The terminal's foreground group from here on is ours; -1: there is no terminal.
static pid_t take_terminal(void)
{
    pid_t before = isatty(STDIN_FILENO) ? tcgetpgrp(STDIN_FILENO) : -1;
    if (before != getpgrp())
        return -1;
    signal(SIGTTOU, SIG_IGN);
    signal(SIGTSTP, SIG_IGN); // make would wait for a stopped group for ever
    if (setpgid(0, 0) != 0 || tcsetpgrp(STDIN_FILENO, getpgrp()) != 0)
        return -1;
    return before;
}

int main(int argc, char **argv)
{
    sigset_t signals, before;
    if (argc < 2) {
        fprintf(stderr, "usage: demo PROGRAM ARGUMENT...\n");
        return 2;
    }
    setlocale(LC_ALL, "");
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGCHLD);
    sigprocmask(SIG_BLOCK, &signals, &before);
    pid_t group = take_terminal();
    bool taken = port_taken(), running = true; // when taken, sluice itself will say so, and end
    pid_t child = start(argv + 1, &before);
    int status = 0;
    if (!taken && wait_ready(child, &running, &status))
        show_one();
    status = running ? stay(child, &signals) : status_of(status);
    if (group >= 0)
        tcsetpgrp(STDIN_FILENO, group);
    return status;
}
