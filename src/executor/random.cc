#include "executor/random.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace rq::executor {
namespace {

static_assert(std::endian::native == std::endian::little);
using State = std::array<std::uint32_t, 16>;

void quarter_round(State& s, std::size_t a, std::size_t b, std::size_t c, std::size_t d) {
  s[a] += s[b]; s[d] = std::rotl(s[d] ^ s[a], 16);
  s[c] += s[d]; s[b] = std::rotl(s[b] ^ s[c], 12);
  s[a] += s[b]; s[d] = std::rotl(s[d] ^ s[a], 8);
  s[c] += s[d]; s[b] = std::rotl(s[b] ^ s[c], 7);
}

}  // namespace

void RandomStream::set_seed(std::string_view seed) {
  key_.fill(0);
  if (!seed.empty()) std::memcpy(key_.data(), seed.data(), std::min<std::size_t>(seed.size(), 16));
}

void RandomStream::begin(std::uint32_t proposal, std::uint32_t statement, std::uint32_t piece) {
  nonce_ = {proposal, statement, piece};
  counter_ = 0;
  used_ = block_.size();
}

void RandomStream::next_block() {
  State start{0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
  std::copy(key_.begin(), key_.end(), start.begin() + 4);
  start[12] = counter_++;
  std::copy(nonce_.begin(), nonce_.end(), start.begin() + 13);
  State s = start;
  for (int round = 0; round < 10; ++round) {
    for (std::size_t i = 0; i < 4; ++i) quarter_round(s, i, i + 4, i + 8, i + 12);
    for (std::size_t i = 0; i < 4; ++i) quarter_round(s, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4);
  }
  for (std::size_t i = 0; i < s.size(); ++i) s[i] += start[i];
  std::memcpy(block_.data(), s.data(), block_.size());
  used_ = 0;
}

void RandomStream::draw(void* out, std::size_t bytes) {
  auto* to = static_cast<unsigned char*>(out);
  while (bytes > 0) {
    if (used_ == block_.size()) next_block();
    const std::size_t n = std::min(bytes, block_.size() - used_);
    std::memcpy(to, block_.data() + used_, n);
    used_ += n;
    to += n;
    bytes -= n;
  }
}

}  // namespace rq::executor
