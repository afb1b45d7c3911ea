#include "keeper/child.h"
#include "keeper/event.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

// In the child, before anything else. What the keeper blocks stays blocked until the body can hear it: a
// signal that comes before then waits, where its default meaning would be death.
static void settle(pid_t keeper)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    event_listen(NULL, NULL);
    if (getppid() != keeper) // it died before the line above
        _exit(1);
    setpgid(0, 0);
    // A key at the terminal that came before the line above was the keeper's to hear: what waits is dropped.
    signal(SIGINT, SIG_IGN);
    signal(SIGQUIT, SIG_IGN);
    for (int s = 1; s < NSIG; s++)
        signal(s, SIG_DFL); // not possible for some, harmless
}

bool child_fork(struct child *c, int (*body)(void *arg), void *arg, uint64_t now_us, struct rand *r)
{
    pid_t keeper = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        settle(keeper);
        exit(body(arg));
    }
    c->started_us = now_us;
    c->killed = false;
    if (pid < 0) {
        EVENT(LOG_ERROR, "fork_failed", LOG_CSTR("why", strerrordesc_np(errno)));
        child_died(c, true, now_us, r);
        return false;
    }
    c->starts++;
    c->pid = pid;
    c->state = CHILD_STARTING;
    return true;
}

void child_ready(struct child *c)
{
    c->state = CHILD_RUNNING;
    c->was_ready = true;
}

void child_died(struct child *c, bool again, uint64_t now_us, struct rand *r)
{
    c->pid = 0;
    c->state = again ? CHILD_WAITING : CHILD_OVER;
    uint64_t lived_us = now_us - c->started_us;
    c->at_us = now_us + (c->killed ? backoff_after_kill(&c->backoff, lived_us, r)
                                   : backoff_after_death(&c->backoff, lived_us, r));
}

void child_signal(struct child *c, int signal)
{
    if (!child_alive(c))
        return;
    c->killed |= signal == SIGKILL;
    kill(c->pid, signal);
}

int child_exec_worker(const char *program, char *const *words, int liveness_fd, const char *name,
                      unsigned replica)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL); // exec keeps the mask
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null >= 0)
        dup2(null, STDIN_FILENO);
    fcntl(liveness_fd, F_SETFD, 0); // the one descriptor beside 0, 1, 2 that it inherits
    execv(program, words);
    EVENT(LOG_ERROR, "worker_exec_failed", LOG_CSTR("name", name), LOG_I("replica", replica),
          LOG_CSTR("program", program), LOG_CSTR("why", strerrordesc_np(errno)));
    _exit(127);
}
