/*
 * nearest -- an index in memory (nearest.h).
 */
#include "stages/engines/index/nearest.h"

#include <memory>
#include <vector>

#include "stages/engines/index/xapian_own.hh"

using namespace index_own;

struct nearest {
        Xapian::WritableDatabase db;
        Xapian::TermGenerator generator;

        nearest() : db(std::string(), Xapian::DB_BACKEND_INMEMORY), generator(make_generator("english")) {
                generator.set_stopper(stop_words("english"));
        }
};

namespace {

Xapian::Document words_of(struct nearest &nearest, const struct index_str &text) {
        Xapian::Document doc;
        nearest.generator.set_document(doc);
        generate(nearest.generator, text.data, text.n_bytes);
        nearest.generator.set_document(Xapian::Document());
        return doc;
}

} // namespace

int nearest_new(const struct index_str *texts, uint32_t n, struct nearest **ret) {
        return guard(nullptr, [&] {
                auto made = std::make_unique<struct nearest>();
                for (uint32_t i = 0; i < n; i++)
                        made->db.add_document(words_of(*made, texts[i])); /* its number is i + 1 */
                *ret = made.release();
        });
}

struct nearest *nearest_free(struct nearest *nearest) {
        delete nearest;
        return nullptr;
}

int nearest_find(struct nearest *nearest, struct index_str question, uint32_t k, uint32_t *to,
                uint32_t *ret_n) {
        return guard(nullptr, [&] {
                std::vector<Xapian::Query> parts;
                const Xapian::Document doc = words_of(*nearest, question);
                for (auto it = doc.termlist_begin(); it != doc.termlist_end(); ++it)
                        parts.emplace_back(*it, it.get_wdf());
                Xapian::Enquire enquire(nearest->db);
                enquire.set_weighting_scheme(word_weight());
                enquire.set_query(Xapian::Query(Xapian::Query::OP_OR, parts.begin(), parts.end()));
                const Xapian::MSet found = enquire.get_mset(0, k);
                uint32_t n_found = 0;
                for (auto it = found.begin(); it != found.end(); ++it)
                        to[n_found++] = *it - 1;
                *ret_n = n_found;
        });
}
