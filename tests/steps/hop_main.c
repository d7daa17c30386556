/*
 * Kills a stage at every instruction and says what came of it: one line of numbers. Exit status 0 when nothing
 * was found; with --mutant KIND when something was, and the first finding is of that kind.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/steps/hop.h"

static bool number_of(const char *text, uint32_t *ret) {
        char *end;
        unsigned long n = strtoul(text, &end, 10);

        if (end == text || *end != '\0' || n > UINT32_MAX)
                return false;
        *ret = (uint32_t)n;
        return true;
}

static int usage(const char *program) {
        fprintf(stderr, "usage: %s [--every N] [--second N] [--kills N] "
                        "[--mutant lost|doubled|wrong|stuck|died]\n", program);
        return 2;
}

/* The finding's count by its name; NULL: there is no such kind. */
static const uint64_t *kind_of(const char *name) {
        const struct hop_verdict *v = &hop.verdict;

        return strcmp(name, "lost") == 0      ? &v->n_lost
               : strcmp(name, "doubled") == 0 ? &v->n_doubled
               : strcmp(name, "wrong") == 0   ? &v->n_wrong
               : strcmp(name, "stuck") == 0   ? &v->n_stuck
               : strcmp(name, "died") == 0    ? &v->n_died
                                              : NULL;
}

static void print(const struct hop_verdict *v) {
        printf("steps stage=%s points=%llu states=%llu second=%llu killed=%llu lives=%llu "
               "restarted=%llu reruns=%llu letters=%llu lost=%llu doubled=%llu wrong=%llu stuck=%llu died=%llu\n",
                        hop_case.name, (unsigned long long)v->n_points,
                        (unsigned long long)v->n_states, (unsigned long long)v->n_second,
                        (unsigned long long)v->n_killed, (unsigned long long)v->n_lives,
                        (unsigned long long)v->n_restarted, (unsigned long long)v->n_reruns,
                        (unsigned long long)v->n_letters,
                        (unsigned long long)v->n_lost, (unsigned long long)v->n_doubled,
                        (unsigned long long)v->n_wrong, (unsigned long long)v->n_stuck,
                        (unsigned long long)v->n_died);
}

int main(int argc, char **argv) {
        struct hop_plan plan = {.every = 1, .enough = 20};
        const uint64_t *mutant = NULL;

        for (int i = 1; i < argc; i++) {
                uint32_t *to = strcmp(argv[i], "--every") == 0    ? &plan.every
                               : strcmp(argv[i], "--second") == 0 ? &plan.second
                               : strcmp(argv[i], "--kills") == 0  ? &plan.kills
                                                                  : NULL;
                bool is_mutant = strcmp(argv[i], "--mutant") == 0;
                if ((!to && !is_mutant) || ++i == argc || (to && !number_of(argv[i], to)))
                        return usage(argv[0]);
                if (is_mutant && !(mutant = kind_of(argv[i])))
                        return usage(argv[0]);
        }
        if (plan.every == 0)
                return usage(argv[0]);
        if (mutant)
                plan.enough = 1;
        if (!hop_new()) {
                fprintf(stderr, "%s: an undisturbed run is wrong\n", hop_case.name);
                return 1;
        }
        hop_run(&plan);
        print(&hop.verdict);
        hop_free();
        return mutant ? *mutant == 0 : hop_findings(&hop.verdict) != 0;
}
