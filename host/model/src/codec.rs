//! How leases are written: key names and JSON values, byte for byte as upstream writes them.
//!
//! Reading is tolerant: field names in any case, unknown fields ignored, fields that older versions do not write missing.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use flannel_base::text::{beginning, excerpt};
use ipnet::{Ipv4Net, Ipv6Net};
use serde_json::value::RawValue;

use crate::lease::{Attributes, Generation, Subnets};
use crate::network_config::fields;
use crate::secrets::digested;

/// What is written instead of an IPv4 subnet if there is none.
const NO_V4: &str = "0.0.0.0-0";

/// Why a key or a value is no lease; one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The key's name is not that of a lease.
    #[error("{0:?} is not the name of a lease, such as 10.5.57.0-24 or 10.5.57.0-24&fc00:5:0:8::-64")]
    Name(String),
    /// The value is not JSON, or no object.
    #[error("its value is no lease: {0}")]
    Json(String),
    /// A field is wrong.
    #[error("its {field} {value} is wrong: right would be {right}")]
    Field {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        right: &'static str,
    },
}

/// Characters of a backend's type, at most: upstream's longest has nine.
const MAX_TYPE: usize = 64;
/// Bytes of a backend's data, at most; upstream's have less than a hundred.
const MAX_DATA: usize = 64 * 1024;
/// How deep a backend's data may be nested.
const MAX_DEPTH: usize = 32;
/// Generations of the backend that a node serves, at most: ours have two.
const MAX_GENERATIONS: usize = 4;

/// The last part of a lease's key: `10.5.57.0-24`, or `10.5.57.0-24&fc00:5:0:8::-64` with IPv6, or
/// `0.0.0.0-0&fc00:5:0:8::-64` with IPv6 only.
pub fn key_name(subnets: &Subnets) -> String {
    let mut name = match subnets.v4 {
        Some(v4) => format!("{}-{}", v4.addr(), v4.prefix_len()),
        None => NO_V4.to_owned(),
    };
    if let Some(v6) = subnets.v6 {
        let _ = write!(name, "&{}-{}", v6.addr(), v6.prefix_len());
    }
    name
}

/// Reads the last part of a lease's key. Lengths are limited as upstream does, to 31 and 127; host bits are kept as written;
/// a length of 0 stands for no subnet.
pub fn parse_key_name(name: &str) -> Result<Subnets, CodecError> {
    let subnets = match name.split_once('&') {
        None => parse_v4(name).map(|v4| Subnets { v4: Some(v4), v6: None }),
        Some((NO_V4, v6)) => parse_v6(v6).map(|v6| Subnets { v4: None, v6: Some(v6) }),
        Some((v4, v6)) => {
            parse_v4(v4).zip(parse_v6(v6)).map(|(v4, v6)| Subnets { v4: Some(v4), v6: Some(v6) })
        }
    };
    subnets.ok_or_else(|| CodecError::Name(excerpt(name)))
}

fn parse_v4(text: &str) -> Option<Ipv4Net> {
    let (address, length) = text.split_once('-')?;
    Ipv4Net::new(address.parse().ok()?, parse_length(length, 31)?).ok()
}

fn parse_v6(text: &str) -> Option<Ipv6Net> {
    let (address, length) = text.split_once('-')?;
    // Upstream's pattern knows neither upper case nor dotted tails.
    let plain = address.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b':'));
    let address = plain.then(|| address.parse::<Ipv6Addr>().ok())??;
    Ipv6Net::new(address, parse_length(length, 127)?).ok()
}

fn parse_length(text: &str, longest: u8) -> Option<u8> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let length = digits.then(|| text.parse::<u8>().ok())??;
    (1..=longest).contains(&length).then_some(length)
}

/// Reads an entry of a store. A name that upstream would read but not write, such as one with an IPv6 address that is not
/// compressed, is refused: two names for the same subnets would be two leases.
pub fn read_entry(name: &str, value: &[u8]) -> Result<(Subnets, Attributes), CodecError> {
    let subnets = parse_key_name(name)?;
    if key_name(&subnets) == name {
        Ok((subnets, decode(value)?))
    } else {
        Err(CodecError::Name(excerpt(name)))
    }
}

