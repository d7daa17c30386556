/*
 * state_path -- where the files of an instance lie when nobody says.
 */
#include "stages/common/state_path.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *home_folder(void) {
        const char *home = getenv("HOME");

        if (home && home[0] == '/')
                return home;
        const struct passwd *user = getpwuid(getuid());
        return user && user->pw_dir && user->pw_dir[0] == '/' ? user->pw_dir : NULL;
}

int state_default_path(const char *instance, const char *ending, char *buf, size_t n) {
        const char *state = getenv("STATE_DIRECTORY");
        const char *xdg = getenv("XDG_STATE_HOME");
        const char *home;
        int len;

        /* systemd separates several by colons; XDG says to ignore a relative path. */
        if (state && state[0] == '/') {
                len = snprintf(buf, n, "%.*s/%s%s", (int)strcspn(state, ":"), state, instance,
                                ending);
        } else if (xdg && xdg[0] == '/') {
                len = snprintf(buf, n, "%s/millrace/%s%s", xdg, instance, ending);
        } else {
                home = home_folder();
                if (!home)
                        return -ENOENT;
                len = snprintf(buf, n, "%s/.local/state/millrace/%s%s", home, instance, ending);
        }
        return len < 0 || (size_t)len >= n ? -ENAMETOOLONG : 0;
}
