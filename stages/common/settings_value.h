/*
 * settings_value -- one value of a row, read and written without knowing which member it is.
 *
 * Shape   a row says type and offset; these say how the bytes there are read
 * Units   none
 * Owner   for those who walk the rows: settings.c, settings_pack.c, the supervisor's configuration
 * Errors  0 or -ENOMEM
 * Limits  none of their own
 */
#pragma once

#include <assert.h>
#include <string.h>

#include "stages/common/settings.h"

/* settings_workers and settings_models are the same but for the type of the element. */
struct settings_elements {
        void *v;
        uint32_t n;
};
static_assert(sizeof(struct settings_elements) == sizeof(struct settings_workers),
              "workers are read through struct settings_elements");
static_assert(sizeof(struct settings_elements) == sizeof(struct settings_models),
              "models are read through struct settings_elements");

/* Every enum of the table is read and written as this one. */
static_assert(sizeof(enum settings_pin) == sizeof(uint32_t), "an enum is 32 bits wide");

/* The shape of an element, or of what an endpoint points to; NULL for a row of any other type. */
const struct settings_shape *settings_row_shape(const struct settings_row *row);

/* The last segment of a row's path when the row stands directly in the section, else NULL. */
const char *settings_key_in(const struct settings_row *row, const char *section);

/* Frees what a value holds and leaves it empty. */
void settings_row_clear(const struct settings_row *row, void *value);

/* Puts a copy of a text there, or NULL; what stood there is not freed. */
int settings_text_set(void *value, const char *text, size_t len);

static inline const char *settings_text(const void *value) {
        char *text;

        memcpy(&text, value, sizeof(text));
        return text;
}

static inline void *settings_pointer(const void *value) {
        void *pointer;

        memcpy(&pointer, value, sizeof(pointer));
        return pointer;
}

static inline double settings_f64(const void *value) {
        double number;

        memcpy(&number, value, sizeof(number));
        return number;
}

static inline struct settings_elements settings_elements(const void *value) {
        struct settings_elements e;

        memcpy(&e, value, sizeof(e));
        return e;
}

static inline void *settings_element(const struct settings_shape *shape, struct settings_elements e,
                                     uint32_t i) {
        return (char *)e.v + (size_t)i * shape->bytes;
}

/* U64, AUTO_U64, BOOL and ENUM. */
static inline uint64_t settings_number(const struct settings_row *row, const void *value) {
        uint64_t number;
        uint32_t word;
        bool truth;

        if (row->type == SETTINGS_ENUM) {
                memcpy(&word, value, sizeof(word));
                return word;
        }
        if (row->type == SETTINGS_BOOL) {
                memcpy(&truth, value, sizeof(truth));
                return truth;
        }
        memcpy(&number, value, sizeof(number));
        return number;
}

static inline void settings_number_set(const struct settings_row *row, void *value,
                                       uint64_t number) {
        uint32_t word = (uint32_t)number;
        bool truth = number != 0;

        if (row->type == SETTINGS_ENUM)
                memcpy(value, &word, sizeof(word));
        else if (row->type == SETTINGS_BOOL)
                memcpy(value, &truth, sizeof(truth));
        else
                memcpy(value, &number, sizeof(number));
}
