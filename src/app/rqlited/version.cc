#include "app/rqlited/version.h"

#include <sqlite3.h>

#include "build_info.inc"

namespace rq::app {

const BuildInfo& build_info() {
#if defined(__x86_64__)
  static constexpr std::string_view kArchitecture = "amd64";
#elif defined(__aarch64__)
  static constexpr std::string_view kArchitecture = "arm64";
#else
  static constexpr std::string_view kArchitecture = "unknown";
#endif
  static constexpr BuildInfo info{.commit = RQ_COMMIT, .date = RQ_COMMIT_DATE, .toolchain = RQ_COMPILER, .compiler = "g++", .architecture = kArchitecture};
  return info;
}

std::string version_line() {
  const BuildInfo& info = build_info();
  return std::string("rqlited ") + kVersion + " linux " + std::string(info.architecture) + " " + std::string(info.toolchain) + " sqlite" +
         sqlite3_libversion() + " (commit " + std::string(info.commit) + ", compiler " + std::string(info.compiler) + ")";
}

}  // namespace rq::app
