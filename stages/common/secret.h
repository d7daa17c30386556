/*
 * secret -- the key of a foreign service, as the settings name it, and the line that carries it.
 *
 * Shape   an environment variable or a file that holds the key and nothing else
 * Units   bytes
 * Owner   the header line is the caller's: secret_free()
 * Errors  0, -ENOMEM, or SECRET_E_UNUSABLE with a few words in `why`; the key is never in them
 * Limits  SECRET_MAX bytes, printable ASCII without blanks
 */
#pragma once

#include <stddef.h>

#define SECRET_MAX 4096u

enum {
        SECRET_E_UNUSABLE = 1, /* missing, unreadable, or no key */
};

/* "Authorization: Bearer KEY"; NULL where neither is given. */
int secret_header(const char *env, const char *file, char *why, size_t n_why, char **ret_header);
/* Wiped first. */
char *secret_free(char *header);
