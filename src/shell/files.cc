#include "shell/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/go_text.h"

namespace rq::shell {
namespace {

std::string lower_error(int error_number) {
  std::string text = std::strerror(error_number);
  if (!text.empty() && text[0] >= 'A' && text[0] <= 'Z') text[0] = static_cast<char>(text[0] + 32);
  return text;
}

Error file_error(std::string_view operation, const std::string& path, int error_number) {
  return {Errc::Io, std::string(operation) + " " + path + ": " + lower_error(error_number)};
}

}  // namespace

std::string open_problem(const std::string& path, int error_number) { return "open " + path + ": " + lower_error(error_number); }

Result<std::string> read_file(const std::string& path) {
  const int fd = path == "-" ? ::dup(0) : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fail(Errc::Io, open_problem(path, errno));
  std::string content;
  char piece[65536];
  ssize_t got = 0;
  while ((got = ::read(fd, piece, sizeof(piece))) > 0) content.append(piece, static_cast<std::size_t>(got));
  const int error_number = errno;
  ::close(fd);
  if (got < 0) return fail(file_error("read", path, error_number));
  return content;
}

Progress::Progress(std::string what, bool shown) : what_(std::move(what)), shown_(shown && ::isatty(2) == 1) {}

Progress::~Progress() {
  if (drawn_) std::fputs("\r\x1b[K", stderr);
}

std::string Progress::line(std::string_view what, std::uint64_t done, std::uint64_t total, std::chrono::duration<double> since) {
  std::string out(what);
  out.append(": ").append(friendly_size(done));
  const double seconds = std::max(since.count(), 1e-3);
  const double rate = static_cast<double>(done) / seconds;
  if (total > 0) {
    out.append(" of ").append(friendly_size(total)).append(", ");
    out.append(std::to_string(static_cast<std::uint64_t>(100.0 * static_cast<double>(done) / static_cast<double>(total)))).append("%");
  }
  out.append(", ").append(friendly_size(static_cast<std::uint64_t>(rate))).append("/s");
  if (total > done && rate > 0) {
    const auto left = static_cast<std::int64_t>(static_cast<double>(total - done) / rate);
    out.append(", ").append(go_duration_text(std::chrono::seconds(left))).append(" left");
  }
  return out;
}

void Progress::show(std::uint64_t done, std::uint64_t total) {
  if (!shown_) return;
  const auto now = std::chrono::steady_clock::now();
  if (now - begin_ < std::chrono::milliseconds(500) || now - last_ < std::chrono::milliseconds(100)) return;
  last_ = now;
  drawn_ = true;
  std::fputs(("\r\x1b[K" + line(what_, done, total, now - begin_)).c_str(), stderr);
}

Result<std::unique_ptr<FileSource>> FileSource::open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fail(Errc::Io, open_problem(path, errno));
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    return fail(Errc::Io, "read " + path + ": is not a regular file");
  }
  return std::unique_ptr<FileSource>(new FileSource(fd, static_cast<std::uint64_t>(info.st_size)));
}

FileSource::~FileSource() { ::close(fd_); }

bool FileSource::begins_with(std::string_view bytes) const {
  std::string head(bytes.size(), '\0');
  return ::pread(fd_, head.data(), head.size(), 0) == static_cast<ssize_t>(head.size()) && head == bytes;
}

Result<> FileSource::rewind() {
  at_ = 0;
  return {};
}

Result<std::size_t> FileSource::read(char* into, std::size_t size) {
  std::size_t given = 0;
  if (at_ < file_size_) {
    const ssize_t got = ::pread(fd_, into, std::min<std::size_t>(size, file_size_ - at_), static_cast<off_t>(at_));
    if (got < 0) return fail(file_error("read", "file", errno));
    given = static_cast<std::size_t>(got);
  } else {
    const std::size_t from = static_cast<std::size_t>(at_ - file_size_);
    given = std::min(size, suffix_.size() - from);
    std::memcpy(into, suffix_.data() + from, given);
  }
  at_ += given;
  if (progress_ != nullptr) progress_->show(at_, this->size());
  return given;
}

Result<std::unique_ptr<WholeFile>> WholeFile::create(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd < 0) return fail(Errc::Io, open_problem(path, errno));
    return std::unique_ptr<WholeFile>(new WholeFile(fd, path, {}));
  }
  const std::string temporary = path + ".part-" + std::to_string(::getpid());
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return fail(Errc::Io, open_problem(path, errno));
  return std::unique_ptr<WholeFile>(new WholeFile(fd, path, temporary));
}

WholeFile::~WholeFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

Result<> WholeFile::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return fail(file_error("write", path_, errno));
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return {};
}

Result<> WholeFile::finish() {
  if (!temporary_.empty()) {
    if (::fsync(fd_) != 0) return fail(file_error("sync", path_, errno));
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) return fail(file_error("rename", path_, errno));
    temporary_.clear();
  }
  const int fd = std::exchange(fd_, -1);
  if (::close(fd) != 0) return fail(file_error("close", path_, errno));
  return {};
}

}  // namespace rq::shell
