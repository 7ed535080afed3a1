// Commands of rqlited besides serving: `rqlited NAME ...`. A data directory of such a name is written as ./NAME.
#pragma once

#include <optional>

namespace rq::app {

// Runs the command that argv[1] names and gives its exit code; nullopt: it names none.
std::optional<int> run_command(int argc, char** argv);

// The commands; argv[0] is the command's name. Each parses its own arguments.
int doctor(int argc, char** argv);
int import_command(int argc, char** argv);
int recover(int argc, char** argv);

}  // namespace rq::app
