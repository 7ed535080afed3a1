#include "import/image.h"

#include <algorithm>
#include <array>

#include "base/crc32c.h"
#include "ledger/sqlite_wal.h"
#include "sql/connection.h"

namespace rq::import {
namespace {

constexpr std::uint64_t kStateHeader = 16;
constexpr std::string_view kCompressedMark = "\xff\xff\xff\xff\xff\xff\xff\xff";
constexpr std::string_view kDatabaseMagic{"SQLite format 3\0", 16};

// CRC-64/XZ: ECMA polynomial, reflected, initial and final value all ones.
class Crc64 {
 public:
  void add(std::string_view bytes) {
    for (const char byte : bytes) value_ = table()[(value_ ^ static_cast<unsigned char>(byte)) & 0xff] ^ value_ >> 8;
  }
  std::uint64_t value() const { return ~value_; }

 private:
  static const std::array<std::uint64_t, 256>& table() {
    static const std::array<std::uint64_t, 256> made = [] {
      std::array<std::uint64_t, 256> out{};
      for (std::uint64_t i = 0; i < out.size(); ++i) {
        std::uint64_t crc = i;
        for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) != 0 ? crc >> 1 ^ 0xc96c5795d7870f42 : crc >> 1;
        out[i] = crc;
      }
      return out;
    }();
    return made;
  }
  std::uint64_t value_ = ~std::uint64_t{0};
};

// Sees all that is read through it.
class WatchedInput final : public Input {
 public:
  WatchedInput(std::unique_ptr<Input> below, Crc64& crc) : below_(std::move(below)), crc_(crc) {}
  Result<std::size_t> read(std::span<char> out) override {
    RQ_TRY(const std::size_t got, below_->read(out));
    crc_.add(std::string_view(out.data(), got));
    return got;
  }

 private:
  const std::unique_ptr<Input> below_;
  Crc64& crc_;
};

Result<std::unique_ptr<sql::Connection>> open_image(const std::string& vfs, const std::string& path) {
  sql::OpenOptions options;
  options.path = path;
  options.vfs = vfs;
  options.statements_cached = 0;
  return sql::Connection::open(options);
}

Result<> copy_checked(io::Disk& disk, const SnapshotFile& file, const std::string& path, const Progress& progress) {
  RQ_TRY(FileRange range, FileRange::whole(disk, file.path));
  const auto input = input_of(std::move(range));
  RQ_TRY(const auto out, disk.open(path, io::OpenMode::CreateNew));
  std::uint32_t crc = 0;
  RQ_TRY(const std::uint64_t bytes, copy_to(*input, *out, 0, progress, [&](std::string_view piece) { crc = crc32c(piece, crc); }));
  (void)bytes;
  if (file.crc32c && *file.crc32c != crc) return fail(Errc::Corrupt, file.path + " is damaged: its checksum is wrong");
  return {};
}

Result<std::string> quick_check(const std::string& vfs, const std::string& path) {
  RQ_TRY(const auto connection, open_image(vfs, path));
  RQ_CHECK(connection->run("PRAGMA synchronous=OFF; PRAGMA journal_mode=WAL"));
  RQ_TRY(auto check, connection->prepare("PRAGMA quick_check(1)"));
  const int code = check.step();
  if (code != SQLITE_ROW) return fail(connection->error(code));
  const auto* answer = reinterpret_cast<const char*>(sqlite3_column_text(check.handle(), 0));
  return std::string(answer == nullptr ? "no answer" : answer);
}

// 8 bytes of ones, the length of what follows, gzip of the image; before v5.8: the length of the image, the image.
Result<> unpack_state(io::Disk& disk, const Snapshot& snapshot, const std::string& path, const Progress& progress) {
  const std::string& source = snapshot.base.path;
  RQ_TRY(const FileRange range, FileRange::whole(disk, source));
  RQ_TRY(const auto out, disk.open(path, io::OpenMode::CreateNew));
  Crc64 crc;
  RQ_TRY(const std::string mark, range.read(0, kCompressedMark.size()));
  crc.add(mark);
  const bool compressed = mark == kCompressedMark;
  std::uint64_t length = little_endian(mark), begin = kCompressedMark.size();
  if (compressed) {
    RQ_TRY(const std::string text, range.read(begin, kStateHeader - begin));
    crc.add(text);
    length = little_endian(text);
    begin = kStateHeader;
  }
  if (length > range.size() - begin) return range.corrupt("the snapshot is shorter than it says", begin);
  RQ_TRY(FileRange content, range.part(begin, length));
  RQ_TRY(FileRange rest, range.part(begin + length, range.size() - begin - length));
  std::unique_ptr<Input> raw = std::make_unique<WatchedInput>(input_of(std::move(content)), crc);
  if (length > 0) {
    std::unique_ptr<Input> input = compressed ? gunzip(std::move(raw), source) : std::move(raw);
    RQ_TRY(const std::uint64_t bytes, copy_to(*input, *out, 0, progress));
    (void)bytes;
  }
  for (std::uint64_t at = 0; at < rest.size();) {
    RQ_TRY(const std::string piece, rest.read_some(at, 256u << 10));
    if (piece.empty()) return rest.corrupt("the file is shorter than it was", at);
    crc.add(piece);
    at += piece.size();
  }
  if (snapshot.base_crc64 && *snapshot.base_crc64 != crc.value()) return fail(Errc::Corrupt, source + " is damaged: its checksum is wrong");
  return {};
}

// SQLite takes a WAL as far as it is valid and says nothing of the rest: whether that is all of it is found here.
Result<bool> check_wal(io::Disk& disk, const std::string& path, bool exact) {
  RQ_TRY(const auto file, disk.open(path, io::OpenMode::ReadOnly));
  RQ_TRY(const std::uint64_t size, file->size());
  if (size == 0) return false;
  RQ_TRY(const ledger::WalScan scan, ledger::scan_wal(*file));
  if (!scan.header) return fail(Errc::Corrupt, path + " is damaged: no valid header");
  const std::uint32_t frames = scan.commits.empty() ? 0 : scan.commits.back().number;
  const std::uint64_t end = ledger::frame_offset(frames + 1, scan.header->page_bytes);
  if (size == end) return frames > 0;
  // Behind the last commit a WAL of a live database may hold frames of its life before, under other salts.
  RQ_TRY(const std::string head, file->read_at(end, ledger::kFrameHeaderBytes));
  const bool older = head.size() == ledger::kFrameHeaderBytes && ledger::parse_frame_header(head).salts != scan.header->salts;
  if (exact || !older) return fail(Errc::Corrupt, path + " is damaged behind frame " + std::to_string(frames));
  return frames > 0;
}

Result<> fold_in(const std::string& vfs, const std::string& path, const std::string& wal) {
  RQ_TRY(const auto connection, open_image(vfs, path));
  RQ_CHECK(connection->run("PRAGMA schema_version"));     // a WAL that nobody has read yet would be left alone
  int frames = -1, moved = -1;
  const int code = sqlite3_wal_checkpoint_v2(connection->handle(), "main", SQLITE_CHECKPOINT_TRUNCATE, &frames, &moved);
  if (code == SQLITE_OK && frames == 0) return {};
  const Error error = connection->error(code);
  return fail(code == SQLITE_OK || error.code == Errc::Sql ? Errc::Corrupt : error.code, wal + " doesn't fit its database: " + error.detail);
}

}  // namespace

