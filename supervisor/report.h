/*
 * report -- the one line that says why something could not be done.
 *
 * Shape   a line of text without a newline, filled by whoever finds the fault
 * Units   none
 * Owner   the caller's struct; whoever prints it does so once
 * Errors  none: a line that is too long is cut
 * Limits  1535 bytes
 */
#pragma once

#include <stdarg.h>
#include <stdio.h>

struct report {
        char line[1536];
};

__attribute__((format(printf, 2, 3))) static inline void report_set(
                struct report *report, const char *format, ...) {
        va_list args;

        va_start(args, format);
        vsnprintf(report->line, sizeof(report->line), format, args);
        va_end(args);
}
