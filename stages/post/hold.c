#include "stages/post/hold.h"

#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd"
#define REPLACEMENT_BYTES 3u

/* One step of decoding at p: the length of a whole character, 0 when the bytes may still become one, or
 * minus the length of the maximal subpart that can not. Table 3-7 of the Unicode standard. */
static int utf8_step(const uint8_t *p, uint32_t n) {
        uint8_t low = 0x80, high = 0xbf;
        uint32_t need;

        if (p[0] < 0x80)
                return 1;
        if (p[0] >= 0xc2 && p[0] <= 0xdf)
                need = 2;
        else if (p[0] >= 0xe0 && p[0] <= 0xef)
                need = 3;
        else if (p[0] >= 0xf0 && p[0] <= 0xf4)
                need = 4;
        else
                return -1;
        if (p[0] == 0xe0)
                low = 0xa0;
        else if (p[0] == 0xed)
                high = 0x9f;
        else if (p[0] == 0xf0)
                low = 0x90;
        else if (p[0] == 0xf4)
                high = 0x8f;
        for (uint32_t i = 1; i < need; i++) {
                if (i == n)
                        return 0;
                if (p[i] < low || p[i] > high)
                        return -(int)i;
                low = 0x80;
                high = 0xbf;
        }
        return (int)need;
}

static uint32_t ascii_run(const uint8_t *p, uint32_t n) {
        uint32_t i = 0;

        for (uint64_t word; i + 8 <= n; i += 8) {
                memcpy(&word, p + i, 8);
                if (word & 0x8080808080808080ull)
                        break;
        }
        while (i < n && p[i] < 0x80)
                i++;
        return i;
}

static struct hold_entry *hold_find(struct hold *hold, uint16_t choice, enum hold_kind kind) {
        for (uint32_t i = 0; i < HOLD_STREAMS; i++)
                if (hold->entry[i].n && hold->entry[i].choice == choice &&
                                hold->entry[i].kind == kind)
                        return &hold->entry[i];
        return NULL;
}

int hold_is_clean(const struct hold *hold, uint16_t choice, enum hold_kind kind, const char *text,
                uint32_t n) {
        const uint8_t *p = (const uint8_t *)text;

        for (uint32_t i = 0; i < HOLD_STREAMS; i++)
                if (hold->entry[i].n && hold->entry[i].choice == choice &&
                                hold->entry[i].kind == kind)
                        return 0;
        for (uint32_t i = ascii_run(p, n); i < n;) {
                int step = utf8_step(p + i, n - i);
                if (step <= 0)
                        return 0;
                i += (uint32_t)step;
                i += ascii_run(p + i, n - i);
        }
        return 1;
}

/* Copies whole characters, replaces what is none. Returns the bytes written; *ret_left: how many bytes at
 * the end may still become a character. */
static uint32_t settle(const uint8_t *p, uint32_t n, char *to, uint32_t *ret_left) {
        uint32_t out = 0, i = 0;

        while (i < n) {
                int step = utf8_step(p + i, n - i);
                if (step == 0)
                        break;
                if (step > 0) {
                        memcpy(to + out, p + i, (size_t)step);
                        out += (uint32_t)step;
                        i += (uint32_t)step;
                } else {
                        memcpy(to + out, REPLACEMENT, REPLACEMENT_BYTES);
                        out += REPLACEMENT_BYTES;
                        i += (uint32_t)-step;
                }
        }
        *ret_left = n - i;
        return out;
}

static struct hold_entry *hold_place(struct hold *hold) {
        for (uint32_t i = 0; i < HOLD_STREAMS; i++)
                if (!hold->entry[i].n)
                        return &hold->entry[i];
        return NULL;
}

uint32_t hold_feed(struct hold *hold, uint16_t choice, enum hold_kind kind, const char *text,
                uint32_t n, char *to) {
        struct hold_entry *entry = hold_find(hold, choice, kind);
        const uint8_t *p = (const uint8_t *)text;
        uint32_t out = 0, left;

        /* At most three bytes wait: join them with as many as complete a character. */
        while (entry && entry->n && n) {
                uint8_t joined[4];
                memcpy(joined, entry->bytes, entry->n);
                joined[entry->n] = *p;
                int step = utf8_step(joined, entry->n + 1u);
                if (step < 0) { /* the waiting bytes were no character; this byte stands for itself */
                        memcpy(to + out, REPLACEMENT, REPLACEMENT_BYTES);
                        out += REPLACEMENT_BYTES;
                        entry->n = 0;
                        break;
                }
                p++;
                n--;
                if (step > 0) {
                        memcpy(to + out, joined, (size_t)step);
                        out += (uint32_t)step;
                        entry->n = 0;
                } else {
                        entry->bytes[entry->n] = joined[entry->n];
                        entry->n++;
                }
        }
        if (!n)
                return out;
        out += settle(p, n, to + out, &left);
        if (!left)
                return out;
        entry = hold_place(hold);
        if (!entry) { /* no place to wait in: say that something was there */
                memcpy(to + out, REPLACEMENT, REPLACEMENT_BYTES);
                return out + REPLACEMENT_BYTES;
        }
        entry->choice = choice;
        entry->kind = (uint8_t)kind;
        entry->n = (uint8_t)left;
        memcpy(entry->bytes, p + n - left, left);
        return out;
}

int hold_flush_one(struct hold *hold, struct hold_entry *ret) {
        for (uint32_t i = 0; i < HOLD_STREAMS; i++) {
                if (!hold->entry[i].n)
                        continue;
                *ret = hold->entry[i];
                hold->entry[i].n = 0;
                return 1;
        }
        return 0;
}
