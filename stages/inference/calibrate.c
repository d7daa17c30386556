#include "stages/inference/calibrate.h"

#include <string.h>

#include "stages/engines/tokens/fit.h"
#include "stages/inference/inference.h"
#include "stages/inference/routes.h"

static struct mr_view name_of(const struct flight *f, const struct record *record) {
        bool any = f->route && f->route == f->inf->routes->any;

        if (!(record->has & HAS(model)) || record->model.n == 0 ||
                        record->model.n >= CALIBRATION_NAME_MAX ||
                        (any && f->backend && f->backend->settings->model))
                return (struct mr_view){"*", 1};
        return record->model;
}

void calibrate(struct flight *f) {
        struct counters_shm *page = f->inf->w->counters;
        const struct record *record = flight_record(f);
        struct calibration c = {.n = 0};
        struct tokens_count count;
        struct mr_view name;

        if (!f->usage.counted || !(record->has & HAS(token_counts)) ||
                        record->token_counts.n != sizeof(count))
                return;
        memcpy(&count, record->token_counts.p, sizeof(count));
        name = name_of(f, record);
        if (!calibration_find(&page->calibration, name.p, name.n, &c))
                memcpy(c.name, name.p, name.n);
        if (fit_learn(&c, &count, f->usage.prompt)) {
                counters_add(page, COUNTER_calibrations_refused, 1);
                return;
        }
        calibration_store(&page->calibration, &c);
        counters_add(page, COUNTER_calibrations, 1);
}

uint64_t calibrate_tokens(struct flight *f, const struct tokens_count *count) {
        struct mr_view name = name_of(f, flight_record(f));
        struct calibration c = {.n = 0};
        struct fit fit;

        (void)calibration_find(&f->inf->w->counters->calibration, name.p, name.n, &c);
        fit_solve(&c, &fit);
        return fit_tokens(&fit, count);
}
