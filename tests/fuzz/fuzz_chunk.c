/* A chunk of a backend's stream: whatever it says, the parts lie in bounds, and what millrace does
 * not know is JSON again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/sse/chunk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t touch(struct chunk_str s) {
        uint32_t sum = 0;

        for (uint32_t i = 0; i < s.n; i++)
                sum += (uint8_t)s.p[i];
        return sum;
}

static void check_extra(struct chunk_str extra) {
        static struct chunk_parser *again;
        struct chunk chunk;
        char *json;

        if (extra.n == 0)
                return;
        if (!again && chunk_new(&again) != 0)
                abort();
        json = malloc((size_t)extra.n + 2);
        if (!json)
                abort();
        json[0] = '{';
        memcpy(json + 1, extra.p, extra.n);
        json[extra.n + 1] = '}';
        if (chunk_parse(again, json, extra.n + 2, false, &chunk) != 0)
                abort();
        free(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static struct chunk_parser *parser;
        volatile uint32_t sink = 0; /* the reads must happen */
        struct chunk chunk;

        if (!parser && chunk_new(&parser) != 0)
                abort();
        if (size > 1 << 20 || chunk_parse(parser, (const char *)data, (uint32_t)size, false, &chunk) != 0)
                return 0;
        for (uint32_t i = 0; i < chunk.n_parts; i++) {
                struct chunk_str tool = chunk.parts[i].tool_extra;

                sink = sink + touch(chunk.parts[i].text) + touch(chunk.parts[i].tool_id) +
                       touch(chunk.parts[i].tool_name);
                if (tool.n > 0)
                        check_extra((struct chunk_str){tool.p + 1, tool.n - 2});
        }
        sink = sink + touch(chunk.finish_reason) + touch(chunk.usage.raw) +
               touch(chunk.failure.message) + touch(chunk.failure.type) + touch(chunk.failure.code);
        (void)sink;
        check_extra(chunk.extra);
        return 0;
}
