/* Fault points of test builds (-Dfaults=true): MILLRACE_FAULT="STAGE:POINT:ACTION[:match=TEXT]
 * [:count=N]",... makes a stage fail on purpose. count: so often in all, restarts included. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "stages/common/worker.h"

#define PART_BYTES 64
#define TEXT_BYTES 256

struct fault {
        char stage[PART_BYTES], point[PART_BYTES], action[PART_BYTES];
        char match[TEXT_BYTES]; /* empty: every time */
        uint64_t count;         /* UINT64_MAX: without end */
};

static struct {
        struct fault v[COUNTERS_FAULTS_MAX];
        uint32_t n;
        bool parsed;
        struct counters_shm *counters; /* counts what fired, also for the next incarnation */
} faults;

void fault_attach(struct counters_shm *counters) {
        faults.counters = counters;
}

static _Noreturn void spec_refuse(const char *what, const char *spec) {
        log_error("fault",
                        "MILLRACE_FAULT: %s in \"%s\", expected "
                        "STAGE:POINT:ACTION[:match=TEXT][:count=N]",
                        what, spec);
        _exit(EXIT_PERMANENT);
}

static void part_copy(char *to, size_t cap, const char *from, size_t len, const char *spec) {
        if (len == 0 || len >= cap)
                spec_refuse("an empty or overlong part", spec);
        memcpy(to, from, len);
        to[len] = '\0';
}

/* One option behind the action: match=TEXT, count=N. */
static void option_parse(struct fault *fault, const char *at, size_t len, const char *spec) {
        if (len > 6 && strncmp(at, "match=", 6) == 0)
                part_copy(fault->match, sizeof(fault->match), at + 6, len - 6, spec);
        else if (len > 6 && strncmp(at, "count=", 6) == 0)
                fault->count = strtoull(at + 6, NULL, 10);
        else
                spec_refuse("an unknown option", spec);
}

static void fault_parse(struct fault *fault, const char *spec, const char *end) {
        char *const parts[] = {fault->stage, fault->point, fault->action};
        int n = 0;

        fault->count = UINT64_MAX;
        for (const char *at = spec; at <= end; n++) {
                const char *colon = memchr(at, ':', (size_t)(end - at));
                size_t len = (size_t)((colon ? colon : end) - at);
                if (n < 3)
                        part_copy(parts[n], PART_BYTES, at, len, spec);
                else
                        option_parse(fault, at, len, spec);
                at += len + 1;
        }
        if (n < 3)
                spec_refuse("a part is missing", spec);
}

static void faults_parse(void) {
        const char *at = getenv("MILLRACE_FAULT");

        faults.parsed = true;
        while (at && *at != '\0') {
                const char *end = strchrnul(at, ',');
                if (faults.n == COUNTERS_FAULTS_MAX)
                        spec_refuse("too many faults", at);
                fault_parse(&faults.v[faults.n++], at, end);
                at = *end == ',' ? end + 1 : end;
        }
}

static bool fired_often_enough(uint32_t i) {
        static mr_au64 without_page[COUNTERS_FAULTS_MAX];
        mr_au64 *fired = faults.counters ? &faults.counters->faults_fired[i] : &without_page[i];
        uint64_t n = atomic_load_explicit(fired, memory_order_relaxed);

        if (n >= faults.v[i].count)
                return true;
        atomic_store_explicit(fired, n + 1, memory_order_relaxed);
        return false;
}

static void sleep_ms(uint64_t ms) {
        const struct timespec t = {
                        .tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
        nanosleep(&t, NULL);
}

/* No further descriptor can be opened. */
static int exhaust_descriptors(void) {
        struct rlimit limit;
        int next = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);

        if (next >= 0)
                close(next);
        if (next < 0 || getrlimit(RLIMIT_NOFILE, &limit) == -1)
                return -EMFILE;
        limit.rlim_cur = (rlim_t)next;
        setrlimit(RLIMIT_NOFILE, &limit);
        return -EMFILE;
}

/* Memory that is used and that nobody has any more. */
static void leak(size_t bytes) {
        static void *volatile last;

        last = malloc(bytes);
        if (last)
                memset(last, 1, bytes);
}

static int fault_act(const char *action) {
        static const struct {
                const char *name;
                int signo;
        } signals[] = {{"segv", SIGSEGV}, {"abort", SIGABRT}, {"kill", SIGKILL}};

        for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
                if (strcmp(action, signals[i].name) == 0)
                        raise(signals[i].signo);
        if (strcmp(action, "exit") == 0)
                _exit(1);
        if (strncmp(action, "exit=", 5) == 0)
                _exit((int)strtoul(action + 5, NULL, 10));
        while (strcmp(action, "hang") == 0)
                sleep_ms(1000);
        if (strncmp(action, "sleep=", 6) == 0) {
                sleep_ms(strtoull(action + 6, NULL, 10));
                return 0;
        }
        if (strncmp(action, "leak=", 5) == 0) {
                leak(strtoull(action + 5, NULL, 10));
                return 0;
        }
        if (strcmp(action, "enospc") == 0)
                return -ENOSPC;
        if (strcmp(action, "emfile") == 0)
                return exhaust_descriptors();
        spec_refuse("an unknown action", action);
}

int fault_point(const char *stage, const char *point, const void *text, uint32_t len) {
        int r = 0;

        if (!faults.parsed)
                faults_parse();
        for (uint32_t i = 0; i < faults.n; i++) {
                const struct fault *fault = &faults.v[i];
                if (strcmp(fault->stage, stage) != 0 || strcmp(fault->point, point) != 0)
                        continue;
                if (fault->match[0] != '\0' &&
                                (!text || !memmem(text, len, fault->match, strlen(fault->match))))
                        continue;
                if (fired_often_enough(i))
                        continue;
                int wanted = fault_act(fault->action);
                if (r == 0)
                        r = wanted;
        }
        return r;
}
