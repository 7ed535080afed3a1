// The PRAGMA table: what each PRAGMA is on the writer (ARCHITECTURE.md lists it), and the replicated settings.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "ledger/ledger.h"

namespace rq::executor {

enum class Reading : std::uint8_t {
  Same,     // shows data or replicated settings, or an action on data: equal on all nodes
  Local,    // shows something of this node: may be answered, never stored (refused within statements)
  Refused,
};
enum class Writing : std::uint8_t {
  Selects,  // the value only chooses what is shown
  Data,     // changes the database like any statement
  Setting,  // replicated: kept in the registers, applied by the executor, survives restarts
  Request,  // defer_foreign_keys: until the end of the transaction
  Optimize, // run in a form that depends on nothing but data
  Refused,
};
struct PragmaRule {
  std::string_view name;
  Reading reading = Reading::Same;
  Writing writing = Writing::Selects;
};
// Unknown PRAGMAs do nothing in SQLite; their rule is the default one.
PragmaRule pragma_rule(std::string_view name);

inline constexpr std::string_view kForeignKeys = "foreign_keys";
bool foreign_keys(const ledger::Registers& registers);
void set_foreign_keys(ledger::Registers& registers, bool on);

bool pragma_truth(std::string_view value);   // how SQLite reads a boolean

// Takes `PRAGMA name = value` of a Setting over into the registers. Values that SQLite would ignore change nothing.
void take_setting(ledger::Registers& registers, std::string_view name, std::string_view value);
// Calls `apply(text)` with a PRAGMA for each setting that differs between the two (foreign_keys too).
template <class Apply>
void for_each_difference(const ledger::Registers& from, const ledger::Registers& to, Apply apply);

// Implementation of the template: the PRAGMA that brings setting `number` of `to` about; none when both agree.
std::optional<std::string> difference(const ledger::Registers& from, const ledger::Registers& to, std::size_t number);
std::size_t settings_count();

template <class Apply>
void for_each_difference(const ledger::Registers& from, const ledger::Registers& to, Apply apply) {
  for (std::size_t number = 0; number < settings_count(); ++number) {
    if (auto text = difference(from, to, number)) apply(*text);
  }
}

}  // namespace rq::executor
