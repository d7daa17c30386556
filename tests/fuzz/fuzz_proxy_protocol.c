/* proxy_protocol_parse: a head lies within its bytes and its limit, and comes out the same byte by byte. */
#include <stdlib.h>
#include <string.h>

#include "stages/gateway/proxy_protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
        struct proxy_protocol whole, slow;
        const char *why = NULL, *why_slow = NULL;
        int r, r_slow = PROXY_E_MORE;

        if (n > 2 * PROXY_HEAD_MAX)
                return 0;
        r = proxy_protocol_parse((const char *)bytes, (uint32_t)n, &whole, &why);
        for (uint32_t i = 0; i <= n && r_slow == PROXY_E_MORE; i++)
                r_slow = proxy_protocol_parse((const char *)bytes, i, &slow, &why_slow);
        if (r != r_slow || (r == PROXY_E_REFUSED && (!why || !why_slow)))
                abort();
        if (r != 0)
                return 0;
        if (whole.head_bytes < 16 || whole.head_bytes > n || whole.head_bytes > PROXY_HEAD_MAX)
                abort();
        if (whole.head_bytes != slow.head_bytes || whole.proxied != slow.proxied ||
                        whole.client.known != slow.client.known ||
                        memcmp(whole.client.at, slow.client.at, sizeof(whole.client.at)) != 0 ||
                        (whole.client.known && !whole.proxied))
                abort();
        return 0;
}
