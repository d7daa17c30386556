#include "stages/watch/pass.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <xxhash.h>

#include "stages/common/clock.h"
#include "stages/engines/index/documents.h"
#include "stages/engines/vectors/fill.h"

#define LOOK_NS (2 * NS_PER_S)     /* are the folders still there? */
#define RETRY_NS (5 * NS_PER_S)    /* after a failure */
#define ASK_AGAIN_NS (30 * NS_PER_S)
#define UNWATCHED_NS (60 * NS_PER_S)
#define LOCK_PAUSE_NS (200 * NS_PER_MS)
#define BREATH_NS (300 * NS_PER_MS) /* longer than others wait between two tries for the lock */
#define STOPPED 1001 /* no code of the index */

/* ---- words ----------------------------------------------------------------------------------- */

__attribute__((format(printf, 4, 5))) static void say(
                struct pass *p, bool warn, const char *ev, const char *format, ...) {
        struct pass_report *report = p->report;
        struct pass_line *line = &report->lines[report->n_lines];
        va_list args;

        if (report->n_lines == PASS_LINES) {
                report->n_unsaid++;
                return;
        }
        report->n_lines++;
        line->ev = ev;
        line->warn = warn;
        va_start(args, format);
        vsnprintf(line->text, sizeof(line->text), format, args);
        va_end(args);
}

/* Once, until it is another or none. */
static void say_failure(struct pass *p, const char *what, const char *why) {
        char text[sizeof(p->failure)];

        snprintf(text, sizeof(text), "what=%s why=\"%.140s\"", what, why);
        if (strcmp(text, p->failure) == 0)
                return;
        memcpy(p->failure, text, sizeof(text));
        say(p, true, "watch_failed", "%s", text);
}

static void say_works(struct pass *p) {
        if (p->failure[0] != '\0')
                say(p, false, "watch_works", "after: %s", p->failure);
        p->failure[0] = '\0';
}

static void count(struct pass *p, enum pass_count which) {
        atomic_fetch_add_explicit(&p->counts[which], 1, memory_order_relaxed);
}

static bool is_stopped(const struct pass *p) {
        return atomic_load_explicit(p->stop, memory_order_relaxed);
}

static void due_within(struct pass *p, uint64_t ns) {
        if (p->report->pause_ns > ns)
                p->report->pause_ns = ns;
}

static void sleep_ns(uint64_t ns) {
        const struct timespec pause = {.tv_sec = (time_t)(ns / NS_PER_S),
                        .tv_nsec = (long)(ns % NS_PER_S)};

        nanosleep(&pause, NULL);
}

/* ---- the index ------------------------------------------------------------------------------- */

/* Whoever else writes, a command that adds, is waited for. */
static int open_writer(struct pass *p) {
        int r = p->writer ? 0 : INDEX_E_LOCKED;

        while (r == INDEX_E_LOCKED) {
                if (is_stopped(p))
                        return STOPPED;
                r = index_writer_open(p->index.path, NULL, &p->err, &p->writer);
                if (r == INDEX_E_LOCKED)
                        sleep_ns(LOCK_PAUSE_NS);
                else if (r == 0)
                        p->writer_ns = clock_now_ns();
        }
        return r;
}

static void drop_writer(struct pass *p) {
        p->writer = index_writer_free(p->writer);
        p->fresh.n_bytes = 0;
}

static int commit(struct pass *p) {
        const struct mark *fresh = (const struct mark *)(void *)p->fresh.data;
        int r = p->writer ? index_writer_commit(p->writer, &p->err) : 0;

        for (size_t i = 0; r == 0 && i < p->fresh.n_bytes / sizeof(*fresh); i++)
                r = marks_put(&p->stamps, fresh[i].key, fresh[i].value);
        drop_writer(p);
        return r;
}

/* A command that adds is let in now and then. */
static int breathe(struct pass *p) {
        int r;

        if (!p->writer || clock_now_ns() - p->writer_ns < PASS_SPELL_NS)
                return 0;
        r = commit(p);
        sleep_ns(BREATH_NS);
        return r;
}

