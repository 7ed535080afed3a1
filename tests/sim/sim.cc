// sim SEED [COUNT]          replays one seed and tells its story, or judges COUNT seeds from SEED on
// sim --seeds FILE          judges the seeds of a file (one a line, # begins a comment)
// sim --fresh COUNT         judges seeds drawn from today's date
// sim --mutants [COUNT]     plants each bug and counts the seeds until it is found (at most COUNT each)
// sim --mutant NAME SEED    the story of one seed with one bug
// The same seed is the same run: every 25th is run twice and the traces are compared.
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <string>
#include <vector>

#include "base/log.h"
#include "sim/run.h"
#include "sim/settings.h"

namespace {

using namespace rq::sim;

struct Tally {
  unsigned passed = 0, failed = 0;
  std::uint64_t operations = 0, acknowledged = 0, faults = 0;
};

constexpr int kFound = 3, kUnequal = 4;
constexpr rlim_t kCpuSecondsMax = 40;      // a run takes about a quarter of a second

// In a process of its own: a broken assertion ends that one only. 0: fine.
int run_apart(const RunOptions& options, std::string& what, Tally* tally = nullptr, bool twice = false) {
  int pipe_ends[2];
  if (pipe(pipe_ends) != 0) std::abort();
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    close(pipe_ends[0]);
    const rlimit bound{kCpuSecondsMax, kCpuSecondsMax};    // a run that never ends is a fault too
    setrlimit(RLIMIT_CPU, &bound);
    const Verdict verdict = run(options);
    std::string report;
    int code = 0;
    if (verdict.violation) {
      report = *verdict.violation;
      code = kFound;
    } else if (twice && run(options).trace != verdict.trace) {
      report = "the same seed gave another run";
      code = kUnequal;
    } else {
      report = std::to_string(verdict.operations) + " " + std::to_string(verdict.acknowledged) + " " + std::to_string(verdict.faults);
    }
    if (write(pipe_ends[1], report.data(), report.size()) < 0) code = 1;
    std::fflush(stdout);
    _exit(code);
  }
  close(pipe_ends[1]);
  char buffer[4096];
  for (ssize_t got = 0; (got = read(pipe_ends[0], buffer, sizeof buffer)) > 0;) what.append(buffer, static_cast<std::size_t>(got));
  close(pipe_ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFSIGNALED(status)) {
    const bool endless = WTERMSIG(status) == SIGXCPU || WTERMSIG(status) == SIGKILL;
    what = endless ? "it goes round and round" : "the process died of signal " + std::to_string(WTERMSIG(status)) + " (a broken assertion?)";
    return kFound;
  }
  if (WEXITSTATUS(status) == 0 && tally) {
    unsigned long long operations = 0, acknowledged = 0, faults = 0;
    if (std::sscanf(what.c_str(), "%llu %llu %llu", &operations, &acknowledged, &faults) == 3) {
      tally->operations += operations;
      tally->acknowledged += acknowledged;
      tally->faults += faults;
    }
  }
  return WEXITSTATUS(status);
}

void judge(std::uint64_t seed, Tally& tally) {
  std::string what;
  if (run_apart({.seed = seed}, what, &tally, seed % 25 == 1) == 0) {
    ++tally.passed;
    return;
  }
  ++tally.failed;
  std::printf("seed %llu: %s\n", static_cast<unsigned long long>(seed), what.c_str());
  std::fflush(stdout);
}

int report(const Tally& tally, std::chrono::steady_clock::time_point begun) {
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  std::printf("%u passed, %u failed; %llu operations, %llu acknowledged, %llu faults; %.0f seeds per minute\n", tally.passed, tally.failed,
              static_cast<unsigned long long>(tally.operations), static_cast<unsigned long long>(tally.acknowledged), static_cast<unsigned long long>(tally.faults),
              (tally.passed + tally.failed) * 60 / std::max(seconds, 0.001));
  return tally.failed == 0 ? 0 : 1;
}

