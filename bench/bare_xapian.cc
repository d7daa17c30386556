/*
 * bare_xapian -- what Xapian alone takes for the same work, without millrace.
 *
 *      bare_xapian insert DIR        rows of stdin (id, title and text, parted by tabs) into a new
 *                                    database, one commit at the end
 *      bare_xapian query DIR K       asks each line of stdin for its K best documents, and takes
 *                                    their data; prints the CPU time of one in ns, and its median
 */
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <iostream>
#include <string>
#include <vector>

#include <xapian.h>

namespace {

Xapian::TermGenerator make_generator() {
        Xapian::TermGenerator generator;
        generator.set_flags(Xapian::TermGenerator::FLAG_CJK_NGRAM);
        generator.set_stemmer(Xapian::Stem("english"));
        generator.set_stemming_strategy(Xapian::TermGenerator::STEM_ALL);
        return generator;
}

void insert(const char *path) {
        Xapian::WritableDatabase db(path, Xapian::DB_CREATE_OR_OVERWRITE);
        Xapian::TermGenerator generator = make_generator();
        std::string row;
        while (std::getline(std::cin, row)) {
                const size_t title = row.find('\t');
                const size_t text = row.find('\t', title + 1);
                Xapian::Document doc;
                generator.set_document(doc);
                generator.index_text_without_positions(row.substr(title + 1, text - title - 1), 2);
                generator.index_text_without_positions(row.substr(text + 1));
                doc.add_boolean_term("Q" + row.substr(0, title));
                doc.set_data(row);
                db.add_document(doc);
        }
        db.commit();
}

uint64_t clock_ns(clockid_t clock) {
        struct timespec ts;
        clock_gettime(clock, &ts);
        return static_cast<uint64_t>(ts.tv_sec) * 1000000000u + static_cast<uint64_t>(ts.tv_nsec);
}

size_t ask(Xapian::Database &db, Xapian::TermGenerator &generator, const std::string &text,
                Xapian::doccount k) {
        Xapian::Document words;
        generator.set_document(words);
        generator.index_text_without_positions(text);
        std::vector<Xapian::Query> parts;
        for (auto it = words.termlist_begin(); it != words.termlist_end(); ++it)
                parts.emplace_back(*it, it.get_wdf());
        Xapian::Enquire enquire(db);
        enquire.set_weighting_scheme(Xapian::BM25Weight(1.2, 0, 1000, 0.75, 0.5));
        enquire.set_query(Xapian::Query(Xapian::Query::OP_OR, parts.begin(), parts.end()));
        size_t n = 0;
        const Xapian::MSet found = enquire.get_mset(0, k);
        for (auto it = found.begin(); it != found.end(); ++it)
                n += it.get_document().get_data().size();
        return n;
}

void query(const char *path, Xapian::doccount k) {
        Xapian::Database db(path);
        Xapian::TermGenerator generator = make_generator();
        std::vector<std::string> queries;
        std::vector<uint64_t> walls;
        std::string text;
        size_t n = 0;
        while (std::getline(std::cin, text))
                queries.push_back(text);
        for (const std::string &q : queries) /* warm */
                n += ask(db, generator, q, k);
        const uint64_t cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
        for (const std::string &q : queries) {
                const uint64_t start = clock_ns(CLOCK_MONOTONIC);
                n += ask(db, generator, q, k);
                walls.push_back(clock_ns(CLOCK_MONOTONIC) - start);
        }
        const uint64_t used = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
        std::sort(walls.begin(), walls.end());
        printf("%.0f %.0f\n", static_cast<double>(used) / static_cast<double>(queries.size()),
                        n > 0 ? static_cast<double>(walls[walls.size() / 2]) : 0.0);
}

} // namespace

int main(int argc, char **argv) {
        if (argc == 3 && std::string(argv[1]) == "insert")
                insert(argv[2]);
        else if (argc == 4 && std::string(argv[1]) == "query")
                query(argv[2], static_cast<Xapian::doccount>(std::stoul(argv[3])));
        else
                return 2;
        return 0;
}
