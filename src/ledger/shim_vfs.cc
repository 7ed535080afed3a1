// Invariants
//   1. No byte of a commit frame header is given to the base VFS before the ledger line of that frame was.
//   2. When SQLite's walFrames() returns from a commit, all frames of it were given to the base VFS.
//   3. A commit frame that is new is gathered: its page is known before its line is written.
//   4. What is gathered is one contiguous run of whole frames at the end of the WAL, or empty.
#include "ledger/shim_vfs.h"

#include <atomic>
#include <cstring>
#include <mutex>
#include <new>

#include "base/assert.h"
#include "ledger/effect.h"
#include "ledger/sqlite_wal.h"

namespace rq::ledger {
namespace {

constexpr std::size_t kGatheredBytesMax = 100u << 10;
constexpr std::size_t kWriteBytesMax = 0x1f000;           // SQLite's unix VFS drops all but 17 bits of a write's size
constexpr std::int64_t kJulianEpochMs = 210866760000000;  // 1970-01-01 in SQLite's Julian milliseconds
constexpr int kWriteLock = 0;        // slots of the WAL's shm locks (fileformat2/walformat)
constexpr int kCheckpointLock = 1;

class Shim;

enum class Role { Other, Database, Wal, Temporary };

// What SQLite allocates for a file: ours, and behind it the base VFS's.
struct ShimFile {
  sqlite3_file head;
  Shim* shim;
  Role role;
  bool holds[2];     // inside share of the write and checkpoint locks (Role::Database)
  sqlite3_file* base;
};

ShimFile* of(sqlite3_file* file) { return reinterpret_cast<ShimFile*>(file); }

class Shim final : public ShimVfs {
 public:
  Shim(sqlite3_vfs* base, Ledger* ledger) : base_(base), ledger_(ledger) {}
  ~Shim() override { sqlite3_vfs_unregister(&vfs_); }
  Result<> install();

  const char* name() const override { return name_.c_str(); }
  void set_time(std::int64_t unix_ms) override { julian_ms_ = unix_ms + kJulianEpochMs; }
  void arm(const Position& position) override {
    armed_ = true;
    wrote_commit_ = false;
    next_position_ = position;
    append_at_ = 0;
  }
  bool disarm() override {
    armed_ = false;
    gathered_.clear();
    effect_.clear();
    return wrote_commit_;
  }
  std::uint64_t chain() const override { return chain_; }
  std::optional<Error> take_error() override;
  Result<> hold_locks() override;
  Result<> sync_wal() override;
  Result<> sync_wal_beside() override;
  std::uint64_t wal_bytes() const override { return wal_end_; }

  int open(sqlite3_filename name, sqlite3_file* file, int flags, int* out_flags);
  void closed(ShimFile* file);
  int wal_write(ShimFile* file, const char* bytes, int size, sqlite3_int64 at);
  int wal_sync(ShimFile* file, int flags);
  int sync_written(ShimFile* file, int flags);
  int flush(ShimFile* file);
  Result<> check_index();
  int shm_lock(ShimFile* file, int first, int count, int flags);
  int shm_unmap(ShimFile* file, int remove);
  int note(int rc, const char* call, Role role = Role::Other);
  int note(const Error& error);
  std::int64_t julian_ms() const { return julian_ms_; }
  sqlite3_vfs* base() const { return base_; }

 private:
  int header_write(ShimFile* file, std::string_view bytes);
  int frame_header_write(ShimFile* file, std::string_view bytes, std::uint64_t at);
  int page_write(ShimFile* file, std::string_view bytes, std::uint64_t at);
  int write_line(const FrameHeader& header, std::uint32_t number);
  std::uint32_t number_of_frame(std::uint64_t page_at) const;
  bool read_frame(std::uint32_t number, std::string& page);
  void note_page(std::string_view bytes, std::uint64_t at);
  int stop(const Error& error);
  int write_through(ShimFile* file, std::string_view bytes, std::uint64_t at);

