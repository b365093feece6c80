//! Many questions, one after the other, on one connection: for those who ask thousands.

use std::io::{BufRead, BufReader, Read, Write};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::client::{Client, Patch, Stream};

/// A connection that stays.
#[derive(Debug)]
pub struct Kept {
    client: Client,
    stream: BufReader<Stream>,
}

impl Client {
    /// A connection that stays.
    pub fn keep(&self) -> Result<Kept> {
        let stream = self.connect()?;
        stream.sock.set_nodelay(true)?;
        Ok(Kept { client: self.clone(), stream: BufReader::new(stream) })
    }
}

impl Kept {
    /// `POST`, which has to succeed.
    pub fn post(&mut self, path: &str, body: &Value) -> Result<()> {
        self.ask("POST", path, "application/json", body)
    }

    /// `PATCH`, which has to succeed.
    pub fn patch(&mut self, path: &str, kind: Patch, body: &Value) -> Result<()> {
        self.ask("PATCH", path, kind.media_type(), body)
    }

    fn ask(&mut self, method: &str, path: &str, media_type: &str, body: &Value) -> Result<()> {
        let body = body.to_string();
        let head = self.client.head_of("HTTP/1.1", method, path, Some(media_type), body.len())?;
        let stream = self.stream.get_mut();
        stream.write_all([head, body].concat().as_bytes())?;
        stream.flush()?;
        let (status, answer) = self.answer().with_context(|| format!("{method} {path}"))?;
        ensure!((200..300).contains(&status), "{method} {path}: HTTP {status}: {answer}");
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    fn answer(&mut self) -> Result<(u16, String)> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.with_context(|| format!("no HTTP: {first:?}"))?;
        let (mut length, mut is_chunked) = (0, false);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            let Some((name, value)) = line.split_once(':') else { break };
            match name {
                "content-length" => length = value.trim().parse()?,
                "transfer-encoding" => is_chunked = value.trim() == "chunked",
                _ => {}
            }
        }
        let mut body = Vec::new();
        if is_chunked {
            loop {
                let line = self.line()?;
                let size = usize::from_str_radix(&line, 16).with_context(|| format!("no chunk: {line:?}"))?;
                self.read(size, &mut body)?;
                self.line()?;
                if size == 0 {
                    break;
                }
            }
        } else {
            self.read(length, &mut body)?;
        }
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    fn read(&mut self, size: usize, body: &mut Vec<u8>) -> Result<()> {
        let begin = body.len();
        body.resize(begin + size, 0);
        Ok(self.stream.read_exact(&mut body[begin..])?)
    }
}
