/* The tokens of a body: whatever its bytes are, and however they come, the count is within reason, and
 * what is around its texts is the same. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "stages/engines/tokens/chat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void count(struct chat_count *chat, const uint8_t *data, uint32_t n, uint32_t step) {
        chat_begin(chat);
        for (uint32_t at = 0; at < n; at += step)
                chat_feed(chat, (const char *)data + at, n - at < step ? n - at : step);
        chat_end(chat);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static struct chat_count whole, parts;
        uint32_t n = (uint32_t)size;

        if (size > 1 << 18)
                return 0;
        count(&whole, data, n, n + 1);
        count(&parts, data, n, n > 0 ? data[0] % 13 + 1u : 1);
        assert(whole.count.cost[TOKENS_CHAT] == parts.count.cost[TOKENS_CHAT]);
        assert(whole.exact == parts.exact);
        assert(tokens_total(&whole.count) <= (size / 7 + 1) * (CHAT_MEDIA_COST / TOKENS_UNIT) + 3 * size);
        return 0;
}
