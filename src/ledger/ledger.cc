// Invariants
//   1. Every Commit line of the file has the salts of the epoch line at its start.
//   2. A line is never overwritten while it is the only one of its frame: lines that repeat a frame alternate between
//      two spare slots behind the frame's own line, so a torn write leaves the other.
//   3. frame_ and position_ are what a reader of the file (and of the WAL) would come to after a sync() now.
#include "ledger/ledger.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/assert.h"
#include "base/crc32c.h"

namespace rq::ledger {
namespace {

static_assert(std::endian::native == std::endian::little, "fields are stored as they lie in memory");

constexpr char kMagic[8] = {'R', 'Q', 'L', 'E', 'D', 'G', 'E', 'R'};
constexpr std::uint64_t kMarkOffset[2] = {kLineBytes, 2 * kLineBytes};   // Durable lines take turns
constexpr std::uint64_t kFirstCommitOffset = 3 * kLineBytes;
constexpr std::size_t kReadBytesMax = 256u << 20;

template <class T>
void put(std::array<char, kLineBytes>& out, std::size_t at, T value) {
  std::memcpy(out.data() + at, &value, sizeof value);
}
template <class T>
T get(std::string_view in, std::size_t at) {
  T value;
  std::memcpy(&value, in.data() + at, sizeof value);
  return value;
}

std::string_view text(const std::array<char, kLineBytes>& line) { return {line.data(), line.size()}; }

}  // namespace

std::array<char, kLineBytes> encode(const Line& line) {
  std::array<char, kLineBytes> out{};
  put(out, 4, static_cast<std::uint8_t>(line.kind));
  put(out, 5, kLineVersion);
  put(out, 8, line.salts.first);
  put(out, 12, line.salts.second);
  put(out, 16, line.frame.number);
  put(out, 20, line.frame.checksum[0]);
  put(out, 24, line.frame.checksum[1]);
  put(out, 28, line.position.registers.max_page_count);
  put(out, 32, line.position.index.value);
  put(out, 40, line.position.term.value);
  put(out, 48, line.position.chain);
  put(out, 56, line.position.registers.last_insert_rowid);
  put(out, 64, line.position.registers.changes);
  put(out, 72, line.position.registers.total_changes);
  put(out, 80, line.position.registers.settings);
  put(out, 88, line.position.registers.analysis_limit);
  std::memcpy(out.data() + 96, kMagic, sizeof kMagic);
  put(out, 104, line.position.engine);
  put(out, 112, line.position.gap.after.value);
  put(out, 120, line.position.gap.until.value);
  put(out, 0, crc32c(text(out).substr(4)));
  return out;
}

Result<Line> decode(std::string_view bytes) {
  if (bytes.size() != kLineBytes) return fail(Errc::Corrupt, "ledger line cut short");
  if (get<std::uint32_t>(bytes, 0) != crc32c(bytes.substr(4)) || std::memcmp(bytes.data() + 96, kMagic, 8) != 0) {
    return fail(Errc::Corrupt, "ledger line checksum");
  }
  if (get<std::uint8_t>(bytes, 5) != kLineVersion) return fail(Errc::Unsupported, "ledger line version");
  const auto kind = get<std::uint8_t>(bytes, 4);
  if (kind < 1 || kind > 3) return fail(Errc::Unsupported, "ledger line kind");
  Line line;
  line.kind = static_cast<Line::Kind>(kind);
  line.salts = {get<std::uint32_t>(bytes, 8), get<std::uint32_t>(bytes, 12)};
  line.frame.number = get<std::uint32_t>(bytes, 16);
  line.frame.checksum[0] = get<std::uint32_t>(bytes, 20);
  line.frame.checksum[1] = get<std::uint32_t>(bytes, 24);
  line.position.index.value = get<std::uint64_t>(bytes, 32);
  line.position.term.value = get<std::uint64_t>(bytes, 40);
  line.position.chain = get<std::uint64_t>(bytes, 48);
  Registers& registers = line.position.registers;
  registers.last_insert_rowid = get<std::int64_t>(bytes, 56);
  registers.changes = get<std::int64_t>(bytes, 64);
  registers.total_changes = get<std::int64_t>(bytes, 72);
  registers.settings = get<std::uint64_t>(bytes, 80);
  registers.analysis_limit = get<std::uint32_t>(bytes, 88);
  line.position.engine = get<std::uint64_t>(bytes, 104);
  line.position.gap = {Index{get<std::uint64_t>(bytes, 112)}, Index{get<std::uint64_t>(bytes, 120)}};
  registers.max_page_count = get<std::uint32_t>(bytes, 28);
  return line;
}

Result<Contents> read(io::Disk& disk, const std::string& path) {
  RQ_TRY(const std::string bytes, io::read_file(disk, path, kReadBytesMax));
  Contents contents;
  RQ_TRY(contents.epoch, decode(std::string_view(bytes).substr(0, kLineBytes)));
  if (contents.epoch.kind != Line::Kind::Epoch) return fail(Errc::Corrupt, "ledger doesn't begin with an epoch");
  for (std::size_t at = kLineBytes; at + kLineBytes <= bytes.size(); at += kLineBytes) {
    auto line = decode(std::string_view(bytes).substr(at, kLineBytes));
    // Torn and never written slots are normal after a crash: each line stands for itself.
    if (!line && line.error().code == Errc::Corrupt) continue;
    if (!line) return fail(line.error());
    if (line->kind != Line::Kind::Epoch && line->salts == contents.epoch.salts) contents.lines.push_back(*line);
  }
  return contents;
}

Result<std::unique_ptr<Ledger>> Ledger::create(io::Disk& disk, std::string path, Salts salts, const Position& base,
                                               const CommitFrame& frame, const Position& position) {
  std::unique_ptr<Ledger> ledger(new Ledger(disk, std::move(path)));
  RQ_CHECK(ledger->replace_file(salts, base, frame, position));
  return ledger;
}

// As io::write_file_atomically(), but it tells a failure that left the old file in place (try again) from one behind the
// rename: then neither file may be written to any more.
Result<std::shared_ptr<io::File>> Ledger::put_in_place(std::string_view bytes) {
  const std::string fresh = path_ + ".new";
  RQ_TRY(std::shared_ptr<io::File> file, disk_.open(fresh, io::OpenMode::CreateOrOpen));
  RQ_CHECK(file->truncate(0));
  RQ_CHECK(file->write_at(0, bytes));
  RQ_CHECK(file->sync());
  RQ_CHECK(disk_.rename(fresh, path_));
  if (auto synced = disk_.sync_dir(path_.substr(0, path_.rfind('/'))); !synced) {
    failed_ = true;
    return fail(synced.error());
  }
  return file;
}

Result<> Ledger::replace_file(Salts salts, const Position& base, const CommitFrame& frame, const Position& position) {
  std::string bytes(kFirstCommitOffset, '\0');
  bytes.replace(0, kLineBytes, text(encode({Line::Kind::Epoch, salts, {}, base})));
  if (frame.number != 0) {
    bytes.replace(kMarkOffset[0], kLineBytes, text(encode({Line::Kind::Durable, salts, frame, position})));
    bytes += text(encode({Line::Kind::Commit, salts, frame, position}));
  }
  RQ_TRY(file_, put_in_place(bytes));
  salts_ = salts;
  frame_ = frame;
  position_ = frame.number != 0 ? position : base;
  durable_ = lined_ = position_.index;
  writes_synced_ = writes_;
  dirty_ = spare_used_ = spare_second_ = line_pending_ = false;
  marks_ = 1;
  marked_ = frame.number;
  next_ = bytes.size();
  return {};
}

Result<> Ledger::begin_epoch(Salts salts) {
  const std::lock_guard lock(mutex_);
  if (failed_) return fail(Errc::Io, "ledger stopped after a failed sync");
  if (salts == salts_) return {};
  const Position base = position_;
  return replace_file(salts, base, {}, base);
}

Result<> Ledger::write_line(std::uint64_t offset, const Line& line) {
  if (failed_) return fail(Errc::Io, "ledger stopped after a failed sync");
  ++writes_;
  return file_->write_at(offset, text(encode(line)));
}

// The newest line of frame_ may stand in a spare slot: the next line goes behind both.
void Ledger::leave_spare_slots() {
  if (!spare_used_) return;
  next_ += 2 * kLineBytes;
  spare_used_ = spare_second_ = false;
}

Result<> Ledger::commit(const CommitFrame& frame, const Position& position) {
  const std::lock_guard lock(mutex_);
  RQ_ASSERT(frame.number != 0);
  RQ_ASSERT(position.index >= position_.index);
  // A commit that failed leaves its line to be overwritten here; whatever of it stays on disk names a checksum that no
  // frame has.
  if (!line_pending_) leave_spare_slots();
  line_pending_ = true;
  pending_frame_ = frame;
  return write_line(next_, {Line::Kind::Commit, salts_, frame, position});
}

void Ledger::committed(const Position& position) {
  const std::lock_guard lock(mutex_);
  position_ = position;
  if (!line_pending_) {   // SQLite wrote no frame for it
    dirty_ = true;
    return;
  }
  frame_ = pending_frame_;
  next_ += kLineBytes;
  lined_ = position.index;
  line_pending_ = false;
  dirty_ = false;
}

void Ledger::advance(const Position& position) {
  const std::lock_guard lock(mutex_);
  RQ_ASSERT(position.index >= position_.index);
  position_ = position;
  dirty_ = true;
}

Result<> Ledger::flush() {
  const std::lock_guard lock(mutex_);
  return flush_locked();
}

Result<> Ledger::flush_locked() {
  if (!dirty_) return {};
  line_pending_ = false;  // of a commit that failed
  const std::uint64_t slot = next_ + (spare_second_ ? kLineBytes : 0);
  RQ_CHECK(write_line(slot, {Line::Kind::Commit, salts_, frame_, position_}));
  spare_used_ = true;
  spare_second_ = !spare_second_;
  lined_ = position_.index;
  dirty_ = false;
  return {};
}

Result<SyncPoint> Ledger::sync() {
  std::unique_lock lock(mutex_);
  // Between commit() and committed() no line may be put elsewhere; the pending one is no part of the point.
  if (!line_pending_) RQ_CHECK(flush_locked());
  const SyncPoint point{salts_, frame_, lined_};
  RQ_CHECK(sync_file(lock));
  return point;
}

Result<> Ledger::sync_file(std::unique_lock<std::mutex>& lock) {
  if (failed_) return fail(Errc::Io, "ledger stopped after a failed sync");
  if (writes_synced_ == writes_) return {};
  const std::shared_ptr<io::File> file = file_;
  const std::uint64_t covered = writes_;
  lock.unlock();
  auto synced = file->sync();
  lock.lock();
  if (!synced) {
    failed_ = true;
    return synced;
  }
  if (file == file_) writes_synced_ = std::max(writes_synced_, covered);
  return {};
}

Result<> Ledger::mark_durable(const SyncPoint& point) {
  std::unique_lock lock(mutex_);
  if (point.salts != salts_) return {};   // the WAL began anew since: all of it was moved
  if (point.frame.number > marked_) {
    RQ_CHECK(write_line(kMarkOffset[marks_++ % 2], {Line::Kind::Durable, salts_, point.frame, position_}));
    marked_ = point.frame.number;
    RQ_CHECK(sync_file(lock));
  }
  durable_ = std::max(durable_, point.index);
  return {};
}

CommitFrame Ledger::newest_frame() const {
  const std::lock_guard lock(mutex_);
  return frame_;
}

Position Ledger::position() const {
  const std::lock_guard lock(mutex_);
  return position_;
}

Index Ledger::durable_index() const {
  const std::lock_guard lock(mutex_);
  return durable_;
}

std::uint64_t Ledger::bytes() const {
  const std::lock_guard lock(mutex_);
  return next_ + (spare_used_ ? 2 * kLineBytes : 0);
}

}  // namespace rq::ledger
