// gorqlite: the official client of Go, and its driver for database/sql. Looks for the leader by /status and /nodes and asks it.
package main

import (
	"database/sql"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/rqlite/gorqlite"
	_ "github.com/rqlite/gorqlite/stdlib"
)

const text = "žluťoučký 漢字 🦀 'quoted' \"twice\" \\ \n end"

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func equal(got, want any) {
	if !reflect.DeepEqual(got, want) {
		panic(fmt.Sprintf("got %#v, want %#v", got, want))
	}
}

func has(err error, part string) {
	if err == nil || !strings.Contains(err.Error(), part) {
		panic(fmt.Sprintf("got error %v, want one with %q", err, part))
	}
}

func open(url string) *gorqlite.Connection {
	conn, err := gorqlite.Open(url)
	check(err)
	return conn
}

func with(sql string, arguments ...any) gorqlite.ParameterizedStatement {
	return gorqlite.ParameterizedStatement{Query: sql, Arguments: arguments}
}

func createInsertSelect(url string) {
	conn := open(url)
	defer conn.Close()
	_, err := conn.Write([]string{"DROP TABLE IF EXISTS foo", "CREATE TABLE foo (id INTEGER PRIMARY KEY, name TEXT)"})
	check(err)
	result, err := conn.WriteOneParameterized(with("INSERT INTO foo(name) VALUES(?)", text))
	check(err)
	equal([]int64{result.LastInsertID, result.RowsAffected}, []int64{1, 1})
	rows, err := conn.QueryOneParameterized(with("SELECT id, name FROM foo WHERE id=?", 1))
	check(err)
	equal(rows.NumRows(), int64(1))
	equal(rows.Columns(), []string{"id", "name"})
	equal(rows.Types(), []string{"integer", "text"})
	for rows.Next() {
		var id int64
		var name string
		check(rows.Scan(&id, &name))
		equal(id, int64(1))
		equal(name, text)
	}
}

func types(url string) {
	conn := open(url)
	defer conn.Close()
	_, err := conn.Write([]string{"DROP TABLE IF EXISTS kinds", "CREATE TABLE kinds(i INTEGER, f REAL, t TEXT, n INTEGER, b INTEGER, at DATETIME, blob BLOB)"})
	check(err)
	at := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	// Numbers pass through a float64 in this client: 2^53 is the largest integer that is exact. A column declared BOOLEAN, whose values are
	// true and false in JSON (from every server), does not Scan into a bool; an INTEGER does.
	_, err = conn.WriteOneParameterized(with("INSERT INTO kinds VALUES(?,?,?,?,?,?,x'00ff')", int64(1)<<53, 0.1, text, nil, true, at))
	check(err)
	rows, err := conn.QueryOne("SELECT * FROM kinds")
	check(err)
	equal(rows.Next(), true)
	var i int64
	var f float64
	var t, blob string
	var n gorqlite.NullInt64
	var b bool
	var when time.Time
	check(rows.Scan(&i, &f, &t, &n, &b, &when, &blob))
	equal(i, int64(1)<<53)
	equal([]any{f, t, n.Valid, b, when.UTC(), blob}, []any{0.1, text, false, true, at, "AP8="})
	m, err := rows.Map()
	check(err)
	equal(m["t"], text)
}

func transactionAndBatch(url string) {
	conn := open(url)
	defer conn.Close()
	_, err := conn.Write([]string{"DROP TABLE IF EXISTS tx", "CREATE TABLE tx(id INTEGER PRIMARY KEY)"})
	check(err)
	_, err = conn.Write([]string{"INSERT INTO tx VALUES(1)", "INSERT INTO tx VALUES(1)"})
	has(err, "UNIQUE constraint failed: tx.id")
	count := func() (n int64) {
		rows, err := conn.QueryOne("SELECT count(*) FROM tx")
		check(err)
		rows.Next()
		check(rows.Scan(&n))
		return n
	}
	equal(count(), int64(0))
	check(conn.SetExecutionWithTransaction(false))
	_, err = conn.Write([]string{"INSERT INTO tx VALUES(1)", "INSERT INTO tx VALUES(1)"})
	has(err, "UNIQUE constraint failed: tx.id")
	equal(count(), int64(1))
}

func unified(url string) {
	conn := open(url)
	defer conn.Close()
	_, err := conn.Write([]string{"DROP TABLE IF EXISTS u", "CREATE TABLE u(id INTEGER PRIMARY KEY, v)"})
	check(err)
	results, err := conn.RequestParameterized([]gorqlite.ParameterizedStatement{with("INSERT INTO u(v) VALUES(?)", "x"), with("SELECT v FROM u WHERE id=?", 1)})
	check(err)
	equal(results[0].Write.LastInsertID, int64(1))
	equal(results[1].Query.Next(), true)
	var v string
	check(results[1].Query.Scan(&v))
	equal(v, "x")
}