static int take_out(struct pass *p, struct index_str id) {
        const struct index_key key = {.id = id};
        bool removed = false;
        int r = open_writer(p);

        if (r == 0)
                r = index_writer_remove(p->writer, &key, &p->err, &removed);
        if (removed) {
                count(p, PASS_REMOVED);
                p->vectors_due = true;
        }
        return r;
}

/* ---- what stays ------------------------------------------------------------------------------ */

static uint64_t key_of(struct index_str source, struct index_str id) {
        return XXH3_64bits_withSeed(id.data, id.n_bytes,
                               XXH3_64bits(source.data, source.n_bytes)) |
               1;
}

static struct index_str str(const char *text) {
        return (struct index_str){text, strlen(text)};
}

/* All that the index has of the file. */
static int keep_file(struct pass *p, const char *path) {
        return p->full ? marks_put(&p->seen, key_of(str(path), str("")), 1) : 0;
}

static bool is_kept(const struct pass *p, const struct index_entry *entry) {
        return marks_get(&p->seen, key_of(entry->source, str(""))) != 0 ||
               marks_get(&p->seen, key_of(entry->source, entry->key.id)) != 0;
}

static int others_leave(struct pass *p, const char *path, bool below) {
        int r = buffer_append(&p->leaving, path, strlen(path));

        if (r == 0 && below && strcmp(path, "/") != 0)
                r = buffer_append(&p->leaving, "/", 1);
        return r == 0 ? buffer_append(&p->leaving, "", 1) : r;
}

/* ---- one file -------------------------------------------------------------------------------- */

static void on_refused(const char *file, uint64_t row, const char *why, void *ctx) {
        struct pass *p = ctx;
        struct stat st;

        p->whole |= row == 0;
        if (row == 0 && lstat(file, &st) == -1 && errno == ENOENT)
                return; /* it has just gone */
        count(p, PASS_REFUSED);
        if (p->n_refused++ > 0)
                return;
        p->row = row;
        snprintf(p->why, sizeof(p->why), "%s", why);
}

static void say_refused(struct pass *p, const char *path) {
        if (p->n_refused == 0)
                return;
        if (p->row == 0)
                say(p, true, "skipped", "file=\"%.300s\" why=\"%s\"", path, p->why);
        else
                say(p, true, "skipped", "file=\"%.300s\" row=%llu why=\"%s\" rows=%u", path,
                                (unsigned long long)p->row, p->why, p->n_refused);
}

static int on_document(const struct index_document *doc, uint64_t row, void *ctx) {
        struct pass *p = ctx;
        struct index_document placed = *doc;
        enum index_outcome outcome = INDEX_UNCHANGED;
        int r = is_stopped(p) ? STOPPED : open_writer(p);

        placed.key = (struct index_key){.id = doc->key.id};
        if (r == 0)
                r = index_writer_add(p->writer, &placed, &p->err, &outcome);
        if (r == INDEX_E_DOCUMENT) {
                on_refused(doc->source.data, row, p->err.text, p);
                return 0;
        }
        if (r != 0)
                return r;
        if (outcome != INDEX_UNCHANGED) {
                count(p, outcome == INDEX_ADDED ? PASS_ADDED : PASS_REPLACED);
                p->vectors_due = true;
        }
        return marks_put(&p->seen, key_of(doc->source, doc->key.id), 1);
}

static void on_read(uint64_t n_bytes, void *ctx) {
        (void)n_bytes;
        (void)ctx;
}

/* Changes when the file does. */
static uint64_t stamp_of(const struct stat *st) {
        const int64_t looks[] = {(int64_t)st->st_dev, (int64_t)st->st_ino, st->st_size,
                        st->st_mtim.tv_sec, st->st_mtim.tv_nsec, st->st_ctim.tv_sec,
                        st->st_ctim.tv_nsec};

        return XXH3_64bits(looks, sizeof(looks)) | 1;
}

