/*
 * index over Xapian -- the one C++ file: a C interface in front, nothing C++ behind it leaves.
 *
 * Shape   one Xapian document for each chunk. Its terms: stems without prefix and without
 *         positions, plus "Qi"<id> (or "Ql"<hash> for a long id), which names the document; slot 0:
 *         that term again, in documents of several chunks, to collapse on; its data: stored.h.
 *         Metadata of the database: "millrace.format", "millrace.language", "millrace.totals"
 * Owner   the writer holds Xapian's lock from open to free; a whole document goes into one
 *         transaction, so that every committed state holds whole documents only
 * Errors  an exception becomes a code and a sentence in guard()
 * Limits  COMMIT_*: what is written between two commits of the writer's own
 *
 * Longer than a file should be, because all that is C++ stays in one place.
 */
#include "stages/engines/index/index.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <xapian.h>
#include <xxhash.h>

#include "stages/engines/index/chunk.h"
#include "stages/engines/index/folder.h"
#include "stages/engines/index/stored.h"
#include "stages/engines/index/snippet.h"

namespace {

const char META_FORMAT[] = "millrace.format";
const char META_LANGUAGE[] = "millrace.language";
const char META_TOTALS[] = "millrace.totals";
const char LANGUAGE_DEFAULT[] = "english";
const Xapian::valueno SLOT_DOCUMENT = 0;
const Xapian::termcount TITLE_WEIGHT = 2;      /* a word of the title counts as often as this */
const size_t ID_TERM_MAX = 200;                /* Xapian takes terms of up to 245 bytes */
const uint64_t COMMIT_CHUNKS = 10000;          /* what a writer holds back at most: chunks, */
const uint64_t COMMIT_BYTES = 64u << 20;       /* bytes of text, */
const uint64_t COMMIT_NS = 10ull * 1000000000; /* time */
const int REOPENS_MAX = 32; /* for one query, against a writer that commits faster than we read */

/* The list that Lucene's English analyser drops. */
const char *const STOP_WORDS[] = {"a", "an", "and", "are", "as", "at", "be", "but", "by", "for",
                "if", "in", "into", "is", "it", "no", "not", "of", "on", "or", "such", "that",
                "the", "their", "then", "there", "these", "they", "this", "to", "was", "will",
                "with"};

/* Alone they are operators of other engines, with nothing to join. */
const char *const OPERATORS[] = {"and", "not", "or"};

/* ---- errors -------------------------------------------------------------------------------- */

struct failure {
        int code;
        std::string text;
};

void say(struct index_error *err, const std::string &text) noexcept {
        if (err)
                snprintf(err->text, sizeof(err->text), "%s", text.c_str());
}

std::string words_of(const Xapian::Error &error) {
        std::string text = error.get_msg();
        if (error.get_error_string())
                text = text + ": " + error.get_error_string();
        return text;
}

template <typename F> int guard(struct index_error *err, F &&body) noexcept {
        try {
                body();
                return 0;
        } catch (const failure &f) {
                say(err, f.text);
                return f.code;
        } catch (const Xapian::DatabaseLockError &) {
                say(err, "another process is writing to this index");
                return INDEX_E_LOCKED;
        } catch (const Xapian::DatabaseVersionError &e) {
                say(err, "an index of another version of Xapian: " + words_of(e));
                return INDEX_E_VERSION;
        } catch (const Xapian::DatabaseCorruptError &e) {
                say(err, "the index is damaged: " + words_of(e));
                return INDEX_E_CORRUPT;
        } catch (const Xapian::Error &e) {
                say(err, words_of(e));
                return INDEX_E_ENGINE;
        } catch (const std::bad_alloc &) {
                say(err, "out of memory");
                return -ENOMEM;
        } catch (const std::exception &e) {
                say(err, e.what());
                return INDEX_E_ENGINE;
        }
}

uint64_t now_ns() {
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        return static_cast<uint64_t>(ts.tv_sec) * 1000000000u + static_cast<uint64_t>(ts.tv_nsec);
}

void check_deadline(uint64_t deadline_ns) {
        if (deadline_ns != 0 && now_ns() >= deadline_ns)
                throw failure{INDEX_E_DEADLINE, "the deadline of the query has passed"};
}

/* A C function of ours has failed, and has said why. */
void must(int r, const struct index_error &why) {
        if (r != 0)
                throw failure{r, why.text};
}

/* ---- what index and query share ------------------------------------------------------------ */

void unpack(const std::string &data, struct stored *ret_stored) {
        if (stored_unpack(data.data(), data.size(), ret_stored) != 0)
                throw failure{INDEX_E_CORRUPT, "the index is damaged: a chunk's data is broken"};
}

/* False: a database that a killed writer made and never wrote to. */
bool check_format(const Xapian::Database &db) {
        const std::string format = db.get_metadata(META_FORMAT);
        if (format.empty()) {
                if (db.get_lastdocid() == 0 && db.metadata_keys_begin() == db.metadata_keys_end())
                        return false;
                throw failure{INDEX_E_FOREIGN, "a Xapian database of another program"};
        }
        if (format != std::to_string(INDEX_FORMAT))
                throw failure{INDEX_E_VERSION, "an index of format " + format.substr(0, 32) +
                                                               ", this program reads format " +
                                                               std::to_string(INDEX_FORMAT) +
                                                               ": build it anew"};
        return true;
}

/* "Qi" sorts before "Ql": a listing has the short ids first, in order. No stem starts with a
 * capital, so neither meets a word. */
std::string id_term(const struct index_str &id) {
        if (id.n_bytes <= ID_TERM_MAX)
                return "Qi" + std::string(id.data, id.n_bytes);
        const XXH128_hash_t hash = XXH3_128bits(id.data, id.n_bytes);
        char hex[36];
        snprintf(hex, sizeof(hex), "Ql%016llx%016llx", static_cast<unsigned long long>(hash.high64),
                        static_cast<unsigned long long>(hash.low64));
        return hex;
}

/* Index and query are cut into terms by the same object: what was indexed is what is asked for. */
Xapian::TermGenerator make_generator(const std::string &language) {
        Xapian::TermGenerator generator;
        generator.set_flags(Xapian::TermGenerator::FLAG_CJK_NGRAM);
        generator.set_stemmer(Xapian::Stem(language));
        generator.set_stemming_strategy(Xapian::TermGenerator::STEM_ALL);
        return generator;
}

void generate(Xapian::TermGenerator &generator, const char *data, size_t n,
                Xapian::termcount weight = 1) {
        generator.index_text_without_positions(Xapian::Utf8Iterator(data, n), weight);
}

/* ---- asking -------------------------------------------------------------------------------- */

/* Matches everything and throws once the deadline has passed. Xapian's own time limit only ends its
 * counting of further matches, not the match. */
class deadline_source : public Xapian::PostingSource {
      public:
        explicit deadline_source(uint64_t deadline)
            : deadline_ns(deadline), at(0), last(0), n_docs(0), n_calls(0) {
        }
        Xapian::doccount get_termfreq_min() const override {
                return n_docs;
        }
        Xapian::doccount get_termfreq_est() const override {
                return n_docs;
        }
        Xapian::doccount get_termfreq_max() const override {
                return n_docs;
        }
        Xapian::docid get_docid() const override {
                return at;
        }
        void next(double) override {
                move(at + 1);
        }
        void skip_to(Xapian::docid did, double) override {
                move(std::max(at, did));
        }
        bool check(Xapian::docid did, double) override {
                move(std::max(at, did));
                return true;
        }
        bool at_end() const override {
                return at > last;
        }
        void init(const Xapian::Database &db) override {
                at = 0;
                last = db.get_lastdocid();
                n_docs = db.get_doccount();
        }

