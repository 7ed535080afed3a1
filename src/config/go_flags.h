// FlagSet: a command line read as Go's package flag reads it (one or two dashes, -name value or -name=value, bool values only
// with =), with its texts for what is wrong. Knows nothing of what the flags mean. Used by one thread, at start.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/options.h"

namespace rq::config {

class FlagSet {
 public:
  // `head` is what the usage says above the list of flags.
  explicit FlagSet(std::string head) : head_(std::move(head)) {}

  // Declares a flag. `out` holds the default now and the parsed value later, and outlives the set.
  void text(std::string_view name, std::string& out, std::string_view help);
  void boolean(std::string_view name, bool& out, std::string_view help);
  void integer(std::string_view name, std::int64_t& out, std::string_view help);
  void unsigned_integer(std::string_view name, std::uint64_t& out, std::string_view help);
  void duration(std::string_view name, Duration& out, std::string_view help);

  // Reads up to the first argument that is no flag, or behind "--". An Exit: help was asked for (code 0), or something is
  // wrongly written (code 2); the outs are then half filled.
  std::optional<Exit> parse(const std::vector<std::string>& arguments);

  const std::vector<std::string>& rest() const { return rest_; }    // the arguments that are no flags
  bool given(std::string_view name) const;
  // Names of the flags whose value isn't the default, in the order in which they were first given.
  std::vector<std::string> changed() const;
  std::string usage() const;

 private:
  struct Flag {
    std::string_view type;        // empty for bool
    std::string help;
    std::string shown_default;    // empty when it is the zero value
    std::function<std::string(const std::string&)> set;      // what is wrong, or empty
    std::function<bool()> is_default;
  };
  void add(std::string_view name, Flag flag) { flags_.emplace(name, std::move(flag)); }
  std::optional<Exit> parse_one(const std::vector<std::string>& arguments, std::size_t& at);
  Exit wrong(const std::string& text) const { return {2, text + "\n" + usage()}; }

  const std::string head_;
  std::map<std::string, Flag, std::less<>> flags_;
  std::vector<std::string> given_;
  std::vector<std::string> rest_;
};

// Go's %q for what people type: quotes, backslashes and control characters escaped.
std::string go_quoted(std::string_view text);

}  // namespace rq::config