func queued(url string) {
	conn := open(url)
	defer conn.Close()
	_, err := conn.Write([]string{"DROP TABLE IF EXISTS q", "CREATE TABLE q(v)"})
	check(err)
	first, err := conn.QueueOne("INSERT INTO q VALUES(1)")
	check(err)
	second, err := conn.QueueOneParameterized(with("INSERT INTO q VALUES(?)", 2))
	check(err)
	equal(second > first, true)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		rows, err := conn.QueryOne("SELECT count(*) FROM q")
		check(err)
		var n int64
		rows.Next()
		check(rows.Scan(&n))
		if n == 2 {
			return
		}
		if time.Now().After(deadline) {
			panic("queued writes did not arrive")
		}
	}
}

func consistency(url string) {
	for _, level := range []string{"none", "weak", "linearizable", "strong"} {
		conn := open(url + "?level=" + level)
		is, err := conn.ConsistencyLevel()
		check(err)
		equal(is, level)
		rows, err := conn.QueryOne("SELECT 1")
		check(err)
		equal(rows.NumRows(), int64(1))
		conn.Close()
	}
}

func errorsOfStatements(url string) {
	conn := open(url)
	defer conn.Close()
	_, err := conn.QueryOne("SELECT * FROM nowhere")
	has(err, "no such table: nowhere")
	_, err = conn.WriteOne("CREATE TABLE")
	has(err, "incomplete input")
}

func databaseSQL(url string) {
	db, err := sql.Open("rqlite", url)
	check(err)
	defer db.Close()
	_, err = db.Exec("DROP TABLE IF EXISTS std")
	check(err)
	_, err = db.Exec("CREATE TABLE std(id INTEGER PRIMARY KEY, v TEXT, n INTEGER)")
	check(err)
	done, err := db.Exec("INSERT INTO std(v) VALUES(?)", text)
	check(err)
	id, err := done.LastInsertId()
	check(err)
	equal(id, int64(1))
	var v string
	var n sql.NullInt64
	check(db.QueryRow("SELECT v, n FROM std WHERE id=?", 1).Scan(&v, &n))
	equal(v, text)
	equal(n.Valid, false)
}

// With discovery the client asks the leader; without it, the follower, which forwards.
func discovery() {
	conn := open("http://" + os.Getenv("RQ_FOLLOWER"))
	leader, err := conn.Leader()
	check(err)
	equal(leader, os.Getenv("RQ_LEADER"))
	peers, err := conn.Peers()
	check(err)
	equal(len(peers), 3)
	equal(peers[0], leader)
}

func auth() {
	host := os.Getenv("RQ_AUTH")
	app := open("http://app:pw-app@" + host)
	_, err := app.WriteOne("CREATE TABLE golang(v)")
	check(err)
	// Discovery asks /status and /nodes; a user without that permission has to do without.
	reader := open("http://reader:pw-reader@" + host + "?disableClusterDiscovery=true")
	_, err = reader.QueryOne("SELECT * FROM golang")
	check(err)
	_, err = reader.WriteOne("INSERT INTO golang VALUES(1)")
	has(err, "401")
	_, err = gorqlite.Open("http://app:wrong@" + host)
	has(err, "401")
}

var failed bool

func run(name string, flow func()) {
	defer func() {
		if why := recover(); why != nil {
			failed = true
			fmt.Printf("FAIL %s: %v\n", name, why)
		} else {
			fmt.Println("ok   " + name)
		}
	}()
	flow()
}

func main() {
	flows := []struct {
		name string
		run  func(url string)
	}{{"create insert select", createInsertSelect}, {"types", types}, {"transaction and batch", transactionAndBatch}, {"unified", unified}, {"queued", queued},
		{"consistency", consistency}, {"errors", errorsOfStatements}, {"database/sql", databaseSQL}}
	for _, flow := range flows {
		run(flow.name+" at a single", func() { flow.run("http://" + os.Getenv("RQ_SINGLE") + "/") })
		run(flow.name+" at a follower", func() { flow.run("http://" + os.Getenv("RQ_FOLLOWER") + "/") })
	}
	run("create insert select at a follower that forwards", func() {
		conn := open("http://" + os.Getenv("RQ_FOLLOWER") + "/?disableClusterDiscovery=true")
		_, err := conn.Write([]string{"CREATE TABLE IF NOT EXISTS fw(v)", "INSERT INTO fw VALUES(1)"})
		check(err)
		rows, err := conn.QueryOne("SELECT * FROM fw")
		check(err)
		equal(rows.NumRows(), int64(1))
	})
	run("discovery", discovery)
	run("auth", auth)
	if failed {
		os.Exit(1)
	}
}
