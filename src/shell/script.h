// Where the lines come from: a file, a pipe, a terminal. Cuts them into statements and hands those to the session.
#pragma once

#include <cstdio>
#include <string>

#include "shell/history.h"
#include "shell/session.h"

namespace rq::shell {

// Statements over several lines, and commands; a statement ends at a semicolon or where the next line begins another one.
// Stops when the session is done. The file stays the caller's.
void run_script(Session& session, std::FILE* file);

// Lines as the reference takes them: each is one command as soon as it is complete, so that a program at the other end of the
// pipe gets its answer. Only a line that cannot be complete waits for the next one.
void run_lines(Session& session, std::FILE* file, bool prompts);

// A person at a terminal. `terminal` is TERM. Falls back to run_lines when lines cannot be edited.
void run_interactive(Session& session, History& history, const std::string& terminal);

}  // namespace rq::shell
