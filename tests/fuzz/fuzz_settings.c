/* settings_unpack: whatever it takes can be packed, and comes back the same. */
#include <stdint.h>
#include <stdlib.h>

#include "stages/common/settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
        static char packed[2 * SETTINGS_PACKED_MAX];
        struct settings *s = NULL, *back = NULL;
        size_t len = 0;

        if (settings_unpack(bytes, n, &s))
                return 0;
        /* An input that repeats a key or leaves defaults out may grow beyond what unpack takes. */
        if (settings_pack(s, packed, sizeof(packed), &len) == 0 && len <= SETTINGS_PACKED_MAX) {
                if (settings_unpack(packed, len, &back))
                        abort();
                for (uint32_t i = 0; i < settings_shape.n_rows; i++)
                        if (!settings_row_equal(&settings_shape.rows[i], s, back))
                                abort();
        }
        settings_free(s);
        settings_free(back);
        return 0;
}
