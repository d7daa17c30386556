#include "stages/common/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define LINE_BYTES 1024
#define WHO_BYTES 64
#define WORDS_BYTES 96

static struct {
        char who[WHO_BYTES];
        enum log_level level;
        char *words;
        uint64_t dropped;  /* since the start */
        uint64_t reported; /* of those, mentioned in a line that came through */
} sink = {.who = "millrace", .level = LOG_LEVEL_INFO};

void log_init(const char *who, enum log_level level) {
        snprintf(sink.who, sizeof(sink.who), "%s", who);
        sink.level = level;
}

void log_set_level(enum log_level level) {
        sink.level = level;
}

void log_set_last_words(char *words96) {
        sink.words = words96;
}

uint64_t log_dropped(void) {
        return sink.dropped;
}

static const char *level_name(enum log_level level) {
        switch (level) {
        case LOG_LEVEL_BROKEN:
                return "broken";
        case LOG_LEVEL_ERROR:
                return "error";
        case LOG_LEVEL_WARN:
                return "warn";
        case LOG_LEVEL_INFO:
                return "info";
        case LOG_LEVEL_DEBUG:
                return "debug";
        }
        return "broken";
}

/* Writes a whole line or nothing, and never waits. Many processes share one stderr, so that room
 * seen by poll() may be gone before write(): pipes and sockets take RWF_NOWAIT, which settles both
 * at once. Files and terminals do not know it; there a line of text is not waited for. */
static bool line_write(const char *line, size_t len) {
        struct stat st;
        if (fstat(STDERR_FILENO, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode))) {
                struct iovec part = {.iov_base = (void *)line, .iov_len = len};
                ssize_t n = pwritev2(STDERR_FILENO, &part, 1, -1, RWF_NOWAIT);
                if (n >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL))
                        return n == (ssize_t)len;
        }
        struct pollfd room = {.fd = STDERR_FILENO, .events = POLLOUT};
        if (poll(&room, 1, 0) != 1 || !(room.revents & POLLOUT))
                return false;
        return write(STDERR_FILENO, line, len) == (ssize_t)len;
}

/* One line, whatever is in it: foreign text must not forge a second one. */
static size_t line_finish(char line[static LINE_BYTES], int n) {
        size_t len = n < 0 ? 0 : (size_t)n;
        if (len > LINE_BYTES - 2)
                len = LINE_BYTES - 2;
        for (size_t i = 0; i < len; i++)
                if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
                        line[i] = ' ';
        line[len] = '\n';
        line[len + 1] = '\0';
        return len + 1;
}

static void dropped_report(void) {
        char line[LINE_BYTES];
        int n = snprintf(line, sizeof(line), "warn %s ev=log_dropped n=%llu", sink.who,
                        (unsigned long long)(sink.dropped - sink.reported));
        if (line_write(line, line_finish(line, n)))
                sink.reported = sink.dropped;
}

void log_line(enum log_level level, const char *ev, const char *format, ...) {
        char line[LINE_BYTES];
        int saved = errno;

        if (level > sink.level)
                return;
        int n = snprintf(line, sizeof(line), "%s %s ev=%s", level_name(level), sink.who, ev);
        if (n > 0 && n < LINE_BYTES - 1 && format[0] != '\0') {
                va_list args;
                line[n++] = ' ';
                va_start(args, format);
                int more = vsnprintf(line + n, sizeof(line) - (size_t)n, format, args);
                va_end(args);
                n += more > 0 ? more : 0;
        }
        size_t len = line_finish(line, n);
        if (sink.words) {
                size_t words = len - 1 < WORDS_BYTES - 1 ? len - 1 : WORDS_BYTES - 1;
                memcpy(sink.words, line, words);
                sink.words[words] = '\0';
        }
        if (sink.dropped > sink.reported)
                dropped_report();
        if (sink.dropped > sink.reported || !line_write(line, len))
                sink.dropped++;
        errno = saved;
}
