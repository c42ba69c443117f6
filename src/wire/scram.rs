//! SCRAM-SHA-256 between two TLS connections: a client's proof for one, made anew for the other.
//!
//! A client ties its proof to its own TLS connection. One that sees TLS and no `-PLUS` says so in it (gs2 flag `y`), and a
//! server that did offer `-PLUS` takes that for a downgrade. Who knows the role's stored verifier can check the proof, take the ClientKey out of it, and make
//! the proof for flag `n`. The messages are otherwise the same on both sides. Never sees a password; makes no nonce.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac};

/// The mechanism without channel binding.
pub const SCRAM: &[u8] = b"SCRAM-SHA-256";

/// The mechanism with channel binding.
pub const SCRAM_PLUS: &[u8] = b"SCRAM-SHA-256-PLUS";

type Key = [u8; 32];

/// A role's `rolpassword`, where it is SCRAM-SHA-256: `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: Key,
    server_key: Key,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier")
    }
}

/// What the client says about channel binding in its first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// `n`: it cannot.
    Unable,
    /// `y`: it could, and was not offered it.
    NotOffered,
    /// `p`: it binds.
    Bound,
}

/// What the client's first message says about channel binding; `None` where it is no such message.
pub fn client_binding(client_first: &[u8]) -> Option<Binding> {
    match client_first {
        [b'n', b',', ..] => Some(Binding::Unable),
        [b'y', b',', ..] => Some(Binding::NotOffered),
        [b'p', b'=', ..] => Some(Binding::Bound),
        _ => None,
    }
}

impl Verifier {
    /// Reads `rolpassword`; `None` where it is anything else, an md5 hash for one.
    pub fn parse(stored: &str) -> Option<Verifier> {
        let rest = stored.strip_prefix("SCRAM-SHA-256$")?;
        let (parameters, keys) = rest.split_once('$')?;
        let (iterations, salt) = parameters.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let key = |text: &str| BASE64.decode(text).ok()?.try_into().ok();
        Some(Verifier {
            iterations: iterations.parse().ok()?,
            salt: BASE64.decode(salt).ok()?,
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        })
    }

    /// Whether the server's first message offers this verifier's own salt. For roles without a password it makes one up.
    fn is_offered_in(&self, server_first: &[u8]) -> bool {
        let salt = attribute(server_first, b's').and_then(|salt| BASE64.decode(salt).ok());
        let iterations = attribute(server_first, b'i').and_then(|count| std::str::from_utf8(count).ok()?.parse().ok());
        salt.as_deref() == Some(&self.salt) && iterations == Some(self.iterations)
    }

    /// The ClientKey out of a proof over this text, where the proof is right.
    fn client_key(&self, proof: &Key, auth_message: &[u8]) -> Option<Key> {
        let client_key = xor(proof, &hmac_of(&self.stored_key, auth_message));
        let stored = digest::digest(&digest::SHA256, &client_key);
        // By way of a MAC: compares without telling by its time how much is alike.
        let compare = hmac::Key::new(hmac::HMAC_SHA256, &self.server_key);
        let expected = hmac::sign(&compare, &self.stored_key);
        hmac::verify(&compare, stored.as_ref(), expected.as_ref()).ok().map(|()| client_key)
    }
}

/// One client's login, seen from between the two connections.
#[derive(Debug)]
pub struct Translation {
    /// What the client's last message must repeat: its header, and what it binds to.
    binding: Vec<u8>,
    client_first_bare: Vec<u8>,
    server_first: Vec<u8>,
    /// The texts that both sides' signatures are over: as the client has it, and as the server has it.
    signed: Option<(Vec<u8>, Vec<u8>)>,
}

