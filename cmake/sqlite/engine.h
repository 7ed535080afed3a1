/* What we need of SQLite beyond its interface. sqlite3.c is compiled as part of engine.c, unchanged; -DRQ_SQLITE_DIR
** may point to another version of it, and Dependencies.cmake checks that the two redirected calls are where we expect.
**
** 1. Random draws that end up in stored data go through hooks. SQLite's generator is one per process and truly random
** (WAL salts need it so), but two of its callers store what they draw, and replicas must store the same: the rowid that
** OP_NewRowid picks when the largest rowid is taken, and the suffix of the n-th equal column name of CREATE TABLE ... AS
** SELECT. Just these two call sites, told by the spelling of their size argument, are sent to the hooks.
** 2. Counters and flags of a connection that are replicated state must be restored at start and after rollbacks.
*/
#ifndef RQ_SQLITE_ENGINE_H
#define RQ_SQLITE_ENGINE_H

#include "sqlite3.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where rowids of this thread are drawn from; null: from SQLite's own generator. */
typedef void (*rq_draw)(void* context, int bytes, void* out);
void rq_set_rowid_draw(rq_draw draw, void* context);

/* What last_insert_rowid(), changes() and total_changes() say. */
void rq_set_counters(sqlite3* db, sqlite3_int64 last_insert_rowid, sqlite3_int64 changes, sqlite3_int64 total_changes);

/* Changes whenever statements compiled so far would have to be compiled again because of the schema. */
sqlite3_uint64 rq_schema_stamp(sqlite3* db);

/* What a COMMIT would look at: deferred foreign key violations. SQLITE_DBSTATUS_DEFERRED_FKS doesn't tell all. */
int rq_foreign_keys_violated(sqlite3* db);
/* PRAGMA defer_foreign_keys=1, at run time (the PRAGMA takes effect when it is compiled). */
void rq_defer_foreign_keys(sqlite3* db);
/* What COMMIT and ROLLBACK do with both. */
void rq_end_deferral(sqlite3* db);

#ifdef __cplusplus
}
#endif
#endif
