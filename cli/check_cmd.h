/*
 * check_cmd -- what the parts of `millrace check` share.
 *
 * Shape   check.c reads the options and looks at the file; check_machine.c and check_network.c look
 *         at what the settings need of the machine
 * Units   none
 * Owner   texts are copied into the line that is printed
 * Errors  none: what goes wrong is a finding
 * Limits  a finding's text is cut at CHECK_TEXT_MAX
 */
#pragma once

#include <stdbool.h>

#include "stages/common/settings.h"

#define CHECK_TEXT_MAX 512

enum check_state {
        CHECK_OK,
        CHECK_WARN, /* it will run, but not as well as it could */
        CHECK_BAD,  /* it will not run */
};

struct check_run {
        bool json;
        bool connect;
        bool running; /* an instance of this name holds its lock: what is taken may be its own */
        unsigned n_bad;
};

/* One line. remedy NULL: nothing to do. */
__attribute__((format(printf, 5, 6))) void check_finding(struct check_run *run,
                                                         enum check_state state, const char *what,
                                                         const char *remedy, const char *format,
                                                         ...);

void check_machine(struct check_run *run, const struct settings *s);
void check_ports(struct check_run *run, const struct settings *s);
void check_backends(struct check_run *run, const struct settings *s);