/// A message of the client or the server that SCRAM does not have in that place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl Translation {
    /// Takes the client's first message, and gives the one for the server. `end_point` is what a client binds to that was
    /// offered it: our certificate's hash.
    pub fn begin(client_first: &[u8], end_point: Option<&[u8]>) -> Result<(Translation, Vec<u8>), Malformed> {
        let mut commas = client_first.iter().enumerate().filter(|(_, byte)| **byte == b',').map(|(at, _)| at);
        let end = commas.nth(1).ok_or(Malformed)? + 1;
        let (header, bare) = client_first.split_at(end);
        // The second part is an identity to act for: PostgreSQL refuses any.
        let bound_to = match (header, end_point) {
            (b"y,,", None) => &[],
            (b"p=tls-server-end-point,,", Some(hash)) => hash,
            _ => return Err(Malformed),
        };
        let begun = Translation {
            binding: [header, bound_to].concat(),
            client_first_bare: bare.to_vec(),
            server_first: Vec::new(),
            signed: None,
        };
        Ok((begun, [b"n,,", bare].concat()))
    }

    /// Takes the server's first message, which goes to the client as it is.
    pub fn server_first(&mut self, message: &[u8]) {
        self.server_first = message.to_vec();
    }

    /// Takes the client's last message, and gives the one for the server. Where the proof is wrong, or there is no
    /// verifier to tell, the server gets a wrong one too and says what it has to say about that.
    pub fn client_final(&mut self, message: &[u8], verifier: Option<&Verifier>) -> Result<Vec<u8>, Malformed> {
        let at = find(message, b",p=").ok_or(Malformed)?;
        let (without_proof, proof) = (&message[..at], &message[at + 3..]);
        let proof: Key = BASE64.decode(proof).ok().and_then(|proof| proof.try_into().ok()).ok_or(Malformed)?;
        let binding = attribute(without_proof, b'c').ok_or(Malformed)?;
        if BASE64.decode(binding).ok().as_deref() != Some(&self.binding) {
            return Err(Malformed);
        }
        let rest = without_proof.strip_prefix(b"c=").and_then(|rest| rest.get(binding.len()..)).ok_or(Malformed)?;
        let for_server = [b"c=biws", rest].concat();
        let by_client = self.auth_message(without_proof);
        let by_server = self.auth_message(&for_server);
        let key = verifier
            .filter(|verifier| verifier.is_offered_in(&self.server_first))
            .and_then(|verifier| verifier.client_key(&proof, &by_client));
        let proof = match key {
            Some(key) => {
                let stored = digest::digest(&digest::SHA256, &key);
                xor(&key, &hmac_of(stored.as_ref(), &by_server))
            }
            None => [0; 32],
        };
        self.signed = Some((by_client, by_server));
        Ok([&for_server[..], b",p=", BASE64.encode(proof).as_bytes()].concat())
    }

    /// Takes the server's last message, and gives the one for the client. A server that does not know the verifier is
    /// none to go on with.
    pub fn server_final(&self, message: &[u8], verifier: Option<&Verifier>) -> Result<Vec<u8>, Malformed> {
        let (Some(verifier), Some((by_client, by_server))) = (verifier, &self.signed) else { return Err(Malformed) };
        let signature = attribute(message, b'v').and_then(|value| BASE64.decode(value).ok()).ok_or(Malformed)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &verifier.server_key);
        hmac::verify(&key, by_server, &signature).map_err(|_| Malformed)?;
        Ok([b"v=", BASE64.encode(hmac::sign(&key, by_client)).as_bytes()].concat())
    }

    fn auth_message(&self, client_final_without_proof: &[u8]) -> Vec<u8> {
        [&self.client_first_bare[..], b",", &self.server_first[..], b",", client_final_without_proof].concat()
    }
}

/// The value of an attribute (`s=...`) of a message.
fn attribute(message: &[u8], name: u8) -> Option<&[u8]> {
    message.split(|byte| *byte == b',').find_map(|part| part.strip_prefix(&[name, b'=']))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    memchr::memmem::rfind(bytes, wanted)
}

fn hmac_of(key: &[u8], message: &[u8]) -> Key {
    let mut out = [0; 32];
    out.copy_from_slice(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref());
    out
}

