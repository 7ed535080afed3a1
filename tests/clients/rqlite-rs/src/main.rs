//! rqlite-rs: asynchronous client; asks the host it was given, goes on with another when that one is gone.
use std::env::var;
use std::panic::AssertUnwindSafe;
use std::process::exit;

use rqlite_rs::batch::BatchResult;
use rqlite_rs::error::RequestError;
use rqlite_rs::prelude::*;
use rqlite_rs::query;
use rqlite_rs::request::{RqliteFreshnessLevel, RqliteQueryParam};
use rqlite_rs::response::RqliteResult;

const TEXT: &str = "žluťoučký 漢字 🦀 'quoted' \"twice\" \\ \n end";

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn client(address: &str) -> RqliteClient {
    RqliteClientBuilder::new().known_host(address).build().unwrap()
}

#[derive(FromRow)]
struct Named {
    id: i64,
    name: String,
}

async fn create_insert_select(address: &str) -> Outcome {
    let c = client(address);
    c.exec("DROP TABLE IF EXISTS foo").await?;
    c.exec("CREATE TABLE foo (id INTEGER PRIMARY KEY, name TEXT)").await?;
    let done = c.exec(query!("INSERT INTO foo(name) VALUES(?)", TEXT)?).await?;
    assert_eq!((done.last_insert_id(), done.rows_affected()), (Some(1), Some(1)));
    let rows = c.fetch(query!("SELECT id, name FROM foo WHERE id=?", 1i64)?).await?;
    let rows = rows.into_typed::<Named>()?;
    assert_eq!((rows.len(), rows[0].id, rows[0].name.as_str()), (1, 1, TEXT));
    assert!(c.exec("UPDATE foo SET name='x'").await?.changed());
    assert!(c.fetch("SELECT * FROM foo WHERE id=99").await?.is_empty());
    Ok(())
}

async fn types(address: &str) -> Outcome {
    let c = client(address);
    c.exec("DROP TABLE IF EXISTS kinds").await?;
    c.exec("CREATE TABLE kinds(i INTEGER, f REAL, t TEXT, n INTEGER, b BOOLEAN, raw BLOB)").await?;
    let raw: Vec<u8> = (0..=255).collect();
    c.exec(query!("INSERT INTO kinds VALUES(?,?,?,?,?,?)", i64::MAX, 0.1f64, TEXT, None::<i64>, true, raw.clone())?).await?;
    let row = &c.fetch("SELECT * FROM kinds").await?[0];
    assert_eq!(row.get::<i64>("i")?, i64::MAX);
    assert_eq!(row.get::<f64>("f")?, 0.1);
    assert_eq!(row.get::<String>("t")?, TEXT);
    assert_eq!(row.get_opt::<i64>("n")?, None);
    assert!(row.get::<bool>("b")?);
    assert_eq!(row.get::<Vec<u8>>("raw")?, raw, "the client asks for blob_array by itself");
    Ok(())
}

async fn transaction_and_batch(address: &str) -> Outcome {
    let c = client(address);
    c.exec("DROP TABLE IF EXISTS tx").await?;
    c.exec("CREATE TABLE tx(id INTEGER PRIMARY KEY)").await?;
    let failed = c.transaction(vec!["INSERT INTO tx VALUES(1)", "INSERT INTO tx VALUES(1)"]).await?;
    assert!(matches!(&failed[1], RqliteResult::Error(e) if e.error == "UNIQUE constraint failed: tx.id"));
    assert_eq!(c.fetch("SELECT count(*) AS n FROM tx").await?[0].get::<i64>("n")?, 0);
    let mixed = c.batch(vec!["INSERT INTO tx VALUES(7)", "SELECT id FROM tx", "SELECT absent"]).await?;
    assert!(matches!(&mixed[0], RqliteResult::Success(BatchResult::QueryResult(q)) if q.last_insert_id() == Some(7)));
    assert!(matches!(&mixed[1], RqliteResult::Success(BatchResult::SelectResults(_))));
    assert!(matches!(&mixed[2], RqliteResult::Error(e) if e.error == "no such column: absent"));
    c.queue(vec!["INSERT INTO tx VALUES(8)"]).await?;
    Ok(())
}

async fn levels(address: &str) -> Outcome {
    for level in [RqliteFreshnessLevel::None, RqliteFreshnessLevel::Weak, RqliteFreshnessLevel::Strong] {
        let c = RqliteClientBuilder::new().known_host(address).default_query_params(vec![RqliteQueryParam::Level(level)]).build()?;
        assert_eq!(c.fetch("SELECT 1 AS one").await?[0].get::<i64>("one")?, 1);
    }
    Ok(())
}

async fn errors(address: &str) -> Outcome {
    let c = client(address);
    let error = c.fetch("SELECT * FROM nowhere").await.unwrap_err();
    assert!(matches!(&error, RequestError::DatabaseError(e) if e == "no such table: nowhere"), "{error}");
    let error = c.exec("CREATE TABLE").await.unwrap_err();
    assert!(matches!(&error, RequestError::DatabaseError(e) if e == "incomplete input"), "{error}");
    Ok(())
}

async fn nodes(address: &str, count: usize) -> Outcome {
    let c = client(address);
    assert!(c.ready().await);
    assert_eq!(c.nodes().await?.len(), count);
    assert!(c.leader().await?.is_some_and(|n| n.leader && n.reachable && n.voter));
    Ok(())
}

async fn another_host() -> Outcome {
    let c = RqliteClientBuilder::new().known_host("127.0.0.1:1").known_host(var("RQ_FOLLOWER")?).build()?;
    assert_eq!(c.fetch("SELECT 1 AS one").await?.len(), 1);
    Ok(())
}

async fn auth() -> Outcome {
    let host = var("RQ_AUTH")?;
    let with = |user: &str, password: &str| RqliteClientBuilder::new().known_host(&host).auth(user, password).build().unwrap();
    with("app", "pw-app").exec("CREATE TABLE rust(v)").await?;
    let reader = with("reader", "pw-reader");
    assert!(reader.fetch("SELECT * FROM rust").await?.is_empty());
    assert!(matches!(reader.exec("INSERT INTO rust VALUES(1)").await, Err(RequestError::Unauthorized)));
    assert!(matches!(with("app", "wrong").fetch("SELECT 1").await, Err(RequestError::Unauthorized)));
    Ok(())
}

/// Runs one flow; a panic is a failure like an error.
fn run(name: &str, flow: impl std::future::Future<Output = Outcome>) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let why = match std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(flow))) {
        Ok(Ok(())) => {
            println!("ok   {name}");
            return true;
        }
        Ok(Err(error)) => format!("{error:?}"),
        Err(_) => "assertion failed, see above".to_string(),
    };
    println!("FAIL {name}: {why}");
    false
}

fn main() {
    let mut all = true;
    for (place, name, count) in [("single", "RQ_SINGLE", 1), ("follower", "RQ_FOLLOWER", 3)] {
        let address = var(name).unwrap();
        all &= run(&format!("create insert select at a {place}"), create_insert_select(&address));
        all &= run(&format!("types at a {place}"), types(&address));
        all &= run(&format!("transaction and batch at a {place}"), transaction_and_batch(&address));
        all &= run(&format!("levels at a {place}"), levels(&address));
        all &= run(&format!("errors at a {place}"), errors(&address));
        all &= run(&format!("nodes at a {place}"), nodes(&address, count));
    }
    all &= run("another host", another_host());
    all &= run("auth", auth());
    exit(if all { 0 } else { 1 });
}
