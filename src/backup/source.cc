#include "backup/source.h"

#include <atomic>

#include "backup/dump.h"
#include "backup/gzip.h"
#include "base/log.h"
#include "sql/image_reader.h"

namespace rq::backup {
namespace {

constexpr std::size_t kWriteVersion = 18, kReadVersion = 19;   // in the file's header; 1: DELETE mode, 2: WAL mode

void set_mode(std::string& first_page, Format format) {
  first_page[kWriteVersion] = first_page[kReadVersion] = format == Format::Image ? 2 : 1;
}

// A WAL-mode database needs nothing but these two bytes to be one in DELETE mode, and the other way round.
class Image final : public Source {
 public:
  Image(std::unique_ptr<sql::ImageReader> reader, Format format) : reader_(std::move(reader)), format_(format) {}
  Result<Piece> next() override {
    RQ_TRY(std::string bytes, reader_->read(at_, kPieceBytes));
    if (at_ == 0 && !bytes.empty()) set_mode(bytes, format_);
    at_ += bytes.size();
    return Piece{std::move(bytes), at_ >= reader_->bytes()};
  }
  void cancel() override { reader_->interrupt(); }

 private:
  const std::unique_ptr<sql::ImageReader> reader_;
  const Format format_;
  std::uint64_t at_ = 0;
};

class Vacuumed final : public Source {
 public:
  Vacuumed(const Database& database, std::unique_ptr<sql::Connection> connection)
      : disk_(*database.disk), path_(database.staging_dir + "/" + std::string(kCopyPrefix) + std::to_string(++copies)), connection_(std::move(connection)) {}
  ~Vacuumed() override {
    file_.reset();
    connection_.reset();
    for (const char* suffix : {"", "-journal"})
      if (const Result<> gone = disk_.remove(path_ + suffix); !gone && gone.error().code != Errc::NotFound)
        log::warn("backup", "temporary copy was not removed: " + gone.error().text());
  }
  Result<Piece> next() override {
    if (!file_) RQ_CHECK(copy());
    RQ_TRY(std::string bytes, file_->read_at(at_, kPieceBytes));
    if (at_ == 0 && !bytes.empty()) set_mode(bytes, Format::DeleteImage);
    at_ += bytes.size();
    const bool last = at_ >= size_;
    if (!last && bytes.empty()) return fail(Errc::Io, "temporary copy " + path_ + " was cut short");
    return Piece{std::move(bytes), last};
  }
  void cancel() override { connection_->interrupt(); }

 private:
  Result<> copy() {
    RQ_TRY(sql::Statement statement, connection_->prepare("VACUUM INTO ?1", sql::Connection::Reuse::Fresh));
    sqlite3_bind_text(statement.handle(), 1, path_.data(), static_cast<int>(path_.size()), SQLITE_STATIC);
    if (const int code = statement.step(); code != SQLITE_DONE) return fail(connection_->error(code));
    RQ_TRY(file_, disk_.open(path_, io::OpenMode::ReadOnly));
    RQ_TRY(size_, file_->size());
    return {};
  }

  static inline std::atomic<std::uint64_t> copies{0};
  io::Disk& disk_;
  const std::string path_;
  std::unique_ptr<sql::Connection> connection_;
  std::unique_ptr<io::File> file_;
  std::uint64_t at_ = 0, size_ = 0;
};

Result<std::unique_ptr<Source>> open_plain(const Database& database, const Query& query) {
  if (query.vacuum && query.format != Format::Image) return fail(Errc::BadRequest, "invalid backup format");
  if (query.format == Format::Sql) {
    RQ_TRY(auto dump, Dump::open(database, query.tables));
    return std::unique_ptr<Source>(std::move(dump));
  }
  if (query.vacuum) {
    RQ_TRY(auto connection, sql::Connection::open({.path = database.path, .vfs = database.vfs, .read_only = true, .clock = database.clock,
                                                   .cache_kib = 8192, .statements_cached = 0}));
    return std::unique_ptr<Source>(std::make_unique<Vacuumed>(database, std::move(connection)));
  }
  RQ_TRY(auto reader, sql::ImageReader::open(database.path, database.vfs, database.clock));
  return std::unique_ptr<Source>(std::make_unique<Image>(std::move(reader), query.format));
}

}  // namespace

Result<std::unique_ptr<Source>> open_source(const Database& database, const Query& query) {
  RQ_TRY(auto source, open_plain(database, query));
  if (!query.compress) return source;
  return compressed(std::move(source));
}

}  // namespace rq::backup
