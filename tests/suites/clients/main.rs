//! Clients and servers that are not ours, with the gateway between them: what their authors understand
//! by the protocols has to be what we do. Whatever is missing here is installed by
//! scripts/install-test-deps; nothing is skipped.

mod chromium;
mod curl;
mod database;
mod dns;
mod front;
mod grpc;
mod nghttp;
mod openssl;
mod redis;
mod script;
mod websockets;
