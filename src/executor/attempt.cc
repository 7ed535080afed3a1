#include "executor/attempt.h"

#include <bit>
#include <cstring>

#include "base/crc32c.h"

namespace rq::executor {
namespace {

struct Note {
  std::uint64_t index;
  std::uint32_t attempts;
  std::uint32_t checksum;
};
static_assert(sizeof(Note) == 16 && std::endian::native == std::endian::little);

std::string_view bytes_of(const Note& note) { return {reinterpret_cast<const char*>(&note), sizeof note}; }

}  // namespace

Result<AttemptNote> AttemptNote::open(io::Disk& disk, const std::string& path, Index applied) {
  RQ_TRY(auto file, disk.open(path, io::OpenMode::CreateOrOpen));
  AttemptNote note(std::move(file));
  RQ_TRY(const std::string bytes, note.file_->read_at(0, sizeof(Note)));
  Note found{};
  if (bytes.size() != sizeof found) return note;
  std::memcpy(&found, bytes.data(), sizeof found);
  const bool intact = found.checksum == crc32c(bytes_of(found).substr(0, 12));
  if (intact && found.index > applied.value) {
    note.suspect_ = {found.index};
    note.suspect_attempts_ = found.attempts;
  }
  return note;
}

Result<> AttemptNote::write(Index index, std::uint32_t attempts) {
  Note note{index.value, attempts, 0};
  note.checksum = crc32c(bytes_of(note).substr(0, 12));
  return file_->write_at(0, bytes_of(note));
}

Result<> AttemptNote::begin(Index index) {
  // Entries before the suspect are replayed: their notes would hide it.
  if (index < suspect_) return {};
  return write(index, index == suspect_ ? suspect_attempts_ + 1 : 1);
}

Result<> AttemptNote::withdraw(Index index) {
  if (index < suspect_) return {};
  return write(index, index == suspect_ ? suspect_attempts_ : 0);
}

}  // namespace rq::executor
