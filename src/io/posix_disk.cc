#include "io/posix_disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace rq::io {
namespace {

constexpr std::size_t kZeroChunk = 1u << 20;
constexpr int kPiecesMax = 64;   // of one pwritev

tl::unexpected<Error> failed(std::string_view call, const std::string& path, int number = errno) {
  const Errc code = number == ENOENT                                                ? Errc::NotFound
                    : number == ENOSPC || number == EDQUOT || number == EFBIG ? Errc::NoSpace
                    : number == EEXIST                                              ? Errc::AlreadyExists
                                                                                    : Errc::Io;
  return fail(code, std::string(call) + " " + path + ": " + std::strerror(number));
}

class PosixFile final : public File {
 public:
  PosixFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  ~PosixFile() override { ::close(fd_); }
  PosixFile(const PosixFile&) = delete;
  PosixFile& operator=(const PosixFile&) = delete;

  Result<std::string> read_at(std::uint64_t offset, std::size_t size) const override {
    std::string out(size, '\0');
    RQ_TRY(const std::size_t got, read_into(offset, out));
    out.resize(got);
    return out;
  }

  Result<std::size_t> read_into(std::uint64_t offset, std::span<char> out) const override {
    std::size_t done = 0;
    while (done < out.size()) {
      const ssize_t got = ::pread(fd_, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return failed("read", path_);
      if (got == 0) break;
      done += static_cast<std::size_t>(got);
    }
    return done;
  }

  Result<> write_at(std::uint64_t offset, std::string_view bytes) override {
    while (!bytes.empty()) {
      const ssize_t done = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (done < 0 && errno == EINTR) continue;
      if (done < 0) return failed("write", path_);
      bytes.remove_prefix(static_cast<std::size_t>(done));
      offset += static_cast<std::uint64_t>(done);
    }
    return {};
  }

  Result<> write_pieces_at(std::uint64_t offset, std::span<const std::string_view> pieces) override {
    while (!pieces.empty()) {
      std::array<iovec, kPiecesMax> list{};
      const std::size_t count = std::min<std::size_t>(pieces.size(), kPiecesMax);
      std::size_t total = 0;
      for (std::size_t i = 0; i < count; ++i) {
        list[i] = {const_cast<char*>(pieces[i].data()), pieces[i].size()};
        total += pieces[i].size();
      }
      ssize_t done = 0;
      do done = ::pwritev(fd_, list.data(), static_cast<int>(count), static_cast<off_t>(offset));
      while (done < 0 && errno == EINTR);
      if (done < 0) return failed("write", path_);
      if (static_cast<std::size_t>(done) < total) {   // short: the rest piece by piece
        std::size_t skip = static_cast<std::size_t>(done);
        std::uint64_t at = offset + skip;
        for (std::size_t i = 0; i < count; ++i) {
          const std::size_t here = std::min(skip, pieces[i].size());
          skip -= here;
          RQ_CHECK(write_at(at, pieces[i].substr(here)));
          at += pieces[i].size() - here;
        }
      }
      offset += total;
      pieces = pieces.subspan(count);
    }
    return {};
  }

  Result<> truncate(std::uint64_t size) override {
    while (::ftruncate(fd_, static_cast<off_t>(size)) != 0)
      if (errno != EINTR) return failed("truncate", path_);
    return {};
  }

  Result<> extend_with_zeros(std::uint64_t size) override {
    static const std::string zeros(kZeroChunk, '\0');
    RQ_TRY(std::uint64_t at, this->size());
    while (at < size) {
      const std::size_t chunk = static_cast<std::size_t>(std::min<std::uint64_t>(size - at, zeros.size()));
      RQ_CHECK(write_at(at, std::string_view(zeros).substr(0, chunk)));
      at += chunk;
    }
    return {};
  }

  Result<> sync() override {
    while (::fdatasync(fd_) != 0)
      if (errno != EINTR) return failed("sync", path_);
    return {};
  }

  Result<std::uint64_t> size() const override {
    struct stat info {};
    if (::fstat(fd_, &info) != 0) return failed("stat", path_);
    return static_cast<std::uint64_t>(info.st_size);
  }

 private:
  const int fd_;
  const std::string path_;
};

}  // namespace

Result<std::unique_ptr<File>> PosixDisk::open(const std::string& path, OpenMode mode) {
  int flags = O_CLOEXEC;
  switch (mode) {
    case OpenMode::ReadOnly: flags |= O_RDONLY; break;
    case OpenMode::ReadWrite: flags |= O_RDWR; break;
    case OpenMode::CreateOrOpen: flags |= O_RDWR | O_CREAT; break;
    case OpenMode::CreateNew: flags |= O_RDWR | O_CREAT | O_EXCL; break;
  }
  int fd = -1;
  do fd = ::open(path.c_str(), flags, 0644);
  while (fd < 0 && errno == EINTR);
  if (fd < 0) return failed("open", path);
  return std::unique_ptr<File>(new PosixFile(fd, path));
}

Result<> PosixDisk::remove(const std::string& path) {
  if (::unlink(path.c_str()) != 0) return failed("remove", path);
  return {};
}

Result<> PosixDisk::remove_dir(const std::string& path) {
  if (::rmdir(path.c_str()) != 0) return failed("remove", path);
  return {};
}

Result<> PosixDisk::rename(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) return failed("rename", from + " to " + to);
  return {};
}

