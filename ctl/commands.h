/* ctl/commands.h: what sluicectl can be told, a row a command. Does. */
#ifndef SLUICE_CTL_COMMANDS_H
#define SLUICE_CTL_COMMANDS_H

#include "ctl/ask.h"
#include "ctl/options.h"

enum ctl_exit {
    CTL_DONE = 0,
    CTL_REFUSED =
        1, // the gateway answered: not what was asked for, or nothing that can be understood
    CTL_UNANSWERED =
        2 // it was not asked, or no answer came: wrong usage, no token to be read, no connection, no time
};

// Runs o->command on the gateway that `a` names, prints its answer to standard output and what went wrong to
// standard error.
enum ctl_exit command_run(const struct ctl_options *o, const struct ask *a);
// Before anything is asked: false: `why` says what is wrong with command, argument or --wait.
bool command_check(const struct ctl_options *o, char why[OPTIONS_ERROR]);
// It asks no gateway: nothing but its words is needed. After command_check.
bool command_is_here(const struct ctl_options *o);
enum ctl_exit command_run_here(const struct ctl_options *o);

#endif
