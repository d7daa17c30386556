#include "stages/common/title.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static_assert(LANES_MAX <= 10, "a lane is one digit: else a standby's title has no room for it");

void title_worker(char ret[static TITLE_BYTES], enum mr_role role, const char *instance, uint32_t lane) {
        if (role < LANE_STAGES_N)
                snprintf(ret, TITLE_BYTES, "millrace-%s: %s lane %u", mr_role_name(role), instance,
                                lane);
        else
                snprintf(ret, TITLE_BYTES, "millrace-%s: %s", mr_role_name(role), instance);
}

void title_standby(char ret[static TITLE_BYTES], enum mr_role role, const char *instance) {
        snprintf(ret, TITLE_BYTES, "millrace-standby: %s %s", instance, mr_role_name(role));
}

void title_set(char *argv0, const char *title) {
        size_t room = strlen(argv0), len = strlen(title);

        if (len > room)
                len = room;
        memcpy(argv0, title, len);
        memset(argv0 + len, 0, room - len);
}
