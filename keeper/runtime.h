/* keeper/runtime.h: what the keeper holds of the system for as long as it lives: the configuration's bytes,
 * a private directory for the workers' sockets, the liveness pipe, the heartbeat page, the listening
 * sockets. Does. One thread. Every function that can fail says why in one line without a newline. */
#ifndef SLUICE_KEEPER_RUNTIME_H
#define SLUICE_KEEPER_RUNTIME_H

#include "base/buffer.h"
#include "config/config.h"
#include "gateway/boot.h"
#include <stdbool.h>

#define RUNTIME_ERROR 512

struct runtime_dir {
    char path[80]; // "" when there is none
    int lock_fd;   // held (flock) while we live: what nobody holds is a leftover
};
// A fresh directory (0700) below `under`, or $XDG_RUNTIME_DIR, or /tmp. Directories of keepers that were
// killed are removed on the way (same user, lock not held).
bool runtime_dir_make(struct runtime_dir *d, const char *under, char why[RUNTIME_ERROR]);
void runtime_dir_remove(struct runtime_dir *d);

// Shared with children that are forked later; all zero.
struct heartbeat_page *runtime_page_new(void);
void runtime_page_free(struct heartbeat_page *p);

// ---- listening sockets --------------------------------------------------------------------------------

struct sockets {
    struct boot_listener **listeners; // one a section, in the order of the configuration
    unsigned count;
    uint32_t last_id;
    int admin_fd; // -1: none
    char *admin_address;
};
// Opens what the configuration names, for so many loops. false: nothing stays open.
bool sockets_open(struct sockets *s, const struct config *c, unsigned loops,
                  char why[RUNTIME_ERROR]);
// Those of another configuration: a section that has an address of now's has its sockets, too (port 0: of the section
// of its name); the rest are opened. The admin's stay. Then one of the two below. false: nothing has changed.
bool sockets_prepare(struct sockets *next, const struct sockets *now, const struct config *c,
                     unsigned loops, char why[RUNTIME_ERROR]);
// now is what next was, by the names that c has; what it had and next has not is closed, files removed. How many were.
unsigned sockets_commit(struct sockets *now, struct sockets *next, const struct config *c);
void sockets_drop(struct sockets *next, const struct sockets *now);
bool sockets_has(const struct sockets *s, const struct boot_listener *l);
// Closes the clients' sockets here: when the gateway process closes its own, nobody listens any more,
// and no connection waits in a backlog that nobody will accept. Their files stay until sockets_close.
void sockets_let_go(struct sockets *s);
// Closes; files of Unix sockets are removed.
void sockets_close(struct sockets *s);

// ---- programs and files -------------------------------------------------------------------------------

// Where the program is: a name with a slash is taken as it is; else beside our own program, then in PATH.
bool runtime_find_program(const char *name, char *out, size_t size);
// The files and programs that a configuration names can be read and run, certificates fit their keys, the
// token is one. Otherwise one line is printed to err for each that cannot; returns how many.
unsigned runtime_check_files(const struct config *c, const char *filename, int err_fd);
// Likewise the log: its file can be written, or its folder can have one. Nothing is made.
unsigned runtime_check_logs(const struct config *c, const char *filename, int err_fd);

#endif
