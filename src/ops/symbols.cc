#include "ops/symbols.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <elf.h>
#include <link.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace rq::ops {
namespace {

struct CloseFile {
  void operator()(FILE* file) const { std::fclose(file); }
};

template <class T>
bool read_at(FILE* file, std::uint64_t offset, T* out, std::size_t count) {
  return std::fseek(file, static_cast<long>(offset), SEEK_SET) == 0 && std::fread(out, sizeof(T), count, file) == count;
}

// Without the list of arguments: lines of a profile must stay readable. Operators and lambdas keep theirs.
std::string shortened(const char* mangled) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> demangled(abi::__cxa_demangle(mangled, nullptr, nullptr, &status), &std::free);
  std::string name = status == 0 ? demangled.get() : mangled;
  int depth = 0;
  for (std::size_t i = name.size(); i-- > 0;) {          // the last parenthesis at top level opens the arguments
    const char c = name[i];
    if (c == ')' || c == '>') ++depth;
    else if (c == '<') --depth;
    else if (c == '(' && --depth == 0 && i > 0) {
      if (name[i - 1] != ' ' && name[i - 1] != ':') name.resize(i);
      break;
    }
  }
  std::ranges::replace(name, ';', ':');
  return name;
}

std::string hex(std::uintptr_t value) {
  char text[24];
  return {text, static_cast<std::size_t>(std::snprintf(text, sizeof text, "0x%lx", static_cast<unsigned long>(value)))};
}

}  // namespace

Symbols::Symbols() {
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* self) {
        static_cast<Symbols*>(self)->base_ = info->dlpi_addr;      // the program itself comes first
        return 1;
      },
      this);
  load();
}

void Symbols::load() {
  const std::unique_ptr<FILE, CloseFile> file(std::fopen("/proc/self/exe", "rbe"));
  Elf64_Ehdr header{};
  if (!file || !read_at(file.get(), 0, &header, 1) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64) return;
  std::vector<Elf64_Shdr> sections(header.e_shnum);
  if (!read_at(file.get(), header.e_shoff, sections.data(), sections.size())) return;
  for (const Elf64_Shdr& section : sections) {
    if (section.sh_type != SHT_SYMTAB || section.sh_entsize != sizeof(Elf64_Sym) || section.sh_link >= sections.size()) continue;
    std::vector<Elf64_Sym> symbols(section.sh_size / sizeof(Elf64_Sym));
    names_.resize(sections[section.sh_link].sh_size);
    if (!read_at(file.get(), section.sh_offset, symbols.data(), symbols.size()) ||
        !read_at(file.get(), sections[section.sh_link].sh_offset, names_.data(), names_.size()))
      return;
    names_ += '\0';
    for (const Elf64_Sym& symbol : symbols)
      if (ELF64_ST_TYPE(symbol.st_info) == STT_FUNC && symbol.st_value != 0 && symbol.st_name < names_.size())
        functions_.push_back({symbol.st_value, symbol.st_size, symbol.st_name});
  }
  std::ranges::sort(functions_, {}, &Function::begin);
}

std::string Symbols::look_up(std::uintptr_t address) const {
  const std::uintptr_t offset = address - base_;
  const auto after = std::ranges::upper_bound(functions_, offset, {}, &Function::begin);
  if (after != functions_.begin()) {
    const Function& function = *std::prev(after);
    if (offset < function.begin + std::max<std::uintptr_t>(function.size, 1)) return shortened(names_.data() + function.name);
  }
  Dl_info info{};
  if (dladdr(reinterpret_cast<void*>(address), &info) == 0) return hex(address);
  if (info.dli_sname != nullptr) return shortened(info.dli_sname);
  const char* slash = info.dli_fname == nullptr ? nullptr : std::strrchr(info.dli_fname, '/');
  return std::string(slash == nullptr ? "?" : slash + 1) + "+" + hex(address - reinterpret_cast<std::uintptr_t>(info.dli_fbase));
}

const std::string& Symbols::name(std::uintptr_t address) {
  const auto [place, fresh] = known_.try_emplace(address);
  if (fresh) place->second = look_up(address);
  return place->second;
}

}  // namespace rq::ops
