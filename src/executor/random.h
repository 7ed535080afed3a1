// The random numbers of statements: a ChaCha20 key stream (RFC 8439) keyed by the entry's seed.
//
// Each statement of each proposal has a stream of its own, so what it draws doesn't depend on statements before it that
// failed, were passed over or run again. Cryptographic, since clients make tokens of randomblob().
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace rq::executor {

class RandomStream {
 public:
  // `seed`: 16 bytes; others are cut or padded with zeros.
  void set_seed(std::string_view seed);
  // Begins the stream of piece `piece` of statement `statement` of proposal `proposal`.
  void begin(std::uint32_t proposal, std::uint32_t statement, std::uint32_t piece);
  void draw(void* out, std::size_t bytes);

 private:
  void next_block();

  std::array<std::uint32_t, 8> key_{};
  std::array<std::uint32_t, 3> nonce_{};
  std::uint32_t counter_ = 0;
  std::array<unsigned char, 64> block_{};
  std::size_t used_ = 64;
};

}  // namespace rq::executor