Result<> build_image(io::Disk& disk, const std::string& vfs, const Snapshot& snapshot, const std::string& path, const Progress& progress) {
  switch (snapshot.form) {
    case Snapshot::Form::Image: RQ_CHECK(copy_checked(disk, snapshot.base, path, progress)); break;
    case Snapshot::Form::State: RQ_CHECK(unpack_state(disk, snapshot, path, progress)); break;
  }
  for (const SnapshotFile& wal : snapshot.wals) {
    RQ_CHECK(copy_checked(disk, wal, path + "-wal", progress));
    RQ_TRY(const bool any, check_wal(disk, path + "-wal", snapshot.wals_exact));
    if (any) RQ_CHECK(fold_in(vfs, path, wal.path));
    for (const char* suffix : {"-wal", "-shm"}) {
      if (const auto removed = disk.remove(path + suffix); !removed && removed.error().code != Errc::NotFound) return removed;
    }
  }
  return {};
}

Result<bool> looks_like_database(io::Disk& disk, const std::string& path) {
  RQ_TRY(const auto file, disk.open(path, io::OpenMode::ReadOnly));
  RQ_TRY(const std::string head, file->read_at(0, kDatabaseMagic.size()));
  return head == kDatabaseMagic;
}

Result<> check_image(const std::string& vfs, const std::string& path, const std::string& what) {
  const auto found = quick_check(vfs, path);
  if (found && *found == "ok") return {};
  if (!found && found.error().code != Errc::Corrupt && found.error().code != Errc::Sql) return fail(found.error());
  std::string why = found ? *found : found.error().detail;
  std::ranges::replace(why, '\n', ' ');
  return fail(Errc::Corrupt, what + " is damaged: " + why);
}

Result<> settle_image(io::Disk& disk, const std::string& vfs, const std::string& path) {
  {
    RQ_TRY(const auto connection, open_image(vfs, path));
    RQ_CHECK(connection->run("PRAGMA journal_mode=WAL; PRAGMA wal_checkpoint(TRUNCATE)"));
  }
  RQ_TRY(const auto wal_there, disk.exists(path + "-wal"));
  if (wal_there) {
    RQ_TRY(const auto wal, disk.open(path + "-wal", io::OpenMode::ReadOnly));
    RQ_TRY(const std::uint64_t left, wal->size());
    if (left != 0) return fail(Errc::Internal, path + "-wal could not be folded in");
  }
  for (const char* suffix : {"-wal", "-shm"}) {
    if (const auto removed = disk.remove(path + suffix); !removed && removed.error().code != Errc::NotFound) return removed;
  }
  RQ_TRY(const auto file, disk.open(path, io::OpenMode::ReadWrite));
  return file->sync();
}

Result<> remove_image(io::Disk& disk, const std::string& path) {
  for (const char* suffix : {"-wal", "-shm", ""}) {
    if (const auto removed = disk.remove(path + suffix); !removed && removed.error().code != Errc::NotFound) return removed;
  }
  return {};
}

}  // namespace rq::import
