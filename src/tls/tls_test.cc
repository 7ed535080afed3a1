// Two sessions talk to each other through strings: who accepts whom, in which words a refusal is told, reload of files.
#include "tls/tls.h"

#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include <fstream>

#include "tls/test_certificates.h"

namespace rq::tls {
namespace {

struct Pair {
  std::unique_ptr<Session> client, server;
  std::string to_client, to_server;   // plain text that arrived

  Pair(const std::shared_ptr<Config>& client_config, const std::shared_ptr<Config>& server_config, const std::string& host = "localhost")
      : client(client_config->session(host)), server(server_config->session({})) {
    client->begin();
    pump();
  }
  void pump() {
    while (!client->out().empty() || !server->out().empty()) {
      const std::string up = std::exchange(client->out(), {}), down = std::exchange(server->out(), {});
      if (!up.empty()) (void)server->receive(up, to_server);
      if (!down.empty()) (void)client->receive(down, to_client);
    }
  }
  bool both() const { return client->established() && server->established() && client->error().empty() && server->error().empty(); }
};

class Tls : public ::testing::Test {
 protected:
  void SetUp() override {
    for (TestCertificates* set : {&ours, &foreign}) {
      set->issue("server");
      set->issue("client", {.common_name = "client one", .names = ""});
    }
  }
  std::shared_ptr<Config> server(ServerOptions more = {}) {
    if (more.cert_file.empty()) {
      more.cert_file = ours.path("server.pem");
      more.key_file = ours.path("server.key");
    }
    auto made = Config::server(more);
    EXPECT_TRUE(made) << made.error().text();
    return *made;
  }
  std::shared_ptr<Config> client(ClientOptions more = {}) {
    if (more.ca_file.empty()) more.ca_file = ours.path("ca.pem");
    auto made = Config::client(more);
    EXPECT_TRUE(made) << made.error().text();
    return *made;
  }
  ServerOptions verifying() { return {.ca_file = ours.path("ca.pem"), .verify_client = true}; }
  TestCertificates ours, foreign;
};

TEST_F(Tls, CarriesBytesBothWays) {
  Pair pair(client(), server());
  ASSERT_TRUE(pair.both()) << pair.client->error() << pair.server->error();
  const std::string big(300'000, 'b');
  ASSERT_TRUE(pair.client->send("hello"));
  ASSERT_TRUE(pair.server->send(big));
  pair.pump();
  EXPECT_EQ(pair.to_server, "hello");
  EXPECT_EQ(pair.to_client, big);
  pair.client->finish();
  pair.pump();
  EXPECT_EQ(pair.server->error(), "EOF");
}

TEST_F(Tls, TakesBytesInAnyPieces) {
  auto client_session = client()->session("localhost"), server_session = server()->session({});
  client_session->begin();
  std::string plain;
  for (int round = 0; round < 4; ++round) {
    for (const char c : std::exchange(client_session->out(), {})) ASSERT_TRUE(server_session->receive({&c, 1}, plain));
    for (const char c : std::exchange(server_session->out(), {})) ASSERT_TRUE(client_session->receive({&c, 1}, plain));
  }
  ASSERT_TRUE(server_session->established());
  ASSERT_TRUE(client_session->send("ping"));
  for (const char c : std::exchange(client_session->out(), {})) ASSERT_TRUE(server_session->receive({&c, 1}, plain));
  EXPECT_EQ(plain, "ping");
}

TEST_F(Tls, RefusesAServerOfAForeignAuthority) {
  Pair pair(client({.ca_file = foreign.path("ca.pem")}), server());
  EXPECT_EQ(pair.client->error(), "tls: failed to verify certificate: x509: certificate signed by unknown authority");
  EXPECT_EQ(pair.server->error(), "remote error: tls: unknown certificate authority");
}

TEST_F(Tls, AcceptsAnyServerWithoutVerification) {
  EXPECT_TRUE(Pair(client({.ca_file = foreign.path("ca.pem"), .verify_server = false}), server(), "elsewhere").both());
}

TEST_F(Tls, ChecksTheNameThatWasDialled) {
  EXPECT_TRUE(Pair(client(), server(), "127.0.0.1").both());
  EXPECT_EQ(Pair(client(), server(), "127.0.0.2").client->error(),
            "tls: failed to verify certificate: x509: certificate is valid for 127.0.0.1, not 127.0.0.2");
  EXPECT_EQ(Pair(client(), server(), "example.com").client->error(),
            "tls: failed to verify certificate: x509: certificate is valid for localhost, not example.com");
  EXPECT_TRUE(Pair(client({.server_name = "localhost"}), server(), "example.com").both());
}

TEST_F(Tls, TheCommonNameIsNoServerName) {
  ours.issue("bare", {.common_name = "localhost", .names = ""});
  const auto bare = server({.cert_file = ours.path("bare.pem"), .key_file = ours.path("bare.key")});
  EXPECT_EQ(Pair(client(), bare, "127.0.0.1").client->error(),
            "tls: failed to verify certificate: x509: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs");
  EXPECT_FALSE(Pair(client(), bare, "localhost").both());
}

TEST_F(Tls, RefusesExpiredCertificates) {
  ours.issue("old", {.from_seconds = -7200, .to_seconds = -3600});
  Pair pair(client(), server({.cert_file = ours.path("old.pem"), .key_file = ours.path("old.key")}));
  EXPECT_TRUE(pair.client->error().starts_with("tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time"))
      << pair.client->error();
}

TEST_F(Tls, VerifiesClients) {
  const auto strict = server(verifying());
  const ClientOptions mine{.cert_file = ours.path("client.pem"), .key_file = ours.path("client.key")};
  EXPECT_TRUE(Pair(client(mine), strict).both());
  Pair none(client(), strict);
  EXPECT_EQ(none.server->error(), "tls: client didn't provide a certificate");
  EXPECT_EQ(none.client->error(), "remote error: tls: certificate required");
  Pair stranger(client({.cert_file = foreign.path("client.pem"), .key_file = foreign.path("client.key")}), strict);
  EXPECT_EQ(stranger.server->error(), "tls: failed to verify certificate: x509: certificate signed by unknown authority");
  ours.issue("late", {.common_name = "client one", .names = "", .from_seconds = -7200, .to_seconds = -1});
  Pair late(client({.cert_file = ours.path("late.pem"), .key_file = ours.path("late.key")}), strict);
  EXPECT_EQ(late.client->error(), "remote error: tls: expired certificate");
}

TEST_F(Tls, ComparesTheCommonNameOfClients) {
  ServerOptions options = verifying();
  options.common_name = "client one";
  const auto strict = server(options);
  EXPECT_TRUE(Pair(client({.cert_file = ours.path("client.pem"), .key_file = ours.path("client.key")}), strict).both());
  Pair other(client({.cert_file = ours.path("server.pem"), .key_file = ours.path("server.key")}), strict);
  EXPECT_EQ(other.server->error(), "client did not provide any valid certificate that matches CN \"client one\"");
  EXPECT_EQ(other.client->error(), "remote error: tls: bad certificate");
}

TEST_F(Tls, SaysWhenItIsNotTls) {
  auto session = server()->session({});
  std::string plain;
  EXPECT_FALSE(session->receive("GET / HTTP/1.1\r\n\r\n", plain));
  EXPECT_EQ(session->error(), "tls: first record does not look like a TLS handshake");
  EXPECT_FALSE(is_handshake("GET /"));
}

TEST_F(Tls, LoadsChangedFilesAndKeepsTheOldPairWhenTheyDoNotFit) {
  const auto config = server();
  ours.issue("next", {.common_name = "next", .names = "DNS:next"});
  const auto replace = [&](const char* kind) {
    std::filesystem::copy_file(ours.path(std::string("next.") + kind), ours.path(std::string("server.") + kind),
                               std::filesystem::copy_options::overwrite_existing);
  };
  replace("pem");
  EXPECT_FALSE(config->reload());                            // the key is still the old one
  EXPECT_TRUE(Pair(client(), config, "localhost").both());
  replace("key");
  EXPECT_TRUE(Pair(client(), config, "next").both());        // no reload() needed
  EXPECT_FALSE(Pair(client(), config, "localhost").both());
  std::filesystem::remove(ours.path("server.pem"));
  EXPECT_FALSE(config->reload());
  EXPECT_TRUE(Pair(client(), config, "next").both());
}

TEST_F(Tls, SaysWhatIsWrongWithTheFiles) {
  EXPECT_EQ(Config::server({.cert_file = "/nowhere/c.pem", .key_file = ours.path("server.key")}).error().text(),
            "stat /nowhere/c.pem: no such file or directory");
  EXPECT_EQ(Config::server({.cert_file = ours.path("server.pem"), .key_file = ours.path("client.key")}).error().text(),
            "tls: private key does not match public key");
  EXPECT_EQ(Config::client({.ca_file = "/nowhere/ca.pem"}).error().text(), "open /nowhere/ca.pem: no such file or directory");
  std::ofstream(ours.path("junk.pem")) << "junk";
  EXPECT_EQ(Config::client({.ca_file = ours.path("junk.pem")}).error().text(),
            "failed to parse root certificate(s) in \"" + ours.path("junk.pem") + "\"");
  EXPECT_EQ(Config::server({.cert_file = ours.path("junk.pem"), .key_file = ours.path("server.key")}).error().text(),
            "tls: failed to find any PEM data in " + ours.path("junk.pem"));
}

TEST_F(Tls, TheVariablesOfGoTakeThePlaceOfTheSystemsAuthorities) {
  const auto trusting = [&](const std::string& ca) {
    ::setenv("SSL_CERT_FILE", ca.c_str(), 1);
    const auto made = Config::client({});
    ::unsetenv("SSL_CERT_FILE");
    return *made;
  };
  EXPECT_TRUE(Pair(trusting(ours.path("ca.pem")), server()).both());
  EXPECT_FALSE(Pair(trusting(foreign.path("ca.pem")), server()).both());
}

TEST_F(Tls, RefusesOldVersions) {
  // A client of TLS 1.1, made with OpenSSL itself.
  SSL_CTX* context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_security_level(context, 0);
  SSL_CTX_set_min_proto_version(context, TLS1_VERSION);
  SSL_CTX_set_max_proto_version(context, TLS1_1_VERSION);
  SSL* ssl = SSL_new(context);
  BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
  SSL_set_bio(ssl, in, out);
  SSL_connect(ssl);
  char hello[1024];
  const int size = BIO_read(out, hello, sizeof hello);
  ASSERT_GT(size, 0);
  auto session = server()->session({});
  std::string plain;
  EXPECT_FALSE(session->receive({hello, static_cast<std::size_t>(size)}, plain));
  EXPECT_EQ(session->error(), "tls: client offered only unsupported versions");
  SSL_free(ssl);
  SSL_CTX_free(context);
}

}  // namespace
}  // namespace rq::tls
