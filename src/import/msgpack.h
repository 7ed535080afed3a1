// Reads the MessagePack values that the reference writes: maps, arrays, unsigned numbers, raw strings, nil. Strings are
// handed out as ranges, never read unless asked for; nesting is bounded.
#pragma once

#include <optional>
#include <string>

#include "import/file_range.h"

namespace rq::import {

class MsgpackReader {
 public:
  explicit MsgpackReader(FileRange range) : range_(std::move(range)) {}

  // Errors of all: Errc::Corrupt (another kind of value, cut short), Io.
  Result<std::uint64_t> map_size();
  Result<std::uint64_t> array_size();      // nil counts as an empty one
  Result<std::uint64_t> number();
  Result<std::optional<FileRange>> raw();  // nullopt: nil
  Result<std::string> text(std::uint64_t bytes_max);   // a raw string that is short
  Result<> skip() { return skip(0); }      // one value of any kind
  bool at_end() const { return at_ == range_.size(); }

 private:
  Result<std::uint64_t> byte();
  Result<std::uint64_t> big(std::uint64_t bytes);
  Result<std::string> take(std::uint64_t count);
  Result<std::optional<std::uint64_t>> raw_size(std::uint64_t tag);   // nullopt: not a raw string
  Result<> pass(std::uint64_t count);
  Result<> skip(unsigned depth);
  Result<> skip_all(std::uint64_t values, unsigned depth);
  tl::unexpected<Error> unexpected_tag(std::uint64_t tag) const;

  FileRange range_;
  std::uint64_t at_ = 0;
  std::string window_;            // bytes of the range from window_at_ on
  std::uint64_t window_at_ = 0;
};

}  // namespace rq::import
