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
  for (std::size_t place = 0; place < note.suspects_.size(); ++place) {
    RQ_TRY(const std::string bytes, note.file_->read_at(place * sizeof(Note), sizeof(Note)));
    Note found{};
    if (bytes.size() != sizeof found) break;
    std::memcpy(&found, bytes.data(), sizeof found);
    const bool intact = found.checksum == crc32c(bytes_of(found).substr(0, 12));
    if (intact && found.index > applied.value) note.suspects_[place] = {Index{found.index}, found.attempts};
  }
  return note;
}

Index AttemptNote::poison() const {
  Index first;
  for (const Suspect& suspect : suspects_)
    if (suspect.attempts >= kAttemptsMax && (!first || suspect.index < first)) first = suspect.index;
  return first;
}

std::uint32_t AttemptNote::attempts(Index index) const {
  for (const Suspect& suspect : suspects_)
    if (index && suspect.index == index) return suspect.attempts;
  return 0;
}

// Its own one; else one whose suspect lies behind us; else one whose suspect is forgotten: that of fewer deaths, then the later one.
std::size_t AttemptNote::place_of(Index index) const {
  for (std::size_t place = 0; place < suspects_.size(); ++place)
    if (suspects_[place].index == index) return place;
  if (suspects_[0].index < index) return 0;
  if (suspects_[1].index < index) return 1;
  if (suspects_[0].attempts != suspects_[1].attempts) return suspects_[0].attempts < suspects_[1].attempts ? 0 : 1;
  return suspects_[0].index > suspects_[1].index ? 0 : 1;
}

Result<> AttemptNote::write(Index index, std::uint32_t attempts) {
  Note note{index.value, attempts, 0};
  note.checksum = crc32c(bytes_of(note).substr(0, 12));
  return file_->write_at(place_of(index) * sizeof(Note), bytes_of(note));
}

void AttemptNote::passed(Index until) {
  for (Suspect& suspect : suspects_)
    if (suspect.index <= until) suspect = {};
}

Result<> AttemptNote::begin(Index index) { return write(index, attempts(index) + 1); }

Result<> AttemptNote::survived(Index index) {
  RQ_CHECK(write(index, 0));
  RQ_CHECK(file_->sync());               // else power may leave the note of its beginning
  for (Suspect& suspect : suspects_)
    if (suspect.index == index) suspect.attempts = 0;
  return {};
}

Result<> AttemptNote::withdraw(Index index) { return write(index, attempts(index)); }

}  // namespace rq::executor
