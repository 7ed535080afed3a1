#include "auth/credentials.h"

#include <gtest/gtest.h>

namespace rq::auth {
namespace {

CredentialStore parsed(std::string_view json) {
  auto store = CredentialStore::parse(json);
  EXPECT_TRUE(store) << store.error().text();
  return *std::move(store);
}

TEST(Credentials, GrantWhatTheFileSays) {
  const auto store = parsed(R"([{"username":"u","password":"p","perms":["query","x"]},{"username":"root","password":"r","perms":["all"]}])");
  EXPECT_EQ(store.find("u")->password, "p");
  EXPECT_TRUE(store.find("u")->may("query"));
  EXPECT_FALSE(store.find("u")->may("execute"));
  EXPECT_TRUE(store.find("root")->may("execute"));
  EXPECT_EQ(store.find("nobody"), nullptr);
  EXPECT_EQ(store.everybody(), nullptr);
}

TEST(Credentials, AnEntryInheritsNothingFromTheOneBefore) {
  const auto store = parsed(R"([{"username":"u","password":"p","perms":["all"]},{"username":"v"},{"perms":["all"]},null])");
  EXPECT_TRUE(store.find("v")->password.empty());
  EXPECT_FALSE(store.find("v")->may("query"));
  EXPECT_FALSE(store.find("")->may("query"));      // null came last
}

TEST(Credentials, TakeOddShapesAsGoDoes) {
  EXPECT_EQ(parsed("[]").find("u"), nullptr);
  EXPECT_EQ(parsed("{}").find("u"), nullptr);
  EXPECT_EQ(parsed(R"([{"UserName":"u","PASSWORD":"p","Perms":null}] rubbish)").find("u")->password, "p");
  EXPECT_EQ(parsed(R"([{"username":"u","password":"a"},{"username":"u","password":"b","password":"c","more":[{}]}])").find("u")->password, "c");
}

TEST(Credentials, SayWhatIsWrongInGosWords) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "EOF"},
      {" \n", "EOF"},
      {"[", "EOF"},
      {"{", "EOF"},
      {"[{}", "EOF"},
      {"5", "EOF"},
      {"[{\"username\":\"u\"", "unexpected EOF"},
      {"[{},", "unexpected EOF"},
      {"x", "invalid character 'x' looking for beginning of value"},
      {"[x]", "invalid character 'x' looking for beginning of value"},
      {"[{},]", "invalid character ']' looking for beginning of value"},
      {"[{} {}]", "expected comma after array element"},
      {"[{1}]", "invalid character '1' looking for beginning of object key string"},
      {"[{\"a\" 1}]", "invalid character '1' after object key"},
      {"[{\"a\":1 2}]", "invalid character '2' after object key:value pair"},
      {"{\"username\":\"u\"}", "not at beginning of value"},
      {"[5]", "json: cannot unmarshal number into Go value of type auth.Credential"},
      {"[\"a\"]", "json: cannot unmarshal string into Go value of type auth.Credential"},
      {"[{\"username\":5}]", "json: cannot unmarshal number into Go struct field Credential.username of type string"},
      {"[{\"password\":true}]", "json: cannot unmarshal bool into Go struct field Credential.password of type string"},
      {"[{\"perms\":\"all\"}]", "json: cannot unmarshal string into Go struct field Credential.perms of type []string"},
      {"[{\"perms\":[1]}]", "json: cannot unmarshal number into Go struct field Credential.perms of type string"},
  };
  for (const auto& [text, wanted] : cases) {
    const auto store = CredentialStore::parse(text);
    ASSERT_FALSE(store) << text;
    EXPECT_EQ(store.error().detail, wanted) << text;
  }
}

TEST(Credentials, RefuseHashesThatNobodyUnderstands) {
  for (const char* hash : {"secret", "$1$abc$def", "$2b$", "$9$x"}) {
    const auto store = CredentialStore::parse(std::string(R"([{"username":"u","password_hash":")") + hash + "\"}]");
    ASSERT_FALSE(store) << hash;
    EXPECT_EQ(store.error().detail, "password_hash of user \"u\" is neither bcrypt ($2b$...) nor yescrypt ($y$...)");
  }
}

// Both of the password "secret".
constexpr const char* kBcrypt = "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";
constexpr const char* kYescrypt = "$y$j75$abcdefgh$uMUXG79B2cFpoAYyDccUnsaH/aGTyBYMlnQidzyag01";

TEST(Credentials, CompareInConstantTime) {
  EXPECT_TRUE(equal_in_constant_time("abc", "abc"));
  EXPECT_FALSE(equal_in_constant_time("abc", "abd"));
  EXPECT_FALSE(equal_in_constant_time("abc", "abcd"));
  EXPECT_FALSE(equal_in_constant_time("", "a"));
  EXPECT_TRUE(equal_in_constant_time("", ""));
}

TEST(Credentials, MatchHashes) {
  EXPECT_TRUE(matches_hash("secret", kBcrypt));
  EXPECT_TRUE(matches_hash("secret", kYescrypt));
  EXPECT_FALSE(matches_hash("secres", kYescrypt));
  EXPECT_FALSE(matches_hash("Secret", kBcrypt));
  EXPECT_FALSE(matches_hash("", kBcrypt));
  EXPECT_FALSE(matches_hash(std::string("secret\0x", 8), kBcrypt));
  EXPECT_FALSE(matches_hash("secret", "$2b$04$broken"));
}

}  // namespace
}  // namespace rq::auth
