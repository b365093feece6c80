//! What all targets have in common.

/// A message for the log or the operator: one line, and not longer than a person reads, however long the input was.
pub fn is_one_line(message: &str) {
    const LONGEST: usize = 1000;
    assert!(!message.contains(['\n', '\r']), "{message:?}");
    assert!(message.len() <= LONGEST, "{} bytes: {message:?}", message.len());
}

#[cfg(feature = "host")]
pub mod component;
#[cfg(feature = "host")]
pub mod plugins;
#[cfg(feature = "host")]
pub mod server;

/// A module with code that is right, and with these bytes as its line and debugging tables, cut into three.
pub fn tables(bytes: &[u8]) -> Vec<u8> {
    let (line, rest) = bytes.split_at(bytes.len() / 3);
    let (info, abbrev) = rest.split_at(rest.len() / 2);
    // Magic and version; a type; a function; its body.
    let mut module = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x0a\x04\x01\x02\0\x0b".to_vec();
    for (name, data) in [(".debug_line", line), (".debug_info", info), (".debug_abbrev", abbrev)] {
        let mut section = Vec::new();
        number(&mut section, name.len());
        section.extend_from_slice(name.as_bytes());
        section.extend_from_slice(data);
        module.push(0);
        number(&mut module, section.len());
        module.append(&mut section);
    }
    module
}

/// LEB128.
fn number(bytes: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}
