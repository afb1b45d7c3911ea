#include "keeper/runtime.h"
#include "base/mem.h"
#include "gateway/admin.h"
#include "gateway/chains.h"
#include "gateway/experiments.h"
#include "gateway/store_plan.h"
#include "net/tls.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

__attribute__((format(printf, 2, 3))) static bool refuse(char why[RUNTIME_ERROR],
                                                         const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(why, RUNTIME_ERROR, format, ap);
    va_end(ap);
    return false;
}

// ---- the private directory ----------------------------------------------------------------------------

#define DIR_PREFIX "sluice-"

static void remove_tree(const char *path)
{
    DIR *d = opendir(path);
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            unlinkat(dirfd(d), e->d_name, 0); // flat: only sockets and the lock were made there
    closedir(d);
    rmdir(path);
}

static int take_lock(const char *path, int flags)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

// It gets its name when it is held: another keeper that starts would take a free one for a leftover.
static int make_lock(const char *dir)
{
    char path[300], fresh[300];
    snprintf(path, sizeof(path), "%s/lock", dir);
    snprintf(fresh, sizeof(fresh), "%s/fresh", dir);
    int fd = take_lock(fresh, O_CREAT | O_EXCL);
    if (fd >= 0 && rename(fresh, path) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

// What keepers that were killed have left: ours by owner, and nobody holds the lock.
static void remove_leftovers(const char *under)
{
    DIR *d = opendir(under);
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        char path[300], lock[310];
        struct stat st;
        if (strncmp(e->d_name, DIR_PREFIX, strlen(DIR_PREFIX)) != 0 ||
            strlen(e->d_name) != strlen(DIR_PREFIX) + 6 ||
            snprintf(path, sizeof(path), "%s/%s", under, e->d_name) >= (int)sizeof(path) ||
            lstat(path, &st) != 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid())
            continue;
        snprintf(lock, sizeof(lock), "%s/lock", path);
        int fd = take_lock(lock, 0);
        if (fd < 0)
            continue;
        remove_tree(path);
        close(fd);
    }
    closedir(d);
}

static bool make_and_lock(struct runtime_dir *d, const char *under, char why[RUNTIME_ERROR])
{
    // A Unix socket's path holds 107 bytes; "/w4095-63.sock" needs 14 of them.
    if (snprintf(d->path, sizeof(d->path), "%s/" DIR_PREFIX "XXXXXX", under) >=
        (int)sizeof(d->path)) {
        d->path[0] = '\0';
        return refuse(why, "runtime_dir %s: too long for a Unix socket below it", under);
    }
    if (!mkdtemp(d->path)) {
        d->path[0] = '\0';
        return refuse(why, "runtime_dir %s: %s", under, strerror(errno));
    }
    d->lock_fd = make_lock(d->path);
    return d->lock_fd >= 0 || refuse(why, "%s/lock: %s", d->path, strerror(errno));
}

bool runtime_dir_make(struct runtime_dir *d, const char *under, char why[RUNTIME_ERROR])
{
    const char *xdg = getenv("XDG_RUNTIME_DIR");
    if (!under)
        under = xdg && xdg[0] == '/' && access(xdg, W_OK | X_OK) == 0 ? xdg : "/tmp";
    *d = (struct runtime_dir){.lock_fd = -1};
    remove_leftovers(under);
    if (make_and_lock(d, under, why))
        return true;
    runtime_dir_remove(d);
    return false;
}

void runtime_dir_remove(struct runtime_dir *d)
{
    if (d->path[0])
        remove_tree(d->path);
    if (d->lock_fd >= 0)
        close(d->lock_fd);
    *d = (struct runtime_dir){.lock_fd = -1};
}

// ---- the shared page ----------------------------------------------------------------------------------

struct heartbeat_page *runtime_page_new(void)
{
    void *p = mmap(NULL, sizeof(struct heartbeat_page), PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void runtime_page_free(struct heartbeat_page *p)
{
    if (p)
        munmap(p, sizeof(*p));
}

// ---- programs and files -------------------------------------------------------------------------------

static bool runnable(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

bool runtime_find_program(const char *name, char *out, size_t size)
{
    if (strchr(name, '/'))
        return snprintf(out, size, "%s", name) < (int)size && runnable(out);
    char self[512];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash = n > 0 ? (self[n] = '\0', strrchr(self, '/')) : NULL;
    if (slash && snprintf(out, size, "%.*s/%s", (int)(slash - self), self, name) < (int)size &&
        runnable(out))
        return true;
    const char *path = getenv("PATH");
    for (const char *at = path ? path : "/usr/local/bin:/usr/bin:/bin"; *at;) {
        size_t length = strcspn(at, ":");
        if (length && snprintf(out, size, "%.*s/%s", (int)length, at, name) < (int)size &&
            runnable(out))
            return true;
        at += length + (at[length] == ':');
    }
    return false;
}

static unsigned check_file(int err, const char *filename, const char *what, const char *name,
                           const char *path)
{
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) : 0;
    if (fd < 0) {
        dprintf(err, "%s: %s%s%s%s: %s: %s\n", filename, name ? "listen \"" : "", name ? name : "",
                name ? "\": " : "", what, path, strerror(errno));
        return 1;
    }
    if (path)
        close(fd);
    return 0;
}

// The pair that the gateway will read: that it is one, and fits together.
static unsigned check_certificate(int err, const char *filename, const struct config_listen *l)
{
    char why[TLS_ERROR];
    unsigned wrong = check_file(err, filename, "certificate", l->name, l->certificate) +
                     check_file(err, filename, "key", l->name, l->key);
    if (wrong || !l->certificate)
        return wrong;
    struct tls_server *t = tls_server_new(l->certificate, l->key, NULL, 1, why);
    if (!t)
        dprintf(err, "%s: listen \"%s\": %s\n", filename, l->name, why);
    tls_server_free(t);
    return t == NULL;
}

static unsigned check_token(int err, const char *filename, const char *path)
{
    char token[TOKEN_BYTES + 1];
    const char *why;
    unsigned wrong = check_file(err, filename, "admin: token_file", NULL, path);
    if (wrong || !path || admin_read_token(path, token, &why) == 0) {
        explicit_bzero(token, sizeof(token));
        return wrong;
    }
    explicit_bzero(token, sizeof(token));
    dprintf(err, "%s: admin: token_file: %s: %s\n", filename, path, why);
    return 1;
}

// The answers that are written down for models.
static unsigned check_answers(int err, const char *filename, const struct config *c)
{
    char why[FILE_WHY];
    struct chains *all = chains_new(c, why);
    if (!all)
        dprintf(err, "%s: %s\n", filename, why);
    chains_free(all);
    return all == NULL;
}

static unsigned check_experiments(int err, const char *filename, const struct config *c)
{
    char why[FILE_WHY];
    experiments_free(experiments_new(c, NULL, 0, why));
    if (why[0])
        dprintf(err, "%s: %s\n", filename, why);
    return why[0] != '\0';
}

static unsigned check_store(int err, const char *filename, const struct config *c)
{
    char why[STORE_WHY];
    if (!c->store.on || store_plan_check(&c->store, why))
        return 0;
    dprintf(err, "%s: %s\n", filename, why);
    return 1;
}

unsigned runtime_check_files(const struct config *c, const char *filename, int err_fd)
{
    unsigned wrong = check_store(err_fd, filename, c);
    char program[600];
    for (unsigned i = 0; i < c->listen_count; i++)
        wrong += check_certificate(err_fd, filename, &c->listens[i]);
    wrong += check_token(err_fd, filename, c->admin.token_file);
    wrong += check_answers(err_fd, filename, c);
    wrong += check_experiments(err_fd, filename, c);
    for (unsigned i = 0; i < c->worker_count; i++) {
        const struct config_worker *w = &c->workers[i];
        if (w->command_count == 0 || runtime_find_program(w->command[0], program, sizeof(program)))
            continue;
        dprintf(err_fd, "%s: worker \"%s\": program \"%s\" not found%s\n", filename, w->name,
                w->command[0],
                strchr(w->command[0], '/') ? " or not executable" : " beside sluice nor in PATH");
        wrong++;
    }
    return wrong;
}

// Can a file be made there? errno says why not.
static bool takes_files(const char *path)
{
    char folder[4096];
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    if (!slash)
        return access(".", W_OK | X_OK) == 0;
    if (n >= sizeof(folder)) {
        errno = ENAMETOOLONG;
        return false;
    }
    memcpy(folder, path, n);
    folder[n] = '\0';
    return access(n > 0 ? folder : "/", W_OK | X_OK) == 0;
}

static unsigned check_predictions(const struct config *c, const char *filename, int err_fd)
{
    const char *path = c->predictions.file;
    if (!path || access(path, R_OK | W_OK | X_OK) == 0 || (errno == ENOENT && takes_files(path)))
        return 0;
    dprintf(err_fd, "%s: predictions: file: %s: %s\n", filename, path, strerror(errno));
    return 1;
}

unsigned runtime_check_logs(const struct config *c, const char *filename, int err_fd)
{
    const char *path = c->log.access;
    unsigned wrong = check_predictions(c, filename, err_fd);
    if (!path || strcmp(path, "-") == 0 || strcmp(path, "/dev/stdout") == 0)
        return wrong;
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd >= 0)
        close(fd);
    if (fd >= 0 || (errno == ENOENT && takes_files(path)))
        return wrong;
    dprintf(err_fd, "%s: log: access: %s: %s\n", filename, path, strerror(errno));
    return wrong + 1;
}