      private:
        void move(Xapian::docid to) {
                at = to;
                if ((++n_calls & 255) == 0)
                        check_deadline(deadline_ns);
        }
        uint64_t deadline_ns;
        Xapian::docid at;
        Xapian::docid last;
        Xapian::doccount n_docs;
        uint32_t n_calls;
};

struct weighed_term {
        std::string term;
        double weight; /* how often the query has it; in a result what it added to a score at most
                        */
};

} // namespace

struct index_reader {
        std::string path;
        std::string language;
        Xapian::Database db;
        Xapian::TermGenerator generator;
        Xapian::SimpleStopper stop_words;
        Xapian::SimpleStopper operators;
        bool collapse; /* some document has several chunks */
        struct folder_stamp seen;

        explicit index_reader(const char *folder)
            : path(folder), stop_words(std::begin(STOP_WORDS), std::end(STOP_WORDS)),
              operators(std::begin(OPERATORS), std::end(OPERATORS)), collapse(false), seen() {
        }
        void open();
        void refresh();
        std::vector<weighed_term> terms_of(struct index_str text, uint64_t deadline_ns);
        template <typename F> void with_snapshot(F &&body);
};

struct index_result {
        std::string language;
        std::vector<weighed_term> terms;
        std::vector<std::string> data;
        std::vector<struct index_hit> hits;
};

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
                generator.set_stopper_strategy(Xapian::TermGenerator::STOP_ALL);
                language = spoken;
        }
        collapse = fresh.get_value_freq(SLOT_DOCUMENT) != 0;
        db = fresh;
}

