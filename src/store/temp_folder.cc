#include "store/temp_folder.h"

#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

namespace rq::store {
namespace {

constexpr std::string_view kSqlitesNames = "etilqs_";

Result<> require_writable(const std::string& folder) {
  struct stat facts {};
  if (::stat(folder.c_str(), &facts) == 0 && S_ISDIR(facts.st_mode) && ::access(folder.c_str(), W_OK | X_OK) == 0) return {};
  return fail(Errc::BadRequest, "SQLITE_TMPDIR is " + folder + ", which is no folder that can be written");
}

Result<> make_empty(io::Disk& disk, const std::string& folder) {
  RQ_CHECK(disk.make_dirs(folder));
  RQ_TRY(const std::vector<std::string> names, disk.list(folder));
  for (const std::string& name : names)
    if (name.starts_with(kSqlitesNames)) RQ_CHECK(disk.remove(folder + "/" + name));
  return {};
}

}  // namespace

Result<> set_temp_folder(io::Disk& disk, const std::string& data_dir, const char* elsewhere) {
  const bool given = elsewhere != nullptr && *elsewhere != '\0';
  const std::string folder = given ? elsewhere : data_dir + "/" + kTempFolder;
  RQ_CHECK(given ? require_writable(folder) : make_empty(disk, folder));
  char* copy = sqlite3_mprintf("%s", folder.c_str());
  if (copy == nullptr) return fail(Errc::Internal, "out of memory");
  sqlite3_free(std::exchange(sqlite3_temp_directory, copy));
  return {};
}

}  // namespace rq::store
