//! What an image is made of, by CycloneDX 1.5 (<https://cyclonedx.org/docs/1.5/json/>): crates and Debian's packages in one list.

use anyhow::Result;
use serde_json::{Value, json};

use super::architecture::Architecture;
use super::debian::Package;
use super::facts::Facts;

/// A crate that is linked into one of our programs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Crate {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its licence, as an expression of SPDX.
    pub licence: String,
    /// Whether it is a part of this project.
    pub ours: bool,
}

/// The document, in JSON.
pub fn document(
    facts: &Facts,
    architecture: Architecture,
    crates: &[Crate],
    packages: &[Package],
) -> Result<Vec<u8>> {
    let components: Vec<Value> = crates.iter().map(of_crate).chain(packages.iter().map(of_package)).collect();
    let document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": facts.date()?,
            "component": {
                "type": "container",
                "name": "flanneld",
                "version": facts.version,
                "properties": [
                    { "name": "revision", "value": facts.revision },
                    { "name": "architecture", "value": architecture.name() },
                ],
            },
        },
        "components": components,
    });
    let mut bytes = serde_json::to_vec_pretty(&document)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn of_crate(part: &Crate) -> Value {
    let mut component = json!({
        "type": "library",
        "name": part.name,
        "version": part.version,
    });
    if !part.licence.is_empty() {
        component["licenses"] = json!([{ "expression": part.licence }]);
    }
    if !part.ours {
        component["purl"] = json!(format!("pkg:cargo/{}@{}", part.name, encoded(&part.version)));
    }
    component
}

fn of_package(package: &Package) -> Value {
    let (name, version, architecture) = (&package.name, encoded(&package.version), &package.architecture);
    json!({
        "type": "library",
        "name": name,
        "version": package.version,
        "hashes": [{ "alg": "SHA-256", "content": package.sha256 }],
        "purl": format!("pkg:deb/debian/{name}@{version}?arch={architecture}&distro=debian-12"),
    })
}

/// As package URLs have it (<https://github.com/package-url/purl-spec>).
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// Reads what `cargo tree` prints, a line `name v1.2.3 (path)|licence` for each crate.
pub fn crates(tree: &str, root: &str) -> Vec<Crate> {
    let mut all: Vec<Crate> = tree.lines().filter_map(|line| of_line(line, root)).collect();
    all.sort();
    all.dedup();
    all
}

fn of_line(line: &str, root: &str) -> Option<Crate> {
    let (package, licence) = line.split_once('|')?;
    let mut words = package.split(' ');
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    Some(Crate {
        name: name.to_owned(),
        version: version.to_owned(),
        licence: licence.replace('/', " OR "),
        ours: package.contains(&format!("({root}/")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_crate_is_listed_once_and_those_of_others_have_an_address() {
        let tree = "serde v1.0.1|MIT OR Apache-2.0\nflanneld v0.1.0 (/src/host/flanneld)|Apache-2.0\nold v0.1.0+x|MIT/Apache-2.0\n\
                    serde v1.0.1|MIT OR Apache-2.0\n";
        let all = crates(tree, "/src");
        let names: Vec<&str> = all.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names, ["flanneld", "old", "serde"]);
        assert_eq!(of_crate(&all[0])["purl"], Value::Null);
        assert_eq!(of_crate(&all[1])["purl"], "pkg:cargo/old@0.1.0%2Bx");
        assert_eq!(of_crate(&all[1])["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(of_crate(&all[2])["purl"], "pkg:cargo/serde@1.0.1");
    }
}