/* What was not committed is gone with the writer; the file itself is not tried again as it is. */
static int too_large(struct pass *p, struct mark mark) {
        drop_writer(p);
        p->lost = true;
        on_refused("", 1, "there is not enough memory for it: memory.worker_cap_bytes", p);
        p->row = 0;
        return marks_put(&p->stamps, mark.key, mark.value);
}

static int read_file(struct pass *p, const char *path, const struct stat *st) {
        const struct documents_sink sink = {on_document, on_refused, on_read, p};
        const struct mark mark = {XXH3_64bits(path, strlen(path)) | 1, stamp_of(st)};
        int r;

        p->n_refused = 0;
        p->whole = false;
        r = documents_read_file(path, &sink);
        if (r == -ENOMEM)
                r = too_large(p, mark);
        else if (r == 0)
                r = buffer_append(&p->fresh, (const char *)&mark, sizeof(mark));
        say_refused(p, path);
        return r;
}

/* What may not be read stays in the index as it is; what is not there is not. */
static int may_read(struct pass *p, const char *path, bool *ret_may) {
        *ret_may = access(path, R_OK) == 0;
        if (*ret_may || errno == ENOENT || errno == ENOTDIR)
                return 0;
        count(p, PASS_REFUSED);
        say(p, true, "skipped", "file=\"%.300s\" why=\"%s\"", path, strerror(errno));
        return keep_file(p, path);
}

static int take_file(const char *path, const struct stat *st, void *ctx) {
        struct pass *p = ctx;
        const uint64_t known = marks_get(&p->stamps, XXH3_64bits(path, strlen(path)) | 1);
        bool may;
        int r;

        if (is_stopped(p))
                return STOPPED;
        if (p->full && known == stamp_of(st))
                return keep_file(p, path);
        r = may_read(p, path, &may);
        if (r != 0 || !may)
                return r;
        p->whole = st->st_size == 0; /* mostly one that is about to be written */
        if (!p->whole)
                r = read_file(p, path, st);
        if (r == 0 && !p->full && documents_has_rows(path))
                r = others_leave(p, path, false);
        else if (r == 0 && !p->full && p->whole)
                r = take_out(p, str(path));
        return r == 0 ? breathe(p) : r;
}

/* ---- folders --------------------------------------------------------------------------------- */

void pass_place_see(struct pass_place *place) {
        struct stat st;

        place->there = stat(place->path, &st) == 0;
        place->device = place->there ? st.st_dev : 0;
        place->inode = place->there ? st.st_ino : 0;
}

/* Commits change the index's own folder, and that must not make us look again. */
static bool take_folder(const char *path, const struct stat *st, void *ctx) {
        struct pass *p = ctx;
        bool root = false;
        int r;

        if (st->st_dev == p->index.device && st->st_ino == p->index.inode)
                return false;
        for (uint32_t i = 0; i < p->n_roots; i++)
                root |= strcmp(p->roots[i].path, path) == 0;
        r = tree_add(&p->tree, path, root);
        p->unwatched |= r == -ENOSPC;
        if (r == -ENOSPC && !p->unwatched_told) {
                p->unwatched_told = true;
                say(p, true, "unwatched", "folder=\"%.200s\" what=\"no more folders can be watched: "
                                          "looking at all of them every minute\" "
                                          "remedy=\"raise fs.inotify.max_user_watches\"", path);
        }
        if (r == -ENOMEM)
                p->partial = p->lost = true;
        return true;
}

static void on_unreadable(const char *path, uint64_t row, const char *why, void *ctx) {
        struct pass *p = ctx;
        struct stat st;

        (void)row;
        if (lstat(path, &st) == -1 && errno == ENOENT)
                return;
        p->partial = true;
        count(p, PASS_REFUSED);
        say(p, true, "skipped", "folder=\"%.300s\" why=\"%s\"", path, why);
}

static int walk(struct pass *p, const char *path) {
        const struct documents_walk walk = {.on_folder = take_folder,
                        .on_file = take_file,
                        .on_refused = on_unreadable,
                        .ctx = p};

        return documents_walk(path, &walk);
}

