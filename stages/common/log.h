/*
 * log -- one line per event on stderr: `warn stage=rag lane=0 ev=query_timeout n=3`.
 *
 * Shape   level, who, ev=, then key=value pairs; values with spaces are quoted
 * Owner   one sink per process, set up by log_init(); the last line is kept for last words
 * Errors  none: a line that stderr would block on is dropped, counted, and reported later
 * Limits  a line <= 1024 bytes; never payload bytes, never secrets; not for the path of a record
 *
 * Levels: broken = our bug (fails any CI run); error, warn, info, debug.
 */
#pragma once

#include <stdint.h>

enum log_level {
        LOG_LEVEL_BROKEN,
        LOG_LEVEL_ERROR,
        LOG_LEVEL_WARN,
        LOG_LEVEL_INFO,
        LOG_LEVEL_DEBUG
};

/* who: "supervisor", "stage=rag lane=0". Copied. */
void log_init(const char *who, enum log_level level);
void log_set_level(enum log_level level);
/* Each line is also stored here (96 bytes, cut), for the crash handler's last words. NULL: nowhere.
 */
void log_set_last_words(char *words96);
uint64_t log_dropped(void);

__attribute__((format(printf, 3, 4))) void log_line(
                enum log_level level, const char *ev, const char *format, ...);

#define log_broken(ev, ...) log_line(LOG_LEVEL_BROKEN, ev, __VA_ARGS__)
#define log_error(ev, ...) log_line(LOG_LEVEL_ERROR, ev, __VA_ARGS__)
#define log_warn(ev, ...) log_line(LOG_LEVEL_WARN, ev, __VA_ARGS__)
#define log_info(ev, ...) log_line(LOG_LEVEL_INFO, ev, __VA_ARGS__)
#define log_debug(ev, ...) log_line(LOG_LEVEL_DEBUG, ev, __VA_ARGS__)
