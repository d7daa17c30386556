/*
 * documents -- files, folders and streams, as documents cut into chunks.
 */
#include "stages/engines/index/documents.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "stages/engines/index/chunk.h"
#include "stages/engines/index/front.h"
#include "stages/engines/index/jsonl.h"
#include "stages/engines/index/markup.h"
#include "stages/engines/index/rows.h"

enum kind { KIND_UNKNOWN, KIND_TEXT, KIND_MARKDOWN, KIND_HTML, KIND_ROWS };

struct file {
        const struct documents_sink *sink;
        char name[PATH_MAX]; /* as in its id and in messages */
};

static struct index_str str(const char *s) {
        return (struct index_str){s, strlen(s)};
}

static bool is_blank(char c) {
        return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool all_blank(struct index_str s) {
        for (size_t i = 0; i < s.n_bytes; i++)
                if (!is_blank(s.data[i]))
                        return false;
        return true;
}

static void refuse(const struct file *file, uint64_t row, const char *why) {
        file->sink->on_refused(file->name, row, why, file->sink->ctx);
}

static enum kind kind_of(const char *path) {
        static const struct {
                const char *suffix;
                enum kind kind;
        } kinds[] = {{".txt", KIND_TEXT}, {".text", KIND_TEXT}, {".md", KIND_MARKDOWN},
                        {".markdown", KIND_MARKDOWN}, {".html", KIND_HTML}, {".htm", KIND_HTML},
                        {".jsonl", KIND_ROWS}, {".ndjson", KIND_ROWS}};
        const char *slash = strrchr(path, '/');
        const char *dot = strrchr(slash ? slash : path, '.');

        for (size_t i = 0; dot && i < sizeof(kinds) / sizeof(*kinds); i++)
                if (strcasecmp(dot, kinds[i].suffix) == 0)
                        return kinds[i].kind;
        return KIND_UNKNOWN;
}

int documents_id(const char *path, char *buf, size_t n) {
        size_t len = 0;

        while (*path != '\0') {
                const bool at_start = len == 0 || buf[len - 1] == '/';

                if (at_start && path[0] == '.' && path[1] == '/') {
                        path += 2;
                        while (*path == '/')
                                path++;
                        continue;
                }
                if (len > 0 && at_start && *path == '/') {
                        path++;
                        continue;
                }
                if (len + 1 >= n)
                        return -ENAMETOOLONG;
                buf[len++] = *path++;
        }
        while (len > 1 && buf[len - 1] == '/')
                len--;
        buf[len] = '\0';
        return 0;
}

/* ---- what the bytes are -------------------------------------------------------------------- */

/* Bytes of the character at s, of which n are there; 0 when it is none. */
static size_t utf8_length(const unsigned char *s, size_t n) {
        if (s[0] < 0x80)
                return 1;
        if (n < 2 || (s[1] & 0xc0) != 0x80)
                return 0;
        if (s[0] >= 0xc2 && s[0] < 0xe0)
                return 2;
        if (n < 3 || (s[2] & 0xc0) != 0x80)
                return 0;
        if (s[0] >= 0xe0 && s[0] < 0xf0)
                return (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] >= 0xa0) ? 0 : 3;
        if (n < 4 || (s[3] & 0xc0) != 0x80)
                return 0;
        if (s[0] >= 0xf0 && s[0] < 0xf5)
                return (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] >= 0x90) ? 0 : 4;
        return 0;
}

size_t documents_utf8_end(struct index_str text) {
        const unsigned char *s = (const unsigned char *)text.data;
        size_t at = 0;

        while (at < text.n_bytes) {
                const size_t n = utf8_length(s + at, text.n_bytes - at);

                if (n == 0)
                        break;
                at += n;
        }
        return at;
}