void index_reader::refresh() {
        if (!folder_same(path.c_str(), &seen))
                open();
}

/* Xapian keeps the blocks of a snapshot only until the second commit after it. */
template <typename F> void index_reader::with_snapshot(F &&body) {
        for (int i = 0; i < REOPENS_MAX; i++) {
                try {
                        if (i == 0)
                                refresh();
                        else
                                open();
                        body();
                        return;
                } catch (const Xapian::DatabaseModifiedError &) {
                        continue;
                }
        }
        throw failure{INDEX_E_ENGINE, "the index changes faster than it can be read"};
}

std::vector<weighed_term> index_reader::terms_of(struct index_str text, uint64_t deadline_ns) {
        const size_t half = INDEX_QUERY_BYTES_MAX / 2;
        const size_t head = text.n_bytes > 2 * half ? half : text.n_bytes;
        Xapian::Document doc;
        for (int pass = 0; pass < 2 && doc.termlist_count() == 0; pass++) {
                /* The second pass: a query of stop words only asks for them. */
                generator.set_stopper(pass == 0 ? &stop_words : &operators);
                generator.set_document(doc);
                generate(generator, text.data, head);
                if (head < text.n_bytes)
                        generate(generator, text.data + text.n_bytes - half, half);
        }
        generator.set_document(Xapian::Document());
        generator.set_stopper(nullptr);
        const size_t n = doc.termlist_count();
        std::vector<weighed_term> terms;
        if (n <= INDEX_QUERY_TERMS_MAX) {
                for (auto it = doc.termlist_begin(); it != doc.termlist_end(); ++it)
                        terms.push_back({*it, static_cast<double>(it.get_wdf())});
                return terms;
        }
        const double n_docs = db.get_doccount();
        std::vector<std::pair<double, weighed_term>> ranked;
        for (auto it = doc.termlist_begin(); it != doc.termlist_end(); ++it) {
                check_deadline(deadline_ns);
                const double freq = db.get_termfreq(*it);
                const double wqf = it.get_wdf();
                if (freq > 0)
                        ranked.push_back({std::log(1 + n_docs / freq) * wqf / (1 + wqf),
                                        {*it, wqf}});
        }
        const size_t keep = std::min<size_t>(ranked.size(), INDEX_QUERY_TERMS_MAX);
        std::partial_sort(ranked.begin(), ranked.begin() + static_cast<long>(keep), ranked.end(),
                        [](const auto &a, const auto &b) { return a.first > b.first; });
        for (size_t i = 0; i < keep; i++)
                terms.push_back(ranked[i].second);
        return terms;
}

