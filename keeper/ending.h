/* keeper/ending.h: what the end of a worker process says about it. Thinks: takes what waitpid() gave.
 * A crash is evidence against what the process was doing at that moment; an end that somebody asked for
 * is not. So these are crashes: a signal that the process's own doing raises (SIGSEGV, SIGBUS, SIGFPE,
 * SIGILL, SIGABRT, SIGSYS, SIGTRAP), a SIGKILL that we did not send (the kernel's when memory runs out),
 * and a status of its own that is not 0. These are not: status 0, every signal by which a process is asked
 * to end, the same spelled as a status (128 + SIGTERM: shells and Java's machine do so), and our own
 * SIGKILL. */
#ifndef SLUICE_KEEPER_ENDING_H
#define SLUICE_KEEPER_ENDING_H

#include "gateway/boot.h"

// killed: we have sent it SIGKILL. A crash that came before that signal stays one.
enum boot_end ending_of(int wait_status, bool killed);

#endif
