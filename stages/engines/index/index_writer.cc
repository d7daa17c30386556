/*
 * index_writer -- documents into the index and out of it.
 *
 * A whole document goes into one transaction, so that every committed state holds whole documents
 * only; Xapian's lock is held from open to free.
 */
#include "stages/engines/index/xapian_own.hh"

#include <cstring>

#include "stages/engines/index/chunk.h"
#include "stages/engines/index/metadata.h"

using namespace index_own;

namespace {

const char LANGUAGE_DEFAULT[] = "english";
const Xapian::termcount TITLE_WEIGHT = 2;      /* a word of the title counts as often as this */
const uint64_t COMMIT_CHUNKS = 10000;          /* what a writer holds back at most: chunks, */
const uint64_t COMMIT_BYTES = 64u << 20;       /* bytes of text, */
const uint64_t COMMIT_NS = 10ull * 1000000000; /* time */

} // namespace

struct index_writer {
        Xapian::WritableDatabase db;
        Xapian::TermGenerator generator;
        struct index_stats totals;
        bool in_transaction;
        uint64_t held_chunks; /* since the last commit */
        uint64_t held_bytes;
        uint64_t held_since_ns;

        index_writer(const char *path, const char *language);
        void begin();
        void commit();
        void add(const struct index_document &given, enum index_outcome *ret_outcome);
        bool find(const std::string &name, struct stored *ret_stored, std::string *ret_data);
        void remove(const std::string &name, const struct stored &old);
        void put(const struct index_document &doc, const std::string &name,
                        const std::vector<std::string> &filters, size_t i,
                        const struct stored_hash &hash);
};

namespace {

std::string language_checked(const char *language) {
        try {
                Xapian::Stem stem(language);
        } catch (const Xapian::InvalidArgumentError &) {
                const std::string known = Xapian::Stem::get_available_languages();
                throw failure{INDEX_E_LANGUAGE, "no stemmer for the language \"" +
                                                                std::string(language) +
                                                                "\": known are " + known +
                                                                " none"};
        }
        return language;
}

void check_language(const char *language, const std::string &has) {
        if (language && has != language_checked(language))
                throw failure{INDEX_E_LANGUAGE, "its language is " + has + ", and a stem of " +
                                                                language +
                                                                " would not be found: build it "
                                                                "anew"};
}

} // namespace

index_writer::index_writer(const char *path, const char *language)
    : totals(), in_transaction(false), held_chunks(0), held_bytes(0), held_since_ns(0) {
        struct index_error why = {};
        struct folder_stamp stamp;
        const std::string fresh = language_checked(language ? language : LANGUAGE_DEFAULT);
        const int r = folder_look(path, &why, &stamp);
        if (r == INDEX_E_MISSING) {
                must(folder_make(path, &why), why);
                must(folder_clear(path, &why), why);
        } else {
                must(r, why);
        }
        db = Xapian::WritableDatabase(path, Xapian::DB_CREATE_OR_OPEN | Xapian::DB_BACKEND_GLASS);
        if (!check_format(db)) {
                db.begin_transaction();
                db.set_metadata(META_FORMAT, std::to_string(INDEX_FORMAT));
                db.set_metadata(META_LANGUAGE, fresh);
                db.commit_transaction();
        }
        totals = read_totals(db);
        check_language(language, db.get_metadata(META_LANGUAGE));
        generator = make_generator(db.get_metadata(META_LANGUAGE));
}

void index_writer::begin() {
        if (in_transaction)
                return;
        db.begin_transaction();
        in_transaction = true;
        held_chunks = 0;
        held_bytes = 0;
        held_since_ns = now_ns();
}

void index_writer::commit() {
        if (!in_transaction)
                return;
        db.set_metadata(META_TOTALS, std::to_string(totals.documents) + " " +
                                                     std::to_string(totals.chunks) + " " +
                                                     std::to_string(totals.bytes));
        in_transaction = false;
        db.commit_transaction();
}

bool index_writer::find(const std::string &name, struct stored *ret_stored, std::string *ret_data) {
        const auto first = db.postlist_begin(name);
        if (first == db.postlist_end(name))
                return false;
        *ret_data = db.get_document(*first).get_data();
        unpack(*ret_data, ret_stored);
        return true;
}

void index_writer::remove(const std::string &name, const struct stored &old) {
        begin();
        db.delete_document(name);
        totals.documents--;
        totals.chunks -= old.hit.n_chunks;
        totals.bytes -= old.document_bytes;
        held_chunks += old.hit.n_chunks;
}

