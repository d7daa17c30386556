#include "stages/engines/format/stops.h"

#include <errno.h>
#include <string.h>

#include "stages/engines/json/json.h"
#include "stages/engines/json/walk.h"

/* ---- the strings ---- */

static void prepare(struct stops *stops, uint32_t which) {
        uint8_t matched = 0, n = stops->v[which].n, *fail = stops->v[which].fail;
        const char *text = stops->v[which].text;

        fail[0] = 0;
        for (uint32_t i = 1; i < n; i++) {
                fail[i] = matched;
                while (matched > 0 && text[i] != text[matched])
                        matched = fail[matched];
                matched = (uint8_t)(matched + (text[i] == text[matched]));
        }
}

static int add(struct stops *stops, struct json_text string) {
        char text[STOPS_BYTES + JSON_CHAR_MAX];
        uint32_t n = 0;

        if (json_unescape(string.p, string.n, text, sizeof(text), &n))
                return -EPROTO;
        if (n == 0)
                return 0;
        if (n > STOPS_BYTES || stops->n == STOPS_MAX)
                return STOPS_E_MANY;
        memcpy(stops->v[stops->n].text, text, n);
        stops->v[stops->n].n = (uint8_t)n;
        prepare(stops, stops->n++);
        return 0;
}

int stops_read(struct stops *stops, const char *json, uint32_t n) {
        struct json_text value = {json, n}, string;
        struct json_walk walk = json_walk_in(json_inside(value));
        int r = 0;

        stops->n = 0;
        if (n > 0 && json[0] == '"')
                return add(stops, value);
        if (n == 0 || json[0] != '[')
                return -EPROTO;
        while (r == 0) {
                int end = json_walk_element(&walk, &string);
                if (end)
                        return end == WALK_E_END ? 0 : -EPROTO;
                r = add(stops, string);
        }
        return r;
}

/* ---- the text ---- */

/* The string that the text ends with the longest start of. */
static uint32_t longest(const struct stops *stops, const struct stops_state *state) {
        uint32_t best = 0;

        for (uint32_t i = 1; i < stops->n; i++)
                if (state->matched[i] > state->matched[best])
                        best = i;
        return best;
}

/* One more byte; returns the length of the longest string that it completes, 0: none. */
static uint32_t step(const struct stops *stops, struct stops_state *state, char c) {
        uint32_t complete = 0;

        for (uint32_t i = 0; i < stops->n; i++) {
                uint8_t matched = state->matched[i];
                while (matched > 0 && c != stops->v[i].text[matched])
                        matched = stops->v[i].fail[matched];
                matched = (uint8_t)(matched + (c == stops->v[i].text[matched]));
                state->matched[i] = matched;
                if (matched == stops->v[i].n && matched > complete)
                        complete = matched;
        }
        return complete;
}

uint32_t stops_feed(const struct stops *stops, struct stops_state *state, const char *text, uint32_t n,
                char *to, bool *ret_stopped) {
        uint32_t before = longest(stops, state), waited = state->matched[before], i = 0;
        uint32_t complete = 0, goes_on, of_waited;

        while (i < n && complete == 0)
                complete = step(stops, state, text[i++]);
        *ret_stopped = complete > 0;
        if (complete == 0)
                complete = state->matched[longest(stops, state)];
        goes_on = waited + i - complete;
        of_waited = goes_on < waited ? goes_on : waited;
        memcpy(to, stops->v[before].text, of_waited);
        if (goes_on > of_waited)
                memcpy(to + of_waited, text, goes_on - of_waited);
        if (*ret_stopped)
                *state = (struct stops_state){{0}};
        return goes_on;
}

uint32_t stops_flush(const struct stops *stops, struct stops_state *state, char *to) {
        uint32_t which = longest(stops, state), n = state->matched[which];

        memcpy(to, stops->v[which].text, n);
        *state = (struct stops_state){{0}};
        return n;
}
