/*
 * vectors_write -- writing: rows gathered in memory, saved as one new file in the old one's place.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include <xxhash.h>

#include "stages/engines/index/buffer.h"
#include "stages/engines/vectors/file.h"
#include "stages/engines/vectors/vectors.h"

struct vectors_table {
        char model[VECTORS_MODEL_MAX + 1];
        uint32_t dimension;
        uint32_t n_rows;
        struct buffer rows;
};

int vectors_lock(const char *folder, int *ret_fd) {
        int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int r = 0;

        if (fd == -1)
                return -errno;
        if (flock(fd, LOCK_EX | LOCK_NB) == -1)
                r = errno == EWOULDBLOCK ? VECTORS_E_LOCKED : -errno;
        if (r != 0)
                close(fd);
        else
                *ret_fd = fd;
        return r;
}

int vectors_table_new(const char *model, uint32_t dimension, struct vectors_table **ret_table) {
        struct vectors_table *table;

        if (dimension == 0 || dimension > VECTORS_DIMENSION_MAX ||
                        strlen(model) > VECTORS_MODEL_MAX)
                return -EINVAL;
        table = calloc(1, sizeof(*table));
        if (!table)
                return -ENOMEM;
        memcpy(table->model, model, strlen(model));
        table->dimension = dimension;
        *ret_table = table;
        return 0;
}

struct vectors_table *vectors_table_free(struct vectors_table *table) {
        if (table)
                buffer_clear(&table->rows);
        free(table);
        return NULL;
}

static int row_reserve(struct vectors_table *table, struct file_row **ret_row) {
        const size_t bytes = file_row_bytes(table->dimension);
        int r = table->n_rows < VECTORS_ROWS_MAX ? buffer_reserve(&table->rows, bytes) : -ENOMEM;

        if (r == 0)
                *ret_row = (struct file_row *)(void *)(table->rows.data + table->rows.n_bytes);
        return r;
}

static void row_keep(struct vectors_table *table) {
        table->rows.n_bytes += file_row_bytes(table->dimension);
        table->n_rows++;
}

int vectors_table_add(struct vectors_table *table, uint32_t passage, uint64_t hash,
                const float *vector) {
        struct file_row *row;
        int r = row_reserve(table, &row);

        if (r != 0)
                return r;
        *row = (struct file_row){.passage = passage, .hash = hash};
        if (!file_quantise(vector, table->dimension, row->v, &row->scale))
                return -EINVAL;
        row_keep(table);
        return 0;
}

int vectors_table_copy(struct vectors_table *table, const struct vectors *vectors, uint32_t from) {
        struct file_row *row;
        int r = vectors_dimension(vectors) == table->dimension ? row_reserve(table, &row) : -EINVAL;

        if (r != 0)
                return r;
        memcpy(row, vectors_row(vectors, from), file_row_bytes(table->dimension));
        row_keep(table);
        return 0;
}

/* ---- saving -------------------------------------------------------------------------------- */

static int by_passage(const void *a, const void *b) {
        const struct file_row *x = a;
        const struct file_row *y = b;

        return (x->passage > y->passage) - (x->passage < y->passage);
}

static int write_all(int fd, const void *data, size_t n) {
        const char *at = data;

        while (n > 0) {
                ssize_t put = write(fd, at, n);

                if (put < 0 && errno == EINTR)
                        continue;
                if (put < 0)
                        return -errno;
                at += put;
                n -= (size_t)put;
        }
        return 0;
}

static int write_file(const struct vectors_table *table, int fd) {
        static const char zero[64];
        struct file_head head = {.magic = FILE_MAGIC,
                        .format = VECTORS_FORMAT,
                        .dimension = table->dimension,
                        .n_rows = table->n_rows,
                        .n_model = (uint32_t)strlen(table->model)};
        const size_t named = sizeof(head) + head.n_model;
        int r;

        head.rows_at = (named + 63) / 64 * 64;
        head.rows_hash = XXH3_64bits(table->rows.data, table->rows.n_bytes);
        head.head_hash = file_head_hash(&head, table->model);
        r = write_all(fd, &head, sizeof(head));
        if (r == 0)
                r = write_all(fd, table->model, head.n_model);
        if (r == 0)
                r = write_all(fd, zero, head.rows_at - named);
        if (r == 0)
                r = write_all(fd, table->rows.data, table->rows.n_bytes);
        if (r == 0 && fdatasync(fd) == -1)
                r = -errno;
        return r;
}

int vectors_table_save(struct vectors_table *table, const char *folder, struct index_error *err) {
        char name[PATH_MAX];
        char fresh[PATH_MAX];
        int fd = -1;
        int r = 0;

        if (table->n_rows == 0)
                return vectors_remove(folder);
        qsort(table->rows.data, table->n_rows, file_row_bytes(table->dimension), by_passage);
        if (snprintf(name, sizeof(name), "%s/" VECTORS_FILE, folder) >= (int)sizeof(name) ||
                        snprintf(fresh, sizeof(fresh), "%s/" VECTORS_FILE ".new", folder) >=
                                        (int)sizeof(fresh))
                return -ENAMETOOLONG;
        fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd == -1)
                r = -errno;
        if (r == 0)
                r = write_file(table, fd);
        if (fd != -1)
                close(fd);
        if (r == 0 && rename(fresh, name) == -1)
                r = -errno;
        if (r != 0 && err)
                snprintf(err->text, sizeof(err->text), "its file of vectors cannot be written: %s",
                                strerror(-r));
        return r;
}

int vectors_remove(const char *folder) {
        char name[PATH_MAX];

        if (snprintf(name, sizeof(name), "%s/" VECTORS_FILE, folder) >= (int)sizeof(name))
                return -ENAMETOOLONG;
        return unlink(name) == -1 && errno != ENOENT ? -errno : 0;
}
