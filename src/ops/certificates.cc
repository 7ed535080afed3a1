#include "ops/certificates.h"

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <cstring>
#include <ctime>
#include <memory>

namespace rq::ops {
namespace {

template <auto Free>
struct Freed {
  template <class T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Bio = std::unique_ptr<BIO, Freed<BIO_free_all>>;
using Certificate = std::unique_ptr<X509, Freed<X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using Store = std::unique_ptr<X509_STORE, Freed<X509_STORE_free>>;
using StoreContext = std::unique_ptr<X509_STORE_CTX, Freed<X509_STORE_CTX_free>>;

struct FreeStack {
  void operator()(STACK_OF(X509) * stack) const { sk_X509_pop_free(stack, X509_free); }
};
using Chain = std::unique_ptr<STACK_OF(X509), FreeStack>;

Result<Bio> open_file(const std::string& path) {
  Bio bio(BIO_new_file(path.c_str(), "r"));
  ERR_clear_error();
  if (!bio) return fail(Errc::Io, "open " + path + ": " + std::strerror(errno));
  return bio;
}

// No passphrase is ever asked for: a server cannot answer.
int no_passphrase(char*, int, int, void*) { return 0; }

Result<std::vector<Certificate>> read_all(const std::string& path) {
  RQ_TRY(const Bio bio, open_file(path));
  std::vector<Certificate> out;
  while (X509* one = PEM_read_bio_X509(bio.get(), nullptr, no_passphrase, nullptr)) out.emplace_back(one);
  ERR_clear_error();
  if (out.empty()) return fail(Errc::BadRequest, "no PEM certificate in " + path);
  return out;
}

WallTime time_of(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return {};
  return WallTime(std::chrono::seconds(::timegm(&parts)));
}

std::string common_name(X509* certificate) {
  char text[256] = {};
  X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, text, sizeof text);
  return text;
}

std::vector<std::string> alternative_names(X509* certificate) {
  std::vector<std::string> out;
  auto* names = static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names, i);
    if (name->type == GEN_DNS) {
      out.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(name->d.dNSName)), static_cast<std::size_t>(ASN1_STRING_length(name->d.dNSName)));
    } else if (name->type == GEN_IPADD) {
      char text[INET6_ADDRSTRLEN] = {};
      const int family = ASN1_STRING_length(name->d.iPAddress) == 4 ? AF_INET : AF_INET6;
      out.emplace_back(::inet_ntop(family, ASN1_STRING_get0_data(name->d.iPAddress), text, sizeof text) == nullptr ? "?" : text);
    }
  }
  GENERAL_NAMES_free(names);
  return out;
}

}  // namespace

Result<CertificateFacts> read_certificate(const std::string& path) {
  RQ_TRY(const std::vector<Certificate> chain, read_all(path));
  X509* leaf = chain.front().get();
  CertificateFacts facts{.subject = common_name(leaf), .names = alternative_names(leaf), .not_before = time_of(X509_get0_notBefore(leaf)),
                         .not_after = time_of(X509_get0_notAfter(leaf)),
                         .self_signed = X509_NAME_cmp(X509_get_subject_name(leaf), X509_get_issuer_name(leaf)) == 0};
  for (const Certificate& one : chain) facts.not_after = std::min(facts.not_after, time_of(X509_get0_notAfter(one.get())));
  return facts;
}

Result<> key_fits(const std::string& cert_path, const std::string& key_path) {
  RQ_TRY(const std::vector<Certificate> chain, read_all(cert_path));
  RQ_TRY(const Bio bio, open_file(key_path));
  const Key key(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, nullptr));
  ERR_clear_error();
  if (!key) return fail(Errc::BadRequest, "no readable private key in " + key_path + " (encrypted keys are not supported)");
  const bool fits = X509_check_private_key(chain.front().get(), key.get()) == 1;
  ERR_clear_error();
  if (!fits) return fail(Errc::BadRequest, "the key in " + key_path + " is not that of the certificate in " + cert_path);
  return {};
}

Result<> is_vouched_for(const std::string& cert_path, const std::string& ca_path) {
  RQ_TRY(const std::vector<Certificate> chain, read_all(cert_path));
  RQ_TRY(const std::vector<Certificate> authorities, read_all(ca_path));
  const Store store(X509_STORE_new());
  for (const Certificate& one : authorities) X509_STORE_add_cert(store.get(), one.get());
  const Chain others(sk_X509_new_null());
  for (std::size_t i = 1; i < chain.size(); ++i) {
    X509_up_ref(chain[i].get());
    sk_X509_push(others.get(), chain[i].get());
  }
  const StoreContext context(X509_STORE_CTX_new());
  X509_STORE_CTX_init(context.get(), store.get(), chain.front().get(), others.get());
  const bool good = X509_verify_cert(context.get()) == 1;
  ERR_clear_error();
  if (!good) return fail(Errc::BadRequest, X509_verify_cert_error_string(X509_STORE_CTX_get_error(context.get())));
  return {};
}

bool names_host(const std::string& cert_path, const std::string& host) {
  const Result<std::vector<Certificate>> chain = read_all(cert_path);
  if (!chain) return false;
  return X509_check_ip_asc(chain->front().get(), host.c_str(), 0) == 1 || X509_check_host(chain->front().get(), host.data(), host.size(), 0, nullptr) == 1;
}

}  // namespace rq::ops