static int look_at_all(struct pass *p) {
        int r = 0;

        count(p, PASS_SCANS);
        p->unwatched = false;
        tree_begin(&p->tree);
        for (uint32_t i = 0; r == 0 && i < p->n_roots; i++) {
                if (!p->roots[i].there)
                        continue;
                p->partial = false;
                r = walk(p, p->roots[i].path);
                if (r == 0 && !p->partial)
                        r = others_leave(p, p->roots[i].path, true);
        }
        tree_end(&p->tree);
        p->full_ns = clock_now_ns() + UNWATCHED_NS;
        return r;
}

/* ---- what the kernel told -------------------------------------------------------------------- */

static int note_change(struct pass *p, const struct tree_event *event) {
        if (p->n_changes == p->changes_room) {
                const size_t room = p->changes_room > 0 ? p->changes_room * 2 : 64;
                struct pass_change *more = realloc(p->changes, room * sizeof(*more));

                if (!more)
                        return -ENOMEM;
                p->changes = more;
                p->changes_room = room;
        }
        p->changes[p->n_changes++] = (struct pass_change){.path = event->path,
                        .gone = event->kind == TREE_GONE,
                        .folder = event->folder};
        return 0;
}

static void forget_changes(struct pass *p) {
        for (size_t i = 0; i < p->n_changes; i++)
                free(p->changes[i].path);
        p->n_changes = 0;
}

/* A look at everything finds what is told here as well. */
static int collect(struct pass *p) {
        struct tree_event event;
        int r;

        while ((r = tree_next(&p->tree, &event)) == 1) {
                if (!p->full && event.kind != TREE_LOST && note_change(p, &event) == 0)
                        continue;
                p->full = true;
                free(event.path);
        }
        if (p->full)
                forget_changes(p);
        return r;
}

static int gone(struct pass *p, const struct pass_change *change) {
        if (change->folder)
                return others_leave(p, change->path, true);
        if (!documents_takes(change->path))
                return 0;
        return documents_has_rows(change->path) ? others_leave(p, change->path, false)
                                                : take_out(p, str(change->path));
}

/* What is there now counts, whatever was told. */
static int look_at(struct pass *p, const struct pass_change *change) {
        struct stat st;
        int r = 0;

        if (lstat(change->path, &st) == -1 || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)))
                return gone(p, change);
        if (change->gone && change->folder) /* what is there now may be another one */
                r = gone(p, change);
        if (r == 0 && S_ISDIR(st.st_mode))
                return walk(p, change->path);
        return r == 0 && documents_takes(change->path) ? take_file(change->path, &st, p) : r;
}

static int by_path(const void *a, const void *b) {
        const struct pass_change *x = a, *y = b;
        const int order = strcmp(x->path, y->path);

        return order != 0 ? order : (y->gone && y->folder) - (x->gone && x->folder);
}

/* Each path once; that a folder went counts more than that one came. */
static int look_at_changes(struct pass *p) {
        int r = 0;

        if (p->n_changes > 0)
                qsort(p->changes, p->n_changes, sizeof(*p->changes), by_path);
        for (size_t i = 0; r == 0 && i < p->n_changes; i++) {
                if (i > 0 && strcmp(p->changes[i - 1].path, p->changes[i].path) == 0)
                        continue;
                r = look_at(p, &p->changes[i]);
        }
        return r;
}

/* ---- what leaves ----------------------------------------------------------------------------- */

static bool is_leaving(const struct pass *p, struct index_str source) {
        const char *at = p->leaving.data, *end = at + p->leaving.n_bytes;

        for (size_t len; at < end; at += len + 1) {
                len = strlen(at);
                if (source.n_bytes >= len && memcmp(source.data, at, len) == 0 &&
                                (at[len - 1] == '/' || source.n_bytes == len))
                        return true;
        }
        return false;
}

