-- A reply of 1,000 rows.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '["SELECT id, v FROM t WHERE id<=1000"]'
