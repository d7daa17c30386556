/*
 * stop_words -- the words that a query is asked without, by language.
 */
#include "stages/engines/index/xapian_own.hh"

#include <iterator>
#include <map>
#include <sstream>

namespace index_own {

namespace {

/* Alone they are operators of other engines, with nothing to join. */
const char *const OPERATORS[] = {"and", "not", "or"};

struct list {
        const char *name;
        const char *code;
        const char *words;
};

const struct list LISTS[] = {
#define LANGUAGE(name, code, words) {#name, code, words},
#include "stages/engines/index/stop_words.def"
};

/* "german2" and "porter" are other stemmers of the same language. */
std::string spoken(const std::string &language) {
        static const std::map<std::string, std::string> others = {{"german2", "german"},
                        {"porter", "english"}, {"lovins", "english"},
                        {"kraaij_pohlmann", "dutch"}, {"nb", "norwegian"}, {"nn", "norwegian"}};
        const auto found = others.find(language);
        return found == others.end() ? language : found->second;
}

typedef std::map<std::string, Xapian::SimpleStopper> stoppers;

stoppers make_stoppers() {
        stoppers made;
        for (const struct list &list : LISTS) {
                std::istringstream words(list.words);
                for (std::string word; words >> word;) {
                        made[list.name].add(word);
                        made[list.code].add(word);
                }
        }
        return made;
}

} // namespace

const Xapian::Stopper *operator_words() {
        static const Xapian::SimpleStopper operators(std::begin(OPERATORS), std::end(OPERATORS));
        return &operators;
}

const Xapian::Stopper *stop_words(const std::string &language) {
        static const stoppers known = make_stoppers();
        const auto found = known.find(spoken(language));
        return found != known.end() ? &found->second : operator_words();
}

} // namespace index_own
