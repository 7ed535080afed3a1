// replay [DIR] [TARGET]: gives every file of DIR/TARGET to its target, and prefixes and mutations of each, so that the
// corpora count in builds without libFuzzer too. A crash or a failed assertion ends the process: the test fails.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

#include "base/log.h"
#include "fuzz/targets.h"

namespace {

constexpr int kMutationsOfEach = 40;

std::string contents(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string mutated(std::string bytes, std::mt19937_64& random) {
  for (std::uint64_t n = 1 + random() % 4; n > 0 && !bytes.empty(); --n) {
    const std::size_t at = random() % bytes.size();
    switch (random() % 4) {
      case 0: bytes[at] = static_cast<char>(bytes[at] ^ 1 << random() % 8); break;
      case 1: bytes[at] = static_cast<char>(random()); break;
      case 2: bytes.resize(at); break;
      default: bytes.insert(at, bytes.substr(random() % bytes.size(), random() % 16)); break;
    }
  }
  return bytes;
}

}  // namespace

int main(int argc, char** argv) {
  const std::filesystem::path corpora = argc > 1 ? argv[1] : "tests/fuzz/corpus";
  rq::log::set_level(rq::log::Level::Error);   // a failed assertion says which
  int runs = 0, failures = 0;
  for (const rq::fuzz::Target& target : rq::fuzz::kTargets) {
    if (argc > 2 && target.name != argv[2]) continue;
    std::mt19937_64 random(1);           // the same inputs in each run
    target.run({});
    int files = 0;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(corpora / target.name, error)) {
      const std::string bytes = contents(entry.path());
      target.run(bytes);
      for (int i = 0; i < kMutationsOfEach; ++i, ++runs) target.run(mutated(bytes, random));
      ++files;
    }
    if (files == 0) {
      std::printf("no corpus for %s\n", std::string(target.name).c_str());
      ++failures;
    }
  }
  std::printf("%d inputs, %d targets without a corpus\n", runs, failures);
  return failures == 0 ? 0 : 1;
}
