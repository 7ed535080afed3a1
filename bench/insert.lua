-- One single-row INSERT a request.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '[["INSERT INTO t(v) VALUES(?)", "hello world"]]'