namespace {

int take_pair(struct index_str key, struct index_str value, void *ctx) {
        auto *terms = static_cast<std::vector<std::string> *>(ctx);
        return guard(nullptr, [&] { terms->push_back(pair_term(key, value)); });
}

/* What a document can be told apart by, but for its name. */
std::vector<std::string> filters_of(const struct index_document &doc) {
        std::vector<std::string> terms;
        terms.push_back(collection_term(doc.key.collection));
        if (doc.key.tenant.n_bytes > 0) {
                terms.push_back(PRIVATE_TERM);
                terms.push_back(tenant_term(doc.key.tenant));
        }
        if (metadata_each(doc.metadata, take_pair, &terms) != 0)
                throw std::bad_alloc();
        return terms;
}

} // namespace

void index_writer::put(const struct index_document &doc, const std::string &name,
                const std::vector<std::string> &filters, size_t i,
                const struct stored_hash &hash) {
        const struct chunk &chunk = doc.chunks[i];
        const struct stored stored = stored_of(&doc, i, &hash);
        std::string data(stored_bytes(&stored), '\0');
        stored_pack(&stored, &data[0]);

        Xapian::Document entry;
        generator.set_document(entry);
        generate(generator, doc.title.data, doc.title.n_bytes, TITLE_WEIGHT);
        generate(generator, chunk.path.data, chunk.path.n_bytes);
        generate(generator, stored.hit.text.data, stored.hit.text.n_bytes);
        entry.add_boolean_term(name);
        for (const std::string &term : filters)
                entry.add_boolean_term(term);
        if (doc.n_chunks > 1)
                entry.add_value(SLOT_DOCUMENT, name);
        entry.set_data(data);
        db.add_document(entry);
}

void index_writer::add(const struct index_document &given, enum index_outcome *ret_outcome) {
        struct index_error why = {};
        struct index_document doc = given;
        must(stored_check(&doc, &why), why);
        doc.key = named(doc.key);
        const std::string name = document_term(doc.key);
        const struct stored_hash hash = stored_hash_of(&doc);
        struct stored old;
        std::string old_data;
        const bool replaces = find(name, &old, &old_data);
        if (replaces && memcmp(&old.content_hash, &hash, sizeof(hash)) == 0) {
                *ret_outcome = INDEX_UNCHANGED;
                return;
        }
        const std::vector<std::string> filters = filters_of(doc);
        begin();
        if (replaces)
                remove(name, old);
        for (size_t i = 0; i < doc.n_chunks; i++)
                put(doc, name, filters, i, hash);
        totals.documents++;
        totals.chunks += doc.n_chunks;
        totals.bytes += doc.text.n_bytes;
        held_chunks += doc.n_chunks;
        held_bytes += doc.text.n_bytes;
        if (held_chunks >= COMMIT_CHUNKS || held_bytes >= COMMIT_BYTES ||
                        now_ns() - held_since_ns >= COMMIT_NS)
                commit();
        *ret_outcome = replaces ? INDEX_REPLACED : INDEX_ADDED;
}

/* ---- the C side ---------------------------------------------------------------------------- */

int index_writer_open(const char *path, const char *language, struct index_error *err,
                struct index_writer **ret_writer) {
        return guard(err, [&] { *ret_writer = new index_writer(path, language); });
}

struct index_writer *index_writer_free(struct index_writer *writer) {
        if (writer) {
                /* Closing without this would commit: Xapian does so outside of a transaction. */
                if (writer->in_transaction)
                        guard(nullptr, [&] { writer->db.cancel_transaction(); });
                guard(nullptr, [&] { writer->db.close(); });
        }
        delete writer;
        return nullptr;
}

int index_writer_add(struct index_writer *writer, const struct index_document *doc,
                struct index_error *err, enum index_outcome *ret_outcome) {
        return guard(err, [&] { writer->add(*doc, ret_outcome); });
}

int index_writer_remove(struct index_writer *writer, const struct index_key *key,
                struct index_error *err, bool *ret_removed) {
        return guard(err, [&] {
                struct stored old;
                std::string old_data;
                const std::string name = document_term(named(*key));
                const bool there = writer->find(name, &old, &old_data);
                if (there)
                        writer->remove(name, old);
                *ret_removed = there;
        });
}

int index_writer_commit(struct index_writer *writer, struct index_error *err) {
        return guard(err, [&] { writer->commit(); });
}

struct index_stats index_writer_stats(const struct index_writer *writer) {
        return writer->totals;
}
