#include "stages/engines/format/trim.h"

#include <stdbool.h>
#include <string.h>

static bool is_space(char c) {
        return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* More white space waits; what there is no room for goes on, the oldest first. */
static uint32_t wait(struct trim *trim, const char *space, uint32_t n, char *to) {
        uint32_t over = trim->n + n > TRIM_HELD ? trim->n + n - TRIM_HELD : 0;
        uint32_t old = over < trim->n ? over : trim->n;

        memcpy(to, trim->held, old);
        memmove(trim->held, trim->held + old, trim->n - old);
        trim->n = (uint16_t)(trim->n - old);
        memcpy(to + old, space, over - old);
        memcpy(trim->held + trim->n, space + (over - old), n - (over - old));
        trim->n = (uint16_t)(trim->n + n - (over - old));
        return over;
}

uint32_t trim_feed(struct trim *trim, const char *text, uint32_t n, char *to) {
        uint32_t from = 0, end = n, out = 0;

        while (!trim->begun && from < n && is_space(text[from]))
                from++;
        while (end > from && is_space(text[end - 1]))
                end--;
        if (end > from) {
                trim->begun = 1;
                memcpy(to, trim->held, trim->n);
                memcpy(to + trim->n, text + from, end - from);
                out = trim->n + end - from;
                trim->n = 0;
        }
        return trim->begun && n > end ? out + wait(trim, text + end, n - end, to + out) : out;
}
