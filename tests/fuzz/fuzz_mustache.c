/* A template's file, a partial `p` and JSON, split at NUL: what is refused has a place, what is rendered
 * stays within its bound and comes out the same again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/mustache/front.h"

#define OUTPUT_MAX 65536u
#define WORK_MAX 100000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct part {
        const char *p;
        size_t n;
};

static struct part next_part(const char **at, const char *end) {
        struct part part = {*at, (size_t)(end - *at)};
        const char *stop = part.n ? memchr(*at, 0, part.n) : NULL;

        if (stop)
                part.n = (size_t)(stop - *at);
        *at = stop ? stop + 1 : end;
        return part;
}

static int find(void *ctx, struct mustache_text name, const struct mustache **ret,
                struct mustache_error *err) {
        (void)err;
        if (name.n == 1 && name.p[0] == 'p')
                *ret = ctx;
        return 0;
}

static struct mustache *compile(struct part part, struct mustache_front *front) {
        struct mustache *t = NULL;
        struct mustache_error err;
        int r = mustache_front_read(part.p, part.n, front, &err);

        if (!r && front->body > part.n)
                abort();
        if (!r)
                r = mustache_compile("t", part.p, part.n, front->body, &t, &err);
        if (r && (!err.line || !err.column || !err.text[0]))
                abort();
        return t;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        const char *at = (const char *)bytes, *end = at + size;
        struct mustache_front front = {0}, ignored = {0};
        struct mustache *t = compile(next_part(&at, end), &front);
        struct mustache *p = compile(next_part(&at, end), &ignored);
        struct part json = next_part(&at, end);
        struct mustache_output out[2] = {{0}};
        struct mustache_data *data = NULL;
        struct mustache_error err;
        int r[2] = {0, 0};

        if (mustache_data_new(&data))
                abort();
        (void)mustache_data_json(data, json.p, json.n, &err);
        for (int i = 0; t && !mustache_data_error(data) && i < 2; i++) {
                struct mustache_options options = {.escape = front.escape,
                                .missing_is_error = front.missing_is_error,
                                .find = find,
                                .find_ctx = p,
                                .max_bytes = OUTPUT_MAX,
                                .max_work = WORK_MAX};
                r[i] = mustache_render(t, data, &options, &out[i], &err);
                if (out[i].n > OUTPUT_MAX || (r[i] && (!err.line || !err.text[0])))
                        abort();
        }
        if (r[0] != r[1] || out[0].n != out[1].n ||
                        (out[0].n && memcmp(out[0].p, out[1].p, out[0].n) != 0))
                abort();
        mustache_output_clear(&out[0]);
        mustache_output_clear(&out[1]);
        mustache_data_free(data);
        mustache_free(t);
        mustache_free(p);
        mustache_front_clear(&front);
        mustache_front_clear(&ignored);
        return 0;
}
