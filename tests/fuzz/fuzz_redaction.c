/* What a backend says, as post lets it go on: arguments of a call come out the same however they are cut, text
 * as well, and members that are not known stay members. Input: a byte, then the text. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/json/walk.h"
#include "stages/post/redaction.h"

#define CAP 262144u
#define TEXT_MAX 8192u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct redaction *r;

static void start(void) {
        static char *entities[] = {"all"};
        struct settings *settings = NULL;
        struct redact_why why;

        if (settings_default(&settings))
                abort();
        settings->post.redact.entities.v = entities;
        settings->post.redact.entities.n = 1;
        settings->post.redact.numbered = true;
        if (redaction_new(settings, CAP, &r, &why))
                abort();
        settings->post.redact.entities.v = NULL;
        settings->post.redact.entities.n = 0;
        settings_free(settings);
        r->limit = CAP;
        if (redaction_noted(r, 1, NULL) ||
                        !restore_add(&r->restore, (struct mr_view){"EMAIL_ADDRESS", 13}, 1,
                                        (struct mr_view){"\"a\\@b.com\n", 9}))
                abort();
}

/* In steps, each of which goes through the bytes of a slab version. */
static uint32_t feed(bool json, const char *text, uint32_t n, uint32_t step, char *to) {
        static uint8_t kept[sizeof(struct redaction)];
        uint32_t out = 0, n_kept = 0;

        for (uint32_t at = 0; at <= n; at += step) {
                uint32_t take = n - at < step ? n - at : step;
                bool last = at + step > n;
                int e;
                if (redaction_load(r, kept, n_kept))
                        abort();
                e = json ? redaction_feed_json(r, 0, 0, text + at, take, last)
                         : redaction_feed(r, 0, 0, text + at, take, last);
                if (e || r->n_out > CAP - out)
                        return UINT32_MAX;
                memcpy(to + out, r->out, r->n_out);
                out += r->n_out;
                n_kept = redaction_pack(r);
                memcpy(kept, r->packed, n_kept);
        }
        return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static char whole[CAP], cut[CAP];
        const char *text = (const char *)data + 1;
        uint32_t n = (uint32_t)size - 1;

        if (size < 1 || size > TEXT_MAX)
                return 0;
        if (!r)
                start();
        for (unsigned json = 0; json < 2; json++) {
                uint32_t n_whole = feed(json, text, n, n + 1, whole);
                uint32_t n_cut = feed(json, text, n, 1 + data[0] % 64, cut);
                if (n_whole != UINT32_MAX && n_cut != UINT32_MAX &&
                                (n_whole != n_cut || memcmp(whole, cut, n_whole) != 0))
                        abort();
        }
        if (redaction_load(r, NULL, 0))
                abort();
        if (redaction_extra(r, (struct mr_view){text, n}) == 0 &&
                        !json_is_members((struct json_text){r->out, r->n_out}))
                abort();
        return 0;
}
