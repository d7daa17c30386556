/*
 * millrace-supervisor -- the options of `millrace run`.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "supervisor/daemon.h"

static const char usage[] =
                "usage: millrace run [-c FILE] [--set KEY=VALUE]... [-s PATH] [--discard] "
                "[--exe-dir DIR]\n"
                "\n"
                "Runs the daemon in the foreground until SIGTERM or SIGINT, which let it finish "
                "what it has\n"
                "admitted; a second one stops it at once, SIGHUP reloads the configuration.\n"
                "\n"
                "  -c, --config FILE    the configuration; without it every setting has its "
                "default\n"
                "      --set KEY=VALUE  one setting, as KEY: VALUE in the file would do; wins over "
                "the file\n"
                "  -s, --socket PATH    the socket for clients; the control socket is PATH.ctl\n"
                "      --discard        gives up what a dead instance of the same name has left "
                "behind\n"
                "      --exe-dir DIR    where the stages' programs lie\n"
                "  -h, --help           this text\n"
                "      --version        the version\n";

enum { OPTION_SET = 256, OPTION_DISCARD, OPTION_EXE_DIR, OPTION_VERSION };

static const struct option options[] = {
                {"config", required_argument, NULL, 'c'},
                {"set", required_argument, NULL, OPTION_SET},
                {"socket", required_argument, NULL, 's'},
                {"discard", no_argument, NULL, OPTION_DISCARD},
                {"exe-dir", required_argument, NULL, OPTION_EXE_DIR},
                {"help", no_argument, NULL, 'h'},
                {"version", no_argument, NULL, OPTION_VERSION},
                {0},
};

#ifdef MR_FAULTS
#define VERSION_TEXT "millrace " MR_VERSION "\nfaults: on\n"
#else
#define VERSION_TEXT "millrace " MR_VERSION "\n"
#endif

static int bad_usage(void) {
        fputs(usage, stderr);
        return 2;
}

/* -1: go on; else the exit code. */
static int parse(int argc, char **argv, struct daemon_options *ret) {
        int c;

        while ((c = getopt_long(argc, argv, "c:s:h", options, NULL)) != -1) {
                switch (c) {
                case 'c':
                        ret->config = optarg;
                        break;
                case 's':
                        ret->socket = optarg;
                        break;
                case OPTION_SET:
                        if (ret->n_sets == DAEMON_SETS_MAX) {
                                fprintf(stderr, "millrace run: more than %d --set\n",
                                                DAEMON_SETS_MAX);
                                return 2;
                        }
                        ret->sets[ret->n_sets++] = optarg;
                        break;
                case OPTION_DISCARD:
                        ret->discard = true;
                        break;
                case OPTION_EXE_DIR:
                        ret->exe_dir = optarg;
                        break;
                case 'h':
                        fputs(usage, stdout);
                        return 0;
                case OPTION_VERSION:
                        fputs(VERSION_TEXT, stdout);
                        return 0;
                default:
                        return bad_usage();
                }
        }
        if (optind < argc) {
                fprintf(stderr, "millrace run: unexpected argument \"%s\"\n", argv[optind]);
                return bad_usage();
        }
        return -1;
}

/* A socket that became descriptor 2 would get the log. */
static int open_standard_descriptors(void) {
        for (int fd = 0; fd <= 2; fd++)
                if (fcntl(fd, F_GETFD) == -1 && errno == EBADF && open("/dev/null", O_RDWR) != fd)
                        return -1;
        return 0;
}

int main(int argc, char **argv) {
        static struct daemon_options parsed;
        int code;

        if (open_standard_descriptors())
                return 1;
        code = parse(argc, argv, &parsed);
        return code >= 0 ? code : daemon_run(&parsed);
}
