// rqlited doctor [flags] DIR: what the machine and the network lack for a node with these flags, and what to do about it.
// Exit code 0: nothing is bad; 1: something is; 2: wrong flags.
#include "ops/doctor.h"

#include <cstdio>

#include "app/rqlited/commands.h"
#include "app/rqlited/version.h"
#include "config/flags.h"
#include "io/posix_disk.h"

namespace rq::app {

int doctor(int argc, char** argv) {
  auto parsed = config::parse(argc, argv, version_line());
  if (const auto* exit = std::get_if<config::Exit>(&parsed)) {
    if (argc < 2) std::fputs("usage: rqlited doctor [flags] <data directory>, with the flags that the node is started with\n", stderr);
    else std::fputs(exit->text.c_str(), stderr);
    return argc < 2 ? 2 : exit->code;
  }
  io::PosixDisk disk;
  const SystemClock clock;
  int bad = 0, warnings = 0;
  ops::examine(std::get<config::Options>(parsed), disk, clock, [&](const ops::Finding& finding) {
    bad += finding.level == ops::Finding::Level::Bad ? 1 : 0;
    warnings += finding.level == ops::Finding::Level::Warning ? 1 : 0;
    std::fputs(ops::finding_text(finding).c_str(), stdout);
    std::fflush(stdout);
  });
  std::printf("%d bad, %d to look at\n", bad, warnings);
  return bad > 0 ? 1 : 0;
}

}  // namespace rq::app
