/*
 * chunk -- cuts a document's text into passages fit for retrieval.
 *
 * The text is laid out as atoms (sentences, lines of code, pieces of what is too long). A chunk
 * takes atoms up to the point, between its least and its greatest size, where the cut costs least:
 * little before a heading, more before a paragraph, most between two sentences, and the more the
 * further it is from an even share of what is left.
 */
#include "stages/engines/index/chunk.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/index/buffer.h"

#define QUARTERS 4u          /* sizes are counted in quarters of a token: an ASCII byte is one */
#define TOKENS_AIM 340u      /* what a chunk of an endless text would have */
#define TITLE_BYTES_MAX 200u /* of each heading in a path */
#define LEVELS 6u

struct atom {
        size_t start;
        size_t sum; /* quarters of all atoms before it */
        enum { ATOM_SENTENCE, ATOM_BLOCK, ATOM_HEADING } border;
};

struct layout {
        struct atom *atoms; /* n_atoms, and one behind them where the text ends */
        size_t n_atoms;
        size_t room;
        size_t sum;
};

static bool is_blank(char c) {
        return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

/* The second or a later byte of a character. */
static bool is_inside(char c) {
        return ((unsigned char)c & 0xc0) == 0x80;
}

static size_t quarters_of(unsigned char c) {
        if (c < 0x80)
                return 1;
        if (c < 0xc0)
                return 0; /* goes on */
        return c < 0xe0 ? 2 : 4;
}

static int layout_push(struct layout *layout, size_t start, int border) {
        if (layout->n_atoms == layout->room) {
                const size_t room = layout->room ? layout->room * 2 : 64;
                struct atom *more = reallocarray(layout->atoms, room, sizeof(*more));

                if (!more)
                        return -ENOMEM;
                layout->atoms = more;
                layout->room = room;
        }
        layout->atoms[layout->n_atoms++] =
                        (struct atom){.start = start, .sum = layout->sum, .border = border};
        return 0;
}

/* The end of a piece that fits a chunk: at most `end`, else behind the last line break that fits,
 * else behind the last blank, else between two characters. */
static size_t piece_end(struct index_str text, size_t start, size_t end, size_t *ret_size) {
        size_t size = 0;
        size_t line = start, line_size = 0;
        size_t blank = start, blank_size = 0;

        for (size_t at = start; at < end; at++) {
                const size_t more = quarters_of((unsigned char)text.data[at]);

                if (size + more > CHUNK_TOKENS_MAX * QUARTERS) {
                        *ret_size = line > start ? line_size : blank > start ? blank_size : size;
                        return line > start ? line : blank > start ? blank : at;
                }
                size += more;
                if (is_blank(text.data[at])) {
                        blank = at + 1;
                        blank_size = size;
                }
                if (text.data[at] == '\n') {
                        line = at + 1;
                        line_size = size;
                }
        }
        *ret_size = size;
        return end;
}

/* Adds start..end as one atom, or as several when it is too long for a chunk. */
static int layout_atom(struct layout *layout, struct index_str text, size_t start, size_t end,
                int border) {
        while (start < end) {
                size_t size = 0;
                const size_t next = piece_end(text, start, end, &size);
                int r = layout_push(layout, start, border);

                if (r < 0)
                        return r;
                layout->sum += size;
                start = next;
                border = ATOM_SENTENCE;
        }
        return 0;
}

static size_t line_end(struct index_str text, size_t from) {
        const char *found = memchr(text.data + from, '\n', text.n_bytes - from);

        return found ? (size_t)(found - text.data) + 1 : text.n_bytes;
}

static bool has_empty_line(struct index_str text, size_t end) {
        size_t n = 0;

        while (end > 0 && is_blank(text.data[end - 1]))
                n += text.data[--end] == '\n';
        return n >= 2;
}

/* The atoms between two marks. */
static int layout_stretch(struct layout *layout, struct index_str text, size_t end,
                const struct chunk_mark *mark, size_t start) {
        const struct index_str stretch = {text.data, end};
        const bool code = mark && mark->kind == CHUNK_MARK_CODE;
        const bool heading = mark && mark->kind == CHUNK_MARK_HEADING;
        int border = heading ? ATOM_HEADING : ATOM_BLOCK;

        while (start < end) {
                const size_t next = code ? line_end(stretch, start)
                                         : chunk_sentence_end(stretch, start);
                int r = layout_atom(layout, text, start, next, border);

                if (r < 0)
                        return r;
                border = !code && has_empty_line(stretch, next) ? ATOM_BLOCK : ATOM_SENTENCE;
                start = next;
        }
        return 0;
}

static int layout_make(struct layout *layout, struct index_str text, const struct chunk_mark *marks,
                size_t n_marks) {
        const struct chunk_mark *mark = NULL;
        size_t start = 0;
        int r;

        for (size_t i = 0; i < n_marks; i++) {
                if (marks[i].offset >= text.n_bytes || (mark && marks[i].offset <= mark->offset))
                        continue;
                r = layout_stretch(layout, text, marks[i].offset, mark, start);
                if (r < 0)
                        return r;
                mark = &marks[i];
                start = mark->offset;
        }
        r = layout_stretch(layout, text, text.n_bytes, mark, start);
        if (r < 0)
                return r;
        r = layout_push(layout, text.n_bytes, ATOM_BLOCK);
        layout->n_atoms -= r == 0;
        return r;
}

/* The atom that the chunk from atom `from` ends before; behind `beyond`, where the last one ended.
 */
static size_t choose_cut(const struct layout *layout, size_t from, size_t beyond) {
        const struct atom *atoms = layout->atoms;
        const size_t left = atoms[layout->n_atoms].sum - atoms[from].sum;
        const size_t most = CHUNK_TOKENS_MAX * QUARTERS;
        const size_t least = CHUNK_TOKENS_MIN * QUARTERS;
        double best_cost = 1e9;
        size_t best;

        if (left <= most)
                return layout->n_atoms;
        const size_t n_shares = (left + TOKENS_AIM * QUARTERS - 1) / (TOKENS_AIM * QUARTERS);
        const double aim = (double)left / (double)n_shares;

        best = beyond + 1;
        for (size_t i = beyond + 1; i < layout->n_atoms; i++) {
                static const double costs[] = {
                                [ATOM_SENTENCE] = 0.5, [ATOM_BLOCK] = 0.25, [ATOM_HEADING] = 0};
                const size_t size = atoms[i].sum - atoms[from].sum;
                double cost = costs[atoms[i].border];

                if (size > most)
                        break;
                if (atoms[i - 1].border == ATOM_HEADING)
                        cost += 1; /* a heading goes with what it heads */
                if (size < least)
                        cost += atoms[i].border == ATOM_HEADING && size >= least / 2 ? 0 : 2;
                cost += ((double)size > aim ? (double)size - aim : aim - (double)size) / aim;
                if (cost < best_cost) {
                        best_cost = cost;
                        best = i;
                }
        }
        return best;
}

/* Where the chunk after the cut starts: a little before it, unless a heading begins there or what
 * follows would then not fit; always behind byte `beyond`, where the last one started. */
static size_t step_back(const struct layout *layout, size_t beyond, size_t cut) {
        const struct atom *atoms = layout->atoms;
        size_t start = cut;

        while (start > 0 && atoms[start - 1].start > beyond &&
                        atoms[start].border != ATOM_HEADING &&
                        atoms[cut].sum - atoms[start - 1].sum <= CHUNK_TOKENS_OVERLAP * QUARTERS &&
                        atoms[cut + 1].sum - atoms[start - 1].sum <= CHUNK_TOKENS_MAX * QUARTERS)
                start--;
        return start;
}

/* ---- heading paths ------------------------------------------------------------------------- */

struct paths {
        const struct chunk_mark *marks;
        size_t n_marks;
        size_t next;                   /* the first mark not behind us */
        struct index_str open[LEVELS]; /* the headings that we are under */
        struct buffer text;            /* the paths of all chunks so far, one behind the other */
};

static void paths_close(struct paths *paths, uint8_t level) {
        for (size_t i = level - 1u; i < LEVELS; i++)
                paths->open[i] = (struct index_str){NULL, 0};
}

/* Opens the headings before `offset`; one right there closes others, but is in the text itself. */
static void paths_advance(struct paths *paths, size_t offset) {
        for (; paths->next < paths->n_marks; paths->next++) {
                const struct chunk_mark *mark = &paths->marks[paths->next];

                if (mark->offset > offset)
                        return;
                if (mark->kind != CHUNK_MARK_HEADING || mark->level < 1 || mark->level > LEVELS)
                        continue;
                paths_close(paths, mark->level);
                if (mark->offset == offset)
                        return;
                paths->open[mark->level - 1] = mark->title;
        }
}

static int paths_write(struct paths *paths) {
        const size_t start = paths->text.n_bytes;
        int r = 0;

        for (size_t i = 0; r == 0 && i < LEVELS; i++) {
                struct index_str title = paths->open[i];

                if (title.n_bytes == 0)
                        continue;
                if (title.n_bytes > TITLE_BYTES_MAX) {
                        title.n_bytes = TITLE_BYTES_MAX;
                        while (title.n_bytes > 0 && is_inside(title.data[title.n_bytes]))
                                title.n_bytes--;
                }
                if (paths->text.n_bytes > start)
                        r = buffer_append(&paths->text, " > ", 3);
                if (r == 0)
                        r = buffer_append(&paths->text, title.data, title.n_bytes);
        }
        return r;
}

/* ---- the list ------------------------------------------------------------------------------ */

/* The buffer of paths still moves: a chunk's path is only a length for now. */
static int list_push(struct chunk_list *list, size_t *room, struct paths *paths, size_t start,
                size_t end) {
        const size_t path_start = paths->text.n_bytes;
        int r;

        if (list->n_chunks == INDEX_CHUNKS_MAX)
                return -E2BIG;
        if (list->n_chunks == *room) {
                const size_t more_room = *room ? *room * 2 : 8;
                struct chunk *more = reallocarray(list->chunks, more_room, sizeof(*more));

                if (!more)
                        return -ENOMEM;
                list->chunks = more;
                *room = more_room;
        }
        r = paths_write(paths);
        if (r < 0)
                return r;
        list->chunks[list->n_chunks++] = (struct chunk){.start = start,
                        .end = end,
                        .path = {.n_bytes = paths->text.n_bytes - path_start}};
        return 0;
}

/* What adds only white space to the chunk before makes none, unless there is nothing else. */
static int list_fill(struct chunk_list *list, const struct layout *layout, struct paths *paths,
                struct index_str text) {
        size_t room = 0;
        size_t last_end = 0;
        size_t from = 0;
        size_t cut = 0;
        int r = 0;

        while (r == 0 && cut < layout->n_atoms) {
                size_t start = layout->atoms[from].start;
                size_t end;

                cut = choose_cut(layout, from, cut);
                end = layout->atoms[cut].start;
                paths_advance(paths, start);
                while (start < end && is_blank(text.data[start]))
                        start++;
                while (end > start && is_blank(text.data[end - 1]))
                        end--;
                if (start < end && end > last_end)
                        r = list_push(list, &room, paths, start, end);
                last_end = end;
                from = cut < layout->n_atoms ? step_back(layout, start, cut) : cut;
        }
        if (r == 0 && list->n_chunks == 0)
                r = list_push(list, &room, paths, text.n_bytes, text.n_bytes);
        return r;
}

int chunk_split(struct index_str text, const struct chunk_mark *marks, size_t n_marks,
                struct chunk_list *ret_list) {
        struct chunk_list list = {0};
        struct layout layout = {0};
        struct paths paths = {.marks = marks, .n_marks = n_marks};
        size_t offset = 0;
        int r = layout_make(&layout, text, marks, n_marks);

        if (r == 0)
                r = list_fill(&list, &layout, &paths, text);
        free(layout.atoms);
        list.paths = paths.text.data;
        if (r < 0) {
                chunk_list_clear(&list);
                return r;
        }
        for (size_t i = 0; i < list.n_chunks; i++) {
                struct index_str *path = &list.chunks[i].path;

                path->data = path->n_bytes > 0 ? list.paths + offset : "";
                offset += path->n_bytes;
        }
        *ret_list = list;
        return 0;
}

void chunk_list_clear(struct chunk_list *list) {
        free(list->chunks);
        free(list->paths);
        *list = (struct chunk_list){0};
}
