/*
 * vectors -- reading: the file mapped, and how near all of it is to a question.
 *
 * Every row is looked at, so the answer is exact for what is stored: 384 numbers of one byte each are a
 * quarter of the memory that floats take, and memory is what such a scan waits for.
 */
#include "stages/engines/vectors/vectors.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "stages/engines/vectors/file.h"

struct vectors {
        const uint8_t *map;
        size_t n_bytes;
        struct file_head head;
        char model[VECTORS_MODEL_MAX + 1];
        uint64_t row_bytes;
        struct stat seen;
};

static int complain(struct index_error *err, int code, const char *what) {
        if (err && code < 0)
                snprintf(err->text, sizeof(err->text), "%s: %s", what, strerror(-code));
        else if (err)
                snprintf(err->text, sizeof(err->text), "%s", what);
        return code;
}

const struct file_row *vectors_row(const struct vectors *v, uint64_t i) {
        return (const struct file_row *)(v->map + v->head.rows_at + i * v->row_bytes);
}

uint64_t file_head_hash(const struct file_head *head, const char *model) {
        return XXH3_64bits_withSeed(
                        model, head->n_model, XXH3_64bits(head, offsetof(struct file_head, head_hash)));
}

/* ---- opening ------------------------------------------------------------------------------- */

static bool head_is_sound(const struct vectors *v) {
        const struct file_head *head = &v->head;

        return head->dimension > 0 && head->dimension <= VECTORS_DIMENSION_MAX &&
               head->n_rows <= VECTORS_ROWS_MAX && head->n_model <= VECTORS_MODEL_MAX &&
               head->rows_at % 64 == 0 && head->rows_at >= sizeof(*head) + head->n_model &&
               head->rows_at <= v->n_bytes &&
               (v->n_bytes - head->rows_at) / v->row_bytes == head->n_rows &&
               (v->n_bytes - head->rows_at) % v->row_bytes == 0 &&
               file_head_hash(head, (const char *)v->map + sizeof(*head)) == head->head_hash;
}

/* In order, and each number once: what vectors_find() relies on. */
static bool rows_are_sound(const struct vectors *v) {
        for (uint32_t i = 0; i < v->head.n_rows; i++)
                if (!isfinite(vectors_row(v, i)->scale) ||
                                (i > 0 && vectors_row(v, i)->passage <= vectors_row(v, i - 1)->passage))
                        return false;
        return XXH3_64bits(v->map + v->head.rows_at, v->n_bytes - v->head.rows_at) ==
               v->head.rows_hash;
}

static int check(struct vectors *v, struct index_error *err) {
        if (v->n_bytes < sizeof(v->head))
                return complain(err, VECTORS_E_FOREIGN, "its file of vectors is something else");
        memcpy(&v->head, v->map, sizeof(v->head));
        if (v->head.magic != FILE_MAGIC)
                return complain(err, VECTORS_E_FOREIGN, "its file of vectors is something else");
        if (v->head.format != VECTORS_FORMAT)
                return complain(err, VECTORS_E_FOREIGN,
                                "its file of vectors has a format that this program does not "
                                "read");
        v->row_bytes = file_row_bytes(v->head.dimension);
        if (!head_is_sound(v) || !rows_are_sound(v))
                return complain(err, VECTORS_E_CORRUPT, "its file of vectors is damaged");
        memcpy(v->model, v->map + sizeof(v->head), v->head.n_model);
        return 0;
}

static int file_name(const char *folder, char *to, size_t n) {
        return snprintf(to, n, "%s/" VECTORS_FILE, folder) < (int)n ? 0 : -ENAMETOOLONG;
}

static int map_file(struct vectors *v, const char *folder, struct index_error *err) {
        char name[PATH_MAX];
        int r = file_name(folder, name, sizeof(name));
        int fd = r == 0 ? open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
        void *map = NULL;

        if (r == 0 && fd == -1)
                r = errno == ENOENT ? VECTORS_E_MISSING : -errno;
        if (r == 0 && fstat(fd, &v->seen) == -1)
                r = -errno;
        if (r == 0 && (!S_ISREG(v->seen.st_mode) || v->seen.st_size == 0))
                r = VECTORS_E_FOREIGN;
        if (r == 0) {
                v->n_bytes = (size_t)v->seen.st_size;
                map = mmap(NULL, v->n_bytes, PROT_READ, MAP_SHARED, fd, 0);
                r = map == MAP_FAILED ? -errno : 0;
        }
        if (fd != -1)
                close(fd);
        if (r == 0)
                v->map = map;
        return r == 0 ? 0 : complain(err, r, "its file of vectors cannot be read");
}

int vectors_open(const char *folder, struct index_error *err, struct vectors **ret_vectors) {
        struct vectors *v = calloc(1, sizeof(*v));
        int r = v ? map_file(v, folder, err) : -ENOMEM;

        if (r == 0)
                r = check(v, err);
        if (r == 0)
                *ret_vectors = v;
        else
                vectors_close(v);
        return r;
}

struct vectors *vectors_close(struct vectors *vectors) {
        if (vectors && vectors->map)
                munmap((void *)(uintptr_t)vectors->map, vectors->n_bytes);
        free(vectors);
        return NULL;
}

