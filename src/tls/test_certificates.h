// Certificates for tests: made on the fly, written as PEM files.
#pragma once

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

namespace rq::tls {

struct CertificateFacts {
  std::string common_name = "localhost";
  std::string names = "DNS:localhost,IP:127.0.0.1";   // subjectAltName; empty: none
  long from_seconds = -3600, to_seconds = 3600;       // from now
};

// Files of one test, in a folder of their own: ca.pem, and for each name given to issue() NAME.pem and NAME.key.
class TestCertificates {
 public:
  TestCertificates() {
    static int last = 0;
    const int number = ++last;
    dir_ = std::filesystem::temp_directory_path() / ("rq-tls-" + std::to_string(::getpid()) + "-" + std::to_string(number));
    std::filesystem::create_directories(dir_);
    ca_key_.reset(EVP_EC_gen("P-256"));
    ca_ = make({.common_name = "test CA " + std::to_string(number), .names = ""}, ca_key_.get(), true);
    write(path("ca.pem"), ca_.get());
  }
  ~TestCertificates() { std::filesystem::remove_all(dir_); }

  std::string path(const std::string& name) const { return (dir_ / name).string(); }
  void issue(const std::string& name, const CertificateFacts& facts = {}) {
    const Key key(EVP_EC_gen("P-256"), &EVP_PKEY_free);
    const Certificate certificate = make(facts, key.get(), false);
    write(path(name + ".pem"), certificate.get());
    FILE* file = std::fopen(path(name + ".key").c_str(), "w");
    PEM_write_PrivateKey(file, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
    std::fclose(file);
  }

 private:
  using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
  using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;

  Certificate make(const CertificateFacts& facts, EVP_PKEY* key, bool authority) {
    Certificate out(X509_new(), &X509_free);
    X509_set_version(out.get(), X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(out.get()), ++serial_);
    X509_gmtime_adj(X509_getm_notBefore(out.get()), facts.from_seconds);
    X509_gmtime_adj(X509_getm_notAfter(out.get()), facts.to_seconds);
    X509_set_pubkey(out.get(), key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(out.get()), "CN", MBSTRING_UTF8,
                               reinterpret_cast<const unsigned char*>(facts.common_name.c_str()), -1, -1, 0);
    X509_set_issuer_name(out.get(), X509_get_subject_name(authority ? out.get() : ca_.get()));
    add(out.get(), NID_basic_constraints, authority ? "critical,CA:TRUE" : "CA:FALSE");
    if (!facts.names.empty()) add(out.get(), NID_subject_alt_name, facts.names.c_str());
    EXPECT_GT(X509_sign(out.get(), authority ? key : ca_key_.get(), EVP_sha256()), 0);
    return out;
  }
  static void add(X509* to, int id, const char* value) {
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, id, value);
    X509_add_ext(to, extension, -1);
    X509_EXTENSION_free(extension);
  }
  static void write(const std::string& path, X509* certificate) {
    FILE* file = std::fopen(path.c_str(), "w");
    PEM_write_X509(file, certificate);
    std::fclose(file);
  }

  std::filesystem::path dir_;
  long serial_ = 0;
  Key ca_key_{nullptr, &EVP_PKEY_free};
  Certificate ca_{nullptr, &X509_free};
};

}  // namespace rq::tls
