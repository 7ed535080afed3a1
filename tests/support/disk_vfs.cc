#include "support/disk_vfs.h"

#include <sqlite3.h>

#include <atomic>
#include <cstring>
#include <list>
#include <map>
#include <new>
#include <vector>

namespace rq::test {
namespace {

struct Node {                       // what connections to one path share
  int shared = 0;
  const void* reserved = nullptr;   // who holds RESERVED or more
  std::vector<std::unique_ptr<char[]>> regions;
  int mapped = 0;                   // files that have them mapped; the last one takes them away
  int shm_shared[SQLITE_SHM_NLOCK] = {};
  const void* shm_exclusive[SQLITE_SHM_NLOCK] = {};
};

struct VfsFile {
  sqlite3_file head;
  DiskVfs::State* state;
  std::unique_ptr<io::File>* file;  // null: temporary
  std::string* memory;
  std::string* path;
  Node* node;
  bool sync_dir;
  bool mapped;
  int level;
  unsigned shm_held_shared, shm_held_exclusive;
};

}  // namespace

struct DiskVfs::State {
  io::Disk& disk;
  std::string name;
  sqlite3_vfs vfs{};
  std::list<Node> nodes;                    // of all files there ever were: connections may outlive their file's name
  std::map<std::string, Node*> current;     // by path
};

namespace {

VfsFile* of(sqlite3_file* file) { return reinterpret_cast<VfsFile*>(file); }

int code_of(const Error& error, int io_error) { return error.code == Errc::NoSpace ? SQLITE_FULL : io_error; }

int vfs_close(sqlite3_file* file) {
  VfsFile* self = of(file);
  delete self->file;
  delete self->memory;
  delete self->path;
  return SQLITE_OK;
}

int vfs_read(sqlite3_file* file, void* out, int size, sqlite3_int64 at) {
  VfsFile* self = of(file);
  const auto bytes = static_cast<std::size_t>(size);
  std::size_t got = 0;
  if (self->memory) {
    if (static_cast<std::size_t>(at) < self->memory->size()) {
      got = self->memory->copy(static_cast<char*>(out), bytes, static_cast<std::size_t>(at));
    }
  } else {
    auto read = (*self->file)->read_into(static_cast<std::uint64_t>(at), {static_cast<char*>(out), bytes});
    if (!read) return SQLITE_IOERR_READ;
    got = *read;
  }
  if (got == bytes) return SQLITE_OK;
  std::memset(static_cast<char*>(out) + got, 0, bytes - got);
  return SQLITE_IOERR_SHORT_READ;
}

int vfs_write(sqlite3_file* file, const void* data, int size, sqlite3_int64 at) {
  VfsFile* self = of(file);
  const std::string_view bytes(static_cast<const char*>(data), static_cast<std::size_t>(size));
  if (self->memory) {
    const auto end = static_cast<std::size_t>(at) + bytes.size();
    if (self->memory->size() < end) self->memory->resize(end);
    self->memory->replace(static_cast<std::size_t>(at), bytes.size(), bytes);
    return SQLITE_OK;
  }
  auto written = (*self->file)->write_at(static_cast<std::uint64_t>(at), bytes);
  return written ? SQLITE_OK : code_of(written.error(), SQLITE_IOERR_WRITE);
}

int vfs_truncate(sqlite3_file* file, sqlite3_int64 size) {
  VfsFile* self = of(file);
  if (self->memory) {
    self->memory->resize(static_cast<std::size_t>(size));
    return SQLITE_OK;
  }
  auto done = (*self->file)->truncate(static_cast<std::uint64_t>(size));
  return done ? SQLITE_OK : code_of(done.error(), SQLITE_IOERR_TRUNCATE);
}

int vfs_sync(sqlite3_file* file, int) {
  VfsFile* self = of(file);
  if (self->memory) return SQLITE_OK;
  if (!(*self->file)->sync()) return SQLITE_IOERR_FSYNC;
  if (self->sync_dir) {
    self->sync_dir = false;
    if (!self->state->disk.sync_dir(self->path->substr(0, self->path->rfind('/')))) return SQLITE_IOERR_DIR_FSYNC;
  }
  return SQLITE_OK;
}

int vfs_size(sqlite3_file* file, sqlite3_int64* out) {
  VfsFile* self = of(file);
  if (self->memory) {
    *out = static_cast<sqlite3_int64>(self->memory->size());
    return SQLITE_OK;
  }
  auto size = (*self->file)->size();
  if (!size) return SQLITE_IOERR_FSTAT;
  *out = static_cast<sqlite3_int64>(*size);
  return SQLITE_OK;
}

int vfs_lock(sqlite3_file* file, int level) {
  VfsFile* self = of(file);
  if (!self->node || level <= self->level) return SQLITE_OK;
  Node& node = *self->node;
  if (self->level == SQLITE_LOCK_NONE) {
    if (node.reserved && node.reserved != self) return SQLITE_BUSY;
    ++node.shared;
    self->level = SQLITE_LOCK_SHARED;
  }
  if (level == SQLITE_LOCK_SHARED) return SQLITE_OK;
  if (node.reserved && node.reserved != self) return SQLITE_BUSY;
  if (level == SQLITE_LOCK_EXCLUSIVE && node.shared > 1) return SQLITE_BUSY;
  node.reserved = self;
  self->level = level;
  return SQLITE_OK;
}

int vfs_unlock(sqlite3_file* file, int level) {
  VfsFile* self = of(file);
  if (!self->node || self->level <= level) return SQLITE_OK;
  if (self->node->reserved == self) self->node->reserved = nullptr;
  if (level == SQLITE_LOCK_NONE) --self->node->shared;
  self->level = level;
  return SQLITE_OK;
}

int vfs_check_reserved(sqlite3_file* file, int* out) {
  *out = of(file)->node && of(file)->node->reserved ? 1 : 0;
  return SQLITE_OK;
}
int vfs_control(sqlite3_file*, int, void*) { return SQLITE_NOTFOUND; }
int vfs_sector_size(sqlite3_file*) { return 4096; }
int vfs_characteristics(sqlite3_file*) { return SQLITE_IOCAP_POWERSAFE_OVERWRITE; }

int vfs_shm_map(sqlite3_file* file, int region, int bytes, int extend, void volatile** out) {
  Node& node = *of(file)->node;
  if (!of(file)->mapped) ++node.mapped;
  of(file)->mapped = true;
  while (node.regions.size() <= static_cast<std::size_t>(region)) {
    if (!extend) {
      *out = nullptr;
      return SQLITE_OK;
    }
    node.regions.push_back(std::make_unique<char[]>(static_cast<std::size_t>(bytes)));
  }
  *out = node.regions[static_cast<std::size_t>(region)].get();
  return SQLITE_OK;
}

int vfs_shm_lock(sqlite3_file* file, int first, int count, int flags) {
  VfsFile* self = of(file);
  Node& node = *self->node;
  const bool shared = (flags & SQLITE_SHM_SHARED) != 0;
  for (int slot = first; slot < first + count && (flags & SQLITE_SHM_LOCK) != 0; ++slot) {
    const bool mine = (self->shm_held_shared >> slot & 1) != 0;
    if (node.shm_exclusive[slot] && node.shm_exclusive[slot] != self) return SQLITE_BUSY;
    if (!shared && node.shm_shared[slot] > (mine ? 1 : 0)) return SQLITE_BUSY;
  }
  for (int slot = first; slot < first + count; ++slot) {
    const unsigned bit = 1u << slot;
    if ((flags & SQLITE_SHM_LOCK) != 0) {
      if (shared && (self->shm_held_shared & bit) == 0) ++node.shm_shared[slot];
      if (shared) self->shm_held_shared |= bit;
      if (!shared) node.shm_exclusive[slot] = self;
      if (!shared) self->shm_held_exclusive |= bit;
    } else {
      if ((self->shm_held_shared & bit) != 0) --node.shm_shared[slot];
      if ((self->shm_held_exclusive & bit) != 0) node.shm_exclusive[slot] = nullptr;
      self->shm_held_shared &= ~bit;
      self->shm_held_exclusive &= ~bit;
    }
  }
  return SQLITE_OK;
}
void vfs_shm_barrier(sqlite3_file*) { std::atomic_thread_fence(std::memory_order_seq_cst); }
int vfs_shm_unmap(sqlite3_file* file, int) {
  vfs_shm_lock(file, 0, SQLITE_SHM_NLOCK, SQLITE_SHM_UNLOCK);
  VfsFile* self = of(file);
  if (self->mapped && --self->node->mapped == 0) self->node->regions.clear();
  self->mapped = false;
  return SQLITE_OK;
}

constexpr sqlite3_io_methods kMethods = {
    2,        vfs_close,  vfs_read,           vfs_write,   vfs_truncate,    vfs_sync,            vfs_size,
    vfs_lock, vfs_unlock, vfs_check_reserved, vfs_control, vfs_sector_size, vfs_characteristics, vfs_shm_map,
    vfs_shm_lock, vfs_shm_barrier, vfs_shm_unmap, nullptr, nullptr};

DiskVfs::State* of(sqlite3_vfs* vfs) { return static_cast<DiskVfs::State*>(vfs->pAppData); }

int vfs_open(sqlite3_vfs* vfs, sqlite3_filename name, sqlite3_file* file, int flags, int* out_flags) {
  VfsFile* self = new (file) VfsFile{};
  self->state = of(vfs);
  if (!name) {
    self->memory = new std::string;
  } else {
    const bool existed = self->state->disk.exists(name).value_or(false);
    const auto mode = (flags & SQLITE_OPEN_CREATE)     ? io::OpenMode::CreateOrOpen
                      : (flags & SQLITE_OPEN_READONLY) ? io::OpenMode::ReadOnly
                                                       : io::OpenMode::ReadWrite;
    auto opened = self->state->disk.open(name, mode);
    if (!opened) return SQLITE_CANTOPEN;
    self->file = new std::unique_ptr<io::File>(std::move(*opened));
    self->path = new std::string(name);
    self->sync_dir = !existed;
    if (flags & SQLITE_OPEN_MAIN_DB) {
      Node*& node = self->state->current[name];
      if (node == nullptr) node = &self->state->nodes.emplace_back();
      self->node = node;
    }
  }
  self->head.pMethods = &kMethods;
  if (out_flags) *out_flags = flags;
  return SQLITE_OK;
}

int vfs_delete(sqlite3_vfs* vfs, const char* name, int sync_dir) {
  auto removed = of(vfs)->disk.remove(name);
  if (!removed) return removed.error().code == Errc::NotFound ? SQLITE_IOERR_DELETE_NOENT : SQLITE_IOERR_DELETE;
  const std::string path(name);
  if (sync_dir && !of(vfs)->disk.sync_dir(path.substr(0, path.rfind('/')))) return SQLITE_IOERR_DIR_FSYNC;
  return SQLITE_OK;
}

int vfs_access(sqlite3_vfs* vfs, const char* name, int, int* out) {
  auto there = of(vfs)->disk.exists(name);
  if (!there) return SQLITE_IOERR_ACCESS;
  *out = *there ? 1 : 0;
  return SQLITE_OK;
}

int vfs_full_pathname(sqlite3_vfs*, const char* name, int size, char* out) {
  return std::snprintf(out, static_cast<std::size_t>(size), "%s", name) < size ? SQLITE_OK : SQLITE_CANTOPEN;
}
int vfs_randomness(sqlite3_vfs*, int size, char* out) {
  for (int i = 0; i < size; ++i) out[i] = static_cast<char>(i * 37);
  return size;
}
int vfs_sleep(sqlite3_vfs*, int microseconds) { return microseconds; }
int vfs_time(sqlite3_vfs*, sqlite3_int64* out) {
  *out = 210866760000000;
  return SQLITE_OK;
}
int vfs_last_error(sqlite3_vfs*, int, char*) { return 0; }

}  // namespace

DiskVfs::DiskVfs(io::Disk& disk) : state_(new State{disk, {}, {}, {}, {}}) {
  static std::atomic<int> number{0};
  state_->name = "rq-disk-" + std::to_string(number++);
  sqlite3_vfs& vfs = state_->vfs;
  vfs.iVersion = 2;
  vfs.szOsFile = sizeof(VfsFile);
  vfs.mxPathname = 512;
  vfs.zName = state_->name.c_str();
  vfs.pAppData = state_.get();
  vfs.xOpen = vfs_open;
  vfs.xDelete = vfs_delete;
  vfs.xAccess = vfs_access;
  vfs.xFullPathname = vfs_full_pathname;
  vfs.xRandomness = vfs_randomness;
  vfs.xSleep = vfs_sleep;
  vfs.xGetLastError = vfs_last_error;
  vfs.xCurrentTimeInt64 = vfs_time;
  sqlite3_vfs_register(&vfs, 0);
}

DiskVfs::~DiskVfs() { sqlite3_vfs_unregister(&state_->vfs); }

void DiskVfs::replaced(const std::string& path) { state_->current.erase(path); }

const std::string& DiskVfs::name() const { return state_->name; }

}  // namespace rq::test
