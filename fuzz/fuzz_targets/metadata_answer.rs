//! Any bytes as the answers of a cloud's metadata service, over HTTP: refused in one short line, or read.

#![no_main]

use std::time::{Duration, Instant};

use flannel_cloud::{Client, CloudOptions, Provider, Variables};
use flannel_fuzz::is_one_line;
use flannel_fuzz::server::Server;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((cloud, answers)) = bytes.split_first() else { return };
    let server = Server::of_this_process();
    server.answer_with(answers);
    let variables = Variables::of([
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", format!("http://{}", server.address())),
        ("GCE_METADATA_HOST", server.address().to_string()),
    ]);
    let options =
        CloudOptions { variables, endpoints: Default::default(), authorities: None, access_key: None };
    let client = Client::new(options);
    let provider = if cloud % 2 == 0 { Provider::Aws } else { Provider::Google };
    let deadline = Instant::now() + Duration::from_millis(200);
    if let Err(failure) = server.runtime().block_on(client.instance(provider, deadline)) {
        is_one_line(&failure.to_string());
    }
});