namespace {

void ask(struct index_reader *reader, const struct index_query &query,
                struct index_result *result) {
        check_deadline(query.deadline_ns);
        result->data.clear();
        result->hits.clear();
        result->terms = reader->terms_of(query.text, query.deadline_ns);
        if (result->terms.empty())
                return;
        std::vector<Xapian::Query> parts;
        parts.reserve(result->terms.size());
        for (const weighed_term &t : result->terms)
                parts.emplace_back(t.term, static_cast<Xapian::termcount>(t.weight));
        Xapian::Query any(Xapian::Query::OP_OR, parts.begin(), parts.end());
        deadline_source deadline(query.deadline_ns);
        if (query.deadline_ns != 0)
                any = Xapian::Query(Xapian::Query::OP_FILTER, any, Xapian::Query(&deadline));

        Xapian::Enquire enquire(reader->db);
        enquire.set_weighting_scheme(Xapian::BM25Weight(1.2, 0, 1, 0.75, 0.5));
        enquire.set_query(any);
        if (reader->collapse)
                enquire.set_collapse_key(SLOT_DOCUMENT);
        const Xapian::MSet found = enquire.get_mset(0, query.k);
        result->data.reserve(found.size());
        result->hits.resize(found.size());
        size_t i = 0;
        for (auto it = found.begin(); it != found.end(); ++it, ++i) {
                result->data.push_back(it.get_document().get_data());
                struct stored stored;
                unpack(result->data.back(), &stored);
                result->hits[i] = stored.hit;
                result->hits[i].score = it.get_weight();
        }
        for (weighed_term &t : result->terms)
                t.weight = found.size() > 0 ? found.get_termweight(t.term) : 0;
}

/* Which terms of the result's query a piece of a hit's text has. */
struct snippet_context {
        const struct index_result *result;
        Xapian::TermGenerator generator;
};

int terms_in_piece(struct index_str piece, struct snippet_terms *terms, void *ctx) {
        auto *context = static_cast<struct snippet_context *>(ctx);
        return guard(nullptr, [&] {
                Xapian::Document doc;
                context->generator.set_document(doc);
                generate(context->generator, piece.data, piece.n_bytes);
                size_t i = 0;
                for (const weighed_term &wanted : context->result->terms) {
                        auto it = doc.termlist_begin();
                        it.skip_to(wanted.term);
                        if (it != doc.termlist_end() && *it == wanted.term)
                                terms->bits[i / 64] |= uint64_t{1} << (i % 64);
                        i++;
                }
        });
}

} // namespace

/* ---- reading: the C side ------------------------------------------------------------------- */

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

int index_reader_query(struct index_reader *reader, const struct index_query *query,
                struct index_error *err, struct index_result **ret_result) {
        if (query->k == 0 || query->k > INDEX_K_MAX)
                return -EINVAL;
        return guard(err, [&] {
                auto result = std::make_unique<index_result>();
                reader->with_snapshot([&] { ask(reader, *query, result.get()); });
                result->language = reader->language;
                *ret_result = result.release();
        });
}

struct index_result *index_result_free(struct index_result *result) {
        delete result;
        return nullptr;
}

size_t index_result_n(const struct index_result *result) {
        return result->hits.size();
}

const struct index_hit *index_result_hit(const struct index_result *result, size_t i) {
        return &result->hits[i];
}

int index_result_snippet(const struct index_result *result, size_t i, size_t max_bytes,
                size_t *ret_start, size_t *ret_end) {
        int r = 0;
        const int thrown = guard(nullptr, [&] {
                struct snippet_context context = {result, make_generator(result->language)};
                std::vector<double> weights;
                for (const weighed_term &t : result->terms)
                        weights.push_back(t.weight);
                r = snippet_find(result->hits[i].text, max_bytes, weights.data(), weights.size(),
                                terms_in_piece, &context, ret_start, ret_end);
        });
        return thrown != 0 ? thrown : r;
}

namespace {

struct index_stats read_totals(const Xapian::Database &db) {
        unsigned long long documents = 0;
        unsigned long long chunks = 0;
        unsigned long long bytes = 0;
        const std::string totals = db.get_metadata(META_TOTALS);
        if (!totals.empty() &&
                        sscanf(totals.c_str(), "%llu %llu %llu", &documents, &chunks, &bytes) != 3)
                throw failure{INDEX_E_CORRUPT, "the index is damaged: its totals are no numbers"};
        return {documents, chunks, bytes, 0};
}

uint64_t count_terms(const Xapian::Database &db) {
        uint64_t n = 0;
        auto it = db.allterms_begin();
        while (it != db.allterms_end()) {
                if ((*it)[0] == 'Q') {
                        it.skip_to("R");
                        continue;
                }
                n++;
                ++it;
        }
        return n;
}

} // namespace

