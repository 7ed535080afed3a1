#include "shell/options.h"

#include <gtest/gtest.h>

namespace rq::shell {
namespace {

Options parsed(const std::vector<std::string>& arguments) {
  auto options = parse_options(arguments);
  EXPECT_TRUE(options) << options.error().text();
  return options ? *options : Options();
}
std::string refused(const std::vector<std::string>& arguments) {
  const auto options = parse_options(arguments);
  return options ? "" : options.error().text();
}

TEST(ShellOptions, TakeValuesInEveryForm) {
  const std::vector<std::vector<std::string>> forms{{"-p", "5"}, {"-p5"}, {"-p=5"}, {"--port", "5"}, {"--port=5"}};
  for (const auto& form : forms) EXPECT_EQ(parsed(form).port, 5U);
  EXPECT_TRUE(parsed({"-i"}).insecure);
  EXPECT_TRUE(parsed({"-i=true"}).insecure);
  EXPECT_FALSE(parsed({"--insecure=false"}).insecure);
  EXPECT_EQ(parsed({"-t", "1m30s"}).http_timeout, std::chrono::seconds(90));
  EXPECT_EQ(parsed({"-u", "a:b:c"}).user, "a:b:c");
}

TEST(ShellOptions, KeepScriptsInTheirOrder) {
  using Scripts = std::vector<std::pair<bool, std::string>>;
  EXPECT_EQ(parsed({"-e", "a", "-f", "b", "--execute=c=d"}).scripts, (Scripts{{false, "a"}, {true, "b"}, {false, "c=d"}}));
}

TEST(ShellOptions, NameWhatIsWrongAsTheReferenceDoes) {
  EXPECT_EQ(refused({"--bogus"}), "undefined option --bogus");
  EXPECT_EQ(refused({"--bogus=1"}), "undefined option --bogus");
  EXPECT_EQ(refused({"-p", "abc"}), "`abc' couldn't converted to an uint");
  EXPECT_EQ(refused({"-p", "70000"}), "value overflow");
  EXPECT_EQ(refused({"-p", "99999999999999999999"}), "value overflow");
  EXPECT_EQ(refused({"-i=maybe"}), "`maybe' couldn't converted to a bool");
  EXPECT_EQ(refused({"-t", "abc"}), "time: invalid duration \"abc\"");
  EXPECT_EQ(refused({"-p"}), "option -p needs a value");
}

TEST(ShellOptions, IgnoreFreeWords) { EXPECT_EQ(parsed({"SELECT 1", "-p", "5", "--", "-x"}).ignored, (std::vector<std::string>{"SELECT 1", "-x"})); }

std::string host_of(std::string_view variable) {
  Options options;
  const auto applied = apply_host_variable(variable, options);
  return applied ? options.scheme + " " + options.host + " " + std::to_string(options.port) : applied.error().text();
}

TEST(ShellOptions, ReadTheHostVariable) {
  EXPECT_EQ(host_of("https://h:5"), "https h 5");
  EXPECT_EQ(host_of("//h"), "http h 4001");
  EXPECT_EQ(host_of("http://[::1]:5/x"), "http ::1 5");
  EXPECT_EQ(host_of("ftp://h"), "unsupported protocol ftp");
  EXPECT_EQ(host_of("localhost:5"), "unsupported protocol localhost");
  EXPECT_EQ(host_of(""), "RQLITE_HOST does not contain a hostname");
  EXPECT_EQ(host_of("name"), "RQLITE_HOST does not contain a hostname");
  EXPECT_EQ(host_of("//h:70000"), "port number 70000 is outside of valid range [0, 65535]");
  EXPECT_EQ(host_of("127.0.0.1:4001"), "parse \"127.0.0.1:4001\": first path segment in URL cannot contain colon");
}

TEST(ShellOptions, FindTheProxy) {
  const auto environment = [](const char* name) -> std::string {
    const std::string_view wanted = name;
    if (wanted == "http_proxy") return "http://proxy:3128";
    if (wanted == "NO_PROXY") return "internal, .below.org,other:81";
    return "";
  };
  EXPECT_EQ(proxy_url(false, "far.org", 80, environment), "http://proxy:3128");
  EXPECT_EQ(proxy_url(true, "far.org", 80, environment), "");
  for (const char* host : {"localhost", "127.0.0.1", "internal", "a.internal", "x.below.org"}) EXPECT_EQ(proxy_url(false, host, 80, environment), "") << host;
  EXPECT_EQ(proxy_url(false, "other", 81, environment), "");
  EXPECT_NE(proxy_url(false, "other", 80, environment), "");
}

}  // namespace
}  // namespace rq::shell
