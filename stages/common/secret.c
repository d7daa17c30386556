#include "stages/common/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A key is one line; white space around it is the editor's. */
static int key_from_file(const char *path, char key[static SECRET_MAX]) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n;

        if (fd == -1)
                return -errno;
        n = read(fd, key, SECRET_MAX - 1);
        if (n < 0) {
                int error = -errno;
                close(fd);
                return error;
        }
        close(fd);
        while (n > 0 && (key[n - 1] == '\n' || key[n - 1] == '\r' || key[n - 1] == ' ' ||
                                        key[n - 1] == '\t'))
                n--;
        key[n] = '\0';
        return n > 0 ? 0 : -ENODATA;
}

/* What would end the header line or begin another. */
static bool key_is_clean(const char *key) {
        for (; *key; key++)
                if ((unsigned char)*key < 0x21 || (unsigned char)*key > 0x7e)
                        return false;
        return true;
}

static int key_find(const char *env, const char *file, char *why, size_t n_why,
                char key[static SECRET_MAX]) {
        const char *value = env ? getenv(env) : NULL;
        int r;

        if (env && (!value || !*value || strlen(value) >= SECRET_MAX)) {
                snprintf(why, n_why, "its key is missing: environment variable %.64s", env);
                return SECRET_E_UNUSABLE;
        }
        if (env) {
                memcpy(key, value, strlen(value) + 1);
                return 0;
        }
        r = key_from_file(file, key);
        if (r < 0)
                snprintf(why, n_why, "its key file cannot be read: %.64s",
                                r == -ENODATA ? "it is empty" : strerror(-r));
        return r < 0 ? SECRET_E_UNUSABLE : 0;
}

int secret_header(const char *env, const char *file, char *why, size_t n_why, char **ret_header) {
        char key[SECRET_MAX];
        char *header;
        int r;

        if (!env && !file) {
                *ret_header = NULL;
                return 0;
        }
        r = key_find(env, file, why, n_why, key);
        if (r)
                return r;
        if (!key_is_clean(key)) {
                snprintf(why, n_why, "its key has characters that no key has");
                return SECRET_E_UNUSABLE;
        }
        r = asprintf(&header, "Authorization: Bearer %s", key);
        explicit_bzero(key, sizeof(key));
        if (r < 0)
                return -ENOMEM;
        *ret_header = header;
        return 0;
}

char *secret_free(char *header) {
        if (header)
                explicit_bzero(header, strlen(header));
        free(header);
        return NULL;
}
