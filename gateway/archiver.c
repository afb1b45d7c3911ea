#include "gateway/archiver.h"

#include "base/check.h"
#include "base/count.h"
#include "gateway/process.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LOOK_S 60
#define RETRY_S 5
#define NICE 19
#define IO_WHO_THREAD 1       // ioprio_set(2): IOPRIO_WHO_PROCESS
#define IO_CLASS_IDLE 3 << 13 // and IOPRIO_CLASS_IDLE

// ---- what is told --------------------------------------------------------------------------------------

static void on_word(struct loop *l, struct loop_task *t)
{
    struct archiver_word *w = container_of(t, struct archiver_word, task);
    const struct archive_done *d = &w->done;
    (void)l;
    if (w->end == ARCHIVE_FAILED)
        GATEWAY_EVENT(w->gateway, NULL, LOG_ERROR, "predictions_not_archived",
                      LOG_I("files", d->taken), LOG_CSTR("why", d->why));
    else
        GATEWAY_EVENT(w->gateway, NULL, LOG_INFO, "predictions_archived", LOG_I("files", d->taken),
                      LOG_I("days_removed", d->days));
    atomic_store(&w->busy, false);
}

// False: the word before is still on its way.
static bool say(struct archiver *a, enum archive_end end, const struct archive_done *done)
{
    if (atomic_exchange(&a->word.busy, true))
        return false;
    a->word.end = end;
    a->word.done = *done;
    loop_post_task(NULL, &a->gateway->main, &a->word.task);
    return true;
}

// What was done; and failure where it begins.
static void tell(struct archiver *a, enum archive_end end, const struct archive_done *done)
{
    count_add(&a->taken, done->taken);
    count_add(&a->days, done->days);
    count_add(&a->errors, end == ARCHIVE_FAILED);
    if (end == ARCHIVE_BUSY || atomic_load(&a->over))
        return;
    bool failed = end == ARCHIVE_FAILED;
    bool news = failed ? !a->failing : a->failing || done->taken + done->days > 0;
    if (news && say(a, end, done))
        a->failing = failed;
}

// ---- its thread ----------------------------------------------------------------------------------------

static uint64_t wall_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

// The lock is held, but for the time of the work itself.
static void look(struct archiver *a)
{
    char directory[PATH_MAX], to[PATH_MAX];
    struct archive_job job = {
        .directory = directory, .to = to, .keep_us = a->keep_us, .stop = &a->over};
    struct archive_done done;
    snprintf(directory, sizeof(directory), "%s", a->directory);
    snprintf(to, sizeof(to), "%s", a->to);
    a->fresh = false;
    pthread_mutex_unlock(&a->lock);
    tell(a, archive_run(&job, wall_us(), &done), &done);
    pthread_mutex_lock(&a->lock);
}

static void wait_for_more(struct archiver *a)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += a->failing ? RETRY_S : LOOK_S;
    int end = 0;
    while (!a->fresh && !atomic_load(&a->over) && end != ETIMEDOUT)
        end = pthread_cond_timedwait(&a->changed, &a->lock, &until);
}

static void *archiver_main(void *arg)
{
    struct archiver *a = arg;
    pthread_setname_np(pthread_self(), "archiver");
    setpriority(PRIO_PROCESS, 0, NICE); // Linux: of this thread alone
    syscall(SYS_ioprio_set, IO_WHO_THREAD, 0, IO_CLASS_IDLE);
    pthread_mutex_lock(&a->lock);
    while (!atomic_load(&a->over)) {
        if (a->to[0])
            look(a);
        wait_for_more(a);
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

// ---- life ----------------------------------------------------------------------------------------------

void archiver_init(struct archiver *a, struct gateway *g)
{
    pthread_condattr_t monotonic;
    a->gateway = a->word.gateway = g;
    a->word.task.fn = on_word;
    pthread_mutex_init(&a->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&a->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

bool archiver_start(struct archiver *a)
{
    sigset_t all, old;
    if (a->runs)
        return true;
    sigfillset(&all); // signals belong to the main thread
    pthread_sigmask(SIG_SETMASK, &all, &old);
    errno = pthread_create(&a->thread, NULL, archiver_main, a);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    a->runs = errno == 0;
    return a->runs;
}

void archiver_move(struct archiver *a, const struct config *c)
{
    const struct config_predictions *p = &c->predictions;
    bool on = p->on && p->file && p->archive;
    pthread_mutex_lock(&a->lock);
    snprintf(a->directory, sizeof(a->directory), "%s", on ? p->file : "");
    snprintf(a->to, sizeof(a->to), "%s", on ? p->archive : "");
    a->keep_us = p->archive_keep_us;
    a->fresh = true;
    pthread_cond_signal(&a->changed);
    pthread_mutex_unlock(&a->lock);
}

void archiver_stop(struct archiver *a)
{
    if (!a->runs)
        return;
    pthread_mutex_lock(&a->lock);
    atomic_store(&a->over, true);
    pthread_cond_signal(&a->changed);
    pthread_mutex_unlock(&a->lock);
    pthread_join(a->thread, NULL);
    a->runs = false;
}