/* NULL when the bytes are text; else why not, in words that last until the next call. */
static const char *why_not_text(struct index_str bytes, char *buf, size_t n) {
        const unsigned char *s = (const unsigned char *)bytes.data;
        size_t end;

        if (bytes.n_bytes >= 2 &&
                        ((s[0] == 0xff && s[1] == 0xfe) || (s[0] == 0xfe && s[1] == 0xff)))
                return "UTF-16, and UTF-8 was expected";
        if (memchr(bytes.data, '\0', bytes.n_bytes))
                return "a binary file: it has NUL bytes";
        end = documents_utf8_end(bytes);
        if (end == bytes.n_bytes)
                return NULL;
        snprintf(buf, n, "broken UTF-8 at byte %zu", end);
        return buf;
}

/* ---- one document -------------------------------------------------------------------------- */

static int hand_over(const struct file *file, uint64_t row, struct index_document *doc,
                const struct chunk_mark *marks, size_t n_marks) {
        struct chunk_list list = {0};
        int r;

        if (all_blank(doc->text) && (row == 0 || all_blank(doc->title))) {
                refuse(file, row, "there is no text in it");
                return 0;
        }
        r = chunk_split(doc->text, marks, n_marks, &list);
        if (r == -E2BIG) {
                refuse(file, row, "it falls into too many chunks");
                return 0;
        }
        if (r < 0)
                return r;
        doc->chunks = list.chunks;
        doc->n_chunks = list.n_chunks;
        r = file->sink->on_document(doc, row, file->sink->ctx);
        chunk_list_clear(&list);
        return r;
}

static struct index_str whole(const struct buffer *buffer) {
        return (struct index_str){buffer->data ? buffer->data : "", buffer->n_bytes};
}

/* The title: its first heading, what it says of itself, its file name. */
static int take_markup(const struct file *file, const struct markup *markup) {
        const char *slash = strrchr(file->name, '/');
        struct buffer metadata = {0}, title = {0};
        struct index_document doc = {
                        .key.id = str(file->name),
                        .title = markup->title,
                        .url = str(""),
                        .source = str(file->name),
                        .text = markup->text,
        };
        int r = markup->front.n_bytes > 0 ? front_read(markup->front, &metadata, &title) : 0;

        doc.metadata = whole(&metadata);
        if (doc.title.n_bytes == 0)
                doc.title = whole(&title);
        if (doc.title.n_bytes == 0)
                doc.title = str(slash ? slash + 1 : file->name);
        if (r == 0)
                r = hand_over(file, 0, &doc, markup->marks, markup->n_marks);
        buffer_clear(&metadata);
        buffer_clear(&title);
        return r;
}

static int take_bytes(const struct file *file, enum kind kind, struct index_str bytes) {
        struct markup markup = {.text = bytes};
        char buf[64];
        const char *why = why_not_text(bytes, buf, sizeof(buf));
        int r = 0;

        /* A page in another encoding may say so itself. */
        const bool translated = why == buf && kind == KIND_HTML &&
                                memmem(bytes.data, bytes.n_bytes < 1024 ? bytes.n_bytes : 1024,
                                                "charset", 7);
        if (why && !translated) {
                refuse(file, 0, why);
                return 0;
        }
        if (kind == KIND_MARKDOWN)
                r = markdown_read(bytes, &markup);
        else if (kind == KIND_HTML)
                r = html_read(bytes, translated ? NULL : "UTF-8", &markup);
        if (r == 0)
                r = take_markup(file, &markup);
        markup_clear(&markup);
        return r;
}

static int take_row(
                const struct file *file, uint64_t n, struct index_str line, struct jsonl_row *row) {
        struct index_error why = {0};
        int r = jsonl_row_read(row, line, &why);

        if (r == -EBADMSG) {
                refuse(file, n, why.text);
                return 0;
        }
        if (r < 0)
                return r;
        if (!row->has[JSONL_ID] || !row->has[JSONL_TEXT]) {
                refuse(file, n,
                                row->has[JSONL_ID] ? "the row has no \"text\""
                                                   : "the row has no \"id\"");
                return 0;
        }
        struct index_document doc = {
                        .key.id = jsonl_row_string(row, JSONL_ID),
                        .title = jsonl_row_string(row, JSONL_TITLE),
                        .url = jsonl_row_string(row, JSONL_URL),
                        .source = str(file->name),
                        .metadata = row->metadata,
                        .text = jsonl_row_string(row, JSONL_TEXT),
        };
        return hand_over(file, n, &doc, NULL, 0);
}