int index_reader_stats(struct index_reader *reader, struct index_error *err,
                struct index_stats *ret_stats) {
        return guard(err, [&] {
                reader->with_snapshot([&] {
                        struct index_stats stats = read_totals(reader->db);
                        stats.terms = count_terms(reader->db);
                        *ret_stats = stats;
                });
        });
}

int index_reader_list(struct index_reader *reader,
                int (*fn)(const struct index_entry *entry, void *ctx), void *ctx,
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
                                const struct index_entry entry = {stored.hit.id, stored.hit.title,
                                                stored.hit.n_chunks, stored.document_bytes};
                                stopped = fn(&entry, ctx);
                                if (stopped != 0)
                                        return;
                        }
                });
        });
        return r != 0 ? r : stopped;
}

/* ---- writing ------------------------------------------------------------------------------- */

struct index_writer {
        Xapian::WritableDatabase db;
        Xapian::TermGenerator generator;
        struct index_stats totals;
        bool in_transaction;
        uint64_t held_chunks; /* since the last commit */
        uint64_t held_bytes;
        uint64_t held_since_ns;

        explicit index_writer(const char *path);
        void begin();
        void commit();
        void add(const struct index_document &doc, enum index_outcome *ret_outcome);
        bool find(const std::string &name, struct stored *ret_stored, std::string *ret_data);
        void remove(const std::string &name, const struct stored &old);
        void put(const struct index_document &doc, const std::string &name, size_t i,
                        const struct stored_hash &hash);
};

index_writer::index_writer(const char *path)
    : totals(), in_transaction(false), held_chunks(0), held_bytes(0), held_since_ns(0) {
        struct index_error why = {};
        struct folder_stamp stamp;
        const int r = folder_look(path, &why, &stamp);
        if (r == INDEX_E_MISSING)
                must(folder_make(path, &why), why);
        else
                must(r, why);
        db = Xapian::WritableDatabase(path, Xapian::DB_CREATE_OR_OPEN | Xapian::DB_BACKEND_GLASS);
        if (!check_format(db)) {
                db.begin_transaction();
                db.set_metadata(META_FORMAT, std::to_string(INDEX_FORMAT));
                db.set_metadata(META_LANGUAGE, LANGUAGE_DEFAULT);
                db.commit_transaction();
        }
        totals = read_totals(db);
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

void index_writer::put(const struct index_document &doc, const std::string &name, size_t i,
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
        if (doc.n_chunks > 1)
                entry.add_value(SLOT_DOCUMENT, name);
        entry.set_data(data);
        db.add_document(entry);
}

void index_writer::add(const struct index_document &doc, enum index_outcome *ret_outcome) {
        struct index_error why = {};
        must(stored_check(&doc, &why), why);
        const std::string name = id_term(doc.id);
        const struct stored_hash hash = stored_hash_of(&doc);
        struct stored old;
        std::string old_data;
        const bool replaces = find(name, &old, &old_data);
        if (replaces && memcmp(&old.content_hash, &hash, sizeof(hash)) == 0) {
                *ret_outcome = INDEX_UNCHANGED;
                return;
        }
        begin();
        if (replaces)
                remove(name, old);
        for (size_t i = 0; i < doc.n_chunks; i++)
                put(doc, name, i, hash);
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

/* ---- writing: the C side ------------------------------------------------------------------- */

int index_writer_open(const char *path, struct index_error *err, struct index_writer **ret_writer) {
        return guard(err, [&] { *ret_writer = new index_writer(path); });
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

int index_writer_remove(struct index_writer *writer, struct index_str id, struct index_error *err,
                bool *ret_removed) {
        return guard(err, [&] {
                struct stored old;
                std::string old_data;
                const std::string name = id_term(id);
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
