-- For wrk: a request with a body of 64 KiB. It is made once, so that nothing runs in Lua per request.
wrk.method = "POST"
wrk.body = string.rep("x", 64 * 1024)