/// A lease's value: compact JSON, fields in upstream's order, the last three left out if they are empty.
pub fn encode(attributes: &Attributes) -> String {
    let mut json = format!("{{\"PublicIP\":\"{}\"", attributes.public_ip.unwrap_or(Ipv4Addr::UNSPECIFIED));
    match attributes.public_ipv6 {
        Some(address) => {
            let _ = write!(json, ",\"PublicIPv6\":\"{address}\"");
        }
        None => json.push_str(",\"PublicIPv6\":null"),
    }
    if !attributes.backend_type.is_empty() {
        json.push_str(",\"BackendType\":");
        json.push_str(&quoted(&attributes.backend_type));
    }
    let data = [("BackendData", &attributes.backend_data), ("BackendV6Data", &attributes.backend_v6_data)];
    for (name, data) in data {
        if let Some(data) = data {
            let _ = write!(json, ",\"{name}\":");
            compact(data.get(), &mut json);
        }
    }
    if !attributes.generations.is_empty() {
        json.push_str(",\"Generations\":");
        json.push_str(&encode_generations(&attributes.generations));
    }
    json.push('}');
    json
}

/// The generations alone, as they stand in a lease's value: for a store that keeps the parts of a lease apart.
pub fn encode_generations(generations: &[Generation]) -> String {
    let mut json = "[".to_owned();
    for (n, generation) in generations.iter().enumerate() {
        if n > 0 {
            json.push(',');
        }
        encode_generation(generation, &mut json);
    }
    json.push(']');
    json
}

/// A backend's data alone, as they stand in a lease's value; `null` if there are none.
pub fn encode_data(data: Option<&RawValue>) -> String {
    let mut json = String::new();
    compact(data.map_or("null", RawValue::get), &mut json);
    json
}

/// A text as a JSON string, escaped as Go's encoder does.
pub fn quoted(text: &str) -> String {
    let mut json = String::new();
    compact(&serde_json::Value::from(text).to_string(), &mut json);
    json
}

/// Upstream's decoder skips the whole field.
fn encode_generation(generation: &Generation, json: &mut String) {
    json.push_str("{\"Backend\":");
    compact(&generation.backend, json);
    let _ = write!(json, ",\"Main\":{},\"Complete\":{}", generation.main, generation.complete);
    if !generation.main {
        if !generation.backend_type.is_empty() {
            json.push_str(",\"BackendType\":");
            json.push_str(&quoted(&generation.backend_type));
        }
        let data =
            [("BackendData", &generation.backend_data), ("BackendV6Data", &generation.backend_v6_data)];
        for (name, data) in data {
            if let Some(data) = data {
                let _ = write!(json, ",\"{name}\":");
                compact(data.get(), json);
            }
        }
    }
    json.push('}');
}

/// Appends valid JSON without white space, and with `<`, `>`, `&` and the Unicode line ends escaped, as Go's encoder does.
fn compact(text: &str, json: &mut String) {
    let (mut in_string, mut escaped) = (false, false);
    for character in text.chars() {
        if !in_string && character.is_ascii_whitespace() {
            continue;
        }
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(json, "\\u{:04x}", u32::from(character));
            }
            _ => json.push(character),
        }
        if character == '"' && !escaped {
            in_string = !in_string;
        }
        escaped = in_string && character == '\\' && !escaped;
    }
}

/// Reads a lease's value.
pub fn decode(value: &[u8]) -> Result<Attributes, CodecError> {
    let text = std::str::from_utf8(value).map_err(|_| CodecError::Json("it is not UTF-8".to_owned()))?;
    let mut attributes = Attributes::default();
    for (name, value) in fields(text).map_err(|error| CodecError::Json(beginning(&error.to_string(), 200)))? {
        let raw = value.get();
        let null = raw == "null";
        if name.eq_ignore_ascii_case("PublicIP") && !null {
            let address: Ipv4Addr = string("PublicIP", raw, "an IPv4 address")?;
            attributes.public_ip = (!address.is_unspecified()).then_some(address);
        } else if name.eq_ignore_ascii_case("PublicIPv6") {
            let address: Option<Ipv6Addr> =
                if null { None } else { Some(string("PublicIPv6", raw, "an IPv6 address or null")?) };
            attributes.public_ipv6 = address.filter(|address| !address.is_unspecified());
        } else if name.eq_ignore_ascii_case("BackendType") && !null {
            attributes.backend_type = backend_type(raw)?;
        } else if name.eq_ignore_ascii_case("BackendData") {
            check_data("BackendData", raw)?;
            attributes.backend_data = (!null).then_some(value);
        } else if name.eq_ignore_ascii_case("BackendV6Data") {
            check_data("BackendV6Data", raw)?;
            attributes.backend_v6_data = (!null).then_some(value);
        } else if name.eq_ignore_ascii_case("Generations") && !null {
            // What somebody else means by it is no reason not to believe the rest.
            attributes.generations = decode_generations(raw).unwrap_or_default();
        }
    }
    Ok(attributes)
}

