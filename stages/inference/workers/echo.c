/*
 * echo -- answers with the last user message, byte for byte, untouched by any template.
 *
 * The text comes straight out of the client's body, a word at a time; without a gap as many deltas
 * as fit go into one commit.
 */
#include "stages/inference/attempt.h"
#include "stages/inference/emit.h"
#include "stages/inference/inference.h"
#include "stages/inference/request_body.h"
#include "stages/inference/routes.h"

#define PIECE_BYTES 4096u

static void pause_until(struct flight *f, uint64_t ms) {
        loop_timer_set(f->inf->w->loop, &f->u.echo.timer, clock_now_ns() + ms * NS_PER_MS);
}

static void echo_fail(struct flight *f, int r) {
        if (r == SAID_E_GONE)
                flight_fail(f, MR_E_cancelled, 0, "the request has ended already");
        else
                flight_fail(f, MR_E_internal, 0, "the request's body is not where its record says");
}

static void echo_resume(struct flight *f) {
        uint64_t gap_ms = f->backend->settings->gap_ms;
        uint64_t limit = f->inf->w->settings->admission.max_response_bytes;
        char piece[PIECE_BYTES];

        for (uint32_t i = 0; i < WORKER_SLICE; i++) {
                struct said before = f->u.echo.said;
                uint32_t n;
                int r = said_piece(&f->u.echo.said, f, piece, sizeof(piece), &n);
                if (r == SAID_E_END) {
                        flight_done(f, "stop", 4);
                        return;
                }
                if (r) {
                        echo_fail(f, r);
                        return;
                }
                if (f->answer_bytes + n > limit) {
                        flight_fail(f, MR_E_too_large, 0, "the answer is larger than %llu bytes",
                                        (unsigned long long)limit);
                        return;
                }
                if (emit_delta(f, &(struct emit_delta){.text = {piece, n}})) {
                        f->u.echo.said = before;
                        flight_wait(f);
                        return;
                }
                if (gap_ms) {
                        pause_until(f, gap_ms);
                        return;
                }
        }
        flight_yield(f);
}

static void timer_over(struct loop_timer *timer) {
        struct flight *f = timer->owner;

        slab_active(&f->inf->slab, f->slot);
        echo_resume(f);
        slab_active(&f->inf->slab, SLAB_NONE);
}

static void echo_start(struct flight *f) {
        struct echo_state *echo = &f->u.echo;
        struct body_marks marks;
        int r = request_body_marks(f, &marks);

        if (r || marks.last_user.len > request_body_len(f) ||
                        marks.last_user.off > request_body_len(f) - marks.last_user.len) {
                echo_fail(f, -1);
                return;
        }
        said_init(&echo->said, marks.last_user.off, marks.last_user.len);
        echo->timer.fn = timer_over;
        echo->timer.owner = f;
        if (f->backend->settings->delay_ms)
                pause_until(f, f->backend->settings->delay_ms);
        else
                echo_resume(f);
}

static void echo_cancel(struct flight *f) {
        loop_timer_clear(f->inf->w->loop, &f->u.echo.timer);
}

const struct worker_kind worker_echo = {
                .name = "echo",
                .start = echo_start,
                .resume = echo_resume,
                .cancel = echo_cancel,
};
