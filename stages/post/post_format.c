/*
 * post_format: an answer's texts on their way through what bounds and changes their form.
 */
#include <stdio.h>
#include <string.h>

#include "stages/post/post_own.h"

/* ---- max_tokens ---- */

/* Who counts tokens of its own holds to max_tokens itself. One that does not, says more pieces than it may have
 * tokens, and a third more of them by the bytes, four to each: a piece may be less than a word, so words say nothing. */
static bool is_beyond(const struct post_bounds *bounds) {
        uint64_t most = (uint64_t)bounds->max_tokens * TOKENS_UNIT;

        return bounds->pieces > bounds->max_tokens && bounds->cost >= most + most / 3;
}

static uint64_t cost_of(const char *text, uint32_t n) {
        struct tokens_count count = {{0}};
        uint64_t cost = 0;

        tokens_count(&count, text, n);
        for (unsigned part = 0; part < TOKENS_PARTS_N; part++)
                cost += count.cost[part];
        return cost;
}

/* Where the word ends that begins here, with the white space behind it. */
static uint32_t word_end(struct mr_view text, uint32_t at) {
        while (at < text.n && text.p[at] != ' ' && text.p[at] != '\n')
                at++;
        while (at < text.n && (text.p[at] == ' ' || text.p[at] == '\n'))
                at++;
        return at;
}

bool post_bound(struct post_bounds *bounds, struct mr_view *text) {
        uint64_t most = (uint64_t)bounds->max_tokens * TOKENS_UNIT, cost;

        if (bounds->max_tokens == 0)
                return false;
        bounds->pieces++;
        if (!(bounds->flags & POST_ESTIMATED)) {
                if (is_beyond(bounds)) {
                        text->n = 0;
                        return true;
                }
                bounds->cost += (uint64_t)text->n * (TOKENS_UNIT / 4);
                return false;
        }
        for (uint32_t at = 0, end; at < text->n; at = end) {
                end = word_end(*text, at);
                cost = cost_of(text->p + at, end - at);
                if (bounds->cost + cost > most) {
                        text->n = at;
                        return true;
                }
                bounds->cost += cost;
        }
        return false;
}

/* ---- texts ---- */

void post_drop_logprobs(struct record *record) {
        if (record->has & HAS(extra) && memmem(record->extra.p, record->extra.n, "logprobs", 8))
                record->has &= ~HAS(extra);
}

static void end_invalid(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                const char *why) {
        char message[128];

        snprintf(message, sizeof(message), "the answer is not what response_format asks for: %s", why);
        post_fail(w, msg, next, MR_E_upstream_error, message);
}

bool post_format_text(struct worker *w, const struct ring_msg *msg, struct slab_version *next,
                struct record *record, struct mr_view text, bool last) {
        struct post *post = w->stage;
        struct format *f = post->format;
        uint16_t choice = record->has & HAS(choice) ? (uint16_t)record->choice : 0;
        int e = format_feed(f, choice, text.p, text.n, last);

        if (e == FORMAT_E_LARGE) {
                post_fail(w, msg, next, MR_E_too_large, "the answer has too many choices to be formatted");
                return false;
        }
        if (f->n_out != text.n || memcmp(f->out, text.p, text.n) != 0)
                post_drop_logprobs(record);
        if (!post_go_on(w, msg, next, record, HOLD_TEXT, (struct mr_view){f->out, f->n_out}))
                return false;
        if (e == FORMAT_E_INVALID) {
                end_invalid(w, msg, next, f->why);
                return false;
        }
        if (e == FORMAT_E_STOPPED && !last && !(post_state_of(next)->bounds.flags & POST_CHOICES)) {
                post_end(w, msg, next, POST_STOPPED);
                return false;
        }
        return true;
}

/* JSON was asked for, and the first choice said nothing at all. */
static bool is_empty(const struct post *post, const struct post_bounds *bounds) {
        const struct format *f = post->format;
        bool any = false;

        for (uint32_t i = 0; i < f->n_streams; i++)
                any |= f->streams[i].choice == 0;
        return f->plan->schema && !any && !(bounds->flags & POST_OTHER);
}

bool post_format_flush(struct worker *w, const struct ring_msg *msg, struct slab_version *next) {
        struct post *post = w->stage;
        struct format *f = post->format;
        struct record rest;

        for (uint32_t i = 0; i < f->n_streams; i++) {
                rest = post_delta_of(f->streams[i].choice, HOLD_TEXT);
                if (!post_format_text(w, msg, next, &rest, (struct mr_view){"", 0}, true))
                        return false;
        }
        if (!is_empty(post, &post_state_of(next)->bounds))
                return true;
        end_invalid(w, msg, next, "it is empty");
        return false;
}
