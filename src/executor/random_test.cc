#include "executor/random.h"

#include <gtest/gtest.h>

#include <string>

namespace rq::executor {
namespace {

std::string hex(RandomStream& stream, std::size_t bytes) {
  std::string out;
  std::string raw(bytes, '\0');
  stream.draw(raw.data(), bytes);
  for (const char c : raw) {
    out += "0123456789abcdef"[static_cast<unsigned char>(c) >> 4];
    out += "0123456789abcdef"[c & 15];
  }
  return out;
}

TEST(RandomStreamTest, IsChaCha20) {
  // RFC 8439 A.1, test vector 1: key, nonce and counter all zero.
  RandomStream stream;
  stream.set_seed(std::string(16, '\0'));
  stream.begin(0, 0, 0);
  EXPECT_EQ(hex(stream, 64),
            "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
            "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586");
}

TEST(RandomStreamTest, PiecesOfADrawDontMatter) {
  RandomStream one;
  RandomStream other;
  one.set_seed("0123456789abcdef");
  other.set_seed("0123456789abcdef");
  one.begin(1, 2, 3);
  other.begin(1, 2, 3);
  const std::string whole = hex(one, 200);
  std::string parts = hex(other, 1);
  parts += hex(other, 70);
  parts += hex(other, 129);
  EXPECT_EQ(whole, parts);
  one.begin(1, 2, 3);
  EXPECT_EQ(hex(one, 200), whole);
  one.begin(1, 2, 4);
  EXPECT_NE(hex(one, 200), whole);
}

}  // namespace
}  // namespace rq::executor
