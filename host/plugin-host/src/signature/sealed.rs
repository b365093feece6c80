//! Private keys as cosign encrypts them: NaCl's secretbox with a key that scrypt makes of a password, as JSON.
//!
//! Facts: `encrypted` of secure-systems-lab/go-securesystemslib.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use crypto_secretbox::aead::AeadInPlace as _;
use crypto_secretbox::{KeyInit as _, Tag, XSalsa20Poly1305};
use serde::Deserialize;
use zeroize::Zeroizing;

/// The binary logarithms of scrypt's N that are taken, r being 8 and p 1: others would let a file ask for any memory and time.
const COSTS: [u8; 3] = [15, 16, 17];
const R: u32 = 8;
const P: u32 = 1;
const TAG: usize = 16;

#[derive(Deserialize)]
struct Sealed {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Deserialize)]
struct Kdf {
    name: String,
    params: Params,
    salt: String,
}

#[derive(Deserialize)]
struct Params {
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
}

#[derive(Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

/// Decrypts a key. The error has nothing of it.
pub(super) fn open(sealed: &[u8], password: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let damaged = || "the encrypted key is damaged".to_owned();
    let decode = |text: &str| BASE64_STANDARD.decode(text).map_err(|_| damaged());
    let Sealed { kdf, cipher, ciphertext } = serde_json::from_slice(sealed).map_err(|_| damaged())?;
    let cost = COSTS.into_iter().find(|cost| kdf.params.n == 1 << cost);
    let (Some(cost), R, P, "scrypt", "nacl/secretbox") =
        (cost, kdf.params.r, kdf.params.p, kdf.name.as_str(), cipher.name.as_str())
    else {
        return Err("it is encrypted in another way than cosign does".to_owned());
    };
    let mut key = Zeroizing::new([0; 32]);
    let params = scrypt::Params::new(cost, R, P, key.len()).map_err(|_| damaged())?;
    scrypt::scrypt(password.as_bytes(), &decode(&kdf.salt)?, &params, key.as_mut()).map_err(|_| damaged())?;
    let nonce: [u8; 24] = decode(&cipher.nonce)?.try_into().map_err(|_| damaged())?;
    let ciphertext = decode(&ciphertext)?;
    let (tag, body) = ciphertext.split_first_chunk::<TAG>().ok_or_else(damaged)?;
    let mut plain = Zeroizing::new(body.to_vec());
    XSalsa20Poly1305::new(key.as_ref().into())
        .decrypt_in_place_detached((&nonce).into(), b"", &mut plain, Tag::from_slice(tag))
        .map_err(|_| "the password does not fit".to_owned())?;
    Ok(plain)
}
