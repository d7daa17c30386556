/* A file of vectors: as it is and, where the first byte is odd, with sums that fit, so that what lies
 * behind them is reached. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

#include "stages/engines/vectors/file.h"
#include "stages/engines/vectors/vectors.h"

static char folder[] = "/tmp/millrace-fuzz-vectors-XXXXXX";
static char name[128];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void clean(void) {
        unlink(name);
        rmdir(folder);
}

static void make_sums_fit(uint8_t *bytes, size_t size) {
        struct file_head head;

        if (size < sizeof(head))
                return;
        memcpy(&head, bytes, sizeof(head));
        if (head.rows_at <= size)
                head.rows_hash = XXH3_64bits(bytes + head.rows_at, size - head.rows_at);
        if (head.n_model <= size - sizeof(head))
                head.head_hash = file_head_hash(&head, (const char *)bytes + sizeof(head));
        memcpy(bytes, &head, sizeof(head));
}

static void use(struct vectors *v) {
        const uint32_t dimension = vectors_dimension(v);
        float *query = malloc(dimension * sizeof(*query));
        struct vectors_scan *scan = NULL;
        struct index_near near[8];

        for (uint32_t i = 0; i < dimension; i++)
                query[i] = (float)(i + 1);
        if (vectors_scan_new(v, query, &scan) != 0)
                abort();
        const size_t n = vectors_scan_nearest(scan, 8, near);
        if (n != (vectors_n(v) < 8 ? vectors_n(v) : 8))
                abort();
        for (size_t i = 0; i < n; i++)
                if (vectors_find(v, near[i].passage, near[i].hash) < 0)
                        abort();
        vectors_scan_free(scan);
        free(query);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        uint8_t *bytes;
        struct vectors *v = NULL;
        FILE *file;

        if (size < 1)
                return 0;
        if (name[0] == '\0') {
                if (!mkdtemp(folder))
                        abort();
                snprintf(name, sizeof(name), "%s/" VECTORS_FILE, folder);
                atexit(clean);
        }
        bytes = malloc(size);
        memcpy(bytes, data + 1, size - 1);
        if (data[0] & 1)
                make_sums_fit(bytes, size - 1);
        file = fopen(name, "w");
        if (!file || fwrite(bytes, 1, size - 1, file) != size - 1 || fclose(file) != 0)
                abort();
        free(bytes);
        if (vectors_open(folder, NULL, &v) == 0) {
                use(v);
                vectors_close(v);
        }
        return 0;
}
