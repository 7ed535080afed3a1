// transcript [--rewrite] FILE...: plays scripts and compares what happens with what they say.
//
// A script is made of blocks with an empty line between them: commands, one a line, then ---- and what they bring about.
// Lines that begin with # are comments. --rewrite puts what happens now into the files: read the difference as a review.
#include <cstdio>
#include <fstream>
#include <sstream>

#include "base/log.h"
#include "scripts/stage.h"

namespace {

// The script with the outcomes as they are now.
std::string played(const std::string& script) {
  rq::scripts::Stage stage;
  std::string out;
  std::string happened;
  bool expects = false;
  std::istringstream in(script);
  const auto end_block = [&] {
    if (!happened.empty() || expects) out += "----\n" + happened;
    happened.clear();
    expects = false;
  };
  for (std::string line; std::getline(in, line);) {
    if (line == "----") {
      expects = true;
    } else if (line.empty()) {
      end_block();
      out += "\n";
    } else if (line[0] == '#' && !expects) {
      out += line + "\n";
    } else if (!expects) {
      out += line + "\n";
      happened += stage.play(line);
    }
  }
  end_block();
  return out;
}

void show_difference(const std::string& path, const std::string& expected, const std::string& now) {
  std::istringstream a(expected), b(now);
  std::string left, right;
  for (int number = 1;; ++number) {
    const bool more_left = static_cast<bool>(std::getline(a, left));
    const bool more_right = static_cast<bool>(std::getline(b, right));
    if (!more_left && !more_right) return;
    if (more_left == more_right && left == right) continue;
    std::printf("%s:%d:\n  expected: %s\n  now:      %s\n", path.c_str(), number, more_left ? left.c_str() : "(end)", more_right ? right.c_str() : "(end)");
    return;
  }
}

}  // namespace

int main(int argc, char** argv) {
  rq::log::set_level(rq::log::Level::Off);
  std::vector<std::string> paths(argv + 1, argv + argc);
  const bool rewrite = std::erase(paths, "--rewrite") > 0;
  int different = 0;
  for (const std::string& path : paths) {
    std::ifstream in(path);
    std::stringstream text;
    text << in.rdbuf();
    if (!in) {
      std::printf("can't read %s\n", path.c_str());
      return 2;
    }
    const std::string now = played(text.str());
    if (now == text.str()) continue;
    if (rewrite) {
      std::ofstream(path) << now;
      continue;
    }
    ++different;
    show_difference(path, text.str(), now);
  }
  std::printf("%zu transcripts, %d differ\n", paths.size(), different);
  return different == 0 ? 0 : 1;
}