Result<> PosixDisk::link(const std::string& from, const std::string& to) {
  if (::link(from.c_str(), to.c_str()) != 0) return failed("link", from + " to " + to);
  return {};
}

Result<std::vector<std::string>> PosixDisk::list(const std::string& dir) {
  const std::unique_ptr<DIR, int (*)(DIR*)> handle(::opendir(dir.c_str()), &::closedir);
  if (!handle) return failed("open directory", dir);
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(handle.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
    errno = 0;
  }
  if (errno != 0) return failed("read directory", dir);
  std::ranges::sort(names);
  return names;
}

Result<bool> PosixDisk::exists(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0) return true;
  if (errno == ENOENT || errno == ENOTDIR) return false;
  return failed("stat", path);
}

Result<> PosixDisk::make_dirs(const std::string& dir) {
  for (std::size_t end = 1; end != std::string::npos;) {
    end = dir.find('/', end + 1);
    const std::string part = dir.substr(0, end);
    if (::mkdir(part.c_str(), 0755) != 0 && errno != EEXIST) return failed("make directory", part);
  }
  return {};
}

Result<> PosixDisk::sync_dir(const std::string& dir) {
  const int fd = ::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return failed("open directory", dir);
  const int result = ::fsync(fd);
  const int number = errno;
  ::close(fd);
  // Some file systems have no sync of directories; their renames are ordered.
  if (result != 0 && number != EINVAL) return failed("sync directory", dir, number);
  return {};
}

Result<std::uint64_t> PosixDisk::free_bytes(const std::string& dir) {
  struct statvfs info {};
  if (::statvfs(dir.c_str(), &info) != 0) return failed("stat", dir);
  return static_cast<std::uint64_t>(info.f_bavail) * info.f_frsize;
}

Result<DirectoryLock> DirectoryLock::take(const std::string& dir) {
  const std::string path = dir + "/lock";
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return failed("open", path);
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return DirectoryLock(fd);
  const int number = errno;
  ::close(fd);
  if (number == EWOULDBLOCK) return fail(Errc::AlreadyExists, "data directory " + dir + " is in use by another process");
  return failed("lock", path, number);
}

Result<DirectoryLock> DirectoryLock::share(const std::string& file) {
  const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return failed("open", file);
  if (::flock(fd, LOCK_SH | LOCK_NB) == 0) return DirectoryLock(fd);
  const int number = errno;
  ::close(fd);
  if (number == EWOULDBLOCK) return fail(Errc::AlreadyExists, file + " is in use by another process");
  return failed("lock", file, number);
}

DirectoryLock::~DirectoryLock() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace rq::io
