// Digest: XXH3 with 128 bits over bytes that come in pieces. Tells damage and different content; no secret.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace rq {

class Digest {
 public:
  Digest();
  ~Digest();
  Digest(const Digest&) = delete;
  void add(std::string_view bytes);
  std::string value() const;   // 16 bytes, the canonical order
  static std::string of(std::string_view bytes);

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

}  // namespace rq
