#include "ledger/recovery.h"

#include <algorithm>
#include <array>

#include "ledger/sqlite_wal.h"

namespace rq::ledger {
namespace {

constexpr std::uint32_t kPageBytes = 4096;
constexpr std::uint32_t kSqliteVersion = 3054001;  // only a hint in the file, but equal on all nodes

void put_big_endian(std::string& page, std::size_t at, std::uint32_t value) {
  for (int i = 0; i < 4; ++i) page[at + static_cast<std::size_t>(i)] = static_cast<char>(value >> (24 - 8 * i));
}

// Page 1 of a database without any table: WAL mode, UTF-8, schema format 4. Written by hand so that it is durable
// before anything refers to it, and equal on all nodes.
std::string empty_database() {
  std::string page(kPageBytes, '\0');
  page.replace(0, 15, "SQLite format 3");
  page[16] = static_cast<char>(kPageBytes >> 8);
  page[18] = page[19] = 2;                  // WAL
  page[21] = 64;
  page[22] = page[23] = 32;
  put_big_endian(page, 24, 1);              // change counter
  put_big_endian(page, 28, 1);              // pages
  put_big_endian(page, 44, 4);              // schema format
  put_big_endian(page, 56, 1);              // UTF-8
  put_big_endian(page, 92, 1);              // version valid for
  put_big_endian(page, 96, kSqliteVersion);
  page[100] = 0x0d;                         // leaf of the schema table, no cells
  page[105] = static_cast<char>(kPageBytes >> 8);
  return page;
}

Result<> remove_if_there(io::Disk& disk, const std::string& path) {
  if (auto removed = disk.remove(path); !removed && removed.error().code != Errc::NotFound) return removed;
  return {};
}

// The index of the WAL must be built anew. The file stays: readers of other programs that outlived us go on using it
// (walformat.html section 2.1: both copies of the header, 48 bytes each; one that doesn't match its checksum makes
// SQLite build the index again, under its locks and in the same file).
Result<> void_index(io::Disk& disk, const std::string& path) {
  constexpr std::size_t kHeaderCopies = 96;
  RQ_TRY(const bool there, disk.exists(path));
  if (!there) return {};
  RQ_TRY(const auto file, disk.open(path, io::OpenMode::ReadWrite));
  RQ_TRY(const std::uint64_t size, file->size());
  return size < kHeaderCopies ? Result<>() : file->write_at(0, std::string(kHeaderCopies, '\0'));
}

Result<> create_database(io::Disk& disk, const Paths& paths) {
  RQ_CHECK(remove_if_there(disk, paths.wal));
  RQ_CHECK(remove_if_there(disk, paths.shm));
  return io::write_file_atomically(disk, paths.database, empty_database());
}

// The ledger comes into being last: without it there is nothing but (at most) the empty database.
Result<std::unique_ptr<Ledger>> create(io::Disk& disk, const Paths& paths, const Position& bootstrap) {
  RQ_TRY(const bool exists, disk.exists(paths.database));
  if (exists) {
    RQ_TRY(const auto file, disk.open(paths.database, io::OpenMode::ReadOnly));
    RQ_TRY(const std::uint64_t size, file->size());
    if (size > kPageBytes) return fail(Errc::Corrupt, paths.database + " has data but no ledger beside it");
  }
  RQ_CHECK(create_database(disk, paths));
  return Ledger::create(disk, paths.ledger, {}, bootstrap, {}, bootstrap);
}

struct State {
  CommitFrame frame;    // number 0: none of the WAL counts
  Position position;
};

// The newest line whose frame is there; frame 0 (the epoch's base) always is.
State choose(const Contents& contents, const WalScan& wal) {
  State state{{}, contents.epoch.position};
  const auto present = [&wal](const CommitFrame& frame) {
    if (frame.number == 0) return true;
    const auto at = std::lower_bound(wal.commits.begin(), wal.commits.end(), frame.number,
                                     [](const CommitFrame& commit, std::uint32_t number) { return commit.number < number; });
    return at != wal.commits.end() && *at == frame;
  };
  for (const Line& line : contents.lines) {
    if (line.kind != Line::Kind::Commit || !present(line.frame)) continue;
    const bool newer = line.frame.number > state.frame.number ||
                       (line.frame.number == state.frame.number && line.position.index >= state.position.index);
    if (newer) state = {line.frame, line.position};
  }
  return state;
}

std::uint32_t durable_frames(const Contents& contents) {
  std::uint32_t frames = 0;
  for (const Line& line : contents.lines) {
    if (line.kind == Line::Kind::Durable) frames = std::max(frames, line.frame.number);
  }
  return frames;
}

Result<> cut_wal(io::File& file, const WalScan& wal, std::uint32_t frames) {
  RQ_TRY(const std::uint64_t size, file.size());
  const std::uint64_t keep = frames == 0 ? 0 : frame_offset(frames + 1, wal.header->page_bytes);
  if (size != keep) RQ_CHECK(file.truncate(keep));
  return file.sync();
}

// What db.install says, docs/formats/ledger.md: the position, then the name of the image.
Result<> finish_install(io::Disk& disk, const Paths& paths) {
  RQ_TRY(const bool begun, disk.exists(paths.install));
  if (!begun) return {};
  RQ_TRY(const std::string bytes, io::read_file(disk, paths.install, 64u << 10));
  if (bytes.size() < kLineBytes) return fail(Errc::Corrupt, paths.install + " is too short");
  RQ_TRY(const Line line, decode(std::string_view(bytes).substr(0, kLineBytes)));
  const std::string image = bytes.substr(kLineBytes);
  RQ_CHECK(remove_if_there(disk, paths.wal));
  RQ_CHECK(remove_if_there(disk, paths.shm));
  // The WAL must be gone for good before the image is there under the name it belonged to.
  RQ_CHECK(disk.sync_dir(paths.dir));
  if (auto renamed = disk.rename(image, paths.database); !renamed && renamed.error().code != Errc::NotFound) return renamed;
  RQ_TRY(const bool there, disk.exists(paths.database));
  if (!there) return fail(Errc::Corrupt, "the image " + image + " that " + paths.install + " names is gone");
  RQ_CHECK(disk.sync_dir(paths.dir));
  RQ_TRY(const auto ledger, Ledger::create(disk, paths.ledger, {}, line.position, {}, line.position));
  RQ_CHECK(disk.remove(paths.install));
  return disk.sync_dir(paths.dir);
}

// However a checkpoint ended, the file begins as SQLite's in WAL mode do (fileformat2.html section 1.3).
Result<> check_database(io::Disk& disk, const std::string& path) {
  constexpr std::size_t kHeaderBytes = 100;
  constexpr std::string_view kMagic("SQLite format 3\0", 16);
  constexpr std::size_t kVersionsAt = 18;
  RQ_TRY(const auto file, disk.open(path, io::OpenMode::ReadOnly));
  RQ_TRY(const std::string head, file->read_at(0, kHeaderBytes));
  if (head.size() < kHeaderBytes || !head.starts_with(kMagic) || head[kVersionsAt] != 2 || head[kVersionsAt + 1] != 2)
    return fail(Errc::Corrupt, path + " is not a database in WAL mode: another program changed it, or the disk lost it");
  return {};
}

}  // namespace

Paths paths_in(const std::string& dir) {
  const std::string database = dir + "/db.sqlite";
  return {dir, database, database + "-wal", database + "-shm", dir + "/db.ledger", dir + "/db.install"};
}

Result<std::unique_ptr<Ledger>> recover(io::Disk& disk, const Paths& paths, const Position& bootstrap) {
  RQ_CHECK(finish_install(disk, paths));
  auto contents = read(disk, paths.ledger);
  if (!contents && contents.error().code == Errc::NotFound) return create(disk, paths, bootstrap);
  if (!contents) return fail(contents.error());
  RQ_TRY(const bool database_there, disk.exists(paths.database));
  if (!database_there) return fail(Errc::Corrupt, paths.database + " is missing beside its ledger");
  RQ_CHECK(check_database(disk, paths.database));

  RQ_TRY(const bool wal_there, disk.exists(paths.wal));
  const bool any_frame = std::any_of(contents->lines.begin(), contents->lines.end(),
                                     [](const Line& line) { return line.frame.number != 0; });
  if (!wal_there && any_frame) return fail(Errc::Corrupt, paths.wal + " was removed by another program");
  WalScan wal;
  std::unique_ptr<io::File> file;
  if (wal_there) {
    RQ_TRY(file, disk.open(paths.wal, io::OpenMode::ReadWrite));
    RQ_TRY(wal, scan_wal(*file));
    // Another epoch: written before the newest one began, all of it is in the database.
    if (wal.header && wal.header->salts != contents->epoch.salts) wal = {};
  }
  const State state = choose(*contents, wal);
  if (state.frame.number < durable_frames(*contents)) {
    return fail(Errc::Corrupt, paths.wal + " ends before what was synced: another program changed it, or the disk lost it");
  }
  if (file) {
    // The epoch may have been put in place without being durable (its process died between): a WAL that is cut because
    // of it must not meet the old ledger again.
    RQ_CHECK(disk.sync_dir(paths.dir));
    RQ_CHECK(cut_wal(*file, wal, state.frame.number));
  }
  RQ_CHECK(void_index(disk, paths.shm));
  const Position& base = state.frame.number == 0 ? state.position : contents->epoch.position;
  return Ledger::create(disk, paths.ledger, contents->epoch.salts, base, state.frame, state.position);
}

Result<> install(io::Disk& disk, const Paths& paths, const std::string& image, const Position& position) {
  RQ_TRY(const bool there, disk.exists(image));
  if (!there) return fail(Errc::NotFound, image);
  const auto line = encode({Line::Kind::Epoch, {}, {}, position});
  RQ_CHECK(io::write_file_atomically(disk, paths.install, std::string(line.data(), line.size()) + image));
  return finish_install(disk, paths);
}

Result<> wipe(io::Disk& disk, const Paths& paths) {
  RQ_CHECK(remove_if_there(disk, paths.install));
  // The database goes first: without it and with a ledger, recover() refuses; without a ledger it starts anew.
  RQ_CHECK(remove_if_there(disk, paths.database));
  RQ_CHECK(disk.sync_dir(paths.dir));
  RQ_CHECK(remove_if_there(disk, paths.wal));
  RQ_CHECK(remove_if_there(disk, paths.shm));
  RQ_CHECK(remove_if_there(disk, paths.ledger));
  return disk.sync_dir(paths.dir);
}

Result<> reset(io::Disk& disk, const Paths& paths, const Position& position) {
  RQ_CHECK(wipe(disk, paths));
  RQ_TRY(const auto ledger, create(disk, paths, position));
  return {};
}

}  // namespace rq::ledger
