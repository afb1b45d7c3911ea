#include "keeper/ending.h"
#include <signal.h>
#include <sys/wait.h>

static bool signal_is_crash(int number, bool killed)
{
    switch (number) {
    case SIGSEGV:
    case SIGBUS:
    case SIGFPE:
    case SIGILL:
    case SIGABRT:
    case SIGSYS:
    case SIGTRAP:
        return true;
    case SIGKILL:
        return !killed;
    default:
        return false;
    }
}

static bool status_is_crash(int status)
{
    return status != 0 && status != 128 + SIGTERM && status != 128 + SIGINT &&
           status != 128 + SIGHUP;
}

enum boot_end ending_of(int wait_status, bool killed)
{
    bool crashed = WIFSIGNALED(wait_status) ? signal_is_crash(WTERMSIG(wait_status), killed)
                                            : status_is_crash(WEXITSTATUS(wait_status));
    return crashed ? BOOT_CRASHED : BOOT_ENDED;
}
