/*
 * index_reader -- an index opened for reading: its snapshot, what it holds, and the list of it.
 */
#include "stages/engines/index/xapian_own.hh"

#include <memory>

using namespace index_own;

/* The folder is looked at before the database is opened: a commit between the two is seen again by
 * the next refresh(). */
void index_reader::open() {
        struct index_error why = {};
        must(folder_look(path.c_str(), &why, &seen), why);
        Xapian::Database fresh(path, Xapian::DB_BACKEND_GLASS);
        if (!check_format(fresh))
                throw failure{INDEX_E_MISSING, "there is no index yet"};
        const std::string spoken = fresh.get_metadata(META_LANGUAGE);
        if (spoken != language) {
                generator = make_generator(spoken);
                stopper = stop_words(spoken);
                language = spoken;
        }
        collapse = fresh.get_value_freq(SLOT_DOCUMENT) != 0;
        tenants = fresh.term_exists(PRIVATE_TERM);
        db = fresh;
}

void index_reader::refresh() {
        if (!folder_same(path.c_str(), &seen))
                open();
}

namespace {

uint64_t count_words(const Xapian::Database &db) {
        uint64_t n = 0;
        auto it = db.allterms_begin();
        while (it != db.allterms_end()) {
                if (!is_word_term(*it)) {
                        it.skip_to("["); /* behind the capitals */
                        continue;
                }
                n++;
                ++it;
        }
        return n;
}

bool same(const struct index_str &a, const struct index_str &b) {
        return std::string(a.data ? a.data : "", a.n_bytes) ==
               std::string(b.data ? b.data : "", b.n_bytes);
}

bool is_listed(const struct index_key &key, const struct index_list *list) {
        return (!list->collection || same(key.collection, *list->collection)) &&
               (!list->tenant || same(key.tenant, *list->tenant));
}

} // namespace

/* ---- the C side ---------------------------------------------------------------------------- */

int index_reader_open(const char *path, struct index_error *err, struct index_reader **ret_reader) {
        return guard(err, [&] {
                auto reader = std::make_unique<index_reader>(path);
                reader->with_snapshot([] {});
                *ret_reader = reader.release();
        });
}

struct index_reader *index_reader_free(struct index_reader *reader) {
        delete reader;
        return nullptr;
}

int index_reader_stats(struct index_reader *reader, struct index_error *err,
                struct index_stats *ret_stats) {
        return guard(err, [&] {
                reader->with_snapshot([&] {
                        struct index_stats stats = read_totals(reader->db);
                        stats.terms = count_words(reader->db);
                        *ret_stats = stats;
                });
        });
}

const char *index_reader_language(const struct index_reader *reader) {
        return reader->language.c_str();
}

int index_reader_list(struct index_reader *reader, const struct index_list *list,
                struct index_error *err) {
        int stopped = 0;
        std::string last = "Q"; /* where to go on when the snapshot is lost on the way */
        const int r = guard(err, [&] {
                reader->with_snapshot([&] {
                        auto it = reader->db.allterms_begin("Q");
                        for (it.skip_to(last); it != reader->db.allterms_end("Q"); ++it) {
                                if (*it == last)
                                        continue;
                                const auto first = reader->db.postlist_begin(*it);
                                const std::string data = reader->db.get_document(*first).get_data();
                                struct stored stored;
                                unpack(data, &stored);
                                last = *it;
                                if (!is_listed(stored.hit.key, list))
                                        continue;
                                const struct index_entry entry = {stored.hit.key, stored.hit.title,
                                                stored.hit.source, stored.hit.n_chunks,
                                                stored.document_bytes};
                                stopped = list->fn(&entry, list->ctx);
                                if (stopped != 0)
                                        return;
                        }
                });
        });
        return r != 0 ? r : stopped;
}
