#include "import/file_range.h"

#include <algorithm>

#include "base/assert.h"

namespace rq::import {

Result<FileRange> FileRange::whole(io::Disk& disk, const std::string& path) {
  auto source = std::make_shared<SourceFile>();
  RQ_TRY(source->file, disk.open(path, io::OpenMode::ReadOnly));
  RQ_TRY(source->size, source->file->size());
  source->path = path;
  FileRange range;
  range.size_ = source->size;
  range.source_ = std::move(source);
  return range;
}

Result<std::string> FileRange::read_some(std::uint64_t at, std::uint64_t count) const {
  if (at >= size_) return std::string();
  return source_->file->read_at(offset_ + at, static_cast<std::size_t>(std::min(count, size_ - at)));
}

Result<std::string> FileRange::read(std::uint64_t at, std::uint64_t count) const {
  if (at > size_ || count > size_ - at) return corrupt("something is said to lie beyond its end", at);
  RQ_TRY(std::string bytes, read_some(at, count));
  if (bytes.size() != count) return corrupt("the file is shorter than it was", at);
  return bytes;
}

Result<FileRange> FileRange::part(std::uint64_t at, std::uint64_t count) const {
  if (at > size_ || count > size_ - at) return corrupt("something is said to lie beyond its end", at);
  FileRange range = *this;
  range.offset_ += at;
  range.size_ = count;
  return range;
}

tl::unexpected<Error> FileRange::corrupt(std::string_view what, std::uint64_t at) const {
  return fail(Errc::Corrupt, path() + ": " + std::string(what) + " (at byte " + std::to_string(offset_ + at) + ")");
}

const std::string& FileRange::path() const {
  static const std::string none = "no file";
  return source_ ? source_->path : none;
}

std::uint64_t little_endian(std::string_view bytes) {
  RQ_ASSERT(bytes.size() <= 8);
  std::uint64_t value = 0;
  for (std::size_t i = bytes.size(); i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

std::uint64_t big_endian(std::string_view bytes) {
  RQ_ASSERT(bytes.size() <= 8);
  std::uint64_t value = 0;
  for (const char byte : bytes) value = value << 8 | static_cast<unsigned char>(byte);
  return value;
}

}  // namespace rq::import
