#include "io/disk.h"

namespace rq::io {

Result<> Disk::link(const std::string& from, const std::string&) { return fail(Errc::Unsupported, "link " + from); }

Result<> write_file_atomically(Disk& disk, const std::string& path, std::string_view bytes) {
  const std::string scratch = path + ".tmp";
  if (auto removed = disk.remove(scratch); !removed && removed.error().code != Errc::NotFound) return removed;
  {
    RQ_TRY(const std::unique_ptr<File> file, disk.open(scratch, OpenMode::CreateNew));
    RQ_CHECK(file->write_at(0, bytes));
    RQ_CHECK(file->sync());
  }
  RQ_CHECK(disk.rename(scratch, path));
  return disk.sync_dir(path.substr(0, path.rfind('/')));
}

Result<std::string> read_file(Disk& disk, const std::string& path, std::size_t size_max) {
  RQ_TRY(const std::unique_ptr<File> file, disk.open(path, OpenMode::ReadOnly));
  RQ_TRY(const std::uint64_t size, file->size());
  if (size > size_max) return fail(Errc::TooLarge, path + " has " + std::to_string(size) + " bytes");
  return file->read_at(0, static_cast<std::size_t>(size));
}

}  // namespace rq::io
