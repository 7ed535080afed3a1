// Symbols: names of the functions of this process, for profiles and stack dumps. Reads the symbol table of its own file once
// (release builds keep it) and asks the loader for libraries. One thread; not for signal handlers.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace rq::ops {

class Symbols {
 public:
  Symbols();
  // "rq::replica::Driver::run(...)" without its arguments; "library+0x1f" or "0x1f" where there is no name.
  const std::string& name(std::uintptr_t address);

 private:
  struct Function {
    std::uintptr_t begin, size;
    std::uint32_t name;                  // offset into names_
  };
  void load();
  std::string look_up(std::uintptr_t address) const;

  std::uintptr_t base_ = 0;              // where this program is loaded
  std::vector<Function> functions_;      // by address
  std::string names_;
  std::unordered_map<std::uintptr_t, std::string> known_;
};

}  // namespace rq::ops
