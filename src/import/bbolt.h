// Reads a bbolt file (the reference's raft.db): a copy-on-write B+ tree in pages. Nothing is trusted: each page's number,
// kind and element table are checked, keys must rise over a whole walk (so no cycle of pages can hold it), depth is
// bounded. Memory: one page of elements at a time for each level; values are handed out as ranges of the file.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "import/file_range.h"

namespace rq::import {

class BoltFile {
 public:
  // False: enough.
  using Visit = std::function<Result<bool>(std::string_view key, const FileRange& value)>;

  // Takes the newest valid meta page. Errc::Corrupt: none is valid; Unsupported: of another version.
  static Result<BoltFile> open(FileRange file);
  // The keys of a bucket in order, from the first that is >= `from`. Errc::NotFound: no such bucket; Corrupt.
  Result<> walk(std::string_view bucket, std::string_view from, const Visit& visit) const;
  // Errc::NotFound: no such bucket; Corrupt.
  Result<std::optional<FileRange>> find(std::string_view bucket, std::string_view key) const;

 private:
  struct Walk;
  explicit BoltFile(FileRange file) : file_(std::move(file)) {}
  Result<FileRange> page(std::uint64_t id) const;
  Result<bool> visit_page(const FileRange& page, Walk& walk, unsigned depth) const;
  Result<bool> visit_branch(const FileRange& page, std::uint64_t count, Walk& walk, unsigned depth) const;
  Result<bool> visit_leaf(const FileRange& page, std::uint64_t count, Walk& walk) const;
  Result<FileRange> bucket_root(std::string_view bucket) const;

  FileRange file_;
  std::uint64_t page_bytes_ = 0;
  std::uint64_t root_ = 0;
  std::uint64_t pages_ = 0;     // all page numbers are below
};

}  // namespace rq::import
