#include "auth/credentials.h"

#include <gtest/gtest.h>

namespace rq::auth {
namespace {

TEST(Credentials, GrantsWhatTheFileSays) {
  const auto store = CredentialStore::parse(R"([{"username":"u","password":"p","perms":["query"]},{"username":"root","password":"r","perms":["all"]}])");
  ASSERT_TRUE(store);
  EXPECT_TRUE(store->allows("u", "p", "query"));
  EXPECT_FALSE(store->allows("u", "p", "execute"));
  EXPECT_FALSE(store->allows("u", "wrong", "query"));
  EXPECT_FALSE(store->allows("u", "", "query"));
  EXPECT_FALSE(store->allows("", "", "query"));
  EXPECT_FALSE(store->allows("nobody", "p", "query"));
  EXPECT_TRUE(store->allows("root", "r", "execute"));
}

TEST(Credentials, TheStarSpeaksForEverybodyEvenWithAWrongPassword) {
  const auto store = CredentialStore::parse(R"([{"username":"*","perms":["ready"]},{"username":"u","password":"p","perms":[]}])");
  ASSERT_TRUE(store);
  EXPECT_TRUE(store->allows("", "", "ready"));
  EXPECT_TRUE(store->allows("u", "wrong", "ready"));
  EXPECT_FALSE(store->allows("u", "p", "query"));
}

TEST(Credentials, AnEntryInheritsNothingFromTheOneBefore) {
  const auto store = CredentialStore::parse(R"([{"username":"u","password":"p","perms":["all"]},{"username":"v"}])");
  ASSERT_TRUE(store);
  EXPECT_FALSE(store->allows("v", "p", "query"));
  EXPECT_FALSE(store->allows("v", "", "query"));
}

TEST(Credentials, SaysWhatIsWrongWithTheFile) {
  EXPECT_EQ(CredentialStore::parse("").error().detail, "EOF");
  EXPECT_EQ(CredentialStore::parse("[").error().detail, "EOF");
  EXPECT_FALSE(CredentialStore::parse("x"));
  EXPECT_FALSE(CredentialStore::parse("[5]"));
  EXPECT_FALSE(CredentialStore::parse(R"([{"username":5}])"));
  EXPECT_TRUE(CredentialStore::parse("[]"));
  EXPECT_TRUE(CredentialStore::parse("{}"));
}

}  // namespace
}  // namespace rq::auth
