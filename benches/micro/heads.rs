//! Heads as clients and servers send them.

/// What curl sends, and about what load generators send.
pub const CURL: &[u8] = b"GET /index.html HTTP/1.1\r\n\
    Host: shop.example.com\r\n\
    User-Agent: curl/7.88.1\r\n\
    Accept: */*\r\n\
    \r\n";

/// A browser's request for a page behind a login: 20 fields, 1.5 KiB.
pub const BROWSER: &[u8] = b"GET /catalogue/shoes?size=43&colour=black&page=2 HTTP/1.1\r\n\
    Host: shop.example.com\r\n\
    Connection: keep-alive\r\n\
    Cache-Control: max-age=0\r\n\
    sec-ch-ua: \"Chromium\";v=\"142\", \"Google Chrome\";v=\"142\", \"Not_A Brand\";v=\"99\"\r\n\
    sec-ch-ua-mobile: ?0\r\n\
    sec-ch-ua-platform: \"Linux\"\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-User: ?1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Referer: http://shop.example.com/catalogue/shoes?size=43&colour=black\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9,de-DE;q=0.8,de;q=0.7\r\n\
    Cookie: session=3f1c2b8e9a7d4f60b5c3d2e1f0a9b8c7; consent=all; cart=18a2f3c4; _ga=GA1.2.1234567890.1700000000; _gid=GA1.2.987654321.1700000000; theme=dark; currency=EUR; recently=1001.1002.1003.1004.1005.1006.1007.1008\r\n\
    If-None-Match: W/\"5f2a-18c0ffee123\"\r\n\
    If-Modified-Since: Thu, 19 Nov 2026 08:12:31 GMT\r\n\
    DNT: 1\r\n\
    \r\n";

/// What nginx answers with.
pub const SHORT_RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Server: nginx/1.22.1\r\n\
    Date: Fri, 20 Nov 2026 15:04:05 GMT\r\n\
    Content-Type: text/plain\r\n\
    Content-Length: 12\r\n\
    Connection: keep-alive\r\n\
    \r\n";

/// What an application behind a framework or two answers with.
pub const APPLICATION_RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Date: Fri, 20 Nov 2026 15:04:05 GMT\r\n\
    Content-Type: text/html; charset=utf-8\r\n\
    Transfer-Encoding: chunked\r\n\
    Connection: keep-alive\r\n\
    Cache-Control: private, no-cache, must-revalidate\r\n\
    ETag: W/\"5f2a-18c0ffee123\"\r\n\
    Vary: Accept-Encoding, Cookie\r\n\
    Set-Cookie: session=3f1c2b8e9a7d4f60b5c3d2e1f0a9b8c7; Path=/; HttpOnly; SameSite=Lax\r\n\
    Set-Cookie: cart=18a2f3c4; Path=/; Max-Age=86400\r\n\
    Strict-Transport-Security: max-age=31536000; includeSubDomains\r\n\
    Content-Security-Policy: default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'\r\n\
    X-Content-Type-Options: nosniff\r\n\
    X-Frame-Options: DENY\r\n\
    Referrer-Policy: same-origin\r\n\
    X-Runtime: 0.018341\r\n\
    \r\n";
