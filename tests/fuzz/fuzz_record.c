/* What a neighbour may have written into a ring: decoded, encoded again, and then it must be the
 * same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "stages/common/record.h"

#define LEN_MAX 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void round_trip(const struct record *record) {
        static struct record_decoder decoder;
        static uint8_t once[LEN_MAX * 2], twice[LEN_MAX * 2];
        static bool ready;
        struct record back;
        uint32_t len, again;

        if (!ready && record_decoder_init(&decoder) != 0)
                abort();
        ready = true;
        if (record_encode(record, once, sizeof(once), &len) != 0 || len > record_size_bound(record))
                abort();
        if (record_decode(&decoder, once, len, &back) != 0 || back.has != record->has ||
                        back.n_unknown != record->n_unknown)
                abort();
        if (record_encode(&back, twice, sizeof(twice), &again) != 0 || again != len ||
                        memcmp(once, twice, len) != 0)
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static struct record_decoder decoder;
        static bool ready;
        struct record record;

        if (size > LEN_MAX)
                return 0;
        if (!ready && record_decoder_init(&decoder) != 0)
                abort();
        ready = true;
        if (record_decode(&decoder, data, (uint32_t)size, &record) == 0)
                round_trip(&record);
        return 0;
}
