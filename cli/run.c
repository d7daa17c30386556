/*
 * millrace run -- becomes the supervisor, which lies beside this program or in ../libexec/millrace.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

/* The path of the supervisor, if it is there. */
static bool find(const char *own_folder, const char *where, char *path, size_t n) {
        int len = snprintf(path, n, "%s/%smillrace-supervisor", own_folder, where);

        return len > 0 && (size_t)len < n && access(path, X_OK) == 0;
}

int cmd_run(int argc, char **argv) {
        char title[] = "millrace run";
        char own[PATH_MAX], path[PATH_MAX];
        ssize_t len = readlink("/proc/self/exe", own, sizeof(own) - 1);

        if (argc < 1 || len <= 0) {
                cli_error("run", "cannot find out where this program lies: %s", strerror(errno));
                return CLI_FAILED;
        }
        own[len] = '\0';
        *strrchr(own, '/') = '\0';
        if (!find(own, "../libexec/millrace/", path, sizeof(path)) &&
                        !find(own, "", path, sizeof(path))) {
                cli_error("run",
                                "cannot find millrace-supervisor in %s/../libexec/millrace or in "
                                "%s",
                                own, own);
                return CLI_FAILED;
        }
        argv[0] = title; /* for lists of processes, and for messages about options */
        execv(path, argv);
        cli_error("run", "cannot execute %s: %s", path, strerror(errno));
        return CLI_FAILED;
}
