#include "executor/settings.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cctype>

#include "sql/statement_facts.h"

namespace rq::executor {
namespace {

using ledger::Registers;

// Sorted by name.
constexpr PragmaRule kRules[] = {
    {"analysis_limit", Reading::Same, Writing::Setting},
    {"application_id", Reading::Same, Writing::Data},
    {"auto_vacuum", Reading::Same, Writing::Refused},
    {"automatic_index", Reading::Same, Writing::Setting},
    {"busy_timeout", Reading::Local, Writing::Refused},
    {"cache_size", Reading::Local, Writing::Refused},
    {"cache_spill", Reading::Local, Writing::Refused},
    {"case_sensitive_like", Reading::Same, Writing::Setting},
    {"cell_size_check", Reading::Same, Writing::Setting},
    {"checkpoint_fullfsync", Reading::Local, Writing::Refused},
    {"compile_options", Reading::Local, Writing::Selects},
    {"count_changes", Reading::Local, Writing::Refused},
    {"data_version", Reading::Local, Writing::Selects},
    {"database_list", Reading::Local, Writing::Selects},
    {"default_cache_size", Reading::Refused, Writing::Refused},
    {"defer_foreign_keys", Reading::Same, Writing::Request},
    {"empty_result_callbacks", Reading::Local, Writing::Refused},
    {"encoding", Reading::Same, Writing::Refused},
    {"foreign_keys", Reading::Same, Writing::Setting},
    {"full_column_names", Reading::Same, Writing::Setting},
    {"fullfsync", Reading::Local, Writing::Refused},
    {"function_list", Reading::Local, Writing::Selects},
    {"hard_heap_limit", Reading::Local, Writing::Refused},
    {"ignore_check_constraints", Reading::Same, Writing::Setting},
    {"incremental_vacuum", Reading::Same, Writing::Data},
    {"journal_mode", Reading::Local, Writing::Refused},
    {"journal_size_limit", Reading::Local, Writing::Refused},
    {"legacy_alter_table", Reading::Same, Writing::Setting},
    {"locking_mode", Reading::Local, Writing::Refused},
    {"max_page_count", Reading::Same, Writing::Setting},
    {"mmap_size", Reading::Local, Writing::Refused},
    {"module_list", Reading::Local, Writing::Selects},
    {"optimize", Reading::Same, Writing::Optimize},
    {"page_size", Reading::Same, Writing::Refused},
    {"pragma_list", Reading::Local, Writing::Selects},
    {"query_only", Reading::Local, Writing::Refused},
    {"read_uncommitted", Reading::Local, Writing::Refused},
    {"recursive_triggers", Reading::Same, Writing::Setting},
    {"reverse_unordered_selects", Reading::Same, Writing::Setting},
    {"schema_version", Reading::Same, Writing::Data},
    {"secure_delete", Reading::Same, Writing::Setting},
    {"short_column_names", Reading::Same, Writing::Setting},
    {"shrink_memory", Reading::Local, Writing::Refused},
    {"soft_heap_limit", Reading::Local, Writing::Refused},
    {"synchronous", Reading::Local, Writing::Refused},
    {"temp_store", Reading::Local, Writing::Refused},
    {"temp_store_directory", Reading::Refused, Writing::Refused},
    {"threads", Reading::Local, Writing::Refused},
    {"trusted_schema", Reading::Same, Writing::Setting},
    {"user_version", Reading::Same, Writing::Data},
    {"wal_autocheckpoint", Reading::Local, Writing::Refused},
    {"wal_checkpoint", Reading::Refused, Writing::Refused},
    {"writable_schema", Reading::Same, Writing::Refused},
};
static_assert(std::is_sorted(std::begin(kRules), std::end(kRules),
                             [](const PragmaRule& a, const PragmaRule& b) { return a.name < b.name; }));

// Bit i of Registers::settings is set when switch i differs from SQLite's default. The order is stored: only append.
struct Switch {
  std::string_view name;
  bool standard;
};
constexpr Switch kSwitches[] = {
    {kForeignKeys, false},
    {"recursive_triggers", false},
    {"ignore_check_constraints", false},
    {"legacy_alter_table", false},
    {"reverse_unordered_selects", false},
    {"case_sensitive_like", false},
    {"cell_size_check", false},
    {"automatic_index", true},
    {"trusted_schema", true},
    {"full_column_names", false},
    {"short_column_names", true},
};
constexpr std::uint64_t kSecureDeleteBit = 32;   // two bits: 0, 1, 2 (fast)
constexpr std::size_t kSwitchCount = std::size(kSwitches);
constexpr std::size_t kSecureDelete = kSwitchCount;
constexpr std::size_t kAnalysisLimit = kSwitchCount + 1;
constexpr std::size_t kMaxPageCount = kSwitchCount + 2;
constexpr std::uint32_t kMaxPageCountStandard = 0xfffffffe;

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

std::optional<std::int64_t> integer(std::string_view value) {
  std::int64_t number = 0;
  if (value.starts_with('+')) value.remove_prefix(1);
  const auto read = std::from_chars(value.data(), value.data() + value.size(), number);
  if (read.ec != std::errc() || read.ptr != value.data() + value.size()) return std::nullopt;
  return number;
}

std::uint64_t secure_delete(const Registers& registers) { return registers.settings >> kSecureDeleteBit & 3; }

bool is_on(const Registers& registers, std::size_t number) {
  return kSwitches[number].standard != ((registers.settings >> number & 1) != 0);
}

}  // namespace

PragmaRule pragma_rule(std::string_view name) {
  const std::string key = lower(name);
  const auto* rule = std::lower_bound(std::begin(kRules), std::end(kRules), key,
                                      [](const PragmaRule& a, const std::string& b) { return a.name < b; });
  if (rule != std::end(kRules) && rule->name == key) return *rule;
  return {};
}

// As sqlite3GetBoolean reads it.
bool pragma_truth(std::string_view value) {
  const std::string text = lower(value);
  if (!text.empty() && std::isdigit(static_cast<unsigned char>(text[0]))) {
    long long number = 0;
    std::from_chars(text.data(), text.data() + text.size(), number);
    return (number & 0xff) != 0;
  }
  return text == "on" || text == "yes" || text == "true";
}

bool foreign_keys(const Registers& registers) { return is_on(registers, 0); }
void set_foreign_keys(Registers& registers, bool on) { take_setting(registers, kForeignKeys, on ? "1" : "0"); }

void take_setting(Registers& registers, std::string_view name, std::string_view value) {
  for (std::size_t i = 0; i < kSwitchCount; ++i) {
    if (!sql::same_name(name, kSwitches[i].name)) continue;
    const std::uint64_t bit = std::uint64_t{1} << i;
    registers.settings = pragma_truth(value) == kSwitches[i].standard ? registers.settings & ~bit : registers.settings | bit;
    return;
  }
  if (sql::same_name(name, "secure_delete")) {
    const std::uint64_t level = lower(value) == "fast" ? 2 : pragma_truth(value) ? 1 : 0;
    registers.settings = (registers.settings & ~(std::uint64_t{3} << kSecureDeleteBit)) | level << kSecureDeleteBit;
    return;
  }
  const auto number = integer(value);
  if (!number) return;
  if (sql::same_name(name, "analysis_limit") && *number >= 0) {
    registers.analysis_limit = static_cast<std::uint32_t>(std::min<std::int64_t>(*number, 0x7fffffff));
  }
  if (sql::same_name(name, "max_page_count") && *number > 0) {
    registers.max_page_count = static_cast<std::uint32_t>(std::min<std::int64_t>(*number, kMaxPageCountStandard));
    if (registers.max_page_count == kMaxPageCountStandard) registers.max_page_count = 0;
  }
}

std::size_t settings_count() { return kMaxPageCount + 1; }

std::optional<std::string> difference(const Registers& from, const Registers& to, std::size_t number) {
  const auto text = [](std::string_view name, auto value) {
    return "PRAGMA " + std::string(name) + "=" + std::to_string(value);
  };
  if (number < kSwitchCount) {
    if (is_on(from, number) == is_on(to, number)) return std::nullopt;
    return text(kSwitches[number].name, is_on(to, number) ? 1 : 0);
  }
  if (number == kSecureDelete) {
    if (secure_delete(from) == secure_delete(to)) return std::nullopt;
    return secure_delete(to) == 2 ? std::string("PRAGMA secure_delete=fast") : text("secure_delete", secure_delete(to));
  }
  if (number == kAnalysisLimit) {
    if (from.analysis_limit == to.analysis_limit) return std::nullopt;
    return text("analysis_limit", to.analysis_limit);
  }
  if (from.max_page_count == to.max_page_count) return std::nullopt;
  return text("max_page_count", to.max_page_count == 0 ? kMaxPageCountStandard : to.max_page_count);
}

}  // namespace rq::executor
