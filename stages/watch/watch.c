/*
 * watch -- keeps the documents of the folders of rag.watch in the index, as they are.
 *
 * Shape   no rings, no listener; the loop waits for what the kernel tells of the folders, and a
 *         thread takes it from there (watcher.h), since reading, indexing and asking for vectors wait
 * Owner   the only process of the daemon that writes the index; rag sees each commit by itself
 * Errors  what cannot go in is a line of the log; what fails is tried again. No request waits for
 *         this process or notices its death
 * Limits  changes are gathered for SETTLE_NS, and for PAUSE_PARTS times as long as the last pass took
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "stages/common/stage.h"
#include "stages/watch/watcher.h"

#define SETTLE_NS (200 * NS_PER_MS)
#define SETTLE_MAX_NS (5 * NS_PER_S)
#define PAUSE_PARTS 4u

struct watch {
        struct watcher *watcher;
        struct loop_op events;
        struct loop_timer timer;
        uint64_t settle_ns;
        uint64_t counted[PASS_COUNTS]; /* so much stands in the counters page */
        uint64_t begun[PASS_COUNTS];   /* and so much did when the pass began */
        bool running;
};

/* ---- counting -------------------------------------------------------------------------------- */

static void count(struct worker *w) {
        static const enum counter rows[PASS_COUNTS] = {[PASS_ADDED] = COUNTER_watch_added,
                        [PASS_REPLACED] = COUNTER_watch_replaced,
                        [PASS_REMOVED] = COUNTER_watch_removed,
                        [PASS_REFUSED] = COUNTER_watch_refused,
                        [PASS_SCANS] = COUNTER_watch_scans};
        struct watch *watch = w->stage;

        for (uint32_t i = 0; i < PASS_COUNTS; i++) {
                const uint64_t now = watcher_count(watch->watcher, i);

                counters_add(w->counters, rows[i], now - watch->counted[i]);
                watch->counted[i] = now;
        }
}

static void say(const struct watch *watch, const struct pass_report *report) {
        const uint64_t *from = watch->begun, *to = watch->counted;

        for (uint32_t i = 0; i < report->n_lines; i++)
                log_line(report->lines[i].warn ? LOG_LEVEL_WARN : LOG_LEVEL_INFO,
                                report->lines[i].ev, "%s", report->lines[i].text);
        if (report->n_unsaid > 0)
                log_warn("skipped", "more=%u", report->n_unsaid);
        if (to[PASS_ADDED] == from[PASS_ADDED] && to[PASS_REPLACED] == from[PASS_REPLACED] &&
                        to[PASS_REMOVED] == from[PASS_REMOVED])
                return;
        log_info("indexed", "added=%llu replaced=%llu removed=%llu took_ms=%llu",
                        (unsigned long long)(to[PASS_ADDED] - from[PASS_ADDED]),
                        (unsigned long long)(to[PASS_REPLACED] - from[PASS_REPLACED]),
                        (unsigned long long)(to[PASS_REMOVED] - from[PASS_REMOVED]),
                        (unsigned long long)(report->took_ns / NS_PER_MS));
}

/* ---- passes ---------------------------------------------------------------------------------- */

static void on_timer(struct loop_timer *timer) {
        struct worker *w = timer->owner;
        struct watch *watch = w->stage;

        for (uint32_t i = 0; i < PASS_COUNTS; i++)
                watch->begun[i] = watch->counted[i];
        watch->running = true;
        watcher_go(watch->watcher);
}

/* Asked once for each pass: what comes until that begins belongs to it. */
static void on_events(struct loop_op *op, int res, uint32_t flags) {
        struct worker *w = op->owner;
        struct watch *watch = w->stage;
        const uint64_t at = loop_now_ns(w->loop) + watch->settle_ns;

        (void)flags;
        if (res > 0 && !watch->running && watch->timer.at_ns > at)
                loop_timer_set(w->loop, &watch->timer, at);
}

static void pass_over(struct worker *w, const struct pass_report *report) {
        struct watch *watch = w->stage;
        const uint64_t pause = report->took_ns * PAUSE_PARTS;

        watch->running = false;
        say(watch, report);
        if (report->renew) {
                worker_renew(w, "another_folder");
                return;
        }
        watch->settle_ns = pause < SETTLE_NS       ? SETTLE_NS
                           : pause < SETTLE_MAX_NS ? pause
                                                   : SETTLE_MAX_NS;
        loop_timer_set(w->loop, &watch->timer, loop_now_ns(w->loop) + report->pause_ns);
        if (watch->events.pending == 0)
                loop_poll(w->loop, &watch->events, watcher_fd(watch->watcher), POLLIN);
}

static unsigned watch_turn(struct worker *w) {
        struct watch *watch = w->stage;
        struct pass_report report;
        bool done = watcher_done(watch->watcher, &report);

        count(w);
        if (done)
                pass_over(w, &report);
        return done;
}

/* ---- life ------------------------------------------------------------------------------------ */

static int watch_init(struct worker *w) {
        struct watch *watch = calloc(1, sizeof(*watch));

        if (!watch)
                return -ENOMEM;
        w->stage = watch;
        return watcher_new(&watch->watcher, w->settings, w->bells[w->hello.proc]);
}

static int watch_attach(struct worker *w) {
        struct watch *watch = w->stage;
        int r = watcher_start(watch->watcher);

        if (r != 0)
                return r;
        watch->events = (struct loop_op){.fn = on_events, .owner = w};
        watch->timer = (struct loop_timer){.fn = on_timer, .owner = w};
        loop_timer_set(w->loop, &watch->timer, loop_now_ns(w->loop));
        return 0;
}

/* The thread reads the settings until the process ends. */
static void watch_fini(struct worker *w) {
        struct watch *watch = w->stage;

        watcher_stop(watch->watcher);
        w->settings = NULL;
}

static const struct stage_ops watch_ops = {
                .name = "watch",
                .role = ROLE_WATCH,
                .loop_entries = 64,
                .init = watch_init,
                .attach = watch_attach,
                .turn = watch_turn,
                .fini = watch_fini,
};

/* Not by exit(): a pass may still be running on its thread. A commit is whole or nothing. */
int main(int argc, char **argv) {
        _exit(worker_main(&watch_ops, argc, argv));
}
