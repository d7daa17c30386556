/*
 * screening -- what a client asks, and what was retrieved for it, looked at before it becomes a prompt.
 *
 * Shape   struct screening: the lists, the tripwires, and room for texts; one call for a request
 * Units   bytes; scores 0 to 1
 * Owner   one for the process
 * Errors  0, -errno, SCREENING_E_*
 * Limits  all messages but the assistant's, texts of any length; SCREENING_DOCUMENTS documents
 */
#pragma once

#include "shm/arena.h"
#include "shm/counters.h"
#include "stages/common/record.h"
#include "stages/common/settings.h"
#include "stages/engines/redact/screen.h"

#define SCREENING_DOCUMENTS 128u

enum screening_error {
        SCREENING_E_REFUSED = 1, /* the request ends here */
        SCREENING_E_GONE,        /* the body is not in its arena any more */
};

struct screening;

/* *ret NULL: nothing is looked for. -EINVAL: *why. */
int screening_new(const struct settings *settings, struct screening **ret, struct redact_why *why);
struct screening *screening_free(struct screening *s);
/* Says in the record what was found, and leaves out documents that are not to be used. What it puts there lives until
 * the next call. counters NULL: it is the same request again. */
int screening_run(struct screening *s, struct record *record, const struct arena_view *arena,
                struct record_decoder *decoder, struct counters_shm *counters);
