/*
 * file -- how a file of vectors is laid out (vectors.h), for those who read and who write it.
 */
#pragma once

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#define FILE_MAGIC UINT64_C(0x53524f544345564d) /* "MVECTORS" */
/* Numbers that are taken at once. A loop of 16 gcc -O3 unrolls, and then makes no SIMD of it: six
 * times slower. */
#define FILE_LANE 32u

struct file_head {
        uint64_t magic;
        uint32_t format;
        uint32_t dimension;
        uint32_t n_rows;
        uint32_t n_model;   /* bytes of the model's name, which follows the head */
        uint64_t rows_at;   /* where the rows begin: a multiple of 64 */
        uint64_t rows_hash; /* XXH3 of all rows */
        uint8_t zero[80];
        uint64_t head_hash; /* XXH3 of the head before this, then of the name */
};
static_assert(sizeof(struct file_head) == 128, "the file's format: raise VECTORS_FORMAT");

struct file_row {
        uint32_t passage;
        float scale; /* a number of the vector is its byte times this */
        uint64_t hash;
        int8_t v[]; /* file_stride() */
};
static_assert(sizeof(struct file_row) == 16, "the file's format: raise VECTORS_FORMAT");

static inline uint32_t file_stride(uint32_t dimension) {
        return (dimension + FILE_LANE - 1) / FILE_LANE * FILE_LANE;
}
static inline uint64_t file_row_bytes(uint32_t dimension) {
        return sizeof(struct file_row) + file_stride(dimension);
}

struct vectors;
const struct file_row *vectors_row(const struct vectors *vectors, uint64_t i);
uint64_t file_head_hash(const struct file_head *head, const char *model);
/* Bytes and scale of a vector made as long as 1; false: it has no length. */
bool file_quantise(const float *vector, uint32_t dimension, int8_t *to, float *ret_scale);
