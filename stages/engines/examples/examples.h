/*
 * examples -- questions with the answers that they should have, from a file.
 *
 * Shape   YAML: a list of maps with `user` and `assistant`; a file .jsonl: such an object on each line
 * Units   bytes of UTF-8
 * Owner   whoever called examples_load(); examples_clear() takes {0} and what was cleared
 * Errors  0, -errno of the file, EXAMPLES_E_INVALID (*err says what and on which line)
 * Limits  EXAMPLES_MAX of them, files of EXAMPLES_FILE_BYTES_MAX bytes
 */
#pragma once

#include <stdint.h>

#define EXAMPLES_MAX 4096u
#define EXAMPLES_FILE_BYTES_MAX 4194304u
#define EXAMPLES_ALL_BYTES_MAX 65536u /* of messages, where all go into each prompt */

enum examples_code { EXAMPLES_E_INVALID = 1 };

struct examples_text {
        char *p;
        uint32_t n;
};

struct example {
        struct examples_text user, assistant;
        struct examples_text messages; /* both as messages of a chat, JSON, with a comma between them */
};

struct examples {
        struct example *v;
        uint32_t n, cap;
        uint64_t digest; /* of the file */
};

struct examples_error {
        uint32_t line; /* from 1 */
        char text[192];
};

int examples_load(const char *path, struct examples *ret, struct examples_error *err);
void examples_clear(struct examples *examples);
