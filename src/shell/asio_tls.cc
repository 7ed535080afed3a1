// The one unit that compiles Asio's TLS streams (separate compilation), which only the shell uses.
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include <boost/asio/ssl/impl/src.hpp>
