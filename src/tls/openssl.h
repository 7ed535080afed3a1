// OpenSSL's objects with owners, and its errors in Go's words. Private to this folder.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>

namespace rq::tls {

template <auto Free>
struct Freer {
  template <class T>
  void operator()(T* object) const {
    Free(object);
  }
};
using CtxPtr = std::unique_ptr<SSL_CTX, Freer<&SSL_CTX_free>>;
using SslPtr = std::unique_ptr<SSL, Freer<&SSL_free>>;
using StorePtr = std::unique_ptr<X509_STORE, Freer<&X509_STORE_free>>;
inline void free_names(STACK_OF(X509_NAME)* names) { sk_X509_NAME_pop_free(names, X509_NAME_free); }
using NamesPtr = std::unique_ptr<STACK_OF(X509_NAME), Freer<&free_names>>;

// Takes the error that the last call left behind. `refused`: what refused_text() said of the peer's certificate.
std::string take_error(const SSL* ssl, const std::string& refused);
// Why a certificate is refused, in a verify callback.
std::string refused_text(X509_STORE_CTX* context, const std::string& host, const std::string& common_name);
// Of a file that could not be loaded.
std::string take_load_error(const std::string& path);
std::string common_name_of(X509* certificate);

}  // namespace rq::tls
