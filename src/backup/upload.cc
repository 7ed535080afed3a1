#include "backup/upload.h"

#include <algorithm>

#include "backup/image_check.h"
#include "base/log.h"

namespace rq::backup {
namespace {

constexpr std::size_t kDecideBytes = 32;
constexpr std::size_t kShortestImage = 14;                        // as the reference decides
constexpr std::string_view kImageStart = "SQLite format";
constexpr std::size_t kVersions = 18;                             // of the format, two bytes: 1, 1 DELETE mode, 2, 2 WAL mode
constexpr std::string_view kDeleteMode("\1\1", 2), kWalMode("\2\2", 2);

}  // namespace

Upload::~Upload() {
  if (!file_) return;
  file_.reset();
  if (const Result<> gone = options_.disk->remove(unfinished_path()); !gone && gone.error().code != Errc::NotFound)
    log::warn("backup", "upload was not removed: " + gone.error().text());
}

Result<> Upload::write(std::string_view bytes) {
  if (canceled()) return fail(Errc::Canceled);
  if (!options_.gzip) return take(bytes);
  if (!gunzip_) gunzip_.emplace();
  return gunzip_->add(bytes, [this](std::string_view unpacked) { return take(unpacked); });
}

Result<> Upload::take(std::string_view bytes) {
  received_.fetch_add(bytes.size(), std::memory_order_relaxed);
  if (kind_ == Kind::Unknown) {
    head_ += bytes;
    return head_.size() < kDecideBytes ? Result<>() : decide(false);
  }
  if (kind_ == Kind::Image) return append_to_image(bytes);
  if (sql_.size() + bytes.size() > options_.sql_bytes_max)
    return fail(Errc::TooLarge, "SQL text is longer than " + std::to_string(options_.sql_bytes_max >> 20) +
                                    " MiB: load an SQLite file instead, or split the text");
  sql_ += bytes;
  return {};
}

// Every byte so far is in head_.
Result<> Upload::decide(bool at_end) {
  const bool image = head_.size() >= kShortestImage && head_.starts_with(kImageStart);
  if (options_.images_only && at_end) return fail(Errc::Truncated, "EOF");
  if (options_.images_only && !image) return fail(Errc::Corrupt, "invalid SQLite data");
  kind_ = image ? Kind::Image : Kind::Sql;
  const std::string head = std::exchange(head_, {});
  if (!image) {
    received_.fetch_sub(head.size(), std::memory_order_relaxed);
    return take(head);
  }
  RQ_TRY(file_, options_.disk->open(unfinished_path(), io::OpenMode::CreateNew));
  return append_to_image(head);
}

// The file is in DELETE mode until it is checked, so that SQLite makes no files beside it; what counts is the WAL-mode file.
Result<> Upload::append_to_image(std::string_view bytes) {
  std::string patched;
  if (bytes_ <= kVersions + 1 && bytes_ + bytes.size() > kVersions && head_.size() < kImageHeaderBytes) {
    patched = bytes;
    for (std::size_t i = kVersions; i < kVersions + 2; ++i)
      if (i >= bytes_ && i < bytes_ + patched.size() && (patched[i - bytes_] == 1 || patched[i - bytes_] == 2)) patched[i - bytes_] = 2;
    bytes = patched;
  }
  if (head_.size() < kImageHeaderBytes) head_ += bytes.substr(0, kImageHeaderBytes - head_.size());
  digest_.add(bytes);
  RQ_CHECK(file_->write_at(bytes_, bytes));
  bytes_ += bytes.size();
  return {};
}

Result<Received> Upload::finish() {
  if (gunzip_) RQ_CHECK(gunzip_->end());
  if (kind_ == Kind::Unknown) RQ_CHECK(decide(true));
  if (kind_ == Kind::Image) return finish_image();
  return Received{.sql = std::move(sql_)};
}

Result<Received> Upload::finish_image() {
  checking_.store(true, std::memory_order_relaxed);
  RQ_CHECK(check_image_header(head_, bytes_));
  RQ_CHECK(file_->write_at(kVersions, kDeleteMode));
  RQ_CHECK(check_image_pages(unfinished_path(), options_.clock, *this));
  RQ_CHECK(file_->write_at(kVersions, kWalMode));
  RQ_CHECK(file_->sync());
  RQ_CHECK(options_.disk->rename(unfinished_path(), options_.staging_dir + "/" + options_.name));
  file_.reset();
  RQ_CHECK(options_.disk->sync_dir(options_.staging_dir));
  return Received{.is_image = true, .name = options_.name, .bytes = bytes_, .digest = digest_.value()};
}

}  // namespace rq::backup
