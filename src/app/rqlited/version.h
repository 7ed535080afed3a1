// What this program is: the texts of -version, of the start-up log and of /status.
#pragma once

#include <string>
#include <string_view>

namespace rq::app {

inline constexpr const char* kVersion = "10";      // the reference's: clients see it as X-Rqlite-Version

struct BuildInfo {
  std::string_view commit;          // hash, or "unknown"
  std::string_view date;            // of the commit, RFC 3339, or "unknown"
  std::string_view toolchain;       // "gcc-12.2.0"
  std::string_view compiler;        // "g++"
  std::string_view architecture;    // as Go names it: "amd64"
};
const BuildInfo& build_info();

std::string version_line();         // of -version, without line end

}  // namespace rq::app
