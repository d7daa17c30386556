/*
 * markup -- what the readers of Markdown and HTML share.
 */
#include "stages/engines/index/markup.h"

int markup_mark(struct markup *markup, size_t offset, enum chunk_mark_kind kind, unsigned level) {
        if (markup->n_marks > 0 && markup->marks[markup->n_marks - 1].offset >= offset)
                return 0;
        if (markup->n_marks == markup->room) {
                const size_t room = markup->room ? markup->room * 2 : 32;
                struct chunk_mark *more = reallocarray(markup->marks, room, sizeof(*more));

                if (!more)
                        return -ENOMEM;
                markup->marks = more;
                markup->room = room;
        }
        markup->marks[markup->n_marks++] = (struct chunk_mark){
                        .offset = offset, .kind = kind, .level = (uint8_t)level};
        return 0;
}

/* Until markup_settle() a title is a length: the buffer moves while it grows. */
void markup_title(struct markup *markup, size_t from) {
        struct chunk_mark *last = markup->n_marks > 0 ? &markup->marks[markup->n_marks - 1] : NULL;

        if (last && last->kind == CHUNK_MARK_HEADING && last->title.n_bytes == 0)
                last->title.n_bytes = markup->titles.n_bytes - from;
        else
                markup->titles.n_bytes = from;
}

void markup_settle(struct markup *markup) {
        size_t offset = 0;

        for (size_t i = 0; i < markup->n_marks; i++) {
                struct index_str *title = &markup->marks[i].title;

                title->data = title->n_bytes > 0 ? markup->titles.data + offset : "";
                offset += title->n_bytes;
                if (markup->title.n_bytes == 0)
                        markup->title = *title;
        }
}

void markup_clear(struct markup *markup) {
        free(markup->marks);
        buffer_clear(&markup->own);
        buffer_clear(&markup->titles);
        *markup = (struct markup){0};
}
