/*
 * dlq_cmd -- what the parts of `millrace dlq` share.
 *
 * Shape   dlq.c has the options, list and drop; dlq_letter.c reads and prints a letter; dlq_replay.c asks a
 *         daemon again
 * Owner   strings of the options point into argv
 * Errors  the verbs return the command's exit code, and have said why on stderr
 */
#pragma once

#include "cli/cli.h"
#include "stages/common/record.h"
#include "stages/engines/store/letters.h"

struct dlq_options {
        const char *database, *socket;
        bool json, all;
        char *const *ids;
        int n_ids;
};

/* A letter with its request decoded; everything lives as long as the letter, and until the next one. */
struct dlq_letter {
        const struct letter *letter;
        struct record_decoder decoder;
        struct record record;  /* nothing in it when `whole` is not set */
        struct mr_view body;   /* n 0: not known (a list: see body_len) */
        uint32_t body_len;
        bool whole; /* the request is there */
};

int dlq_letter_init(struct dlq_letter *l); /* 0 or -ENOMEM */
void dlq_letter_close(struct dlq_letter *l);
void dlq_letter_read(struct dlq_letter *l, const struct letter *letter);
/* One line; one JSON object on one. */
void dlq_letter_print_line(const struct dlq_letter *l, bool json);
/* Everything. */
void dlq_letter_print(const struct dlq_letter *l, bool json);
/* `system`, `interactive`, `default` or `bulk`. */
const char *dlq_letter_priority(const struct dlq_letter *l);

/* Submits the newest letter of each id anew and drops it when that is accepted. */
int dlq_replay(struct store *store, const struct dlq_options *options);