/* ---- one file ------------------------------------------------------------------------------ */

static void report_progress(const struct file *file, const struct rows *rows, uint64_t *told) {
        if (rows->n_read > *told)
                file->sink->on_read(rows->n_read - *told, file->sink->ctx);
        *told = rows->n_read;
}

/* What ends the reading of everything, and not of one file. */
static bool ends_all(int r) {
        return r == -ENOMEM || r == -EINTR;
}

/* 0, or what ends the reading of the file: ROWS_END, ends_all(), what on_document() returned. */
static int take_next_row(
                const struct file *file, struct rows *rows, uint64_t n, struct jsonl_row *row) {
        struct index_str line;
        int r = rows_next(rows, &line);

        if (r == ROWS_E_LONG) {
                refuse(file, n, "the row is over 64 MiB");
                return 0;
        }
        if (r < 0 && !ends_all(r)) {
                refuse(file, n, strerror(-r));
                return ROWS_END;
        }
        if (r != 0)
                return r;
        if (n == 1 && line.n_bytes >= 3 && memcmp(line.data, "\xef\xbb\xbf", 3) == 0)
                line = (struct index_str){line.data + 3, line.n_bytes - 3};
        return all_blank(line) ? 0 : take_row(file, n, line, row);
}

static int take_rows(const struct file *file, struct rows *rows) {
        struct jsonl_row row = {0};
        uint64_t told = 0;
        int r = 0;

        for (uint64_t n = 1; r == 0; n++) {
                r = take_next_row(file, rows, n, &row);
                report_progress(file, rows, &told);
        }
        jsonl_row_clear(&row);
        return r == ROWS_END ? 0 : r;
}

static int take_whole(const struct file *file, enum kind kind, struct rows *rows) {
        struct index_str bytes;
        uint64_t told = 0;
        int r = rows_rest(rows, &bytes);

        report_progress(file, rows, &told);
        if (r == ROWS_E_LONG) {
                refuse(file, 0, "it is over 64 MiB, the most that one document may have");
                return 0;
        }
        if (r < 0 && !ends_all(r)) {
                refuse(file, 0, strerror(-r));
                return 0;
        }
        return r < 0 ? r : take_bytes(file, kind, bytes);
}

/* O_NONBLOCK: a named pipe must not hold us up before we see that it is one. */
static int open_regular(const char *path, int *ret_fd, const char **ret_why) {
        struct stat st;
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

        if (fd == -1) {
                *ret_why = strerror(errno);
                return -errno;
        }
        if (fstat(fd, &st) == -1 || !S_ISREG(st.st_mode)) {
                *ret_why = "neither a file nor a folder";
                close(fd);
                return -EINVAL;
        }
        *ret_fd = fd;
        return 0;
}

static int take_opened(const struct file *file, enum kind kind, int fd) {
        struct rows rows = {.fd = fd, .max_bytes = DOCUMENTS_BYTES_MAX};
        int r = kind == KIND_ROWS ? take_rows(file, &rows) : take_whole(file, kind, &rows);

        rows_clear(&rows);
        return r;
}

static int take_file(const char *path, const struct documents_sink *sink) {
        const enum kind kind = kind_of(path);
        struct file file = {.sink = sink};
        const char *why = NULL;
        int fd = -1;
        int r = 0;

        if (documents_id(path, file.name, sizeof(file.name)) < 0 ||
                        strlen(file.name) > INDEX_ID_MAX) {
                sink->on_refused(path, 0, "its path is too long", sink->ctx);
                return 0;
        }
        if (open_regular(path, &fd, &why) < 0)
                refuse(&file, 0, why);
        else if (kind == KIND_UNKNOWN)
                refuse(&file, 0, "of an unknown kind: .txt .md .html and .jsonl are known");
        else if (documents_utf8_end(str(file.name)) != strlen(file.name))
                refuse(&file, 0, "its name is no UTF-8");
        else
                r = take_opened(&file, kind, fd);
        if (fd != -1)
                close(fd);
        return r;
}

