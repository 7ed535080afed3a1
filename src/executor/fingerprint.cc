#include <sqlite3.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <string>

#include "executor/executor.h"

namespace rq::executor {

std::uint64_t engine_fingerprint(std::uint32_t spill_pages) {
  std::string text = sqlite3_sourceid();
  for (int i = 0; const char* option = sqlite3_compileoption_get(i); ++i) {
    // The compiler that made the binary changes nothing that is stored.
    if (const std::string_view name = option; name.rfind("COMPILER=", 0) != 0) text.append("\n").append(name);
  }
#ifdef RQ_ENGINE_TAG
  text.append("\nbuild ").append(RQ_ENGINE_TAG);   // another engine, as far as the nodes can tell: tests of upgrades
#endif
  text += "\nspill " + std::to_string(spill_pages) + "\npage 4096";
  return XXH3_64bits(text.data(), text.size());
}

}  // namespace rq::executor