static int on_entry(const struct index_entry *entry, void *ctx) {
        struct pass *p = ctx;

        if (!is_leaving(p, entry->source) || is_kept(p, entry))
                return 0;
        return is_stopped(p) ? STOPPED : take_out(p, entry->key.id);
}

static int let_leave(struct pass *p) {
        const struct index_str collection = str(INDEX_COLLECTION_DEFAULT), tenant = str("");
        const struct index_list list = {
                        .collection = &collection, .tenant = &tenant, .fn = on_entry, .ctx = p};
        struct index_reader *reader = NULL;
        int r = p->leaving.n_bytes > 0 ? index_reader_open(p->index.path, &p->err, &reader)
                                       : INDEX_E_MISSING;

        if (r == INDEX_E_MISSING)
                return 0;
        if (r == 0)
                r = index_reader_list(reader, &list, &p->err);
        index_reader_free(reader);
        return r;
}

/* ---- vectors --------------------------------------------------------------------------------- */

static bool fill_step(void *ctx, size_t n_done, size_t n_todo) {
        (void)n_done;
        (void)n_todo;
        return !is_stopped(ctx);
}

static void make_vectors(struct pass *p) {
        const struct fill_conf conf = {.folder = p->index.path,
                        .embeddings = p->embeddings,
                        .step = fill_step,
                        .ctx = p};
        struct fill_result result;
        int r = p->embeddings && p->vectors_due ? vectors_fill(&conf, &p->err, &result) : 0;

        if (r == 0)
                p->vectors_due = false;
        if (r == 0 || r == FILL_E_STOPPED)
                return;
        due_within(p, r == FILL_E_LOCKED ? NS_PER_S : ASK_AGAIN_NS);
        if (r != FILL_E_LOCKED)
                say_failure(p, "embeddings", r < 0 ? strerror(-r) : p->err.text);
}

/* ---- all of it ------------------------------------------------------------------------------- */

/* Are the folders those that the sandbox was made for? One that is not there is waited for. */
static void see_places(struct pass *p) {
        struct pass_place now = {.path = p->index.path};

        pass_place_see(&now);
        p->report->renew = now.inode != p->index.inode || now.device != p->index.device;
        for (uint32_t i = 0; i < p->n_roots; i++) {
                struct pass_place *root = &p->roots[i];

                now.path = root->path;
                pass_place_see(&now);
                if (root->there && !now.there)
                        say(p, true, "folder_gone",
                                        "folder=\"%.300s\" what=\"its documents stay\"",
                                        root->path);
                if (!root->there && now.there)
                        p->full = true;
                root->there = now.there;
                p->report->renew |= now.there && (now.inode != root->inode ||
                                                                 now.device != root->device);
        }
}

static void pass_end(struct pass *p) {
        drop_writer(p);
        forget_changes(p);
        marks_clear(&p->seen);
        p->leaving.n_bytes = 0;
}

static void pass_failed(struct pass *p, int r) {
        if (r != STOPPED)
                say_failure(p, "index", r < 0 ? strerror(-r) : p->err.text);
        p->full = true;
        due_within(p, RETRY_NS);
}

void pass_run(struct pass *p, struct pass_report *report) {
        const uint64_t start_ns = clock_now_ns();
        int r;

        *report = (struct pass_report){.pause_ns = LOOK_NS};
        p->report = report;
        p->lost = false;
        p->err.text[0] = '\0';
        see_places(p);
        if (report->renew)
                return;
        p->full |= p->unwatched && start_ns >= p->full_ns;
        r = collect(p);
        if (r == 0)
                r = p->full ? look_at_all(p) : look_at_changes(p);
        if (r == 0)
                r = let_leave(p);
        if (r == 0)
                r = commit(p);
        pass_end(p);
        if (r == 0)
                p->full = p->lost;
        else
                pass_failed(p, r);
        if (r == 0)
                make_vectors(p);
        if (r == 0 && !p->vectors_due)
                say_works(p);
        report->took_ns = clock_now_ns() - start_ns;
}
