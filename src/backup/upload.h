// Upload: a body that a client sends to replace the database (an SQLite image) or to change it (SQL text).
//
// It comes in pieces. An image goes to a file in the staging folder and is checked as a whole at the end; text is collected in
// memory, up to a limit. Which of the two it is its first bytes tell. An image ends up as a file in WAL mode, complete and synced
// with its name; until finish() hands it out, the file goes away with the Upload.
// Threads: one at a time, but cancel(), received() and checking() from any. Blocks on the disk.
// Errors of write() and finish(): Errc::Corrupt "invalid SQLite data...", BadRequest "invalid gzip data...", TooLarge (text; says
// what to do), Truncated "EOF" (images_only: less than 32 bytes), NoSpace, Io, Canceled. After an error it is over.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "backup/gzip.h"
#include "base/clock.h"
#include "base/digest.h"
#include "io/disk.h"
#include "sql/connection.h"

namespace rq::backup {

struct Received {
  bool is_image = false;
  std::string sql;             // otherwise
  std::string name;            // of the image's file in the staging folder; its reader owns it from now on
  std::uint64_t bytes = 0;
  std::string digest;          // rq::Digest of it
};

struct UploadOptions {
  io::Disk* disk = nullptr;
  const Clock* clock = nullptr;
  std::string staging_dir;     // exists; SQLite sees it too
  std::string name;            // of the image's file in the end; unique
  bool gzip = false;           // the body is packed
  bool images_only = false;    // text is refused
  std::size_t sql_bytes_max = 128u << 20;
};

// Files begin with it while they are incomplete: what a crash left of them may be removed when no Upload is alive.
inline constexpr std::string_view kUploadPrefix = "upload-";

class Upload final : private sql::Cancellation {
 public:
  explicit Upload(UploadOptions options) : options_(std::move(options)) {}
  ~Upload() override;
  Result<> write(std::string_view bytes);
  Result<Received> finish();
  void cancel() { canceled_.store(true); }
  std::uint64_t received() const { return received_.load(std::memory_order_relaxed); }   // bytes, unpacked
  bool checking() const { return checking_.load(std::memory_order_relaxed); }

 private:
  bool canceled() const override { return canceled_.load(std::memory_order_relaxed); }
  Result<> take(std::string_view bytes);
  Result<> decide(bool at_end);
  Result<> append_to_image(std::string_view bytes);
  Result<Received> finish_image();
  std::string unfinished_path() const { return options_.staging_dir + "/" + std::string(kUploadPrefix) + options_.name; }

  const UploadOptions options_;
  std::optional<Gunzip> gunzip_;
  enum class Kind : unsigned char { Unknown, Image, Sql } kind_ = Kind::Unknown;
  std::string head_;           // until the kind is known; then the header of an image
  std::string sql_;
  std::unique_ptr<io::File> file_;
  std::uint64_t bytes_ = 0;    // in the file
  Digest digest_;
  std::atomic<bool> canceled_{false}, checking_{false};
  std::atomic<std::uint64_t> received_{0};
};

}  // namespace rq::backup
