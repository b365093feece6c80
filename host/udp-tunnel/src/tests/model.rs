//! The slow and obvious: packets made and checked without the code under test.

/// A small generator of random numbers (xorshift64*), seeded, so that a failure can be repeated.
pub(super) struct Random(pub u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).expect("31 bits") % limit
    }

    pub(super) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[3]).collect()
    }
}

/// The ones' complement sum, word by word.
pub(super) fn slow_sum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for word in part.chunks(2) {
            sum += u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
    }
    u16::try_from(sum).expect("folded")
}

/// A packet to be made.
#[derive(Clone)]
pub(super) struct Made {
    pub v6: bool,
    pub tcp: bool,
    pub id: u16,
    pub dont_fragment: bool,
    pub ttl: u8,
    pub sequence: u32,
    pub flags: u8,
    /// A multiple of four bytes.
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Made {
    pub(super) fn tcp(sequence: u32, payload: Vec<u8>) -> Self {
        Self {
            v6: false,
            tcp: true,
            id: 7,
            dont_fragment: true,
            ttl: 64,
            sequence,
            flags: 0x10,
            options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
            payload,
        }
    }

    pub(super) fn udp(payload: Vec<u8>) -> Self {
        Self { tcp: false, options: Vec::new(), ..Self::tcp(0, payload) }
    }

    /// The packet with all checksums.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut transport = Vec::new();
        transport.extend_from_slice(&[0x30, 0x39, 0x14, 0x51]);
        if self.tcp {
            transport.extend_from_slice(&self.sequence.to_be_bytes());
            transport.extend_from_slice(&99u32.to_be_bytes());
            let words = u8::try_from((20 + self.options.len()) / 4).expect("at most 15");
            transport.extend_from_slice(&[words << 4, self.flags, 1, 2, 0, 0, 0, 0]);
            transport.extend_from_slice(&self.options);
        } else {
            let length = u16::try_from(8 + self.payload.len()).expect("fits");
            transport.extend_from_slice(&length.to_be_bytes());
            transport.extend_from_slice(&[0, 0]);
        }
        transport.extend_from_slice(&self.payload);
        let length = u16::try_from(transport.len()).expect("fits");
        let protocol = if self.tcp { 6 } else { 17 };
        let mut packet = if self.v6 {
            let mut ip = vec![0x60, 0, 0, 5];
            ip.extend_from_slice(&length.to_be_bytes());
            ip.extend_from_slice(&[protocol, self.ttl]);
            ip.extend_from_slice(&[0xfd, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            ip.extend_from_slice(&[0xfd, 5, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            ip
        } else {
            let mut ip = vec![0x45, 0];
            ip.extend_from_slice(&(20 + length).to_be_bytes());
            ip.extend_from_slice(&self.id.to_be_bytes());
            ip.extend_from_slice(&[if self.dont_fragment { 0x40 } else { 0 }, 0, self.ttl, protocol, 0, 0]);
            ip.extend_from_slice(&[10, 5, 1, 1, 10, 5, 2, 1]);
            let checksum = !slow_sum(&[&ip]);
            ip[10..12].copy_from_slice(&checksum.to_be_bytes());
            ip
        };
        let addresses = if self.v6 { &packet[8..40] } else { &packet[12..20] };
        let pseudo = [0, protocol, transport[0], 0];
        let mut checksum = !slow_sum(&[addresses, &pseudo[..2], &length.to_be_bytes(), &transport]);
        if checksum == 0 && !self.tcp {
            checksum = 0xffff;
        }
        let field = if self.tcp { 16 } else { 6 };
        transport[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
        packet.extend_from_slice(&transport);
        packet
    }
}

/// Checks that bytes are exactly one packet with right lengths and checksums, as a peer without any offload would.
pub(super) fn check(packet: &[u8]) -> Result<(), String> {
    let v6 = packet[0] >> 4 == 6;
    let length =
        usize::from(u16::from_be_bytes(if v6 { [packet[4], packet[5]] } else { [packet[2], packet[3]] }));
    let (ip, protocol, total) =
        if v6 { (40, packet[6], length + 40) } else { (usize::from(packet[0] & 15) * 4, packet[9], length) };
    if total != packet.len() {
        return Err(format!("{} bytes hold a packet of {total}", packet.len()));
    }
    if !v6 && slow_sum(&[&packet[..ip]]) != 0xffff {
        return Err("the IPv4 header's checksum is wrong".into());
    }
    if !v6 && u16::from_be_bytes([packet[6], packet[7]]) & 0x3fff != 0 {
        return Ok(());
    }
    let addresses = if v6 { &packet[8..40] } else { &packet[12..20] };
    let transport = &packet[ip..];
    let size = u16::try_from(transport.len()).expect("fits").to_be_bytes();
    let right = match protocol {
        1 => slow_sum(&[transport]) == 0xffff,
        17 if transport[6..8] == [0, 0] => !v6,
        6 | 17 | 58 => slow_sum(&[addresses, &[0, protocol], &size, transport]) == 0xffff,
        _ => true,
    };
    if right { Ok(()) } else { Err(format!("the checksum of protocol {protocol} is wrong")) }
}