/// Reads a backend's data that stand alone: none if they are `null`, or nothing at all. `field` is for the error.
pub fn decode_data(field: &'static str, text: &str) -> Result<Option<Box<RawValue>>, CodecError> {
    if text.is_empty() {
        return Ok(None);
    }
    // Its size comes first: what is too large is not looked at.
    if text.len() > MAX_DATA {
        return Err(too_large(field, text));
    }
    let value: Box<RawValue> = serde_json::from_str(text).map_err(|_| CodecError::Field {
        field,
        value: excerpt(text),
        right: "JSON, or null",
    })?;
    check_data(field, value.get())?;
    Ok((value.get() != "null").then_some(value))
}

/// Reads a backend's type that stands alone; it may be empty.
pub fn decode_type(field: &'static str, text: &str) -> Result<String, CodecError> {
    if is_type(text) {
        return Ok(text.to_owned());
    }
    Err(CodecError::Field { field, value: excerpt(text), right: TYPE })
}

/// Reads the generations that a node serves; `None` if that is not what is written.
pub fn decode_generations(raw: &str) -> Option<Vec<Generation>> {
    if raw.len() > MAX_DATA || depth(raw) > MAX_DEPTH {
        return None;
    }
    let written: Vec<Box<RawValue>> = serde_json::from_str(raw).ok()?;
    let generations: Option<Vec<Generation>> =
        written.iter().take(MAX_GENERATIONS).map(|one| decode_generation(one.get())).collect();
    let generations = generations?;
    let mains = generations.iter().filter(|generation| generation.main).count();
    let twice = |n: usize| generations[..n].iter().any(|other| other.backend == generations[n].backend);
    // One of them is what the other fields describe, and each is there once.
    (mains == 1 && written.len() <= MAX_GENERATIONS && !(0..generations.len()).any(twice))
        .then_some(generations)
}

fn decode_generation(raw: &str) -> Option<Generation> {
    let mut generation = Generation::default();
    for (name, value) in fields(raw).ok()? {
        let raw = value.get();
        match name.as_str() {
            "Backend" if raw.starts_with('{') => generation.backend = digested(raw),
            "Main" => generation.main = serde_json::from_str(raw).ok()?,
            "Complete" => generation.complete = serde_json::from_str(raw).ok()?,
            "BackendType" => generation.backend_type = backend_type(raw).ok()?,
            "BackendData" => generation.backend_data = (raw != "null").then_some(value),
            "BackendV6Data" => generation.backend_v6_data = (raw != "null").then_some(value),
            _ => {}
        }
    }
    (!generation.backend.is_empty()).then_some(generation)
}

/// What is right for a type.
const TYPE: &str = "a string of at most 64 visible ASCII characters";

fn backend_type(raw: &str) -> Result<String, CodecError> {
    let text: String = string("BackendType", raw, TYPE)?;
    if is_type(&text) {
        return Ok(text);
    }
    Err(CodecError::Field { field: "BackendType", value: excerpt(raw), right: TYPE })
}

