#include "stages/engines/tokens/fit.h"

#include <math.h>
#include <string.h>

#define N TOKENS_PARTS_N
#define STEP_MAX 1.0     /* of a ratio, against what was expected */
#define SMALL_TOKENS 50.0 /* an answer to so many counts half: short prompts say little */

static_assert(N == CALIBRATION_PARTS, "a calibration has the parts of a count");

static double *pair(double *pairs, unsigned i, unsigned k) {
        return i >= k ? &pairs[i * (i + 1) / 2 + k] : &pairs[k * (k + 1) / 2 + i];
}

/* Cholesky's way; the belief keeps the matrix far from singular. False: no numbers to solve. */
static bool solve(const struct calibration *c, double ret[static N]) {
        double low[N][N] = {{0}}, mid[N];

        for (unsigned i = 0; i < N; i++) {
                for (unsigned k = 0; k <= i; k++) {
                        double sum = c->pairs[i * (i + 1) / 2 + k] + (i == k ? FIT_BELIEF : 0);
                        for (unsigned j = 0; j < k; j++)
                                sum -= low[i][j] * low[k][j];
                        if (i == k && !(sum > 0))
                                return false;
                        low[i][k] = i == k ? sqrt(sum) : sum / low[k][k];
                }
        }
        for (unsigned i = 0; i < N; i++) {
                mid[i] = c->parts[i] + FIT_BELIEF;
                for (unsigned j = 0; j < i; j++)
                        mid[i] -= low[i][j] * mid[j];
                mid[i] /= low[i][i];
        }
        for (unsigned i = N; i-- > 0;) {
                ret[i] = mid[i];
                for (unsigned j = i + 1; j < N; j++)
                        ret[i] -= low[j][i] * ret[j];
                ret[i] /= low[i][i];
        }
        for (unsigned i = 0; i < N; i++)
                if (!isfinite(ret[i]))
                        return false;
        return true;
}

static double bounded(double v, double low, double high) {
        return v < low ? low : v > high ? high : v;
}

void fit_solve(const struct calibration *c, struct fit *ret) {
        double factor[N];
        bool known = c->n > 0 && solve(c, factor);

        ret->n = known ? c->n : 0;
        for (unsigned i = 0; i < N; i++) {
                double least = i == TOKENS_CHAT ? 0 : FIT_FACTOR_MIN;
                ret->factor[i] = known ? bounded(factor[i], least, FIT_FACTOR_MAX) : 1.0;
        }
}

/* Older answers count less in the parts that this one has; the factors stay what they are. */
static void fade(struct calibration *c, const double share[static N], const double factor[static N]) {
        double keep[N];

        for (unsigned i = 0; i < N; i++)
                keep[i] = sqrt(1 - share[i] / FIT_MEMORY);
        for (unsigned i = 0; i < N; i++)
                for (unsigned k = 0; k <= i; k++)
                        *pair(c->pairs, i, k) *= keep[i] * keep[k];
        for (unsigned i = 0; i < N; i++) {
                c->parts[i] = FIT_BELIEF * (factor[i] - 1);
                for (unsigned k = 0; k < N; k++)
                        c->parts[i] += *pair(c->pairs, i, k) * factor[k];
        }
}

int fit_learn(struct calibration *c, const struct tokens_count *count, uint64_t counted) {
        double sum = 0, share[N], expected = 0, ratio, weight;
        struct fit fit;

        for (unsigned i = 0; i < N; i++)
                sum += (double)count->cost[i] / TOKENS_UNIT;
        ratio = sum > 0 ? (double)counted / sum : 0;
        if (ratio > FIT_RATIO_MAX || ratio * FIT_RATIO_MAX < 1)
                return FIT_E_UNLIKELY;
        fit_solve(c, &fit);
        if (fit.n == 0) {
                memset(c->pairs, 0, sizeof(c->pairs));
                memset(c->parts, 0, sizeof(c->parts));
                c->n = 0;
        }
        for (unsigned i = 0; i < N; i++) {
                share[i] = (double)count->cost[i] / TOKENS_UNIT / sum;
                expected += share[i] * fit.factor[i];
        }
        ratio = bounded(ratio, expected - STEP_MAX, expected + STEP_MAX);
        weight = sum / (sum + SMALL_TOKENS);
        fade(c, share, fit.factor);
        for (unsigned i = 0; i < N; i++) {
                for (unsigned k = 0; k <= i; k++)
                        *pair(c->pairs, i, k) += weight * share[i] * share[k];
                c->parts[i] += weight * share[i] * ratio;
        }
        c->n++;
        return 0;
}

uint64_t fit_tokens(const struct fit *fit, const struct tokens_count *count) {
        double sum = 0;

        for (unsigned i = 0; i < N; i++)
                sum += fit->factor[i] * (double)count->cost[i] / TOKENS_UNIT;
        return (uint64_t)ceil(sum - 1e-9);
}
