-- A read of one row by its key, another one each time.
local n = 0
request = function()
  n = n % 1000 + 1
  return wrk.format("POST", nil, {["Content-Type"] = "application/json"}, '[["SELECT * FROM t WHERE id=?",' .. n .. ']]')
end