fn is_type(text: &str) -> bool {
    text.len() <= MAX_TYPE && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn check_data(field: &'static str, raw: &str) -> Result<(), CodecError> {
    if raw.len() > MAX_DATA || depth(raw) > MAX_DEPTH { Err(too_large(field, raw)) } else { Ok(()) }
}

fn too_large(field: &'static str, raw: &str) -> CodecError {
    let right = "JSON of at most 64 KiB, nested at most 32 deep";
    CodecError::Field { field, value: excerpt(raw), right }
}

/// How deep valid JSON is nested.
fn depth(text: &str) -> usize {
    let (mut in_string, mut escaped, mut depth, mut deepest) = (false, false, 0_usize, 0);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn string<T: std::str::FromStr>(
    field: &'static str,
    raw: &str,
    right: &'static str,
) -> Result<T, CodecError> {
    let text = serde_json::from_str::<String>(raw).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| CodecError::Field {
        field,
        value: excerpt(raw),
        right,
    })
}

/// The data of a backend as `serde_json` keeps it.
#[cfg(test)]
#[expect(clippy::unnecessary_wraps, reason = "the fields that it is for are options")]
fn raw(text: &str) -> Option<Box<RawValue>> {
    Some(RawValue::from_string(text.to_owned()).expect("valid JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> String {
        format!("{}{}", "[".repeat(depth), "]".repeat(depth))
    }

    #[test]
    fn what_is_larger_than_any_backend_needs_is_refused() {
        let lease = |name: &str, value: &str| format!(r#"{{"PublicIP":"192.168.77.11","{name}":{value}}}"#);
        let quoted = |length: usize| format!("\"{}\"", "x".repeat(length));
        for right in [
            lease("BackendType", &quoted(64)),
            lease("BackendData", &quoted(MAX_DATA - 2)),
            lease("BackendV6Data", &nested(32)),
            lease("BackendData", r#"{"a":"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"{{{{"}"#),
        ] {
            assert!(decode(right.as_bytes()).is_ok(), "{}", excerpt(&right));
        }
        for (wrong, field) in [
            (lease("BackendType", &quoted(65)), "BackendType"),
            (lease("BackendType", "\"vx\\u001blan\""), "BackendType"),
            (lease("BackendType", "\"vx lan\""), "BackendType"),
            (lease("BackendType", "\"vx\u{202e}lan\""), "BackendType"),
            (lease("BackendData", &quoted(MAX_DATA - 1)), "BackendData"),
            (lease("BackendV6Data", &nested(33)), "BackendV6Data"),
        ] {
            let error = decode(wrong.as_bytes()).expect_err("refused").to_string();
            assert!(error.contains(field) && error.len() < 400, "{error}");
        }
    }

    fn subnets(v4: &str, v6: &str) -> Subnets {
        Subnets { v4: v4.parse().ok(), v6: v6.parse().ok() }
    }

    #[test]
    fn key_names_are_upstreams() {
        for (name, subnets) in [
            ("10.5.57.0-24", subnets("10.5.57.0/24", "")),
            ("10.5.60.0-24&fc00:5:0:8::-64", subnets("10.5.60.0/24", "fc00:5:0:8::/64")),
            ("0.0.0.0-0&fc00:5:0:8::-64", subnets("", "fc00:5:0:8::/64")),
            ("10.5.57.3-24", subnets("10.5.57.3/24", "")),
        ] {
            assert_eq!(key_name(&subnets), name);
            assert_eq!(parse_key_name(name), Ok(subnets), "{name}");
        }
    }

    #[test]
    fn names_that_are_no_leases_are_refused() {
        for name in [
            "",
            "-",
            "&",
            "config",
            "10.5.57.0",
            "10.5.57.0-",
            "10.5.57.0-32",
            "10.5.57.0-0",
            "0.0.0.0-0",
            "0.0.0.0-0&::-0",
            "10.5.57.0-+24",
            "10.5.057.0-24",
            "10.5.57.0-24/",
            "x/10.5.57.0-24",
            "fc00:5::-64",
            "10.5.60.0-24&FC00:5::-64",
            "10.5.60.0-24&fc00:5::-128",
            "10.5.60.0-24&::ffff:1.2.3.4-96",
            "10.5.60.0-24&fc00:5::-64&",
            "10.5.57.0-99999999999999999999",
            "\u{2028}\u{0}",
        ] {
            assert!(parse_key_name(name).is_err(), "{name}");
        }
    }

    fn attributes(v6: Option<&str>, backend: &str, data: Option<&str>, v6_data: Option<&str>) -> Attributes {
        Attributes {
            public_ip: Some([192, 168, 77, 11].into()),
            public_ipv6: v6.map(|v6| v6.parse().expect("address")),
            backend_type: backend.to_owned(),
            backend_data: data.and_then(raw),
            backend_v6_data: v6_data.and_then(raw),
            generations: Vec::new(),
        }
    }

    #[test]
    fn values_are_upstreams_byte_for_byte() {
        let v6 = Some("fd77::11");
        let v6_only = Attributes {
            public_ip: None,
            ..attributes(v6, "vxlan", None, Some("{\"VNI\":1,\"VtepMAC\":\"82:ea:3f:8d:cf:0b\"}"))
        };
        for (attributes, value) in [
            (
                attributes(None, "vxlan", Some("{\"VNI\":1,\"VtepMAC\":\"a6:63:db:5a:bb:09\"}"), None),
                r#"{"PublicIP":"192.168.77.11","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"a6:63:db:5a:bb:09"}}"#,
            ),
            (
                attributes(
                    v6,
                    "vxlan",
                    Some("{\"VNI\":1,\"VtepMAC\":\"d2:d4:60:d4:f0:d6\"}"),
                    Some("{\"VNI\":1,\"VtepMAC\":\"82:ea:3f:8d:cf:0b\"}"),
                ),
                r#"{"PublicIP":"192.168.77.11","PublicIPv6":"fd77::11","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"d2:d4:60:d4:f0:d6"},"BackendV6Data":{"VNI":1,"VtepMAC":"82:ea:3f:8d:cf:0b"}}"#,
            ),
            (
                attributes(None, "host-gw", None, None),
                r#"{"PublicIP":"192.168.77.11","PublicIPv6":null,"BackendType":"host-gw"}"#,
            ),
            (
                attributes(v6, "host-gw", None, None),
                r#"{"PublicIP":"192.168.77.11","PublicIPv6":"fd77::11","BackendType":"host-gw"}"#,
            ),
            (attributes(None, "", None, None), r#"{"PublicIP":"192.168.77.11","PublicIPv6":null}"#),
            (
                attributes(None, "extension", Some("\"hello\""), None),
                r#"{"PublicIP":"192.168.77.11","PublicIPv6":null,"BackendType":"extension","BackendData":"hello"}"#,
            ),
            (
                v6_only,
                r#"{"PublicIP":"0.0.0.0","PublicIPv6":"fd77::11","BackendType":"vxlan","BackendV6Data":{"VNI":1,"VtepMAC":"82:ea:3f:8d:cf:0b"}}"#,
            ),
        ] {
            assert_eq!(encode(&attributes), value);
            assert_eq!(decode(value.as_bytes()), Ok(attributes), "{value}");
        }
    }

    #[test]
    fn data_of_backends_is_compacted_and_escaped_as_go_does() {
        let attributes =
            attributes(None, "x<y", Some("{ \"a b\\\" \" : [ 1 ,\n 2 ], \"t\": \"<&> \u{2028}\" }"), None);
        assert_eq!(
            encode(&attributes),
            r#"{"PublicIP":"192.168.77.11","PublicIPv6":null,"BackendType":"x\u003cy","BackendData":{"a b\" ":[1,2],"t":"\u003c\u0026\u003e \u2028"}}"#
        );
    }

    #[test]
    fn reading_is_tolerant() {
        let value =
            r#" {"publicip":"10.0.0.1","New":{"PublicIP":7},"BACKENDTYPE":"udp","BackendData":null} "#;
        let read = decode(value.as_bytes()).expect("an older or newer version's lease");
        assert_eq!(read.public_ip, Some([10, 0, 0, 1].into()));
        assert_eq!(
            (read.public_ipv6, read.backend_type.as_str(), read.backend_data.is_none()),
            (None, "udp", true)
        );
        assert_eq!(decode(b"{}"), Ok(Attributes::default()));
    }

    fn changing() -> Attributes {
        let main = r#"{"Type":"vxlan"}"#.to_owned();
        let main = Generation { backend: main, main: true, complete: true, ..Generation::default() };
        let other = Generation {
            backend: r#"{"Port":8473,"Type":"vxlan"}"#.to_owned(),
            backend_type: "vxlan".to_owned(),
            backend_data: raw(r#"{"VNI":2}"#),
            ..Generation::default()
        };
        let generations = vec![main, other];
        Attributes { generations, ..attributes(None, "vxlan", Some(r#"{"VNI":1}"#), None) }
    }

    #[test]
    fn a_lease_says_which_generations_its_node_serves() {
        let value = r#"{"PublicIP":"192.168.77.11","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1},"Generations":[{"Backend":{"Type":"vxlan"},"Main":true,"Complete":true},{"Backend":{"Port":8473,"Type":"vxlan"},"Main":false,"Complete":false,"BackendType":"vxlan","BackendData":{"VNI":2}}]}"#;
        assert_eq!(encode(&changing()), value);
        assert_eq!(decode(value.as_bytes()), Ok(changing()));
        let data = |backend| {
            let of = changing().of_generation(backend)?;
            of.backend_data.map(|data| data.get().to_owned())
        };
        assert_eq!(data(r#"{"Type":"vxlan"}"#).as_deref(), Some(r#"{"VNI":1}"#));
        assert_eq!(data(r#"{"Port":8473,"Type":"vxlan"}"#).as_deref(), Some(r#"{"VNI":2}"#));
        assert_eq!(changing().of_generation(r#"{"Type":"udp"}"#), None);
    }

    #[test]
    fn whatever_a_lease_has_in_the_place_of_a_secret_is_a_digest_when_it_is_read() {
        for secret in ["made-up", "sha256:made-up", "sha256:"] {
            let backend = format!(r#"{{"Type":"wireguard","PSK":"{secret}"}}"#);
            let value =
                format!(r#"{{"PublicIP":"10.0.0.1","Generations":[{{"Backend":{backend},"Main":true}}]}}"#);
            let read = decode(value.as_bytes()).expect("a lease").generations.remove(0).backend;
            assert!(read.contains("\"PSK\":\"sha256:"), "{read}");
            assert!(secret.starts_with("sha256:") || !read.contains(secret), "{read}");
            assert!(encode(&decode(value.as_bytes()).expect("a lease")).contains(&read));
        }
    }

    #[test]
    fn the_parts_of_a_value_are_written_and_read_alone_as_they_stand_in_it() {
        let attributes = changing();
        let (value, generations) = (encode(&attributes), encode_generations(&attributes.generations));
        assert!(value.ends_with(&format!(",\"Generations\":{generations}}}")), "{value}");
        assert_eq!(decode_generations(&generations), Some(attributes.generations));
        let data = decode_data("data", " { \"a b\" : \"<\" } ").expect("JSON");
        assert_eq!(encode_data(data.as_deref()), r#"{"a b":"\u003c"}"#);
        assert_eq!(encode_data(None), "null");
        assert_eq!(quoted("a\"<\u{2028}"), r#""a\"\u003c\u2028""#);
    }

    #[test]
    fn parts_that_stand_alone_are_held_to_the_same_limits() {
        for none in ["", "null", " null "] {
            assert!(decode_data("data", none).is_ok_and(|data| data.is_none()), "{none:?}");
        }
        assert!(decode_data("data", &format!("\"{}\"", "x".repeat(MAX_DATA - 2))).is_ok());
        for wrong in ["{", "1 2", &format!("\"{}\"", "x".repeat(1 << 20)), &"[".repeat(1 << 20), &nested(33)]
        {
            let error = decode_data("data", wrong).expect_err("refused").to_string();
            assert!(error.starts_with("its data ") && error.len() < 400, "{error}");
        }
        assert_eq!(decode_type("type", ""), Ok(String::new()));
        for wrong in ["vx lan", "vx\u{202e}lan", &"x".repeat(65)] {
            assert!(decode_type("type", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn generations_that_make_no_sense_are_as_good_as_none() {
        let one = r#"{"Backend":{"Type":"udp"},"Main":true}"#;
        let long = format!("[{}]", [one; 5].join(","));
        for generations in [
            "7",
            "{}",
            "[7]",
            r#"[{"Main":true}]"#,
            r#"[{"Backend":7,"Main":true}]"#,
            r#"[{"Backend":{"Type":"udp"}}]"#,
            r#"[{"Backend":{"Type":"udp"},"Main":true},{"Backend":{"Type":"vxlan"},"Main":true}]"#,
            r#"[{"Backend":{"Type":"udp"},"Main":true},{"Backend":{"Type":"UDP"}}]"#,
            r#"[{"Backend":{"Type":"udp"},"Main":"yes"}]"#,
            &long,
            &"[".repeat(40),
        ] {
            let value =
                format!(r#"{{"PublicIP":"10.0.0.1","BackendType":"udp","Generations":{generations}}}"#);
            if let Ok(read) = decode(value.as_bytes()) {
                assert_eq!(
                    (read.backend_type.as_str(), read.generations),
                    ("udp", Vec::new()),
                    "{generations}"
                );
            }
        }
    }

    #[test]
    fn hostile_values_are_refused_without_panic() {
        let deep = "[".repeat(100_000);
        let long = format!("{{\"PublicIP\":\"{}\"}}", "é".repeat(10_000));
        for value in [
            "",
            "null",
            "7",
            "[]",
            "\"x\"",
            "{",
            "{\"PublicIP\"}",
            "{\"PublicIP\":7}",
            "{\"PublicIP\":\"::1\"}",
            "{\"PublicIP\":\"10.0.0.1\"}x",
            "{\"PublicIPv6\":\"10.0.0.1\"}",
            "{\"BackendType\":[]}",
            &deep,
            &long,
            &format!("\"{}\"", "\u{7f}".repeat(1000)),
            "{\"PublicIP\":{\n\"a\":1}}",
        ] {
            let error = decode(value.as_bytes()).expect_err(&excerpt(value));
            assert!(!error.to_string().contains('\n') && error.to_string().len() < 400, "{error}");
        }
        assert!(decode(b"{\"PublicIP\":\"\xff\xfe\"}").is_err());
    }
}
