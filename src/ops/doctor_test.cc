#include "ops/doctor.h"

#include <gtest/gtest.h>

#include "io/posix_disk.h"
#include "ops/certificates.h"
#include "tls/test_certificates.h"

namespace rq::ops {
namespace {

using Facts = tls::CertificateFacts;
constexpr long kDay = 24 * 3600;

TEST(Certificates, AreReadWithTheirNamesAndDates) {
  tls::TestCertificates files;
  files.issue("n1", {.common_name = "node one", .names = "DNS:n1.example,IP:10.0.0.1,IP:::1", .to_seconds = 10 * kDay});
  const Result<CertificateFacts> facts = read_certificate(files.path("n1.pem"));
  ASSERT_TRUE(facts) << facts.error().text();
  EXPECT_EQ(facts->subject, "node one");
  EXPECT_EQ(facts->names, (std::vector<std::string>{"n1.example", "10.0.0.1", "::1"}));
  EXPECT_FALSE(facts->self_signed);
  const auto left = facts->not_after - SystemClock().wall();
  EXPECT_GT(left, std::chrono::hours(9 * 24));
  EXPECT_LT(left, std::chrono::hours(11 * 24));
  EXPECT_TRUE(names_host(files.path("n1.pem"), "n1.example"));
  EXPECT_TRUE(names_host(files.path("n1.pem"), "10.0.0.1"));
  EXPECT_FALSE(names_host(files.path("n1.pem"), "n2.example"));
  EXPECT_EQ(read_certificate(files.path("nosuch.pem")).error().code, Errc::Io);
  EXPECT_EQ(read_certificate(files.path("n1.key")).error().code, Errc::BadRequest);
}

TEST(Certificates, FitTheirKeyAndTheirAuthority) {
  tls::TestCertificates files, others;
  files.issue("a");
  files.issue("b");
  EXPECT_TRUE(key_fits(files.path("a.pem"), files.path("a.key")));
  EXPECT_FALSE(key_fits(files.path("a.pem"), files.path("b.key")));
  EXPECT_FALSE(key_fits(files.path("a.pem"), files.path("a.pem")));
  EXPECT_TRUE(is_vouched_for(files.path("a.pem"), files.path("ca.pem")));
  EXPECT_FALSE(is_vouched_for(files.path("a.pem"), others.path("ca.pem")));
}

// What the doctor says about the certificates of a node, worst first.
std::string told_of(const tls::TestCertificates& files, const std::string& cert, const std::string& key, const std::string& ca) {
  config::Options options;
  options.http_addr = options.http_adv_addr = "127.0.0.1:1";
  options.raft_addr = options.raft_adv_addr = "127.0.0.1:2";
  options.data_dir = files.path("data");
  options.node_cert = files.path(cert);
  options.node_key = files.path(key);
  options.node_ca_cert = ca;
  io::PosixDisk disk;
  const SystemClock clock;
  std::string out;
  examine(options, disk, clock, [&](const Finding& finding) {
    if (finding.area == "certificates") out += finding_text(finding);
  });
  return out;
}

TEST(Doctor, SaysWhatIsWrongWithCertificates) {
  tls::TestCertificates files, others;
  files.issue("good", {.to_seconds = 100 * kDay});
  files.issue("soon", {.to_seconds = 5 * kDay});
  files.issue("old", {.from_seconds = -20 * kDay, .to_seconds = -kDay});
  files.issue("young", {.from_seconds = kDay, .to_seconds = 100 * kDay});
  files.issue("named", {.names = "DNS:elsewhere", .to_seconds = 100 * kDay});
  const std::string ca = files.path("ca.pem");
  EXPECT_TRUE(told_of(files, "good.pem", "good.key", ca).starts_with("[ ok ] certificates: ")) << told_of(files, "good.pem", "good.key", ca);
  EXPECT_EQ(told_of(files, "good.pem", "good.key", ca).find("->"), std::string::npos);
  EXPECT_NE(told_of(files, "soon.pem", "soon.key", ca).find("[warn] certificates: " + files.path("soon.pem") + " (CN localhost) expires in "), std::string::npos);
  EXPECT_NE(told_of(files, "old.pem", "old.key", ca).find(" expired "), std::string::npos);
  EXPECT_NE(told_of(files, "young.pem", "young.key", ca).find(" is not valid before "), std::string::npos);
  EXPECT_NE(told_of(files, "good.pem", "soon.key", ca).find("is not that of the certificate"), std::string::npos);
  EXPECT_NE(told_of(files, "good.pem", "good.key", others.path("ca.pem")).find("doesn't vouch for"), std::string::npos);
  EXPECT_NE(told_of(files, "named.pem", "named.key", ca).find("doesn't name '127.0.0.1' (it names: elsewhere)"), std::string::npos);
  EXPECT_NE(told_of(files, "nosuch.pem", "good.key", ca).find("[BAD!] certificates: "), std::string::npos);
}

}  // namespace
}  // namespace rq::ops