int story(const RunOptions& options) {
  const Verdict verdict = run(options);
  std::printf("seed %llu: %s; %zu operations, %zu acknowledged, %llu entries, %zu terms, %zu faults, %llu events, %.1f virtual seconds, trace %016llx%s\n",
              static_cast<unsigned long long>(options.seed), verdict.violation ? verdict.violation->c_str() : "fine", verdict.operations, verdict.acknowledged,
              static_cast<unsigned long long>(verdict.entries), verdict.terms, verdict.faults, static_cast<unsigned long long>(verdict.events), verdict.virtual_seconds,
              static_cast<unsigned long long>(verdict.trace), verdict.gave_up ? ", a history was too large to be judged" : "");
  return verdict.violation ? 1 : 0;
}

int mutants(unsigned seeds_max, const std::string& only) {
  unsigned missed = 0;
  std::printf("%-24s %6s  %-60s %s\n", "mutant", "seeds", "what it does", "found as");
  for (const Mutant mutant : all_mutants()) {
    if (!only.empty() && only != name_of(mutant)) continue;
    const std::uint64_t first = needs_second_generation(mutant) ? kSecondGeneration : 0;
    unsigned seed = 1;
    std::string what;
    for (; seed <= seeds_max; ++seed) {
      what.clear();
      if (run_apart({.seed = first + seed, .mutant = mutant}, what) != 0) break;
    }
    if (seed > seeds_max) {
      ++missed;
      what = "NOT FOUND";
    }
    std::printf("%-24s %6u  %-60s %.100s\n", std::string(name_of(mutant)).c_str(), seed, std::string(about(mutant)).c_str(), what.c_str());
    std::fflush(stdout);
  }
  std::printf("%u mutants, %u not found within %u seeds\n", static_cast<unsigned>(all_mutants().size()), missed, seeds_max);
  return missed == 0 ? 0 : 1;
}

int from_file(const std::string& path) {
  const auto begun = std::chrono::steady_clock::now();
  std::ifstream in(path);
  if (!in) {
    std::printf("can't read %s\n", path.c_str());
    return 2;
  }
  Tally tally;
  for (std::string line; std::getline(in, line);)
    if (!line.empty() && line[0] != '#') judge(std::strtoull(line.c_str(), nullptr, 10), tally);
  return report(tally, begun);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  const auto number = [&](std::size_t at, std::uint64_t otherwise) { return at < words.size() ? std::strtoull(words[at].c_str(), nullptr, 10) : otherwise; };
  const bool loud = std::erase(words, "--log") > 0;   // the product's own log, and SQLite's, between the lines of the story
  if (loud) sqlite3_config(SQLITE_CONFIG_LOG, +[](void*, int code, const char* text) { std::printf("sqlite %d: %s\n", code, text); }, nullptr);
  rq::log::set_level(loud ? rq::log::Level::Info : rq::log::Level::Off);
  const std::string command = words.empty() ? "1" : words[0];
  if (command == "--mutants") return mutants(static_cast<unsigned>(number(1, 40)), words.size() > 2 ? words[2] : "");
  if (command == "--seeds") return from_file(words.at(1));
  if (command == "--mutant") {
    const auto mutant = mutant_named(words.at(1));
    if (!mutant) return 2;
    return story({.seed = number(2, 1), .mutant = *mutant, .print_story = true});
  }
  const auto begun = std::chrono::steady_clock::now();
  std::uint64_t first = number(0, 1), count = number(1, 1);
  if (command == "--fresh") {
    count = number(1, 20);
    first = static_cast<std::uint64_t>(std::time(nullptr)) / 86400 * 1'000'000;
  } else if (count == 1) {
    return story({.seed = first, .print_story = true});
  }
  Tally tally;
  for (std::uint64_t seed = first; seed < first + count; ++seed) judge(seed, tally);
  return report(tally, begun);
}
