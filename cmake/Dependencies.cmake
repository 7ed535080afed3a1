# Everything that is not ours: Debian packages, and the crates that Cargo.lock pins.
find_package(Threads REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(Protobuf REQUIRED)
if(RQ_TESTS)
  find_package(GTest REQUIRED)
endif()

# A library that is linked statically and whose headers are not checked for our warnings.
function(rq_static_library target header archive)
  find_path(${target}_INCLUDE ${header} REQUIRED)
  find_library(${target}_ARCHIVE ${archive} REQUIRED)
  add_library(${target} INTERFACE)
  target_include_directories(${target} SYSTEM INTERFACE ${${target}_INCLUDE})
  target_link_libraries(${target} INTERFACE ${${target}_ARCHIVE})
endfunction()
rq_static_library(dep_protobuf google/protobuf/message_lite.h libprotobuf-lite.a)
rq_static_library(dep_zlib zlib.h libz.a)
rq_static_library(dep_zstd zstd.h libzstd.a)
rq_static_library(dep_cares ares.h libcares.a)
rq_static_library(dep_xxhash xxhash.h libxxhash.a)
rq_static_library(dep_crypt crypt.h libcrypt.a)
target_link_libraries(dep_protobuf INTERFACE Threads::Threads)

add_library(dep_openssl INTERFACE)
find_library(RQ_SSL_ARCHIVE libssl.a REQUIRED)
find_library(RQ_CRYPTO_ARCHIVE libcrypto.a REQUIRED)
target_link_libraries(dep_openssl INTERFACE ${RQ_SSL_ARCHIVE} ${RQ_CRYPTO_ARCHIVE} Threads::Threads dl)

# Header-only: Debian ships no static archives of these two.
add_library(dep_log INTERFACE)
target_compile_definitions(dep_log INTERFACE SPDLOG_FMT_EXTERNAL FMT_HEADER_ONLY)

add_library(dep_boost INTERFACE)
target_compile_definitions(dep_boost INTERFACE
  BOOST_ASIO_SEPARATE_COMPILATION BOOST_BEAST_SEPARATE_COMPILATION BOOST_ASIO_NO_DEPRECATED
  BOOST_BEAST_USE_STD_STRING_VIEW)
target_link_libraries(dep_boost INTERFACE Threads::Threads)

# --- crates: brought into the build folder once per Cargo.lock, shared by all presets
find_program(CARGO cargo REQUIRED)
set(RQ_ENGINE_DIR ${CMAKE_SOURCE_DIR}/src/raft/engine)
set(RQ_CRATES ${CMAKE_SOURCE_DIR}/build/crates)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${RQ_ENGINE_DIR}/Cargo.lock)
file(SHA256 ${RQ_ENGINE_DIR}/Cargo.lock RQ_CARGO_LOCK_HASH)
set(stamp ${RQ_CRATES}/${RQ_CARGO_LOCK_HASH}.stamp)
file(LOCK ${RQ_CRATES}.lock GUARD FILE)
if(NOT EXISTS ${stamp})
  message(STATUS "bringing the pinned crates into ${RQ_CRATES}")
  file(MAKE_DIRECTORY ${RQ_CRATES})
  execute_process(
    COMMAND ${CARGO} vendor --locked --versioned-dirs --manifest-path ${RQ_ENGINE_DIR}/Cargo.toml
            ${RQ_CRATES}/vendor
    OUTPUT_FILE ${RQ_CRATES}/config.toml ERROR_VARIABLE error RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "cargo vendor failed: ${error}")
  endif()
  file(WRITE ${stamp} "")
endif()
file(LOCK ${RQ_CRATES}.lock RELEASE)

# --- SQLite: the amalgamation of the pinned crate
if(RQ_SQLITE_DIR)
  set(sqlite_dir ${RQ_SQLITE_DIR})
else()
  file(GLOB sqlite_dir ${RQ_CRATES}/vendor/libsqlite3-sys-*/sqlite3)
endif()
if(NOT EXISTS ${sqlite_dir}/sqlite3.c)
  message(FATAL_ERROR "no sqlite3.c in '${sqlite_dir}'")
endif()
# cmake/sqlite/engine.c includes sqlite3.c and redirects two of its calls.
foreach(site v cnt)
  file(STRINGS ${sqlite_dir}/sqlite3.c calls REGEX "sqlite3_randomness\\(sizeof\\(${site}\\), &${site}\\);")
  list(LENGTH calls count)
  if(NOT count EQUAL 1)
    message(FATAL_ERROR "cmake/sqlite/engine.c doesn't fit this sqlite3.c: ${count} draws of '${site}'")
  endif()
endforeach()
add_library(sqlite3 STATIC ${CMAKE_SOURCE_DIR}/cmake/sqlite/engine.c)
target_include_directories(sqlite3 SYSTEM PUBLIC ${sqlite_dir} ${CMAKE_SOURCE_DIR}/cmake/sqlite)
# The options of spec http-api section 10, and what our snapshots and proofs need (SNAPSHOT, DBPAGE).
target_compile_definitions(sqlite3 PRIVATE
  SQLITE_THREADSAFE=2 SQLITE_ENABLE_COLUMN_METADATA SQLITE_ENABLE_DBSTAT_VTAB SQLITE_ENABLE_FTS3
  SQLITE_ENABLE_FTS3_PARENTHESIS SQLITE_ENABLE_FTS5 SQLITE_ENABLE_RTREE SQLITE_ENABLE_GEOPOLY
  SQLITE_ENABLE_SESSION SQLITE_ENABLE_PREUPDATE_HOOK SQLITE_ENABLE_UPDATE_DELETE_LIMIT
  SQLITE_ENABLE_SNAPSHOT SQLITE_ENABLE_DBPAGE_VTAB SQLITE_OMIT_DEPRECATED SQLITE_OMIT_SHARED_CACHE
  SQLITE_DQS=3 SQLITE_DEFAULT_MEMSTATUS=0 SQLITE_MAX_MMAP_SIZE=0x7fff0000
  HAVE_USLEEP=1 HAVE_PREAD=1 HAVE_PWRITE=1 HAVE_FDATASYNC=1 HAVE_GMTIME_R=1 HAVE_LOCALTIME_R=1)
target_compile_options(sqlite3 PRIVATE -w)
target_link_libraries(sqlite3 PUBLIC Threads::Threads dl m)
