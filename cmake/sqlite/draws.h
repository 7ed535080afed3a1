/* Random draws of SQLite that end up in stored data go through hooks of ours.
**
** SQLite's generator is one per process and truly random; WAL salts need it so. But two of its callers store what they
** draw, and replicas must store the same: the rowid that OP_NewRowid picks when the largest rowid is taken, and the
** suffix of the n-th equal column name of CREATE TABLE ... AS SELECT. This header is force-included into sqlite3.c and
** sends just these two call sites (told by the spelling of their size argument) to the hooks below; all others, the
** definition included, keep their meaning. Dependencies.cmake checks that both sites are still spelled so.
*/
#ifndef RQ_SQLITE_DRAWS_H
#define RQ_SQLITE_DRAWS_H
#ifdef __cplusplus
extern "C" {
#endif

/* Where rowids of this thread are drawn from; null: from SQLite's own generator. */
typedef void (*rq_draw)(void* context, int bytes, void* out);
void rq_set_rowid_draw(rq_draw draw, void* context);

void rq_draw_rowid(int bytes, void* out);
void rq_draw_name(int bytes, void* out);

#ifdef __cplusplus
}
#endif

#ifdef RQ_SQLITE_AMALGAMATION
#define sqlite3_randomness(N, P) RQ_DRAW_SECOND(RQ_DRAW_##N, sqlite3_randomness, )(N, P)
#define RQ_DRAW_SECOND(...) RQ_DRAW_SECOND_(__VA_ARGS__)
#define RQ_DRAW_SECOND_(first, second, ...) second
#define RQ_DRAW_sizeof(x) RQ_DRAW_sizeof_##x
#define RQ_DRAW_sizeof_v ~, rq_draw_rowid
#define RQ_DRAW_sizeof_cnt ~, rq_draw_name
#endif
#endif
