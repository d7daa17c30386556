#include "cli/plain.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "stages/common/state_path.h"
#include "supervisor/config.h"

void plain_when(int64_t ms, char to[static PLAIN_WHEN_BYTES]) {
        time_t s = ms / 1000;
        struct tm tm;

        if (!gmtime_r(&s, &tm) || strftime(to, PLAIN_WHEN_BYTES, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
                snprintf(to, PLAIN_WHEN_BYTES, "%lld", (long long)ms);
}

void plain_print(const char *p, uint32_t n) {
        for (uint32_t i = 0; i < n; i++)
                putchar((uint8_t)p[i] < ' ' || p[i] == 0x7f ? ' ' : p[i]);
}

void plain_column(const char *p, uint32_t n, int width) {
        plain_print(n ? p : "-", n ? n : 1);
        printf("%*s", width > (int)n ? width - (int)(n ? n : 1) : 0, "");
        putchar(' ');
}

int plain_database(const char *command, const char *config, const char *without,
                char path[static PATH_MAX]) {
        __attribute__((cleanup(settings_freep))) struct settings *s = NULL;
        struct config_error err;
        int r = config_load(config, NULL, 0, &s, &err);

        if (r) {
                cli_error(command, "%s", r == CONFIG_E_INVALID ? err.line : strerror(-r));
                return r == CONFIG_E_INVALID ? CLI_USAGE : CLI_FAILED;
        }
        if (strcmp(s->stream.database, "none") == 0) {
                cli_error(command, "stream.database: none: %s", without);
                return CLI_FAILED;
        }
        if (strcmp(s->stream.database, "auto") == 0)
                r = state_default_path(s->instance, ".db", path, PATH_MAX);
        else
                r = snprintf(path, PATH_MAX, "%s", s->stream.database) < PATH_MAX ? 0
                                                                                 : -ENAMETOOLONG;
        if (r == 0)
                return CLI_DONE;
        cli_error(command, "there is no folder for a database: use --database FILE");
        return CLI_USAGE;
}
