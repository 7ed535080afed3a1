#include "app/rqlited/commands.h"

#include <string_view>

namespace rq::app {
namespace {

struct Command {
  std::string_view name;
  int (*run)(int argc, char** argv);
};
constexpr Command kCommands[] = {
    {"doctor", doctor},
    {"import", import_command},
    {"recover", recover},
};

}  // namespace

std::optional<int> run_command(int argc, char** argv) {
  if (argc < 2) return std::nullopt;
  for (const Command& command : kCommands)
    if (argv[1] == command.name) return command.run(argc - 1, argv + 1);
  return std::nullopt;
}

}  // namespace rq::app
