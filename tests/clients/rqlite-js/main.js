// rqlite-js: query, execute, status, backup and load over axios.
'use strict'
const assert = require('assert')
const { DataApiClient, StatusApiClient, BackupApiClient } = require('rqlite-js')

const { RQ_SINGLE, RQ_FOLLOWER, RQ_LEADER, RQ_AUTH } = process.env
const TEXT = 'žluťoučký 漢字 🦀 \'quoted\' "twice" \\ \n end'

function checked (results) {
  assert(!results.hasError(), results.hasError() && results.getFirstError().message)
  return results
}

async function text (stream) {
  const chunks = []
  for await (const chunk of stream) chunks.push(Buffer.from(chunk))
  return Buffer.concat(chunks)
}

const flows = {
  async createInsertSelect (host) {
    const client = new DataApiClient(host)
    checked(await client.execute(['DROP TABLE IF EXISTS foo', 'CREATE TABLE foo (id INTEGER NOT NULL PRIMARY KEY, name TEXT)']))
    const inserted = checked(await client.execute([['INSERT INTO foo(name) VALUES(?)', TEXT]]))
    assert.strictEqual(inserted.get(0).getLastInsertId(), 1)
    assert.strictEqual(inserted.get(0).getRowsAffected(), 1)
    let rows = checked(await client.query('SELECT id, name FROM foo'))
    assert.deepStrictEqual(rows.toArray(), [{ id: 1, name: TEXT }])
    rows = checked(await client.query([['SELECT name FROM foo WHERE id=:id', { id: 1 }]]))
    assert.strictEqual(rows.get(0).get('name'), TEXT)
    const updated = checked(await client.execute([['UPDATE foo SET name=? WHERE id=?', 'x', 1]]))
    assert.strictEqual(updated.get(0).getRowsAffected(), 1)
  },

  async types (host) {
    const client = new DataApiClient(host)
    const safe = Number.MAX_SAFE_INTEGER
    checked(await client.execute(['DROP TABLE IF EXISTS kinds', 'CREATE TABLE kinds(i INTEGER, f REAL, t TEXT, b BLOB, n INTEGER, o BOOLEAN)']))
    checked(await client.execute([['INSERT INTO kinds VALUES(?,?,?,?,?,?)', safe, 0.1, TEXT, [0, 1, 255], null, true]]))
    const row = checked(await client.query('SELECT * FROM kinds')).get(0).toObject()
    assert.deepStrictEqual(row, { i: safe, f: 0.1, t: TEXT, b: Buffer.from([0, 1, 255]).toString('base64'), n: null, o: true })
  },

  async transactionAndBatch (host) {
    const client = new DataApiClient(host)
    checked(await client.execute(['DROP TABLE IF EXISTS tx', 'CREATE TABLE tx(id INTEGER PRIMARY KEY)']))
    const batch = checked(await client.execute(['INSERT INTO tx VALUES(1)', 'INSERT INTO tx VALUES(2)']))
    assert.deepStrictEqual([batch.get(0).getLastInsertId(), batch.get(1).getLastInsertId()], [1, 2])
    const failed = await client.execute(['INSERT INTO tx VALUES(3)', 'INSERT INTO tx VALUES(1)'], { transaction: true })
    assert.strictEqual(failed.getFirstError().message, 'UNIQUE constraint failed: tx.id')
    assert.strictEqual(checked(await client.query('SELECT count(*) AS n FROM tx')).get(0).get('n'), 2)
  },

  async consistency (host) {
    const client = new DataApiClient(host)
    for (const level of ['none', 'weak', 'linearizable', 'strong']) {
      assert.strictEqual(checked(await client.query('SELECT 1 AS one', { level })).get(0).get('one'), 1, level)
    }
  },

  async errors (host) {
    const client = new DataApiClient(host)
    const results = await client.query('SELECT * FROM nowhere')
    assert(results.hasError())
    assert.strictEqual(results.getFirstError().message, 'no such table: nowhere')
    const raw = await client.execute('CREATE TABLE', { raw: true })
    assert.deepStrictEqual([raw.statusCode || raw.status, raw.body.results[0].error], [200, 'incomplete input'])
  },

  async status (host) {
    const response = await new StatusApiClient(host).status()
    assert(response.body.store.node_id && response.body.build.version)
  },

  async backupAndLoad (host) {
    const client = new DataApiClient(host)
    const backups = new BackupApiClient(host)
    checked(await client.execute(['DROP TABLE IF EXISTS kept', 'CREATE TABLE kept(v)', 'INSERT INTO kept VALUES(7)']))
    const image = await text(await backups.backup())
    assert.strictEqual(image.subarray(0, 15).toString(), 'SQLite format 3')
    const dump = await text(await backups.backup('sql'))
    assert(dump.toString().includes('CREATE TABLE kept(v)'))
    await text(await backups.load('DROP TABLE kept; CREATE TABLE kept(v); INSERT INTO kept VALUES(8);'))
    assert.strictEqual(checked(await client.query('SELECT v FROM kept')).get(0).get('v'), 8)
    await text(await backups.load(image, 'dump'))
    assert.strictEqual(checked(await client.query('SELECT v FROM kept')).get(0).get('v'), 7)
  },
}

const once = {
  async severalHosts () {
    const client = new DataApiClient(['http://127.0.0.1:1', 'http://' + RQ_FOLLOWER, 'http://' + RQ_LEADER])
    for (let i = 0; i < 4; i++) {
      assert.strictEqual(checked(await client.query('SELECT 1 AS one', { level: 'none' })).get(0).get('one'), 1)
    }
  },

  async auth () {
    const host = 'http://' + RQ_AUTH
    const app = new DataApiClient(host, { authentication: { username: 'app', password: 'pw-app' } })
    checked(await app.execute('CREATE TABLE js(v)'))
    const reader = new DataApiClient(host, { authentication: { username: 'reader', password: 'pw-reader' } })
    assert.strictEqual(checked(await reader.query('SELECT count(*) AS n FROM js')).get(0).get('n'), 0)
    await assert.rejects(reader.execute('INSERT INTO js VALUES(1)'), /401/)
    const wrong = new DataApiClient(host, { authentication: { username: 'app', password: 'wrong' } })
    await assert.rejects(wrong.query('SELECT 1'), /401/)
  },
}

async function main () {
  const all = []
  for (const [where, address] of [['single', RQ_SINGLE], ['follower', RQ_FOLLOWER]]) {
    for (const [name, flow] of Object.entries(flows)) all.push([`${name} at a ${where}`, () => flow('http://' + address)])
  }
  all.push(...Object.entries(once))
  let failed = 0
  for (const [name, flow] of all) {
    try {
      await flow()
      console.log('ok   ' + name)
    } catch (error) {
      failed++
      console.log(`FAIL ${name}: ${error.stack}`)
    }
  }
  process.exit(failed ? 1 : 0)
}

main()
