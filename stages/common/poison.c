#include "stages/common/poison.h"

#include <stdio.h>
#include <string.h>

void poison_error(const struct worker *w, uint32_t strikes, struct poison_error *ret) {
        int n = snprintf(ret->message, sizeof(ret->message),
                        "%s died %u times with this request at hand", w->ops->name, strikes);

        ret->record = (struct record){.has = HAS(code) | HAS(message) | HAS(letter_stage) |
                                             HAS(letter_strikes) | HAS(letter_signal),
                        .code = MR_E_dead_letter,
                        .message = {ret->message, (uint32_t)n},
                        .letter_stage = w->ops->role,
                        .letter_strikes = strikes,
                        .letter_signal = w->hello.signal};
}

void poison_given_up(struct worker *w, uint64_t req_id, uint32_t strikes) {
        const struct channel_given_up message = {.strikes = strikes};

        counters_add(w->counters, COUNTER_dead_letters, 1);
        log_error("dead_letter", "req_id=%llu strikes=%u signal=%u", (unsigned long long)req_id,
                        strikes, w->hello.signal);
        /* A full channel costs the stage some of its budget, and nobody an answer. */
        (void)channel_send(CHANNEL_FD, CHANNEL_GIVEN_UP, 0, &message, sizeof(message), -1);
}
