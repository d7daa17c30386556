/* What a backend streams: however the bytes are cut, the events are the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "stages/engines/sse/sse.h"

#define EVENT_MAX 4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct trace {
        uint64_t hash;
        uint32_t n;
};

static void note(struct trace *trace, const struct sse_event *event) {
        if (event->data_len > EVENT_MAX || event->name_len > SSE_NAME_MAX)
                abort();
        for (uint32_t i = 0; i < event->name_len; i++)
                trace->hash = trace->hash * 31 + (uint8_t)event->name[i];
        trace->hash = trace->hash * 31 + 257;
        for (uint32_t i = 0; i < event->data_len; i++)
                trace->hash = trace->hash * 31 + (uint8_t)event->data[i];
        trace->n++;
}

/* In pieces of `step` bytes. */
static struct trace run(const char *bytes, size_t size, size_t step) {
        struct trace trace = {.hash = 1};
        struct sse_event event;
        struct sse s;
        int r = SSE_MORE;

        sse_init(&s, EVENT_MAX);
        for (size_t from = 0; from < size && r != SSE_E_TOO_LARGE; from += step) {
                const char *at = bytes + from,
                           *end = bytes + (size - from < step ? size : from + step);
                while ((r = sse_next(&s, &at, end, &event)) == SSE_EVENT)
                        note(&trace, &event);
                if (r == SSE_MORE && at != end)
                        abort();
        }
        if (r == SSE_MORE && sse_finish(&s, &event) == SSE_EVENT)
                note(&trace, &event);
        trace.hash = trace.hash * 31 + (uint64_t)r;
        sse_close(&s);
        return trace;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        const char *bytes = (const char *)data;
        struct trace whole = run(bytes, size, size + 1);

        for (size_t step = 1; step < 8; step++) {
                struct trace cut = run(bytes, size, step);
                if (cut.n != whole.n || cut.hash != whole.hash)
                        abort();
        }
        return 0;
}
