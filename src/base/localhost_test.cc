#include "base/localhost.h"

#include <gtest/gtest.h>

namespace rq {
namespace {

TEST(Localhost, IsANameOfThisMachine) {
  for (const char* host : {"localhost", "LocalHost", "a.localhost"}) EXPECT_TRUE(is_localhost(host)) << host;
  for (const char* host : {"", "host", "localhost.example", "mylocalhost", "127.0.0.1"}) EXPECT_FALSE(is_localhost(host)) << host;
}

}  // namespace
}  // namespace rq
