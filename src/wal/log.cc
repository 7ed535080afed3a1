// Invariants
//   1. Only the last segment is written; every earlier one was synced whole before its successor got its name.
//   2. A record's `synced` never exceeds what a successful sync() covered: a bad record below the `synced` of a good one
//      behind it is corruption; any other bad record is the torn end of what was never acknowledged.
//   3. The header of a segment names the end of the log when it was begun. Entries at or below it may stand in the segment: a
//      tail that was replaced. compact() drops the segment before only when none of those can be replaced any more.
//   4. points_ are ascending by index; the entries from one point up to the next lie one behind the other in one segment.
#include "wal/log.h"

#include <algorithm>
#include <cstdio>
#include <deque>
#include <mutex>

#include "base/assert.h"
#include "base/crc32c.h"
#include "wal/format.h"

namespace rq::wal {
namespace {

using raft::Entry;

constexpr std::uint64_t kPointEvery = 32;            // entries
constexpr std::size_t kScanChunk = 1u << 20;
constexpr std::size_t kReadChunk = 64u << 10;
constexpr std::uint64_t kVoteReserve = 4u << 10;     // of a segment, while there is no spare: room for votes on a full disk
constexpr std::string_view kSpareName = "spare";

std::string segment_name(Index first, std::uint64_t sequence) {
  char text[64];
  std::snprintf(text, sizeof text, "wal-%020llu-%010llu", static_cast<unsigned long long>(first.value),
                static_cast<unsigned long long>(sequence));
  return text;
}

void put_u64(std::string& out, std::uint64_t value) {
  for (int i = 0; i < 8; ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
}
bool take_u64(std::string_view& in, std::uint64_t& value) {
  if (in.size() < 8) return false;
  value = 0;
  for (int i = 0; i < 8; ++i) value |= std::uint64_t{static_cast<unsigned char>(in[static_cast<std::size_t>(i)])} << (8 * i);
  in.remove_prefix(8);
  return true;
}

void put_ids(std::string& out, const std::vector<RaftId>& ids) {
  put_u64(out, ids.size());
  for (const RaftId id : ids) put_u64(out, id.value);
}
bool take_ids(std::string_view& in, std::vector<RaftId>& ids) {
  std::uint64_t count = 0;
  if (!take_u64(in, count) || count > in.size() / 8) return false;
  for (std::uint64_t i = 0; i < count; ++i) {
    RaftId id;
    if (!take_u64(in, id.value)) return false;
    ids.push_back(id);
  }
  return true;
}

std::string encode(const raft::HardState& state) {
  std::string out;
  put_u64(out, state.term.value);
  put_u64(out, state.vote.value);
  put_u64(out, state.commit.value);
  return out;
}
bool decode(std::string_view in, raft::HardState& state) {
  return take_u64(in, state.term.value) && take_u64(in, state.vote.value) && take_u64(in, state.commit.value) && in.empty();
}

std::string encode(const Membership& membership) {
  std::string out;
  put_ids(out, membership.conf_state.voters);
  put_ids(out, membership.conf_state.learners);
  put_ids(out, membership.conf_state.voters_outgoing);
  put_ids(out, membership.conf_state.learners_next);
  put_u64(out, membership.conf_state.auto_leave ? 1 : 0);
  return out + membership.members;
}
bool decode(std::string_view in, Membership& membership) {
  std::uint64_t auto_leave = 0;
  raft::ConfState& conf = membership.conf_state;
  if (!take_ids(in, conf.voters) || !take_ids(in, conf.learners) || !take_ids(in, conf.voters_outgoing) ||
      !take_ids(in, conf.learners_next) || !take_u64(in, auto_leave))
    return false;
  conf.auto_leave = auto_leave != 0;
  membership.members = in;
  return true;
}

struct Segment {
  std::string path;
  SegmentHeader header;
  std::shared_ptr<io::File> file;
  std::uint64_t end = 0;        // bytes in use
  std::uint64_t capacity = 0;   // bytes of the file
};

struct Point {                  // where an entry stands
  Index index;
  std::uint64_t sequence = 0;
  std::uint64_t offset = 0;
};

// What replaying or appending records makes of the log.
struct State {
  raft::HardState hard_state;
  Membership membership;
  SnapshotMark snapshot;
  Index first{1}, last{0};
  std::vector<std::pair<Index, Term>> term_starts;
  std::vector<Index> conf_entries;
  std::vector<Point> points;
  std::uint64_t since_point = 0;

  void cut_from(Index index) {
    while (!term_starts.empty() && term_starts.back().first >= index) term_starts.pop_back();
    while (!conf_entries.empty() && conf_entries.back() >= index) conf_entries.pop_back();
    while (!points.empty() && points.back().index >= index) points.pop_back();
    last = Index{index.value - 1};
    since_point = kPointEvery;
  }
  void begin_behind(SnapshotMark mark) {
    snapshot = mark;
    first = mark.index.next();
    cut_from(Index{0}.next());
    last = mark.index;
  }
  void add(Index index, Term term, std::uint8_t entry_type, std::uint64_t sequence, std::uint64_t offset) {
    if (index <= last) cut_from(index);
    if (term_starts.empty() || term_starts.back().second != term) term_starts.emplace_back(index, term);
    if (entry_type == static_cast<std::uint8_t>(raft::EntryType::ConfChange)) conf_entries.push_back(index);
    if (points.empty() || points.back().sequence != sequence || since_point >= kPointEvery) {
      points.push_back({index, sequence, offset});
      since_point = 0;
    }
    ++since_point;
    last = index;
  }
  Term term_of(Index index) const {
    const auto after = std::ranges::upper_bound(term_starts, index, {}, [](const auto& run) { return run.first; });
    return after == term_starts.begin() ? Term{} : std::prev(after)->second;
  }
};

class DiskLog final : public Log {
 public:
  DiskLog(io::Disk& disk, std::string dir, const Options& options) : disk_(disk), dir_(std::move(dir)), options_(options) {}

  Result<Recovered> recover();
  Result<> append(const Batch& batch) override;
  Result<> sync() override;
  Result<std::vector<Entry>> read(Index first, Index last, std::size_t bytes_max) const override;
  Result<Term> term_of(Index index) const override;
  using Log::compact;
  Result<> compact(Index first_kept, Index first_needed, std::uint64_t bytes_max) override;
  Index first() const override {
    const std::lock_guard lock(mutex_);
    return state_.first;
  }
  Index last() const override {
    const std::lock_guard lock(mutex_);
    return state_.last;
  }
  std::uint64_t disk_bytes() const override {
    const std::lock_guard lock(mutex_);
    std::uint64_t total = spare_capacity_;
    for (const Segment& segment : segments_) total += segment.capacity;
    return total;
  }
  bool spare_wanted() const override {
    const std::lock_guard lock(mutex_);
    return !spare_ready_ && !spare_failed_ && !segments_.empty() && segments_.back().end * 2 > segments_.back().capacity;
  }
  Result<> prepare_spare() override;

 private:
  Result<> replay(Segment& segment, bool newest, std::uint64_t& cut_bytes);
  Result<> apply(const Parsed& record, const Segment& segment, std::uint64_t offset);
  Result<> judge_end(Segment& segment, std::string_view rest, std::uint64_t offset, bool newest, std::uint64_t& cut_bytes);
  Result<> begin_segment(std::uint64_t needed);
  Result<> make_file(std::uint64_t capacity);
  std::uint64_t next_capacity() const;
  std::string compose(const Batch& batch, Segment& segment);
  std::string path_of(std::string_view name) const { return dir_ + "/" + std::string(name); }
  tl::unexpected<Error> stop(const Error& why);
  tl::unexpected<Error> damaged(const Segment& segment, std::uint64_t offset, std::string_view what) const {
    return fail(Errc::Corrupt, "raft log " + segment.path + ": " + std::string(what) + " at byte " + std::to_string(offset));
  }

  io::Disk& disk_;
  const std::string dir_;
  const Options options_;
  mutable std::mutex mutex_;            // guards all below against read(), first(), last(), prepare_spare(), compact()
  State state_;
  std::deque<Segment> segments_;
  std::uint64_t synced_ = 0;            // bytes of the last segment that are durable
  bool dirty_ = false;
  std::deque<std::string> dropped_;     // segments that compact() has yet to remove, oldest first; its thread alone
  bool beginning_cut_ = false;          // replay: by compact(), not by a snapshot
  std::optional<Membership> snapshot_membership_;   // replay: of a snapshot whose mark is to come
  bool spare_ready_ = false, spare_failed_ = false;
  std::uint64_t spare_capacity_ = 0;
  std::optional<Error> stopped_;
};

// ---- recovery

Result<Recovered> DiskLog::recover() {
  RQ_CHECK(disk_.make_dirs(dir_));
  RQ_TRY(const std::vector<std::string> names, disk_.list(dir_));
  for (const std::string& name : names) {
    if (!name.starts_with("wal-")) continue;
    Segment segment{.path = path_of(name)};
    RQ_TRY(std::unique_ptr<io::File> file, disk_.open(segment.path, io::OpenMode::ReadWrite));
    segment.file = std::move(file);
    RQ_TRY(segment.capacity, segment.file->size());
    RQ_TRY(const std::string head, segment.file->read_at(0, kSegmentHeaderBytes));
    const std::optional<SegmentHeader> header = SegmentHeader::decode(head);
    if (!header) return damaged(segment, 0, "not a segment of this version");
    segment.header = *header;
    segments_.push_back(std::move(segment));
  }
  std::ranges::sort(segments_, {}, [](const Segment& segment) { return segment.header.sequence; });
  if (!segments_.empty()) {
    const SegmentHeader& oldest = segments_.front().header;
    state_.begin_behind({oldest.base_index, oldest.base_term});
    beginning_cut_ = oldest.sequence > 1;
  }
  std::uint64_t cut_bytes = 0;
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    const bool newest = i + 1 == segments_.size();
    if (!newest && segments_[i + 1].header.sequence != segments_[i].header.sequence + 1)
      return damaged(segments_[i + 1], 0, "the segment before it is missing");
    RQ_CHECK(replay(segments_[i], newest, cut_bytes));
    if (!newest && segments_[i].end != segments_[i + 1].header.previous_end) return damaged(segments_[i], segments_[i].end, "records are missing");
  }
  // What is there is made durable before anybody builds on it: a crash now must not lose what we are about to report.
  if (!segments_.empty()) {
    RQ_CHECK(segments_.back().file->sync());
    RQ_CHECK(disk_.sync_dir(dir_));
    synced_ = segments_.back().end;
  }
  RQ_TRY(const bool spare, disk_.exists(path_of(kSpareName)));
  if (spare) RQ_CHECK(disk_.remove(path_of(kSpareName)));
  Recovered out{.hard_state = state_.hard_state, .membership = state_.membership, .snapshot = state_.snapshot,
                .first = state_.first, .last = state_.last, .term_starts = state_.term_starts,
                .conf_entries = state_.conf_entries, .cut_bytes = cut_bytes};
  out.last_term = state_.last >= state_.first ? state_.term_of(state_.last) : state_.snapshot.term;
  // Power took the hard state behind these entries. No vote of their term was given: a vote is durable before it is sent.
  if (out.last_term > state_.hard_state.term) out.hard_state = state_.hard_state = {.term = out.last_term, .vote = {}, .commit = state_.hard_state.commit};
  return out;
}

// Reads the segment in large pieces; records that cross a piece's end are read again with the next.
Result<> DiskLog::replay(Segment& segment, bool newest, std::uint64_t& cut_bytes) {
  std::string piece;
  std::uint64_t offset = kSegmentHeaderBytes;
  std::size_t want = kScanChunk;
  while (true) {
    RQ_TRY(piece, segment.file->read_at(offset, want));
    const bool at_end = piece.size() < want;
    want = kScanChunk;
    std::size_t used = 0;
    while (true) {
      const Parsed record = parse_record(std::string_view(piece).substr(used), segment.header, offset + used, options_.record_bytes_max);
      if (record.state == Parsed::State::Good) {
        RQ_CHECK(apply(record, segment, offset + used));
        used += static_cast<std::size_t>(record_bytes(record.header.length));
        used = std::min(used, piece.size());
        continue;
      }
      if (record.state == Parsed::State::Short && !at_end) {
        want = std::max<std::size_t>(kScanChunk, static_cast<std::size_t>(record.needed));
        break;
      }
      segment.end = offset + used;
      if (record.state == Parsed::State::Short && used == piece.size()) return {};   // the file ends with a record
      return judge_end(segment, std::string_view(piece).substr(used), segment.end, newest, cut_bytes);
    }
    offset += used;
  }
}

// No good record stands at `offset`. Clean end, torn end, or damage of what was durable?
Result<> DiskLog::judge_end(Segment& segment, std::string_view, std::uint64_t offset, bool newest, std::uint64_t& cut_bytes) {
  RQ_TRY(const std::string rest, segment.file->read_at(offset, static_cast<std::size_t>(segment.capacity - offset)));
  const std::size_t dirt = rest.find_first_not_of('\0');
  if (dirt == std::string::npos) return {};
  if (!newest) return {};          // its successor says where it ends, and that is checked
  for (std::size_t at = kAlign; at + kRecordHeaderBytes <= rest.size(); at += kAlign) {
    const Parsed record = parse_record(std::string_view(rest).substr(at), segment.header, offset + at, rest.size());
    if (record.state == Parsed::State::Good && record.header.synced > offset) return damaged(segment, offset, "bad record");
  }
  // Never acknowledged: cut, so that nothing of it can fit behind what is written there next.
  cut_bytes += rest.size();
  RQ_CHECK(segment.file->truncate(offset));
  RQ_CHECK(segment.file->sync());
  RQ_CHECK(segment.file->extend_with_zeros(segment.capacity));
  return segment.file->sync();
}

Result<> DiskLog::apply(const Parsed& record, const Segment& segment, std::uint64_t offset) {
  const RecordHeader& header = record.header;
  switch (header.type) {
    case RecordType::Entry:
      // The beginning of the log was cut, then this entry's place was in it: written before that, as part of a replaced tail.
      // What stood before it is gone; it is committed (or nothing would have been cut), and the log goes on behind it.
      if (beginning_cut_ && header.index.value != 0 && header.index < state_.first) {
        state_.begin_behind({header.index, header.term});
        return {};
      }
      if (header.index > state_.last.next() || header.index < state_.first) return damaged(segment, offset, "entry out of order");
      state_.add(header.index, header.term, header.entry_type, segment.header.sequence, offset);
      return {};
    case RecordType::HardState:
      if (!decode(record.payload, state_.hard_state)) return damaged(segment, offset, "bad hard state");
      return {};
    case RecordType::Membership: {
      Membership membership{.index = header.index};
      if (!decode(record.payload, membership)) return damaged(segment, offset, "bad membership");
      // Of a snapshot: its mark comes next, or was lost with the power. Then all is as before.
      if (membership.index > state_.last) snapshot_membership_ = std::move(membership);
      else state_.membership = std::move(membership);
      return {};
    }
    case RecordType::Snapshot:
      beginning_cut_ = false;
      state_.begin_behind({header.index, header.term});
      if (snapshot_membership_ && snapshot_membership_->index == header.index) state_.membership = *std::move(snapshot_membership_);
      snapshot_membership_.reset();
      return {};
    case RecordType::End:
      break;
  }
  return damaged(segment, offset, "unknown record");
}

// ---- writing

tl::unexpected<Error> DiskLog::stop(const Error& why) {
  stopped_ = Error{Errc::Io, "log stopped: " + why.text()};
  return fail(*stopped_);
}

std::uint64_t DiskLog::next_capacity() const {
  const std::uint64_t wanted = segments_.empty() ? options_.segment_bytes_first
                                                 : std::min(segments_.back().capacity * 2, options_.segment_bytes_max);
  const Result<std::uint64_t> free = disk_.free_bytes(dir_);
  const std::uint64_t least = std::min<std::uint64_t>(options_.segment_bytes_first, 1u << 20);
  return free ? std::max(std::min(wanted, *free / 8), least) : wanted;
}

Result<> DiskLog::make_file(std::uint64_t capacity) {
  const std::string path = path_of(kSpareName);
  if (auto removed = disk_.remove(path); !removed && removed.error().code != Errc::NotFound) return removed;
  auto made = [&]() -> Result<> {
    RQ_TRY(const std::unique_ptr<io::File> file, disk_.open(path, io::OpenMode::CreateNew));
    RQ_CHECK(file->extend_with_zeros(capacity));
    return file->sync();
  }();
  if (!made) (void)disk_.remove(path);   // a half-made spare only takes space
  return made;
}

Result<> DiskLog::prepare_spare() {
  std::uint64_t capacity = 0;
  {
    const std::lock_guard lock(mutex_);
    if (spare_ready_ || stopped_) return {};
    capacity = next_capacity();
    spare_failed_ = true;                 // no second one at the same time; also holds after a failure
  }
  const Result<> made = make_file(capacity);
  const std::lock_guard lock(mutex_);
  spare_failed_ = !made && made.error().code != Errc::NoSpace;
  spare_ready_ = made.has_value();
  spare_capacity_ = made ? capacity : 0;
  return made;
}

// Gives the spare its header and its name. Everything before it is durable by then (invariant 1).
Result<> DiskLog::begin_segment(std::uint64_t needed) {
  if (dirty_) RQ_CHECK(sync());
  needed += kSegmentHeaderBytes + kVoteReserve;
  if (!spare_ready_ || spare_capacity_ < needed) {
    const std::uint64_t capacity = std::max(next_capacity(), needed);
    RQ_CHECK(make_file(capacity));
    spare_ready_ = true;
    spare_capacity_ = capacity;
  }
  Segment segment;
  segment.header.sequence = segments_.empty() ? 1 : segments_.back().header.sequence + 1;
  segment.header.base_index = state_.last;
  segment.header.base_term = state_.last >= state_.first ? state_.term_of(state_.last) : state_.snapshot.term;
  segment.header.previous_end = segments_.empty() ? 0 : segments_.back().end;
  segment.header.seed = crc32c(segment.header.encode(), segments_.empty() ? 0 : segments_.back().header.seed);
  segment.path = path_of(segment_name(state_.last.next(), segment.header.sequence));
  segment.capacity = spare_capacity_;
  RQ_TRY(std::unique_ptr<io::File> file, disk_.open(path_of(kSpareName), io::OpenMode::ReadWrite));
  segment.file = std::move(file);
  std::string head = segment.header.encode();
  segment.end = head.size();
  // Copies of what the older segments say, so that they can be dropped: snapshot mark, hard state, membership.
  const Batch copies{.snapshot = state_.first.value > 1 ? std::optional(SnapshotMark{segment.header.base_index, segment.header.base_term}) : std::nullopt,
                     .entries = {},
                     .hard_state = state_.hard_state,
                     .membership = state_.membership.index ? std::optional(state_.membership) : std::nullopt};
  if (!segments_.empty()) {
    Batch without_mark = copies;
    without_mark.snapshot.reset();       // the header's base says where the log goes on
    head += compose(without_mark, segment);
  }
  RQ_CHECK(segment.file->write_at(0, head));
  if (const Result<> synced = segment.file->sync(); !synced) return stop(synced.error());
  segment.end = head.size();
  RQ_CHECK(disk_.rename(path_of(kSpareName), segment.path));
  if (const Result<> synced = disk_.sync_dir(dir_); !synced) return stop(synced.error());
  spare_ready_ = spare_failed_ = false;
  spare_capacity_ = 0;
  synced_ = segment.end;
  segments_.push_back(std::move(segment));
  return {};
}

// The records of a batch as they will stand at segment.end.
std::string DiskLog::compose(const Batch& batch, Segment& segment) {
  std::string out;
  const std::uint64_t synced = segments_.empty() || &segment != &segments_.back() ? 0 : synced_;
  const auto add = [&](RecordHeader header, std::string_view payload) {
    header.synced = synced;
    append_record(out, segment.header, segment.end + out.size(), header, payload);
  };
  const auto add_membership = [&] { add({.type = RecordType::Membership, .index = batch.membership->index}, encode(*batch.membership)); };
  // A snapshot's membership goes in front of its mark: whatever power takes of the batch, the mark is not there without it.
  if (batch.snapshot && batch.membership) add_membership();
  if (batch.snapshot) add({.type = RecordType::Snapshot, .term = batch.snapshot->term, .index = batch.snapshot->index}, {});
  for (const Entry& entry : batch.entries)
    add({.type = RecordType::Entry, .entry_type = static_cast<std::uint8_t>(entry.type), .term = entry.term, .index = entry.index}, *entry.payload);
  // Behind the entries: a commit index that outlived the power without them would commit the old tail that they replace.
  if (batch.hard_state) add({.type = RecordType::HardState}, encode(*batch.hard_state));
  if (!batch.snapshot && batch.membership) add_membership();
  return out;
}

Result<> DiskLog::append(const Batch& batch) {
  std::uint64_t needed = 0;
  if (batch.snapshot) needed += record_bytes(0);
  if (batch.hard_state) needed += record_bytes(24);
  if (batch.membership) needed += record_bytes(encode(*batch.membership).size());
  for (const Entry& entry : batch.entries) {
    if (entry.payload->size() > options_.record_bytes_max) return fail(Errc::TooLarge, "log entry above the record limit");
    needed += record_bytes(entry.payload->size());
  }
  std::unique_lock lock(mutex_);
  if (stopped_) return fail(*stopped_);
  const std::uint64_t reserve = batch.entries.empty() ? 0 : kVoteReserve;
  if (segments_.empty() || segments_.back().end + needed + reserve > segments_.back().capacity) RQ_CHECK(begin_segment(needed));
  Segment& segment = segments_.back();
  const std::string bytes = compose(batch, segment);
  RQ_ASSERT(bytes.size() == needed);
  const std::shared_ptr<io::File> file = segment.file;
  lock.unlock();
  if (const Result<> written = file->write_at(segment.end, bytes); !written) {
    lock.lock();
    return written.error().code == Errc::NoSpace ? written : Result<>(stop(written.error()));
  }
  lock.lock();
  std::uint64_t at = segment.end;
  if (batch.snapshot) {
    state_.begin_behind(*batch.snapshot);
    at += record_bytes(0);
    if (batch.membership) at += record_bytes(encode(*batch.membership).size());
  }
  if (batch.hard_state) state_.hard_state = *batch.hard_state;
  for (const Entry& entry : batch.entries) {
    RQ_ASSERT(entry.index <= state_.last.next());
    RQ_ASSERT(entry.index >= state_.first);
    state_.add(entry.index, entry.term, static_cast<std::uint8_t>(entry.type), segment.header.sequence, at);
    at += record_bytes(entry.payload->size());
  }
  if (batch.membership) state_.membership = *batch.membership;
  segment.end += bytes.size();
  dirty_ = true;
  return {};
}

Result<> DiskLog::sync() {
  if (stopped_) return fail(*stopped_);
  if (!dirty_) return {};
  if (const Result<> synced = segments_.back().file->sync(); !synced) return stop(synced.error());
  synced_ = segments_.back().end;
  dirty_ = false;
  return {};
}

// ---- reading

Result<Term> DiskLog::term_of(Index index) const {
  const std::lock_guard lock(mutex_);
  if (index == state_.snapshot.index) return state_.snapshot.term;
  if (index < state_.first || index > state_.last) return fail(Errc::NotFound, "no entry " + std::to_string(index.value) + " in the log");
  return state_.term_of(index);
}

Result<std::vector<Entry>> DiskLog::read(Index first, Index last, std::size_t bytes_max) const {
  std::vector<Entry> out;
  std::size_t bytes = 0;
  std::string piece;
  for (Index next = first; next <= last && (out.empty() || bytes < bytes_max);) {
    std::shared_ptr<io::File> file;
    SegmentHeader header;
    std::uint64_t offset = 0;
    std::uint64_t end = 0;
    Index until;                      // the next point begins here: not beyond
    {
      const std::lock_guard lock(mutex_);
      if (next < state_.first || last > state_.last)
        return fail(Errc::NotFound, "entries " + std::to_string(first.value) + " to " + std::to_string(last.value) + " are not in the log");
      const auto after = std::ranges::upper_bound(state_.points, next, {}, &Point::index);
      RQ_ASSERT(after != state_.points.begin());
      const Point& point = *std::prev(after);
      until = after == state_.points.end() ? state_.last.next() : after->index;
      const auto segment = std::ranges::find(segments_, point.sequence, [](const Segment& one) { return one.header.sequence; });
      RQ_ASSERT(segment != segments_.end());
      file = segment->file;
      header = segment->header;
      offset = point.offset;
      end = segment->end;
    }
    std::size_t want = kReadChunk;
    while (next < until && next <= last && (out.empty() || bytes < bytes_max)) {
      RQ_TRY(piece, file->read_at(offset, static_cast<std::size_t>(std::min<std::uint64_t>(want, end - offset))));
      std::size_t used = 0;
      while (next < until && next <= last && (out.empty() || bytes < bytes_max)) {
        const Parsed record = parse_record(std::string_view(piece).substr(used), header, offset + used, options_.record_bytes_max);
        if (record.state == Parsed::State::Short && offset + piece.size() < end) {
          want = std::max<std::size_t>(kReadChunk, static_cast<std::size_t>(record.needed));
          break;
        }
        if (record.state != Parsed::State::Good)
          return fail(Errc::Corrupt, "raft log: entry " + std::to_string(next.value) + " can't be read back, byte " + std::to_string(offset + used));
        used += static_cast<std::size_t>(record_bytes(record.header.length));
        if (record.header.type != RecordType::Entry || record.header.index != next) continue;
        out.push_back({.type = static_cast<raft::EntryType>(record.header.entry_type), .term = record.header.term, .index = next,
                       .payload = std::make_shared<const std::string>(record.payload)});
        bytes += record.payload.size();
        next = next.next();
      }
      offset += used;
    }
  }
  return out;
}

// ---- compaction

// A crash between two removals leaves a log that begins later: each segment carries what its predecessors said.
Result<> DiskLog::compact(Index first_kept, Index first_needed, std::uint64_t bytes_max) {
  {
    const std::lock_guard lock(mutex_);
    if (stopped_) return fail(*stopped_);
    std::uint64_t total = 0;
    for (const Segment& segment : segments_) total += segment.capacity;
    while (segments_.size() > 1) {
      const Segment& oldest = segments_.front();
      const SegmentHeader& base = segments_[1].header;
      const std::uint64_t next = base.base_index.value + 1;
      if (next > first_kept.value && (next > first_needed.value || total <= bytes_max)) break;
      total -= oldest.capacity;
      dropped_.push_back(oldest.path);
      // A replaced tail may have begun before this segment: the term that its header names is not that of the entry there now.
      if (base.base_index > state_.snapshot.index) {
        state_.snapshot = {base.base_index, base.base_index >= state_.first ? state_.term_of(base.base_index) : base.base_term};
        state_.first = base.base_index.next();
      }
      std::erase_if(state_.points, [&](const Point& point) { return point.sequence == oldest.header.sequence; });
      while (state_.term_starts.size() > 1 && state_.term_starts[1].first <= state_.first) state_.term_starts.erase(state_.term_starts.begin());
      std::erase_if(state_.conf_entries, [&](Index index) { return index < state_.first; });
      segments_.pop_front();
    }
  }
  // Oldest first: what a crash leaves has no gap. Taking large files away may take time; appends go on.
  // One that can't be removed stops it here, and is tried first the next time: a younger one without it would be a gap.
  if (dropped_.empty()) return {};
  while (!dropped_.empty()) {
    if (const Result<> removed = disk_.remove(dropped_.front()); !removed && removed.error().code != Errc::NotFound) return removed;
    dropped_.pop_front();
  }
  return disk_.sync_dir(dir_);
}

}  // namespace

Result<Log::Opened> Log::open(io::Disk& disk, const std::string& dir, const Options& options) {
  auto log = std::make_unique<DiskLog>(disk, dir, options);
  RQ_TRY(Recovered recovered, log->recover());
  return Opened{std::move(log), std::move(recovered)};
}

}  // namespace rq::wal
