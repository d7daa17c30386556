#include "stages/watch/marks.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#define ROOM_MIN 64u

/* Where the key is, or would be. Keys are hashes: their low bits are as good as any. */
static struct mark *place(const struct marks *marks, uint64_t key) {
        uint64_t i = key & (marks->room - 1);

        while (marks->at[i].key != 0 && marks->at[i].key != key)
                i = (i + 1) & (marks->room - 1);
        return &marks->at[i];
}

static int grow(struct marks *marks) {
        const uint64_t room = marks->room > 0 ? marks->room * 2 : ROOM_MIN;
        struct marks more = {.at = calloc(room, sizeof(*more.at)), .n = marks->n, .room = room};

        if (!more.at)
                return -ENOMEM;
        for (uint64_t i = 0; i < marks->room; i++)
                if (marks->at[i].key != 0)
                        *place(&more, marks->at[i].key) = marks->at[i];
        free(marks->at);
        *marks = more;
        return 0;
}

uint64_t marks_get(const struct marks *marks, uint64_t key) {
        return marks->room > 0 ? place(marks, key)->value : 0;
}

int marks_put(struct marks *marks, uint64_t key, uint64_t value) {
        struct mark *mark;

        if ((marks->n + 1) * 2 > marks->room && grow(marks) != 0)
                return -ENOMEM;
        mark = place(marks, key);
        marks->n += mark->key == 0;
        *mark = (struct mark){key, value};
        return 0;
}

void marks_clear(struct marks *marks) {
        free(marks->at);
        *marks = (struct marks){.at = NULL};
}
