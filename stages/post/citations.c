#include "stages/post/citations.h"

#include <string.h>

#define CITATIONS_MAX 64u

/* `[1]`, and `[1, 2]` or `[1][2]`: models write all of them. */
static void citations_step(struct citations *c, char ch) {
        if (ch == '[') {
                c->state = 1;
                c->number = 0;
        } else if (c->state && ch >= '0' && ch <= '9') {
                c->state = 2;
                if (c->number <= CITATIONS_MAX)
                        c->number = c->number * 10 + (uint32_t)(ch - '0');
        } else if (c->state && (ch == ']' || ch == ',')) {
                if (c->state == 2 && c->number >= 1 && c->number <= CITATIONS_MAX)
                        c->cited |= 1ull << (c->number - 1);
                c->state = ch == ',' ? 1 : 0;
                c->number = 0;
        } else if (!(c->state == 1 && ch == ' ')) {
                c->state = 0;
        }
}

void citations_feed(struct citations *citations, const char *text, uint32_t n) {
        uint32_t i = 0;

        while (i < n) {
                if (!citations->state) {
                        const char *open = memchr(text + i, '[', n - i);
                        if (!open)
                                return;
                        i = (uint32_t)(open - text);
                }
                citations_step(citations, text[i++]);
        }
}