  sqlite3_vfs vfs_{};
  sqlite3_vfs* const base_;
  Ledger* const ledger_;
  std::string name_;
  std::int64_t julian_ms_ = kJulianEpochMs;
  std::atomic<bool> sync_failed_ = false;
  std::atomic<bool> has_error_ = false;
  std::mutex mutex_;                // guards the two below
  std::optional<Error> error_;
  bool inside_locked_[2] = {false, false};

  bool armed_ = false;
  bool wrote_commit_ = false;
  Position next_position_;
  std::uint64_t chain_ = kUnknownChain;
  Effect effect_;
  struct LastHeader {
    std::uint64_t at;
    std::uint32_t page;
  };
  std::optional<LastHeader> last_header_;   // of a frame, its page has not come

  ShimFile* database_ = nullptr;    // of the first connection: the writer
  ShimFile* wal_ = nullptr;
  bool locks_held_ = false;

  std::uint32_t page_bytes_ = 0;
  std::string gathered_;
  std::uint64_t gathered_at_ = 0;
  std::uint64_t append_at_ = 0;     // frames below it were already written in this transaction
  std::optional<FrameHeader> commit_header_;   // gathered, its page is to come
  std::atomic<std::uint64_t> wal_end_ = 0;
};

// --- methods of files: C functions that SQLite calls

int file_close(sqlite3_file* file) {
  ShimFile* self = of(file);
  self->shim->closed(self);
  const int rc = self->base->pMethods->xClose(self->base);
  return rc;
}
int file_read(sqlite3_file* file, void* out, int size, sqlite3_int64 at) {
  ShimFile* self = of(file);
  if (self->role == Role::Wal) {
    if (const int rc = self->shim->flush(self); rc != SQLITE_OK) return rc;
  }
  const int rc = self->base->pMethods->xRead(self->base, out, size, at);
  return rc == SQLITE_IOERR_SHORT_READ ? rc : self->shim->note(rc, "read", self->role);
}
int file_write(sqlite3_file* file, const void* bytes, int size, sqlite3_int64 at) {
  ShimFile* self = of(file);
  if (self->role == Role::Wal) return self->shim->wal_write(self, static_cast<const char*>(bytes), size, at);
  return self->shim->note(self->base->pMethods->xWrite(self->base, bytes, size, at), "write", self->role);
}
int file_truncate(sqlite3_file* file, sqlite3_int64 size) {
  ShimFile* self = of(file);
  if (self->role == Role::Wal) {
    if (const int rc = self->shim->flush(self); rc != SQLITE_OK) return rc;
  }
  return self->shim->note(self->base->pMethods->xTruncate(self->base, size), "truncate", self->role);
}
int file_sync(sqlite3_file* file, int flags) {
  ShimFile* self = of(file);
  if (self->role == Role::Wal) return self->shim->wal_sync(self, flags);
  return self->shim->note(self->base->pMethods->xSync(self->base, flags), "sync", self->role);
}
int file_size(sqlite3_file* file, sqlite3_int64* size) {
  ShimFile* self = of(file);
  if (self->role == Role::Wal) {
    if (const int rc = self->shim->flush(self); rc != SQLITE_OK) return rc;
  }
  return self->shim->note(self->base->pMethods->xFileSize(self->base, size), "size", self->role);
}
int file_lock(sqlite3_file* file, int level) { return of(file)->base->pMethods->xLock(of(file)->base, level); }
int file_unlock(sqlite3_file* file, int level) { return of(file)->base->pMethods->xUnlock(of(file)->base, level); }
int file_check_reserved(sqlite3_file* file, int* reserved) {
  return of(file)->base->pMethods->xCheckReservedLock(of(file)->base, reserved);
}
int file_control(sqlite3_file* file, int operation, void* argument) {
  return of(file)->base->pMethods->xFileControl(of(file)->base, operation, argument);
}
int file_sector_size(sqlite3_file* file) { return of(file)->base->pMethods->xSectorSize(of(file)->base); }
int file_characteristics(sqlite3_file* file) {
  return of(file)->base->pMethods->xDeviceCharacteristics(of(file)->base);
}
int file_shm_map(sqlite3_file* file, int region, int bytes, int extend, void volatile** out) {
  ShimFile* self = of(file);
  const int rc = self->base->pMethods->xShmMap(self->base, region, bytes, extend, out);
  return rc == SQLITE_READONLY || rc == SQLITE_BUSY ? rc : self->shim->note(rc, "map shared memory");
}
int file_shm_lock(sqlite3_file* file, int first, int count, int flags) {
  return of(file)->shim->shm_lock(of(file), first, count, flags);
}
void file_shm_barrier(sqlite3_file* file) { of(file)->base->pMethods->xShmBarrier(of(file)->base); }
int file_shm_unmap(sqlite3_file* file, int remove) { return of(file)->shim->shm_unmap(of(file), remove); }
int file_fetch(sqlite3_file* file, sqlite3_int64 at, int size, void** out) {
  return of(file)->base->pMethods->xFetch(of(file)->base, at, size, out);
}
int file_unfetch(sqlite3_file* file, sqlite3_int64 at, void* page) {
  return of(file)->base->pMethods->xUnfetch(of(file)->base, at, page);
}

constexpr sqlite3_io_methods methods_of_version(int version) {
  return {version,         file_close,          file_read,          file_write,         file_truncate,
          file_sync,       file_size,           file_lock,          file_unlock,        file_check_reserved,
          file_control,    file_sector_size,    file_characteristics, file_shm_map,     file_shm_lock,
          file_shm_barrier, file_shm_unmap,     file_fetch,         file_unfetch};
}
constexpr sqlite3_io_methods kMethods[3] = {methods_of_version(1), methods_of_version(2), methods_of_version(3)};

// --- methods of the VFS

Shim* of(sqlite3_vfs* vfs) { return static_cast<Shim*>(vfs->pAppData); }

int vfs_open(sqlite3_vfs* vfs, sqlite3_filename name, sqlite3_file* file, int flags, int* out_flags) {
  return of(vfs)->open(name, file, flags, out_flags);
}
int vfs_delete(sqlite3_vfs* vfs, const char* name, int sync_dir) {
  const int rc = of(vfs)->base()->xDelete(of(vfs)->base(), name, sync_dir);
  return rc == SQLITE_IOERR_DELETE_NOENT ? rc : of(vfs)->note(rc, "delete");
}
int vfs_access(sqlite3_vfs* vfs, const char* name, int flags, int* out) {
  return of(vfs)->base()->xAccess(of(vfs)->base(), name, flags, out);
}
int vfs_full_pathname(sqlite3_vfs* vfs, const char* name, int size, char* out) {
  return of(vfs)->base()->xFullPathname(of(vfs)->base(), name, size, out);
}
int vfs_randomness(sqlite3_vfs* vfs, int bytes, char* out) {
  return of(vfs)->base()->xRandomness(of(vfs)->base(), bytes, out);
}
int vfs_sleep(sqlite3_vfs* vfs, int microseconds) { return of(vfs)->base()->xSleep(of(vfs)->base(), microseconds); }
int vfs_current_time_ms(sqlite3_vfs* vfs, sqlite3_int64* out) {
  *out = of(vfs)->julian_ms();
  return SQLITE_OK;
}
int vfs_current_time(sqlite3_vfs* vfs, double* out) {
  *out = static_cast<double>(of(vfs)->julian_ms()) / 86400000.0;
  return SQLITE_OK;
}
void* vfs_dl_open(sqlite3_vfs* vfs, const char* name) { return of(vfs)->base()->xDlOpen(of(vfs)->base(), name); }
void vfs_dl_error(sqlite3_vfs* vfs, int size, char* out) { of(vfs)->base()->xDlError(of(vfs)->base(), size, out); }
void (*vfs_dl_symbol(sqlite3_vfs* vfs, void* library, const char* symbol))(void) {
  return of(vfs)->base()->xDlSym(of(vfs)->base(), library, symbol);
}
void vfs_dl_close(sqlite3_vfs* vfs, void* library) { of(vfs)->base()->xDlClose(of(vfs)->base(), library); }
int vfs_last_error(sqlite3_vfs* vfs, int size, char* out) {
  return of(vfs)->base()->xGetLastError(of(vfs)->base(), size, out);
}

Result<> Shim::install() {
  static std::atomic<std::uint64_t> number{0};
  name_ = "rq-ledger-" + std::to_string(number.fetch_add(1));
  vfs_.iVersion = 2;
  vfs_.szOsFile = static_cast<int>(sizeof(ShimFile)) + base_->szOsFile;
  vfs_.mxPathname = base_->mxPathname;
  vfs_.zName = name_.c_str();
  vfs_.pAppData = this;
  vfs_.xOpen = vfs_open;
  vfs_.xDelete = vfs_delete;
  vfs_.xAccess = vfs_access;
  vfs_.xFullPathname = vfs_full_pathname;
  vfs_.xRandomness = vfs_randomness;
  vfs_.xSleep = vfs_sleep;
  vfs_.xCurrentTime = vfs_current_time;
  vfs_.xDlOpen = vfs_dl_open;
  vfs_.xDlError = vfs_dl_error;
  vfs_.xDlSym = vfs_dl_symbol;
  vfs_.xDlClose = vfs_dl_close;
  vfs_.xGetLastError = vfs_last_error;
  vfs_.xCurrentTimeInt64 = vfs_current_time_ms;
  if (sqlite3_vfs_register(&vfs_, 0) != SQLITE_OK) return fail(Errc::Internal, "cannot register the ledger VFS");
  return {};
}

int Shim::note(int rc, const char* call, Role role) {
  if (rc == SQLITE_OK) return rc;
  const Errc code = (rc & 0xff) == SQLITE_FULL ? Errc::NoSpace : Errc::Io;
  note(Error{code, std::string(role == Role::Temporary ? "temporary file " : "database ") + call + ": " + sqlite3_errstr(rc)});
  return rc;
}

std::optional<Error> Shim::take_error() {
  if (!has_error_.load(std::memory_order_relaxed)) return std::nullopt;
  const std::lock_guard lock(mutex_);
  has_error_ = false;
  return std::exchange(error_, std::nullopt);
}

int Shim::note(const Error& error) {
  const std::lock_guard lock(mutex_);
  if (!error_) error_ = error;
  has_error_ = true;
  return error.code == Errc::NoSpace ? SQLITE_FULL : SQLITE_IOERR_WRITE;
}

int Shim::open(sqlite3_filename name, sqlite3_file* file, int flags, int* out_flags) {
  ShimFile* self = new (file) ShimFile{};
  self->shim = this;
  self->base = reinterpret_cast<sqlite3_file*>(self + 1);
  const int rc = base_->xOpen(base_, name, self->base, flags, out_flags);
  if (rc != SQLITE_OK) {
    // SQLite closes a file whose open failed if it has methods; ours would be called on nothing.
    if (self->base->pMethods) self->base->pMethods->xClose(self->base);
    self->head.pMethods = nullptr;
    return note(rc, "open", name == nullptr ? Role::Temporary : Role::Other);
  }
  self->head.pMethods = &kMethods[self->base->pMethods->iVersion - 1];
  if (name == nullptr) self->role = Role::Temporary;
  if (flags & SQLITE_OPEN_MAIN_DB) {
    self->role = Role::Database;
    if (!database_) database_ = self;
  }
  if (flags & SQLITE_OPEN_WAL) {
    self->role = Role::Wal;
    if (!wal_) wal_ = self;
  }
  return SQLITE_OK;
}

void Shim::closed(ShimFile* file) {
  if (file == database_) database_ = nullptr;
  if (file == wal_) {
    gathered_.clear();
    commit_header_.reset();
    wal_ = nullptr;
  }
}

// --- the WAL

int Shim::flush(ShimFile* file) {
  if (file != wal_ || gathered_.empty()) return SQLITE_OK;
  const int rc = write_through(file, gathered_, gathered_at_);
  gathered_.clear();
  commit_header_.reset();
  return rc;
}

int Shim::write_through(ShimFile* file, std::string_view bytes, std::uint64_t at) {
  while (!bytes.empty()) {
    const std::string_view part = bytes.substr(0, kWriteBytesMax);
    const int rc = file->base->pMethods->xWrite(file->base, part.data(), static_cast<int>(part.size()),
                                                static_cast<sqlite3_int64>(at));
    if (rc != SQLITE_OK) return note(rc, "write");
    bytes.remove_prefix(part.size());
    at += part.size();
  }
  return SQLITE_OK;
}

int Shim::wal_write(ShimFile* file, const char* bytes, int size, sqlite3_int64 offset) {
  const std::string_view data(bytes, static_cast<std::size_t>(size));
  const auto at = static_cast<std::uint64_t>(offset);
  if (sync_failed_) return SQLITE_IOERR_WRITE;
  if (at == 0 && data.size() == kWalHeaderBytes) return header_write(file, data);
  if (data.size() == kFrameHeaderBytes) return frame_header_write(file, data, at);
  return page_write(file, data, at);
}

int Shim::header_write(ShimFile* file, std::string_view bytes) {
  const auto header = parse_wal_header(bytes);
  if (!header) return note(Error{Errc::Internal, "SQLite wrote a WAL header of unknown form"});
  if (const int rc = flush(file); rc != SQLITE_OK) return rc;
  if (auto begun = ledger_->begin_epoch(header->salts); !begun) return note(begun.error());
  page_bytes_ = header->page_bytes;
  append_at_ = 0;
  wal_end_ = 0;
  effect_.clear();
  return write_through(file, bytes, 0);
}

// A header of a frame behind all that were written is followed by its page and waits for it. Others are corrections
// of checksums (walRewriteChecksums) or overwrite what a rollback left: they pass at once.
int Shim::frame_header_write(ShimFile* file, std::string_view bytes, std::uint64_t at) {
  if (page_bytes_ == 0) {   // the first frame of this process goes behind those of an earlier one
    char head[kWalHeaderBytes];
    const int rc = note(file->base->pMethods->xRead(file->base, head, sizeof head, 0), "read");
    if (rc != SQLITE_OK) return rc;
    const auto header = parse_wal_header({head, sizeof head});
    if (!header) return note(Error{Errc::Corrupt, "the WAL's header is damaged"});
    page_bytes_ = header->page_bytes;
  }
  const FrameHeader header = parse_frame_header(bytes);
  last_header_ = {at, header.page};
  const bool contiguous = gathered_.empty() || gathered_at_ + gathered_.size() == at;
  if (at >= append_at_) {
    if (!contiguous) {   // frames before it were rolled back, or overwritten in place
      if (const int rc = flush(file); rc != SQLITE_OK) return rc;
    }
    if (gathered_.empty()) gathered_at_ = at;
    gathered_ += bytes;
    if (header.pages_after_commit != 0) commit_header_ = header;
    return SQLITE_OK;
  }
  if (const int rc = flush(file); rc != SQLITE_OK) return rc;
  if (header.pages_after_commit != 0) {
    const auto frame_bytes = kFrameHeaderBytes + page_bytes_;
    const auto number = static_cast<std::uint32_t>((at - kWalHeaderBytes) / frame_bytes + 1);
    if (const int rc = write_line(header, number); rc != SQLITE_OK) return rc;
  }
  return write_through(file, bytes, at);
}

std::uint32_t Shim::number_of_frame(std::uint64_t page_at) const {
  return static_cast<std::uint32_t>((page_at - kFrameHeaderBytes - kWalHeaderBytes) / (kFrameHeaderBytes + page_bytes_) + 1);
}

// A page that doesn't follow its header is overwritten within the transaction; a header that no page follows gets another
// checksum.
void Shim::note_page(std::string_view bytes, std::uint64_t at) {
  const std::uint32_t number = number_of_frame(at);
  if (last_header_ && last_header_->at + kFrameHeaderBytes == at) {
    effect_.appended(number, last_header_->page, bytes);
  } else {
    effect_.overwritten(number, bytes);
  }
  last_header_.reset();
}

bool Shim::read_frame(std::uint32_t number, std::string& page) {
  const std::uint64_t at = frame_offset(number, page_bytes_) + kFrameHeaderBytes;
  if (!gathered_.empty() && at >= gathered_at_) {
    page.assign(gathered_, at - gathered_at_, page_bytes_);
    return page.size() == page_bytes_;
  }
  page.resize(page_bytes_);
  return wal_->base->pMethods->xRead(wal_->base, page.data(), static_cast<int>(page_bytes_), static_cast<sqlite3_int64>(at)) ==
         SQLITE_OK;
}

int Shim::page_write(ShimFile* file, std::string_view bytes, std::uint64_t at) {
  note_page(bytes, at);
  if (gathered_.empty() || gathered_at_ + gathered_.size() != at) {
    if (const int rc = flush(file); rc != SQLITE_OK) return rc;
    return write_through(file, bytes, at);
  }
  gathered_ += bytes;
  append_at_ = at + bytes.size();
  if (commit_header_) {
    const auto frame_bytes = kFrameHeaderBytes + page_bytes_;
    const auto number = static_cast<std::uint32_t>((append_at_ - kWalHeaderBytes) / frame_bytes);
    if (const int rc = write_line(*commit_header_, number); rc != SQLITE_OK) {
      gathered_.clear();
      commit_header_.reset();
      return rc;
    }
    return flush(file);
  }
  return gathered_.size() < kGatheredBytesMax ? SQLITE_OK : flush(file);
}

int Shim::write_line(const FrameHeader& header, std::uint32_t number) {
  if (!armed_) return note(Error{Errc::Internal, "a commit that belongs to no entry was refused"});
  const CommitFrame frame{number, {header.checksum[0], header.checksum[1]}};
  Position position = next_position_;
  if (wrote_commit_) {
    position.chain = chain_;   // the same commit once more, after its checksums were rewritten
  } else {
    const auto chain = effect_.chain(next_position_, header.pages_after_commit,
                                     [this](std::uint32_t which, std::string& page) { return read_frame(which, page); });
    if (!chain) return note(chain.error());
    position.chain = chain_ = *chain;
  }
  if (auto written = ledger_->commit(frame, position); !written) return note(written.error());
  wrote_commit_ = true;
  wal_end_ = frame_offset(number + 1, page_bytes_);
  return SQLITE_OK;
}

int Shim::wal_sync(ShimFile* file, int flags) {
  if (sync_failed_) return SQLITE_IOERR_FSYNC;
  if (const int rc = flush(file); rc != SQLITE_OK) return rc;
  return sync_written(file, flags);
}

// What is gathered belongs to a commit under way, which is no part of the point.
int Shim::sync_written(ShimFile* file, int flags) {
  const auto point = ledger_->sync();
  if (!point) return stop(point.error());
  const int rc = file->base->pMethods->xSync(file->base, flags);
  if (rc != SQLITE_OK) return stop({Errc::Io, std::string("WAL sync: ") + sqlite3_errstr(rc)});
  if (auto marked = ledger_->mark_durable(*point); !marked) return stop(marked.error());
  return SQLITE_OK;
}

// Nothing is known any more of what was written since the last sync: no commit may follow.
int Shim::stop(const Error& error) {
  sync_failed_ = true;
  note(error);
  return SQLITE_IOERR_FSYNC;
}

Result<> Shim::sync_wal() {
  RQ_ASSERT(wal_);
  if (wal_sync(wal_, SQLITE_SYNC_NORMAL) == SQLITE_OK) return {};
  return fail(take_error().value_or(Error{Errc::Io, "the WAL was stopped by a failed sync"}));
}

Result<> Shim::sync_wal_beside() {
  if (!wal_) return fail(Errc::NotOpen);
  if (!sync_failed_ && sync_written(wal_, SQLITE_SYNC_NORMAL) == SQLITE_OK) return {};
  return fail(take_error().value_or(Error{Errc::Io, "the WAL was stopped by a failed sync"}));
}

// --- locks

Result<> Shim::hold_locks() {
  RQ_ASSERT(database_);
  RQ_ASSERT(!locks_held_);
  const int rc = database_->base->pMethods->xShmLock(database_->base, kWriteLock, 2, SQLITE_SHM_LOCK | SQLITE_SHM_EXCLUSIVE);
  if (rc == SQLITE_BUSY) return fail(Errc::Busy, "another program is writing to the database");
  if (rc != SQLITE_OK) return fail(Errc::Io, std::string("locking the WAL: ") + sqlite3_errstr(rc));
  locks_held_ = true;
  return check_index();
}

// The newest commit in the WAL's index (walformat.html section 2.1) must be the one that the ledger knows.
Result<> Shim::check_index() {
  constexpr int kRegionBytes = 32 << 10;
  constexpr std::size_t kMaxFrameAt = 16;
  void volatile* index = nullptr;
  const int rc = database_->base->pMethods->xShmMap(database_->base, 0, kRegionBytes, 0, &index);
  if (rc != SQLITE_OK || index == nullptr) return fail(Errc::Io, std::string("reading the WAL's index: ") + sqlite3_errstr(rc));
  const auto newest = *reinterpret_cast<const std::uint32_t volatile*>(static_cast<const char volatile*>(index) + kMaxFrameAt);
  if (newest != ledger_->newest_frame().number) return fail(Errc::Corrupt, "another program wrote to the database while it was opened");
  return {};
}

// While the locks are held outside, our connections only exclude each other; the other slots stay real.
int Shim::shm_lock(ShimFile* file, int first, int count, int flags) {
  const auto pass = [&](int from, int number) {
    return file->base->pMethods->xShmLock(file->base, from, number, flags);
  };
  if (!locks_held_ || first > kCheckpointLock) return pass(first, count);
  const std::lock_guard guard(mutex_);
  const bool lock = (flags & SQLITE_SHM_LOCK) != 0;
  const int last = first + count - 1;
  for (int slot = first; slot <= last && slot <= kCheckpointLock; ++slot) {
    if (lock && inside_locked_[slot] && !file->holds[slot]) return SQLITE_BUSY;
  }
  if (last > kCheckpointLock) {
    if (const int rc = pass(kCheckpointLock + 1, last - kCheckpointLock); rc != SQLITE_OK) return rc;
  }
  for (int slot = first; slot <= last && slot <= kCheckpointLock; ++slot) {
    inside_locked_[slot] = file->holds[slot] = lock;
  }
  return SQLITE_OK;
}

int Shim::shm_unmap(ShimFile* file, int remove) {
  if (file == database_ && locks_held_) {
    locks_held_ = false;
    file->base->pMethods->xShmLock(file->base, kWriteLock, 2, SQLITE_SHM_UNLOCK | SQLITE_SHM_EXCLUSIVE);
  }
  return file->base->pMethods->xShmUnmap(file->base, remove);
}

}  // namespace

Result<std::unique_ptr<ShimVfs>> ShimVfs::install(const std::string& base_vfs, Ledger* ledger) {
  sqlite3_vfs* base = sqlite3_vfs_find(base_vfs.c_str());
  if (!base) return fail(Errc::NotFound, "no SQLite VFS named " + base_vfs);
  auto shim = std::make_unique<Shim>(base, ledger);
  RQ_CHECK(shim->install());
  return std::unique_ptr<ShimVfs>(std::move(shim));
}

}  // namespace rq::ledger
