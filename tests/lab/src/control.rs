//! What a daemon says of itself at its control socket, as `flanneld status --json` prints it. Whoever waits asks hundreds of times: a process
//! for each question would take the processor from those that are waited for.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::wait;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Asks the daemon at a socket. None: nobody is there, or it does not say; the command knows why.
pub(crate) fn status(socket: &Path) -> Result<Option<Value>> {
    let Ok(mut stream) = UnixStream::connect(socket) else { return Ok(None) };
    let patience = Some(wait::scaled(PATIENCE));
    stream.set_read_timeout(patience)?;
    stream.set_write_timeout(patience)?;
    let mut line = String::new();
    let asked = stream.write_all(b"{\"request\":\"status\"}\n");
    if asked.and_then(|()| BufReader::new(stream).read_line(&mut line)).is_err() || !line.ends_with('\n') {
        return Ok(None);
    }
    let mut answer: Value = serde_json::from_str(&line).context("the control socket: no JSON")?;
    Ok(answer.get_mut("ok").map(Value::take))
}