fn xor(left: &Key, right: &Key) -> Key {
    std::array::from_fn(|at| left[at] ^ right[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange of RFC 7677, whose client says `n`; here it says `y`.
    const FIRST_BARE: &str = "n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const FINAL: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const PROOF: &str = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    /// The keys of the password "pencil" with that salt.
    fn keys() -> (Key, Verifier) {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let mut salted = [0; 32];
        let rounds = std::num::NonZeroU32::new(4096).unwrap();
        ring::pbkdf2::derive(ring::pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, b"pencil", &mut salted);
        let client_key = hmac_of(&salted, b"Client Key");
        let stored = BASE64.encode(digest::digest(&digest::SHA256, &client_key));
        let server = BASE64.encode(hmac_of(&salted, b"Server Key"));
        let stored = format!("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==${stored}:{server}");
        (client_key, Verifier::parse(&stored).unwrap())
    }

    fn client_final(client_key: &Key) -> Vec<u8> {
        let without = format!("c=eSws,{FINAL}");
        let text = format!("{FIRST_BARE},{SERVER_FIRST},{without}");
        let stored = digest::digest(&digest::SHA256, client_key);
        let proof = xor(client_key, &hmac_of(stored.as_ref(), text.as_bytes()));
        format!("{without},p={}", BASE64.encode(proof)).into_bytes()
    }

    fn begun() -> Translation {
        let (mut translation, first) = Translation::begin(format!("y,,{FIRST_BARE}").as_bytes(), None).unwrap();
        assert_eq!(first, format!("n,,{FIRST_BARE}").into_bytes());
        translation.server_first(SERVER_FIRST.as_bytes());
        translation
    }

    #[test]
    fn a_right_proof_becomes_the_one_of_the_rfc() {
        let (client_key, verifier) = keys();
        let mut translation = begun();
        let sent = translation.client_final(&client_final(&client_key), Some(&verifier)).unwrap();
        assert_eq!(String::from_utf8(sent).unwrap(), format!("c=biws,{FINAL},p={PROOF}"));
        let answer = translation.server_final(SERVER_FINAL.as_bytes(), Some(&verifier)).unwrap();
        let by_client = format!("{FIRST_BARE},{SERVER_FIRST},c=eSws,{FINAL}");
        let expected = BASE64.encode(hmac_of(&verifier.server_key, by_client.as_bytes()));
        assert_eq!(String::from_utf8(answer).unwrap(), format!("v={expected}"));
        assert_eq!(translation.server_final(b"v=AAAA", Some(&verifier)), Err(Malformed));
    }

    #[test]
    fn a_wrong_proof_and_an_unknown_role_become_a_wrong_proof() {
        let (client_key, verifier) = keys();
        let wrong = client_final(&[7; 32]);
        let nothing = format!("c=biws,{FINAL},p={}", BASE64.encode([0; 32])).into_bytes();
        assert_eq!(begun().client_final(&wrong, Some(&verifier)).unwrap(), nothing);
        assert_eq!(begun().client_final(&client_final(&client_key), None).unwrap(), nothing);
        let other = Verifier { iterations: 5000, ..verifier };
        assert_eq!(begun().client_final(&client_final(&client_key), Some(&other)).unwrap(), nothing);
    }

    #[test]
    fn a_client_that_binds_must_bind_to_us() {
        let first = b"p=tls-server-end-point,,n=,r=x";
        assert!(Translation::begin(first, None).is_err());
        assert!(Translation::begin(b"y,,n=,r=x", Some(b"hash")).is_err());
        for (hash, is_right) in [(&b"hash"[..], true), (b"other", false), (b"", false)] {
            let (mut translation, sent) = Translation::begin(first, Some(b"hash")).unwrap();
            assert_eq!(sent, b"n,,n=,r=x");
            let binding = BASE64.encode([b"p=tls-server-end-point,,", hash].concat());
            let last = format!("c={binding},r=x,p={}", BASE64.encode([0; 32]));
            assert_eq!(translation.client_final(last.as_bytes(), None).is_ok(), is_right);
        }
    }

    #[test]
    fn what_is_no_scram_message_is_refused() {
        for first in ["", "y", "y,", "n,,n=,r=x", "p=x,,n=,r=x", "y,a=other,n=,r=x"] {
            assert!(Translation::begin(first.as_bytes(), None).is_err(), "{first}");
        }
        for last in ["", "c=eSws,r=x", "c=biws,r=x,p=AAAA", "c=eSws,r=x,p=AAAA", "r=x,c=eSws,p=AAAA"] {
            assert_eq!(begun().client_final(last.as_bytes(), None), Err(Malformed), "{last}");
        }
        for stored in ["", "md5abc", "SCRAM-SHA-256$4096:x$y", "SCRAM-SHA-256$a:AAAA$AAAA:AAAA"] {
            assert_eq!(Verifier::parse(stored), None);
        }
        assert_eq!(client_binding(b"y,,"), Some(Binding::NotOffered));
        assert_eq!(client_binding(b"yes"), None);
    }
}