static int take_stdin(const struct documents_sink *sink) {
        struct rows rows = {.fd = STDIN_FILENO, .max_bytes = DOCUMENTS_BYTES_MAX};
        const struct file file = {.sink = sink, .name = "-"};
        char first = '\0';
        int r = rows_peek(&rows, &first);

        if (r < 0 && !ends_all(r)) {
                refuse(&file, 0, strerror(-r));
                r = 0;
        } else if (r == 0)
                r = first == '{' ? take_rows(&file, &rows) : take_whole(&file, KIND_TEXT, &rows);
        rows_clear(&rows);
        return r;
}

/* ---- folders ------------------------------------------------------------------------------- */

static int by_name(const FTSENT **a, const FTSENT **b) {
        return strcmp((*a)->fts_name, (*b)->fts_name);
}

int documents_walk(const char *path, const struct documents_walk *walk) {
        char *const roots[] = {(char *)path, NULL};
        FTS *tree = fts_open(roots, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, by_name);
        int r = 0;

        if (!tree)
                return -errno;
        for (FTSENT *entry; r == 0 && (entry = fts_read(tree));) {
                const bool inside = entry->fts_level > 0;

                if (inside && entry->fts_name[0] == '.' && entry->fts_info != FTS_DP)
                        fts_set(tree, entry, FTS_SKIP);
                else if (entry->fts_info == FTS_D && walk->on_folder &&
                                !walk->on_folder(entry->fts_path, entry->fts_statp, walk->ctx))
                        fts_set(tree, entry, FTS_SKIP);
                else if (entry->fts_info == FTS_F || (!inside && entry->fts_info == FTS_DEFAULT))
                        r = !inside || kind_of(entry->fts_name) != KIND_UNKNOWN
                                            ? walk->on_file(entry->fts_path, entry->fts_statp,
                                                              walk->ctx)
                                            : 0;
                else if (walk->on_refused && (entry->fts_info == FTS_DNR ||
                                                             entry->fts_info == FTS_ERR ||
                                                             entry->fts_info == FTS_NS ||
                                                             entry->fts_info == FTS_SLNONE))
                        walk->on_refused(entry->fts_path, 0, strerror(entry->fts_errno),
                                        walk->ctx);
        }
        fts_close(tree);
        return r;
}

static int read_entry(const char *path, const struct stat *st, void *ctx) {
        (void)st;
        return take_file(path, ctx);
}

static void refuse_entry(const char *path, uint64_t row, const char *why, void *ctx) {
        const struct documents_sink *sink = ctx;

        sink->on_refused(path, row, why, sink->ctx);
}

static int measure_entry(const char *path, const struct stat *st, void *ctx) {
        (void)path;
        *(uint64_t *)ctx += (uint64_t)st->st_size;
        return 0;
}

int documents_read(const char *path, const struct documents_sink *sink) {
        const struct documents_walk walk = {
                        .on_file = read_entry, .on_refused = refuse_entry, .ctx = (void *)sink};

        return strcmp(path, "-") == 0 ? take_stdin(sink) : documents_walk(path, &walk);
}

int documents_read_file(const char *path, const struct documents_sink *sink) {
        return take_file(path, sink);
}

uint64_t documents_bytes(const char *path) {
        uint64_t n = 0;
        const struct documents_walk walk = {.on_file = measure_entry, .ctx = &n};

        if (strcmp(path, "-") != 0)
                documents_walk(path, &walk);
        return n;
}

bool documents_takes(const char *path) {
        return kind_of(path) != KIND_UNKNOWN;
}

bool documents_has_rows(const char *path) {
        return kind_of(path) == KIND_ROWS;
}
