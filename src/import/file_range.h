// FileRange: some bytes of a file that somebody else wrote. Every read is checked against the range; nothing is mapped.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "io/disk.h"

namespace rq::import {

// An open file with its name for messages. Shared by the ranges in it.
struct SourceFile {
  std::unique_ptr<io::File> file;
  std::string path;
  std::uint64_t size = 0;
};

class FileRange {
 public:
  FileRange() = default;
  // Errc::NotFound, Io.
  static Result<FileRange> whole(io::Disk& disk, const std::string& path);

  std::uint64_t size() const { return size_; }
  // Exactly these bytes. Errc::Corrupt: they don't lie in the range, or the file became shorter.
  Result<std::string> read(std::uint64_t at, std::uint64_t count) const;
  // What there is, at most `count` bytes.
  Result<std::string> read_some(std::uint64_t at, std::uint64_t count) const;
  Result<FileRange> part(std::uint64_t at, std::uint64_t count) const;   // Errc::Corrupt
  // `PATH: what (at byte N)`; `at` counts from the start of the range.
  tl::unexpected<Error> corrupt(std::string_view what, std::uint64_t at = 0) const;
  const std::string& path() const;

 private:
  std::shared_ptr<const SourceFile> source_;
  std::uint64_t offset_ = 0, size_ = 0;
};

// Numbers in byte strings that were checked for their length.
std::uint64_t little_endian(std::string_view bytes);   // of up to 8 bytes
std::uint64_t big_endian(std::string_view bytes);

}  // namespace rq::import