bool vectors_same(const struct vectors *v, const char *folder) {
        char name[PATH_MAX];
        struct stat now;

        return file_name(folder, name, sizeof(name)) == 0 && stat(name, &now) == 0 &&
               now.st_dev == v->seen.st_dev && now.st_ino == v->seen.st_ino &&
               now.st_mtim.tv_sec == v->seen.st_mtim.tv_sec &&
               now.st_mtim.tv_nsec == v->seen.st_mtim.tv_nsec;
}

const char *vectors_model(const struct vectors *vectors) {
        return vectors->model;
}

uint32_t vectors_dimension(const struct vectors *vectors) {
        return vectors->head.dimension;
}

uint32_t vectors_n(const struct vectors *vectors) {
        return vectors->head.n_rows;
}

int64_t vectors_find(const struct vectors *v, uint32_t passage, uint64_t hash) {
        uint32_t from = 0;
        uint32_t to = v->head.n_rows;

        while (from < to) {
                const uint32_t middle = from + (to - from) / 2;

                if (vectors_row(v, middle)->passage < passage)
                        from = middle + 1;
                else
                        to = middle;
        }
        if (from == v->head.n_rows || vectors_row(v, from)->passage != passage ||
                        vectors_row(v, from)->hash != hash)
                return -1;
        return from;
}

/* ---- scanning ------------------------------------------------------------------------------ */

struct vectors_scan {
        const struct vectors *vectors;
        float scores[];
};

bool file_quantise(const float *vector, uint32_t dimension, int8_t *to, float *ret_scale) {
        double sum = 0;
        float most = 0;

        for (uint32_t i = 0; i < dimension; i++) {
                sum += (double)vector[i] * vector[i];
                most = fmaxf(most, fabsf(vector[i]));
        }
        if (!(sum > 0) || !isfinite(sum) || !(most > 0))
                return false;
        memset(to, 0, file_stride(dimension));
        for (uint32_t i = 0; i < dimension; i++)
                to[i] = (int8_t)lrintf(vector[i] / most * 127);
        *ret_scale = (float)(most / 127 / sqrt(sum));
        return true;
}

/* The inner loop has a length that the compiler knows, and becomes SIMD. */
static int32_t dot(const int8_t *a, const int16_t *b, uint32_t stride) {
        int32_t sum = 0;

        for (uint32_t i = 0; i < stride; i += FILE_LANE) {
                int32_t part = 0;

                for (uint32_t k = 0; k < FILE_LANE; k++)
                        part += (int16_t)a[i + k] * b[i + k];
                sum += part;
        }
        return sum;
}

int vectors_scan_new(const struct vectors *v, const float *query, struct vectors_scan **ret) {
        const uint32_t stride = file_stride(v->head.dimension);
        struct vectors_scan *scan;
        int16_t wide[VECTORS_DIMENSION_MAX];
        int8_t bytes[VECTORS_DIMENSION_MAX];
        float scale;

        if (!file_quantise(query, v->head.dimension, bytes, &scale))
                return -EINVAL;
        scan = malloc(sizeof(*scan) + (size_t)v->head.n_rows * sizeof(scan->scores[0]));
        if (!scan)
                return -ENOMEM;
        for (uint32_t i = 0; i < stride; i++)
                wide[i] = bytes[i];
        scan->vectors = v;
        for (uint32_t i = 0; i < v->head.n_rows; i++) {
                const struct file_row *row = vectors_row(v, i);

                scan->scores[i] = (float)dot(row->v, wide, stride) * row->scale * scale;
        }
        *ret = scan;
        return 0;
}

struct vectors_scan *vectors_scan_free(struct vectors_scan *scan) {
        free(scan);
        return NULL;
}

static bool is_before(const struct index_near *a, const struct index_near *b) {
        return a->score != b->score ? a->score > b->score : a->passage < b->passage;
}

static int compare(const void *a, const void *b) {
        return is_before(a, b) ? -1 : is_before(b, a) ? 1 : 0;
}

/* The worst of those kept is on top, and gives way to a better one. */
static void sink(struct index_near *heap, size_t n, struct index_near one) {
        size_t at = 0;

        for (size_t child = 1; child < n; child = 2 * at + 1) {
                if (child + 1 < n && is_before(&heap[child], &heap[child + 1]))
                        child++;
                if (!is_before(&one, &heap[child]))
                        break;
                heap[at] = heap[child];
                at = child;
        }
        heap[at] = one;
}

static void swim(struct index_near *heap, size_t at, struct index_near one) {
        while (at > 0 && is_before(&heap[(at - 1) / 2], &one)) {
                heap[at] = heap[(at - 1) / 2];
                at = (at - 1) / 2;
        }
        heap[at] = one;
}

size_t vectors_scan_nearest(void *ctx, size_t n, struct index_near *to) {
        const struct vectors_scan *scan = ctx;
        size_t kept = 0;

        for (uint32_t i = 0; n > 0 && i < scan->vectors->head.n_rows; i++) {
                const struct file_row *row = vectors_row(scan->vectors, i);
                const struct index_near one = {row->passage, scan->scores[i], row->hash};

                if (kept < n)
                        swim(to, kept++, one);
                else if (is_before(&one, &to[0]))
                        sink(to, n, one);
        }
        qsort(to, kept, sizeof(*to), compare);
        return kept;
}
