#include "stages/gateway/ask.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "stages/common/list.h"
#include "stages/engines/json/json.h"

#define BAD(error, ...) ask_fail(error, MR_E_invalid_request, __VA_ARGS__)

int ask_fail(struct ask_error *error, enum mr_error code, const char *format, ...) {
        va_list ap;

        error->code = code;
        error->param[0] = '\0';
        va_start(ap, format);
        vsnprintf(error->text, sizeof(error->text), format, ap);
        va_end(ap);
        return (int)code;
}

/* Printable: no control characters of either set, no line or paragraph separator. */
static bool printable(struct mr_view text) {
        const unsigned char *p = (const unsigned char *)text.p;

        for (uint32_t i = 0; i < text.n; i++) {
                if (p[i] < 0x20 || p[i] == 0x7f)
                        return false;
                if (p[i] == 0xc2 && i + 1 < text.n && p[i + 1] < 0xa0)
                        return false;
                if (p[i] == 0xe2 && i + 2 < text.n && p[i + 1] == 0x80 &&
                                (p[i + 2] == 0xa8 || p[i + 2] == 0xa9))
                        return false;
        }
        return true;
}

int ask_text_check(
                const char *name, struct mr_view text, uint32_t max, struct ask_error *error) {
        uint32_t bad = json_utf8_bad(text.p, text.n);

        if (bad < text.n)
                return BAD(error, "%s: not UTF-8 at byte %u", name, bad);
        if (max && text.n > max)
                return BAD(error, "%s: %u bytes, at most %u are allowed", name, text.n, max);
        if (max && !printable(text))
                return BAD(error, "%s: holds unprintable characters", name);
        return 0;
}

int ask_list_check(const char *name, struct mr_view text, bool pairs, struct ask_error *error) {
        struct mr_view part;
        uint32_t n = 0;

        for (; list_next(&text, &part); n++) {
                const char *equals = part.n > 0 ? memchr(part.p, '=', part.n) : NULL;

                if (n == LIST_MAX)
                        return ask_fail(error, MR_E_invalid_request, "%s: more than %u parts", name,
                                        LIST_MAX);
                if (part.n == 0 || (pairs && (!equals || equals == part.p)))
                        return ask_fail(error, MR_E_invalid_request,
                                        "%s: expected %s, comma separated", name,
                                        pairs ? "KEY=VALUE" : "names");
        }
        return 0;
}

int ask_priority_read(const char *name, struct mr_view text, enum ask_priority *ret,
                struct ask_error *error) {
        static const char *const names[PRIORITIES_N] = {"system", "interactive", "default", "bulk"};

        for (int i = 0; i < PRIORITIES_N; i++)
                if (strlen(names[i]) == text.n && memcmp(names[i], text.p, text.n) == 0) {
                        *ret = (enum ask_priority)i;
                        return 0;
                }
        return BAD(error, "%s: expected system, interactive, default or bulk", name);
}
