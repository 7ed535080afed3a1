// Inputs: bytes that come one after the other, so that a database image of any size passes through a small buffer.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"
#include "import/file_range.h"
#include "io/disk.h"

namespace rq::import {

class Input {
 public:
  virtual ~Input() = default;
  // Up to out.size() bytes; 0 at the end only. Errors of the source; Errc::Corrupt.
  virtual Result<std::size_t> read(std::span<char> out) = 0;
};

std::unique_ptr<Input> input_of(FileRange range);
std::unique_ptr<Input> input_of(std::string_view bytes);            // must outlive the input
// Of a gzip stream, or several one after the other. `source` says in messages whose bytes they are.
std::unique_ptr<Input> gunzip(std::unique_ptr<Input> compressed, std::string source);

Result<std::string> read_all(Input& input, std::uint64_t bytes_max, const std::string& source);   // Errc::TooLarge
// Exactly `count` bytes. Errc::Corrupt: there are fewer.
Result<std::string> read_exactly(Input& input, std::size_t count, const std::string& source);

// Told of bytes that are done; false: stop (Errc::Canceled).
using Progress = std::function<bool(std::uint64_t bytes)>;
// Writes what is left of the input into a file from `at` on; `look` sees each piece. The value: how many bytes.
Result<std::uint64_t> copy_to(Input& input, io::File& file, std::uint64_t at, const Progress& progress,
                              const std::function<void(std::string_view)>& look = nullptr);

}  // namespace rq::import
