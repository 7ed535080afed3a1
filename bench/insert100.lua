-- 100 single-row INSERTs a request.
local rows = {}
for i = 1, 100 do rows[i] = '["INSERT INTO t(v) VALUES(?)",' .. i .. ']' end
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = "[" .. table.concat(rows, ",") .. "]"
